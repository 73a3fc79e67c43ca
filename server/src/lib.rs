//! The rmq name server and broker.

pub mod control;
