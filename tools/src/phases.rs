//! When a run warms up, measures and stops; shared by all its threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::clock::monotonic_ns;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

pub struct Phases {
    pub start_ns: u64,
    pub measure_ns: u64,
    /// `u64::MAX`: until the messages are used up.
    pub end_ns: u64,
    stop: AtomicBool,
}

impl Phases {
    pub fn starting_now(warmup: Duration, duration: Option<Duration>) -> Self {
        Self::starting_in(Duration::ZERO, warmup, duration)
    }

    pub fn starting_in(lead: Duration, warmup: Duration, duration: Option<Duration>) -> Self {
        let start_ns = monotonic_ns() + lead.as_nanos() as u64;
        let measure_ns = start_ns + warmup.as_nanos() as u64;
        let end_ns = duration.map_or(u64::MAX, |duration| measure_ns + duration.as_nanos() as u64);
        Self { start_ns, measure_ns, end_ns, stop: AtomicBool::new(false) }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How long was measured, when `last_ns` is when the last message came: to the end, unless the run ended early.
    pub fn measured_seconds(&self, last_ns: u64) -> f64 {
        let end_ns = if self.end_ns <= monotonic_ns() { self.end_ns } else { last_ns };
        end_ns.saturating_sub(self.measure_ns) as f64 / 1e9
    }

    pub fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.end_ns || self.stop.load(Ordering::Relaxed) || INTERRUPTED.load(Ordering::Relaxed)
    }
}

/// The first Ctrl-C ends the run, which still reports; the second one ends the process.
/// Call it before any thread starts, since threads inherit the mask.
pub fn end_on_interrupt() -> std::io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
        let _ = signals.wait();
        std::process::exit(130);
    });
    Ok(())
}

pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
