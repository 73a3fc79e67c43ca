//! The control thread: everything a broker keeps that is not on the data path.
//!
//! Topic and group configuration, client sessions, order locks, state files and name-server registration live
//! on one ordinary thread, so that a large heartbeat or a slow disk never delays a send. Shards hold
//! immutable copies of what they need; a change is answered when every shard has confirmed it.
//!
//! Read `link` for what passes between the threads, `changes` for how a topic comes into being, `handler` for the
//! requests, `registration` for the name servers.

mod answer;
mod assignment;
pub mod changes;
mod client_calls;
pub mod clients;
pub mod groups;
mod handler;
mod heartbeat;
pub mod limits;
pub mod link;
mod live_config;
mod local_time;
mod name_server;
pub mod names;
pub mod offsets;
pub mod order_locks;
mod push;
mod rates;
mod registration;
mod request_modes;
mod routes;
mod serving;
pub mod settings;
mod slow_consumers;
mod state;
pub mod state_file;
mod state_json;
#[cfg(test)]
pub(crate) mod test_dir;
mod topic_attributes;
pub mod topics;
pub mod traffic;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::poll_once;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::BrokerConfig;
use crate::live::Live;
use crate::ownership::Ownership;

use self::changes::{Change, ChangeQueue, commit_changes};
use self::client_calls::ClientCalls;
use self::clients::ClientTable;
use self::groups::GroupTable;
use self::link::{ConsumerOffsetRow, ControlInbox, MetadataChange, ShardLinks, ShardQuery, ToControl};
use self::live_config::LiveConfig;
use self::offsets::{ConsumerOffsets, DelayOffsets};
use self::order_locks::OrderLocks;
use self::rates::Rates;
use self::registration::Registrar;
use self::request_modes::RequestModes;
use self::routes::Routes;
use self::serving::Serving;
use self::settings::ControlSettings;
use self::state::{State, StateFiles};
use self::state_file::StateFileError;
use self::topics::TopicTable;
use self::traffic::Traffic;

const CLIENT_SCAN: Duration = Duration::from_secs(10);
const LOCK_SCAN: Duration = Duration::from_secs(1);
const SAMPLE: Duration = Duration::from_secs(rates::SAMPLE_SECONDS as u64);

/// A state file cannot be read or written.
pub type StartError = StateFileError;

pub struct Control {
    state: Rc<State>,
    inbox: ControlInbox,
}

/// What the shards begin with: everything the control thread found in its files.
pub struct InitialState {
    pub metadata: Vec<MetadataChange>,
    pub offsets: Vec<ConsumerOffsetRow>,
    pub delay_offsets: Vec<(i32, i64)>,
}

impl Control {
    /// Reads the state files and adds what every broker has. No shard is asked anything yet.
    pub fn start(
        config: &BrokerConfig,
        links: Rc<dyn ShardLinks>,
        inbox: ControlInbox,
    ) -> Result<(Self, InitialState), StartError> {
        let settings: &'static ControlSettings = Box::leak(Box::new(ControlSettings::from(config)));
        let files = StateFiles::in_dir(&settings.config_dir);
        let now_ms = state::now_ms();
        let mut topics = files.topics.load(TopicTable::parse)?.unwrap_or_default();
        if topics.add_system_topics(settings, links.shards(), now_ms) {
            files.topics.save(&topics.to_file())?;
        }
        let mut groups = files.groups.load(GroupTable::parse)?.unwrap_or_default();
        groups.add_built_in();
        let modes = files.request_modes.load(RequestModes::parse)?.unwrap_or_default();
        let ownership = Ownership::new(links.shards());
        let loaded = files.offsets.load(state_json::parse)?.unwrap_or_default();
        let offsets =
            ConsumerOffsets::new(links.shards(), loaded, |topic, queue| ownership.owner(topic, queue));
        let delays = DelayOffsets::new(files.delays.load(state_json::parse)?.unwrap_or_default());
        let initial_offsets = offsets.rows();
        let delay_offsets = delays.rows();
        let state = Rc::new(State {
            registrar: Registrar::new(&settings.name_servers, topics.version()),
            settings: Live::new(settings),
            config: RefCell::new(LiveConfig::new(config, now_ms)),
            changing_config: tokio::sync::Mutex::new(()),
            links,
            files,
            topics: RefCell::new(topics),
            groups: RefCell::new(groups),
            clients: RefCell::new(ClientTable::default()),
            locks: RefCell::new(OrderLocks::default()),
            offsets: RefCell::new(offsets),
            delays: RefCell::new(delays),
            modes: RefCell::new(modes),
            routes: Routes::default(),
            rates: RefCell::new(Rates::default()),
            traffic: RefCell::new(Traffic::default()),
            changes: ChangeQueue::default(),
            calls: ClientCalls::default(),
            serving: Serving::default(),
            saving_offsets: tokio::sync::Mutex::new(()),
            next_producer: Cell::new(0),
            started_ms: now_ms,
        });
        let initial = InitialState { metadata: state.metadata(), offsets: initial_offsets, delay_offsets };
        Ok((Self { state, inbox }, initial))
    }

