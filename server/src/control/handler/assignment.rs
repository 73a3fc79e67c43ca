//! Queue assignment by the broker: QUERY_ASSIGNMENT (400), SET_MESSAGE_REQUEST_MODE (401),
//! GET_ALL_MESSAGE_REQUEST_MODE (402).

use std::collections::BTreeSet;
use std::rc::Rc;

use rmq_protocol::body::{
    self, MessageModel, MessageQueue, MessageQueueAssignment, MessageRequestMode, QueryAssignmentRequest,
    QueryAssignmentResponse, SetMessageRequestMode,
};
use rmq_protocol::response_code::ResponseCode;

use super::Request;
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::assignment::{popping, strategy};
use crate::control::names::RETRY_PREFIX;
use crate::control::state::State;

/// No list means that the client keeps what it has; an empty one that it gives everything up.
pub async fn query(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let asked: QueryAssignmentRequest =
        body::from_slice::<Option<QueryAssignmentRequest>>(request.body)?.ok_or_else(no_body)?;
    let default = (state.settings.default_request_mode, state.settings.default_pop_shares);
    let (mode, shares) = state.modes.borrow().mode(&asked.topic, &asked.consumer_group, default);
    let queues = queues(state, &asked, mode, shares).await;
    let assigned = queues.map(|queues| {
        let assigned = queues.into_iter();
        assigned
            .map(|message_queue| MessageQueueAssignment { message_queue, mode, ..Default::default() })
            .collect()
    });
    Ok(Answer::json(&QueryAssignmentResponse { message_queue_assignments: assigned }))
}

async fn queues(
    state: &Rc<State>,
    asked: &QueryAssignmentRequest,
    mode: MessageRequestMode,
    shares: i32,
) -> Option<Vec<MessageQueue>> {
    let queues = state.routes.queues(&state.settings, &asked.topic).await?;
    if asked.message_model == MessageModel::Broadcasting || !state.settings.server_load_balancer {
        return Some(queues);
    }
    let members: Vec<String> = {
        let clients = state.clients.borrow();
        let group = clients.consumer_group(&asked.consumer_group)?;
        let ids: BTreeSet<&String> = group.clients.values().map(|client| &client.id).collect();
        ids.into_iter().cloned().collect()
    };
    let allocate = strategy(&asked.strategy_name)?;
    let client = members.iter().position(|id| *id == asked.client_id);
    if mode == MessageRequestMode::Pop {
        return Some(popping(allocate, client, members.len(), &queues, shares));
    }
    if asked.client_id.is_empty() || queues.is_empty() {
        return None;
    }
    let indexes = client.map_or_else(Vec::new, |client| allocate(client, members.len(), queues.len()));
    Some(indexes.into_iter().map(|index| queues[index].clone()).collect())
}

/// Durable when it is answered.
pub async fn set_mode(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let mode: SetMessageRequestMode =
        body::from_slice::<Option<SetMessageRequestMode>>(request.body)?.ok_or_else(no_body)?;
    if mode.topic.starts_with(RETRY_PREFIX) {
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, "retry topic is not allowed to set mode"));
    }
    if state.topics.borrow().find(&mode.topic).is_none() {
        let remark = format!("topic[{}] not exist", mode.topic);
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    }
    if !state.need_group(&mode.consumer_group, None).await {
        let remark = format!("subscription group [{}] does not exist", mode.consumer_group);
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    }
    let content = {
        let mut modes = state.modes.borrow_mut();
        if !modes.set(mode) {
            return Err(Refusal::system_error("too many request modes are set"));
        }
        modes.to_file()
    };
    // Shared with the offsets: one writer of small files at a time, so that the newest is written last.
    let _one_writer = state.saving_offsets.lock().await;
    state.save(&state.files.request_modes, content).await.map_err(Refusal::system_error)?;
    Ok(Answer::empty())
}

pub fn all_modes(state: &State) -> Outcome {
    Ok(Answer::json(state.modes.borrow().table()))
}

fn no_body() -> Refusal {
    Refusal::system_error("the request has no body")
}
