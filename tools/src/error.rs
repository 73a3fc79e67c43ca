//! Why a run could not be made. What went wrong within a run is in its report instead.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::journal::JournalError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot reach {peer} at {address}: {source}")]
    Unreachable { peer: &'static str, address: String, source: io::Error },
    #[error("{address} refused {request}: {code} {name} ({meaning}){remark}")]
    Refused {
        address: SocketAddr,
        request: &'static str,
        code: i32,
        name: &'static str,
        meaning: &'static str,
        remark: String,
    },
    #[error("topic {topic}: {problem}")]
    Route { topic: String, problem: String },
    #[error("{address} answered {request} with something that is not an answer to it: {what}")]
    Malformed { address: SocketAddr, request: &'static str, what: String },
    #[error("engine: {0}")]
    Engine(#[from] rmq_engine::Error),
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("{path} is no result that --json wrote: {source}")]
    NotAResult { path: PathBuf, source: serde_json::Error },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    TooLate(String),
}
