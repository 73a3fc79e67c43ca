//! A server that cannot start says what is wrong and what to do, and exits with 253.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rmq_protocol::response_code::ResponseCode;
use support::{Server, TempDir, free_port};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rmq-server")).args(arguments).output().expect("the server's binary")
}

/// The last line a failing start leaves.
#[track_caller]
fn failure(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(253), "{output:?}");
    String::from_utf8(output.stderr).expect("text").lines().last().expect("a reason").to_owned()
}

fn standalone(dir: &Path, more: &[&str]) -> Vec<String> {
    let (port, namesrv_port) = (free_port().to_string(), free_port().to_string());
    let mut arguments = vec!["standalone", "--data-dir", dir.to_str().expect("text")];
    arguments.extend(["--listen-port", &port, "--namesrv-port", &namesrv_port]);
    arguments.extend(["--set", "brokerIP1=127.0.0.1", "--set", "mappedFileSizeCommitLog=16777216"]);
    arguments.extend(more);
    arguments.into_iter().map(str::to_owned).collect()
}

#[track_caller]
fn standalone_failure(dir: &Path, more: &[&str]) -> String {
    let arguments = standalone(dir, more);
    failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_taken_port_is_named() {
    let dir = TempDir::new();
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut arguments = standalone(dir.path(), &[]);
    arguments[4] = port.clone();
    let why = failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(why.contains(&port) && why.contains("listenPort"), "{why}");
}

#[test]
fn a_wrong_value_names_its_line() {
    let dir = TempDir::new();
    let config = dir.path().join("broker.conf");
    std::fs::write(&config, "# a broker\nbrokerName=a\nflushDiskType=SYNC\n").expect("written");
    let why = failure(&["broker", "-c", config.to_str().expect("text")]);
    assert!(why.contains("broker.conf:3") && why.contains("SYNC_FLUSH"), "{why}");
    let why = failure(&["broker", "-c", "/nowhere/broker.conf"]);
    assert!(why.contains("/nowhere/broker.conf"), "{why}");
}

#[test]
fn a_damaged_state_file_is_named_and_left_alone() {
    let dir = TempDir::new();
    let config = dir.path().join("config");
    std::fs::create_dir_all(&config).expect("created");
    std::fs::write(config.join("topics.json"), "{broken").expect("written");
    let why = standalone_failure(dir.path(), &[]);
    assert!(why.contains("topics.json") && why.contains("move"), "{why}");
    assert_eq!(std::fs::read(config.join("topics.json")).expect("there"), b"{broken");
}

#[test]
fn a_java_store_is_not_touched() {
    let dir = TempDir::new();
    let log = dir.path().join("commitlog");
    std::fs::create_dir_all(&log).expect("created");
    std::fs::write(log.join("00000000000000000000"), b"a Java broker's").expect("written");
    let why = standalone_failure(dir.path(), &[]);
    assert!(why.contains("Java") && why.contains("storePathRootDir"), "{why}");
}

#[test]
fn two_servers_do_not_share_a_store() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let began = Instant::now();
    let why = standalone_failure(dir.path(), &[]);
    assert!(began.elapsed() < Duration::from_secs(20), "a bounded wait for the other to end");
    assert!(why.contains(&server.pid().to_string()), "the holder is named: {why}");
    server.connect().send("Alone", 0, "", b"x").expect(ResponseCode::SUCCESS);
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_1() {
    assert_eq!(run(&["standalone", "--nonsense"]).status.code(), Some(1));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn the_configuration_is_printed_and_nothing_is_started() {
    let all = run(&["broker", "-p"]);
    assert!(all.status.success());
    let text = String::from_utf8(all.stdout).expect("text");
    assert!(text.lines().any(|line| line == "listenPort=10911"), "{text}");
    let important = run(&["broker", "-m", "-n", "a:9876;b:9876"]);
    let text = String::from_utf8(important.stdout).expect("text");
    assert!(text.lines().any(|line| line == "namesrvAddr=a:9876;b:9876"), "{text}");
}
