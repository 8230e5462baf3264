//! Slices: what a stack as a whole may use, and what of memory the slices above protected services protect.
//!
//! ```text
//! machine.slice                      the host's; ours are MemoryMin= and MemoryLow= alone, where its files say nothing
//! ├─ adopted containers
//! └─ machine-nixmox.slice            sums of the stacks
//!    └─ machine-nixmox-STACK.slice   the stack's budget, and at least the sums of its services
//!       └─ its containers
//! ```
//!
//! A cgroup is protected by no more than what each of its ancestors is (kernel, admin-guide/cgroup-v2, `memory.min`), so
//! the sums go up to the root. Downwards, into a guest, it depends on the mount option `memory_recursiveprot`, which
//! systemd sets. Owns which slice carries what; does not write it.

use std::path::Path;

use crate::container::{slice, slice_drop_in};
use crate::model::{Bytes, Desired, DropIn, Limits, Protection, Slice, System};

/// The slice of all machines, which is the host's.
pub const MACHINES: &str = "machine.slice";
/// The slice of all stacks.
pub const STACKS: &str = "machine-nixmox.slice";

/// What slices carry, by the name of their units. One without any limit is not in it.
///
/// A handful, so they are found one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slices(Vec<(String, Limits)>);

impl Slices {
    /// Returns what a slice carries.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Limits> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, limits)| limits)
    }

    /// Returns what a slice carries, to be changed; none at first.
    pub fn entry(&mut self, name: &str) -> &mut Limits {
        let at = self.0.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), Limits::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &(String, Limits)> {
        self.0.iter()
    }

    /// Returns whether no slice carries anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns what the slices should carry, `of_host` being what the host's own files make `machine.slice` protect: those are
/// left alone.
///
/// Held services count, and stopped ones too: like the other tables of the host, this changes with a generation alone.
#[must_use]
pub fn slices(desired: &Desired, of_host: Protection) -> Slices {
    let mut sums = Slices::default();
    let mut machines = Protection::default();
    for assigned in desired.services.values() {
        let service = &assigned.service;
        let own = protection(&service.limits);
        if own == Protection::default() {
            continue;
        }
        match service.system {
            // It stays where its owner's template starts it.
            System::Adopted => machines = machines.and(own),
            System::Store(_) => {
                let sum = sums.entry(&slice(&service.stack));
                protect(sum, protection(sum).and(own));
            }
        }
    }
    let mut slices = Slices::default();
    for (stack, budget) in &desired.budgets {
        // What cannot be written is refused before it is declared.
        if *budget != Limits::default() && slice_drop_in(budget).is_ok() {
            slices.entry(&slice(stack)).clone_from(budget);
        }
    }
    for (name, sum) in &sums.0 {
        let limits = slices.entry(name);
        limits.memory_min = limits.memory_min.max(sum.memory_min);
        limits.memory_low = limits.memory_low.max(sum.memory_low);
    }
    let stacks = slices.0.iter().fold(Protection::default(), |sum, (_, limits)| sum.and(protection(limits)));
    let machines = machines.and(stacks);
    let machines = Protection {
        min: machines.min.filter(|_| of_host.min.is_none()),
        low: machines.low.filter(|_| of_host.low.is_none()),
    };
    for (name, protection) in [(STACKS, stacks), (MACHINES, machines)] {
        if protection != Protection::default() {
            protect(slices.entry(name), protection);
        }
    }
    slices
}

fn protection(limits: &Limits) -> Protection {
    Protection { min: limits.memory_min, low: limits.memory_low }
}

fn protect(limits: &mut Limits, protection: Protection) {
    (limits.memory_min, limits.memory_low) = (protection.min, protection.low);
}

/// Returns whether this is one of the slices that may carry something of ours.
#[must_use]
pub fn is_known(unit: &str) -> bool {
    let of_stack = unit.strip_prefix("machine-nixmox-").and_then(|rest| rest.strip_suffix(".slice"));
    unit == MACHINES || unit == STACKS || of_stack.is_some_and(|stack| !stack.contains('-'))
}

/// Returns which limits of a slice are NixMox's: of those that are not a stack's own, the protection alone.
#[must_use]
pub fn ours(unit: &str, limits: Limits) -> Limits {
    if unit == MACHINES || unit == STACKS {
        let Limits { memory_min, memory_low, .. } = limits;
        return Limits { memory_min, memory_low, ..Limits::default() };
    }
    limits
}

