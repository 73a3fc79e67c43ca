//! What must survive of consumption: the offsets of all groups and the progress of the delay levels.
//!
//! Shards own the offsets of their queues and report them whole; here lie the latest reports, merged into
//! Java's consumerOffset.json. Until a shard has reported, what was loaded for its queues stands.

use std::collections::{BTreeMap, BTreeSet};

use rmq_protocol::body::{ConsumerOffsetTable, DataVersion, DelayOffsetTable};

use super::link::ConsumerOffsetRow;
use super::state_json;

/// `topic@group` -> queue -> offset.
pub type OffsetTable = BTreeMap<String, BTreeMap<i32, i64>>;

pub struct ConsumerOffsets {
    by_shard: Vec<OffsetTable>,
    version: DataVersion,
    dirty: bool,
}

impl ConsumerOffsets {
    /// `owner` says which shard a queue belongs to; it may differ from the one that wrote the file.
    pub fn new(shards: usize, loaded: ConsumerOffsetTable, owner: impl Fn(&str, i32) -> usize) -> Self {
        let mut by_shard = vec![OffsetTable::new(); shards];
        for (key, queues) in loaded.offset_table {
            let topic = split_key(&key).map_or("", |(topic, _)| topic);
            for (queue, offset) in queues {
                by_shard[owner(topic, queue)].entry(key.clone()).or_default().insert(queue, offset);
            }
        }
        Self { by_shard, version: loaded.data_version, dirty: false }
    }

    /// What the shards start with.
    pub fn rows(&self) -> Vec<ConsumerOffsetRow> {
        let mut rows = Vec::new();
        for (key, queues) in self.by_shard.iter().flatten() {
            let Some((topic, group)) = split_key(key) else { continue };
            rows.extend(queues.iter().map(|(queue, offset)| ConsumerOffsetRow {
                group: group.to_owned(),
                topic: topic.to_owned(),
                queue: *queue,
                offset: *offset,
            }));
        }
        rows
    }

    pub fn report(&mut self, shard: usize, rows: Vec<ConsumerOffsetRow>, now_ms: i64) {
        let table = to_table(rows);
        if self.by_shard[shard] != table {
            self.by_shard[shard] = table;
            self.version = self.version.next(now_ms);
            self.dirty = true;
        }
    }

    /// One row that a shard is known to have changed, before its report.
    pub fn put(&mut self, shard: usize, row: ConsumerOffsetRow, now_ms: i64) {
        let key = format!("{}@{}", row.topic, row.group);
        let before = self.by_shard[shard].entry(key).or_default().insert(row.queue, row.offset);
        if before != Some(row.offset) {
            self.version = self.version.next(now_ms);
            self.dirty = true;
        }
    }

    /// The text of consumerOffset.json if it changed since the last call.
    pub fn take_changed(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.dirty).then(|| {
            state_json::pretty(&ConsumerOffsetTable {
                data_version: self.version,
                offset_table: self.merged(),
            })
        })
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

/// The topics on which each group has committed.
pub fn topics_by_group(table: &OffsetTable) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (topic, group) in table.keys().filter_map(|key| split_key(key)) {
        groups.entry(group).or_default().insert(topic);
    }
    groups
}

/// `topic@group`; neither may contain the sign.
fn split_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('@')
}

#[derive(Default)]
pub struct DelayOffsets {
    table: DelayOffsetTable,
    dirty: bool,
}

impl DelayOffsets {
    pub fn new(table: DelayOffsetTable) -> Self {
        Self { table, dirty: false }
    }

    /// Level and offset of its next record.
    pub fn rows(&self) -> Vec<(i32, i64)> {
        self.table.offset_table.iter().map(|(level, offset)| (*level, *offset)).collect()
    }

    pub fn report(&mut self, rows: Vec<(i32, i64)>, now_ms: i64) {
        self.dirty |= update(&mut self.table, rows, now_ms);
    }

    /// The table as it will be when these rows have been reported. They are not kept: an older report may still
    /// be on its way, and would then be the last.
    pub fn with(&self, rows: Vec<(i32, i64)>, now_ms: i64) -> DelayOffsetTable {
        let mut table = self.table.clone();
        update(&mut table, rows, now_ms);
        table
    }

    /// The text of delayOffset.json if it changed since the last call.
    pub fn take_changed(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.dirty).then(|| state_json::pretty(&self.table))
    }

    /// What was taken did not reach the disk.
    pub fn not_saved(&mut self) {
        self.dirty = true;
    }
}

fn update(table: &mut DelayOffsetTable, rows: Vec<(i32, i64)>, now_ms: i64) -> bool {
    let mut changed = false;
    for (level, offset) in rows {
        changed |= table.offset_table.insert(level, offset) != Some(offset);
    }
    if changed {
        table.data_version = table.data_version.next(now_ms);
    }
    changed
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
        let loaded = ConsumerOffsetTable { offset_table: loaded, ..ConsumerOffsetTable::default() };
        let mut offsets = ConsumerOffsets::new(2, loaded, owner);
        assert_eq!(offsets.rows(), [row("g", "%RETRY%g", 0, 1), row("g", "T", 0, 5), row("g", "T", 1, 6)]);
        assert_eq!(offsets.take_changed(), None);

        offsets.report(0, vec![row("g", "T", 0, 9)], 1);
        let text = offsets.take_changed().unwrap();
        let saved: ConsumerOffsetTable = state_json::parse(&text).unwrap();
        assert_eq!(saved.offset_table, to_table(vec![row("g", "T", 0, 9), row("g", "T", 1, 6)]));
        assert_eq!(saved.data_version.counter, 1);
    }

    #[test]
    fn the_same_report_twice_writes_once() {
        let mut offsets = ConsumerOffsets::new(1, ConsumerOffsetTable::default(), |_, _| 0);
        offsets.report(0, vec![row("g", "T", 0, 9)], 1);
        assert!(offsets.take_changed().is_some());
        offsets.report(0, vec![row("g", "T", 0, 9)], 2);
        assert!(offsets.take_changed().is_none());
        offsets.not_saved();
        assert!(offsets.take_changed().is_some());
    }

    #[test]
    fn delay_levels_keep_what_no_shard_reports() {
        let mut delays = DelayOffsets::new(state_json::parse(br#"{"offsetTable":{1:5,"2":7}}"#).unwrap());
        delays.report(vec![(2, 8), (18, 1)], 3);
        assert_eq!(delays.rows(), [(1, 5), (2, 8), (18, 1)]);
        assert_eq!(delays.with(vec![(3, 0)], 4).offset_table.len(), 4);
        assert_eq!(delays.rows().len(), 3, "what is only looked at is not kept");
        let again = DelayOffsets::new(state_json::parse(&delays.take_changed().unwrap()).unwrap());
        assert_eq!(again.rows(), delays.rows());
        assert!(delays.take_changed().is_none());
    }
}
