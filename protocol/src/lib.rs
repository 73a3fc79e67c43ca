//! RocketMQ's remoting protocol: bytes <-> values; no I/O, no async, no clock.
