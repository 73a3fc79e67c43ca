//! From a command line to running threads, and back: what starts in which order, and how it stops.
//!
//! The main thread becomes the control thread. Order at start: configuration, the host's checks, the store
//! (recovered before anything listens), shards, configuration state, sockets. Order at a stop: no new
//! connections, accepted work answered, unregistered and state files written, logs closed.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rmq_engine::env::glommio::GlommioEnv;
use rmq_engine::{FlushMode, ShardSeed, Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::broker::consumer_offsets::{Commit, ConsumerOffsets};
use crate::broker::store::MessageSchema;
use crate::cli::{Broker, Command, Namesrv, Standalone};
use crate::config::{BrokerConfig, ConfigError, FlushDiskType, NamesrvConfig, Warning};
use crate::control::link::{ControlLink, ToControl};
use crate::control::{self, Control};
use crate::links::MeshLinks;
use crate::mesh::{Inbox, MeshMessage};
use crate::namesrv::{self, NameServer};
use crate::net::executor;
use crate::net::listener::{ListenError, Port};
use crate::ownership::Ownership;
use crate::preflight;
use crate::settings::{ReadSettings, RetentionSettings, Settings};
use crate::shard::{Shard, ShardParts};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Preflight(#[from] preflight::PreflightError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Control(#[from] control::StartError),
    #[error(transparent)]
    NameServer(#[from] namesrv::StartError),
    #[error("cannot open the store: {0}")]
    Store(rmq_engine::Error),
    #[error("{key}={value} is no address of this host that clients can be told: {why}")]
    Advertised { key: &'static str, value: String, why: String },
    #[error("cannot start {what}: {source}")]
    Thread { what: String, source: io::Error },
    #[error("shard {0} ended unexpectedly; the store is intact and is recovered at the next start")]
    ShardLost(usize),
    #[error("the control thread's work ended unexpectedly; messages are intact, see the log above")]
    ControlLost,
}

type Result<T> = std::result::Result<T, StartError>;

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Standalone(options) => standalone(options),
        Command::Broker(options) => broker(options),
        Command::Namesrv(options) => name_server(options),
    }
}

fn name_server(options: Namesrv) -> Result<()> {
    let (config, warnings) = NamesrvConfig::load(options.config.as_deref(), &options.set)?;
    report(&warnings);
    if options.print_all {
        print_lines(config.lines.iter());
        return Ok(());
    }
    on_control_thread(async move {
        let stop = Stop::watch()?;
        let name_server = start_name_server(config)?;
        stop.signalled().await;
        name_server.stop().await;
        Ok(())
    })
}

fn broker(options: Broker) -> Result<()> {
    let mut overrides = options.set;
    if let Some(list) = options.name_servers {
        overrides.push(("namesrvAddr".to_owned(), list));
    }
    let (config, warnings) = BrokerConfig::load(options.config.as_deref(), &overrides)?;
    report(&warnings);
    if options.print_all {
        print_lines(config.lines.iter());
        return Ok(());
    }
    if options.print_important {
        print_lines(config.important_lines());
        return Ok(());
    }
    on_control_thread(async move {
        let stop = Stop::watch()?;
        let mut broker = RunningBroker::start(config).await?;
        let lost = stop.signalled_or(broker.lost()).await;
        broker.stop().await;
        lost.map_or(Ok(()), Err)
    })
}

fn standalone(options: Standalone) -> Result<()> {
    let mut overrides = options.set.clone();
    let data_dir = options.data_dir.to_string_lossy().into_owned();
    overrides.push(("storePathRootDir".to_owned(), data_dir));
    overrides.push(("listenPort".to_owned(), options.listen_port.to_string()));
    overrides.push(("namesrvAddr".to_owned(), format!("127.0.0.1:{}", options.namesrv_port)));
    let (config, warnings) = BrokerConfig::load(options.config.as_deref(), &overrides)?;
    report(&warnings);
    let name_server_overrides = [
        ("listenPort".to_owned(), options.namesrv_port.to_string()),
        ("kvConfigPath".to_owned(), path_text(&options.data_dir.join("namesrv/kvConfig.json"))),
        ("configStorePath".to_owned(), path_text(&options.data_dir.join("namesrv/namesrv.properties"))),
    ];
    let (name_server_config, warnings) = NamesrvConfig::load(None, &name_server_overrides)?;
    report(&warnings);
    on_control_thread(async move {
        let stop = Stop::watch()?;
        let name_server = start_name_server(name_server_config)?;
        let mut broker = RunningBroker::start(config).await?;
        let lost = stop.signalled_or(broker.lost()).await;
        broker.stop().await;
        name_server.stop().await;
        lost.map_or(Ok(()), Err)
    })
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn report(warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn print_lines<'a>(lines: impl Iterator<Item = &'a (String, String)>) {
    let text: String = lines.map(|(key, value)| format!("{key}={value}\n")).collect();
    say(&text);
}

/// Writes to standard output. That nobody reads it any more (`| head`) is no reason to fail.
fn say(text: &str) {
    use std::io::Write;
    let mut output = io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

fn on_control_thread(main: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::Thread { what: "the control thread".to_owned(), source })?;
    LocalSet::new().block_on(&runtime, main)
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: std::cell::RefCell<tokio::signal::unix::Signal>,
    interrupt: std::cell::RefCell<tokio::signal::unix::Signal>,
}

impl Stop {
    fn watch() -> Result<Self> {
        let watch = |kind| {
            signal(kind).map_err(|source| StartError::Thread { what: "signal handling".to_owned(), source })
        };
        Ok(Self {
            terminate: watch(SignalKind::terminate())?.into(),
            interrupt: watch(SignalKind::interrupt())?.into(),
        })
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "one waiter; the cells only lend out `recv`'s &mut")]
    async fn signalled(&self) {
        let (mut terminate, mut interrupt) = (self.terminate.borrow_mut(), self.interrupt.borrow_mut());
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: stopping");
    }

    /// Waits for a signal, or for `event`, whose value is returned.
    async fn signalled_or<T>(&self, event: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.signalled() => None,
            value = event => Some(value),
        }
    }
}

