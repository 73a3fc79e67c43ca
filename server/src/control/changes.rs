//! Changes of topics and groups, in groups: applied together, written once, published once, then answered.
//!
//! Order of each group: state, file, shards, answers. So what was answered survives a power cut and is known to
//! every shard, and while one file is written the next group gathers. Nothing else changes these two tables.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::limits::CHANGES_WAITING_MAX;
use super::link::{MetadataChange, TopicOutcome, TopicRequest};
use super::state::State;
use super::{groups, names, topics};
use rmq_protocol::body::{SubscriptionGroupConfig, TopicConfig};

pub enum Change {
    /// A topic somebody needs; created if the rules allow.
    NeedTopic {
        request: TopicRequest,
        reply: Box<dyn FnOnce(TopicOutcome)>,
    },
    /// A group somebody needs, with its retry topic or without.
    NeedGroup {
        group: String,
        retry_topic: Option<RetryTopic>,
        reply: Box<dyn FnOnce(bool)>,
    },
    PutTopics {
        configs: Vec<TopicConfig>,
        reply: Done,
    },
    DeleteTopics {
        topics: Vec<String>,
        reply: Done,
    },
    PutGroups {
        configs: Vec<SubscriptionGroupConfig>,
        reply: Done,
    },
    DeleteGroup {
        group: String,
        reply: Done,
    },
    /// Whether a group may read a topic.
    Forbid {
        group: String,
        topic: String,
        readable: bool,
        reply: Done,
    },
    /// Name servers say that these topics are consumed in order.
    MarkOrdered {
        topics: Vec<String>,
    },
}

pub struct RetryTopic {
    /// The group consumes in unit mode.
    pub unit: bool,
}

/// Hears whether the change is durable and published; the error is a remark.
pub type Done = oneshot::Sender<Result<(), String>>;

#[derive(Default)]
pub struct ChangeQueue {
    waiting: RefCell<Vec<Change>>,
    arrived: Notify,
    /// Topics and groups that are being saved or published: they may still be taken back.
    unsettled: RefCell<BTreeSet<String>>,
}

impl ChangeQueue {
    pub fn push(&self, change: Change) {
        if self.waiting.borrow().len() >= CHANGES_WAITING_MAX {
            tracing::warn!(
                "{CHANGES_WAITING_MAX} topic and group changes wait for the disk; one more is refused"
            );
            return change.refuse("too many topic and group changes are waiting");
        }
        self.waiting.borrow_mut().push(change);
        self.arrived.notify_one();
    }

    async fn take(&self) -> Vec<Change> {
        loop {
            let group = std::mem::take(&mut *self.waiting.borrow_mut());
            if !group.is_empty() {
                return group;
            }
            self.arrived.notified().await;
        }
    }
}

impl Change {
    fn refuse(self, remark: &str) {
        let failed = || Err(remark.to_owned());
        match self {
            Self::NeedTopic { reply, .. } => reply(TopicOutcome::Failed(remark.to_owned())),
            Self::NeedGroup { reply, .. } => reply(false),
            Self::PutTopics { reply, .. }
            | Self::DeleteTopics { reply, .. }
            | Self::PutGroups { reply, .. }
            | Self::DeleteGroup { reply, .. }
            | Self::Forbid { reply, .. } => {
                let _ = reply.send(failed());
            }
            Self::MarkOrdered { .. } => {}
        }
    }
}

/// Runs as long as the control thread.
pub async fn commit_changes(state: Rc<State>) {
    loop {
        let group = state.changes.take().await;
        commit(&state, group).await;
    }
}

/// Answers of a group, given once its outcome is known: `Err` carries the remark.
type Answer = Box<dyn FnOnce(Result<(), &str>)>;

#[derive(Default)]
struct Group {
    /// Names and what stood there before, in the order of the changes.
    topics: Vec<(String, Option<Arc<TopicConfig>>)>,
    groups: Vec<(String, Option<Arc<SubscriptionGroupConfig>>)>,
    forbidden: Vec<(String, BTreeMap<String, i32>)>,
    answers: Vec<Answer>,
}

