//! The texts of the state files, in Java's shapes: members in alphabetical order, indented with tabs. Java leaves
//! the integer keys of offset tables unquoted; here they are quoted, which Java reads as well and other tools can
//! read at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmq_protocol::body::{DataVersion, SubscriptionGroupConfig, TopicConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::PrettyFormatter;

/// Group -> topic -> bits of what the group may not do.
pub type Forbidden = BTreeMap<String, BTreeMap<String, i32>>;

pub fn topics_file(topics: &BTreeMap<String, Arc<TopicConfig>>, version: DataVersion) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct File<'t> {
        data_version: DataVersion,
        topic_config_table: BTreeMap<&'t str, &'t TopicConfig>,
    }
    pretty(&File { data_version: version, topic_config_table: plain(topics) })
}

pub fn groups_file(
    groups: &BTreeMap<String, Arc<SubscriptionGroupConfig>>,
    forbidden: &Forbidden,
    version: DataVersion,
) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct File<'t> {
        data_version: DataVersion,
        forbidden_table: &'t Forbidden,
        subscription_group_table: BTreeMap<&'t str, &'t SubscriptionGroupConfig>,
    }
    pretty(&File {
        data_version: version,
        forbidden_table: forbidden,
        subscription_group_table: plain(groups),
    })
}

fn plain<T>(table: &BTreeMap<String, Arc<T>>) -> BTreeMap<&str, &T> {
    table.iter().map(|(name, config)| (name.as_str(), &**config)).collect()
}

pub fn parse<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    rmq_protocol::body::from_slice(content).map_err(|error| error.to_string())
}

pub fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).expect("maps with string and integer keys always serialize");
    text
}
