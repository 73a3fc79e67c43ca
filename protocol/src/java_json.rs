//! JSON as Java brokers write it.
//!
//! Integer map keys stand without quotes, and a map keyed by a message queue has objects for keys. Java's clients
//! and tools rely on the latter, some clients on the former.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// Compact JSON with bare integer keys.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    write(value, JavaFormatter { standard: false, key: Key::Outside })
}

/// Compact standard JSON, all keys quoted, in ASCII: the form of a route that newer clients ask for.
pub fn to_vec_standard<T: Serialize>(value: &T) -> Vec<u8> {
    write(value, JavaFormatter { standard: true, key: Key::Outside })
}

fn write<T: Serialize>(value: &T, formatter: JavaFormatter) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, formatter));
    // A Vec takes all bytes, and our body types have keys of text or integers only.
    written.expect("body types are representable");
    out
}

/// Appends `{{key}:{value},...}` for keys that are objects themselves.
pub(crate) fn push_object_keyed<'a, K, V>(
    out: &mut Vec<u8>,
    entries: impl IntoIterator<Item = (&'a K, &'a V)>,
) where
    K: Serialize + 'a,
    V: Serialize + 'a,
{
    out.push(b'{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&to_vec(key));
        out.push(b':');
        out.extend_from_slice(&to_vec(value));
    }
    out.push(b'}');
}

struct JavaFormatter {
    /// Quote integer keys and escape what is not ASCII.
    standard: bool,
    key: Key,
}

#[derive(PartialEq)]
enum Key {
    Outside,
    /// A key has begun; its quote waits until it turns out to be text.
    Undecided,
    Quoted,
    Bare,
}

impl JavaFormatter {
    fn settle<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.key == Key::Undecided {
            self.key = Key::Quoted;
            writer.write_all(b"\"")?;
        }
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident($type:ty))*) => {
        $(fn $method<W: ?Sized + Write>(&mut self, writer: &mut W, value: $type) -> io::Result<()> {
            if self.key == Key::Undecided {
                self.key = Key::Bare;
            }
            CompactFormatter.$method(writer, value)
        })*
    };
}

impl Formatter for JavaFormatter {
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !self.standard {
            self.key = Key::Undecided;
        }
        CompactFormatter.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.key = Key::Outside;
        Ok(())
    }

    fn begin_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.key {
            Key::Undecided => Ok(()),
            _ => writer.write_all(b"\""),
        }
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.settle(writer)?;
        match self.key {
            Key::Bare => Ok(()),
            _ => writer.write_all(b"\""),
        }
    }

    integers! { write_i8(i8) write_i16(i16) write_i32(i32) write_i64(i64) }
    integers! { write_u8(u8) write_u16(u16) write_u32(u32) write_u64(u64) }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        self.settle(writer)?;
        if !self.standard || fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => writer.write_all(&[byte])?,
                _ => write!(writer, "\\u{unit:04X}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.settle(writer)?;
        CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn integer_keys_are_bare_and_text_keys_are_not() {
        let inner = BTreeMap::from([(-1i64, "a\"b"), (2, "")]);
        let value = BTreeMap::from([("", inner.clone()), ("x\n", inner)]);
        let expected = r#"{"":{-1:"a\"b",2:""},"x\n":{-1:"a\"b",2:""}}"#;
        assert_eq!(String::from_utf8(to_vec(&value)).unwrap(), expected);
    }

    #[test]
    fn the_standard_form_is_ascii_and_quoted() {
        let value = BTreeMap::from([(0i64, "é😀")]);
        assert_eq!(String::from_utf8(to_vec_standard(&value)).unwrap(), r#"{"0":"\u00E9\uD83D\uDE00"}"#);
        assert!(serde_json::from_slice::<serde_json::Value>(&to_vec_standard(&value)).is_ok());
    }
}
