//! The name server alone, until Ctrl-C: `cargo run --example namesrv -- [--config FILE] [key=value]...`

use std::path::PathBuf;
use std::process::ExitCode;

use rmq_server::config::NamesrvConfig;
use rmq_server::namesrv::{NameServer, bind};
use tokio::task::LocalSet;

fn main() -> ExitCode {
    tracing_subscriber::fmt().init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut file = None;
    let mut overrides = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.split_once('=') {
            _ if argument == "--config" => file = arguments.next().map(PathBuf::from),
            Some((key, value)) => overrides.push((key.to_owned(), value.to_owned())),
            None => return Err(format!("{argument}: expected --config FILE or key=value").into()),
        }
    }
    let (config, warnings) = NamesrvConfig::load(file.as_deref(), &overrides)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = bind(&config)?;
        let address = listener.local_addr()?;
        let server = NameServer::new(config)?;
        println!("The Name Server boot success. serializeType=JSON, address {address}");
        let interrupted = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        server.run(listener, interrupted).await;
        Ok(())
    }))
}
