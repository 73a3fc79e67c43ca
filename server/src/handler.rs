//! From frames to calls: one table of request codes, and who handles each.
//!
//! The data path (sends, pulls, offsets, lookups) is handled inline on the shard that owns the queue; every
//! other code goes to the control thread. A request that has to wait for a topic or group to be created
//! stalls its connection, so the order of a connection's sends is kept.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use rmq_protocol::frame::Frame;
use rmq_protocol::header::Header;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use crate::answers::ReplyTo;
use crate::broker::refusal::Refusal;
use crate::control::link::{ConnectionId, ToControl};
use crate::mesh::{Forwarded, MeshMessage, Verdict};
use crate::net::connection::{Connection, Progress};
use crate::shard::Shard;

pub mod ack;
pub mod end_transaction;
pub mod offsets;
mod overdue;
pub mod pop;
pub mod pull;
pub mod queries;
pub mod query;
pub mod recall;
pub mod resume_check;
pub mod send;
pub mod send_back;
pub mod view;

/// Where a request came from.
pub struct Origin<'a> {
    pub connection: ConnectionId,
    pub peer: SocketAddr,
    pub vip: bool,
    /// The connection, when it lives on this shard; absent for a request from another shard.
    pub local: Option<&'a Rc<Connection>>,
    /// The request's own bytes.
    pub raw: &'a [u8],
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Answered, or someone will answer it.
    Done,
    /// Not begun: the connection waits and the frame is handled again.
    Stalled,
}

/// Handles the whole frames at the start of `bytes`.
pub fn batch(shard: &Rc<Shard>, connection: &Rc<Connection>, bytes: &[u8]) -> Progress {
    let mut at = 0;
    loop {
        if let Some(waited_ms) = connection.overdue_ms()
            && let Some(len) = overdue::refuse(shard, connection, &bytes[at..], waited_ms)
        {
            at += len;
            continue;
        }
        let (frame, len) = match Frame::decode(&bytes[at..]) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Progress::Consumed(at),
            Err(error) => return Progress::Garbage(error.to_string()),
        };
        let origin = Origin {
            connection: connection.id,
            peer: connection.peer,
            vip: connection.vip,
            local: Some(connection),
            raw: &bytes[at..at + len],
        };
        if dispatch(shard, &origin, &frame) == Handled::Stalled {
            return Progress::Stalled(at);
        }
        at += len;
    }
}

/// Handles requests that another shard read.
pub fn forwarded(shard: &Rc<Shard>, forwarded: &Forwarded) {
    let mut bytes = &forwarded.frames[..];
    while let Ok(Some((frame, len))) = Frame::decode(bytes) {
        let origin = Origin {
            connection: forwarded.connection,
            peer: forwarded.peer,
            vip: forwarded.vip,
            local: None,
            raw: &bytes[..len],
        };
        dispatch(shard, &origin, &frame);
        bytes = &bytes[len..];
    }
}

