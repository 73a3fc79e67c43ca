//! Pulls that wait for messages: per queue who waits, per shard when each has waited long enough.
//!
//! A held pull keeps its request frame and is simply handled again when it is woken, without the right to
//! wait a second time. No timer and no task per waiter: one task per shard looks at the earliest deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::answers::ReplyTo;
use crate::broker::filter::Filter;
use crate::broker::metadata::Queue;
use crate::limits;
use crate::net::executor::Notify;

pub struct HeldPull {
    id: u64,
    deadline_ms: u64,
    from: i64,
    pub to: ReplyTo,
    pub frame: Box<[u8]>,
    pub filter: Filter,
}

/// A pull that shall be held.
pub struct Waiting<'a> {
    pub to: ReplyTo,
    /// Offset of the first message it wants.
    pub from: i64,
    pub frame: &'a [u8],
    pub filter: Filter,
    pub deadline_ms: u64,
}

/// The pulls that wait on one queue.
#[derive(Default)]
pub struct HeldPulls(RefCell<Vec<HeldPull>>);

impl HeldPulls {
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub fn wants(&self, filter_code: i64) -> bool {
        self.0.borrow().iter().any(|pull| pull.filter.may_match(filter_code))
    }
}

/// All pulls that wait on one shard.
#[derive(Default)]
pub struct LongPolls {
    by_deadline: RefCell<BTreeMap<(u64, u64), Rc<Queue>>>,
    next_id: Cell<u64>,
    /// Set when the first pull begins to wait, for the task that watches deadlines.
    pub first: Rc<Notify>,
}

impl LongPolls {
    pub fn len(&self) -> usize {
        self.by_deadline.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_deadline.borrow().is_empty()
    }

    /// False when the shard holds as many as it may.
    pub fn hold(&self, queue: &Rc<Queue>, waiting: Waiting<'_>) -> bool {
        if self.len() >= limits::LONG_POLLS_MAX {
            return false;
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        if self.is_empty() {
            self.first.notify();
        }
        let deadline_ms = waiting.deadline_ms;
        self.by_deadline.borrow_mut().insert((deadline_ms, id), Rc::clone(queue));
        queue.held.0.borrow_mut().push(HeldPull {
            id,
            deadline_ms,
            from: waiting.from,
            to: waiting.to,
            frame: waiting.frame.into(),
            filter: waiting.filter,
        });
        true
    }

    /// Takes the pulls of a queue that want one of the arrived messages; `arrived` tells.
    pub fn take_wanting(&self, queue: &Queue, arrived: impl Fn(&Filter) -> bool) -> Vec<HeldPull> {
        self.take(queue, |pull| arrived(&pull.filter))
    }

    /// Takes the pulls whose queue has grown past what they want with messages they do not want, so that they
    /// go on from there, and those of connections that are gone.
    pub fn take_overtaken(
        &self,
        max_offset: impl Fn(&Queue) -> i64,
        is_gone: impl Fn(&ReplyTo) -> bool,
    ) -> Vec<HeldPull> {
        let mut queues: Vec<Rc<Queue>> = self.by_deadline.borrow().values().cloned().collect();
        queues.sort_by_key(Rc::as_ptr);
        queues.dedup_by_key(|queue| Rc::as_ptr(queue));
        let mut taken = Vec::new();
        for queue in queues {
            let max = max_offset(&queue);
            taken.extend(self.take(&queue, |pull| max > pull.from || is_gone(&pull.to)));
        }
        taken
    }

    /// Takes every pull of a queue.
    pub fn take_all(&self, queue: &Queue) -> Vec<HeldPull> {
        self.take(queue, |_| true)
    }

    /// Takes the pulls whose time is up.
    pub fn take_expired(&self, now_ms: u64) -> Vec<HeldPull> {
        let mut expired = Vec::new();
        loop {
            let first =
                self.by_deadline.borrow().first_key_value().map(|(&key, queue)| (key, Rc::clone(queue)));
            match first {
                Some(((deadline_ms, id), queue)) if deadline_ms <= now_ms => {
                    let taken = self.take(&queue, |pull| pull.id == id);
                    debug_assert_eq!(taken.len(), 1, "a deadline belongs to one held pull");
                    self.by_deadline.borrow_mut().remove(&(deadline_ms, id));
                    expired.extend(taken);
                }
                _ => return expired,
            }
        }
    }

    fn take(&self, queue: &Queue, wanted: impl Fn(&HeldPull) -> bool) -> Vec<HeldPull> {
        let taken: Vec<HeldPull> = queue.held.0.borrow_mut().extract_if(.., |pull| wanted(pull)).collect();
        let mut by_deadline = self.by_deadline.borrow_mut();
        for pull in &taken {
            by_deadline.remove(&(pull.deadline_ms, pull.id));
        }
        taken
    }
}
