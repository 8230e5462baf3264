//! What keeps a service from starting beside GPUs: what it depends on, and what stands where it would be.

use std::collections::BTreeSet;

use crate::container;
use crate::model::{
    ActiveState, Assigned, Condition, ConfFile, Container, ContainerName, Desired, Health, Kind, Observed, Spec,
    System,
};

/// What a service waits for beside GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gates {
    /// Whether all of it has come, so that only GPUs can keep it from starting.
    pub ready: bool,
    /// What it depends on, and what that depends on, declared or not; never itself.
    pub needs: BTreeSet<ContainerName>,
}

/// Returns what a service waits for beside GPUs, as it is now. Nothing is ready that nobody has observed yet.
///
/// The plan is stricter: it also asks whether a dependency runs as declared, and restarts it where not. Here that would take
/// the room of a service away for the moment of such a restart.
#[must_use]
pub fn gates(desired: &Desired, observed: Option<&Observed>, name: &ContainerName) -> Gates {
    Gates { ready: observed.is_some_and(|observed| is_ready(desired, observed, name)), needs: needs(desired, name) }
}

fn is_ready(desired: &Desired, observed: &Observed, name: &ContainerName) -> bool {
    let Some(assigned) = desired.services.get(name) else { return false };
    let is_free = observed.containers.get(name).is_none_or(|container| is_free(assigned, container));
    let reached = |(name, condition): (&ContainerName, &Condition)| {
        !desired.holds.contains_key(name)
            && desired
                .services
                .get(name)
                .zip(observed.containers.get(name))
                .is_some_and(|(assigned, container)| has_reached(assigned, container, *condition))
    };
    is_free && assigned.service.depends_on.iter().all(reached)
}

/// Returns whether nothing that is not ours is where the container would be.
fn is_free(assigned: &Assigned, container: &Container) -> bool {
    let is_ours =
        assigned.service.system == System::Adopted || !matches!(container.conf, ConfFile::Foreign | ConfFile::Link);
    is_ours && !container.foreign_machine
}

fn has_reached(assigned: &Assigned, container: &Container, condition: Condition) -> bool {
    let runs = container.active == ActiveState::Active;
    is_completed(assigned, container)
        || match condition {
            Condition::Started => runs,
            Condition::Healthy => runs && container.health == Health::Healthy,
            Condition::Completed => false,
        }
}

/// Returns whether it is a job whose work is done, as it is declared now.
#[must_use]
pub fn is_completed(assigned: &Assigned, container: &Container) -> bool {
    let as_declared = |spec: Option<&Spec>| {
        assigned.service.system == System::Adopted || spec == Some(&container::spec(assigned))
    };
    assigned.service.kind == Kind::Job
        && container.exit.as_ref().is_some_and(|exit| exit.succeeded() && as_declared(exit.spec.as_ref()))
}

