//! A Compose file to a stack: what is in it as a manifest and NixOS modules, and what is not as findings.
//!
//! ```text
//! text ─yaml──▶ tree ─interpolate──▶ tree ─compose──▶ Services ─catalog──▶ modules ┐
//!                                                        │                        ├─▶ Import ─write──▶ files
//!                                                        └────manifest──▶ TOML ───┘
//! ```
//!
//! Nothing here asks the agent or nix. Only `write` touches the disk; files that a Compose file names are read through
//! [`Surroundings`]. No secret gets into a file or a message: values of secrets are compared, never shown.

mod catalog;
mod compose;
mod dotenv;
mod draft;
mod finding;
mod image;
mod interpolate;
mod manifest;
mod nix;
mod secret;
mod secrets;
#[cfg(test)]
mod tests;
mod toml;
mod verify;
mod write;
mod yaml;

use std::path::{Path, PathBuf};

use compose::{Condition, Log, Project, Service};
use draft::{Draft, Neighbour};
use finding::Findings;
use interpolate::Variables;
use secrets::Secrets;
use yaml::Fault;

pub(crate) use compose::Surroundings;
pub(crate) use finding::{Finding, SecretFile, Weight};
pub(crate) use write::{WriteError, write};

/// A Compose file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What messages call it.
    pub(crate) name: String,
    /// The folder that its paths are relative to; absolute.
    pub(crate) folder: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

impl Source {
    /// Returns the name of the file without its folder, for the files that are written.
    fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// Why a Compose file cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {what}", file = .file, line = .fault.line, what = .fault.what)]
pub(crate) struct ImportError {
    /// The file, as messages call it.
    file: String,
    fault: Fault,
}

impl ImportError {
    /// Returns what to do; may be empty.
    pub(crate) fn hint(&self) -> &str {
        &self.fault.hint
    }
}

/// What comes of a Compose file.
#[derive(Debug)]
pub(crate) struct Import {
    /// The stack's name.
    pub(crate) stack: String,
    /// The services of the file that are written, in its order.
    pub(crate) services: Vec<Written>,
    /// How many services the file has.
    pub(crate) services_count: usize,
    /// What is to be written: path in the stack's folder, and text. Empty where no service is written.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// What is said about the file, in its order.
    pub(crate) findings: Vec<Finding>,
    /// Files that a person has to put secrets into.
    pub(crate) secrets: Vec<SecretFile>,
    /// Whether folders take the place of volumes, whose content stays where it is.
    pub(crate) has_volumes: bool,
}

/// A service that is written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// What the Compose file calls it.
    pub(crate) compose_name: String,
    /// What the stack calls it.
    pub(crate) name: String,
    /// Its image.
    pub(crate) image: String,
    /// Where the NixOS module's options are.
    pub(crate) option: &'static str,
}

/// A service with its texts.
struct Made {
    written: Written,
    /// Its manifest and its module.
    service_file: String,
    module: String,
}

/// What is known of a service before its manifest can be written.
struct Drafted {
    service: Service,
    option: &'static str,
    probe: Option<compose::Probe>,
    start_period: Option<u64>,
    credentials: Vec<(String, String)>,
    module: String,
}

/// Reads a Compose file and makes a stack of it.
pub(crate) fn compose(source: &Source, surroundings: &Surroundings<'_>) -> Result<Import, ImportError> {
    let error = |fault| ImportError { file: source.name.clone(), fault };
    let env_file = env_file(&source.folder, surroundings)?;
    let lookup = |name: &str| {
        let in_file = || env_file.iter().rev().find(|variable| variable.name == name);
        (surroundings.variable)(name).or_else(|| Some(in_file()?.value.clone()))
    };
    let mut variables = Variables::new(&lookup);
    let nothing = || Fault::new(1, "the file is empty", "a Compose file begins with `services:`");
    let mut root = yaml::parse(&source.text).and_then(|root| root.ok_or_else(nothing)).map_err(error)?;
    variables.put_into(&mut root).map_err(error)?;
    let mut findings = Findings::new(&source.name);
    let project = compose::read(&root, &source.folder, &variables, surroundings, &mut findings).map_err(error)?;
    for (name, line) in variables.unset() {
        let reason = format!("the variable `{name}` is not set, so that nothing stands in its place");
        findings.changed(
            None,
            ("variables", line),
            &reason,
            &format!("set it in the environment or in .env: {name}=..."),
        );
    }
    Ok(made(project, source, findings))
}

/// Returns the variables of `.env` beside the file.
fn env_file(folder: &Path, surroundings: &Surroundings<'_>) -> Result<Vec<dotenv::Variable>, ImportError> {
    match (surroundings.read)(&folder.join(".env")) {
        Ok(text) => dotenv::parse(&text).map_err(|fault| ImportError { file: ".env".to_owned(), fault }),
        // Without one there are no variables; one that cannot be read has none to give either.
        Err(_missing) => Ok(Vec::new()),
    }
}

