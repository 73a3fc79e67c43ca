//! Instructions of what every message passes through: the same count on a busy machine as on a quiet one, so that a
//! small step back shows where times are too noisy for it.
//!
//! `cargo bench -p rmq-benches --bench instructions` counts, and says how far that is from the run before. It needs
//! valgrind and gungraun's runner, and tells how to get them. What counts do not show: waiting for memory, and
//! processors with instructions that valgrind does not know (3.19 has no AVX-512).

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group};
use rmq_benches::message::{answer, record_fields, send_frame};
use rmq_protocol::headers::SendMessageHeader;
use rmq_protocol::record::{RecordRef, stamp};
use rmq_protocol::{Codec, Frame};

const RUNNER: &str = "gungraun-runner";

/// Whoever runs all targets as tests, or has no valgrind, must not fail here by chance: said first, then left.
fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    // The runner starts this program again, once for each count.
    let is_counted = arguments.get(1).is_some_and(|argument| argument == "--gungraun-run");
    if !is_counted {
        if !arguments.iter().any(|argument| argument == "--bench") {
            println!("instructions are counted by `cargo bench` only");
            return ExitCode::SUCCESS;
        }
        let mut missing = false;
        if !is_installed("valgrind") {
            eprintln!(
                "valgrind is missing. Debian, Ubuntu: apt-get install valgrind; Fedora: dnf install valgrind"
            );
            missing = true;
        }
        if option_env!("GUNGRAUN_RUNNER").is_none() && !is_installed(RUNNER) {
            eprintln!(
                "{RUNNER} is missing: cargo install {RUNNER} --version 0.20.0 (the version of the library)"
            );
            missing = true;
        }
        if missing {
            return ExitCode::FAILURE;
        }
    }
    gungraun::main!(
        config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"]));
        library_benchmark_groups = frames, records
    );
    // Not this function: the macro made another `main` in here.
    main();
    ExitCode::SUCCESS
}

fn is_installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

library_benchmark_group!(
    name = frames,
    benchmarks = [decode_frame, decode_frame_and_send_header, encode_answer]
);
library_benchmark_group!(name = records, benchmarks = [encode_record, parse_record, checksum]);

#[library_benchmark]
#[bench::json(args = (Codec::Json), setup = sent)]
#[bench::binary(args = (Codec::Binary), setup = sent)]
fn decode_frame(frame: &'static [u8]) -> (Frame<'static>, usize) {
    Frame::decode(black_box(frame)).unwrap().unwrap()
}

#[library_benchmark]
#[bench::json(args = (Codec::Json), setup = sent)]
#[bench::binary(args = (Codec::Binary), setup = sent)]
fn decode_frame_and_send_header(frame: &'static [u8]) -> SendMessageHeader<'static> {
    let (frame, _) = Frame::decode(black_box(frame)).unwrap().unwrap();
    SendMessageHeader::decode(frame.header.request_code(), &frame.header.fields).unwrap()
}

#[library_benchmark]
#[bench::json(args = (Codec::Json), setup = answer_to)]
#[bench::binary(args = (Codec::Binary), setup = answer_to)]
fn encode_answer((codec, mut out): (Codec, Vec<u8>)) -> Vec<u8> {
    answer(&mut out, codec);
    out
}

#[library_benchmark]
#[bench::body_128(args = (128), setup = unwritten)]
#[bench::body_1024(args = (1024), setup = unwritten)]
fn encode_record((body, mut record): (&'static [u8], Vec<u8>)) -> Vec<u8> {
    record_fields(black_box(body)).encode_into(&mut record);
    stamp(&mut record, 5, 4096, 1_795_170_358_291);
    record
}

#[library_benchmark]
#[bench::body_128(args = (128), setup = written)]
#[bench::body_1024(args = (1024), setup = written)]
fn parse_record(record: &'static [u8]) -> RecordRef<'static> {
    RecordRef::parse(black_box(record)).unwrap()
}

// The engine's, of a frame around such a record.
#[library_benchmark]
#[bench::body_128(args = (128), setup = written)]
#[bench::body_1024(args = (1024), setup = written)]
fn checksum(record: &'static [u8]) -> u32 {
    crc32fast::hash(black_box(record))
}

fn sent(codec: Codec) -> &'static [u8] {
    send_frame(codec).leak()
}

fn answer_to(codec: Codec) -> (Codec, Vec<u8>) {
    (codec, Vec::with_capacity(1024))
}

fn unwritten(body_bytes: usize) -> (&'static [u8], Vec<u8>) {
    let body: &'static [u8] = vec![7; body_bytes].leak();
    // The first checksum of a process asks the processor what it can; that is not counted.
    black_box(crc32fast::hash(body));
    (body, vec![0; record_fields(body).encoded_len()])
}

fn written(body_bytes: usize) -> &'static [u8] {
    let (body, mut record) = unwritten(body_bytes);
    record_fields(body).encode_into(&mut record);
    record.leak()
}
