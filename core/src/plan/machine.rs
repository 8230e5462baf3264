//! What of limits has no effect on this machine, or promises more than it has: said at plan time.
//!
//! Owns the texts. Nothing is refused for them: a stack may be declared on a machine that is to grow.

use std::collections::BTreeSet;

use crate::model::{Bytes, ContainerName, Desired, Facts, Limits, Protection, Reason, StackName, Subject, System};
use crate::slice;

/// Names that one text lists; the rest is counted.
const NAMES_MAX: usize = 3;

/// Returns what a person should know of the limits in this plan, what is about the machine as a whole first.
///
/// `concerned` are the services that are asked about: what has no effect is said of them and their stacks alone.
/// Over-commitment is about everything that is to run.
#[must_use]
pub fn machine_warnings(
    desired: &Desired,
    concerned: &BTreeSet<ContainerName>,
    facts: &Facts,
) -> Vec<(Subject, String)> {
    let owners = owners(desired, concerned);
    let host = [
        over_committed(desired, facts),
        over_protected(desired, facts),
        without_controller(&owners, facts),
        without_weights(&owners, facts),
        not_into_guests(&owners, facts),
        without_swap(&owners, facts),
        without_zswap(&owners, facts),
    ];
    let mut warnings: Vec<_> = host.into_iter().flatten().map(|text| (Subject::Host, text)).collect();
    for owner in &owners {
        let texts = missing_cpus(owner, facts).into_iter().chain(without_device(owner, facts));
        warnings.extend(texts.map(|text| match owner.service {
            Some(name) => (Subject::Service(name.clone()), text),
            None => (Subject::Host, format!("stack {}: {text}", owner.stack)),
        }));
    }
    warnings
}

/// Limits, and whose they are.
struct Owner<'a> {
    stack: &'a StackName,
    /// `None`: the stack's own.
    service: Option<&'a ContainerName>,
    limits: &'a Limits,
}

impl Owner<'_> {
    fn name(&self) -> String {
        self.service.map_or_else(|| format!("stack {}", self.stack), ToString::to_string)
    }
}

/// Returns the limits that are asked about: of stacks, then of services.
fn owners<'a>(desired: &'a Desired, concerned: &BTreeSet<ContainerName>) -> Vec<Owner<'a>> {
    let services = desired.services.values().map(|assigned| &assigned.service);
    let services: Vec<_> = services.filter(|service| concerned.contains(&service.name)).collect();
    let stacks: BTreeSet<&StackName> = services.iter().map(|service| &service.stack).collect();
    let budgets = desired.budgets.iter().filter(|(stack, _)| stacks.contains(stack));
    let budgets = budgets.map(|(stack, limits)| Owner { stack, service: None, limits });
    let own = services.into_iter().map(|service| Owner {
        stack: &service.stack,
        service: Some(&service.name),
        limits: &service.limits,
    });
    budgets.chain(own).collect()
}

