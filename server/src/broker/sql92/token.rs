//! The words of an expression.

use super::SyntaxError;

#[derive(Clone, Debug, PartialEq)]
pub enum Token<'t> {
    Keyword(Keyword),
    /// A property.
    Name(&'t str),
    /// Without its quotes, doubled quotes made one.
    Text(String),
    /// Digits only.
    Whole(&'t str),
    Decimal(&'t str),
    /// Comparison, sign, parenthesis or comma.
    Symbol(&'static str),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyword {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
}

const KEYWORDS: [(&str, Keyword); 12] = [
    ("NOT", Keyword::Not),
    ("AND", Keyword::And),
    ("OR", Keyword::Or),
    ("BETWEEN", Keyword::Between),
    ("IN", Keyword::In),
    ("TRUE", Keyword::True),
    ("FALSE", Keyword::False),
    ("NULL", Keyword::Null),
    ("IS", Keyword::Is),
    ("CONTAINS", Keyword::Contains),
    ("STARTSWITH", Keyword::StartsWith),
    ("ENDSWITH", Keyword::EndsWith),
];

/// Longer ones first.
const SYMBOLS: [&str; 11] = ["<>", ">=", "<=", "=", ">", "<", "(", ")", "+", "-", ","];

/// Reads one token after the other, and no further: what follows a complete expression may be anything.
pub struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token and where it begins, in bytes.
    pub fn next(&mut self) -> Result<(usize, Token<'t>), SyntaxError> {
        self.skip_blank();
        let start = self.at;
        let rest = &self.text[start..];
        let bytes = rest.as_bytes();
        let token = match bytes.first() {
            None => return Ok((start, Token::End)),
            Some(b'\'') => return self.string(start),
            Some(b'0'..=b'9' | b'.') => number(rest),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$') => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
                let len = bytes.iter().take_while(|byte| is_part(byte)).count();
                Some((len, word(&rest[..len])))
            }
            Some(_) => SYMBOLS
                .iter()
                .find(|symbol| rest.starts_with(**symbol))
                .map(|symbol| (symbol.len(), Token::Symbol(symbol))),
        };
        let Some((len, token)) = token else {
            let first = rest.chars().next().unwrap_or_default();
            return Err(error_at(self.text, start, format!("'{first}' begins nothing known")));
        };
        self.at = start + len;
        Ok((start, token))
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let len = match rest.as_bytes() {
                [b' ' | b'\t' | b'\n' | b'\r' | b'\x0c', ..] => 1,
                // A comment needs its end; without one these are two signs.
                [b'-', b'-', ..] => match rest.find(['\n', '\r']) {
                    Some(end) => end + 1,
                    None => return,
                },
                [b'/', b'*', ..] => match rest[2..].find("*/") {
                    Some(end) => end + 4,
                    None => return,
                },
                _ => return,
            };
            self.at += len;
        }
    }

    fn string(&mut self, start: usize) -> Result<(usize, Token<'t>), SyntaxError> {
        let mut value = String::new();
        let mut at = start + 1;
        loop {
            let Some(len) = self.text[at..].find('\'') else {
                return Err(error_at(self.text, start, "a string without an end".to_owned()));
            };
            value.push_str(&self.text[at..at + len]);
            at += len + 1;
            if !self.text[at..].starts_with('\'') {
                self.at = at;
                return Ok((start, Token::Text(value)));
            }
            value.push('\'');
            at += 1;
        }
    }
}

pub fn error_at(text: &str, at: usize, what: String) -> SyntaxError {
    SyntaxError { position: text[..at].chars().count() + 1, what }
}

fn word(word: &str) -> Token<'_> {
    let keyword = KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    keyword.map_or(Token::Name(word), |(_, keyword)| Token::Keyword(*keyword))
}

/// The longest number that the text begins with. A whole one has no leading zero: `007` is `0`, then `0`, then `7`.
fn number(text: &str) -> Option<(usize, Token<'_>)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let mut len = whole;
    let mut is_decimal = false;
    if bytes.get(whole) == Some(&b'.') {
        let fraction = digits(whole + 1);
        if whole + fraction == 0 {
            return None;
        }
        len = whole + 1 + fraction;
        is_decimal = true;
    }
    if let Some(b'e' | b'E') = bytes.get(len) {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        let exponent = digits((len + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            len += 1 + sign + exponent;
            is_decimal = true;
        }
    }
    if is_decimal {
        return Some((len, Token::Decimal(&text[..len])));
    }
    if bytes[0] == b'0' {
        return Some((1, Token::Whole("0")));
    }
    let suffix = usize::from(matches!(bytes.get(whole), Some(b'l' | b'L')));
    Some((whole + suffix, Token::Whole(&text[..whole])))
}
