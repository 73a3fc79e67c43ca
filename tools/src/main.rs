//! Exit codes: 0 the run says all is well, 1 it does not, 2 bad command line, 3 it could not be made.

use std::process::ExitCode;

use clap::Parser;
use rmq_bench::cli::{Cli, Command};
use rmq_bench::error::Error;
use rmq_bench::{compare, consume, crash, end_to_end, page, phases, pop, produce, sweep, verify};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = phases::end_on_interrupt() {
        eprintln!("rmq-bench: signals: {error}");
        return ExitCode::from(3);
    }
    let outcome = match cli.command {
        Command::Produce(args) => produce::exec(*args),
        Command::Ramp(args) => rmq_bench::ramp::exec_ramp(*args),
        Command::FindRate(args) => rmq_bench::ramp::exec_find_rate(*args),
        Command::Consume(args) => consume::exec(*args),
        Command::Pop(args) => pop::exec(*args),
        Command::EndToEnd(args) => end_to_end::exec(*args),
        Command::Idle(args) => rmq_bench::idle::exec(*args),
        Command::Churn(args) => rmq_bench::churn::exec(*args),
        Command::Verify(args) => verify::exec(&args),
        Command::Crash(args) => crash::exec(*args),
        Command::Sweep(args) => sweep::exec(&args),
        Command::Report(args) => page::exec(&args),
        Command::Compare(args) => compare::exec(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("rmq-bench: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 3 })
        }
    }
}
