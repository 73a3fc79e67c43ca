//! The recorded frames.

use std::fs;
use std::path::Path;

use serde_json::Value;

// The fuzzer reads the bytes only.
#[allow(dead_code)]
pub struct Recorded {
    /// Folder, scenario and line, for messages.
    pub place: String,
    /// What another decoder made of the frame.
    pub description: Value,
    pub bytes: Vec<u8>,
}

pub fn frames() -> Vec<Recorded> {
    let mut files: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"))
        .unwrap()
        .map(|folder| folder.unwrap().path())
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()))
        .collect();
    files.sort();
    let mut frames = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(description) = line.strip_prefix("@ ") else { continue };
            let hex = lines.next().unwrap().1;
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
            frames.push(Recorded {
                place: format!("{}:{}", file.display(), number + 1),
                description: serde_json::from_str(description).unwrap(),
                bytes: bytes.collect(),
            });
        }
    }
    frames
}
