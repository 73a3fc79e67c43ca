//! A piece of text as it stands in a frame.
//!
//! Most values are looked at once (a number, a name compared with a table) or copied once (properties into the
//! log), so JSON escapes are undone only on use and UTF-8 is checked only where a `str` is asked for.

use std::borrow::Cow;
use std::fmt;

use crate::byte_search::find_either;

/// Borrowed text of a header: raw UTF-8, or the inside of a JSON string with its escapes.
#[derive(Clone, Copy, Default)]
pub struct Text<'a> {
    raw: &'a [u8],
    escapes: Escapes,
}

/// Whether a text contains JSON escapes. As wide as a word: a `bool` would leave padding, and copying texts with
/// padding, which decoding does all the time, costs a stalled load each.
#[derive(Clone, Copy, Default, PartialEq)]
#[repr(usize)]
enum Escapes {
    #[default]
    Absent,
    Present,
}

/// The text is not the decimal form of the integer that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a number")]
pub struct NotANumber;

impl<'a> Text<'a> {
    /// Text that contains no escapes.
    pub const fn new(text: &'a str) -> Self {
        Self::plain(text.as_bytes())
    }

    /// Bytes that contain no escapes. They need not be UTF-8: some clients send properties in other encodings.
    pub const fn plain(raw: &'a [u8]) -> Self {
        Self { raw, escapes: Escapes::Absent }
    }

    /// The inside of a JSON string; `escaped` tells whether it contains a backslash.
    #[inline(always)]
    pub(crate) const fn json(raw: &'a [u8], escaped: bool) -> Self {
        Self { raw, escapes: if escaped { Escapes::Present } else { Escapes::Absent } }
    }

    /// The bytes as they stand in the frame, escapes and all.
    pub(crate) const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The bytes themselves, or `None` when they contain escapes and have to be decoded with [`Text::push_to`].
    #[inline(always)]
    pub const fn as_plain(&self) -> Option<&'a [u8]> {
        match self.escapes {
            Escapes::Absent => Some(self.raw),
            Escapes::Present => None,
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Number of bytes that [`Text::push_to`] appends.
    pub fn len_unescaped(&self) -> usize {
        if self.escapes == Escapes::Absent {
            return self.raw.len();
        }
        let mut len = 0;
        self.for_each_run(|run| {
            len += run.len();
            true
        });
        len
    }

    /// Appends the text with its escapes undone.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        if self.escapes == Escapes::Absent {
            out.extend_from_slice(self.raw);
            return;
        }
        self.for_each_run(|run| {
            out.extend_from_slice(run);
            true
        });
    }

    /// Writes the text with its escapes undone to the start of `out`, and returns how long it is.
    ///
    /// # Panics
    /// When `out` is shorter than [`Text::len_unescaped`].
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        if self.escapes == Escapes::Absent {
            out[..self.raw.len()].copy_from_slice(self.raw);
            return self.raw.len();
        }
        let mut at = 0;
        self.for_each_run(|run| {
            out[at..at + run.len()].copy_from_slice(run);
            at += run.len();
            true
        });
        at
    }

    /// The text as a string; bytes that are not UTF-8 become U+FFFD, as they do in Java.
    pub fn cow(&self) -> Cow<'a, str> {
        match self.as_plain() {
            Some(raw) => String::from_utf8_lossy(raw),
            None => {
                let mut bytes = Vec::with_capacity(self.raw.len());
                self.push_to(&mut bytes);
                Cow::Owned(match String::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                })
            }
        }
    }

    pub fn parse_i32(&self) -> Result<i32, NotANumber> {
        i32::try_from(self.parse_i64()?).map_err(|_| NotANumber)
    }

    /// Reads decimal digits with an optional sign, and nothing else.
    pub fn parse_i64(&self) -> Result<i64, NotANumber> {
        match self.as_plain() {
            Some(raw) => parse_i64(raw),
            None => parse_i64(self.cow().as_bytes()),
        }
    }

    /// Only `true`, in any letter case, is true; `1` is not.
    pub fn parse_bool(&self) -> bool {
        match self.as_plain() {
            Some(raw) => raw.eq_ignore_ascii_case(b"true"),
            None => self.cow().eq_ignore_ascii_case("true"),
        }
    }

    /// Feeds the decoded bytes to `sink` run by run until it returns false; returns false if it did.
    pub(crate) fn for_each_run(&self, mut sink: impl FnMut(&[u8]) -> bool) -> bool {
        let mut rest = self.raw;
        // A backslash in text without escapes is just a backslash.
        if self.escapes == Escapes::Absent {
            return rest.is_empty() || sink(rest);
        }
        while let Some(at) = find_either(rest, 0, b'\\', b'\\') {
            if at > 0 && !sink(&rest[..at]) {
                return false;
            }
            let (decoded, len) = Escape::decode(&rest[at + 1..]);
            if !sink(decoded.as_bytes()) {
                return false;
            }
            rest = &rest[at + 1 + len..];
        }
        rest.is_empty() || sink(rest)
    }
}

fn parse_i64(raw: &[u8]) -> Result<i64, NotANumber> {
    let (negative, digits) = match raw {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(NotANumber);
    }
    let mut value = 0i64;
    // Eighteen digits cannot overflow; only longer texts pay for the checks. Negative, so that i64::MIN fits.
    if digits.len() <= 18 {
        for &digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return Err(NotANumber);
            }
            value = value * 10 - i64::from(digit);
        }
    } else {
        for &digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return Err(NotANumber);
            }
            value = value.checked_mul(10).and_then(|v| v.checked_sub(i64::from(digit))).ok_or(NotANumber)?;
        }
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or(NotANumber) }
}

