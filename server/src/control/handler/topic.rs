//! Topics as tools see and change them.

use std::collections::BTreeSet;
use std::rc::Rc;

use rmq_protocol::body::{self, TopicConfig, TopicConfigList, TopicConfigTable, TopicList};
use rmq_protocol::headers::{CreateTopicHeader, GetAllTopicsHeader, TopicHeader};
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::text::Text;

use super::Request;
use crate::broker::pop::names::Source;
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::changes::Change;
use crate::control::limits::{QUEUES_PER_TOPIC_MAX, TOPICS_MAX};
use crate::control::link::{ShardAnswer, ShardQuery};
use crate::control::state::State;
use crate::control::topics::is_system_topic;
use crate::control::{names, topic_attributes};

/// UPDATE_AND_CREATE_TOPIC (17).
pub async fn update(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = CreateTopicHeader::decode(&request.header.fields)?;
    let topic = header.topic.cow().into_owned();
    let topic_filter_type = filter_type(header.topic_filter_type)?;
    admit_name(state, &topic)?;
    let attributes = {
        let topics = state.topics.borrow();
        let current = topics.find(&topic).map(|config| &config.attributes);
        let modification = header.attributes.map(|text| text.cow()).unwrap_or_default();
        topic_attributes::alter(current, &modification).map_err(Refusal::system_error)?
    };
    let config = TopicConfig {
        attributes,
        order: header.order,
        perm: header.perm,
        read_queue_nums: header.read_queue_nums,
        topic_filter_type,
        topic_name: topic,
        topic_sys_flag: header.topic_sys_flag.unwrap_or(0),
        write_queue_nums: header.write_queue_nums,
    };
    put(state, vec![config]).await
}

/// UPDATE_AND_CREATE_TOPIC_LIST (18).
pub async fn update_list(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let mut configs = body::from_slice::<TopicConfigList>(request.body)?.topic_config_list;
    for config in &mut configs {
        admit_name(state, &config.topic_name)?;
        let topics = state.topics.borrow();
        let current = topics.find(&config.topic_name).map(|config| &config.attributes);
        config.attributes =
            topic_attributes::alter_by_table(current, &config.attributes).map_err(Refusal::system_error)?;
    }
    put(state, configs).await
}

fn filter_type(given: Option<Text<'_>>) -> Result<String, Refusal> {
    let given = given.map(|text| text.cow().into_owned());
    match given.as_deref() {
        Some("SINGLE_TAG" | "MULTI_TAG") => Ok(given.unwrap_or_default()),
        other => {
            let remark = format!("topicFilterType = [{}] value invalid", other.unwrap_or("null"));
            Err(Refusal::system_error(remark))
        }
    }
}

async fn put(state: &Rc<State>, configs: Vec<TopicConfig>) -> Outcome {
    for config in &configs {
        if config.attributes.get("message.type").is_some_and(|kind| kind == "MIXED") {
            return Err(Refusal::invalid("MIXED message type is not supported."));
        }
        let queues = 0..=QUEUES_PER_TOPIC_MAX;
        if !queues.contains(&config.read_queue_nums) || !queues.contains(&config.write_queue_nums) {
            return Err(Refusal::invalid(format!(
                "The topic[{}] may have 0 to {QUEUES_PER_TOPIC_MAX} queues.",
                config.topic_name
            )));
        }
    }
    {
        let topics = state.topics.borrow();
        let fresh = configs.iter().filter(|config| topics.find(&config.topic_name).is_none()).count();
        if topics.len() + fresh > TOPICS_MAX {
            return Err(Refusal::system_error(format!("this broker has its {TOPICS_MAX} topics")));
        }
    }
    state.change(|reply| Change::PutTopics { configs, reply }).await.map_err(Refusal::system_error)?;
    // Tools ask a name server for the route next.
    state.registrar.settled().await;
    Ok(Answer::empty())
}

fn admit_name(state: &State, topic: &str) -> Result<(), Refusal> {
    if let Some(problem) = names::topic_name_problem(topic) {
        return Err(Refusal::invalid(problem));
    }
    protect_system_topic(state, topic)
}

fn protect_system_topic(state: &State, topic: &str) -> Result<(), Refusal> {
    if state.settings.protect_system_topics && is_system_topic(topic, &state.settings) {
        return Err(Refusal::invalid(format!("The topic[{topic}] is conflict with system topic.")));
    }
    Ok(())
}

