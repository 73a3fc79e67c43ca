//! The texts of the state files and of the requests that list them, in Java's shapes: members in alphabetical
//! order, files indented with tabs. Java leaves the integer keys of offset tables unquoted; here they are
//! quoted, which Java reads as well and other tools can read at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::ser::PrettyFormatter;

use super::config_types::{DataVersion, SubscriptionGroupConfig, TopicConfig};

/// Group -> topic -> bits of what the group may not do.
pub type Forbidden = BTreeMap<String, BTreeMap<String, i32>>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TopicsFile<T> {
    data_version: DataVersion,
    topic_config_table: BTreeMap<String, T>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupsFile<T> {
    data_version: DataVersion,
    forbidden_table: Forbidden,
    subscription_group_table: BTreeMap<String, T>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OffsetsFile<T> {
    data_version: DataVersion,
    offset_table: T,
}

impl<T> Default for TopicsFile<T> {
    fn default() -> Self {
        Self { data_version: DataVersion::default(), topic_config_table: BTreeMap::new() }
    }
}

impl<T> Default for GroupsFile<T> {
    fn default() -> Self {
        Self {
            data_version: DataVersion::default(),
            forbidden_table: Forbidden::new(),
            subscription_group_table: BTreeMap::new(),
        }
    }
}

impl<T: Default> Default for OffsetsFile<T> {
    fn default() -> Self {
        Self { data_version: DataVersion::default(), offset_table: T::default() }
    }
}

pub fn parse_topics(content: &[u8]) -> Result<(BTreeMap<String, TopicConfig>, DataVersion), String> {
    let file: TopicsFile<TopicConfig> = parse(content)?;
    Ok((file.topic_config_table, file.data_version))
}

pub fn topics_file(topics: &BTreeMap<String, Arc<TopicConfig>>, version: DataVersion) -> Vec<u8> {
    pretty(&TopicsFile { data_version: version, topic_config_table: plain(topics) })
}

pub fn parse_groups(
    content: &[u8],
) -> Result<(BTreeMap<String, SubscriptionGroupConfig>, Forbidden, DataVersion), String> {
    let file: GroupsFile<SubscriptionGroupConfig> = parse(content)?;
    Ok((file.subscription_group_table, file.forbidden_table, file.data_version))
}

pub fn groups_file(
    groups: &BTreeMap<String, Arc<SubscriptionGroupConfig>>,
    forbidden: &Forbidden,
    version: DataVersion,
) -> Vec<u8> {
    pretty(&GroupsFile {
        data_version: version,
        forbidden_table: forbidden.clone(),
        subscription_group_table: plain(groups),
    })
}

/// `topic@group` -> queue -> offset.
pub type OffsetTable = BTreeMap<String, BTreeMap<i32, i64>>;

pub fn parse_offsets(content: &[u8]) -> Result<(OffsetTable, DataVersion), String> {
    let file: OffsetsFile<OffsetTable> = parse(content)?;
    Ok((file.offset_table, file.data_version))
}

pub fn offsets_file(table: &OffsetTable, version: DataVersion) -> Vec<u8> {
    pretty(&OffsetsFile { data_version: version, offset_table: table })
}

/// The body of code 43.
pub fn offsets_body(table: &OffsetTable, version: DataVersion) -> Vec<u8> {
    compact(&OffsetsFile { data_version: version, offset_table: table })
}

pub fn parse_delay_offsets(content: &[u8]) -> Result<(BTreeMap<i32, i64>, DataVersion), String> {
    let file: OffsetsFile<BTreeMap<i32, i64>> = parse(content)?;
    Ok((file.offset_table, file.data_version))
}

pub fn delay_offsets_file(table: &BTreeMap<i32, i64>, version: DataVersion) -> Vec<u8> {
    pretty(&OffsetsFile { data_version: version, offset_table: table })
}

/// The body of code 45.
pub fn delay_offsets_body(table: &BTreeMap<i32, i64>, version: DataVersion) -> Vec<u8> {
    compact(&OffsetsFile { data_version: version, offset_table: table })
}

fn plain<T>(table: &BTreeMap<String, Arc<T>>) -> BTreeMap<String, &T> {
    table.iter().map(|(name, config)| (name.clone(), &**config)).collect()
}

fn parse<T: serde::de::DeserializeOwned>(content: &[u8]) -> Result<T, String> {
    serde_json::from_slice(content).map_err(|error| error.to_string())
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer).expect("maps with string and integer keys always serialize");
    text
}

fn compact(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with string and integer keys always serialize")
}
