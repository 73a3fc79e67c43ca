//! CONSUMER_SEND_MSG_BACK (36).

use std::rc::Rc;

use rmq_protocol::frame::Frame;
use rmq_protocol::headers::ConsumerSendBackHeader;
use rmq_protocol::language::version;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::{Handled, Origin, text, write_refusal};
use crate::answers::ReplyTo;
use crate::broker::refusal::Refusal;
use crate::broker::retry::{self, SendBack};
use crate::net::executor;
use crate::shard::Shard;

/// Handled on the shard of the connection: the record may lie in any shard's log.
pub fn send_back(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Result<Handled, Refusal> {
    let header = ConsumerSendBackHeader::decode(&frame.header.fields)?;
    let request = SendBack {
        group: text(header.group).into_owned(),
        physical_offset: header.offset,
        delay_level: header.delay_level,
        max_reconsume_times: header.max_reconsume_times.filter(|_| frame.header.version >= version::V3_4_9),
        unit: header.unit_mode,
    };
    let to = ReplyTo::of(origin.connection, &frame.header);
    shard.answers.defer(&to);
    let shard = Rc::clone(shard);
    executor::spawn(async move {
        let outcome = retry::send_back(&shard, request).await;
        shard.answers.later(&to, |out| match &outcome {
            Ok(()) => FrameWriter::response(out, to.codec, ResponseCode::SUCCESS, to.opaque).finish(),
            Err(refusal) => write_refusal(out, &to, refusal),
        });
        shard.answers.flush(shard.now_ms());
    });
    Ok(Handled::Done)
}
