//! What the engine must know about bytes that are otherwise opaque to it.

use crate::offset::QueueOffset;

/// Given by the server: finds in a stored record what the index needs again at recovery.
pub trait Schema: Send + Sync + 'static {
    /// Describes the record at the start of the slice. `None` if there is none: the bytes may be anything.
    fn describe(&self, record: &[u8]) -> Option<RecordMeta>;

    /// Tells the hashes of a record's keys: those that were noted when it was appended. Of 32 bits that look random.
    fn keys(&self, _record: &[u8], _visit: &mut dyn FnMut(u32)) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMeta {
    pub len: u32,
    pub queue_offset: QueueOffset,
    pub store_timestamp_ms: i64,
    pub filter_code: i64,
}
