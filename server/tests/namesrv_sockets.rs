//! The name server as a peer sees it: a port that speaks frames.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rmq_protocol::body::{DataVersion, RegisterBrokerBody, TopicConfig, TopicRouteData, from_slice};
use rmq_protocol::{Codec, Frame, FrameWriter, RequestCode, ResponseCode};
use rmq_server::config::NamesrvConfig;
use rmq_server::namesrv::{NameServer, StartError, bind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
    directory: PathBuf,
}

impl Running {
    async fn start(test: &str, settings: &[(&str, &str)]) -> Self {
        let directory = std::env::temp_dir().join(format!("rmq-namesrv-{}-{test}", std::process::id()));
        let kv = directory.join("kvConfig.json").to_string_lossy().into_owned();
        let mut overrides = vec![("kvConfigPath".to_owned(), kv)];
        overrides.extend(settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())));
        let (config, _) = NamesrvConfig::load(None, &overrides).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = NameServer::new(config).unwrap();
        let done = spawn_local(server.run(listener, async {
            let _ = stopped.await;
        }));
        Self { address, stop, done, directory }
    }

    async fn connect(&self) -> Peer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        Peer { stream, received: Vec::new(), opaque: Cell::new(0) }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.done).await.expect("the server stops").unwrap();
        let _ = std::fs::remove_dir_all(self.directory);
    }
}

struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    opaque: Cell<i32>,
}

