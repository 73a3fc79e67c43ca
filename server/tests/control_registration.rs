//! What name servers hear of a broker. The name server here is a socket and a script.

mod control_fixture;

use std::collections::VecDeque;

use control_fixture::{TestBroker, TestDir, on_control_thread, send_to};
use rmq_protocol::body::{RegisterBrokerBody, register_body_crc32};
use rmq_protocol::frame::Frame;
use rmq_protocol::header::Codec;
use rmq_protocol::headers::RegisterBrokerHeader;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;
use rmq_server::control::link::MetadataChange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct NameServer {
    listener: TcpListener,
    connection: Option<TcpStream>,
    received: Vec<u8>,
}

#[derive(Debug)]
struct Heard {
    code: i32,
    opaque: i32,
    /// Topics of a registration.
    topics: Vec<String>,
    counter: i64,
}

impl NameServer {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (Self { listener, connection: None, received: Vec::new() }, address)
    }

    /// The next request, on a new connection if there is none.
    async fn hear(&mut self) -> Heard {
        if self.connection.is_none() {
            self.connection = Some(self.listener.accept().await.unwrap().0);
            self.received.clear();
        }
        loop {
            if let Some((frame, consumed)) = Frame::decode(&self.received).unwrap() {
                let heard = Self::read(&frame);
                self.received.drain(..consumed);
                return heard;
            }
            let stream = self.connection.as_mut().unwrap();
            let count = stream.read_buf(&mut self.received).await.unwrap();
            assert!(count > 0, "the broker closed the connection");
        }
    }

    fn read(frame: &Frame<'_>) -> Heard {
        let mut heard =
            Heard { code: frame.header.code, opaque: frame.header.opaque, topics: Vec::new(), counter: 0 };
        if frame.header.request_code() == RequestCode::REGISTER_BROKER {
            let header = RegisterBrokerHeader::decode(&frame.header.fields).unwrap();
            assert_eq!(header.broker_name, "broker-a");
            assert_eq!(header.broker_address, "127.0.0.1:20911");
            assert_eq!(header.broker_id, 0);
            assert_eq!(header.body_crc32, Some(register_body_crc32(frame.body)));
            let body =
                RegisterBrokerBody::decode(frame.body, header.compressed, frame.header.version).unwrap();
            heard.topics = body.topics.topic_config_table.into_keys().collect();
            heard.counter = body.topics.data_version.counter;
        }
        heard
    }

    async fn answer(&mut self, heard: &Heard, code: ResponseCode, body: &str) {
        let mut frame = Vec::new();
        // A push in between must not be taken for the answer.
        FrameWriter::request(
            &mut frame,
            Codec::Json,
            RequestCode::NOTIFY_MIN_BROKER_ID_CHANGE,
            heard.opaque,
            true,
        )
        .finish();
        FrameWriter::response(&mut frame, Codec::Json, code, heard.opaque).body(body.as_bytes());
        self.connection.as_mut().unwrap().write_all(&frame).await.unwrap();
    }

    async fn accept_registration(&mut self) -> Heard {
        let heard = self.hear().await;
        assert_eq!(heard.code, RequestCode::REGISTER_BROKER.0);
        self.answer(&heard, ResponseCode::SUCCESS, "").await;
        heard
    }
}

#[test]
fn everything_at_first_then_what_changed_then_farewell() {
    on_control_thread(async {
        let dir = TestDir::new("register");
        let (mut name_server, address) = NameServer::start().await;
        let broker = TestBroker::start(dir.path(), &[("namesrvAddr", &address)]);
        let full = name_server.accept_registration().await;
        assert!(full.topics.len() > 5 && full.topics.contains(&"TBW102".to_owned()), "{full:?}");

        broker.create_topic(send_to("T")).await;
        let increment = name_server.accept_registration().await;
        assert_eq!(increment.topics, ["T"]);
        assert_eq!(increment.counter, full.counter + 1);

        let leaving = async {
            let heard = name_server.hear().await;
            assert_eq!(heard.code, RequestCode::UNREGISTER_BROKER.0);
            name_server.answer(&heard, ResponseCode::SUCCESS, "").await;
        };
        tokio::join!(broker.stop(), leaving);
    });
}

