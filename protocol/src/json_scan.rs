//! Tokens of the JSON that clients put into headers: standard JSON plus what Java's reader lets through
//! (single-quoted and bare keys, trailing commas, numbers for text).
//!
//! Nothing is copied or converted; a token is a slice of the header.

use crate::byte_search::{Marks, find_either};
use crate::text::Text;

/// A JSON value as found, unconverted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// A string, or the text of a number or boolean.
    Text(Text<'a>),
    Null,
    /// What is between the braces.
    Object(&'a [u8]),
    /// The whole text including its brackets.
    Array(&'a [u8]),
}

/// The header is not JSON, not even leniently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Malformed;

pub(crate) struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    marks: Marks<'a>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, marks: Marks::new(input) }
    }

    /// Enters the object that the input must consist of.
    pub(crate) fn enter_object(&mut self) -> Result<(), Malformed> {
        match self.skip_space() {
            Some(b'{') => {
                self.at += 1;
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// Passes over `literal` if it comes next.
    #[inline(always)]
    pub(crate) fn accept(&mut self, literal: &[u8]) -> bool {
        let found = self.input.get(self.at..).is_some_and(|rest| rest.starts_with(literal));
        if found {
            self.at += literal.len();
        }
        found
    }

    /// Reads a bare integer that a comma or brace ends, or nothing.
    #[inline(always)]
    pub(crate) fn accept_i32(&mut self) -> Option<i32> {
        let start = self.at;
        let negative = self.input.get(start) == Some(&b'-');
        let mut at = start + usize::from(negative);
        let mut value = 0i64;
        while let Some(&digit @ b'0'..=b'9') = self.input.get(at) {
            value = value * 10 + i64::from(digit - b'0');
            at += 1;
            if value > 1 << 31 {
                return None;
            }
        }
        let has_digits = at > start + usize::from(negative);
        if !has_digits || !matches!(self.input.get(at), Some(b',' | b'}')) {
            return None;
        }
        let value = i32::try_from(if negative { -value } else { value }).ok()?;
        self.at = at;
        Some(value)
    }

    /// Walks the object that comes next, or a null, and returns its inside. `record` learns of each member and of
    /// where in the inside the next one begins.
    #[inline(always)]
    pub(crate) fn walk_object(
        &mut self,
        mut record: impl FnMut(&'a [u8], Text<'a>, Value<'a>, usize),
    ) -> Result<Option<&'a [u8]>, Malformed> {
        if self.skip_space() != Some(b'{') {
            return match self.bare_value()? {
                Value::Null => Ok(None),
                _ => Err(Malformed),
            };
        }
        self.at += 1;
        let start = self.at;
        let inside = &self.input[start..];
        loop {
            if let Some((key, value)) = self.plain_member() {
                record(inside, key, Value::Text(value), self.at - start);
            } else if let Some((key, value)) = self.member()? {
                record(inside, key, value, self.at - start);
            } else {
                return Ok(Some(&self.input[start..self.at - 1]));
            }
        }
    }

    /// A `"key":"value"` and the comma behind it, if that is what comes next.
    #[inline(always)]
    fn plain_member(&mut self) -> Option<(Text<'a>, Text<'a>)> {
        let (input, at) = (self.input, self.at);
        if input.get(at) != Some(&b'"') {
            return None;
        }
        let (key_end, key_escaped) = self.string_end(at + 1)?;
        let value_at = key_end + 3;
        if input.get(key_end + 1..value_at)? != b":\"" {
            return None;
        }
        let (value_end, value_escaped) = self.string_end(value_at)?;
        // Whatever else follows is for the slow path to judge.
        self.at = value_end + if input.get(value_end + 1) == Some(&b',') { 2 } else { 1 };
        let key = Text::json(&input[at + 1..key_end], key_escaped);
        Some((key, Text::json(&input[value_at..value_end], value_escaped)))
    }

    /// Where the double-quoted string that is open at `from` ends, and whether a backslash comes before.
    #[inline(always)]
    fn string_end(&mut self, from: usize) -> Option<(usize, bool)> {
        let mut at = self.marks.next(from)?;
        let mut escaped = false;
        while self.input[at] != b'"' {
            escaped = true;
            at = self.marks.next(at + 2)?;
        }
        Some((at, escaped))
    }

    /// The next key of the object we are in, or `None` past its `}`; a value has to be read next.
    pub(crate) fn key(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        match self.next_key()? {
            Some(key) => Ok(Some(key)),
            None if self.at == self.input.len() => Err(Malformed),
            None => {
                self.at += 1;
                Ok(None)
            }
        }
    }

    /// The next member of the object we are in, or `None` past its `}`.
    #[inline(never)]
    pub(crate) fn member(&mut self) -> Result<Option<(Text<'a>, Value<'a>)>, Malformed> {
        match self.key()? {
            Some(key) => Ok(Some((key, self.value()?))),
            None => Ok(None),
        }
    }

    /// The next member of an object's inside, or `None` at its end.
    // Inlined into each header's loop: returned through memory, the parts of a text cost more than the search.
    #[inline(always)]
    pub(crate) fn inner_member(&mut self) -> Result<Option<(Text<'a>, Value<'a>)>, Malformed> {
        match self.plain_member() {
            Some((key, value)) => Ok(Some((key, Value::Text(value)))),
            None => self.any_inner_member(),
        }
    }

    #[inline(never)]
    fn any_inner_member(&mut self) -> Result<Option<(Text<'a>, Value<'a>)>, Malformed> {
        match self.next_key()? {
            None if self.at == self.input.len() => Ok(None),
            None => Err(Malformed),
            Some(key) => Ok(Some((key, self.value()?))),
        }
    }

    /// True when nothing but white space is left.
    pub(crate) fn at_end(&mut self) -> bool {
        self.skip_space().is_none()
    }

    /// Reads up to and including the colon; `None` (nothing consumed but commas) at a `}` or the end.
    #[inline]
    fn next_key(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        if self.peek() == Some(b',') {
            self.at += 1;
        }
        let first = loop {
            match self.peek() {
                Some(b',' | b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                None | Some(b'}') => return Ok(None),
                Some(first) => break first,
            }
        };
        let key = if first == b'"' || first == b'\'' { self.string(first)? } else { self.bare_key()? };
        if self.peek() == Some(b':') || self.skip_space() == Some(b':') {
            self.at += 1;
            Ok(Some(key))
        } else {
            Err(Malformed)
        }
    }

    fn bare_key(&mut self) -> Result<Text<'a>, Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'-' | b'.'))
        {
            self.at += 1;
        }
        if self.at == start { Err(Malformed) } else { Ok(Text::plain(&self.input[start..self.at])) }
    }

    #[inline]
    pub(crate) fn value(&mut self) -> Result<Value<'a>, Malformed> {
        if self.peek() == Some(b'"') {
            return Ok(Value::Text(self.string(b'"')?));
        }
        match self.skip_space() {
            Some(quote @ (b'"' | b'\'')) => Ok(Value::Text(self.string(quote)?)),
            Some(b'{') => {
                let start = self.at + 1;
                self.skip_nested()?;
                Ok(Value::Object(&self.input[start..self.at - 1]))
            }
            Some(b'[') => {
                let start = self.at;
                self.skip_nested()?;
                Ok(Value::Array(&self.input[start..self.at]))
            }
            _ => self.bare_value(),
        }
    }

    fn bare_value(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.')) {
            self.at += 1;
        }
        match &self.input[start..self.at] {
            b"null" => Ok(Value::Null),
            text @ (b"true" | b"false" | [b'0'..=b'9' | b'-' | b'+' | b'.', ..]) => {
                Ok(Value::Text(Text::plain(text)))
            }
            _ => Err(Malformed),
        }
    }

    /// Skips an object or array; strings inside are skipped as strings, so that their brackets do not count.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                None => return Err(Malformed),
                Some(quote @ (b'"' | b'\'')) => {
                    self.string(quote)?;
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                Some(_) => {}
            }
            self.at += 1;
        }
    }

    /// Reads a string whose opening quote is at the cursor.
    #[inline]
    fn string(&mut self, quote: u8) -> Result<Text<'a>, Malformed> {
        let start = self.at + 1;
        let (end, escaped) = match quote {
            b'"' => self.string_end(start),
            _ => single_quoted_end(self.input, start),
        }
        .ok_or(Malformed)?;
        self.at = end + 1;
        Ok(Text::json(&self.input[start..end], escaped))
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }
}

