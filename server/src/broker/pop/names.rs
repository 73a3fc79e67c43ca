//! Where unacknowledged messages come back: the retry topics of a group, one for each topic it pops.

use crate::control::names::RETRY_PREFIX;

/// From which topic a message is popped. Its flag stands in every receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Normal,
    /// `%RETRY%group_topic`.
    RetryV1,
    /// `%RETRY%group+topic`: no client can make such a name.
    RetryV2,
}

impl Source {
    pub fn flag(self) -> &'static str {
        match self {
            Self::Normal => "0",
            Self::RetryV1 => "1",
            Self::RetryV2 => "2",
        }
    }

    /// What a batch acknowledgement names.
    pub fn of_flag(flag: &str) -> Self {
        match flag {
            "1" => Self::RetryV1,
            "2" => Self::RetryV2,
            _ => Self::Normal,
        }
    }

    pub fn topic(self, group: &str, topic: &str) -> String {
        match self {
            Self::Normal => topic.to_owned(),
            Self::RetryV1 => format!("{RETRY_PREFIX}{group}_{topic}"),
            Self::RetryV2 => format!("{RETRY_PREFIX}{group}+{topic}"),
        }
    }
}

/// Where a message of `topic` goes that the group did not acknowledge. One from a retry topic stays there.
pub fn retry_of(group: &str, topic: &str, v2: bool) -> String {
    if topic.starts_with(RETRY_PREFIX) {
        return topic.to_owned();
    }
    if v2 { Source::RetryV2.topic(group, topic) } else { Source::RetryV1.topic(group, topic) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_popped_from_a_retry_topic_goes_back_there() {
        assert_eq!(retry_of("g", "T", false), "%RETRY%g_T");
        assert_eq!(retry_of("g", "T", true), "%RETRY%g+T");
        assert_eq!(retry_of("g", "%RETRY%g_T", true), "%RETRY%g_T");
        assert_eq!(Source::of_flag(Source::RetryV2.flag()), Source::RetryV2);
        assert_eq!(Source::of_flag(""), Source::Normal);
    }
}
