//! From a message to the log: properties completed, sizes checked, the record encoded where it stays.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use rmq_engine::{LogPosition, PhysicalOffset, RecordMeta, RecordPlan, Schema};
use rmq_protocol::message_id::MESSAGE_ID_LEN_MAX;
use rmq_protocol::properties::{
    NAME_VALUE_SEPARATOR, PROPERTIES_LEN_MAX, PROPERTY_SEPARATOR, Properties, PropertiesSource, name,
    push_property,
};
use rmq_protocol::record::{self, RecordFields, RecordRef};
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::tag::tags_code;
use rmq_protocol::text::Text;

use super::group_commit::Completion;
use super::key_index::{self, KeySeed, Keys};
use super::light_queue;
use super::message::{Message, StoreOutcome};
use super::metadata::{Queue, Topic};
use super::refusal::Refusal;
use super::{delay_levels, timer};
use crate::control::limits::QUEUES_PER_TOPIC_MAX;
use crate::handler::StateGuard;
use crate::settings::Settings;
use crate::shard::{Shard, count};

/// A message on its way into the log; borrows from the request.
pub struct Draft<'a> {
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub properties: &'a [u8],
    pub filter_code: i64,
    pub body: &'a [u8],
}

impl<'a> Draft<'a> {
    pub fn of_message(message: &'a Message) -> Self {
        Self {
            flag: message.flag,
            sys_flag: message.sys_flag,
            born_timestamp: message.born_timestamp,
            born_host: message.born_host,
            reconsume_times: message.reconsume_times,
            prepared_transaction_offset: message.prepared_transaction_offset,
            properties: &message.properties,
            filter_code: tags_code(message.property(name::TAGS)),
            body: &message.body,
        }
    }

    pub fn to_message(&self, topic: &str, queue: i32) -> Message {
        Message {
            topic: topic.to_owned(),
            queue,
            flag: self.flag,
            sys_flag: self.sys_flag,
            born_timestamp: self.born_timestamp,
            born_host: self.born_host,
            reconsume_times: self.reconsume_times,
            prepared_transaction_offset: self.prepared_transaction_offset,
            properties: self.properties.to_vec(),
            body: self.body.to_vec(),
        }
    }
}

/// Where a message or batch went.
pub struct Stored {
    pub end: LogPosition,
    pub queue_offset: i64,
    /// Of the first record.
    pub physical_offset: i64,
}

pub struct StoredBatch {
    pub end: LogPosition,
    pub queue_offset: i64,
    pub physical_offsets: Vec<i64>,
}

/// What a message's properties ask for, found in one pass; the ranges lie in the completed text.
#[derive(Default)]
pub struct Seen {
    tags: Option<(usize, usize)>,
    keys: Option<(usize, usize)>,
    /// It names light queues to go into.
    pub has_light_queues: bool,
    unique_key: Option<(usize, usize)>,
    delay_level: DelayLevel,
    pub is_half: bool,
    asks_for_time: bool,
    /// The broker's mark of a message whose time has been worked out.
    has_time: bool,
}

/// What the property DELAY says.
#[derive(Clone, Copy, Default)]
enum DelayLevel {
    #[default]
    Absent,
    Level(i32),
    NoNumber,
}

impl Seen {
    /// 0: to be delivered at once.
    pub fn delay_level(&self) -> Result<i32, Refusal> {
        match self.delay_level {
            DelayLevel::Absent => Ok(0),
            DelayLevel::Level(level) => Ok(level),
            DelayLevel::NoNumber => {
                Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "the property DELAY is no number"))
            }
        }
    }

    /// Whether it is to be delivered at a time of its own; a delay level counts more.
    pub fn is_timer(&self) -> bool {
        self.asks_for_time && !self.has_time && !matches!(self.delay_level, DelayLevel::Level(1..))
    }

    pub fn filter_code(&self, completed: &[u8]) -> i64 {
        tags_code(self.tags.and_then(|(from, to)| std::str::from_utf8(&completed[from..to]).ok()))
    }

    pub fn keys<'a>(&self, completed: &'a [u8]) -> Keys<'a> {
        let text = |(from, to): (usize, usize)| &completed[from..to];
        Keys { unique: self.unique_key.map(text), words: self.keys.map(text) }
    }

    pub fn unique_key<'a>(&self, completed: &'a [u8]) -> Option<&'a str> {
        self.unique_key.and_then(|(from, to)| std::str::from_utf8(&completed[from..to]).ok())
    }
}