struct RunningNameServer {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl RunningNameServer {
    async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

fn start_name_server(config: NamesrvConfig) -> Result<RunningNameServer> {
    let listener = namesrv::bind(&config)?;
    let address = format!("{}:{}", config.bind_address, config.listen_port);
    let server = NameServer::new(config)?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::task::spawn_local(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        server.run(listener, shutdown).await;
    });
    say(&format!("The Name Server boot success. serializeType=JSON, address {address}\n"));
    Ok(RunningNameServer { stop, task })
}

fn to_tokio(listener: std::net::TcpListener) -> tokio::net::TcpListener {
    tokio::net::TcpListener::from_std(listener).expect("a non-blocking listener inside the runtime")
}

fn bind_ip(key: &'static str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| StartError::Advertised {
        key,
        value: text.to_owned(),
        why: "write an IP address".to_owned(),
    })
}

struct RunningBroker {
    inboxes: Vec<Arc<Inbox>>,
    control: ControlLink,
    control_task: tokio::task::JoinHandle<()>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    shards: Vec<thread::JoinHandle<()>>,
    lost: tokio::sync::mpsc::UnboundedReceiver<usize>,
}

impl RunningBroker {
    async fn start(config: BrokerConfig) -> Result<Self> {
        let began = Instant::now();
        preflight::check(&config.store_root)?;
        let store_host = advertised(&config)?;
        let cpus = shard_cpus(&config);
        let settings = Arc::new(settings(&config, store_host));
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
                settings: Arc::clone(&settings),
                ownership,
                offsets,
                delay_offsets: initial.delay_offsets.clone(),
                inboxes: inboxes.clone(),
                control: control.clone(),
            };
            shards.push(start.spawn(cpu, spin, lost_sender.clone()).await?);
        }
        spawn_supervisor(inboxes.clone())?;
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
    async fn lost(&mut self) -> StartError {
        tokio::select! {
            Some(shard) = self.lost.recv() => StartError::ShardLost(shard),
            _ = &mut self.control_task => StartError::ControlLost,
        }
    }

    async fn stop(self) {
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
        ..StoreOptions::new(&config.store_root)
    }
}

/// ASYNC_FLUSH also flushes after this many bytes, so that a flush never has gigabytes to do.
const ASYNC_FLUSH_BYTES: u64 = 64 << 20;

