//! The value in effect of every key, where it came from, and what there is to say about it.
//!
//! Order of precedence: command line, file, environment, default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Place};
use super::keys::{self, Class, Key};
use super::machine::Machine;
use super::value::FromSetting;
use super::warning::Warning;
use super::{legacy, properties};

#[derive(Clone, Debug)]
pub struct Setting {
    pub value: String,
    pub place: Place,
}

impl Setting {
    pub fn is_given(&self) -> bool {
        self.place != Place::Default
    }
}

#[derive(Debug)]
pub struct Settings {
    tables: &'static [&'static [Key]],
    known: BTreeMap<&'static str, Setting>,
    /// Kept because Java shows them in its dump, and tools look there.
    unknown: BTreeMap<String, String>,
    pub warnings: Vec<Warning>,
}

/// The text of a configuration file and the name to give it in messages.
#[derive(Clone, Debug)]
pub struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self { path: path.to_owned(), bytes }),
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }
}

impl Settings {
    pub fn resolve(
        tables: &'static [&'static [Key]],
        machine: &Machine,
        file: Option<&Source>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut settings =
            Self { tables, known: BTreeMap::new(), unknown: BTreeMap::new(), warnings: Vec::new() };
        if let Some(file) = file {
            settings.take_file(file)?;
        }
        for (key, value) in overrides {
            settings.take(key, value, Place::CommandLine)?;
        }
        settings.fill_defaults(machine);
        settings.warn_of_inert_keys();
        Ok(settings)
    }

    fn take_file(&mut self, file: &Source) -> Result<(), ConfigError> {
        let place = |line| Place::File { path: file.path.clone(), line };
        let properties = properties::parse(&file.bytes)
            .map_err(|error| ConfigError::Malformed { place: place(error.line), what: error.what })?;
        // Old spellings first, so that an official key of the same meaning wins wherever it stands.
        let (old, official): (Vec<_>, Vec<_>) =
            properties.into_iter().partition(|property| legacy::spelling(&property.key).is_some());
        for property in old.into_iter().chain(official) {
            self.take(&property.key, &property.value, place(property.line))?;
        }
        Ok(())
    }

    fn take(&mut self, name: &str, written: &str, place: Place) -> Result<(), ConfigError> {
        let written = written.trim();
        let name = match legacy::spelling(name) {
            Some((meant, note)) => {
                self.warnings.push(Warning::Spelling { place: place.clone(), key: name.into(), meant, note });
                meant
            }
            None => name,
        };
        let Some(key) = keys::find(self.tables, name) else {
            self.warnings.push(match legacy::ignored(name) {
                Some(why) => Warning::Ignored { place, key: name.into(), why },
                None => Warning::Unknown { place, key: name.into(), meant: keys::nearest(self.tables, name) },
            });
            self.unknown.insert(name.to_owned(), written.to_owned());
            return Ok(());
        };
        let value = self.without_note(key, written, &place);
        // `key=` leaves an unset text unset; for numbers and the like it is a wrong value.
        if !key.kind.accepts(value) {
            let (key_name, value, expected) = (key.name.to_owned(), value.to_owned(), key.kind.expected());
            if key.class == Class::Exact {
                return Err(ConfigError::WrongValue { place, key: key_name, value, expected });
            }
            self.warnings.push(Warning::DefaultKept { place, key: key_name, value, expected });
            return Ok(());
        }
        if let Some(earlier) = self.known.get(key.name) {
            self.warnings.push(Warning::Overridden {
                place: earlier.place.clone(),
                key: key.name.into(),
                by: place.clone(),
            });
        }
        self.known.insert(key.name, Setting { value: value.to_owned(), place });
        Ok(())
    }

    /// Java has no notes behind values; operators write them all the same. JSON values may hold anything.
    fn without_note<'v>(&mut self, key: &Key, written: &'v str, place: &Place) -> &'v str {
        let note = written
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|&at| at == 0 || written[..at].ends_with(|c: char| c.is_whitespace()));
        match note {
            Some(at) if !written.starts_with('{') => {
                let value = written[..at].trim_end();
                self.warnings.push(Warning::NoteStripped {
                    place: place.clone(),
                    key: key.name.into(),
                    value: value.into(),
                    note: written[at..].into(),
                });
                value
            }
            _ => written,
        }
    }

    fn fill_defaults(&mut self, machine: &Machine) {
        for key in self.tables.iter().copied().flatten() {
            let default = key.default.map(str::to_owned).or_else(|| machine.default_of(key.name));
            let place = match key.name {
                "namesrvAddr" if default.is_some() => Place::Environment("NAMESRV_ADDR"),
                "rocketmqHome" if default.is_some() => Place::Environment("ROCKETMQ_HOME"),
                _ => Place::Default,
            };
            if let Some(value) = default {
                self.known.entry(key.name).or_insert(Setting { value, place });
            }
        }
    }

    fn warn_of_inert_keys(&mut self) {
        let keys: Vec<&'static str> =
            self.given().filter(|(key, _)| key.class == Class::Inert).map(|(key, _)| key.name).collect();
        if !keys.is_empty() {
            self.warnings.push(Warning::Inert { keys });
        }
    }

    /// The keys that someone wrote, in the order of the tables.
    pub fn given(&self) -> impl Iterator<Item = (&'static Key, &Setting)> {
        self.tables
            .iter()
            .copied()
            .flatten()
            .filter_map(|key| self.known.get(key.name).map(|setting| (key, setting)))
            .filter(|(_, setting)| setting.is_given())
    }

    /// One warning per written key whose effect is promised by its class but not built. `built` names the others.
    pub fn warn_of_missing_features(&mut self, built: impl Fn(&str) -> bool, visible: &[&str]) {
        let missing: Vec<Warning> = self
            .given()
            .filter(|(key, _)| key.class == Class::Exact || visible.contains(&key.name))
            .filter(|(key, setting)| !built(key.name) && Some(setting.value.as_str()) != key.default)
            .map(|(key, setting)| Warning::NotBuilt {
                place: setting.place.clone(),
                key: key.name.into(),
                value: setting.value.clone(),
            })
            .collect();
        self.warnings.extend(missing);
    }

    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.known.get(key)
    }

    /// The typed value in effect. An unset key reads as empty text.
    pub fn read<T: FromSetting>(&self, key: &str) -> Result<T, ConfigError> {
        let setting = self.known.get(key);
        let text = setting.map_or("", |setting| setting.value.as_str());
        T::from_setting(text).ok_or_else(|| self.wrong(key, T::EXPECTED))
    }

    pub fn wrong(&self, key: &str, expected: &str) -> ConfigError {
        let (place, value) = self.place_and_value(key);
        ConfigError::WrongValue { place, key: key.into(), value, expected: expected.into() }
    }

    pub fn refuse(&self, key: &str, why: &str) -> ConfigError {
        let (place, value) = self.place_and_value(key);
        ConfigError::Refused { place, key: key.into(), value, why: why.into() }
    }

    pub fn place_and_value(&self, key: &str) -> (Place, String) {
        self.known.get(key).map_or((Place::Default, String::new()), |s| (s.place.clone(), s.value.clone()))
    }

    /// Replaces a value by what it counts as; the reason is the caller's to report.
    pub fn set(&mut self, key: &'static str, value: String) {
        let place = self.known.get(key).map_or(Place::Default, |setting| setting.place.clone());
        self.known.insert(key, Setting { value, place });
    }

    /// Brings a number into its range, with a warning if it was outside.
    pub fn clamp(&mut self, key: &'static str, min: i64, max: i64) -> Result<(), ConfigError> {
        let value: i64 = self.read(key)?;
        let counted = value.clamp(min, max);
        if counted != value {
            let (place, value) = self.place_and_value(key);
            let to = counted.to_string();
            self.warnings.push(Warning::Clamped { place, key: key.into(), value, to: to.clone() });
            self.set(key, to);
        }
        Ok(())
    }

    /// `key=value` of every listed key, in table order; unset ones have an empty value, as Java prints them.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.tables.iter().copied().flatten().filter_map(|key| {
            let setting = self.known.get(key.name);
            let listed = keys::is_listed(key.name) || setting.is_some_and(Setting::is_given);
            listed.then(|| (key.name, setting.map_or("", |setting| setting.value.as_str())))
        })
    }

    /// Every value in effect under the name Java's dump gives it, with the unknown keys of the file.
    pub fn in_effect(&self) -> BTreeMap<String, String> {
        let mut all = self.unknown.clone();
        for (name, _) in self.lines() {
            if let Some(setting) = self.known.get(name) {
                all.insert(keys::dump_name(name).to_owned(), setting.value.clone());
            }
        }
        all
    }
}

/// A struct whose fields are settings: `field: Type = "key"`.
macro_rules! typed {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty = $key:literal,)*
        ..
        $($(#[$more_meta:meta])* $more:ident: $more_type:ty,)*
    }) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $($(#[$more_meta])* pub $more: $more_type,)*
        }

        impl $name {
            /// The keys that have an effect.
            pub(super) const KEYS: &[&str] = &[$($key),*];

            pub(super) fn bind(
                settings: &$crate::config::settings::Settings,
                $($more: $more_type,)*
            ) -> Result<Self, $crate::config::error::ConfigError> {
                Ok(Self { $($field: settings.read($key)?,)* $($more,)* })
            }
        }
    };
}
pub(super) use typed;
