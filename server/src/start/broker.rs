//! A running broker: store, shards, control thread and sockets, in the order they start and stop.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rmq_engine::env::uring::UringEnv;
use rmq_engine::{FlushMode, MemoryTail, ShardSeed, Store, StoreOptions};
use tokio::sync::oneshot;

use super::{Result, StartError, bind_ip, say};
use crate::broker::consumer_offsets::{Commit, ConsumerOffsets};
use crate::broker::store::MessageSchema;
use crate::broker::transactions;
use crate::config::{BrokerConfig, FlushDiskType};
use crate::control::Control;
use crate::control::link::{ControlLink, ToControl};
use crate::links::MeshLinks;
use crate::mesh::{Inbox, MeshMessage};
use crate::net::executor;
use crate::net::listener::Port;
use crate::ownership::Ownership;
use crate::settings::Settings;
use crate::shard::{Shard, ShardParts};
use crate::{preflight, supervisor};

/// A broker in this process: its shards, its control thread, its sockets.
pub(super) struct RunningBroker {
    inboxes: Vec<Arc<Inbox>>,
    control: ControlLink,
    control_task: tokio::task::JoinHandle<()>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    shards: Vec<thread::JoinHandle<()>>,
    lost: tokio::sync::mpsc::UnboundedReceiver<usize>,
}

impl RunningBroker {
    pub(super) async fn start(config: BrokerConfig) -> Result<Self> {
        let began = Instant::now();
        let store_host = advertised(&config)?;
        let cpus = shard_cpus(&config);
        preflight::check(&config.store_root, cpus.len())?;
        let settings = Settings::new(&config, store_host);
        let bind = bind_ip("bindAddress", &config.bind_address)?;
        let main_port = Port::take(bind, config.listen_port, "broker", "listenPort")?;
        let vip_port = Port::take(bind, config.vip_port, "broker fast (VIP)", "listenPort (two above)")?;

        let ownership = Ownership::new(cpus.len());
        let seeds = open_store(store_options(&config, cpus.len()), ownership, cpus[0])?;
        let inboxes: Vec<_> = cpus.iter().map(|_| Inbox::new()).collect();
        let (control, control_inbox) = ControlLink::new();
        let links = Rc::new(MeshLinks::new(inboxes.clone()));
        let (control_thread, initial) = Control::start(&config, links, control_inbox)?;

        let (lost_sender, lost) = tokio::sync::mpsc::unbounded_channel();
        let mut shards = Vec::new();
        let spin = Duration::from_micros(config.own.spin_us);
        for (seed, &cpu) in seeds.into_iter().zip(&cpus) {
            let index = seed.index();
            let mut offsets = ConsumerOffsets::default();
            for row in &initial.offsets {
                if ownership.owner(&row.topic, row.queue) == index
                    && offsets.commit(&row.group, &row.topic, row.queue, row.offset) == Commit::TableFull
                {
                    tracing::error!(?row, "a consumer offset of config/consumerOffset.json is left out");
                }
            }
            offsets.take_dirty();
            let start = ShardStart {
                seed,
                settings: settings.clone(),
                ownership,
                offsets,
                delay_offsets: initial.delay_offsets.clone(),
                inboxes: inboxes.clone(),
                control: control.clone(),
            };
            shards.push(start.spawn(cpu, spin, lost_sender.clone()).await?);
        }
        supervisor::spawn(inboxes.clone())
            .map_err(|source| StartError::Thread { what: "the supervisor".to_owned(), source })?;
        control_thread.publish(initial.metadata).await;
        let registered = control_thread.registered();
        let control_task = tokio::task::spawn_local(control_thread.run());

        let limit = config.own.connections_max as usize;
        let accepting = [(main_port.listen()?, false), (vip_port.listen()?, true)]
            .map(|(listener, vip)| {
                tokio::task::spawn_local(accept(to_tokio(listener), vip, inboxes.clone(), limit))
            })
            .into();
        // Whoever reads `boot success` finds the broker's topics at the name server.
        registered.await;
        announce(&config, began);
        Ok(Self { inboxes, control, control_task, accepting, shards, lost })
    }

    /// Resolves when a part has ended by itself: what is left cannot serve.
    pub(super) async fn lost(&mut self) -> StartError {
        tokio::select! {
            Some(shard) = self.lost.recv() => StartError::ShardLost(shard),
            _ = &mut self.control_task => StartError::ControlLost,
        }
    }

