//! A server under test: started from a command line, killed without warning, started again.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

use crate::body::mix;
use crate::clock::monotonic_ns;
use crate::error::Error;

/// How a server is started: always the same command, directory and ports.
pub struct ServerCommand {
    command: String,
    log: PathBuf,
    pub port: u16,
    pub namesrv_port: u16,
}

impl ServerCommand {
    /// Fills the template's `{dir}`, `{port}` and `{nsport}`.
    pub fn new(
        template: &str,
        dir: &Path,
        port: Option<u16>,
        namesrv_port: Option<u16>,
    ) -> Result<Self, Error> {
        for placeholder in ["{dir}", "{port}", "{nsport}"] {
            if !template.contains(placeholder) {
                return Err(Error::Usage(format!("the server's command must contain {placeholder}")));
            }
        }
        let (port, namesrv_port) = match (port, namesrv_port) {
            (Some(port), Some(namesrv_port)) => (port, namesrv_port),
            (port, namesrv_port) => {
                let (free, free_namesrv) = free_ports()?;
                (port.unwrap_or(free), namesrv_port.unwrap_or(free_namesrv))
            }
        };
        let command = template
            .replace("{dir}", &dir.join("data").to_string_lossy())
            .replace("{port}", &port.to_string())
            .replace("{nsport}", &namesrv_port.to_string());
        Ok(Self { command, log: dir.join("server.log"), port, namesrv_port })
    }

    /// Starts it in a process group of its own, so that a kill reaches all it has started.
    pub fn start(&self) -> Result<Server, Error> {
        let failed = |source| Error::File { path: self.log.clone(), source };
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(failed)?;
        let also: File = log.try_clone().map_err(failed)?;
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("exec {}", self.command))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(also)
            .process_group(0);
        // SAFETY: between fork and exec only the signal mask and the death signal of the child are set, which are
        // system calls that need no lock and no memory.
        unsafe {
            command.pre_exec(|| {
                // We wait for signals in a thread of ours; the server must get its own again.
                SigSet::all().thread_unblock()?;
                set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        let child =
            command.spawn().map_err(|source| Error::System { what: "starting the server", source })?;
        Ok(Server { child, log: self.log.clone() })
    }
}

pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// SIGKILL to all of it, and no return before it is gone.
    pub fn kill(mut self) -> Result<(), Error> {
        self.kill_group();
        self.child.wait().map_err(|source| Error::System { what: "waiting for the server", source }).map(drop)
    }

    /// Asks it to end; after `patience` it is killed. `false`: it had to be.
    pub fn stop(mut self, patience: Duration) -> Result<bool, Error> {
        let failed = |source| Error::System { what: "waiting for the server", source };
        let _ = killpg(self.group(), Signal::SIGTERM);
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if self.child.try_wait().map_err(failed)?.is_some() {
                self.kill_group();
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill_group();
        self.child.wait().map_err(failed)?;
        Ok(false)
    }

    /// An error with the end of its log, if it has ended by itself.
    pub fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(Error::TooLate(format!("the server ended by itself ({status}): {}", tail(&self.log))))
            }
            Err(source) => Err(Error::System { what: "waiting for the server", source }),
        }
    }

    /// Of the process that the command line started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn kill_group(&self) {
        // The group may be empty by now, which is what we want.
        let _ = killpg(self.group(), Signal::SIGKILL);
    }
}

impl Drop for Server {
    /// A run that ends early must not leave a server behind. After an orderly end the child has been waited for,
    /// and its number may belong to another process.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill_group();
            let _ = self.child.wait();
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned();
    format!("{} ends with:\n{text}", log.display())
}

/// A broker port whose neighbours are free too (it also listens two below and one above), and another one.
fn free_ports() -> Result<(u16, u16), Error> {
    let mut state = monotonic_ns() ^ u64::from(std::process::id());
    for _ in 0..200 {
        state = mix(state);
        let port = 20_000 + (state % 12_000) as u16;
        let wanted = [port - 2, port, port + 1, port + 7];
        let bound: Result<Vec<TcpListener>, io::Error> =
            wanted.iter().map(|&port| TcpListener::bind(("127.0.0.1", port))).collect();
        if bound.is_ok() {
            return Ok((port, port + 7));
        }
    }
    Err(Error::Usage(String::from("no free ports found; name some with --port and --nsport")))
}
