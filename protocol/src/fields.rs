//! The ext fields of a header: pairs of text, read where they stand.
//!
//! No map is built: handlers want all fields of a known header, which is one pass, and few want a single field.
//! JSON has to be searched for the ends of its strings once anyway, to find the end of the header; the places of
//! the first fields are kept from that, so that nearly no header is searched twice.

use crate::json_scan::{Malformed, Scanner, Value};
use crate::text::Text;

/// As many fields as a signed send has.
const PLACES: usize = 16;

/// A view of the ext fields, already checked when the frame was decoded.
#[derive(Clone, Copy, Default)]
pub struct Fields<'a> {
    raw: &'a [u8],
    binary: bool,
    /// JSON: how many places are known, and where the members after them begin.
    known: u16,
    rest_at: u16,
    /// Bit n: the key, or the value, of place n contains escapes.
    escaped_keys: u16,
    escaped_values: u16,
    places: [Place; PLACES],
}

#[derive(Clone, Copy, Default)]
struct Place {
    key_at: u16,
    key_len: u16,
    value_at: u16,
    value_len: u16,
}

impl<'a> Fields<'a> {
    /// Walks the JSON object, or null, that comes next.
    #[inline(always)]
    pub(crate) fn walk(scanner: &mut Scanner<'a>) -> Result<Self, Malformed> {
        let mut fields = Self::default();
        let raw = scanner.walk_object(|inside, key, value, next| fields.record(inside, key, value, next))?;
        fields.raw = raw.unwrap_or_default();
        Ok(fields)
    }

    #[inline(always)]
    fn record(&mut self, inside: &'a [u8], key: Text<'a>, value: Value<'a>, next: usize) {
        let place = usize::from(self.known);
        // The rest begins at the first field without a place; none gets one after it.
        let Ok(next) = u16::try_from(next) else { return };
        if place == PLACES {
            return;
        }
        let Some(value) = text_of(value) else {
            // A null in front of the rest is walked over once more; no matter.
            return;
        };
        let bit = 1 << place;
        if key.as_plain().is_none() {
            self.escaped_keys |= bit;
        }
        if value.as_plain().is_none() {
            self.escaped_values |= bit;
        }
        // All below `next`, which fits.
        let at = |part: &[u8]| (part.as_ptr().addr() - inside.as_ptr().addr()) as u16;
        self.places[place] = Place {
            key_at: at(key.raw()),
            key_len: key.raw().len() as u16,
            value_at: at(value.raw()),
            value_len: value.raw().len() as u16,
        };
        self.known += 1;
        self.rest_at = next;
    }

    /// The ext section of a binary header; `None` when a length leads out of it.
    pub(crate) fn binary(raw: &'a [u8]) -> Option<Self> {
        let mut rest = raw;
        while !rest.is_empty() {
            binary_pair(&mut rest)?;
        }
        Some(Self { raw, binary: true, ..Self::default() })
    }

    #[inline(always)]
    pub fn iter(&self) -> Iter<'_, 'a> {
        let rest = &self.raw[usize::from(self.rest_at)..];
        Iter { fields: self, place: 0, rest: if self.binary { Rest::Binary(rest) } else { Rest::Json(rest) } }
    }

    /// Calls `visit` with key and value of each field. Faster than a loop over [`iter`](Self::iter): a text that
    /// comes from one of two places is passed through memory, which costs more than finding it.
    #[inline(always)]
    pub(crate) fn visit(&self, mut visit: impl FnMut(Text<'a>, Text<'a>)) {
        for place in 0..usize::from(self.known).min(PLACES) {
            let (key, value) = self.at_place(place);
            visit(key, value);
        }
        if self.binary {
            let mut rest = self.raw;
            while let Some((key, value)) = binary_field(&mut rest) {
                visit(key, value);
            }
        } else if usize::from(self.rest_at) < self.raw.len() {
            self.visit_rest(&mut visit);
        }
    }

    #[inline(never)]
    fn visit_rest(&self, visit: &mut dyn FnMut(Text<'a>, Text<'a>)) {
        for (key, value) in (Iter { place: PLACES, ..self.iter() }) {
            visit(key, value);
        }
    }

