//! A pop at one queue of this shard: where the group stands, what it gets, and the checkpoint for that.

use std::rc::Rc;

use rmq_engine::{CachedRead, QueueNumber, QueueOffset, Read, ReadLimits};
use rmq_protocol::properties::{PropertiesSource, name};
use rmq_protocol::record::{self, RecordFields, RecordRef};
use rmq_protocol::text::Text;

use super::checkpoint::Checkpoint;
use super::names::Source;
use super::order::{OrderAck, OrderRecord};
use super::queue::PopQueue;
use super::receipt::{Popped, Receipt};
use super::request::{Place, PopRequest, Portion, Purpose};
use super::{revive_log, watches};
use crate::broker::consumer_offsets::Pulled;
use crate::broker::filter::{self, Filter};
use crate::broker::message::Message;
use crate::broker::metadata::Queue;
use crate::broker::store;
use crate::control::names::RETRY_PREFIX;
use crate::limits::POP_ANSWER_BYTES;
use crate::shard::{Shard, count};

/// Index entries looked at in one queue.
const SCAN_MAX: u32 = 800;

/// Pops from one queue after the other until there is no more room.
pub async fn visit(
    shard: &Rc<Shard>,
    request: &PopRequest,
    filter: &Filter,
    places: &[Place],
    room: u32,
) -> Portion {
    let mut portion = Portion::default();
    for &place in places {
        let left = if portion.records.len() < POP_ANSWER_BYTES { room - portion.messages } else { 0 };
        visit_place(shard, request, filter, place, left, &mut portion).await;
    }
    portion
}

/// A queue as one pop sees it.
struct At<'a> {
    request: &'a PopRequest,
    filter: &'a Filter,
    place: Place,
    queue: Rc<Queue>,
    number: QueueNumber,
    /// Not needed by those who only look.
    group: Option<Rc<PopQueue>>,
}

async fn visit_place(
    shard: &Rc<Shard>,
    request: &PopRequest,
    filter: &Filter,
    place: Place,
    room: u32,
    portion: &mut Portion,
) {
    let name = place.source.topic(&request.group, &request.topic);
    let Some(topic) = shard.metadata.topic(&name) else { return };
    if !(0..topic.config().read_queue_nums).contains(&place.queue) {
        return;
    }
    let queue = shard.queue(&topic, place.queue);
    if request.purpose != Purpose::Pop {
        return look(
            shard,
            At { request, filter, place, number: QueueNumber(0), queue, group: None },
            room,
            portion,
        )
        .await;
    }
    let known = shard.pop.queues.get(&request.group, &name, place.queue);
    let Some(begin) = begin(shard, &known, &queue, request.from_newest) else {
        portion.failed = true;
        return;
    };
    let Some(number) = queue.number() else { return };
    let backlog = |from: i64| (shard.engine.max_offset(number).0 - from).max(0);
    if known.is_busy.get() || is_over_threshold(shard, &known) {
        if request.order.is_none() || !known.is_busy.get() {
            portion.rest += backlog(begin);
        }
        return;
    }
    let reset = shard.offsets.borrow_mut().take_reset(&request.group, &name, place.queue);
    let begin = reset.unwrap_or(begin);
    if let Some(attempt) = &request.order {
        let now_ms = store::wall_clock_ms();
        if known.order.borrow().as_ref().is_some_and(|record| record.blocks(attempt, now_ms)) {
            return;
        }
    } else if shard.pop.is_full() {
        return;
    }
    if room == 0 {
        portion.rest += backlog(begin);
        return;
    }
    let at = At { request, filter, place, queue, number, group: Some(known) };
    pop(shard, &at, begin, room, portion).await;
}

/// Where the group stands; the first pop decides, and commits, where it begins. `None`: the broker keeps no more
/// offsets.
fn begin(shard: &Shard, known: &PopQueue, queue: &Queue, from_newest: bool) -> Option<i64> {
    let mut offsets = shard.offsets.borrow_mut();
    if let Some(committed) = offsets.committed(&known.group, &known.topic, known.id) {
        return Some(known.begin(committed));
    }
    let (min, max) = bounds(shard, queue);
    let begin = if !from_newest || known.topic.starts_with(RETRY_PREFIX) {
        min
    } else {
        let (first, end) = shard.engine.physical_bounds();
        let in_memory = max > 0 && end.0 - first.0 <= shard.settings.read.memory_bytes;
        if shard.settings.pop.init_by_memory && min <= 0 && in_memory { 0 } else { (max - 1).max(0) }
    };
    use crate::broker::consumer_offsets::Commit;
    let committed = offsets.commit(&known.group, &known.topic, known.id, begin);
    (committed != Commit::TableFull).then(|| known.begin(begin))
}

