//! A sweep's TOML file: what is fixed, what varies, what is measured. Nothing is started before all of it makes sense.
//!
//! A value is a setting, a list of values is an axis. `[broker]` keys are the server's and are shown to it; `[load]`
//! keys are the options of `produce`; `[engine]` stands in place of both and needs no server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::parse_duration;
use crate::error::Error;
use crate::sweep::engine::EngineCase;
use crate::sweep::load;

pub const ROUNDS_MAX: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Broker,
    Load,
    Engine,
}

impl Section {
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Load => "load",
            Self::Engine => "engine",
        }
    }
}

/// One key and what it is set to; more than one value only where a list stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub section: Section,
    pub key: String,
    pub values: Vec<String>,
    pub is_axis: bool,
    pub line: usize,
}

/// Settings that only make sense together; cases are an axis of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub name: String,
    pub settings: Vec<Setting>,
}

/// Cells in which each of these keys has one of its values are left out.
pub type Exclusion = Vec<(String, Vec<String>)>;

/// A server other than ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPlan {
    /// With {dir}, {port}, {nsport} and {set:TEMPLATE}, which is repeated for every `[broker]` setting.
    pub command: String,
    /// What it prints when it serves; without it, it is asked until it does.
    pub ready: Option<String>,
    /// Where the broker's process id is, when the command starts it as a child; may contain {dir}.
    pub pid_file: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub path: PathBuf,
    pub text: String,
    pub title: String,
    pub about: String,
    pub is_engine: bool,
    pub server: Option<ServerPlan>,
    pub settings: Vec<Setting>,
    pub cases: Vec<Case>,
    pub exclusions: Vec<Exclusion>,
    pub rounds: u32,
    pub warmup: Duration,
    pub duration: Duration,
    pub verify: bool,
}

const TOP_KEYS: &str = "title, about, rounds, warmup, duration, verify, [server], [broker], [load], [engine], [[case]], [[exclude]]";

