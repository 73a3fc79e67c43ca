//! What the load is aimed at: a topic, the broker that has it, and its queues.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Args;
use rmq_protocol::RequestCode;
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::error::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A broker announces a new topic at once; this bounds the wait for one that does not.
const ROUTE_WAIT: Duration = Duration::from_secs(15);

#[derive(Args, Clone, Debug, Serialize)]
pub struct TargetArgs {
    /// Name server, HOST:PORT; of several (`;` between them) the first that answers
    #[arg(short = 'n', long, default_value = "127.0.0.1:9876", value_name = "HOST:PORT")]
    pub namesrv: String,
    /// Topic
    #[arg(short, long, default_value = "rmq-bench")]
    pub topic: String,
    /// Broker name, when the topic lives on several
    #[arg(long, value_name = "NAME")]
    pub broker: Option<String>,
    /// Broker address; no name server is asked then
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "namesrv")]
    pub broker_address: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    pub topic: String,
    pub broker: String,
    pub address: SocketAddr,
    pub queues: u32,
    /// The version that the broker claims in its answers, and its own words for it.
    pub version: i32,
    pub version_description: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Send,
    Pull,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    #[serde(default)]
    broker_datas: Vec<BrokerData>,
    #[serde(default)]
    queue_datas: Vec<QueueData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BrokerData {
    broker_name: String,
    broker_addrs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueData {
    broker_name: String,
    read_queue_nums: u32,
    write_queue_nums: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Clusters {
    broker_addr_table: BTreeMap<String, BrokerData>,
}

impl TargetArgs {
    /// Finds the topic as it is.
    pub fn locate(&self, purpose: Use) -> Result<Target, Error> {
        if let Some(address) = &self.broker_address {
            let mut broker =
                Control::connect("the broker", resolve("the broker", address)?, CONNECT_TIMEOUT)?;
            let config = broker.call(RequestCode::GET_TOPIC_CONFIG, &[("topic", &self.topic)])?;
            let queues = queues_of(&config.body, purpose)
                .ok_or_else(|| self.unroutable("the broker's description of it has no queue count"))?;
            return Ok(self.target(&mut broker, String::from("-"), queues));
        }
        let mut namesrv = self.name_server()?;
        let route = self.route(&mut namesrv)?;
        let (name, address, queues) = self.choose(&route, purpose)?;
        let mut broker = Control::connect("the broker", resolve("the broker", &address)?, CONNECT_TIMEOUT)?;
        Ok(self.target(&mut broker, name, queues))
    }

    /// Finds the broker for what needs no topic; the topic's queues are none where it does not exist.
    pub fn find_broker(&self, purpose: Use) -> Result<Target, Error> {
        match self.locate(purpose) {
            Err(Error::Refused { .. }) => {}
            located => return located,
        }
        let (name, address) = match &self.broker_address {
            Some(address) => (String::from("-"), address.clone()),
            None => self.any_broker(&mut self.name_server()?)?,
        };
        let mut broker = Control::connect("the broker", resolve("the broker", &address)?, CONNECT_TIMEOUT)?;
        Ok(self.target(&mut broker, name, 0))
    }

    /// Creates the topic, or gives it this many queues, and waits until the name server knows.
    pub fn create(&self, queues: u32) -> Result<Target, Error> {
        if let Some(address) = &self.broker_address {
            let mut broker =
                Control::connect("the broker", resolve("the broker", address)?, CONNECT_TIMEOUT)?;
            self.create_on(&mut broker, queues)?;
            return Ok(self.target(&mut broker, String::from("-"), queues));
        }
        let mut namesrv = self.name_server()?;
        let (name, address) = self.any_broker(&mut namesrv)?;
        let mut broker = Control::connect("the broker", resolve("the broker", &address)?, CONNECT_TIMEOUT)?;
        self.create_on(&mut broker, queues)?;
        let started = Instant::now();
        loop {
            match self.route(&mut namesrv).and_then(|route| self.choose_named(&route, &name, Use::Send)) {
                Ok((_, _, found)) if found == queues => break,
                Ok(_) | Err(Error::Refused { .. } | Error::Route { .. })
                    if started.elapsed() < ROUTE_WAIT => {}
                Ok((_, _, found)) => {
                    return Err(
                        self.unroutable(&format!("has {found} queues, not {queues}, at the name server"))
                    );
                }
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(self.target(&mut broker, name, queues))
    }

    fn create_on(&self, broker: &mut Control, queues: u32) -> Result<(), Error> {
        let count = queues.to_string();
        let fields = [
            ("topic", self.topic.as_str()),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", &count),
            ("writeQueueNums", &count),
            ("perm", "6"),
            ("topicFilterType", "SINGLE_TAG"),
            ("topicSysFlag", "0"),
            ("order", "false"),
        ];
        broker.call(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields).map(drop)
    }

    fn name_server(&self) -> Result<Control, Error> {
        let mut last = Error::Usage(String::from("the list of name servers is empty"));
        for address in self.namesrv.split([';', ',']).map(str::trim).filter(|address| !address.is_empty()) {
            let connected = resolve("the name server", address)
                .and_then(|address| Control::connect("the name server", address, CONNECT_TIMEOUT));
            match connected {
                Ok(control) => return Ok(control),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn route(&self, namesrv: &mut Control) -> Result<Route, Error> {
        let fields = [("topic", self.topic.as_str()), ("acceptStandardJsonOnly", "true")];
        let answer = namesrv.call(RequestCode::GET_ROUTEINFO_BY_TOPIC, &fields)?;
        serde_json::from_slice(&answer.body).map_err(|error| Error::Malformed {
            address: namesrv.address(),
            request: "GET_ROUTEINFO_BY_TOPIC",
            what: error.to_string(),
        })
    }

    /// A master to create the topic on: the one named, else the only one.
    fn any_broker(&self, namesrv: &mut Control) -> Result<(String, String), Error> {
        let answer = namesrv.call(RequestCode::GET_BROKER_CLUSTER_INFO, &[])?;
        // This one answer always has unquoted numbers as keys.
        let clusters: Clusters = serde_json::from_str(&quote_number_keys(&String::from_utf8_lossy(
            &answer.body,
        )))
        .map_err(|error| Error::Malformed {
            address: namesrv.address(),
            request: "GET_BROKER_CLUSTER_INFO",
            what: error.to_string(),
        })?;
        let masters: Vec<(String, String)> = clusters
            .broker_addr_table
            .into_values()
            .filter(|data| self.broker.as_ref().is_none_or(|name| *name == data.broker_name))
            .filter_map(|data| Some((data.broker_name, data.broker_addrs.get("0")?.clone())))
            .collect();
        self.only(masters)
    }

    fn choose(&self, route: &Route, purpose: Use) -> Result<(String, String, u32), Error> {
        let named = |name: &str| self.broker.as_ref().is_none_or(|wanted| wanted == name);
        let masters: Vec<(String, String)> = route
            .broker_datas
            .iter()
            .filter(|data| named(&data.broker_name))
            .filter_map(|data| Some((data.broker_name.clone(), data.broker_addrs.get("0")?.clone())))
            .collect();
        let (name, _) = self.only(masters)?;
        self.choose_named(route, &name, purpose)
    }

    fn choose_named(&self, route: &Route, name: &str, purpose: Use) -> Result<(String, String, u32), Error> {
        let address = route
            .broker_datas
            .iter()
            .find(|data| data.broker_name == name)
            .and_then(|data| data.broker_addrs.get("0"))
            .ok_or_else(|| self.unroutable(&format!("its route names no master of {name}")))?;
        let queues = route
            .queue_datas
            .iter()
            .find(|data| data.broker_name == name)
            .map(|data| if purpose == Use::Send { data.write_queue_nums } else { data.read_queue_nums })
            .filter(|queues| *queues > 0)
            .ok_or_else(|| self.unroutable(&format!("has no queues on {name}")))?;
        Ok((name.to_owned(), address.clone(), queues))
    }

    fn only(&self, mut masters: Vec<(String, String)>) -> Result<(String, String), Error> {
        match masters.len() {
            1 => Ok(masters.remove(0)),
            0 => Err(self.unroutable("no master broker is registered for it")),
            _ => {
                let names: Vec<&str> = masters.iter().map(|(name, _)| name.as_str()).collect();
                Err(self.unroutable(&format!("choose one with --broker: {}", names.join(", "))))
            }
        }
    }

    fn target(&self, broker: &mut Control, name: String, queues: u32) -> Target {
        // The version is only for the report; a broker that does not tell is measured all the same.
        let info = broker.ask(RequestCode::GET_BROKER_RUNTIME_INFO, &[]).ok();
        let table =
            info.as_ref().and_then(|info| serde_json::from_slice::<serde_json::Value>(&info.body).ok());
        let described = table.as_ref().and_then(|table| table["table"]["brokerVersionDesc"].as_str());
        Target {
            topic: self.topic.clone(),
            broker: name,
            address: broker.address(),
            queues,
            version: info.map_or(0, |info| info.version),
            version_description: described.unwrap_or("unknown").to_owned(),
        }
    }

    fn unroutable(&self, problem: &str) -> Error {
        Error::Route { topic: self.topic.clone(), problem: problem.to_owned() }
    }
}

impl Target {
    pub fn control(&self) -> Result<Control, Error> {
        Control::connect("the broker", self.address, CONNECT_TIMEOUT)
    }

    /// The offsets `min..max` that a queue holds now.
    pub fn offsets(&self, control: &mut Control, queue: u32) -> Result<(i64, i64), Error> {
        let id = queue.to_string();
        let fields = [("topic", self.topic.as_str()), ("queueId", id.as_str())];
        let mut ask = |code: RequestCode| {
            let answer = control.call(code, &fields)?;
            answer.field("offset").and_then(|offset| offset.parse::<i64>().ok()).ok_or_else(|| {
                Error::Malformed {
                    address: control.address(),
                    request: code.name().unwrap_or("request"),
                    what: String::from("no offset"),
                }
            })
        };
        let min = ask(RequestCode::GET_MIN_OFFSET)?;
        let max = ask(RequestCode::GET_MAX_OFFSET)?;
        Ok((min.max(0), max))
    }
}

fn resolve(peer: &'static str, address: &str) -> Result<SocketAddr, Error> {
    let unreachable = |source| Error::Unreachable { peer, address: address.to_owned(), source };
    let mut found = address.to_socket_addrs().map_err(unreachable)?;
    found.next().ok_or_else(|| unreachable(std::io::ErrorKind::NotFound.into()))
}

fn queues_of(topic_config: &[u8], purpose: Use) -> Option<u32> {
    let config: serde_json::Value = serde_json::from_slice(topic_config).ok()?;
    let key = if purpose == Use::Send { "writeQueueNums" } else { "readQueueNums" };
    u32::try_from(config[key].as_u64()?).ok().filter(|queues| *queues > 0)
}

/// `{0:"a"}` becomes `{"0":"a"}`. Strings are left alone.
fn quote_number_keys(json: &str) -> String {
    let mut quoted = String::with_capacity(json.len() + 16);
    let mut in_string = false;
    let mut escaped = false;
    let mut rest = json.char_indices().peekable();
    while let Some((at, char)) = rest.next() {
        quoted.push(char);
        if in_string {
            in_string = escaped || char != '"';
            escaped = !escaped && char == '\\';
        } else if char == '"' {
            in_string = true;
        } else if matches!(char, '{' | ',') {
            let after = &json[at + 1..];
            let digits = after.len() - after.trim_start_matches(|char: char| char.is_ascii_digit()).len();
            if digits > 0 && after[digits..].starts_with(':') {
                quoted.push('"');
                for _ in 0..digits {
                    quoted.extend(rest.next().map(|(_, digit)| digit));
                }
                quoted.push('"');
            }
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_keys_get_quotes_and_strings_stay() {
        let json = r#"{"a":{0:"x,1:\"{2:",12:"y"},"b":[3,4]}"#;
        assert_eq!(quote_number_keys(json), r#"{"a":{"0":"x,1:\"{2:","12":"y"},"b":[3,4]}"#);
    }

    fn args(broker: Option<&str>) -> TargetArgs {
        TargetArgs {
            namesrv: String::new(),
            topic: String::from("T"),
            broker: broker.map(String::from),
            broker_address: None,
        }
    }

    fn route() -> Route {
        serde_json::from_str(
            r#"{"brokerDatas":[{"brokerAddrs":{"0":"h:1"},"brokerName":"a"},{"brokerAddrs":{"0":"h:2"},"brokerName":"b"},
                {"brokerAddrs":{"1":"h:3"},"brokerName":"c"}],
                "queueDatas":[{"brokerName":"b","readQueueNums":4,"writeQueueNums":2}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_topic_on_several_brokers_needs_a_name() {
        let error = args(None).choose(&route(), Use::Send).unwrap_err().to_string();
        assert!(error.contains("--broker: a, b"), "{error}");
        let chosen = args(Some("b")).choose(&route(), Use::Pull).unwrap();
        assert_eq!(chosen, (String::from("b"), String::from("h:2"), 4));
        assert!(args(Some("a")).choose(&route(), Use::Send).is_err());
        assert!(args(Some("c")).choose(&route(), Use::Send).is_err());
    }
}
