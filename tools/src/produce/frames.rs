//! Send requests made once and patched per send: length, opaque id, born timestamp, what properties differ in.

use rmq_protocol::{Codec, FrameWriter, RequestCode};

use crate::body::{BodyShape, Filler, Stamp};
use crate::produce::properties::{Mark, Marks, Owner, PropertyShape, first_difference};
use crate::produce::window::OPAQUE_FIRST;

const BORN_DIGITS: usize = 13;
const ENTRY_PREFIX_BYTES: usize = 20;

#[derive(Clone, Debug)]
pub struct SendShape {
    pub topic: String,
    pub group: String,
    pub codec: Codec,
    pub body: BodyShape,
    pub properties: PropertyShape,
    /// Messages per request; more than one makes it a batch.
    pub batch: usize,
    pub oneway: bool,
    pub sys_flag: i32,
}

impl SendShape {
    /// Of the largest request.
    pub fn frame_body_size(&self) -> usize {
        let body = self.body.size_max as usize;
        match self.batch {
            1 => body,
            batch => batch * (ENTRY_PREFIX_BYTES + body + 2 + self.properties.text(None).len()),
        }
    }

    /// In a batch every message has its own properties, and the request has none but these.
    fn request_properties(&self, mark: Option<Mark>) -> String {
        if self.batch > 1 { PropertyShape::default().text(None) } else { self.properties.text(mark) }
    }
}

pub struct Frames {
    templates: Vec<Template>,
    filler: Filler,
    entry: Option<Entry>,
    batch: usize,
    run: u64,
}

/// One frame without its body, and where its changing parts are.
struct Template {
    head: Vec<u8>,
    opaque_at: Patch,
    born_at: usize,
    marks: Option<Marks>,
}

enum Patch {
    Digits(usize),
    Word(usize),
}

/// The properties of each message in a batch.
struct Entry {
    properties: Vec<u8>,
    marks: Marks,
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

/// What has been written: the checksums of its bodies, combined by exclusive or, and how long those are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub checksum: u32,
    pub body_bytes: u32,
}

impl Frames {
    pub fn new(shape: &SendShape, queues: usize, run: u64) -> Self {
        let entry = (shape.batch > 1).then(|| Entry {
            properties: shape.properties.text(None).into_bytes(),
            marks: Marks::find(&shape.properties, |mark| shape.properties.text(mark).into_bytes()),
        });
        Self {
            templates: (0..queues).map(|queue| Template::new(shape, queue)).collect(),
            filler: Filler::new(shape.body),
            entry,
            batch: shape.batch,
            run,
        }
    }

    /// Stamps all templates; once per wake-up is exact enough for a time in milliseconds.
    pub fn born(&mut self, wall_ms: u64) {
        for template in &mut self.templates {
            let at = template.born_at;
            write_digits(&mut template.head[at..at + BORN_DIGITS], wall_ms);
        }
    }

    /// Appends one request.
    pub fn write(&self, send: &Send, out: &mut Vec<u8>) -> Written {
        let template = &self.templates[send.queue];
        let from = out.len();
        out.extend_from_slice(&template.head);
        match template.opaque_at {
            Patch::Digits(at) => write_digits(&mut out[from + at..from + at + 10], send.opaque as u64),
            Patch::Word(at) => out[from + at..from + at + 4].copy_from_slice(&send.opaque.to_be_bytes()),
        }
        if let Some(marks) = &template.marks {
            marks.fill(&self.owner(send, send.request), &mut out[from..]);
        }
        let mut written = Written::default();
        match &self.entry {
            None => self.write_body(send, 0, out, &mut written),
            Some(entry) => {
                for index in 0..self.batch {
                    self.write_entry(entry, send, index, out, &mut written);
                }
            }
        }
        let length = (out.len() - from - 4) as u32;
        out[from..from + 4].copy_from_slice(&length.to_be_bytes());
        written
    }

    fn write_body(&self, send: &Send, index: usize, out: &mut Vec<u8>, written: &mut Written) {
        let sequence = self.sequence(send, index);
        let stamp = Stamp {
            run: self.run,
            connection: send.connection,
            overtaken: (sequence - send.floor * self.batch as u64).min(u64::from(u32::MAX)) as u32,
            sequence,
            sent_ns: send.due_ns,
        };
        let from = out.len();
        written.checksum ^= self.filler.write(&stamp, out);
        written.body_bytes += (out.len() - from) as u32;
    }

    fn write_entry(
        &self,
        entry: &Entry,
        send: &Send,
        index: usize,
        out: &mut Vec<u8>,
        written: &mut Written,
    ) {
        let from = out.len();
        // Total size, which is known in the end; magic, body CRC and flag, which a batch leaves zero; body size.
        out.extend_from_slice(&[0; ENTRY_PREFIX_BYTES]);
        let body_from = out.len();
        self.write_body(send, index, out, written);
        let body_bytes = (out.len() - body_from) as u32;
        out.extend_from_slice(&(entry.properties.len() as u16).to_be_bytes());
        let properties_from = out.len();
        out.extend_from_slice(&entry.properties);
        entry.marks.fill(&self.owner(send, self.sequence(send, index)), &mut out[properties_from..]);
        let total = (out.len() - from) as u32;
        out[from..from + 4].copy_from_slice(&total.to_be_bytes());
        out[body_from - 4..body_from].copy_from_slice(&body_bytes.to_be_bytes());
    }

    fn sequence(&self, send: &Send, index: usize) -> u64 {
        send.request * self.batch as u64 + index as u64
    }

