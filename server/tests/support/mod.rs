//! A server under test: the release or debug binary on free ports of 127.0.0.1, and a small blocking client
//! that speaks the protocol.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rmq_protocol::frame::Frame;
use rmq_protocol::header::Codec;
use rmq_protocol::record::{RecordRef, records};
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

const START_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A directory that goes when the test ends.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rmq-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("temporary directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Server {
    child: Child,
    pub broker_port: u16,
    pub namesrv_port: u16,
    settings: Vec<String>,
    dir: PathBuf,
}

/// A port that is free together with the one two below and the one above.
pub fn free_port() -> u16 {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = first.local_addr().expect("bound").port();
        if port > 1024 && TcpListener::bind((Ipv4Addr::LOCALHOST, port - 2)).is_ok() {
            return port;
        }
    }
}

impl Server {
    pub fn start(dir: &Path, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self::spawn(dir, free_port(), free_port(), settings)
    }

    fn spawn(dir: &Path, broker_port: u16, namesrv_port: u16, settings: Vec<String>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rmq-server"));
        command.arg("standalone").arg("--data-dir").arg(dir);
        command.args([
            "--listen-port",
            &broker_port.to_string(),
            "--namesrv-port",
            &namesrv_port.to_string(),
        ]);
        // Small segments: a test's store need not reserve a gigabyte.
        for setting in
            ["brokerIP1=127.0.0.1", "mappedFileSizeCommitLog=16777216", "rmq.zeroAheadBytes=4194304"]
        {
            command.args(["--set", setting]);
        }
        for setting in &settings {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .env("RMQ_LOG", "warn")
            .spawn()
            .expect("the server's binary");
        let output = child.stdout.take().expect("piped");
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with("The broker[") && line.contains("boot success") {
                    let _ = ready.send(());
                }
            }
        });
        is_ready.recv_timeout(START_LIMIT).expect("the server says `boot success`");
        Self { child, broker_port, namesrv_port, settings, dir: dir.to_owned() }
    }

    /// SIGKILL, and a new process on the same directory and ports.
    pub fn kill_and_restart(mut self) -> Self {
        self.child.kill().expect("kill");
        self.child.wait().expect("reaped");
        self.again()
    }

    /// SIGTERM; returns how long the stop took.
    pub fn stop(&mut self) -> Duration {
        let began = Instant::now();
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal");
        let status = self.child.wait().expect("reaped");
        assert!(status.success(), "an orderly stop exits 0, not {status}");
        began.elapsed()
    }

    pub fn stop_and_restart(mut self) -> Self {
        self.stop();
        self.again()
    }

    /// A new process after `stop`.
    pub fn stopped_again(self) -> Self {
        self.again()
    }

    fn again(mut self) -> Self {
        let settings = std::mem::take(&mut self.settings);
        Self::spawn(&self.dir.clone(), self.broker_port, self.namesrv_port, settings)
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.broker_port)
    }

    pub fn connect_namesrv(&self) -> Client {
        Client::connect(self.namesrv_port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, copied out of its frame.
#[derive(Debug)]
pub struct Answer {
    pub code: ResponseCode,
    pub opaque: i32,
    pub is_response: bool,
    pub codec: Codec,
    pub remark: String,
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("field {name} in {self:?}"))
    }

    pub fn number(&self, name: &str) -> i64 {
        self.field(name).parse().expect("a number")
    }

    pub fn records(&self) -> Vec<RecordRef<'_>> {
        records(&self.body).collect::<Result<_, _>>().expect("whole records")
    }

    #[track_caller]
    pub fn expect(self, code: ResponseCode) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

pub struct Client {
    pub socket: TcpStream,
    read: Vec<u8>,
    opaque: i32,
    pub codec: Codec,
}

impl Client {
    pub fn connect(port: u16) -> Self {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        socket.set_read_timeout(Some(ANSWER_LIMIT)).expect("time-out");
        socket.set_nodelay(true).expect("no delay");
        Self { socket, read: Vec::new(), opaque: 0, codec: Codec::Json }
    }

