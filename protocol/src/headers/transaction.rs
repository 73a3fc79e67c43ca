//! END_TRANSACTION (37) and CHECK_TRANSACTION_STATE (39).

use crate::headers::header;
use crate::text::Text;

header! {
    pub struct EndTransactionHeader<'a> {
        topic: Option<Text<'a>> = "topic",
        producer_group: Option<Text<'a>> = "producerGroup",
        /// Offset of the half message in the half topic's queue.
        half_queue_offset: i64 = "tranStateTableOffset",
        /// Physical offset of the half message.
        commit_log_offset: i64 = "commitLogOffset",
        /// One of [`crate::sys_flag`]'s transaction types; 0 says that the producer does not know yet.
        commit_or_rollback: i32 = "commitOrRollback",
        from_check: bool = "fromTransactionCheck",
        message_id: Option<Text<'a>> = "msgId",
        transaction_id: Option<Text<'a>> = "transactionId",
        broker_name: Option<Text<'a>> = "bname",
    }
}

header! {
    pub struct CheckTransactionHeader<'a> {
        /// The half topic.
        topic: Option<Text<'a>> = "topic",
        half_queue_offset: i64 = "tranStateTableOffset",
        commit_log_offset: i64 = "commitLogOffset",
        /// The UNIQ_KEY.
        message_id: Option<Text<'a>> = "msgId",
        transaction_id: Option<Text<'a>> = "transactionId",
        offset_message_id: Option<Text<'a>> = "offsetMsgId",
        broker_name: Option<Text<'a>> = "bname",
    }
}

header! {
    /// RESUME_CHECK_HALF_MESSAGE (323).
    pub struct ResumeHalfMessageHeader<'a> {
        topic: Option<Text<'a>> = "topic",
        message_id: Option<Text<'a>> = "msgId",
    }
}
