//! Which rate to try next, when what passes at one rate passes below it, too.

/// Invariant: `passed` passes (nothing is asked at zero), `failed` fails or lies beyond the ceiling.
pub struct Search {
    passed: f64,
    failed: f64,
    precision: f64,
    /// Below this share of the ceiling nobody asks for more exactness.
    smallest: f64,
}

impl Search {
    /// `ceiling` is as fast as it goes at all.
    pub fn new(ceiling: f64, precision: f64) -> Self {
        const SMALLEST_SHARE: f64 = 0.01;
        Self {
            passed: 0.0,
            failed: ceiling * (1.0 + precision),
            precision,
            smallest: ceiling * SMALLEST_SHARE,
        }
    }

    /// The middle of what is open; `None` when it is known exactly enough.
    pub fn next(&self) -> Option<f64> {
        let open = self.failed - self.passed;
        let known = open <= self.passed * self.precision || self.failed <= self.smallest || open.is_nan();
        (!known && self.failed > 0.0).then(|| {
            let middle = (self.passed + self.failed) / 2.0;
            // A whole number reads better, and where it matters it makes no difference.
            if middle > 1000.0 { middle.round() } else { middle }
        })
    }

    pub fn tried(&mut self, rate: f64, passes: bool) {
        if passes {
            self.passed = rate;
        } else {
            self.failed = rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ceiling: f64, limit: f64) -> (f64, u32) {
        let mut search = Search::new(ceiling, 0.02);
        let mut steps = 0;
        while let Some(rate) = search.next() {
            search.tried(rate, rate <= limit);
            steps += 1;
            assert!(steps < 50);
        }
        (search.passed, steps)
    }

    #[test]
    fn the_highest_that_passes_is_found_in_few_steps() {
        for limit in [3_000.0, 50_000.0, 99_999.0, 100_000.0] {
            let (rate, steps) = found(100_000.0, limit);
            assert!(rate <= limit && rate >= limit * 0.97, "{limit}: {rate}");
            assert!(steps <= 12, "{limit}: {steps}");
        }
    }

    #[test]
    fn a_search_in_which_nothing_passes_ends() {
        assert_eq!(found(100_000.0, 0.0).0, 0.0);
        assert_eq!(found(0.0, 0.0), (0.0, 0));
    }
}
