//! epoll with a timeout in nanoseconds: an open loop at 50,000 messages a second has one due every 20 us, and
//! a timeout in milliseconds would add up to 1 ms to each.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    ready: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
}

impl Poller {
    pub fn new(capacity: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); capacity.clamp(1, 1024)], ready: 0 })
    }

    /// Watches for input. A descriptor that is closed leaves by itself.
    pub fn add(&self, source: impl AsFd, token: usize) -> io::Result<()> {
        Ok(self.epoll.add(source, EpollEvent::new(EpollFlags::EPOLLIN, token as u64))?)
    }

    /// Output is watched only while a write is stuck; otherwise every wait would return at once.
    pub fn watch_output(&self, source: impl AsFd, token: usize, output: bool) -> io::Result<()> {
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, output);
        Ok(self.epoll.modify(source, &mut EpollEvent::new(flags, token as u64))?)
    }

    /// Waits for at most `timeout_ns` and returns how many are ready; read them with [`Self::ready`].
    pub fn wait(&mut self, timeout_ns: u64) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: `EpollEvent` is a transparent `epoll_event`, the buffer holds as many as we say, the timeout
        // outlives the call, and a null signal mask leaves the mask alone.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.0.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                &timeout as *const libc::timespec,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        self.ready = match ready {
            0.. => ready as usize,
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => 0,
                error => return Err(error),
            },
        };
        Ok(self.ready)
    }

    pub fn ready(&self, index: usize) -> Ready {
        let event = &self.events[..self.ready][index];
        let flags = event.events();
        let broken = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        Ready {
            token: event.data() as usize,
            // A broken connection shows itself to whoever reads next.
            readable: broken || flags.contains(EpollFlags::EPOLLIN),
            writable: flags.contains(EpollFlags::EPOLLOUT),
        }
    }
}
