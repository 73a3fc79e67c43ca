//! The rmq name server and broker.

pub mod config;
pub mod control;
pub mod namesrv;
pub mod ownership;
