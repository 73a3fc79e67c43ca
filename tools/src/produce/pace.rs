//! When sends are due in an open loop. The schedule does not wait for answers: a send that had to wait for room
//! counts from the moment it was due.

pub struct Pace {
    interval_ns: f64,
    next_ns: f64,
}

impl Pace {
    /// `share` of `shares` threads, which take turns within one interval.
    pub fn new(requests_per_second: f64, start_ns: u64, share: usize, shares: usize) -> Self {
        let all_ns = 1e9 / requests_per_second;
        Self { interval_ns: all_ns * shares as f64, next_ns: start_ns as f64 + all_ns * share as f64 }
    }

    /// The due time of the next send, if it has come.
    pub fn due(&self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns as u64;
        (due <= now_ns).then_some(due.max(1))
    }

    pub fn taken(&mut self) {
        self.next_ns += self.interval_ns;
    }

    /// How many sends are due by then and have not been taken.
    pub fn overdue(&self, now_ns: u64) -> u64 {
        let late_ns = now_ns as f64 - self.next_ns;
        if late_ns < 0.0 { 0 } else { (late_ns / self.interval_ns) as u64 + 1 }
    }

    pub fn wait_ns(&self, now_ns: u64) -> u64 {
        (self.next_ns as u64).saturating_sub(now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns_and_late_sends_keep_their_time() {
        let mut first = Pace::new(1000.0, 5_000_000, 0, 2);
        let second = Pace::new(1000.0, 5_000_000, 1, 2);
        assert_eq!((first.due(4_999_999), first.due(5_000_000)), (None, Some(5_000_000)));
        assert_eq!(second.wait_ns(5_000_000), 1_000_000);
        first.taken();
        assert_eq!(first.due(90_000_000), Some(7_000_000));
        assert_eq!([6_999_999, 7_000_000, 8_999_999, 9_000_000].map(|now| first.overdue(now)), [0, 1, 1, 2]);
    }
}
