//! SEND_MESSAGE (10), SEND_MESSAGE_V2 (310), SEND_BATCH_MESSAGE (320) and the replies 324 and 325.

use crate::fields::Fields;
use crate::headers::{FieldValue, HeaderError, header, not_empty, take};
use crate::request_code::RequestCode;
use crate::text::Text;
use crate::writer::FrameWriter;

/// The header of every kind of send. Codes 310, 320 and 325 abbreviate its names to letters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SendMessageHeader<'a> {
    pub producer_group: Option<Text<'a>>,
    pub topic: Text<'a>,
    /// Topic whose configuration a missing topic is created from; a topic that exists needs none.
    pub default_topic: Option<Text<'a>>,
    pub default_topic_queue_nums: Option<i32>,
    /// Negative: the broker chooses a queue.
    pub queue_id: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub flag: i32,
    pub properties: Text<'a>,
    pub reconsume_times: i32,
    pub unit_mode: bool,
    pub max_reconsume_times: Option<i32>,
    /// The body is a batch, see [`crate::batch`].
    pub batch: bool,
    pub broker_name: Option<Text<'a>>,
}

/// Positions of the letters and of the long names below.
const FIELDS: usize = 14;

const LONG_NAMES: [&str; FIELDS] = [
    "producerGroup",
    "topic",
    "defaultTopic",
    "defaultTopicQueueNums",
    "queueId",
    "sysFlag",
    "bornTimestamp",
    "flag",
    "properties",
    "reconsumeTimes",
    "unitMode",
    "maxReconsumeTimes",
    "batch",
    "bname",
];

const LETTERS: [&str; FIELDS] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];

/// defaultTopicQueueNums, reconsumeTimes, maxReconsumeTimes.
const OPTIONAL_NUMBERS: [usize; 3] = [3, 9, 11];

fn uses_letters(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE | RequestCode::SEND_REPLY_MESSAGE_V2
    )
}

impl<'a> SendMessageHeader<'a> {
    pub fn decode(code: RequestCode, fields: &Fields<'a>) -> Result<Self, HeaderError> {
        let mut found = [None; FIELDS];
        if uses_letters(code) {
            fields.visit(|key, value| {
                if let Some(&[letter @ b'a'..=b'n']) = key.as_plain() {
                    found[usize::from(letter - b'a')] = Some(value);
                }
            });
            for at in OPTIONAL_NUMBERS {
                not_empty(LETTERS[at], found[at])?;
            }
            Self::convert(&LETTERS, &found)
        } else {
            fields.visit(|key, value| {
                if let Some(at) = LONG_NAMES.iter().position(|name| key == *name) {
                    found[at] = Some(value);
                }
            });
            Self::convert(&LONG_NAMES, &found)
        }
    }

    fn convert(
        names: &[&'static str; FIELDS],
        found: &[Option<Text<'a>>; FIELDS],
    ) -> Result<Self, HeaderError> {
        Ok(Self {
            producer_group: take(names[0], found[0])?,
            topic: take(names[1], found[1])?,
            default_topic: take(names[2], found[2])?,
            default_topic_queue_nums: take(names[3], found[3])?,
            queue_id: take(names[4], found[4])?,
            sys_flag: take(names[5], found[5])?,
            born_timestamp: take(names[6], found[6])?,
            flag: take(names[7], found[7])?,
            properties: found[8].unwrap_or_default(),
            reconsume_times: take::<Option<i32>>(names[9], found[9])?.unwrap_or(0),
            unit_mode: take(names[10], found[10])?,
            max_reconsume_times: take(names[11], found[11])?,
            batch: take(names[12], found[12])?,
            broker_name: found[13],
        })
    }

    pub fn encode(&self, code: RequestCode, writer: &mut FrameWriter<'_>) {
        let names = if uses_letters(code) { &LETTERS } else { &LONG_NAMES };
        self.producer_group.put(names[0], writer);
        self.topic.put(names[1], writer);
        self.default_topic.put(names[2], writer);
        self.default_topic_queue_nums.put(names[3], writer);
        self.queue_id.put(names[4], writer);
        self.sys_flag.put(names[5], writer);
        self.born_timestamp.put(names[6], writer);
        self.flag.put(names[7], writer);
        self.properties.put(names[8], writer);
        self.reconsume_times.put(names[9], writer);
        self.unit_mode.put(names[10], writer);
        self.max_reconsume_times.put(names[11], writer);
        self.batch.put(names[12], writer);
        self.broker_name.put(names[13], writer);
    }
}

header! {
    /// Answer to a send. Java's client reads `MSG_REGION` without asking whether there are fields at all.
    pub struct SendMessageResponseHeader<'a> {
        /// Offset message id, or a comma-joined list of them for a batch.
        message_id: Text<'a> = "msgId",
        queue_id: i32 = "queueId",
        /// Of the first message.
        queue_offset: i64 = "queueOffset",
        /// The message's UNIQ_KEY.
        transaction_id: Option<Text<'a>> = "transactionId",
        batch_unique_id: Option<Text<'a>> = "batchUniqId",
        recall_handle: Option<Text<'a>> = "recallHandle",
        region: Option<Text<'a>> = "MSG_REGION",
        trace_on: Option<Text<'a>> = "TRACE_ON",
    }
}

header! {
    /// RECALL_MESSAGE (370).
    pub struct RecallMessageHeader<'a> {
        producer_group: Option<Text<'a>> = "producerGroup",
        topic: Text<'a> = "topic",
        recall_handle: Option<Text<'a>> = "recallHandle",
    }
}

header! {
    pub struct RecallMessageResponseHeader<'a> {
        /// The UNIQ_KEY of the message that was recalled.
        message_id: Text<'a> = "msgId",
        region: Option<Text<'a>> = "MSG_REGION",
    }
}
