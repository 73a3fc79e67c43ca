//! Locks of clients that consume in order.

use std::rc::Rc;
use std::sync::Arc;

use rmq_protocol::body::{self, LockBatchRequest, LockBatchResponse, MessageQueue};

use super::Request;
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::link::MetadataChange;
use crate::control::state::State;

/// LOCK_BATCH_MQ (41). The list is there even when it is empty.
pub async fn lock(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let wish = wish(request)?;
    if wish.queues.is_empty() {
        return Ok(Answer::json(&LockBatchResponse::default()));
    }
    let Wish { group, client, queues } = wish;
    let group = group.ok_or_else(no_group)?;
    let (held, first) = {
        let mut locks = state.locks.borrow_mut();
        let was_held = locks.is_held(&group);
        let held = locks.lock(&group, &client, queues, state.now_ms());
        (held, !was_held && locks.is_held(&group))
    };
    if first {
        publish(state, group).await;
    }
    Ok(Answer::json(&LockBatchResponse { locked: held }))
}

/// UNLOCK_BATCH_MQ (42).
pub async fn unlock(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let Wish { group, client, queues } = wish(request)?;
    let group = group.ok_or_else(no_group)?;
    let last = {
        let mut locks = state.locks.borrow_mut();
        let was_held = locks.is_held(&group);
        locks.unlock(&group, &client, queues);
        was_held && !locks.is_held(&group)
    };
    if last {
        publish(state, group).await;
    }
    Ok(Answer::empty())
}

/// What a client asks for. No group is no fault yet: no queues need none.
struct Wish {
    group: Option<String>,
    client: String,
    queues: Vec<MessageQueue>,
}

fn wish(request: &Request<'_>) -> Result<Wish, Refusal> {
    let body = body::from_slice::<Option<LockBatchRequest>>(request.body)?;
    let body = body.ok_or_else(|| Refusal::system_error("the request has no body"))?;
    Ok(Wish { group: body.consumer_group, client: body.client_id, queues: body.mq_set })
}

fn no_group() -> Refusal {
    Refusal::system_error("the request has no consumerGroup")
}

/// What the shards hear is the state at this moment, so the last word is always right.
async fn publish(state: &State, group: String) {
    let held = state.locks.borrow().is_held(&group);
    state.links.publish(Arc::from([MetadataChange::OrderLock { group, held }])).await;
}

/// Forgets locks whose clients are gone.
pub async fn expire(state: &State) {
    let free = state.locks.borrow_mut().expire(state.now_ms());
    if free.is_empty() {
        return;
    }
    let changes = free.into_iter().map(|group| MetadataChange::OrderLock { group, held: false });
    let changes: Arc<[MetadataChange]> = changes.collect();
    state.links.publish(changes).await;
}
