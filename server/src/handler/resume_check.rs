//! RESUME_CHECK_HALF_MESSAGE (323).

use std::rc::Rc;

use rmq_protocol::frame::Frame;
use rmq_protocol::headers::ResumeHalfMessageHeader;
use rmq_protocol::message_id::MessageId;
use rmq_protocol::properties::name;
use rmq_protocol::record::RecordRef;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, text, write_refusal};
use crate::answers::ReplyTo;
use crate::broker::refusal::Refusal;
use crate::broker::{store, topic_name, transactions};
use crate::forwarding::Lasting;
use crate::net::executor;
use crate::shard::Shard;

/// Handled on the shard that owns the message's real queue; where the message itself lies is read first.
pub fn resume_check(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let header = ResumeHalfMessageHeader::decode(&frame.header.fields)?;
    let id = text(header.message_id.ok_or_else(|| Refusal::missing("msgId"))?);
    let Some(id) = MessageId::parse(&id) else {
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, format!("{id} is no offset message id")));
    };
    let to = ReplyTo::of(origin.connection, &frame.header);
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    let request = Lasting::of(origin);
    executor::spawn(async move {
        match resume(&shard, id.physical_offset).await {
            Ok(Some(owner)) => request.forward(&shard, owner).await,
            Ok(None) => shard.answers.later(&to, |out| {
                FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque).finish();
            }),
            Err(refusal) => shard.answers.later(&to, |out| write_refusal(out, &to, &refusal)),
        }
        shard.answers.flush(shard.now_ms());
    });
    Ok(Handled::Done)
}

/// `Some(shard)`: the message's queue belongs to that one.
async fn resume(shard: &Rc<Shard>, at: i64) -> Result<Option<usize>, Refusal> {
    let wrong = |remark: String| Refusal::new(ResponseCode::SYSTEM_ERROR, remark);
    let found = store::record_at(shard, at).await?;
    let record = found.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
    let Some(record) = record.filter(|record| record.topic() == topic_name::CHECK_MAX_TIME) else {
        return Err(wrong(format!("no message of {} at {at}", topic_name::CHECK_MAX_TIME)));
    };
    let properties = record.properties();
    let topic = properties.find(name::REAL_TOPIC);
    let queue = properties.find(name::REAL_QUEUE_ID).and_then(|queue| queue.parse().ok());
    let (Some(topic), Some(queue)) = (topic, queue) else {
        return Err(wrong(format!("the message at {at} does not say where it belongs")));
    };
    let owner = shard.ownership.owner(topic, queue);
    if owner != shard.index {
        return Ok(Some(owner));
    }
    transactions::resume(shard, &record).await.map(|()| None)
}
