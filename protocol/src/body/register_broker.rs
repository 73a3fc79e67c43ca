//! Body of REGISTER_BROKER (103).
//!
//! Compressed it is one zlib stream of length-prefixed items:
//! ```text
//! | DataVersion JSON | i32 topics, each: "name read write perm filter {attributes}" | filter servers JSON |
//! | i32 mappings, each: TopicQueueMappingInfo JSON |      the last part from brokers >= 5.0.0 only
//! ```

use std::io::Read as _;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::topic::{TopicConfig, TopicConfigTable};
use crate::java_json;
use crate::language::version;
use crate::lenient_json::{self, JsonError};

/// Bound on what a compressed body may grow to: more than a hundred times the topics of large clusters.
const INFLATED_LEN_MAX: u64 = 256 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterBrokerBody {
    pub filter_server_list: Vec<String>,
    #[serde(rename = "topicConfigSerializeWrapper")]
    pub topics: TopicConfigTable,
}

/// The broker has sent a body that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum RegisterBrokerError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the compressed body does not inflate")]
    Inflate,
    #[error("malformed compressed body: {0}")]
    Malformed(&'static str),
}

/// The checksum that `bodyCrc32` is compared with.
pub fn register_body_crc32(body: &[u8]) -> i32 {
    (crc32fast::hash(body) & 0x7FFF_FFFF) as i32
}

impl RegisterBrokerBody {
    /// Decodes what a broker of the given version sends; no body means no topics.
    pub fn decode(body: &[u8], compressed: bool, broker_version: i32) -> Result<Self, RegisterBrokerError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        if broker_version < version::V3_0_11 {
            return Ok(Self { topics: lenient_json::from_slice(body)?, ..Self::default() });
        }
        if compressed {
            return Self::decode_compressed(body, broker_version);
        }
        Ok(lenient_json::from_slice(body)?)
    }

    pub fn encode(&self) -> Vec<u8> {
        java_json::to_vec(self)
    }

    fn decode_compressed(body: &[u8], broker_version: i32) -> Result<Self, RegisterBrokerError> {
        let mut inflated = Vec::new();
        let mut stream = ZlibDecoder::new(body).take(INFLATED_LEN_MAX);
        stream.read_to_end(&mut inflated).map_err(|_| RegisterBrokerError::Inflate)?;
        let mut items = Items { rest: &inflated };
        let mut decoded = Self::default();
        decoded.topics.data_version = lenient_json::from_slice(items.item()?)?;
        for _ in 0..items.count()? {
            let topic = topic_from_text(&String::from_utf8_lossy(items.item()?))?;
            decoded.topics.topic_config_table.insert(topic.topic_name.clone(), topic);
        }
        decoded.filter_server_list = lenient_json::from_slice(items.item()?)?;
        if broker_version >= version::V5_0_0 {
            for _ in 0..items.count()? {
                let mapping: Value = lenient_json::from_slice(items.item()?)?;
                if let Some(topic) = mapping.get("topic").and_then(Value::as_str) {
                    decoded.topics.topic_queue_mapping_info_map.insert(topic.to_owned(), mapping);
                }
            }
        }
        Ok(decoded)
    }

    /// The compressed form. Java's brokers never send it, whatever they are told.
    pub fn encode_compressed(&self, broker_version: i32) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut item = |bytes: &[u8]| {
            plain.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            plain.extend_from_slice(bytes);
        };
        item(&java_json::to_vec(&self.topics.data_version));
        let count = self.topics.topic_config_table.len() as u32;
        plain.extend_from_slice(&count.to_be_bytes());
        for topic in self.topics.topic_config_table.values() {
            let text = topic_to_text(topic);
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let filter_servers = java_json::to_vec(&self.filter_server_list);
        plain.extend_from_slice(&(filter_servers.len() as u32).to_be_bytes());
        plain.extend_from_slice(&filter_servers);
        if broker_version >= version::V5_0_0 {
            let mappings = &self.topics.topic_queue_mapping_info_map;
            plain.extend_from_slice(&(mappings.len() as u32).to_be_bytes());
            for mapping in mappings.values() {
                let text = java_json::to_vec(mapping);
                plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
                plain.extend_from_slice(&text);
            }
        }
        let mut out = Vec::new();
        let compressed = ZlibEncoder::new(&plain[..], Compression::default()).read_to_end(&mut out);
        compressed.expect("reading from and writing to memory does not fail");
        out
    }
}

fn topic_to_text(topic: &TopicConfig) -> String {
    let attributes = String::from_utf8(java_json::to_vec(&topic.attributes)).expect("JSON is UTF-8");
    format!(
        "{} {} {} {} {} {attributes}",
        topic.topic_name, topic.read_queue_nums, topic.write_queue_nums, topic.perm, topic.topic_filter_type
    )
}

