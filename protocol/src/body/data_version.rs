//! Versions of configuration tables.

use serde::{Deserialize, Serialize};

/// Grows with every change; tools and name servers compare all three numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVersion {
    pub counter: i64,
    pub state_version: i64,
    pub timestamp: i64,
}

impl DataVersion {
    /// The version after one more change.
    pub fn next(self, now_ms: i64) -> Self {
        Self { counter: self.counter + 1, timestamp: now_ms, ..self }
    }
}
