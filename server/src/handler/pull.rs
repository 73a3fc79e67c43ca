//! PULL_MESSAGE (11) and LITE_PULL_MESSAGE (361), with long polling.

use std::rc::Rc;

use rmq_engine::{CachedRead, QueueNumber, QueueOffset, Read, ReadLimits};
use rmq_protocol::frame::Frame;
use rmq_protocol::headers::PullMessageHeader;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::sys_flag::pull::{COMMIT_OFFSET, SUBSCRIPTION, SUSPEND};
use rmq_protocol::tag::java_hash;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, StateGuard, await_group, elsewhere, text};
use crate::answers::ReplyTo;
use crate::broker::consumer_offsets::Pulled;
use crate::broker::filter::{self, Filter};
use crate::broker::long_poll::{HeldPull, Waiting};
use crate::broker::metadata::Queue;
use crate::broker::refusal::{Forbidden, Refusal};
use crate::control::link::{MessageModel, SubscriptionGroupConfig};
use crate::limits;
use crate::net::executor;
use crate::settings::PERM_READ;
use crate::shard::{Shard, count};

/// Index entries looked at in one pull; a filter that matches little goes on with the next.
const SCAN_MAX: u32 = 800;

/// A pull that passed every check.
struct Pull {
    to: ReplyTo,
    group: Rc<str>,
    queue: Rc<Queue>,
    from: i64,
    messages_max: u32,
    filter: Filter,
    /// The filter is the request's own, not that of a heartbeat.
    subscribes: bool,
    topic_sys_flag: i32,
    group_sys_flag: i32,
    /// How long the client lets the broker hold the pull; `None`: answer now.
    hold_ms: Option<u64>,
    /// The request was counted as deferred when it came.
    deferred: bool,
}

pub fn pull(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let header = PullMessageHeader::decode(&frame.header.fields)?;
    let topic_name = text(header.topic);
    let group_name = text(header.consumer_group);
    if origin.local.is_some()
        && shard.metadata.group(&group_name).is_none()
        && await_group(shard, origin, &group_name)
    {
        return Ok(Handled::Stalled);
    }
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic_name, header.queue_id) {
        return Ok(handled);
    }
    let to = ReplyTo::of(origin.connection, &frame.header);
    let pull = check(shard, origin, frame, &header, to, false)?;
    if header.sys_flag & COMMIT_OFFSET != 0 {
        let offset = header.commit_offset.ok_or_else(|| Refusal::missing("commitOffset"))?;
        shard.offsets.borrow_mut().commit(&group_name, &topic_name, header.queue_id, offset);
    }
    run(shard, pull, origin.raw);
    Ok(Handled::Done)
}

/// A held pull again: messages arrived for it or its time is up. It is answered now.
pub fn again(shard: &Rc<Shard>, held: &HeldPull) {
    let Ok(Some((frame, _))) = Frame::decode(&held.frame) else { return };
    let answer = |refusal: &Refusal| {
        shard.answers.later(&held.to, |out| super::write_refusal(out, &held.to, refusal));
    };
    let header = match PullMessageHeader::decode(&frame.header.fields) {
        Ok(header) => header,
        Err(error) => return answer(&error.into()),
    };
    let origin = Origin {
        connection: held.to.connection,
        peer: std::net::SocketAddr::from(([0, 0, 0, 0], 0)),
        vip: false,
        local: None,
        raw: &held.frame,
    };
    match check(shard, &origin, &frame, &header, held.to, true) {
        Ok(mut pull) => {
            pull.hold_ms = None;
            run(shard, pull, &held.frame);
        }
        Err(refusal) => answer(&refusal),
    }
}

