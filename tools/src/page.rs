//! `rmq-bench report`: results as one HTML page that needs nothing else, to look at and to pass on.

mod curves;
pub(crate) mod plot;
mod tables;

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::page::plot::SERIES_MAX;
use crate::report::write_file;
use crate::saved_run::SavedRun;

const STYLE: &str = include_str!("page/style.css");

#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// The page to write
    #[arg(value_name = "OUT.html")]
    pub page: PathBuf,
    /// Results, at most eight, that `--json` wrote
    #[arg(value_name = "A.json", required = true)]
    pub results: Vec<PathBuf>,
}

pub fn exec(args: &ReportArgs) -> Result<bool, Error> {
    // Page and results trade places easily on a command line; a result must not be written over.
    if args.page.extension().is_some_and(|extension| extension == "json") {
        return Err(Error::Usage(format!("{} is the page to write; name it *.html", args.page.display())));
    }
    if args.results.len() > SERIES_MAX {
        return Err(Error::Usage(format!("at most {SERIES_MAX} results can be told apart")));
    }
    let runs = args.results.iter().map(|path| SavedRun::read(path)).collect::<Result<Vec<_>, _>>()?;
    write_file(&args.page, &page(&runs))?;
    Ok(true)
}

fn page(runs: &[SavedRun]) -> String {
    let names: Vec<&str> = runs.iter().map(SavedRun::name).collect();
    let mut html = opening(&names.join(" and "));
    tables::results(&mut html, runs);
    curves::percentiles(&mut html, runs);
    curves::rate_steps(&mut html, runs);
    curves::over_time(&mut html, runs);
    tables::errors(&mut html, runs);
    tables::settings(&mut html, runs);
    html.push_str(CLOSING);
    html
}

/// Everything up to the page's headline.
pub(crate) fn opening(title: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} - rmq-bench</title>\n<style>\n{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    )
}

pub(crate) const CLOSING: &str = "</body></html>";

/// A name behind its colour.
pub(crate) fn named(series: usize, name: &str) -> String {
    format!("<span class=\"swatch s{}\"></span>{}", series % SERIES_MAX, escape(name))
}

pub(crate) fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names = names.enumerate();
    let spans: String =
        names.map(|(series, name)| format!("<span class=\"run\">{}</span> ", named(series, name))).collect();
    format!("<div class=\"legend\">{}</div>\n", spans.trim_end())
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `2026-11-20 14:11:35`
pub(crate) fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let year_days = |year| if leap(year) { 366 } else { 365 };
    while day >= year_days(year) {
        day -= year_days(year);
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02}:{:02}", day + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ramp::RateStep;
    use crate::saved_run::tests::saved;

    #[test]
    fn a_page_names_its_runs_and_needs_nothing_else() {
        let runs = [
            saved("Java <5.3>", 100_000.0, 400.0, serde_json::json!({"connections": 8, "body_size": 128})),
            saved("ours", 500_000.0, 100.0, serde_json::json!({"connections": 8, "body_size": 256})),
        ];
        let html = page(&runs);
        assert!(html.contains("Java &lt;5.3&gt;") && !html.contains("Java <5.3>"));
        assert_eq!(html.matches("<svg").count(), 3);
        assert_eq!(html.matches("</svg>").count(), 3);
        assert!(html.contains("<tr class=\"differs\"><td>body size</td><td>128</td><td>256</td></tr>"));
        assert!(html.contains("V5_3_3 (499)") && html.contains("500 000"));
        for outside in ["<script", "<link", "src=", "url(", "href="] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_run_without_latencies_or_seconds_has_a_page() {
        let mut run = saved("a", 10.0, 1.0, serde_json::json!({}));
        (run.latency_us, run.per_second) = (None, Vec::new());
        let html = page(&[run]);
        assert!(!html.contains("<svg") && html.ends_with("</body></html>"));
    }

    #[test]
    fn rates_and_errors_have_their_places() {
        let mut run = saved("ramp", 10.0, 1.0, serde_json::json!({}));
        let latency = run.latency_us.clone();
        run.rate_steps = [(Some(1000.0), 999.0), (Some(2000.0), 1500.0), (None, 1600.0)]
            .map(|(rate, messages_per_second)| RateStep {
                rate,
                messages_per_second,
                latency_us: latency.clone(),
                failures: 7,
                keeps_up: rate == Some(1000.0),
                holds: None,
                client_us_per_message: 1.0,
                server_us_per_message: None,
            })
            .into();
        run.errors = serde_json::from_value(serde_json::json!([
            {"name": "SYSTEM_BUSY", "code": 2, "count": 9, "meaning": "flow control", "first_remark": "[<TOO MANY>]"},
        ]))
        .unwrap();
        let html = page(&[run]);
        assert!(html.contains("Latency by rate") && html.contains("falls behind"), "{html}");
        assert!(html.contains("SYSTEM_BUSY (2)") && html.contains("[&lt;TOO MANY&gt;]"), "{html}");
    }

    #[test]
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(utc(1_767_225_599), "2025-12-31 23:59:59");
    }
}
