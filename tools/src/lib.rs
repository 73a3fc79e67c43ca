//! A load generator and verifier that drives any broker speaking RocketMQ's remoting protocol.
//!
//! It usually shares its machine with the broker it measures, so it has to be cheap: few threads, frames made
//! once and patched, many of them per system call, nothing allocated per message.

mod answer;
pub mod body;
pub mod churn;
pub mod cli;
mod clock;
pub mod compare;
mod connection;
pub mod consume;
mod control;
mod cpu;
pub mod crash;
mod dial;
pub mod end_to_end;
pub mod error;
mod heartbeat;
mod histogram_log;
pub mod idle;
pub mod journal;
mod machine;
mod meaning;
pub mod page;
pub mod payload;
pub mod phases;
mod poller;
pub mod pop;
pub mod produce;
mod progress;
mod pull;
pub mod ramp;
mod report;
mod resident;
mod saved_run;
pub mod sweep;
mod tally;
mod target;
pub mod verify;