fn topic_from_text(text: &str) -> Result<TopicConfig, RegisterBrokerError> {
    let malformed = RegisterBrokerError::Malformed("topic");
    let mut parts = text.splitn(6, ' ');
    let (Some(name), Some(read), Some(write), Some(perm), Some(filter)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed);
    };
    let (Ok(read), Ok(write), Ok(perm)) = (read.parse(), write.parse(), perm.parse()) else {
        return Err(malformed);
    };
    let attributes = match parts.next() {
        Some(attributes) if !attributes.is_empty() => lenient_json::from_slice(attributes.as_bytes())?,
        _ => Default::default(),
    };
    Ok(TopicConfig {
        attributes,
        read_queue_nums: read,
        write_queue_nums: write,
        topic_filter_type: filter.to_owned(),
        ..TopicConfig::new(name, 0, perm)
    })
}

struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    fn count(&mut self) -> Result<usize, RegisterBrokerError> {
        let (word, rest) = self.rest.split_first_chunk().ok_or(RegisterBrokerError::Malformed("cut off"))?;
        self.rest = rest;
        usize::try_from(i32::from_be_bytes(*word))
            .map_err(|_| RegisterBrokerError::Malformed("negative length"))
    }

    fn item(&mut self) -> Result<&'a [u8], RegisterBrokerError> {
        let len = self.count()?;
        let (item, rest) =
            self.rest.split_at_checked(len).ok_or(RegisterBrokerError::Malformed("cut off"))?;
        self.rest = rest;
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::DataVersion;

    fn example() -> RegisterBrokerBody {
        let mut topic = TopicConfig::new("T1", 8, 6);
        topic.attributes.insert("message.type".into(), "NORMAL".into());
        let mut body = RegisterBrokerBody::default();
        body.topics.data_version = DataVersion { counter: 1, state_version: 0, timestamp: 1700000000000 };
        body.topics.topic_config_table.insert("T1".into(), topic);
        body.topics.topic_queue_mapping_info_map.insert("S".into(), serde_json::json!({"topic": "S"}));
        body.filter_server_list.push("f".into());
        body
    }

    #[test]
    fn all_three_forms_are_read() {
        let body = example();
        let decoded = RegisterBrokerBody::decode(&body.encode(), false, version::V5_3_3).unwrap();
        assert_eq!(decoded, body);
        let compressed = body.encode_compressed(version::V5_3_3);
        assert_eq!(RegisterBrokerBody::decode(&compressed, true, version::V5_3_3).unwrap(), body);
        let bare = java_json::to_vec(&body.topics);
        let decoded = RegisterBrokerBody::decode(&bare, false, 36).unwrap();
        assert_eq!(decoded.topics, body.topics);
        assert_eq!(RegisterBrokerBody::decode(b"", false, 479).unwrap(), RegisterBrokerBody::default());
    }

    #[test]
    fn a_topic_of_a_4x_broker_has_no_attributes() {
        let topic = topic_from_text("T1 8 4 6 SINGLE_TAG").unwrap();
        assert_eq!((topic.read_queue_nums, topic.write_queue_nums, topic.perm), (8, 4, 6));
        assert!(topic.attributes.is_empty());
        assert!(topic_from_text("T1 8 4 6").is_err());
        assert!(topic_from_text("T1 8 x 6 SINGLE_TAG").is_err());
    }

    #[test]
    fn damaged_streams_are_errors() {
        let compressed = example().encode_compressed(version::V5_3_3);
        for len in 1..compressed.len() {
            assert!(RegisterBrokerBody::decode(&compressed[..len], true, version::V5_3_3).is_err(), "{len}");
        }
        assert!(RegisterBrokerBody::decode(b"{}", true, version::V5_3_3).is_err());
    }

    #[test]
    fn the_json_is_that_of_java() {
        let expected = concat!(
            r#"{"filterServerList":["f"],"topicConfigSerializeWrapper":{"dataVersion":{"counter":1,"stateVersion":0,"#,
            r#""timestamp":1700000000000},"mappingDataVersion":{"counter":0,"stateVersion":0,"timestamp":0},"#,
            r#""topicConfigTable":{"T1":{"attributes":{"message.type":"NORMAL"},"order":false,"perm":6,"#,
            r#""readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"T1","topicSysFlag":0,"#,
            r#""writeQueueNums":8}},"topicQueueMappingDetailMap":{},"topicQueueMappingInfoMap":{"S":{"topic":"S"}}}}"#
        );
        assert_eq!(String::from_utf8(example().encode()).unwrap(), expected);
    }
}