/// Returns whether slices are as they should be.
#[must_use]
pub fn are_right(found: &[Slice], wanted: &Slices) -> bool {
    let is_right = |(name, limits): &(String, Limits)| {
        found.iter().any(|slice| {
            slice.name == *name
                && (slice.limits == *limits || slice.overridden_by.is_some())
                && !slice.reload_pending
                && slice.drop_in == DropIn::Ours(text(limits))
        })
    };
    // One that nobody wants anything of may carry what a person gave it, as long as that is not said in our name.
    let is_free = |slice: &Slice| slice.drop_in == DropIn::Absent || wanted.get(&slice.name).is_some();
    wanted.iter().all(is_right) && found.iter().all(is_free)
}

/// Returns slices as they are once this is done.
#[must_use]
pub fn done(wanted: &Slices) -> Vec<Slice> {
    let done = |(name, limits): &(String, Limits)| Slice {
        name: name.clone(),
        limits: limits.clone(),
        drop_in: DropIn::Ours(text(limits)),
        reload_pending: false,
        overridden_by: None,
    };
    wanted.iter().map(done).collect()
}

/// Returns the slices that are not as declared since a file of the host's says otherwise, each with that file.
pub fn overridden(found: &[Slice]) -> impl Iterator<Item = (&str, &Path)> {
    let differs = |slice: &&Slice| matches!(&slice.drop_in, DropIn::Ours(ours) if *ours != text(&slice.limits));
    found.iter().filter(differs).filter_map(|slice| Some((slice.name.as_str(), slice.overridden_by.as_deref()?)))
}

/// Returns the drop-in of a slice.
#[must_use]
pub fn text(limits: &Limits) -> String {
    slice_drop_in(limits).unwrap_or_default()
}

