//! Storing what is due in its own topic, in pieces that leave room for others.
//!
//! Messages of a piece are read in the order in which they lie in the log. Appends to queues of this shard share one
//! wait for the disk; for queues of other shards the store goes through the mesh.

use std::rc::Rc;
use std::time::Duration;

use rmq_engine::{CachedRead, Error, LogPosition, QueueNumber, QueueOffset, Read, ReadLimits, TimelineEntry};
use rmq_protocol::properties::{NAME_VALUE_SEPARATOR, PROPERTY_SEPARATOR, name, push_property};
use rmq_protocol::record::{self, RecordRef};
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::tag::tags_code;

use super::due::DueCode;
use super::limits::{APPENDED_BYTES_MAX, READ_AT_ONCE, READ_BYTES_MAX, READ_SPAN, SLICE_DELIVERIES};
use super::wheel::Wheel;
use crate::broker::group_commit::Completion;
use crate::broker::message::{Message, StoreOutcome};
use crate::broker::refusal::Refusal;
use crate::broker::store::{self, Draft};
use crate::broker::topic_name;
use crate::handler::StateGuard;
use crate::net::executor::{self, Oneshot};
use crate::shard::Shard;

const BUSY_PAUSE: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_secs(1);

/// The shard stops before everything is delivered; the next start goes on.
struct Stopping;

/// Delivers messages that are due; what the shard's end keeps it from stays taken, and so comes again.
pub async fn deliver(shard: &Rc<Shard>, wheel: &Wheel, due: Vec<TimelineEntry>) {
    let Some(number) = wheel.queue.number() else { return };
    let (mut recalls, mut messages): (Vec<_>, Vec<_>) =
        due.into_iter().partition(|entry| DueCode(entry.key).is_recall());
    // Their messages are due later, so a recall that comes first is in time.
    for entries in [&mut recalls, &mut messages] {
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let (records, count) = read_some(shard, number, rest).await;
            let (piece, behind) = rest.split_at(count);
            if Piece::new(shard, wheel).deliver(&records, piece).await.is_err() {
                return;
            }
            rest = behind;
        }
    }
}

/// The records of the first entries that lie close together, and how many entries they are. An entry without a
/// record has lost it: to retention, or to damage.
async fn read_some(shard: &Rc<Shard>, number: QueueNumber, entries: &[TimelineEntry]) -> (Vec<u8>, usize) {
    let from = entries[0].offset;
    let close = entries.iter().take(READ_AT_ONCE).take_while(|entry| entry.offset - from < READ_SPAN);
    let mut offsets: Vec<i64> = close.map(|entry| entry.offset).collect();
    loop {
        let last = offsets.last().map_or(from, |&last| last);
        let limits = ReadLimits {
            messages_max: offsets.len() as u32,
            bytes_max: READ_BYTES_MAX,
            scan_max: (last - from + 1) as u32,
            cold_messages_max: offsets.len() as u32,
            cold_bytes_max: READ_BYTES_MAX,
        };
        let mut records = Vec::new();
        let at = QueueOffset(from);
        let wanted = choose(from, offsets.clone());
        let read = match shard.engine.read_cached(number, at, &limits, wanted, &mut records) {
            CachedRead::Done(read) => Ok((read, records)),
            CachedRead::Cold => {
                let wanted = choose(from, offsets.clone());
                Rc::clone(&shard.engine).read(number, at, limits, wanted).await
            }
        };
        match read {
            Ok((read, records)) => {
                let next = match read {
                    Read::Found { next, .. } | Read::NoneMatched { next } | Read::Removed { next } => next.0,
                    Read::TooSmall { min } => min.0,
                    Read::TooLarge { .. } | Read::AtEnd | Read::NoSuchQueue => i64::MAX,
                };
                let count = entries.iter().take_while(|entry| entry.offset < next).count();
                return (records, count.max(1));
            }
            // One damaged record must not hold up the others.
            Err(Error::Corrupt { .. }) if offsets.len() > 1 => offsets.truncate(1),
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(shard = shard.index, %error, "a timer message is lost");
                return (Vec::new(), 1);
            }
            Err(error) => {
                tracing::error!(shard = shard.index, %error, "timer messages cannot be read; trying again");
                executor::sleep(RETRY).await;
            }
        }
    }
}

/// Says of each index entry from `from` on whether it is one of the wanted.
fn choose(from: i64, offsets: Vec<i64>) -> impl FnMut(i64) -> bool + 'static {
    let mut wanted = offsets.into_iter().peekable();
    let mut at = from;
    move |_| {
        let is_wanted = wanted.next_if_eq(&at).is_some();
        at += 1;
        is_wanted
    }
}

