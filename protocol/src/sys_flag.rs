//! Bits of a message's system flag, and of a pull's.

pub const COMPRESSED: i32 = 0x1;
pub const MULTI_TAGS: i32 = 0x2;
pub const TRANSACTION_MASK: i32 = 0xC;
pub const TRANSACTION_NONE: i32 = 0x0;
pub const TRANSACTION_PREPARED: i32 = 0x4;
pub const TRANSACTION_COMMIT: i32 = 0x8;
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
pub const BORN_HOST_V6: i32 = 0x10;
pub const STORE_HOST_V6: i32 = 0x20;
pub const NEEDS_UNWRAP: i32 = 0x40;
pub const INNER_BATCH: i32 = 0x80;
/// Zero means zlib too: senders before 5.0 leave these bits alone.
pub const COMPRESSION_MASK: i32 = 0x700;
pub const COMPRESSION_LZ4: i32 = 0x100;
pub const COMPRESSION_ZSTD: i32 = 0x200;
pub const COMPRESSION_ZLIB: i32 = 0x300;

/// One of the four transaction types.
pub const fn transaction(sys_flag: i32) -> i32 {
    sys_flag & TRANSACTION_MASK
}

pub const fn with_transaction(sys_flag: i32, transaction: i32) -> i32 {
    (sys_flag & !TRANSACTION_MASK) | (transaction & TRANSACTION_MASK)
}

/// Bits of a pull request's system flag.
pub mod pull {
    /// `commitOffset` is valid.
    pub const COMMIT_OFFSET: i32 = 1;
    /// The broker may hold the request until there is something to answer.
    pub const SUSPEND: i32 = 2;
    /// The request's own subscription counts, not the heartbeat's.
    pub const SUBSCRIPTION: i32 = 4;
    pub const CLASS_FILTER: i32 = 8;
    pub const LITE_PULL: i32 = 16;
}
