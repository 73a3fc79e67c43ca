//! An orderly end: nothing new, everything old to disk, and a snapshot that spares the next start the walk
//! through the log.

use std::rc::Rc;

use super::sealer::Subject;
use super::{Shard, State};
use crate::env::{Env, File};
use crate::error::Error;
use crate::limits::FIRST_FRAME;

impl<E: Env> Shard<E> {
    /// Refuses appends, brings everything appended to disk and leaves the store cleanly closed.
    pub async fn shutdown(self: Rc<Self>) -> Result<(), Error> {
        if self.state.get() == State::Running {
            self.state.set(State::Stopping);
        }
        self.wake_tasks();
        self.tasks.ended.wait_for(|| self.tasks.running.get() == 0).await;
        if self.state.get() == State::Poisoned {
            return Err(Error::Poisoned);
        }
        // What the flusher left after the sealer had ended.
        loop {
            let next = self.sealing.borrow().front().cloned();
            let Some(file) = next else { break };
            self.seal_segment(&file).await?;
        }
        self.write_snapshot().await?;
        self.write_last_keys().await;
        // Only now: whoever finds no ring and no clean stop has to fear a loss.
        self.remove_ring().await?;
        self.close_files().await
    }

    async fn write_snapshot(&self) -> Result<(), Error> {
        let (file, at, last_ms) = {
            let log = self.log.borrow();
            (Rc::clone(log.active()), log.position(), log.last_ms)
        };
        file.log.sync().await.map_err(Error::io("sync", &file.path))?;
        if at.offset > FIRST_FRAME {
            let subject = Subject {
                segment: at.segment,
                base_ms: file.base_ms,
                end: at.offset,
                last_ms,
                snapshot: true,
            };
            self.write_index(&subject).await?;
        }
        self.write_map(at, true).await
    }

    async fn close_files(&self) -> Result<(), Error> {
        let files = {
            let mut log = self.log.borrow_mut();
            let spare = log.spare.take();
            log.files.drain(..).chain(spare).collect::<Vec<_>>()
        };
        for file in files {
            if let Ok(file) = Rc::try_unwrap(file) {
                file.close().await?;
            }
        }
        self.disk.close().await;
        self.lock.take();
        Ok(())
    }
}