/// The checks of Java's pull processor, in its order.
fn check(
    shard: &Rc<Shard>,
    origin: &Origin<'_>,
    frame: &Frame<'_>,
    header: &PullMessageHeader<'_>,
    to: ReplyTo,
    deferred: bool,
) -> Result<Pull, Refusal> {
    let settings = &shard.settings;
    if settings.broker_permission & PERM_READ == 0 {
        let remark = format!("the broker[{}] pulling message is forbidden", settings.store_host.ip());
        return Err(Refusal::forbidden(Forbidden::Broker, remark));
    }
    if RequestCode(frame.header.code) == RequestCode::LITE_PULL_MESSAGE && !settings.lite_pull {
        let remark = format!("the broker[{}] for lite pull consumer is forbidden", settings.store_host.ip());
        return Err(Refusal::forbidden(Forbidden::Broker, remark));
    }
    let group_name = text(header.consumer_group);
    let Some(group) = shard.metadata.group(&group_name) else {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group [{group_name}] does not exist"),
        ));
    };
    if !group.consume_enable {
        let remark = format!("subscription group no permission, {group_name}");
        return Err(Refusal::forbidden(Forbidden::Group, remark));
    }
    let topic_name = text(header.topic);
    let Some(topic) = shard.metadata.topic(&topic_name) else {
        return Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{topic_name}] not exist, apply first please!"),
        ));
    };
    let config = topic.config();
    if config.perm & PERM_READ == 0 {
        let remark = format!("the topic[{topic_name}] pulling message is forbidden");
        return Err(Refusal::forbidden(Forbidden::Topic, remark));
    }
    if header.queue_id < 0 || header.queue_id >= config.read_queue_nums {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!(
                "queueId[{}] is illegal, topic:[{}] topicConfig.readQueueNums:[{}] consumer:[{}]",
                header.queue_id, topic_name, config.read_queue_nums, origin.peer
            ),
        ));
    }
    let filter = if header.sys_flag & SUBSCRIPTION != 0 {
        let expression_type = header.expression_type.map(text);
        let expression = header.subscription.map(text);
        own_filter(shard, expression_type.as_deref(), expression.as_deref().unwrap_or(""))?
    } else {
        subscribed_filter(shard, &group, &group_name, &topic_name, header.subscription_version)?
    };
    // Java looks at the time only when there is nothing to answer; who gives none is not held.
    let hold_ms = header.suspend_timeout_ms.filter(|_| header.sys_flag & SUSPEND != 0).map(|asked| {
        if settings.long_polling {
            u64::try_from(asked).unwrap_or(0).min(limits::HOLD_MS_MAX)
        } else {
            settings.short_polling_ms
        }
    });
    Ok(Pull {
        to,
        group: Rc::from(&*group_name),
        queue: shard.queue(&topic, header.queue_id),
        from: header.queue_offset,
        messages_max: u32::try_from(header.messages_max).unwrap_or(0).max(1),
        filter,
        subscribes: header.sys_flag & SUBSCRIPTION != 0,
        topic_sys_flag: config.topic_sys_flag,
        group_sys_flag: group.group_sys_flag,
        hold_ms,
        deferred,
    })
}

/// The subscription that the group's heartbeats declared.
fn subscribed_filter(
    shard: &Shard,
    group: &SubscriptionGroupConfig,
    group_name: &str,
    topic_name: &str,
    request_version: Option<i64>,
) -> Result<Filter, Refusal> {
    let not_exist = |remark: &'static str| Refusal::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, remark);
    let Some(known) = shard.metadata.subscriptions(group_name) else {
        return Err(not_exist("the consumer's group info not exist"));
    };
    if !group.consume_broadcast_enable && known.message_model == MessageModel::Broadcasting {
        let remark = format!("the consumer group[{group_name}] can not consume by broadcast way");
        return Err(Refusal::forbidden(Forbidden::Broadcasting, remark));
    }
    if !shard.metadata.may_read(group_name, topic_name) {
        let remark = format!("the consumer group[{group_name}] is forbidden for topic[{topic_name}]");
        return Err(Refusal::forbidden(Forbidden::Subscription, remark));
    }
    let Some(subscription) = known.topics.get(topic_name) else {
        return Err(not_exist("the consumer's subscription not exist"));
    };
    if subscription.version < request_version.ok_or_else(|| Refusal::missing("subVersion"))? {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_NOT_LATEST,
            "the consumer's subscription not latest",
        ));
    }
    if !is_tag(&subscription.expression_type) {
        check_kind(shard, &subscription.expression_type)?;
        return shard.expressions.parse(&subscription.expression).map(Filter::Sql92).map_err(|error| {
            // Java keeps no filter of an expression that it cannot parse, and knows no more here.
            let remark = "The broker's consumer filter data is not exist!Your expression may be wrong!";
            Refusal::new(ResponseCode::FILTER_DATA_NOT_EXIST, format!("{remark} {error}"))
        });
    }
    if subscription.codes.is_empty() {
        return tag_filter(&subscription.expression);
    }
    Ok(Filter::Tags(subscription.codes.iter().map(|&code| i64::from(code)).collect()))
}

