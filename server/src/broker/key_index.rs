//! What a message can be found by: its UNIQ_KEY and each word of its KEYS, together with its topic.
//!
//! The log's index of keys knows hashes only. They are on disk, so the function here is part of the format:
//! `hash(topic, key)` folds the topic's bytes, then the key's, eight at a time as little-endian words, the last one
//! filled up with zeros, from `length * FACTOR`: `state = (rotate_left(state, 5) ^ word) * FACTOR`, and takes the
//! upper half of `(state ^ state >> 29) * FACTOR`.

use rmq_engine::{Appended, PhysicalOffset};
use rmq_protocol::properties::Properties;
use rmq_protocol::record::RecordRef;
use rmq_protocol::sys_flag;

use super::light_queue::is_stored_copy;
use crate::shard::Shard;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A topic, as hashes of its keys begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySeed(u64);

impl KeySeed {
    pub fn of_topic(topic: &str) -> Self {
        Self(fold(0, topic.as_bytes()))
    }

    #[inline]
    pub fn hash(self, key: &[u8]) -> u32 {
        let state = fold(self.0, key);
        ((state ^ (state >> 29)).wrapping_mul(FACTOR) >> 32) as u32
    }
}

#[inline]
fn fold(state: u64, bytes: &[u8]) -> u64 {
    let step = |state: u64, word: u64| (state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = step(state, (bytes.len() as u64).wrapping_mul(FACTOR));
    for word in words {
        state = step(state, u64::from_le_bytes(*word));
    }
    let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    step(state, last)
}

/// The keys of one message, as its properties say them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys<'a> {
    pub unique: Option<&'a [u8]>,
    /// Words with blanks between them.
    pub words: Option<&'a [u8]>,
}

impl<'a> Keys<'a> {
    pub fn of(properties: Properties<'a>) -> Self {
        let mut keys = Self::default();
        for (name, value) in properties.iter() {
            keys.take(name, value);
        }
        keys
    }

    /// Looks at one property.
    #[inline]
    pub fn take(&mut self, name: &[u8], value: &'a [u8]) {
        match name {
            b"UNIQ_KEY" => self.unique = Some(value),
            b"KEYS" => self.words = Some(value),
            _ => {}
        }
    }

    #[inline]
    pub fn each(&self, mut visit: impl FnMut(&'a [u8])) {
        if let Some(unique) = self.unique {
            visit(unique);
        }
        if let Some(words) = self.words {
            words.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).for_each(visit);
        }
    }

    fn has(&self, key: &[u8]) -> bool {
        let mut found = false;
        self.each(|word| found |= word == key);
        found
    }
}

/// A message that was rolled back is not to be found, as in Java.
fn is_indexed(sys_flag: i32) -> bool {
    sys_flag & sys_flag::TRANSACTION_MASK != sys_flag::TRANSACTION_ROLLBACK
}

/// Tells the log about the keys of a record that has just been appended.
#[inline]
pub fn note(
    shard: &Shard,
    seed: KeySeed,
    keys: &Keys<'_>,
    sys_flag: i32,
    appended: &Appended,
    record: PhysicalOffset,
) {
    if shard.settings.query.index && is_indexed(sys_flag) {
        keys.each(|key| shard.engine.note_key(appended, record, seed.hash(key)));
    }
}

/// The same of a stored record, for the log that has to read itself again.
pub fn visit_hashes(record: &[u8], visit: &mut dyn FnMut(u32)) {
    let Ok(record) = RecordRef::parse(record) else { return };
    if is_indexed(record.sys_flag()) && !is_stored_copy(record.properties()) {
        let seed = KeySeed::of_topic(record.topic());
        Keys::of(record.properties()).each(|key| visit(seed.hash(key)));
    }
}

/// Whether a stored record is of this topic and has this key: hashes may be alike.
pub fn is_found_by(record: &[u8], topic: &str, key: &[u8]) -> bool {
    RecordRef::parse(record)
        .is_ok_and(|record| record.topic() == topic && Keys::of(record.properties()).has(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_unique_one_and_each_word() {
        let keys = Keys::of(Properties(b"KEYS\x01order-1  order-2 \x02TAGS\x01t\x02UNIQ_KEY\x017F00\x02"));
        let mut all = Vec::new();
        keys.each(|key| all.push(std::str::from_utf8(key).unwrap()));
        assert_eq!(all, ["7F00", "order-1", "order-2"]);
        assert!(keys.has(b"order-2") && keys.has(b"7F00") && !keys.has(b"order"));
        Keys::default().each(|_| panic!("no properties, no keys"));
    }

    /// On disk: another function would find nothing in the files of an earlier start.
    #[test]
    fn hashes_stay_as_they_are() {
        let seed = KeySeed::of_topic("TopicTest");
        let hashes =
            ["", "a", "order-1", "7F0000010B9918B4AAC2000000000001"].map(|key| seed.hash(key.as_bytes()));
        assert_eq!(hashes, HASHES);
        assert_ne!(seed.hash(b"a"), seed.hash(b"a\0"), "the length counts");
        assert_ne!(KeySeed::of_topic("TopicTesu").hash(b"a"), seed.hash(b"a"));
    }

    const HASHES: [u32; 4] = [1_393_851_282, 183_670_628, 1_666_195_019, 1_314_803_038];

    /// Keys that count up are spread over the buckets of a file.
    #[test]
    fn neighbouring_keys_are_far_apart() {
        let seed = KeySeed::of_topic("TopicTest");
        let mut buckets = [0u32; 64];
        for n in 0..64_000 {
            buckets[(seed.hash(format!("7F0000010B9918B4AAC2{n:012X}").as_bytes()) >> 26) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| (800..1200).contains(count)), "{buckets:?}");
    }
}
