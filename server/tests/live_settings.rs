//! Settings that change while the broker runs, and the file that keeps them.

mod support;

use std::time::{Duration, Instant};

use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use support::{Answer, Client, Server, TempDir};

fn change(client: &mut Client, text: &str) -> Answer {
    client.call(RequestCode::UPDATE_BROKER_CONFIG, &[], text.as_bytes())
}

fn setting(client: &mut Client, key: &str) -> String {
    let dump = client.call(RequestCode::GET_BROKER_CONFIG, &[], b"").expect(ResponseCode::SUCCESS);
    let dump = String::from_utf8(dump.body).expect("text");
    let line = dump.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or("(none)").to_owned()
}

#[test]
fn a_change_counts_at_once_and_stands_in_the_file() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["maxMessageSize=1000"]);
    let mut client = server.connect();
    assert_eq!(client.send("T", 0, "", &[0; 1001]).code, ResponseCode::MESSAGE_ILLEGAL);
    change(&mut client, "maxMessageSize=2000\ntraceOn=false").expect(ResponseCode::SUCCESS);
    let sent = client.send("T", 0, "", &[0; 1001]).expect(ResponseCode::SUCCESS);
    assert_eq!(sent.field("TRACE_ON"), "false");
    assert_eq!(setting(&mut client, "maxMessageSize"), "2000");
    change(&mut client, "autoCreateTopicEnable=false").expect(ResponseCode::SUCCESS);
    assert_eq!(client.send("Unknown", 0, "", b"x").code, ResponseCode::TOPIC_NOT_EXIST);
    change(&mut client, "autoCreateTopicEnable=true").expect(ResponseCode::SUCCESS);
    client.send("Unknown", 0, "", b"x").expect(ResponseCode::SUCCESS);
}

#[test]
fn what_is_wrong_or_forbidden_changes_nothing() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let wrong = change(&mut client, "traceOn=false\nfileReservedTime=4x");
    assert_eq!(wrong.code, ResponseCode::INVALID_PARAMETER);
    assert!(wrong.remark.starts_with("fileReservedTime=4x: "), "{wrong:?}");
    assert_eq!(change(&mut client, "traceOn=false\nbrokerConfigPath=/x").code, ResponseCode::NO_PERMISSION);
    assert_eq!(change(&mut client, "a=\\u12").code, ResponseCode::SYSTEM_ERROR);
    change(&mut client, "nonsense=1").expect(ResponseCode::SUCCESS);
    change(&mut client, "").expect(ResponseCode::SUCCESS);
    assert_eq!(
        (setting(&mut client, "traceOn"), setting(&mut client, "nonsense")),
        ("true".into(), "(none)".into())
    );
}

/// An operator moves its name servers and tells every broker.
#[test]
fn a_changed_list_of_name_servers_is_followed() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.connect();
    let mut name_server = server.connect_namesrv();
    let mut knows_route = |wanted: bool| {
        let began = Instant::now();
        let mut knows = || {
            let asked = [("topic", "TBW102")];
            name_server.call(RequestCode::GET_ROUTEINFO_BY_TOPIC, &asked, b"").code == ResponseCode::SUCCESS
        };
        while knows() != wanted {
            assert!(began.elapsed() < Duration::from_secs(20), "the route should be known: {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    knows_route(true);
    let nobody = support::free_port();
    change(&mut client, &format!("namesrvAddr=127.0.0.1:{nobody}")).expect(ResponseCode::SUCCESS);
    knows_route(false);
    let both = format!("namesrvAddr=127.0.0.1:{nobody};127.0.0.1:{}", server.namesrv_port);
    change(&mut client, &both).expect(ResponseCode::SUCCESS);
    knows_route(true);
    assert_eq!(change(&mut client, "namesrvAddr=nonsense").code, ResponseCode::INVALID_PARAMETER);
    client.send("T", 0, "", b"x").expect(ResponseCode::SUCCESS);
}

/// Requests and changes at the same time: every answer is one or the other, and the broker stays up.
#[test]
fn changes_under_load_disturb_nobody() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut sender = server.connect();
    let mut tool = server.connect();
    for turn in 0..100 {
        change(&mut tool, &format!("regionId=R{turn}")).expect(ResponseCode::SUCCESS);
        let sent = sender.send("Busy", 0, "", b"x").expect(ResponseCode::SUCCESS);
        assert_eq!(sent.field("MSG_REGION"), format!("R{turn}"));
    }
    let version = tool.call(RequestCode::GET_BROKER_CONFIG, &[], b"");
    assert!(version.field("version").contains("\"counter\":100"), "{}", version.field("version"));
}
