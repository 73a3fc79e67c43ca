//! Light queues (LMQ): queues without a topic of their own, into which a message goes beside its topic's queue.
//!
//! A producer names them in INNER_MULTI_DISPATCH. Java keeps one record and points to it from each queue. Here a
//! queue belongs to one shard, and its records are in that shard's log; so each light queue gets a copy, which says
//! it is of the message's topic and where it is in the light queue. The copies come first and the message last: what
//! is acknowledged is in all of its queues, and what fails or is cut short may be in some, as after a lost answer.
//! The price is the bytes of the copies, hence the bound on queues per message.
//!
//! Topics of light queues are not configured: they exist as soon as somebody names them, up to `queues_max`.

use std::cell::RefCell;
use std::rc::Rc;

use futures_lite::future::poll_once;
use rmq_protocol::properties::{Properties, name};
use rmq_protocol::response_code::ResponseCode;
use rmq_protocol::tag::tags_code;

use super::key_index::Keys;
use super::message::{Message, StoreOutcome};
use super::store::{self, Draft};
use super::topic_name::{LIGHT_PREFIX, RETRY_PREFIX, SCHEDULE};
use crate::limits::{LIGHT_QUEUE_NAME_BYTES_MAX, LIGHT_QUEUES_PER_MESSAGE_MAX};
use crate::net::executor::Oneshot;
use crate::settings::Settings;
use crate::shard::Shard;

/// A copy's own light queue. A message with it is in no index of keys: it would be found several times.
pub const COPY: &str = "INNER_LIGHT_QUEUE";

/// Whose turn it is to store copies, so that light queues get messages in the order in which they came.
#[derive(Default)]
pub struct Turns {
    last: RefCell<Option<Rc<Oneshot<()>>>>,
}

impl Turns {
    async fn await_mine(&self) -> Rc<Oneshot<()>> {
        let mine = Oneshot::new();
        let before = self.last.replace(Some(Rc::clone(&mine)));
        if let Some(before) = before {
            before.take().await;
        }
        mine
    }
}

/// Whether a topic's messages go into light queues too.
pub fn is_dispatched(settings: &Settings, topic: &str) -> bool {
    settings.light_queues.dispatches
        && !topic.starts_with(RETRY_PREFIX)
        && !topic.starts_with("rmq_sys_")
        && topic != SCHEDULE
        && !topic.starts_with(LIGHT_PREFIX)
}

/// Whether it asks for light queues, and has to be stored here.
pub fn wants(settings: &Settings, message: &Message) -> bool {
    let names = || message.property(name::INNER_MULTI_DISPATCH).unwrap_or_default();
    is_dispatched(settings, &message.topic) && !names().trim().is_empty()
}

