//! Keys found in guides and old files that are not, or no longer, the official ones.

/// Spellings that stand for an official key. The note says how Java treats them.
pub const SPELLINGS: &[(&str, &str, &str)] = &[
    ("mapedFileSizeCommitLog", "mappedFileSizeCommitLog", RENAMED),
    ("mapedFileSizeConsumeQueue", "mappedFileSizeConsumeQueue", RENAMED),
    ("fileReserverdTime", "fileReservedTime", "Java never read it and kept its default of 72 hours"),
    ("destroyMappedFileIntervalForcibly", "destroyMapedFileIntervalForcibly", OFFICIAL),
    ("warmMappedFileEnable", "warmMapedFileEnable", OFFICIAL),
    ("flushLeastPagesWhenWarmMappedFile", "flushLeastPagesWhenWarmMapedFile", OFFICIAL),
    ("cleanSwappedMapInterval", "cleanSwapedMapInterval", OFFICIAL),
    ("mappedFileSizeBatchConsumeQueue", "mapperFileSizeBatchConsumeQueue", OFFICIAL),
    ("haSlaveFallbehindMax", "haMaxGapNotInSync", "renamed in 5.0"),
    ("enableDLedgerCommitLog", "enableDLegerCommitLog", OFFICIAL),
    ("dLedgerGroup", "dLegerGroup", OFFICIAL),
    ("dLedgerPeers", "dLegerPeers", OFFICIAL),
    ("dLedgerSelfId", "dLegerSelfId", OFFICIAL),
];
const RENAMED: &str = "Java has ignored the old spelling since 4.5.2";
const OFFICIAL: &str = "Java reads only the latter spelling";

/// Keys that Java does not read.
pub const IGNORED: &[(&str, &str)] = &[
    ("storePathConsumeQueue", UNDER_ROOT),
    ("storePathConsumerQueue", UNDER_ROOT),
    ("storePathIndex", UNDER_ROOT),
    ("storeCheckpoint", UNDER_ROOT),
    ("abortFile", UNDER_ROOT),
    ("checkTransactionMessageEnable", "Java has not read it since 4.1"),
    ("filterServerNums", "filter servers left with 5.1"),
    ("maxDelayTime", "gone since 5.1"),
    ("commercialEnable", "gone since 5.0"),
    ("commercialTransCount", "gone since 5.0"),
    ("commercialBigCount", "gone since 5.0"),
    ("commercialTimerCount", "gone since 5.0"),
    ("memTableFlushInterval", "it existed in 5.1.4 only"),
    ("batchWriteKvCqSize", "it existed in 5.3.1 only"),
    ("transferOffsetJsonToRocksdb", "it existed in 5.3.1 only"),
    ("transferMetadataJsonToRocksdb", "it existed in 5.3.1 only"),
];
const UNDER_ROOT: &str = "the place is always below storePathRootDir, in Java too";

pub fn spelling(key: &str) -> Option<(&'static str, &'static str)> {
    SPELLINGS.iter().find(|(old, ..)| *old == key).map(|&(_, meant, note)| (meant, note))
}

pub fn ignored(key: &str) -> Option<&'static str> {
    IGNORED.iter().find(|(old, _)| *old == key).map(|&(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn spellings_lead_to_known_keys_and_are_none_themselves() {
        for (old, meant, _) in SPELLINGS {
            assert!(keys::find(keys::BROKER_TABLES, meant).is_some(), "{meant}");
            assert!(keys::find(keys::BROKER_TABLES, old).is_none(), "{old}");
        }
        for (old, _) in IGNORED {
            assert!(keys::find(keys::BROKER_TABLES, old).is_none(), "{old}");
        }
    }
}
