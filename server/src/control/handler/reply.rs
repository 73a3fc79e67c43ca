//! SEND_REPLY_MESSAGE (324) and SEND_REPLY_MESSAGE_V2 (325): the answer of a request-reply pair on its way to the
//! client that asked. It is pushed to that client (326) and, unless switched off, stored like any message.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rmq_protocol::frame::Frame;
use rmq_protocol::headers::{HeaderError, PushReplyHeader, SendMessageHeader};
use rmq_protocol::properties::{PROPERTY_SEPARATOR, Properties, name, push_property};
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::text::Text;
use rmq_protocol::writer::FrameWriter;

use super::Request;
use crate::broker::message::Message;
use crate::broker::topic_name;
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::changes::Change;
use crate::control::client_calls::call;
use crate::control::link::{ShardAnswer, ShardQuery, TopicConfig, TopicOutcome, TopicRequest};
use crate::control::names;
use crate::control::state::State;
use crate::control::topics::PERM_WRITE;
use crate::ownership::Ownership;

const PUSH_LIMIT: Duration = Duration::from_secs(10);

/// As for every send, region and trace switch stand on each answer.
pub async fn send(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = match SendMessageHeader::decode(request.header.request_code(), &request.header.fields) {
        Err(HeaderError::Missing { field: "topic" | "b" }) if !request.header.fields.is_empty() => {
            Err(Refusal::invalid("The specified topic is blank."))
        }
        header => header.map_err(Refusal::from),
    };
    let answered = match header {
        Ok(header) => forward(state, request, &header).await,
        Err(refusal) => Err(refusal),
    };
    let answer = match answered {
        Ok(answer) => answer,
        Err(Refusal { code, remark }) => Answer { code, remark: Some(remark), ..Answer::default() },
    };
    Ok(answer.field("MSG_REGION", &state.settings.region).field("TRACE_ON", state.settings.trace_on))
}

async fn forward(state: &Rc<State>, request: &Request<'_>, header: &SendMessageHeader<'_>) -> Outcome {
    if state.now_ms() < state.settings.start_accept_send_ms {
        let until = state.settings.start_accept_send_ms;
        return Err(Refusal::system_error(format!("broker unable to service, until {until}")));
    }
    let topic = header.topic.cow();
    let queue = choose_queue(state, request, header, &topic).await?;
    if request.body.is_empty() {
        return Err(Refusal::system_error("the request has no body: a reply needs one"));
    }
    let mut properties = header.properties.cow().into_owned().into_bytes();
    if properties.last().is_some_and(|&last| last != PROPERTY_SEPARATOR) {
        properties.push(PROPERTY_SEPARATOR);
    }
    push_property(&mut properties, name::MSG_REGION, &state.settings.region);
    push_property(&mut properties, name::TRACE_ON, if state.settings.trace_on { "true" } else { "false" });
    // The reply is stored whether it reached its client or not, and neither needs the other.
    let (pushed, stored) = if state.settings.store_replies {
        let message = Message {
            topic: topic.clone().into_owned(),
            queue,
            flag: header.flag,
            // As in Java, which leaves the flags of the body behind.
            sys_flag: 0,
            born_timestamp: header.born_timestamp,
            born_host: request.peer,
            reconsume_times: header.reconsume_times,
            prepared_transaction_offset: 0,
            properties: properties.clone(),
            body: request.body.to_vec(),
        };
        let owner = Ownership::new(state.links.shards()).owner(&topic, queue);
        let store = state.links.query(owner, ShardQuery::Store { message: Box::new(message) });
        let (pushed, stored) = tokio::join!(push(state, request, header, &properties), store);
        (pushed, Some(stored))
    } else {
        (push(state, request, header, &properties).await, None)
    };

    let mut answer = Answer::empty();
    let pushed_well = pushed.is_ok();
    if let Err(remark) = pushed {
        tracing::warn!("{remark}");
        answer.code = ResponseCode::SYSTEM_ERROR;
        answer.remark = Some(remark);
    }
    match stored {
        Some(ShardAnswer::Stored { message_id, queue_offset }) => {
            Ok(answer.field("msgId", message_id).field("queueId", queue).field("queueOffset", queue_offset))
        }
        stored => {
            if let Some(ShardAnswer::Failed(remark)) = stored {
                tracing::warn!(remark, "a reply was not stored");
            }
            // Clients cannot read an answer without an id.
            let known =
                |answer: Answer| answer.field("msgId", "0").field("queueId", queue).field("queueOffset", 0);
            Ok(if pushed_well { known(answer) } else { answer })
        }
    }
}

