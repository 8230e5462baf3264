//! Each warning once, and where none is due.

use super::*;
use crate::model::fixture::{assigned, name};
use crate::model::{Bytes, Hold, IoLimit, Weight};

const GIB: u64 = 1 << 30;

fn machine() -> Facts {
    Facts {
        memory_total: Some(Bytes(8 * GIB)),
        swap_total: Some(Bytes(GIB)),
        zswap: Some(true),
        controllers: Some("memory cpu cpuset io pids\n".to_owned()),
        cpus: Some((0..4).collect()),
        io_weights: Some(true),
        recursive_protection: Some(true),
        without_device: Vec::new(),
    }
}

fn declared(services: &[(&str, Limits)]) -> Desired {
    let service = |(index, (text, limits)): (usize, &(&str, Limits))| {
        let mut assigned = assigned(text, u8::try_from(index).unwrap());
        assigned.service.limits = limits.clone();
        (name(text), assigned)
    };
    Desired { services: services.iter().enumerate().map(service).collect(), ..Desired::default() }
}

fn texts(desired: &Desired, facts: &Facts) -> Vec<String> {
    let all = desired.services.keys().cloned().collect();
    machine_warnings(desired, &all, facts).into_iter().map(|(_, text)| text).collect()
}

fn max(gib: u64) -> Limits {
    Limits { memory_max: Some(Bytes(gib * GIB)), ..Limits::default() }
}

#[test]
fn limits_that_allow_more_than_there_is_are_over_commitment_with_its_numbers() {
    let mut desired = declared(&[("a", max(5)), ("b", max(4)), ("c", Limits::default())]);
    assert_eq!(
        texts(&desired, &machine()),
        [
            "the limits allow 9G of memory together (`memory_max`), and this machine has 8G, and one service has no limit: \
          when all is used, the kernel kills; lower `memory_max`, or give a stack a budget (`stack.limits`)"
        ]
    );
    let facts = Facts { memory_total: Some(Bytes(9 * GIB)), ..machine() };
    assert_eq!(texts(&desired, &facts), [""; 0], "as much as there is");
    assert_eq!(texts(&desired, &Facts::default()), [""; 0], "nothing is known");
    // A budget that is less holds them all, the one without a limit too.
    desired.budgets = vec![("cloud".parse().unwrap(), max(8))];
    assert_eq!(texts(&desired, &machine()), [""; 0]);
    desired.budgets = vec![("cloud".parse().unwrap(), max(17))];
    assert!(
        texts(&desired, &machine())[0]
            .contains("allow 17G of memory together (`memory_max`), and this machine has 8G:")
    );
    // An adopted container is in another slice.
    desired.budgets = vec![("cloud".parse().unwrap(), max(4))];
    desired.services.get_mut(&name("a")).unwrap().service.system = System::Adopted;
    assert!(texts(&desired, &machine())[0].contains("allow 9G"));
    desired.holds.insert(name("a"), Hold { by: "anna".to_owned(), at: 0 });
    assert_eq!(texts(&desired, &machine()), [""; 0], "what is held does not run");
}

#[test]
fn more_protection_than_memory_is_told() {
    let protected = |bytes| Limits { memory_min: Some(Bytes(bytes)), ..Limits::default() };
    let desired = declared(&[("a", protected(5 * GIB)), ("b", protected(7 * GIB / 2))]);
    let text = &texts(&desired, &machine())[0];
    assert!(
        text.starts_with("8.5G of memory is never to be reclaimed (`memory_min`), and this machine has 8G"),
        "{text}"
    );
    assert_eq!(texts(&declared(&[("a", protected(GIB))]), &machine()), [""; 0]);
    let facts = Facts { recursive_protection: Some(false), ..machine() };
    let text = &texts(&declared(&[("a", protected(GIB))]), &facts)[0];
    assert!(text.starts_with("`memory_min` and `memory_low` of a do not reach"), "{text}");
}