async fn commit(state: &State, changes: Vec<Change>) {
    let mut group = Group::default();
    for change in changes {
        group.apply(state, change);
    }
    state.changes.unsettled.replace(group.names().map(str::to_owned).collect());
    let outcome = save(state, &group).await;
    if let Err(remark) = &outcome {
        tracing::error!("a topic or group change is taken back: {remark}");
        let altered = group.take_back(state);
        state.changes.unsettled.take();
        // A registration in between may have told of it.
        state.registrar.announce(state, altered.into_iter());
        for answer in group.answers {
            answer(Err(remark));
        }
        return;
    }
    let published = group.published(state);
    if !published.is_empty() {
        state.links.publish(published.into()).await;
    }
    state.changes.unsettled.take();
    let altered = group.topics.iter().map(|(name, _)| name.clone());
    state.registrar.announce(state, altered);
    for answer in group.answers {
        answer(Ok(()));
    }
}

async fn save(state: &State, group: &Group) -> Result<(), String> {
    if !group.topics.is_empty() {
        let content = state.topics.borrow().to_file();
        state.save(&state.files.topics, content).await?;
    }
    if !group.groups.is_empty() || !group.forbidden.is_empty() {
        let content = state.groups.borrow().to_file();
        state.save(&state.files.groups, content).await?;
    }
    Ok(())
}

impl Group {
    fn apply(&mut self, state: &State, change: Change) {
        match change {
            Change::NeedTopic { request, reply } => {
                let known = self.need_topic(state, &request);
                let is_settled = known.as_ref().is_some_and(|config| !self.changes(&config.topic_name));
                self.answers.push(Box::new(move |outcome| {
                    reply(match (outcome, known) {
                        (Err(_), Some(config)) if is_settled => TopicOutcome::Exists(config),
                        (Err(remark), _) => TopicOutcome::Failed(remark.to_owned()),
                        (Ok(()), Some(config)) => TopicOutcome::Exists(config),
                        (Ok(()), None) => TopicOutcome::Refused,
                    });
                }));
            }
            Change::NeedGroup { group, retry_topic, reply } => {
                let exists = self.need_group(state, &group);
                let mut is_settled = !self.changes(&group);
                if let Some(RetryTopic { unit }) = retry_topic.filter(|_| exists) {
                    is_settled &= !self.changes(&names::retry_topic(&group));
                    self.need_topic(state, &TopicRequest::Retry { group, unit });
                }
                self.answers.push(Box::new(move |outcome| reply(exists && (is_settled || outcome.is_ok()))));
            }
            Change::PutTopics { configs, reply } => {
                for config in configs {
                    if state.topics.borrow().find(&config.topic_name).is_none_or(|known| **known != config) {
                        self.put_topic(state, config);
                    }
                }
                self.answer(reply);
            }
            Change::DeleteTopics { topics, reply } => {
                for topic in topics {
                    if let Some(before) = state.topics.borrow_mut().remove(&topic, state.now_ms()) {
                        self.topics.push((topic, Some(before)));
                    }
                }
                self.answer(reply);
            }
            Change::PutGroups { configs, reply } => {
                for config in configs {
                    if state.groups.borrow().find(&config.group_name).is_none_or(|known| **known != config) {
                        self.put_group(state, config);
                    }
                }
                self.answer(reply);
            }
            Change::DeleteGroup { group, reply } => {
                if let Some(before) = state.groups.borrow_mut().remove(&group, state.now_ms()) {
                    self.groups.push((group, Some(before)));
                }
                self.answer(reply);
            }
            Change::Forbid { group, topic, readable, reply } => {
                let now_ms = state.now_ms();
                let before = state.groups.borrow_mut().forbid(&group, &topic, readable, now_ms);
                match before {
                    Ok(before) => {
                        self.forbidden.push((group, before));
                        self.answer(reply);
                    }
                    Err(remark) => {
                        let _ = reply.send(Err(remark.to_owned()));
                    }
                }
            }
            Change::MarkOrdered { topics } => {
                for topic in topics {
                    let known = state.topics.borrow().find(&topic).filter(|known| !known.order).cloned();
                    if let Some(known) = known {
                        self.put_topic(state, TopicConfig { order: true, ..(*known).clone() });
                    }
                }
            }
        }
    }

    /// The topics and groups that this group of changes touches.
    fn names(&self) -> impl Iterator<Item = &str> {
        let topics = self.topics.iter().map(|(name, _)| name.as_str());
        topics.chain(self.groups.iter().map(|(name, _)| name.as_str()))
    }

    /// Whether what is known of this topic or group comes from these very changes.
    fn changes(&self, name: &str) -> bool {
        self.names().any(|changed| changed == name)
    }

