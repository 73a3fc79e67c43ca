//! A plain thread that watches over the shards.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::mesh::Inbox;

/// How often each shard must show that it runs.
const INTERVAL: Duration = Duration::from_secs(1);
/// Missed turns until it is said aloud, and again after as many.
const MISSED_TURNS: u32 = 5;

/// Asks each shard for a turn of its inbox task and complains about those that do not take it.
pub fn spawn(inboxes: Vec<Arc<Inbox>>) -> io::Result<()> {
    let watch = move || {
        let mut seen = vec![(0u64, 0u32); inboxes.len()];
        loop {
            for (index, (inbox, (turns, missed))) in inboxes.iter().zip(&mut seen).enumerate() {
                let now = inbox.turns();
                *missed = if now == *turns { *missed + 1 } else { 0 };
                *turns = now;
                if *missed > 0 && missed.is_multiple_of(MISSED_TURNS) {
                    tracing::error!(shard = index, seconds = *missed, "the shard has not run for a while");
                }
                inbox.nudge();
            }
            thread::sleep(INTERVAL);
        }
    };
    thread::Builder::new().name("rmq-supervisor".to_owned()).spawn(watch).map(drop)
}
