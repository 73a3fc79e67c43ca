//! What is written is read back, for values that nobody thought of.

#[path = "support/typed.rs"]
mod typed;

use std::net::{IpAddr, SocketAddr};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use rmq_protocol::batch::{self, BatchEntry};
use rmq_protocol::body::*;
use rmq_protocol::message_id::{MESSAGE_ID_LEN_MAX, MessageId};
use rmq_protocol::properties::{Properties, PropertiesSource, push_property};
use rmq_protocol::record::{RecordFields, RecordRef, records, stamp};
use rmq_protocol::{
    Codec, Frame, FrameWriter, Language, RequestCode, ResponseCode, Text, java_json, lenient_json,
};

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::Json), Just(Codec::Binary)]
}

/// Names of fields are never escaped.
fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z_0-9]{1,12}"
}

fn host() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

fn properties() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(("[^\\x01\\x02]{1,8}", "[^\\x02]{1,8}"), 0..6)
}

proptest! {
    #[test]
    fn frames(
        codec in codec(),
        code in any::<i16>(),
        opaque: i32,
        version in 0i32..700,
        language in 0u8..14,
        remark in proptest::option::of(".{1,40}"),
        fields in vec((name(), "(?s).{1,40}"), 0..24),
        body in vec(any::<u8>(), 0..100),
    ) {
        let mut out = b"before".to_vec();
        let mut writer = FrameWriter::response(&mut out, codec, ResponseCode(i32::from(code)), opaque)
            .language(Language(language))
            .version(version);
        for (at, (name, value)) in fields.iter().enumerate() {
            // The remark may come at any point.
            if let (Some(remark), true) = (&remark, at == fields.len() / 2) {
                writer.put_remark(remark);
            }
            writer.put_field(name, value);
        }
        if let (Some(remark), true) = (&remark, fields.is_empty()) {
            writer.put_remark(remark);
        }
        writer.body(&body);
        let (frame, len) = Frame::decode(&out[6..]).unwrap().unwrap();
        prop_assert_eq!(len + 6, out.len());
        let header = &frame.header;
        prop_assert_eq!(header.response_code(), ResponseCode(i32::from(code)));
        prop_assert_eq!((header.opaque, header.version, header.language), (opaque, version, Language(language)));
        prop_assert_eq!(header.remark.map(|remark| remark.to_string()), remark);
        let found: Vec<_> = header.fields.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        prop_assert_eq!(found, fields);
        prop_assert_eq!(frame.body, &body[..]);
    }

    #[test]
    fn texts(plain in "(?s).{0,40}", also in "(?s).{0,5}") {
        let mut out = Vec::new();
        FrameWriter::request(&mut out, Codec::Json, RequestCode(1), 0, false).field("f", &plain).finish();
        let (frame, _) = Frame::decode(&out).unwrap().unwrap();
        let text = frame.header.fields.find("f").unwrap();
        prop_assert_eq!(text, plain.as_str());
        prop_assert_eq!(text == *also, plain == also);
        prop_assert_eq!(text == Text::new(&also), plain == also);
        prop_assert_eq!(text.len_unescaped(), plain.len());
        let mut copy = vec![0; plain.len()];
        prop_assert_eq!(text.copy_to(&mut copy), plain.len());
        prop_assert_eq!(&copy, plain.as_bytes());
        prop_assert_eq!(text.parse_i64().ok(), plain.parse().ok());
    }

    #[test]
    fn numbers(value: i64) {
        let mut out = Vec::new();
        FrameWriter::request(&mut out, Codec::Json, RequestCode(1), 0, false).field_int("f", value).finish();
        let (frame, _) = Frame::decode(&out).unwrap().unwrap();
        prop_assert_eq!(frame.header.fields.find("f").unwrap().parse_i64(), Ok(value));
    }

    /// Any fields at all make a header or an error, and a header that encodes to itself.
    #[test]
    fn typed_headers(
        request in prop_oneof![(0i32..1100), (200_000i32..200_200)],
        response: bool,
        names in vec(
            proptest::sample::select(vec![
                "topic", "queueId", "consumerGroup", "group", "offset", "timestamp", "a", "b", "d", "g", "producerGroup",
                "brokerName", "clusterName", "perm", "order", "msgId", "isForce",
            ]),
            0..14,
        ),
        values in vec(prop_oneof!["-?[0-9]{1,20}", "true|false", ".{0,5}"], 14),
    ) {
        let mut out = Vec::new();
        let mut writer = FrameWriter::request(&mut out, Codec::Json, RequestCode(request), 0, false);
        for (name, value) in names.iter().zip(&values) {
            writer.put_field(name, value);
        }
        writer.finish();
        let (frame, _) = Frame::decode(&out).unwrap().unwrap();
        typed::recode(RequestCode(request), response, &frame.header.fields);
    }

    #[test]
    fn stored_messages(
        numbers in (any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>()),
        longs in (any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>()),
        hosts in (host(), host()),
        body in vec(any::<u8>(), 0..200),
        topic in "[a-z%|é]{0,200}",
        client in properties(),
    ) {
        let mut text = Vec::new();
        for (key, value) in &client {
            push_property(&mut text, key, value);
        }
        let fields = RecordFields {
            queue_id: numbers.0,
            flag: numbers.1,
            sys_flag: numbers.2,
            born_timestamp: longs.0,
            born_host: hosts.0,
            store_host: hosts.1,
            reconsume_times: numbers.3,
            prepared_transaction_offset: longs.1,
            body: &body,
            topic: &topic,
            properties: PropertiesSource::client(Text::plain(&text)),
        };
        let mut bytes = vec![0xee; fields.encoded_len()];
        fields.encode_into(&mut bytes);
        stamp(&mut bytes, longs.2, longs.3, longs.4);
        let record = RecordRef::parse(&bytes).unwrap();
        prop_assert_eq!((record.queue_id(), record.flag(), record.reconsume_times()), (numbers.0, numbers.1, numbers.3));
        prop_assert_eq!(record.sys_flag() & !0x30, numbers.2 & !0x30);
        prop_assert_eq!((record.born_timestamp(), record.prepared_transaction_offset()), (longs.0, longs.1));
        prop_assert_eq!((record.queue_offset(), record.physical_offset()), (longs.2, longs.3));
        prop_assert_eq!(record.store_timestamp(), longs.4);
        prop_assert_eq!((record.born_host(), record.store_host()), hosts);
        prop_assert_eq!((record.body(), record.topic()), (&body[..], &topic[..]));
        prop_assert!(record.body_is_intact());
        let found: Vec<_> = record
            .properties()
            .iter()
            .map(|(k, v)| (String::from_utf8(k.to_vec()).unwrap(), String::from_utf8(v.to_vec()).unwrap()))
            .collect();
        prop_assert_eq!(found, client);
        let twice = [&bytes[..], &bytes].concat();
        prop_assert_eq!(records(&twice).filter(|record| record.is_ok()).count(), 2);
    }

    #[test]
    fn damaged_records_never_panic(at in 0usize..120, value: u8, len in 0usize..120) {
        let fields = RecordFields {
            queue_id: 1,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: "[fd00::1]:1".parse().unwrap(),
            store_host: "127.0.0.1:1".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"body",
            topic: "topic",
            properties: PropertiesSource::default(),
        };
        let mut bytes = vec![0; fields.encoded_len()];
        fields.encode_into(&mut bytes);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        bytes.truncate(len);
        if let Ok(record) = RecordRef::parse(&bytes) {
            prop_assert_eq!(record.total_len(), bytes.len());
        }
    }

    #[test]
    fn batches(messages in vec((any::<i32>(), vec(any::<u8>(), 0..50), properties()), 0..6)) {
        let texts: Vec<Vec<u8>> = messages
            .iter()
            .map(|(_, _, properties)| {
                let mut text = Vec::new();
                properties.iter().for_each(|(key, value)| push_property(&mut text, key, value));
                text
            })
            .collect();
        let expected: Vec<_> = messages
            .iter()
            .zip(&texts)
            .map(|((flag, body, _), text)| BatchEntry { flag: *flag, body, properties: Properties(text) })
            .collect();
        let mut out = Vec::new();
        expected.iter().for_each(|entry| entry.push_to(&mut out));
        let found: Result<Vec<_>, _> = batch::entries(&out).collect();
        prop_assert_eq!(found, Ok(expected));
    }

    #[test]
    fn message_ids(host in host(), offset: i64) {
        let id = MessageId::new(host, offset);
        let mut out = [0; MESSAGE_ID_LEN_MAX];
        prop_assert_eq!(MessageId::parse(id.write(&mut out)), Some(id));
    }

    #[test]
    fn any_text_is_no_message_id_or_one(text in "(?s).{0,60}") {
        MessageId::parse(&text);
    }

    #[test]
    fn routes(
        brokers in btree_map(any::<i64>(), "(?s).{0,10}", 0..4),
        names in vec("(?s).{0,10}", 3),
        queues in vec((any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>()), 0..4),
        order in proptest::option::of("(?s).{0,10}"),
    ) {
        let route = TopicRouteData {
            broker_datas: vec![BrokerData {
                broker_addrs: brokers,
                broker_name: names[0].clone(),
                cluster: names[1].clone(),
                enable_acting_master: true,
                zone_name: None,
            }],
            queue_datas: queues
                .iter()
                .map(|&(perm, read_queue_nums, topic_sys_flag, write_queue_nums)| QueueData {
                    broker_name: names[2].clone(),
                    perm,
                    read_queue_nums,
                    topic_sys_flag,
                    write_queue_nums,
                })
                .collect(),
            order_topic_conf: order,
            ..TopicRouteData::default()
        };
        prop_assert_eq!(lenient_json::from_slice::<TopicRouteData>(&route.encode_unquoted()), Ok(route.clone()));
        prop_assert!(route.encode_quoted().is_ascii());
        prop_assert_eq!(serde_json::from_slice::<TopicRouteData>(&route.encode_quoted()).unwrap(), route);
    }

    /// Standard JSON means the same to us as to a strict reader; nulls aside, which count as absent.
    #[test]
    fn lenient_json_reads_standard_json(table in btree_map("(?s).{0,10}", vec(any::<Option<i64>>(), 0..4), 0..4)) {
        let text = serde_json::to_vec(&table).unwrap();
        prop_assert_eq!(lenient_json::from_slice(&text), Ok(table.clone()));
        prop_assert_eq!(lenient_json::from_slice(&java_json::to_vec(&table)), Ok(table));
    }

    #[test]
    fn any_bytes_are_no_frame_or_one(mut bytes in vec(any::<u8>(), 8..80), codec in 0u8..3) {
        let len = bytes.len();
        bytes[..4].copy_from_slice(&(len as u32 - 4).to_be_bytes());
        bytes[4..7].copy_from_slice(&[codec, 0, 0]);
        if let Ok(Some((frame, consumed))) = Frame::decode(&bytes) {
            prop_assert_eq!(consumed, len);
            frame.header.fields.iter().for_each(|(key, value)| drop((key.cow(), value.cow())));
        }
    }

    #[test]
    fn json_like_headers_never_panic(header in r#"\{("[a-f\\]{0,3}"|'[a-z]'|code|extFields|[0-9\-]{1,3}|null|[:,{}\[\] ]){0,20}\}"#) {
        let mut bytes = (4 + header.len() as u32).to_be_bytes().to_vec();
        bytes.extend((header.len() as u32).to_be_bytes());
        bytes.extend(header.as_bytes());
        if let Ok(Some((frame, _))) = Frame::decode(&bytes) {
            frame.header.fields.iter().for_each(|(key, value)| drop((key.cow(), value.cow())));
        }
    }
}
