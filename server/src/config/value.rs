//! Values of settings as types, each knowing how an operator writes it.

use std::path::PathBuf;

/// A value that a setting's text either is or is not.
pub trait FromSetting: Sized {
    fn from_setting(text: &str) -> Option<Self>;
    /// Ends the sentence "expected ...".
    const EXPECTED: &'static str;
}

macro_rules! parsed {
    ($($type:ty, $expected:literal, $valid:expr;)*) => {$(
        impl FromSetting for $type {
            const EXPECTED: &'static str = $expected;
            fn from_setting(text: &str) -> Option<Self> {
                text.parse::<$type>().ok().filter($valid)
            }
        }
    )*};
}

parsed! {
    i32, "a whole number within 32 bits", |_| true;
    i64, "a whole number", |_| true;
    u32, "a whole number, not negative", |_| true;
    u64, "a whole number, not negative", |_| true;
    u16, "a port from 1 to 65535", |&port| port > 0;
}

impl FromSetting for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_setting(text: &str) -> Option<Self> {
        Some(text.eq_ignore_ascii_case("true"))
    }
}

impl FromSetting for String {
    const EXPECTED: &'static str = "text";
    fn from_setting(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl FromSetting for PathBuf {
    const EXPECTED: &'static str = "a path";
    fn from_setting(text: &str) -> Option<Self> {
        Some(Self::from(text))
    }
}

impl<T: FromSetting> FromSetting for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_setting(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { T::from_setting(text).map(Some) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokerRole {
    AsyncMaster,
    SyncMaster,
    Slave,
}

impl FromSetting for BrokerRole {
    const EXPECTED: &'static str = "one of ASYNC_MASTER, SYNC_MASTER, SLAVE";
    fn from_setting(text: &str) -> Option<Self> {
        match text {
            "ASYNC_MASTER" => Some(Self::AsyncMaster),
            "SYNC_MASTER" => Some(Self::SyncMaster),
            "SLAVE" => Some(Self::Slave),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushDiskType {
    SyncFlush,
    AsyncFlush,
}

impl FromSetting for FlushDiskType {
    const EXPECTED: &'static str = "one of SYNC_FLUSH, ASYNC_FLUSH";
    fn from_setting(text: &str) -> Option<Self> {
        match text {
            "SYNC_FLUSH" => Some(Self::SyncFlush),
            "ASYNC_FLUSH" => Some(Self::AsyncFlush),
            _ => None,
        }
    }
}

/// `deleteWhen`: the local hours of the day in which expired files are deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteHours(pub Vec<u8>);

impl FromSetting for DeleteHours {
    const EXPECTED: &'static str = "hours from 00 to 23, separated by ';'";
    fn from_setting(text: &str) -> Option<Self> {
        let hours: Option<Vec<u8>> =
            items(text).map(|hour| hour.parse().ok().filter(|&hour| hour < 24)).collect();
        hours.filter(|hours| !hours.is_empty()).map(Self)
    }
}

/// `messageDelayLevel`: the delay of each level in milliseconds; level 1 comes first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DelayLevels(pub Vec<i64>);

impl DelayLevels {
    const LEVELS_MAX: usize = 1_000;
}

impl FromSetting for DelayLevels {
    const EXPECTED: &'static str = "delays such as '1s 5s 10s 1m 2h 1d', separated by blanks";
    fn from_setting(text: &str) -> Option<Self> {
        let levels: Option<Vec<i64>> = text.split_whitespace().map(delay_ms).collect();
        levels.filter(|levels| !levels.is_empty() && levels.len() <= Self::LEVELS_MAX).map(Self)
    }
}

fn delay_ms(text: &str) -> Option<i64> {
    let unit_ms = match text.bytes().last()? {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        _ => return None,
    };
    let count: i64 = text[..text.len() - 1].parse().ok()?;
    count.checked_mul(unit_ms).filter(|&delay| delay >= 0)
}

/// `rmq.cpus`: processors by number, in the order in which shards take them; empty: any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cpus(pub Vec<usize>);

impl Cpus {
    const NUMBER_MAX: usize = 4_095;
}

impl FromSetting for Cpus {
    const EXPECTED: &'static str = "processors such as '0-3,6', each at most once";
    fn from_setting(text: &str) -> Option<Self> {
        let mut cpus = Vec::new();
        for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > Self::NUMBER_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        let distinct: std::collections::BTreeSet<usize> = cpus.iter().copied().collect();
        (distinct.len() == cpus.len()).then_some(Self(cpus))
    }
}

/// `namesrvAddr`: every name server to register with, as `host:port`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NameServers(pub Vec<String>);

impl FromSetting for NameServers {
    const EXPECTED: &'static str = "addresses such as '192.0.2.1:9876;192.0.2.2:9876'";
    fn from_setting(text: &str) -> Option<Self> {
        items(text)
            .map(|address| is_host_and_port(address).then(|| address.to_owned()))
            .collect::<Option<_>>()
            .map(Self)
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(|c: char| c == ',' || c.is_whitespace())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delete_hours() {
        assert_eq!(DeleteHours::from_setting("04"), Some(DeleteHours(vec![4])));
        assert_eq!(DeleteHours::from_setting("02; 14;"), Some(DeleteHours(vec![2, 14])));
        assert!(["24", "", "4am", "-1"].iter().all(|text| DeleteHours::from_setting(text).is_none()));
    }

    #[test]
    fn delay_levels() {
        let levels = DelayLevels::from_setting("1s 2m  3h 1d").unwrap();
        assert_eq!(levels.0, [1_000, 120_000, 10_800_000, 86_400_000]);
        let wrong = ["", "1", "s", "1w", "-1s", "99999999999999999d", "1s;2s", "1中"];
        assert!(wrong.iter().all(|text| DelayLevels::from_setting(text).is_none()));
    }

    #[test]
    fn processors() {
        assert_eq!(Cpus::from_setting("6, 0-2"), Some(Cpus(vec![6, 0, 1, 2])));
        assert_eq!(Cpus::from_setting(""), Some(Cpus::default()));
        assert!(
            ["0,0", "3-1", "a", "0-", "0-99999999"].iter().all(|text| Cpus::from_setting(text).is_none())
        );
    }

    #[test]
    fn name_server_lists() {
        let list = NameServers::from_setting(" a.example.:9876; 10.0.0.2:9877 ;[::1]:1;").unwrap();
        assert_eq!(list.0, ["a.example.:9876", "10.0.0.2:9877", "[::1]:1"]);
        assert_eq!(NameServers::from_setting(""), Some(NameServers::default()));
        let wrong = ["host", "host:", ":9876", "host:0", "host:70000", "a:1,b:2", "a b:1"];
        assert!(wrong.iter().all(|text| NameServers::from_setting(text).is_none()));
    }
}
