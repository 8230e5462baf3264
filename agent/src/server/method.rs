//! The methods, and the role that each needs: the one table of who may do what.

use super::Role;

/// A method of the agent's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    GetInfo,
    GetInterfaceDescription,
    Status,
    Usage,
    Watch,
    Logs,
    Events,
    Stacks,
    Paths,
    Generations,
    Diff,
    Plan,
    Gpus,
    GpuFit,
    Offloads,
    OffloadModel,
    GpuDoctor,
    Apply,
    Down,
    Rollback,
    Start,
    Stop,
    Restart,
    RemoveData,
    Exec,
    Copy,
}

use Role::{Observer, Operator};

/// Every method with its full name and the role that it needs; `None`: anybody may call it.
const METHODS: [(Method, &str, Option<Role>); 26] = [
    (Method::GetInfo, "org.varlink.service.GetInfo", None),
    (Method::GetInterfaceDescription, "org.varlink.service.GetInterfaceDescription", None),
    (Method::Status, "io.nixmox.Agent.Status", Some(Observer)),
    (Method::Usage, "io.nixmox.Agent.Usage", Some(Observer)),
    (Method::Watch, "io.nixmox.Agent.Watch", Some(Observer)),
    (Method::Logs, "io.nixmox.Agent.Logs", Some(Observer)),
    (Method::Events, "io.nixmox.Agent.Events", Some(Observer)),
    (Method::Stacks, "io.nixmox.Agent.Stacks", Some(Observer)),
    (Method::Paths, "io.nixmox.Agent.Paths", Some(Observer)),
    (Method::Generations, "io.nixmox.Agent.Generations", Some(Observer)),
    (Method::Diff, "io.nixmox.Agent.Diff", Some(Observer)),
    (Method::Plan, "io.nixmox.Agent.Plan", Some(Observer)),
    (Method::Gpus, "io.nixmox.Agent.Gpus", Some(Observer)),
    (Method::GpuFit, "io.nixmox.Agent.GpuFit", Some(Observer)),
    (Method::GpuDoctor, "io.nixmox.Agent.GpuDoctor", Some(Observer)),
    (Method::Offloads, "io.nixmox.Agent.Offloads", Some(Observer)),
    (Method::OffloadModel, "io.nixmox.Agent.OffloadModel", Some(Observer)),
    (Method::Apply, "io.nixmox.Agent.Apply", Some(Operator)),
    (Method::Down, "io.nixmox.Agent.Down", Some(Operator)),
    (Method::Rollback, "io.nixmox.Agent.Rollback", Some(Operator)),
    (Method::Start, "io.nixmox.Agent.Start", Some(Operator)),
    (Method::Stop, "io.nixmox.Agent.Stop", Some(Operator)),
    (Method::Restart, "io.nixmox.Agent.Restart", Some(Operator)),
    (Method::RemoveData, "io.nixmox.Agent.RemoveData", Some(Operator)),
    (Method::Exec, "io.nixmox.Agent.Exec", Some(Operator)),
    (Method::Copy, "io.nixmox.Agent.Copy", Some(Operator)),
];

impl Method {
    /// Returns the method of this name, with the name as a constant and the role that it needs.
    pub(super) fn find(name: &str) -> Option<(Self, &'static str, Option<Role>)> {
        METHODS.iter().copied().find(|(_, known, _)| *known == name)
    }

    /// Returns whether it answers with more than one reply, so that a call without `more` is a mistake.
    pub(super) fn is_streamed(self) -> bool {
        matches!(self, Self::Watch | Self::Logs | Self::Events | Self::Exec | Self::Copy)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What the interface says of each method's role, by its full name.
    fn described() -> BTreeMap<String, String> {
        let role = |method: &zlink::idl::Method<'_>| {
            let text: Vec<&str> = method.comments().map(zlink::idl::Comment::content).collect();
            let text = text.join(" ");
            let (_, role) = text.split_once("Role: ").unwrap();
            role.split_once('.').unwrap().0.to_owned()
        };
        nixmox_api::DESCRIPTION
            .methods()
            .map(|method| (format!("{}.{}", nixmox_api::INTERFACE, method.name()), role(method)))
            .collect()
    }

    #[test]
    fn the_table_and_the_description_agree() {
        let table: BTreeMap<String, String> = METHODS
            .iter()
            .filter_map(|(_, name, role)| Some(((*name).to_owned(), (*role)?.word().to_owned())))
            .collect();
        assert_eq!(table, described());
    }

    #[test]
    fn only_the_standard_interface_needs_no_role() {
        let open: Vec<&str> =
            METHODS.iter().filter(|(.., role)| role.is_none()).map(|(_, name, _)| *name).collect();
        assert!(open.iter().all(|name| name.starts_with("org.varlink.service.")), "{open:?}");
    }
}
