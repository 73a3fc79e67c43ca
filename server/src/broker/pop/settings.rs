//! The settings of broker.conf that popping follows.

use crate::config::BrokerConfig;

#[derive(Clone, Debug, PartialEq)]
pub struct PopSettings {
    /// Java revives through its timer, and so refuses to pop without it.
    pub timer_wheel: bool,
    pub retry_topic_v2: bool,
    /// With names of the second kind, whether those of the first are still read.
    pub retry_topic_v1_too: bool,
    /// Percent of pops that look at the retry topic first.
    pub retry_first_percent: u32,
    pub tells_retry_topic: bool,
    pub init_by_memory: bool,
    /// Unacknowledged messages of one queue above which a group gets none; `None`: no such bound.
    pub in_flight_max: Option<u32>,
    /// Held pops of one topic, group and queue.
    pub held_per_queue_max: usize,
    /// Held pops of one shard.
    pub held_max: usize,
    pub wakes_after_order: bool,
    /// Numbers that answers give out in turn; clients send them back and nothing else.
    pub revive_queues: i32,
    /// Stands in remarks.
    pub broker_ip: String,
}

impl PopSettings {
    pub fn new(config: &BrokerConfig) -> Self {
        Self {
            timer_wheel: config.timer_wheel_enable,
            retry_topic_v2: config.retry_topic_v2_enable,
            retry_topic_v1_too: config.retry_topic_v1_too,
            retry_first_percent: config.pop_from_retry_probability,
            tells_retry_topic: config.pop_tells_retry_topic,
            init_by_memory: config.pop_init_by_memory,
            in_flight_max: config.pop_threshold_enable.then_some(config.pop_in_flight_max),
            held_per_queue_max: config.pop_polling_size as usize,
            held_max: usize::try_from(config.pop_polling_max).unwrap_or(usize::MAX),
            wakes_after_order: config.pop_wakes_after_order,
            revive_queues: i32::try_from(config.revive_queue_nums).unwrap_or(i32::MAX).max(1),
            broker_ip: config.broker_ip1.clone(),
        }
    }
}
