//! A control thread with shards that only remember what they were told.

#![allow(dead_code)] // Each test file uses its part.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rmq_protocol::frame::Frame;
use rmq_protocol::header::Codec;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::writer::FrameWriter;
use rmq_server::config::BrokerConfig;
use rmq_server::control::link::{
    ConnectionId, ControlLink, LocalFuture, MetadataChange, ShardAnswer, ShardLinks, ShardQuery, ToControl,
    TopicOutcome, TopicRequest,
};
use rmq_server::control::{Control, InitialState, StartError};
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, LocalSet};

/// Long enough for a slow machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test as the control thread runs: one thread, local tasks.
pub fn on_control_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(3 * PATIENCE, test).await.expect("the test hangs");
    });
}

type Look = Box<dyn Fn(&MetadataChange)>;

#[derive(Default)]
pub struct FakeShards {
    sent: RefCell<Vec<(ConnectionId, Vec<u8>)>>,
    pub closed: RefCell<Vec<ConnectionId>>,
    pub published: RefCell<Vec<MetadataChange>>,
    /// Looks at each change at the moment of its publication.
    pub on_publish: RefCell<Option<Look>>,
    pub queries: RefCell<Vec<(usize, ShardQuery)>>,
    pub answers: RefCell<Vec<(usize, ShardQuery, ShardAnswer)>>,
    /// While set, no publication ends.
    pub hold_publications: Rc<Cell<bool>>,
    arrived: Notify,
}

impl ShardLinks for FakeShards {
    fn shards(&self) -> usize {
        2
    }

    fn send(&self, to: ConnectionId, frame: Vec<u8>) {
        self.sent.borrow_mut().push((to, frame));
        self.arrived.notify_waiters();
    }

    fn check(&self, producer: ConnectionId, frame: Vec<u8>) {
        self.send(producer, frame);
    }

    fn close(&self, connection: ConnectionId) {
        self.closed.borrow_mut().push(connection);
        self.arrived.notify_waiters();
    }

