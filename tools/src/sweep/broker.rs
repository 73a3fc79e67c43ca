//! One cell with a server: started on an empty directory, warmed up, loaded, held to its answers, gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cli::{CodecName, OutputArgs};
use crate::clock::monotonic_ns;
use crate::consume::PullArgs;
use crate::cpu::CpuSeconds;
use crate::crash::server::{Server, ServerCommand};
use crate::error::Error;
use crate::journal::JournalWriter;
use crate::phases::{self, Phases};
use crate::produce::{self, LoadArgs};
use crate::sweep::load;
use crate::sweep::matrix::Cell;
use crate::sweep::scenario::{Scenario, Section, ServerPlan, Setting};
use crate::tally::Tally;
use crate::target::{Target, TargetArgs};
use crate::verify::inspector::{Inspector, Order};
use crate::verify::ledger::Ledger;
use crate::verify::{Verdict, inspect};

const TOPIC: &str = "rmq-sweep";
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const VERIFY_LIMIT: Duration = Duration::from_secs(120);

/// How a cell's broker is started.
pub enum Starter {
    Ours { binary: PathBuf, version: String },
    Other(ServerPlan),
}

pub struct BrokerRun {
    pub tally: Tally,
    pub seconds: f64,
    pub cpu: CpuSeconds,
    pub rss_mb: Option<f64>,
    pub verdict: Option<Verdict>,
    pub target: Target,
}

/// Keys that a cell sets itself.
const RESERVED: [&str; 6] =
    ["listenPort", "namesrvAddr", "storePathRootDir", "storePathCommitLog", "brokerId", "brokerConfigPath"];

