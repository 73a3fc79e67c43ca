//! Our own keys. They share the file with Java's, because operators deploy one file per broker and Java
//! ignores keys it does not know: the same file still starts the Java broker.

use super::Kind::{Int, Long, Text};
use super::{Key, a};

pub const OWN: &[Key] = &[
    a("rmq.shards", Int, "0"),
    a("rmq.cpus", Text, ""),
    a("rmq.spinMicros", Int, "0"),
    a("rmq.tailCacheBytes", Long, "134217728"),
    a("rmq.readCacheBytes", Long, "67108864"),
    a("rmq.zeroAheadBytes", Long, "67108864"),
    a("rmq.connectionsMax", Int, "100000"),
    a("rmq.sendBacklogBytes", Long, "67108864"),
    a("rmq.memoryTail", Text, ""),
    a("rmq.memoryTailBytes", Long, "16777216"),
];
