//! What is shown while a run goes on: on a terminal a few lines that are drawn over each second, else, if it was asked
//! for, one line a second.
//!
//! Only cursor movements within these lines are used: no mode is changed and nothing hidden, so there is nothing to put
//! back, however the process ends.

use std::io::Write;

use crate::compare::decimal;

const BAR_CELLS: usize = 30;
const COLUMNS_UNKNOWN: usize = 80;

/// How it goes now.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub elapsed_s: f64,
    /// How much of the run is over, and how long the rest will take, where that is known.
    pub share: Option<f64>,
    pub left_s: Option<f64>,
    pub rate: f64,
    pub average: f64,
    pub messages: u64,
    /// Of the last second.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    pub in_flight: u64,
    pub lag: Option<u64>,
    pub counted: &'static str,
    pub failures: Vec<(String, u64)>,
}

pub struct Screen {
    terminal: bool,
    lines_wanted: bool,
    /// How many lines above the cursor are ours.
    drawn: usize,
}

impl Screen {
    pub fn new(terminal: bool, lines_wanted: bool) -> Self {
        Self { terminal, lines_wanted, drawn: 0 }
    }

    pub fn warming_up(&mut self, left_ns: u64) {
        if self.terminal {
            self.draw(&[format!("warming up, {:.1} s left", left_ns as f64 / 1e9)]);
        }
    }

    pub fn show(&mut self, sample: &Sample) {
        if self.terminal {
            self.draw(&sample.block());
        } else if self.lines_wanted {
            // A closed standard error must not end the run, here and below.
            let _ = writeln!(std::io::stderr(), "{}", sample.line());
        }
    }

    /// Takes our lines away again, for whatever is printed next.
    pub fn leave(&mut self) {
        if self.drawn > 0 {
            let _ = write!(std::io::stderr(), "\x1b[{}A\r\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn draw(&mut self, lines: &[String]) {
        let columns = columns();
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\r", self.drawn));
        }
        for line in lines {
            // A line that wraps would be two, and we would draw over one of them only.
            text.extend(line.chars().take(columns.saturating_sub(1)));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

impl Sample {
    fn block(&self) -> Vec<String> {
        let bar = self.share.map_or(String::new(), |share| {
            let share = share.clamp(0.0, 1.0);
            let full = (share * BAR_CELLS as f64) as usize;
            let left = self.left_s.map_or(String::new(), |left_s| format!("  {left_s:.0} s left"));
            format!("  [{}{}] {:>3.0} %{left}", "#".repeat(full), "-".repeat(BAR_CELLS - full), share * 100.0)
        });
        let mut lines = vec![
            format!("{:>6.0} s{bar}", self.elapsed_s),
            format!(
                "  rate       {} {}/s now   {} on average   {} in all",
                decimal(self.rate),
                self.counted,
                decimal(self.average),
                count(self.messages)
            ),
            format!(
                "  latency    p50 {}   p99 {}   p999 {}   max {}",
                duration(self.p50_us),
                duration(self.p99_us),
                duration(self.p999_us),
                duration(self.max_us)
            ),
            format!(
                "  in flight  {}{}",
                self.in_flight,
                self.lag.map_or(String::new(), |lag| format!("   consumers behind {}", count(lag)))
            ),
        ];
        lines.push(format!("  errors     {}", self.errors("   ")));
        lines
    }

    fn line(&self) -> String {
        let lag = self.lag.map_or(String::new(), |lag| format!("  behind {lag}"));
        format!(
            "{:>4.0} s  {:>10.0} {}/s  p50 {:>7.0} us  p99 {:>7.0} us  p999 {:>7.0} us  max {:>7.0} us  {} done{lag}  \
             errors: {}",
            self.elapsed_s,
            self.rate,
            self.counted,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
            self.messages,
            self.errors(", ")
        )
    }

    fn errors(&self, between: &str) -> String {
        if self.failures.is_empty() {
            return String::from("none");
        }
        let each = self.failures.iter().map(|(label, count)| format!("{count} x {label}"));
        each.collect::<Vec<_>>().join(between)
    }
}

fn count(number: u64) -> String {
    if number < 1000 { number.to_string() } else { decimal(number as f64) }
}

fn duration(us: f64) -> String {
    match us {
        0.0..1000.0 => format!("{us:.0} us"),
        1000.0..1e6 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.1} s", us / 1e6),
    }
}

fn columns() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request fills a `winsize`, which is what it gets.
    let told = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut size) } == 0;
    if told && size.ws_col > 0 { usize::from(size.ws_col) } else { COLUMNS_UNKNOWN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        Sample {
            elapsed_s: 3.0,
            share: Some(0.3),
            left_s: Some(7.0),
            rate: 512_334.0,
            average: 498_120.0,
            messages: 1_494_360,
            p50_us: 496.0,
            p99_us: 878.0,
            p999_us: 1928.0,
            max_us: 2_500_000.0,
            in_flight: 256,
            lag: Some(1200),
            counted: "messages",
            failures: vec![(String::from("SYSTEM_BUSY 2"), 12), (String::from("TIMEOUT"), 3)],
        }
    }

    #[test]
    fn the_block_says_how_it_goes() {
        let block = sample().block();
        assert_eq!(block[0], "     3 s  [#########---------------------]  30 %  7 s left");
        assert_eq!(block[1], "  rate       512 334 messages/s now   498 120 on average   1 494 360 in all");
        assert_eq!(block[2], "  latency    p50 496 us   p99 878 us   p999 1.9 ms   max 2.5 s");
        assert_eq!(block[3], "  in flight  256   consumers behind 1 200");
        assert_eq!(block[4], "  errors     12 x SYSTEM_BUSY 2   3 x TIMEOUT");
        let open = Sample { share: None, lag: None, failures: Vec::new(), ..sample() }.block();
        assert_eq!((open[0].as_str(), open[3].as_str()), ("     3 s", "  in flight  256"));
        assert_eq!(open[4], "  errors     none");
    }

    #[test]
    fn the_line_is_one() {
        let line = sample().line();
        assert!(
            !line.contains('\n') && line.contains("behind 1200") && line.contains("12 x SYSTEM_BUSY 2, 3 x")
        );
    }
}
