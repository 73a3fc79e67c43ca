//! Lenient JSON text to a tree.

use std::fmt;

use serde::de::Error as _;

use super::JsonError;
use crate::byte_search::find_either;
use crate::text::Text;

/// Nesting that no body comes near to; a bound, so that a hostile one cannot exhaust the stack.
const DEPTH_MAX: usize = 64;

/// A JSON value. Numbers keep their text: what they are is decided by whoever asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Node>),
    /// Keys are text, or objects where Java writes a map keyed by one. Members that are null are left out.
    Object(Vec<(Node, Node)>),
}

pub(super) fn document(bytes: &[u8]) -> Result<Node, JsonError> {
    let mut parser = Parser { input: bytes, at: 0 };
    let node = parser.value(0)?;
    match parser.peek_past_space() {
        None => Ok(node),
        Some(_) => parser.fail("text after the value"),
    }
}

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<Node, JsonError> {
        if depth > DEPTH_MAX {
            return self.fail("nested too deeply");
        }
        match self.peek_past_space() {
            Some(quote @ (b'"' | b'\'')) => Ok(Node::String(self.string(quote)?)),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(_) => self.bare_value(),
            None => self.fail("no value"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node, JsonError> {
        self.at += 1;
        let mut members = Vec::new();
        loop {
            let key = match self.peek_past_space() {
                Some(b',') => {
                    self.at += 1;
                    continue;
                }
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Node::Object(members));
                }
                Some(b'{') => self.value(depth + 1)?,
                Some(quote @ (b'"' | b'\'')) => Node::String(self.string(quote)?),
                _ => Node::String(self.bare_word()?),
            };
            if self.peek_past_space() != Some(b':') {
                return self.fail("no colon after a key");
            }
            self.at += 1;
            match self.value(depth + 1)? {
                Node::Null => {}
                value => members.push((key, value)),
            }
            if !matches!(self.peek_past_space(), Some(b',' | b'}')) {
                return self.fail("no comma after a member");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Node, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            match self.peek_past_space() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Node::Array(items));
                }
                _ => {
                    items.push(self.value(depth + 1)?);
                    if !matches!(self.peek_past_space(), Some(b',' | b']')) {
                        return self.fail("no comma after an item");
                    }
                }
            }
        }
    }

    fn bare_value(&mut self) -> Result<Node, JsonError> {
        let word = self.bare_word()?;
        match word.as_str() {
            "null" => Ok(Node::Null),
            "true" => Ok(Node::Bool(true)),
            "false" => Ok(Node::Bool(false)),
            number if number.parse::<f64>().is_ok_and(f64::is_finite) => Ok(Node::Number(word)),
            _ => self.fail("no value"),
        }
    }

    fn bare_word(&mut self) -> Result<String, JsonError> {
        let start = self.at;
        let is_word =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'-' | b'+' | b'.');
        while self.input.get(self.at).is_some_and(is_word) {
            self.at += 1;
        }
        if start == self.at {
            return self.fail("unexpected character");
        }
        Ok(String::from_utf8_lossy(&self.input[start..self.at]).into_owned())
    }

    fn string(&mut self, quote: u8) -> Result<String, JsonError> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            match find_either(self.input, at, quote, b'\\') {
                None => return self.fail("text without an end"),
                Some(end) if self.input[end] == quote => {
                    self.at = end + 1;
                    return Ok(Text::json(&self.input[start..end], escaped).cow().into_owned());
                }
                Some(backslash) => {
                    escaped = true;
                    at = backslash + 2;
                }
            }
        }
    }

    fn peek_past_space(&mut self) -> Option<u8> {
        while let Some(&byte) = self.input.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn fail<T>(&self, what: &str) -> Result<T, JsonError> {
        Err(JsonError::custom(format_args!("{what} at byte {}", self.at)))
    }
}

/// Compact JSON, for an object that turns up where text is wanted.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Null => f.write_str("null"),
            Node::Bool(value) => value.fmt(f),
            Node::Number(text) => f.write_str(text),
            Node::String(text) => {
                let mut quoted = vec![b'"'];
                crate::writer::push_json(&mut quoted, text.as_bytes());
                quoted.push(b'"');
                f.write_str(&String::from_utf8_lossy(&quoted))
            }
            Node::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        f.write_str(",")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Node::Object(members) => {
                f.write_str("{")?;
                for (at, (key, value)) in members.iter().enumerate() {
                    if at > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{key}:{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}
