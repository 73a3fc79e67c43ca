//! How much memory processes have, as the kernel counts it.

use std::fs;
use std::path::PathBuf;

use crate::error::Error;

/// Bytes of memory that these processes have now; `None` when there are none to look at.
pub fn resident_bytes(pids: &[u32]) -> Result<Option<u64>, Error> {
    if pids.is_empty() {
        return Ok(None);
    }
    let mut sum = 0;
    for pid in pids {
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        let status =
            fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        sum += parse(&status).ok_or_else(|| Error::Usage(format!("{} has no VmRSS", path.display())))?;
    }
    Ok(Some(sum))
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_counts_in_kilobytes() {
        assert_eq!(parse("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t  1234 kB\n"), Some(1234 * 1024));
        assert_eq!(parse("Name:\tx\n"), None);
        assert!(resident_bytes(&[std::process::id()]).unwrap().unwrap() > 100_000);
        assert_eq!(resident_bytes(&[]).unwrap(), None);
    }
}