fn needs(desired: &Desired, name: &ContainerName) -> BTreeSet<ContainerName> {
    let mut needs = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        let Some(assigned) = desired.services.get(next) else { continue };
        open.extend(assigned.service.depends_on.keys().filter(|dependency| needs.insert((*dependency).clone())));
    }
    // In a circle nothing can start; that is told elsewhere.
    needs.remove(name);
    needs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{assigned, name};
    use crate::model::{ExitRecord, Hold, InvocationId};

    /// `web` needs `db` healthy, `seed` completed and `cache` started, and `db` needs `disk`.
    fn declared() -> Desired {
        let mut desired = Desired::default();
        for (n, text) in (1..).zip(["web", "db", "seed", "cache", "disk"]) {
            desired.services.insert(name(text), assigned(text, n));
        }
        let mut depends = |text: &str, on: &[(&str, Condition)]| {
            let of = |(other, condition): &(&str, Condition)| (name(other), *condition);
            desired.services.get_mut(text).unwrap().service.depends_on = on.iter().map(of).collect();
        };
        depends(
            "web",
            &[("db", Condition::Healthy), ("seed", Condition::Completed), ("cache", Condition::Started)],
        );
        depends("db", &[("disk", Condition::Started)]);
        desired.services.get_mut("seed").unwrap().service.kind = Kind::Job;
        desired
    }

    /// All has come, and `web` is down.
    fn came(desired: &Desired) -> Observed {
        let runs = |health| Container { active: ActiveState::Active, health, ..Container::default() };
        let seed = &desired.services["seed"];
        let mut observed = Observed::default();
        observed.containers.insert(name("db"), runs(Health::Healthy));
        observed.containers.insert(name("cache"), runs(Health::Starting));
        observed.containers.insert(name("seed"), done(Some(container::spec(seed))));
        observed.containers.insert(name("web"), Container::default());
        observed
    }

    fn done(spec: Option<Spec>) -> Container {
        let (result, status) = ("success".to_owned(), "0".to_owned());
        let exit = ExitRecord { invocation: InvocationId(9), spec, result, status, stopped: false, oom_kills: 0 };
        Container { exit: Some(exit), ..Container::default() }
    }

    #[test]
    fn all_that_it_depends_on_is_needed() {
        let mut desired = declared();
        let told = |desired: &Desired, text: &str| -> Vec<String> {
            gates(desired, None, &name(text)).needs.iter().map(ToString::to_string).collect()
        };
        assert_eq!(told(&desired, "web"), ["cache", "db", "disk", "seed"]);
        assert!(told(&desired, "disk").is_empty());
        let disk = &mut desired.services.get_mut("disk").unwrap().service;
        disk.depends_on = [(name("web"), Condition::Started), (name("gone"), Condition::Started)].into();
        assert_eq!(told(&desired, "web"), ["cache", "db", "disk", "gone", "seed"], "and a circle ends");
    }

    type Break = fn(&mut Desired, &mut Observed);

    #[test]
    fn one_that_has_not_come_keeps_it_from_starting() {
        let desired = declared();
        let ready = |desired: &Desired, observed: &Observed| gates(desired, Some(observed), &name("web")).ready;
        assert!(ready(&desired, &came(&desired)), "`disk` is for `db` to wait for");
        assert!(!gates(&desired, None, &name("web")).ready, "nobody has looked");
        let breaks: [(&str, Break); 10] = [
            ("starting", |_, observed| observed.containers.get_mut("db").unwrap().health = Health::Starting),
            ("unhealthy", |_, observed| observed.containers.get_mut("db").unwrap().health = Health::Unhealthy),
            ("failed", |_, observed| observed.containers.get_mut("db").unwrap().active = ActiveState::Failed),
            ("down", |_, observed| observed.containers.get_mut("cache").unwrap().active = ActiveState::Inactive),
            ("unseen", |_, observed| drop(observed.containers.remove("cache"))),
            ("another job", |_, observed| drop(observed.containers.insert(name("seed"), done(None)))),
            ("undeclared", |desired, _| drop(desired.services.remove("cache"))),
            ("held", |desired, _| drop(desired.holds.insert(name("cache"), Hold { by: "root".to_owned(), at: 0 }))),
            ("foreign", |_, observed| observed.containers.get_mut("web").unwrap().conf = ConfFile::Foreign),
            ("taken", |_, observed| observed.containers.get_mut("web").unwrap().foreign_machine = true),
        ];
        for (what, break_it) in breaks {
            let mut desired = desired.clone();
            let mut observed = came(&desired);
            break_it(&mut desired, &mut observed);
            assert!(!ready(&desired, &observed), "{what}");
        }
        let mut adopted = desired.clone();
        adopted.services.get_mut("web").unwrap().service.system = System::Adopted;
        let mut observed = came(&adopted);
        observed.containers.get_mut("web").unwrap().conf = ConfFile::Foreign;
        assert!(ready(&adopted, &observed), "of one that is adopted the conf file is its owner's");
    }
}