impl Starter {
    /// The binary beside ours is the one that was built with it.
    pub fn find(scenario: &Scenario, binary: Option<&Path>) -> Result<Self, Error> {
        if let Some(plan) = &scenario.server {
            if binary.is_some() {
                return Err(Error::Usage(format!(
                    "{} has a [server] of its own; leave out --server-bin",
                    scenario.path.display()
                )));
            }
            return Ok(Self::Other(plan.clone()));
        }
        let beside = || std::env::current_exe().ok().map(|own| own.with_file_name("rmq-server"));
        let binary = match binary {
            Some(named) => named.to_owned(),
            None => beside().filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("rmq-server")),
        };
        let version = Command::new(&binary).arg("--version").output().map_err(|source| {
            Error::Usage(format!(
                "{}: {source}; build it (cargo build --release) or name it with --server-bin",
                binary.display()
            ))
        })?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        Ok(Self::Ours { binary, version })
    }

    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Ours { version, .. } => Some(version),
            Self::Other(_) => None,
        }
    }

    /// Shows our server every setting before anything is measured. Another server is not asked.
    pub fn check(&self, scenario: &Scenario, cells: &[Cell]) -> Result<(), Error> {
        let broker = || scenario.all_settings().filter(|setting| setting.section == Section::Broker);
        for setting in broker() {
            if RESERVED.contains(&setting.key.as_str()) {
                return Err(scenario.wrong(setting, "every cell gets its own; remove it"));
            }
        }
        match self {
            Self::Ours { binary, .. } => {
                for setting in broker() {
                    for value in &setting.values {
                        check_setting(scenario, binary, setting, value)?;
                    }
                }
                for cell in cells {
                    if let Some(said) = objection(binary, cell.of(Section::Broker))? {
                        return Err(Error::Usage(format!(
                            "{}: {}: {said}; exclude the combination",
                            scenario.path.display(),
                            cell.name
                        )));
                    }
                }
            }
            Self::Other(plan) if !plan.command.contains("{set:") => {
                if let Some(setting) = broker().next() {
                    let problem = "the server's command has no {set:...}, so it would not be told";
                    return Err(scenario.wrong(setting, problem));
                }
            }
            Self::Other(_) => {}
        }
        for cell in cells {
            load::args(cell.of(Section::Load)).map_err(|problem| {
                Error::Usage(format!("{}: {}: {problem}", scenario.path.display(), cell.name))
            })?;
        }
        Ok(())
    }

    fn command(&self, cell: &Cell) -> String {
        let settings: Vec<(&str, &str)> = cell.of(Section::Broker).collect();
        match self {
            Self::Ours { binary, .. } => {
                let mut command = format!(
                    "{} standalone --data-dir '{{dir}}' --listen-port {{port}} --namesrv-port {{nsport}}",
                    quoted(&binary.to_string_lossy())
                );
                // Clients are told this address; nothing leaves the machine.
                let local = [("brokerIP1", "127.0.0.1")];
                let is_set = settings.iter().any(|(key, _)| *key == "brokerIP1");
                for (key, value) in local.iter().filter(|_| !is_set).chain(&settings) {
                    command.push_str(&format!(" --set {}", quoted(&format!("{key}={value}"))));
                }
                command
            }
            Self::Other(plan) => with_settings(&plan.command, &settings),
        }
    }

    fn ready_text(&self) -> Option<&str> {
        match self {
            Self::Ours { .. } => Some("The broker"),
            Self::Other(plan) => plan.ready.as_deref(),
        }
    }

    /// Measures one cell in `dir`, which must not exist and is removed afterwards. What the server printed is kept in
    /// `kept_log` when something goes wrong.
    pub fn run(
        &self,
        scenario: &Scenario,
        cell: &Cell,
        dir: &Path,
        kept_log: &Path,
    ) -> Result<BrokerRun, Error> {
        let failed = |source| Error::File { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        let run = self.run_in(scenario, cell, dir);
        if run.is_err() && !phases::is_interrupted() {
            let _ = fs::copy(dir.join("server.log"), kept_log);
        }
        fs::remove_dir_all(dir).map_err(failed)?;
        run
    }

    fn run_in(&self, scenario: &Scenario, cell: &Cell, dir: &Path) -> Result<BrokerRun, Error> {
        let mut load = load::args(cell.of(Section::Load)).map_err(Error::Usage)?;
        load.settle();
        let command = ServerCommand::new(&self.command(cell), dir, None, None)?;
        let mut server = command.start()?;
        let target = self.ready(&mut server, &command, dir, &load)?;
        let pid = self.broker_pid(&server, dir)?;
        let journal = dir.join("journal");
        let writer = match scenario.verify {
            true => Some(JournalWriter::create(&journal, &load.journal_head(&target.topic))?),
            false => None,
        };

        let phases = Phases::starting_now(scenario.warmup, Some(scenario.duration));
        let output = OutputArgs { server_pid: vec![pid], ..OutputArgs::default() };
        let produced = produce::run(&load, &target, writer, &phases, &output)?;
        server.check()?;
        let end_ns = monotonic_ns().min(phases.end_ns);
        let rss_mb = resident_mb(pid);

        let verdict = match scenario.verify && !phases::is_interrupted() {
            true => Some(self.verify(&target, &load, &journal)?),
            false => None,
        };
        server.stop(STOP_LIMIT)?;
        Ok(BrokerRun {
            tally: produced.tally,
            seconds: end_ns.saturating_sub(phases.measure_ns) as f64 / 1e9,
            cpu: produced.watch.at_end.since(produced.watch.at_measure),
            rss_mb,
            verdict,
            target,
        })
    }

    /// Waits until it says that it serves, and has a topic for us.
    fn ready(
        &self,
        server: &mut Server,
        command: &ServerCommand,
        dir: &Path,
        load: &LoadArgs,
    ) -> Result<Target, Error> {
        let started = Instant::now();
        let target = TargetArgs {
            namesrv: format!("127.0.0.1:{}", command.namesrv_port),
            topic: String::from(TOPIC),
            broker: None,
            broker_address: None,
        };
        loop {
            server.check()?;
            let says_so = self.ready_text().is_none_or(|text| {
                let log = fs::read(dir.join("server.log")).unwrap_or_default();
                String::from_utf8_lossy(&log).contains(text)
            });
            let problem = match says_so {
                true => match target.create(load.queues) {
                    Ok(target) => return Ok(target),
                    Err(error) => error.to_string(),
                },
                false => String::from("it does not say that it is ready"),
            };
            if phases::is_interrupted() {
                return Err(Error::TooLate(String::from("interrupted")));
            }
            if started.elapsed() > START_LIMIT {
                return Err(Error::TooLate(format!(
                    "the server does not serve {} s after its start: {problem}; {}",
                    START_LIMIT.as_secs(),
                    server.log_tail()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn broker_pid(&self, server: &Server, dir: &Path) -> Result<u32, Error> {
        let Self::Other(ServerPlan { pid_file: Some(file), .. }) = self else { return Ok(server.pid()) };
        let path = PathBuf::from(file.replace("{dir}", &dir.join("data").to_string_lossy()));
        let text = fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        text.trim().parse().map_err(|_| Error::TooLate(format!("{} holds no process id", path.display())))
    }

    fn verify(&self, target: &Target, load: &LoadArgs, journal: &Path) -> Result<Verdict, Error> {
        let mut ledger = Ledger::default();
        ledger.add(journal)?;
        // Java, with several threads that send, does not promise the order of sends in flight together.
        let inspector = Inspector::new(&target.topic, Order::Answered, ledger);
        let pull = PullArgs {
            connections: load.connections.min(8),
            threads: 1,
            max_messages: 32,
            suspend: Duration::ZERO,
            tags: String::from("*"),
            sql: None,
            group: String::from("rmq-sweep"),
            codec: CodecName::Json,
        };
        inspect(inspector, target, &pull, VERIFY_LIMIT).map(|(_, verdict)| verdict)
    }
}

fn check_setting(scenario: &Scenario, binary: &Path, setting: &Setting, value: &str) -> Result<(), Error> {
    match objection(binary, [(setting.key.as_str(), value)].into_iter())? {
        Some(said) => {
            let remedy = "`rmq-server broker -p` lists all keys";
            Err(scenario.wrong(setting, &format!("{said} ({remedy})")))
        }
        None => Ok(()),
    }
}

/// What our server has against these settings. A warning is an objection too: a setting that is ignored, or taken for
/// another, must not become an axis that changes nothing.
fn objection<'a>(
    binary: &Path,
    settings: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Option<String>, Error> {
    let mut command = Command::new(binary);
    command.args(["broker", "-p"]);
    for (key, value) in settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let output = command.output().map_err(|source| Error::System { what: "asking the server", source })?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = said.lines().find_map(|line| line.split_once("WARN ")).map(|(_, text)| text);
    let found = found.map(|text| text.trim_start_matches("command line: ").to_owned());
    if found.is_none() && !output.status.success() {
        let text = said.trim().trim_start_matches("rmq-server: ").trim_start_matches("command line: ");
        return Ok(Some(text.to_owned()));
    }
    Ok(found)
}

/// Puts every setting where the template has `{set:...}`, with `key` and `value` replaced in what follows the colon.
fn with_settings(template: &str, settings: &[(&str, &str)]) -> String {
    let Some(from) = template.find("{set:") else { return template.to_owned() };
    let Some(length) = template[from..].find('}') else { return template.to_owned() };
    let pattern = &template[from + "{set:".len()..from + length];
    let set: Vec<String> = settings
        .iter()
        .map(|(key, value)| {
            // In one pass, so that a value that contains "value" stays as it is.
            let (before, rest) = pattern.split_once("key").unwrap_or((pattern, ""));
            let (middle, after) = rest.split_once("value").unwrap_or((rest, ""));
            let text = format!("{key}{middle}{value}{after}");
            format!("{before}{}", quoted(&text))
        })
        .collect();
    format!("{}{}{}", &template[..from], set.join(" "), &template[from + length + 1..])
}

/// For the shell that starts the server.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn resident_mb(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_told_in_its_own_way() {
        let settings = [("flushDiskType", "SYNC_FLUSH"), ("brokerName", "the key's value")];
        assert_eq!(
            with_settings("serve {dir} {set:--set key=value} {port}", &settings),
            "serve {dir} --set 'flushDiskType=SYNC_FLUSH' --set 'brokerName=the key'\\''s value' {port}"
        );
        assert_eq!(with_settings("serve {set:key=value} x", &[]), "serve  x");
        assert_eq!(with_settings("serve x", &settings), "serve x");
    }

    #[test]
    fn this_process_has_a_size() {
        assert!(resident_mb(std::process::id()).unwrap() > 1.0);
    }
}
