//! One line on standard error that says how the run goes, and the processor time around its measured part.
//!
//! Not here: the series that reports keep (`tally`); what is shown is up to 50 ms off, a report must not be.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::monotonic_ns;
use crate::cpu::{self, CpuSeconds};
use crate::error::Error;
use crate::phases::Phases;
use crate::tally::Live;

pub struct Watch {
    pub at_measure: CpuSeconds,
    pub at_end: CpuSeconds,
}

/// Watches the load threads until `finished`; reads processor times where the measured part begins and ends.
pub fn watch(
    phases: &Phases,
    live: &[Live],
    servers: &[u32],
    shown: bool,
    finished: impl Fn() -> bool,
) -> Result<Watch, Error> {
    let terminal = std::io::stderr().is_terminal();
    let mut watch = Watch { at_measure: cpu::used(servers)?, at_end: CpuSeconds::default() };
    let mut written = false;
    let mut measuring = phases.measure_ns <= phases.start_ns;
    let mut ended = None;
    // A little behind the load threads, so that their percentiles of the second are there to be read.
    let (mut last_ns, mut last_messages) = (phases.measure_ns + 20_000_000, 0);
    while !finished() {
        let now = monotonic_ns();
        let next =
            [phases.measure_ns, phases.end_ns].into_iter().filter(|&at| at > now).min().unwrap_or(u64::MAX);
        std::thread::sleep(Duration::from_nanos(
            next.saturating_sub(now)
                .min(last_ns.saturating_add(1_000_000_000).saturating_sub(now))
                .clamp(1_000_000, 50_000_000),
        ));
        let now = monotonic_ns();
        if !measuring && now >= phases.measure_ns {
            measuring = true;
            watch.at_measure = cpu::used(servers)?;
        }
        if ended.is_none() && phases.is_over(now) {
            // A server that died in the run has no times any more; the rest of the report still counts.
            ended = Some(cpu::used(servers).or_else(|_| cpu::used(&[]))?);
        }
        if measuring && ended.is_none() && now >= last_ns + 1_000_000_000 {
            let messages: u64 = live.iter().map(|live| live.messages.load(Ordering::Relaxed)).sum();
            if shown || terminal {
                let at_s = (now - phases.measure_ns) / 1_000_000_000;
                // The count starts anew when measuring begins.
                let rate = messages.saturating_sub(last_messages) as f64 * 1e9 / (now - last_ns) as f64;
                show(at_s, rate, messages, live, terminal);
                written = true;
            }
            (last_ns, last_messages) = (now, messages);
        }
    }
    if terminal && written {
        eprintln!();
    }
    watch.at_end = match ended {
        Some(used) => used,
        None => cpu::used(servers).or_else(|_| cpu::used(&[]))?,
    };
    Ok(watch)
}

fn mean_us(live: &[Live], of: impl Fn(&Live) -> &std::sync::atomic::AtomicU64) -> f64 {
    live.iter().map(|live| of(live).load(Ordering::Relaxed)).sum::<u64>() as f64
        / 1e3
        / live.len().max(1) as f64
}

fn worst_us(live: &[Live], of: impl Fn(&Live) -> &std::sync::atomic::AtomicU64) -> f64 {
    live.iter().map(|live| of(live).load(Ordering::Relaxed)).max().unwrap_or(0) as f64 / 1e3
}

fn show(at_s: u64, rate: f64, messages: u64, live: &[Live], terminal: bool) {
    let all: Vec<&Live> = live.iter().collect();
    let failures: u64 = Live::failures(&all).values().sum();
    let (p50_us, p99_us, max_us) = (
        mean_us(live, |live| &live.p50_ns),
        worst_us(live, |live| &live.p99_ns),
        worst_us(live, |live| &live.max_ns),
    );
    let line = format!(
        "{at_s:>4} s  {rate:>10.0} messages/s  p50 {p50_us:>7.0} us  p99 {p99_us:>7.0} us  max {max_us:>7.0} us  {messages} done  {failures} errors"
    );
    let mut stderr = std::io::stderr().lock();
    // A terminal keeps one line; a log gets a line a second. A closed stderr must not end the run.
    let _ = if terminal { write!(stderr, "\r{line}\x1b[K") } else { writeln!(stderr, "{line}") };
    let _ = stderr.flush();
}
