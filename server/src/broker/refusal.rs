//! A request that the broker declines: the code and remark a Java client knows.

use std::borrow::Cow;

use rmq_engine::AppendError;
use rmq_protocol::headers::HeaderError;
use rmq_protocol::response_code::ResponseCode;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ResponseCode,
    pub remark: Cow<'static, str>,
    pub forbidden: Option<Forbidden>,
}

/// Who forbids a pull, as the field `forbiddenType` of its answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    Broker = 1,
    Group = 2,
    Topic = 3,
    Broadcasting = 4,
    Subscription = 5,
}

impl Refusal {
    pub fn new(code: ResponseCode, remark: impl Into<Cow<'static, str>>) -> Self {
        Self { code, remark: remark.into(), forbidden: None }
    }

    pub fn forbidden(by: Forbidden, remark: impl Into<Cow<'static, str>>) -> Self {
        Self { forbidden: Some(by), ..Self::new(ResponseCode::NO_PERMISSION, remark) }
    }

    /// A number or text that this very request cannot do without.
    pub fn missing(field: &'static str) -> Self {
        HeaderError::Missing { field }.into()
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, error.to_string())
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NoSuchQueue => Self::new(
                ResponseCode::TOPIC_NOT_EXIST,
                "the topic was deleted while the message was on its way",
            ),
            AppendError::TooLarge => Self::new(
                ResponseCode::MESSAGE_ILLEGAL,
                "the message is illegal, maybe msg body or properties length not matched",
            ),
            AppendError::Busy => Self::new(
                ResponseCode::SYSTEM_BUSY,
                "[REJECTREQUEST]system busy, start flow control for a while: the disk is behind",
            ),
            AppendError::DiskFull => Self::new(
                ResponseCode::SERVICE_NOT_AVAILABLE,
                "service not available now. It may be caused by one of the following reasons: the broker's disk is full",
            ),
            AppendError::Poisoned => Self::new(
                ResponseCode::SERVICE_NOT_AVAILABLE,
                "service not available now: a write to the commit log failed; see the broker's log and restart it",
            ),
            AppendError::ShuttingDown => Self::new(
                ResponseCode::SERVICE_NOT_AVAILABLE,
                "service not available now: the broker is shutting down",
            ),
        }
    }
}