impl Peer {
    fn request(&self, code: RequestCode, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        self.opaque.set(self.opaque.get() + 1);
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::request(&mut bytes, Codec::Json, code, self.opaque.get(), false);
        for (name, value) in fields {
            writer.put_field(name, value);
        }
        writer.body(body);
        bytes
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer: its opaque, code and body.
    async fn answer(&mut self) -> (i32, ResponseCode, Vec<u8>) {
        loop {
            if let Some((frame, len)) = Frame::decode(&self.received).unwrap() {
                let answer = (frame.header.opaque, frame.header.response_code(), frame.body.to_vec());
                self.received.drain(..len);
                return answer;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            assert_ne!(read.expect("an answer in time").unwrap(), 0, "the server closed the connection");
        }
    }

    async fn ask(
        &mut self,
        code: RequestCode,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> (ResponseCode, Vec<u8>) {
        let bytes = self.request(code, fields, body);
        self.send(&bytes).await;
        let (opaque, code, body) = self.answer().await;
        assert_eq!(opaque, self.opaque.get());
        (code, body)
    }

    async fn register(&mut self, broker: &str, timeout_ms: &str) {
        let mut body = RegisterBrokerBody::default();
        body.topics.data_version = DataVersion { counter: 1, state_version: 0, timestamp: 5 };
        for topic in ["T", "U"] {
            body.topics.topic_config_table.insert(topic.to_owned(), TopicConfig::new(topic, 4, 6));
        }
        let address = format!("{broker}:10911");
        let fields = [
            ("brokerName", broker),
            ("brokerAddr", &address),
            ("clusterName", "C"),
            ("haServerAddr", "127.0.0.1:1"),
            ("brokerId", "0"),
            ("heartbeatTimeoutMillis", timeout_ms),
        ];
        let (code, _) = self.ask(RequestCode::REGISTER_BROKER, &fields, &body.encode()).await;
        assert_eq!(code, ResponseCode::SUCCESS);
    }

    async fn brokers_of(&mut self, topic: &str) -> Vec<String> {
        let (code, body) = self.ask(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", topic)], b"").await;
        if code == ResponseCode::TOPIC_NOT_EXIST {
            return Vec::new();
        }
        let route: TopicRouteData = from_slice(&body).unwrap();
        route.broker_datas.into_iter().map(|broker| broker.broker_name).collect()
    }

    async fn wait_until_brokers_are(&mut self, topic: &str, wanted: &[&str]) {
        let found = timeout(PATIENCE, async {
            while self.brokers_of(topic).await != wanted {
                tokio::task::yield_now().await;
            }
        });
        found.await.expect("the route changes in time");
    }

    async fn is_closed(&mut self) -> bool {
        let read =
            timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await.expect("a close in time");
        // Unread bytes make the kernel close with a reset.
        read.map_or(true, |len| len == 0)
    }
}

#[tokio::test]
async fn frames_may_come_in_pieces_and_in_bunches() {
    LocalSet::new()
        .run_until(async {
            let server = Running::start("pieces", &[]).await;
            let mut peer = server.connect().await;
            peer.register("a", "").await;
            let mut bunch = Vec::new();
            for _ in 0..100 {
                bunch.extend(peer.request(RequestCode::GET_ROUTEINFO_BY_TOPIC, &[("topic", "T")], b""));
            }
            let (head, tail) = bunch.split_at(bunch.len() - 5);
            peer.send(head).await;
            for byte in tail {
                peer.send(&[*byte]).await;
            }
            let first = peer.opaque.get() - 99;
            for opaque in first..first + 100 {
                let (answered, code, _) = peer.answer().await;
                assert_eq!((answered, code), (opaque, ResponseCode::SUCCESS));
            }
            server.stop().await;
        })
        .await;
}

#[tokio::test]
async fn a_broker_whose_connection_closes_is_gone_at_once() {
    LocalSet::new()
        .run_until(async {
            let server = Running::start("close", &[]).await;
            let (mut a, mut b, mut client) =
                (server.connect().await, server.connect().await, server.connect().await);
            a.register("a", "").await;
            b.register("b", "").await;
            assert_eq!(client.brokers_of("T").await, ["a", "b"]);
            drop(a);
            client.wait_until_brokers_are("T", &["b"]).await;
            // It comes back on a new connection before the old one breaks.
            let mut again = server.connect().await;
            again.register("b", "").await;
            drop(b);
            again.register("c", "").await;
            client.wait_until_brokers_are("T", &["b", "c"]).await;
            server.stop().await;
        })
        .await;
}

#[tokio::test]
async fn a_silent_broker_expires_and_its_connection_is_closed() {
    LocalSet::new()
        .run_until(async {
            let server = Running::start("expiry", &[("scanNotActiveBrokerInterval", "10")]).await;
            let (mut broker, mut client) = (server.connect().await, server.connect().await);
            broker.register("a", "50").await;
            client.wait_until_brokers_are("T", &[]).await;
            assert!(broker.is_closed().await);
            server.stop().await;
        })
        .await;
}

#[tokio::test]
async fn garbage_closes_its_connection_and_disturbs_no_other() {
    LocalSet::new()
        .run_until(async {
            let server = Running::start("garbage", &[]).await;
            let mut client = server.connect().await;
            client.register("a", "").await;
            for garbage in
                [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", &[0xff; 64], &[0; 64]]
            {
                let mut peer = server.connect().await;
                peer.send(garbage).await;
                assert!(peer.is_closed().await, "{garbage:?}");
            }
            assert_eq!(client.brokers_of("T").await, ["a"]);
            server.stop().await;
        })
        .await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    LocalSet::new()
        .run_until(async {
            let server = Running::start("idle", &[("serverChannelMaxIdleTimeSeconds", "1")]).await;
            let mut peer = server.connect().await;
            assert!(peer.is_closed().await);
            server.stop().await;
        })
        .await;
}

#[tokio::test]
async fn a_stop_closes_every_connection() {
    LocalSet::new()
        .run_until(async {
            let server = Running::start("stop", &[]).await;
            let mut peer = server.connect().await;
            peer.register("a", "").await;
            server.stop().await;
            assert!(peer.is_closed().await);
        })
        .await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let overrides =
        [("bindAddress".to_owned(), "127.0.0.1".to_owned()), ("listenPort".to_owned(), port.clone())];
    let (config, _) = NamesrvConfig::load(None, &overrides).unwrap();
    let error = bind(&config).unwrap_err();
    assert!(matches!(error, StartError::PortTaken { .. }));
    assert!(error.to_string().contains(&port), "{error}");
}