    pub(super) async fn stop(self) {
        for task in &self.accepting {
            task.abort();
        }
        let mut drained = Vec::new();
        for inbox in &self.inboxes {
            let (done, is_done) = oneshot::channel();
            inbox.push(MeshMessage::Drain { done });
            drained.push(is_done);
        }
        let limit = Duration::from_millis(crate::limits::DRAIN_MS + 1_000);
        for is_done in drained {
            let _ = tokio::time::timeout(limit, is_done).await;
        }
        let (done, is_done) = oneshot::channel();
        self.control.tell(ToControl::Shutdown { done });
        let _ = tokio::time::timeout(limit, is_done).await;
        self.control_task.abort();
        for inbox in &self.inboxes {
            inbox.push(MeshMessage::Stop);
        }
        let joined = tokio::task::spawn_blocking(move || {
            for shard in self.shards {
                let _ = shard.join();
            }
        });
        let _ = joined.await;
        tracing::info!("stopped");
    }
}

fn to_tokio(listener: std::net::TcpListener) -> tokio::net::TcpListener {
    tokio::net::TcpListener::from_std(listener).expect("a non-blocking listener inside the runtime")
}

fn announce(config: &BrokerConfig, began: Instant) {
    let servers = config.name_servers.0.join(";");
    let registered =
        if servers.is_empty() { String::new() } else { format!(" and name server is {servers}") };
    say(&format!(
        "The broker[{}, {}] boot success. serializeType=JSON{registered}\n",
        config.broker_name,
        config.advertised_address()
    ));
    tracing::info!(
        address = config.advertised_address(),
        store = %config.store_root.display(),
        flush = config.all.get("flushDiskType").map_or("", String::as_str),
        took_ms = began.elapsed().as_millis() as u64,
        "broker ready; clients are told this address (brokerIP1)"
    );
    if let Some(dir) = &config.own.memory_tail {
        tracing::info!(
            dir = %dir.display(),
            bytes_per_shard = config.own.memory_tail_bytes,
            "acknowledging from memory (rmq.memoryTail): a killed process loses nothing acknowledged, provided that this \
             directory outlives it; a kernel panic, reboot or power cut loses what was not written yet, milliseconds"
        );
    }
}

/// The address that stands in routes, records and message ids.
fn advertised(config: &BrokerConfig) -> Result<SocketAddr> {
    let wrong =
        |why: String| StartError::Advertised { key: "brokerIP1", value: config.broker_ip1.clone(), why };
    (config.broker_ip1.as_str(), config.listen_port)
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?
        .next()
        .ok_or_else(|| wrong("the name has no address".to_owned()))
}

/// One processor a shard. By default one core is left to the control thread and the interrupts.
fn shard_cpus(config: &BrokerConfig) -> Vec<usize> {
    let allowed = if config.own.cpus.0.is_empty() { allowed_cpus() } else { config.own.cpus.0.clone() };
    let count = match config.own.shards as usize {
        0 => allowed.len().saturating_sub(1).max(1),
        wished => wished,
    };
    (0..count).map(|index| allowed[index % allowed.len()]).collect()
}

