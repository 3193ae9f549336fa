//! Ranges of IP addresses, as operators and policies write them.

use std::net::IpAddr;

/// Addresses with the same beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    /// How many bits they share.
    prefix: u8,
}

impl Network {
    /// `10.0.0.0/8`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().ok()?,
            Some(_) => return None,
            None => bits,
        };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(theirs)) => {
                let shift = 32 - u32::from(self.prefix);
                mine.to_bits().checked_shr(shift) == theirs.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(mine), IpAddr::V6(theirs)) => {
                let shift = 128 - u32::from(self.prefix);
                mine.to_bits().checked_shr(shift) == theirs.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }

    /// Whether the range is so broad that S3 calls it public: more than a /8, or a /32 of IPv6.
    pub(crate) fn is_broad(&self) -> bool {
        self.prefix < if self.address.is_ipv4() { 8 } else { 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, address: &str| {
            Network::parse(network).expect("a network").contains(address.parse().expect("an address"))
        };
        assert!(contains("10.0.0.0/8", "10.255.1.2"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.1.2.3", "10.1.2.3"));
        assert!(!contains("10.1.2.3/32", "10.1.2.4"));
        assert!(contains("0.0.0.0/0", "255.1.2.3"));
        assert!(contains("10.1.2.77/24", "10.1.2.3"), "what is behind the prefix does not count");
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("2001:db8::/32", "2001:db8:1::"));
        assert!(contains("::/0", "2001::"));
        assert!(!contains("::/0", "10.0.0.1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/+8", "host"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
