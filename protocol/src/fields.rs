//! The ext fields of a header: pairs of text, read where they stand.
//!
//! No map is built. Handlers want all fields of a known header, which is one pass; few want a single field.

use crate::json_scan::{Scanner, Value};
use crate::text::Text;

/// A view of the ext fields, already checked when the frame was decoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    raw: &'a [u8],
    binary: bool,
}

impl<'a> Fields<'a> {
    /// The inside of an `extFields` object that has been walked to its end.
    pub(crate) fn json_checked(raw: &'a [u8]) -> Self {
        Self { raw, binary: false }
    }

    /// The ext section of a binary header; `None` when a length leads out of it.
    pub(crate) fn binary(raw: &'a [u8]) -> Option<Self> {
        let mut rest = raw;
        while !rest.is_empty() {
            binary_pair(&mut rest)?;
        }
        Some(Self { raw, binary: true })
    }

    pub fn iter(&self) -> Iter<'a> {
        Iter(if self.binary { Cursor::Binary(self.raw) } else { Cursor::Json(Scanner::new(self.raw)) })
    }

    /// The value of `name`. As in a map that was filled in order, the last of several wins.
    pub fn find(&self, name: &str) -> Option<Text<'a>> {
        self.iter().filter(|(key, _)| *key == *name).last().map(|(_, value)| value)
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> IntoIterator for &Fields<'a> {
    type Item = (Text<'a>, Text<'a>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Yields key and value; fields without a value (null) are left out, as in Java.
pub struct Iter<'a>(Cursor<'a>);

enum Cursor<'a> {
    Json(Scanner<'a>),
    Binary(&'a [u8]),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Text<'a>, Text<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Cursor::Json(scanner) => loop {
                // The scan cannot fail: the same one has accepted these bytes before.
                let (key, value) = scanner.inner_member().ok()??;
                match value {
                    Value::Text(text) => return Some((key, text)),
                    Value::Array(text) => return Some((key, Text::plain(text))),
                    // Java turns it into its JSON text, but no client sends one and nobody reads it.
                    Value::Object(inside) => return Some((key, Text::plain(inside))),
                    Value::Null => {}
                }
            },
            Cursor::Binary(rest) => loop {
                if rest.is_empty() {
                    return None;
                }
                let (key, value) = binary_pair(rest)?;
                // A length of zero stands for null.
                if !key.is_empty() && !value.is_empty() {
                    return Some((Text::plain(key), Text::plain(value)));
                }
            },
        }
    }
}

#[inline]
fn binary_pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (key_len, tail) = rest.split_first_chunk::<2>()?;
    let key_len = usize::try_from(i16::from_be_bytes(*key_len)).ok()?;
    let (key, tail) = tail.split_at_checked(key_len)?;
    let (value_len, tail) = tail.split_first_chunk::<4>()?;
    let value_len = usize::try_from(i32::from_be_bytes(*value_len)).ok()?;
    let (value, tail) = tail.split_at_checked(value_len)?;
    *rest = tail;
    Some((key, value))
}