    fn owner(&self, send: &Send, sequence: u64) -> Owner {
        Owner { run: self.run, connection: send.connection, sequence }
    }
}

impl Template {
    fn new(shape: &SendShape, queue: usize) -> Self {
        /// Differ in their first digit, as text and as a number.
        const OPAQUES: [i32; 2] = [OPAQUE_FIRST + 111_111_111, OPAQUE_FIRST + 1_000_000_000];
        const BORN: [i64; 2] = [1_111_111_111_111, 2_222_222_222_222];
        let encode = |opaque, born, mark| head(shape, queue, opaque, born, mark);
        let plain = encode(OPAQUES[0], BORN[0], None);
        let opaque_at = first_difference(&plain, &encode(OPAQUES[1], BORN[0], None));
        let PropertyShape { unique_key, keys, tags, .. } = shape.properties;
        let changes = shape.batch == 1 && (unique_key || keys + tags > 0);
        Self {
            opaque_at: match shape.codec {
                Codec::Json => Patch::Digits(opaque_at),
                Codec::Binary => Patch::Word(opaque_at),
            },
            born_at: first_difference(&plain, &encode(OPAQUES[0], BORN[1], None)),
            marks: changes.then(|| Marks::find(&shape.properties, |mark| encode(OPAQUES[0], BORN[0], mark))),
            head: plain,
        }
    }
}

fn head(shape: &SendShape, queue: usize, opaque: i32, born: i64, mark: Option<Mark>) -> Vec<u8> {
    let mut head = Vec::new();
    let code = if shape.batch > 1 { RequestCode::SEND_BATCH_MESSAGE } else { RequestCode::SEND_MESSAGE_V2 };
    FrameWriter::request(&mut head, shape.codec, code, opaque, shape.oneway)
        .field("a", &shape.group)
        .field("b", &shape.topic)
        .field("c", "TBW102")
        .field_int("d", 8)
        .field_int("e", queue as i64)
        .field_int("f", shape.sys_flag)
        .field_int("g", born)
        .field_int("h", 0)
        .field("i", &shape.request_properties(mark))
        .field_int("j", 0)
        .field_bool("k", false)
        .field_bool("m", shape.batch > 1)
        .finish();
    head
}

fn write_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use rmq_protocol::{Frame, batch};

    use super::*;
    use crate::produce::window::Window;

    fn shape(codec: Codec, batch: usize) -> SendShape {
        SendShape {
            topic: String::from("T"),
            group: String::from("G"),
            codec,
            body: BodyShape::fixed(100),
            properties: PropertyShape { unique_key: true, ..PropertyShape::default() },
            batch,
            oneway: false,
            sys_flag: 0,
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
            let written = frames.write(&SEND, &mut out);
            let (frame, length) = Frame::decode(&out).unwrap().unwrap();
            assert_eq!(length, out.len());
            assert_eq!(frame.header.opaque, Window::opaque(77));
            assert_eq!(frame.header.code, 310);
            let field = |name| frame.header.fields.find(name).unwrap().cow().into_owned();
            assert_eq!((field("e"), field("g")), (String::from("1"), String::from("1795170358290")));
            assert_eq!(field("i"), "UNIQ_KEY\u{1}0000000000000ABC000009000000004D\u{2}WAIT\u{1}true\u{2}");
            let (stamp, checksum) = Stamp::read(frame.body).unwrap();
            assert_eq!(written, Written { checksum, body_bytes: 100 });
            assert_eq!(stamp, Stamp { run: 0xabc, connection: 9, overtaken: 7, sequence: 77, sent_ns: 5 });
        }
    }

    #[test]
    fn a_batch_numbers_its_messages_one_by_one() {
        let mut shape = shape(Codec::Json, 3);
        shape.body.size_max = 200;
        let frames = Frames::new(&shape, 2, 1);
        let mut out = Vec::new();
        let written = frames.write(&SEND, &mut out);
        let (frame, length) = Frame::decode(&out).unwrap().unwrap();
        assert_eq!(length, out.len());
        assert_eq!(frame.header.fields.find("m").unwrap().cow(), "true");
        assert_eq!(frame.header.fields.find("i").unwrap().cow(), "WAIT\u{1}true\u{2}");
        assert!(frame.body.len() <= shape.frame_body_size());
        let mut found = Written::default();
        let mut sizes = Vec::new();
        for (index, entry) in batch::entries(frame.body).enumerate() {
            let entry = entry.unwrap();
            let (stamp, checksum) = Stamp::read(entry.body).unwrap();
            assert_eq!(stamp.sequence, 77 * 3 + index as u64);
            assert_eq!(stamp.floor(), 70 * 3);
            let properties = String::from_utf8_lossy(entry.properties.0);
            assert!(properties.contains(&format!("{:010X}\u{2}", stamp.sequence)), "{properties}");
            found.checksum ^= checksum;
            found.body_bytes += entry.body.len() as u32;
            sizes.push(entry.body.len());
        }
        assert_eq!(found, written);
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().any(|size| *size != sizes[0]), "{sizes:?}");
    }

    #[test]
    fn sizes_of_a_range_are_in_the_frame() {
        let mut shape = shape(Codec::Binary, 1);
        shape.body.size_max = 150;
        let frames = Frames::new(&shape, 2, 1);
        let mut out = Vec::new();
        let sizes: Vec<u32> =
            (70..170).map(|request| frames.write(&Send { request, ..SEND }, &mut out).body_bytes).collect();
        let mut rest = &out[..];
        for size in sizes {
            let (frame, length) = Frame::decode(rest).unwrap().unwrap();
            assert_eq!(frame.body.len(), size as usize);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }
}
