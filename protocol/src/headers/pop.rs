//! POP consumption: 200050-200055. BATCH_ACK_MESSAGE (200151) has a body only.

use crate::headers::header;
use crate::text::Text;

header! {
    /// POP_MESSAGE (200050).
    pub struct PopMessageHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        /// -1 means all queues.
        queue_id: i32 = "queueId",
        messages_max: i32 = "maxMsgNums",
        invisible_time_ms: i64 = "invisibleTime",
        poll_time_ms: i64 = "pollTime",
        /// Absent or 0: now.
        born_time: Option<i64> = "bornTime",
        /// 0 MIN, 1 MAX.
        init_mode: i32 = "initMode",
        expression_type: Option<Text<'a>> = "expType",
        expression: Option<Text<'a>> = "exp",
        order: bool = "order",
        attempt_id: Option<Text<'a>> = "attemptId",
    }
}

header! {
    pub struct PopMessageResponseHeader<'a> {
        pop_time: i64 = "popTime",
        invisible_time_ms: i64 = "invisibleTime",
        revive_queue_id: i32 = "reviveQid",
        rest: i64 = "restNum",
        start_offset_info: Option<Text<'a>> = "startOffsetInfo",
        message_offset_info: Option<Text<'a>> = "msgOffsetInfo",
        order_count_info: Option<Text<'a>> = "orderCountInfo",
    }
}

header! {
    /// ACK_MESSAGE (200051).
    pub struct AckMessageHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        extra_info: Text<'a> = "extraInfo",
        offset: i64 = "offset",
    }
}

header! {
    /// PEEK_MESSAGE (200052).
    pub struct PeekMessageHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        messages_max: i32 = "maxMsgNums",
    }
}

header! {
    /// CHANGE_MESSAGE_INVISIBLETIME (200053).
    pub struct ChangeInvisibleTimeHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        extra_info: Text<'a> = "extraInfo",
        offset: i64 = "offset",
        invisible_time_ms: i64 = "invisibleTime",
    }
}

header! {
    pub struct ChangeInvisibleTimeResponseHeader {
        pop_time: i64 = "popTime",
        invisible_time_ms: i64 = "invisibleTime",
        revive_queue_id: i32 = "reviveQid",
    }
}

header! {
    /// NOTIFICATION (200054).
    pub struct NotificationHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        poll_time_ms: i64 = "pollTime",
        born_time: i64 = "bornTime",
        order: bool = "order",
        attempt_id: Option<Text<'a>> = "attemptId",
    }
}

header! {
    pub struct NotificationResponseHeader {
        has_message: bool = "hasMsg",
        polling_full: bool = "pollingFull",
    }
}

header! {
    /// POLLING_INFO (200055).
    pub struct PollingInfoHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
    }
}

header! {
    pub struct PollingInfoResponseHeader {
        polling: i32 = "pollingNum",
    }
}
