//! RocketMQ's remoting protocol: bytes <-> values; no I/O, no async, no clock.
//!
//! A frame is decoded in place: [`Frame`] borrows from the receive buffer, and a [`Text`] or [`Fields`] is a view
//! of bytes whose escapes are undone only on use. [`FrameWriter`] encodes straight into the send buffer.
//! `WIRE.md` draws every layout.

pub mod batch;
pub mod body;
mod byte_search;
mod decimal;
pub mod fields;
pub mod frame;
pub mod glance;
pub mod header;
pub mod headers;
pub mod java_json;
mod json_scan;
pub mod language;
pub mod lenient_json;
pub mod message_id;
pub mod properties;
pub mod record;
pub mod request_code;
pub mod response_code;
pub mod sys_flag;
pub mod tag;
pub mod text;
pub mod unique_id;
pub mod writer;

pub use fields::Fields;
pub use frame::{FRAME_SIZE_MAX, Frame, FrameError, frame_len};
pub use header::{Codec, Header};
pub use headers::HeaderError;
pub use language::{Language, version};
pub use message_id::MessageId;
pub use properties::{Properties, PropertiesSource};
pub use record::{RecordError, RecordFields, RecordRef};
pub use request_code::RequestCode;
pub use response_code::ResponseCode;
pub use text::{NotANumber, Text};
pub use writer::FrameWriter;