    /// Sends a request and does not wait for its answer.
    pub fn post(&mut self, code: RequestCode, fields: &[(&str, &str)], body: &[u8]) -> i32 {
        self.opaque += 1;
        let mut frame = Vec::new();
        let mut writer = FrameWriter::request(&mut frame, self.codec, code, self.opaque, false);
        for (name, value) in fields {
            writer = writer.field(name, value);
        }
        writer.body(body);
        self.socket.write_all(&frame).expect("the server reads");
        self.opaque
    }

    pub fn call(&mut self, code: RequestCode, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let opaque = self.post(code, fields, body);
        loop {
            let answer = self.next().expect("an answer");
            if answer.is_response && answer.opaque == opaque {
                return answer;
            }
        }
    }

    /// The next frame, or `None` when the server has closed.
    pub fn next(&mut self) -> Option<Answer> {
        loop {
            if let Some((frame, len)) = Frame::decode(&self.read).expect("a whole frame") {
                let fields = frame.header.fields.iter();
                let answer = Answer {
                    code: ResponseCode(frame.header.code),
                    opaque: frame.header.opaque,
                    is_response: frame.header.is_response(),
                    codec: frame.header.codec,
                    remark: frame.header.remark.map(|remark| remark.cow().into_owned()).unwrap_or_default(),
                    fields: fields
                        .map(|(name, value)| (name.cow().into_owned(), value.cow().into_owned()))
                        .collect(),
                    body: frame.body.to_vec(),
                };
                self.read.drain(..len);
                return Some(answer);
            }
            let mut chunk = [0; 65_536];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.read.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer in time: {error}"),
            }
        }
    }

    /// SEND_MESSAGE_V2.
    pub fn send(&mut self, topic: &str, queue: i32, properties: &str, body: &[u8]) -> Answer {
        let queue = queue.to_string();
        self.call(RequestCode::SEND_MESSAGE_V2, &send_fields(topic, &queue, properties), body)
    }

    /// PULL_MESSAGE with its own subscription, holding for `hold_ms` when nothing is there.
    pub fn pull(&mut self, topic: &str, queue: i32, from: i64, tags: &str, hold_ms: u64) -> Answer {
        let opaque = self.post_pull(topic, queue, from, tags, hold_ms);
        loop {
            let answer = self.next().expect("an answer");
            if answer.is_response && answer.opaque == opaque {
                return answer;
            }
        }
    }

    pub fn post_pull(&mut self, topic: &str, queue: i32, from: i64, tags: &str, hold_ms: u64) -> i32 {
        let sys_flag = if hold_ms > 0 { "6" } else { "4" };
        let (queue, from, hold_ms) = (queue.to_string(), from.to_string(), hold_ms.to_string());
        self.post(
            RequestCode::PULL_MESSAGE,
            &[
                ("consumerGroup", "test-group"),
                ("topic", topic),
                ("queueId", &queue),
                ("queueOffset", &from),
                ("maxMsgNums", "32"),
                ("sysFlag", sys_flag),
                ("commitOffset", "0"),
                ("suspendTimeoutMillis", &hold_ms),
                ("subscription", tags),
                ("subVersion", "0"),
                ("expressionType", "TAG"),
            ],
            b"",
        )
    }

    /// Every message of a queue, as (queue offset, body).
    pub fn drain(&mut self, topic: &str, queue: i32) -> Vec<(i64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let answer = self.pull(topic, queue, from, "*", 0);
            match answer.code {
                ResponseCode::SUCCESS => {
                    found.extend(answer.records().iter().map(|r| (r.queue_offset(), r.body().to_vec())));
                }
                ResponseCode::PULL_NOT_FOUND => return found,
                ResponseCode::PULL_RETRY_IMMEDIATELY | ResponseCode::PULL_OFFSET_MOVED => {}
                _ => panic!("{answer:?}"),
            }
            from = answer.number("nextBeginOffset");
        }
    }
}

pub fn send_fields<'a>(topic: &'a str, queue: &'a str, properties: &'a str) -> [(&'a str, &'a str); 13] {
    [
        ("a", "test-producer"),
        ("b", topic),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", queue),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "0"),
        ("i", properties),
        ("j", "0"),
        ("k", "false"),
        ("l", "16"),
        ("m", "false"),
    ]
}
