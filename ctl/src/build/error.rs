//! Why a system has no store path.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::flake::Flake;
use super::git::{Hidden, quoted};
use super::log::FailedBuild;
use super::module::{GUEST, NIXPKGS};
use crate::machine::Machine;
use crate::render::Report;

/// Why a system has no store path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A link cannot be followed.
    #[error("cannot follow {link}, the system of {service}", link = link.display())]
    Link {
        /// The service.
        service: String,
        /// The link.
        link: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link leads elsewhere.
    #[error("{link}, the system of {service}, leads to {target}", link = link.display(), target = target.display())]
    NotInStore {
        /// The service.
        service: String,
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A NixOS module cannot be read.
    #[error("cannot read {module}, the system of {service}", module = module.display())]
    Module {
        /// The service.
        service: String,
        /// The module.
        module: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no nixpkgs to evaluate modules with.
    #[error("there is no nixpkgs to build {module} with", module = module.display())]
    NoNixpkgs {
        /// One of the modules.
        module: PathBuf,
    },
    /// There is no nix.
    #[error("there is no nix to build {installables} with", installables = installables.join(", "))]
    NoNix {
        /// What was to be built.
        installables: Vec<String>,
    },
    /// nix cannot be started.
    #[error("cannot run nix")]
    Nix(#[source] io::Error),
    /// nix failed, and has said why on stderr.
    #[error("nix {command} failed: {status}", command = .0.command, status = .0.status)]
    Failed(Box<Failure>),
    /// Somebody stopped it.
    #[error("the build was stopped; nothing was changed on the host")]
    Interrupted,
    /// nix said something that is not understood.
    #[error("nix {command} said something that nixmoxctl does not understand")]
    Answer {
        /// What it was to do.
        command: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// nix built something that is not one store path.
    #[error("{installable} is not one store path")]
    NotOnePath {
        /// What was built.
        installable: String,
    },
    /// Nothing is to be built, and where something will be is not known before it is.
    #[error("where {installable} will be in the store is known once it is built")]
    Unknown {
        /// What is to be built.
        installable: String,
    },
    /// Nothing may be built, and something is not there.
    #[error("not in the store yet: {installables}", installables = installables.join(", "))]
    NotBuilt {
        /// What is missing.
        installables: Vec<String>,
    },
    /// There is no folder for the links that keep what is built.
    #[error("cannot make a folder in {place}", place = place.display())]
    Roots {
        /// Where.
        place: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How nix failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What it was to do.
    pub(crate) command: &'static str,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What was to be built.
    pub(crate) installables: Vec<String>,
    /// The builders that failed.
    pub(crate) builders: Vec<FailedBuild>,
    /// What git kept from it; `None`: nothing that is known.
    pub(crate) hidden: Option<Hidden>,
}

impl BuildError {
    /// Adds to a failure what git kept from nix, of the first of these flakes that it kept something of.
    pub(super) fn with_hidden<'a>(mut self, machine: &Machine, flakes: impl Iterator<Item = &'a Flake>) -> Self {
        if let Self::Failed(failure) = &mut self {
            let mut flakes = flakes;
            failure.hidden = flakes.find_map(|flake| Hidden::find(machine, &flake.folder, &flake.reference));
        }
        self
    }

    /// Returns the complaint.
    pub(crate) fn report(&self, machine: &Machine) -> Report {
        let report = Report::new(self.to_string()).causes(self);
        match self {
            Self::Link { link, .. } => {
                let lost = link.read_link().ok().filter(|target| target.starts_with("/nix/store"));
                let lost = lost.map(
                    |_| "what it leads to is not in the store any more: nix keeps it for a link that stays where it was made",
                );
                report
                    .row("", lost.unwrap_or_default())
                    .row("try", format!("nix build -o {} INSTALLABLE makes it", link.display()))
            }
            Self::NotInStore { .. } => report
                .row("why", "a system is a store path: /nix/store/<hash>-<name>, with its init at the top")
                .row("try", "point `system` to the result of nix build"),
            Self::Module { .. } => report.row("try", "see that the file is there, and that you may read it"),
            Self::NoNixpkgs { .. } => report
                .row("why", "a NixOS module is evaluated with the nixpkgs of this host, and none is known")
                .row("try", "services.nixmox.enable = true in the configuration of the host: it links")
                .row("", format!("{NIXPKGS} to the nixpkgs that the host is made of, and {GUEST}"))
                .row("", "or name one: export NIX_PATH=nixpkgs=/path/to/nixpkgs"),
            Self::NoNix { .. } => match machine.nix() {
                Some(folder) => report
                    .row("why", format!("it is installed in {}, which PATH does not name", folder.display()))
                    .row("try", format!("export PATH={}:$PATH, then the same again", folder.display())),
                None => report
                    .row("why", "systems of a flake are built by whoever runs nixmoxctl, and nix is not installed")
                    .row("try", "install nix: https://nixos.org/download")
                    .row("", "or build elsewhere, and write the path: system = \"/nix/store/...\""),
            },
            Self::Nix(_) => report.row("try", "nix --version, which has to work for you"),
            Self::Failed(failure) => failure.told(report),
            Self::Interrupted => report,
            Self::Answer { .. } => report.row("try", "nix --version; 2.19 or newer is needed"),
            Self::NotOnePath { .. } => report.row("try", "name an output that is one derivation"),
            Self::Unknown { .. } => {
                report.row("why", "its derivation is addressed by its content").row("try", "nixmoxctl plan --build")
            }
            Self::NotBuilt { .. } => report
                .row("why", "--no-build neither builds nor fetches anything")
                .row("try", "nixmoxctl plan --build, or the same without --no-build"),
            Self::Roots { .. } => report
                .row("why", "the links that keep what is built until the agent has it are made there")
                .row("try", "see that you may write there; XDG_RUNTIME_DIR names another folder"),
        }
    }
}

impl Failure {
    /// Returns the complaint with what is to be said of it.
    fn told(&self, report: Report) -> Report {
        let report = self.builders.iter().fold(report.rows("for", &self.installables), |report, failed| {
            let head = match failed.lines.as_slice() {
                [] => failed.name.clone(),
                _ => format!("{}, whose last lines are:", failed.name),
            };
            report.rows("of", [&head].into_iter().chain(&failed.lines))
        });
        let (report, key) = match &self.hidden {
            Some(hidden) if hidden.is_the_cause() => return hidden.told(report),
            Some(hidden) => (hidden.told(report), ""),
            None => (report, "try"),
        };
        match self.builders.as_slice() {
            [failed, ..] => {
                let derivation = quoted(failed.derivation.as_ref());
                report.row(key, format!("all that it said: nix log {derivation}"))
            }
            [] => report.row(key, "see what nix said above"),
        }
    }
}
