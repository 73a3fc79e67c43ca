//! The control thread: everything a broker keeps that is not on the data path.
//!
//! Topic and group configuration, client sessions, order locks, state files and name-server registration live
//! on one ordinary thread, so that a large heartbeat or a slow disk never delays a send. Shards hold
//! immutable copies of what they need; a change is answered when every shard has confirmed it.

pub mod config_types;
pub mod link;
