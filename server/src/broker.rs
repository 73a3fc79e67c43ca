//! What the broker decides on one shard: topics, queues, offsets, long polling, retry, delay, transactions.

pub mod consumer_offsets;
pub mod delay_levels;
pub mod filter;
pub mod group_commit;
pub mod key_index;
pub mod light_queue;
pub mod long_poll;
pub mod message;
pub mod metadata;
pub mod pop;
pub mod refusal;
pub mod retention;
pub mod retry;
pub mod sql92;
pub mod store;
pub mod timer;
pub mod topic_name;
pub mod transactions;