/// Says that limits allow more memory than there is.
///
/// A stack counts with its budget where that is less than what its services may use together, or some of them have no
/// limit. What has no limit at all is no promise, so it is only mentioned.
fn over_committed(desired: &Desired, facts: &Facts) -> Option<String> {
    let total = facts.memory_total?;
    let mut sums: Vec<(Option<&StackName>, u64, usize)> = Vec::new();
    let running = desired.services.iter().filter(|(name, _)| !desired.holds.contains_key(*name));
    for service in running.map(|(_, assigned)| &assigned.service) {
        // The budget of a stack holds no adopted container: those stay in the slice of their owner's template.
        let stack = Some(&service.stack).filter(|_| service.system != System::Adopted);
        let (max, unlimited) = service.limits.memory_max.map_or((0, 1), |max| (max.0, 0));
        match sums.iter_mut().find(|(other, ..)| *other == stack) {
            Some((_, sum, without)) => (*sum, *without) = (sum.saturating_add(max), *without + unlimited),
            None => sums.push((stack, max, unlimited)),
        }
    }
    let (mut sum, mut unlimited) = (0_u64, 0);
    for (stack, of_services, without) in sums {
        let budget = desired.budgets.iter().find(|(name, _)| Some(name) == stack);
        let budget = budget.and_then(|(_, limits)| limits.memory_max);
        let (most, left) = match budget {
            Some(budget) if without > 0 || budget.0 < of_services => (budget.0, 0),
            Some(_) | None => (of_services, without),
        };
        sum = sum.saturating_add(most);
        unlimited += left;
    }
    let more = match unlimited {
        0 => String::new(),
        1 => ", and one service has no limit".to_owned(),
        count => format!(", and {count} services have no limit"),
    };
    (sum > total.0).then(|| {
        format!(
            "the limits allow {} of memory together (`memory_max`), and this machine has {}{more}: when all is used, the \
             kernel kills; lower `memory_max`, or give a stack a budget (`stack.limits`)",
            Bytes(sum).roughly(),
            total.roughly()
        )
    })
}

/// Says that more memory is protected than there is.
fn over_protected(desired: &Desired, facts: &Facts) -> Option<String> {
    let total = facts.memory_total?;
    let slices = slice::slices(desired, Protection::default());
    let sum = slices.get(slice::MACHINES)?.memory_min?;
    (sum > total).then(|| {
        format!(
            "{} of memory is never to be reclaimed (`memory_min`), and this machine has {}: the kernel will kill instead \
             of reclaiming, the host's own services too; lower `memory_min`, or write `memory_low`",
            sum.roughly(),
            total.roughly()
        )
    })
}

