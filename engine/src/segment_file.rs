//! A segment open for writing, and how far ahead of the writer it is filled with zeros.
//!
//! Rule that keeps the two writers apart: the flusher writes below `frontier` only, and moves it itself only
//! while no write of zeros is in flight; the zero-filler writes at `frontier` and above.

use std::cell::Cell;
use std::path::PathBuf;

use crate::env::{Env, File, OpenMode};
use crate::error::Error;
use crate::frame::Seed;
use crate::limits::{BLOCK_BYTES, FIRST_FRAME};
use crate::notify::Changes;

pub(crate) struct SegmentFile<E: Env> {
    pub number: u64,
    pub base_ms: i64,
    pub seed: Seed,
    pub path: PathBuf,
    /// For frames. Its completed writes are durable if the store flushes synchronously.
    pub log: E::File,
    /// For zeros, which need no flush each.
    zeros: E::File,
    size: u32,
    frontier: Cell<u32>,
    zeroing: Cell<bool>,
    unsynced_zeros: Cell<u32>,
    moved: Changes,
    /// Newest store time in the segment, once it is sealed.
    pub last_ms: Cell<i64>,
    /// Behind the SEAL frame, once there is one.
    pub sealed_end: Cell<Option<u32>>,
}

const BLOCK: u32 = BLOCK_BYTES as u32;

/// Zeros written before their extents are made durable together.
const ZERO_SYNC_BYTES: u32 = 8 << 20;

impl<E: Env> SegmentFile<E> {
    pub async fn open(
        env: &E,
        path: PathBuf,
        store_id: u64,
        number: u64,
        base_ms: i64,
        size: u64,
        durable: bool,
    ) -> Result<Self, Error> {
        let mode = OpenMode { durable, ..OpenMode::WRITE };
        let log = env.open(&path, mode).await.map_err(Error::io("open", &path))?;
        let zeros = env.open(&path, OpenMode::WRITE).await.map_err(Error::io("open", &path))?;
        // Both: zeros of a killed process that land late would do as much harm as frames.
        for file in [&log, &zeros] {
            if !file.try_lock_shared().map_err(Error::io("lock", &path))? {
                return Err(Error::Locked { path, holder: "another process".into() });
            }
        }
        Ok(Self {
            number,
            base_ms,
            seed: Seed::new(store_id, number),
            path,
            log,
            zeros,
            size: size as u32,
            frontier: Cell::new(FIRST_FRAME),
            zeroing: Cell::new(false),
            unsynced_zeros: Cell::new(0),
            moved: Changes::default(),
            last_ms: Cell::new(base_ms),
            sealed_end: Cell::new(None),
        })
    }

    pub fn frontier(&self) -> u32 {
        self.frontier.get()
    }

    /// Blocks below this hold frames already: zeros must stay away from them.
    pub fn start_at(&self, end: u32) {
        self.frontier.set(end.next_multiple_of(BLOCK));
    }

    /// Before the flusher writes up to `end`. If the zero-filler fell behind, the flusher overtakes it.
    pub async fn reach(&self, end: u32) {
        if self.frontier.get() >= end {
            return;
        }
        self.moved.wait_for(|| !self.zeroing.get() || self.frontier.get() >= end).await;
        if self.frontier.get() < end {
            self.frontier.set(end);
        }
    }

    /// Whether the zeros reach `target`, or the segment's end.
    pub fn is_zeroed_to(&self, target: u32) -> bool {
        self.frontier.get() >= target.min(self.size)
    }

    /// Writes one piece of zeros if the frontier is below `target`; false when there is nothing to do. Pieces are
    /// whole, so the last may pass the target.
    pub async fn write_zeros(&self, target: u32, piece_bytes: usize) -> Result<bool, Error> {
        if self.is_zeroed_to(target) {
            return self.sync_zeros().await;
        }
        let from = self.frontier.get();
        let len = (self.size - from).min(piece_bytes as u32);
        self.zeroing.set(true);
        let result = self.zeros.write_zeros_at(u64::from(from), len as usize).await;
        self.zeroing.set(false);
        if result.is_ok() {
            self.frontier.set(from + len);
            self.unsynced_zeros.set(self.unsynced_zeros.get() + len);
        }
        self.moved.announce();
        result.map_err(Error::io("write zeros to", &self.path))?;
        if self.unsynced_zeros.get() >= ZERO_SYNC_BYTES {
            self.sync_zeros().await?;
        }
        Ok(true)
    }

    /// Makes the written extents durable, so that the flusher's writes need no journal commit of their own.
    async fn sync_zeros(&self) -> Result<bool, Error> {
        if self.unsynced_zeros.replace(0) == 0 {
            return Ok(false);
        }
        self.zeros.sync().await.map_err(Error::io("sync", &self.path))?;
        Ok(true)
    }

    pub async fn close(self) -> Result<(), Error> {
        self.zeros.close().await.map_err(Error::io("close", &self.path))?;
        self.log.close().await.map_err(Error::io("close", &self.path))
    }
}
