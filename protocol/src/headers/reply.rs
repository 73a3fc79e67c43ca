//! PUSH_REPLY_MESSAGE_TO_CLIENT (326): a reply on its way to whoever asked.

use crate::headers::header;
use crate::text::Text;

header! {
    pub struct PushReplyHeader<'a> {
        producer_group: Option<Text<'a>> = "producerGroup",
        topic: Text<'a> = "topic",
        default_topic: Option<Text<'a>> = "defaultTopic",
        default_topic_queue_nums: Option<i32> = "defaultTopicQueueNums",
        queue_id: i32 = "queueId",
        sys_flag: i32 = "sysFlag",
        born_timestamp: i64 = "bornTimestamp",
        flag: i32 = "flag",
        properties: Option<Text<'a>> = "properties",
        reconsume_times: Option<i32> = "reconsumeTimes",
        unit_mode: bool = "unitMode",
        /// `ip:port`
        born_host: Text<'a> = "bornHost",
        /// `ip:port`
        store_host: Text<'a> = "storeHost",
        store_timestamp: i64 = "storeTimestamp",
    }
}
