//! The reactor as its users see it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rmq_reactor::{AlignedBuffer, BLOCK_BYTES, Class, DirectFile, OpenMode, Options, Socket};
use rmq_reactor::{blocking, run, sleep, spawn, spawn_pinned, yield_now};

fn on_reactor<F: Future<Output = ()> + 'static>(work: impl FnOnce() -> F) {
    run(&Options::default(), work).expect("a ring");
}

/// A connected pair: one end for the reactor, the other for an ordinary thread.
fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    (ours.into(), theirs)
}

async fn read(socket: &Socket, into: &mut [u8]) -> std::io::Result<usize> {
    poll_fn(|cx| socket.poll_read(cx, into)).await
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    on_reactor(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        for ms in [30, 10, 20] {
            let order = Rc::clone(&order);
            spawn(Class::Foreground, async move {
                sleep(Duration::from_millis(ms)).await;
                order.borrow_mut().push(ms);
            });
        }
        let began = Instant::now();
        sleep(Duration::from_millis(60)).await;
        assert!(began.elapsed() >= Duration::from_millis(60));
        assert_eq!(*order.borrow(), [10, 20, 30]);
    });
}

/// The flusher relies on it: after one yield, all that was ready before it has run.
#[test]
fn a_yield_lets_everybody_run_who_was_ready() {
    on_reactor(|| async {
        let ran = Rc::new(Cell::new(0));
        for _ in 0..100 {
            let ran = Rc::clone(&ran);
            spawn(Class::Foreground, async move { ran.set(ran.get() + 1) });
        }
        yield_now().await;
        assert_eq!(ran.get(), 100);
    });
}

/// However busy the foreground is, the other classes get their share, and no more than that.
#[test]
fn background_tasks_get_a_share_of_a_busy_thread() {
    let spin = |duration: Duration| {
        let began = Instant::now();
        while began.elapsed() < duration {
            std::hint::spin_loop();
        }
    };
    on_reactor(move || async move {
        let turns: Rc<[Cell<u32>; 3]> = Rc::default();
        let done = Rc::new(Cell::new(false));
        for (class, count) in [(Class::Foreground, 0), (Class::Reads, 1), (Class::Background, 2)] {
            let (turns, done) = (Rc::clone(&turns), Rc::clone(&done));
            spawn(class, async move {
                while !done.get() {
                    spin(Duration::from_micros(100));
                    turns[count].set(turns[count].get() + 1);
                    yield_now().await;
                }
            });
        }
        sleep(Duration::from_millis(300)).await;
        done.set(true);
        let [foreground, reads, background] = [0, 1, 2].map(|count| turns[count].get());
        assert!(background > 0 && background < reads && reads < foreground, "{turns:?}");
    });
}

#[test]
fn any_thread_wakes_a_task_of_a_sleeping_reactor() {
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let mailbox: Arc<Mutex<(u32, Option<Waker>)>> = Arc::default();
        let theirs = Arc::clone(&mailbox);
        let reactor = spawn_pinned("reactor", Options { cpu: None, spin }, move || async move {
            poll_fn(|cx| {
                let mut mailbox = theirs.lock().unwrap();
                mailbox.1 = Some(cx.waker().clone());
                if mailbox.0 == 2000 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        })
        .unwrap();
        for n in 0..2000 {
            let waker = {
                let mut mailbox = mailbox.lock().unwrap();
                mailbox.0 += 1;
                mailbox.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
            if n % 100 == 0 {
                // Long enough for the reactor to sleep.
                thread::sleep(Duration::from_millis(1));
            }
        }
        reactor.join().unwrap().unwrap();
    }
}

#[test]
fn bytes_arrive_whole_and_the_end_is_seen() {
    let (ours, mut theirs) = pair();
    let writer = thread::spawn(move || {
        for n in 0..1000u32 {
            theirs.write_all(&n.to_be_bytes()).unwrap();
            if n % 10 == 0 {
                thread::sleep(Duration::from_micros(200));
            }
        }
    });
    on_reactor(move || async move {
        let socket = Socket::new(ours);
        let mut bytes = Vec::new();
        let mut piece = [0; 7];
        loop {
            match read(&socket, &mut piece).await.unwrap() {
                0 => break,
                count => bytes.extend_from_slice(&piece[..count]),
            }
        }
        let expected: Vec<u8> = (0..1000u32).flat_map(u32::to_be_bytes).collect();
        assert_eq!(bytes, expected);
    });
    writer.join().unwrap();
}

/// Data and end arrive before the first look: one announcement for both, so the end must not be waited for.
#[test]
fn an_end_that_comes_with_the_data_is_seen() {
    let (ours, mut theirs) = pair();
    on_reactor(move || async move {
        let socket = Socket::new(ours);
        let mut buffer = [0; 64];
        // The socket is watched from its first wait on.
        let waiting = poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut [0; 64]).is_pending()));
        assert!(waiting.await);
        theirs.write_all(b"last words").unwrap();
        drop(theirs);
        thread::sleep(Duration::from_millis(5));
        assert_eq!(read(&socket, &mut buffer).await.unwrap(), 10);
        assert_eq!(read(&socket, &mut buffer).await.unwrap(), 0);
    });
}

