//! When a timer message is due, as its properties say.

use rmq_protocol::properties::Properties;
use rmq_protocol::response_code::ResponseCode;

use crate::broker::refusal::Refusal;
use crate::settings::TimerSettings;

/// What the index of a wheel's queue knows of a message: when it is due, and whether it recalls another. It stands in
/// the record's field for the offset of a half message, which a waiting message does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueCode(pub i64);

impl DueCode {
    pub fn new(due_ms: i64, is_recall: bool) -> Self {
        Self(due_ms << 1 | i64::from(is_recall))
    }

    /// The largest of those that are due at this time.
    pub fn last_of(due_ms: i64) -> Self {
        Self::new(due_ms, true)
    }

    pub fn due_ms(self) -> i64 {
        self.0 >> 1
    }

    pub fn is_recall(self) -> bool {
        self.0 & 1 == 1
    }

    pub fn at(self, due_ms: i64) -> Self {
        Self::new(due_ms, self.is_recall())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its time has come or is past: it is an ordinary message.
    Now,
    Later {
        code: DueCode,
        /// The beginning of its tick, by which Java names the time and groups messages.
        out_ms: i64,
    },
}

/// Decides about a message that asks for a time. It is delivered not before that time, while Java rounds down to
/// the tick.
pub fn due(settings: &TimerSettings, properties: Properties<'_>, now_ms: i64) -> Result<Due, Refusal> {
    if !settings.enabled {
        return Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            "accurate timer message is not enabled, timerWheelEnable is false",
        ));
    }
    let due_ms = requested_ms(properties, now_ms).ok_or_else(|| illegal(settings))?;
    let is_recall = properties.find("TIMER_DEL_UNIQKEY").is_some();
    if due_ms <= now_ms {
        return if is_recall { Err(illegal(settings)) } else { Ok(Due::Now) };
    }
    if due_ms - now_ms > settings.delay_ms_max {
        return Err(illegal(settings));
    }
    let out_ms = (due_ms - 1).div_euclid(settings.precision_ms) * settings.precision_ms;
    // A recall counts from the beginning of its tick, so that it is there before every message of the tick.
    let code = DueCode::new(if is_recall { out_ms } else { due_ms }, is_recall);
    Ok(Due::Later { code, out_ms })
}

/// Overflows wrap as they do in Java, into the past mostly.
fn requested_ms(properties: Properties<'_>, now_ms: i64) -> Option<i64> {
    let number = |text: &str| text.parse::<i64>().ok();
    if let Some(seconds) = properties.find("TIMER_DELAY_SEC") {
        return Some(now_ms.wrapping_add(number(seconds)?.wrapping_mul(1_000)));
    }
    if let Some(delay_ms) = properties.find("TIMER_DELAY_MS") {
        return Some(now_ms.wrapping_add(number(delay_ms)?));
    }
    number(properties.find("TIMER_DELIVER_MS")?)
}

fn illegal(settings: &TimerSettings) -> Refusal {
    Refusal::new(
        ResponseCode::MESSAGE_ILLEGAL,
        format!(
            "timer message illegal, the delay time should not be bigger than the max delay {}ms; or if set del \
             msg, the delay time should be bigger than the current time",
            settings.delay_ms_max
        ),
    )
}