fn bounds(shard: &Shard, queue: &Queue) -> (i64, i64) {
    let number = queue.number();
    number.map_or((0, 0), |number| (shard.engine.min_offset(number).0, shard.engine.max_offset(number).0))
}

fn is_over_threshold(shard: &Shard, known: &PopQueue) -> bool {
    shard.settings.pop.in_flight_max.is_some_and(|max| known.in_flight.get() > max)
}

/// Whether a pop would find something now.
pub fn has_messages(shard: &Shard, group: &str, queue: &Queue, is_ordered: bool) -> bool {
    let (min, max) = bounds(shard, queue);
    let committed = shard.offsets.borrow().committed(group, &queue.topic, queue.id).unwrap_or(min);
    let Some(known) = shard.pop.queues.known(group, &queue.topic, queue.id) else { return max > committed };
    if max <= known.begin(committed) || known.is_busy.get() || is_over_threshold(shard, &known) {
        return false;
    }
    if is_ordered {
        let now_ms = store::wall_clock_ms();
        return !known.order.borrow().as_ref().is_some_and(|record| record.blocks("", now_ms));
    }
    !shard.pop.is_full()
}

fn limits(filter: &Filter, messages_max: u32, shard: &Shard) -> ReadLimits {
    let bytes_max = shard.settings.read.hot_bytes_max;
    let scan_max = match filter {
        Filter::Sql92(expression) => filter::scan_max(expression, SCAN_MAX),
        _ => SCAN_MAX,
    };
    ReadLimits {
        messages_max,
        bytes_max,
        scan_max,
        cold_messages_max: messages_max,
        cold_bytes_max: bytes_max,
    }
}

enum Found {
    Records(QueueOffset),
    /// Nothing that is wanted before this offset.
    Nothing(i64),
    /// The group's offset lies outside of the queue.
    Outside(i64),
    Failed,
}

fn found(read: Read, from: i64) -> Found {
    match read {
        Read::Found { next, .. } => Found::Records(next),
        Read::NoneMatched { next } | Read::Removed { next } => Found::Nothing(next.0),
        Read::AtEnd | Read::NoSuchQueue => Found::Nothing(from),
        Read::TooSmall { min } => Found::Outside(min.0),
        Read::TooLarge { max } => Found::Outside(max.0),
    }
}

/// From memory at once, else from disk; appends to `out`.
async fn read(shard: &Rc<Shard>, at: &At<'_>, from: i64, limits: ReadLimits, out: &mut Vec<u8>) -> Found {
    let begin = QueueOffset(from);
    let cached = match at.filter {
        Filter::Sql92(expression) => {
            let accepts = |record: &[u8]| filter::accepts(expression, record);
            shard.engine.read_cached_where(at.number, begin, &limits, accepts, out)
        }
        tags => shard.engine.read_cached(at.number, begin, &limits, |code| tags.may_match(code), out),
    };
    if let CachedRead::Done(read) = cached {
        return found(read, from);
    }
    let _busy = at.group.as_ref().map(|group| Busy::new(shard, group));
    let engine = Rc::clone(&shard.engine);
    let read = match at.filter.clone() {
        Filter::Sql92(expression) => {
            let accepts = move |record: &[u8]| filter::accepts(&expression, record);
            engine.read_where(at.number, begin, limits, accepts).await
        }
        tags => engine.read(at.number, begin, limits, move |code| tags.may_match(code)).await,
    };
    match read {
        Ok((read, records)) => {
            out.extend_from_slice(&records);
            found(read, from)
        }
        Err(error) => {
            tracing::error!(topic = &*at.queue.topic, queue = at.queue.id, %error, "cannot read for a pop");
            Found::Failed
        }
    }
}

