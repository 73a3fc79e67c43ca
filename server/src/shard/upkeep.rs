//! What a shard does by the clock: time-outs, sweeps, handing over offsets, and its end.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{OffsetsCopy, Shard};
use crate::broker::pop::revive_log;
use crate::control::link::{ConsumerOffsetRow, ToControl};
use crate::handler;
use crate::limits;
use crate::net::executor;

/// How often idle connections are closed and overtaken pulls are woken, as Java's hold service.
const SWEEP_INTERVAL_MS: u64 = 5_000;

impl Shard {
    /// Time-outs: held pulls, synchronous flushes, idle connections.
    pub(super) async fn watch_deadlines(self: Rc<Self>) {
        let mut idle_checked_ms = 0;
        loop {
            let holds_none = self.long_polls.is_empty() && self.pop.waiters.is_empty();
            if holds_none && self.group_commit.borrow().is_empty() {
                self.long_polls.first.notified_within(Duration::from_secs(1)).await;
            } else {
                executor::sleep(Duration::from_millis(100)).await;
            }
            let now_ms = self.tick();
            for pull in self.long_polls.take_expired(now_ms) {
                self.pull_again(pull);
            }
            handler::pop::expire(&self, now_ms);
            self.wake_popping();
            if let Some(limit_ms) = now_ms.checked_sub(self.settings.sync_flush_timeout_ms) {
                self.group_commit.borrow_mut().time_out(limit_ms, |to, frame| {
                    self.answers.later(to, |out| handler::send::write_flush_timeout(out, to, frame));
                });
            }
            if now_ms >= idle_checked_ms + SWEEP_INTERVAL_MS {
                idle_checked_ms = now_ms;
                self.close_idle(now_ms);
                self.wake_overtaken_pulls();
            }
            self.answers.flush(now_ms);
        }
    }

    fn close_idle(&self, now_ms: u64) {
        let limit_ms = self.settings.idle_connection_ms;
        self.answers.each(|connection| {
            // 0 switches the check off, as in Java.
            if limit_ms > 0 && now_ms.saturating_sub(connection.last_active_ms()) > limit_ms {
                tracing::info!(peer = %connection.peer, "closed: idle");
                connection.close();
            }
            connection.shrink();
        });
    }

    fn wake_overtaken_pulls(self: &Rc<Self>) {
        let overtaken = self.long_polls.take_overtaken(
            |queue| queue.number().map_or(0, |number| self.engine.max_offset(number).0),
            |to| to.connection.shard as usize == self.index && self.answers.find(to.connection).is_none(),
        );
        for pull in overtaken {
            self.pull_again(pull);
        }
    }

    pub(super) async fn persist_offsets(self: Rc<Self>) {
        loop {
            executor::sleep(Duration::from_millis(self.settings.offset_persist_interval_ms)).await;
            if self.offsets.borrow_mut().take_dirty() {
                self.offsets_copy.set(OffsetsCopy::UnderWay);
                let table = self.copy_offsets().await;
                if self.offsets_copy.replace(OffsetsCopy::None) == OffsetsCopy::UnderWay {
                    self.control.tell(ToControl::Offsets { shard: self.index, table });
                }
            }
            self.hand_over_delay_offsets();
        }
    }

    /// Copies the table in small pieces: a large one must not hold up the sends. What is committed meanwhile
    /// is in the copy or makes the table dirty again.
    async fn copy_offsets(&self) -> Vec<ConsumerOffsetRow> {
        const ROWS_PER_TURN: usize = 500;
        let groups = self.offsets.borrow().group_names();
        let mut table = Vec::new();
        let mut turn = 0;
        for group in groups {
            let rows = self.offsets.borrow().rows_of(&group);
            turn += rows.len();
            table.extend(rows);
            if turn >= ROWS_PER_TURN {
                turn = 0;
                executor::sleep(Duration::ZERO).await;
            }
        }
        table
    }

    /// Gives the control thread at once what has changed since it was last given.
    pub fn hand_over_offsets(&self) {
        let mut offsets = self.offsets.borrow_mut();
        let is_copying = self.offsets_copy.get() != OffsetsCopy::None;
        if offsets.take_dirty() || is_copying {
            self.control.tell(ToControl::Offsets { shard: self.index, table: offsets.rows() });
        }
        if is_copying {
            self.offsets_copy.set(OffsetsCopy::Overtaken);
        }
        drop(offsets);
        self.hand_over_delay_offsets();
    }

    fn hand_over_delay_offsets(&self) {
        let rows = self.delay.take_changed();
        if !rows.is_empty() {
            self.control.tell(ToControl::DelayOffsets { rows });
        }
    }

    /// New work is refused from here on; what was accepted is answered, within `limits::DRAIN_MS`.
    pub(super) async fn drain(self: Rc<Self>, done: oneshot::Sender<()>) {
        let until_ms = self.tick() + limits::DRAIN_MS;
        revive_log::record_acks(&self);
        while (!self.group_commit.borrow().is_empty() || self.delay.is_delivering()) && self.tick() < until_ms
        {
            executor::sleep(Duration::from_millis(5)).await;
        }
        self.hand_over_offsets();
        self.answers.flush(self.tick());
        let _ = done.send(());
    }

    pub(super) async fn stop(self: Rc<Self>) {
        self.answers.each(|connection| connection.close());
        self.timer.close().await;
        if let Err(error) = Rc::clone(&self.engine).shutdown().await {
            tracing::error!(shard = self.index, %error, "the log did not stop cleanly; the next start recovers it");
        }
        self.stopped.notify();
    }
}