/// Java's checks of a message, in its order; then the queue, which the broker chooses if the sender did not.
async fn choose_queue(
    state: &Rc<State>,
    request: &Request<'_>,
    header: &SendMessageHeader<'_>,
    topic: &str,
) -> Result<i32, Refusal> {
    let known = |state: &State| state.topics.borrow().find(topic).cloned();
    if state.settings.broker_permission & PERM_WRITE == 0 && known(state).is_some_and(|config| config.order) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("the broker[{}] sending message is forbidden", state.settings.broker),
        ));
    }
    if let Some(problem) = names::topic_name_problem(topic) {
        return Err(Refusal::invalid(problem));
    }
    if topic_name::is_forbidden_to_send(topic) {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("Sending message to topic[{topic}] is forbidden."),
        ));
    }
    let config = match known(state) {
        Some(config) => config,
        None => create_topic(state, header, topic).await?,
    };
    let queues = config.write_queue_nums.max(config.read_queue_nums);
    if header.queue_id >= queues {
        return Err(Refusal::invalid(format!(
            "request queueId[{}] is illegal, topic {topic} has {queues} queues. Producer: {}",
            header.queue_id, request.peer
        )));
    }
    if header.queue_id >= 0 {
        return Ok(header.queue_id);
    }
    if config.write_queue_nums == 0 {
        return Err(Refusal::invalid(format!("topic {topic} has no queue to write to")));
    }
    // Any will do; the opaque differs from request to request.
    Ok(request.header.opaque.rem_euclid(config.write_queue_nums))
}

async fn create_topic(
    state: &Rc<State>,
    header: &SendMessageHeader<'_>,
    topic: &str,
) -> Result<Arc<TopicConfig>, Refusal> {
    let wish = TopicRequest::Send {
        topic: topic.to_owned(),
        default_topic: header.default_topic.unwrap_or_default().cow().into_owned(),
        queues: header.default_topic_queue_nums.unwrap_or(0),
        unit: header.unit_mode,
    };
    let (reply, outcome) = tokio::sync::oneshot::channel();
    state.changes.push(Change::NeedTopic {
        request: wish,
        reply: Box::new(move |outcome| {
            let _ = reply.send(outcome);
        }),
    });
    match outcome.await {
        Ok(TopicOutcome::Exists(config)) => Ok(config),
        Ok(TopicOutcome::Failed(remark)) => Err(Refusal::system_error(remark)),
        Ok(TopicOutcome::Refused) | Err(_) => Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please!"),
        )),
    }
}

/// Hands the reply to the client that asked; the error is a remark.
async fn push(
    state: &State,
    request: &Request<'_>,
    header: &SendMessageHeader<'_>,
    properties: &[u8],
) -> Result<(), String> {
    let Some(requester) = Properties(properties).find(name::REPLY_TO_CLIENT) else {
        return Err(format!("reply message properties[{}] is null", name::REPLY_TO_CLIENT));
    };
    let Some(connection) = state.clients.borrow().producer_connection(requester) else {
        return Err(format!("push reply message fail, channel of <{requester}> not found."));
    };
    let now_ms = state.now_ms();
    let mut pushed = properties.to_vec();
    push_property(&mut pushed, name::PUSH_REPLY_TIME, &now_ms.to_string());
    let (born_host, store_host) = (request.peer.to_string(), &state.settings.address);
    let write = |mut writer: FrameWriter<'_>| {
        PushReplyHeader {
            producer_group: header.producer_group,
            topic: header.topic,
            default_topic: header.default_topic,
            default_topic_queue_nums: header.default_topic_queue_nums,
            queue_id: header.queue_id,
            sys_flag: header.sys_flag,
            born_timestamp: header.born_timestamp,
            flag: header.flag,
            properties: Some(Text::plain(&pushed)),
            reconsume_times: Some(header.reconsume_times),
            unit_mode: header.unit_mode,
            born_host: Text::new(&born_host),
            store_host: Text::new(store_host),
            store_timestamp: now_ms,
        }
        .encode(&mut writer);
        writer.body(request.body);
    };
    let code = RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT;
    let failed = |why: String| {
        tracing::warn!(requester, why, "a reply did not reach its client");
        format!("push reply message to {requester}fail.")
    };
    let answer =
        call(state, connection, PUSH_LIMIT, code, write).await.map_err(|error| failed(error.to_string()))?;
    match Frame::decode(&answer) {
        Ok(Some((frame, _))) if frame.header.response_code() == ResponseCode::SUCCESS => Ok(()),
        Ok(Some((frame, _))) => Err(failed(frame.header.remark.unwrap_or_default().cow().into_owned())),
        _ => Err(failed("its answer is no frame".to_owned())),
    }
}