/// Writes the properties as they are stored: the client's and the broker's additions.
pub fn complete_properties(shard: &Shard, client: Text<'_>, out: &mut Vec<u8>) -> Seen {
    let mut seen = batch_properties(shard, client, out);
    if seen.unique_key.is_none() {
        let mut text = [0; MESSAGE_ID_LEN_MAX];
        let id = shard.unique_id(&mut text);
        push_property(out, name::UNIQ_KEY, id);
        let end = out.len() - 1;
        seen.unique_key = Some((end - id.len(), end));
    }
    seen
}

/// The same for what a batch says of all its messages, each of which has a key of its own.
pub fn batch_properties(shard: &Shard, client: Text<'_>, out: &mut Vec<u8>) -> Seen {
    let seen = admit_properties(client, out);
    push_property(out, name::MSG_REGION, &shard.settings.region);
    push_property(out, name::TRACE_ON, if shard.settings.trace_on { "true" } else { "false" });
    push_property(out, name::CLUSTER, &shard.settings.cluster_name);
    seen
}

/// Writes the client's properties, without `POP_CK` and, as in Java, without pairs that lack a key or a value.
fn admit_properties(client: Text<'_>, out: &mut Vec<u8>) -> Seen {
    client.push_to(out);
    if out.last().is_some_and(|&last| last != PROPERTY_SEPARATOR) {
        out.push(PROPERTY_SEPARATOR);
    }
    let mut seen = Seen::default();
    let mut at = 0;
    // Behind `at` only when something was left out before.
    let mut kept = 0;
    while at < out.len() {
        let pair = &out[at..];
        let len = pair.iter().position(|&byte| byte == PROPERTY_SEPARATOR).unwrap_or(pair.len());
        let middle = pair[..len].iter().position(|&byte| byte == NAME_VALUE_SEPARATOR).unwrap_or(len);
        let is_kept = middle > 0 && middle + 1 < len && &pair[..middle] != b"POP_CK";
        if is_kept {
            if kept < at {
                out.copy_within(at..at + len + 1, kept);
            }
            let value = (kept + middle + 1, kept + len);
            match &out[kept..kept + middle] {
                b"TAGS" => seen.tags = Some(value),
                b"KEYS" => seen.keys = Some(value),
                b"UNIQ_KEY" => seen.unique_key = Some(value),
                b"DELAY" => seen.delay_level = delay_level(&out[value.0..value.1]),
                b"TRAN_MSG" => seen.is_half = out[value.0..value.1].eq_ignore_ascii_case(b"true"),
                b"INNER_MULTI_DISPATCH" => seen.has_light_queues = true,
                b"TIMER_DELAY_SEC" | b"TIMER_DELAY_MS" | b"TIMER_DELIVER_MS" => {
                    seen.asks_for_time = true;
                }
                b"TIMER_OUT_MS" => seen.has_time = true,
                _ => {}
            }
            kept += len + 1;
        }
        at += len + 1;
    }
    out.truncate(kept);
    seen
}

fn delay_level(text: &[u8]) -> DelayLevel {
    let level = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    level.map_or(DelayLevel::NoNumber, DelayLevel::Level)
}

/// `added` is what the broker will add to its properties later.
pub fn check_size(settings: &Settings, draft: &Draft<'_>, added: usize) -> Result<(), Refusal> {
    if draft.body.len() > settings.message_size_max || draft.properties.len() + added > PROPERTIES_LEN_MAX {
        return Err(too_large(settings));
    }
    Ok(())
}

/// A topic may have fewer queues than when its delayed message was sent; that is still delivered.
pub fn check_queue(topic: &str, queue: i32) -> Result<(), Refusal> {
    if (0..QUEUES_PER_TOPIC_MAX).contains(&queue) {
        return Ok(());
    }
    Err(Refusal::new(ResponseCode::INVALID_PARAMETER, format!("topic[{topic}] has no queue {queue}")))
}

pub fn too_large(settings: &Settings) -> Refusal {
    Refusal::new(
        ResponseCode::MESSAGE_ILLEGAL,
        format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body length limit {}B, \
             msg properties length limit 32KB.",
            settings.message_size_max
        ),
    )
}

