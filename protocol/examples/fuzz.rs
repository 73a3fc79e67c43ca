//! Mutates the recorded frames and decodes the result; fails on a panic or on a broken promise of a decoder.
//!
//! `cargo run -p rmq-protocol --example fuzz -- --seconds 10` runs all targets and prints the seed; a failure prints
//! the command that replays it.

#[path = "../tests/support/golden.rs"]
mod golden;
#[path = "../tests/support/typed.rs"]
mod typed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rmq_protocol::body::{
    HeartbeatData, RegisterBrokerBody, SubscriptionGroupTable, TopicRouteData, TopicStats,
};
use rmq_protocol::record::records;
use rmq_protocol::{
    Frame, FrameWriter, Properties, RecordRef, RequestCode, ResponseCode, batch, lenient_json,
};

const USAGE: &str = "usage: fuzz [--seconds N] [--seed N [--round N]] [--target NAME]";

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let seed = arguments.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |elapsed| elapsed.as_nanos() as u64)
    });
    println!("seed {seed}");
    let corpus = Corpus::load();
    let targets: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| arguments.target.as_deref().is_none_or(|name| name == target.name))
        .collect();
    if targets.is_empty() {
        eprintln!("no such target; there are {}", TARGETS.map(|target| target.name).join(", "));
        return ExitCode::from(2);
    }
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut round = arguments.round.unwrap_or(0);
    loop {
        for target in &targets {
            let mut random = Random::new(seed, round, target.name);
            let input = random.mutate((target.samples)(&corpus));
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
                eprintln!("{} failed on {} bytes: {}", target.name, input.len(), hex(&input));
                eprintln!(
                    "replay: cargo run -p rmq-protocol --example fuzz -- --seed {seed} --round {round} --target {}",
                    target.name
                );
                return ExitCode::FAILURE;
            }
        }
        round += 1;
        if arguments.round.is_some() || Instant::now() >= end {
            println!("{} rounds of {} targets passed", round - arguments.round.unwrap_or(0), targets.len());
            return ExitCode::SUCCESS;
        }
    }
}

#[derive(Default)]
struct Arguments {
    seconds: u64,
    seed: Option<u64>,
    round: Option<u64>,
    target: Option<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self { seconds: 10, ..Self::default() };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = || value.parse().map_err(|_| format!("{word} {value}: not a number"));
            match word.as_str() {
                "--seconds" => arguments.seconds = number()?,
                "--seed" => arguments.seed = Some(number()?),
                "--round" => arguments.round = Some(number()?),
                "--target" => arguments.target = Some(value),
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        Ok(arguments)
    }
}

/// What is mutated, by kind.
struct Corpus {
    frames: Vec<Vec<u8>>,
    json: Vec<Vec<u8>>,
    records: Vec<Vec<u8>>,
    properties: Vec<Vec<u8>>,
    batches: Vec<Vec<u8>>,
}

impl Corpus {
    fn load() -> Self {
        let mut corpus =
            Self { frames: vec![], json: vec![], records: vec![], properties: vec![], batches: vec![] };
        for recorded in golden::frames() {
            if let Ok(Some((frame, _))) = Frame::decode(&recorded.bytes) {
                let body = frame.body;
                if body.first() == Some(&b'{') {
                    corpus.json.push(body.to_vec());
                } else if let Ok(record) = RecordRef::parse(body) {
                    corpus.records.push(body.to_vec());
                    corpus.properties.push(record.properties().0.to_vec());
                } else if batch::entries(body).all(|entry| entry.is_ok()) && !body.is_empty() {
                    corpus.batches.push(body.to_vec());
                }
            }
            corpus.frames.push(recorded.bytes);
        }
        corpus
    }
}

struct Target {
    name: &'static str,
    samples: fn(&Corpus) -> &[Vec<u8>],
    run: fn(&[u8]),
}

const TARGETS: [Target; 6] = [
    Target { name: "frame", samples: |corpus| &corpus.frames, run: frame },
    Target { name: "header", samples: |corpus| &corpus.frames, run: header },
    Target { name: "record", samples: |corpus| &corpus.records, run: record },
    Target { name: "properties", samples: |corpus| &corpus.properties, run: properties },
    Target { name: "batch", samples: |corpus| &corpus.batches, run: batch },
    Target { name: "lenient_json", samples: |corpus| &corpus.json, run: json },
];

