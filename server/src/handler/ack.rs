//! ACK_MESSAGE (200051), BATCH_ACK_MESSAGE (200151), CHANGE_MESSAGE_INVISIBLETIME (200053).

use std::net::SocketAddr;
use std::rc::Rc;

use rmq_protocol::body::{self, BatchAckBody};
use rmq_protocol::frame::Frame;
use rmq_protocol::headers::{AckMessageHeader, ChangeInvisibleTimeHeader};
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::pop::decline;
use super::{Handled, Origin, StateGuard, elsewhere, text, write_refusal};
use crate::answers::ReplyTo;
use crate::broker::pop::checkpoint::Checkpoint;
use crate::broker::pop::names::Source;
use crate::broker::pop::receipt::{ORDER_REVIVE_QUEUE, Receipt};
use crate::broker::pop::request::Acks;
use crate::broker::pop::{self, revive_log, visit};
use crate::broker::refusal::Refusal;
use crate::broker::store::wall_clock_ms;
use crate::limits::POP_BATCH_ACKS_MAX;
use crate::net::executor;
use crate::shard::Shard;

type Outcome = Result<Handled, Refusal>;

const CHANGE_FIELDS: &[(&str, &str)] = &[("popTime", "0"), ("invisibleTime", "0"), ("reviveQid", "0")];

/// The queue of a receipt must be there; the answer is its range of offsets.
fn check_queue(shard: &Shard, topic_name: &str, queue: i32, peer: SocketAddr) -> Result<(i64, i64), Refusal> {
    let Some(topic) = shard.metadata.topic(topic_name) else {
        let remark = format!("topic[{topic_name}] not exist, apply first please!");
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    let queues = topic.config().read_queue_nums;
    if !(0..queues).contains(&queue) {
        let remark = format!(
            "queueId[{queue}] is illegal, topic:[{topic_name}] topicConfig.readQueueNums:[{queues}] consumer:[{peer}]"
        );
        return Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark));
    }
    let number = shard.queue(&topic, queue).number();
    Ok(number.map_or((0, 0), |number| (shard.engine.min_offset(number).0, shard.engine.max_offset(number).0)))
}

pub fn ack(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = AckMessageHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, header.queue_id) {
        return Ok(handled);
    }
    let (min, max) = check_queue(shard, &topic, header.queue_id, origin.peer)?;
    let offset = header.offset;
    if offset < min || offset > max {
        return Err(Refusal::new(
            ResponseCode::NO_MESSAGE,
            format!("offset is illegal, key:{topic}@{}, commit:{offset}, store:{min}~{max}", header.queue_id),
        ));
    }
    let receipt = Receipt::parse(&text(header.extra_info))?;
    let acks = Acks {
        group: text(header.consumer_group).into_owned(),
        topic: topic.into_owned(),
        queue: header.queue_id,
        start: receipt.start,
        pop_time: receipt.pop_time,
        is_ordered: receipt.is_ordered(),
        offsets: vec![offset],
    };
    let _state = StateGuard::enter();
    pop::acknowledge(shard, &acks).map_err(|remark| {
        Refusal::new(ResponseCode::MESSAGE_ILLEGAL, format!("{remark}, {}", origin.peer))
    })?;
    let to = ReplyTo::of(origin.connection, &frame.header);
    shard.answers.now(&to, |out| {
        FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque).finish();
    });
    Ok(Handled::Done)
}

/// Messages of several pops. Those that are not there are passed over.
pub fn batch_ack(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let nothing = || Refusal::new(ResponseCode::NO_MESSAGE, "");
    if frame.body.is_empty() {
        return Err(nothing());
    }
    let body: Option<BatchAckBody> = body::from_slice(frame.body)
        .map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))?;
    let batch = body.map(|body| body.acks).filter(|acks| !acks.is_empty()).ok_or_else(nothing)?;
    let mut left = POP_BATCH_ACKS_MAX;
    let mut all = Vec::with_capacity(batch.len());
    for one in batch {
        let offsets: Vec<i64> =
            one.bits.iter().map(|bit| one.start_offset.saturating_add(bit)).take(left).collect();
        left -= offsets.len();
        all.push(Acks {
            topic: Source::of_flag(&one.retry).topic(&one.consumer_group, &one.topic),
            group: one.consumer_group,
            queue: one.queue_id,
            start: one.start_offset,
            pop_time: one.pop_time,
            is_ordered: one.revive_queue_id == ORDER_REVIVE_QUEUE,
            offsets,
        });
    }
    let to = ReplyTo::of(origin.connection, &frame.header);
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let outcome = pop::acknowledge_all(&shard, all).await;
        shard.answers.later(&to, |out| match outcome {
            Ok(()) => FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque).finish(),
            Err(remark) => {
                write_refusal(out, &to, &Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark));
            }
        });
        shard.wake_popping();
        shard.flush_soon();
    });
    Ok(Handled::Done)
}

