//! Deleting what expired: whole sealed segments, oldest first, never the one being written.
//!
//! A segment counts as sealed here only when a queue map behind it is durable, so no queue forgets where it
//! stood when its last message goes.

use std::io;

use super::Shard;
use crate::env::Env;
use crate::error::Error;
use crate::options::RetentionPolicy;
use crate::segment;

impl<E: Env> Shard<E> {
    /// Deletes what the policy allows and returns how many segments went. Called now and then by the server.
    pub async fn delete_expired(&self, policy: &RetentionPolicy, now_ms: i64) -> Result<usize, Error> {
        // A second caller meanwhile must not take the same segment.
        if self.deleting.replace(true) {
            return Ok(0);
        }
        let result = self.delete_oldest(policy, now_ms).await;
        self.deleting.set(false);
        result
    }

    async fn delete_oldest(&self, policy: &RetentionPolicy, now_ms: i64) -> Result<usize, Error> {
        self.forget_deleted_elsewhere().await;
        let mut deleted = 0;
        while deleted < policy.segments_max {
            let Some(oldest) = self.sealed.borrow().front().copied() else { break };
            let is_expired =
                policy.age_ms.is_some_and(|age_ms| oldest.last_ms < now_ms.saturating_sub(age_ms));
            if !is_expired && !self.is_too_full(policy).await? {
                break;
            }
            self.delete_segment(oldest.number).await?;
            deleted += 1;
        }
        Ok(deleted)
    }

    async fn is_too_full(&self, policy: &RetentionPolicy) -> Result<bool, Error> {
        let Some(ratio_max) = policy.disk_ratio_max else { return Ok(false) };
        Ok(self.disk_used_ratio().await? > ratio_max)
    }

    /// How full the file system of the log is, 0.0 to 1.0.
    pub async fn disk_used_ratio(&self) -> Result<f64, Error> {
        let dir = segment::log_dir(&self.options.dir);
        let space = self.env.space(&dir).await.map_err(Error::io("statvfs", &dir))?;
        Ok(space.used_ratio())
    }

    async fn delete_segment(&self, number: u64) -> Result<(), Error> {
        let dir = segment::log_dir(&self.options.dir);
        // Readers first: whoever looks from now on finds the queue begin later.
        self.drop_segment(number).await;
        let log_and_index =
            [segment::log_path(&self.options.dir, number), segment::index_path(&self.options.dir, number)];
        for path in log_and_index.into_iter().chain(self.forget_keys(number)) {
            match self.env.remove(&path).await {
                // An earlier attempt came this far, or an operator did it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::io("remove", &path))?,
            }
        }
        // A reader that was on its way may have opened it again, which would keep its space.
        self.disk.forget(number).await;
        // One at a time, so that after a crash only the oldest can be missing.
        self.env.sync_dir(&dir).await.map_err(Error::io("sync", &dir))?;
        self.sealed.borrow_mut().retain(|sealed| sealed.number != number);
        self.shared.announce_deleted(number);
        tracing::info!(shard = self.index, segment = number, "deleted an expired segment");
        Ok(())
    }

    /// Queues that moved here may have messages in another shard's log, which that shard retains or deletes.
    async fn forget_deleted_elsewhere(&self) {
        let mut cursor = self.deleted_seen.get();
        let gone = self.shared.deleted_since(&mut cursor);
        self.deleted_seen.set(cursor);
        for number in gone {
            self.drop_segment(number).await;
        }
    }

    async fn drop_segment(&self, number: u64) {
        let numbers = self.queues.borrow().numbers();
        let mut slice = self.env.monotonic_us();
        for part in numbers.chunks(256) {
            for &queue in part {
                if let Some(queue) = self.queues.borrow_mut().queue_mut(queue) {
                    queue.drop_span(number);
                    queue.drop_run(number);
                }
            }
            self.breathe(&mut slice).await;
        }
        self.disk.forget(number).await;
    }
}
