//! How many messages may be asked for by now, when a consumer takes only so many a second.
//!
//! A pull is charged for all it may bring when it is sent, and gets back what it did not bring.

/// What was not used is kept for this long only, or a consumer that had nothing to do would flood the broker later.
const KEPT_NS: f64 = 100e6;

pub struct Throttle {
    per_ns: f64,
    last_ns: u64,
    allowance: f64,
    per_pull: f64,
}

impl Throttle {
    pub fn new(messages_per_second: f64, messages_per_pull: u32, now_ns: u64) -> Self {
        Self {
            per_ns: messages_per_second / 1e9,
            last_ns: now_ns,
            allowance: 0.0,
            per_pull: f64::from(messages_per_pull),
        }
    }

    /// Charges for one pull, if it may be sent now.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let since_ns = now_ns.saturating_sub(self.last_ns) as f64;
        self.last_ns = self.last_ns.max(now_ns);
        let kept_max = (self.per_ns * KEPT_NS).max(self.per_pull);
        self.allowance = (self.allowance + since_ns * self.per_ns).min(kept_max);
        let allowed = self.allowance >= 0.0;
        if allowed {
            self.allowance -= self.per_pull;
        }
        allowed
    }

    /// A pull has brought only this many.
    pub fn brought(&mut self, messages: u64) {
        self.allowance += (self.per_pull - messages as f64).max(0.0);
    }

    pub fn wait_ns(&self) -> u64 {
        (-self.allowance / self.per_ns).max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as often as it may for a second, in steps of 100 us; each pull brings `brought`.
    fn messages_in_a_second(rate: f64, brought: u64) -> u64 {
        let mut throttle = Throttle::new(rate, 32, 0);
        let mut messages = 0;
        for step in 0..10_000 {
            while throttle.take(step * 100_000) {
                throttle.brought(brought);
                messages += brought;
            }
        }
        messages
    }

    #[test]
    fn the_rate_holds_whatever_pulls_bring() {
        for rate in [100.0, 1000.0, 50_000.0] {
            for brought in [1, 20, 32] {
                let messages = messages_in_a_second(rate, brought) as f64;
                assert!((messages - rate).abs() <= 64.0, "{rate} {brought}: {messages}");
            }
        }
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let mut throttle = Throttle::new(1000.0, 32, 0);
        let hour_ns = 3_600_000_000_000;
        let mut pulls = 0;
        while throttle.take(hour_ns) {
            pulls += 1;
        }
        assert!(pulls <= 4, "{pulls}");
        assert!((1..=32_000_000).contains(&throttle.wait_ns()), "{}", throttle.wait_ns());
    }
}