/// Others pass the queue by while it is read from disk, and are told when that is over.
struct Busy<'a> {
    shard: &'a Rc<Shard>,
    group: Rc<PopQueue>,
}

impl<'a> Busy<'a> {
    fn new(shard: &'a Rc<Shard>, group: &Rc<PopQueue>) -> Self {
        group.is_busy.set(true);
        Self { shard, group: Rc::clone(group) }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.group.is_busy.set(false);
        watches::freed(self.shard, &self.group.topic, self.group.id);
    }
}

async fn pop(shard: &Rc<Shard>, at: &At<'_>, begin: i64, room: u32, portion: &mut Portion) {
    let Some(group) = &at.group else { return };
    let limits = limits(at.filter, room, shard);
    let mut records = shard.scratch.records.take();
    records.clear();
    let mut start = begin;
    let mut result = read(shard, at, start, limits, &mut records).await;
    if let Found::Outside(corrected) = result {
        shard.offsets.borrow_mut().commit(&group.group, &group.topic, group.id, corrected);
        group.rewound();
        start = corrected;
        result = read(shard, at, start, limits, &mut records).await;
    }
    let next = match result {
        Found::Records(next) if hand_out(shard, at, group, start, next.0, &records, portion) => next.0,
        Found::Records(_) | Found::Failed => {
            portion.failed = true;
            start
        }
        Found::Nothing(next) | Found::Outside(next) => {
            if next > start {
                shard.pop.handed_out(shard, group, next, shard.engine.appended());
            }
            next
        }
    };
    *shard.scratch.records.borrow_mut() = records;
    portion.rest += (shard.engine.max_offset(at.number).0 - next).max(0);
}

/// Writes down what leaves, then adds it. False: it could not be written down, and so does not leave.
fn hand_out(
    shard: &Rc<Shard>,
    at: &At<'_>,
    group: &Rc<PopQueue>,
    start: i64,
    next: i64,
    records: &[u8],
    portion: &mut Portion,
) -> bool {
    let request = at.request;
    let offsets: Vec<i64> =
        record::records(records).map_while(Result::ok).map(|record| record.queue_offset()).collect();
    if offsets.is_empty() {
        return false;
    }
    let mut counts = Vec::new();
    if let Some(attempt) = &request.order {
        let mut record = group.order.borrow_mut();
        let (batch, again) =
            OrderRecord::new(record.as_ref(), request.pop_time, request.invisible_ms, attempt, &offsets);
        *record = Some(batch);
        counts = again;
        drop(record);
        shard.offsets.borrow_mut().commit(&group.group, &group.topic, group.id, start);
        watch_order(shard, group);
    } else {
        let checkpoint = Checkpoint::new(
            Rc::clone(group),
            start,
            request.pop_time,
            request.invisible_ms,
            offsets.iter().copied(),
        );
        match revive_log::open(shard, checkpoint, true) {
            Ok(end) => {
                shard.pop.handed_out(shard, group, next, end);
                portion.end = portion.end.max(Some(end));
            }
            Err(refusal) => {
                tracing::warn!(group = &*group.group, remark = %refusal.remark, "a pop cannot be written down");
                return false;
            }
        }
    }
    let before = portion.records.len();
    let is_rewritten = at.place.source != Source::Normal && !shard.settings.pop.tells_retry_topic;
    if is_rewritten {
        let receipt = Receipt {
            start,
            pop_time: request.pop_time,
            invisible_ms: request.invisible_ms,
            revive_queue: request.revive_queue,
        };
        for record in record::records(records).map_while(Result::ok) {
            let text = receipt.text(
                at.place.source,
                &shard.settings.broker_name,
                at.place.queue,
                record.queue_offset(),
            );
            push_renamed(&mut portion.records, &record, &request.topic, &text);
        }
    } else {
        portion.records.extend_from_slice(records);
    }
    count(&shard.counters.messages_got, offsets.len() as u64);
    let bytes = (portion.records.len() - before) as u64;
    count(&shard.counters.bytes_got, bytes);
    let pulled = Pulled { next, messages: offsets.len() as u64, bytes, subscribes: true };
    shard.offsets.borrow_mut().pulled(&group.group, &group.topic, group.id, pulled);
    portion.messages += offsets.len() as u32;
    let (source, queue) = (at.place.source, at.place.queue);
    portion.popped.push(Popped { source, queue, start, offsets, counts });
    true
}

