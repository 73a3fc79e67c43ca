//! One message as the Java client sends it: the frame that brings it, the answer, the record that is stored.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use rmq_protocol::properties::PropertiesSource;
use rmq_protocol::record::RecordFields;
use rmq_protocol::{Codec, FrameWriter, RequestCode, ResponseCode, Text};

const PROPERTIES: &str =
    "UNIQ_KEY\u{1}FD00000000000000000000000000000230BC5FFD2B276415EC120000\u{2}WAIT\u{1}true\u{2}";

const ADDITIONS: [(&str, &str); 3] =
    [("MSG_REGION", "DefaultRegion"), ("TRACE_ON", "true"), ("CLUSTER", "DefaultCluster")];

const HOST: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10911));

/// A send of 128 bytes.
pub fn send_frame(codec: Codec) -> Vec<u8> {
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

pub fn answer(out: &mut Vec<u8>, codec: Codec) {
    FrameWriter::response(out, codec, ResponseCode::SUCCESS, 1234)
        .field("msgId", "7F00000200002A9F0000000000000000")
        .field_int("queueId", 3)
        .field_int("queueOffset", 123_456)
        .field("transactionId", "FD00000000000000000000000000000230BC5FFD2B276415EC120000")
        .field("MSG_REGION", "DefaultRegion")
        .field("TRACE_ON", "true")
        .finish();
}

pub fn record_fields(body: &[u8]) -> RecordFields<'_> {
    RecordFields {
        queue_id: 3,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_795_170_358_290,
        born_host: HOST,
        store_host: HOST,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        topic: "TopicTest",
        properties: PropertiesSource {
            additions: &ADDITIONS,
            ..PropertiesSource::client(Text::new(PROPERTIES))
        },
    }
}

/// Of the whole record around a body of this length.
pub fn record_bytes(body_bytes: usize) -> usize {
    record_fields(&vec![7; body_bytes]).encoded_len()
}
