//! Retry and dead-letter topics: where a message goes that a group could not consume.

use std::rc::Rc;

use rmq_protocol::headers::SendMessageHeader;
use rmq_protocol::language::version;
use rmq_protocol::message_id::{MESSAGE_ID_LEN_MAX, MessageId};
use rmq_protocol::properties::name;
use rmq_protocol::record::RecordRef;
use rmq_protocol::response_code::ResponseCode;

use super::message::{Message, StoreOutcome};
use super::refusal::Refusal;
use super::{store, topic_name};
use crate::control::link::{SubscriptionGroupConfig, ToControl, TopicOutcome, TopicRequest};
use crate::settings::PERM_WRITE;
use crate::shard::Shard;

/// The first retry waits for this level of the delay ladder.
const FIRST_RETRY_LEVEL: i32 = 3;

/// What a consumer asks for with CONSUMER_SEND_MSG_BACK.
pub struct SendBack {
    pub group: String,
    pub physical_offset: i64,
    pub delay_level: i32,
    pub max_reconsume_times: Option<i32>,
    pub unit: bool,
}

fn group_config(shard: &Shard, group: &str) -> Result<Rc<SubscriptionGroupConfig>, Refusal> {
    shard.metadata.group(group).ok_or_else(|| {
        Refusal::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group}"),
        )
    })
}

/// A producer's own send to `%RETRY%group`: past the limit it goes to the dead-letter topic instead.
/// The limit is passed with `>`, unlike in a send-back, as in Java.
pub fn divert(
    shard: &Shard,
    message: &mut Message,
    header: &SendMessageHeader<'_>,
    client_version: i32,
) -> Result<(), Refusal> {
    let Some(group) = message.topic.strip_prefix(topic_name::RETRY_PREFIX).map(str::to_owned) else {
        return Ok(());
    };
    let config = group_config(shard, &group)?;
    let limit = match header.max_reconsume_times {
        Some(limit) if client_version >= version::V3_4_9 => limit,
        _ => config.retry_max_times,
    };
    if message.reconsume_times > limit || shard.metadata.is_order_locked(&group) {
        message.topic = topic_name::dead_letter(&group);
        message.queue = 0;
        message.set_property(name::DELAY, "-1");
    }
    Ok(())
}

/// Stores a copy of a message for another attempt, or in the dead-letter topic.
pub async fn send_back(shard: &Rc<Shard>, request: SendBack) -> Result<(), Refusal> {
    if shard.is_draining() {
        return Err(Refusal::new(
            ResponseCode::SERVICE_NOT_AVAILABLE,
            "service not available now: the broker is shutting down",
        ));
    }
    if shard.metadata.group(&request.group).is_none() {
        let (reply, outcome) = tokio::sync::oneshot::channel();
        let group = request.group.clone();
        let reply = Box::new(move |exists| {
            let _ = reply.send(exists);
        });
        shard.control.tell(ToControl::EnsureGroup { group, reply });
        // Whether it exists now is looked up below.
        let _: Result<bool, _> = outcome.await;
    }
    let config = group_config(shard, &request.group)?;
    if shard.settings.broker_permission & PERM_WRITE == 0 {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("the broker[{}] sending message is forbidden", shard.settings.broker_name),
        ));
    }
    if config.retry_queue_nums <= 0 {
        return Ok(());
    }
    let retry_topic = topic_name::retry(&request.group);
    let unit = request.unit;
    ensure_topic(shard, TopicRequest::Retry { group: request.group.clone(), unit }, &retry_topic).await?;

    let Some(bytes) = store::record_at(shard, request.physical_offset).await? else {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            format!("look message by offset failed, {}", request.physical_offset),
        ));
    };
    let record = RecordRef::parse(&bytes)
        .map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))?;
    let mut message = Message::of_record(&record);
    if message.property("RETRY_TOPIC").is_none() {
        message.set_property("RETRY_TOPIC", record.topic());
    }
    if message.property("ORIGIN_MESSAGE_ID").is_none() {
        let mut text = [0; MESSAGE_ID_LEN_MAX];
        let id = MessageId::new(record.store_host(), record.physical_offset()).write(&mut text);
        message.set_property("ORIGIN_MESSAGE_ID", id);
    }
    message.set_property(name::WAIT, "false");
    let limit = request.max_reconsume_times.unwrap_or(config.retry_max_times);
    if record.reconsume_times() >= limit || request.delay_level < 0 {
        let dead_letter = topic_name::dead_letter(&request.group);
        ensure_topic(shard, TopicRequest::DeadLetter { group: request.group.clone() }, &dead_letter).await?;
        message.set_property(name::DELAY, "0");
        message.topic = dead_letter;
        message.queue = 0;
    } else {
        let level = match request.delay_level {
            0 => FIRST_RETRY_LEVEL + record.reconsume_times(),
            asked => asked,
        };
        message.set_property(name::DELAY, &level.to_string());
        message.topic = retry_topic;
        message.queue = (shard.random() % config.retry_queue_nums as u64) as i32;
    }
    message.reconsume_times = record.reconsume_times() + 1;
    match store::store(shard, message).await {
        StoreOutcome::Stored { .. } => Ok(()),
        StoreOutcome::Refused { remark, .. } => Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark)),
    }
}

/// A message for a dead-letter topic needs it to exist; for every other topic there is nothing to do.
pub async fn ensure_dead_letter(shard: &Rc<Shard>, topic: &str) -> Result<(), Refusal> {
    match topic.strip_prefix(topic_name::DEAD_LETTER_PREFIX) {
        Some(group) => ensure_topic(shard, TopicRequest::DeadLetter { group: group.to_owned() }, topic).await,
        None => Ok(()),
    }
}

/// Waits until the topic exists and can be written to.
pub async fn ensure_topic(shard: &Rc<Shard>, request: TopicRequest, name: &str) -> Result<(), Refusal> {
    if shard.metadata.topic(name).is_none() {
        let (reply, outcome) = tokio::sync::oneshot::channel();
        shard.control.tell(ToControl::CreateTopic {
            request,
            reply: Box::new(move |outcome| {
                let _ = reply.send(outcome);
            }),
        });
        match outcome.await {
            Ok(TopicOutcome::Exists(_)) => {}
            Ok(TopicOutcome::Failed(remark)) => return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark)),
            Ok(TopicOutcome::Refused) | Err(_) => {
                return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, format!("topic[{name}] not exist")));
            }
        }
    }
    let writable = shard.metadata.topic(name).is_some_and(|topic| topic.config().perm & PERM_WRITE != 0);
    if writable {
        Ok(())
    } else {
        Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("the topic[{name}] sending message is forbidden"),
        ))
    }
}
