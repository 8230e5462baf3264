//! A service while its image is turned into a NixOS module: what the catalog takes from the Compose file, and what it
//! writes.
//!
//! Everything that is taken is gone, so that what is left at the end is what nobody had a use for, and is told.

mod settle;

use super::catalog::Known;
use super::compose::{Command, Environment, Log, Probe, Service, Variable};
use super::image::Image;
use super::nix::Nix;
use super::secret;
use super::secrets::Secrets;

/// Where the image keeps something, and where the NixOS module does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The path in the image; what lies below it moves along.
    pub(super) image: String,
    /// The path in the guest.
    pub(super) guest: Guest,
}

/// Where something of the image lies in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// At this path.
    At(String),
    /// Nowhere: why, and what to do.
    Nowhere(&'static str, &'static str),
}

/// What comes of a service's image.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    service: &'a mut Service,
    log: Log<'a>,
    secrets: &'a mut Secrets,
    file: &'a str,
    /// The module.
    pub(super) module: Nix,
    /// Arguments of the module beside `...`.
    arguments: Vec<&'static str>,
    /// Credentials: name and file on the host.
    credentials: Vec<(String, String)>,
    /// Where folders of the image lie in the guest.
    places: Vec<Place>,
    /// Ports of the image that are others in the guest.
    moved_ports: Vec<(u16, u16)>,
    /// How health is asked about where the Compose file does not say it.
    pub(super) probe: Option<Probe>,
    /// TCP and UDP ports that are opened.
    open: (Vec<u16>, Vec<u16>),
    /// How long the first start may take, in milliseconds, where the Compose file does not say it.
    pub(super) start_period: Option<u64>,
    /// The other services of the stack.
    neighbours: &'a [Neighbour],
}

/// What is finished of a draft; the rest is in the service.
#[derive(Debug)]
pub(super) struct Ready {
    /// The text of the module.
    pub(super) module: String,
    /// The first port that it serves.
    pub(super) port: Option<u16>,
    /// How health is asked about where the Compose file does not say it.
    pub(super) probe: Option<Probe>,
    /// How long the first start may take, in milliseconds, where the Compose file does not say it.
    pub(super) start_period: Option<u64>,
    /// Credentials: name and file on the host.
    pub(super) credentials: Vec<(String, String)>,
}

/// Another service of the stack, for images that read the labels of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// What the stack calls it.
    pub(super) name: String,
    /// What the Compose file calls it.
    pub(super) compose_name: String,
    /// The port that it serves.
    pub(super) port: Option<u16>,
    /// Its labels: name, value, line.
    pub(super) labels: Vec<(String, String, usize)>,
}

impl<'a> Draft<'a> {
    /// Returns a draft of which nothing is known but the service.
    pub(super) fn new(
        service: &'a mut Service,
        log: Log<'a>,
        secrets: &'a mut Secrets,
        file: &'a str,
        neighbours: &'a [Neighbour],
    ) -> Self {
        Self {
            service,
            log,
            secrets,
            file,
            module: Nix::Set(Vec::new()),
            arguments: Vec::new(),
            credentials: Vec::new(),
            places: Vec::new(),
            moved_ports: Vec::new(),
            probe: None,
            open: (Vec::new(), Vec::new()),
            start_period: None,
            neighbours,
        }
    }

    /// Returns the image.
    pub(super) fn image(&self) -> &Image {
        &self.service.image
    }

    /// Returns what the stack calls the service.
    pub(super) fn name(&self) -> &str {
        &self.service.name
    }

    /// Returns the paths in the image that something is mounted at.
    pub(super) fn mounted(&self) -> impl Iterator<Item = &str> {
        self.service.volumes.iter().map(|volume| volume.target.as_str())
    }

    /// Returns what a port of the image is published as.
    pub(super) fn published(&self, container: u16) -> Option<u16> {
        self.service.ports.iter().find(|port| port.container == container && !port.is_udp).map(|port| port.host)
    }

    /// Whether a share of GPUs was asked for.
    pub(super) fn has_gpu(&self) -> bool {
        self.service.limits.gpu.is_some()
    }

    /// Whether a render node was asked for.
    pub(super) fn has_render_node(&self) -> bool {
        self.service.devices.iter().any(|device| device.starts_with("/dev/dri"))
    }

    /// Returns the value of a secret, to decide by; it stays where it is.
    pub(super) fn secret_value(&self, name: &str) -> Option<&str> {
        self.service.environment.get(name).map(|variable| variable.value.as_str())
    }

    /// Sets an option, its path parted by dots.
    pub(super) fn set(&mut self, option: &str, value: impl Into<Nix>) {
        let path: Vec<&str> = option.split('.').collect();
        self.module.set(&path, value.into());
    }

    /// Sets an option below another one, under names that may hold anything.
    pub(super) fn set_in(&mut self, option: &str, names: &[&str], value: impl Into<Nix>) {
        let path: Vec<&str> = option.split('.').chain(names.iter().copied()).collect();
        self.module.set(&path, value.into());
    }

