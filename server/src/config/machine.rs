//! What the machine contributes to the defaults: its name, its processors, its addresses, the environment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

#[derive(Clone, Debug)]
pub struct Machine {
    pub host_name: String,
    pub processors: usize,
    pub home: PathBuf,
    /// The address to advertise unless the operator names one, as text: IPv6 stands in brackets.
    pub address: String,
    pub namesrv_addr: Option<String>,
    pub rocketmq_home: Option<String>,
}

impl Machine {
    pub fn detect() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "DEFAULT_BROKER".into());
        Self {
            host_name,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            home: variable("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from),
            address: advertised(&candidates()),
            namesrv_addr: variable("NAMESRV_ADDR"),
            rocketmq_home: variable("ROCKETMQ_HOME"),
        }
    }

    /// Defaults that no table can hold. `None`: the key is simply unset.
    pub fn default_of(&self, key: &str) -> Option<String> {
        let cpus = self.processors;
        let below_home = |path: &str| self.home.join(path).to_string_lossy().into_owned();
        Some(match key {
            "brokerName" => self.host_name.clone(),
            "brokerIP1" | "brokerIP2" => self.address.clone(),
            "rocketmqHome" => return self.rocketmq_home.clone(),
            "namesrvAddr" => return self.namesrv_addr.clone(),
            "storePathRootDir" => below_home("store"),
            "kvConfigPath" => below_home("namesrv/kvConfig.json"),
            "configStorePath" => below_home("namesrv/namesrv.properties"),
            "sendMessageThreadPoolNums" | "putMessageFutureThreadPoolNums" => cpus.min(4).to_string(),
            "pullMessageThreadPoolNums"
            | "litePullMessageThreadPoolNums"
            | "processReplyMessageThreadPoolNums" => (16 + 2 * cpus).to_string(),
            "queryMessageThreadPoolNums" => (8 + cpus).to_string(),
            "heartbeatThreadPoolNums" => cpus.min(32).to_string(),
            "endTransactionThreadPoolNums" => (8 + 2 * cpus).max(4 * cpus.min(4)).to_string(),
            "clientCallbackExecutorThreads" => cpus.to_string(),
            _ => return None,
        })
    }
}

/// Addresses that may be advertised, in the order in which Java finds them: highest interface index first.
/// Interfaces that are down, point to point, aliases, or bridges (Docker's) do not count.
fn candidates() -> Vec<IpAddr> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    let mut found: Vec<(u32, IpAddr)> = addresses
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP)
                && !interface.flags.intersects(InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT)
                && !interface.interface_name.contains(':')
                && !Path::new("/sys/class/net").join(&interface.interface_name).join("bridge").exists()
        })
        .filter_map(|interface| {
            let index = if_nametoindex(interface.interface_name.as_str()).unwrap_or(0);
            interface.address.as_ref().and_then(address_of).map(|address| (index, address))
        })
        .collect();
    found.sort_by_key(|&(index, _)| std::cmp::Reverse(index));
    found.into_iter().map(|(_, address)| address).collect()
}

fn address_of(socket: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = socket.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    socket.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}

/// The first public IPv4 address, else the last private one, else a routable IPv6 address.
fn advertised(candidates: &[IpAddr]) -> String {
    let v4 = |address: &IpAddr| match address {
        IpAddr::V4(v4) if !v4.is_loopback() => Some(*v4),
        _ => None,
    };
    let v4s: Vec<Ipv4Addr> = candidates.iter().filter_map(v4).collect();
    if let Some(chosen) = v4s.iter().find(|address| !address.is_private()).or(v4s.last()) {
        return chosen.to_string();
    }
    let routable = candidates.iter().find_map(|address| match address {
        IpAddr::V6(v6) if !v6.is_loopback() && !is_link_local(v6) => Some(v6),
        _ => None,
    });
    routable.map_or_else(|| Ipv4Addr::LOCALHOST.to_string(), |v6| format!("[{v6}]"))
}

fn is_link_local(address: &Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(addresses: &[&str]) -> String {
        advertised(&addresses.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>())
    }

    #[test]
    fn a_public_address_wins_then_the_last_private_one() {
        assert_eq!(chosen(&["192.168.1.5", "8.8.4.4", "10.0.0.1"]), "8.8.4.4");
        assert_eq!(chosen(&["172.17.0.2", "192.168.1.5"]), "192.168.1.5");
        assert_eq!(chosen(&["fd00::2", "10.1.1.1"]), "10.1.1.1");
    }

    #[test]
    fn ipv6_stands_in_brackets_and_nothing_means_loopback() {
        assert_eq!(chosen(&["fe80::1", "fd00::2"]), "[fd00::2]");
        assert_eq!(chosen(&["fe80::1"]), "127.0.0.1");
        assert_eq!(chosen(&[]), "127.0.0.1");
    }

    #[test]
    fn detection_always_finds_something_to_work_with() {
        let machine = Machine::detect();
        assert!(!machine.host_name.is_empty() && !machine.address.is_empty() && machine.processors > 0);
    }
}
