//! Asking producers what became of their transactions, every `transactionCheckInterval`.
//!
//! A pass walks each half queue from where the last one stopped, over what has not ended. What is old enough is
//! stored again behind everything, and one producer of its group is asked about the copy; what was asked about too
//! often is set aside. The first half message that is too young ends the pass: those behind it are younger still.

use std::rc::Rc;

use rmq_engine::{LogPosition, QueueNumber};
use rmq_protocol::header::Codec;
use rmq_protocol::message_id::{MESSAGE_ID_LEN_MAX, MessageId};
use rmq_protocol::properties::name;
use rmq_protocol::record;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::writer::FrameWriter;
use tokio::sync::oneshot;

use super::half::Half;
use super::op::{self, Op};
use super::outcomes::{Fate, Outcome};
use super::reading::read_on;
use super::{CHECK_GROUP, HalfQueue};
use crate::broker::group_commit::Completion;
use crate::broker::message::{Message, StoreOutcome};
use crate::broker::refusal::Refusal;
use crate::broker::store::{self, Draft, Place, Stored};
use crate::broker::{retry, topic_name};
use crate::control::link::{ToControl, TopicRequest, TransactionCheck};
use crate::control::names::{HALF_OP_TOPIC, HALF_TOPIC};
use crate::handler::StateGuard;
use crate::limits::CHECKS_AT_ONCE;
use crate::net::executor;
use crate::shard::{Shard, count};

/// A pass ends after this long, as Java's; the next one goes on where it stopped.
const PASS_MS: i64 = 60_000;

/// Runs as long as the shard.
pub async fn run(shard: Rc<Shard>) {
    while !shard.is_draining() {
        executor::sleep(shard.settings.transactions.check_interval).await;
        for queue in shard.transactions.queues() {
            if let Err(why) = pass(&shard, &queue).await {
                tracing::warn!(queue = queue.id, why, "a check of transactions stopped; the next goes on");
            }
        }
    }
}

pub fn age_ms(half: Half<'_>) -> i64 {
    store::wall_clock_ms().saturating_sub(half.record.born_timestamp())
}

/// What a pass does about one half message.
enum Step {
    Ended,
    SetAside,
    /// Stored again, so that the pass can go on. A producer that wants to be left alone for longer is not asked.
    Renew {
        ask: bool,
    },
    /// Too young, and so is what follows.
    Stop,
}

async fn pass(shard: &Rc<Shard>, queue: &HalfQueue) -> Result<(), String> {
    let places = queue.places(shard).map_err(remark)?;
    let Some(number) = places.half.number() else { return Ok(()) };
    let committed = shard.offsets.borrow().committed(CHECK_GROUP, HALF_TOPIC, queue.id);
    // A tool may have set it to anything.
    let (min, max) = (shard.engine.min_offset(number).0, shard.engine.max_offset(number).0);
    let mut next = committed.unwrap_or(0).clamp(min, max);
    // Copies that were stored count as checked, whatever ended the walk.
    let walked = walk(shard, queue, number, &mut next).await;
    advance(shard, queue, number, next).await?;
    walked
}

async fn walk(
    shard: &Rc<Shard>,
    queue: &HalfQueue,
    number: QueueNumber,
    next: &mut i64,
) -> Result<(), String> {
    let began_ms = store::wall_clock_ms();
    while !shard.is_draining() && store::wall_clock_ms() - began_ms < PASS_MS {
        let end = shard.engine.max_offset(number).0;
        *next = queue.outcomes.borrow().next_open(*next, end);
        if *next >= end {
            break;
        }
        let run = queue.outcomes.borrow().open_run(*next, CHECKS_AT_ONCE);
        let (records, after) =
            read_on(&shard.engine, number, *next, run).await.map_err(|error| error.to_string())?;
        if after == *next {
            break;
        }
        let batch = Batch::gather(shard, queue, &records, began_ms);
        let stops_at = batch.stops_at;
        batch.carry_out(shard, queue, next).await?;
        if let Some(offset) = stops_at {
            *next = offset;
            break;
        }
        *next = after;
        // A queue full of ended copies must not hold up the sends.
        executor::yield_now().await;
    }
    Ok(())
}

