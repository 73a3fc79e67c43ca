//! Who waits for the log: accepted sends in append order, answered in bulk when their group is on disk.
//!
//! The answer is encoded at append time, when everything in it is known, and copied out at completion.

use std::collections::VecDeque;
use std::rc::Rc;

use rmq_engine::LogPosition;

use crate::answers::ReplyTo;
use crate::net::executor::Oneshot;

/// What a waiting append came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    Acknowledged,
    /// The log stopped before the message was durable.
    Failed,
}

pub enum Waiter {
    Client(ReplyTo),
    Internal(Rc<Oneshot<Completion>>),
}

struct Waiting {
    end: LogPosition,
    since_ms: u64,
    /// `None` once answered early by a timeout.
    waiter: Option<Waiter>,
    answer_len: u32,
}

#[derive(Default)]
pub struct GroupCommit {
    waiting: VecDeque<Waiting>,
    /// The encoded answers of `waiting`, in order, from `taken` on.
    answers: Vec<u8>,
    taken: usize,
}

impl GroupCommit {
    /// `encode` appends the answer that is sent once everything before `end` is acknowledged.
    pub fn wait_client(
        &mut self,
        end: LogPosition,
        now_ms: u64,
        to: ReplyTo,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let before = self.answers.len();
        if !to.oneway {
            encode(&mut self.answers);
        }
        let answer_len = (self.answers.len() - before) as u32;
        self.waiting.push_back(Waiting {
            end,
            since_ms: now_ms,
            waiter: Some(Waiter::Client(to)),
            answer_len,
        });
    }

    pub fn wait_internal(&mut self, end: LogPosition, now_ms: u64) -> Rc<Oneshot<Completion>> {
        let done = Oneshot::new();
        self.waiting.push_back(Waiting {
            end,
            since_ms: now_ms,
            waiter: Some(Waiter::Internal(Rc::clone(&done))),
            answer_len: 0,
        });
        done
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How long the first in line has waited; everybody behind it has waited less.
    pub fn longest_wait_ms(&self, now_ms: u64) -> u64 {
        self.waiting.front().map_or(0, |first| now_ms.saturating_sub(first.since_ms))
    }

    /// Completes everything that ends at or before `acknowledged`.
    pub fn acknowledge(&mut self, acknowledged: LogPosition, mut answer: impl FnMut(&ReplyTo, &[u8])) {
        while let Some(first) = self.waiting.front() {
            if first.end > acknowledged {
                break;
            }
            self.pop(|to, bytes, _| answer(to, bytes), Completion::Acknowledged);
        }
        self.compact();
    }

    /// Ends every wait because the log stopped.
    pub fn fail(&mut self, mut answer: impl FnMut(&ReplyTo, &[u8], Completion)) {
        while !self.waiting.is_empty() {
            self.pop(&mut answer, Completion::Failed);
        }
        self.compact();
    }

    /// Answers the clients that have waited since before `limit_ms`; they stay in line, already answered. The
    /// broker's own writes wait for what really becomes of them.
    pub fn time_out(&mut self, limit_ms: u64, mut answer: impl FnMut(&ReplyTo, &[u8])) {
        let mut at = self.taken;
        for waiting in &mut self.waiting {
            if waiting.since_ms > limit_ms {
                break;
            }
            let bytes = &self.answers[at..at + waiting.answer_len as usize];
            at += waiting.answer_len as usize;
            if let Some(Waiter::Client(to)) = &waiting.waiter {
                answer(to, bytes);
                waiting.waiter = None;
            }
        }
    }

    fn pop(&mut self, mut answer: impl FnMut(&ReplyTo, &[u8], Completion), completion: Completion) {
        let Some(waiting) = self.waiting.pop_front() else { return };
        let until = self.taken + waiting.answer_len as usize;
        match waiting.waiter {
            Some(Waiter::Client(to)) => answer(&to, &self.answers[self.taken..until], completion),
            Some(Waiter::Internal(done)) => done.set(completion),
            None => {}
        }
        self.taken = until;
    }

    /// Moves what still waits to the front, at most once per buffer's worth of answers.
    fn compact(&mut self) {
        if self.taken == self.answers.len() {
            self.answers.clear();
            self.taken = 0;
        } else if self.taken > self.answers.len() / 2 {
            self.answers.drain(..self.taken);
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use rmq_protocol::header::Codec;

    use super::*;
    use crate::control::link::ConnectionId;

    fn to(opaque: i32) -> ReplyTo {
        let connection = ConnectionId { shard: 0, slot: 0, generation: 1 };
        ReplyTo { connection, opaque, codec: Codec::Json, oneway: false }
    }

    fn at(offset: u32) -> LogPosition {
        LogPosition { segment: 1, offset }
    }

    #[test]
    fn answers_leave_in_order_and_only_up_to_the_acknowledged_position() {
        let mut commit = GroupCommit::default();
        for n in 0..5u32 {
            commit.wait_client(at(n * 10), 0, to(n as i32), |out| out.extend_from_slice(&[n as u8; 3]));
        }
        let mut seen = Vec::new();
        commit.acknowledge(at(25), |to, bytes| seen.push((to.opaque, bytes.to_vec())));
        assert_eq!(seen, [(0, vec![0; 3]), (1, vec![1; 3]), (2, vec![2; 3])]);
        commit.acknowledge(at(100), |to, bytes| seen.push((to.opaque, bytes.to_vec())));
        assert_eq!(seen[4], (4, vec![4; 3]));
        assert!(commit.is_empty() && commit.answers.is_empty());
    }

    #[test]
    fn a_timed_out_send_is_answered_once() {
        let mut commit = GroupCommit::default();
        commit.wait_client(at(1), 10, to(1), |out| out.push(1));
        commit.wait_client(at(2), 50, to(2), |out| out.push(2));
        let mut timed_out = Vec::new();
        commit.time_out(20, |to, _| timed_out.push(to.opaque));
        commit.time_out(20, |to, _| timed_out.push(to.opaque));
        assert_eq!(timed_out, [1]);
        let mut answered = Vec::new();
        commit.acknowledge(at(2), |to, bytes| answered.push((to.opaque, bytes.to_vec())));
        assert_eq!(answered, [(2, vec![2])]);
    }
}
