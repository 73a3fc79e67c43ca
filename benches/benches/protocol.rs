//! What the protocol costs a message: decoding a send, answering it, encoding and reading its record.
//!
//! `cargo bench -p rmq-benches --bench protocol`

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rmq_benches::message::{answer, record_fields, send_frame};
use rmq_protocol::headers::SendMessageHeader;
use rmq_protocol::record::{RecordRef, records, stamp};
use rmq_protocol::{Codec, Frame};

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
    for size in [128, 1024] {
        let body = vec![7; size];
        let fields = record_fields(&body);
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
        group.bench_function("parse and check the body", |bench| {
            bench.iter(|| black_box(RecordRef::parse(black_box(&record)).unwrap().body_is_intact()));
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
