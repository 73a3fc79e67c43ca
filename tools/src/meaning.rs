//! What a response code tells someone who runs a load.

use rmq_protocol::ResponseCode;

pub fn name(code: i32) -> &'static str {
    ResponseCode(code).name().unwrap_or("unknown code")
}

pub fn meaning(code: i32) -> &'static str {
    match code {
        0 => "done",
        1 => "the server failed; its remark says how",
        2 => "flow control: more load than it takes now",
        3 => "the server does not know this request",
        10 => "stored, but not flushed to disk in time",
        11 => "stored, but there is no slave",
        12 => "stored, but the slave was late",
        13 => "body, properties or topic too long, or not allowed",
        14 => "the store is closed, read-only or full",
        15 => "client version refused",
        16 => "broker, topic or group does not permit it",
        17 => "no such topic",
        19 => "nothing new in the queue",
        20 => "nothing that matches",
        21 => "the offset is outside the queue",
        22 => "not found",
        23..=25 => "subscription wrong, unknown or outdated",
        26 => "no such consumer group",
        29 => "bad topic name, queue id or other parameter",
        215 => "flow control of this group",
        1500 => "the server is shutting down",
        _ => "see the remark",
    }
}

/// Codes of a send that was stored all the same.
pub fn is_stored(code: i32) -> bool {
    matches!(code, 0 | 10 | 11 | 12)
}
