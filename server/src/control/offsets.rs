//! What must survive of consumption: the offsets of all groups and the progress of the delay levels.
//!
//! Shards own the offsets of their queues and report them whole; here lie the latest reports, merged into
//! Java's consumerOffset.json. Until a shard has reported, what was loaded for its queues stands.

use std::collections::BTreeMap;

use super::config_types::DataVersion;
use super::link::ConsumerOffsetRow;
use super::state_json::{self, OffsetTable};

pub struct ConsumerOffsets {
    by_shard: Vec<OffsetTable>,
    version: DataVersion,
    dirty: bool,
}

impl ConsumerOffsets {
    /// `owner` says which shard a queue belongs to; it may differ from the one that wrote the file.
    pub fn new(
        shards: usize,
        loaded: (OffsetTable, DataVersion),
        owner: impl Fn(&str, i32) -> usize,
    ) -> Self {
        let (table, version) = loaded;
        let mut by_shard = vec![OffsetTable::new(); shards];
        for (key, queues) in table {
            let topic = split_key(&key).map_or("", |(topic, _)| topic);
            for (queue, offset) in queues {
                by_shard[owner(topic, queue)].entry(key.clone()).or_default().insert(queue, offset);
            }
        }
        Self { by_shard, version, dirty: false }
    }

    /// What each shard starts with.
    pub fn rows(&self, shard: usize) -> Vec<ConsumerOffsetRow> {
        let rows = self.by_shard[shard].iter().filter_map(|(key, queues)| {
            let (topic, group) = split_key(key)?;
            Some(queues.iter().map(move |(queue, offset)| ConsumerOffsetRow {
                group: group.to_owned(),
                topic: topic.to_owned(),
                queue: *queue,
                offset: *offset,
            }))
        });
        rows.flatten().collect()
    }

    pub fn report(&mut self, shard: usize, rows: Vec<ConsumerOffsetRow>, now_ms: i64) {
        let table = to_table(rows);
        if self.by_shard[shard] != table {
            self.by_shard[shard] = table;
            self.version = self.version.next(now_ms);
            self.dirty = true;
        }
    }

    /// The text of consumerOffset.json if it changed since the last call.
    pub fn take_changed(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.dirty).then(|| state_json::offsets_file(&self.merged(), self.version))
    }

    /// What was taken did not reach the disk.
    pub fn not_saved(&mut self) {
        self.dirty = true;
    }

    pub fn version(&self) -> DataVersion {
        self.version
    }

    fn merged(&self) -> OffsetTable {
        let mut merged = OffsetTable::new();
        for table in &self.by_shard {
            for (key, queues) in table {
                merged.entry(key.clone()).or_default().extend(queues);
            }
        }
        merged
    }
}

pub fn to_table(rows: Vec<ConsumerOffsetRow>) -> OffsetTable {
    let mut table = OffsetTable::new();
    for row in rows {
        let key = format!("{}@{}", row.topic, row.group);
        table.entry(key).or_default().insert(row.queue, row.offset);
    }
    table
}

/// `topic@group`; neither may contain the sign.
fn split_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('@')
}

#[derive(Default)]
pub struct DelayOffsets {
    levels: BTreeMap<i32, i64>,
    version: DataVersion,
    dirty: bool,
}

impl DelayOffsets {
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let (levels, version) = state_json::parse_delay_offsets(content)?;
        Ok(Self { levels, version, dirty: false })
    }

    pub fn rows(&self) -> Vec<(i32, i64)> {
        self.levels.iter().map(|(level, offset)| (*level, *offset)).collect()
    }

    pub fn report(&mut self, rows: Vec<(i32, i64)>, now_ms: i64) {
        for (level, offset) in rows {
            if self.levels.insert(level, offset) != Some(offset) {
                self.dirty = true;
            }
        }
        if self.dirty {
            self.version = self.version.next(now_ms);
        }
    }

    /// The text of delayOffset.json if it changed since the last call.
    pub fn take_changed(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.dirty).then(|| state_json::delay_offsets_file(&self.levels, self.version))
    }

    pub fn not_saved(&mut self) {
        self.dirty = true;
    }

    /// The body of code 45.
    pub fn body(&self) -> Vec<u8> {
        state_json::delay_offsets_body(&self.levels, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str, topic: &str, queue: i32, offset: i64) -> ConsumerOffsetRow {
        ConsumerOffsetRow { group: group.to_owned(), topic: topic.to_owned(), queue, offset }
    }

    fn owner(_topic: &str, queue: i32) -> usize {
        queue as usize % 2
    }

    #[test]
    fn loaded_offsets_stand_until_their_shard_reports() {
        let loaded = to_table(vec![row("g", "T", 0, 5), row("g", "T", 1, 6), row("g", "%RETRY%g", 0, 1)]);
        let mut offsets = ConsumerOffsets::new(2, (loaded, DataVersion::default()), owner);
        assert_eq!(offsets.rows(0), [row("g", "%RETRY%g", 0, 1), row("g", "T", 0, 5)]);
        assert_eq!(offsets.rows(1), [row("g", "T", 1, 6)]);
        assert_eq!(offsets.take_changed(), None);

        offsets.report(0, vec![row("g", "T", 0, 9)], 1);
        let text = offsets.take_changed().unwrap();
        let (table, version) = state_json::parse_offsets(&text).unwrap();
        assert_eq!(table, to_table(vec![row("g", "T", 0, 9), row("g", "T", 1, 6)]));
        assert_eq!(version.counter, 1);
    }

    #[test]
    fn the_same_report_twice_writes_once() {
        let mut offsets = ConsumerOffsets::new(1, (OffsetTable::new(), DataVersion::default()), |_, _| 0);
        offsets.report(0, vec![row("g", "T", 0, 9)], 1);
        assert!(offsets.take_changed().is_some());
        offsets.report(0, vec![row("g", "T", 0, 9)], 2);
        assert!(offsets.take_changed().is_none());
        offsets.not_saved();
        assert!(offsets.take_changed().is_some());
    }

    #[test]
    fn delay_levels_keep_what_no_shard_reports() {
        let mut delays =
            DelayOffsets::parse(br#"{"dataVersion":{"counter":1},"offsetTable":{"1":5,"2":7}}"#).unwrap();
        delays.report(vec![(2, 8), (18, 1)], 3);
        assert_eq!(delays.rows(), [(1, 5), (2, 8), (18, 1)]);
        let again = DelayOffsets::parse(&delays.take_changed().unwrap()).unwrap();
        assert_eq!(again.rows(), delays.rows());
        assert!(delays.take_changed().is_none());
    }
}
