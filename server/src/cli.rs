//! The command line: our own subcommands, and Java's names and flags for scripts that know only those.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

/// RocketMQ-compatible name server and broker.
#[derive(Debug, Parser)]
#[command(name = "rmq-server", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Name server and broker in one process, no configuration needed.
    Standalone(Standalone),
    /// A broker.
    Broker(Broker),
    /// A name server.
    Namesrv(Namesrv),
}

#[derive(Debug, Args)]
pub struct Standalone {
    /// Where messages and state are kept.
    #[arg(long, value_name = "DIR", default_value = "rmq-data")]
    pub data_dir: PathBuf,
    /// Port of the broker; its fast (VIP) port is two below.
    #[arg(long, value_name = "PORT", default_value_t = 10911)]
    pub listen_port: u16,
    /// Port of the name server.
    #[arg(long, value_name = "PORT", default_value_t = 9876)]
    pub namesrv_port: u16,
    /// A broker configuration file; the options of this command override it.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one key of the configuration, as if the file ended with this line.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct Broker {
    /// Name servers, `host:port` separated by `;`.
    #[arg(short = 'n', long = "namesrvAddr", value_name = "LIST")]
    pub name_servers: Option<String>,
    /// Broker configuration file (Java's broker.conf).
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print every key of the configuration and exit.
    #[arg(short = 'p', long = "printConfigItem")]
    pub print_all: bool,
    /// Print the important keys of the configuration and exit.
    #[arg(short = 'm', long = "printImportantConfig")]
    pub print_important: bool,
    /// Sets one key of the configuration, as if the file ended with this line.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct Namesrv {
    /// Name server configuration file.
    #[arg(short = 'c', long = "configFile", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print every key of the configuration and exit.
    #[arg(short = 'p', long = "printConfigItem")]
    pub print_all: bool,
    /// Accepted for scripts that pass it; a name server does not need it.
    #[arg(short = 'n', long = "namesrvAddr", value_name = "LIST", hide = true)]
    pub name_servers: Option<String>,
    /// Sets one key of the configuration, as if the file ended with this line.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Started as `mqbroker` or `mqnamesrv`, the program is that subcommand.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let name = arguments.first().map(Path::new).and_then(Path::file_stem).and_then(OsStr::to_str);
    let subcommand = match name {
        Some("mqbroker") => Some("broker"),
        Some("mqnamesrv") => Some("namesrv"),
        _ => None,
    };
    if let Some(subcommand) = subcommand {
        arguments.insert(1, subcommand.into());
    }
    Cli::try_parse_from(arguments)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Cli {
        parse(line.split(' ').map(OsString::from)).expect("legal")
    }

    #[test]
    fn java_names_and_flags_work() {
        let Command::Broker(broker) =
            parsed("/opt/rocketmq/bin/mqbroker -n a:1;b:2 -c conf/broker.conf").command
        else {
            panic!("a broker")
        };
        assert_eq!(broker.name_servers.as_deref(), Some("a:1;b:2"));
        assert!(matches!(parsed("mqnamesrv -p").command, Command::Namesrv(Namesrv { print_all: true, .. })));
        assert!(matches!(
            parsed("mqbroker -m").command,
            Command::Broker(Broker { print_important: true, .. })
        ));
    }

    #[test]
    fn settings_are_pairs() {
        let Command::Standalone(standalone) =
            parsed("rmq-server standalone --set flushDiskType=SYNC_FLUSH").command
        else {
            panic!("standalone")
        };
        assert_eq!(standalone.set, [("flushDiskType".to_owned(), "SYNC_FLUSH".to_owned())]);
        assert!(parse(["rmq-server", "standalone", "--set", "x"].map(OsString::from)).is_err());
    }
}