/// A new checkpoint of one message, then the end of its part in the old one. The answer waits for the first.
pub fn change_invisible_time(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = ChangeInvisibleTimeHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, header.queue_id) {
        return Ok(handled);
    }
    let to = ReplyTo::of(origin.connection, &frame.header);
    let change = || -> Result<(), Refusal> {
        let (min, max) = check_queue(shard, &topic, header.queue_id, origin.peer)?;
        if header.offset < min || header.offset >= max {
            return Err(Refusal::new(ResponseCode::NO_MESSAGE, ""));
        }
        Ok(())
    };
    match change() {
        Ok(()) => {}
        Err(refusal) => {
            decline(shard, &to, false, &refusal, CHANGE_FIELDS);
            return Ok(Handled::Done);
        }
    }
    let receipt = Receipt::parse(&text(header.extra_info))?;
    let group = text(header.consumer_group);
    let queue = shard.pop.queues.get(&group, &topic, header.queue_id);
    let now_ms = wall_clock_ms();
    let _state = StateGuard::enter();
    let write = |out: &mut Vec<u8>, pop_time: i64, invisible_ms: i64, revive_queue: i32| {
        FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque)
            .field_int("popTime", pop_time)
            .field_int("invisibleTime", invisible_ms)
            .field_int("reviveQid", revive_queue)
            .finish();
    };
    if receipt.is_ordered() {
        let committed = shard.offsets.borrow().committed(&group, &topic, header.queue_id).unwrap_or(-1);
        if header.offset < committed {
            shard.answers.now(&to, |out| write(out, 0, 0, 0));
            return Ok(Handled::Done);
        }
        let visible_ms = now_ms.saturating_add(header.invisible_time_ms);
        if let Some(record) = &mut *queue.order.borrow_mut() {
            record.hide_until(header.offset, receipt.pop_time, visible_ms);
        }
        visit::watch_order(shard, &queue);
        let invisible_ms = visible_ms.saturating_sub(receipt.pop_time);
        shard.answers.now(&to, |out| write(out, receipt.pop_time, invisible_ms, receipt.revive_queue));
        return Ok(Handled::Done);
    }
    let offset = header.offset;
    let checkpoint = Checkpoint::new(Rc::clone(&queue), offset, now_ms, header.invisible_time_ms, [offset]);
    if shard.pop.is_full() {
        let refusal = Refusal::new(ResponseCode::SYSTEM_ERROR, "too many messages are not acknowledged");
        decline(shard, &to, false, &refusal, CHANGE_FIELDS);
        return Ok(Handled::Done);
    }
    if shard.metadata.group(&group).is_none() {
        // Nothing comes back to a group that does not exist.
        shard.answers.now(&to, |out| write(out, now_ms, header.invisible_time_ms, receipt.revive_queue));
        return Ok(Handled::Done);
    }
    match revive_log::open(shard, checkpoint, false) {
        Ok(end) => {
            let (start, pop_time) = (receipt.start, receipt.pop_time);
            // A receipt from this very millisecond names the new checkpoint, which must stay.
            if (start, pop_time) != (offset, now_ms) {
                shard.pop.checkpoints.borrow_mut().ack(&queue, start, pop_time, offset);
            }
            shard.answer_when_acknowledged(end, to, |out| {
                write(out, now_ms, header.invisible_time_ms, receipt.revive_queue);
            });
        }
        Err(refusal) => {
            let refusal = Refusal::new(ResponseCode::SYSTEM_ERROR, refusal.remark);
            decline(shard, &to, false, &refusal, CHANGE_FIELDS);
        }
    }
    Ok(Handled::Done)
}
