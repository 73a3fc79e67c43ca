//! Looking stored messages up: QUERY_MESSAGE (12) and VIEW_MESSAGE_BY_ID (33).

use crate::headers::header;
use crate::text::Text;

header! {
    pub struct QueryMessageHeader<'a> {
        topic: Text<'a> = "topic",
        key: Text<'a> = "key",
        messages_max: i32 = "maxNum",
        begin_timestamp: i64 = "beginTimestamp",
        end_timestamp: i64 = "endTimestamp",
        /// The key is a UNIQ_KEY.
        unique_key: bool = "_UNIQUE_KEY_QUERY",
    }
}

header! {
    pub struct QueryMessageResponseHeader {
        index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        index_last_update_physical_offset: i64 = "indexLastUpdatePhyoffset",
    }
}

header! {
    pub struct ViewMessageHeader<'a> {
        /// Physical offset.
        offset: i64 = "offset",
        topic: Option<Text<'a>> = "topic",
    }
}
