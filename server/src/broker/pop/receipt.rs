//! What a client sends back to acknowledge: texts that Java's clients take apart and put together.
//! ```text
//! extra info        start popTime invisibleTime reviveQueue flag broker queue [offset]
//! startOffsetInfo   flag queue start                       entries joined by ;
//! msgOffsetInfo     flag queue offset,offset,..            entries joined by ;
//! orderCountInfo    flag qo<queue>%<offset> times          entries joined by ;
//!                   flag queue timesAtLeast
//! ```
//!
//! At most one entry for each flag and queue: Java's clients fail at a second.

use std::fmt::Write;

use rmq_protocol::response_code::ResponseCode;

use super::names::Source;
use crate::broker::refusal::Refusal;

/// Marks a receipt of an ordered pop.
pub const ORDER_REVIVE_QUEUE: i32 = 999;

/// The part of an extra info that the broker needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub start: i64,
    pub pop_time: i64,
    pub invisible_ms: i64,
    pub revive_queue: i32,
}

impl Receipt {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let illegal =
            || Refusal::new(ResponseCode::SYSTEM_ERROR, format!("the extraInfo is illegal: {text}"));
        let mut words = text.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<i64>().ok()).ok_or_else(illegal);
        let (start, pop_time, invisible_ms) = (number()?, number()?, number()?);
        let revive_queue = i32::try_from(number()?).map_err(|_| illegal())?;
        // Flag and broker, which the request repeats; a receipt without them is none.
        words.nth(1).ok_or_else(illegal)?;
        Ok(Self { start, pop_time, invisible_ms, revive_queue })
    }

    pub fn is_ordered(&self) -> bool {
        self.revive_queue == ORDER_REVIVE_QUEUE
    }

    /// The extra info of one message.
    pub fn text(&self, source: Source, broker: &str, queue: i32, offset: i64) -> String {
        let Self { start, pop_time, invisible_ms, revive_queue } = self;
        let flag = source.flag();
        format!("{start} {pop_time} {invisible_ms} {revive_queue} {flag} {broker} {queue} {offset}")
    }
}

/// Messages popped from one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Popped {
    pub source: Source,
    pub queue: i32,
    pub start: i64,
    pub offsets: Vec<i64>,
    /// Ordered: how often each offset was handed out before, where that is not never.
    pub counts: Vec<(i64, u32)>,
}

pub fn start_offset_info(popped: &[Popped]) -> String {
    joined(popped, |out, one| {
        let _ = write!(out, "{} {} {}", one.source.flag(), one.queue, one.start);
    })
}

pub fn message_offset_info(popped: &[Popped]) -> String {
    joined(popped, |out, one| {
        let _ = write!(out, "{} {} ", one.source.flag(), one.queue);
        for (at, offset) in one.offsets.iter().enumerate() {
            let _ = write!(out, "{}{offset}", if at == 0 { "" } else { "," });
        }
    })
}

pub fn order_count_info(popped: &[Popped]) -> String {
    joined(popped, |out, one| {
        let (flag, queue) = (one.source.flag(), one.queue);
        for (offset, count) in &one.counts {
            let _ = write!(out, "{flag} qo{queue}%{offset} {count};");
        }
        let all_known = one.counts.len() == one.offsets.len();
        let least = if all_known { one.counts.iter().map(|&(_, count)| count).min().unwrap_or(0) } else { 0 };
        let _ = write!(out, "{flag} {queue} {least}");
    })
}

fn joined(popped: &[Popped], mut write_one: impl FnMut(&mut String, &Popped)) -> String {
    let mut out = String::with_capacity(popped.len() * 32);
    for one in popped {
        if !out.is_empty() {
            out.push(';');
        }
        write_one(&mut out, one);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popped(source: Source, queue: i32, offsets: &[i64]) -> Popped {
        Popped { source, queue, start: offsets[0], offsets: offsets.to_vec(), counts: Vec::new() }
    }

    #[test]
    fn infos_read_as_javas_clients_expect() {
        let two = [popped(Source::Normal, 2, &[100, 101]), popped(Source::RetryV1, 0, &[7])];
        assert_eq!(start_offset_info(&two), "0 2 100;1 0 7");
        assert_eq!(message_offset_info(&two), "0 2 100,101;1 0 7");
        assert_eq!(start_offset_info(&[]), "");
        let mut ordered = popped(Source::Normal, 3, &[5, 6]);
        ordered.counts = vec![(5, 2)];
        assert_eq!(order_count_info(&[ordered.clone()]), "0 qo3%5 2;0 3 0");
        ordered.counts.push((6, 1));
        assert_eq!(order_count_info(&[ordered]), "0 qo3%5 2;0 qo3%6 1;0 3 1");
    }

    #[test]
    fn a_receipt_is_read_back_and_a_wrong_one_refused() {
        let receipt =
            Receipt { start: 100, pop_time: 1_700_000_000_000, invisible_ms: 60_000, revive_queue: 3 };
        let text = receipt.text(Source::Normal, "broker-a", 2, 101);
        assert_eq!(text, "100 1700000000000 60000 3 0 broker-a 2 101");
        assert_eq!(Receipt::parse(&text).unwrap(), receipt);
        assert_eq!(Receipt::parse(text.strip_suffix(" 101").unwrap()).unwrap(), receipt);
        for wrong in ["", "1", "1 2 3", "1 2 3 4", "1 2 3 4 5", "a 2 3 4 0 b 0", "1 2 3 99999999999 0 b 0"] {
            assert!(Receipt::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