#[test]
fn what_no_controller_enforces_is_said_once_for_all() {
    let rate = IoLimit { path: "/srv".into(), bytes_per_second: Bytes(1) };
    let mut limits = Limits {
        tasks_max: Some(7),
        allowed_cpus: vec![70],
        io_weight: Some(Weight::try_from(7).unwrap()),
        ..max(1)
    };
    limits.io_read_bandwidth_max = vec![rate];
    let mut desired = declared(&[("a", limits.clone()), ("b", limits.clone())]);
    desired.budgets =
        vec![("cloud".parse().unwrap(), Limits { cpu_weight: limits.io_weight, ..Limits::default() })];
    let without = Facts {
        controllers: Some("cpu".to_owned()),
        io_weights: Some(false),
        without_device: ["/srv".into()].into(),
        ..machine()
    };
    assert_eq!(
        texts(&desired, &without),
        [
            "`memory_max`, `allowed_cpus`, `tasks_max`, `io_weight`, `io_read_bandwidth_max` have no effect here: this \
          machine's cgroups have no controller `memory`, `cpuset`, `pids`, `io` (/sys/fs/cgroup/cgroup.controllers); see \
          what its kernel is started with (`cgroup_disable=`), or what holds it"
        ]
    );
    assert_eq!(texts(&declared(&[("a", Limits::default())]), &without), [""; 0]);
}

#[test]
fn weights_need_a_scheduler_and_the_text_names_who_has_them() {
    let weighted = Limits { io_weight: Some(Weight::try_from(50).unwrap()), ..Limits::default() };
    let services = ["a", "b", "c", "d", "e"].map(|name| (name, weighted.clone()));
    let facts = Facts { io_weights: Some(false), ..machine() };
    let text = &texts(&declared(&services), &facts)[0];
    assert!(text.starts_with("`io_weight` of a, b, c and 2 more has no effect: no disk's scheduler"), "{text}");
    assert_eq!(texts(&declared(&services), &machine()), [""; 0]);
    // Of what is asked about alone.
    let only = BTreeSet::from([name("e")]);
    let warnings = machine_warnings(&declared(&services), &only, &facts);
    assert!(warnings[0].1.starts_with("`io_weight` of e has"), "{warnings:?}");
    assert_eq!(machine_warnings(&declared(&services), &BTreeSet::new(), &facts), []);
}

#[test]
fn cpus_and_disks_that_are_not_there_are_told_of_whose_limit_it_is() {
    let rate = |path: &str| IoLimit { path: path.into(), bytes_per_second: Bytes(1) };
    let limits = Limits {
        allowed_cpus: vec![3, 8, 9],
        io_write_bandwidth_max: vec![rate("/dev/sda"), rate("/run")],
        ..Limits::default()
    };
    let mut desired = declared(&[("a", limits.clone())]);
    desired.budgets = vec![("cloud".parse().unwrap(), Limits { allowed_cpus: vec![9], ..Limits::default() })];
    let facts = Facts { without_device: ["/run".into()].into(), ..machine() };
    let a = || Subject::Service(name("a"));
    let text = |subject, text: &str| (subject, text.to_owned());
    assert_eq!(
        machine_warnings(&desired, &BTreeSet::from([name("a")]), &facts),
        [
            text(
                Subject::Host,
                "stack cloud: `allowed_cpus` names CPUs that this machine does not have: 9; it has 4, so it may run on any"
            ),
            text(a(), "`allowed_cpus` names CPUs that this machine does not have: 8, 9; it has 4"),
            text(
                a(),
                "`io_write_bandwidth_max` of /run has no effect: no block device lies under it; name the disk (`findmnt --target /run`)"
            ),
        ]
    );
}

#[test]
fn what_limits_swap_that_is_not_there_is_said_of_once() {
    let limits = |bytes| Limits {
        memory_swap_max: Some(Bytes(bytes)),
        memory_zswap_max: Some(Bytes(bytes)),
        ..Limits::default()
    };
    let desired = declared(&[("a", limits(GIB)), ("b", limits(0)), ("c", limits(1))]);
    assert_eq!(texts(&desired, &machine()), [""; 0]);
    let without = Facts { swap_total: Some(Bytes(0)), zswap: Some(false), ..machine() };
    let told = texts(&desired, &without);
    assert!(told[0].starts_with("`memory_swap_max` of a, c has no effect: this machine has no swap"), "{told:?}");
    assert!(told[1].starts_with("`memory_zswap_max` of a, c has no effect"), "{told:?}");
    assert_eq!(told.len(), 2);
}