/// Appends one message to a queue of this shard.
pub fn append(shard: &Shard, topic: &Topic, queue: &Rc<Queue>, draft: &Draft<'_>) -> Result<Stored, Refusal> {
    append_with_keys(shard, topic, queue, draft, &Keys::of(Properties(draft.properties)))
}

/// The same for who has read the properties already.
pub fn append_with_keys(
    shard: &Shard,
    topic: &Topic,
    queue: &Rc<Queue>,
    draft: &Draft<'_>,
    keys: &Keys<'_>,
) -> Result<Stored, Refusal> {
    append_at(shard, queue, draft, &Place::in_queue(topic, queue), keys)
}

fn append_at(
    shard: &Shard,
    queue: &Rc<Queue>,
    draft: &Draft<'_>,
    place: &Place<'_>,
    keys: &Keys<'_>,
) -> Result<Stored, Refusal> {
    let number = shard.declared(queue)?;
    let fields = fields(shard, place, draft);
    let len = fields.encoded_len();
    let plan = [RecordPlan { len: len as u32, filter_code: draft.filter_code }];
    let appended = shard.engine.append(number, &plan, |_, out, stamp| {
        fields.encode_into(out);
        record::stamp(out, stamp.queue_offset.0, stamp.physical_offset.0, stamp.store_timestamp_ms);
    })?;
    key_index::note(shard, place.key_seed, keys, draft.sys_flag, &appended, appended.first_physical_offset);
    counted(shard, queue, 1, len);
    Ok(Stored {
        end: appended.end,
        queue_offset: appended.first_queue_offset.0,
        physical_offset: appended.first_physical_offset.0,
    })
}

/// What a message takes in the log.
pub fn record_len(shard: &Shard, topic: &Topic, queue: &Queue, draft: &Draft<'_>) -> u32 {
    fields(shard, &Place::in_queue(topic, queue), draft).encoded_len() as u32
}

