//! A plain thread that watches over the shards.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::mesh::Inbox;

/// Wakes shards that owe something: an executor of glommio 0.9 can park although it has work. Every 10 ms
/// while a shard owes an answer, every second otherwise.
pub fn spawn(inboxes: Vec<Arc<Inbox>>) -> io::Result<()> {
    const BUSY: Duration = Duration::from_millis(10);
    const IDLE_ROUNDS: u32 = 100;
    let watch = move || {
        let mut idle_rounds = IDLE_ROUNDS;
        let mut stalled = vec![(0u64, 0u32); inboxes.len()];
        loop {
            let pause = if idle_rounds >= IDLE_ROUNDS { BUSY * IDLE_ROUNDS } else { BUSY };
            thread::sleep(pause);
            let owing = inboxes.iter().any(|inbox| inbox.is_owing());
            idle_rounds = if owing { 0 } else { idle_rounds.saturating_add(1) };
            for (index, (inbox, (turns, rounds))) in inboxes.iter().zip(&mut stalled).enumerate() {
                let now = inbox.turns();
                *rounds = if now == *turns { *rounds + 1 } else { 0 };
                *turns = now;
                if *rounds > 0 && rounds.is_multiple_of(500) {
                    tracing::error!(shard = index, "the shard has not run for a while");
                }
                inbox.nudge();
            }
        }
    };
    thread::Builder::new().name("rmq-supervisor".to_owned()).spawn(watch).map(drop)
}