fn is_tag(expression_type: &str) -> bool {
    expression_type.is_empty() || expression_type == "TAG"
}

fn no_filter(expression_type: &str) -> Refusal {
    let remark = format!("The broker does not support consumer to filter message by {expression_type}");
    Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
}

/// Kinds other than tags: SQL92, when the broker is set to it.
fn check_kind(shard: &Shard, expression_type: &str) -> Result<(), Refusal> {
    let is_known = shard.settings.property_filter && expression_type == "SQL92";
    if is_known { Ok(()) } else { Err(no_filter(expression_type)) }
}

pub const UNPARSED: &str = "parse the consumer's subscription failed";

/// The subscription that the request itself brings.
fn own_filter(shard: &Shard, expression_type: Option<&str>, expression: &str) -> Result<Filter, Refusal> {
    let Some(kind) = expression_type.filter(|kind| !is_tag(kind)) else { return tag_filter(expression) };
    let unparsed = |remark| Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, remark);
    if expression.is_empty() {
        return Err(unparsed(UNPARSED.to_owned()));
    }
    check_kind(shard, kind)?;
    // Java's broker, run without assertions, delivers everything then; nobody can want that.
    let parsed = shard.expressions.parse(expression);
    parsed.map(Filter::Sql92).map_err(|error| unparsed(format!("{UNPARSED}: {error}")))
}

pub fn tag_filter(expression: &str) -> Result<Filter, Refusal> {
    if expression.is_empty() || expression == "*" {
        return Ok(Filter::All);
    }
    // Java splits at the bars and drops empty pieces at the end; with none left it gives up.
    if expression.split("||").all(str::is_empty) {
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, UNPARSED));
    }
    let tags = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty());
    // Blank tags only are no tag at all: as in Java nothing matches then.
    Ok(Filter::Tags(tags.map(|tag| i64::from(java_hash(tag))).collect()))
}

fn run(shard: &Rc<Shard>, pull: Pull, frame: &[u8]) {
    let _state = StateGuard::enter();
    let reset = {
        let mut offsets = shard.offsets.borrow_mut();
        offsets.take_reset(&pull.group, &pull.queue.topic, pull.queue.id)
    };
    if let Some(target) = reset.filter(|_| shard.settings.server_side_reset) {
        return finish(
            shard,
            &pull,
            Outcome::at(ResponseCode::PULL_OFFSET_MOVED, "OFFSET_RESET", target),
            &[],
        );
    }
    let Some(number) = pull.queue.number() else {
        let code =
            if pull.from == 0 { ResponseCode::PULL_NOT_FOUND } else { ResponseCode::PULL_OFFSET_MOVED };
        let mut nothing = shard.scratch.records.take();
        nothing.clear();
        return conclude(shard, pull, Outcome::at(code, "NO_MESSAGE_IN_QUEUE", 0), nothing, frame);
    };
    let read = &shard.settings.read;
    let mut limits = ReadLimits {
        messages_max: pull.messages_max.min(read.hot_messages_max),
        bytes_max: read.hot_bytes_max,
        scan_max: SCAN_MAX,
        cold_messages_max: pull.messages_max.min(read.cold_messages_max),
        cold_bytes_max: read.cold_bytes_max,
    };
    let from = QueueOffset(pull.from);
    let mut records = shard.scratch.records.take();
    records.clear();
    let cached = match &pull.filter {
        Filter::Sql92(expression) => {
            limits.scan_max = filter::scan_max(expression, SCAN_MAX);
            let accepts = |record: &[u8]| filter::accepts(expression, record);
            shard.engine.read_cached_where(number, from, &limits, accepts, &mut records)
        }
        tags => shard.engine.read_cached(number, from, &limits, |code| tags.may_match(code), &mut records),
    };
    match cached {
        CachedRead::Done(read) => {
            let outcome = outcome(shard, &pull, read);
            conclude(shard, pull, outcome, records, frame);
        }
        CachedRead::Cold => {
            *shard.scratch.records.borrow_mut() = records;
            if is_recent(shard, number, pull.from) {
                limits.cold_messages_max = limits.messages_max;
                limits.cold_bytes_max = limits.bytes_max;
            }
            read_cold(shard, pull, limits, frame);
        }
    }
}

