//! Keeps the log's way clear: the next segment ready before it is needed, zeros ahead of the writer.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use super::Shard;
use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::limits::{BLOCK_BYTES, ZERO_BYTES_MAX, ZERO_PIECE_BYTES};
use crate::options::{FlushMode, StoreOptions};
use crate::segment::{self, SegmentHeader};
use crate::segment_file::SegmentFile;

const RETRY_US: u64 = 200_000;
/// Between two pieces of zeros that are not urgent: half a gigabyte per second.
const PACE_US: u64 = 500;

impl<E: Env> Shard<E> {
    pub(super) async fn prepare_ahead(self: Rc<Self>) {
        let mut number = None;
        let filling = Cell::new(true);
        // A full disk stays full for a while: it is said once, not at every attempt.
        let mut said = String::new();
        while self.is_running() {
            if self.log.borrow().spare.is_none() {
                if let Err(error) = self.prepare_spare(&mut number).await {
                    if error.is_failed_flush() {
                        return self.poison(&error);
                    }
                    self.remember(&error);
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!(shard = self.index, %error, "cannot prepare the next segment");
                        said = text;
                    }
                    self.env.sleep_us(RETRY_US).await;
                } else if !said.is_empty() {
                    said.clear();
                    tracing::info!(shard = self.index, "the next segment is ready again");
                }
                continue;
            }
            match self.write_zeros(&filling).await {
                // The disk is the flusher's as well: no hurry while there is a lead.
                Ok(true) if self.has_lead() => self.env.sleep_us(PACE_US).await,
                Ok(true) => {}
                Ok(false) => self.prepare.notified().await,
                Err(error) if error.is_failed_flush() => return self.poison(&error),
                Err(error) => {
                    // The flusher writes there itself then, and finds out whether the disk is to blame.
                    self.remember(&error);
                    tracing::warn!(shard = self.index, %error, "cannot write zeros ahead");
                    self.env.sleep_us(RETRY_US).await;
                }
            }
        }
    }

    async fn prepare_spare(&self, number: &mut Option<u64>) -> Result<(), Error> {
        let reserved = match *number {
            Some(number) => number,
            None => *number.insert(self.shared.take_number(&self.env, self.index).await?),
        };
        let (previous, base_ms) = {
            let log = self.log.borrow();
            (log.active().number, self.env.wall_ms().max(log.last_ms))
        };
        let header =
            header(&self.options, self.store_id, self.index, self.epoch, reserved, Some(previous), base_ms);
        let result = prepare_segment(&self.env, &self.options, &header).await;
        let mut log = self.log.borrow_mut();
        log.disk_full = matches!(&result, Err(Error::Io { source, .. }) if is_full(source));
        log.spare = Some(Rc::new(result?));
        *number = None;
        Ok(())
    }

    /// Whether the zeros are far enough ahead for the writer not to catch up soon.
    fn has_lead(&self) -> bool {
        let log = self.log.borrow();
        let lead = log.active().frontier().saturating_sub(log.end);
        u64::from(lead) >= self.options.zero_ahead_bytes.min(self.options.segment_size_bytes) / 4
    }

    /// One piece of zeros: where the writer comes first, then at the start of the next segment. Filling begins
    /// when half of the distance is used up and goes on to the whole, so that under load the zeros come in
    /// bursts of large pieces with few flushes, not in a piece behind every group.
    async fn write_zeros(&self, filling: &Cell<bool>) -> Result<bool, Error> {
        if self.options.zero_ahead_bytes == 0 {
            // Only a roll, which needs a spare segment, wakes the preparer then.
            self.prepare_at.set(u32::MAX);
            return Ok(false);
        }
        let ahead = self.options.zero_ahead_bytes.min(self.options.segment_size_bytes) as u32;
        let (active, end, spare) = {
            let log = self.log.borrow();
            (Rc::clone(log.active()), log.end, log.spare.clone())
        };
        if filling.get() || !active.is_zeroed_to(end.saturating_add(ahead / 2)) {
            let piece = if self.has_lead() { ZERO_PIECE_BYTES } else { ZERO_BYTES_MAX };
            filling.set(active.write_zeros(end.saturating_add(ahead), piece).await?);
            if filling.get() {
                return Ok(true);
            }
        }
        self.prepare_at.set(end.saturating_add(ahead / 2));
        match spare {
            Some(spare) => spare.write_zeros(ahead, ZERO_PIECE_BYTES).await,
            None => Ok(false),
        }
    }
}

pub(super) fn header(
    options: &StoreOptions,
    store_id: u64,
    shard: usize,
    epoch: u32,
    number: u64,
    previous: Option<u64>,
    base_ms: i64,
) -> SegmentHeader {
    let size = options.segment_size_bytes;
    SegmentHeader { store_id, number, shard: shard as u32, epoch, previous, size, base_ms }
}

/// Creates a segment: allocated whole, with its header, known to its directory, all of it durable.
pub(super) async fn prepare_segment<E: Env>(
    env: &E,
    options: &StoreOptions,
    header: &SegmentHeader,
) -> Result<SegmentFile<E>, Error> {
    let path = segment::log_path(&options.dir, header.number);
    let file = env.open(&path, OpenMode::CREATE).await.map_err(Error::io("create", &path))?;
    let allocated = async {
        file.allocate(header.size).await.map_err(Error::io("allocate", &path))?;
        // The size first: a header stands for a segment that is whole.
        file.sync().await.map_err(Error::io("sync", &path))?;
        file.write_at(0, BLOCK_BYTES, |block| header.encode(block))
            .await
            .map_err(Error::io("write", &path))?;
        file.sync().await.map_err(Error::io("sync", &path))
    }
    .await;
    file.close().await.map_err(Error::io("close", &path))?;
    if let Err(error) = allocated {
        // Gives back what little there was of the space; a rest is removed at the next start.
        let _ = env.remove(&path).await;
        return Err(error);
    }
    let dir = segment::log_dir(&options.dir);
    env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))?;
    open_segment(env, options, header.store_id, header.number, header.base_ms).await
}

pub(super) async fn open_segment<E: Env>(
    env: &E,
    options: &StoreOptions,
    store_id: u64,
    number: u64,
    base_ms: i64,
) -> Result<SegmentFile<E>, Error> {
    let path = segment::log_path(&options.dir, number);
    let durable = options.flush == FlushMode::Sync;
    SegmentFile::open(env, path, store_id, number, base_ms, options.segment_size_bytes, durable).await
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}
