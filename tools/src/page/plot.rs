//! Lines over two axes, drawn as inline SVG.
//!
//! Axes are made here and not left to the library: a percentile axis stretches towards the tail, a time axis is
//! logarithmic, and both need ticks at numbers that people say aloud.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;

/// Distinguishable with any colour vision (after Okabe and Ito), and dark enough on white.
pub const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(190, 133, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
    RGBColor(130, 80, 40),
];

/// Lines with no more points than this show where they are.
const MARKED_POINTS_MAX: usize = 40;

#[derive(Clone)]
pub struct Axis {
    title: &'static str,
    range: Range<f64>,
    ticks: Vec<f64>,
    /// Where a value is, on a scale that only this axis knows.
    place: fn(f64) -> f64,
    label: fn(f64) -> String,
}

/// The points of one run, as values of the two axes.
pub struct Line {
    pub color: RGBColor,
    pub points: Vec<(f64, f64)>,
}

/// An SVG element of this many pixels, which scales with the page.
pub fn svg(size: (u32, u32), x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, size), x, y, lines).expect("a string takes everything");
    svg
}

fn draw<B: DrawingBackend>(
    backend: B,
    x: &Axis,
    y: &Axis,
    lines: &[Line],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let area = backend.into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .margin_right(28)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x.clone(), y.clone())?;
    let text = ("sans-serif", 13).into_font().color(&RGBColor(70, 70, 70));
    chart
        .configure_mesh()
        .x_labels(x.ticks.len())
        .y_labels(y.ticks.len())
        .max_light_lines(0)
        .bold_line_style(RGBColor(228, 228, 228))
        .axis_style(RGBColor(150, 150, 150))
        .label_style(text.clone())
        .axis_desc_style(text)
        .x_desc(x.title)
        .x_label_formatter(&|value| (x.label)(*value))
        .y_label_formatter(&|value| (y.label)(*value))
        .draw()?;
    for line in lines {
        chart.draw_series(LineSeries::new(line.points.iter().copied(), line.color.stroke_width(2)))?;
        if line.points.len() <= MARKED_POINTS_MAX {
            chart.draw_series(line.points.iter().map(|&point| Circle::new(point, 3, line.color.filled())))?;
        }
    }
    area.present()
}

impl Axis {
    /// Percentiles from the median's side to the tail: each nine takes as much room as the one before. 100 % is at
    /// infinity, so it is drawn at the end.
    pub fn percentiles(highest: f64) -> Self {
        let place = |percentile: f64| -((100.0 - percentile) / 100.0).max(1e-12).log10();
        // A third of a decade more than the last tick is not worth a whole empty one.
        let end = (place(highest.min(99.9999)) - 0.3).ceil().max(2.0) as i32;
        let at = |nines: i32| 100.0 - 10f64.powi(2 - nines);
        Self {
            title: "percentile",
            range: 0.0..at(end),
            ticks: (0..=end).map(at).collect(),
            place,
            label: |percentile| {
                // The difference to 100 has lost its last digits.
                let decimals = (-(100.0 - percentile).log10()).round().max(0.0) as usize;
                format!("{percentile:.decimals$} %")
            },
        }
    }

    /// Microseconds, logarithmic, over at least these values.
    pub fn latency(values: impl Iterator<Item = f64> + Clone) -> Self {
        let place = |us: f64| us.max(0.1).log10();
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(1.0, f64::max);
        let start = place(low.min(high)).floor() as i32;
        let end = (place(high).ceil() as i32).max(start + 1);
        let steps: &[f64] = if end - start <= 4 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let power = |decade| 10f64.powi(decade);
        let ticks = (start..=end)
            .flat_map(|decade| steps.iter().map(move |step| power(decade) * step))
            .filter(|tick| *tick <= power(end))
            .collect();
        Self { title: "", range: power(start)..power(end), ticks, place, label: duration }
    }

    /// Seconds from zero on.
    pub fn seconds(last: f64) -> Self {
        let (end, ticks) = even_ticks(last.max(1.0), 10.0);
        let label = |second: f64| format!("{second:.0}");
        Self {
            title: "seconds into the run",
            range: 0.0..last.max(1.0).min(end),
            ticks,
            place: |at| at,
            label,
        }
    }

    /// Counts from zero on.
    pub fn counts(highest: f64) -> Self {
        let (end, ticks) = even_ticks(highest.max(1.0), 6.0);
        Self { title: "", range: 0.0..end, ticks, place: |at| at, label: count }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    /// Values beyond the axis are drawn at its end.
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let [start, end, at] = [self.range.start, self.range.end, *value].map(self.place);
        let share = ((at - start) / (end - start)).clamp(0.0, 1.0);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// Steps of 1, 2 or 5 times a power of ten, never below one: what is counted here comes whole.
fn even_ticks(highest: f64, most: f64) -> (f64, Vec<f64>) {
    let rough = highest / most;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
        .max(1.0);
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

fn count(number: f64) -> String {
    match number {
        ..1e3 => format!("{number:.0}"),
        ..1e6 => format!("{} k", number / 1e3),
        _ => format!("{} M", number / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_numbers_that_people_say() {
        assert_eq!(even_ticks(480_000.0, 6.0), (500_000.0, (0..=5).map(|at| f64::from(at) * 1e5).collect()));
        assert_eq!(even_ticks(3.0, 10.0).1, [0.0, 1.0, 2.0, 3.0]);
        let labels: Vec<_> = [4.0, 1500.0, 250_000.0, 2e6].into_iter().map(duration).collect();
        assert_eq!(labels, ["4 us", "1.5 ms", "250 ms", "2 s"]);
        let tail = Axis::percentiles(99.995);
        let labels: Vec<_> = tail.ticks.iter().map(|tick| (tail.label)(*tick)).collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]);
    }

    #[test]
    fn empty_and_single_points_draw_too() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(100.0, 1e9), (f64::MAX, 5.0)]] {
            let values = points.iter().map(|point: &(f64, f64)| point.1);
            let (x, y) = (Axis::percentiles(100.0), Axis::latency(values));
            let text = svg((300, 200), &x, &y, &[Line { color: COLORS[0], points }]);
            assert!(text.starts_with("<svg") && text.contains("99.9 %"), "{text}");
        }
    }
}
