//! Tables of offsets (43, 45, 220-223).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::data_version::DataVersion;
use super::message_queue::MessageQueue;
use crate::java_json::{push_object_keyed, to_vec};

/// What a broker persists of its groups' offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerOffsetTable {
    pub data_version: DataVersion,
    /// `topic@group` to queue to offset.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

/// Answer to GET_ALL_CONSUMER_OFFSET (43).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllConsumerOffsets<'a> {
    pub data_version: DataVersion,
    /// Java derives it from the keys of the other.
    pub group_topic_map: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// `topic@group` to queue to offset.
    pub offset_table: &'a BTreeMap<String, BTreeMap<i32, i64>>,
}

/// Answer to GET_ALL_DELAY_OFFSET (45), and what a broker persists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DelayOffsetTable {
    pub data_version: DataVersion,
    /// Delay level to offset.
    pub offset_table: BTreeMap<i32, i64>,
}

/// Offsets to go back to: body of RESET_CONSUMER_CLIENT_OFFSET (220), answer to 222.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetOffsetTable {
    pub offset_table: BTreeMap<MessageQueue, i64>,
}

impl ResetOffsetTable {
    /// With the queues as keys, for Java and Go.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"{\"offsetTable\":".to_vec();
        push_object_keyed(&mut out, &self.offset_table);
        out.push(b'}');
        out
    }

    /// As a list, for C++.
    pub fn encode_list(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct List<'a> {
            offset_table: Vec<Entry<'a>>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry<'a> {
            broker_name: &'a str,
            offset: i64,
            queue_id: i32,
            topic: &'a str,
        }
        fn entry<'a>((queue, offset): (&'a MessageQueue, &i64)) -> Entry<'a> {
            Entry {
                broker_name: &queue.broker_name,
                offset: *offset,
                queue_id: queue.queue_id,
                topic: &queue.topic,
            }
        }
        to_vec(&List { offset_table: self.offset_table.iter().map(entry).collect() })
    }
}

/// Answer to 221 and 223: what clients have consumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerStatus {
    pub consumer_table: BTreeMap<String, BTreeMap<MessageQueue, i64>>,
    pub message_queue_table: BTreeMap<MessageQueue, i64>,
}

impl ConsumerStatus {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"{\"consumerTable\":{".to_vec();
        for (at, (client, offsets)) in self.consumer_table.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&to_vec(client));
            out.push(b':');
            push_object_keyed(&mut out, offsets);
        }
        out.extend_from_slice(b"},\"messageQueueTable\":");
        push_object_keyed(&mut out, &self.message_queue_table);
        out.push(b'}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenient_json;

    fn offsets() -> BTreeMap<MessageQueue, i64> {
        BTreeMap::from([(
            MessageQueue { broker_name: "broker-a".into(), queue_id: 0, topic: "T1".into() },
            12,
        )])
    }

    #[test]
    fn offsets_to_go_back_to_have_two_forms() {
        let table = ResetOffsetTable { offset_table: offsets() };
        let map = r#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T1"}:12}}"#;
        let list = r#"{"offsetTable":[{"brokerName":"broker-a","offset":12,"queueId":0,"topic":"T1"}]}"#;
        assert_eq!(String::from_utf8(table.encode()).unwrap(), map);
        assert_eq!(String::from_utf8(table.encode_list()).unwrap(), list);
        assert_eq!(lenient_json::from_slice::<ResetOffsetTable>(map.as_bytes()), Ok(table));
    }

    #[test]
    fn the_other_tables_are_read_back() {
        let status = ConsumerStatus {
            consumer_table: BTreeMap::from([("c".into(), offsets()), ("d".into(), offsets())]),
            message_queue_table: offsets(),
        };
        assert_eq!(lenient_json::from_slice::<ConsumerStatus>(&status.encode()), Ok(status));

        let text = r#"{"dataVersion":{"counter":0,"stateVersion":0,"timestamp":1},"offsetTable":{"T@g":{0:12,1:3}}}"#;
        let table: ConsumerOffsetTable = lenient_json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(table.offset_table["T@g"], BTreeMap::from([(0, 12), (1, 3)]));
        assert_eq!(String::from_utf8(to_vec(&table)).unwrap(), text);
    }
}
