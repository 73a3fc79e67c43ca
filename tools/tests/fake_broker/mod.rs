//! A broker in memory, without a name server: it stores sends and answers pulls, and it can be told to break a
//! promise, so that we see whether `verify` notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rmq_protocol::properties::PropertiesSource;
use rmq_protocol::record::{RecordFields, RecordRef, stamp};
use rmq_protocol::{Frame, FrameWriter, RequestCode, ResponseCode, Text, batch};

/// What goes wrong, and with which message of the run (counted over all queues).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Acknowledged, not stored; the next message takes its offset.
    Lose(u64),
    StoreTwice(u64),
    DamageBody(u64),
    /// Stored at another offset than the answer says.
    WrongOffset(u64),
    /// Answered with SYSTEM_BUSY.
    Refuse(u64),
    /// Never answered, but stored.
    Silent(u64),
    /// Stored behind the next message of the same queue.
    Swap(u64),
    /// Transactions are not known here, as in many a broker.
    NoTransactions,
    /// A transaction that was rolled back is stored all the same.
    CommitAll,
    /// Every send takes this many milliseconds.
    Slow(u64),
    /// A heartbeat that ends its connection.
    HangUpOn(u64),
    /// Its connection stands still for this many milliseconds, then goes on.
    Stall(u64, u64),
}

pub struct FakeBroker {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    fault: Fault,
    /// Answer only; for measuring the generator.
    store: bool,
    sent: AtomicU64,
    queues: Vec<Mutex<Queue>>,
    /// Half messages: queue and body.
    halves: Mutex<Vec<(i32, Vec<u8>)>>,
}

#[derive(Default)]
struct Queue {
    records: Vec<Vec<u8>>,
    held_back: Option<Vec<u8>>,
}

