//! Holds every record of a queue against the ledger.
//!
//! Checked of each record: its offset follows the one before, its body is the one that was sent, it was not found
//! before, it is not ahead of one that was answered before it was sent. Checked of each acknowledgement: the message
//! is at the offset it was told.

use std::cmp::Ordering;

use clap::ValueEnum;
use rmq_protocol::record::RecordRef;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::body::{BodyError, Stamp};
use crate::pull::Visitor;
use crate::tally::Tally;
use crate::verify::ledger::{Expected, Ledger};

const EXAMPLES_MAX: usize = 10;
/// A sequence number beyond this in a body with a matching checksum is not from a run that anybody waited for.
const SEQUENCE_MAX: u64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// A send made after the answer to another comes after it (what every broker owes)
    Answered,
    /// Sends of one connection to one queue keep their order even when they are in flight together
    Pipelined,
    /// Do not check
    Any,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Records looked at.
    pub records: u64,
    /// Acknowledged messages found intact where they were said to be.
    pub verified: u64,
    pub damaged: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Offsets that are skipped or come twice.
    pub gaps: u64,
    /// Records that nobody sent (a number beyond what its connection reached), or that were rolled back.
    pub invented: u64,
    /// Unanswered ones that were stored, which is allowed.
    pub unanswered_stored: u64,
    /// Refused ones that were stored, which a producer that tries again turns into a duplicate.
    pub refused_stored: u64,
    /// Records of runs that no journal was given for.
    pub foreign: u64,
    pub examples: Vec<String>,
}

pub struct Inspector {
    topic: String,
    order: Order,
    ledger: Ledger,
    queues: FxHashMap<u32, Queue>,
    pub findings: Findings,
    open_ends: Vec<String>,
}

#[derive(Default)]
struct Queue {
    next: i64,
    expected: Vec<Expected>,
    cursor: usize,
    /// Checksums of the batch that is being compared.
    combined: u32,
    /// Per run and connection: no later record may have a sequence below this.
    floors: FxHashMap<(usize, u32), u64>,
}

impl Inspector {
    pub fn new(topic: &str, order: Order, ledger: Ledger) -> Self {
        Self {
            topic: topic.to_owned(),
            order,
            ledger,
            queues: FxHashMap::default(),
            findings: Findings::default(),
            open_ends: Vec::new(),
        }
    }

    pub fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Says where a queue is about to be read from, and takes in what the ledger has learned of it.
    pub fn open(&mut self, queue: u32, from: i64) {
        let expected = self.ledger.take_expected(queue);
        let state = self.queues.entry(queue).or_insert_with(|| Queue { next: from, ..Queue::default() });
        state.expected.drain(..state.cursor);
        state.cursor = 0;
        state.expected.extend(expected);
        state.expected.sort_unstable_by_key(|expected| expected.offset);
    }

    /// Where to read on, for a queue that was opened before.
    pub fn next_offset(&self, queue: u32) -> Option<i64> {
        self.queues.get(&queue).map(|state| state.next)
    }

    /// Sees what is still owed when all queues have been read to their present end; more may come later.
    pub fn finish(&mut self) {
        let unread: Vec<u32> = self.ledger.queues().collect();
        for queue in unread {
            self.open(queue, 0);
        }
        self.open_ends.clear();
        let promised = self.ledger.promised();
        let first = self.ledger.runs.iter().flat_map(|run| run.promised.keys()).min();
        if let Some((connection, request)) = first {
            self.open_ends.push(format!(
                "{promised} delayed or committed messages did not come, such as request {request} of connection {connection}"
            ));
        }
        let mut queues: Vec<u32> = self.queues.keys().copied().collect();
        queues.sort_unstable();
        for queue in queues {
            let state = &self.queues[&queue];
            let behind = state.expected.len() - state.cursor;
            if let Some(first) = state.expected.get(state.cursor)
                && self.open_ends.len() < EXAMPLES_MAX
            {
                self.open_ends.push(format!(
                    "queue {queue}: {behind} acknowledged requests from offset {} on are behind its end {}",
                    first.offset, state.next
                ));
            }
        }
    }

    /// Examples of what was owed at the last [`Self::finish`].
    pub fn open_ends(&self) -> &[String] {
        &self.open_ends
    }

    /// Acknowledged messages that were not found intact at their offset.
    pub fn missing(&self) -> u64 {
        self.ledger.acknowledged - self.findings.verified
    }

    pub fn is_clean(&self) -> bool {
        let found = &self.findings;
        self.missing() + found.damaged + found.duplicated + found.reordered + found.gaps + found.invented == 0
    }

    fn identify(&mut self, queue: u32, record: &RecordRef<'_>) -> Option<Identity> {
        let offset = record.queue_offset();
        if !record.body_is_intact() {
            self.findings.damaged(queue, offset, "the body does not match the checksum of its record");
            return None;
        }
        let (stamp, checksum) = match Stamp::read(record.body()) {
            Ok(read) => read,
            Err(BodyError::Foreign) => {
                self.findings.foreign += 1;
                return None;
            }
            Err(error) => {
                self.findings.damaged(queue, offset, &error.to_string());
                return None;
            }
        };
        let Some(run) = self.ledger.run_of(stamp.run) else {
            self.findings.foreign += 1;
            return None;
        };
        if record.topic() != self.topic || record.queue_id() != queue as i32 {
            self.findings.damaged(queue, offset, "the record names another queue");
        }
        let book = &mut self.ledger.runs[run];
        if let Err(error) = book.filler.check(&stamp, record.body()) {
            self.findings.damaged(queue, offset, &error.to_string());
            return None;
        }
        let attempts = book.connections.entry(stamp.connection).or_default();
        if stamp.sequence > SEQUENCE_MAX || attempts.total.is_some_and(|total| stamp.sequence >= total) {
            self.findings.invented += 1;
            self.findings.example(|| format!("queue {queue} offset {offset}: {stamp:?} was never sent"));
            return None;
        }
        if !attempts.mark(stamp.sequence) {
            self.findings.duplicated += 1;
            self.findings.example(|| {
                format!(
                    "queue {queue} offset {offset}: message {} of connection {} is stored a second time",
                    stamp.sequence, stamp.connection
                )
            });
        }
        Some(Identity { run, stamp, checksum })
    }