/// Whether Java would find the message in its page cache, and hand out as many as from memory: it lies within
/// 40 % of the host's memory from the log's end. Estimated from how much of the queue is behind it.
fn is_recent(shard: &Shard, number: QueueNumber, from: i64) -> bool {
    let (first, end) = shard.engine.physical_bounds();
    let (min, max) = (shard.engine.min_offset(number).0, shard.engine.max_offset(number).0);
    let share = (max - from) as f64 / (max - min).max(1) as f64;
    (end.0 - first.0) as f64 * share <= shard.settings.read.memory_bytes as f64
}

/// Reads from disk in a task of its own; what the shard has under way is bounded.
fn read_cold(shard: &Rc<Shard>, mut pull: Pull, limits: ReadLimits, frame: &[u8]) {
    if shard.cold_reads.get() >= limits::COLD_READS_WAITING_MAX {
        let busy = Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[REJECTREQUEST]system busy, start flow control for a while: too many reads wait for the disk",
        );
        return write(shard, &pull, |out, to| super::write_refusal(out, to, &busy));
    }
    if !pull.deferred {
        shard.answers.defer(&pull.to);
        pull.deferred = true;
    }
    shard.cold_reads.set(shard.cold_reads.get() + 1);
    let (shard, frame): (_, Box<[u8]>) = (Rc::clone(shard), frame.into());
    executor::spawn_reader(async move {
        cold_read(&shard, pull, limits, &frame).await;
        shard.cold_reads.set(shard.cold_reads.get() - 1);
        shard.flush_soon();
    });
}

async fn cold_read(shard: &Rc<Shard>, pull: Pull, limits: ReadLimits, frame: &[u8]) {
    let Some(number) = pull.queue.number() else {
        // The topic was deleted meanwhile.
        let gone = Outcome::at(ResponseCode::PULL_NOT_FOUND, "NO_MATCHED_LOGIC_QUEUE", 0);
        return finish(shard, &pull, gone, &[]);
    };
    let engine = Rc::clone(&shard.engine);
    let from = QueueOffset(pull.from);
    let read = match pull.filter.clone() {
        Filter::Sql92(expression) => {
            let accepts = move |record: &[u8]| filter::accepts(&expression, record);
            engine.read_where(number, from, limits, accepts).await
        }
        tags => engine.read(number, from, limits, move |code| tags.may_match(code)).await,
    };
    match read {
        Ok((read, records)) => {
            let outcome = outcome(shard, &pull, read);
            conclude(shard, pull, outcome, records, frame);
        }
        Err(error) => {
            tracing::error!(topic = &*pull.queue.topic, queue = pull.queue.id, %error, "cannot read");
            let refusal = Refusal::new(ResponseCode::SYSTEM_ERROR, "store getMessage return null");
            write(shard, &pull, |out, to| super::write_refusal(out, to, &refusal));
        }
    }
}

struct Outcome {
    code: ResponseCode,
    status: &'static str,
    next: i64,
    messages: u64,
}

impl Outcome {
    fn at(code: ResponseCode, status: &'static str, next: i64) -> Self {
        Self { code, status, next, messages: 0 }
    }
}

