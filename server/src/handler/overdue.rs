//! Sends that waited too long before the shard read them (`net/standing_queue.rs`): declined without a look at
//! what they carry, so that the processor is spent on those that are taken.

use std::fmt::Write;
use std::rc::Rc;

use rmq_protocol::glance::Glance;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use crate::answers::ReplyTo;
use crate::net::connection::Connection;
use crate::shard::{Shard, count};

/// Declines the send at the start of `bytes` and returns its length; `None` for whatever else stands there, which
/// is handled as ever.
pub fn refuse(shard: &Shard, connection: &Rc<Connection>, bytes: &[u8], waited_ms: u64) -> Option<usize> {
    let glance = Glance::at(bytes)?;
    let is_send = matches!(
        glance.request_code(),
        RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_MESSAGE | RequestCode::SEND_BATCH_MESSAGE
    );
    if !is_send || glance.is_response() {
        return None;
    }
    count(&shard.counters.put_failed, 1);
    count(&shard.counters.put_overdue, 1);
    let to = ReplyTo {
        connection: connection.id,
        opaque: glance.opaque,
        codec: glance.codec,
        oneway: glance.is_oneway(),
    };
    let mut remark = shard.scratch.remark.take();
    remark.clear();
    let _ = write!(
        remark,
        "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: {waited_ms}ms, \
         the processor is behind"
    );
    shard.answers.now(&to, |out| {
        FrameWriter::response(out, to.codec, ResponseCode::SYSTEM_BUSY, to.opaque).remark(&remark).finish();
    });
    *shard.scratch.remark.borrow_mut() = remark;
    Some(glance.len)
}