fn made(project: Project, source: &Source, mut findings: Findings) -> Import {
    let Project { name: stack, services, services_count } = project;
    let mut secrets = Secrets::new(&stack);
    let mut drafted = drafts(services, source, &mut secrets, &mut findings);
    // What the checks of the manifest refuse is left out, and told, until nothing is refused.
    let made = loop {
        let made: Vec<Made> = drafted.iter().map(|one| one.made(&drafted, source)).collect();
        let refused = verify::refused(&stack, &made);
        if refused.is_empty() {
            break made;
        }
        drafted.retain(|one| {
            let name = &one.service.name;
            let Some((_, why)) = refused.iter().find(|(refused, _)| refused == name) else { return true };
            findings.forget(&one.service.compose_name);
            secrets.forget(name);
            let at = ("image", one.service.image_line);
            findings.not_mapped(
                Some(&one.service.compose_name),
                at,
                &format!("its manifest would be refused: {why}"),
                "change it in the Compose file, and import again",
            );
            false
        });
    };
    for one in &drafted {
        one.tell_dependencies(&drafted, &mut findings);
    }
    let services: Vec<Written> = made.iter().map(|made| made.written.clone()).collect();
    let mut files = Vec::new();
    if !made.is_empty() {
        files.push((PathBuf::from("nixmox.toml"), manifest::stack_file(&stack, source.file_name())));
        files.push((PathBuf::from("flake.nix"), manifest::flake(&stack)));
        files.push((PathBuf::from("guest.nix"), manifest::guest()));
    }
    for made in made {
        let folder = Path::new("services").join(&made.written.name);
        files.push((folder.join("service.toml"), made.service_file));
        files.push((folder.join("service.nix"), made.module));
    }
    let has_volumes = drafted.iter().any(|one| one.service.volumes.iter().any(|volume| volume.is_named));
    let secrets = secrets.into_files();
    Import { stack, services, services_count, files, findings: findings.sorted(), secrets, has_volumes }
}

/// Turns images into modules; tells which cannot be.
fn drafts(services: Vec<Service>, source: &Source, secrets: &mut Secrets, findings: &mut Findings) -> Vec<Drafted> {
    // Traefik asks what the others serve, so it comes last.
    let is_last = |service: &Service| catalog::find(&service.image).is_some_and(catalog::Known::reads_labels);
    let has_reader = services.iter().any(is_last);
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    let (last, first): (Vec<Service>, Vec<Service>) = services.into_iter().partition(is_last);
    let mut drafted: Vec<Drafted> = Vec::new();
    let mut neighbours: Vec<Neighbour> = Vec::new();
    for mut service in first.into_iter().chain(last) {
        let name = service.compose_name.clone();
        let mut log = Log { findings, service: &name };
        if let Some((_, _, line)) = service.labels.first()
            && !has_reader
        {
            log.not_mapped("labels", *line, "there is no container engine that reads labels", "");
        }
        let Some(known) = catalog::find(&service.image) else {
            let reason = format!("no NixOS module is known here for the image {}", service.image.text);
            let way_out = format!(
                "write services/{}/service.nix and service.toml as for the others: https://search.nixos.org/options",
                service.name
            );
            log.not_mapped("image", service.image_line, &reason, &way_out);
            continue;
        };
        let (neighbour_name, labels) = (service.name.clone(), service.labels.clone());
        let draft = Draft::new(&mut service, log, secrets, &source.name, &neighbours);
        let ready = draft.write(known);
        neighbours.push(Neighbour { name: neighbour_name, compose_name: name.clone(), port: ready.port, labels });
        drafted.push(Drafted {
            option: known.option,
            probe: ready.probe,
            start_period: ready.start_period,
            credentials: ready.credentials,
            module: ready.module,
            service,
        });
    }
    drafted.sort_by_key(|one| names.iter().position(|name| *name == one.service.name));
    drafted
}

impl Drafted {
    /// Returns the service's texts, where these are the services that are written.
    fn made(&self, all: &[Self], source: &Source) -> Made {
        let mut depends_on = self.service.depends_on.clone();
        depends_on.retain_mut(|dependency| {
            let on = all.iter().find(|one| one.service.compose_name == dependency.on);
            if let Some(on) = on {
                dependency.on = on.service.name.clone();
                // What the catalog writes runs on.
                if dependency.condition == Condition::Completed {
                    dependency.condition = Condition::Started;
                }
            }
            on.is_some()
        });
        let parts = manifest::Parts {
            service: &self.service,
            depends_on,
            probe: self.probe.clone(),
            start_period: self.start_period,
            credentials: &self.credentials,
            file: source.file_name(),
        };
        let written = Written {
            compose_name: self.service.compose_name.clone(),
            name: self.service.name.clone(),
            image: self.service.image.text.clone(),
            option: self.option,
        };
        Made { written, service_file: manifest::service_file(&parts), module: self.module.clone() }
    }

    /// Tells which dependencies are lost or weaker, where these are the services that are written.
    fn tell_dependencies(&self, all: &[Self], findings: &mut Findings) {
        for dependency in &self.service.depends_on {
            let mut log = Log { findings, service: &self.service.compose_name };
            if !all.iter().any(|one| one.service.compose_name == dependency.on) {
                let reason = format!("`{}` is not mapped, so nothing waits for it", dependency.on);
                log.not_mapped(
                    "depends_on",
                    dependency.line,
                    &reason,
                    "add it to depends_on in service.toml once it is a service",
                );
            } else if dependency.condition == Condition::Completed {
                let reason =
                    format!("`{}` runs on as a NixOS service: `started` is what was written", dependency.on);
                log.changed("depends_on", dependency.line, &reason, "a job is a service with kind = \"job\"");
            }
        }
    }
}
