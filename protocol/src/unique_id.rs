//! Unique ids (UNIQ_KEY), which a client gives its messages and a broker gives those that come without.
//!
//! ```text
//! | address: 4 or 16 bytes | pid: u16 | process mark: u32 | ms since the month began: u32 | counter: u16 |
//! ```
//! All in upper-case hex. Nobody takes them apart but tools that guess a message's age.

use std::net::IpAddr;

use crate::message_id::{Hex, MESSAGE_ID_LEN_MAX};

/// Makes the ids of one process. Time and counter are passed in.
#[derive(Clone, Copy, Debug)]
pub struct UniqueIds {
    address: IpAddr,
    pid: u16,
    /// Tells apart what address and pid do not, for example containers; Java puts a class loader's hash here.
    mark: u32,
}

impl UniqueIds {
    pub fn new(address: IpAddr, pid: u16, mark: u32) -> Self {
        Self { address: address.to_canonical(), pid, mark }
    }

    pub fn write<'o>(
        &self,
        ms_of_month: u32,
        counter: u16,
        out: &'o mut [u8; MESSAGE_ID_LEN_MAX],
    ) -> &'o str {
        let mut hex = Hex::new(out);
        match self.address {
            IpAddr::V4(address) => hex.push(&address.octets()),
            IpAddr::V6(address) => hex.push(&address.octets()),
        }
        hex.push(&self.pid.to_be_bytes());
        hex.push(&self.mark.to_be_bytes());
        hex.push(&ms_of_month.to_be_bytes());
        hex.push(&counter.to_be_bytes());
        hex.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_stand_in_order() {
        let mut out = [0; MESSAGE_ID_LEN_MAX];
        let ids = UniqueIds::new("127.0.0.1".parse().unwrap(), 0x1234, 0xabcdef01);
        assert_eq!(ids.write(0x00c0ffee, 7, &mut out), "7F0000011234ABCDEF0100C0FFEE0007");
        let ids = UniqueIds::new("::1".parse().unwrap(), 1, 2);
        assert_eq!(ids.write(3, 4, &mut out).len(), 56);
    }
}
