//! An index entry: where one message of a queue is, and what a read asks before it fetches the bytes.
//!
//! ```text
//!  0          4        8               16                    20
//!  position | length | filter code   | store time - base ms |
//! ```

pub(crate) const ENTRY_BYTES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of the record, in its segment.
    pub position: u32,
    pub len: u32,
    code: [u32; 2],
    /// Milliseconds since the segment's base.
    pub time: u32,
}

impl Entry {
    pub fn new(position: u32, len: u32, filter_code: i64, time: u32) -> Self {
        Self { position, len, code: [filter_code as u32, (filter_code >> 32) as u32], time }
    }

    pub fn filter_code(&self) -> i64 {
        i64::from(self.code[1] as i32) << 32 | i64::from(self.code[0])
    }

    pub fn encode(&self, out: &mut [u8]) {
        let words = [self.position, self.len, self.code[0], self.code[1], self.time];
        for (word, bytes) in words.iter().zip(out.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    pub fn decode(bytes: &[u8]) -> Self {
        let word = |n: usize| u32::from_le_bytes(bytes[4 * n..4 * n + 4].try_into().expect("four bytes"));
        Self { position: word(0), len: word(1), code: [word(2), word(3)], time: word(4) }
    }
}

/// Entries in chunks that double from 8 to 1024: an idle queue costs little, a busy one never copies.
#[derive(Default)]
pub(crate) struct Entries {
    chunks: Vec<Vec<Entry>>,
    len: usize,
}

const FIRST_CHUNK: usize = 8;
const LAST_CHUNK: usize = 1024;
/// Chunks of 8, 16 .. 1024, and how many entries those hold together.
const GROWING_CHUNKS: usize = (LAST_CHUNK / FIRST_CHUNK).ilog2() as usize + 1;
const GROWING_ENTRIES: usize = FIRST_CHUNK * ((1 << GROWING_CHUNKS) - 1);

impl Entries {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, entry: Entry) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < chunk.capacity() => chunk.push(entry),
            _ => {
                let capacity = (FIRST_CHUNK << self.chunks.len().min(GROWING_CHUNKS)).min(LAST_CHUNK);
                let mut chunk = Vec::with_capacity(capacity);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
    }

    pub fn at(&self, index: usize) -> Option<&Entry> {
        let (chunk, offset) = if index < GROWING_ENTRIES {
            let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
            (chunk, index - FIRST_CHUNK * ((1 << chunk) - 1))
        } else {
            let beyond = index - GROWING_ENTRIES;
            (GROWING_CHUNKS + beyond / LAST_CHUNK, beyond % LAST_CHUNK)
        };
        self.chunks.get(chunk)?.get(offset)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().flatten()
    }

    pub fn first(&self) -> Option<&Entry> {
        self.at(0)
    }

    pub fn last(&self) -> Option<&Entry> {
        self.at(self.len.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back() {
        for code in [0, 1, -1, i64::from(i32::MIN), i64::MAX, 1_700_000_000_123] {
            let entry = Entry::new(4128, 77, code, 9);
            assert_eq!(entry.filter_code(), code);
            let mut bytes = [0; ENTRY_BYTES];
            entry.encode(&mut bytes);
            assert_eq!(Entry::decode(&bytes), entry);
        }
    }

    #[test]
    fn chunks_are_found_by_index() {
        let mut entries = Entries::default();
        for n in 0..10_000 {
            entries.push(Entry::new(n, 0, 0, 0));
        }
        for n in 0..10_000 {
            assert_eq!(entries.at(n).unwrap().position, n as u32);
        }
        assert_eq!(entries.at(10_000), None);
        assert_eq!(entries.last().unwrap().position, 9_999);
        assert!(entries.chunks.iter().all(|chunk| chunk.capacity() <= LAST_CHUNK));
    }
}
