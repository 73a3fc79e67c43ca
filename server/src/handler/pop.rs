//! POP_MESSAGE (200050), NOTIFICATION (200054), PEEK_MESSAGE (200052), POLLING_INFO (200055).
//!
//! A pop of one queue is handled by the queue's owner, one of all queues where its connection is. It runs to its
//! end at once when everything is in this shard's memory; a task goes on with it otherwise.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rmq_protocol::frame::Frame;
use rmq_protocol::headers::{NotificationHeader, PeekMessageHeader, PollingInfoHeader, PopMessageHeader};
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, StateGuard, await_group, elsewhere, pull, text};
use crate::answers::ReplyTo;
use crate::broker::filter::Filter;
use crate::broker::group_commit::Completion;
use crate::broker::pop::receipt::{
    ORDER_REVIVE_QUEUE, message_offset_info, order_count_info, start_offset_info,
};
use crate::broker::pop::request::{PopAnswer, PopAsk, PopRequest, Portion, Purpose};
use crate::broker::pop::waiters::{WaitKey, Waiter};
use crate::broker::pop::{self, revive, round, visit, watches};
use crate::broker::refusal::Refusal;
use crate::broker::store::wall_clock_ms;
use crate::limits::{HELD_FRAME_BYTES_MAX, POP_MESSAGES_MAX, POP_NAMES_BYTES_MAX};
use crate::mesh::MeshMessage;
use crate::net::executor;
use crate::settings::PERM_READ;
use crate::shard::Shard;

type Outcome = Result<Handled, Refusal>;

/// A request that comes later than this after its poll time is over is not served.
const LATE_MS: i64 = 500;
/// A waiter is answered this much before its client stops waiting.
const ANSWER_BEFORE_MS: i64 = 50;

/// A waiter passed its checks before; if it does not any more, nobody needs its address.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

const POP_FIELDS: &[(&str, &str)] =
    &[("popTime", "0"), ("invisibleTime", "0"), ("reviveQid", "0"), ("restNum", "0")];
const NOTIFICATION_FIELDS: &[(&str, &str)] = &[("hasMsg", "false"), ("pollingFull", "false")];
const POLLING_INFO_FIELDS: &[(&str, &str)] = &[("pollingNum", "0")];

/// A request that passed its checks.
struct Pop {
    to: ReplyTo,
    /// The request was counted as deferred when it came.
    deferred: bool,
    request: Arc<PopRequest>,
    filter: Filter,
    queue: i32,
    room: u32,
    key: Arc<WaitKey>,
    /// Until when it may wait, by the wall clock.
    until_ms: Option<i64>,
    frame: Box<[u8]>,
}

pub fn pop(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = PopMessageHeader::decode(&frame.header.fields)?;
    let to = ReplyTo::of(origin.connection, &frame.header);
    match check_pop(shard, &header, origin.peer) {
        Ok(Checked::NoGroup) if await_group(shard, origin, &text(header.consumer_group)) => {
            return Ok(Handled::Stalled);
        }
        Ok(Checked::NoGroup) => {
            decline(shard, &to, false, &no_group(&text(header.consumer_group)), POP_FIELDS)
        }
        Err(refusal) => decline(shard, &to, false, &refusal, POP_FIELDS),
        Ok(Checked::Ready(filter)) => {
            if let Some(handled) = to_owner(shard, origin, frame, &text(header.topic), header.queue_id) {
                return Ok(handled);
            }
            run(shard, pop_of(shard, &header, filter, to, false, origin.raw));
        }
    }
    Ok(Handled::Done)
}

/// All queues are popped from where the connection is, one queue by its owner.
fn to_owner(
    shard: &Shard,
    origin: &Origin<'_>,
    frame: &Frame<'_>,
    topic: &str,
    queue: i32,
) -> Option<Handled> {
    if queue < 0 || origin.local.is_none() {
        return None;
    }
    elsewhere(shard, origin, &frame.header, topic, queue)
}

