//! What a handler says, before it is put into a frame.

use rmq_protocol::body::{JsonError, to_vec};
use rmq_protocol::headers::HeaderError;
use rmq_protocol::response_code::ResponseCode;
use serde::Serialize;

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// SUCCESS but where a failure has fields too, which a `Refusal` has not.
    pub code: ResponseCode,
    pub remark: Option<String>,
    pub fields: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The whole answer of a client, which takes the place of all else.
    pub relayed: Option<Vec<u8>>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            code: ResponseCode::SUCCESS,
            remark: None,
            fields: Vec::new(),
            body: Vec::new(),
            relayed: None,
        }
    }
}

/// Why there is no answer of the wanted kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ResponseCode,
    pub remark: String,
}

pub type Outcome = Result<Answer, Refusal>;

impl Answer {
    pub fn empty() -> Self {
        Self::default()
    }

    pub fn json(value: &impl Serialize) -> Self {
        Self::body(to_vec(value))
    }

    pub fn body(body: Vec<u8>) -> Self {
        Self { body, ..Self::default() }
    }

    pub fn field(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.push((name, value.to_string()));
        self
    }
}

impl Refusal {
    pub fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into() }
    }

    pub fn system_error(remark: impl Into<String>) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, remark)
    }

    pub fn invalid(remark: impl Into<String>) -> Self {
        Self::new(ResponseCode::INVALID_PARAMETER, remark)
    }
}

impl From<HeaderError> for Refusal {
    fn from(error: HeaderError) -> Self {
        Self::system_error(error.to_string())
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Self::system_error(error.to_string())
    }
}
