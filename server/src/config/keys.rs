//! Every key an operator may write, with its type, its default and how seriously we take it.

mod broker;
mod extra;
mod namesrv;
mod network;
mod own;
mod store;

/// The tables of a broker's file, in the order in which `-p` prints them.
pub const BROKER_TABLES: &[&[Key]] =
    &[broker::BROKER, network::SERVER, network::CLIENT, store::STORE, own::OWN, extra::EXTRA];
/// The tables of a name server's file.
pub const NAMESRV_TABLES: &[&[Key]] =
    &[namesrv::NAMESRV, network::SERVER, network::CLIENT, namesrv::CONTROLLER];

/// The keys that `mqbroker -m` prints.
pub const IMPORTANT: &[&str] = &[
    "brokerName",
    "brokerClusterName",
    "brokerId",
    "namesrvAddr",
    "listenPort",
    "brokerIP1",
    "recoverConcurrently",
    "autoCreateTopicEnable",
    "autoCreateSubscriptionGroup",
    "msgTraceTopicName",
    "traceTopicEnable",
    "rejectTransactionMessage",
    "fetchNameSrvAddrByDnsLookup",
    "fetchNamesrvAddrByAddressServer",
    "transactionTimeOut",
    "transactionCheckMax",
    "transactionCheckInterval",
    "aclEnable",
    "storePathRootDir",
    "storePathCommitLog",
    "flushIntervalCommitLog",
    "deleteWhen",
    "fileReservedTime",
    "maxTransferBytesOnMessageInMemory",
    "maxTransferCountOnMessageInMemory",
    "maxTransferBytesOnMessageInDisk",
    "maxTransferCountOnMessageInDisk",
    "accessMessageInMemoryMaxRatio",
    "messageIndexEnable",
    "haMasterAddress",
    "brokerRole",
    "flushDiskType",
    "cleanFileForciblyEnable",
];

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub class: Class,
    /// `None`: unset in Java, or computed from the machine by `Machine::default_of`.
    pub default: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Clients, operators or peers can see its effect: a wrong value stops the start.
    Exact,
    /// Tunes something of which we have the like; a wrong value leaves the default, with a warning.
    Mapped,
    /// Tunes the JVM, mmap or RocksDB, or nothing at all.
    Inert,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Int,
    Long,
    Double,
    Bool,
    Text,
    Choice(&'static [&'static str]),
}

impl Kind {
    pub fn accepts(self, value: &str) -> bool {
        match self {
            Self::Int => value.parse::<i32>().is_ok(),
            Self::Long => value.parse::<i64>().is_ok(),
            Self::Double => value.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Bool => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Self::Text => true,
            Self::Choice(names) => names.contains(&value),
        }
    }

    pub fn expected(self) -> String {
        match self {
            Self::Int => "a whole number within 32 bits".into(),
            Self::Long => "a whole number".into(),
            Self::Double => "a number".into(),
            Self::Bool => "true or false".into(),
            Self::Text => "text".into(),
            Self::Choice(names) => format!("one of {}", names.join(", ")),
        }
    }
}

pub fn find(tables: &[&'static [Key]], name: &str) -> Option<&'static Key> {
    tables.iter().copied().flatten().find(|key| key.name == name)
}

/// Java shows it among its settings (`-p`, request code 26) even if nobody has written it.
pub fn is_listed(name: &str) -> bool {
    extra::EXTRA.iter().all(|key| key.name != name)
}

/// Java's dump goes by field names, and two of them differ from the keys.
pub fn dump_name(name: &str) -> &str {
    match name {
        "inBrokerContainer" => "isInBrokerContainer",
        "scanAvailableNameSrv" => "isScanAvailableNameSrv",
        _ => name,
    }
}

/// The known key an unknown one was probably meant to be.
pub fn nearest(tables: &[&'static [Key]], unknown: &str) -> Option<&'static str> {
    let folded = unknown.to_ascii_lowercase();
    let (distance, name) = tables
        .iter()
        .copied()
        .flatten()
        .map(|key| (edit_distance(&folded, &key.name.to_ascii_lowercase()), key.name))
        .min()?;
    (distance <= unknown.len().min(24) / 4).then_some(name)
}

/// Insertions, deletions and replacements (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

const fn key(name: &'static str, kind: Kind, class: Class, default: &'static str) -> Key {
    let default = match default.as_bytes() {
        b"?" => None,
        _ => Some(default),
    };
    Key { name, kind, class, default }
}

const fn a(name: &'static str, kind: Kind, default: &'static str) -> Key {
    key(name, kind, Class::Exact, default)
}

const fn b(name: &'static str, kind: Kind, default: &'static str) -> Key {
    key(name, kind, Class::Mapped, default)
}

const fn c(name: &'static str, kind: Kind, default: &'static str) -> Key {
    key(name, kind, Class::Inert, default)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_stands_once_and_its_default_fits_its_kind() {
        for tables in [BROKER_TABLES, NAMESRV_TABLES] {
            let mut seen = HashSet::new();
            for key in tables.iter().copied().flatten() {
                assert!(seen.insert(key.name), "{} stands twice", key.name);
                assert!(key.default.is_none_or(|value| key.kind.accepts(value)), "{}", key.name);
            }
        }
        for name in IMPORTANT {
            assert!(find(BROKER_TABLES, name).is_some(), "{name} is unknown");
        }
    }

    #[test]
    fn a_typing_error_finds_its_key_and_noise_finds_none() {
        assert_eq!(nearest(BROKER_TABLES, "fileReserverTime"), Some("fileReservedTime"));
        assert_eq!(nearest(BROKER_TABLES, "AutoCreateTopicEnable"), Some("autoCreateTopicEnable"));
        assert_eq!(nearest(BROKER_TABLES, "brokerip1"), Some("brokerIP1"));
        assert_eq!(nearest(BROKER_TABLES, "rmq.shard"), Some("rmq.shards"));
        assert_eq!(nearest(BROKER_TABLES, "<!--"), None);
        assert_eq!(nearest(BROKER_TABLES, "myOwnThing"), None);
    }

    #[test]
    fn kinds_accept_what_java_reads_and_nothing_else() {
        assert!(Kind::Int.accepts("-1") && !Kind::Int.accepts("1_000") && !Kind::Int.accepts("3000000000"));
        assert!(Kind::Long.accepts("17179869184") && !Kind::Long.accepts("10k"));
        assert!(Kind::Bool.accepts("TRUE") && !Kind::Bool.accepts("yes"));
        assert!(Kind::Choice(&["PULL", "POP"]).accepts("POP") && !Kind::Choice(&["PULL"]).accepts("pull"));
    }
}