/// One decoded escape sequence.
struct Escape {
    utf8: [u8; 4],
    len: u8,
}

impl Escape {
    fn as_bytes(&self) -> &[u8] {
        &self.utf8[..usize::from(self.len)]
    }

    fn char(value: char) -> Self {
        let mut utf8 = [0; 4];
        let len = value.encode_utf8(&mut utf8).len() as u8;
        Self { utf8, len }
    }

    fn byte(value: u8) -> Self {
        Self { utf8: [value, 0, 0, 0], len: 1 }
    }

    /// Decodes what follows a backslash; also returns how many bytes that takes.
    ///
    /// Whatever is no JSON escape stands for itself: a header is not worth a connection. A lone surrogate or a
    /// broken \u becomes U+FFFD.
    #[inline]
    fn decode(rest: &[u8]) -> (Self, usize) {
        // The separators of properties, by far the most frequent escapes.
        if let [b'u', b'0', b'0', b'0', digit @ b'0'..=b'9', ..] = rest {
            return (Self::byte(digit - b'0'), 5);
        }
        Self::decode_any(rest)
    }

    #[inline(never)]
    fn decode_any(rest: &[u8]) -> (Self, usize) {
        let Some(&first) = rest.first() else {
            return (Self::byte(b'\\'), 0);
        };
        let byte = match first {
            b'u' => return Self::decode_unicode(rest),
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'v' => 0x0b,
            other => other,
        };
        (Self::byte(byte), 1)
    }

    /// `rest` starts at the `u`.
    fn decode_unicode(rest: &[u8]) -> (Self, usize) {
        let Some(unit) = rest.get(1..5).and_then(hex4) else {
            return (Self::char(char::REPLACEMENT_CHARACTER), 1);
        };
        if let Some(value) = char::from_u32(u32::from(unit)) {
            return (Self::char(value), 5);
        }
        let low = match rest.get(5..11) {
            Some([b'\\', b'u', digits @ ..]) => hex4(digits),
            _ => None,
        };
        match low.and_then(|low| char::decode_utf16([unit, low]).next()?.ok()) {
            Some(value) => (Self::char(value), 11),
            None => (Self::char(char::REPLACEMENT_CHARACTER), 5),
        }
    }
}

fn hex4(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0u16, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)? as u16))
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(text)
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        if self.escapes == Escapes::Absent {
            return self.raw == other.as_bytes();
        }
        let mut rest = other.as_bytes();
        let all = self.for_each_run(|run| match rest.strip_prefix(run) {
            Some(tail) => {
                rest = tail;
                true
            }
            None => false,
        });
        all && rest.is_empty()
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.as_plain(), other.as_plain()) {
            (Some(left), Some(right)) => left == right,
            _ => self.cow() == other.cow(),
        }
    }
}

impl Eq for Text<'_> {}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cow().fmt(f)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.cow(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(raw: &str) -> Text<'_> {
        Text::json(raw.as_bytes(), true)
    }

    #[test]
    fn escapes_are_undone_on_use() {
        let text = escaped(r#"a\u0001b\u0002\"\\\/\n\t\r\b\f\u00e9\ud83d\ude00"#);
        let plain = "a\u{1}b\u{2}\"\\/\n\t\r\u{8}\u{c}é😀";
        assert_eq!(text, *plain);
        assert_eq!(text.cow(), plain);
        assert_eq!(text.len_unescaped(), plain.len());
        let mut out = [0; 64];
        assert_eq!(text.copy_to(&mut out), plain.len());
        assert_eq!(&out[..plain.len()], plain.as_bytes());
        assert_ne!(text, *"a");
        assert_ne!(text, *"a\u{1}b\u{2}\"\\/\n\t\r\u{8}\u{c}é😀x");
    }

    #[test]
    fn broken_escapes_do_not_panic() {
        assert_eq!(escaped("a\\").cow(), "a\\");
        assert_eq!(escaped(r"\u12").cow(), "\u{fffd}12");
        assert_eq!(escaped(r"\ud83dx").cow(), "\u{fffd}x");
        assert_eq!(escaped(r"\ud83d\u0041").cow(), "\u{fffd}A");
        assert_eq!(escaped(r"\q").cow(), "q");
        assert_eq!(escaped("\\u1é").cow(), "\u{fffd}1é");
    }

    #[test]
    fn numbers_are_read_as_java_reads_them() {
        assert_eq!(Text::new("-12").parse_i32(), Ok(-12));
        assert_eq!(Text::new("+7").parse_i64(), Ok(7));
        assert_eq!(escaped(r"\u0031").parse_i64(), Ok(1));
        assert_eq!(Text::new("9223372036854775807").parse_i64(), Ok(i64::MAX));
        assert_eq!(Text::new("-9223372036854775808").parse_i64(), Ok(i64::MIN));
        for bad in ["", "-", "+", "1.0", " 1", "1 ", "0x1", "9223372036854775808", "99999999999999999999"] {
            assert_eq!(Text::new(bad).parse_i64(), Err(NotANumber), "{bad}");
        }
        assert_eq!(Text::new("2147483648").parse_i32(), Err(NotANumber));
    }

    #[test]
    fn only_true_is_true() {
        assert!(Text::new("True").parse_bool());
        assert!(!Text::new("1").parse_bool());
        assert!(!Text::new("").parse_bool());
    }

    #[test]
    fn other_encodings_survive_as_bytes() {
        let text = Text::plain(b"\xc4\xe3");
        let mut out = Vec::new();
        text.push_to(&mut out);
        assert_eq!(out, b"\xc4\xe3");
        assert_eq!(text.cow(), "\u{fffd}\u{fffd}");
    }
}