    fn check_order(&mut self, queue: u32, offset: i64, identity: &Identity) {
        if self.order == Order::Any {
            return;
        }
        let stamp = &identity.stamp;
        let state = self.queues.get_mut(&queue).expect("a queue is opened before it is read");
        let floor = state.floors.entry((identity.run, stamp.connection)).or_default();
        if stamp.sequence < *floor {
            self.findings.reordered += 1;
            let (connection, sequence, floor) = (stamp.connection, stamp.sequence, *floor);
            self.findings.example(|| {
                format!(
                    "queue {queue} offset {offset}: message {sequence} of connection {connection} \
                     comes after one that had to follow it (order floor {floor})"
                )
            });
        }
        let raised = if self.order == Order::Pipelined { stamp.sequence } else { stamp.floor() };
        *floor = raised.max(*floor);
    }

    /// Compares with the acknowledgement for this offset, if there is one.
    fn compare(&mut self, queue: u32, offset: i64, identity: Option<&Identity>) {
        let state = self.queues.get_mut(&queue).expect("a queue is opened before it is read");
        let findings = &mut self.findings;
        while let Some(expected) = state.expected.get(state.cursor).copied() {
            let batch = self.ledger.runs[expected.run as usize].batch;
            if expected.offset + (batch as i64) <= offset {
                findings.example(|| {
                    format!(
                        "queue {queue} offset {}: acknowledged request {} of connection {} is not there",
                        expected.offset, expected.request, expected.connection
                    )
                });
                state.cursor += 1;
                state.combined = 0;
                continue;
            }
            if expected.offset > offset {
                break;
            }
            let index = (offset - expected.offset) as u64;
            let matching = identity.filter(|identity| {
                identity.run == expected.run as usize
                    && identity.stamp.connection == expected.connection
                    && identity.stamp.sequence == expected.request * batch + index
            });
            let Some(identity) = matching else {
                findings.example(|| {
                    format!(
                        "queue {queue} offset {offset}: holds {}, but request {} of connection {} was acknowledged there",
                        identity.map_or(String::from("something else"), |identity| format!("{:?}", identity.stamp)),
                        expected.request,
                        expected.connection
                    )
                });
                // Another acknowledgement may claim this offset too; it is compared with the next record.
                return;
            };
            state.combined = if index == 0 { identity.checksum } else { state.combined ^ identity.checksum };
            findings.verified += 1;
            if index + 1 == batch {
                if state.combined != expected.checksum {
                    findings.damaged(queue, offset, "the body is whole, but not the one that was sent");
                    findings.verified -= 1;
                }
                state.cursor += 1;
                state.combined = 0;
            }
            return;
        }
        if let Some(identity) = identity {
            let book = &mut self.ledger.runs[identity.run];
            let sender = (identity.stamp.connection, identity.stamp.sequence / book.batch);
            if let Some(checksum) = book.promised.remove(&sender) {
                if checksum == identity.checksum {
                    findings.verified += 1;
                } else {
                    findings.damaged(queue, offset, "the body is whole, but not the one that was sent");
                }
            } else if book.rolled_back.contains(&sender) {
                findings.invented += 1;
                findings.example(|| {
                    format!("queue {queue} offset {offset}: {:?} was rolled back", identity.stamp)
                });
            } else if book.refused_requests.contains(&sender) {
                findings.refused_stored += 1;
            } else {
                findings.unanswered_stored += 1;
            }
        }
    }
}

struct Identity {
    run: usize,
    stamp: Stamp,
    checksum: u32,
}

impl Visitor for Inspector {
    fn record(&mut self, queue: u32, record: &RecordRef<'_>, _now_ns: u64, _tally: &mut Tally) {
        let offset = record.queue_offset();
        self.findings.records += 1;
        let state = self.queues.get_mut(&queue).expect("a queue is opened before it is read");
        match offset.cmp(&state.next) {
            Ordering::Equal => state.next += 1,
            Ordering::Greater => {
                let from = std::mem::replace(&mut state.next, offset + 1);
                self.findings.gap(queue, from, offset);
            }
            Ordering::Less => {
                let next = state.next;
                self.findings.gaps += 1;
                self.findings
                    .example(|| format!("queue {queue}: offset {offset} came again after {}", next - 1));
                return;
            }
        }
        let identity = self.identify(queue, record);
        if let Some(identity) = &identity {
            self.check_order(queue, offset, identity);
        }
        self.compare(queue, offset, identity.as_ref());
    }

    fn moved(&mut self, queue: u32, asked: i64, next: i64, _tally: &mut Tally) {
        self.findings.gap(queue, asked, next);
        let state = self.queues.get_mut(&queue).expect("a queue is opened before it is read");
        state.next = next;
    }

    fn enough(&self) -> bool {
        false
    }
}

impl Findings {
    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }

    fn damaged(&mut self, queue: u32, offset: i64, what: &str) {
        self.damaged += 1;
        self.example(|| format!("queue {queue} offset {offset}: {what}"));
    }

    fn gap(&mut self, queue: u32, from: i64, to: i64) {
        self.gaps += from.abs_diff(to);
        self.example(|| format!("queue {queue}: after {from} comes {to}"));
    }
}