/// Messages that are stored together.
struct Piece<'a> {
    shard: &'a Rc<Shard>,
    wheel: &'a Wheel,
    now_ms: i64,
    properties: Vec<u8>,
    appended: Option<LogPosition>,
    appended_bytes: usize,
    elsewhere: Vec<Rc<Oneshot<()>>>,
    /// Recalls stay taken until their tick is over.
    kept: Vec<TimelineEntry>,
}

impl<'a> Piece<'a> {
    fn new(shard: &'a Rc<Shard>, wheel: &'a Wheel) -> Self {
        Self {
            shard,
            wheel,
            now_ms: store::wall_clock_ms(),
            properties: Vec::new(),
            appended: None,
            appended_bytes: 0,
            elsewhere: Vec::new(),
            kept: Vec::new(),
        }
    }

    async fn deliver(mut self, records: &[u8], entries: &[TimelineEntry]) -> Result<(), Stopping> {
        let mut found = 0;
        for record in record::records(records) {
            let Ok(record) = record else { break };
            found += 1;
            self.deliver_one(&record, entries).await?;
            if self.appended_bytes > APPENDED_BYTES_MAX {
                self.settle().await?;
            } else if found % SLICE_DELIVERIES == 0 {
                executor::yield_now().await;
            }
        }
        self.settle().await?;
        if found < entries.len() {
            let lost = entries.len() - found;
            tracing::error!(shard = self.shard.index, lost, "timer messages were gone before they were due");
        }
        let done: Vec<_> = entries.iter().filter(|entry| !self.kept.contains(entry)).copied().collect();
        self.wheel.timeline.done(&done);
        self.wheel.dequeued.set(self.wheel.dequeued.get() + found as u64);
        Ok(())
    }

    async fn deliver_one(
        &mut self,
        record: &RecordRef<'_>,
        entries: &[TimelineEntry],
    ) -> Result<(), Stopping> {
        let properties = record.properties();
        let code = DueCode(record.prepared_transaction_offset());
        let (Some(topic), Some(queue)) =
            (properties.find("REAL_TOPIC"), properties.find("REAL_QID").and_then(|id| id.parse().ok()))
        else {
            tracing::warn!(offset = record.queue_offset(), "a timer message without its topic is dropped");
            return Ok(());
        };
        if code.due_ms() > self.now_ms {
            return self.roll(record, code).await;
        }
        if let Some(key) = properties.find("TIMER_DEL_UNIQKEY") {
            let entry = entries.iter().find(|entry| entry.offset == record.queue_offset());
            let until_ms = code.due_ms() + self.shard.settings.timer.precision_ms;
            if let Some(&entry) = entry
                && self.wheel.recalled.borrow_mut().add(key.to_owned(), until_ms, entry)
            {
                self.kept.push(entry);
            } else {
                tracing::warn!(key, "too many messages are recalled at once; this one will be delivered");
            }
            return Ok(());
        }
        if properties
            .find(name::UNIQ_KEY)
            .is_some_and(|key| self.wheel.recalled.borrow().contains(topic, key))
        {
            return Ok(());
        }
        self.shard.timer.counts.borrow_mut().add(topic, -1, self.now_ms);
        if self.shard.ownership.owner(topic, queue) == self.shard.index {
            let added = [
                ("TIMER_ENQUEUE_MS", record.store_timestamp().to_string()),
                ("TIMER_DEQUEUE_MS", self.now_ms.to_string()),
            ];
            self.append(record, topic, queue, 0, &added).await
        } else {
            self.send(record, topic, queue);
            Ok(())
        }
    }

    /// Stores a message that waits on before its segment expires.
    async fn roll(&mut self, record: &RecordRef<'_>, code: DueCode) -> Result<(), Stopping> {
        let times = record.properties().find("TIMER_ROLL_TIMES").and_then(|times| times.parse().ok());
        let added = [
            ("TIMER_ROLL_TIMES", times.map_or(1, |times: i32| times.saturating_add(1)).to_string()),
            ("TIMER_ENQUEUE_MS", record.store_timestamp().to_string()),
            ("TIMER_DEQUEUE_MS", self.now_ms.to_string()),
        ];
        self.append(record, topic_name::TIMER, self.wheel.queue.id, code.0, &added).await
    }