impl Scenario {
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            fs::read_to_string(path).map_err(|source| Error::File { path: PathBuf::from(path), source })?;
        Self::parse(path, text)
    }

    pub fn parse(path: &Path, text: String) -> Result<Self, Error> {
        let reader = Reader { path, text: &text };
        let document = DeTable::parse(&text)
            .map_err(|error| Error::Usage(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
        let mut scenario = Self {
            path: path.to_owned(),
            text: String::new(),
            title: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            about: String::new(),
            is_engine: false,
            server: None,
            settings: Vec::new(),
            cases: Vec::new(),
            exclusions: Vec::new(),
            rounds: 3,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(3),
            verify: true,
        };
        for entry in reader.entries(document.get_ref()) {
            scenario.take(&reader, &entry)?;
        }
        let is_engine = scenario.all_settings().any(|setting| setting.section == Section::Engine);
        scenario.is_engine = is_engine;
        scenario.check(&reader)?;
        scenario.text = text;
        Ok(scenario)
    }

    /// Of the file itself and of its cases.
    pub fn all_settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().chain(self.cases.iter().flat_map(|case| &case.settings))
    }

    pub fn axes(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(|setting| setting.is_axis)
    }

    pub fn wrong(&self, setting: &Setting, problem: &str) -> Error {
        wrong(&self.path, setting.line, &format!("{}.{}", setting.section.name(), setting.key), problem)
    }

    fn take(&mut self, reader: &Reader<'_>, entry: &Entry<'_>) -> Result<(), Error> {
        match entry.key.as_str() {
            "title" => self.title = reader.text_of(entry)?,
            "about" => self.about = reader.text_of(entry)?,
            "verify" => self.verify = reader.flag_of(entry)?,
            "warmup" => self.warmup = reader.time_of(entry)?,
            "duration" => self.duration = reader.time_of(entry)?,
            "rounds" => {
                let rounds = reader.scalar_of(entry)?.parse().ok();
                self.rounds = rounds
                    .filter(|rounds| (1..=ROUNDS_MAX).contains(rounds))
                    .ok_or_else(|| reader.wrong(entry, &format!("give a number from 1 to {ROUNDS_MAX}")))?;
            }
            "server" => self.server = Some(server_plan(reader, entry)?),
            "broker" => self.settings.extend(reader.settings(Section::Broker, entry)?),
            "load" => self.settings.extend(reader.settings(Section::Load, entry)?),
            "engine" => self.settings.extend(reader.settings(Section::Engine, entry)?),
            "case" => {
                for table in reader.tables(entry)? {
                    self.cases.push(case(reader, &table)?);
                }
            }
            "exclude" => {
                for table in reader.tables(entry)? {
                    let fields = reader.flatten(&table)?;
                    if fields.is_empty() {
                        return Err(
                            reader.wrong(&table, "name at least one key, else it excludes everything")
                        );
                    }
                    self.exclusions.push(fields.into_iter().map(|field| (field.key, field.values)).collect());
                }
            }
            _ => return Err(reader.wrong(entry, &format!("unknown key; known are {TOP_KEYS}"))),
        }
        Ok(())
    }

    fn check(&self, reader: &Reader<'_>) -> Result<(), Error> {
        let of_file = |problem: &str| Error::Usage(format!("{}: {problem}", reader.path.display()));
        if self.is_engine && self.all_settings().any(|setting| setting.section != Section::Engine) {
            return Err(of_file(
                "[engine] runs without server and network; remove [broker] and [load], or [engine]",
            ));
        }
        if self.is_engine && self.server.is_some() {
            return Err(of_file("[engine] runs without a server; remove [server]"));
        }
        if self.duration < Duration::from_millis(200) {
            return Err(of_file("duration: give at least 200ms, less measures nothing"));
        }
        for (index, case) in self.cases.iter().enumerate() {
            if self.cases[..index].iter().any(|other| other.name == case.name) {
                return Err(of_file(&format!("two cases are named {:?}; give each its own name", case.name)));
            }
        }
        for setting in self.all_settings() {
            for value in &setting.values {
                match setting.section {
                    Section::Load => load::check(&setting.key, value),
                    Section::Engine => EngineCase::default().set(&setting.key, value),
                    // The server knows its own keys; it is asked before the first cell.
                    Section::Broker => Ok(()),
                }
                .map_err(|problem| self.wrong(setting, &problem))?;
            }
        }
        for (key, values) in self.exclusions.iter().flatten() {
            let known: Vec<&String> = match key.as_str() {
                "case" => self.cases.iter().map(|case| &case.name).collect(),
                _ => self
                    .all_settings()
                    .filter(|setting| setting.key == *key)
                    .flat_map(|setting| &setting.values)
                    .collect(),
            };
            if known.is_empty() {
                return Err(of_file(&format!("exclude: no setting is named {key}; name one of this file")));
            }
            if let Some(value) = values.iter().find(|value| !known.contains(value)) {
                let known = known.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                return Err(of_file(&format!("exclude: {key} is never {value}; it is {known}")));
            }
        }
        Ok(())
    }
}

fn server_plan(reader: &Reader<'_>, entry: &Entry<'_>) -> Result<ServerPlan, Error> {
    let mut plan = ServerPlan::default();
    let DeValue::Table(table) = entry.value.get_ref() else {
        return Err(reader.wrong(entry, "must be a table: [server]"));
    };
    for field in reader.entries(table) {
        match field.key.as_str() {
            "command" => plan.command = reader.text_of(&field)?,
            "ready" => plan.ready = Some(reader.text_of(&field)?),
            "pid_file" => plan.pid_file = Some(reader.text_of(&field)?),
            _ => return Err(reader.wrong(&field, "unknown key; known are command, ready, pid_file")),
        }
    }
    match ["{dir}", "{port}", "{nsport}"].into_iter().find(|part| !plan.command.contains(part)) {
        Some(missing) => Err(reader.wrong(entry, &format!("command must contain {missing}"))),
        None => Ok(plan),
    }
}