/// DELETE_TOPIC_IN_BROKER (215): configuration, queues and offsets. The route stays in the name servers until
/// the tool removes it there.
pub async fn delete(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    // A missing name is a blank one.
    let topic = request.header.fields.find("topic").unwrap_or_default().cow().into_owned();
    if topic.trim().is_empty() {
        return Err(Refusal::invalid("The specified topic is blank."));
    }
    protect_system_topic(state, &topic)?;
    let mut topics = pop_retry_topics(state, &topic).await;
    topics.push(topic);
    let withdrawn = topics.clone();
    state
        .change(|reply| Change::DeleteTopics { topics: withdrawn, reply })
        .await
        .map_err(Refusal::system_error)?;
    for topic in topics {
        for answer in state.query_all(ShardQuery::DeleteTopic { topic }).await {
            if let ShardAnswer::Failed(remark) = answer {
                return Err(Refusal::system_error(remark));
            }
        }
    }
    Ok(Answer::empty())
}

/// What groups that pop the topic have left unacknowledged goes with it.
async fn pop_retry_topics(state: &State, topic: &str) -> Vec<String> {
    if !state.settings.clear_retry_topics {
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    for answer in state.query_all(ShardQuery::GroupsOfTopic { topic: topic.to_owned() }).await {
        if let ShardAnswer::Groups(groups) = answer {
            for source in [Source::RetryV1, Source::RetryV2] {
                names.extend(groups.iter().map(|group| source.topic(group, topic)));
            }
        }
    }
    let topics = state.topics.borrow();
    names.into_iter().filter(|name| topics.find(name).is_some()).collect()
}

/// GET_ALL_TOPIC_CONFIG (21): everything, or a page when the caller counts.
pub fn all(state: &State, request: &Request<'_>) -> Outcome {
    let header = GetAllTopicsHeader::decode(&request.header.fields)?;
    let topics = state.topics.borrow();
    let page = page(
        topics.len(),
        header.topic_seq,
        header.topics_max,
        header
            .data_version
            .map(|text| body::from_slice(text.cow().as_bytes()).ok() == Some(topics.version())),
    );
    let chosen = topics.iter().skip(page.start).take(page.len());
    let table = TopicConfigTable {
        data_version: topics.version(),
        topic_config_table: chosen.map(|(name, config)| (name.clone(), (**config).clone())).collect(),
        ..TopicConfigTable::default()
    };
    Ok(Answer::json(&table).field("totalTopicNum", topics.len()))
}

/// Which entries a caller wants. One whose version is old starts again at the first.
pub fn page(
    len: usize,
    from: Option<i32>,
    count: Option<i32>,
    is_current: Option<bool>,
) -> std::ops::Range<usize> {
    let (Some(from), Some(count)) = (from, count) else { return 0..len };
    let from = if is_current == Some(true) { usize::try_from(from).unwrap_or(0).min(len) } else { 0 };
    let count = usize::try_from(count).unwrap_or(0);
    from..(from.saturating_add(count)).min(len)
}

/// GET_TOPIC_CONFIG (351).
pub fn one(state: &State, request: &Request<'_>) -> Outcome {
    let topic = TopicHeader::decode(&request.header.fields)?.topic;
    let topics = state.topics.borrow();
    match topics.find(&topic.cow()) {
        Some(config) => Ok(Answer::json(&**config)),
        None => Err(Refusal::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("No topic in this broker. topic: {}", topic.cow()),
        )),
    }
}

/// GET_SYSTEM_TOPIC_LIST_FROM_BROKER (305).
pub fn system_topics(state: &State) -> Outcome {
    let topics = state.topics.borrow();
    let fixed = names::SYSTEM_TOPICS.iter().map(|topic| (*topic).to_owned());
    let existing = topics.iter().map(|(name, _)| name.clone());
    let existing = existing.filter(|name| is_system_topic(name, &state.settings));
    let names: BTreeSet<String> = fixed.chain(existing).collect();
    Ok(Answer::json(&TopicList { broker_addr: None, topic_list: names.into_iter().collect() }))
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn a_caller_that_does_not_count_gets_everything() {
        assert_eq!(page(5, None, None, None), 0..5);
        assert_eq!(page(5, Some(2), None, Some(true)), 0..5);
        assert_eq!(page(5, Some(2), Some(2), Some(true)), 2..4);
        assert_eq!(page(5, Some(4), Some(2000), Some(true)), 4..5);
        assert_eq!(page(5, Some(9), Some(2), Some(true)), 5..5);
        assert_eq!(page(5, Some(2), Some(2), Some(false)), 0..2, "the tables changed: from the first again");
        assert_eq!(page(5, Some(-1), Some(-1), Some(true)), 0..0);
    }
}
