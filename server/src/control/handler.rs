//! From a frame to its answer: the complete table of request codes that the control thread serves.
//!
//! Every request gets exactly one answer, unless it is one-way. A handler that panics is a fault of ours: the
//! request is answered, the connection closed, the rest goes on.

pub mod assignment;
pub mod broker;
pub mod client;
pub mod group;
pub mod housekeeping;
pub mod order;
pub mod relay;
pub mod reply;
pub mod rewind;
pub mod runtime;
pub mod stats;
pub mod timer;
pub mod topic;
pub mod views;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_lite::FutureExt;
use rmq_protocol::frame::Frame;
use rmq_protocol::header::Header;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;

use super::answer::{Answer, Outcome, Refusal};
use super::link::ConnectionId;
use super::state::State;

/// One request as handlers see it.
pub struct Request<'f> {
    pub connection: ConnectionId,
    pub peer: SocketAddr,
    pub header: Header<'f>,
    pub body: &'f [u8],
}

/// Answers one whole frame. What happens before the first wait happens in the order of arrival.
pub async fn serve(state: Rc<State>, connection: ConnectionId, peer: SocketAddr, frame: Vec<u8>) {
    let Ok(Some((Frame { header, body }, _))) = Frame::decode(&frame) else {
        // The shard has decoded it before: it would have closed the connection itself.
        tracing::error!("a shard passed on a frame from {peer} that is none; the connection is closed");
        return state.links.close(connection);
    };
    let _serving = state.serving.begin(connection);
    let request = Request { connection, peer, header, body };
    let outcome = AssertUnwindSafe(dispatch(&state, &request)).catch_unwind().await;
    let panicked = outcome.is_err();
    let outcome = outcome.unwrap_or_else(|_| Err(Refusal::system_error("the broker failed at this request")));
    if !header.is_oneway() {
        state.links.send(connection, encode(&header, outcome));
    }
    if panicked {
        tracing::error!("request {} from {peer} made its handler panic", header.code);
        state.links.close(connection);
    }
}

