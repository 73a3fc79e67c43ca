//! `rmq-bench sweep` as a user runs it: the engine alone, which needs no server, and the scenarios that come with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rmq-bench-sweep-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sweep(scenario: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rmq-bench")).arg("sweep").arg(scenario).args(more).output().unwrap()
}

/// Small segments and zeros, so that the test writes little to the disk.
const TWO_CELLS: &str = "title = 'two'\nrounds = 2\nwarmup = '100ms'\nduration = '300ms'\n[engine]\n\
    record_bytes = 256\nwaiters = 16\nsegment_bytes = '8 MiB'\nzero_ahead_bytes = '1 MiB'\n\
    tail_cache_bytes = '1 MiB'\nflush = ['SYNC', 'ASYNC']\n";

#[test]
fn two_cells_of_the_engine_are_measured_in_both_rounds() {
    let dir = Directory::new("engine");
    let scenario = dir.write("two.toml", TWO_CELLS);
    let out = dir.0.join("out");
    let output = sweep(&scenario, &["--out", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.starts_with("two: 2 cells x 2 rounds, 0.3 s each after 0.1 s of warm-up; about 4 s\n"),
        "{said}"
    );

    let result: Value = serde_json::from_slice(&fs::read(out.join("result.json")).unwrap()).unwrap();
    assert_eq!((&result["subject"], &result["complete"]), (&"engine".into(), &true.into()));
    assert_eq!(result["axes"][0]["values"], serde_json::json!(["SYNC", "ASYNC"]));
    for (cell, flush) in result["cells"].as_array().unwrap().iter().zip(["SYNC", "ASYNC"]) {
        assert_eq!(
            (&cell["place"]["flush"], &cell["settings"]["engine"]["waiters"]),
            (&flush.into(), &"16".into())
        );
        assert_eq!(cell["runs"].as_array().unwrap().len(), 2);
        let figure = |key: &str, of: &str| cell["figures"][key][of].as_f64().unwrap();
        assert!(figure("messages_per_second", "low") > 0.0, "{cell:#}");
        assert!(figure("p99_us", "median") >= figure("p50_us", "median"), "{cell:#}");
        // What was acknowledged was written: 16 records wait at most, so no group holds more.
        assert!((1.0..=16.0).contains(&figure("messages_per_group", "median")), "{cell:#}");
        assert!(figure("bytes_per_group", "median") >= 256.0, "{cell:#}");
    }
    assert_eq!(fs::read_to_string(out.join("result.csv")).unwrap().lines().count(), 1 + 4);
    assert!(fs::read_to_string(out.join("index.html")).unwrap().contains("<svg"));
    assert!(!out.join("data").exists(), "what the cells wrote is gone");
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_starts() {
    let dir = Directory::new("wrong");
    let out = dir.0.join("out");
    let place = ["--out", out.to_str().unwrap()];
    for (text, more, expected) in [
        ("[engine]\nwaitrs = 3\n", &[][..], "s.toml:2: engine.waitrs: unknown; did you mean waiters?"),
        (TWO_CELLS, &["--limit", "3s"], "that is more than --limit 3 s"),
        (TWO_CELLS, &["--only", "flush=NEVER"], "no cell matches --only"),
        ("[load]\nbatch = 1\n", &["--server-bin", "/nowhere/rmq-server"], "/nowhere/rmq-server: "),
    ] {
        let scenario = dir.write("s.toml", text);
        let output = sweep(&scenario, &[&place[..], more].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(!out.exists(), "{expected}");
    }
}

/// A server that ends at once must not be waited for, and what it said must not be lost.
#[test]
fn a_server_that_fails_leaves_its_last_words() {
    let dir = Directory::new("server");
    let scenario = dir.write(
        "s.toml",
        "rounds = 1\n[server]\ncommand = \"echo cannot serve {dir} {port} {nsport} {set:key=value}; exit 3\"\n\
         [broker]\nflushDiskType = 'SYNC_FLUSH'\n",
    );
    let out = dir.0.join("out");
    let output = sweep(&scenario, &["--out", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("ended by itself") && said.contains("cannot serve"), "{said}");
    let kept = fs::read_to_string(out.join("failed-1.log")).unwrap();
    assert!(kept.contains("flushDiskType=SYNC_FLUSH"), "{kept}");
    assert!(!out.join("data").exists());
}

#[test]
fn every_scenario_that_comes_with_us_is_understood() {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/scenarios");
    let mut count = 0;
    for entry in fs::read_dir(scenarios).unwrap() {
        let path = entry.unwrap().path();
        let output = sweep(&path, &["--list"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let cells = String::from_utf8_lossy(&output.stdout).lines().count();
        assert!(output.status.success() && cells > 1, "{}: {said}", path.display());
        count += 1;
    }
    assert!(count >= 6, "{count}");
}
