//! What the protocol costs a message: decoding a send, answering it, encoding and reading its record.
//!
//! `cargo bench -p rmq-benches --bench protocol`

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rmq_protocol::headers::SendMessageHeader;
use rmq_protocol::properties::PropertiesSource;
use rmq_protocol::record::{RecordFields, RecordRef, records, stamp};
use rmq_protocol::{Codec, Frame, FrameWriter, RequestCode, ResponseCode, Text};

const PROPERTIES: &str =
    "UNIQ_KEY\u{1}FD00000000000000000000000000000230BC5FFD2B276415EC120000\u{2}WAIT\u{1}true\u{2}";

fn send_frame(codec: Codec) -> Vec<u8> {
    let mut frame = Vec::new();
    FrameWriter::request(&mut frame, codec, RequestCode::SEND_MESSAGE_V2, 1234, false)
        .field("a", "producer-group")
        .field("b", "TopicTest")
        .field("c", "TBW102")
        .field_int("d", 4)
        .field_int("e", 3)
        .field_int("f", 0)
        .field_int("g", 1_795_170_358_290i64)
        .field_int("h", 0)
        .field("i", PROPERTIES)
        .field_int("j", 0)
        .field_bool("k", false)
        .field_bool("m", false)
        .field("n", "broker-a")
        .body(&[7; 128]);
    frame
}

fn answer(out: &mut Vec<u8>, codec: Codec) {
    FrameWriter::response(out, codec, ResponseCode::SUCCESS, 1234)
        .field("msgId", "7F00000200002A9F0000000000000000")
        .field_int("queueId", 3)
        .field_int("queueOffset", 123_456)
        .field("transactionId", "FD00000000000000000000000000000230BC5FFD2B276415EC120000")
        .field("MSG_REGION", "DefaultRegion")
        .field("TRACE_ON", "true")
        .finish();
}

fn frames(criterion: &mut Criterion) {
    for (name, codec) in [("json", Codec::Json), ("binary", Codec::Binary)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        let frame = send_frame(codec);
        group.bench_function("decode frame", |bench| {
            bench.iter(|| black_box(Frame::decode(black_box(&frame)).unwrap().unwrap().1));
        });
        group.bench_function("decode frame and send header", |bench| {
            bench.iter(|| {
                let (frame, _) = Frame::decode(black_box(&frame)).unwrap().unwrap();
                let header =
                    SendMessageHeader::decode(frame.header.request_code(), &frame.header.fields).unwrap();
                black_box(header.queue_id)
            });
        });
        group.bench_function("encode answer", |bench| {
            let mut out = Vec::with_capacity(1024);
            bench.iter(|| {
                out.clear();
                answer(black_box(&mut out), codec);
            });
        });
        group.finish();
    }
}

fn stored(criterion: &mut Criterion) {
    let host = SocketAddr::from(([127, 0, 0, 1], 10911));
    for size in [128, 1024] {
        let body = vec![7; size];
        let additions =
            [("MSG_REGION", "DefaultRegion"), ("TRACE_ON", "true"), ("CLUSTER", "DefaultCluster")];
        let fields = RecordFields {
            queue_id: 3,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1_795_170_358_290,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &body,
            topic: "TopicTest",
            properties: PropertiesSource {
                additions: &additions,
                ..PropertiesSource::client(Text::new(PROPERTIES))
            },
        };
        let mut record = vec![0; fields.encoded_len()];
        let mut group = criterion.benchmark_group(format!("record {size}"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("encode and stamp", |bench| {
            bench.iter(|| {
                black_box(&fields).encode_into(&mut record);
                stamp(&mut record, 5, 4096, 1_795_170_358_291);
            });
        });
        group.bench_function("parse", |bench| {
            bench.iter(|| black_box(RecordRef::parse(black_box(&record)).unwrap().queue_offset()));
        });
        let answer = record.repeat(32);
        group.bench_function("walk 32", |bench| {
            bench.iter_batched(
                || &answer,
                |answer| black_box(records(answer).filter(|record| record.is_ok()).count()),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, frames, stored);
criterion_main!(benches);
