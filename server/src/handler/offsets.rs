//! Offsets of queues and groups: QUERY_CONSUMER_OFFSET (14), UPDATE_CONSUMER_OFFSET (15),
//! SEARCH_OFFSET_BY_TIMESTAMP (29), GET_MAX_OFFSET (30), GET_MIN_OFFSET (31), GET_EARLIEST_MSG_STORETIME (32).

use std::rc::Rc;

use rmq_engine::{Boundary, QueueNumber, QueueOffset, Read, ReadLimits};
use rmq_protocol::frame::Frame;
use rmq_protocol::headers::{
    QueryConsumerOffsetHeader, QueueHeader, SearchOffsetHeader, UpdateConsumerOffsetHeader,
};
use rmq_protocol::record::RecordRef;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, elsewhere, text, write_refusal};
use crate::answers::ReplyTo;
use crate::broker::consumer_offsets::Commit;
use crate::broker::pop::revive_log;
use crate::broker::refusal::Refusal;
use crate::control::limits::QUEUES_PER_TOPIC_MAX;
use crate::net::executor;
use crate::shard::Shard;

type Outcome = Result<Handled, Refusal>;

/// The engine's queue, if the topic and the queue are known here.
pub fn number(shard: &Shard, topic: &str, queue: i32) -> Option<QueueNumber> {
    let topic = shard.metadata.topic(topic)?;
    let config = topic.config();
    if !(0..config.read_queue_nums.max(config.write_queue_nums)).contains(&queue) {
        return None;
    }
    shard.queue(&topic, queue).number()
}

fn answer_number(shard: &Shard, to: &ReplyTo, field: &'static str, value: i64) -> Outcome {
    shard.answers.now(to, |out| {
        FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque)
            .field_int(field, value)
            .finish();
    });
    Ok(Handled::Done)
}

pub fn max(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = QueueHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, header.queue_id) {
        return Ok(handled);
    }
    let max = number(shard, &topic, header.queue_id).map_or(0, |number| shard.engine.max_offset(number).0);
    answer_number(shard, &ReplyTo::of(origin.connection, &frame.header), "offset", max)
}

pub fn min(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = QueueHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, header.queue_id) {
        return Ok(handled);
    }
    let min = number(shard, &topic, header.queue_id).map_or(0, |number| shard.engine.min_offset(number).0);
    answer_number(shard, &ReplyTo::of(origin.connection, &frame.header), "offset", min)
}

pub fn search(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = SearchOffsetHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, header.queue_id) {
        return Ok(handled);
    }
    let boundary = match header.boundary_type.map(text) {
        Some(name) if name.eq_ignore_ascii_case("upper") => Boundary::Upper,
        _ => Boundary::Lower,
    };
    let number = number(shard, &topic, header.queue_id);
    let timestamp = header.timestamp;
    later(shard, ReplyTo::of(origin.connection, &frame.header), "offset", async move |shard| {
        let Some(number) = number else { return Ok(0) };
        let found = Rc::clone(&shard.engine).search_offset(number, timestamp, boundary).await;
        found.map(|offset| offset.0).map_err(|error| failed(&error))
    })
}

pub fn earliest(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = QueueHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, header.queue_id) {
        return Ok(handled);
    }
    let number = number(shard, &topic, header.queue_id);
    later(shard, ReplyTo::of(origin.connection, &frame.header), "timestamp", async move |shard| {
        let Some(number) = number else { return Ok(-1) };
        let first = shard.engine.min_offset(number);
        let found = Rc::clone(&shard.engine).store_timestamp(number, first).await;
        found.map(|timestamp| timestamp.unwrap_or(-1)).map_err(|error| failed(&error))
    })
}

