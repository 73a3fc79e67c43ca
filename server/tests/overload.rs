//! More sends than the processor takes: some are refused, and what was accepted is there.

mod support;

use std::io::Write;
use std::thread;

use rmq_protocol::header::Codec;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;
use support::{Server, TempDir, send_fields};

const PRODUCERS: usize = 4;
const SENDS: i32 = 20_000;

#[test]
fn a_flood_is_answered_whole_and_what_was_accepted_is_there() {
    let dir = TempDir::new();
    let server = Server::start(dir.path(), &["waitTimeMillsInSendQueue=1"]);
    let mut first = server.connect();
    first.send("Flood", 0, "", b"x").expect(ResponseCode::SUCCESS);
    let outcomes: Vec<(u32, u32)> = thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let mut client = server.connect();
                client.codec = if producer % 2 == 0 { Codec::Json } else { Codec::Binary };
                scope.spawn(move || {
                    let flood = flood(client.codec);
                    let mut socket = client.socket.try_clone().expect("a second handle");
                    thread::scope(|scope| {
                        scope.spawn(move || socket.write_all(&flood).expect("the server reads"));
                        outcomes(&mut client)
                    })
                })
            })
            .collect();
        producers.into_iter().map(|producer| producer.join().expect("answers")).collect()
    });
    let accepted: u32 = outcomes.iter().map(|(accepted, _)| accepted).sum();
    let refused: u32 = outcomes.iter().map(|(_, refused)| refused).sum();
    assert!(refused > 0, "{outcomes:?}");
    assert!(accepted > 0, "{outcomes:?}");
    let end = first.call(RequestCode::GET_MAX_OFFSET, &[("topic", "Flood"), ("queueId", "0")], b"");
    assert_eq!(end.number("offset"), i64::from(accepted) + 1);
    first.send("Flood", 0, "", b"afterwards").expect(ResponseCode::SUCCESS);
}

fn flood(codec: Codec) -> Vec<u8> {
    let mut frames = Vec::new();
    for opaque in 1..=SENDS {
        let code = RequestCode::SEND_MESSAGE_V2;
        let mut writer = FrameWriter::request(&mut frames, codec, code, opaque, false);
        for (name, value) in send_fields("Flood", "0", "") {
            writer = writer.field(name, value);
        }
        writer.body(&[b'x'; 256]);
    }
    frames
}

/// How many of the sends were accepted and refused; each is answered once.
fn outcomes(client: &mut support::Client) -> (u32, u32) {
    let mut seen = vec![false; SENDS as usize];
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..SENDS {
        let answer = client.next().expect("an answer to each");
        let seen = &mut seen[answer.opaque as usize - 1];
        assert!(!std::mem::replace(seen, true), "answered twice: {answer:?}");
        match answer.code {
            ResponseCode::SUCCESS => accepted += 1,
            ResponseCode::SYSTEM_BUSY => {
                assert!(answer.remark.starts_with("[TIMEOUT_CLEAN_QUEUE]broker busy"), "{answer:?}");
                refused += 1;
            }
            _ => panic!("{answer:?}"),
        }
    }
    (accepted, refused)
}
