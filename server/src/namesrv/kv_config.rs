//! Key-value settings by namespace, kept in `kvConfig.json`: the one thing a name server remembers.
//!
//! Clients use the namespace `ORDER_TOPIC_CONFIG`, whose keys are topics and whose values name the queues that
//! an ordered topic has on each broker.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::limits::KV_ENTRIES_MAX;
use crate::control::state_file::{StateFile, StateFileError};

pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Debug)]
pub struct KvConfig {
    namespaces: Namespaces,
    file: StateFile,
}

#[derive(Debug, thiserror::Error)]
pub enum KvError {
    #[error("the name server holds {KV_ENTRIES_MAX} entries already")]
    Full,
    /// The change is not in effect.
    #[error("the change could not be saved: {0}")]
    NotSaved(#[from] StateFileError),
}

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "configTable")]
    config_table: Namespaces,
}

impl KvConfig {
    pub fn open(path: &Path) -> Result<Self, StateFileError> {
        let file = StateFile::new(path);
        let document =
            file.load(|bytes| serde_json::from_slice::<Document>(bytes).map_err(|e| e.to_string()))?;
        Ok(Self { namespaces: document.map(|document| document.config_table).unwrap_or_default(), file })
    }

    pub fn value(&self, namespace: &str, key: &str) -> Option<&str> {
        self.namespaces.get(namespace)?.get(key).map(String::as_str)
    }

    pub fn namespace(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(namespace)
    }

    pub fn put(&mut self, namespace: &str, key: &str, value: &str) -> Result<(), KvError> {
        let is_new = self.value(namespace, key).is_none();
        if is_new && self.namespaces.values().map(BTreeMap::len).sum::<usize>() >= KV_ENTRIES_MAX {
            return Err(KvError::Full);
        }
        let mut changed = self.namespaces.clone();
        changed.entry(namespace.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self.replace(changed)
    }

    /// Deleting what is not there succeeds, as in Java.
    pub fn delete(&mut self, namespace: &str, key: &str) -> Result<(), KvError> {
        if self.value(namespace, key).is_none() {
            return Ok(());
        }
        let mut changed = self.namespaces.clone();
        if let Some(entries) = changed.get_mut(namespace) {
            entries.remove(key);
        }
        self.replace(changed)
    }

    /// Durable first, in effect then.
    fn replace(&mut self, changed: Namespaces) -> Result<(), KvError> {
        let document = Document { config_table: changed };
        let text = serde_json::to_vec_pretty(&document).expect("maps of text are always JSON");
        self.file.save(&text)?;
        self.namespaces = document.config_table;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namesrv::test_dir::TestDir;

    #[test]
    fn entries_outlive_the_process_in_javas_shape() {
        let dir = TestDir::new("kv-config");
        let path = dir.path().join("namesrv/kvConfig.json");
        let mut kv = KvConfig::open(&path).unwrap();
        kv.put(ORDER_TOPIC_CONFIG, "T", "a:4;b:4").unwrap();
        kv.put("other", "k", "v").unwrap();
        kv.delete("other", "k").unwrap();
        kv.delete("other", "never there").unwrap();
        let mut kv = KvConfig::open(&path).unwrap();
        assert_eq!(kv.value(ORDER_TOPIC_CONFIG, "T"), Some("a:4;b:4"));
        assert_eq!(kv.namespace("other").map(BTreeMap::len), Some(0));
        assert_eq!(kv.namespace("none"), None);
        kv.put(ORDER_TOPIC_CONFIG, "T", "c:1").unwrap();
        let shape: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(shape["configTable"][ORDER_TOPIC_CONFIG]["T"], "c:1");
    }

    #[test]
    fn what_cannot_be_saved_is_not_in_effect() {
        let dir = TestDir::new("kv-config-unsaved");
        let blocker = dir.path().join("file");
        std::fs::write(&blocker, b"x").unwrap();
        let mut kv =
            KvConfig { namespaces: Namespaces::new(), file: StateFile::new(blocker.join("kvConfig.json")) };
        assert!(matches!(kv.put("n", "k", "v"), Err(KvError::NotSaved(_))));
        assert_eq!(kv.value("n", "k"), None);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = TestDir::new("kv-config-damaged");
        let path = dir.path().join("kvConfig.json");
        std::fs::write(&path, b"{\"configTable\":").unwrap();
        assert!(matches!(KvConfig::open(&path), Err(StateFileError::Damaged { .. })));
    }
}
