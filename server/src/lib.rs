//! The rmq name server and broker.

pub mod config;
pub mod control;
pub mod ownership;