fn pop_of(
    shard: &Shard,
    header: &PopMessageHeader<'_>,
    filter: Filter,
    to: ReplyTo,
    deferred: bool,
    frame: &[u8],
) -> Pop {
    let now_ms = wall_clock_ms();
    let revive_queue = match header.order {
        true => ORDER_REVIVE_QUEUE,
        false => shard.pop.next_revive_queue(shard.settings.pop.revive_queues),
    };
    let born_ms = header.born_time.filter(|&born| born != 0).unwrap_or(now_ms);
    let request = PopRequest {
        group: text(header.consumer_group).into_owned(),
        topic: text(header.topic).into_owned(),
        purpose: Purpose::Pop,
        pop_time: now_ms,
        invisible_ms: header.invisible_time_ms,
        revive_queue,
        from_newest: header.init_mode == 1,
        expression_type: header.expression_type.map(|kind| text(kind).into_owned()),
        expression: header.expression.map_or_else(String::new, |expression| text(expression).into_owned()),
        order: header.order.then(|| header.attempt_id.map_or_else(String::new, |id| text(id).into_owned())),
    };
    let key = key_of(&request, header.queue_id);
    Pop {
        to,
        deferred,
        filter,
        queue: header.queue_id,
        room: header.messages_max.max(0) as u32,
        key,
        // Who has no room finds nothing, however long it waits.
        until_ms: (header.poll_time_ms > 0 && header.messages_max > 0)
            .then(|| born_ms.saturating_add(header.poll_time_ms)),
        frame: if header.poll_time_ms > 0 { frame.into() } else { Box::default() },
        request: Arc::new(request),
    }
}

fn key_of(request: &PopRequest, queue: i32) -> Arc<WaitKey> {
    Arc::new(WaitKey {
        topic: request.topic.clone(),
        group: request.group.clone(),
        queue: queue.max(-1),
        is_ordered: request.order.is_some(),
        only_looks: request.purpose == Purpose::Look,
    })
}

enum Checked {
    Ready(Filter),
    NoGroup,
}

/// The checks of Java's pop processor, in its order.
fn check_pop(shard: &Shard, header: &PopMessageHeader<'_>, peer: SocketAddr) -> Result<Checked, Refusal> {
    let settings = &shard.settings.pop;
    let ip = &settings.broker_ip;
    let late_ms = match header.born_time {
        None | Some(0) => 0,
        Some(born) => wall_clock_ms().saturating_sub(born).saturating_sub(header.poll_time_ms),
    };
    if late_ms > LATE_MS {
        let remark = format!("the broker[{ip}] pop message is timeout too much");
        return Err(Refusal::new(ResponseCode::POLLING_TIMEOUT, remark));
    }
    if shard.settings.broker_permission & PERM_READ == 0 {
        let remark = format!("the broker[{ip}] pop message is forbidden");
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if header.messages_max > POP_MESSAGES_MAX {
        let remark = format!("the broker[{ip}] pop message's num is greater than {POP_MESSAGES_MAX}");
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
    }
    if !settings.timer_wheel {
        let remark = format!("the broker[{ip}] pop message is forbidden because timerWheelEnable is false");
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    }
    let group = text(header.consumer_group);
    if !check_place(shard, &text(header.topic), header.queue_id, &group, peer)? {
        return Ok(Checked::NoGroup);
    }
    if group.len() + header.topic.len_unescaped() > POP_NAMES_BYTES_MAX {
        let remark = "the names of group and topic are too long for a retry topic of both";
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
    }
    if shard.pop.is_broken.get() {
        let remark = "the checkpoints of earlier pops cannot be read; see the broker's log";
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    }
    let kind = header.expression_type.map(text);
    let expression = header.expression.map(text);
    Ok(Checked::Ready(filter(shard, kind.as_deref(), expression.as_deref().unwrap_or(""))?))
}

/// False: there is no such group yet.
fn check_place(
    shard: &Shard,
    topic_name: &str,
    queue: i32,
    group_name: &str,
    peer: SocketAddr,
) -> Result<bool, Refusal> {
    let Some(topic) = shard.metadata.topic(topic_name) else {
        let remark = format!("topic[{topic_name}] not exist, apply first please!");
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    let config = topic.config();
    if config.perm & PERM_READ == 0 {
        let remark = format!("the topic[{topic_name}] peeking message is forbidden");
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if queue >= config.read_queue_nums {
        let remark = format!(
            "queueId[{queue}] is illegal, topic:[{topic_name}] topicConfig.readQueueNums:[{}] consumer:[{peer}]",
            config.read_queue_nums
        );
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
    }
    let Some(group) = shard.metadata.group(group_name) else { return Ok(false) };
    if !group.consume_enable {
        let remark = format!("subscription group no permission, {group_name}");
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    Ok(true)
}

fn no_group(group: &str) -> Refusal {
    let remark = format!("subscription group [{group}] does not exist");
    Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark)
}

/// What a pop brings along; here SQL92 needs no setting, as in Java.
fn filter(shard: &Shard, kind: Option<&str>, expression: &str) -> Result<Filter, Refusal> {
    let unparsed = |_| Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, pull::UNPARSED);
    match kind {
        _ if expression.is_empty() => Ok(Filter::All),
        Some("SQL92") => shard.expressions.parse(expression).map(Filter::Sql92).map_err(unparsed),
        None | Some("" | "TAG") => pull::tag_filter(expression),
        Some(_) => Err(Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, pull::UNPARSED)),
    }
}

/// Goes through the queues at once, as far as memory and this shard reach; a task does the rest.
fn run(shard: &Rc<Shard>, mut pop: Pop) {
    let _state = StateGuard::enter();
    let mut going = going(shard, &pop);
    if let Poll::Ready(portion) = going.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return conclude(shard, pop, portion);
    }
    if !pop.deferred {
        shard.answers.defer(&pop.to);
        pop.deferred = true;
    }
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let portion = going.await;
        conclude(&shard, pop, portion);
        shard.wake_popping();
        shard.flush_soon();
    });
}