fn case(reader: &Reader<'_>, entry: &Entry<'_>) -> Result<Case, Error> {
    let DeValue::Table(table) = entry.value.get_ref() else {
        return Err(reader.wrong(entry, "must be a table: [[case]]"));
    };
    let (mut name, mut settings) = (None, Vec::new());
    for field in reader.entries(table) {
        match field.key.as_str() {
            "name" => name = Some(reader.text_of(&field)?),
            "broker" => settings.extend(reader.settings(Section::Broker, &field)?),
            "load" => settings.extend(reader.settings(Section::Load, &field)?),
            "engine" => settings.extend(reader.settings(Section::Engine, &field)?),
            _ => return Err(reader.wrong(&field, "unknown key; a case has name, broker, load and engine")),
        }
    }
    if let Some(list) = settings.iter().find(|setting| setting.is_axis) {
        let key = format!("case.{}.{}", list.section.name(), list.key);
        return Err(wrong(
            reader.path,
            list.line,
            &key,
            "a case has one value for each key; make a case of each",
        ));
    }
    let name = name.ok_or_else(|| reader.wrong(entry, "give each case a name"))?;
    Ok(Case { name, settings })
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

/// A key of the file with its value and place.
struct Entry<'a> {
    key: String,
    at: usize,
    value: &'a Spanned<DeValue<'a>>,
}

/// A key with dots, and its values.
struct Field {
    key: String,
    values: Vec<String>,
    is_list: bool,
    at: usize,
}

fn wrong(path: &Path, line: usize, key: &str, problem: &str) -> Error {
    Error::Usage(format!("{}:{line}: {key}: {problem}", path.display()))
}

impl<'a> Reader<'a> {
    fn line(&self, at: usize) -> usize {
        1 + self.text[..at.min(self.text.len())].matches('\n').count()
    }

    fn wrong(&self, entry: &Entry<'_>, problem: &str) -> Error {
        wrong(self.path, self.line(entry.at), &entry.key, problem)
    }

    /// In the order of the file, which is the order of the axes.
    fn entries(&self, table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
        let mut entries: Vec<Entry<'a>> = table
            .iter()
            .map(|(key, value)| Entry { key: key.get_ref().to_string(), at: key.span().start, value })
            .collect();
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    fn tables(&self, entry: &Entry<'a>) -> Result<Vec<Entry<'a>>, Error> {
        let DeValue::Array(items) = entry.value.get_ref() else {
            return Err(self.wrong(entry, &format!("must be a list of tables: [[{}]]", entry.key)));
        };
        let entry = |item: &'a Spanned<DeValue<'a>>| Entry {
            key: entry.key.clone(),
            at: item.span().start,
            value: item,
        };
        Ok(items.iter().map(entry).collect())
    }

    fn settings(&self, section: Section, entry: &Entry<'a>) -> Result<Vec<Setting>, Error> {
        let setting = |field: Field| Setting {
            section,
            key: field.key,
            values: field.values,
            is_axis: field.is_list,
            line: self.line(field.at),
        };
        Ok(self.flatten(entry)?.into_iter().map(setting).collect())
    }

    /// `rmq.shards = 2` is a table in a table for TOML, and one key for us.
    fn flatten(&self, entry: &Entry<'a>) -> Result<Vec<Field>, Error> {
        let DeValue::Table(table) = entry.value.get_ref() else {
            return Err(self.wrong(entry, "must be a table"));
        };
        let mut fields = Vec::new();
        for inner in self.entries(table) {
            match inner.value.get_ref() {
                DeValue::Table(_) => fields.extend(
                    self.flatten(&inner)?
                        .into_iter()
                        .map(|field| Field { key: format!("{}.{}", inner.key, field.key), ..field }),
                ),
                DeValue::Array(items) => {
                    let values =
                        items.iter().map(|item| self.scalar(&inner, item)).collect::<Result<Vec<_>, _>>()?;
                    if values.is_empty() {
                        return Err(self.wrong(&inner, "the list is empty; give values, or remove the key"));
                    }
                    if let Some(twice) = (1..values.len()).find(|&at| values[..at].contains(&values[at])) {
                        return Err(self.wrong(&inner, &format!("{} is there twice", values[twice])));
                    }
                    fields.push(Field { key: inner.key, values, is_list: true, at: inner.at });
                }
                _ => {
                    let values = vec![self.scalar(&inner, inner.value)?];
                    fields.push(Field { key: inner.key, values, is_list: false, at: inner.at });
                }
            }
        }
        Ok(fields)
    }

    fn scalar(&self, entry: &Entry<'_>, value: &Spanned<DeValue<'_>>) -> Result<String, Error> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            // TOML allows 65_536 and 0x10000.
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(|number| number.to_string())
                .map_err(|_| self.wrong(entry, "the number is too large")),
            DeValue::Float(number) => Ok(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            _ => Err(self.wrong(entry, "give a text, a number, true or false, or a list of these")),
        }
    }

    fn scalar_of(&self, entry: &Entry<'_>) -> Result<String, Error> {
        self.scalar(entry, entry.value)
    }

    fn text_of(&self, entry: &Entry<'_>) -> Result<String, Error> {
        match entry.value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err(self.wrong(entry, "give a text in quotes")),
        }
    }

