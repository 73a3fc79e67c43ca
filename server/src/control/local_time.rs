//! Local midnights, for the counters that tools reset by the day.

/// As Java writes a time: `yyyy-MM-dd#HH:mm:ss:SSS`.
pub fn text(at_ms: i64) -> String {
    let seconds = at_ms.div_euclid(1000);
    // SAFETY: all-zero bytes are a valid `tm`; its pointer member may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; `localtime_r` keeps neither.
    unsafe { libc::localtime_r(&seconds, &mut parts) };
    format!(
        "{:04}-{:02}-{:02}#{:02}:{:02}:{:02}:{:03}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec,
        at_ms.rem_euclid(1000)
    )
}

/// A number that changes at local midnight.
pub fn day(now_ms: i64) -> i64 {
    let seconds = now_ms.div_euclid(1000);
    // SAFETY: all-zero bytes are a valid `tm`; its pointer member may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals; `localtime_r` keeps neither.
    let known = unsafe { !libc::localtime_r(&seconds, &mut parts).is_null() };
    let offset_seconds = if known { parts.tm_gmtoff } else { 0 };
    (seconds + offset_seconds).div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_as_javas() {
        let text = text(1_700_000_000_123);
        assert!(text.starts_with("2023-11-1") && text.ends_with(":20:123") && text.contains('#'), "{text}");
    }

    #[test]
    fn a_day_has_one_midnight() {
        let now = 1_700_000_000_000;
        assert_eq!(day(now + 86_400_000) - day(now), 1);
        let changes = (0..24).filter(|hour| day(now + hour * 3_600_000) != day(now + (hour + 1) * 3_600_000));
        assert_eq!(changes.count(), 1);
    }
}
