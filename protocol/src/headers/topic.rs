//! Topic administration at a broker: 17, 21, 202, 215, 300, 351.

use crate::headers::header;
use crate::text::Text;

header! {
    /// UPDATE_AND_CREATE_TOPIC (17).
    pub struct CreateTopicHeader<'a> {
        topic: Text<'a> = "topic",
        default_topic: Option<Text<'a>> = "defaultTopic",
        read_queue_nums: i32 = "readQueueNums",
        write_queue_nums: i32 = "writeQueueNums",
        perm: i32 = "perm",
        topic_filter_type: Option<Text<'a>> = "topicFilterType",
        topic_sys_flag: Option<i32> = "topicSysFlag",
        order: bool = "order",
        /// `+key=value,-key`
        attributes: Option<Text<'a>> = "attributes",
        force: bool = "force",
    }
}

header! {
    /// GET_ALL_TOPIC_CONFIG (21); all absent asks for everything.
    pub struct GetAllTopicsHeader<'a> {
        topic_seq: Option<i32> = "topicSeq",
        topics_max: Option<i32> = "maxTopicNum",
        /// A DataVersion in JSON.
        data_version: Option<Text<'a>> = "dataVersion",
    }
}

header! {
    pub struct GetAllTopicsResponseHeader {
        total: Option<i32> = "totalTopicNum",
    }
}

header! {
    /// GET_TOPIC_STATS_INFO (202), DELETE_TOPIC_IN_BROKER (215), QUERY_TOPIC_CONSUME_BY_WHO (300),
    /// GET_TOPIC_CONFIG (351).
    pub struct TopicHeader<'a> {
        topic: Text<'a> = "topic",
    }
}
