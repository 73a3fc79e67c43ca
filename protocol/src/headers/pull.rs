//! PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361).

use crate::headers::header;
use crate::text::Text;

header! {
    pub struct PullMessageHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        topic: Text<'a> = "topic",
        queue_id: i32 = "queueId",
        queue_offset: i64 = "queueOffset",
        messages_max: i32 = "maxMsgNums",
        /// See [`crate::sys_flag::pull`].
        sys_flag: i32 = "sysFlag",
        /// Needed with the sys flag for it only, as is the next.
        commit_offset: Option<i64> = "commitOffset" not empty,
        suspend_timeout_ms: Option<i64> = "suspendTimeoutMillis" not empty,
        subscription: Option<Text<'a>> = "subscription",
        /// Needed without a subscription of its own.
        subscription_version: Option<i64> = "subVersion" not empty,
        /// `TAG` when absent.
        expression_type: Option<Text<'a>> = "expressionType",
        bytes_max: Option<i32> = "maxMsgBytes" not empty,
        request_source: Option<i32> = "requestSource" not empty,
        proxy_forward_client_id: Option<Text<'a>> = "proxyFrowardClientId",
    }
}

header! {
    pub struct PullMessageResponseHeader {
        suggest_which_broker_id: i64 = "suggestWhichBrokerId",
        next_begin_offset: i64 = "nextBeginOffset",
        min_offset: i64 = "minOffset",
        max_offset: i64 = "maxOffset",
        offset_delta: Option<i64> = "offsetDelta",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
        forbidden_type: Option<i32> = "forbiddenType",
    }
}
