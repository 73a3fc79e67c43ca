//! Durable queues over direct I/O.
