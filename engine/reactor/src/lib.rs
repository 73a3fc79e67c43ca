//! One thread, one io_uring: the tasks, timers, sockets and direct files of a shard.
//!
//! [`spawn_pinned`] starts a thread with its reactor. On that thread [`spawn`], [`sleep`], [`yield_now`],
//! [`blocking`], [`Socket`] and [`DirectFile`] work; elsewhere they panic. Nothing here is `Send` except wakers:
//! any thread may wake a task.
//!
//! One turn of the loop: run every foreground task that was ready at its start, then readers and background
//! tasks as far as their shares go, then submit what was asked of the kernel and take what it completed, all with
//! one system call. The ring defers completions to that call (`DEFER_TASKRUN`), so a packet that arrives while
//! tasks run interrupts nobody.
//!
//! Not here: what the tasks do, the format of files, cross-core messages (any `Send` queue and a waker).

mod blocking;
mod buffer;
mod file;
mod kernel;
mod op;
mod reactor;
mod remote;
mod socket;
mod tasks;
mod timers;

pub use blocking::blocking;
pub use buffer::AlignedBuffer;
pub use file::{DirectFile, OpenMode};
pub use reactor::{Options, run, spawn_pinned};
pub use socket::Socket;
pub use tasks::{Class, spawn, yield_now};
pub use timers::sleep;

/// What the kernel charges a thread's ring to the user's locked-memory limit, rounded up (measured on Linux 6.18; root
/// is exempt).
pub const LOCKED_BYTES: u64 = 256 << 10;

/// Direct I/O: positions, lengths and memory are multiples of this.
pub const BLOCK_BYTES: usize = 4096;