/// Appends a client's batch as one frame: all of it is stored or nothing.
pub fn append_batch(
    shard: &Shard,
    topic: &Topic,
    queue: &Rc<Queue>,
    drafts: &[Draft<'_>],
    keys: &[Keys<'_>],
) -> Result<StoredBatch, Refusal> {
    let number = shard.declared(queue)?;
    let place = Place::in_queue(topic, queue);
    let fields: Vec<RecordFields<'_>> = drafts.iter().map(|draft| fields(shard, &place, draft)).collect();
    let plans: Vec<RecordPlan> = fields
        .iter()
        .zip(drafts)
        .map(|(fields, draft)| RecordPlan {
            len: fields.encoded_len() as u32,
            filter_code: draft.filter_code,
        })
        .collect();
    let mut physical_offsets = Vec::with_capacity(plans.len());
    let appended = shard.engine.append(number, &plans, |index, out, stamp| {
        fields[index].encode_into(out);
        record::stamp(out, stamp.queue_offset.0, stamp.physical_offset.0, stamp.store_timestamp_ms);
        physical_offsets.push(stamp.physical_offset.0);
    })?;
    for ((draft, keys), &offset) in drafts.iter().zip(keys).zip(&physical_offsets) {
        let record = PhysicalOffset(offset);
        key_index::note(shard, topic.key_seed, keys, draft.sys_flag, &appended, record);
    }
    counted(shard, queue, drafts.len() as u64, plans.iter().map(|plan| plan.len as usize).sum());
    Ok(StoredBatch { end: appended.end, queue_offset: appended.first_queue_offset.0, physical_offsets })
}

/// What a record says of the queue it belongs to. Only one in a light queue says another than it is in.
pub struct Place<'a> {
    pub topic: &'a str,
    pub queue_id: i32,
    pub key_seed: KeySeed,
}

impl<'a> Place<'a> {
    pub fn named(topic: &'a str, queue_id: i32) -> Self {
        Self { topic, queue_id, key_seed: KeySeed::of_topic(topic) }
    }

    fn in_queue(topic: &'a Topic, queue: &Queue) -> Self {
        Self { topic: &topic.name, queue_id: queue.id, key_seed: topic.key_seed }
    }
}

/// The record that a message becomes.
pub fn fields<'a>(shard: &Shard, place: &Place<'a>, draft: &Draft<'a>) -> RecordFields<'a> {
    RecordFields {
        queue_id: place.queue_id,
        flag: draft.flag,
        sys_flag: draft.sys_flag,
        born_timestamp: draft.born_timestamp,
        born_host: draft.born_host,
        store_host: shard.settings.store_host,
        reconsume_times: draft.reconsume_times,
        prepared_transaction_offset: draft.prepared_transaction_offset,
        body: draft.body,
        topic: place.topic,
        properties: PropertiesSource::client(Text::plain(draft.properties)),
    }
}

fn counted(shard: &Shard, queue: &Queue, messages: u64, bytes: usize) {
    count(&queue.put_bytes, bytes as u64);
    count(&shard.counters.messages_put, messages);
    count(&shard.counters.bytes_put, bytes as u64);
    let largest = &shard.counters.put_bytes_max;
    largest.set(largest.get().max(bytes as u64));
}

/// Stores a broker-internal message wherever its queue lives, and waits until it is acknowledged. A message
/// with a delay level waits in the schedule topic first, one with a time of its own in the timer's.
pub async fn store(shard: &Rc<Shard>, mut message: Message) -> StoreOutcome {
    delay_levels::divert(shard, &mut message);
    if let Err(refusal) = timer::divert(shard, &mut message) {
        return StoreOutcome::Refused { code: refusal.code, remark: refusal.remark.into_owned() };
    }
    if timer::is_recall(&message) {
        return timer::store_recall(shard, message).await;
    }
    store_now(shard, message).await
}

/// The same for a message whose delay is over.
pub async fn store_now(shard: &Rc<Shard>, message: Message) -> StoreOutcome {
    if light_queue::wants(&shard.settings, &message) {
        return light_queue::store(shard, message).await;
    }
    store_plain(shard, message).await
}

/// The same without looking for light queues.
pub async fn store_plain(shard: &Rc<Shard>, message: Message) -> StoreOutcome {
    let owner = shard.ownership.owner(&message.topic, message.queue);
    if owner == shard.index {
        return store_here(shard, &message).await;
    }
    shard.store_elsewhere(owner, Box::new(message)).take().await
}

/// Stores a message into a queue of this shard.
pub async fn store_here(shard: &Rc<Shard>, message: &Message) -> StoreOutcome {
    if shard.settings.light_queues.dispatches && light_queue::is_copy(message) {
        return light_queue::store_copy_here(shard, message).await;
    }
    let refused =
        |refusal: Refusal| StoreOutcome::Refused { code: refusal.code, remark: refusal.remark.into_owned() };
    let Some(topic) = shard.metadata.topic(&message.topic) else {
        return refused(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{}] not exist", message.topic),
        ));
    };
    if let Err(refusal) = check_queue(&topic.name, message.queue) {
        return refused(refusal);
    }
    let queue = shard.queue(&topic, message.queue);
    let of_message = Draft::of_message(message);
    let code = timer::index_code(&message.topic, message.prepared_transaction_offset);
    let draft = Draft { filter_code: code.unwrap_or(of_message.filter_code), ..of_message };
    let place = Place::in_queue(&topic, &queue);
    let outcome =
        append_and_wait(shard, &queue, &draft, &place, &Keys::of(Properties(draft.properties))).await;
    if code.is_some() && matches!(outcome, StoreOutcome::Stored { .. }) {
        timer::count_stored(shard, message);
    }
    outcome
}

/// Appends a broker-internal message to a queue of this shard and waits until it is acknowledged.
pub async fn append_and_wait(
    shard: &Rc<Shard>,
    queue: &Rc<Queue>,
    draft: &Draft<'_>,
    place: &Place<'_>,
    keys: &Keys<'_>,
) -> StoreOutcome {
    let refused =
        |refusal: Refusal| StoreOutcome::Refused { code: refusal.code, remark: refusal.remark.into_owned() };
    // Retry and delay add properties of their own; a message that was just legal may no longer be.
    if let Err(refusal) = check_size(&shard.settings, draft, 0) {
        return refused(refusal);
    }
    let stored = {
        let _state = StateGuard::enter();
        match append_at(shard, queue, draft, place, keys) {
            Ok(stored) => stored,
            Err(refusal) => return refused(refusal),
        }
    };
    match shard.acknowledged(stored.end).await {
        Completion::Acknowledged => StoreOutcome::Stored {
            queue_offset: stored.queue_offset,
            physical_offset: stored.physical_offset,
        },
        Completion::Failed => refused(Refusal::new(ResponseCode::SYSTEM_ERROR, "the commit log stopped")),
    }
}

