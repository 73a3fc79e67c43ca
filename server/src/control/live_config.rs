//! The configuration while the broker runs: what is in effect, and what the next start will read.
//!
//! Every key may be changed. Those in `LIVE` count at once; the others are kept in the file and shown, and a log
//! line says that they wait for a restart.

use rmq_protocol::body::DataVersion;

use super::limits::CONFIG_CHANGES_MAX;
use crate::config::{BrokerConfig, ConfigError};

/// Keys that handlers read anew for each request or turn.
const LIVE: &[&str] = &[
    "autoCreateSubscriptionGroup",
    "autoCreateTopicEnable",
    "brokerPermission",
    "channelExpiredTimeout",
    "cleanFileForciblyEnable",
    "consumerFallbehindThreshold",
    "defaultTopicQueueNums",
    "deleteWhen",
    "disableConsumeIfConsumerReadSlowly",
    "diskMaxUsedSpaceRatio",
    "diskSpaceCleanForciblyRatio",
    "enablePropertyFilter",
    "fileReservedTime",
    "flushConsumerOffsetInterval",
    "flushDelayOffsetInterval",
    "litePullMessageEnable",
    "longPollingEnable",
    "maxMessageSize",
    "maxTransferBytesOnMessageInDisk",
    "maxTransferBytesOnMessageInMemory",
    "maxTransferCountOnMessageInDisk",
    "maxTransferCountOnMessageInMemory",
    "namesrvAddr",
    "notifyConsumerIdsChangedEnable",
    "regionId",
    "registerBrokerTimeoutMills",
    "registerNameServerPeriod",
    "rejectTransactionMessage",
    "serverChannelMaxIdleTimeSeconds",
    "shortPollingTimeMills",
    "startAcceptSendRequestTimeStamp",
    "storeReplyMessageEnable",
    "syncFlushTimeout",
    "traceOn",
    "useServerSideResetOffset",
    "validateSystemTopicWhenUpdateTopic",
];

/// Never to be changed by request, whatever `configBlackList` says.
const ALWAYS_FORBIDDEN: &[&str] = &["brokerConfigPath", "configBlackList", "rocketmqHome"];

pub struct LiveConfig {
    /// What counts now.
    running: BrokerConfig,
    /// What is shown, and counts after the next start.
    written: BrokerConfig,
    version: DataVersion,
    changes: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    BlackListed,
    /// The text names the key.
    Value(String),
    TooMany,
}

/// A change that was checked and is to be made durable before `LiveConfig::commit`.
pub struct Change {
    pub running: BrokerConfig,
    written: BrokerConfig,
    /// Known keys of the request; others are ignored as in Java.
    pub pairs: Vec<(String, String)>,
    /// Those of them that count after a restart only.
    pub waiting: Vec<String>,
}

impl LiveConfig {
    pub fn new(config: &BrokerConfig, now_ms: i64) -> Self {
        Self {
            running: config.clone(),
            written: config.clone(),
            version: DataVersion { timestamp: now_ms, ..DataVersion::default() },
            changes: 0,
        }
    }

    /// The value of a key as shown.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.written.all.get(key).map(String::as_str)
    }

    /// Every setting, as GET_BROKER_CONFIG shows it.
    pub fn dump(&self) -> String {
        self.written.dump()
    }

    pub fn version(&self) -> DataVersion {
        self.version
    }

    pub fn check(&self, wishes: Vec<(String, String)>) -> Result<Change, Refused> {
        let listed = self.find("configBlackList").unwrap_or_default();
        let is_forbidden = |key: &str| {
            ALWAYS_FORBIDDEN.contains(&key) || listed.split(';').any(|listed| listed.trim() == key)
        };
        if wishes.iter().any(|(key, _)| is_forbidden(key)) {
            return Err(Refused::BlackListed);
        }
        if self.changes >= CONFIG_CHANGES_MAX {
            return Err(Refused::TooMany);
        }
        let pairs: Vec<(String, String)> =
            wishes.into_iter().filter(|(key, _)| self.written.has_key(key)).collect();
        let refused = |error: ConfigError| Refused::Value(error.without_place());
        let written = self.written.changed(&pairs).map_err(refused)?;
        let (live, waiting): (Vec<_>, Vec<_>) =
            pairs.iter().cloned().partition(|(key, _)| LIVE.contains(&key.as_str()));
        let running = self.running.changed(&live).map_err(refused)?;
        let waits = |key: &str| self.running.all.get(key) != written.all.get(key);
        let waiting = waiting.into_iter().map(|(key, _)| key).filter(|key| waits(key)).collect();
        Ok(Change { running, written, pairs, waiting })
    }

    pub fn commit(&mut self, change: Change, now_ms: i64) {
        self.running = change.running;
        self.written = change.written;
        self.version = self.version.next(now_ms);
        self.changes += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LiveConfig {
        let keys =
            [("brokerIP1", "127.0.0.1"), ("brokerName", "b")].map(|(key, value)| (key.into(), value.into()));
        LiveConfig::new(&BrokerConfig::load(None, &keys).unwrap().0, 5)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_live_key_counts_at_once_and_another_after_the_next_start() {
        let mut config = config();
        let change = config
            .check(pairs(&[
                ("traceOn", "false"),
                ("brokerName", "c"),
                ("listenPort", "10911"),
                ("mine", "1"),
            ]))
            .ok()
            .unwrap();
        assert!(!change.running.trace_on);
        assert_eq!(change.running.broker_name, "b");
        assert_eq!(change.waiting, ["brokerName"], "a value that is the same needs no restart");
        assert_eq!(change.pairs.len(), 3, "unknown keys are ignored");
        config.commit(change, 9);
        assert_eq!((config.find("brokerName"), config.find("traceOn")), (Some("c"), Some("false")));
        assert_eq!(config.find("mine"), None);
        assert_eq!((config.version().timestamp, config.version().counter), (9, 1));
        let change = config.check(pairs(&[("traceOn", "true")])).ok().unwrap();
        assert_eq!(change.running.broker_name, "b", "it still waits");
    }

    #[test]
    fn a_bad_value_is_refused_by_name_and_the_black_list_before_it() {
        let config = config();
        let refused = |wishes: &[(&str, &str)]| config.check(pairs(wishes)).err().unwrap();
        assert_eq!(
            refused(&[("traceOn", "yes")]),
            Refused::Value("traceOn=yes: expected true or false".to_owned())
        );
        let Refused::Value(text) = refused(&[("sendThreadPoolQueueCapacity", "10k")]) else { panic!() };
        assert!(text.starts_with("sendThreadPoolQueueCapacity=10k"), "{text}");
        assert!(
            matches!(refused(&[("brokerRole", "SLAVE")]), Refused::Value(text) if text.contains("brokerRole"))
        );
        assert_eq!(refused(&[("traceOn", "yes"), ("brokerConfigPath", "/x")]), Refused::BlackListed);
        assert_eq!(refused(&[("rocketmqHome", "/x")]), Refused::BlackListed);
    }
}