pub fn query(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = QueryConsumerOffsetHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, header.queue_id) {
        return Ok(handled);
    }
    let to = ReplyTo::of(origin.connection, &frame.header);
    let group = text(header.consumer_group);
    let committed = shard.offsets.borrow().committed(&group, &topic, header.queue_id);
    if let Some(committed) = committed {
        return answer_number(shard, &to, "offset", committed);
    }
    let not_found = || {
        Refusal::new(
            ResponseCode::QUERY_NOT_FOUND,
            "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
        )
    };
    if header.set_zero_if_not_found == Some(false) {
        return Err(Refusal::new(
            ResponseCode::QUERY_NOT_FOUND,
            "Not found, do not set to zero, maybe this group boot first",
        ));
    }
    let Some(number) = number(shard, &topic, header.queue_id) else { return Err(not_found()) };
    if shard.engine.min_offset(number) > QueueOffset(0) || shard.engine.max_offset(number) == QueueOffset(0) {
        return Err(not_found());
    }
    // A group that is new to a young queue begins at its first record; to one whose first record is far
    // behind, where its client decides.
    let (first, end) = shard.engine.physical_bounds();
    if end.0 - first.0 <= shard.settings.read.memory_bytes {
        return answer_number(shard, &to, "offset", 0);
    }
    later(shard, to, "offset", async move |shard| {
        let end = shard.engine.physical_bounds().1.0;
        let limits = ReadLimits {
            messages_max: 1,
            bytes_max: 1,
            scan_max: 1,
            cold_messages_max: 1,
            cold_bytes_max: 1,
        };
        let read = Rc::clone(&shard.engine).read(number, QueueOffset(0), limits, |_| true).await;
        match read {
            Ok((Read::Found { .. }, bytes)) => match RecordRef::parse(&bytes) {
                Ok(record) if end - record.physical_offset() <= shard.settings.read.memory_bytes => Ok(0),
                _ => Err(not_found()),
            },
            Ok(_) => Err(not_found()),
            Err(error) => Err(failed(&error)),
        }
    })
}

pub fn update(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Outcome {
    let header = UpdateConsumerOffsetHeader::decode(&frame.header.fields)?;
    let topic = text(header.topic);
    let (Some(queue), Some(offset)) = (header.queue_id, header.commit_offset) else {
        let what = if header.queue_id.is_none() { "QueueId" } else { "Offset" };
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            format!("{what} is null, topic is {topic}"),
        ));
    };
    if let Some(handled) = elsewhere(shard, origin, &frame.header, &topic, queue) {
        return Ok(handled);
    }
    let group = text(header.consumer_group);
    if shard.metadata.group(&group).is_none() {
        return Err(Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("Group {group} not exist!"),
        ));
    }
    if shard.metadata.topic(&topic).is_none() {
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, format!("Topic {topic} not exist!")));
    }
    if !(0..QUEUES_PER_TOPIC_MAX).contains(&queue) {
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, format!("queueId[{queue}] is illegal")));
    }
    revive_log::rewound(shard, &group, &topic, queue, offset);
    let mut commit = shard.offsets.borrow_mut().commit(&group, &topic, queue, offset);
    if commit == Commit::ResetPending && !shard.settings.server_side_reset {
        let mut offsets = shard.offsets.borrow_mut();
        offsets.take_reset(&group, &topic, queue);
        commit = offsets.commit(&group, &topic, queue, offset);
    }
    let to = ReplyTo::of(origin.connection, &frame.header);
    match commit {
        Commit::Done | Commit::ResetPending => shard.answers.now(&to, |out| {
            let writer = FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque);
            match commit {
                Commit::ResetPending => writer.remark("Offset has been previously reset").finish(),
                _ => writer.finish(),
            }
        }),
        Commit::TableFull => {
            return Err(Refusal::new(
                ResponseCode::SYSTEM_BUSY,
                "the broker keeps no more consumer offsets: delete groups that are no longer used",
            ));
        }
    }
    Ok(Handled::Done)
}

fn failed(error: &rmq_engine::Error) -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string())
}

/// Answers with one number that has to be looked up on disk.
fn later(
    shard: &Rc<Shard>,
    to: ReplyTo,
    field: &'static str,
    look_up: impl AsyncFnOnce(Rc<Shard>) -> Result<i64, Refusal> + 'static,
) -> Outcome {
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let found = look_up(Rc::clone(&shard)).await;
        shard.answers.later(&to, |out| match &found {
            Ok(value) => {
                FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque)
                    .field_int(field, *value)
                    .finish();
            }
            Err(refusal) => write_refusal(out, &to, refusal),
        });
        shard.answers.flush(shard.now_ms());
    });
    Ok(Handled::Done)
}
