//! Offsets per queue, as tools ask for them (202, 208, 317). The queues are the keys, as objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::message_queue::MessageQueue;
use crate::java_json::{push_object_keyed, to_vec};

/// Answer to GET_TOPIC_STATS_INFO (202).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicStats {
    pub offset_table: BTreeMap<MessageQueue, TopicOffset>,
    pub topic_put_tps: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicOffset {
    pub last_update_timestamp: i64,
    pub max_offset: i64,
    pub min_offset: i64,
}

impl TopicStats {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"{\"offsetTable\":".to_vec();
        push_object_keyed(&mut out, &self.offset_table);
        out.extend_from_slice(b",\"topicPutTps\":");
        out.extend_from_slice(&to_vec(&self.topic_put_tps));
        out.push(b'}');
        out
    }
}

/// Answer to GET_CONSUME_STATS (208).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeStats {
    pub consume_tps: f64,
    pub offset_table: BTreeMap<MessageQueue, ConsumeOffset>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumeOffset {
    pub broker_offset: i64,
    pub consumer_offset: i64,
    pub last_timestamp: i64,
    pub pull_offset: i64,
}

impl ConsumeStats {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.push_to(&mut out);
        out
    }

    fn push_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"consumeTps\":");
        out.extend_from_slice(&to_vec(&self.consume_tps));
        out.extend_from_slice(b",\"offsetTable\":");
        push_object_keyed(out, &self.offset_table);
        out.push(b'}');
    }
}

/// Answer to GET_BROKER_CONSUME_STATS (317).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerConsumeStats {
    pub broker_addr: String,
    /// Each element has one group.
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    pub total_diff: i64,
    pub total_inflight_diff: i64,
}

impl BrokerConsumeStats {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"{\"brokerAddr\":".to_vec();
        out.extend_from_slice(&to_vec(&self.broker_addr));
        out.extend_from_slice(b",\"consumeStatsList\":[");
        for (at, groups) in self.consume_stats_list.iter().enumerate() {
            out.extend_from_slice(if at > 0 { b",{" } else { b"{" });
            for (at, (group, stats)) in groups.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&to_vec(group));
                out.extend_from_slice(b":[");
                for (at, stats) in stats.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    stats.push_to(&mut out);
                }
                out.push(b']');
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"],\"totalDiff\":");
        out.extend_from_slice(&to_vec(&self.total_diff));
        out.extend_from_slice(b",\"totalInflightDiff\":");
        out.extend_from_slice(&to_vec(&self.total_inflight_diff));
        out.push(b'}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenient_json;

    #[test]
    fn the_json_is_that_of_java() {
        let queue = MessageQueue { broker_name: "broker-a".into(), queue_id: 3, topic: "T".into() };
        let offset =
            ConsumeOffset { broker_offset: 5, consumer_offset: 3, last_timestamp: 17, pull_offset: 0 };
        let stats =
            ConsumeStats { consume_tps: 0.0, offset_table: BTreeMap::from([(queue.clone(), offset)]) };
        let text = concat!(
            r#"{"consumeTps":0.0,"offsetTable":{{"brokerName":"broker-a","queueId":3,"topic":"T"}:"#,
            r#"{"brokerOffset":5,"consumerOffset":3,"lastTimestamp":17,"pullOffset":0}}}"#
        );
        assert_eq!(String::from_utf8(stats.encode()).unwrap(), text);
        assert_eq!(lenient_json::from_slice::<ConsumeStats>(text.as_bytes()), Ok(stats.clone()));

        let broker = BrokerConsumeStats {
            broker_addr: "1:2".into(),
            consume_stats_list: vec![
                BTreeMap::from([("g".to_owned(), vec![stats.clone(), stats])]),
                BTreeMap::from([("h".to_owned(), vec![])]),
            ],
            total_diff: 4,
            total_inflight_diff: 5,
        };
        let expected = format!(
            r#"{{"brokerAddr":"1:2","consumeStatsList":[{{"g":[{text},{text}]}},{{"h":[]}}],"totalDiff":4,"totalInflightDiff":5}}"#
        );
        assert_eq!(String::from_utf8(broker.encode()).unwrap(), expected);
        assert_eq!(lenient_json::from_slice::<BrokerConsumeStats>(expected.as_bytes()), Ok(broker));

        let offset = TopicOffset { last_update_timestamp: 9, max_offset: 8, min_offset: 7 };
        let stats = TopicStats { offset_table: BTreeMap::from([(queue, offset)]), topic_put_tps: 0.5 };
        let text = concat!(
            r#"{"offsetTable":{{"brokerName":"broker-a","queueId":3,"topic":"T"}:"#,
            r#"{"lastUpdateTimestamp":9,"maxOffset":8,"minOffset":7}},"topicPutTps":0.5}"#
        );
        assert_eq!(String::from_utf8(stats.encode()).unwrap(), text);
        assert_eq!(lenient_json::from_slice::<TopicStats>(text.as_bytes()), Ok(stats));
    }
}
