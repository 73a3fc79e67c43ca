//! Names with a meaning: what a topic or group may be called, and which names belong to the broker.

pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DEAD_LETTER_PREFIX: &str = "%DLQ%";
/// Light queues and groups that read them; never configured.
pub const LIGHT_PREFIX: &str = "%LMQ%";
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

pub const DEFAULT_TOPIC: &str = "TBW102";
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const HALF_OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";

/// System topics whose names do not depend on the broker.
pub const SYSTEM_TOPICS: [&str; 10] = [
    DEFAULT_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    HALF_TOPIC,
    TRACE_TOPIC,
    HALF_OP_TOPIC,
    CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_TOPIC,
    "CHECKPOINT_TOPIC",
];

/// Groups that have a configuration from the start.
pub const BUILT_IN_GROUPS: [&str; 11] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
    "DEFAULT_CONSUMER",
    "SCHEDULE_CONSUMER",
    "__MONITOR_CONSUMER",
];

/// Topic names above this do not fit the one-byte length of an ordinary record.
const TOPIC_LEN_MAX: usize = 127;
/// Retry and dead-letter topics that the broker makes of a group's name may be longer, up to what Java stores.
const BROKER_TOPIC_LEN_MAX: usize = 255;
/// Java's limit; a group at the end of it is too long for a retry topic.
const GROUP_LEN_MAX: usize = 255;

pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

pub fn dead_letter_topic(group: &str) -> String {
    format!("{DEAD_LETTER_PREFIX}{group}")
}

pub fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_REPLY_TOPIC")
}

pub fn revive_topic(cluster: &str) -> String {
    format!("{SYSTEM_TOPIC_PREFIX}REVIVE_LOG_{cluster}")
}

pub fn member_topic(broker: &str) -> String {
    format!("{SYSTEM_TOPIC_PREFIX}SYNC_BROKER_MEMBER_{broker}")
}

/// The remark of the refusal, as Java words it.
pub fn topic_name_problem(topic: &str) -> Option<&'static str> {
    if topic.trim().is_empty() {
        return Some("The specified topic is blank.");
    }
    if !topic.bytes().all(is_name_byte) {
        return Some("The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$");
    }
    (topic.len() > TOPIC_LEN_MAX).then_some("The specified topic is longer than topic max length.")
}

/// What the broker itself may make. Clients cannot send to the longer of these topics, the broker can.
pub fn is_legal_for_broker(topic: &str) -> bool {
    // The sign that no client may use stands in retry topics of pops.
    let is_legal = |byte| is_name_byte(byte) || byte == b'+';
    !topic.is_empty() && topic.len() <= BROKER_TOPIC_LEN_MAX && topic.bytes().all(is_legal)
}

pub fn group_name_problem(group: &str) -> Option<&'static str> {
    if group.trim().is_empty() {
        return Some("The specified group is blank.");
    }
    if !group.bytes().all(is_name_byte) {
        return Some("The specified group contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$");
    }
    (group.len() > GROUP_LEN_MAX).then_some("The specified group is longer than group max length.")
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_the_broker_makes_may_be_longer_than_others() {
        let long = "x".repeat(128);
        assert!(topic_name_problem(&long).is_some());
        assert_eq!(topic_name_problem(&long[1..]), None);
        assert!(topic_name_problem(&retry_topic(&long)).is_some());
        assert!(is_legal_for_broker(&retry_topic(&"x".repeat(248))));
        assert!(!is_legal_for_broker(&retry_topic(&"x".repeat(249))));
        assert!(!is_legal_for_broker("") && !is_legal_for_broker("a b"));
    }

    #[test]
    fn blanks_and_foreign_characters_are_refused() {
        assert!(topic_name_problem(" ").unwrap().contains("blank"));
        for name in ["a b", "a+b", "a/b", "主题", "a\u{1}"] {
            assert!(topic_name_problem(name).unwrap().contains("illegal"), "{name}");
            assert!(group_name_problem(name).unwrap().contains("illegal"), "{name}");
        }
        assert_eq!(topic_name_problem("MQ_INST%Topic-1|x"), None);
        assert_eq!(group_name_problem(&"g".repeat(255)), None);
        assert!(group_name_problem(&"g".repeat(256)).is_some());
    }
}
