//! Reading a half or op queue on and on, from memory or disk.

use std::rc::Rc;

use rmq_engine::{CachedRead, Error, QueueNumber, QueueOffset, Read, ReadLimits};

use crate::limits::CHECK_BATCH_BYTES;
use crate::shard::Engine;

/// `messages_max` records from `from` on, and where to go on after them; what retention has removed is skipped.
/// The same offset again: there is nothing more.
pub async fn read_on(
    engine: &Rc<Engine>,
    queue: QueueNumber,
    from: i64,
    messages_max: u32,
) -> Result<(Vec<u8>, i64), Error> {
    let limits = ReadLimits {
        messages_max,
        bytes_max: CHECK_BATCH_BYTES,
        scan_max: messages_max,
        cold_messages_max: messages_max,
        cold_bytes_max: CHECK_BATCH_BYTES,
    };
    let mut records = Vec::new();
    let at = QueueOffset(from);
    let read = match engine.read_cached(queue, at, &limits, |_| true, &mut records) {
        CachedRead::Done(read) => read,
        CachedRead::Cold => {
            let (read, bytes) = Rc::clone(engine).read(queue, at, limits, |_| true).await?;
            records = bytes;
            read
        }
    };
    let after = match read {
        Read::Found { next, .. } | Read::NoneMatched { next } | Read::Removed { next } => next.0,
        Read::TooSmall { min } => min.0,
        Read::TooLarge { max } => max.0,
        Read::AtEnd | Read::NoSuchQueue => from,
    };
    Ok((records, after))
}
