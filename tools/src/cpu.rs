//! Processor time of this process and of the server.

use std::fs;
use std::path::PathBuf;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

use crate::error::Error;

#[derive(Clone, Copy, Debug, Default)]
pub struct CpuSeconds {
    pub client: f64,
    pub server: Option<f64>,
}

impl CpuSeconds {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            client: self.client - earlier.client,
            server: self.server.zip(earlier.server).map(|(now, then)| now - then),
        }
    }
}

/// Reads what has been used so far; `servers` are the server's process ids, which may be none.
pub fn used(servers: &[u32]) -> Result<CpuSeconds, Error> {
    let client = getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| {
            (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
        })
        .map_err(|error| Error::System { what: "getrusage", source: error.into() })?;
    if servers.is_empty() {
        return Ok(CpuSeconds { client, server: None });
    }
    let mut ticks = 0;
    for pid in servers {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let stat = fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        ticks +=
            ticks_of(&stat).ok_or_else(|| Error::Usage(format!("{} is not readable", path.display())))?;
    }
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Ok(CpuSeconds { client, server: Some(ticks as f64 / per_second as f64) })
}

/// User and system time are fields 14 and 15; field 2, the command, may contain blanks and parentheses.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_confuse() {
        let stat = "7 (a) b)) S 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20";
        assert_eq!(ticks_of(stat), Some(42));
        assert_eq!(ticks_of("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        let used = used(&[std::process::id()]).unwrap();
        assert!(used.client > 0.0 && used.server.is_some());
    }
}
