//! Lines over two axes, as inline SVG whose colours come from the page's style, so that it follows a dark scheme.
//!
//! Axes have ticks at numbers that people say aloud: a percentile axis stretches towards the tail, a time axis is
//! logarithmic, a category axis has its values side by side.

use std::fmt::Write as _;

/// As many lines as can be told apart; the style sheet has a colour for each.
pub const SERIES_MAX: usize = 8;

/// Lines with no more points than this show where they are.
const MARKED_POINTS_MAX: usize = 60;

/// Room for the labels, in the units of the drawing.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 46.0;
/// Wider drawings get larger letters where the page is narrow.
const NARROW_WIDTH_MAX: f64 = 600.0;

pub struct Axis {
    title: String,
    ticks: Vec<(f64, String)>,
    start: f64,
    end: f64,
    /// Where a value is, on a scale that only this axis knows.
    place: fn(f64) -> f64,
    label: fn(f64) -> String,
}

/// The points of one run, as values of the two axes.
pub struct Line {
    /// Which of the colours.
    pub series: usize,
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// An SVG element that scales with the page. `about` is what a screen reader says of it.
pub fn svg((width, height): (u32, u32), about: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let (width, height) = (f64::from(width), f64::from(height));
    let at_x = |value: f64| LEFT + (width - LEFT - RIGHT) * x.share(value);
    let at_y = |value: f64| height - BOTTOM - (height - TOP - BOTTOM) * y.share(value);
    let is_wide = width > NARROW_WIDTH_MAX;
    // Of the labels' font, roughly.
    let letter_width = if is_wide { 9.5 } else { 7.5 };
    let (floor, right) = (height - BOTTOM, width - RIGHT);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\"{} role=\"img\" aria-label=\"{}\">\n",
        if is_wide { " class=\"wide\"" } else { "" },
        super::escape(about)
    );
    for (value, label) in &y.ticks {
        let at = at_y(*value);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            super::escape(label)
        );
    }
    let mut free_from = 0.0;
    for (value, label) in &x.ticks {
        let at = at_x(*value);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{floor}\"/>");
        // A label that would run into the one before is left out, and the last one stays inside.
        let half = label.chars().count() as f64 * letter_width / 2.0;
        let middle = at.min(width - half);
        if middle - half >= free_from {
            free_from = middle + half + letter_width;
            let (label, below) = (super::escape(label), floor + 18.0);
            let _ = writeln!(svg, "<text class=\"x\" x=\"{middle:.1}\" y=\"{below:.1}\">{label}</text>");
        }
    }
    let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{floor}H{right}\"/>");
    if !x.title.is_empty() {
        let (middle, below) = ((LEFT + right) / 2.0, height - 8.0);
        let _ = writeln!(
            svg,
            "<text class=\"x title\" x=\"{middle:.1}\" y=\"{below:.1}\">{}</text>",
            super::escape(&x.title)
        );
    }
    for line in lines {
        let series = line.series % SERIES_MAX;
        let mut path = String::new();
        for (index, &(across, up)) in line.points.iter().enumerate() {
            let pen = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{pen}{:.1} {:.1}", at_x(across), at_y(up));
        }
        if line.points.len() > 1 {
            let _ = writeln!(svg, "<path class=\"line s{series}\" d=\"{path}\"/>");
        }
        if line.points.len() <= MARKED_POINTS_MAX {
            for &(across, up) in &line.points {
                let said = format!("{}: {}, {}", line.name, x.said(across), (y.label)(up));
                let _ = writeln!(
                    svg,
                    "<circle class=\"s{series}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{}</title></circle>",
                    at_x(across),
                    at_y(up),
                    super::escape(&said)
                );
            }
        }
    }
    svg.push_str("</svg>\n");
    svg
}