/// Everything before `next` has been looked at. What need not be remembered for it any more is forgotten, once the op
/// queue says so too.
async fn advance(shard: &Rc<Shard>, queue: &HalfQueue, number: QueueNumber, next: i64) -> Result<(), String> {
    let commit = |topic: &str, offset: i64| {
        let mut offsets = shard.offsets.borrow_mut();
        // Java's broker shows nothing of a queue that it has never got ahead in.
        if offsets.committed(CHECK_GROUP, topic, queue.id).unwrap_or(0) != offset {
            offsets.commit(CHECK_GROUP, topic, queue.id, offset);
        }
    };
    commit(HALF_TOPIC, next);
    let end = shard.engine.next_offset(number).0;
    let oldest_open = queue.progress.borrow_mut().passed(next, end);
    if !queue.outcomes.borrow_mut().forget_below(oldest_open) {
        return Ok(());
    }
    let low = {
        let _state = StateGuard::enter();
        let places = queue.places(shard).map_err(remark)?;
        let text = Op::Low { below: queue.outcomes.borrow().base() }.text();
        let op = text.draft(op::DONE, shard.settings.store_host);
        store::append(shard, &places.op_topic, &places.op, &op).map_err(remark)?
    };
    acknowledged(shard, low.end).await?;
    let first_op = queue.outcomes.borrow().first_op().unwrap_or(low.queue_offset);
    commit(HALF_OP_TOPIC, first_op.min(low.queue_offset));
    Ok(())
}

fn remark(refusal: Refusal) -> String {
    refusal.remark.into_owned()
}

async fn acknowledged(shard: &Rc<Shard>, end: LogPosition) -> Result<(), String> {
    match shard.acknowledged(end).await {
        Completion::Acknowledged => Ok(()),
        Completion::Failed => Err("the commit log stopped".to_owned()),
    }
}

/// What one read of a half queue leads to.
struct Batch {
    renewals: Vec<Renewal>,
    /// Origin and message.
    set_aside: Vec<(i64, Message)>,
    /// The half message at which the pass ends.
    stops_at: Option<i64>,
}

struct Renewal {
    offset: i64,
    origin: i64,
    ask: bool,
    message: Message,
}

impl Batch {
    fn gather(shard: &Shard, queue: &HalfQueue, records: &[u8], began_ms: i64) -> Self {
        let mut batch = Self { renewals: Vec::new(), set_aside: Vec::new(), stops_at: None };
        for record in record::records(records).map_while(Result::ok) {
            let half = Half { record };
            let (offset, origin) = (record.queue_offset(), half.origin());
            match step(shard, queue, half, began_ms) {
                Step::Ended => {}
                Step::SetAside => batch.set_aside.push((origin, set_aside(half))),
                Step::Renew { ask } => {
                    batch.renewals.push(Renewal { offset, origin, ask, message: half.renewed(ask) });
                }
                Step::Stop => {
                    batch.stops_at = Some(offset);
                    break;
                }
            }
        }
        batch
    }

    /// `next` is left at the first half message for which nothing could be done.
    async fn carry_out(self, shard: &Rc<Shard>, queue: &HalfQueue, next: &mut i64) -> Result<(), String> {
        for (origin, message) in self.set_aside {
            move_aside(shard, queue, origin, message).await?;
        }
        let mut checks = Vec::new();
        let mut end = None;
        let mut outcome = Ok(());
        for renewal in self.renewals {
            // Since the batch was gathered, its producer may have ended it.
            if !is_open(queue, renewal.origin) {
                continue;
            }
            match append_copy(shard, queue, &renewal) {
                Ok(copy) => {
                    *next = renewal.offset + 1;
                    end = Some(copy.end);
                    let check = || check(shard, &renewal.message, &copy);
                    checks.extend(renewal.ask.then(check).flatten());
                }
                Err(refusal) => {
                    outcome = Err(refusal.remark.into_owned());
                    break;
                }
            }
        }
        if let Some(end) = end {
            acknowledged(shard, end).await?;
            ask(shard, checks).await;
        }
        outcome
    }
}

fn step(shard: &Shard, queue: &HalfQueue, half: Half<'_>, began_ms: i64) -> Step {
    let settings = &shard.settings.transactions;
    if !is_open(queue, half.origin()) {
        return Step::Ended;
    }
    let age_ms = age_ms(half);
    let is_old = age_ms > shard.settings.retention.keep.as_millis() as i64;
    if is_old || half.check_times().is_some_and(|times| times >= settings.check_max) {
        return Step::SetAside;
    }
    if half.record.store_timestamp() >= began_ms {
        return Step::Stop;
    }
    match half.immunity_ms(settings.timeout_ms) {
        Some(immunity_ms) if age_ms < immunity_ms => Step::Renew { ask: false },
        None if (0..settings.timeout_ms).contains(&age_ms) => Step::Stop,
        _ => Step::Renew { ask: true },
    }
}

