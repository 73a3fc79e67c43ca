//! Properties of messages: made once with placeholders, which are overwritten for each message.
//!
//! Where a placeholder ended up is found by encoding twice, with it and with another of the same width: the first
//! byte that differs is its place, whatever the encoding around it and whatever else users put there.

use crate::body::mix;

/// A unique key is 32 hex digits: 16 that name the run, 6 the connection, 10 the message.
const UNIQUE_KEY_DIGITS: usize = 32;
/// An index key leaves the run out.
const KEY_DIGITS: usize = 16;

#[derive(Clone, Debug, Default)]
pub struct PropertyShape {
    pub unique_key: bool,
    pub keys: u32,
    /// How many tags messages draw theirs from.
    pub tags: u32,
    /// Chooses tags.
    pub seed: u64,
    /// Properties that all messages have alike, encoded.
    pub fixed: String,
}

/// The placeholder that differs from its usual form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    UniqueKey,
    Key(u32),
    Tag,
}

/// Which message the properties belong to.
#[derive(Clone, Copy)]
pub struct Owner {
    pub run: u64,
    pub connection: u32,
    pub sequence: u64,
}

impl PropertyShape {
    /// All properties, as a Java client writes them, with placeholders; `mark` is the one to write differently.
    pub fn text(&self, mark: Option<Mark>) -> String {
        let digits = |of: Mark, count: usize| if mark == Some(of) { "1" } else { "0" }.repeat(count);
        let mut text = String::new();
        if self.unique_key {
            text.push_str(&format!("UNIQ_KEY\u{1}{}\u{2}", digits(Mark::UniqueKey, UNIQUE_KEY_DIGITS)));
        }
        if self.keys > 0 {
            // The letter in front tells the keys of one message apart.
            let key = |index: u32| {
                let letter = char::from(b'a' + (index % 26) as u8);
                format!("{letter}{index}{}", digits(Mark::Key(index), KEY_DIGITS))
            };
            let keys: Vec<String> = (0..self.keys).map(key).collect();
            text.push_str(&format!("KEYS\u{1}{}\u{2}", keys.join(" ")));
        }
        if self.tags > 0 {
            text.push_str(&format!("TAGS\u{1}Tag{}\u{2}", digits(Mark::Tag, self.tag_letters())));
        }
        text.push_str(&self.fixed);
        text.push_str("WAIT\u{1}true\u{2}");
        text
    }

    fn tag_letters(&self) -> usize {
        if self.tags <= 26 { 1 } else { 2 }
    }
}

/// Where the placeholders are in some bytes.
pub struct Marks {
    unique_key: Option<usize>,
    keys: Vec<usize>,
    tag: Option<usize>,
    shape: PropertyShape,
}

impl Marks {
    /// `encode` makes the bytes that properties are part of, always alike but for the mark.
    pub fn find(shape: &PropertyShape, encode: impl Fn(Option<Mark>) -> Vec<u8>) -> Self {
        let plain = encode(None);
        let place = |mark| first_difference(&plain, &encode(Some(mark)));
        Self {
            unique_key: shape.unique_key.then(|| place(Mark::UniqueKey)),
            keys: (0..shape.keys).map(|index| place(Mark::Key(index))).collect(),
            tag: (shape.tags > 0).then(|| place(Mark::Tag)),
            shape: PropertyShape { fixed: String::new(), ..shape.clone() },
        }
    }

    /// Makes the bytes those of this message.
    pub fn fill(&self, owner: &Owner, bytes: &mut [u8]) {
        if let Some(at) = self.unique_key {
            write_unique_key(owner, &mut bytes[at..at + UNIQUE_KEY_DIGITS]);
        }
        for &at in &self.keys {
            write_hex(&mut bytes[at..at + 6], u64::from(owner.connection));
            write_hex(&mut bytes[at + 6..at + KEY_DIGITS], owner.sequence);
        }
        if let Some(at) = self.tag {
            let mut tag = self.tag_of(owner);
            for letter in bytes[at..at + self.shape.tag_letters()].iter_mut().rev() {
                *letter = b'A' + (tag % 26) as u8;
                tag /= 26;
            }
        }
    }

    fn tag_of(&self, owner: &Owner) -> u64 {
        let drawn = mix(!self.shape.seed ^ (u64::from(owner.connection) << 40) ^ owner.sequence);
        drawn % u64::from(self.shape.tags)
    }
}

pub fn write_unique_key(owner: &Owner, key: &mut [u8]) {
    write_hex(&mut key[..16], owner.run);
    write_hex(&mut key[16..22], u64::from(owner.connection));
    write_hex(&mut key[22..], owner.sequence);
}

pub fn first_difference(one: &[u8], other: &[u8]) -> usize {
    assert_eq!(one.len(), other.len(), "placeholders have one width");
    one.iter().zip(other).position(|(one, other)| one != other).expect("the placeholder was written")
}

fn write_hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(shape: &PropertyShape, sequence: u64) -> String {
        let marks = Marks::find(shape, |mark| shape.text(mark).into_bytes());
        let mut bytes = shape.text(None).into_bytes();
        marks.fill(&Owner { run: 0xabc, connection: 9, sequence }, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_message_gets_its_own() {
        let shape = PropertyShape {
            unique_key: true,
            keys: 2,
            tags: 1,
            seed: 3,
            // Looks like placeholders, and must stay.
            fixed: format!("x\u{1}{}TagA{}\u{2}", "0".repeat(40), "1".repeat(40)),
        };
        assert_eq!(
            filled(&shape, 0x4d),
            format!(
                "UNIQ_KEY\u{1}0000000000000ABC000009000000004D\u{2}\
                 KEYS\u{1}a0000009000000004D b1000009000000004D\u{2}TAGS\u{1}TagA\u{2}{}WAIT\u{1}true\u{2}",
                shape.fixed
            )
        );
    }

    #[test]
    fn tags_are_drawn_evenly_and_have_one_width() {
        for (tags, letters, last) in [(26, 1, "Z"), (28, 2, "BB")] {
            let shape = PropertyShape { tags, seed: 5, ..PropertyShape::default() };
            let mut found = std::collections::BTreeMap::<String, u32>::new();
            for sequence in 0..28_000 {
                let text = filled(&shape, sequence);
                let tag =
                    text.strip_prefix("TAGS\u{1}Tag").unwrap().split('\u{2}').next().unwrap().to_owned();
                assert_eq!(tag.len(), letters);
                *found.entry(tag).or_default() += 1;
            }
            assert_eq!(found.len(), tags as usize);
            assert_eq!(found.last_key_value().unwrap().0, last);
            assert!(found.values().all(|count| (800..1300).contains(count)), "{found:?}");
        }
    }

    #[test]
    fn without_any_there_is_only_what_clients_always_write() {
        assert_eq!(filled(&PropertyShape::default(), 1), "WAIT\u{1}true\u{2}");
    }
}
