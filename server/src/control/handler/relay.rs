//! What a tool asks of a consumer through the broker: GET_CONSUMER_RUNNING_INFO (307), CONSUME_MESSAGE_DIRECTLY
//! (309), INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223). The client's answer goes back as it is.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::yield_now;
use rmq_protocol::body::{self, ConsumerStatus};
use rmq_protocol::frame::Frame;
use rmq_protocol::header::Header;
use rmq_protocol::headers::{ConsumeDirectlyHeader, ConsumerRunningInfoHeader, ConsumerStatusHeader};
use rmq_protocol::language::version;
use rmq_protocol::message_id::MessageId;
use rmq_protocol::request_code::RequestCode;
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::writer::FrameWriter;
use tokio::task::JoinSet;

use super::Request;
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::client_calls::{CallError, call};
use crate::control::limits::CALLS_AT_ONCE_MAX;
use crate::control::link::{ConnectionId, ShardAnswer, ShardQuery};
use crate::control::state::State;

const CONSUMER_LIMIT: Duration = Duration::from_secs(10);
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// GET_CONSUMER_RUNNING_INFO (307).
pub async fn running_info(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = ConsumerRunningInfoHeader::decode(&request.header.fields)?;
    let (group, client) = (header.consumer_group.cow(), header.client_id.cow());
    ask_consumer(state, request, &group, &client, &[], request.body).await
}

/// CONSUME_MESSAGE_DIRECTLY (309): the client gets the stored message and what it has to know of its topic.
pub async fn consume_directly(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = ConsumeDirectlyHeader::decode(&request.header.fields)?;
    let message_id = header.message_id.unwrap_or_default().cow();
    let Some(id) = MessageId::parse(&message_id) else {
        return Err(Refusal::system_error(format!("{message_id} is no message id")));
    };
    let query = ShardQuery::RecordAt { physical_offset: id.physical_offset };
    let record = match state.links.query(0, query).await {
        ShardAnswer::Record(Some(record)) => record,
        ShardAnswer::Failed(remark) => return Err(Refusal::system_error(remark)),
        _ => return Err(Refusal::system_error(format!("there is no message {message_id}"))),
    };
    let group = header.consumer_group.cow();
    // As everywhere in Java, who looks for a group makes it, if the settings allow.
    state.need_group(&group, None).await;
    let mut additions = vec![("brokerName", state.settings.broker.clone())];
    let topic = header.topic.unwrap_or_default().cow();
    if let Some(config) = state.topics.borrow().find(&topic) {
        additions.push(("topicSysFlag", config.topic_sys_flag.to_string()));
    }
    if let Some(config) = state.groups.borrow().find(&group) {
        additions.push(("groupSysFlag", config.group_sys_flag.to_string()));
    }
    let client = header.client_id.map(|text| text.cow());
    ask_consumer(state, request, &group, client.as_deref().unwrap_or("null"), &additions, &record).await
}

/// The request again, to one client of the group, with some of its fields replaced.
async fn ask_consumer(
    state: &State,
    request: &Request<'_>,
    group: &str,
    client_id: &str,
    additions: &[(&str, String)],
    body: &[u8],
) -> Outcome {
    let client = {
        let clients = state.clients.borrow();
        let member = clients
            .consumer_group(group)
            .and_then(|members| members.clients.iter().find(|(_, client)| client.id == client_id));
        member.map(|(connection, client)| (*connection, client.version))
    };
    let Some((connection, client_version)) = client else {
        return Err(Refusal::system_error(format!("The Consumer <{group}> <{client_id}> not online")));
    };
    if client_version < version::V3_1_8_SNAPSHOT {
        return Err(Refusal::system_error(format!(
            "The Consumer <{client_id}> Version <{}> too low to finish, please upgrade it to V3_1_8_SNAPSHOT",
            version::name(client_version)
        )));
    }
    let write = |mut writer: FrameWriter<'_>| {
        for (key, value) in request.header.fields.iter() {
            let key = key.cow();
            if additions.iter().all(|(added, _)| *added != key) {
                writer.put_text(&key, value);
            }
        }
        for (key, value) in additions {
            writer.put_field(key, value);
        }
        writer.body(body);
    };
    match call(state, connection, CONSUMER_LIMIT, request.header.request_code(), write).await {
        Ok(frame) => Ok(Answer { relayed: Some(frame), ..Answer::default() }),
        Err(error @ CallError::TimedOut(_)) => Err(Refusal::new(
            ResponseCode::CONSUME_MSG_TIMEOUT,
            format!("consumer <{group}> <{client_id}> Timeout: {error}"),
        )),
        Err(error) => {
            Err(Refusal::system_error(format!("invoke consumer <{group}> <{client_id}> Exception: {error}")))
        }
    }
}

/// INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223): how far each client of the group believes to be, or one of them.
pub async fn consumer_status(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = ConsumerStatusHeader::decode(&request.header.fields)?;
    let (topic, group) = (header.topic.cow().into_owned(), header.group.cow().into_owned());
    let wanted = header.client_address.map(|text| text.cow()).filter(|id| !id.trim().is_empty());
    let mut members: Vec<(ConnectionId, String)> = Vec::new();
    {
        let clients = state.clients.borrow();
        let Some(group_members) = clients.consumer_group(&group) else {
            return Err(Refusal::system_error(format!(
                "No Any Consumer online in the consumer group: [{group}]"
            )));
        };
        for (connection, client) in &group_members.clients {
            if client.version < version::V3_0_7_SNAPSHOT {
                return Err(Refusal::system_error(format!(
                    "the client does not support this feature. version={}",
                    version::name(client.version)
                )));
            }
            if wanted.as_ref().is_none_or(|wanted| *wanted == client.id) {
                members.push((*connection, client.id.clone()));
            }
        }
    }
    let mut status = ConsumerStatus::default();
    let mut asked = JoinSet::new();
    for (connection, client) in members {
        if asked.len() >= CALLS_AT_ONCE_MAX {
            take_status(asked.join_next().await, &mut status);
        }
        let (state, topic, group) = (state.clone(), topic.clone(), group.clone());
        asked.spawn_local(async move { (client, ask_status(&state, connection, &topic, &group).await) });
        yield_now().await;
    }
    while let Some(answer) = asked.join_next().await {
        take_status(Some(answer), &mut status);
    }
    Ok(Answer::body(status.encode()))
}

/// What a client answered, as the answer to the request that it was asked for.
pub fn encode(out: &mut Vec<u8>, request: &Header<'_>, of_client: &[u8]) {
    let Ok(Some((Frame { header, body }, _))) = Frame::decode(of_client) else {
        unreachable!("what is no frame was taken for no answer")
    };
    let mut writer = FrameWriter::response(out, request.codec, header.response_code(), request.opaque)
        .language(header.language)
        .version(header.version);
    if let Some(remark) = header.remark {
        writer.put_remark(&remark.cow());
    }
    for (key, value) in header.fields.iter() {
        writer.put_text(&key.cow(), value);
    }
    writer.body(body);
}

type StatusAnswer = (String, Option<ConsumerStatus>);

/// Clients that do not answer are left out.
fn take_status(answer: Option<Result<StatusAnswer, tokio::task::JoinError>>, status: &mut ConsumerStatus) {
    if let Some(Ok((client, Some(of_client)))) = answer {
        status.consumer_table.insert(client, of_client.message_queue_table);
    }
}

async fn ask_status(
    state: &State,
    connection: ConnectionId,
    topic: &str,
    group: &str,
) -> Option<ConsumerStatus> {
    let code = RequestCode::GET_CONSUMER_STATUS_FROM_CLIENT;
    let frame = call(state, connection, STATUS_LIMIT, code, |writer| {
        writer.field("topic", topic).field("group", group).finish();
    });
    let frame = frame.await.inspect_err(|error| tracing::warn!(group, %error, "a consumer's status")).ok()?;
    let (frame, _) = Frame::decode(&frame).ok()??;
    if frame.header.response_code() != ResponseCode::SUCCESS {
        return None;
    }
    body::from_slice(frame.body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_says_nothing_is_left_out() {
        let mut status = ConsumerStatus::default();
        take_status(Some(Ok(("silent".to_owned(), None))), &mut status);
        take_status(None, &mut status);
        assert!(status.consumer_table.is_empty());
        take_status(Some(Ok(("c".to_owned(), Some(ConsumerStatus::default())))), &mut status);
        assert_eq!(status.consumer_table.len(), 1);
    }
}
