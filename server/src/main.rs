//! `rmq-server`: exit 0 after an orderly stop, 1 for a command line it does not understand, and 253 (Java's -3)
//! when it cannot start or has to stop.

use std::io::IsTerminal;
use std::process::ExitCode;

use rmq_server::{cli, start};

/// What Java's programs answer when initialisation fails: exit(-3).
const FAILED: u8 = 253;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("RMQ_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match start::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rmq-server: {error}");
            ExitCode::from(FAILED)
        }
    }
}