fn going(shard: &Rc<Shard>, pop: &Pop) -> Pin<Box<dyn Future<Output = Portion>>> {
    let (shard, request, filter) = (Rc::clone(shard), Arc::clone(&pop.request), pop.filter.clone());
    let (queue, room) = (pop.queue, pop.room);
    Box::pin(async move { round::run(&shard, &request, &filter, queue, room).await })
}

fn conclude(shard: &Rc<Shard>, pop: Pop, portion: Portion) {
    let is_found = match pop.request.purpose {
        Purpose::Look => portion.rest > 0,
        Purpose::Pop | Purpose::Peek => portion.messages > 0,
    };
    if is_found {
        if pop.request.purpose == Purpose::Pop && portion.rest > 0 {
            shard.pop.arrived_here(Arc::clone(&pop.key));
        }
        return answer(shard, &pop, ResponseCode::SUCCESS, portion);
    }
    if portion.failed {
        let remark = "the broker cannot hand out messages now; see its log";
        let refusal = Refusal::new(ResponseCode::SYSTEM_ERROR, remark);
        return decline(shard, &pop.to, pop.deferred, &refusal, POP_FIELDS);
    }
    match hold(shard, &pop) {
        Held::Yes => {}
        Held::Full => answer(shard, &pop, ResponseCode::POLLING_FULL, portion),
        Held::No => answer(shard, &pop, ResponseCode::POLLING_TIMEOUT, portion),
    }
}

enum Held {
    Yes,
    No,
    Full,
}

fn hold(shard: &Rc<Shard>, pop: &Pop) -> Held {
    let Some(until_ms) = pop.until_ms else { return Held::No };
    let settings = &shard.settings.pop;
    let waiters = &shard.pop.waiters;
    if waiters.len() >= settings.held_max {
        return Held::Full;
    }
    let wait_ms = until_ms.saturating_sub(wall_clock_ms()) - ANSWER_BEFORE_MS;
    if wait_ms <= 0 || shard.is_draining() {
        return Held::No;
    }
    if waiters.held(&pop.key) > settings.held_per_queue_max || pop.frame.len() > HELD_FRAME_BYTES_MAX {
        return Held::Full;
    }
    if !pop.deferred {
        shard.answers.defer(&pop.to);
    }
    if waiters.is_empty() {
        shard.long_polls.first.notify();
    }
    let deadline_ms = shard.now_ms() + wait_ms.unsigned_abs();
    waiters.hold(&pop.key, pop.to, &pop.frame, deadline_ms, until_ms);
    watch(shard, &pop.key);
    Held::Yes
}