/// A frame that decodes is within its bytes, and encoded again decodes to the same.
fn frame(input: &[u8]) {
    let Ok(Some((frame, consumed))) = Frame::decode(input) else { return };
    assert!(consumed <= input.len());
    assert!(matches!(Frame::decode(&input[..consumed - 1]), Ok(None)), "a prefix is incomplete");
    let mut out = Vec::new();
    let mut writer = FrameWriter::response(
        &mut out,
        frame.header.codec,
        ResponseCode(frame.header.code),
        frame.header.opaque,
    );
    let fields: Vec<_> = frame.header.fields.iter().map(|(key, value)| (key.cow(), value.cow())).collect();
    // Names are written as they are, so only those that need no escapes can be compared.
    let plain = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.is_empty()
    };
    for (key, value) in fields.iter().filter(|(key, _)| plain(key)) {
        writer.put_field(key, value);
    }
    writer.body(frame.body);
    let (again, _) = Frame::decode(&out).unwrap().unwrap();
    assert_eq!(again.header.opaque, frame.header.opaque);
    assert_eq!(again.body, frame.body);
    let expected: Vec<_> = fields.into_iter().filter(|(key, _)| plain(key)).collect();
    let found: Vec<_> = again.header.fields.iter().map(|(key, value)| (key.cow(), value.cow())).collect();
    assert_eq!(found, expected);
}

/// The lengths of the frame are made to agree, so that the damage is in the header; all typed headers are tried.
fn header(input: &[u8]) {
    let mut bytes = input.to_vec();
    if bytes.len() < 8 {
        return;
    }
    let len = bytes.len() as u32 - 4;
    bytes[..4].copy_from_slice(&len.to_be_bytes());
    let header_len = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]).min(len - 4);
    bytes[5..8].copy_from_slice(&header_len.to_be_bytes()[1..]);
    bytes[4] &= 1;
    let Ok(Some((frame, _))) = Frame::decode(&bytes) else { return };
    for code in (0..1100).chain(200_000..200_200) {
        for response in [false, true] {
            typed::recode(RequestCode(code), response, &frame.header.fields);
        }
    }
}

fn record(input: &[u8]) {
    let mut len = 0;
    for record in records(input).flatten() {
        len += record.total_len();
        record.body_is_intact();
        properties(record.properties().0);
        let fields = record.fields();
        let mut again = vec![0; fields.encoded_len()];
        fields.encode_into(&mut again);
        let again = RecordRef::parse(&again).unwrap();
        assert_eq!((again.topic(), again.body()), (record.topic(), record.body()));
    }
    assert!(len <= input.len());
}

fn properties(input: &[u8]) {
    for (key, value) in Properties(input) {
        assert!(!key.is_empty() && !value.is_empty());
        assert!(
            Properties(input).find_bytes(std::str::from_utf8(key).unwrap_or("")).is_some() || !key.is_ascii()
        );
    }
}

fn batch(input: &[u8]) {
    let mut again = Vec::new();
    let mut whole = true;
    for entry in batch::entries(input) {
        match entry {
            Ok(entry) => entry.push_to(&mut again),
            Err(_) => whole = false,
        }
    }
    assert!(again.len() <= input.len());
    assert!(!whole || again.len() == input.len());
}

fn json(input: &[u8]) {
    if let Ok(value) = lenient_json::from_slice::<serde_json::Value>(input) {
        let text = serde_json::to_vec(&value).unwrap();
        lenient_json::from_slice::<serde_json::Value>(&text).unwrap();
    }
    let _ = lenient_json::from_slice::<HeartbeatData>(input);
    let _ = lenient_json::from_slice::<TopicRouteData>(input).map(|route| route.encode_unquoted());
    let _ = lenient_json::from_slice::<TopicStats>(input).map(|stats| stats.encode());
    let _ = lenient_json::from_slice::<SubscriptionGroupTable>(input);
    let _ = RegisterBrokerBody::decode(input, false, 479);
    let _ = RegisterBrokerBody::decode(input, true, 479);
}

/// SplitMix64, started from the seed, the round and the target alone, so that one round can be replayed.
struct Random(u64);

impl Random {
    fn new(seed: u64, round: u64, target: &str) -> Self {
        let name =
            target.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Self(seed ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ name << 32);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ word >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A sample with up to eight changes; what matters to parsers is put in more often than chance would.
    fn mutate(&mut self, samples: &[Vec<u8>]) -> Vec<u8> {
        const TOKENS: [&[u8]; 20] = [
            b"\"",
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"'",
            b"null",
            b"\\u",
            b"\\u0001",
            b"\\ud83d",
            b"\x01",
            b"\x02",
            b"\0\0\0\0",
            b"\xff\xff\xff\xff",
            b"\x7f\xff\xff\xff",
            b"-",
            b"\xc3",
        ];
        let mut bytes = samples[self.below(samples.len())].clone();
        for _ in 0..=self.below(8) {
            let at = self.below(bytes.len() + 1);
            match self.below(7) {
                0 => bytes.truncate(at),
                1 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
                2 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.next() as u8;
                    }
                }
                3 => {
                    let token = TOKENS[self.below(TOKENS.len())];
                    bytes.splice(at..at, token.iter().copied());
                }
                4 => {
                    let token = TOKENS[self.below(TOKENS.len())];
                    let end = (at + token.len()).min(bytes.len());
                    bytes.splice(at..end, token.iter().copied());
                }
                5 => {
                    let end = (at + self.below(20)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let other = &samples[self.below(samples.len())];
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(64)).min(other.len());
                    bytes.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        bytes
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
