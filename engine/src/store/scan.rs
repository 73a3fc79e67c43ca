//! Walking a segment's frames from its first one, as far as they prove themselves.

use std::path::{Path, PathBuf};

use crate::env::{Env, File};
use crate::error::Error;
use crate::frame::{Kind, PREAMBLE_BYTES, Preamble, Seed};
use crate::limits::{BLOCK_BYTES, FIRST_FRAME};

/// One read of the walk.
const WINDOW_BYTES: usize = 1 << 20;

pub(crate) struct Scan<'a, E: Env> {
    file: &'a E::File,
    path: PathBuf,
    seed: Seed,
    size: u32,
    /// The newest epoch that may be on disk.
    epoch_max: u32,
    /// Epochs never go down within a segment: a lower one is a leftover of an earlier life.
    epoch: u32,
    position: u32,
    window: Vec<u8>,
    window_at: u32,
}

pub(crate) struct Frame<'a> {
    pub position: u32,
    pub preamble: Preamble,
    pub payload: &'a [u8],
}

/// Why the walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A SEAL frame: nothing follows by intent.
    Sealed,
    /// Zeros, a torn frame, or a leftover of an earlier life: the log's end, if this is its last segment.
    Open,
}

impl<'a, E: Env> Scan<'a, E> {
    pub fn new(file: &'a E::File, path: &Path, seed: Seed, size: u64, epoch_max: u32) -> Self {
        Self {
            file,
            path: path.to_owned(),
            seed,
            size: size as u32,
            epoch_max,
            epoch: 0,
            position: FIRST_FRAME,
            window: Vec::new(),
            window_at: 0,
        }
    }

    /// Goes on at another frame.
    pub fn start_at(&mut self, position: u32) {
        self.position = position;
    }

    /// Behind the last good frame.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// More was written where the scan ended.
    pub fn look_again(&mut self) {
        self.window.clear();
    }

    /// The next frame, or how the log ends here.
    pub async fn next(&mut self) -> Result<Result<Frame<'_>, End>, Error> {
        let position = self.position;
        let Some(preamble) = self.preamble(position).await? else { return Ok(Err(End::Open)) };
        let len = preamble.frame_len();
        if preamble.epoch < self.epoch
            || preamble.epoch > self.epoch_max
            || !preamble.is_plausible((self.size - position) as usize)
            || !self.fetch(position, len).await?
        {
            return Ok(Err(End::Open));
        }
        let from = (position - self.window_at) as usize;
        if !preamble.verify(&self.window[from..from + len], self.seed, position) {
            return Ok(Err(End::Open));
        }
        self.epoch = preamble.epoch;
        self.position += len as u32;
        if preamble.kind == Kind::SEAL {
            return Ok(Err(End::Sealed));
        }
        let payload = &self.window[from + PREAMBLE_BYTES..from + PREAMBLE_BYTES + preamble.length as usize];
        Ok(Ok(Frame { position, preamble, payload }))
    }

    async fn preamble(&mut self, position: u32) -> Result<Option<Preamble>, Error> {
        if !self.fetch(position, PREAMBLE_BYTES).await? {
            return Ok(None);
        }
        let from = (position - self.window_at) as usize;
        let bytes = self.window[from..].first_chunk().expect("fetched");
        Ok(Preamble::parse(bytes))
    }

    /// Has these bytes in the window; false if the file ends before.
    async fn fetch(&mut self, position: u32, len: usize) -> Result<bool, Error> {
        let end = position as usize + len;
        if position >= self.window_at && end <= self.window_at as usize + self.window.len() {
            return Ok(true);
        }
        if end > self.size as usize {
            return Ok(false);
        }
        self.window_at = position - position % BLOCK_BYTES as u32;
        let wanted = (end - self.window_at as usize).max(WINDOW_BYTES).next_multiple_of(BLOCK_BYTES);
        let wanted = wanted.min(self.size as usize - self.window_at as usize);
        self.window.clear();
        while self.window.len() < wanted {
            let at = u64::from(self.window_at) + self.window.len() as u64;
            let len = (wanted - self.window.len()).min(WINDOW_BYTES);
            let piece = self.file.read_at(at, len).await.map_err(Error::io("read", &self.path))?;
            if piece.is_empty() {
                break;
            }
            self.window.extend_from_slice(&piece);
        }
        Ok(end <= self.window_at as usize + self.window.len())
    }
}