#[cold]
fn single_quoted_end(input: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = find_either(input, from, b'\'', b'\\')?;
    let mut escaped = false;
    while input[at] != b'\'' {
        escaped = true;
        at = find_either(input, at + 2, b'\'', b'\\')?;
    }
    Some((at, escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(input: &str) -> Result<Vec<(String, Value<'_>)>, Malformed> {
        let mut scanner = Scanner::new(input.as_bytes());
        scanner.enter_object()?;
        let mut found = Vec::new();
        while let Some((key, value)) = scanner.member()? {
            found.push((key.cow().into_owned(), value));
        }
        if scanner.at_end() { Ok(found) } else { Err(Malformed) }
    }

    fn text(value: &str) -> Value<'_> {
        Value::Text(Text::new(value))
    }

    #[test]
    fn accepts_what_java_accepts() {
        let found =
            members(" { \"a\" : 1 ,'b':'x', c:null,\"d\":true,\"e\":{\"x\":\"}\"},\"f\":[1,{}],,} \r\n")
                .unwrap();
        let expected = [
            ("a", text("1")),
            ("b", text("x")),
            ("c", Value::Null),
            ("d", text("true")),
            ("e", Value::Object(b"\"x\":\"}\"")),
            ("f", Value::Array(b"[1,{}]")),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_string(), value)));
    }

    #[test]
    fn rejects_what_is_not_json() {
        for bad in [
            "",
            "{",
            "[]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":\"x}",
            "{\"a\":{}",
            "{a:b}",
            "{\"a\":1}x",
            "{:1}",
            "{\"\\",
        ] {
            assert_eq!(members(bad), Err(Malformed), "{bad}");
        }
    }
}
