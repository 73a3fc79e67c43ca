//! Typed headers: what a request or response says in its ext fields.
//!
//! A header is decoded in one pass over the fields and borrows its texts from the frame. Unknown fields are
//! ignored. A missing bool is false, as a missing primitive is in Java; a missing number or text is an error
//! unless it is an `Option`.

mod admin;
mod group;
mod message;
mod name_server;
mod offset;
mod pop;
mod pull;
mod reply;
mod send;
mod topic;
mod transaction;

pub use admin::*;
pub use group::*;
pub use message::*;
pub use name_server::*;
pub use offset::*;
pub use pop::*;
pub use pull::*;
pub use reply::*;
pub use send::*;
pub use topic::*;
pub use transaction::*;

use crate::text::Text;
use crate::writer::FrameWriter;

/// The request cannot be served; the sender has to change the named field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("the custom field <{field}> is null")]
    Missing { field: &'static str },
    #[error("the custom field <{field}> has the illegal value {value:?}")]
    Malformed { field: &'static str, value: String },
}

/// A type that an ext field can hold.
trait FieldValue<'a>: Sized {
    fn parse(text: Text<'a>) -> Option<Self>;
    /// What stands for an absent field, if anything does.
    fn absent() -> Option<Self> {
        None
    }
    fn put(&self, name: &'static str, writer: &mut FrameWriter<'_>);
}

impl<'a> FieldValue<'a> for Text<'a> {
    fn parse(text: Text<'a>) -> Option<Self> {
        Some(text)
    }
    fn put(&self, name: &'static str, writer: &mut FrameWriter<'_>) {
        writer.put_text(name, *self);
    }
}

impl FieldValue<'_> for i32 {
    fn parse(text: Text<'_>) -> Option<Self> {
        text.parse_i32().ok()
    }
    fn put(&self, name: &'static str, writer: &mut FrameWriter<'_>) {
        writer.put_int(name, *self);
    }
}

impl FieldValue<'_> for i64 {
    fn parse(text: Text<'_>) -> Option<Self> {
        text.parse_i64().ok()
    }
    fn put(&self, name: &'static str, writer: &mut FrameWriter<'_>) {
        writer.put_int(name, *self);
    }
}

impl FieldValue<'_> for bool {
    fn parse(text: Text<'_>) -> Option<Self> {
        Some(text.parse_bool())
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
    fn put(&self, name: &'static str, writer: &mut FrameWriter<'_>) {
        writer.put_bool(name, *self);
    }
}

impl<'a, T: FieldValue<'a>> FieldValue<'a> for Option<T> {
    fn parse(text: Text<'a>) -> Option<Self> {
        // An empty text is no number; where the number may be missing anyway, it is missing.
        match T::parse(text) {
            None if text.is_empty() => Some(None),
            value => value.map(Some),
        }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn put(&self, name: &'static str, writer: &mut FrameWriter<'_>) {
        if let Some(value) = self {
            value.put(name, writer);
        }
    }
}

/// Converts a field, found or not.
fn take<'a, T: FieldValue<'a>>(field: &'static str, value: Option<Text<'a>>) -> Result<T, HeaderError> {
    match value {
        None => T::absent().ok_or(HeaderError::Missing { field }),
        Some(text) => {
            T::parse(text).ok_or_else(|| HeaderError::Malformed { field, value: text.cow().into_owned() })
        }
    }
}

/// Java reads the headers of sends and pulls number by number, and so takes an empty text for a malformed number
/// even where none is needed.
fn not_empty(field: &'static str, value: Option<Text<'_>>) -> Result<(), HeaderError> {
    match value {
        Some(text) if text.is_empty() => Err(HeaderError::Malformed { field, value: String::new() }),
        _ => Ok(()),
    }
}

/// Declares a header: `field: Type = "name on the wire"`, then `not empty` for a number that may be missing and
/// may not be empty.
macro_rules! header {
    ($(#[$meta:meta])* pub struct $name:ident<$lt:lifetime> { $($body:tt)* }) => {
        header!(@ [$(#[$meta])*] $name [<$lt>] $lt { $($body)* });
    };
    ($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* }) => {
        header!(@ [$(#[$meta])*] $name [] '_ { $($body)* });
    };
    (@ [$($meta:tt)*] $name:ident [$($generics:tt)*] $lt:lifetime {
        $($(#[$field_meta:meta])* $field:ident: $type:ty = $wire:literal $(not $empty:ident)?,)*
    }) => {
        $($meta)*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name $($generics)* {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $($generics)* $name $($generics)* {
            pub fn decode(fields: &$crate::fields::Fields<$lt>) -> Result<Self, $crate::headers::HeaderError> {
                // Names as byte-slice constants, so that one `match` can tell them apart by length first.
                #[allow(non_upper_case_globals)]
                mod wire {
                    $(pub const $field: &[u8] = $wire.as_bytes();)*
                }
                $(let mut $field = None;)*
                fields.visit(|key, value| {
                    let unescaped;
                    let key = match key.as_plain() {
                        Some(key) => key,
                        None => {
                            unescaped = key.cow();
                            unescaped.as_bytes()
                        }
                    };
                    match key {
                        $(wire::$field => $field = Some(value),)*
                        _ => {}
                    }
                });
                $($(
                    const _: &str = stringify!($empty);
                    $crate::headers::not_empty($wire, $field)?;
                )?)*
                Ok(Self { $($field: $crate::headers::take($wire, $field)?,)* })
            }

            /// Writes the fields that are present.
            pub fn encode(&self, writer: &mut $crate::writer::FrameWriter<'_>) {
                $($crate::headers::FieldValue::put(&self.$field, $wire, writer);)*
            }
        }
    };
}
pub(crate) use header;