/// What was set aside has an outcome already, unless its producer ends it after all.
fn is_open(queue: &HalfQueue, origin: i64) -> bool {
    queue.outcomes.borrow().fate(origin) == Fate::Open
}

fn set_aside(half: Half<'_>) -> Message {
    let mut message = Message::of_record(&half.record);
    message.topic = topic_name::CHECK_MAX_TIME.to_owned();
    message.queue = 0;
    message
}

/// A crash between the two steps leaves a second message in the topic of those that were set aside.
async fn move_aside(
    shard: &Rc<Shard>,
    queue: &HalfQueue,
    origin: i64,
    message: Message,
) -> Result<(), String> {
    let request = TopicRequest::System { topic: topic_name::CHECK_MAX_TIME.to_owned(), queues: 1 };
    let topic = retry::ensure_topic(shard, request, topic_name::CHECK_MAX_TIME).await;
    topic.map_err(remark)?;
    if let StoreOutcome::Refused { remark, .. } = store::store_now(shard, message).await {
        return Err(remark);
    }
    if !is_open(queue, origin) {
        return Ok(());
    }
    let stored = {
        let _state = StateGuard::enter();
        queue.append_op(shard, origin, Some(Outcome::SetAside), op::DONE)
    };
    count(&shard.counters.transactions_set_aside, 1);
    acknowledged(shard, stored.map_err(remark)?.end).await
}

fn append_copy(shard: &Shard, queue: &HalfQueue, renewal: &Renewal) -> Result<Stored, Refusal> {
    let places = queue.places(shard)?;
    let draft = Draft::of_message(&renewal.message);
    store::check_size(&shard.settings, &draft, 0)?;
    let _state = StateGuard::enter();
    let copy = store::append(shard, &places.half_topic, &places.half, &draft)?;
    queue.progress.borrow_mut().renewed(renewal.origin);
    Ok(copy)
}

/// CHECK_TRANSACTION_STATE for a copy; its producer sees the message at its real place.
fn check(shard: &Shard, message: &Message, copy: &Stored) -> Option<TransactionCheck> {
    let group = message.property(name::PRODUCER_GROUP)?.to_owned();
    let queue = message.property(name::REAL_QUEUE_ID)?.parse().ok()?;
    let draft = Draft::of_message(message);
    let fields = store::fields(shard, &Place::named(message.property(name::REAL_TOPIC)?, queue), &draft);
    let mut record = vec![0; fields.encoded_len()];
    fields.encode_into(&mut record);
    let (offset, at) = (copy.queue_offset, copy.physical_offset);
    record::stamp(&mut record, offset, at, store::wall_clock_ms());

    let mut text = [0; MESSAGE_ID_LEN_MAX];
    let offset_id = MessageId::new(shard.settings.store_host, at).write(&mut text);
    let unique_key = message.property(name::UNIQ_KEY).unwrap_or_default();
    let mut frame = Vec::new();
    // JSON, whatever the producer speaks: every client reads it. One-way, so the opaque matters to nobody.
    FrameWriter::request(&mut frame, Codec::Json, RequestCode::CHECK_TRANSACTION_STATE, 0, true)
        .field("topic", HALF_TOPIC)
        .field_int("tranStateTableOffset", offset)
        .field_int("commitLogOffset", at)
        .field("msgId", unique_key)
        .field("transactionId", unique_key)
        .field("offsetMsgId", offset_id)
        .field("bname", &shard.settings.broker_name)
        .body(&record);
    Some(TransactionCheck { group, frame })
}

/// Returns when the checks are on their way to the connections, so that one batch at a time is.
async fn ask(shard: &Shard, checks: Vec<TransactionCheck>) {
    if checks.is_empty() {
        return;
    }
    count(&shard.counters.transactions_checked, checks.len() as u64);
    let (reply, sent) = oneshot::channel();
    let reply = Box::new(move |()| {
        let _ = reply.send(());
    });
    shard.control.tell(ToControl::CheckTransactions { checks, reply });
    // A control thread that is gone asks nobody any more.
    let _ = sent.await;
}