    #[inline(always)]
    fn at_place(&self, place: usize) -> (Text<'a>, Text<'a>) {
        let Place { key_at, key_len, value_at, value_len } = self.places[place];
        let slice = |at: u16, len: u16| &self.raw[usize::from(at)..usize::from(at) + usize::from(len)];
        (
            Text::json(slice(key_at, key_len), self.escaped_keys >> place & 1 == 1),
            Text::json(slice(value_at, value_len), self.escaped_values >> place & 1 == 1),
        )
    }

    /// The value of `name`. As in a map that was filled in order, the last of several wins.
    pub fn find(&self, name: &str) -> Option<Text<'a>> {
        self.iter().filter(|(key, _)| *key == *name).last().map(|(_, value)| value)
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'f, 'a> IntoIterator for &'f Fields<'a> {
    type Item = (Text<'a>, Text<'a>);
    type IntoIter = Iter<'f, 'a>;

    fn into_iter(self) -> Iter<'f, 'a> {
        self.iter()
    }
}

/// Yields key and value; fields without a value (null) are left out, as in Java.
pub struct Iter<'f, 'a> {
    fields: &'f Fields<'a>,
    place: usize,
    rest: Rest<'a>,
}

enum Rest<'a> {
    Json(&'a [u8]),
    Scanning(Scanner<'a>),
    Binary(&'a [u8]),
}

impl<'a> Iterator for Iter<'_, 'a> {
    type Item = (Text<'a>, Text<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.place < usize::from(self.fields.known).min(PLACES) {
            self.place += 1;
            return Some(self.fields.at_place(self.place - 1));
        }
        self.next_of_rest()
    }
}

impl<'a> Iter<'_, 'a> {
    fn next_of_rest(&mut self) -> Option<(Text<'a>, Text<'a>)> {
        if let Rest::Json(rest) = self.rest {
            if rest.is_empty() {
                return None;
            }
            self.rest = Rest::Scanning(Scanner::new(rest));
        }
        match &mut self.rest {
            Rest::Scanning(scanner) => loop {
                // The scan cannot fail: the same one has accepted these bytes before.
                let (key, value) = scanner.inner_member().ok()??;
                if let Some(value) = text_of(value) {
                    return Some((key, value));
                }
            },
            Rest::Binary(rest) => binary_field(rest),
            Rest::Json(_) => None,
        }
    }
}

#[inline(always)]
fn text_of(value: Value<'_>) -> Option<Text<'_>> {
    match value {
        Value::Text(text) => Some(text),
        // Java makes a text of it; no client sends one and nobody reads it.
        Value::Array(text) | Value::Object(text) => Some(Text::plain(text)),
        Value::Null => None,
    }
}

/// The next pair that is no null; a length of zero stands for one.
#[inline(always)]
fn binary_field<'a>(rest: &mut &'a [u8]) -> Option<(Text<'a>, Text<'a>)> {
    while !rest.is_empty() {
        let (key, value) = binary_pair(rest)?;
        if !key.is_empty() && !value.is_empty() {
            return Some((Text::plain(key), Text::plain(value)));
        }
    }
    None
}

#[inline(always)]
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

#[cfg(test)]
mod tests {
    use super::*;

    /// More fields than places, nulls at every position, and values beyond the reach of a place.
    #[test]
    fn no_field_is_lost_or_seen_twice() {
        for count in [0, 1, 2, PLACES - 1, PLACES, PLACES + 1, PLACES + 5] {
            for null_at in 0..=count {
                for long_at in [usize::MAX, 0, count / 2, count.saturating_sub(1)] {
                    let mut text = "{".to_owned();
                    let mut expected = Vec::new();
                    for at in 0..count {
                        if at == null_at {
                            text.push_str("\"null\":null,");
                        }
                        let value = if at == long_at { "v".repeat(70_000) } else { format!("\\u0001{at}") };
                        text.push_str(&format!("\"k\\n{at}\":\"{value}\","));
                        expected.push((format!("k\n{at}"), value.replace("\\u0001", "\u{1}")));
                    }
                    text.push('}');
                    let fields = Fields::walk(&mut Scanner::new(text.as_bytes())).unwrap();
                    let found: Vec<_> = fields.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
                    assert_eq!(found, expected, "{text:.200}");
                }
            }
        }
    }
}
