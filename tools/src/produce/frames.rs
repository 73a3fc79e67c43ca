//! Send requests made once and patched per send: opaque id, born timestamp, unique key.
//!
//! The protocol crate encodes one request per queue with placeholders of the final width; finding them again
//! tells us where to patch, in either codec, without knowing how a header is laid out.

use rmq_protocol::{Codec, FrameWriter, RequestCode};

use crate::body::{Filler, Stamp};
use crate::produce::window::OPAQUE_FIRST;

const BORN_DIGITS: usize = 13;
const BORN_PLACEHOLDER: i64 = 8_765_432_109_876;
/// A unique key is 32 hex digits: 16 that name the run, 6 the connection, 10 the message.
const KEY_PLACEHOLDER: &str = "FEEDFACECAFEF00DDEADBEEF0BADBEEF";

#[derive(Clone, Debug)]
pub struct SendShape {
    pub topic: String,
    pub group: String,
    pub codec: Codec,
    pub body_size: usize,
    /// Messages per request; more than one makes it a batch.
    pub batch: usize,
    pub oneway: bool,
    pub unique_key: bool,
}

impl SendShape {
    pub fn frame_body_size(&self) -> usize {
        match self.batch {
            1 => self.body_size,
            batch => batch * (ENTRY_PREFIX_BYTES + self.body_size + 2 + entry_properties(self).len()),
        }
    }
}

pub struct Frames {
    templates: Vec<Template>,
    filler: Filler,
    entry_properties: Vec<u8>,
    batch: usize,
    run: u64,
}

/// One frame without its body, and where its changing parts are.
struct Template {
    head: Vec<u8>,
    opaque_at: Patch,
    born_at: usize,
    key_at: Option<usize>,
}

enum Patch {
    Digits(usize),
    Word(usize),
}

/// Who sends, and what it is called.
#[derive(Clone, Copy)]
pub struct Send {
    pub queue: usize,
    pub request: u64,
    pub floor: u64,
    pub opaque: i32,
    pub connection: u32,
    pub due_ns: u64,
}

impl Frames {
    pub fn new(shape: &SendShape, queues: usize, run: u64) -> Self {
        Self {
            templates: (0..queues).map(|queue| Template::new(shape, queue)).collect(),
            filler: Filler::new(shape.body_size),
            entry_properties: entry_properties(shape),
            batch: shape.batch,
            run,
        }
    }

    pub fn queues(&self) -> usize {
        self.templates.len()
    }

    /// Stamps all templates; once per wake-up is exact enough for a time in milliseconds.
    pub fn born(&mut self, wall_ms: u64) {
        for template in &mut self.templates {
            let at = template.born_at;
            write_digits(&mut template.head[at..at + BORN_DIGITS], wall_ms);
        }
    }

    /// Appends one request and returns the checksum of its bodies, combined by exclusive or.
    pub fn write(&self, send: &Send, out: &mut Vec<u8>) -> u32 {
        let template = &self.templates[send.queue];
        let from = out.len();
        out.extend_from_slice(&template.head);
        match template.opaque_at {
            Patch::Digits(at) => write_digits(&mut out[from + at..from + at + 10], send.opaque as u64),
            Patch::Word(at) => out[from + at..from + at + 4].copy_from_slice(&send.opaque.to_be_bytes()),
        }
        if let Some(at) = template.key_at {
            self.write_key(send, send.request, &mut out[from + at..from + at + 32]);
        }
        if self.batch == 1 { self.write_body(send, 0, out) } else { self.write_batch(send, out) }
    }

    fn write_body(&self, send: &Send, index: usize, out: &mut Vec<u8>) -> u32 {
        let sequence = send.request * self.batch as u64 + index as u64;
        let stamp = Stamp {
            run: self.run,
            connection: send.connection,
            overtaken: (sequence - send.floor * self.batch as u64).min(u64::from(u32::MAX)) as u32,
            sequence,
            sent_ns: send.due_ns,
        };
        self.filler.write(&stamp, out)
    }

    fn write_batch(&self, send: &Send, out: &mut Vec<u8>) -> u32 {
        let mut checksum = 0;
        let properties = &self.entry_properties;
        let entry = ENTRY_PREFIX_BYTES + self.filler.body_size() + 2 + properties.len();
        for index in 0..self.batch {
            // total size, then magic, body CRC and flag, which a batch leaves zero
            out.extend_from_slice(&(entry as u32).to_be_bytes());
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&(self.filler.body_size() as u32).to_be_bytes());
            checksum ^= self.write_body(send, index, out);
            out.extend_from_slice(&(properties.len() as u16).to_be_bytes());
            let key_at = out.len() + "UNIQ_KEY\u{1}".len();
            out.extend_from_slice(properties);
            if self.batch_has_keys() {
                let message = send.request * self.batch as u64 + index as u64;
                self.write_key(send, message, &mut out[key_at..key_at + 32]);
            }
        }
        checksum
    }

    fn batch_has_keys(&self) -> bool {
        self.entry_properties.starts_with(b"UNIQ_KEY")
    }

    fn write_key(&self, send: &Send, message: u64, key: &mut [u8]) {
        write_hex(&mut key[..16], self.run);
        write_hex(&mut key[16..22], u64::from(send.connection));
        write_hex(&mut key[22..], message);
    }
}

