//! One walk through a segment that no index speaks for: frame by frame into the table of queues.

use std::path::PathBuf;

use super::recover::{REMEDY, Recovery, Runs};
use super::scan::{End, Frame, Scan};
use crate::entry::{Entries, Entry};
use crate::env::{Env, File};
use crate::error::Error;
use crate::frame::{self, Kind, MARK_BYTES, PREAMBLE_BYTES, Seed};
use crate::limits::FIRST_FRAME;
use crate::offset::{LogPosition, QueueName, QueueNumber};
use crate::queue::{Queue, Run};
use crate::schema::{RecordMeta, Schema};
use crate::segment::{self, SegmentHeader};

/// What a walk found.
pub(super) struct Walked {
    pub header: SegmentHeader,
    pub path: PathBuf,
    pub runs: Runs,
    pub end: u32,
    pub how: End,
    /// Newest store time.
    pub last_ms: i64,
}

impl Walked {
    pub fn new(header: &SegmentHeader, path: PathBuf) -> Self {
        let (header, last_ms) = (*header, header.base_ms);
        Self { header, path, runs: Runs::new(), end: FIRST_FRAME, how: End::Open, last_ms }
    }

    fn corrupt(&self, frame: &Frame<'_>, what: &str) -> Error {
        let what = format!("{what} (queue number {})", frame.preamble.queue);
        Error::corrupt(&self.path, u64::from(frame.position), what, REMEDY)
    }
}

impl<E: Env> Recovery<'_, E> {
    /// Walks through a segment. Frames at or behind `place` change the table; those before give entries only.
    pub(super) async fn walk(&mut self, header: &SegmentHeader, place: LogPosition) -> Result<Walked, Error> {
        let path = segment::log_path(self.dir(), header.number);
        let file = self.open_locked(&path).await?;
        let seed = Seed::new(header.store_id, header.number);
        let mut scan = Scan::<E>::new(&file, &path, seed, header.size, self.superblock.epoch);
        let mut walked = Walked::new(header, path.clone());
        let mut replayed_at = None;
        walked.how = loop {
            match scan.next().await? {
                Ok(frame) => {
                    let at = LogPosition { segment: header.number, offset: frame.position };
                    self.take_frame(&frame, at < place, &mut walked)?;
                    continue;
                }
                Err(End::Sealed) => break End::Sealed,
                Err(End::Open) => {}
            }
            let end = scan.position();
            if !self.replay(header, &file, &path, end).await? {
                break End::Open;
            }
            if replayed_at.replace(end) == Some(end) {
                let what = "what was written does not read back";
                return Err(Error::corrupt(&path, u64::from(end), what, REMEDY));
            }
            scan.look_again();
        };
        walked.end = scan.position();
        // What was only in the disk's cache is acknowledged from now on: by being read, if nothing else.
        file.sync().await.map_err(Error::io("sync", &path))?;
        file.close().await.map_err(Error::io("close", &path))?;
        self.last_ms = self.last_ms.max(walked.last_ms);
        Ok(walked)
    }

    fn take_frame(&mut self, frame: &Frame<'_>, is_covered: bool, walked: &mut Walked) -> Result<(), Error> {
        let number = QueueNumber(frame.preamble.queue);
        match frame.preamble.kind {
            Kind::RECORDS => self.take_records(frame, number, is_covered, walked)?,
            Kind::QUEUE if !is_covered => {
                let Some((queue, topic)) = frame::decode_queue(frame.payload) else {
                    return Err(walked.corrupt(frame, "a declaration is not one"));
                };
                self.number_high = self.number_high.max(number.0 + 1);
                let name = QueueName { topic: topic.to_owned(), queue };
                self.queues.entry(number).or_insert_with(|| Queue::new(number, name, 0));
            }
            Kind::QUEUE_DELETED if !is_covered => {
                self.queues.remove(&number);
                walked.runs.remove(&number);
            }
            // Known already, or room that is skipped.
            Kind::QUEUE | Kind::QUEUE_DELETED | Kind::PAD => {}
            _ => return Err(walked.corrupt(frame, "a frame of unknown kind")),
        }
        Ok(())
    }

    /// The records of one frame, as entries of their queue.
    fn take_records(
        &mut self,
        frame: &Frame<'_>,
        number: QueueNumber,
        is_covered: bool,
        walked: &mut Walked,
    ) -> Result<(), Error> {
        // A queue that nobody knows was deleted.
        let Some(queue) = self.queues.get_mut(&number) else { return Ok(()) };
        let SegmentHeader { number: segment, base_ms, .. } = walked.header;
        for record in records(self.schema, frame) {
            let Some((position, meta)) = record else {
                return Err(walked.corrupt(frame, "a record cannot be read"));
            };
            let offset = meta.queue_offset.0;
            let new_run = || Run { segment, base_ms, first: offset, entries: Entries::default() };
            let run = walked.runs.entry(number).or_insert_with(new_run);
            if run.end() != offset {
                return Err(walked.corrupt(frame, "queue offsets are not consecutive"));
            }
            let time = (meta.store_timestamp_ms - base_ms).clamp(0, i64::from(u32::MAX)) as u32;
            run.entries.push(Entry::new(position, meta.len, meta.filter_code, time));
            walked.last_ms = walked.last_ms.max(meta.store_timestamp_ms);
            if !is_covered {
                // Without maps nobody knows where a queue stood: its oldest record says it.
                if queue.next != offset && !self.is_rebuild {
                    return Err(walked.corrupt(frame, "queue offsets do not go on where they stood"));
                }
                queue.next = queue.next.max(offset + 1);
                queue.visible = queue.next;
            }
        }
        Ok(())
    }
}

/// Positions and descriptions of a frame's records; `None` for one that the schema does not recognise.
pub(crate) fn records<'a>(
    schema: &'a dyn Schema,
    frame: &'a Frame<'_>,
) -> impl Iterator<Item = Option<(u32, RecordMeta)>> + 'a {
    let mut at = 0;
    (0..frame.preamble.count).map(move |n| {
        if n > 0 {
            at += MARK_BYTES;
        }
        let record = frame.payload.get(at..)?;
        let meta = schema.describe(record).filter(|meta| meta.len as usize <= record.len())?;
        let position = frame.position + (PREAMBLE_BYTES + at) as u32;
        at += meta.len as usize;
        Some((position, meta))
    })
}
