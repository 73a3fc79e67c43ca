//! The rmq name server and broker.

pub mod answers;
pub mod broker;
pub mod cli;
pub mod config;
pub mod control;
pub mod forwarding;
pub mod handler;
pub mod limits;
pub mod links;
pub mod live;
pub mod mesh;
pub mod namesrv;
pub mod net;
pub mod ownership;
pub mod preflight;
pub mod settings;
pub mod shard;
pub mod start;
mod supervisor;
