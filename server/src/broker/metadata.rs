//! What one shard knows of topics, groups and subscriptions: copies of what the control thread decided.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use rmq_engine::QueueNumber;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::broker::key_index::KeySeed;
use crate::broker::long_poll::HeldPulls;
use crate::control::link::{
    GroupSubscriptions, MetadataChange, Subscription, SubscriptionGroupConfig, TopicConfig,
};
use crate::control::names::LIGHT_PREFIX;
use crate::limits::LIGHT_QUEUE_NAME_BYTES_MAX;
use crate::net::executor::Notify;
use crate::settings::{LightQueueSettings, PERM_READ, PERM_WRITE};

/// One topic and the state of its queues that live on this shard.
pub struct Topic {
    pub name: String,
    pub key_seed: KeySeed,
    config: RefCell<Arc<TopicConfig>>,
    /// By queue id; what this shard does not own stays empty.
    queues: RefCell<Vec<Option<Rc<Queue>>>>,
}

/// A MessageQueue owned by this shard.
pub struct Queue {
    pub topic: Rc<str>,
    pub id: i32,
    /// Unknown to the engine until its first message.
    number: Cell<Option<QueueNumber>>,
    /// Where the queue stood when this process first looked at it.
    pub first_next: i64,
    pub held: HeldPulls,
    /// Stored since the start.
    pub put_bytes: Cell<u64>,
    /// Somebody may wait to pop from it: `pop::watches` knows.
    pub is_watched: Cell<bool>,
    /// Wakes the delay level that reads this queue.
    pub arrivals: RefCell<Option<Rc<Notify>>>,
}

impl Topic {
    /// Borrowed, because a counter that all shards share is not touched per message.
    pub fn config(&self) -> Ref<'_, TopicConfig> {
        Ref::map(self.config.borrow(), |config| &**config)
    }

    /// The queue, when it was asked for before.
    pub fn known_queue(&self, id: i32) -> Option<Rc<Queue>> {
        self.queues.borrow().get(usize::try_from(id).ok()?)?.clone()
    }

    /// Begins to know a queue. `id` has been checked against the topic's configuration.
    pub fn add_queue(&self, id: i32, number: Option<QueueNumber>, first_next: i64) -> Rc<Queue> {
        let index = usize::try_from(id).expect("a queue id was checked before it comes here");
        let queue = Rc::new(Queue {
            topic: Rc::from(self.name.as_str()),
            id,
            number: Cell::new(number),
            first_next,
            held: HeldPulls::default(),
            put_bytes: Cell::new(0),
            is_watched: Cell::new(true),
            arrivals: RefCell::new(None),
        });
        let mut queues = self.queues.borrow_mut();
        if queues.len() <= index {
            queues.resize(index + 1, None);
        }
        queues[index] = Some(Rc::clone(&queue));
        queue
    }

    pub fn known_queues(&self) -> Vec<Rc<Queue>> {
        self.queues.borrow().iter().flatten().cloned().collect()
    }
}

impl Queue {
    pub fn number(&self) -> Option<QueueNumber> {
        self.number.get()
    }

    pub fn declared(&self, number: QueueNumber) {
        self.number.set(Some(number));
    }

    /// The engine's queue was deleted; the next message declares a new one.
    pub fn deleted(&self) {
        self.number.set(None);
    }
}

/// A group that reads light queues: never configured.
fn light_group(name: &str) -> Rc<SubscriptionGroupConfig> {
    Rc::new(SubscriptionGroupConfig { group_name: name.to_owned(), ..SubscriptionGroupConfig::default() })
}

#[derive(Default)]
pub struct Metadata {
    /// Light queues that this shard may yet come to know.
    light_queues_left: Cell<usize>,
    has_light_queues: bool,
    topics: RefCell<FxHashMap<String, Rc<Topic>>>,
    groups: RefCell<FxHashMap<String, Rc<SubscriptionGroupConfig>>>,
    subscriptions: RefCell<FxHashMap<String, Arc<GroupSubscriptions>>>,
    order_locked: RefCell<FxHashSet<String>>,
    /// Group to topics that it may not read. Nearly always empty.
    unreadable: RefCell<FxHashMap<String, BTreeSet<String>>>,
}

