//! The loop of a thread: run what is ready, then talk to the kernel, then sleep if there is nothing to do.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_task::Runnable;
use io_uring::{opcode, types};

use crate::kernel::Kernel;
use crate::op::{Completed, Ops};
use crate::remote::Remote;
use crate::tasks::{Class, Tasks, spawn};
use crate::timers::Timers;

/// How a thread runs its reactor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The processor to stay on; `None`: any.
    pub cpu: Option<usize>,
    /// How long to look for work before sleeping in the kernel. Saves a wake-up, costs the processor.
    pub spin: Duration,
}

pub(crate) struct Reactor {
    pub(crate) kernel: Kernel,
    pub(crate) ops: Ops,
    pub(crate) tasks: Tasks,
    pub(crate) timers: Timers,
    pub(crate) remote: Arc<Remote>,
    /// The processors that the thread could use before it was pinned; threads that it starts use them.
    pub(crate) processors: libc::cpu_set_t,
    spin: Duration,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

impl Reactor {
    pub(crate) fn current() -> Rc<Self> {
        Self::try_current().expect("called on a thread that runs a reactor")
    }

    pub(crate) fn try_current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Lists a woken task as ready when this is its reactor's thread; gives it back otherwise.
    pub(crate) fn push_if_current(remote: &Arc<Remote>, class: Class, task: Runnable) -> Option<Runnable> {
        CURRENT
            .try_with(|current| match &*current.borrow() {
                Some(reactor) if Arc::ptr_eq(&reactor.remote, remote) => {
                    reactor.tasks.push(class, task);
                    Ok(())
                }
                _ => Err(task),
            })
            // The thread is being torn down: nobody will run anything.
            .unwrap_or(Ok(()))
            .err()
    }

    fn new(options: &Options, processors: libc::cpu_set_t) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            kernel: Kernel::new()?,
            ops: Ops::default(),
            tasks: Tasks::new(),
            timers: Timers::default(),
            remote: Arc::new(Remote::new()?),
            processors,
            spin: options.spin,
        }))
    }

    fn listen_for_wakes(&self) {
        let key = self.ops.add_woken();
        let poll = opcode::PollAdd::new(types::Fd(self.remote.event_fd()), libc::POLLIN as u32).multi(true);
        // SAFETY: the entry points to no memory; the descriptor lives as long as `self`.
        unsafe { self.kernel.push(poll.build().user_data(key)) };
    }

    fn run_until(&self, done: &Cell<bool>) {
        self.listen_for_wakes();
        while !done.get() {
            self.tasks.run_ready();
            if self.has_work() {
                if self.kernel.has_work() {
                    self.kernel.turn();
                }
            } else if !done.get() {
                self.sleep();
            }
            self.take_all();
        }
    }

    fn has_work(&self) -> bool {
        self.tasks.any_ready() || !self.remote.is_empty()
    }

    fn take_all(&self) {
        self.kernel.completions(|completion| {
            match self.ops.complete(completion.key, completion.result, completion.more) {
                Completed::Nothing => {}
                Completed::Wake(waker) => self.tasks.wake_first(waker),
                Completed::ListenAgain => self.listen_for_wakes(),
            }
        });
        self.timers.fire();
        while let Some((class, task)) = self.remote.take() {
            self.tasks.push(class, task);
        }
    }

    /// Returns when there may be something to do.
    fn sleep(&self) {
        let mut longest = self.timers.next_in();
        if longest.is_some_and(|longest| longest.is_zero()) {
            self.kernel.turn();
            return;
        }
        if !self.spin.is_zero() {
            self.kernel.turn();
            let until = Instant::now() + longest.map_or(self.spin, |longest| longest.min(self.spin));
            while Instant::now() < until {
                if self.kernel.has_work() {
                    self.kernel.turn();
                    return;
                }
                if !self.remote.is_empty() {
                    return;
                }
                std::hint::spin_loop();
            }
            longest = self.timers.next_in();
        }
        if self.remote.park() {
            self.kernel.wait(longest);
            self.remote.unpark();
        } else {
            self.kernel.turn();
        }
    }

    /// Ends all tasks and waits until the kernel has let go of our memory.
    fn end(&self) {
        self.tasks.end();
        self.timers.clear();
        while self.ops.any_transfers() {
            self.kernel.wait(Some(Duration::from_millis(100)));
            self.take_all();
            self.tasks.end();
        }
        self.kernel.turn();
        self.take_all();
    }
}

/// Runs `main` to its end on this thread; tasks that still live then are dropped.
///
/// # Errors
/// The kernel gives no ring, or the thread cannot be pinned to the processor.
pub fn run<F: Future<Output = ()> + 'static>(options: &Options, main: impl FnOnce() -> F) -> io::Result<()> {
    let processors = pin(options.cpu)?;
    let reactor = Reactor::new(options, processors)?;
    let before = CURRENT.with(|current| current.replace(Some(Rc::clone(&reactor))));
    assert!(before.is_none(), "one reactor on one thread");
    let _leave = Leave;
    let done = Rc::new(Cell::new(false));
    let at_end = Rc::clone(&done);
    let main = main();
    spawn(Class::Foreground, async move {
        main.await;
        at_end.set(true);
    });
    reactor.run_until(&done);
    reactor.end();
    Ok(())
}

/// Unsets the thread's reactor, after a panic too.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        let reactor = CURRENT.with(RefCell::take);
        if thread::panicking() {
            // The kernel may still work on memory that the table of operations owns.
            let _kept = std::mem::ManuallyDrop::new(reactor);
        }
    }
}

/// Runs `main` to its end on a new thread.
///
/// # Errors
/// The thread cannot be started. What `run` reports, and a panic of a task, come from joining it.
pub fn spawn_pinned<G, F>(
    name: &str,
    options: Options,
    main: G,
) -> io::Result<thread::JoinHandle<Result<(), String>>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(&options, main).map_err(|error| error.to_string()))
}

fn pin(cpu: Option<usize>) -> io::Result<libc::cpu_set_t> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: an all-zero set is an empty one; the kernel writes within its size.
    let mut before: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::sched_getaffinity(0, size, &mut before) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let Some(cpu) = cpu else { return Ok(before) };
    if cpu >= size * 8 {
        return Err(io::Error::other(format!("there is no processor {cpu}")));
    }
    // SAFETY: an empty set, and a number within it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: the set lives through the call.
    if unsafe { libc::sched_setaffinity(0, size, &set) } != 0 {
        let source = io::Error::last_os_error();
        return Err(io::Error::new(source.kind(), format!("cannot run on processor {cpu}: {source}")));
    }
    Ok(before)
}
