//! The name server: brokers register, clients ask for routes.
//!
//! `route_table` is the state and its rules, `kv_config` the only part that outlives the process, `handler`
//! with `bodies` translates between frames and calls, `server` moves frames. All of it lives on one thread.

mod bodies;
mod handler;
mod kv_config;
mod limits;
mod route_table;
mod server;
#[cfg(test)]
mod test_dir;

pub use server::{NameServer, StartError, bind};
