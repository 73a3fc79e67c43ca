//! The engine on real executors and a real file system.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use glommio::{LocalExecutorBuilder, Placement};
use rmq_engine::env::glommio::GlommioEnv;
use rmq_engine::{
    CachedRead, FlushMode, Progress, QueueOffset, Read, ReadLimits, RecordMeta, RecordPlan, Schema, Shard,
    Store, StoreOptions,
};

/// length u32, queue offset i64, store time i64, filter code i64, body
struct TestSchema;

impl Schema for TestSchema {
    fn describe(&self, record: &[u8]) -> Option<RecordMeta> {
        let long = |at: usize| record.get(at..at + 8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
        Some(RecordMeta {
            len: u32::from_le_bytes(record.get(..4)?.try_into().ok()?),
            queue_offset: QueueOffset(long(4)?),
            store_timestamp_ms: long(12)?,
            filter_code: long(20)?,
        })
    }
}

struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("rmq-engine-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on_executor<F: Future<Output = ()> + 'static>(work: impl FnOnce() -> F + Send + 'static) {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .spawn(move || async move { work().await })
        .unwrap()
        .join()
        .unwrap();
}

async fn open(options: StoreOptions) -> Rc<Shard<GlommioEnv>> {
    let env = GlommioEnv::new();
    let mut seeds = Store::open(&env, options, Arc::new(TestSchema), &|_| 0).await.unwrap();
    Shard::start(env, seeds.remove(0)).await.unwrap()
}

fn append(shard: &Shard<GlommioEnv>, topic: &str, body: &[u8]) -> rmq_engine::Appended {
    let queue = shard.declare_queue(topic, 0).unwrap();
    let plan = RecordPlan { len: 28 + body.len() as u32, filter_code: 5 };
    shard
        .append(queue, &[plan], |_, out, stamp| {
            out[..4].copy_from_slice(&plan.len.to_le_bytes());
            out[4..12].copy_from_slice(&stamp.queue_offset.0.to_le_bytes());
            out[12..20].copy_from_slice(&stamp.store_timestamp_ms.to_le_bytes());
            out[20..28].copy_from_slice(&5i64.to_le_bytes());
            out[28..].copy_from_slice(body);
        })
        .unwrap()
}

/// Waits until the shard acknowledged a position.
async fn acknowledged(shard: &Shard<GlommioEnv>, end: rmq_engine::LogPosition) {
    while shard.acknowledged() < end {
        glommio::timer::sleep(std::time::Duration::from_micros(100)).await;
    }
}

fn both_modes() -> [FlushMode; 2] {
    [FlushMode::Sync, FlushMode::Async { interval_ms: 50, bytes: 1 << 20 }]
}

#[test]
fn what_is_acknowledged_can_be_read() {
    for (n, flush) in both_modes().into_iter().enumerate() {
        let dir = TestDir::new(&format!("read-{n}"));
        let options = StoreOptions { segment_size_bytes: 8 << 20, flush, ..StoreOptions::new(&dir.0) };
        on_executor(move || async move {
            let shard = open(options).await;
            let heard = Rc::new(RefCell::new(Vec::new()));
            let log = Rc::clone(&heard);
            shard.on_progress(Rc::new(move |progress| log.borrow_mut().push(progress)));
            let mut end = None;
            for n in 0..1000u32 {
                end = Some(append(&shard, "topic", &n.to_le_bytes()).end);
            }
            let queue = shard.find_queue("topic", 0).unwrap();
            assert_eq!(
                shard.max_offset(queue),
                QueueOffset(0),
                "nothing is visible before it is acknowledged"
            );
            acknowledged(&shard, end.unwrap()).await;
            assert_eq!(heard.borrow().last(), Some(&Progress::Acknowledged(end.unwrap())));
            let limits = ReadLimits { messages_max: 2000, bytes_max: 1 << 20, ..ReadLimits::default() };
            let mut out = Vec::new();
            let read = shard.read_cached(queue, QueueOffset(10), &limits, |_| true, &mut out);
            assert_eq!(read, CachedRead::Done(Read::Found { messages: 990, next: QueueOffset(1000) }));
            for (n, record) in out.chunks(32).enumerate() {
                assert_eq!(record[28..], (n as u32 + 10).to_le_bytes());
            }
            shard.shutdown().await.unwrap();
        });
    }
}