/// Stores a message and its copies, and waits until all of them are acknowledged.
pub async fn store(shard: &Rc<Shard>, mut message: Message) -> StoreOutcome {
    let listed = message.property(name::INNER_MULTI_DISPATCH).unwrap_or_default().to_owned();
    let names: Vec<&str> = listed.split(',').collect();
    let mut wanted: Vec<&str> = names.iter().copied().filter(|name| is_valid(name)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.len() > LIGHT_QUEUES_PER_MESSAGE_MAX {
        return StoreOutcome::Refused {
            code: ResponseCode::MESSAGE_ILLEGAL,
            remark: format!(
                "the message is illegal: {} light queues, of at most {LIGHT_QUEUES_PER_MESSAGE_MAX}",
                wanted.len()
            ),
        };
    }
    let turn = shard.light_turns.await_mine().await;
    let stored = store_copies(shard, &message, &wanted).await;
    let offsets = match stored {
        Ok(offsets) => offsets,
        Err(refused) => {
            turn.set(());
            return refused;
        }
    };
    // In the order of the list; names that are no light queues have no offset, as in Java.
    let offset_of =
        |name: &&str| wanted.binary_search(name).map_or(String::new(), |at| offsets[at].to_string());
    let offsets: Vec<String> = names.iter().map(offset_of).collect();
    message.set_property(name::INNER_MULTI_QUEUE_OFFSET, &offsets.join(","));
    let mut storing = Box::pin(store::store_plain(shard, message));
    // It is on its way into its queue when it has been polled once.
    let early = poll_once(&mut storing).await;
    turn.set(());
    match early {
        Some(outcome) => outcome,
        None => storing.await,
    }
}

fn is_valid(name: &str) -> bool {
    name.starts_with(LIGHT_PREFIX)
        && name.len() > LIGHT_PREFIX.len()
        && name.len() <= LIGHT_QUEUE_NAME_BYTES_MAX
        && !name.contains('/')
}

/// All copies at once, each with its owner; the offsets they got.
async fn store_copies(
    shard: &Rc<Shard>,
    message: &Message,
    names: &[&str],
) -> Result<Vec<i64>, StoreOutcome> {
    let mut waiting = Vec::with_capacity(names.len());
    for name in names {
        let mut copy = message.clone();
        copy.set_property(name::REAL_TOPIC, &message.topic);
        copy.set_property(name::REAL_QUEUE_ID, &message.queue.to_string());
        copy.set_property(COPY, name);
        copy.topic = (*name).to_owned();
        copy.queue = 0;
        let shard = Rc::clone(shard);
        let mut storing = Box::pin(async move { store::store_plain(&shard, copy).await });
        let early = poll_once(&mut storing).await;
        waiting.push((early, storing));
    }
    let mut offsets = Vec::with_capacity(names.len());
    let mut refused = None;
    for (early, storing) in waiting {
        let outcome = match early {
            Some(outcome) => outcome,
            None => storing.await,
        };
        match outcome {
            StoreOutcome::Stored { queue_offset, .. } => offsets.push(queue_offset),
            outcome => refused = Some(outcome),
        }
    }
    refused.map_or(Ok(offsets), Err)
}

/// Whether a message is on its way into a light queue of this shard as a copy.
pub fn is_copy(message: &Message) -> bool {
    message.topic.starts_with(LIGHT_PREFIX) && message.property(COPY).is_some()
}

/// Stores a copy in the light queue, which is of this shard; the record says that it is of the message's own topic.
pub async fn store_copy_here(shard: &Rc<Shard>, message: &Message) -> StoreOutcome {
    let Some(topic) = shard.metadata.topic(&message.topic) else {
        return StoreOutcome::Refused {
            code: ResponseCode::SYSTEM_ERROR,
            remark: format!(
                "[LMQ_CONSUME_QUEUE_NUM_EXCEEDED]the light queue {} would be one more than maxLmqConsumeQueueNum",
                message.topic
            ),
        };
    };
    let queue = shard.queue(&topic, 0);
    let mut copy = message.clone();
    let real_topic = copy.property(name::REAL_TOPIC).unwrap_or_default().to_owned();
    let real_queue = copy.property(name::REAL_QUEUE_ID).and_then(|id| id.parse().ok()).unwrap_or(0);
    copy.remove_property(name::REAL_TOPIC);
    copy.remove_property(name::REAL_QUEUE_ID);
    let offset = match shard.declared(&queue) {
        Ok(number) => shard.engine.next_offset(number),
        Err(refusal) => {
            return StoreOutcome::Refused { code: refusal.code, remark: refusal.remark.into_owned() };
        }
    };
    copy.set_property(name::INNER_MULTI_DISPATCH, &message.topic);
    copy.set_property(name::INNER_MULTI_QUEUE_OFFSET, &offset.to_string());
    let draft = Draft {
        flag: copy.flag,
        sys_flag: copy.sys_flag,
        born_timestamp: copy.born_timestamp,
        born_host: copy.born_host,
        reconsume_times: copy.reconsume_times,
        prepared_transaction_offset: copy.prepared_transaction_offset,
        properties: &copy.properties,
        filter_code: tags_code(copy.property(name::TAGS)),
        body: &copy.body,
    };
    let place = store::Place { topic: &real_topic, queue_id: real_queue, key_seed: topic.key_seed };
    store::append_and_wait(shard, &queue, &draft, &place, &Keys::default()).await
}

/// A stored copy is found by its place in the light queue only.
pub fn is_stored_copy(properties: Properties<'_>) -> bool {
    properties.find_bytes(COPY).is_some()
}
