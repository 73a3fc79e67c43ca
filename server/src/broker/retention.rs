//! Deletes what has outlived `fileReservedTime`, or earlier when the disk fills.

use std::rc::Rc;
use std::time::Duration;

use nix::libc;
use rmq_engine::RetentionPolicy;

use super::store;
use crate::net::executor;
use crate::shard::Shard;

/// Deleting gigabytes at once stalls the disk; the rest goes at the next check.
const SEGMENTS_AT_ONCE: usize = 10;
/// As Java's `cleanResourceInterval`.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub async fn run(shard: Rc<Shard>) {
    loop {
        executor::sleep(CHECK_INTERVAL).await;
        if shard.is_draining() {
            return;
        }
        let settings = &shard.settings.retention;
        let ratio = match shard.engine.disk_used_ratio().await {
            Ok(ratio) => ratio,
            Err(error) => {
                tracing::error!(shard = shard.index, %error, "cannot tell how full the disk is");
                continue;
            }
        };
        shard.disk_ratio.set(ratio);
        let now_ms = store::wall_clock_ms();
        // Messages that were due while the broker was down may lie in segments that have expired meanwhile.
        let is_hour = settings.delete_hours.contains(&local_hour(now_ms)) && !shard.timer.is_behind();
        let expired_may_go = is_hour || ratio > settings.disk_ratio_max;
        let force = settings.force && ratio > settings.disk_ratio_force;
        if !expired_may_go && !force {
            continue;
        }
        let policy = RetentionPolicy {
            age_ms: expired_may_go.then_some(settings.keep.as_millis() as i64),
            disk_ratio_max: force.then_some(settings.disk_ratio_force),
            segments_max: SEGMENTS_AT_ONCE,
        };
        match shard.engine.delete_expired(&policy, now_ms).await {
            Ok(0) => {}
            Ok(deleted) => {
                tracing::info!(shard = shard.index, deleted, disk_ratio = ratio, "segments deleted")
            }
            Err(error) => tracing::error!(shard = shard.index, %error, "expired segments cannot be deleted"),
        }
    }
}

/// Deletes what has expired, at any hour.
pub async fn delete_expired(shard: &Shard) -> Result<usize, rmq_engine::Error> {
    let policy = RetentionPolicy {
        age_ms: Some(shard.settings.retention.keep.as_millis() as i64),
        disk_ratio_max: None,
        segments_max: SEGMENTS_AT_ONCE,
    };
    let deleted = shard.engine.delete_expired(&policy, store::wall_clock_ms()).await?;
    tracing::info!(shard = shard.index, deleted, "expired segments deleted by request");
    Ok(deleted)
}

/// Hour of the day in the host's time zone, as `deleteWhen` means it.
fn local_hour(now_ms: i64) -> u8 {
    let seconds: libc::time_t = now_ms / 1_000;
    // SAFETY: an all-zero `tm` is a valid value to be overwritten.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call, and `localtime_r` keeps neither.
    unsafe { libc::localtime_r(&seconds, &mut parts) };
    parts.tm_hour as u8
}
