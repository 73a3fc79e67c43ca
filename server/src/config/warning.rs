//! What an operator should know about a configuration that nevertheless starts.

use std::fmt;

use super::error::Place;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    Unknown {
        place: Place,
        key: String,
        meant: Option<&'static str>,
    },
    /// An old or misspelled key, taken for the one that is meant.
    Spelling {
        place: Place,
        key: String,
        meant: &'static str,
        note: &'static str,
    },
    /// A key that has never had the effect its name suggests.
    Ignored {
        place: Place,
        key: String,
        why: &'static str,
    },
    NoteStripped {
        place: Place,
        key: String,
        value: String,
        note: String,
    },
    /// An unreadable value of a key whose loss is bearable.
    DefaultKept {
        place: Place,
        key: String,
        value: String,
        expected: String,
    },
    Clamped {
        place: Place,
        key: String,
        value: String,
        to: String,
    },
    NotBuilt {
        place: Place,
        key: String,
        value: String,
    },
    Overridden {
        place: Place,
        key: String,
        by: Place,
    },
    /// All keys of the file that tune parts we do not have, in one line.
    Inert {
        keys: Vec<&'static str>,
    },
    /// Anything else, in full.
    Advice(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { place, key, meant: Some(meant) } => {
                write!(f, "{place}: unknown key {key} is ignored; did you mean {meant}?")
            }
            Self::Unknown { place, key, meant: None } => write!(f, "{place}: unknown key {key} is ignored"),
            Self::Spelling { place, key, meant, note } => {
                write!(f, "{place}: {key} is taken for {meant}; {note}")
            }
            Self::Ignored { place, key, why } => write!(f, "{place}: {key} is ignored: {why}"),
            Self::NoteStripped { place, key, value, note } => write!(
                f,
                "{place}: {key}: '{note}' is taken for a note and the value for '{value}'; \
                 a note needs a line of its own, to Java it is part of the value"
            ),
            Self::DefaultKept { place, key, value, expected } => {
                write!(f, "{place}: {key}={value}: expected {expected}; the default is kept")
            }
            Self::Clamped { place, key, value, to } => {
                write!(f, "{place}: {key}={value} is out of range and counts as {to}")
            }
            Self::NotBuilt { place, key, value } => {
                write!(f, "{place}: {key}={value} has no effect yet: what it controls is not built")
            }
            Self::Overridden { place, key, by } => {
                write!(f, "{place}: {key} is overridden by {by}")
            }
            Self::Inert { keys } => write!(
                f,
                "accepted without effect, since they tune parts of the Java broker that do not exist here: {}",
                keys.join(", ")
            ),
            Self::Advice(text) => f.write_str(text),
        }
    }
}