impl Axis {
    /// Percentiles from the median's side to the tail: each nine takes as much room as the one before. 100 % is at
    /// infinity, so it is drawn at the end.
    pub fn percentiles(highest: f64) -> Self {
        let place = |percentile: f64| -((100.0 - percentile) / 100.0).max(1e-12).log10();
        // A third of a decade more than the last tick is not worth a whole empty one.
        let end = (place(highest.min(99.9999)) - 0.3).ceil().max(2.0) as i32;
        let at = |nines: i32| 100.0 - 10f64.powi(2 - nines);
        let label = |percentile: f64| {
            // The difference to 100 has lost its last digits.
            let decimals = (-(100.0 - percentile).log10()).round().clamp(0.0, 6.0) as usize;
            format!("{percentile:.decimals$} %")
        };
        let ticks = [50.0].into_iter().chain((1..=end).map(at));
        Self {
            title: String::from("percentile"),
            ticks: ticks.map(|at| (at, label(at))).collect(),
            start: 0.0,
            end: at(end),
            place,
            label,
        }
    }

    /// Microseconds, logarithmic, over at least these values.
    pub fn latency(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self::logarithmic(values, duration)
    }

    /// Numbers from zero on; where some would vanish beside the others, on a logarithmic scale.
    pub fn magnitudes(values: impl Iterator<Item = f64> + Clone) -> Self {
        /// A tenth of the height can still be read.
        const RATIO_MAX: f64 = 10.0;
        let high = values.clone().fold(0.0, f64::max);
        let low = values.clone().fold(high, f64::min);
        if low > 0.0 && high / low > RATIO_MAX {
            Self::logarithmic(values, number)
        } else {
            Self::numbers("", high)
        }
    }

    fn logarithmic(values: impl Iterator<Item = f64> + Clone, label: fn(f64) -> String) -> Self {
        const LOWEST: f64 = 0.01;
        let place = |value: f64| value.max(LOWEST).log10();
        let high = values.clone().filter(|value| value.is_finite()).fold(LOWEST, f64::max).min(1e9);
        let low = values.fold(high, f64::min).max(LOWEST);
        let decades = place(low).floor() as i32..=place(high).ceil() as i32;
        // Where all is close together, 2 and 5 alone would leave nothing to read a value from.
        let steps: &[f64] = if high / low < 4.0 {
            &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let said: Vec<f64> =
            decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade))).collect();
        // From the last number below all to the first above: whole decades would be mostly empty.
        let start = said.iter().copied().filter(|tick| *tick <= low).fold(said[0], f64::max);
        let end =
            said.iter().copied().filter(|tick| *tick >= high && *tick > start).fold(f64::INFINITY, f64::min);
        let end = if end.is_finite() { end } else { start * 10.0 };
        let is_wide = place(end) - place(start) > 4.0;
        let is_one = |tick: f64| (place(tick) - place(tick).round()).abs() < 1e-9;
        let ticks =
            said.into_iter().filter(|tick| (start..=end).contains(tick) && (!is_wide || is_one(*tick)));
        Self {
            title: String::new(),
            ticks: ticks.map(|value| (value, label(value))).collect(),
            start,
            end,
            place,
            label,
        }
    }

    /// Seconds from zero on.
    pub fn seconds(last: f64) -> Self {
        let (end, ticks) = even_ticks(last.max(1.0), 10.0);
        let label = |second: f64| format!("{second:.0} s");
        let shown = ticks.into_iter().filter(|tick| *tick <= last.max(1.0));
        Self {
            title: String::from("into the run"),
            ticks: shown.map(|at| (at, label(at))).collect(),
            start: 0.0,
            end: last.max(1.0).min(end),
            place: |at| at,
            label,
        }
    }

    /// Numbers from zero on.
    pub fn numbers(title: &str, highest: f64) -> Self {
        let (end, ticks) = even_ticks(highest.max(f64::MIN_POSITIVE), 6.0);
        Self {
            title: title.to_owned(),
            ticks: ticks.into_iter().map(|at| (at, number(at))).collect(),
            start: 0.0,
            end,
            place: |at| at,
            label: number,
        }
    }

    /// The values of a setting side by side, in the order they were given.
    pub fn categories(title: &str, values: &[String]) -> Self {
        let label = |value: &String| match value.char_indices().nth(14) {
            Some((end, _)) => format!("{}...", &value[..end]),
            None => value.clone(),
        };
        Self {
            title: title.to_owned(),
            ticks: values.iter().enumerate().map(|(index, value)| (index as f64, label(value))).collect(),
            start: -0.5,
            end: values.len() as f64 - 0.5,
            place: |at| at,
            label: |at| at.to_string(),
        }
    }

    /// From 0 to 1; values beyond the axis are drawn at its end.
    fn share(&self, value: f64) -> f64 {
        let [start, end, at] = [self.start, self.end, value].map(self.place);
        let share = (at - start) / (end - start);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn said(&self, value: f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| *at == value);
        tick.map_or_else(|| (self.label)(value), |(_, label)| label.clone())
    }
}