fn allowed_cpus() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let cpus: Vec<usize> = match set {
        Ok(set) => (0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect(),
        Err(_) => Vec::new(),
    };
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn store_options(config: &BrokerConfig, shards: usize) -> StoreOptions {
    StoreOptions {
        segment_size_bytes: config.segment_bytes,
        shards,
        flush: match config.flush_disk_type {
            FlushDiskType::SyncFlush => FlushMode::Sync,
            FlushDiskType::AsyncFlush => FlushMode::Async {
                interval_ms: config.flush_interval_commit_log_ms,
                bytes: ASYNC_FLUSH_BYTES,
            },
        },
        tail_cache_bytes: config.own.tail_cache_bytes as usize,
        read_cache_bytes: config.own.read_cache_bytes as usize,
        zero_ahead_bytes: config.own.zero_ahead_bytes,
        unflushed_bytes_max: config.own.send_backlog_bytes,
        key_memory_bytes: if config.message_index_enable { KEY_MEMORY_BYTES } else { 0 },
        memory_tail: config
            .own
            .memory_tail
            .clone()
            .map(|dir| MemoryTail { dir, bytes: config.own.memory_tail_bytes }),
        ..StoreOptions::new(&config.store_root)
    }
}

/// Keys of a shard's newest messages in memory, eight bytes each: a file of them takes a quarter.
const KEY_MEMORY_BYTES: usize = 32 << 20;

/// ASYNC_FLUSH also flushes after this many bytes, so that a flush never has gigabytes to do.
const ASYNC_FLUSH_BYTES: u64 = 64 << 20;

/// Recovers the store on an executor of its own.
fn open_store(options: StoreOptions, ownership: Ownership, cpu: usize) -> Result<Vec<ShardSeed>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = executor::spawn_pinned("rmq-recovery", cpu, Duration::ZERO, move || async move {
        let env = UringEnv::new();
        let owner = |name: &rmq_engine::QueueName| ownership.owner(&name.topic, name.queue as i32);
        let opened = Store::open(&env, options, Arc::new(MessageSchema), &owner).await;
        let _ = sender.send(opened);
    })
    .map_err(|source| StartError::Thread { what: "the recovery executor".to_owned(), source })?;
    let opened = receiver.recv();
    let ended = thread.join();
    match opened {
        Ok(opened) => opened.map_err(store_failed),
        Err(_) => {
            let why = match ended {
                Ok(Err(why)) => why,
                _ => "it ended without a result".to_owned(),
            };
            Err(StartError::Thread {
                what: "the recovery executor".to_owned(),
                source: io::Error::other(why),
            })
        }
    }
}

fn store_failed(error: rmq_engine::Error) -> StartError {
    match error {
        error @ rmq_engine::Error::MemoryTail { .. } => StartError::MemoryTail(error),
        error => StartError::Store(error),
    }
}

struct ShardStart {
    seed: ShardSeed,
    settings: Settings,
    ownership: Ownership,
    offsets: ConsumerOffsets,
    delay_offsets: Vec<(i32, i64)>,
    inboxes: Vec<Arc<Inbox>>,
    control: ControlLink,
}

impl ShardStart {
    /// Resolves when the shard takes messages.
    async fn spawn(
        self,
        cpu: usize,
        spin: Duration,
        lost: tokio::sync::mpsc::UnboundedSender<usize>,
    ) -> Result<thread::JoinHandle<()>> {
        let index = self.seed.index();
        let name = format!("rmq-shard-{index}");
        let (started, is_started) = oneshot::channel();
        let spawned = executor::spawn_pinned(&name, cpu, spin, move || async move {
            let engine = match rmq_engine::Shard::start(UringEnv::new(), self.seed).await {
                Ok(engine) => engine,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let shard = Shard::start(ShardParts {
                index,
                settings: self.settings,
                ownership: self.ownership,
                engine,
                offsets: self.offsets,
                delay_offsets: self.delay_offsets,
                inboxes: self.inboxes,
                control: self.control,
            });
            if let Err(error) = transactions::recover(&shard).await {
                let _ = started.send(Err(error));
                return;
            }
            let _ = started.send(Ok(()));
            shard.run().await;
        });
        let failed = |source| StartError::Thread { what: name.clone(), source };
        let thread = spawned.map_err(failed)?;
        let watcher = thread::spawn(move || {
            if let Err(why) = thread.join().unwrap_or_else(|_| Err("its watcher failed".to_owned())) {
                tracing::error!(shard = index, why, "a shard ended");
            }
            let _ = lost.send(index);
        });
        match is_started.await {
            Ok(Ok(())) => Ok(watcher),
            Ok(Err(error)) => Err(store_failed(error)),
            Err(_) => Err(StartError::ShardLost(index)),
        }
    }
}

/// Hands each connection to the shard with the fewest.
async fn accept(listener: tokio::net::TcpListener, vip: bool, inboxes: Vec<Arc<Inbox>>, limit: usize) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: the backlog keeps the clients until some are free.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let total: usize = inboxes.iter().map(|inbox| inbox.connections()).sum();
        if total >= limit {
            tracing::warn!(%peer, limit, "connection refused: rmq.connectionsMax is reached");
            continue;
        }
        let Some(inbox) = inboxes.iter().min_by_key(|inbox| inbox.connections()) else { return };
        if socket.set_nodelay(true).is_err() {
            continue;
        }
        if let Ok(socket) = socket.into_std() {
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            inbox.accepted(socket.into(), peer, vip);
        }
    }
}