impl FakeBroker {
    pub fn start(queues: usize, store: bool, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let queues = (0..queues).map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared {
            address,
            fault,
            store,
            sent: AtomicU64::new(0),
            queues,
            halves: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub fn stored(&self) -> usize {
        self.shared.queues.iter().map(|queue| queue.lock().unwrap().records.len()).sum()
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut input = vec![0; 1 << 20];
        let mut end = 0;
        let mut out = Vec::new();
        while let Ok(count @ 1..) = stream.read(&mut input[end..]) {
            end += count;
            let mut start = 0;
            while let Ok(Some((frame, length))) = Frame::decode(&input[start..end]) {
                let beats = frame.header.request_code() == RequestCode::HEART_BEAT;
                if beats && self.fault == Fault::HangUpOn(self.sent.fetch_add(1, Ordering::Relaxed)) {
                    return;
                }
                self.answer(&frame, &mut out);
                start += length;
            }
            input.copy_within(start..end, 0);
            end -= start;
            if stream.write_all(&out).is_err() {
                return;
            }
            out.clear();
        }
    }

    fn answer(&self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let header = &frame.header;
        let number = |name: &str| header.fields.find(name).unwrap().parse_i64().unwrap();
        let respond = |out, code| FrameWriter::response(out, header.codec, code, header.opaque);
        match header.request_code() {
            RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE => self.send(frame, out),
            RequestCode::PULL_MESSAGE => {
                let (queue, from) = (number("queueId") as usize, number("queueOffset") as usize);
                let queue = self.queues[queue].lock().unwrap();
                let next = queue.records.len().min(from + number("maxMsgNums") as usize).max(from);
                let wanted = header.fields.find("subscription").unwrap().cow().into_owned();
                let body = queue.records.get(from..next).unwrap_or_default().iter();
                let body: Vec<u8> =
                    body.filter(|record| matches(record, &wanted)).flatten().copied().collect();
                let code = match (body.is_empty(), next > from) {
                    (false, _) => 0,
                    (true, true) => 20,
                    (true, false) => 19,
                };
                respond(out, ResponseCode(code))
                    .field_int("nextBeginOffset", next as i64)
                    .field_int("maxOffset", queue.records.len() as i64)
                    .body(&body);
            }
            RequestCode::GET_MIN_OFFSET => {
                respond(out, ResponseCode::SUCCESS).field_int("offset", 0).finish()
            }
            RequestCode::GET_MAX_OFFSET => {
                let max = self.queues[number("queueId") as usize].lock().unwrap().records.len();
                respond(out, ResponseCode::SUCCESS).field_int("offset", max as i64).finish();
            }
            RequestCode::END_TRANSACTION => {
                let (queue, body) =
                    self.halves.lock().unwrap()[number("tranStateTableOffset") as usize].clone();
                assert_eq!(number("commitLogOffset"), number("tranStateTableOffset") * 100);
                if number("commitOrRollback") == 8 || self.fault == Fault::CommitAll {
                    let mut queue_of = self.queues[queue as usize].lock().unwrap();
                    queue_of.records.push(self.record(queue, &body, b""));
                    let last = queue_of.records.len() - 1;
                    queue_of.restamp(last);
                }
                respond(out, ResponseCode::SUCCESS).finish();
            }
            RequestCode::HEART_BEAT => respond(out, ResponseCode::SUCCESS).finish(),
            RequestCode::UPDATE_AND_CREATE_TOPIC => respond(out, ResponseCode::SUCCESS).finish(),
            RequestCode::GET_TOPIC_CONFIG => {
                let count = self.queues.len();
                let config = format!("{{\"readQueueNums\":{count},\"writeQueueNums\":{count}}}");
                respond(out, ResponseCode::SUCCESS).body(config.as_bytes());
            }
            _ => respond(out, ResponseCode(3)).remark("request type not supported").finish(),
        }
    }

    fn send(&self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let header = &frame.header;
        let mut queue_id = 0;
        let mut is_batch = false;
        let mut properties = String::new();
        for (key, value) in header.fields.iter() {
            match key.as_plain() {
                Some(b"e") => queue_id = value.parse_i32().unwrap(),
                Some(b"i") => properties = value.cow().into_owned(),
                Some(b"m") => is_batch = value.parse_bool(),
                _ => {}
            }
        }
        let sent = self.sent.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::Refuse(sent) {
            FrameWriter::response(out, header.codec, ResponseCode(2), header.opaque)
                .remark("start flow control for a while")
                .finish();
            return;
        }
        if let Fault::Stall(number, milliseconds) = self.fault
            && number == sent
        {
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        }
        if properties.contains("TRAN_MSG\u{1}true") {
            self.begin(frame, queue_id, out);
            return;
        }
        if let Fault::Slow(milliseconds) = self.fault {
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        }
        let mut offset = sent as i64;
        if self.store {
            let mut queue = self.queues[queue_id as usize].lock().unwrap();
            offset = queue.records.len() as i64;
            if is_batch {
                for entry in batch::entries(frame.body).map(Result::unwrap) {
                    queue.records.push(self.record(queue_id, entry.body, entry.properties.0));
                }
            } else {
                self.store_one(&mut queue, sent, self.record(queue_id, frame.body, properties.as_bytes()));
            }
            queue.restamp(offset as usize);
        }
        if header.is_oneway() || self.fault == Fault::Silent(sent) {
            return;
        }
        if properties.contains("DELAY\u{1}") {
            // The offset in the queue of those that are delayed.
            offset = sent as i64;
        }
        let told = if self.fault == Fault::WrongOffset(sent) { offset + 1 } else { offset };
        FrameWriter::response(out, header.codec, ResponseCode::SUCCESS, header.opaque)
            .field_int("queueId", queue_id)
            .field("transactionId", "FD00000000000000000000000000000230BC5FFD2B276415EC120000")
            .field("msgId", "7F00000200002A9F0000000000000000")
            .field("TRACE_ON", "true")
            .field("MSG_REGION", "DefaultRegion")
            .field_int("queueOffset", told)
            .finish();
    }

    fn begin(&self, frame: &Frame<'_>, queue_id: i32, out: &mut Vec<u8>) {
        let header = &frame.header;
        if self.fault == Fault::NoTransactions {
            FrameWriter::response(out, header.codec, ResponseCode(16), header.opaque)
                .remark("transactions are not supported")
                .finish();
            return;
        }
        let mut halves = self.halves.lock().unwrap();
        let offset = halves.len() as i64;
        halves.push((queue_id, frame.body.to_vec()));
        FrameWriter::response(out, header.codec, ResponseCode::SUCCESS, header.opaque)
            .field_int("queueId", 0)
            .field("transactionId", "FD00000000000000000000000000000230BC5FFD2B276415EC120000")
            .field("msgId", &format!("7F00000200002A9F{:016X}", offset * 100))
            .field_int("queueOffset", offset)
            .finish();
    }

    fn store_one(&self, queue: &mut Queue, sent: u64, mut record: Vec<u8>) {
        match self.fault {
            Fault::Lose(number) if number == sent => {}
            Fault::StoreTwice(number) if number == sent => queue.records.extend([record.clone(), record]),
            Fault::DamageBody(number) if number == sent => {
                record[100] ^= 0x20;
                queue.records.push(record);
            }
            Fault::Swap(number) if number == sent => queue.held_back = Some(record),
            _ => {
                queue.records.push(record);
                queue.records.extend(queue.held_back.take());
            }
        }
    }

    fn record(&self, queue_id: i32, body: &[u8], properties: &[u8]) -> Vec<u8> {
        let fields = RecordFields {
            queue_id,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: self.address,
            store_host: self.address,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body,
            topic: "T",
            properties: PropertiesSource::client(Text::new(std::str::from_utf8(properties).unwrap())),
        };
        let mut record = vec![0; fields.encoded_len()];
        fields.encode_into(&mut record);
        record
    }
}

fn matches(record: &[u8], wanted: &str) -> bool {
    let tag = RecordRef::parse(record).unwrap().properties().find("TAGS").unwrap_or_default();
    wanted == "*" || wanted.split("||").any(|wanted| wanted.trim() == tag)
}

impl Queue {
    /// Offsets follow the places.
    fn restamp(&mut self, from: usize) {
        for (offset, record) in self.records.iter_mut().enumerate().skip(from) {
            stamp(record, offset as i64, offset as i64 * 1000, 1);
        }
    }
}
