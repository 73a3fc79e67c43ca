//! RECALL_MESSAGE (370): a producer takes back a timer message that is not yet due.

use std::rc::Rc;

use rmq_protocol::frame::Frame;
use rmq_protocol::headers::RecallMessageHeader;
use rmq_protocol::properties::{name, push_property};
use rmq_protocol::recall_handle::RecallHandle;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, text};
use crate::answers::ReplyTo;
use crate::broker::message::{Message, StoreOutcome};
use crate::broker::refusal::Refusal;
use crate::broker::{store, timer};
use crate::net::executor;
use crate::settings::PERM_WRITE;
use crate::shard::Shard;

/// Handled on the shard of the connection: the handle does not say on which one the message waits.
pub fn recall(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let to = ReplyTo::of(origin.connection, &frame.header);
    let refused = |refusal: Refusal| {
        shard.answers.now(&to, |out| write_refused(shard, out, &to, &refusal));
        Ok(Handled::Done)
    };
    // As in Java, before anybody looks at what is asked.
    if let Err(refusal) = is_open(shard) {
        return refused(refusal);
    }
    let header = RecallMessageHeader::decode(&frame.header.fields)?;
    let (message, unique_key) = match recall_message(shard, origin, &header) {
        Ok(recall) => recall,
        Err(refusal) => return refused(refusal),
    };
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let outcome = store::store(&shard, message).await;
        shard.answers.later(&to, |out| match outcome {
            StoreOutcome::Stored { .. } => {
                FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque)
                    .field("MSG_REGION", &shard.settings.region)
                    .field("msgId", &unique_key)
                    .finish();
            }
            StoreOutcome::Refused { .. } => {
                let refusal = Refusal::new(ResponseCode::SYSTEM_ERROR, "recall failed, execute error");
                write_refused(&shard, out, &to, &refusal);
            }
        });
        shard.answers.flush(shard.now_ms());
    });
    Ok(Handled::Done)
}

fn write_refused(shard: &Shard, out: &mut Vec<u8>, to: &ReplyTo, refusal: &Refusal) {
    FrameWriter::response(out, to.codec, refusal.code, to.opaque)
        .remark(&refusal.remark)
        .field("MSG_REGION", &shard.settings.region)
        .finish();
}

fn is_open(shard: &Shard) -> Result<(), Refusal> {
    let settings = &shard.settings;
    if !settings.timer.recall {
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, "recall failed, operation is forbidden"));
    }
    if shard.is_draining()
        || store::wall_clock_ms() < settings.accept_sends_from_ms
        || settings.broker_permission & PERM_WRITE == 0 && !settings.timer.recall_when_not_writable
    {
        let remark = "recall failed, broker service not available";
        return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, remark));
    }
    Ok(())
}

/// The message that takes another back, and whose key. It waits in the timer like the other, for the same tick.
fn recall_message(
    shard: &Shard,
    origin: &Origin<'_>,
    header: &RecallMessageHeader<'_>,
) -> Result<(Message, String), Refusal> {
    let settings = &shard.settings;
    let refuse = |code, remark: &'static str| Err(Refusal::new(code, remark));
    let now_ms = store::wall_clock_ms();
    let topic = text(header.topic);
    if shard.metadata.topic(&topic).is_none() {
        let remark = format!("recall failed, the topic[{topic}] not exist");
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    }
    let Some(handle) = header.recall_handle.and_then(RecallHandle::decode) else {
        return refuse(ResponseCode::ILLEGAL_OPERATION, "recall handle is invalid");
    };
    if handle.topic != topic {
        return refuse(ResponseCode::ILLEGAL_OPERATION, "recall failed, topic not match");
    }
    if handle.broker_name != settings.broker_name {
        return refuse(ResponseCode::ILLEGAL_OPERATION, "recall failed, broker service not available");
    }
    let deliver_ms: i64 = handle.deliver_ms.parse().unwrap_or(-1);
    if deliver_ms <= now_ms || deliver_ms - now_ms >= settings.timer.delay_ms_max {
        return refuse(ResponseCode::ILLEGAL_OPERATION, "recall failed, timestamp invalid");
    }
    let mut properties = Vec::new();
    push_property(&mut properties, name::TAGS, "_RECALL_TAG_");
    push_property(&mut properties, "TIMER_DEL_UNIQKEY", &timer::recall_key(&topic, &handle.unique_key));
    push_property(&mut properties, name::UNIQ_KEY, &handle.unique_key);
    push_property(&mut properties, "TIMER_DELIVER_MS", &handle.deliver_ms);
    push_property(&mut properties, "BORN_TIMESTAMP", &now_ms.to_string());
    if let Some(group) = header.producer_group.filter(|group| !group.is_empty()) {
        push_property(&mut properties, "PGROUP", &text(group));
    }
    let message = Message {
        topic: topic.into_owned(),
        queue: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: now_ms,
        born_host: origin.peer,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        properties,
        body: b"0".to_vec(),
    };
    Ok((message, handle.unique_key))
}