/// A message of a retry topic as its consumers see it: of the topic they asked for, with its receipt.
fn push_renamed(out: &mut Vec<u8>, record: &RecordRef<'_>, topic: &str, receipt: &str) {
    let mut message = Message::of_record(record);
    if message.property(name::POP_CK).is_none() {
        message.set_property(name::POP_CK, receipt);
    }
    let fields = RecordFields {
        topic,
        properties: PropertiesSource::client(Text::plain(&message.properties)),
        ..record.fields()
    };
    let at = out.len();
    out.resize(at + fields.encoded_len(), 0);
    let renamed = &mut out[at..];
    fields.encode_into(renamed);
    record::stamp(renamed, record.queue_offset(), record.physical_offset(), record.store_timestamp());
}

/// Whoever waits for the queue is told when its batch ends without being acknowledged.
pub fn watch_order(shard: &Shard, group: &Rc<PopQueue>) {
    let until = group.order.borrow().as_ref().and_then(|record| record.blocked_until(i64::MIN));
    if let (Some(until), true) = (until, shard.settings.pop.wakes_after_order) {
        let id = shard.random();
        let mut ends = shard.pop.order_ends.borrow_mut();
        if ends.is_empty() {
            shard.pop.work.notify();
        }
        ends.insert((until, id), Rc::clone(group));
    }
}

/// The error is a remark.
pub fn ack_ordered(shard: &Shard, group: &Rc<PopQueue>, offset: i64, pop_time: i64) -> Result<(), String> {
    let committed = shard.offsets.borrow().committed(&group.group, &group.topic, group.id).unwrap_or(-1);
    if offset < committed {
        return Ok(());
    }
    let outcome = match &mut *group.order.borrow_mut() {
        Some(record) => record.ack(offset, pop_time),
        // Of a batch from before the restart. Java would go on behind it, and lose what is in front.
        None => OrderAck::Ignored,
    };
    match outcome {
        OrderAck::Ignored => Ok(()),
        OrderAck::Unknown => Err(format!(
            "offset is illegal, key:{}@{}@{}, old:{committed}, commit:{offset}, next:-1",
            group.topic, group.group, group.id
        )),
        OrderAck::Next(next) => {
            shard.offsets.borrow_mut().commit(&group.group, &group.topic, group.id, next);
            let now_ms = store::wall_clock_ms();
            if !group.order.borrow().as_ref().is_some_and(|record| record.blocks("", now_ms)) {
                watches::freed(shard, &group.topic, group.id);
            }
            Ok(())
        }
    }
}

/// Counts what is there, and shows it to a peek.
async fn look(shard: &Rc<Shard>, mut at: At<'_>, room: u32, portion: &mut Portion) {
    let Some(number) = at.queue.number() else { return };
    at.number = number;
    let (min, max) = bounds(shard, &at.queue);
    let (group, topic) = (&at.request.group, &at.queue.topic);
    let known = shard.pop.queues.known(group, topic, at.queue.id);
    if let (Some(attempt), Some(known)) = (&at.request.order, &known) {
        let now_ms = store::wall_clock_ms();
        if known.order.borrow().as_ref().is_some_and(|record| record.blocks(attempt, now_ms)) {
            return;
        }
    }
    let committed = shard.offsets.borrow().committed(group, topic, at.queue.id).unwrap_or(min);
    let begin = known.map_or(committed, |known| known.begin(committed));
    portion.rest += (max - begin).max(0);
    if at.request.purpose != Purpose::Peek || room == 0 {
        return;
    }
    let limits = limits(at.filter, room, shard);
    let mut records = Vec::new();
    let mut result = read(shard, &at, begin, limits, &mut records).await;
    if let Found::Outside(corrected) = result {
        result = read(shard, &at, corrected, limits, &mut records).await;
    }
    if let Found::Records(_) = result {
        portion.messages += record::records(&records).map_while(Result::ok).count() as u32;
        portion.records.extend_from_slice(&records);
    }
}
