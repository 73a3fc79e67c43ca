//! Membership and consumer groups: 34 (answer), 35, 36, 38, 40, 203, 204, 207, 343, 345, 352 and their kin.

use crate::headers::header;
use crate::text::Text;

header! {
    /// Answer to HEART_BEAT (34), whose request has a body only.
    pub struct HeartbeatResponseHeader {
        supports_heartbeat_v2: bool = "IS_SUPPORT_HEART_BEAT_V2",
        subscription_changed: bool = "IS_SUB_CHANGE",
    }
}

header! {
    /// UNREGISTER_CLIENT (35). An empty group is no group.
    pub struct UnregisterClientHeader<'a> {
        client_id: Text<'a> = "clientID",
        producer_group: Option<Text<'a>> = "producerGroup",
        consumer_group: Option<Text<'a>> = "consumerGroup",
    }
}

header! {
    /// CONSUMER_SEND_MSG_BACK (36).
    pub struct ConsumerSendBackHeader<'a> {
        /// Physical offset.
        offset: i64 = "offset",
        group: Text<'a> = "group",
        delay_level: i32 = "delayLevel",
        origin_message_id: Option<Text<'a>> = "originMsgId",
        origin_topic: Option<Text<'a>> = "originTopic",
        unit_mode: bool = "unitMode",
        max_reconsume_times: Option<i32> = "maxReconsumeTimes",
        broker_name: Option<Text<'a>> = "bname",
    }
}

header! {
    /// GET_CONSUMER_LIST_BY_GROUP (38), NOTIFY_CONSUMER_IDS_CHANGED (40), GET_CONSUMER_CONNECTION_LIST (203).
    pub struct ConsumerGroupHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
    }
}

header! {
    /// GET_PRODUCER_CONNECTION_LIST (204).
    pub struct ProducerGroupHeader<'a> {
        producer_group: Text<'a> = "producerGroup",
    }
}

header! {
    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201); all absent asks for everything.
    pub struct GetAllGroupsHeader<'a> {
        group_seq: Option<i32> = "groupSeq",
        groups_max: Option<i32> = "maxGroupNum",
        /// A DataVersion in JSON.
        data_version: Option<Text<'a>> = "dataVersion",
    }
}

header! {
    pub struct GetAllGroupsResponseHeader {
        total: Option<i32> = "totalGroupNum",
    }
}

header! {
    /// DELETE_SUBSCRIPTIONGROUP (207).
    pub struct DeleteGroupHeader<'a> {
        group: Text<'a> = "groupName",
        clean_offset: bool = "cleanOffset",
    }
}

header! {
    /// QUERY_TOPICS_BY_CONSUMER (343) and GET_SUBSCRIPTIONGROUP_CONFIG (352).
    pub struct GroupHeader<'a> {
        group: Text<'a> = "group",
    }
}

header! {
    /// QUERY_SUBSCRIPTION_BY_CONSUMER (345), QUERY_CONSUME_TIME_SPAN (303).
    pub struct GroupTopicHeader<'a> {
        group: Text<'a> = "group",
        topic: Text<'a> = "topic",
    }
}

header! {
    /// GET_CONSUMER_RUNNING_INFO (307), from a tool to the broker and from the broker to the client.
    pub struct ConsumerRunningInfoHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        client_id: Text<'a> = "clientId",
        jstack: bool = "jstackEnable",
    }
}

header! {
    /// CONSUME_MESSAGE_DIRECTLY (309), from a tool to the broker and from the broker to the client.
    pub struct ConsumeDirectlyHeader<'a> {
        consumer_group: Text<'a> = "consumerGroup",
        client_id: Option<Text<'a>> = "clientId",
        message_id: Option<Text<'a>> = "msgId",
        broker_name: Option<Text<'a>> = "brokerName",
        topic: Option<Text<'a>> = "topic",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        group_sys_flag: Option<i32> = "groupSysFlag",
    }
}

header! {
    /// UPDATE_AND_GET_GROUP_FORBIDDEN (353).
    pub struct GroupForbiddenHeader<'a> {
        group: Text<'a> = "group",
        topic: Option<Text<'a>> = "topic",
        readable: Option<bool> = "readable",
    }
}
