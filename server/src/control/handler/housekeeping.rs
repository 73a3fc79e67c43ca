//! Work that otherwise waits for its hour: CLEAN_EXPIRED_CONSUMEQUEUE (306), CLEAN_UNUSED_TOPIC (316),
//! DELETE_EXPIRED_COMMITLOG (329).

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::link::{ShardAnswer, ShardQuery};
use crate::control::state::State;
use crate::control::topics::is_system_topic;

/// CLEAN_EXPIRED_CONSUMEQUEUE (306). Entries of queues go with the segments they point into, so there is never
/// anything left to clean.
pub fn clean_queues() -> Outcome {
    Ok(Answer::empty())
}

/// CLEAN_UNUSED_TOPIC (316): queues whose topic has no configuration, left when a deletion was cut short.
pub async fn clean_topics(state: &Rc<State>) -> Outcome {
    let mut strays = BTreeSet::new();
    for answer in state.query_all(ShardQuery::StrayTopics).await {
        if let ShardAnswer::Groups(topics) = answer {
            strays.extend(topics);
        }
    }
    for topic in strays {
        let is_broker_s_own = is_system_topic(&topic, &state.settings) || topic.starts_with('%');
        if is_broker_s_own || state.topics.borrow().find(&topic).is_some() {
            continue;
        }
        tracing::info!(topic, "queues of a topic without configuration are deleted");
        for answer in state.query_all(ShardQuery::DeleteTopic { topic: topic.clone() }).await {
            if let ShardAnswer::Failed(remark) = answer {
                return Err(Refusal::system_error(remark));
            }
        }
    }
    Ok(Answer::empty())
}

/// DELETE_EXPIRED_COMMITLOG (329): what is older than `fileReservedTime` goes now, whatever hour it is.
pub async fn delete_segments(state: &Rc<State>) -> Outcome {
    for answer in state.query_all(ShardQuery::DeleteExpired).await {
        if let ShardAnswer::Failed(remark) = answer {
            return Err(Refusal::system_error(remark));
        }
    }
    Ok(Answer::empty())
}
