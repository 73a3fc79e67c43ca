//! Bodies in JSON. Members stand in the order in which Java writes them, which is alphabetical.

mod assignment;
mod batch_ack;
mod cluster;
mod connection;
mod data_version;
mod direct_consume;
mod group;
mod heartbeat;
mod message_queue;
mod offset_table;
mod register_broker;
mod route;
mod stats;
mod table;
mod topic;

pub use assignment::*;
pub use batch_ack::*;
pub use cluster::*;
pub use connection::*;
pub use data_version::*;
pub use direct_consume::*;
pub use group::*;
pub use heartbeat::*;
pub use message_queue::*;
pub use offset_table::*;
pub use register_broker::*;
pub use route::*;
pub use stats::*;
pub use table::*;
pub use topic::*;

pub use crate::java_json::to_vec;
pub use crate::lenient_json::{JsonError, from_slice};