impl Protection {
    /// Returns the sums of both; nothing and nothing is nothing.
    fn and(self, other: Self) -> Self {
        let sum = |a: Option<Bytes>, b: Option<Bytes>| match (a, b) {
            (Some(a), Some(b)) => Some(Bytes(a.0.saturating_add(b.0))),
            (a, b) => a.or(b),
        };
        Self { min: sum(self.min, other.min), low: sum(self.low, other.low) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::fixture::{assigned, name};
    use crate::model::{Assigned, StackName};

    const MIB: u64 = 1 << 20;

    fn service(stack: &str, limits: Limits) -> Assigned {
        let mut service = assigned("x", 1);
        service.service.stack = stack.parse().unwrap();
        service.service.limits = limits;
        service
    }

    fn protecting(min: u64, low: u64) -> Limits {
        let bytes = |mib: u64| (mib > 0).then_some(Bytes(mib * MIB));
        Limits { memory_min: bytes(min), memory_low: bytes(low), ..Limits::default() }
    }

    fn desired(services: Vec<Assigned>, budgets: &[(&str, Limits)]) -> Desired {
        let services = services.into_iter().enumerate().map(|(index, mut assigned)| {
            assigned.service.name = name(&format!("s{index}"));
            (assigned.service.name.clone(), assigned)
        });
        let budgets = budgets.iter().map(|(stack, limits)| (stack.parse().unwrap(), limits.clone()));
        Desired { services: services.collect(), budgets: budgets.collect(), ..Desired::default() }
    }

    #[test]
    fn every_slice_above_protects_the_sum_of_what_is_below() {
        let mut adopted = service("other", protecting(1, 0));
        adopted.service.system = System::Adopted;
        let limits = Limits { memory_max: Some(Bytes(9 * MIB)), ..protecting(100, 0) };
        let services = vec![
            service("cloud", protecting(20, 0)),
            service("cloud", protecting(30, 7)),
            service("my-stack", protecting(0, 5)),
            adopted,
        ];
        let found = slices(&desired(services, &[("cloud", limits.clone())]), Protection::default());
        let expected = [
            ("machine-nixmox-cloud.slice", Limits { memory_low: Some(Bytes(7 * MIB)), ..limits }),
            ("machine-nixmox-my_stack.slice", protecting(0, 5)),
            ("machine-nixmox.slice", protecting(100, 12)),
            ("machine.slice", protecting(101, 12)),
        ];
        assert_eq!(found, Slices(expected.map(|(name, limits)| (name.to_owned(), limits)).into()));
    }

    #[test]
    fn what_the_hosts_own_files_say_of_its_slice_is_left_alone() {
        let desired = desired(vec![service("cloud", protecting(3, 4))], &[]);
        let of_host = |min, low| slices(&desired, Protection { min, low }).get(MACHINES).cloned();
        assert_eq!(of_host(None, None), Some(protecting(3, 4)));
        assert_eq!(of_host(Some(Bytes(1)), None), Some(protecting(0, 4)));
        assert_eq!(of_host(Some(Bytes(1)), Some(Bytes(1))), None);
    }

    #[test]
    fn nothing_is_wanted_of_slices_where_nothing_is_declared() {
        let plain = desired(vec![service("cloud", Limits::default())], &[("cloud", Limits::default())]);
        assert_eq!(slices(&plain, Protection::default()), Slices::default());
    }

    #[test]
    fn a_slice_is_right_by_its_values_and_its_file_and_a_file_that_nobody_wants_is_wrong() {
        let wanted = Slices(vec![(STACKS.to_owned(), protecting(1, 0))]);
        let right = done(&wanted);
        assert!(are_right(&right, &wanted));
        assert!(!are_right(&[], &wanted));
        let changed = |change: fn(&mut Slice)| {
            let mut found = right.clone();
            change(&mut found[0]);
            found
        };
        assert!(!are_right(&changed(|slice| slice.limits.memory_low = Some(Bytes(1))), &wanted));
        assert!(!are_right(&changed(|slice| slice.drop_in = DropIn::Absent), &wanted));
        assert!(!are_right(&changed(|slice| slice.reload_pending = true), &wanted));
        assert!(!are_right(&right, &Slices::default()));
        // Somebody's own settings.
        assert!(are_right(&changed(|slice| slice.drop_in = DropIn::Absent), &Slices::default()));
        assert!(is_known("machine-nixmox-a.slice") && !is_known("machine-other.slice") && !is_known("user.slice"));
    }

    proptest! {
        /// What protects a service is no more than the least of its ancestors, and none has less than its children.
        #[test]
        fn no_slice_protects_less_than_its_children_together(
            services in prop::collection::vec((0..3_usize, 0..9_u64, 0..9_u64, any::<bool>()), 0..9),
            budgets in prop::collection::vec((0..3_usize, 0..20_u64), 0..3),
        ) {
            const STACKS_OF: [&str; 3] = ["a", "b", "c-d"];
            let made = services.iter().map(|(stack, min, low, adopted)| {
                let mut made = service(STACKS_OF[*stack], protecting(*min, *low));
                if *adopted {
                    made.service.system = System::Adopted;
                }
                made
            });
            let budgets: Vec<_> = budgets.iter().map(|(s, min)| (STACKS_OF[*s], protecting(*min, 0))).collect();
            let desired = desired(made.collect(), &budgets);
            let slices = slices(&desired, Protection::default());
            let min = |name: &str| slices.get(name).and_then(|l| l.memory_min).map_or(0, |bytes| bytes.0);
            let low = |name: &str| slices.get(name).and_then(|l| l.memory_low).map_or(0, |bytes| bytes.0);
            let sum = |stack: Option<&str>, adopted: bool, of: fn(&Limits) -> Option<Bytes>| -> u64 {
                let of_stack = |a: &&Assigned| stack.is_none_or(|s| a.service.stack == s.parse::<StackName>().unwrap());
                let own = desired.services.values().filter(of_stack);
                let own = own.filter(|a| (a.service.system == System::Adopted) == adopted);
                own.filter_map(|a| of(&a.service.limits)).map(|bytes| bytes.0).sum()
            };
            let mut of_stacks = 0;
            for stack in STACKS_OF {
                let unit = slice(&stack.parse().unwrap());
                prop_assert!(min(&unit) >= sum(Some(stack), false, |l| l.memory_min));
                prop_assert_eq!(low(&unit), sum(Some(stack), false, |l| l.memory_low));
                of_stacks += min(&unit);
            }
            prop_assert_eq!(min(STACKS), of_stacks);
            prop_assert_eq!(min(MACHINES), of_stacks + sum(None, true, |l| l.memory_min));
            prop_assert_eq!(low(MACHINES), low(STACKS) + sum(None, true, |l| l.memory_low));
            prop_assert!(are_right(&done(&slices), &slices));
        }
    }
}
