//! The syntax of a `.properties` file, as Java reads it.
//!
//! One difference on purpose: the bytes are UTF-8 when they are valid UTF-8 (with or without a byte order
//! mark) and Latin-1 only otherwise, so that names in any script work while GBK comments stay harmless.

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    /// Where it starts, counted from 1.
    pub line: u32,
    pub key: String,
    pub value: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    pub line: u32,
    pub what: String,
}

/// All properties in the order of the file, duplicates included: the last one of a key counts.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, SyntaxError> {
    let text = decode(bytes);
    let mut properties = Vec::new();
    let mut lines = split_lines(&text).zip(1u32..);
    while let Some((first, line)) = lines.next() {
        let first = first.trim_start_matches(BLANK);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_open_backslash(&logical) {
            logical.pop();
            let Some((next, _)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANK));
        }
        let (key, value) = split_key(&logical);
        let unescape = |part| unescape(part).map_err(|what| SyntaxError { line, what });
        properties.push(Property { line, key: unescape(key)?, value: unescape(value)? });
    }
    Ok(properties)
}

/// The text of a file after some keys were changed: comments and other keys stay, a changed key stands once, at the end.
pub fn with(bytes: &[u8], changes: &[(String, String)]) -> String {
    let text = decode(bytes);
    let mut kept = String::with_capacity(text.len());
    let mut lines = split_lines(&text);
    while let Some(first) = lines.next() {
        let mut physical = vec![first];
        let trimmed = first.trim_start_matches(BLANK);
        let is_property = !trimmed.is_empty() && !trimmed.starts_with(['#', '!']);
        while is_property && ends_in_open_backslash(physical[physical.len() - 1]) {
            let Some(next) = lines.next() else { break };
            physical.push(next);
        }
        let key = unescape(split_key(trimmed).0).unwrap_or_default();
        if !is_property || changes.iter().all(|(changed, _)| *changed != key) {
            for line in physical {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    // What follows the last line end is no line.
    let mut kept = kept.trim_end_matches('\n').to_owned();
    let mut written: Vec<&(String, String)> = Vec::new();
    for change in changes {
        written.retain(|(key, _)| *key != change.0);
        written.push(change);
    }
    for (key, value) in written {
        if !kept.is_empty() {
            kept.push('\n');
        }
        push_escaped(&mut kept, key, |c| matches!(c, '=' | ':' | '#' | '!') || BLANK.contains(&c));
        kept.push('=');
        push_escaped(&mut kept, value, |_| false);
    }
    kept.push('\n');
    kept
}

fn push_escaped(out: &mut String, text: &str, is_special: impl Fn(char) -> bool) {
    for (at, c) in text.char_indices() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            // A blank at the start would be taken for part of the separator.
            c if is_special(c) || at == 0 && BLANK.contains(&c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

fn decode(bytes: &[u8]) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    };
    text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)
}

/// Lines end at `\n`, `\r` or `\r\n`.
fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at(end);
        rest = Some(tail.strip_prefix("\r\n").unwrap_or(&tail[1..]));
        Some(line)
    })
}

fn ends_in_open_backslash(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

/// The key ends at the first unescaped `=`, `:` or blank; one separator with blanks around it is skipped.
fn split_key(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (c == '=' || c == ':' || BLANK.contains(&c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, String> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // Java's escapes name UTF-16 units, so two of them may form one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    units.push(hex_unit(&mut chars)?);
                    continue;
                }
                Some(other) => other,
                None => break,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

fn hex_unit(chars: &mut std::str::Chars<'_>) -> Result<u16, String> {
    let digits: String = chars.take(4).collect();
    if digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(u16::from_str_radix(&digits, 16).expect("four hexadecimal digits"));
    }
    Err(format!("\\u must be followed by four hexadecimal digits, found '{digits}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap().into_iter().map(|p| (p.key, p.value)).collect()
    }

    fn one(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn all_separators_are_equal_and_only_one_is_taken() {
        for text in ["a=b", "a = b", "a:b", "a b", "  a   =   b", "\ta\tb", "a\u{c}:b"] {
            assert_eq!(one(text), pair("a", "b"), "{text:?}");
        }
        assert_eq!(one("a==b"), pair("a", "=b"));
        assert_eq!(one("a= :b"), pair("a", ":b"));
        assert_eq!(one("alone"), pair("alone", ""));
        assert_eq!(one("=b"), pair("", "b"));
    }

    #[test]
    fn a_changed_key_stands_once_and_everything_else_stays() {
        let file = "# mine\na=1\nb=x\\\n  y\n\nc : 3\na=2";
        let changed = with(file.as_bytes(), &[pair("a", "5"), pair("b", " \\q\n"), pair("d e", "#6")]);
        assert_eq!(changed, "# mine\n\nc : 3\na=5\nb=\\ \\\\q\\n\nd\\ e=#6\n");
        let read = [pair("c", "3"), pair("a", "5"), pair("b", " \\q\n"), pair("d e", "#6")];
        assert_eq!(pairs(&changed), read);
        assert_eq!(pairs(&with(changed.as_bytes(), &[])), read);
        assert_eq!(with(b"", &[pair("a", "1"), pair("a", "2")]), "a=2\n");
    }

    #[test]
    fn comments_are_whole_lines_only() {
        assert_eq!(pairs("# a=1\n  ! b=2\n\t\n\u{c}\nc=3 # night \n"), [pair("c", "3 # night ")]);
        assert_eq!(pairs("# goes on \\\na=1"), [pair("a", "1")]);
    }

    #[test]
    fn an_odd_backslash_at_the_end_continues_the_line() {
        assert_eq!(pairs("peers=a;\\\n    b;\\\r\n  c\nd=e"), [pair("peers", "a;b;c"), pair("d", "e")]);
        assert_eq!(pairs("a=x\\\\\nb=y"), [pair("a", "x\\"), pair("b", "y")]);
        assert_eq!(pairs("a=x\\"), [pair("a", "x")]);
        let lines: Vec<u32> = parse(b"a=1\\\n2\n\r\nb=3").unwrap().iter().map(|p| p.line).collect();
        assert_eq!(lines, [1, 4]);
    }

    #[test]
    fn escapes_in_key_and_value() {
        assert_eq!(one(r"a\=b\:c\ d=\q\\\t\u4e2d"), pair("a=b:c d", "q\\\t中"));
        assert_eq!(one(r"smile=\ud83d\ude00"), pair("smile", "😀"));
        for bad in [r"a=\u12", r"a=\u12g4", r"a=\u+123", r"\u=1"] {
            assert_eq!(parse(format!("ok=1\n{bad}").as_bytes()).unwrap_err().line, 2, "{bad}");
        }
    }

    #[test]
    fn line_ends_of_every_system() {
        assert_eq!(
            pairs("a=1\rb=2\r\nc=3\n\nd=4"),
            [pair("a", "1"), pair("b", "2"), pair("c", "3"), pair("d", "4")]
        );
    }

    #[test]
    fn utf_8_with_a_mark_and_other_encodings_both_read() {
        assert_eq!(one("\u{feff}名字=经纪"), pair("名字", "经纪"));
        let gbk_comment = b"#\xcb\xf9\xca\xf4\nbrokerName=broker-a\n";
        assert_eq!(parse(gbk_comment).unwrap()[0].value, "broker-a");
    }
}
