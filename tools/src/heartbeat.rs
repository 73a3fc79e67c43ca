//! HEART_BEAT requests, as a producer sends them to stay known.

use rmq_protocol::{Codec, FrameWriter, RequestCode};

/// Appends the heartbeat of the client with this number.
pub fn write(codec: Codec, group: &str, client: u64, opaque: i32, out: &mut Vec<u8>) {
    let body = serde_json::json!({
        "clientID": format!("127.0.0.1@rmq-bench#{}#{client}", std::process::id()),
        "heartbeatFingerprint": 0,
        "withoutSub": false,
        "producerDataSet": [{"groupName": group}],
        "consumerDataSet": [],
    });
    FrameWriter::request(out, codec, RequestCode::HEART_BEAT, opaque, false)
        .body(body.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use rmq_protocol::Frame;

    use super::*;

    #[test]
    fn clients_are_told_apart() {
        let body = |client| {
            let mut out = Vec::new();
            write(Codec::Json, "G", client, 5, &mut out);
            let (frame, _) = Frame::decode(&out).unwrap().unwrap();
            assert_eq!((frame.header.code, frame.header.opaque), (34, 5));
            serde_json::from_slice::<serde_json::Value>(frame.body).unwrap()
        };
        assert_ne!(body(1)["clientID"], body(2)["clientID"]);
        assert_eq!(body(1)["producerDataSet"][0]["groupName"], "G");
    }
}
