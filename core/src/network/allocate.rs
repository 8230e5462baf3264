//! Which addresses a container gets: stable ones, pairs as `nixos-container` hands them out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::model::{AddressPool, Addresses, ContainerName};

/// Addresses from one /24 to the next.
const STRIDE: u32 = 256;

/// Returns whether the address can be handed out: in the pool, and neither its first nor its last.
fn usable(pool: AddressPool, address: Ipv4Addr) -> bool {
    pool.contains(address) && address != pool.network() && address != pool.broadcast()
}

/// Returns every pair in the order in which they are handed out: `.1` and `.2` of each /24 but the first,
/// which `nixos-container` leaves out too, then `.3` and `.4` of each, and so on.
fn pairs(pool: AddressPool) -> impl Iterator<Item = Addresses> {
    let base = pool.network().to_bits();
    let size = 1_u32 << (32 - pool.prefix());
    let subnets = (size / STRIDE).max(1);
    let first = u32::from(subnets > 1);
    let last_host = size.min(STRIDE) - 3;
    (1..=last_host).step_by(2).flat_map(move |host| {
        (first..subnets).map(move |subnet| {
            let host = base + subnet * STRIDE + host;
            Addresses { host: Ipv4Addr::from_bits(host), local: Ipv4Addr::from_bits(host + 1) }
        })
    })
}

/// What one service with a private network asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where its addresses come from unless they are fixed.
    pub pool: AddressPool,
    /// The container's address as the manifest fixes it; it may lie outside the pool.
    pub fixed: Option<Ipv4Addr>,
}

/// Why a service cannot have addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Every pair of the pool is taken.
    #[error("no address is left in {pool} for `{name}`")]
    PoolExhausted {
        /// The service.
        name: ContainerName,
        /// The pool.
        pool: AddressPool,
    },
    /// The fixed address, or both of its neighbours, belong to somebody else.
    #[error("the address {address} of `{name}` is taken")]
    Taken {
        /// The service.
        name: ContainerName,
        /// The fixed address.
        address: Ipv4Addr,
    },
}

impl AllocateError {
    /// Returns the way out.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::PoolExhausted { .. } => "set `stack.address_pool` to a larger one, or take services down",
            Self::Taken { .. } => {
                "choose another, with a free one beside it, or leave it out: one is assigned and kept"
            }
        }
    }
}

/// Returns the addresses of every service that asks for some.
///
/// Fixed addresses come first, then what a service had in `previous` as long as it still lies in its pool and
/// nobody else has it, then the first free pair. So a service keeps its addresses whatever others do, unless
/// one of them fixes one. `taken` has the addresses of containers that are not among the requests, including
/// those of `nixos-container`; never those of the requests themselves.
///
/// # Errors
///
/// Every service that cannot have addresses, in the order of names.
pub fn allocate(
    requests: &BTreeMap<ContainerName, Request>,
    previous: &BTreeMap<ContainerName, Addresses>,
    taken: &BTreeSet<Ipv4Addr>,
) -> Result<BTreeMap<ContainerName, Addresses>, Vec<AllocateError>> {
    let mut used = taken.clone();
    let mut assigned = BTreeMap::new();
    let mut errors = Vec::new();

    // The fixed addresses themselves before the host's ends that go with them: of two neighbours both stay free
    // for who asked for them.
    let fixed = || requests.iter().filter_map(|(name, request)| Some((name, request.fixed?)));
    for (name, address) in fixed() {
        if !used.insert(address) {
            errors.push(AllocateError::Taken { name: name.clone(), address });
        }
    }
    let failed: BTreeSet<ContainerName> = errors.iter().map(|error| error.name().clone()).collect();
    for (name, local) in fixed().filter(|(name, _)| !failed.contains(*name)) {
        let before =
            previous.get(name).filter(|addresses| addresses.local == local).map(|addresses| addresses.host);
        match before.into_iter().chain(neighbours(local)).find(|host| !used.contains(host)) {
            Some(host) => {
                used.insert(host);
                assigned.insert(name.clone(), Addresses { host, local });
            }
            None => errors.push(AllocateError::Taken { name: name.clone(), address: local }),
        }
    }

    let free = || requests.iter().filter(|(_, request)| request.fixed.is_none());
    let mut is_free = |addresses: Addresses| {
        let free = !used.contains(&addresses.host) && !used.contains(&addresses.local);
        if free {
            used.extend([addresses.host, addresses.local]);
        }
        free
    };
    for (name, request) in free() {
        let kept = previous.get(name).filter(|a| usable(request.pool, a.host) && usable(request.pool, a.local));
        if let Some(addresses) = kept.filter(|addresses| is_free(**addresses)) {
            assigned.insert(name.clone(), *addresses);
        }
    }
    // One walk through each pool serves all its services: what it passed stays taken.
    let mut walks = BTreeMap::new();
    for (name, request) in free() {
        if assigned.contains_key(name) {
            continue;
        }
        let walk = walks.entry(request.pool).or_insert_with(|| Box::new(pairs(request.pool)));
        match walk.find(|addresses| is_free(*addresses)) {
            Some(addresses) => {
                assigned.insert(name.clone(), addresses);
            }
            None => errors.push(AllocateError::PoolExhausted { name: name.clone(), pool: request.pool }),
        }
    }
    errors.sort_by(|a, b| a.name().cmp(b.name()));
    if errors.is_empty() { Ok(assigned) } else { Err(errors) }
}

