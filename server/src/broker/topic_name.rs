//! Which topics a client may send to.

use rmq_protocol::response_code::ResponseCode;

use super::refusal::Refusal;

pub use crate::control::names::{
    CHECK_MAX_TIME_TOPIC as CHECK_MAX_TIME, DEAD_LETTER_PREFIX, LIGHT_PREFIX, RETRY_PREFIX,
    SCHEDULE_TOPIC as SCHEDULE, TIMER_TOPIC as TIMER, dead_letter_topic as dead_letter, retry_topic as retry,
};
use crate::control::names::{
    HALF_OP_TOPIC, HALF_TOPIC, OFFSET_MOVED_TOPIC, SELF_TEST_TOPIC, topic_name_problem,
};

pub const TOPIC_LENGTH_MAX: usize = 127;

/// The timer's topic is none of them in Java, where a message that a client puts there makes the timer fail.
const FORBIDDEN_TO_SEND: [&str; 7] =
    [SCHEDULE, TIMER, HALF_TOPIC, HALF_OP_TOPIC, CHECK_MAX_TIME, SELF_TEST_TOPIC, OFFSET_MOVED_TOPIC];

pub fn is_forbidden_to_send(topic: &str) -> bool {
    FORBIDDEN_TO_SEND.contains(&topic)
}

pub fn validate(topic: &str) -> Result<(), Refusal> {
    match topic_name_problem(topic) {
        None => Ok(()),
        Some(problem) => Err(Refusal::new(ResponseCode::INVALID_PARAMETER, problem)),
    }
}
