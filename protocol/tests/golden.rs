//! Frames that Java, C++, Python and Node.js clients have exchanged with a Java broker.

#[path = "support/golden.rs"]
mod golden;
#[path = "support/typed.rs"]
mod typed;

use std::collections::BTreeMap;

use golden::{Recorded, frames};
use rmq_protocol::body::*;
use rmq_protocol::properties::PropertiesSource;
use rmq_protocol::record::{records, stamp};
use rmq_protocol::{
    Codec, Frame, FrameWriter, Header, Language, RequestCode, ResponseCode, batch, java_json,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn decode(recorded: &Recorded) -> Frame<'_> {
    let (frame, consumed) = Frame::decode(&recorded.bytes).expect(&recorded.place).expect(&recorded.place);
    assert_eq!(consumed, recorded.bytes.len(), "{}", recorded.place);
    frame
}

fn fields(header: &Header<'_>) -> BTreeMap<String, String> {
    header.fields.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// The request that a frame is or answers; `None` if the recorder could not tell.
fn request_code(recorded: &Recorded, frame: &Frame<'_>) -> Option<RequestCode> {
    if !frame.header.is_response() {
        return Some(frame.header.request_code());
    }
    let to = recorded.description["to"].as_str()?;
    (0..1100).chain(200_000..200_200).map(RequestCode).find(|code| code.name() == Some(to))
}

#[test]
fn every_frame_says_what_the_recorder_understood() {
    let frames = frames();
    assert!(frames.len() > 1000, "{} frames", frames.len());
    for recorded in &frames {
        let place = &recorded.place;
        let description = &recorded.description;
        let frame = decode(recorded);
        let header = &frame.header;
        assert_eq!(header.code, description["code"].as_i64().unwrap() as i32, "{place}");
        assert_eq!(header.opaque, description["opaque"].as_i64().unwrap() as i32, "{place}");
        assert_eq!(header.flag, description["flag"].as_i64().unwrap() as i32, "{place}");
        assert_eq!(header.version, description["version"].as_i64().unwrap() as i32, "{place}");
        assert_eq!(header.language.name(), description["language"].as_str(), "{place}");
        assert_eq!(frame.body.len() as i64, description["body_len"].as_i64().unwrap(), "{place}");
        let codec = match description["ser"].as_str().unwrap() {
            "JSON" => Codec::Json,
            _ => Codec::Binary,
        };
        assert_eq!(header.codec, codec, "{place}");
        let kind = match (header.is_response(), header.is_oneway()) {
            (true, _) => "RSP",
            (false, true) => "ONEWAY",
            (false, false) => "REQ",
        };
        assert_eq!(kind, description["type"].as_str().unwrap(), "{place}");
        let remark = header.remark.map(|remark| remark.to_string());
        assert_eq!(remark.as_deref(), description["remark"].as_str(), "{place}");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let ext = description["ext"].as_object().into_iter().flatten();
        let mut expected: BTreeMap<_, _> = ext.map(|(key, value)| (key.clone(), text(value))).collect();
        if codec == Codec::Binary {
            // A value without length is no value.
            expected.retain(|_, value| !value.is_empty());
        }
        assert_eq!(fields(header), expected, "{place}");
        for (key, value) in &expected {
            assert_eq!(header.fields.find(key).unwrap(), **value, "{place}");
        }
    }
}

#[test]
fn every_frame_survives_encoding_in_either_codec() {
    for recorded in frames() {
        let place = &recorded.place;
        let frame = decode(&recorded);
        for codec in [Codec::Json, Codec::Binary] {
            // Two in one buffer: the second must not disturb the first.
            let mut out = Vec::new();
            for _ in 0..2 {
                let mut writer = if frame.header.is_response() {
                    FrameWriter::response(
                        &mut out,
                        codec,
                        ResponseCode(frame.header.code),
                        frame.header.opaque,
                    )
                } else {
                    let (code, oneway) = (frame.header.request_code(), frame.header.is_oneway());
                    FrameWriter::request(&mut out, codec, code, frame.header.opaque, oneway)
                };
                writer = writer.language(frame.header.language).version(frame.header.version);
                for (key, value) in &frame.header.fields {
                    writer.put_text(&key.cow(), value);
                }
                if let Some(remark) = frame.header.remark {
                    writer.put_remark(&remark.cow());
                }
                writer.body(frame.body);
            }
            let (again, len) = Frame::decode(&out).unwrap().unwrap();
            assert_eq!(out[..len], out[len..], "{place}");
            assert_eq!(again.header.opaque, frame.header.opaque, "{place}");
            assert_eq!(again.header.flag, frame.header.flag, "{place}");
            assert_eq!(again.header.version, frame.header.version, "{place}");
            assert_eq!(again.header.language, frame.header.language, "{place}");
            assert_eq!(again.body, frame.body, "{place}");
            if frame.header.is_response() {
                assert_eq!(again.header.code, frame.header.code, "{place}");
            } else {
                assert_eq!(again.header.request_code(), frame.header.request_code(), "{place}");
            }
            // Null and empty are the same in the binary codec.
            let (mut expected, mut remark) = (fields(&frame.header), frame.header.remark);
            if codec == Codec::Binary {
                expected.retain(|_, value| !value.is_empty());
                remark = remark.filter(|remark| !remark.is_empty());
            }
            assert_eq!(fields(&again.header), expected, "{place}");
            assert_eq!(again.header.remark, remark, "{place}");
        }
    }
}

/// Fields that no header names: authentication, namespaces and the like, which are read one by one if at all.
const COMMON: &[&str] =
    &["AccessKey", "Signature", "SecurityToken", "OnsChannel", "bname", "ns", "nsd", "oway", "lo", "ReqT"];

#[test]
fn typed_headers_know_every_recorded_field() {
    let mut covered = BTreeMap::new();
    for recorded in frames() {
        let place = &recorded.place;
        let frame = decode(&recorded);
        let Some(request) = request_code(&recorded, &frame) else { continue };
        let response = frame.header.is_response();
        let mut expected = fields(&frame.header);
        // Only errors come without the fields of their header.
        if response && frame.header.response_code() != ResponseCode::SUCCESS && expected.len() < 4 {
            continue;
        }
        let Some(result) = typed::recode(request, response, &frame.header.fields) else { continue };
        let encoded: BTreeMap<_, _> =
            result.unwrap_or_else(|error| panic!("{place}: {error}")).into_iter().collect();
        *covered.entry((request.0, response)).or_insert(0) += 1;
        expected.retain(|key, value| {
            !COMMON.contains(&key.as_str()) && (!value.is_empty() || encoded.contains_key(key))
        });
        for (key, value) in expected {
            let again =
                encoded.get(&key).unwrap_or_else(|| panic!("{place}: {request:?} does not know {key}"));
            // Old clients write booleans as 0 and 1, which Java reads as false.
            assert!(
                *again == value || (again == "false" && ["0", "1"].contains(&&value[..])),
                "{place}: {key}"
            );
        }
    }
    let kinds = covered.len();
    assert!(kinds > 60, "{kinds} kinds of headers: {covered:?}");
}

fn value_of(json: &[u8], place: &str) -> Value {
    from_slice(json).unwrap_or_else(|error| panic!("{place}: {error}"))
}

/// Reads a body as `T` and writes it again: nothing may be lost.
fn check<T: DeserializeOwned>(body: &[u8], place: &str, encode: impl Fn(&T) -> Vec<u8>) {
    let typed: T = from_slice(body).unwrap_or_else(|error| panic!("{place}: {error}"));
    let again = encode(&typed);
    let (again, original) = (value_of(&again, place), value_of(body, place));
    assert!(contains(&again, &original), "{place}:\n{original}\n{again}");
}

/// Whether `typed` has all that `original` has. Defaults may be added, and C++ clients put numbers into quotes.
fn contains(typed: &Value, original: &Value) -> bool {
    match (typed, original) {
        (Value::Object(typed), Value::Object(original)) => {
            original.iter().all(|(key, value)| typed.get(key).is_some_and(|typed| contains(typed, value)))
        }
        (Value::Array(typed), Value::Array(original)) => {
            typed.len() == original.len() && typed.iter().zip(original).all(|(t, o)| contains(t, o))
        }
        // An enum that was sent as its ordinal.
        (Value::String(name), Value::Number(_)) => name.starts_with("CONSUME_") || name.ends_with("ING"),
        (Value::Number(typed), Value::String(original)) => typed.to_string() == *original,
        (typed, original) => typed == original,
    }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    java_json::to_vec(value)
}

#[test]
fn bodies_lose_nothing() {
    let mut checked = BTreeMap::new();
    for recorded in frames() {
        let place = &recorded.place[..];
        let frame = decode(&recorded);
        let body = frame.body;
        let response = frame.header.is_response();
        let Some(request) = request_code(&recorded, &frame) else { continue };
        if body.is_empty() || (response && frame.header.code != 0) {
            continue;
        }
        match (request, response) {
            (RequestCode::GET_ROUTEINFO_BY_TOPIC, true) => {
                check(body, place, TopicRouteData::encode_unquoted);
                check(body, place, TopicRouteData::encode_quoted);
            }
            (RequestCode::GET_BROKER_CLUSTER_INFO, true) => check::<ClusterInfo>(body, place, json),
            (RequestCode::REGISTER_BROKER, false) => check(body, place, RegisterBrokerBody::encode),
            (RequestCode::REGISTER_BROKER | RequestCode::GET_BROKER_RUNTIME_INFO, true) => {
                check::<KvTable>(body, place, json);
            }
            (RequestCode::GET_KVLIST_BY_NAMESPACE, true) => check::<KvTable>(body, place, json),
            (RequestCode::HEART_BEAT, false) => check::<HeartbeatData>(body, place, json),
            (RequestCode::CHECK_CLIENT_CONFIG, false) => check::<CheckClientBody>(body, place, json),
            (RequestCode::LOCK_BATCH_MQ | RequestCode::UNLOCK_BATCH_MQ, false) => {
                check::<LockBatchRequest>(body, place, json);
            }
            (RequestCode::LOCK_BATCH_MQ, true) => check::<LockBatchResponse>(body, place, json),
            (RequestCode::GET_CONSUMER_LIST_BY_GROUP, true) => check::<ConsumerList>(body, place, json),
            (RequestCode::GET_CONSUMER_CONNECTION_LIST, true) => {
                check::<ConsumerConnection>(body, place, json)
            }
            (RequestCode::GET_PRODUCER_CONNECTION_LIST, true) => {
                check::<ProducerConnection>(body, place, json)
            }
            (RequestCode::GET_ALL_PRODUCER_INFO, true) => check::<ProducerTable>(body, place, json),
            (RequestCode::QUERY_TOPIC_CONSUME_BY_WHO, true) => check::<GroupList>(body, place, json),
            (
                RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER
                | RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER
                | RequestCode::GET_TOPICS_BY_CLUSTER,
                true,
            ) => check::<TopicList>(body, place, json),
            (RequestCode::GET_ALL_TOPIC_CONFIG, true) => check::<TopicConfigTable>(body, place, json),
            (RequestCode::GET_TOPIC_CONFIG, true) => check::<TopicConfig>(body, place, json),
            (RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, true) => {
                check::<SubscriptionGroupTable>(body, place, json);
            }
            (RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, false) => {
                check::<SubscriptionGroupConfig>(body, place, json);
            }
            (RequestCode::GET_TOPIC_STATS_INFO, true) => check(body, place, TopicStats::encode),
            (RequestCode::GET_CONSUME_STATS, true) => check(body, place, ConsumeStats::encode),
            (RequestCode::GET_BROKER_CONSUME_STATS, true) => check(body, place, BrokerConsumeStats::encode),
            (RequestCode::GET_ALL_CONSUMER_OFFSET, true) => {
                let table: ConsumerOffsetTable = from_slice(body).expect(place);
                assert!(!table.offset_table.is_empty(), "{place}");
            }
            (RequestCode::GET_ALL_DELAY_OFFSET, true) => check::<DelayOffsetTable>(body, place, json),
            (RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, true) => {
                check(body, place, ResetOffsetTable::encode)
            }
            (RequestCode::QUERY_ASSIGNMENT, false) => check::<QueryAssignmentRequest>(body, place, json),
            (RequestCode::QUERY_ASSIGNMENT, true) => check::<QueryAssignmentResponse>(body, place, json),
            (RequestCode::SET_MESSAGE_REQUEST_MODE, false) => {
                check::<SetMessageRequestMode>(body, place, json)
            }
            (RequestCode::GET_ALL_MESSAGE_REQUEST_MODE, true) => {
                check::<MessageRequestModeTable>(body, place, json);
            }
            (RequestCode::CONSUME_MESSAGE_DIRECTLY, true) => {
                check::<ConsumeDirectlyResult>(body, place, json)
            }
            // Whatever else is JSON is at least read.
            _ if body[0] == b'{' && body.last() == Some(&b'}') => {
                value_of(body, place);
                continue;
            }
            _ => continue,
        }
        *checked.entry((request.0, response)).or_insert(0) += 1;
    }
    let kinds = checked.len();
    assert!(kinds > 25, "{kinds} kinds of bodies: {checked:?}");
}

/// A route for a new client and one for an old one are the same but for quotes, byte by byte.
#[test]
fn routes_are_written_as_java_writes_them() {
    let mut seen = [0, 0];
    for recorded in frames() {
        let frame = decode(&recorded);
        if request_code(&recorded, &frame) == Some(RequestCode::GET_ROUTEINFO_BY_TOPIC)
            && frame.header.is_response()
            && !frame.body.is_empty()
        {
            let route: TopicRouteData = from_slice(frame.body).unwrap();
            let quoted = frame.body.windows(4).any(|bytes| bytes == b"{\"0\"");
            let again = if quoted { route.encode_quoted() } else { route.encode_unquoted() };
            assert_eq!(
                String::from_utf8_lossy(&again),
                String::from_utf8_lossy(frame.body),
                "{}",
                recorded.place
            );
            seen[usize::from(quoted)] += 1;
        }
    }
    assert!(seen.iter().all(|&count| count > 5), "{seen:?}");
}

fn holds_records(recorded: &Recorded, frame: &Frame<'_>) -> bool {
    let Some(request) = request_code(recorded, frame) else { return false };
    let response = frame.header.is_response() && frame.header.code == 0;
    !frame.body.is_empty()
        && match request {
            RequestCode::PULL_MESSAGE
            | RequestCode::LITE_PULL_MESSAGE
            | RequestCode::QUERY_MESSAGE
            | RequestCode::VIEW_MESSAGE_BY_ID
            | RequestCode::POP_MESSAGE => response,
            RequestCode::CHECK_TRANSACTION_STATE => true,
            RequestCode::CONSUME_MESSAGE_DIRECTLY => !frame.header.is_response() && frame.body[0] == 0,
            _ => false,
        }
}

#[test]
fn stored_messages_are_read_and_written_byte_by_byte() {
    let mut count = 0;
    for recorded in frames() {
        let place = &recorded.place;
        let frame = decode(&recorded);
        if !holds_records(&recorded, &frame) {
            continue;
        }
        for record in records(frame.body) {
            let record = record.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(record.body_is_intact(), "{place}");
            let fields = record.fields();
            let mut again = vec![0xee; fields.encoded_len()];
            fields.encode_into(&mut again);
            stamp(&mut again, record.queue_offset(), record.physical_offset(), record.store_timestamp());
            assert_eq!(again, record.bytes(), "{place}");
            assert!(record.properties().find("UNIQ_KEY").is_some(), "{place}");
            count += 1;
        }
    }
    assert!(count > 150, "{count} records");
}

#[test]
fn batches_are_read_and_written_byte_by_byte() {
    let mut count = 0;
    for recorded in frames() {
        let frame = decode(&recorded);
        let code = frame.header.request_code();
        let is_batch = |name| frame.header.fields.find(name).is_some_and(|batch| batch.parse_bool());
        if frame.header.is_response()
            || !(code == RequestCode::SEND_BATCH_MESSAGE
                || code == RequestCode::SEND_MESSAGE_V2 && is_batch("m"))
        {
            continue;
        }
        let mut again = Vec::new();
        for entry in batch::entries(frame.body) {
            entry.unwrap_or_else(|error| panic!("{}: {error}", recorded.place)).push_to(&mut again);
            count += 1;
        }
        assert_eq!(again, frame.body, "{}", recorded.place);
    }
    assert!(count > 10, "{count} entries");
}

/// What a broker stores of a send is what the Java broker stored: the client's text and its own additions.
#[test]
fn properties_of_sends_need_no_parsing_to_be_stored() {
    let mut count = 0;
    for recorded in frames() {
        let frame = decode(&recorded);
        if frame.header.is_response() || frame.header.request_code() != RequestCode::SEND_MESSAGE_V2 {
            continue;
        }
        let Some(client) = frame.header.fields.find("i") else { continue };
        let additions = [("MSG_REGION", "DefaultRegion"), ("TRACE_ON", "true")];
        let source = PropertiesSource { client, dropped: &["WAIT"], additions: &additions };
        let mut stored = vec![0; source.encoded_len()];
        assert_eq!(source.encode_into(&mut stored), stored.len());
        let plain = client.cow();
        // The 4.x client leaves out the last separator.
        let pairs = plain.split_terminator('\u{2}').filter(|pair| !pair.starts_with("WAIT\u{1}"));
        let expected: String = pairs.map(|pair| format!("{pair}\u{2}")).collect();
        let expected = expected + "MSG_REGION\u{1}DefaultRegion\u{2}TRACE_ON\u{1}true\u{2}";
        assert_eq!(String::from_utf8(stored).unwrap(), expected, "{}", recorded.place);
        count += 1;
    }
    assert!(count > 80, "{count} sends");
}

/// A prefix of a frame is incomplete, never a frame.
#[test]
fn every_truncated_frame_is_incomplete() {
    for recorded in frames() {
        for len in 0..recorded.bytes.len() {
            assert!(matches!(Frame::decode(&recorded.bytes[..len]), Ok(None)), "{} to {len}", recorded.place);
        }
    }
}

/// A header that was cut off, in a frame whose lengths agree, is an error; but for white space at its end.
#[test]
fn every_truncated_header_is_an_error() {
    for recorded in frames() {
        let whole = decode(&recorded);
        let header_len = recorded.bytes.len() - 8 - whole.body.len();
        for len in 0..header_len {
            let mut bytes = recorded.bytes[..8 + len].to_vec();
            bytes[..4].copy_from_slice(&(4 + len as u32).to_be_bytes());
            let codec = bytes[4];
            bytes[4..8].copy_from_slice(&(u32::from(codec) << 24 | len as u32).to_be_bytes());
            if let Ok(frame) = Frame::decode(&bytes) {
                let rest = &recorded.bytes[8 + len..8 + header_len];
                assert!(rest.iter().all(u8::is_ascii_whitespace), "{} to {len}", recorded.place);
                assert_eq!(fields(&frame.unwrap().0.header), fields(&whole.header), "{}", recorded.place);
            }
        }
    }
}

#[test]
fn every_truncated_body_is_an_error() {
    for recorded in frames() {
        let frame = decode(&recorded);
        if holds_records(&recorded, &frame) {
            let ends: Vec<usize> = records(frame.body)
                .scan(0, |end, record| {
                    *end += record.unwrap().total_len();
                    Some(*end)
                })
                .collect();
            for len in 1..frame.body.len() {
                let whole = records(&frame.body[..len]).all(|record| record.is_ok());
                assert_eq!(whole, ends.contains(&len), "{} to {len}", recorded.place);
            }
        } else if frame.body.first() == Some(&b'{')
            && frame.body.last() == Some(&b'}')
            && frame.body.len() < 2000
        {
            for len in 0..frame.body.len() {
                assert!(from_slice::<Value>(&frame.body[..len]).is_err(), "{} to {len}", recorded.place);
            }
        }
    }
}

#[test]
fn languages_of_the_recorded_clients_are_known() {
    for recorded in frames() {
        assert_ne!(decode(&recorded).header.language, Language::UNKNOWN, "{}", recorded.place);
    }
}