/// When a message that was stored at `stored_ms` is looked at: at its time, or before its segment may expire. It is
/// stored again then, and waits on. The last wait is not a short one.
pub fn wake(settings: &TimerSettings, code: DueCode, stored_ms: i64) -> DueCode {
    let window_ms = settings.roll_window_ms;
    let delay_ms = code.due_ms() - stored_ms;
    if delay_ms < window_ms {
        code
    } else if delay_ms - window_ms < window_ms / 3 {
        code.at(stored_ms + window_ms / 2)
    } else {
        code.at(stored_ms + window_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_123;

    fn settings() -> TimerSettings {
        TimerSettings {
            enabled: true,
            delay_ms_max: 259_200_000,
            precision_ms: 1_000,
            roll_window_ms: 172_800_000,
            ..TimerSettings::for_test()
        }
    }

    fn asked(properties: &str) -> Result<Due, ResponseCode> {
        due(&settings(), Properties(properties.as_bytes()), NOW).map_err(|refusal| refusal.code)
    }

    fn later(due_ms: i64, out_ms: i64) -> Result<Due, ResponseCode> {
        Ok(Due::Later { code: DueCode::new(due_ms, false), out_ms })
    }

    #[test]
    fn seconds_win_over_milliseconds_and_those_over_a_time() {
        assert_eq!(
            asked("TIMER_DELIVER_MS\x011\x02TIMER_DELAY_MS\x012\x02TIMER_DELAY_SEC\x013\x02"),
            later(NOW + 3_000, 1_700_000_003_000)
        );
        assert_eq!(
            asked("TIMER_DELIVER_MS\x011\x02TIMER_DELAY_MS\x0177\x02"),
            later(NOW + 77, 1_700_000_000_000)
        );
        assert_eq!(
            asked("TIMER_DELIVER_MS\x011700000001000\x02"),
            later(1_700_000_001_000, 1_700_000_000_000)
        );
        assert_eq!(
            asked("TIMER_DELIVER_MS\x011700000001001\x02"),
            later(1_700_000_001_001, 1_700_000_001_000)
        );
    }

    #[test]
    fn what_is_past_is_due_and_what_is_too_far_is_illegal() {
        assert_eq!(asked("TIMER_DELAY_SEC\x010\x02"), Ok(Due::Now));
        assert_eq!(asked("TIMER_DELAY_SEC\x01-5\x02"), Ok(Due::Now));
        assert_eq!(asked(&format!("TIMER_DELIVER_MS\x01{NOW}\x02")), Ok(Due::Now));
        assert!(asked("TIMER_DELAY_SEC\x01259200\x02").is_ok());
        assert_eq!(asked("TIMER_DELAY_MS\x01259200001\x02"), Err(ResponseCode::MESSAGE_ILLEGAL));
        for word in ["abc", " 1", "1.0", "99999999999999999999"] {
            assert_eq!(asked(&format!("TIMER_DELAY_SEC\x01{word}\x02")), Err(ResponseCode::MESSAGE_ILLEGAL));
        }
        assert_eq!(asked("TIMER_DELAY_SEC\x019223372036854775807\x02"), Ok(Due::Now), "as Java counts");
    }

    #[test]
    fn a_recall_comes_before_every_message_of_its_tick() {
        let recall = asked("TIMER_DEL_UNIQKEY\x01T+K\x02TIMER_DELIVER_MS\x011700000005001\x02");
        let Ok(Due::Later { code, out_ms }) = recall else { panic!("{recall:?}") };
        assert_eq!((code.due_ms(), out_ms, code.is_recall()), (1_700_000_005_000, 1_700_000_005_000, true));
        for due_ms in [1_700_000_005_001, 1_700_000_006_000] {
            assert_eq!(asked(&format!("TIMER_DELIVER_MS\x01{due_ms}\x02")), later(due_ms, out_ms));
            assert!(code < DueCode::new(due_ms, false));
        }
        assert_eq!(
            asked("TIMER_DEL_UNIQKEY\x01T+K\x02TIMER_DELIVER_MS\x011\x02"),
            Err(ResponseCode::MESSAGE_ILLEGAL)
        );
    }

    #[test]
    fn a_switched_off_timer_refuses() {
        let off = TimerSettings { enabled: false, ..settings() };
        let refusal = due(&off, Properties(b"TIMER_DELAY_SEC\x01abc\x02"), NOW).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::SYSTEM_ERROR);
    }

    #[test]
    fn far_messages_wake_before_their_segment_expires() {
        let settings = settings();
        let window_ms = settings.roll_window_ms;
        let wait = |delay_ms: i64| wake(&settings, DueCode::new(NOW + delay_ms, false), NOW).due_ms() - NOW;
        assert_eq!(wait(window_ms - 1), window_ms - 1);
        assert_eq!(wait(window_ms), window_ms / 2, "so that the second wait is not a moment");
        assert_eq!(wait(2 * window_ms), window_ms);
        assert!(wake(&settings, DueCode::new(NOW + 9 * window_ms, true), NOW).is_recall());
    }
}
