//! The machine that a figure was measured on; without it a figure says little.

use std::fs;
use std::path::Path;

use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    /// That this process may use.
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
}

impl Machine {
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = uname().map_or(String::new(), |names| names.release().to_string_lossy().into_owned());
        Self {
            cpu: value_of(&cpuinfo, "model name").unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: value_of(&memory, "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
                .map_or(0.0, |kib| (kib / f64::from(1 << 20) * 10.0).round() / 10.0),
            kernel,
        }
    }

    pub fn text(&self) -> String {
        format!("{} x {}, {:.0} GiB, Linux {}", self.cores, self.cpu, self.memory_gib, self.kernel)
    }
}

/// Type and device of the file system that holds `path`, as in `ext4 on /dev/vda`.
pub fn file_system(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let holding = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with(at).then_some((at.len(), format!("{kind} on {device}")))
    });
    // Of equal mount points the last one covers the others.
    holding.max_by_key(|(length, _)| *length).map_or(String::from("unknown"), |(_, text)| text)
}

/// Tasks that could run just now beside the caller: more than one or two mean that the machine is not ours.
pub fn others_running() -> u64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = load.split(' ').nth(3).and_then(|field| field.split('/').next()?.parse::<u64>().ok());
    running.unwrap_or(1).saturating_sub(1)
}

fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_description() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && machine.memory_gib > 0.0 && !machine.kernel.is_empty(), "{machine:?}");
        assert!(file_system(Path::new("/proc/self")).starts_with("proc"));
        assert_eq!(value_of("a\t: 1\nmodel name\t: Z 80\n", "model name"), Some("Z 80"));
    }
}