    /// Resolves when every shard knows the initial metadata.
    pub async fn publish(&self, metadata: Vec<MetadataChange>) {
        self.state.links.publish(metadata.into()).await;
    }

    /// Resolves when the name servers know the broker, or soon when they cannot be reached. `run` does the work.
    pub fn registered(&self) -> impl Future<Output = ()> + use<> {
        let state = Rc::clone(&self.state);
        async move { state.registrar.settled().await }
    }

    /// Serves until `ToControl::Shutdown`, or until every `ControlLink` is gone. Runs inside a `LocalSet`.
    /// Registers with the name servers at once, so the shards must be able to serve by now.
    pub async fn run(mut self) {
        let state = self.state;
        let mut tasks = JoinSet::new();
        tasks.spawn_local(commit_changes(state.clone()));
        tasks.spawn_local(expire_clients(state.clone()));
        tasks.spawn_local(expire_locks(state.clone()));
        tasks.spawn_local(sample_rates(state.clone()));
        tasks.spawn_local(note_traffic(state.clone()));
        tasks.spawn_local(slow_consumers::watch(state.clone()));
        tasks.spawn_local(save_consumer_offsets(state.clone()));
        tasks.spawn_local(save_delay_offsets(state.clone()));
        state.registrar.start(&state, &mut tasks);
        let done = loop {
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(ToControl::Shutdown { done }) => break Some(done),
                    Some(message) => take(&state, message).await,
                    None => break None,
                },
                // Without one of them the broker would go on and lose what it promises.
                ended = tasks.join_next() => {
                    let fault = ended.and_then(Result::err).filter(JoinError::is_panic);
                    match fault {
                        Some(fault) => std::panic::resume_unwind(fault.into_panic()),
                        None => unreachable!("tasks of the control thread end after it"),
                    }
                }
            }
        };
        // Saved before the farewell as well: a silent name server must not cost what was committed until now.
        for outcome in [state.save_consumer_offsets().await, state.save_delay_offsets().await] {
            if let Err(remark) = outcome {
                tracing::error!("at shutdown: {remark}");
            }
        }
        state.registrar.stop().await;
        // What was committed while that took is asked for last.
        for shard in 0..state.links.shards() {
            state.links.query(shard, ShardQuery::HandOver).await;
        }
        // What shards reported before they stopped is in the inbox still.
        while let Some(message) = self.inbox.try_recv() {
            match message {
                ToControl::Offsets { shard, table } => {
                    state.offsets.borrow_mut().report(shard, table, state.now_ms());
                }
                ToControl::DelayOffsets { rows } => state.delays.borrow_mut().report(rows, state.now_ms()),
                _ => {}
            }
        }
        for outcome in [state.save_consumer_offsets().await, state.save_delay_offsets().await] {
            if let Err(remark) = outcome {
                tracing::error!("at shutdown: {remark}");
            }
        }
        tasks.shutdown().await;
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}

