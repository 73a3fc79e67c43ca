//! From a command line to running threads, and back: what starts in which order, and how it stops.
//!
//! The main thread becomes the control thread. Order at start: configuration, the host's checks, the store
//! (recovered before anything listens), shards, configuration state, sockets. Order at a stop: no new
//! connections, accepted work answered, unregistered and state files written, logs closed.

mod broker;

use std::io;
use std::net::IpAddr;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use self::broker::RunningBroker;
use crate::cli::{Broker, Command, Namesrv, Standalone};
use crate::config::{BrokerConfig, ConfigError, NamesrvConfig, Warning};
use crate::control;
use crate::namesrv::{self, NameServer};
use crate::net::listener::ListenError;
use crate::preflight;

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
    #[error("rmq.memoryTail (rmq.memoryTailBytes for each shard): {0}")]
    MemoryTail(rmq_engine::Error),
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
        Command::Broker(options) => run_broker(options),
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

fn run_broker(options: Broker) -> Result<()> {
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

fn bind_ip(key: &'static str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| StartError::Advertised {
        key,
        value: text.to_owned(),
        why: "write an IP address".to_owned(),
    })
}
