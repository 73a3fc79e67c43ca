//! What tools ask a broker about consumption and itself: 26, 208, 220-223, 308, 314, 315, 317, 321.

use crate::headers::header;
use crate::text::Text;

header! {
    /// Answer to GET_BROKER_CONFIG (26).
    pub struct BrokerConfigResponseHeader<'a> {
        /// A DataVersion in JSON.
        version: Option<Text<'a>> = "version",
    }
}

header! {
    /// GET_CONSUME_STATS (208).
    pub struct ConsumeStatsHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Option<Text<'a>> = "topic",
        topic_list: Option<Text<'a>> = "topicList",
    }
}

header! {
    /// INVOKE_BROKER_TO_RESET_OFFSET (222) and its push to clients, RESET_CONSUMER_CLIENT_OFFSET (220).
    pub struct ResetOffsetHeader<'a> {
        topic: Text<'a> = "topic",
        group: Text<'a> = "group",
        /// -1 means all queues.
        queue_id: Option<i32> = "queueId",
        offset: Option<i64> = "offset",
        /// Negative means the end.
        timestamp: i64 = "timestamp",
        force: bool = "isForce",
    }
}

header! {
    /// INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223) and its push to clients, 221.
    pub struct ConsumerStatusHeader<'a> {
        topic: Text<'a> = "topic",
        group: Text<'a> = "group",
        client_address: Option<Text<'a>> = "clientAddr",
    }
}

header! {
    /// QUERY_CORRECTION_OFFSET (308).
    pub struct CorrectionOffsetHeader<'a> {
        filter_groups: Option<Text<'a>> = "filterGroups",
        compare_group: Text<'a> = "compareGroup",
        topic: Text<'a> = "topic",
    }
}

header! {
    /// CLONE_GROUP_OFFSET (314).
    pub struct CloneGroupOffsetHeader<'a> {
        source_group: Text<'a> = "srcGroup",
        target_group: Text<'a> = "destGroup",
        topic: Option<Text<'a>> = "topic",
        offline: bool = "offline",
    }
}

header! {
    /// VIEW_BROKER_STATS_DATA (315).
    pub struct BrokerStatsHeader<'a> {
        name: Text<'a> = "statsName",
        key: Text<'a> = "statsKey",
    }
}

header! {
    /// GET_BROKER_CONSUME_STATS (317).
    pub struct BrokerConsumeStatsHeader {
        order: bool = "isOrder",
    }
}

header! {
    /// QUERY_CONSUME_QUEUE (321).
    pub struct QueryConsumeQueueHeader<'a> {
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        index: i64 = "index",
        count: i32 = "count",
        consumer_group: Option<Text<'a>> = "consumerGroup",
    }
}