    fn need_topic(&mut self, state: &State, request: &TopicRequest) -> Option<Arc<TopicConfig>> {
        let decision = {
            let groups = state.groups.borrow();
            let auto_create = state.settings.auto_create_topic;
            state.topics.borrow().decide(request, auto_create, |group| groups.find(group))
        };
        match decision {
            topics::Decision::Known(config) => Some(config),
            topics::Decision::Create(config) => Some(self.put_topic(state, config)),
            topics::Decision::Refuse => None,
        }
    }

    fn need_group(&mut self, state: &State, group: &str) -> bool {
        let decision = state.groups.borrow().decide(group, state.settings.auto_create_group);
        match decision {
            groups::Decision::Known => true,
            groups::Decision::Create(config) => {
                self.put_group(state, *config);
                true
            }
            groups::Decision::Refuse => false,
        }
    }

    fn put_topic(&mut self, state: &State, config: TopicConfig) -> Arc<TopicConfig> {
        let name = config.topic_name.clone();
        let mut topics = state.topics.borrow_mut();
        let before = topics.put(config, state.now_ms());
        let now = topics.find(&name).cloned().expect("a topic that was just put is there");
        self.topics.push((name, before));
        now
    }

    fn put_group(&mut self, state: &State, config: SubscriptionGroupConfig) {
        let name = config.group_name.clone();
        let before = state.groups.borrow_mut().put(config, state.now_ms());
        self.groups.push((name, before));
    }

    fn answer(&mut self, reply: Done) {
        self.answers.push(Box::new(move |outcome| {
            let _ = reply.send(outcome.map_err(str::to_owned));
        }));
    }

    /// Returns the topics concerned.
    fn take_back(&mut self, state: &State) -> Vec<String> {
        let now_ms = state.now_ms();
        let altered = self.topics.iter().map(|(topic, _)| topic.clone()).collect();
        for (topic, before) in self.topics.drain(..).rev() {
            state.topics.borrow_mut().restore(topic, before, now_ms);
        }
        for (group, before) in self.forbidden.drain(..).rev() {
            state.groups.borrow_mut().restore_forbidden(&group, before, now_ms);
        }
        for (group, before) in self.groups.drain(..).rev() {
            state.groups.borrow_mut().restore(group, before, now_ms);
        }
        altered
    }

    /// Groups come before topics: a shard that knows a retry topic knows its group.
    fn published(&self, state: &State) -> Vec<MetadataChange> {
        let groups = state.groups.borrow();
        let topics = state.topics.borrow();
        let groups = self.groups.iter().map(|(name, _)| MetadataChange::Group {
            name: name.clone(),
            config: groups.find(name).cloned(),
        });
        let topics = self.topics.iter().map(|(name, _)| MetadataChange::Topic {
            name: name.clone(),
            config: topics.find(name).cloned(),
        });
        let all = state.groups.borrow();
        let forbidden = self.forbidden.iter().map(|(group, _)| MetadataChange::Unreadable {
            group: group.clone(),
            topics: all.unreadable(group),
        });
        groups.chain(topics).chain(forbidden).collect()
    }
}

impl State {
    /// Waits until the change is durable and every shard knows it; the error is a remark.
    pub async fn change(&self, make: impl FnOnce(Done) -> Change) -> Result<(), String> {
        let (reply, outcome) = oneshot::channel();
        self.changes.push(make(reply));
        outcome.await.unwrap_or_else(|_| Err("the broker is stopping".to_owned()))
    }

    /// Whether the group, and its retry topic where it matters, exist, durable and known to every shard.
    fn is_settled(&self, group: &str, with_retry_topic: bool) -> bool {
        let unsettled = self.changes.unsettled.borrow();
        let has_topic = || {
            let retry_topic = names::retry_topic(group);
            self.topics.borrow().find(&retry_topic).is_some() && !unsettled.contains(&retry_topic)
        };
        self.groups.borrow().find(group).is_some()
            && !unsettled.contains(group)
            && (!with_retry_topic || has_topic())
    }

    /// Makes sure of a consumer group and, if asked for, of its retry topic. `false`: there is no such group.
    pub async fn need_group(&self, group: &str, retry_topic: Option<RetryTopic>) -> bool {
        // Nearly every heartbeat: it must not wait for the disk behind somebody's new topic.
        if self.is_settled(group, retry_topic.is_some()) {
            return true;
        }
        let (reply, exists) = oneshot::channel();
        self.changes.push(Change::NeedGroup {
            group: group.to_owned(),
            retry_topic,
            reply: Box::new(move |outcome| {
                let _ = reply.send(outcome);
            }),
        });
        exists.await.unwrap_or(false)
    }
}
