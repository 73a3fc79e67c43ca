//! VIEW_MESSAGE_BY_ID (33).

use std::rc::Rc;

use rmq_protocol::frame::Frame;
use rmq_protocol::headers::ViewMessageHeader;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, write_refusal};
use crate::answers::ReplyTo;
use crate::broker::refusal::Refusal;
use crate::broker::store;
use crate::net::executor;
use crate::shard::Shard;

/// Handled on the shard of the connection: a physical offset may lie in any shard's log.
pub fn view_by_id(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let header = ViewMessageHeader::decode(&frame.header.fields)?;
    let offset = header.offset;
    let to = ReplyTo::of(origin.connection, &frame.header);
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let found = store::record_at(&shard, offset).await.and_then(|found| {
            found.ok_or_else(|| {
                Refusal::new(
                    ResponseCode::SYSTEM_ERROR,
                    format!("can not find message by the offset, {offset}"),
                )
            })
        });
        shard.answers.later(&to, |out| match &found {
            Ok(record) => {
                FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque).body(record);
            }
            Err(refusal) => write_refusal(out, &to, refusal),
        });
        shard.answers.flush(shard.now_ms());
    });
    Ok(Handled::Done)
}
