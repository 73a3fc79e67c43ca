//! Watches a run from outside: shows how it goes, and reads the processor time around its measured part.
//!
//! Not here: the series that reports keep (`tally`); what is shown is up to 100 ms off, a report must not be.

mod screen;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cli::OutputArgs;
use crate::clock::monotonic_ns;
use crate::cpu::{self, CpuSeconds};
use crate::error::Error;
use crate::phases::Phases;
use crate::progress::screen::{Sample, Screen};
use crate::tally::Live;

const SECOND_NS: u64 = 1_000_000_000;
/// How often a terminal is redrawn while nothing is measured yet.
const WARMUP_REDRAW_NS: u64 = SECOND_NS / 4;

pub struct Watch {
    pub at_measure: CpuSeconds,
    pub at_end: CpuSeconds,
}

/// Whom to watch.
pub struct Watched<'a> {
    /// Threads whose messages count and whose latencies are shown.
    pub lives: &'a [Live],
    /// Those that send to them, where they only receive.
    pub senders: &'a [Live],
    /// How many messages end the run.
    pub messages: Option<u64>,
    /// What the messages are.
    pub counted: &'static str,
}

impl<'a> Watched<'a> {
    pub fn only(lives: &'a [Live], messages: Option<u64>) -> Self {
        Self { lives, senders: &[], messages, counted: "messages" }
    }

    fn all(&self) -> Vec<&'a Live> {
        self.lives.iter().chain(self.senders).collect()
    }
}

/// Watches the load threads until `finished`; reads processor times where the measured part begins and ends.
pub fn watch(
    phases: &Phases,
    watched: &Watched<'_>,
    output: &OutputArgs,
    finished: impl Fn() -> bool,
) -> Result<Watch, Error> {
    let servers = &output.server_pid;
    let mut watch = Watch { at_measure: cpu::used(servers)?, at_end: CpuSeconds::default() };
    let mut screen = Screen::new(std::io::stderr().is_terminal(), output.progress);
    let mut measuring = phases.measure_ns <= phases.start_ns;
    let mut ended = None;
    // A little behind the load threads, so that their percentiles of the second are there to be read.
    let (mut last_ns, mut last_messages) = (phases.measure_ns + 20_000_000, 0);
    let mut drawn_ns = 0;
    while !finished() {
        let now = monotonic_ns();
        let next =
            [phases.measure_ns, phases.end_ns].into_iter().filter(|&at| at > now).min().unwrap_or(u64::MAX);
        std::thread::sleep(Duration::from_nanos(
            next.saturating_sub(now)
                .min(last_ns.saturating_add(SECOND_NS).saturating_sub(now))
                .clamp(1_000_000, 50_000_000),
        ));
        let now = monotonic_ns();
        if !measuring && now >= phases.measure_ns {
            measuring = true;
            watch.at_measure = cpu::used(servers)?;
        }
        if !measuring && now >= drawn_ns + WARMUP_REDRAW_NS {
            drawn_ns = now;
            screen.warming_up(phases.measure_ns.saturating_sub(now));
        }
        if ended.is_none() && phases.is_over(now) {
            // A server that died in the run has no times any more; the rest of the report still counts.
            ended = Some(cpu::used(servers).or_else(|_| cpu::used(&[]))?);
        }
        if measuring && ended.is_none() && now >= last_ns + SECOND_NS {
            let messages = sum(watched.lives, |live| &live.messages);
            // The count starts anew when measuring begins.
            let rate =
                messages.saturating_sub(last_messages) as f64 * SECOND_NS as f64 / (now - last_ns) as f64;
            screen.show(&sample(phases, watched, now, messages, rate));
            (last_ns, last_messages) = (now, messages);
        }
    }
    screen.leave();
    watch.at_end = match ended {
        Some(used) => used,
        None => cpu::used(servers).or_else(|_| cpu::used(&[]))?,
    };
    Ok(watch)
}

fn sample(phases: &Phases, watched: &Watched<'_>, now: u64, messages: u64, rate: f64) -> Sample {
    let elapsed_s = (now - phases.measure_ns) as f64 / 1e9;
    let average = messages as f64 / elapsed_s.max(1e-9);
    let by_time = (phases.end_ns != u64::MAX).then(|| (phases.end_ns - phases.measure_ns) as f64 / 1e9);
    let (share, left_s) = match (watched.messages, by_time) {
        (Some(goal), _) => {
            let left = goal.saturating_sub(messages) as f64;
            (Some(messages as f64 / goal as f64), (average > 0.0).then(|| left / average))
        }
        (None, Some(whole_s)) => (Some(elapsed_s / whole_s), Some((whole_s - elapsed_s).max(0.0))),
        (None, None) => (None, None),
    };
    let all = watched.all();
    let lags: Vec<u64> = all.iter().filter_map(|live| live.lag()).collect();
    let senders = if watched.senders.is_empty() { watched.lives } else { watched.senders };
    Sample {
        elapsed_s,
        share,
        left_s,
        rate,
        average,
        messages,
        p50_us: mean_us(watched.lives, |live| &live.p50_ns),
        p99_us: worst_us(watched.lives, |live| &live.p99_ns),
        p999_us: worst_us(watched.lives, |live| &live.p999_ns),
        max_us: worst_us(watched.lives, |live| &live.max_ns),
        in_flight: sum(senders, |live| &live.in_flight),
        lag: (!lags.is_empty()).then(|| lags.iter().sum()),
        counted: watched.counted,
        failures: Live::failures(&all).into_iter().map(|(failure, count)| (failure.label(), count)).collect(),
    }
}

fn sum(lives: &[Live], of: impl Fn(&Live) -> &AtomicU64) -> u64 {
    lives.iter().map(|live| of(live).load(Ordering::Relaxed)).sum()
}

fn mean_us(lives: &[Live], of: impl Fn(&Live) -> &AtomicU64) -> f64 {
    sum(lives, of) as f64 / 1e3 / lives.len().max(1) as f64
}

fn worst_us(lives: &[Live], of: impl Fn(&Live) -> &AtomicU64) -> f64 {
    lives.iter().map(|live| of(live).load(Ordering::Relaxed)).max().unwrap_or(0) as f64 / 1e3
}
