//! A checkpoint: messages of one queue that one pop handed out, and which of them are acknowledged.
//!
//! In the revive log a record's body is, all numbers little-endian:
//! ```text
//! checkpoint 1,4  popTime i64  invisible i64  start i64  queue i32  acked u32  attempts u8
//!                 count u8  count * (offset - start) u32  group len u16  group  topic
//! acks         2  (place i64  acked u32) repeated: bits of the checkpoint at that place of the log
//! rewind       3  offset i64  queue i32  group len u16  group  topic
//! ```
//!
//! A checkpoint of kind 1 tells how far its group has come; one of kind 4 (an invisible time was changed, or the
//! checkpoint was written again) does not.
//!
//! Invariant: a checkpoint has 1 to 32 messages in ascending order, and bit n stands for message n.

use super::queue::PopQueue;
use std::rc::Rc;

pub const MESSAGES_MAX: usize = 32;

#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub queue: Rc<PopQueue>,
    pub start: i64,
    pub pop_time: i64,
    pub invisible_ms: i64,
    pub distances: Box<[u32]>,
    pub acked: u32,
    /// Times that reviving it failed.
    pub attempts: u8,
    pub due_ms: i64,
}

impl Checkpoint {
    pub fn new(
        queue: Rc<PopQueue>,
        start: i64,
        pop_time: i64,
        invisible_ms: i64,
        offsets: impl IntoIterator<Item = i64>,
    ) -> Self {
        let distances: Box<[u32]> = offsets.into_iter().map(|offset| (offset - start) as u32).collect();
        debug_assert!((1..=MESSAGES_MAX).contains(&distances.len()), "a checkpoint of a bounded pop");
        let due_ms = pop_time.saturating_add(invisible_ms);
        Self { queue, start, pop_time, invisible_ms, distances, acked: 0, attempts: 0, due_ms }
    }

    pub fn is_done(&self) -> bool {
        self.acked.count_ones() as usize == self.distances.len()
    }

    /// One behind its last message.
    pub fn next(&self) -> i64 {
        self.start + self.distances.last().map_or(0, |&distance| i64::from(distance) + 1)
    }

    /// Which bit stands for a message.
    pub fn bit(&self, offset: i64) -> Option<u32> {
        let distance = u32::try_from(offset.checked_sub(self.start)?).ok()?;
        self.distances.binary_search(&distance).ok().map(|at| at as u32)
    }

    /// Bit and offset of each message that is not acknowledged.
    pub fn open(&self) -> Vec<(u32, i64)> {
        let all = self.distances.iter().enumerate();
        let open = all.filter(|(bit, _)| self.acked >> bit & 1 == 0);
        open.map(|(bit, &distance)| (bit as u32, self.start + i64::from(distance))).collect()
    }

    pub fn encode(&self, advances: bool, out: &mut Vec<u8>) {
        out.push(if advances { CHECKPOINT } else { CHECKPOINT_BEHIND });
        for number in [self.pop_time, self.invisible_ms, self.start] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.queue.id.to_le_bytes());
        out.extend_from_slice(&self.acked.to_le_bytes());
        out.extend_from_slice(&[self.attempts, self.distances.len() as u8]);
        for distance in &self.distances {
            out.extend_from_slice(&distance.to_le_bytes());
        }
        push_names(out, &self.queue.group, &self.queue.topic);
    }
}

const CHECKPOINT: u8 = 1;
const ACKS: u8 = 2;
const REWIND: u8 = 3;
const CHECKPOINT_BEHIND: u8 = 4;

/// Appends one entry of an acknowledgement record; the first begins the record.
pub fn push_acks(out: &mut Vec<u8>, place: i64, acked: u32) {
    if out.is_empty() {
        out.push(ACKS);
    }
    out.extend_from_slice(&place.to_le_bytes());
    out.extend_from_slice(&acked.to_le_bytes());
}

pub fn encode_rewind(out: &mut Vec<u8>, group: &str, topic: &str, queue: i32, offset: i64) {
    out.push(REWIND);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&queue.to_le_bytes());
    push_names(out, group, topic);
}

fn push_names(out: &mut Vec<u8>, group: &str, topic: &str) {
    out.extend_from_slice(&(group.len() as u16).to_le_bytes());
    out.extend_from_slice(group.as_bytes());
    out.extend_from_slice(topic.as_bytes());
}

