//! Telling name servers what this broker has: everything at the start, after a reconnect and every 30 s; what
//! changed at once.
//!
//! A name server takes over a topic it knows only when the version differs from the one it heard last. So the
//! version it is told is that of the last committed change: one that is still being written has a later one to
//! come, and is heard again with it.
//!
//! One task per name server, so that a dead one never delays another. A name server forgets the broker when
//! the connection closes, so a lost connection is noticed at once and mended by a full registration.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::FutureExt;
use rmq_protocol::response_code::ResponseCode;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::changes::Change;
use super::name_server::{Lost, NameServerConnection};
use super::state::State;
use super::topics::{PERM_READ, PERM_WRITE};
use rmq_protocol::body::{DataVersion, RegisterBrokerBody, TopicConfig, TopicConfigTable};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an admin request waits for the name servers that are up.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Above this many changed topics the registration is a full one: name servers tell the two apart by whether they
/// hold one topic.
const INCREMENT_TOPICS_MAX: usize = 1;

pub struct Registrar {
    targets: RefCell<Vec<Rc<Target>>>,
    /// Of the last change that was announced.
    version: Cell<DataVersion>,
}

/// One name server as the others see it: what it still has to hear.
struct Target {
    address: String,
    todo: RefCell<Todo>,
    /// Wakes the target's task.
    wake: Notify,
    /// Wakes who waits in `settled`.
    progress: Notify,
    up: Cell<bool>,
    /// A registration is under way: what it says is no longer in `todo`, and not yet heard.
    telling: Cell<bool>,
    stopping: Cell<bool>,
    gone: Cell<bool>,
}

enum Todo {
    Nothing,
    /// These topics changed since the name server last heard.
    Topics(BTreeSet<String>),
    Everything,
}

impl Registrar {
    pub fn new(name_servers: &[String], version: DataVersion) -> Self {
        let targets = name_servers.iter().map(|address| Target::new(address)).collect();
        Self { targets: RefCell::new(targets), version: Cell::new(version) }
    }

    /// Starts the tasks on the current `LocalSet`; they end after `stop`.
    pub fn start(&self, state: &Rc<State>, tasks: &mut JoinSet<()>) {
        for target in &*self.targets.borrow() {
            let (state, target) = (state.clone(), target.clone());
            tasks.spawn_local(async move {
                keep_registered(state, target).await;
                // Done with this name server; the end of a task of this set would end the broker.
                std::future::pending().await
            });
        }
    }

    /// Follows a changed list: takes leave of those that are no longer in it and registers with the new ones.
    pub fn aim(&self, state: &Rc<State>, name_servers: &[String]) {
        let mut targets = self.targets.borrow_mut();
        targets.retain(|target| {
            let stays = name_servers.contains(&target.address);
            if !stays {
                target.stopping.set(true);
                target.wake.notify_one();
            }
            stays
        });
        for address in name_servers {
            if targets.iter().all(|target| target.address != *address) {
                let target = Target::new(address);
                let kept = AssertUnwindSafe(keep_registered(state.clone(), target.clone())).catch_unwind();
                tokio::task::spawn_local(async move {
                    if kept.await.is_err() {
                        // As the end of any other task of the control thread.
                        std::process::abort();
                    }
                });
                targets.push(target);
            }
        }
    }

    /// At this moment, for those who wait.
    fn present(&self) -> Vec<Rc<Target>> {
        self.targets.borrow().clone()
    }

    /// Topics that changed or went; the name servers hear of them at once. A deleted topic is not announced:
    /// name servers keep it until a tool removes it there.
    pub fn announce(&self, state: &State, topics: impl Iterator<Item = String>) {
        self.version.set(state.topics.borrow().version());
        let topics: Vec<String> =
            topics.filter(|topic| state.topics.borrow().find(topic).is_some()).collect();
        if topics.is_empty() {
            return;
        }
        for target in &*self.targets.borrow() {
            target.todo.borrow_mut().add(&topics);
            target.wake.notify_one();
        }
    }

    /// Waits until every reachable name server has heard everything, but not for long.
    pub async fn settled(&self) {
        let all = async {
            for target in self.present() {
                while target.owes() {
                    target.progress.notified().await;
                }
            }
        };
        let _ = timeout(ANNOUNCE_TIMEOUT, all).await;
    }

    /// Takes leave of every name server that is there.
    pub async fn stop(&self) {
        for target in self.present() {
            target.stopping.set(true);
            target.wake.notify_one();
        }
        let all = async {
            for target in self.present() {
                while target.up.get() && !target.gone.get() {
                    target.progress.notified().await;
                }
            }
        };
        let _ = timeout(UNREGISTER_TIMEOUT + Duration::from_millis(500), all).await;
    }
}

impl Target {
    fn new(address: &str) -> Rc<Self> {
        Rc::new(Self {
            address: address.to_owned(),
            todo: RefCell::new(Todo::Everything),
            wake: Notify::new(),
            progress: Notify::new(),
            up: Cell::new(false),
            telling: Cell::new(false),
            stopping: Cell::new(false),
            gone: Cell::new(false),
        })
    }

