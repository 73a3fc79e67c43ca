//! One group on one queue, as popping sees it, and the table of these.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::order::OrderRecord;

/// No checkpoint is on its way to the disk.
const NONE: i64 = -1;

#[derive(Debug)]
pub struct PopQueue {
    pub group: Rc<str>,
    pub topic: Rc<str>,
    pub id: i32,
    /// Behind the newest checkpoint that the log has not acknowledged; the group's offset follows it.
    latest: Cell<i64>,
    /// Counts how often somebody else set the group's offset.
    pub rewinds: Cell<u32>,
    /// A pop is reading it from disk; others pass it by.
    pub is_busy: Cell<bool>,
    /// Place of each open checkpoint by its start and pop time, which is what receipts name.
    pub open: RefCell<FxHashMap<(i64, i64), i64>>,
    /// Messages of open checkpoints that are not acknowledged.
    pub in_flight: Cell<u32>,
    pub order: RefCell<Option<OrderRecord>>,
}

impl PopQueue {
    pub fn new(group: &str, topic: &str, id: i32) -> Rc<Self> {
        Rc::new(Self {
            group: Rc::from(group),
            topic: Rc::from(topic),
            id,
            latest: Cell::new(NONE),
            rewinds: Cell::new(0),
            is_busy: Cell::new(false),
            open: RefCell::default(),
            in_flight: Cell::new(0),
            order: RefCell::default(),
        })
    }

    /// Where the next pop begins, given the committed offset.
    pub fn begin(&self, committed: i64) -> i64 {
        committed.max(self.latest.get())
    }

    pub fn handed_out(&self, next: i64) {
        self.latest.set(next);
    }

    /// The checkpoint that ends at `next` is acknowledged.
    pub fn settled(&self, next: i64) {
        if self.latest.get() == next {
            self.latest.set(NONE);
        }
    }

    pub fn has_unsettled(&self) -> bool {
        self.latest.get() != NONE
    }

    /// The committed offset alone says where the next pop begins; checkpoints on their way do not change it.
    pub fn rewound(&self) {
        self.latest.set(NONE);
        self.rewinds.set(self.rewinds.get().wrapping_add(1));
    }
}

/// By topic, and there by queue id.
type OfGroup = FxHashMap<Box<str>, Vec<Option<Rc<PopQueue>>>>;

/// By group.
#[derive(Default)]
pub struct PopQueues(RefCell<FxHashMap<Box<str>, OfGroup>>);

impl PopQueues {
    pub fn known(&self, group: &str, topic: &str, id: i32) -> Option<Rc<PopQueue>> {
        self.0.borrow().get(group)?.get(topic)?.get(usize::try_from(id).ok()?)?.clone()
    }

    /// `id` has been checked against the topic's configuration, or is that of a checkpoint.
    pub fn get(&self, group: &str, topic: &str, id: i32) -> Rc<PopQueue> {
        if let Some(known) = self.known(group, topic, id) {
            return known;
        }
        let queue = PopQueue::new(group, topic, id);
        let mut groups = self.0.borrow_mut();
        let queues = groups.entry(group.into()).or_default().entry(topic.into()).or_default();
        let index = usize::try_from(id).unwrap_or(0);
        if queues.len() <= index {
            queues.resize(index + 1, None);
        }
        queues[index] = Some(Rc::clone(&queue));
        queue
    }

    /// Forgets the queues that `is_gone` names and returns them.
    pub fn forget(&self, is_gone: impl Fn(&str, &str) -> bool) -> Vec<Rc<PopQueue>> {
        let mut gone = Vec::new();
        self.0.borrow_mut().retain(|group, topics| {
            topics.retain(|topic, queues| {
                let forget = is_gone(group, topic);
                if forget {
                    gone.extend(queues.drain(..).flatten());
                }
                !forget
            });
            !topics.is_empty()
        });
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pop_begins_behind_checkpoints_that_are_still_on_their_way() {
        let queue = PopQueue::new("g", "T", 0);
        assert_eq!(queue.begin(5), 5);
        queue.handed_out(8);
        queue.handed_out(12);
        assert_eq!(queue.begin(5), 12);
        queue.settled(8);
        assert_eq!(queue.begin(8), 12);
        queue.settled(12);
        assert_eq!(queue.begin(12), 12);
        assert_eq!(queue.begin(3), 3, "whoever rewinds the group is obeyed");
    }

    #[test]
    fn queues_of_a_deleted_topic_are_forgotten() {
        let queues = PopQueues::default();
        queues.get("g", "T", 2);
        queues.get("g", "U", 0);
        assert!(Rc::ptr_eq(&queues.get("g", "T", 2), &queues.known("g", "T", 2).unwrap()));
        assert_eq!(queues.forget(|_, topic| topic == "T").len(), 1);
        assert!(queues.known("g", "T", 2).is_none() && queues.known("g", "U", 0).is_some());
    }
}