/// Returns the addresses beside one in its /24 that the host's end can have, the lower one first.
fn neighbours(address: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d] = address.octets();
    let in_subnet = |d: &u8| (1..=254).contains(d);
    [d.checked_sub(1), d.checked_add(1)]
        .into_iter()
        .flatten()
        .filter(in_subnet)
        .map(move |d| Ipv4Addr::new(a, b, c, d))
}

impl AllocateError {
    /// Returns the service that cannot have addresses.
    #[must_use]
    pub fn name(&self) -> &ContainerName {
        match self {
            Self::PoolExhausted { name, .. } | Self::Taken { name, .. } => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::fixture::name;

    fn pool(text: &str) -> AddressPool {
        text.parse().unwrap()
    }

    fn pair(text: &str) -> Addresses {
        let host: Ipv4Addr = text.parse().unwrap();
        Addresses { host, local: Ipv4Addr::from_bits(host.to_bits() + 1) }
    }

    fn requests(names: &[&str], text: &str) -> BTreeMap<ContainerName, Request> {
        names.iter().map(|text_| (name(text_), Request { pool: pool(text), fixed: None })).collect()
    }

    #[test]
    fn pairs_are_those_of_nixos_container() {
        let all: Vec<_> = pairs(pool("10.233.0.0/16")).collect();
        assert_eq!(all[0], pair("10.233.1.1"));
        assert_eq!(all[254], pair("10.233.255.1"));
        assert_eq!(all[255], pair("10.233.1.3"));
        assert_eq!(all.len(), 255 * 127);
        assert_eq!(pairs(pool("10.0.0.0/29")).collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.3", "10.0.0.5"].map(pair));
    }

    #[test]
    fn a_service_keeps_its_addresses_when_others_come_and_go() {
        let taken = BTreeSet::from(["10.233.1.1".parse().unwrap()]);
        let first = allocate(&requests(&["b", "c"], "10.233.0.0/16"), &BTreeMap::new(), &taken).unwrap();
        assert_eq!(first, [(name("b"), pair("10.233.2.1")), (name("c"), pair("10.233.3.1"))].into());
        let then = allocate(&requests(&["a", "c"], "10.233.0.0/16"), &first, &BTreeSet::new()).unwrap();
        assert_eq!(then, [(name("a"), pair("10.233.1.1")), (name("c"), pair("10.233.3.1"))].into());
    }

    #[test]
    fn a_fixed_address_displaces_what_was_only_handed_out() {
        let mut requests = requests(&["a", "b"], "10.233.0.0/16");
        let previous = allocate(&requests, &BTreeMap::new(), &BTreeSet::new()).unwrap();
        requests.get_mut(&name("b")).unwrap().fixed = Some(previous[&name("a")].local);
        let now = allocate(&requests, &previous, &BTreeSet::new()).unwrap();
        assert_eq!(now[&name("b")], pair("10.233.1.1"));
        assert_eq!(now[&name("a")], pair("10.233.2.1"));
    }

    #[test]
    fn a_pool_that_is_full_names_every_service_without_addresses() {
        let error = |text: &str| AllocateError::PoolExhausted { name: name(text), pool: pool("10.0.0.0/29") };
        let full =
            allocate(&requests(&["a", "b", "c", "d", "e"], "10.0.0.0/29"), &BTreeMap::new(), &BTreeSet::new());
        assert_eq!(full, Err(vec![error("d"), error("e")]));
    }

    #[test]
    fn a_fixed_address_that_somebody_has_is_refused() {
        let mut requests = requests(&["a"], "10.0.0.0/24");
        requests.get_mut(&name("a")).unwrap().fixed = Some("10.0.0.9".parse().unwrap());
        let taken = BTreeSet::from(["10.0.0.9".parse().unwrap()]);
        assert!(allocate(&requests, &BTreeMap::new(), &taken).is_err());
        let neighbours = BTreeSet::from(["10.0.0.8".parse().unwrap(), "10.0.0.10".parse().unwrap()]);
        assert!(allocate(&requests, &BTreeMap::new(), &neighbours).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_address_is_handed_out_twice_and_what_can_stay_stays(
            before in prop::collection::btree_set(0_u8..40, 0..20),
            after in prop::collection::btree_map(0_u8..40, prop::option::weighted(0.2, 1_u8..60), 0..20),
            taken in prop::collection::btree_set(1_u8..60, 0..6),
        ) {
            let named = |n: u8| name(&format!("s{n}"));
            let pool = pool("10.0.0.0/26");
            let taken: BTreeSet<_> = taken.into_iter().map(|d| Ipv4Addr::new(10, 0, 0, d)).collect();
            let request = |fixed: Option<u8>| Request { pool, fixed: fixed.map(|d| Ipv4Addr::new(10, 0, 0, d)) };
            let old = before.into_iter().map(|n| (named(n), request(None))).collect();
            let new: BTreeMap<_, _> = after.into_iter().map(|(n, fixed)| (named(n), request(fixed))).collect();
            let Ok(old) = allocate(&old, &BTreeMap::new(), &taken) else { return Ok(()) };
            let Ok(assigned) = allocate(&new, &old, &taken) else { return Ok(()) };
            prop_assert!(assigned.keys().eq(new.keys()));
            let mut used = taken.clone();
            for (name, addresses) in &assigned {
                prop_assert!(used.insert(addresses.host) && used.insert(addresses.local), "{name}: {addresses:?}");
                prop_assert!(new[name].fixed.is_none_or(|fixed| fixed == addresses.local));
            }
            let fixed_somewhere = new.values().any(|request| request.fixed.is_some());
            for (name, addresses) in &old {
                if !fixed_somewhere && assigned.contains_key(name) {
                    prop_assert_eq!(assigned[name], *addresses);
                }
            }
        }
    }
}
