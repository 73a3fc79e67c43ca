//! Queue assignment by the broker (400) and how a group consumes (401, 402).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::heartbeat::MessageModel;
use super::message_queue::MessageQueue;

/// Body of QUERY_ASSIGNMENT (400).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignmentRequest {
    pub client_id: String,
    pub consumer_group: String,
    pub message_model: MessageModel,
    /// `AVG` or `AVG_BY_CIRCLE`.
    pub strategy_name: String,
    pub topic: String,
}

/// Answer to 400. Absent: keep what you have; empty: give everything up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueryAssignmentResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_queue_assignments: Option<Vec<MessageQueueAssignment>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageQueueAssignment {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attachments: BTreeMap<String, String>,
    pub message_queue: MessageQueue,
    pub mode: MessageRequestMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MessageRequestMode {
    #[default]
    Pull,
    Pop,
}

/// Body of SET_MESSAGE_REQUEST_MODE (401).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetMessageRequestMode {
    pub consumer_group: String,
    pub mode: MessageRequestMode,
    pub pop_share_queue_num: i32,
    pub topic: String,
}

/// Answer to GET_ALL_MESSAGE_REQUEST_MODE (402): topic to group to mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MessageRequestModeTable {
    pub message_request_mode_map: BTreeMap<String, BTreeMap<String, SetMessageRequestMode>>,
}
