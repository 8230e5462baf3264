//! The range of addresses that a stack's veth pairs are numbered from.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A range of IPv4 addresses, written `10.233.0.0/16`; between /8 and /29, with no bits set below the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressPool {
    network: Ipv4Addr,
    prefix: u8,
}

/// A text that is not an address pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPool {
    /// Not of the form `ADDRESS/PREFIX`.
    #[error("`{0}` is not a range of addresses such as 10.233.0.0/16")]
    Form(String),
    /// Too large to be meant, or too small for a veth pair.
    #[error("a pool has a prefix from /8 to /29, not /{0}")]
    Prefix(u8),
    /// The address has bits below the prefix.
    #[error("`{text}` is an address inside the range {range}")]
    HostBits {
        /// The refused text.
        text: String,
        /// The range that was probably meant.
        range: AddressPool,
    },
}

impl AddressPool {
    /// Returns the network address, the lowest of the range.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// Returns the broadcast address, the highest of the range.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !self.mask())
    }

    /// Returns the number of leading bits that all addresses share, 8 to 29.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Returns whether the address lies in the range, network and broadcast address included.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.network.to_bits()
    }

    /// Returns whether the two ranges share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }
}

impl Default for AddressPool {
    /// The range that NixOS's documentation numbers containers from.
    fn default() -> Self {
        Self { network: Ipv4Addr::new(10, 233, 0, 0), prefix: 16 }
    }
}

impl FromStr for AddressPool {
    type Err = InvalidPool;

    fn from_str(text: &str) -> Result<Self, InvalidPool> {
        let form = || InvalidPool::Form(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: Ipv4Addr = address.parse().map_err(|_| form())?;
        let prefix: u8 = prefix.parse().map_err(|_| form())?;
        if !(8..=29).contains(&prefix) {
            return Err(InvalidPool::Prefix(prefix));
        }
        let mask = Self { network: address, prefix }.mask();
        let pool = Self { network: Ipv4Addr::from_bits(address.to_bits() & mask), prefix };
        if pool.network == address {
            Ok(pool)
        } else {
            Err(InvalidPool::HostBits { text: text.to_owned(), range: pool })
        }
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_ends_at_its_broadcast_address_and_reads_back() {
        let pool: AddressPool = "10.233.16.0/20".parse().unwrap();
        assert_eq!(pool.broadcast(), Ipv4Addr::new(10, 233, 31, 255));
        assert!(pool.contains(Ipv4Addr::new(10, 233, 31, 255)));
        assert!(!pool.contains(Ipv4Addr::new(10, 233, 32, 0)));
        assert_eq!(pool.to_string().parse(), Ok(pool));
        assert_eq!("10.233.0.0/16".parse(), Ok(AddressPool::default()));
    }

    #[test]
    fn an_address_inside_a_range_is_answered_with_the_range() {
        let refused = "10.233.1.0/16".parse::<AddressPool>();
        assert_eq!(
            refused,
            Err(InvalidPool::HostBits { text: "10.233.1.0/16".to_owned(), range: AddressPool::default() })
        );
        assert_eq!("10.0.0.0/0".parse::<AddressPool>(), Err(InvalidPool::Prefix(0)));
        assert!("10.0.0.0".parse::<AddressPool>().is_err());
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let small: AddressPool = "10.233.4.0/24".parse().unwrap();
        assert!(small.overlaps(AddressPool::default()) && AddressPool::default().overlaps(small));
        assert!(!small.overlaps("10.233.5.0/24".parse().unwrap()));
    }
}
