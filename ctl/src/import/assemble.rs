//! From services to the files of a stack: each image is turned into a module, and what then depends on what is settled.

use std::path::{Path, PathBuf};

use super::compose::{self, Condition, Log, Project, Service};
use super::draft::{Draft, Neighbour};
use super::finding::Findings;
use super::secrets::Secrets;
use super::{Import, Source, Written, catalog, manifest, verify};

/// A service with its texts.
pub(super) struct Made {
    /// What it is called, and what it is.
    pub(super) written: Written,
    /// Its manifest.
    pub(super) service_file: String,
    /// Its module.
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

/// Returns what comes of a project.
pub(super) fn assemble(project: Project, source: &Source, mut findings: Findings) -> Import {
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