/// A record of the revive log as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Checkpoint {
        advances: bool,
        group: &'a str,
        topic: &'a str,
        queue: i32,
        start: i64,
        pop_time: i64,
        invisible_ms: i64,
        distances: Vec<u32>,
        acked: u32,
        attempts: u8,
    },
    Acks(Vec<(i64, u32)>),
    Rewind {
        group: &'a str,
        topic: &'a str,
        queue: i32,
        offset: i64,
    },
}

impl<'a> Entry<'a> {
    /// `None`: not written by this broker.
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = body.split_first()?;
        let mut rest = Reader(rest);
        match kind {
            CHECKPOINT | CHECKPOINT_BEHIND => {
                let (pop_time, invisible_ms, start) = (rest.i64()?, rest.i64()?, rest.i64()?);
                let (queue, acked) = (rest.u32()? as i32, rest.u32()?);
                let [attempts, count] = rest.take()?;
                let distances = (0..count).map(|_| rest.u32()).collect::<Option<Vec<u32>>>()?;
                let is_legal = (1..=MESSAGES_MAX).contains(&distances.len()) && distances.is_sorted();
                let (group, topic) = rest.names().filter(|_| is_legal)?;
                Some(Self::Checkpoint {
                    advances: kind == CHECKPOINT,
                    group,
                    topic,
                    queue,
                    start,
                    pop_time,
                    invisible_ms,
                    distances,
                    acked,
                    attempts,
                })
            }
            ACKS => {
                let mut acks = Vec::with_capacity(rest.0.len() / 12);
                while !rest.0.is_empty() {
                    acks.push((rest.i64()?, rest.u32()?));
                }
                Some(Self::Acks(acks))
            }
            REWIND => {
                let (offset, queue) = (rest.i64()?, rest.u32()? as i32);
                let (group, topic) = rest.names()?;
                Some(Self::Rewind { group, topic, queue, offset })
            }
            _ => None,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn names(&mut self) -> Option<(&'a str, &'a str)> {
        let group_len = self.take().map(u16::from_le_bytes)?;
        let (group, topic) = self.0.split_at_checked(usize::from(group_len))?;
        Some((std::str::from_utf8(group).ok()?, std::str::from_utf8(topic).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint::new(PopQueue::new("group", "Topic", 3), 100, 5_000, 60_000, [100, 101, 105])
    }

    #[test]
    fn bits_stand_for_the_messages_in_order() {
        let mut checkpoint = checkpoint();
        assert_eq!((checkpoint.next(), checkpoint.due_ms), (106, 65_000));
        assert_eq!((checkpoint.bit(105), checkpoint.bit(102), checkpoint.bit(99)), (Some(2), None, None));
        assert_eq!(checkpoint.bit(i64::MIN), None);
        checkpoint.acked = 0b101;
        assert_eq!(checkpoint.open(), [(1, 101)]);
        checkpoint.acked = 0b111;
        assert!(checkpoint.is_done());
    }

    #[test]
    fn records_of_the_log_are_read_back_and_cut_ones_refused() {
        let mut body = Vec::new();
        checkpoint().encode(true, &mut body);
        let Some(Entry::Checkpoint { advances: true, group, topic, queue, distances, .. }) =
            Entry::decode(&body)
        else {
            panic!("a checkpoint")
        };
        assert_eq!((group, topic, queue, distances), ("group", "Topic", 3, vec![0, 1, 5]));
        for cut in 0..body.len() - "groupTopic".len() {
            assert_eq!(Entry::decode(&body[..cut]), None, "{cut}");
        }
        let mut acks = Vec::new();
        push_acks(&mut acks, 7, 1);
        push_acks(&mut acks, 9, 3);
        assert_eq!(Entry::decode(&acks), Some(Entry::Acks(vec![(7, 1), (9, 3)])));
        assert_eq!(Entry::decode(&acks[..acks.len() - 1]), None);
        let mut rewind = Vec::new();
        encode_rewind(&mut rewind, "g", "T", 1, 40);
        let expected = Entry::Rewind { group: "g", topic: "T", queue: 1, offset: 40 };
        assert_eq!(Entry::decode(&rewind), Some(expected));
        assert_eq!(Entry::decode(b"{\"json\"}"), None);
    }
}