fn settings(config: &BrokerConfig, store_host: SocketAddr) -> Settings {
    Settings {
        broker_name: config.broker_name.clone(),
        cluster_name: config.cluster_name.clone(),
        store_host,
        broker_permission: config.broker_permission,
        region: config.region_id.clone(),
        trace_on: config.trace_on,
        message_size_max: config.max_message_bytes as usize,
        accept_sends_from_ms: config.start_accept_send_request_ms,
        sync_flush_timeout_ms: config.sync_flush_timeout_ms,
        idle_connection_ms: u64::from(config.idle_max_seconds) * 1_000,
        offset_persist_interval_ms: config.flush_consumer_offset_interval_ms,
        long_polling: config.long_polling_enable,
        short_polling_ms: config.short_polling_time_ms,
        lite_pull: config.lite_pull_message_enable,
        read: ReadSettings {
            hot_bytes_max: config.max_transfer_bytes_in_memory,
            hot_messages_max: config.max_transfer_count_in_memory,
            cold_bytes_max: config.max_transfer_bytes_in_disk,
            cold_messages_max: config.max_transfer_count_in_disk,
            memory_bytes: memory_bytes() / 100 * 40,
        },
        delay_levels: config
            .delay_levels
            .0
            .iter()
            .map(|&delay_ms| Duration::from_millis(delay_ms.max(0) as u64))
            .collect(),
        retention: RetentionSettings {
            keep: Duration::from_secs(u64::from(config.file_reserved_hours) * 3_600),
            delete_hours: config.delete_when.0.clone(),
            disk_ratio_max: f64::from(config.disk_max_used_percent) / 100.0,
            disk_ratio_force: f64::from(config.disk_clean_forcibly_percent) / 100.0,
            force: config.clean_file_forcibly_enable,
        },
        reject_transactions: config.reject_transaction_message,
    }
}

/// The host's memory. Java counts a record as in memory within 40 % of it from the log's end.
fn memory_bytes() -> i64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<i64>().ok());
    kilobytes.unwrap_or(8 << 20) * 1024
}

/// Recovers the store on an executor of its own.
fn open_store(options: StoreOptions, ownership: Ownership, cpu: usize) -> Result<Vec<ShardSeed>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = executor::spawn_pinned("rmq-recovery", cpu, Duration::ZERO, move || async move {
        let env = GlommioEnv::new();
        let owner = |name: &rmq_engine::QueueName| ownership.owner(&name.topic, name.queue as i32);
        let opened = Store::open(&env, options, Arc::new(MessageSchema), &owner).await;
        let _ = sender.send(opened);
    })
    .map_err(|source| StartError::Thread { what: "the recovery executor".to_owned(), source })?;
    let opened = receiver.recv();
    let ended = thread.join();
    match opened {
        Ok(opened) => opened.map_err(StartError::Store),
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

struct ShardStart {
    seed: ShardSeed,
    settings: Arc<Settings>,
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
            let engine = match rmq_engine::Shard::start(GlommioEnv::new(), self.seed).await {
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
            Ok(Err(error)) => Err(StartError::Store(error)),
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

/// Wakes shards that owe something: an executor of glommio 0.9 can park although it has work. Every 10 ms
/// while a shard owes an answer, every second otherwise.
fn spawn_supervisor(inboxes: Vec<Arc<Inbox>>) -> Result<()> {
    const BUSY: Duration = Duration::from_millis(10);
    const IDLE_ROUNDS: u32 = 100;
    let watch = move || {
        let mut idle_rounds = IDLE_ROUNDS;
        let mut stalled = vec![(0u64, 0u32); inboxes.len()];
        loop {
            let pause = if idle_rounds >= IDLE_ROUNDS { BUSY * IDLE_ROUNDS } else { BUSY };
            thread::sleep(pause);
            let owing = inboxes.iter().any(|inbox| inbox.is_owing());
            idle_rounds = if owing { 0 } else { idle_rounds.saturating_add(1) };
            for (index, (inbox, (turns, rounds))) in inboxes.iter().zip(&mut stalled).enumerate() {
                let now = inbox.turns();
                *rounds = if now == *turns { *rounds + 1 } else { 0 };
                *turns = now;
                if *rounds > 0 && rounds.is_multiple_of(500) {
                    tracing::error!(shard = index, "the shard has not run for a while");
                }
                inbox.nudge();
            }
        }
    };
    thread::Builder::new()
        .name("rmq-supervisor".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|source| StartError::Thread { what: "the supervisor".to_owned(), source })
}
