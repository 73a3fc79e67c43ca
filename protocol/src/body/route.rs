//! Where a topic's queues are (105).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::java_json;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRouteData {
    pub broker_datas: Vec<BrokerData>,
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `brokerA:4;brokerB:4`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    pub queue_datas: Vec<QueueData>,
    /// Static topics only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_by_broker: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerData {
    /// Broker id to `ip:port`; 0 is the master.
    pub broker_addrs: BTreeMap<i64, String>,
    pub broker_name: String,
    pub cluster: String,
    pub enable_acting_master: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueData {
    pub broker_name: String,
    pub perm: i32,
    pub read_queue_nums: i32,
    pub topic_sys_flag: i32,
    pub write_queue_nums: i32,
}

impl TopicRouteData {
    /// The form for clients before 4.9.4, with bare broker ids.
    pub fn encode_unquoted(&self) -> Vec<u8> {
        java_json::to_vec(self)
    }

    /// The form for newer clients and for those that accept standard JSON only.
    pub fn encode_quoted(&self) -> Vec<u8> {
        java_json::to_vec_standard(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenient_json;

    #[test]
    fn both_forms_are_those_of_java() {
        let route = TopicRouteData {
            broker_datas: vec![BrokerData {
                broker_addrs: BTreeMap::from([
                    (0, "10.0.0.1:10911".to_owned()),
                    (1, "10.0.0.2:10911".to_owned()),
                ]),
                broker_name: "broker-a".into(),
                cluster: "DefaultCluster".into(),
                ..BrokerData::default()
            }],
            queue_datas: vec![QueueData {
                broker_name: "broker-a".into(),
                perm: 6,
                read_queue_nums: 4,
                topic_sys_flag: 0,
                write_queue_nums: 4,
            }],
            ..TopicRouteData::default()
        };
        let unquoted = concat!(
            r#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"broker-a","#,
            r#""cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":["#,
            r#"{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#
        );
        assert_eq!(String::from_utf8(route.encode_unquoted()).unwrap(), unquoted);
        let quoted = unquoted.replace("{0:", "{\"0\":").replace(",1:", ",\"1\":");
        assert_eq!(String::from_utf8(route.encode_quoted()).unwrap(), quoted);
        assert_eq!(lenient_json::from_slice::<TopicRouteData>(unquoted.as_bytes()), Ok(route.clone()));
        assert_eq!(lenient_json::from_slice::<TopicRouteData>(quoted.as_bytes()), Ok(route));
    }
}
