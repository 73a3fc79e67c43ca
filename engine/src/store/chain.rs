//! The segments of one shard's log, oldest first, and whether one is missing.

use std::collections::BTreeMap;
use std::path::Path;

use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::BLOCK_BYTES;
use crate::segment::{self, HeaderFault, SegmentHeader};
use crate::superblock::Superblock;

/// Each log's segments by its shard, in the order they were written.
pub(super) type Chains = BTreeMap<u32, Vec<SegmentHeader>>;

const REMEDY: &str = "restore the segment from a backup, or start with a new store directory";

/// Reads all headers. Files that a crash left half-prepared are removed: nothing was ever in them.
pub(super) async fn read_chains<E: Env>(
    env: &E,
    dir: &Path,
    superblock: &Superblock,
) -> Result<Chains, Error> {
    let log_dir = segment::log_dir(dir);
    let names = env.list(&log_dir).await.map_err(Error::io("list", &log_dir))?;
    let mut chains = Chains::new();
    for name in &names {
        let path = log_dir.join(name);
        if name.ends_with(".tmp") {
            env.remove(&path).await.map_err(Error::io("remove", &path))?;
            continue;
        }
        let Some(number) = segment::number_in(name, "log") else { continue };
        match read_header(env, &path).await? {
            Ok(header) => {
                check(&header, number, &path, superblock)?;
                chains.entry(header.shard).or_default().push(header);
            }
            Err(HeaderFault::Absent) => {
                tracing::info!(path = %path.display(), "removing a segment that was never finished");
                env.remove(&path).await.map_err(Error::io("remove", &path))?;
            }
            Err(HeaderFault::NewerVersion(found)) => {
                return Err(Error::NewerVersion { path, found, known: segment::VERSION });
            }
            Err(HeaderFault::Damaged) => {
                return Err(Error::corrupt(&path, 0, "the segment header is damaged", REMEDY));
            }
        }
    }
    for name in &names {
        // An index whose segment retention removed just before a crash.
        let number = segment::number_in(name, "idx");
        if let Some(number) = number.or_else(|| Some(segment::key_file_in(name)?.0))
            && !chains.values().flatten().any(|header| header.number == number)
        {
            let path = log_dir.join(name);
            env.remove(&path).await.map_err(Error::io("remove", &path))?;
        }
    }
    // Also when nothing was removed: a process killed while it prepared a segment may not have come to it.
    env.sync_dir(&log_dir).await.map_err(Error::io("sync", &log_dir))?;
    for (shard, chain) in &mut chains {
        chain.sort_by_key(|header| header.number);
        for pair in chain.windows(2) {
            if pair[1].previous != Some(pair[0].number) {
                let missing = pair[1].previous.unwrap_or_default();
                let path = segment::log_path(dir, missing);
                let what =
                    format!("segment {missing} of shard {shard}'s log is missing before {}", pair[1].number);
                return Err(Error::corrupt(&path, 0, what, REMEDY));
            }
        }
    }
    Ok(chains)
}

async fn read_header<E: Env>(env: &E, path: &Path) -> Result<Result<SegmentHeader, HeaderFault>, Error> {
    let file = env.open(path, OpenMode::READ).await.map_err(Error::io("open", path))?;
    // The first frame's block too: a header cannot be merely absent where frames are.
    let bytes = file.read_at(0, 2 * BLOCK_BYTES).await.map_err(Error::io("read", path))?;
    file.close().await.map_err(Error::io("close", path))?;
    let (header, first) = bytes.split_at(bytes.len().min(BLOCK_BYTES));
    let decoded = SegmentHeader::decode(header);
    if decoded == Err(HeaderFault::Absent) && first.iter().any(|&byte| byte != 0) {
        return Ok(Err(HeaderFault::Damaged));
    }
    Ok(decoded)
}

fn check(header: &SegmentHeader, number: u64, path: &Path, superblock: &Superblock) -> Result<(), Error> {
    let corrupt = |what: String| Err(Error::corrupt(path, 0, what, REMEDY));
    if header.store_id != superblock.store_id {
        return corrupt("the segment belongs to another store".into());
    }
    if header.number != number {
        return corrupt(format!("the file holds segment {}", header.number));
    }
    if header.size != superblock.segment_size {
        return corrupt(format!("the segment's size {} is not this store's", header.size));
    }
    if header.number >= superblock.number_high {
        return corrupt("the superblock does not know the segment's number yet: it is older".into());
    }
    Ok(())
}