/// The name server was restarted and knows nothing: a single topic is refused, everything follows.
#[test]
fn a_refused_increment_is_followed_by_everything() {
    on_control_thread(async {
        let dir = TestDir::new("refused");
        let (mut name_server, address) = NameServer::start().await;
        let broker = TestBroker::start(dir.path(), &[("namesrvAddr", &address)]);
        name_server.accept_registration().await;
        broker.create_topic(send_to("T")).await;
        let increment = name_server.hear().await;
        name_server.answer(&increment, ResponseCode::SYSTEM_ERROR, "").await;
        let full = name_server.accept_registration().await;
        assert!(full.topics.len() > 5 && full.topics.contains(&"T".to_owned()));
    });
}

#[test]
fn a_lost_connection_is_mended_by_a_full_registration() {
    on_control_thread(async {
        let dir = TestDir::new("lost");
        let (mut name_server, address) = NameServer::start().await;
        let broker = TestBroker::start(dir.path(), &[("namesrvAddr", &address)]);
        name_server.accept_registration().await;
        name_server.connection = None;
        let again = name_server.accept_registration().await;
        assert!(again.topics.len() > 5);
        // Garbage is as good as a close.
        name_server.connection.as_mut().unwrap().write_all(b"\xff\xff\xff\xff garbage").await.unwrap();
        name_server.connection = None;
        assert!(name_server.accept_registration().await.topics.len() > 5);
        drop(broker);
    });
}

/// The change is applied, but not yet confirmed by the shards, when the name server asks for everything. Told
/// with the version to come, it would not be heard a second time.
#[test]
fn a_change_under_way_is_announced_under_its_own_version() {
    on_control_thread(async {
        let dir = TestDir::new("under-way");
        let (mut name_server, address) = NameServer::start().await;
        let broker = TestBroker::start(dir.path(), &[("namesrvAddr", &address)]);
        let before = name_server.accept_registration().await;
        broker.shards.hold_publications.set(true);
        let publication = broker.shards.until("the publication", |shards| {
            (!shards.published.borrow().is_empty()).then(|| shards.hold_publications.clone())
        });
        let meanwhile = async {
            let hold = publication.await;
            name_server.connection = None;
            let full = name_server.accept_registration().await;
            assert_eq!(full.counter, before.counter);
            hold.set(false);
            name_server.accept_registration().await
        };
        let (_, increment) = tokio::join!(broker.create_topic(send_to("T")), meanwhile);
        assert_eq!((increment.topics, increment.counter), (vec!["T".to_owned()], before.counter + 1));
    });
}

/// One name server is dead; tools that create a topic wait for the other, and not for long.
#[test]
fn a_dead_name_server_delays_nobody() {
    on_control_thread(async {
        let dir = TestDir::new("dead");
        let (mut name_server, address) = NameServer::start().await;
        let (dead, dead_address) = NameServer::start().await;
        drop(dead);
        let addresses = format!("{dead_address};{address}");
        let broker = TestBroker::start(dir.path(), &[("namesrvAddr", &addresses)]);
        name_server.accept_registration().await;
        let fields = [
            ("topic", "T"),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", "1"),
            ("writeQueueNums", "1"),
            ("perm", "6"),
            ("topicFilterType", "SINGLE_TAG"),
            ("order", "false"),
        ];
        let create = broker.ask(1, RequestCode::UPDATE_AND_CREATE_TOPIC, &fields, "");
        let (reply, heard) = tokio::join!(create, name_server.accept_registration());
        assert_eq!((reply.code, heard.topics), (0, vec!["T".to_owned()]));
    });
}

#[test]
fn name_servers_can_mark_topics_as_ordered() {
    on_control_thread(async {
        let dir = TestDir::new("ordered");
        let (mut name_server, address) = NameServer::start().await;
        let broker = TestBroker::start(dir.path(), &[("namesrvAddr", &address)]);
        let full = name_server.hear().await;
        let table = r#"{"table":{"SELF_TEST_TOPIC":"broker-a:1","unknown":"broker-a:4"}}"#;
        name_server.answer(&full, ResponseCode::SUCCESS, table).await;
        let ordered: VecDeque<String> = broker
            .shards
            .until("an ordered topic", |shards| {
                let published = shards.published.borrow();
                let topics = published.iter().filter_map(|change| match change {
                    MetadataChange::Topic { name, config: Some(config) } if config.order => {
                        Some(name.clone())
                    }
                    _ => None,
                });
                let topics: VecDeque<String> = topics.collect();
                (!topics.is_empty()).then_some(topics)
            })
            .await;
        assert_eq!(ordered, ["SELF_TEST_TOPIC"]);
    });
}