/// Steps of 1, 2 or 5 times a power of ten.
fn even_ticks(highest: f64, most: f64) -> (f64, Vec<f64>) {
    let rough = highest / most;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let count = (highest / step).ceil();
    (count * step, (0..=count as i32).map(|index| f64::from(index) * step).collect())
}

pub fn duration(us: f64) -> String {
    let (number, unit) = match us {
        ..999.5 => (us, "us"),
        ..999_500.0 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let decimals = if number < 9.95 && (number - number.round()).abs() > 0.05 { 1 } else { 0 };
    format!("{number:.decimals$} {unit}")
}

/// `12`, `1.5 k`, `250 k`, `2 M`
fn number(number: f64) -> String {
    let (number, unit) = match number.abs() {
        ..1e3 => (number, ""),
        ..1e6 => (number / 1e3, " k"),
        _ => (number / 1e6, " M"),
    };
    let rounded = (number * 100.0).round() / 100.0;
    format!("{rounded}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_numbers_that_people_say() {
        assert_eq!(even_ticks(480_000.0, 6.0), (500_000.0, (0..=5).map(|at| f64::from(at) * 1e5).collect()));
        assert_eq!(even_ticks(3.0, 10.0).1.len(), 7);
        let said: Vec<_> = [4.0, 1500.0, 250_000.0, 2e6].into_iter().map(duration).collect();
        assert_eq!(said, ["4 us", "1.5 ms", "250 ms", "2 s"]);
        assert_eq!([0.2, 1500.0, 2e6].map(number), ["0.2", "1.5 k", "2 M"]);
        let tail = Axis::percentiles(99.995);
        assert_eq!(labels(&tail), ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
    }

    #[test]
    fn a_time_axis_ends_close_to_what_it_shows() {
        let axis = |values: &[f64]| Axis::latency(values.iter().copied());
        assert_eq!(labels(&axis(&[130.0, 700.0])), ["100 us", "200 us", "500 us", "1 ms"]);
        assert_eq!(labels(&axis(&[100.0])), ["100 us", "150 us"]);
        assert_eq!(labels(&axis(&[640.0, 820.0])), ["600 us", "700 us", "800 us", "900 us"]);
        assert_eq!(
            labels(&axis(&[3.0, 8e5])).first(),
            Some(&"10 us"),
            "only powers of ten where there are many"
        );
        assert!(labels(&axis(&[])).len() >= 2);
    }

    #[test]
    fn numbers_far_apart_get_a_logarithmic_axis() {
        let axis = |values: &[f64]| Axis::magnitudes(values.iter().copied());
        assert_eq!(labels(&axis(&[700.0, 900.0]))[0], "0");
        assert_eq!(labels(&axis(&[7_000.0, 600_000.0]))[..3], ["5 k", "10 k", "20 k"]);
        assert_eq!(labels(&axis(&[0.44, 31.5]))[0], "0.2");
    }

    #[test]
    fn empty_and_single_points_draw_too() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(100.0, 1e9), (f64::MAX, 5.0)]] {
            let values = points.iter().map(|point: &(f64, f64)| point.1);
            let (x, y) = (Axis::percentiles(100.0), Axis::latency(values));
            let line = Line { series: 0, name: String::from("a<b"), points };
            let text = svg((520, 200), "about", &x, &y, &[line]);
            assert!(text.starts_with("<svg") && text.contains("99.9 %"), "{text}");
            assert!(!text.contains("NaN") && !text.contains("a<b") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn points_say_their_values() {
        let x = Axis::categories("waiters", &["1".into(), "64".into()]);
        let y = Axis::numbers("", 90_000.0);
        let line =
            Line { series: 1, name: String::from("SYNC"), points: vec![(0.0, 10_000.0), (1.0, 90_000.0)] };
        let text = svg((520, 300), "rate", &x, &y, &[line]);
        assert!(text.contains("<title>SYNC: 64, 90 k</title>"), "{text}");
    }
}