#[test]
fn a_writer_waits_for_a_slow_reader() {
    const BYTES: usize = 32 << 20;
    let (ours, mut theirs) = pair();
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        thread::sleep(Duration::from_millis(20));
        theirs.read_to_end(&mut all).unwrap();
        all
    });
    on_reactor(move || async move {
        let socket = Socket::new(ours);
        let bytes: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
        let mut sent = 0;
        while sent < BYTES {
            sent += poll_fn(|cx| socket.poll_write(cx, &bytes[sent..])).await.unwrap();
        }
        socket.shutdown().unwrap();
    });
    let all = reader.join().unwrap();
    assert!(all.len() == BYTES && all.iter().enumerate().all(|(n, &byte)| byte == (n % 251) as u8));
}

/// A dropped socket closes the connection although the kernel was asked to watch it.
#[test]
fn a_dropped_socket_is_closed() {
    let (ours, mut theirs) = pair();
    on_reactor(move || async move {
        let socket = Socket::new(ours);
        let waiting = poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut [0; 8]).is_pending())).await;
        assert!(waiting);
        yield_now().await;
        drop(socket);
        let ended = blocking(move || theirs.read(&mut [0; 8])).await;
        assert_eq!(ended.unwrap(), 0);
    });
}

fn test_file(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("rmq-reactor-{}-{name}", std::process::id()))
}

#[test]
fn files_hold_what_was_written_also_by_those_who_did_not_wait() {
    let path = test_file("file");
    let at = path.clone();
    on_reactor(move || async move {
        let mode = OpenMode { write: true, create: true, durable: false };
        let file = Rc::new(DirectFile::open(&at, mode).await.unwrap());
        file.allocate(1 << 20).await.unwrap();
        let mut buffer = AlignedBuffer::new(3 * BLOCK_BYTES);
        buffer.fill(1);
        buffer = file.write_at(buffer, 0).await.unwrap();
        buffer.fill(2);
        {
            // Asked for and abandoned.
            let mut write = std::pin::pin!(file.write_at(buffer, 8 * BLOCK_BYTES as u64));
            let asked = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await;
            assert!(asked);
        }
        let shared = Rc::new(AlignedBuffer::new(BLOCK_BYTES));
        file.write_shared_at(&shared, BLOCK_BYTES, 64 * BLOCK_BYTES as u64).await.unwrap();
        file.sync().await.unwrap();
        for _ in 0..100 {
            let (bytes, found) = file.read_at(8 * BLOCK_BYTES as u64, 3 * BLOCK_BYTES).await.unwrap();
            assert_eq!(found, 3 * BLOCK_BYTES);
            if bytes.iter().all(|&byte| byte == 2) {
                let (_, found) = file.read_at((1 << 20) - BLOCK_BYTES as u64, 8 * BLOCK_BYTES).await.unwrap();
                assert_eq!(found, BLOCK_BYTES, "the file ends there");
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the abandoned write did not happen");
    });
    std::fs::remove_file(path).unwrap();
}

#[test]
fn errors_keep_their_numbers() {
    on_reactor(|| async {
        let missing = DirectFile::open(&test_file("none"), OpenMode::default()).await.err().unwrap();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        let failed = blocking(|| -> std::io::Result<()> { panic!("on purpose") }).await;
        assert!(failed.unwrap_err().to_string().contains("panicked"));
        assert_eq!(blocking(|| Ok(5)).await.unwrap(), 5);
    });
}

/// What a task holds goes with the reactor, also when the task waits for something that never comes.
#[test]
fn the_end_of_the_reactor_ends_its_tasks() {
    struct Noted(Rc<Cell<u32>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let ended = Rc::new(Cell::new(0));
    let outside = Rc::clone(&ended);
    on_reactor(move || async move {
        let (ours, _theirs) = pair();
        let (first, second, third) =
            (Noted(Rc::clone(&outside)), Noted(Rc::clone(&outside)), Noted(Rc::clone(&outside)));
        spawn(Class::Background, async move {
            let _held = first;
            std::future::pending::<()>().await;
        });
        spawn(Class::Reads, async move {
            let _held = second;
            sleep(Duration::from_secs(3600)).await;
        });
        spawn(Class::Foreground, async move {
            let _held = third;
            let socket = Socket::new(ours);
            let _ = read(&socket, &mut [0; 8]).await;
        });
        yield_now().await;
    });
    assert_eq!(ended.get(), 3);
}

#[test]
fn a_panic_of_a_task_ends_the_thread() {
    let reactor = spawn_pinned("reactor", Options::default(), || async {
        spawn(Class::Foreground, async { panic!("on purpose") });
        sleep(Duration::from_secs(60)).await;
    });
    assert!(reactor.unwrap().join().is_err());
}

#[test]
fn a_processor_that_is_not_there_is_an_error() {
    let options = Options { cpu: Some(1000), ..Options::default() };
    let error = run(&options, || async {}).unwrap_err().to_string();
    assert!(error.contains("1000"), "{error}");
}
