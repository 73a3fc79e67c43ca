//! Offsets of queues and of consumer groups: 14, 15, 29, 30, 31, 32.

use crate::headers::header;
use crate::text::Text;

header! {
    /// QUERY_CONSUMER_OFFSET (14).
    pub struct QueryConsumerOffsetHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        /// Absent counts as true.
        set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
}

header! {
    /// UPDATE_CONSUMER_OFFSET (15). What is missing here is answered with INVALID_PARAMETER, not SYSTEM_ERROR.
    pub struct UpdateConsumerOffsetHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: Option<i32> = "queueId",
        commit_offset: Option<i64> = "commitOffset",
    }
}

header! {
    /// SEARCH_OFFSET_BY_TIMESTAMP (29).
    pub struct SearchOffsetHeader<'a> {
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        timestamp: i64 = "timestamp",
        /// `UPPER` in any letter case; everything else means lower.
        boundary_type: Option<Text<'a>> = "boundaryType",
    }
}

header! {
    /// GET_MAX_OFFSET (30), GET_MIN_OFFSET (31) and GET_EARLIEST_MSG_STORETIME (32).
    pub struct QueueHeader<'a> {
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        /// Sent with 30; makes no difference.
        committed: Option<bool> = "committed",
    }
}

header! {
    /// Answer to 14, 29, 30 and 31.
    pub struct OffsetResponseHeader {
        offset: i64 = "offset",
    }
}

header! {
    /// Answer to 32.
    pub struct TimestampResponseHeader {
        timestamp: i64 = "timestamp",
    }
}
