//! The door to the reactor's tasks and sockets, and the frames that pass through it.
//!
//! Nothing of the reactor shows in the signatures above this module, so that another runtime can stand here.

pub mod connection;
pub mod executor;
pub mod listener;
pub mod standing_queue;