    fn publish(&self, changes: Arc<[MetadataChange]>) -> LocalFuture<()> {
        if let Some(look) = &*self.on_publish.borrow() {
            changes.iter().for_each(look);
        }
        self.published.borrow_mut().extend(changes.iter().cloned());
        self.arrived.notify_waiters();
        let hold = self.hold_publications.clone();
        Box::pin(async move {
            while hold.get() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }

    fn query(&self, shard: usize, query: ShardQuery) -> LocalFuture<ShardAnswer> {
        let known = self.answers.borrow();
        let answer = known.iter().find(|(of, asked, _)| *of == shard && *asked == query);
        let answer = answer.map_or(ShardAnswer::Done, |(_, _, answer)| answer.clone());
        self.queries.borrow_mut().push((shard, query));
        Box::pin(async move { answer })
    }
}

impl FakeShards {
    /// Waits until `found` returns something; it is asked again after every event.
    pub async fn until<T>(&self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let wait = async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(value) = found(self) {
                    return value;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came: {what}"))
    }

    fn take_sent(&self, to: ConnectionId, wanted: impl Fn(&Frame<'_>) -> bool) -> Option<Vec<u8>> {
        let mut sent = self.sent.borrow_mut();
        let at = sent.iter().position(|(connection, frame)| {
            *connection == to && wanted(&Frame::decode(frame).unwrap().unwrap().0)
        })?;
        Some(sent.remove(at).1)
    }

    pub fn nothing_sent_to(&self, connection: ConnectionId) -> bool {
        self.sent.borrow().iter().all(|(to, _)| *to != connection)
    }

    /// How often each connection was told to rebalance for the group.
    pub fn notified(&self, group: &str) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for (to, frame) in &*self.sent.borrow() {
            let (frame, _) = Frame::decode(frame).unwrap().unwrap();
            if frame.header.code == RequestCode::NOTIFY_CONSUMER_IDS_CHANGED.0
                && !frame.header.is_response()
                && frame.header.fields.find("consumerGroup").is_some_and(|name| name == *group)
            {
                *counts.entry(to.slot).or_default() += 1;
            }
        }
        counts
    }
}

pub struct TestBroker {
    pub shards: Rc<FakeShards>,
    pub link: ControlLink,
    task: JoinHandle<()>,
}

/// One answer, with everything owned.
#[derive(Debug)]
pub struct Reply {
    pub code: i32,
    pub remark: String,
    pub fields: BTreeMap<String, String>,
    pub body: String,
    pub codec: Codec,
}

impl TestBroker {
    pub fn start(dir: &Path, overrides: &[(&str, &str)]) -> Self {
        Self::try_start(dir, overrides).unwrap().0
    }

    pub fn try_start(dir: &Path, overrides: &[(&str, &str)]) -> Result<(Self, InitialState), StartError> {
        let mut keys = vec![
            ("storePathRootDir".to_owned(), dir.to_str().unwrap().to_owned()),
            ("brokerName".to_owned(), "broker-a".to_owned()),
            ("brokerIP1".to_owned(), "127.0.0.1".to_owned()),
            ("listenPort".to_owned(), "20911".to_owned()),
        ];
        keys.extend(overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let (config, _) = BrokerConfig::load(None, &keys).unwrap();
        let shards = Rc::new(FakeShards::default());
        let (link, inbox) = ControlLink::new();
        let (control, initial) = Control::start(&config, shards.clone(), inbox)?;
        let task = tokio::task::spawn_local(control.run());
        Ok((Self { shards, link, task }, initial))
    }

    pub async fn stop(self) {
        let (done, is_done) = oneshot::channel();
        self.link.tell(ToControl::Shutdown { done });
        is_done.await.unwrap();
        self.task.await.unwrap();
    }

    /// Sends a request frame and waits for its answer.
    pub async fn ask(&self, slot: u32, code: RequestCode, fields: &[(&str, &str)], body: &str) -> Reply {
        self.ask_in(Codec::Json, slot, code, fields, body).await
    }

    pub async fn ask_in(
        &self,
        codec: Codec,
        slot: u32,
        code: RequestCode,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        static OPAQUE: AtomicU32 = AtomicU32::new(1);
        let opaque = OPAQUE.fetch_add(1, Ordering::Relaxed) as i32;
        self.tell(codec, slot, code, opaque, false, fields, body);
        let frame = self
            .shards
            .until("an answer", |shards| {
                shards.take_sent(connection(slot), |frame| {
                    frame.header.is_response() && frame.header.opaque == opaque
                })
            })
            .await;
        let (frame, _) = Frame::decode(&frame).unwrap().unwrap();
        Reply {
            code: frame.header.code,
            remark: frame.header.remark.map_or_else(String::new, |remark| remark.cow().into_owned()),
            fields: frame
                .header
                .fields
                .iter()
                .map(|(name, value)| (name.cow().into_owned(), value.cow().into_owned()))
                .collect(),
            body: String::from_utf8(frame.body.to_vec()).unwrap(),
            codec: frame.header.codec,
        }
    }

    /// Sends a request that gets no answer.
    pub fn tell_one_way(&self, slot: u32, code: RequestCode, fields: &[(&str, &str)], body: &str) {
        self.tell(Codec::Json, slot, code, 0, true, fields, body);
    }

    #[expect(clippy::too_many_arguments, reason = "a frame has that many parts")]
    fn tell(
        &self,
        codec: Codec,
        slot: u32,
        code: RequestCode,
        opaque: i32,
        oneway: bool,
        fields: &[(&str, &str)],
        body: &str,
    ) {
        let mut frame = Vec::new();
        let mut writer = FrameWriter::request(&mut frame, codec, code, opaque, oneway);
        for (name, value) in fields {
            writer.put_field(name, value);
        }
        writer.body(body.as_bytes());
        let peer: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        self.link.tell(ToControl::Request { connection: connection(slot), peer, vip: false, frame });
    }

    pub fn close(&self, slot: u32) {
        self.link.tell(ToControl::ConnectionClosed { connection: connection(slot) });
    }

    /// A consumer of `group` that subscribes to everything of `topic`.
    pub async fn consumer(&self, slot: u32, group: &str, topic: &str) -> Reply {
        let body = heartbeat(slot, group, topic, "CLUSTERING", 1);
        self.ask(slot, RequestCode::HEART_BEAT, &[], &body).await
    }

    pub async fn create_topic(&self, request: TopicRequest) -> TopicOutcome {
        let (reply, outcome) = oneshot::channel();
        let reply = Box::new(move |outcome| {
            let _ = reply.send(outcome);
        });
        self.link.tell(ToControl::CreateTopic { request, reply });
        outcome.await.unwrap()
    }
}

pub fn heartbeat(slot: u32, group: &str, topic: &str, model: &str, version: i64) -> String {
    format!(
        r#"{{"clientID":"client-{slot}","producerDataSet":[{{"groupName":"producers"}}],"consumerDataSet":[
        {{"groupName":"{group}","consumeType":"CONSUME_PASSIVELY","messageModel":"{model}",
        "consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{{"topic":"{topic}",
        "subString":"*","tagsSet":[],"codeSet":[],"subVersion":{version}}}]}}]}}"#
    )
}

pub fn send_to(topic: &str) -> TopicRequest {
    TopicRequest::Send { topic: topic.to_owned(), default_topic: "TBW102".to_owned(), queues: 4, unit: false }
}

pub fn connection(slot: u32) -> ConnectionId {
    ConnectionId { shard: (slot % 2) as u16, slot, generation: 1 }
}

/// A directory of one test, removed when the test ends.
pub struct TestDir(PathBuf);

impl TestDir {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rmq-control-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