const ENTRY_PREFIX_BYTES: usize = 20;

fn entry_properties(shape: &SendShape) -> Vec<u8> {
    properties(shape, true).into_bytes()
}

/// What a Java client puts on a plain message. In a batch every message has its own.
fn properties(shape: &SendShape, entry: bool) -> String {
    let key = if shape.unique_key && entry == (shape.batch > 1) {
        format!("UNIQ_KEY\u{1}{KEY_PLACEHOLDER}\u{2}")
    } else {
        String::new()
    };
    format!("{key}WAIT\u{1}true\u{2}")
}

impl Template {
    fn new(shape: &SendShape, queue: usize) -> Self {
        let mut head = Vec::new();
        let properties = properties(shape, false);
        let code =
            if shape.batch > 1 { RequestCode::SEND_BATCH_MESSAGE } else { RequestCode::SEND_MESSAGE_V2 };
        let opaque = OPAQUE_FIRST + 987_654_321;
        FrameWriter::request(&mut head, shape.codec, code, opaque, shape.oneway)
            .field("a", &shape.group)
            .field("b", &shape.topic)
            .field("c", "TBW102")
            .field_int("d", 8)
            .field_int("e", queue as i64)
            .field_int("f", 0)
            .field_int("g", BORN_PLACEHOLDER)
            .field_int("h", 0)
            .field("i", &properties)
            .field_int("j", 0)
            .field_bool("k", false)
            .field_bool("m", shape.batch > 1)
            .body(&vec![0; shape.frame_body_size()]);
        head.truncate(head.len() - shape.frame_body_size());

        let opaque_at = match shape.codec {
            Codec::Json => Patch::Digits(position(&head, opaque.to_string().as_bytes())),
            Codec::Binary => Patch::Word(position(&head, &opaque.to_be_bytes())),
        };
        let born_at = position(&head, BORN_PLACEHOLDER.to_string().as_bytes());
        let key_at =
            properties.contains(KEY_PLACEHOLDER).then(|| position(&head, KEY_PLACEHOLDER.as_bytes()));
        Self { head, opaque_at, born_at, key_at }
    }
}

fn position(bytes: &[u8], what: &[u8]) -> usize {
    let mut found = bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what);
    let (at, _) = found.next().expect("the placeholder was written");
    assert!(found.next().is_none(), "a placeholder that appears twice would be patched only once");
    at
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn write_hex(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use rmq_protocol::Frame;

    use super::*;
    use crate::produce::window::Window;

    fn shape(codec: Codec, batch: usize) -> SendShape {
        SendShape {
            topic: String::from("T"),
            group: String::from("G"),
            codec,
            body_size: 100,
            batch,
            oneway: false,
            unique_key: true,
        }
    }

    const SEND: Send =
        Send { queue: 1, request: 77, floor: 70, opaque: OPAQUE_FIRST + 77, connection: 9, due_ns: 5 };

    #[test]
    fn patched_frames_decode_to_what_was_meant() {
        for codec in [Codec::Json, Codec::Binary] {
            let mut frames = Frames::new(&shape(codec, 1), 3, 0xabc);
            frames.born(1_795_170_358_290);
            let mut out = Vec::new();
            let checksum = frames.write(&SEND, &mut out);
            let (frame, length) = Frame::decode(&out).unwrap().unwrap();
            assert_eq!(length, out.len());
            assert_eq!(frame.header.opaque, Window::opaque(77));
            assert_eq!(frame.header.code, 310);
            let field = |name| frame.header.fields.find(name).unwrap().cow().into_owned();
            assert_eq!((field("e"), field("g")), (String::from("1"), String::from("1795170358290")));
            assert_eq!(field("i"), "UNIQ_KEY\u{1}0000000000000ABC000009000000004D\u{2}WAIT\u{1}true\u{2}");
            let (stamp, found) = Stamp::read(frame.body).unwrap();
            assert_eq!(found, checksum);
            assert_eq!(stamp, Stamp { run: 0xabc, connection: 9, overtaken: 7, sequence: 77, sent_ns: 5 });
        }
    }

    #[test]
    fn a_batch_numbers_its_messages_one_by_one() {
        let shape = shape(Codec::Json, 3);
        let frames = Frames::new(&shape, 2, 1);
        let mut out = Vec::new();
        let checksum = frames.write(&SEND, &mut out);
        let (frame, _) = Frame::decode(&out).unwrap().unwrap();
        assert_eq!(frame.header.fields.find("m").unwrap().cow(), "true");
        assert_eq!(frame.body.len(), shape.frame_body_size());
        let entry = frame.body.len() / 3;
        let mut combined = 0;
        for (index, entry) in frame.body.chunks(entry).enumerate() {
            assert_eq!(entry[..4], (entry.len() as u32).to_be_bytes());
            let (stamp, found) = Stamp::read(&entry[20..120]).unwrap();
            assert_eq!(stamp.sequence, 77 * 3 + index as u64);
            assert_eq!(stamp.floor(), 70 * 3);
            let properties = String::from_utf8(entry[122..].to_vec()).unwrap();
            assert!(properties.contains(&format!("{:010X}\u{2}", stamp.sequence)), "{properties}");
            combined ^= found;
        }
        assert_eq!(combined, checksum);
    }
}