pub fn wall_clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Milliseconds since the month (UTC) began, as a unique id tells its age.
pub fn ms_of_month(now_ms: i64) -> u32 {
    const DAY_MS: i64 = 86_400_000;
    // Days counted from 0000-03-01, so that the leap day is the last of its year; then as in the
    // proleptic Gregorian calendar: 400 years have 146,097 days.
    let days = now_ms.div_euclid(DAY_MS) + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let day_of_month = day_of_year - (153 * ((5 * day_of_year + 2) / 153) + 2) / 5;
    (day_of_month * DAY_MS + now_ms.rem_euclid(DAY_MS)) as u32
}

/// How the engine finds in a stored message what its index needs when it recovers.
pub struct MessageSchema;

impl Schema for MessageSchema {
    fn describe(&self, bytes: &[u8]) -> Option<RecordMeta> {
        let record = RecordRef::parse(bytes).ok()?;
        Some(RecordMeta {
            len: record.total_len() as u32,
            queue_offset: rmq_engine::QueueOffset(record.queue_offset()),
            store_timestamp_ms: record.store_timestamp(),
            filter_code: timer::index_code(record.topic(), record.prepared_transaction_offset())
                .unwrap_or_else(|| tags_code(record.properties().find(name::TAGS))),
        })
    }

    fn keys(&self, record: &[u8], visit: &mut dyn FnMut(u32)) {
        key_index::visit_hashes(record, visit);
    }
}

/// The record at `offset` of any shard, if one starts there.
pub async fn record_at(shard: &Rc<Shard>, offset: i64) -> Result<Option<Vec<u8>>, Refusal> {
    let engine = Rc::clone(&shard.engine);
    match engine.record_at(PhysicalOffset(offset)).await {
        Ok(found) => Ok(found
            .filter(|bytes| RecordRef::parse(bytes).is_ok_and(|record| record.physical_offset() == offset))),
        Err(error) => Err(Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(client: &str) -> (String, Seen) {
        let mut out = Vec::new();
        let seen = admit_properties(Text::new(client), &mut out);
        (String::from_utf8(out).unwrap(), seen)
    }

    #[test]
    fn pairs_without_key_or_value_are_left_out() {
        let (text, seen) = admitted(
            "odd\x02\x01v\x02TAGS\x01red\x02POP_CK\x01x\x02UNIQ_KEY\x01\x02\x02DELAY\x013\x02UNIQ_KEY\x01K\x02POP_CK\x01y",
        );
        assert_eq!(text, "TAGS\x01red\x02DELAY\x013\x02UNIQ_KEY\x01K\x02");
        assert_eq!(seen.filter_code(text.as_bytes()), tags_code(Some("red")));
        assert_eq!(seen.unique_key(text.as_bytes()), Some("K"));
        assert_eq!(seen.delay_level().unwrap(), 3);
        for nothing in ["", "\x02\x02", "POP_CK\x01x", "k\x01"] {
            assert_eq!(admitted(nothing).0, "", "{nothing:?}");
        }
        assert_eq!(admitted("a\x01b").0, "a\x01b\x02", "the last separator may be missing");
    }

    #[test]
    fn a_delay_that_is_no_number_is_refused() {
        assert_eq!(admitted("DELAY\x01-1\x02").1.delay_level().unwrap(), -1);
        for word in ["abc", " 3", "3.0", "99999999999"] {
            let refusal = admitted(&format!("DELAY\x01{word}\x02")).1.delay_level().unwrap_err();
            assert_eq!(refusal.code, ResponseCode::SYSTEM_ERROR, "{word}");
        }
    }

    #[test]
    fn a_month_begins_at_zero() {
        assert_eq!(ms_of_month(1_700_000_000_000), 13 * 86_400_000 + 80_000_000, "2023-11-14T22:13:20Z");
        assert_eq!(ms_of_month(1_709_164_800_000), 28 * 86_400_000, "2024-02-29");
        assert_eq!(ms_of_month(1_709_251_200_000), 0, "2024-03-01");
    }
}
