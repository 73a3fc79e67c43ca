//! Why a start stops: the place, the key, the value, and what would be right.

use std::fmt;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{place}: {what}")]
    Malformed { place: Place, what: String },
    #[error("{place}: {key}={value}: expected {expected}")]
    WrongValue { place: Place, key: String, value: String, expected: String },
    /// Well-formed, but starting without what it asks for would betray the operator.
    #[error("{place}: {key}={value}: {why}")]
    Refused { place: Place, key: String, value: String, why: String },
}

impl ConfigError {
    /// For whoever knows where the value came from.
    pub fn without_place(&self) -> String {
        match self {
            Self::WrongValue { key, value, expected, .. } => format!("{key}={value}: expected {expected}"),
            Self::Refused { key, value, why, .. } => format!("{key}={value}: {why}"),
            other => other.to_string(),
        }
    }
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    File { path: PathBuf, line: u32 },
    CommandLine,
    Environment(&'static str),
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::CommandLine => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}
