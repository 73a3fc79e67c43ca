//! What the tasks of the control thread share. One thread: a borrow never lives across an await.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::changes::ChangeQueue;
use super::client_calls::ClientCalls;
use super::clients::{ClientChange, ClientTable};
use super::groups::GroupTable;
use super::link::{MetadataChange, ShardAnswer, ShardLinks, ShardQuery};
use super::live_config::LiveConfig;
use super::offsets::{ConsumerOffsets, DelayOffsets};
use super::order_locks::OrderLocks;
use super::push;
use super::rates::Rates;
use super::registration::Registrar;
use super::request_modes::RequestModes;
use super::routes::Routes;
use super::serving::Serving;
use super::settings::ControlSettings;
use super::state_file::StateFile;
use super::topics::TopicTable;
use super::traffic::Traffic;
use crate::config::BrokerConfig;
use crate::live::Live;
use crate::settings::Settings;

pub struct State {
    pub settings: Live<ControlSettings>,
    pub config: RefCell<LiveConfig>,
    /// Held while the configuration is changed.
    pub changing_config: tokio::sync::Mutex<()>,
    pub links: Rc<dyn ShardLinks>,
    pub files: StateFiles,
    pub topics: RefCell<TopicTable>,
    pub groups: RefCell<GroupTable>,
    pub clients: RefCell<ClientTable>,
    pub locks: RefCell<OrderLocks>,
    pub offsets: RefCell<ConsumerOffsets>,
    pub delays: RefCell<DelayOffsets>,
    pub modes: RefCell<RequestModes>,
    pub routes: Routes,
    pub rates: RefCell<Rates>,
    pub traffic: RefCell<Traffic>,
    pub changes: ChangeQueue,
    pub calls: ClientCalls,
    pub serving: Serving,
    pub registrar: Registrar,
    /// Held while offsets are written, so that there is one writer, and the last save waits for the one before.
    pub saving_offsets: tokio::sync::Mutex<()>,
    /// Whose turn it is among the producers of a group.
    pub next_producer: Cell<usize>,
    pub started_ms: i64,
}

pub struct StateFiles {
    pub topics: StateFile,
    pub groups: StateFile,
    pub offsets: StateFile,
    pub delays: StateFile,
    pub request_modes: StateFile,
}

impl StateFiles {
    pub fn in_dir(config_dir: &Path) -> Self {
        let file = |name: &str| StateFile::new(config_dir.join(name));
        Self {
            topics: file("topics.json"),
            groups: file("subscriptionGroup.json"),
            offsets: file("consumerOffset.json"),
            delays: file("delayOffset.json"),
            request_modes: file("messageRequestMode.json"),
        }
    }
}

impl State {
    pub fn now_ms(&self) -> i64 {
        now_ms()
    }

    /// Off this thread, since a sync may take long; the error is a remark.
    pub async fn save(&self, file: &StateFile, content: Vec<u8>) -> Result<(), String> {
        let file = file.clone();
        let write = tokio::task::spawn_blocking(move || file.save(&content));
        match write.await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(error) => Err(format!("the write of a state file did not end: {error}")),
        }
    }

    /// Makes a changed configuration count, here and in every shard.
    pub async fn apply(&self, config: &BrokerConfig) {
        let settings = ControlSettings::from(config);
        if *self.settings != settings {
            self.settings.replace(Box::leak(Box::new(settings)));
        }
        // Each shard keeps the address that it resolved at its start.
        let settings = Settings::new(config, SocketAddr::from(([0, 0, 0, 0], 0)));
        self.links.publish(Arc::from([MetadataChange::Settings(Arc::new(settings))])).await;
    }

    /// Asks every shard; answers in the order of the shards.
    pub async fn query_all(&self, query: ShardQuery) -> Vec<ShardAnswer> {
        let asked: Vec<_> =
            (0..self.links.shards()).map(|shard| self.links.query(shard, query.clone())).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await);
        }
        answers
    }

    /// Tells clients and shards what a change of the client table means for them.
    pub async fn spread(&self, change: ClientChange) {
        for group in &change.membership_of {
            push::notify_members(self, group);
        }
        if change.subscriptions_of.is_empty() {
            return;
        }
        let views: Vec<MetadataChange> = {
            let clients = self.clients.borrow();
            let view = |group: String| MetadataChange::Subscriptions {
                subscriptions: clients.subscriptions(&group).map(Arc::new),
                group,
            };
            change.subscriptions_of.into_iter().map(view).collect()
        };
        self.links.publish(views.into()).await;
    }

    /// The shards' start: all topics and groups.
    pub fn metadata(&self) -> Vec<MetadataChange> {
        let groups = self.groups.borrow();
        let topics = self.topics.borrow();
        let groups = groups
            .iter()
            .map(|(name, config)| MetadataChange::Group { name: name.clone(), config: Some(config.clone()) });
        let topics = topics
            .iter()
            .map(|(name, config)| MetadataChange::Topic { name: name.clone(), config: Some(config.clone()) });
        let all = self.groups.borrow();
        let forbidden = all
            .forbidden()
            .keys()
            .map(|group| MetadataChange::Unreadable { group: group.clone(), topics: all.unreadable(group) });
        groups.chain(topics).chain(forbidden).collect()
    }

    pub async fn save_consumer_offsets(&self) -> Result<(), String> {
        let _one_writer = self.saving_offsets.lock().await;
        let Some(content) = self.offsets.borrow_mut().take_changed() else { return Ok(()) };
        let outcome = self.save(&self.files.offsets, content).await;
        if outcome.is_err() {
            self.offsets.borrow_mut().not_saved();
        }
        outcome
    }

    pub async fn save_delay_offsets(&self) -> Result<(), String> {
        let _one_writer = self.saving_offsets.lock().await;
        let Some(content) = self.delays.borrow_mut().take_changed() else { return Ok(()) };
        let outcome = self.save(&self.files.delays, content).await;
        if outcome.is_err() {
            self.delays.borrow_mut().not_saved();
        }
        outcome
    }
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
