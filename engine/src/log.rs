//! The append side of one shard's log: where the next frame goes, and what waits for the disk.
//!
//! Invariant: an active segment always has room for its SEAL frame. When append returns, the frame is in
//! memory at its final place with its checksum; the flusher brings it to disk in order.
//! Not here: files' bytes (`shard::flusher`), preparing the next segment (`shard::preparer`).

use std::collections::VecDeque;
use std::rc::Rc;

use crate::env::Env;
use crate::error::AppendError;
use crate::frame::{self, Kind, Label, SEAL_BYTES, frame_len};
use crate::limits::{FIRST_FRAME, FRAME_PAYLOAD_MAX};
use crate::offset::{LogPosition, QueueNumber};
use crate::segment_file::SegmentFile;
use crate::tail::Tail;

pub(crate) struct Log<E: Env> {
    pub tail: Tail,
    /// Segments with unwritten bytes, in log order; appends go to the last.
    pub files: VecDeque<Rc<SegmentFile<E>>>,
    /// The next segment, ready.
    pub spare: Option<Rc<SegmentFile<E>>>,
    /// Frames of records that wait to be acknowledged, in log order.
    pub pending: VecDeque<Pending>,
    /// Where the next frame goes, in the last of `files`.
    pub end: u32,
    /// Preparing the next segment failed for want of space.
    pub disk_full: bool,
    /// Newest store timestamp: the clock may go back, the log does not.
    pub last_ms: i64,
    segment_size: u32,
    epoch: u32,
}

#[derive(Clone, Copy)]
pub(crate) struct Pending {
    pub end: LogPosition,
    pub queue: QueueNumber,
    pub count: u16,
    /// Of the first record.
    pub first: i64,
    pub filter_code: i64,
}

impl<E: Env> Log<E> {
    pub fn new(tail: Tail, active: Rc<SegmentFile<E>>, end: u32, segment_size: u64, epoch: u32) -> Self {
        Self {
            tail,
            files: VecDeque::from([active]),
            spare: None,
            pending: VecDeque::new(),
            end,
            disk_full: false,
            last_ms: 0,
            segment_size: segment_size as u32,
            epoch,
        }
    }

    pub fn active(&self) -> &Rc<SegmentFile<E>> {
        self.files.back().expect("a log has an active segment")
    }

    pub fn position(&self) -> LogPosition {
        LogPosition { segment: self.active().number, offset: self.end }
    }

    /// Finds room for a frame with this much payload, in a new segment if need be.
    pub fn make_room(&mut self, payload: usize, now_ms: i64) -> Result<LogPosition, AppendError> {
        let limit = self.segment_size - SEAL_BYTES;
        if payload > FRAME_PAYLOAD_MAX || frame_len(payload) > (limit - FIRST_FRAME) as usize {
            return Err(AppendError::TooLarge);
        }
        let fits = frame_len(payload) <= (limit - self.end) as usize;
        // Entries keep store times as 32 bits of milliseconds since the segment's base (49 days).
        if !fits || now_ms - self.active().base_ms > i64::from(u32::MAX) {
            self.roll()?;
        }
        Ok(self.position())
    }

    #[cold]
    fn roll(&mut self) -> Result<(), AppendError> {
        let Some(next) = self.spare.take() else {
            return Err(if self.disk_full { AppendError::DiskFull } else { AppendError::Busy });
        };
        self.write_frame(0, Kind::SEAL, 0, 0, |_| {});
        self.active().sealed_end.set(Some(self.end));
        self.active().last_ms.set(self.last_ms);
        self.files.push_back(next);
        self.end = FIRST_FRAME;
        Ok(())
    }

    /// Appends one frame where `make_room` said.
    pub fn write_frame(
        &mut self,
        payload: usize,
        kind: Kind,
        count: u16,
        queue: u32,
        fill: impl FnOnce(&mut [u8]),
    ) {
        let at = self.position();
        let seed = self.active().seed;
        let bytes = self.tail.extend(at, frame_len(payload));
        fill(&mut bytes[frame::PREAMBLE_BYTES..frame::PREAMBLE_BYTES + payload]);
        frame::finish(bytes, payload, Label { kind, count, queue, epoch: self.epoch }, seed, at.offset);
        self.end += bytes.len() as u32;
    }
}
