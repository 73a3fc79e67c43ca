//! Who wants to hear, once, when a queue of this shard gets a message: requests that wait at some shard.
//!
//! A watch is taken down when it is told, so that a burst costs one message; whoever still waits sets it up again,
//! and is told at once of what came in between.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::names::Source;
use super::visit::has_messages;
use super::waiters::WaitKey;
use crate::broker::metadata::Queue;
use crate::mesh::MeshMessage;
use crate::shard::Shard;

/// By topic, as it is stored: who, at which shard.
#[derive(Default)]
pub struct Watches(RefCell<FxHashMap<Box<str>, Watching>>);

type Watching = FxHashSet<(usize, Arc<WaitKey>)>;

/// Tells `from` as soon as there is something for `key` in this shard's queues, which may be now.
pub fn watch(shard: &Rc<Shard>, from: usize, key: Arc<WaitKey>) {
    let topics = watched_topics(shard, &key);
    for (at, name) in topics.iter().enumerate() {
        let Some(topic) = shard.metadata.topic(name) else { continue };
        let queues = topic.config().read_queue_nums;
        for id in 0..queues {
            let is_wanted = at > 0 || key.queue < 0 || key.queue == id;
            if is_wanted && shard.ownership.owner(name, id) == shard.index {
                let queue = shard.queue(&topic, id);
                queue.is_watched.set(true);
                if has_messages(shard, &key.group, &queue, key.is_ordered) {
                    return tell(shard, from, key);
                }
            }
        }
    }
    let mut watches = shard.pop.watches.0.borrow_mut();
    for name in topics {
        watches.entry(name.into()).or_default().insert((from, Arc::clone(&key)));
    }
}

/// The normal topic first. A retry topic need not exist yet.
fn watched_topics(shard: &Shard, key: &WaitKey) -> Vec<String> {
    let mut topics = vec![key.topic.clone()];
    if !key.is_ordered {
        let settings = &shard.settings.pop;
        if !settings.retry_topic_v2 || settings.retry_topic_v1_too {
            topics.push(Source::RetryV1.topic(&key.group, &key.topic));
        }
        if settings.retry_topic_v2 {
            topics.push(Source::RetryV2.topic(&key.group, &key.topic));
        }
    }
    topics
}

/// A message became visible in a queue that may be watched.
pub fn arrived(shard: &Shard, queue: &Queue) {
    if !freed(shard, &queue.topic, queue.id) {
        queue.is_watched.set(false);
    }
}

/// Something can be had of the queue again. False: nobody watches its topic.
pub fn freed(shard: &Shard, topic: &str, id: i32) -> bool {
    let mut told = Vec::new();
    {
        let mut watches = shard.pop.watches.0.borrow_mut();
        let Some(watching) = watches.get_mut(topic) else { return false };
        watching.retain(|(from, key)| {
            let is_wanted = key.queue < 0 || key.queue == id || key.topic != topic;
            if is_wanted {
                told.push((*from, Arc::clone(key)));
            }
            !is_wanted
        });
        if watching.is_empty() {
            watches.remove(topic);
        }
    }
    for (from, key) in told {
        tell(shard, from, key);
    }
    true
}

fn tell(shard: &Shard, from: usize, key: Arc<WaitKey>) {
    if from == shard.index {
        shard.pop.arrived_here(key);
    } else {
        shard.forwarding.send(from, MeshMessage::PopArrived { key });
    }
}