/// Says once for all which limits are only written down, since the kernel has no controller for them here.
fn without_controller(owners: &[Owner<'_>], facts: &Facts) -> Option<String> {
    let (mut missing, mut keys): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for owner in owners {
        for (key, controller) in set(owner.limits).filter(|(_, controller)| !has(facts, controller)) {
            for (word, words) in [(controller, &mut missing), (key, &mut keys)] {
                let word = format!("`{word}`");
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
    }
    let have = if keys.len() == 1 { "has" } else { "have" };
    (!keys.is_empty()).then(|| {
        format!(
            "{} {have} no effect here: this machine's cgroups have no controller {} (/sys/fs/cgroup/cgroup.controllers); \
             see what its kernel is started with (`cgroup_disable=`), or what holds it",
            keys.join(", "),
            missing.join(", ")
        )
    })
}

/// Says that no disk shares its time by weights.
fn without_weights(owners: &[Owner<'_>], facts: &Facts) -> Option<String> {
    let without = facts.io_weights == Some(false) && has(facts, "io");
    let by = names(owners, |limits| limits.io_weight.is_some()).filter(|_| without)?;
    Some(format!(
        "`io_weight` of {by} has no effect: no disk's scheduler knows weights; `echo bfq > \
         /sys/block/DISK/queue/scheduler` takes one that does"
    ))
}

/// Says that protection ends at the border of a guest.
fn not_into_guests(owners: &[Owner<'_>], facts: &Facts) -> Option<String> {
    let without = facts.recursive_protection == Some(false) && has(facts, "memory");
    let by = names(owners, |limits| limits.memory_min.is_some() || limits.memory_low.is_some());
    let by = by.filter(|_| without)?;
    Some(format!(
        "`memory_min` and `memory_low` of {by} do not reach the services in a guest: mount /sys/fs/cgroup with \
         `memory_recursiveprot`, as systemd does it"
    ))
}

/// Says that there is no swap to be limited; none at all is what `0` asks for.
fn without_swap(owners: &[Owner<'_>], facts: &Facts) -> Option<String> {
    let without = facts.swap_total == Some(Bytes(0)) && has(facts, "memory");
    let by = names(owners, |limits| limits.memory_swap_max.is_some_and(|max| max.0 > 0)).filter(|_| without)?;
    Some(format!("`memory_swap_max` of {by} has no effect: this machine has no swap (`swapon --show`)"))
}

/// Says that nothing is compressed on its way to swap.
fn without_zswap(owners: &[Owner<'_>], facts: &Facts) -> Option<String> {
    let without = facts.zswap == Some(false) && has(facts, "memory");
    let by = names(owners, |limits| limits.memory_zswap_max.is_some_and(|max| max.0 > 0)).filter(|_| without)?;
    Some(format!(
        "`memory_zswap_max` of {by} has no effect: this kernel uses no zswap; `echo Y > \
         /sys/module/zswap/parameters/enabled` where it has one"
    ))
}

/// Says which CPUs this machine does not have.
fn missing_cpus(owner: &Owner<'_>, facts: &Facts) -> Option<String> {
    let cpus = facts.cpus.as_ref().filter(|_| has(facts, "cpuset"))?;
    let missing = owner.limits.allowed_cpus.iter().filter(|cpu| !cpus.contains(cpu));
    let missing: Vec<String> = missing.map(u16::to_string).collect();
    (!missing.is_empty()).then(|| {
        let all = if missing.len() == owner.limits.allowed_cpus.len() { ", so it may run on any" } else { "" };
        let there = cpus.len();
        format!(
            "`allowed_cpus` names CPUs that this machine does not have: {}; it has {there}{all}",
            missing.join(", ")
        )
    })
}

/// Says under which paths no disk lies.
fn without_device(owner: &Owner<'_>, facts: &Facts) -> Vec<String> {
    if !has(facts, "io") {
        return Vec::new();
    }
    let Limits { io_read_bandwidth_max, io_write_bandwidth_max, .. } = owner.limits;
    let mut texts = Vec::new();
    for (key, rates) in
        [("io_read_bandwidth_max", io_read_bandwidth_max), ("io_write_bandwidth_max", io_write_bandwidth_max)]
    {
        for limit in rates.iter().filter(|limit| facts.without_device.contains(&limit.path)) {
            let path = limit.path.display();
            texts.push(format!(
                "`{key}` of {path} has no effect: no block device lies under it; name the disk (`findmnt --target {path}`)"
            ));
        }
    }
    texts
}

/// Returns whether the kernel has a controller; what is not known is taken to be there.
fn has(facts: &Facts, controller: &str) -> bool {
    let known = facts.controllers.as_ref();
    known.is_none_or(|known| known.split_ascii_whitespace().any(|name| name == controller))
}

/// Returns the keys that are set, each with its controller.
fn set(limits: &Limits) -> impl Iterator<Item = (&'static str, &'static str)> {
    // Each is one that differs from no limits at all.
    let differences = super::limit_differences(limits, &Limits::default()).into_iter();
    differences.filter_map(|reason| match reason {
        Reason::Limit { key, .. } => Some((key, controller(key))),
        _ => None,
    })
}

/// Returns the controller that enforces a limit (kernel, admin-guide/cgroup-v2).
fn controller(key: &str) -> &'static str {
    match key.split_once('_').map_or(key, |(first, _)| first) {
        "memory" => "memory",
        "cpu" => "cpu",
        "allowed" => "cpuset",
        "tasks" => "pids",
        _ => "io",
    }
}

/// Returns whose limits are meant, in one line; `None`: nobody's.
fn names(owners: &[Owner<'_>], is_meant: impl Fn(&Limits) -> bool) -> Option<String> {
    let names: Vec<String> = owners.iter().filter(|owner| is_meant(owner.limits)).map(Owner::name).collect();
    let listed = names.get(..NAMES_MAX).unwrap_or(&names).join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 if names.is_empty() => None,
        0 => Some(listed),
        more => Some(format!("{listed} and {more} more")),
    }
}

#[cfg(test)]
mod tests;
