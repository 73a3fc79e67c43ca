//! A small file that is replaced as a whole: topics, groups, offsets.
//!
//! Invariant: from the first save on, the file under its own name is complete, at every moment and after a
//! power cut; `<name>.bak` is the state before the last save. Java's broker reads and writes the same names,
//! but it moves the old file away before it writes the new one, so a store taken over from Java may have only
//! the `.bak`, or an empty file beside it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    #[error("{op} {path}: {source}", path = path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{path} is damaged: {what}. {remedy}",
        path = path.display(),
    )]
    Damaged { path: PathBuf, what: String, remedy: String },
}

#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The parsed content, or `None` when nothing was ever saved.
    pub fn load<T>(&self, parse: impl Fn(&[u8]) -> Result<T, String>) -> Result<Option<T>, StateFileError> {
        let backup = self.backup();
        for path in [&self.path, &backup] {
            let content = match fs::read(path) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(StateFileError::Io { op: "read", path: path.clone(), source }),
            };
            if content.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match parse(&content) {
                Ok(value) => Ok(Some(value)),
                Err(what) => Err(self.damaged(path, what)),
            };
        }
        Ok(None)
    }

    /// Durable when it returns: the new content is synced before it takes the name, the directory after.
    pub fn save(&self, content: &[u8]) -> Result<(), StateFileError> {
        let fail = |op: &'static str, path: &Path| {
            let path = path.to_path_buf();
            move |source| StateFileError::Io { op, path, source }
        };
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(fail("create", directory))?;
        let fresh = self.sibling(".new");
        let mut file = File::create(&fresh).map_err(fail("create", &fresh))?;
        file.write_all(content).map_err(fail("write", &fresh))?;
        file.sync_all().map_err(fail("sync", &fresh))?;
        drop(file);

        let backup = self.backup();
        remove_if_present(&backup).map_err(fail("remove", &backup))?;
        match fs::hard_link(&self.path, &backup) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(fail("link", &backup)(source)),
        }
        fs::rename(&fresh, &self.path).map_err(fail("rename", &fresh))?;
        File::open(directory).and_then(|handle| handle.sync_all()).map_err(fail("sync", directory))
    }

    fn damaged(&self, path: &Path, what: String) -> StateFileError {
        let backup = self.backup();
        let remedy = if path == self.path && backup.exists() {
            format!(
                "The state before the last change is in {}: copy it over {} and start again",
                backup.display(),
                path.display()
            )
        } else {
            format!("Mend it, or move {} away to start with nothing in its place", path.display())
        };
        StateFileError::Damaged { path: path.to_path_buf(), what, remedy }
    }

    fn backup(&self) -> PathBuf {
        self.sibling(".bak")
    }

    fn sibling(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_dir::TestDir;

    fn text(bytes: &[u8]) -> Result<String, String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if text.starts_with('{') { Ok(text) } else { Err("expected an object".to_owned()) }
    }

    #[test]
    fn the_last_save_is_read_and_the_one_before_is_kept() {
        let dir = TestDir::new("state-file-save");
        let file = StateFile::new(dir.path().join("config/topics.json"));
        assert_eq!(file.load(text).unwrap(), None);
        file.save(b"{1}").unwrap();
        file.save(b"{2}").unwrap();
        assert_eq!(file.load(text).unwrap().as_deref(), Some("{2}"));
        assert_eq!(fs::read(dir.path().join("config/topics.json.bak")).unwrap(), b"{1}");
        assert!(!dir.path().join("config/topics.json.new").exists());
    }

    /// A Java broker killed between moving the old file away and writing the new one leaves this.
    #[test]
    fn a_missing_or_empty_file_falls_back_to_the_backup() {
        let dir = TestDir::new("state-file-backup");
        let file = StateFile::new(dir.path().join("topics.json"));
        fs::write(dir.path().join("topics.json.bak"), "{old}").unwrap();
        assert_eq!(file.load(text).unwrap().as_deref(), Some("{old}"));
        fs::write(file.path(), "").unwrap();
        assert_eq!(file.load(text).unwrap().as_deref(), Some("{old}"));
    }

    #[test]
    fn damage_is_refused_with_the_remedy() {
        let dir = TestDir::new("state-file-damage");
        let file = StateFile::new(dir.path().join("topics.json"));
        fs::write(file.path(), "garbage").unwrap();
        let alone = file.load(text).unwrap_err().to_string();
        assert!(alone.contains("topics.json is damaged: expected an object"), "{alone}");
        assert!(alone.contains("move"), "{alone}");
        fs::write(dir.path().join("topics.json.bak"), "{old}").unwrap();
        let with_backup = file.load(text).unwrap_err().to_string();
        assert!(with_backup.contains("topics.json.bak: copy it over"), "{with_backup}");
    }
}