impl Metadata {
    /// Knows nothing yet; light queues need not be told.
    pub fn new(light_queues: &LightQueueSettings, shards: usize) -> Self {
        let left = if light_queues.is_on { light_queues.queues_max.div_ceil(shards) } else { 0 };
        let has_light_queues = light_queues.is_on;
        Self { light_queues_left: Cell::new(left), has_light_queues, ..Self::default() }
    }

    pub fn topic(&self, name: &str) -> Option<Rc<Topic>> {
        let known = self.topics.borrow().get(name).cloned();
        known.or_else(|| self.light_queue(name))
    }

    /// A light queue exists as soon as it is named, as long as there are not too many.
    fn light_queue(&self, name: &str) -> Option<Rc<Topic>> {
        if !name.starts_with(LIGHT_PREFIX) || name.len() > LIGHT_QUEUE_NAME_BYTES_MAX {
            return None;
        }
        self.light_queues_left.set(self.light_queues_left.get().checked_sub(1)?);
        let config = Some(Arc::new(TopicConfig::new(name, 1, PERM_READ | PERM_WRITE)));
        self.apply(&MetadataChange::Topic { name: name.to_owned(), config });
        self.topics.borrow().get(name).cloned()
    }

    pub fn topics(&self) -> Vec<Rc<Topic>> {
        self.topics.borrow().values().cloned().collect()
    }

    pub fn group(&self, name: &str) -> Option<Rc<SubscriptionGroupConfig>> {
        let known = self.groups.borrow().get(name).cloned();
        known.or_else(|| (self.has_light_queues && name.starts_with(LIGHT_PREFIX)).then(|| light_group(name)))
    }

    pub fn subscriptions(&self, group: &str) -> Option<Arc<GroupSubscriptions>> {
        self.subscriptions.borrow().get(group).cloned()
    }

    pub fn subscription(&self, group: &str, topic: &str) -> Option<Subscription> {
        self.subscriptions.borrow().get(group)?.topics.get(topic).cloned()
    }

    pub fn may_read(&self, group: &str, topic: &str) -> bool {
        let unreadable = self.unreadable.borrow();
        unreadable.is_empty() || unreadable.get(group).is_none_or(|topics| !topics.contains(topic))
    }

    /// Whether the group holds an unexpired order lock.
    pub fn is_order_locked(&self, group: &str) -> bool {
        self.order_locked.borrow().contains(group)
    }

    /// Applies one change; a removed topic is returned, so that its queues can be dropped.
    pub fn apply(&self, change: &MetadataChange) -> Option<Rc<Topic>> {
        match change {
            MetadataChange::Topic { name, config: Some(config) } => {
                let mut topics = self.topics.borrow_mut();
                if let Some(topic) = topics.get(name) {
                    *topic.config.borrow_mut() = Arc::clone(config);
                } else {
                    let topic = Topic {
                        name: name.clone(),
                        key_seed: KeySeed::of_topic(name),
                        config: RefCell::new(Arc::clone(config)),
                        queues: RefCell::default(),
                    };
                    topics.insert(name.clone(), Rc::new(topic));
                }
                None
            }
            MetadataChange::Topic { name, config: None } => self.topics.borrow_mut().remove(name),
            MetadataChange::Group { name, config } => {
                let mut groups = self.groups.borrow_mut();
                match config {
                    Some(config) => {
                        groups.insert(name.clone(), Rc::new(SubscriptionGroupConfig::clone(config)))
                    }
                    None => groups.remove(name),
                };
                None
            }
            MetadataChange::Subscriptions { group, subscriptions } => {
                let mut known = self.subscriptions.borrow_mut();
                match subscriptions {
                    Some(subscriptions) => known.insert(group.clone(), Arc::clone(subscriptions)),
                    None => known.remove(group),
                };
                None
            }
            // The shard's own business.
            MetadataChange::Settings(_) => None,
            MetadataChange::Unreadable { group, topics } => {
                let mut unreadable = self.unreadable.borrow_mut();
                if topics.is_empty() {
                    unreadable.remove(group);
                } else {
                    unreadable.insert(group.clone(), topics.clone());
                }
                None
            }
            MetadataChange::OrderLock { group, held } => {
                let mut locked = self.order_locked.borrow_mut();
                if *held {
                    locked.insert(group.clone());
                } else {
                    locked.remove(group);
                }
                None
            }
        }
    }
}