    /// Makes the module a function of an argument.
    pub(super) fn needs(&mut self, argument: &'static str) {
        if !self.arguments.contains(&argument) {
            self.arguments.push(argument);
        }
    }

    /// Returns the arguments of the module, in the order that they are usually written in.
    fn arguments(&self) -> Vec<&'static str> {
        ["config", "lib", "pkgs"].into_iter().filter(|argument| self.arguments.contains(argument)).collect()
    }

    /// Returns the other services of the stack.
    pub(super) fn neighbours(&self) -> &'a [Neighbour] {
        self.neighbours
    }

    /// Returns the first port that it serves.
    fn port(&self) -> Option<u16> {
        self.open.0.first().copied()
    }

    /// Opens a TCP port of the guest.
    pub(super) fn listens(&mut self, port: u16) {
        self.open.0.push(port);
    }

    /// Opens a UDP port of the guest.
    pub(super) fn listens_udp(&mut self, port: u16) {
        self.open.1.push(port);
    }

    /// Says that a port of the image is another one in the guest.
    pub(super) fn moves_port(&mut self, image: u16, guest: u16) {
        self.moved_ports.push((image, guest));
    }

    /// Says where a folder of the image lies in the guest.
    pub(super) fn keeps(&mut self, image: &str, guest: &str) {
        self.places.push(Place { image: image.to_owned(), guest: Guest::At(guest.to_owned()) });
    }

    /// Says that a folder of the image means nothing in the guest.
    pub(super) fn has_not(&mut self, image: &str, reason: &'static str, way_out: &'static str) {
        self.places.push(Place { image: image.to_owned(), guest: Guest::Nowhere(reason, way_out) });
    }

    /// Takes a variable that is no secret.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        if self.service.environment.get(name).is_some_and(|variable| variable.is_secret) {
            return None;
        }
        let value = self.service.environment.remove(name).map(|variable| variable.value);
        value.filter(|value| !value.is_empty())
    }

    /// Takes the first of several variables that is there; the others are gone too.
    pub(super) fn take_any(&mut self, names: &[&str]) -> Option<String> {
        let values: Vec<String> = names.iter().filter_map(|name| self.take(name)).collect();
        values.into_iter().next()
    }

    /// Takes variables that mean nothing here, and that nothing is lost with.
    pub(super) fn drops(&mut self, names: &[&str]) {
        for name in names {
            self.service.environment.remove(*name);
        }
    }

    /// Takes every variable that is no secret and whose name is chosen, in the order of names.
    pub(super) fn take_all(&mut self, chosen: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let (taken, left): (Environment, Environment) = std::mem::take(&mut self.service.environment)
            .into_iter()
            .partition(|(name, variable)| !variable.is_secret && chosen(name));
        self.service.environment = left;
        taken.into_iter().map(|(name, variable)| (name, variable.value)).collect()
    }

    /// Returns the names of variables that are chosen.
    pub(super) fn names(&self, chosen: impl Fn(&str) -> bool) -> Vec<String> {
        self.service.environment.keys().filter(|name| chosen(name)).cloned().collect()
    }

    /// Returns the names of secrets that are chosen.
    pub(super) fn secret_names(&self, chosen: impl Fn(&str) -> bool) -> Vec<String> {
        let all = self.service.environment.iter();
        all.filter(|(name, variable)| variable.is_secret && chosen(name)).map(|(name, _)| name.clone()).collect()
    }

    /// Takes the first of several variables that is there, or its `_FILE`, as a secret; returns the credential's name.
    ///
    /// `credential` is what the credential is called, and the file on the host.
    pub(super) fn secret(&mut self, names: &[&str], credential: &str) -> Option<String> {
        for name in names {
            // Some images have one underscore, some two.
            let by_file = ["_FILE", "__FILE"].map(|end| self.service.environment.remove(&format!("{name}{end}")));
            let by_file = by_file.into_iter().flatten().next();
            let file = by_file.as_ref().and_then(|file| self.secret_file(&file.value));
            let value = self.service.environment.remove(*name);
            if let Some(path) = file {
                return Some(self.credential(credential, path));
            }
            if let Some(Variable { value, line, .. }) =
                value.or(by_file).filter(|variable| !variable.value.is_empty())
            {
                let from = format!("{}:{line}", self.file);
                let holds = format!("the value of {name}");
                let path = self.secrets.place(&self.service.name, credential, &value, &holds, &from);
                return Some(self.credential(credential, path));
            }
        }
        None
    }

    /// Takes variables as one secret that is a file of `NAME=value` lines; returns the credential's name.
    pub(super) fn secret_lines(&mut self, names: &[String]) -> Option<String> {
        let mut content = String::new();
        let mut holds = Vec::new();
        let mut line = None;
        for name in names {
            if let Some(variable) = self.service.environment.remove(name) {
                content.extend([name.as_str(), "=", &variable.value, "\n"]);
                holds.push(format!("{name}=..."));
                line.get_or_insert(variable.line);
            }
        }
        self.lines(&content, &holds, line?)
    }

    /// Adds a secret that is a file of these lines.
    pub(super) fn lines(&mut self, content: &str, holds: &[String], line: usize) -> Option<String> {
        let name = format!("{}.env", self.service.name);
        let holds = match holds {
            [] => return None,
            [one] => format!("a line {one}"),
            [..] => format!("the lines {}", holds.join(", ")),
        };
        let from = format!("{}:{line}", self.file);
        let path = self.secrets.place(&self.service.name, &name, content, &holds, &from);
        Some(self.credential(&name, path))
    }

    /// Takes a secret, its value and its line: for those that have to be put together anew.
    pub(super) fn take_secret(&mut self, name: &str) -> Option<(String, usize)> {
        self.service.environment.remove(name).map(|variable| (variable.value, variable.line))
    }

    /// Adds a secret that is made of one of the Compose file's; returns the credential's name.
    pub(super) fn made_secret(&mut self, credential: &str, content: &str, holds: &str, line: usize) -> String {
        let from = format!("{}:{line}", self.file);
        let path = self.secrets.place(&self.service.name, credential, content, holds, &from);
        self.credential(credential, path)
    }

    /// Returns the file of the host behind `/run/secrets/NAME` of the image.
    fn secret_file(&mut self, path: &str) -> Option<String> {
        let name = path.strip_prefix("/run/secrets/")?;
        let at = self.service.secret_files.iter().position(|(target, ..)| target == name)?;
        let (_, file, _) = self.service.secret_files.get(at)?.clone();
        Some(file)
    }

    fn credential(&mut self, name: &str, path: String) -> String {
        if !self.credentials.iter().any(|(known, _)| known == name) {
            self.credentials.push((name.to_owned(), path));
        }
        name.to_owned()
    }

    /// Hands a credential to a unit of the guest, and returns where the unit finds it.
    pub(super) fn load(&mut self, unit: &str, credential: &str) -> String {
        let option = ["systemd", "services", unit, "serviceConfig", "LoadCredential"];
        let mut loaded = match self.module.get(&option) {
            Some(Nix::List(loaded)) => loaded.clone(),
            Some(_) | None => Vec::new(),
        };
        loaded.push(credential.into());
        self.module.set(&option, Nix::List(loaded));
        format!("/run/credentials/{unit}.service/{credential}")
    }

    /// Returns where the guest's systemd finds a credential, for options that it reads itself (`EnvironmentFile=`,
    /// `LoadCredential=`).
    pub(super) fn of_system(credential: &str) -> String {
        format!("/run/credentials/@system/{credential}")
    }

    /// Takes the words of `command`, without the program that the image starts anyway; none where a secret is in them.
    pub(super) fn command(&mut self, programs: &[&str]) -> Vec<String> {
        let holds_secret =
            |command: &Command| command.holds_secret || command.words.iter().any(|word| secret::is_value(word));
        if let Some(command) = self.service.command.take_if(|command| holds_secret(command)) {
            let reason = "an argument holds a secret, so that none of them is written";
            self.log.not_mapped("command", command.line, reason, "credentials in service.toml");
        }
        self.command_with_secrets(programs)
    }

    /// Takes the words of `command` like [`Draft::command`], whatever is in them: the caller tells secrets apart.
    pub(super) fn command_with_secrets(&mut self, programs: &[&str]) -> Vec<String> {
        let Some(Command { mut words, .. }) = self.service.command.take() else { return Vec::new() };
        if words.first().is_some_and(|first| programs.contains(&first.as_str())) {
            words.remove(0);
        }
        words
    }

    /// Returns the line of `command`.
    pub(super) fn command_line(&self) -> usize {
        self.service.command.as_ref().map_or(self.service.image_line, |command| command.line)
    }

    /// Tells that something of the image is not mapped.
    pub(super) fn not_mapped(&mut self, key: &str, line: usize, reason: &str, way_out: &str) {
        self.log.not_mapped(key, line, reason, way_out);
    }

    /// Tells that something of another service is not mapped.
    pub(super) fn not_mapped_of(&mut self, service: &str, key: &str, line: usize, reason: &str, way_out: &str) {
        self.log.findings.not_mapped(Some(service), (key, line), reason, way_out);
    }

    /// Tells that something comes out otherwise than it was.
    pub(super) fn changed(&mut self, reason: &str, way_out: &str) {
        self.log.changed("image", self.service.image_line, reason, way_out);
    }

    /// Writes the module of an image that is known.
    pub(super) fn write(mut self, known: &Known) -> Ready {
        (known.write)(&mut self);
        self.finish(known.option);
        let comment = format!("{}, for image {}.", known.title, self.service.image.text);
        Ready {
            module: self.module.module(&[comment], &self.arguments()),
            port: self.port(),
            probe: self.probe,
            start_period: self.start_period,
            credentials: self.credentials,
        }
    }
}
