//! What a container sees of the host's files: mounts, memory file systems, credentials.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Scope;
use crate::manifest::diagnostic::{Diagnostic, Place};
use crate::manifest::form::{Entry, Located, Misfit};
use crate::manifest::source::Span;
use crate::manifest::v1;
use crate::manifest::value;
use crate::model::{Mount, Tmpfs};

/// Longest name of a credential: it is a file name in the guest (`NAME_MAX`).
const CREDENTIAL_LENGTH_MAX: usize = 255;

/// Targets so far, each with its place and what it is of.
#[derive(Default)]
struct Targets(BTreeMap<PathBuf, (Span, &'static str)>);

impl Targets {
    /// Reads a target, and complains if it is there already.
    fn take(&mut self, scope: &mut Scope<'_>, target: &Entry<String>, kind: &'static str) -> Option<PathBuf> {
        let written = target.located()?;
        let path = scope.fit(written, value::container_path(&written.value))?;
        if let Some((first, of)) = self.0.get(&path) {
            let message = format!("`{}` is a target twice: of a {of} and of a {kind}", path.display());
            let message =
                if *of == kind { format!("`{}` is the target of two {kind}s", path.display()) } else { message };
            let first = Place::new(scope.source, first, "first here");
            let error = scope.error(&written.span, message).label("again here");
            scope.report(error.related(first));
            return None;
        }
        self.0.insert(path.clone(), (written.span.clone(), kind));
        Some(path)
    }
}

/// Returns the mounts and memory file systems.
pub(super) fn resolve(scope: &mut Scope<'_>, written: &v1::Service) -> (Vec<Mount>, Vec<Tmpfs>) {
    let mut targets = Targets::default();
    let mut mounts = Vec::new();
    for mount in written.mounts.get().into_iter().flatten().map(|mount| &mount.value) {
        let source = mount.source.located();
        let source = source.and_then(|text| {
            let path = value::host_path(scope.source.folder(), &text.value);
            scope.fit(text, path)
        });
        let target = targets.take(scope, &mount.target, "mount");
        if let (Some(source), Some(target)) = (source, target) {
            mounts.push(Mount {
                source,
                target,
                read_only: mount.read_only.get().copied().unwrap_or(false),
                create: mount.create.get().copied().unwrap_or(false),
                must_be_mountpoint: mount.must_be_mountpoint.get().copied().unwrap_or(false),
            });
        }
    }
    let mut tmpfs = Vec::new();
    for written in written.tmpfs.get().into_iter().flatten().map(|tmpfs| &tmpfs.value) {
        if let Some(size) = written.size.located()
            && size.value.0 == 0
        {
            // tmpfs(5): a size of 0 means no limit at all.
            let error = scope.error(&size.span, "a memory file system of size 0 would have no limit");
            scope.report(error.help("leave the size out for half of the memory"));
        }
        if let Some(target) = targets.take(scope, &written.target, "memory file system") {
            tmpfs.push(Tmpfs { target, size: written.size.get().copied() });
        }
    }
    (mounts, tmpfs)
}

/// Returns the credentials.
pub(super) fn credentials(scope: &mut Scope<'_>, written: &v1::Service) -> BTreeMap<String, PathBuf> {
    let mut credentials = BTreeMap::new();
    for (name, file) in written.credentials.get().iter().flat_map(|map| &map.0) {
        check_name(scope, name);
        let path = value::host_path(scope.source.folder(), &file.value);
        let Some(path) = scope.fit(file, path) else { continue };
        if path.starts_with("/nix/store") {
            let warning =
                Diagnostic::warning(scope.source, &file.span, "everyone on the host can read what is in the store");
            scope.report(warning.help("keep secrets outside of it, for example below /run/secrets"));
        }
        credentials.insert(name.value.clone(), path);
    }
    credentials
}

/// Complains about a name that systemd would not take (`credential_name_valid`: a file name of printable ASCII
/// without `:`), or that the conf file does not carry.
fn check_name(scope: &mut Scope<'_>, name: &Located<String>) {
    let text = name.value.as_str();
    let fault = if text.is_empty() || matches!(text, "." | "..") {
        Some(Misfit::new(format!("`{text}` is not the name of a credential")))
    } else if text.len() > CREDENTIAL_LENGTH_MAX {
        Some(Misfit::new("the name of a credential has at most 255 characters"))
    } else if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || ":/".contains(*c)) {
        Some(Misfit::new(format!("`{}` cannot occur in the name of a credential", c.escape_default())))
    } else {
        value::carried(text).err()
    };
    if let Some(misfit) = fault {
        let error = scope.error(&name.span, misfit.message);
        scope.report(error.help_if(misfit.help));
    }
}