/// Every shard is asked to tell when there is something for the key.
fn watch(shard: &Rc<Shard>, key: &Arc<WaitKey>) {
    if !shard.pop.waiters.begin_to_watch(key) {
        return;
    }
    for other in 0..shard.ownership.shards() {
        if other != shard.index {
            let message = MeshMessage::PopWatch { from: shard.index, key: Arc::clone(key) };
            shard.forwarding.send(other, message);
        }
    }
    watches::watch(shard, shard.index, Arc::clone(key));
}

/// There may be something for those who wait with this key: one of them looks.
pub fn arrived(shard: &Rc<Shard>, key: &Arc<WaitKey>) {
    shard.pop.waiters.told(key);
    while let Some(waiter) = shard.pop.waiters.take(key) {
        if !is_gone(shard, &waiter) {
            again(shard, &waiter);
            break;
        }
    }
    if shard.pop.waiters.held(key) > 0 {
        watch(shard, key);
    }
}

fn is_gone(shard: &Shard, waiter: &Waiter) -> bool {
    let connection = waiter.to.connection;
    connection.shard as usize == shard.index && shard.answers.find(connection).is_none()
}

/// Those whose time is up look once more; they find something or are answered that there is nothing.
pub fn expire(shard: &Rc<Shard>, now_ms: u64) {
    for waiter in shard.pop.waiters.take_expired(now_ms) {
        if !is_gone(shard, &waiter) {
            again(shard, &waiter);
        }
    }
}

fn again(shard: &Rc<Shard>, waiter: &Waiter) {
    let Ok(Some((frame, _))) = Frame::decode(&waiter.frame) else { return };
    let to = waiter.to;
    if frame.header.request_code() == RequestCode::NOTIFICATION {
        return notification_again(shard, &frame, waiter);
    }
    let header = match PopMessageHeader::decode(&frame.header.fields) {
        Ok(header) => header,
        Err(error) => return decline(shard, &to, true, &error.into(), &[]),
    };
    match check_pop(shard, &header, UNKNOWN) {
        Ok(Checked::Ready(filter)) => {
            let mut pop = pop_of(shard, &header, filter, to, true, &waiter.frame);
            // Born 0 is when the request came, which is not now.
            pop.until_ms = Some(waiter.until_ms);
            run(shard, pop);
        }
        Ok(Checked::NoGroup) => {
            decline(shard, &to, true, &no_group(&text(header.consumer_group)), POP_FIELDS);
        }
        Err(refusal) => decline(shard, &to, true, &refusal, POP_FIELDS),
    }
}

/// Messages leave when their checkpoints are acknowledged by the log, everything else at once.
fn answer(shard: &Shard, pop: &Pop, code: ResponseCode, portion: Portion) {
    let to = pop.to;
    let encode = |out: &mut Vec<u8>| write_answer(out, pop, code, &portion);
    match portion.end.filter(|&end| shard.engine.acknowledged() < end) {
        Some(end) => {
            if !pop.deferred {
                shard.answers.defer(&to);
            }
            shard.group_commit.borrow_mut().wait_client(end, shard.now_ms(), to, encode);
        }
        None if pop.deferred => shard.answers.later(&to, encode),
        None => shard.answers.now(&to, encode),
    }
}

fn write_answer(out: &mut Vec<u8>, pop: &Pop, code: ResponseCode, portion: &Portion) {
    let to = &pop.to;
    let request = &pop.request;
    if request.purpose == Purpose::Look {
        let (has_messages, is_full) = (portion.rest > 0, code == ResponseCode::POLLING_FULL);
        return FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque)
            .field_bool("hasMsg", has_messages)
            .field_bool("pollingFull", is_full)
            .finish();
    }
    let is_peek = request.purpose == Purpose::Peek;
    let (code, remark) = match code {
        ResponseCode::SUCCESS => (code, "FOUND"),
        _ if is_peek => (ResponseCode::PULL_NOT_FOUND, "NO_MESSAGE_IN_QUEUE"),
        _ => (code, "NO_MESSAGE_IN_QUEUE"),
    };
    let mut writer = FrameWriter::response(out, to.codec, code, to.opaque)
        .remark(remark)
        .field_int("popTime", if is_peek { 0 } else { request.pop_time })
        .field_int("invisibleTime", if is_peek { 0 } else { request.invisible_ms })
        .field_int("reviveQid", if is_peek { 0 } else { request.revive_queue })
        .field_int("restNum", portion.rest);
    if !is_peek {
        writer.put_field("startOffsetInfo", &start_offset_info(&portion.popped));
        writer.put_field("msgOffsetInfo", &message_offset_info(&portion.popped));
        if request.order.is_some() {
            writer.put_field("orderCountInfo", &order_count_info(&portion.popped));
        }
    }
    writer.body(&portion.records);
}

