//! Consumer groups as tools see and change them.

use std::rc::Rc;

use rmq_protocol::body::{self, SubscriptionGroupConfig, SubscriptionGroupList, SubscriptionGroupTable};
use rmq_protocol::headers::{
    DeleteGroupHeader, GetAllGroupsHeader, GroupForbiddenHeader, GroupHeader, HeaderError,
};
use rmq_protocol::response_code::ResponseCode;
use serde_json::json;

use super::Request;
use super::topic::page;
use crate::control::answer::{Answer, Outcome, Refusal};
use crate::control::changes::Change;
use crate::control::limits::{GROUPS_MAX, QUEUES_PER_TOPIC_MAX};
use crate::control::link::{ShardAnswer, ShardQuery};
use crate::control::names;
use crate::control::state::State;

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200).
pub async fn update(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let config = body::from_slice(request.body)?;
    put(state, vec![config]).await
}

/// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST (225).
pub async fn update_list(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let configs = body::from_slice::<SubscriptionGroupList>(request.body)?.group_config_list;
    put(state, configs).await
}

async fn put(state: &Rc<State>, mut configs: Vec<SubscriptionGroupConfig>) -> Outcome {
    for config in &mut configs {
        // Groups have no attributes that anyone could alter: what is given is unknown, what is known stays.
        if let Some(key) = config.attributes.keys().next() {
            return Err(Refusal::system_error(format!(
                "unsupported key: {}",
                key.trim_start_matches(['+', '-'])
            )));
        }
        if let Some(known) = state.groups.borrow().find(&config.group_name) {
            config.attributes.clone_from(&known.attributes);
        }
        if let Some(problem) = names::group_name_problem(&config.group_name) {
            return Err(Refusal::invalid(problem));
        }
        if !(0..=QUEUES_PER_TOPIC_MAX).contains(&config.retry_queue_nums) {
            return Err(Refusal::invalid(format!(
                "The group[{}] may have 0 to {QUEUES_PER_TOPIC_MAX} retry queues.",
                config.group_name
            )));
        }
    }
    let fresh = {
        let groups = state.groups.borrow();
        configs.iter().filter(|config| groups.find(&config.group_name).is_none()).count()
    };
    if fresh > 0 && state.groups.borrow().len() + fresh > GROUPS_MAX {
        return Err(Refusal::system_error(format!("this broker has its {GROUPS_MAX} consumer groups")));
    }
    state.change(|reply| Change::PutGroups { configs, reply }).await.map_err(Refusal::system_error)?;
    Ok(Answer::empty())
}

/// DELETE_SUBSCRIPTIONGROUP (207).
pub async fn delete(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = DeleteGroupHeader::decode(&request.header.fields)?;
    let group = header.group.cow().into_owned();
    let name = group.clone();
    state.change(|reply| Change::DeleteGroup { group: name, reply }).await.map_err(Refusal::system_error)?;
    let query = ShardQuery::DeleteGroup { group, clean_offset: header.clean_offset };
    for answer in state.query_all(query).await {
        if let ShardAnswer::Failed(remark) = answer {
            return Err(Refusal::system_error(remark));
        }
    }
    Ok(Answer::empty())
}

/// GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201): everything, or a page when the caller counts.
pub fn all(state: &State, request: &Request<'_>) -> Outcome {
    let header = GetAllGroupsHeader::decode(&request.header.fields)?;
    let groups = state.groups.borrow();
    let page = page(
        groups.len(),
        header.group_seq,
        header.groups_max,
        header
            .data_version
            .map(|text| body::from_slice(text.cow().as_bytes()).ok() == Some(groups.version())),
    );
    let chosen = groups.iter().skip(page.start).take(page.len());
    let table = SubscriptionGroupTable {
        data_version: groups.version(),
        forbidden_table: groups.forbidden().clone(),
        subscription_group_table: chosen.map(|(name, config)| (name.clone(), (**config).clone())).collect(),
    };
    Ok(Answer::json(&table).field("totalGroupNum", groups.len()))
}

/// UPDATE_AND_GET_GROUP_FORBIDDEN (353): whether a group may read a topic. Without `readable` nothing changes.
pub async fn forbid(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let header = GroupForbiddenHeader::decode(&request.header.fields)?;
    let group = header.group.cow().into_owned();
    let topic = header.topic.ok_or(HeaderError::Missing { field: "topic" })?.cow().into_owned();
    if let Some(readable) = header.readable {
        let (group, topic) = (group.clone(), topic.clone());
        let change = |reply| Change::Forbid { group, topic, readable, reply };
        state.change(change).await.map_err(Refusal::system_error)?;
    }
    let readable = state.groups.borrow().may_read(&group, &topic);
    Ok(Answer::json(&json!({ "group": group, "readable": readable, "topic": topic })))
}

/// GET_SUBSCRIPTIONGROUP_CONFIG (352). As everywhere in Java, who looks for a group makes it, if the settings allow.
pub async fn one(state: &Rc<State>, request: &Request<'_>) -> Outcome {
    let group = GroupHeader::decode(&request.header.fields)?.group.cow().into_owned();
    state.need_group(&group, None).await;
    let groups = state.groups.borrow();
    match groups.find(&group) {
        Some(config) => Ok(Answer::json(&**config)),
        None => Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, "No group in this broker")),
    }
}