    /// Appends a copy to a queue of this shard. Tries until that succeeds; a topic that is gone takes its messages
    /// along.
    async fn append(
        &mut self,
        record: &RecordRef<'_>,
        topic: &str,
        queue: i32,
        code: i64,
        added: &[(&str, String)],
    ) -> Result<(), Stopping> {
        self.properties.clear();
        for (key, value) in record.properties().iter() {
            if added.iter().all(|(name, _)| name.as_bytes() != key) {
                self.properties.extend_from_slice(key);
                self.properties.push(NAME_VALUE_SEPARATOR);
                self.properties.extend_from_slice(value);
                self.properties.push(PROPERTY_SEPARATOR);
            }
        }
        for (key, value) in added {
            push_property(&mut self.properties, key, value);
        }
        let filter_code = super::index_code(topic, code);
        let draft = Draft {
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: code,
            properties: &self.properties,
            filter_code: filter_code.unwrap_or_else(|| tags_code(record.properties().find(name::TAGS))),
            body: record.body(),
        };
        loop {
            match append_now(self.shard, topic, queue, &draft) {
                Ok(end) => {
                    self.appended = Some(end);
                    self.appended_bytes += record.total_len();
                    return Ok(());
                }
                Err(refusal) if is_final(&refusal.code) => {
                    tracing::warn!(topic, remark = %refusal.remark, "a timer message is dropped");
                    return Ok(());
                }
                Err(_) if self.shard.is_draining() => return Err(Stopping),
                Err(refusal) if refusal.code == ResponseCode::SYSTEM_BUSY => {
                    executor::sleep(BUSY_PAUSE).await
                }
                Err(refusal) => {
                    tracing::warn!(topic, remark = %refusal.remark, "a timer message cannot be delivered yet");
                    executor::sleep(RETRY).await;
                }
            }
        }
    }

    /// Hands a copy to the shard that owns the queue.
    fn send(&mut self, record: &RecordRef<'_>, topic: &str, queue: i32) {
        let mut message = Message::of_record(record);
        message.set_property("TIMER_ENQUEUE_MS", &record.store_timestamp().to_string());
        message.set_property("TIMER_DEQUEUE_MS", &self.now_ms.to_string());
        message.topic = topic.to_owned();
        message.queue = queue;
        message.prepared_transaction_offset = 0;
        let delivery = Oneshot::new();
        let (shard, done) = (Rc::clone(self.shard), Rc::clone(&delivery));
        self.appended_bytes += record.total_len();
        self.elsewhere.push(delivery);
        executor::spawn_reader(async move {
            store_elsewhere(&shard, message).await;
            done.set(());
        });
    }

    /// Waits until everything so far is acknowledged.
    async fn settle(&mut self) -> Result<(), Stopping> {
        for delivery in self.elsewhere.drain(..) {
            delivery.take().await;
        }
        self.appended_bytes = 0;
        match self.appended.take() {
            None => Ok(()),
            Some(end) => match self.shard.acknowledged(end).await {
                Completion::Acknowledged => Ok(()),
                Completion::Failed => {
                    // The log stopped: nothing will be delivered until a restart.
                    executor::sleep(RETRY).await;
                    Err(Stopping)
                }
            },
        }
    }
}

fn append_now(shard: &Shard, topic: &str, queue: i32, draft: &Draft<'_>) -> Result<LogPosition, Refusal> {
    let Some(topic) = shard.metadata.topic(topic) else {
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, "the topic does not exist any more"));
    };
    store::check_queue(&topic.name, queue)?;
    let queue = shard.queue(&topic, queue);
    store::check_size(&shard.settings, draft, 0)?;
    let _state = StateGuard::enter();
    Ok(store::append(shard, &topic, &queue, draft)?.end)
}

fn is_final(code: &ResponseCode) -> bool {
    [ResponseCode::TOPIC_NOT_EXIST, ResponseCode::MESSAGE_ILLEGAL, ResponseCode::INVALID_PARAMETER]
        .contains(code)
}

async fn store_elsewhere(shard: &Rc<Shard>, message: Message) {
    loop {
        match store::store_now(shard, message.clone()).await {
            StoreOutcome::Stored { .. } => return,
            StoreOutcome::Refused { remark, code } if is_final(&code) => {
                tracing::warn!(topic = message.topic, remark, "a timer message is dropped");
                return;
            }
            StoreOutcome::Refused { remark, .. } => {
                tracing::warn!(topic = message.topic, remark, "a timer message cannot be delivered yet");
                executor::sleep(RETRY).await;
            }
        }
    }
}