    fn flag_of(&self, entry: &Entry<'_>) -> Result<bool, Error> {
        match entry.value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.wrong(entry, "give true or false")),
        }
    }

    fn time_of(&self, entry: &Entry<'_>) -> Result<Duration, Error> {
        parse_duration(&self.scalar_of(entry)?).map_err(|problem| self.wrong(entry, &problem))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn parsed(text: &str) -> Result<Scenario, String> {
        Scenario::parse(Path::new("s.toml"), text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_are_axes_in_the_order_of_the_file() {
        let scenario = parsed(
            "title = 'T'\nrounds = 2\nduration = '2s'\n[load]\nin_flight = [1, 0x20]\nbody_size = 1_024\n[broker]\n\
             rmq.shards = [2, 1]\n'rmq.spinMicros' = 20\nflushDiskType = ['SYNC_FLUSH']\n",
        )
        .unwrap();
        assert_eq!((scenario.rounds, scenario.duration), (2, Duration::from_secs(2)));
        let axes: Vec<_> = scenario.axes().map(|axis| (axis.key.as_str(), axis.values.join(" "))).collect();
        let expected = [("in_flight", "1 32"), ("rmq.shards", "2 1"), ("flushDiskType", "SYNC_FLUSH")];
        assert_eq!(axes, expected.map(|(key, values)| (key, values.to_owned())));
        let fixed: Vec<_> = scenario
            .settings
            .iter()
            .filter(|setting| !setting.is_axis)
            .map(|setting| &setting.values[0])
            .collect();
        assert_eq!(fixed, ["1024", "20"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_a_remedy() {
        for (text, expected) in [
            ("rouns = 3", "s.toml:1: rouns: unknown key; known are title"),
            ("rounds = 0", "s.toml:1: rounds: give a number from 1 to 100"),
            ("\nduration = '3 parsecs'", "s.toml:2: duration: "),
            ("duration = '1ms'", "s.toml: duration: give at least 200ms"),
            ("verify = 'yes'", "s.toml:1: verify: give true or false"),
            ("[load]\nconections = 8", "s.toml:2: load.conections: unknown; did you mean connections?"),
            ("[load]\nconnections = [8, 0]", "s.toml:2: load.connections: "),
            ("[load]\nduration = '3s'", "s.toml:2: load.duration: stands at the top of the file"),
            ("[load]\nbatch = []", "s.toml:2: batch: the list is empty"),
            ("[load]\nbatch = [1, 2, 1]", "s.toml:2: batch: 1 is there twice"),
            ("[engine]\nwaiterz = 3", "s.toml:2: engine.waiterz: unknown; did you mean waiters?"),
            ("[engine]\nflush = ['SYNC', 'MAYBE']", "s.toml:2: engine.flush: "),
            ("[engine]\nwaiters = 3\n[load]\nbatch = 1", "s.toml: [engine] runs without server and network"),
            ("[server]\ncommand = 'x {dir} {port}'", "s.toml:1: server: command must contain {nsport}"),
            ("[[case]]\nload.batch = 1", "s.toml:1: case: give each case a name"),
            ("[[case]]\nname = 'a'\nload.batch = [1]", "s.toml:3: case.load.batch: a case has one value"),
            (
                "[load]\nbatch = [1, 2]\n[[exclude]]\nbatch = 3",
                "s.toml: exclude: batch is never 3; it is 1, 2",
            ),
            ("[[exclude]]\nbatch = 3", "s.toml: exclude: no setting is named batch"),
            ("[[exclude]]", "s.toml:1: exclude: name at least one key"),
            ("a = ", "s.toml: TOML parse error at line 1"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