/// A fault in decoding or translation costs the request an error answer and the connection its life. A fault
/// inside broker or engine state never comes here: `StateGuard` ends the process.
fn dispatch(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Handled {
    match catch_unwind(AssertUnwindSafe(|| route(shard, origin, frame))) {
        Ok(handled) => handled,
        Err(_) => {
            let to = ReplyTo::of(origin.connection, &frame.header);
            tracing::error!(peer = %origin.peer, code = frame.header.code, "a request handler failed");
            refuse(shard, &to, &Refusal::new(ResponseCode::SYSTEM_ERROR, "internal error of the broker"));
            if let Some(connection) = origin.local {
                shard.answers.flush(shard.now_ms());
                connection.close();
            }
            Handled::Done
        }
    }
}

fn route(shard: &Rc<Shard>, origin: &Origin<'_>, frame: &Frame<'_>) -> Handled {
    let header = &frame.header;
    if header.is_response() {
        // The control thread asks clients. Who never said anything to it was not asked.
        let may_be_asked = origin.local.is_some_and(|connection| connection.known_to_control.get());
        if may_be_asked && !shard.control.is_full() {
            let (connection, frame) = (origin.connection, origin.raw.to_vec());
            shard.control.tell(ToControl::ClientAnswer { connection, frame });
        }
        return Handled::Done;
    }
    let outcome = match RequestCode(header.code) {
        RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_MESSAGE | RequestCode::SEND_BATCH_MESSAGE => {
            send::send(shard, origin, frame)
        }
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE if origin.vip => {
            Err(not_supported(header))
        }
        RequestCode::PULL_MESSAGE | RequestCode::LITE_PULL_MESSAGE => pull::pull(shard, origin, frame),
        RequestCode::QUERY_CONSUMER_OFFSET => offsets::query(shard, origin, frame),
        RequestCode::UPDATE_CONSUMER_OFFSET => offsets::update(shard, origin, frame),
        RequestCode::GET_MAX_OFFSET => offsets::max(shard, origin, frame),
        RequestCode::GET_MIN_OFFSET => offsets::min(shard, origin, frame),
        RequestCode::SEARCH_OFFSET_BY_TIMESTAMP => offsets::search(shard, origin, frame),
        RequestCode::GET_EARLIEST_MSG_STORETIME => offsets::earliest(shard, origin, frame),
        RequestCode::QUERY_MESSAGE => query::query(shard, origin, frame),
        RequestCode::VIEW_MESSAGE_BY_ID => view::view_by_id(shard, origin, frame),
        RequestCode::RECALL_MESSAGE => recall::recall(shard, origin, frame),
        RequestCode::END_TRANSACTION => end_transaction::end(shard, origin, frame),
        RequestCode::RESUME_CHECK_HALF_MESSAGE => resume_check::resume_check(shard, origin, frame),
        RequestCode::POP_MESSAGE => pop::pop(shard, origin, frame),
        RequestCode::ACK_MESSAGE => ack::ack(shard, origin, frame),
        RequestCode::BATCH_ACK_MESSAGE => ack::batch_ack(shard, origin, frame),
        RequestCode::CHANGE_MESSAGE_INVISIBLETIME => ack::change_invisible_time(shard, origin, frame),
        RequestCode::NOTIFICATION => pop::notification(shard, origin, frame),
        RequestCode::PEEK_MESSAGE => pop::peek(shard, origin, frame),
        RequestCode::POLLING_INFO => pop::polling_info(shard, origin, frame),
        RequestCode::CONSUMER_SEND_MSG_BACK => send_back::send_back(shard, origin, frame),
        _ if shard.control.is_full() => Err(Refusal::new(
            ResponseCode::SYSTEM_BUSY,
            "[OVERLOAD]system busy, start flow control for a while: too many requests wait",
        )),
        _ => {
            to_control(shard, origin, header);
            Ok(Handled::Done)
        }
    };
    match outcome {
        Ok(handled) => handled,
        Err(refusal) => {
            refuse(shard, &ReplyTo::of(origin.connection, header), &refusal);
            Handled::Done
        }
    }
}

fn to_control(shard: &Rc<Shard>, origin: &Origin<'_>, header: &Header<'_>) {
    if let Some(connection) = origin.local {
        connection.known_to_control.set(true);
        if !header.is_oneway() {
            connection.asked_control();
        }
    }
    shard.control.tell(ToControl::Request {
        connection: origin.connection,
        peer: origin.peer,
        vip: origin.vip,
        frame: origin.raw.to_vec(),
    });
}

/// Answers with an error at once.
pub fn refuse(shard: &Shard, to: &ReplyTo, refusal: &Refusal) {
    shard.answers.now(to, |out| write_refusal(out, to, refusal));
}

pub fn write_refusal(out: &mut Vec<u8>, to: &ReplyTo, refusal: &Refusal) {
    let mut writer = FrameWriter::response(out, to.codec, refusal.code, to.opaque).remark(&refusal.remark);
    if let Some(by) = refusal.forbidden {
        writer.put_int("forbiddenType", by as i32);
    }
    writer.finish();
}

pub fn not_supported(header: &Header<'_>) -> Refusal {
    Refusal::new(
        ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
        format!(" request type {} not supported", header.code),
    )
}

/// Sends a request to the shard that owns the queue. `None`: that is this shard, which goes on with it.
pub fn elsewhere(
    shard: &Shard,
    origin: &Origin<'_>,
    header: &Header<'_>,
    topic: &str,
    queue: i32,
) -> Option<Handled> {
    to_shard(shard, origin, header, shard.ownership.owner(topic, queue))
}

/// The same for a request of which something else says where it belongs.
pub fn to_shard(shard: &Shard, origin: &Origin<'_>, header: &Header<'_>, owner: usize) -> Option<Handled> {
    if owner == shard.index {
        return None;
    }
    let Some(connection) = origin.local else {
        // Every shard computes the same owner, so a forwarded request is always at home.
        debug_assert!(false, "a forwarded request reached a shard that does not own its queue");
        return None;
    };
    if !shard.forwarding.add(owner, connection.id, origin.peer, origin.vip, origin.raw) {
        connection.stall();
        return Some(Handled::Stalled);
    }
    if !header.is_oneway() {
        connection.begin(1);
    }
    Some(Handled::Done)
}

/// True: the connection waits until the control thread has decided about the group.
pub fn await_group(shard: &Rc<Shard>, origin: &Origin<'_>, group: &str) -> bool {
    let Some(connection) = origin.local else { return false };
    if let Some(Verdict::Group { name, exists: false }) = connection.take_verdict()
        && name == group
    {
        return false;
    }
    connection.stall();
    let (id, inbox, name) = (connection.id, shard.inbox(), group.to_owned());
    let reply = Box::new(move |exists| {
        inbox.push(MeshMessage::Resume { connection: id, verdict: Verdict::Group { name, exists } });
    });
    shard.control.tell(ToControl::EnsureGroup { group: group.to_owned(), reply });
    true
}

/// The text of a header field as a string; Java's decoders replace what is not UTF-8 as well.
pub fn text<'a>(text: rmq_protocol::text::Text<'a>) -> Cow<'a, str> {
    text.cow()
}

/// Ends the process when broker or engine state is left by a panic: half-changed state must not go on.
pub struct StateGuard(());

impl StateGuard {
    pub fn enter() -> Self {
        Self(())
    }
}

impl Drop for StateGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "rmq-server: a fault inside broker state; aborting so that nothing half-changed goes on"
            );
            std::process::abort();
        }
    }
}