    fn owes(&self) -> bool {
        self.up.get() && (self.telling.get() || !matches!(*self.todo.borrow(), Todo::Nothing))
    }
}

impl Todo {
    fn add(&mut self, topics: &[String]) {
        match self {
            Self::Everything => {}
            Self::Nothing => *self = Self::Topics(topics.iter().cloned().collect()),
            Self::Topics(known) => known.extend(topics.iter().cloned()),
        }
        if matches!(self, Self::Topics(known) if known.len() > INCREMENT_TOPICS_MAX) {
            *self = Self::Everything;
        }
    }
}

async fn keep_registered(state: Rc<State>, target: Rc<Target>) {
    let mut retry = RETRY_FIRST;
    // One warning per outage, not one per attempt.
    let mut warned = false;
    while !target.stopping.get() {
        let lost = match connect(&target.address).await {
            Ok(connection) => stay_registered(&state, &target, connection).await,
            Err(lost) => Some(lost),
        };
        if target.up.replace(false) {
            retry = RETRY_FIRST;
            warned = false;
        }
        *target.todo.borrow_mut() = Todo::Everything;
        target.progress.notify_waiters();
        let Some(lost) = lost else { break };
        if !std::mem::replace(&mut warned, true) {
            tracing::warn!("name server {}: {lost}; trying again until it answers", target.address);
        }
        tokio::select! {
            () = sleep(retry) => {}
            () = target.wake.notified() => {}
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
    target.gone.set(true);
    target.progress.notify_waiters();
}

async fn connect(address: &str) -> Result<NameServerConnection, Lost> {
    timeout(CONNECT_TIMEOUT, NameServerConnection::open(address)).await.unwrap_or(Err(Lost::Silent))
}

/// Returns why the connection is of no use any more, or `None` after taking leave.
async fn stay_registered(
    state: &Rc<State>,
    target: &Target,
    mut connection: NameServerConnection,
) -> Option<Lost> {
    loop {
        target.telling.set(true);
        let told = tell(state, target, &mut connection).await;
        target.telling.set(false);
        if let Err(lost) = told {
            return Some(lost);
        }
        if !target.up.replace(true) {
            tracing::info!("registered with name server {}", target.address);
        }
        target.progress.notify_waiters();
        let next_full = Instant::now() + Duration::from_millis(state.settings.register_period_ms);
        // Until something is to be said. A change that came in while we spoke is there already.
        while matches!(*target.todo.borrow(), Todo::Nothing) {
            if target.stopping.get() {
                let _ = timeout(UNREGISTER_TIMEOUT, connection.unregister(&state.settings)).await;
                return None;
            }
            tokio::select! {
                () = sleep_until(next_full) => *target.todo.borrow_mut() = Todo::Everything,
                () = target.wake.notified() => {}
                lost = connection.lost() => return Some(lost),
            }
        }
    }
}

/// Says what is to be said. An increment that the name server refuses is followed by everything.
async fn tell(state: &Rc<State>, target: &Target, connection: &mut NameServerConnection) -> Result<(), Lost> {
    let limit = Duration::from_millis(state.settings.register_timeout_ms);
    loop {
        let todo = std::mem::replace(&mut *target.todo.borrow_mut(), Todo::Nothing);
        let (body, full) = match todo {
            Todo::Nothing => return Ok(()),
            Todo::Topics(topics) => (body(state, |name| topics.contains(name)), false),
            Todo::Everything => (body(state, |_| true), true),
        };
        let answer =
            timeout(limit, connection.register(&state.settings, &body)).await.unwrap_or(Err(Lost::Silent))?;
        if answer.code == ResponseCode::SUCCESS {
            if full && !answer.ordered_topics.is_empty() {
                state.changes.push(Change::MarkOrdered { topics: answer.ordered_topics });
            }
        } else if full {
            return Err(Lost::Refused { code: answer.code.0, remark: answer.remark });
        } else {
            *target.todo.borrow_mut() = Todo::Everything;
        }
    }
}

/// A broker that is closed for reading or writing says so in every topic.
fn body(state: &State, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
    let permission = state.settings.broker_permission;
    let restricted = permission & (PERM_READ | PERM_WRITE) != PERM_READ | PERM_WRITE;
    let topics = state.topics.borrow();
    let chosen = topics.iter().filter(|(name, _)| wanted(name)).map(|(name, config)| {
        let mut config: TopicConfig = (**config).clone();
        if restricted {
            config.perm &= permission;
        }
        (name.clone(), config)
    });
    let topics = TopicConfigTable {
        data_version: state.registrar.version.get(),
        topic_config_table: chosen.collect(),
        ..TopicConfigTable::default()
    };
    RegisterBrokerBody { topics, ..RegisterBrokerBody::default() }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server takes a registration of several topics for all there are.
    #[test]
    fn several_changes_become_everything() {
        let mut todo = Todo::Nothing;
        todo.add(&["a".to_owned()]);
        todo.add(&["a".to_owned()]);
        assert!(matches!(&todo, Todo::Topics(topics) if topics.len() == 1));
        todo.add(&["b".to_owned()]);
        assert!(matches!(todo, Todo::Everything));
        todo.add(&["a".to_owned()]);
        assert!(matches!(todo, Todo::Everything));
    }
}