fn outcome(shard: &Shard, pull: &Pull, read: Read) -> Outcome {
    match read {
        Read::Found { messages, next } => {
            Outcome { code: ResponseCode::SUCCESS, status: "FOUND", next: next.0, messages: messages as u64 }
        }
        Read::NoneMatched { next } => {
            Outcome::at(ResponseCode::PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE", next.0)
        }
        Read::Removed { next } => {
            Outcome::at(ResponseCode::PULL_RETRY_IMMEDIATELY, "MESSAGE_WAS_REMOVING", next.0)
        }
        Read::AtEnd => {
            let empty = pull.queue.number().is_none_or(|number| shard.engine.max_offset(number).0 == 0);
            let status = if empty { "NO_MESSAGE_IN_QUEUE" } else { "OFFSET_OVERFLOW_ONE" };
            Outcome::at(ResponseCode::PULL_NOT_FOUND, status, pull.from)
        }
        Read::NoSuchQueue => Outcome::at(ResponseCode::PULL_NOT_FOUND, "NO_MATCHED_LOGIC_QUEUE", 0),
        Read::TooSmall { min } => Outcome::at(ResponseCode::PULL_OFFSET_MOVED, "OFFSET_TOO_SMALL", min.0),
        Read::TooLarge { max: QueueOffset(0) } => {
            Outcome::at(ResponseCode::PULL_OFFSET_MOVED, "NO_MESSAGE_IN_QUEUE", 0)
        }
        Read::TooLarge { max } => {
            Outcome::at(ResponseCode::PULL_OFFSET_MOVED, "OFFSET_OVERFLOW_BADLY", max.0)
        }
    }
}

/// Holds the pull when it found nothing and may wait; answers it otherwise.
fn conclude(shard: &Rc<Shard>, mut pull: Pull, outcome: Outcome, records: Vec<u8>, frame: &[u8]) {
    // A message may have arrived while a cold read was under way; then the client simply pulls again.
    let at_end = pull.queue.number().is_none_or(|number| shard.engine.max_offset(number).0 <= outcome.next);
    if outcome.code == ResponseCode::PULL_NOT_FOUND
        && at_end
        && let Some(hold_ms) = pull.hold_ms.take()
        && frame.len() <= limits::HELD_FRAME_BYTES_MAX
        && shard.long_polls.hold(
            &pull.queue,
            Waiting {
                to: pull.to,
                from: pull.from,
                frame,
                filter: pull.filter.clone(),
                // The clock shows whole milliseconds, the one that has begun included.
                deadline_ms: shard.now_ms() + hold_ms + 1,
            },
        )
    {
        if !pull.deferred {
            shard.answers.defer(&pull.to);
        }
    } else {
        finish(shard, &pull, outcome, &records);
    }
    *shard.scratch.records.borrow_mut() = records;
}

fn finish(shard: &Rc<Shard>, pull: &Pull, outcome: Outcome, records: &[u8]) {
    let found = outcome.code == ResponseCode::SUCCESS;
    count(if found { &shard.counters.pulls_found } else { &shard.counters.pulls_missed }, 1);
    count(&shard.counters.messages_got, outcome.messages);
    count(&shard.counters.bytes_got, records.len() as u64);
    let pulled = Pulled {
        next: outcome.next,
        messages: outcome.messages,
        bytes: records.len() as u64,
        subscribes: pull.subscribes,
    };
    shard.offsets.borrow_mut().pulled(&pull.group, &pull.queue.topic, pull.queue.id, pulled);
    let (min, max) = match pull.queue.number() {
        Some(number) => (shard.engine.min_offset(number).0, shard.engine.max_offset(number).0),
        None => (0, 0),
    };
    write(shard, pull, |out, to| {
        FrameWriter::response(out, to.codec, outcome.code, to.opaque)
            .remark(outcome.status)
            .field_int("suggestWhichBrokerId", 0)
            .field_int("nextBeginOffset", outcome.next)
            .field_int("minOffset", min)
            .field_int("maxOffset", max)
            .field_int("topicSysFlag", pull.topic_sys_flag)
            .field_int("groupSysFlag", pull.group_sys_flag)
            .body(records);
    });
}

fn write(shard: &Shard, pull: &Pull, write: impl FnOnce(&mut Vec<u8>, &ReplyTo)) {
    if pull.deferred {
        shard.answers.later(&pull.to, |out| write(out, &pull.to));
    } else {
        shard.answers.now(&pull.to, |out| write(out, &pull.to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_split_trimmed_and_hashed() {
        let filter = tag_filter(" TagA ||TagB|| ").expect("legal");
        assert!(filter.may_match(2_598_919) && filter.may_match(2_598_920));
        assert!(!filter.may_match(0));
        assert_eq!(tag_filter("*").expect("legal"), Filter::All);
        for blank in [" ", " || "] {
            let nothing = tag_filter(blank).expect("legal");
            assert!(!nothing.may_match(0) && !nothing.may_match(2_598_919), "{blank:?}");
        }
        for unparsed in ["||", "||||"] {
            let code = tag_filter(unparsed).expect_err("illegal").code;
            assert_eq!(code, ResponseCode::SUBSCRIPTION_PARSE_FAILED, "{unparsed:?}");
        }
    }
}
