//! The control thread: everything a broker keeps that is not on the data path.
//!
//! Topic and group configuration, client sessions, order locks, state files and name-server registration live
//! on one ordinary thread, so that a large heartbeat or a slow disk never delays a send. Shards hold
//! immutable copies of what they need; a change is answered when every shard has confirmed it.

pub mod clients;
pub mod config_types;
pub mod groups;
pub mod limits;
pub mod link;
pub mod names;
pub mod offsets;
pub mod order_locks;
pub mod settings;
pub mod state_file;
pub mod state_json;
#[cfg(test)]
mod test_dir;
pub mod topic_attributes;
pub mod topics;
