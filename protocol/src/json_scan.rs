//! Tokens of the JSON that clients put into headers: standard JSON plus what Java's reader lets through
//! (single-quoted and bare keys, trailing commas, numbers for text).
//!
//! Nothing is copied or converted; a token is a slice of the header.

use crate::byte_search::find_either;
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
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
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

    /// Walks the object that comes next member by member and returns its inside; `None` for a null.
    pub(crate) fn walk_object(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.skip_space() != Some(b'{') {
            return match self.bare_value()? {
                Value::Null => Ok(None),
                _ => Err(Malformed),
            };
        }
        self.at += 1;
        let start = self.at;
        while self.member()?.is_some() {}
        Ok(Some(&self.input[start..self.at - 1]))
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
    #[inline]
    pub(crate) fn member(&mut self) -> Result<Option<(Text<'a>, Value<'a>)>, Malformed> {
        match self.key()? {
            Some(key) => Ok(Some((key, self.value()?))),
            None => Ok(None),
        }
    }

    /// The next member of an object's inside, or `None` at its end.
    #[inline]
    pub(crate) fn inner_member(&mut self) -> Result<Option<(Text<'a>, Value<'a>)>, Malformed> {
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
        let mut at = start;
        let mut escaped = false;
        loop {
            at = find_either(self.input, at, quote, b'\\').ok_or(Malformed)?;
            if self.input[at] == quote {
                self.at = at + 1;
                return Ok(Text::json(&self.input[start..at], escaped));
            }
            escaped = true;
            at += 2;
        }
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
