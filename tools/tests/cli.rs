//! The binary, as a user runs it, against a broker that keeps its promises and against some that do not.

mod fake_broker;

use std::path::PathBuf;
use std::process::{Command, Output};

use fake_broker::{FakeBroker, Fault};
use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rmq-bench")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

struct Journal(PathBuf);

impl Journal {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("rmq-bench-cli-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends to a broker with this fault and verifies.
fn produce_and_verify(name: &str, fault: Fault, more: &[&str]) -> (Value, Value, bool) {
    let broker = FakeBroker::start(4, true, fault);
    let (address, journal) = (broker.address.to_string(), Journal::new(name));
    let target = ["--broker-address", address.as_str(), "-t", "T"];
    let mut arguments = vec!["produce"];
    arguments.extend(target);
    arguments.extend(["-q", "4", "-c", "3", "-m", "4000", "--timeout", "1s", "--journal", journal.path()]);
    arguments.extend(["--json", "-"]);
    arguments.extend(more);
    let produced = bench(&arguments);
    let mut arguments = vec!["verify"];
    arguments.extend(target);
    arguments.extend(["--journal", journal.path(), "--order", "pipelined", "--limit", "20s", "--json", "-"]);
    let verified = bench(&arguments);
    (json(&produced), json(&verified), verified.status.success())
}

#[test]
fn an_honest_broker_passes() {
    for (name, more) in [
        ("plain", &[][..]),
        ("binary", &["--codec", "binary"]),
        ("batch", &["--batch", "8", "-s", "1000"]),
        ("threads", &["--threads", "2", "-i", "1"]),
        ("ranged", &["-s", "40-3000", "--compressible", "0.5", "--seed", "5", "--keys", "--tags", "3"]),
        (
            "ranged-batch",
            &["-s", "50-200", "--batch", "4", "--tags", "100", "--property", "a=b", "--keys", "2"],
        ),
        ("properties", &["--property-bytes", "3000", "--property", "color=red", "--no-unique-key"]),
    ] {
        let (produced, verified, passed) = produce_and_verify(name, Fault::None, more);
        assert!(passed, "{name}: {verified:#}");
        assert_eq!(produced["messages"], 4000, "{name}");
        assert_eq!(verified["verified"], 4000, "{name}");
        assert_eq!(verified["records"], 4000, "{name}");
        assert!(produced["latency_us"]["p99"].as_f64().unwrap() > 0.0, "{name}");
        assert_eq!(produced["settings"]["load"]["connections"], 3, "{name}");
    }
}

#[test]
fn a_lost_message_is_noticed() {
    let (_, verified, passed) = produce_and_verify("lose", Fault::Lose(1000), &[]);
    assert!(!passed);
    assert!(verified["missing"].as_u64().unwrap() > 0, "{verified:#}");
}

/// The very last message of a queue leaves no gap behind it.
#[test]
fn a_lost_last_message_is_noticed() {
    let (_, verified, passed) = produce_and_verify("lose-last", Fault::Lose(3999), &[]);
    assert!(!passed);
    assert_eq!(verified["missing"], 1, "{verified:#}");
}

#[test]
fn a_message_stored_twice_is_noticed() {
    let (_, verified, passed) = produce_and_verify("twice", Fault::StoreTwice(3999), &[]);
    assert!(!passed);
    assert_eq!(verified["duplicated"], 1, "{verified:#}");
    assert_eq!(verified["missing"], 0, "{verified:#}");
}

#[test]
fn a_damaged_body_is_noticed() {
    let (_, verified, passed) = produce_and_verify("damage", Fault::DamageBody(77), &[]);
    assert!(!passed);
    assert_eq!((&verified["damaged"], &verified["missing"]), (&1.into(), &1.into()), "{verified:#}");
}

#[test]
fn a_wrong_offset_in_an_answer_is_noticed() {
    let (_, verified, passed) = produce_and_verify("offset", Fault::WrongOffset(5), &[]);
    assert!(!passed);
    // Two answers claim one offset then; the rightful owner may come up as missing, too.
    assert!((1..=2).contains(&verified["missing"].as_u64().unwrap()), "{verified:#}");
}

#[test]
fn a_changed_order_is_noticed() {
    let (_, verified, passed) = produce_and_verify("swap", Fault::Swap(40), &["-c", "1"]);
    assert!(!passed);
    assert_eq!(verified["reordered"], 1, "{verified:#}");
}

#[test]
fn refusals_are_named_and_are_no_loss() {
    let (produced, verified, passed) = produce_and_verify("refuse", Fault::Refuse(9), &[]);
    assert!(passed, "{verified:#}");
    assert_eq!(verified["refused"], 1);
    let error = &produced["errors"][0];
    assert_eq!((error["code"].as_i64(), error["name"].as_str()), (Some(2), Some("SYSTEM_BUSY")));
    assert_eq!(error["first_remark"], "start flow control for a while");
}

#[test]
fn a_send_without_an_answer_may_be_stored_once() {
    let (produced, verified, passed) = produce_and_verify("silent", Fault::Silent(9), &[]);
    assert!(passed, "{verified:#}");
    assert_eq!((&verified["unanswered"], &verified["unanswered_stored"]), (&1.into(), &1.into()));
    assert_eq!(produced["errors"][0]["name"], "TIMEOUT");
}

#[test]
fn committed_transactions_are_there_and_others_are_not() {
    let more = ["--transaction", "--rollback", "0.25", "--seed", "1", "--tags", "2"];
    let (produced, verified, passed) = produce_and_verify("transaction", Fault::None, &more);
    assert!(passed, "{verified:#}");
    assert_eq!(produced["messages"], 4000);
    let count = |produced: &Value, name: &str| {
        let mut steps = produced["steps"].as_array().unwrap().iter();
        steps.find(|step| step["name"] == name).unwrap()["latency_us"]["count"].as_u64().unwrap()
    };
    let rolled_back = count(&produced, "rollback");
    assert!((900..1100).contains(&rolled_back), "{rolled_back}");
    assert_eq!(count(&produced, "half message"), 4000);
    assert_eq!(count(&produced, "commit"), 4000 - rolled_back);
    assert_eq!(verified["acknowledged"], 4000 - rolled_back);
    assert_eq!(verified["verified"], 4000 - rolled_back);

    let (produced, verified, passed) = produce_and_verify("commit-all", Fault::CommitAll, &more);
    assert!(!passed);
    assert_eq!(verified["invented"], count(&produced, "rollback"), "{verified:#}");
}

#[test]
fn a_broker_without_transactions_is_reported_by_its_code() {
    let (produced, verified, passed) =
        produce_and_verify("no-transactions", Fault::NoTransactions, &["--transaction"]);
    assert!(passed, "{verified:#}");
    assert_eq!((&produced["messages"], &verified["refused"]), (&0.into(), &4000.into()));
    let error = &produced["errors"][0];
    assert_eq!((error["code"].as_i64(), error["count"].as_u64()), (Some(16), Some(4000)), "{error:#}");
    assert_eq!(error["label"], "NO_PERMISSION 16");
    assert_eq!(error["first_remark"], "transactions are not supported");
}

#[test]
fn delayed_messages_may_be_anywhere_but_must_be_somewhere() {
    let (produced, verified, passed) = produce_and_verify("delay", Fault::None, &["--delay-level", "1"]);
    assert!(passed, "{verified:#}");
    assert_eq!((&produced["messages"], &verified["verified"]), (&4000.into(), &4000.into()));
    let (_, verified, passed) = produce_and_verify("delay-lose", Fault::Lose(1000), &["--delay-level", "1"]);
    assert!(!passed);
    assert_eq!(verified["missing"], 1, "{verified:#}");
}

#[test]
fn oneway_sends_all_leave() {
    let broker = FakeBroker::start(2, true, Fault::None);
    let address = broker.address.to_string();
    let sent = bench(&[
        "produce",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-q",
        "2",
        "-m",
        "20000",
        "--oneway",
        "--json",
        "-",
    ]);
    assert_eq!(json(&sent)["messages"], 20000);
    // They are in the socket when the tool ends; the broker reads them a little later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while broker.stored() < 20000 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(broker.stored(), 20000);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let broker = FakeBroker::start(2, true, Fault::None);
    let address = broker.address.to_string();
    let sent = bench(&[
        "produce",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-q",
        "2",
        "-r",
        "2000",
        "-d",
        "500ms",
        "--json",
        "-",
    ]);
    let messages = json(&sent)["messages"].as_u64().unwrap();
    assert!((900..=1001).contains(&messages), "{messages}");
}

/// A server that stands still for 0.4 s makes all sends late that are due in that time, not only the one it holds:
/// a tool that starts its watch when it gets to send would see one slow answer of a thousand.
#[test]
fn an_open_loop_counts_from_when_a_send_was_due() {
    let broker = FakeBroker::start(1, true, Fault::Stall(300, 400));
    let address = broker.address.to_string();
    let target = ["produce", "--broker-address", &address, "-t", "T", "-q", "1", "-c", "1", "-i", "16"];
    let (csv, hdr) = (Journal::new("stall.csv"), Journal::new("stall.hdr"));
    let open = json(&bench(
        &[&target[..], &["-r", "1000", "-d", "1s", "--hdr", hdr.path(), "--csv", csv.path(), "--json", "-"]]
            .concat(),
    ));
    assert!(open["latency_us"]["count"].as_u64().unwrap() >= 990, "{open:#}");
    assert!(open["latency_us"]["p90"].as_f64().unwrap() > 200_000.0, "{open:#}");
    assert!(open["latency_us"]["max"].as_f64().unwrap() >= 390_000.0, "{open:#}");
    assert_eq!(open["errors"], Value::Array(Vec::new()));

    let curve = open["percentiles"].as_array().unwrap();
    let numbers = |key: &str| curve.iter().map(|point| point[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert!(numbers("us").is_sorted() && numbers("percentile").is_sorted());
    assert_eq!(numbers("percentile").last(), Some(&100.0));
    assert_eq!(open["per_second"].as_array().unwrap().len(), 1);
    let csv = std::fs::read_to_string(csv.path()).unwrap();
    let first: Vec<&str> = csv.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(first, ["second", "0", "total"], "{csv}");
    assert!(std::fs::read_to_string(hdr.path()).unwrap().contains("HISTFAA"));
}

/// Sends that were due and never got their turn are failures, not silence.
#[test]
fn an_open_loop_says_what_it_could_not_send() {
    let broker = FakeBroker::start(1, true, Fault::Stall(200, 2000));
    let address = broker.address.to_string();
    let sent = json(&bench(&[
        "produce",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-q",
        "1",
        "-c",
        "1",
        "-i",
        "1",
        "-r",
        "1000",
        "-d",
        "600ms",
        "--timeout",
        "5s",
        "--json",
        "-",
    ]));
    let unsent = sent["errors"].as_array().unwrap().iter().find(|error| error["name"] == "NOT_SENT").unwrap();
    assert!((300..=400).contains(&unsent["count"].as_u64().unwrap()), "{sent:#}");
}

#[test]
fn warm_up_is_not_in_the_figures() {
    let broker = FakeBroker::start(1, true, Fault::Stall(10, 200));
    let address = broker.address.to_string();
    let sent = json(&bench(&[
        "produce",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-q",
        "1",
        "-c",
        "1",
        "-i",
        "1",
        "-r",
        "500",
        "--warmup",
        "600ms",
        "-d",
        "500ms",
        "--json",
        "-",
    ]));
    let messages = sent["messages"].as_u64().unwrap();
    assert!((200..=251).contains(&messages), "{messages}");
    assert!(sent["latency_us"]["p99"].as_f64().unwrap() < 150_000.0, "{sent:#}");
}

#[test]
fn consume_reads_what_produce_wrote() {
    let broker = FakeBroker::start(2, true, Fault::None);
    let address = broker.address.to_string();
    bench(&["produce", "--broker-address", &address, "-t", "T", "-q", "2", "-m", "5000"]);
    let consumed = bench(&["consume", "--broker-address", &address, "-t", "T", "--until-end", "--json", "-"]);
    assert!(consumed.status.success());
    let consumed = json(&consumed);
    assert_eq!(consumed["messages"], 5000);
    assert_eq!(consumed["anomalies"], Value::Array(Vec::new()));
}

/// A cold consumer: everything from the beginning, in all the ways that it can be asked for.
#[test]
fn a_backlog_is_replayed_in_several_ways() {
    let broker = FakeBroker::start(4, true, Fault::None);
    let address = broker.address.to_string();
    let target = ["--broker-address", &address, "-t", "T"];
    let sent = ["produce", "-q", "4", "-m", "4000", "--tags", "3", "--seed", "1"];
    assert!(bench(&[&sent[..], &target].concat()).status.success());
    let consume = |more: &[&str]| {
        let run = bench(&[&["consume"][..], &target, &["-m", "4000", "--json", "-"], more].concat());
        (json(&run), run.status.success())
    };
    for more in [&[][..], &["--one-at-a-time"], &["-c", "2", "-b", "7"], &["-c", "2", "--one-at-a-time"]] {
        let (report, passed) = consume(&[&["--until-end"][..], more].concat());
        assert!(passed, "{report:#}");
        assert_eq!(report["messages"], 4000, "{more:?}");
        assert_eq!(report["latency_us"]["count"], report["requests"], "{more:?}");
        assert_eq!((&report["lag"], &report["anomalies"]), (&0.into(), &Value::Array(Vec::new())));
    }
    let (tagged, passed) = consume(&["--until-end", "--tags", "TagA || TagC"]);
    assert!(passed, "{tagged:#}");
    let count = tagged["messages"].as_u64().unwrap();
    assert!((2300..3000).contains(&count), "{tagged:#}");
    assert_eq!(tagged["anomalies"], Value::Array(Vec::new()));

    let (limited, _) = consume(&["-r", "2000", "-d", "500ms"]);
    let count = limited["messages"].as_u64().unwrap();
    assert!((800..1200).contains(&count), "{limited:#}");
    assert_eq!(limited["lag"], 4000 - count);
}

/// A stall before a message is stored makes late whatever was due behind it, until it has been received.
#[test]
fn end_to_end_counts_from_due_to_received() {
    for (stall, low_us, high_us) in [(Fault::None, 0.0, 150_000.0), (Fault::Stall(300, 400), 200_000.0, 9e6)]
    {
        let broker = FakeBroker::start(2, true, stall);
        let address = broker.address.to_string();
        let run = bench(&[
            "end-to-end",
            "--broker-address",
            &address,
            "-t",
            "T",
            "-q",
            "2",
            "-c",
            "1",
            "-i",
            "16",
            "-r",
            "1000",
            "--warmup",
            "200ms",
            "-d",
            "1s",
            "--json",
            "-",
        ]);
        let report = json(&run);
        assert!(run.status.success(), "{report:#}");
        // Every message that was due in the measured second, however late it was, and none of the warm-up.
        assert!((999..=1001).contains(&report["messages"].as_u64().unwrap()), "{report:#}");
        assert_eq!(report["latency_us"]["count"], report["messages"]);
        let p90 = report["latency_us"]["p90"].as_f64().unwrap();
        assert!((low_us..high_us).contains(&p90), "{report:#}");
        assert!(report["answer_latency_us"]["p50"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn end_to_end_notices_what_arrives_damaged() {
    let broker = FakeBroker::start(2, true, Fault::DamageBody(100));
    let address = broker.address.to_string();
    let run = bench(&[
        "end-to-end",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-q",
        "2",
        "-r",
        "1000",
        "-d",
        "300ms",
        "--json",
        "-",
    ]);
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(json(&run)["anomalies"][0]["what"], "messages damaged");
}

#[test]
fn idle_connections_are_counted_until_the_end() {
    let broker = FakeBroker::start(1, true, Fault::None);
    let address = broker.address.to_string();
    let pid = std::process::id().to_string();
    let run = bench(&[
        "idle",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-c",
        "50",
        "-d",
        "400ms",
        "--heartbeat",
        "100ms",
        "--server-pid",
        &pid,
        "--json",
        "-",
    ]);
    let report = json(&run);
    assert!(run.status.success(), "{report:#}");
    let fact = |name: &str| {
        let mut facts = report["facts"].as_array().unwrap().iter();
        facts.find(|fact| fact["name"] == name).unwrap()["value"].as_f64().unwrap()
    };
    assert_eq!((fact("connections opened"), fact("connections open at the end")), (50.0, 50.0));
    assert!(fact("server memory before") > 1.0);
    // One every 100 ms in the 400 ms that are measured; before, one at once and those of half a second of settling.
    assert!((120..=260).contains(&report["messages"].as_u64().unwrap()), "{report:#}");
    assert!((250.0..=500.0).contains(&fact("heartbeats answered, with those at the start")), "{report:#}");
    assert_eq!(report["errors"], Value::Array(Vec::new()), "{report:#}");
}

#[test]
fn connections_that_do_not_stay_are_noticed() {
    let broker = FakeBroker::start(1, true, Fault::HangUpOn(3));
    let address = broker.address.to_string();
    let run = bench(&[
        "idle",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-c",
        "10",
        "-d",
        "300ms",
        "--heartbeat",
        "once",
        "--json",
        "-",
    ]);
    let report = json(&run);
    assert_eq!(run.status.code(), Some(1), "{report:#}");
    assert_eq!(
        (&report["errors"][0]["name"], &report["errors"][0]["count"]),
        (&"CONNECTION_LOST".into(), &1.into())
    );
}

#[test]
fn short_connections_are_timed_in_steps() {
    let broker = FakeBroker::start(2, true, Fault::None);
    let address = broker.address.to_string();
    let target = ["churn", "--broker-address", &address, "-t", "T", "-q", "2", "-d", "400ms", "--json", "-"];
    for more in [&[][..], &["--request", "send", "-s", "100-5000"], &["-r", "500", "-c", "20"]] {
        let run = bench(&[&target[..], more].concat());
        let report = json(&run);
        assert!(run.status.success(), "{report:#}");
        let messages = report["messages"].as_u64().unwrap();
        assert!(messages > 50, "{report:#}");
        assert_eq!(report["errors"], Value::Array(Vec::new()), "{report:#}");
        let counts =
            report["steps"].as_array().unwrap().iter().map(|step| step["latency_us"]["count"].as_u64());
        assert!(counts.flatten().all(|count| count >= messages), "{report:#}");
        if more.contains(&"-r") {
            assert!((150..=201).contains(&messages), "{report:#}");
        }
        if more.contains(&"send") {
            // What had been sent when the time was over is stored, too, and not counted.
            assert!((messages..=messages + 8).contains(&(broker.stored() as u64)), "{report:#}");
        }
    }
}

/// What one run writes, the other subcommands read.
#[test]
fn results_become_a_page_and_a_table() {
    let broker = FakeBroker::start(2, true, Fault::None);
    let address = broker.address.to_string();
    let files = ["a.json", "b.json", "page.html"].map(Journal::new);
    for (file, rate) in [(&files[0], "500"), (&files[1], "1000")] {
        let sent = bench(&[
            "produce",
            "--broker-address",
            &address,
            "-t",
            "T",
            "-q",
            "2",
            "-r",
            rate,
            "-d",
            "1s",
            "--label",
            rate,
            "--json",
            file.path(),
        ]);
        assert!(sent.status.success());
    }
    let written = bench(&["report", files[2].path(), files[0].path(), files[1].path()]);
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let page = std::fs::read_to_string(files[2].path()).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("<title>500 and 1000"), "{page}");

    let compared = bench(&["compare", files[0].path(), files[1].path()]);
    let table = String::from_utf8(compared.stdout).unwrap();
    let rates = table.lines().find(|line| line.starts_with("messages/s")).unwrap();
    let ratio: f64 = rates.split_whitespace().last().unwrap().parse().unwrap();
    assert!((1.8..2.2).contains(&ratio), "{table}");
    assert!(table.contains("rate: 500.0 against 1000.0"), "{table}");

    let refused = bench(&["compare", files[0].path(), files[2].path()]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is no result that --json wrote"));
}

#[test]
fn a_ramp_has_a_row_for_each_rate() {
    let broker = FakeBroker::start(2, true, Fault::None);
    let address = broker.address.to_string();
    let files = ["ramp.json", "ramp.csv"].map(Journal::new);
    let run = bench(&[
        "ramp",
        "--rates",
        "200:800:x2",
        "--broker-address",
        &address,
        "-t",
        "T",
        "-q",
        "2",
        "-d",
        "300ms",
        "--warmup",
        "50ms",
        "--json",
        files[0].path(),
        "--csv",
        files[1].path(),
    ]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}");
    assert!(text.contains("highest rate kept up with: 800 messages/s"), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(files[0].path()).unwrap()).unwrap();
    let rates: Vec<_> =
        report["rate_steps"].as_array().unwrap().iter().map(|step| step["rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [200.0, 400.0, 800.0]);
    assert!(report["rate_steps"].as_array().unwrap().iter().all(|step| step["keeps_up"] == true));
    assert_eq!(std::fs::read_to_string(files[1].path()).unwrap().lines().count(), 4);
    let compared = bench(&["compare", files[0].path(), files[0].path()]);
    assert!(String::from_utf8_lossy(&compared.stdout).contains("p99 us at 400/s"));
}

/// A broker that takes a while for each of its answers holds a latency up to the rate that one connection can have.
#[test]
fn the_highest_rate_that_holds_a_latency_is_found() {
    let broker = FakeBroker::start(1, true, Fault::Slow(1));
    let address = broker.address.to_string();
    let target = ["--broker-address", &address, "-t", "T", "-q", "1", "-c", "1", "-i", "4"];
    let times = ["-d", "250ms", "--warmup", "50ms", "--precision", "0.3", "--json", "-"];
    let run = bench(&[&["find-rate", "--p99", "200ms"][..], &target, &times].concat());
    let report = json(&run);
    assert!(run.status.success(), "{report:#}");
    // About a millisecond and a bit for each send.
    let best = report["messages_per_second"].as_f64().unwrap();
    assert!((200.0..1000.0).contains(&best), "{report:#}");
    let steps = report["rate_steps"].as_array().unwrap();
    assert!(steps[0]["rate"].is_null() && steps.len() > 2, "{report:#}");
    assert!(steps.iter().skip(1).any(|step| step["holds"] == true));

    let hopeless = bench(&[&["find-rate", "--p99", "0.1ms", "--retries", "0"][..], &target, &times].concat());
    assert_eq!(hopeless.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&hopeless.stderr).contains("no rate was found with p99 <= 0.1 ms"));
}

#[test]
fn bad_command_lines_say_what_is_wrong() {
    for (arguments, needle) in [
        (&["produce", "--body-size", "8"][..], "from 40 bytes"),
        (&["produce", "--body-size", "200-100"], "ends before it begins"),
        (&["produce", "--compressible", "2"], "from 0 to 1"),
        (&["produce", "--transaction", "--oneway"], "cannot be used with"),
        (&["produce", "--transaction", "--batch", "2"], "--batch 1"),
        (&["produce", "--rollback", "0.5"], "--transaction"),
        (&["produce", "--property", "TAGS=A"], "flag of its own"),
        (&["produce", "--property-bytes", "32000", "--property", "a=b"], "bytes of properties"),
        (&["produce", "--rate", "0"], "number from"),
        (&["produce", "-d", "5d"], "use ms, s, m or h"),
        (&["produce", "-c", "0"], "1..=60000"),
        (&["produce", "--messages", "10", "--batch", "3"], "multiple of --batch"),
        (&["produce", "--batch", "60000", "-s", "1000"], "one frame"),
        (&["ramp", "--rates", "5:1:1"], "FROM is above TO"),
        (&["ramp", "--rates", "1:5:1", "-r", "5"], "a rate and a time of its own"),
        (&["find-rate"], "--p99"),
        (&["idle", "--heartbeat", "often"], "never, once, or a time"),
        (&["idle", "-c", "1000000"], "ulimit -Hn"),
        (&["churn", "-d", "x"], "no unit of time"),
        (&["verify"], "--journal"),
        (&["end-to-end"], "needs --rate"),
        (&["report", "a.json", "b.json"], "name it *.html"),
        (&["crash", "--server-cmd", "true", "--dir", "/tmp/x", "-d", "1s"], "--load-min"),
    ] {
        let output = bench(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(needle), "{arguments:?}: {text}");
    }
}

#[test]
fn nobody_at_the_address_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = bench(&["produce", "-n", &free, "-d", "1s"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(text.contains(&format!("cannot reach the name server at {free}")), "{text}");
}

/// How cheap the generator itself is. The figure is printed (`--nocapture`, and a release build to mean something);
/// what is checked is only that all is counted.
#[test]
fn frames_per_core_against_an_echo() {
    let broker = FakeBroker::start(8, false, Fault::None);
    let address = broker.address.to_string();
    for shape in [&["-c", "8", "-i", "32"][..], &["-c", "8", "-i", "256"], &["-c", "2", "-i", "1024"]] {
        let mut arguments =
            vec!["produce", "--broker-address", &address, "-t", "T", "-d", "1s", "--json", "-"];
        arguments.extend(shape);
        let report = json(&bench(&arguments));
        let (messages, cpu) =
            (report["messages"].as_f64().unwrap(), report["cpu"]["client_seconds"].as_f64().unwrap());
        println!("{shape:?}: {messages:.0} messages/s, {:.0} frames per core second", messages / cpu);
        assert!(messages > 1000.0);
        assert!(report["latency_us"]["count"].as_f64().unwrap() >= messages);
    }
}