/// A refusal with the fields that Java's answer always has.
pub fn decline(shard: &Shard, to: &ReplyTo, deferred: bool, refusal: &Refusal, fields: &[(&str, &str)]) {
    let write = |out: &mut Vec<u8>| {
        let mut writer =
            FrameWriter::response(out, to.codec, refusal.code, to.opaque).remark(&refusal.remark);
        for (name, value) in fields {
            writer.put_field(name, value);
        }
        writer.finish();
    };
    if deferred {
        shard.answers.later(to, write);
    } else {
        shard.answers.now(to, write);
    }
}

/// NOTIFICATION: whether a pop would find something, waited for if need be.
pub fn notification(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = notification_header(frame)?;
    let to = ReplyTo::of(origin.connection, &frame.header);
    let (topic, group) = (text(header.topic), text(header.consumer_group));
    match check_look(shard, &topic, header.queue_id, &group, origin.peer) {
        Ok(false) if await_group(shard, origin, &group) => return Ok(Handled::Stalled),
        Ok(false) => decline(shard, &to, false, &no_group(&group), NOTIFICATION_FIELDS),
        Err(refusal) => decline(shard, &to, false, &refusal, NOTIFICATION_FIELDS),
        Ok(true) => {
            if let Some(handled) = to_owner(shard, origin, frame, &topic, header.queue_id) {
                return Ok(handled);
            }
            run(shard, look_of(&header, to, false, origin.raw));
        }
    }
    Ok(Handled::Done)
}

/// Java fills in the time of birth before it decodes.
fn notification_header<'a>(frame: &Frame<'a>) -> Result<NotificationHeader<'a>, Refusal> {
    match NotificationHeader::decode(&frame.header.fields) {
        Ok(header) if header.born_time == 0 => {
            Ok(NotificationHeader { born_time: wall_clock_ms(), ..header })
        }
        Ok(header) => Ok(header),
        Err(error) => Err(error.into()),
    }
}

fn notification_again(shard: &Rc<Shard>, frame: &Frame<'_>, waiter: &Waiter) {
    match notification_header(frame) {
        Ok(header) => {
            let mut look = look_of(&header, waiter.to, true, &waiter.frame);
            look.until_ms = Some(waiter.until_ms);
            run(shard, look);
        }
        Err(refusal) => decline(shard, &waiter.to, true, &refusal, &[]),
    }
}

