//! Which typed header belongs to which code, for tests and for the fuzzer.

use rmq_protocol::headers::*;
use rmq_protocol::{Codec, Fields, Frame, FrameWriter, RequestCode, ResponseCode};

type Pairs = Vec<(String, String)>;

/// Decodes the fields as the header of a request or of its response, and returns what encoding that header yields;
/// `None` where there is no typed header.
pub fn recode(
    request: RequestCode,
    response: bool,
    fields: &Fields<'_>,
) -> Option<Result<Pairs, HeaderError>> {
    macro_rules! recode {
        ($type:ident) => {
            $type::decode(fields).map(|header| {
                let pairs = encoded(|writer| header.encode(writer));
                is_stable(&pairs, |fields| {
                    $type::decode(fields).map(|again| encoded(|writer| again.encode(writer)))
                });
                pairs
            })
        };
    }
    macro_rules! table {
        ($($request:ident $(| $more:ident)* => $type:ident $(, $response:ident)?;)*) => {
            match request {
                $(RequestCode::$request $(| RequestCode::$more)* if !response => Some(recode!($type)),)*
                $($(RequestCode::$request if response => Some(recode!($response)),)?)*
                _ => None,
            }
        };
    }
    let found = table! {
        PULL_MESSAGE | LITE_PULL_MESSAGE => PullMessageHeader, PullMessageResponseHeader;
        QUERY_MESSAGE => QueryMessageHeader, QueryMessageResponseHeader;
        QUERY_CONSUMER_OFFSET => QueryConsumerOffsetHeader, OffsetResponseHeader;
        UPDATE_CONSUMER_OFFSET => UpdateConsumerOffsetHeader;
        UPDATE_AND_CREATE_TOPIC => CreateTopicHeader;
        GET_ALL_TOPIC_CONFIG => GetAllTopicsHeader, GetAllTopicsResponseHeader;
        SEARCH_OFFSET_BY_TIMESTAMP => SearchOffsetHeader, OffsetResponseHeader;
        GET_MAX_OFFSET => QueueHeader, OffsetResponseHeader;
        GET_MIN_OFFSET => QueueHeader, OffsetResponseHeader;
        GET_EARLIEST_MSG_STORETIME => QueueHeader, TimestampResponseHeader;
        VIEW_MESSAGE_BY_ID => ViewMessageHeader;
        UNREGISTER_CLIENT => UnregisterClientHeader;
        CONSUMER_SEND_MSG_BACK => ConsumerSendBackHeader;
        END_TRANSACTION => EndTransactionHeader;
        GET_CONSUMER_LIST_BY_GROUP | NOTIFY_CONSUMER_IDS_CHANGED | GET_CONSUMER_CONNECTION_LIST => ConsumerGroupHeader;
        CHECK_TRANSACTION_STATE => CheckTransactionHeader;
        PUT_KV_CONFIG => PutKvHeader;
        GET_KV_CONFIG => KvHeader, GetKvResponseHeader;
        DELETE_KV_CONFIG => KvHeader;
        REGISTER_BROKER => RegisterBrokerHeader, RegisterBrokerResponseHeader;
        UNREGISTER_BROKER => UnregisterBrokerHeader;
        GET_ROUTEINFO_BY_TOPIC => GetRouteHeader;
        WIPE_WRITE_PERM_OF_BROKER => BrokerNameHeader, WipeWritePermResponseHeader;
        ADD_WRITE_PERM_OF_BROKER => BrokerNameHeader, AddWritePermResponseHeader;
        DELETE_TOPIC_IN_NAMESRV | REGISTER_TOPIC_IN_NAMESRV => NamesrvTopicHeader;
        GET_KVLIST_BY_NAMESPACE => NamespaceHeader;
        GET_TOPICS_BY_CLUSTER => ClusterHeader;
        QUERY_DATA_VERSION => QueryDataVersionHeader, QueryDataVersionResponseHeader;
        GET_BROKER_MEMBER_GROUP => BrokerMemberGroupHeader;
        BROKER_HEARTBEAT => BrokerHeartbeatHeader;
        NOTIFY_MIN_BROKER_ID_CHANGE => MinBrokerIdHeader;
        GET_ALL_SUBSCRIPTIONGROUP_CONFIG => GetAllGroupsHeader, GetAllGroupsResponseHeader;
        GET_TOPIC_STATS_INFO | DELETE_TOPIC_IN_BROKER | QUERY_TOPIC_CONSUME_BY_WHO | GET_TOPIC_CONFIG => TopicHeader;
        GET_PRODUCER_CONNECTION_LIST => ProducerGroupHeader;
        DELETE_SUBSCRIPTIONGROUP => DeleteGroupHeader;
        GET_CONSUME_STATS => ConsumeStatsHeader;
        INVOKE_BROKER_TO_RESET_OFFSET | RESET_CONSUMER_CLIENT_OFFSET => ResetOffsetHeader;
        INVOKE_BROKER_TO_GET_CONSUMER_STATUS | GET_CONSUMER_STATUS_FROM_CLIENT => ConsumerStatusHeader;
        QUERY_CONSUME_TIME_SPAN | QUERY_SUBSCRIPTION_BY_CONSUMER => GroupTopicHeader;
        QUERY_TOPICS_BY_CONSUMER | GET_SUBSCRIPTIONGROUP_CONFIG => GroupHeader;
        GET_CONSUMER_RUNNING_INFO => ConsumerRunningInfoHeader;
        QUERY_CORRECTION_OFFSET => CorrectionOffsetHeader;
        CONSUME_MESSAGE_DIRECTLY => ConsumeDirectlyHeader;
        CLONE_GROUP_OFFSET => CloneGroupOffsetHeader;
        VIEW_BROKER_STATS_DATA => BrokerStatsHeader;
        GET_BROKER_CONSUME_STATS => BrokerConsumeStatsHeader;
        QUERY_CONSUME_QUEUE => QueryConsumeQueueHeader;
        RESUME_CHECK_HALF_MESSAGE => ResumeHalfMessageHeader;
        PUSH_REPLY_MESSAGE_TO_CLIENT => PushReplyHeader;
        UPDATE_AND_GET_GROUP_FORBIDDEN => GroupForbiddenHeader;
        RECALL_MESSAGE => RecallMessageHeader, RecallMessageResponseHeader;
        POP_MESSAGE => PopMessageHeader, PopMessageResponseHeader;
        ACK_MESSAGE => AckMessageHeader;
        PEEK_MESSAGE => PeekMessageHeader;
        CHANGE_MESSAGE_INVISIBLETIME => ChangeInvisibleTimeHeader, ChangeInvisibleTimeResponseHeader;
        NOTIFICATION => NotificationHeader, NotificationResponseHeader;
        POLLING_INFO => PollingInfoHeader, PollingInfoResponseHeader;
    };
    found.or_else(|| match request {
        RequestCode::SEND_MESSAGE
        | RequestCode::SEND_MESSAGE_V2
        | RequestCode::SEND_BATCH_MESSAGE
        | RequestCode::SEND_REPLY_MESSAGE
        | RequestCode::SEND_REPLY_MESSAGE_V2 => Some(if response {
            recode!(SendMessageResponseHeader)
        } else {
            SendMessageHeader::decode(request, fields).map(|header| {
                let pairs = encoded(|writer| header.encode(request, writer));
                is_stable(&pairs, |fields| {
                    SendMessageHeader::decode(request, fields)
                        .map(|again| encoded(|writer| again.encode(request, writer)))
                });
                pairs
            })
        }),
        RequestCode::HEART_BEAT if response => Some(recode!(HeartbeatResponseHeader)),
        RequestCode::LITE_PULL_MESSAGE if response => Some(recode!(PullMessageResponseHeader)),
        RequestCode::GET_BROKER_CONFIG if response => Some(recode!(BrokerConfigResponseHeader)),
        _ => None,
    })
}

fn encoded(encode: impl FnOnce(&mut FrameWriter<'_>)) -> Pairs {
    let mut out = Vec::new();
    let mut writer = FrameWriter::response(&mut out, Codec::Json, ResponseCode::SUCCESS, 0);
    encode(&mut writer);
    writer.finish();
    let (frame, _) = Frame::decode(&out).unwrap().unwrap();
    frame.header.fields.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// What was encoded decodes to a header that encodes to the same, in the other codec too.
fn is_stable(pairs: &Pairs, recode: impl Fn(&Fields<'_>) -> Result<Pairs, HeaderError>) {
    for codec in [Codec::Json, Codec::Binary] {
        let mut out = Vec::new();
        let mut writer = FrameWriter::response(&mut out, codec, ResponseCode::SUCCESS, 0);
        for (key, value) in pairs {
            writer.put_field(key, value);
        }
        writer.finish();
        let (frame, _) = Frame::decode(&out).unwrap().unwrap();
        // The binary codec has no empty texts: what was empty is gone, and that may be a mandatory field.
        if codec == Codec::Json || pairs.iter().all(|(_, value)| !value.is_empty()) {
            assert_eq!(recode(&frame.header.fields).as_ref(), Ok(pairs), "{codec}");
        }
    }
}