async fn dispatch(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    match request.header.request_code() {
        RequestCode::HEART_BEAT => client::heartbeat(state, request).await,
        RequestCode::UNREGISTER_CLIENT => client::unregister(state, request).await,
        RequestCode::GET_CONSUMER_LIST_BY_GROUP => client::consumer_ids(state, request),
        RequestCode::CHECK_CLIENT_CONFIG => client::check_config(state, request),
        RequestCode::GET_CONSUMER_CONNECTION_LIST => client::consumer_connections(state, request),
        RequestCode::GET_PRODUCER_CONNECTION_LIST => client::producer_connections(state, request),
        RequestCode::GET_ALL_PRODUCER_INFO => client::all_producers(state),
        RequestCode::QUERY_ASSIGNMENT => assignment::query(state, request).await,
        RequestCode::SET_MESSAGE_REQUEST_MODE => assignment::set_mode(state, request).await,
        RequestCode::GET_ALL_MESSAGE_REQUEST_MODE => assignment::all_modes(state),
        // From Java's other store of pop state to this one: there is no other here, and so nothing to move.
        RequestCode::POP_ROLLBACK => Ok(Answer::empty()),
        RequestCode::LOCK_BATCH_MQ => order::lock(state, request).await,
        RequestCode::UNLOCK_BATCH_MQ => order::unlock(state, request).await,
        RequestCode::UPDATE_AND_CREATE_TOPIC => topic::update(state, request).await,
        RequestCode::UPDATE_AND_CREATE_TOPIC_LIST => topic::update_list(state, request).await,
        RequestCode::DELETE_TOPIC_IN_BROKER => topic::delete(state, request).await,
        RequestCode::GET_ALL_TOPIC_CONFIG => topic::all(state, request),
        RequestCode::GET_TOPIC_CONFIG => topic::one(state, request),
        RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER => topic::system_topics(state),
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP => group::update(state, request).await,
        RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST => group::update_list(state, request).await,
        RequestCode::DELETE_SUBSCRIPTIONGROUP => group::delete(state, request).await,
        RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => group::all(state, request),
        RequestCode::GET_SUBSCRIPTIONGROUP_CONFIG => group::one(state, request).await,
        RequestCode::GET_TOPIC_STATS_INFO => stats::topic(state, request).await,
        RequestCode::GET_CONSUME_STATS => stats::consumption(state, request).await,
        RequestCode::QUERY_TOPIC_CONSUME_BY_WHO => stats::groups_of_topic(state, request).await,
        RequestCode::QUERY_TOPICS_BY_CONSUMER => stats::topics_of_group(state, request).await,
        RequestCode::QUERY_SUBSCRIPTION_BY_CONSUMER => stats::subscription(state, request),
        RequestCode::GET_ALL_CONSUMER_OFFSET => stats::all_offsets(state).await,
        RequestCode::GET_ALL_DELAY_OFFSET => stats::delay_offsets(state).await,
        RequestCode::GET_TIMER_CHECK_POINT => timer::checkpoint(state).await,
        RequestCode::GET_TIMER_METRICS => timer::metrics(state).await,
        RequestCode::GET_BROKER_RUNTIME_INFO => runtime::info(state).await,
        RequestCode::GET_BROKER_CONFIG => broker::config(state),
        RequestCode::UPDATE_BROKER_CONFIG => broker::update(state, request).await,
        RequestCode::SEND_REPLY_MESSAGE | RequestCode::SEND_REPLY_MESSAGE_V2 => {
            reply::send(state, request).await
        }
        RequestCode::GET_CONSUMER_RUNNING_INFO => relay::running_info(state, request).await,
        RequestCode::CONSUME_MESSAGE_DIRECTLY => relay::consume_directly(state, request).await,
        RequestCode::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => relay::consumer_status(state, request).await,
        RequestCode::INVOKE_BROKER_TO_RESET_OFFSET => rewind::reset(state, request).await,
        RequestCode::QUERY_CONSUME_TIME_SPAN => views::time_span(state, request).await,
        RequestCode::QUERY_CORRECTION_OFFSET => views::correction_offset(state, request).await,
        RequestCode::VIEW_BROKER_STATS_DATA => views::stats_data(state, request),
        RequestCode::GET_BROKER_CONSUME_STATS => views::broker_consumption(state, request).await,
        RequestCode::QUERY_CONSUME_QUEUE => views::consume_queue(state, request).await,
        RequestCode::UPDATE_AND_GET_GROUP_FORBIDDEN => group::forbid(state, request).await,
        RequestCode::CLEAN_EXPIRED_CONSUMEQUEUE => housekeeping::clean_queues(),
        RequestCode::CLEAN_UNUSED_TOPIC => housekeeping::clean_topics(state).await,
        RequestCode::DELETE_EXPIRED_COMMITLOG => housekeeping::delete_segments(state).await,
        RequestCode::CLONE_GROUP_OFFSET => rewind::clone_offsets(state, request).await,
        code => Err(Refusal::new(
            ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            format!(" request type {} not supported", code.0),
        )),
    }
}

fn encode(request: &Header<'_>, outcome: Outcome) -> Vec<u8> {
    let mut frame = Vec::new();
    match outcome {
        Ok(Answer { relayed: Some(of_client), .. }) => relay::encode(&mut frame, request, &of_client),
        Ok(Answer { code, remark, fields, body, relayed: None }) => {
            let mut writer = FrameWriter::response(&mut frame, request.codec, code, request.opaque);
            if let Some(remark) = remark {
                writer.put_remark(&remark);
            }
            for (name, value) in &fields {
                writer.put_field(name, value);
            }
            writer.body(&body);
        }
        Err(Refusal { code, remark }) => {
            FrameWriter::response(&mut frame, request.codec, code, request.opaque).remark(&remark).finish();
        }
    }
    frame
}