fn check_look(
    shard: &Shard,
    topic: &str,
    queue: i32,
    group: &str,
    peer: SocketAddr,
) -> Result<bool, Refusal> {
    if shard.settings.broker_permission & PERM_READ == 0 {
        let remark = format!("the broker[{}] peeking message is forbidden", shard.settings.pop.broker_ip);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    check_place(shard, topic, queue, group, peer)
}

fn look_of(header: &NotificationHeader<'_>, to: ReplyTo, deferred: bool, frame: &[u8]) -> Pop {
    let order = header.order.then(|| header.attempt_id.map_or_else(String::new, |id| text(id).into_owned()));
    let request = looking(
        text(header.consumer_group).into_owned(),
        text(header.topic).into_owned(),
        Purpose::Look,
        order,
    );
    Pop {
        to,
        deferred,
        filter: Filter::All,
        queue: header.queue_id,
        room: 0,
        key: key_of(&request, header.queue_id),
        until_ms: (header.poll_time_ms > 0).then(|| header.born_time.saturating_add(header.poll_time_ms)),
        frame: if header.poll_time_ms > 0 { frame.into() } else { Box::default() },
        request: Arc::new(request),
    }
}

fn looking(group: String, topic: String, purpose: Purpose, order: Option<String>) -> PopRequest {
    PopRequest {
        group,
        topic,
        purpose,
        pop_time: 0,
        invisible_ms: 0,
        revive_queue: 0,
        from_newest: false,
        expression_type: None,
        expression: String::new(),
        order,
    }
}

/// PEEK_MESSAGE: messages without taking them.
pub fn peek(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = PeekMessageHeader::decode(&frame.header.fields)?;
    let to = ReplyTo::of(origin.connection, &frame.header);
    let (topic, group) = (text(header.topic), text(header.consumer_group));
    match check_look(shard, &topic, header.queue_id, &group, origin.peer) {
        Ok(false) if await_group(shard, origin, &group) => return Ok(Handled::Stalled),
        Ok(false) => decline(shard, &to, false, &no_group(&group), POP_FIELDS),
        Err(refusal) => decline(shard, &to, false, &refusal, POP_FIELDS),
        Ok(true) => {
            if let Some(handled) = to_owner(shard, origin, frame, &topic, header.queue_id) {
                return Ok(handled);
            }
            let request = looking(group.into_owned(), topic.into_owned(), Purpose::Peek, None);
            let peek = Pop {
                to,
                deferred: false,
                filter: Filter::All,
                queue: header.queue_id,
                room: header.messages_max.max(0) as u32,
                key: key_of(&request, header.queue_id),
                until_ms: None,
                frame: Box::default(),
                request: Arc::new(request),
            };
            run(shard, peek);
        }
    }
    Ok(Handled::Done)
}

/// POLLING_INFO: how many pops wait.
pub fn polling_info(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = PollingInfoHeader::decode(&frame.header.fields)?;
    let to = ReplyTo::of(origin.connection, &frame.header);
    let (topic, group) = (text(header.topic).into_owned(), text(header.consumer_group).into_owned());
    match check_look(shard, &topic, header.queue_id, &group, origin.peer) {
        Ok(false) if await_group(shard, origin, &group) => return Ok(Handled::Stalled),
        Ok(false) => decline(shard, &to, false, &no_group(&group), POLLING_INFO_FIELDS),
        Err(refusal) => decline(shard, &to, false, &refusal, POLLING_INFO_FIELDS),
        Ok(true) => {
            shard.answers.defer(&to);
            let (shard, queue) = (Rc::clone(shard), header.queue_id);
            executor::spawn(async move {
                let held = pop::held_everywhere(&shard, &topic, &group, queue.max(-1)).await;
                shard.answers.later(&to, |out| {
                    FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque)
                        .field_int("pollingNum", held as i64)
                        .finish();
                });
                shard.flush_soon();
            });
        }
    }
    Ok(Handled::Done)
}

/// Answers another shard.
pub fn asked(shard: &Rc<Shard>, from: usize, ticket: u64, ask: PopAsk) {
    let shard = Rc::clone(shard);
    let mut answering = Box::pin(async move {
        let answer = match ask {
            PopAsk::Visit { request, places, room } => {
                let kind = request.expression_type.as_deref();
                let filter = filter(&shard, kind, &request.expression).unwrap_or(Filter::All);
                let mut portion = visit::visit(&shard, &request, &filter, &places, room).await;
                if let Some(end) = portion.end
                    && shard.acknowledged(end).await == Completion::Failed
                {
                    portion = Portion::default();
                }
                PopAnswer::Portion(portion)
            }
            PopAsk::Acks(acks) => {
                let mut outcome = None;
                for acks in &acks {
                    outcome = pop::acknowledge(&shard, acks).err().or(outcome);
                }
                PopAnswer::Acks(outcome)
            }
            PopAsk::Held { topic, group, queue } => PopAnswer::Held(pop::held(&shard, &topic, &group, queue)),
            PopAsk::Record { topic, queue, offset } => {
                PopAnswer::Record(revive::record_here(&shard, &topic, queue, offset).await)
            }
        };
        shard.forwarding.send(from, MeshMessage::PopAnswer { ticket, answer });
    });
    // Nearly always everything is in memory: then no task is made.
    let poll = answering.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    if poll.is_pending() {
        executor::spawn(answering);
    }
}
