//! How far down a half queue anything may be open.
//!
//! Renewed copies lie behind where their transactions began, so the check's own place is not enough: the oldest
//! origin among the copies that it has not met again yet counts too. Copies are kept apart in two generations,
//! those before `mark` and those behind it; when the check has passed the mark, the first are all met.

/// No copy is known.
const NONE: i64 = i64::MAX;

#[derive(Debug)]
pub struct Progress {
    before_mark: i64,
    behind_mark: i64,
    mark: i64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { before_mark: NONE, behind_mark: NONE, mark: 0 }
    }
}

impl Progress {
    /// After a start: copies before `end` may be of any transaction from `oldest` on.
    pub fn recovered(oldest: i64, end: i64) -> Self {
        Self { before_mark: oldest, behind_mark: NONE, mark: end }
    }

    /// A copy was appended behind everything, of a transaction that began at `origin`.
    pub fn renewed(&mut self, origin: i64) {
        self.behind_mark = self.behind_mark.min(origin);
    }

    /// The check has passed everything before `checked`; the queue ends at `end`. Returns below which offset
    /// everything has ended.
    pub fn passed(&mut self, checked: i64, end: i64) -> i64 {
        if checked >= self.mark {
            self.before_mark = std::mem::replace(&mut self.behind_mark, NONE);
            self.mark = end;
        }
        checked.min(self.before_mark).min(self.behind_mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_copy_holds_its_origin_until_it_is_met_again() {
        let mut progress = Progress::default();
        assert_eq!(progress.passed(10, 10), 10);
        // A pass renews the transaction of 10 and stops at 20, the end being 30 by then.
        progress.renewed(10);
        assert_eq!(progress.passed(20, 30), 10);
        // Short of the mark nothing is known to be met.
        assert_eq!(progress.passed(25, 40), 10);
        // The copy was met, and it had ended; another was renewed meanwhile.
        progress.renewed(28);
        assert_eq!(progress.passed(30, 50), 28);
        assert_eq!(progress.passed(60, 60), 60);
    }

    #[test]
    fn after_a_start_everything_up_to_the_end_may_be_a_copy() {
        let mut progress = Progress::recovered(5, 100);
        assert_eq!(progress.passed(50, 120), 5);
        assert_eq!(progress.passed(100, 130), 100);
    }
}
