//! The door to glommio's executors and sockets, and the frames that pass through it.
//!
//! Nothing of glommio shows in the signatures above this module, so that another runtime can stand here.

pub mod connection;
pub mod executor;
pub mod listener;