/// Starts what the message asks for. The part before the first wait is done on return, so messages of one
/// connection take effect in their order.
async fn take(state: &Rc<State>, message: ToControl) {
    match message {
        ToControl::Request { connection, peer, vip: _, frame } => {
            let mut serving = Box::pin(handler::serve(state.clone(), connection, peer, frame));
            if poll_once(&mut serving).await.is_none() {
                tokio::task::spawn_local(serving);
            }
        }
        ToControl::ClientAnswer { connection, frame } => state.calls.answered(connection, frame),
        ToControl::ConnectionClosed { connection } => {
            state.serving.close(connection);
            state.calls.close(connection);
            let change = state.clients.borrow_mut().close(connection);
            let state = state.clone();
            tokio::task::spawn_local(async move { state.spread(change).await });
        }
        ToControl::CreateTopic { request, reply } => {
            state.changes.push(Change::NeedTopic { request, reply });
        }
        ToControl::EnsureGroup { group, reply } => {
            state.changes.push(Change::NeedGroup { group, retry_topic: None, reply });
        }
        ToControl::Offsets { shard, table } => {
            state.offsets.borrow_mut().report(shard, table, state.now_ms());
        }
        ToControl::DelayOffsets { rows } => state.delays.borrow_mut().report(rows, state.now_ms()),
        ToControl::CheckTransactions { checks, reply } => {
            push::check_transactions(state, checks);
            reply(());
        }
        ToControl::Shutdown { .. } => unreachable!("the loop ends at it"),
    }
}

/// Clients that send no heartbeat are gone, whatever their socket looks like.
async fn expire_clients(state: Rc<State>) {
    let mut ticks = every(CLIENT_SCAN);
    loop {
        ticks.tick().await;
        let late = state.clients.borrow().expired(state.now_ms(), state.settings.client_expiry_ms);
        for connection in late {
            tracing::info!(
                "{connection:?} sent no heartbeat for {} ms; it is closed",
                state.settings.client_expiry_ms
            );
            state.serving.close(connection);
            state.calls.close(connection);
            let change = state.clients.borrow_mut().close(connection);
            state.links.close(connection);
            state.spread(change).await;
        }
    }
}

async fn expire_locks(state: Rc<State>) {
    let mut ticks = every(LOCK_SCAN);
    loop {
        ticks.tick().await;
        handler::order::expire(&state).await;
    }
}

async fn sample_rates(state: Rc<State>) {
    let mut ticks = every(SAMPLE);
    loop {
        ticks.tick().await;
        let stats = rates::sum(state.query_all(ShardQuery::Stats).await);
        let now_ms = state.now_ms();
        state.rates.borrow_mut().sample(&stats, now_ms, local_time::day(now_ms));
    }
}

async fn note_traffic(state: Rc<State>) {
    let mut ticks = every(Duration::from_secs(traffic::NOTE_SECONDS));
    loop {
        ticks.tick().await;
        let answers = state.query_all(ShardQuery::Traffic).await;
        state.traffic.borrow_mut().note(answers, state.now_ms());
    }
}

async fn save_consumer_offsets(state: Rc<State>) {
    loop {
        sleep(Duration::from_millis(state.settings.consumer_offsets_flush_ms)).await;
        if let Err(remark) = state.save_consumer_offsets().await {
            tracing::error!("consumer offsets are not saved: {remark}");
        }
    }
}

async fn save_delay_offsets(state: Rc<State>) {
    loop {
        sleep(Duration::from_millis(state.settings.delay_offsets_flush_ms)).await;
        if let Err(remark) = state.save_delay_offsets().await {
            tracing::error!("delay offsets are not saved: {remark}");
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
