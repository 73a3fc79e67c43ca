//! The sends of one connection that wait for their answer.
//!
//! Invariant: requests below `floor` are settled, `floor..next` may wait, and each waiting one has its own slot in
//! the ring. `floor` itself waits unless nothing does.

/// Opaque ids have ten digits whatever the request, so that a frame can be patched in place.
pub const OPAQUE_FIRST: i32 = 1_000_000_000;
const OPAQUE_COUNT: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// When the send was due; zero means that nobody waits here.
    pub due_ns: u64,
    pub checksum: u32,
    pub body_bytes: u32,
}

pub struct Window {
    ring: Box<[Waiting]>,
    floor: u64,
    next: u64,
    waiting: usize,
    limit: usize,
}

impl Window {
    /// The ring is larger than the limit so that one late answer does not hold up the connection.
    pub fn new(limit: usize) -> Self {
        let slots = (limit * 8).next_power_of_two().max(64);
        Self { ring: vec![Waiting::default(); slots].into(), floor: 0, next: 0, waiting: 0, limit }
    }

    pub fn has_room(&self) -> bool {
        self.waiting < self.limit && self.next - self.floor < self.ring.len() as u64
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The number that the next send gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn opaque(request: u64) -> i32 {
        OPAQUE_FIRST + (request % OPAQUE_COUNT) as i32
    }

    pub fn sent(&mut self, waiting: Waiting) {
        assert!(self.has_room(), "a send beyond the window");
        assert!(waiting.due_ns != 0, "zero marks a free slot");
        let slot = self.slot(self.next);
        self.ring[slot] = waiting;
        self.next += 1;
        self.waiting += 1;
    }

    /// Oneway sends get no answer, so they are settled as they leave.
    pub fn sent_oneway(&mut self) {
        self.next += 1;
        self.floor = self.next;
    }

    /// The request that this answer settles; `None` for one that nobody waits for any more.
    pub fn answered(&mut self, opaque: i32) -> Option<(u64, Waiting)> {
        let request = self.request(opaque)?;
        self.settle(request).map(|waiting| (request, waiting))
    }

    /// The request that waits for this answer, and goes on waiting.
    pub fn find(&self, opaque: i32) -> Option<(u64, Waiting)> {
        let request = self.request(opaque)?;
        let waiting = self.ring[self.slot(request)];
        (waiting.due_ns != 0).then_some((request, waiting))
    }

    fn request(&self, opaque: i32) -> Option<u64> {
        let low = u64::try_from(opaque.checked_sub(OPAQUE_FIRST)?).ok()?;
        let request = self.floor + (low.wrapping_sub(self.floor) & (OPAQUE_COUNT - 1));
        (request < self.next).then_some(request)
    }

    /// Gives up all that were due before `before_ns`.
    pub fn expire(&mut self, before_ns: u64, mut given_up: impl FnMut(u64, Waiting)) {
        for request in self.floor..self.next {
            if self.ring[self.slot(request)].due_ns < before_ns
                && let Some(waiting) = self.settle(request)
            {
                given_up(request, waiting);
            }
        }
    }

    fn settle(&mut self, request: u64) -> Option<Waiting> {
        let slot = self.slot(request);
        let waiting = std::mem::take(&mut self.ring[slot]);
        if waiting.due_ns == 0 {
            return None;
        }
        self.waiting -= 1;
        while self.floor < self.next && self.ring[self.slot(self.floor)].due_ns == 0 {
            self.floor += 1;
        }
        Some(waiting)
    }

    fn slot(&self, request: u64) -> usize {
        request as usize & (self.ring.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(due_ns: u64) -> Waiting {
        Waiting { due_ns, checksum: due_ns as u32, body_bytes: 0 }
    }

    #[test]
    fn answers_settle_in_any_order_and_only_once() {
        let mut window = Window::new(3);
        for number in 1..=3 {
            window.sent(due(number));
        }
        assert!(!window.has_room());
        assert_eq!(window.find(Window::opaque(1)), Some((1, due(2))));
        assert_eq!(window.answered(Window::opaque(1)), Some((1, due(2))));
        assert_eq!(window.answered(Window::opaque(1)), None);
        assert_eq!(window.find(Window::opaque(1)), None);
        assert_eq!((window.floor(), window.waiting()), (0, 2));
        assert_eq!(window.answered(Window::opaque(0)), Some((0, due(1))));
        assert_eq!(window.floor(), 2);
        assert_eq!(window.answered(Window::opaque(3)), None);
        assert_eq!(window.answered(-5), None);
        assert_eq!(window.answered(i32::MAX), None);
    }

    #[test]
    fn opaque_ids_wrap_with_the_request_number() {
        let mut window = Window::new(4);
        window.floor = (1 << 30) - 2;
        window.next = window.floor;
        for number in 1..=4 {
            window.sent(due(number));
        }
        assert_eq!(window.answered(OPAQUE_FIRST + 1), Some(((1 << 30) + 1, due(4))));
        assert_eq!(window.answered(OPAQUE_FIRST + (1 << 30) - 1), Some(((1 << 30) - 1, due(2))));
    }

    #[test]
    fn late_ones_are_given_up_and_make_room() {
        let mut window = Window::new(3);
        for number in 1..=3 {
            window.sent(due(number));
        }
        let mut given_up = Vec::new();
        window.expire(3, |request, _| given_up.push(request));
        assert_eq!(given_up, [0, 1]);
        assert_eq!((window.floor(), window.waiting()), (2, 1));
    }

    #[test]
    fn one_late_answer_holds_up_the_others_only_at_the_end_of_the_ring() {
        let mut window = Window::new(2);
        window.sent(due(1));
        while window.has_room() {
            window.sent(due(2));
            window.answered(Window::opaque(window.next() - 1));
        }
        assert_eq!(window.next(), 64);
    }
}
