//! The systems of services: what needs no nix is looked up, the rest is evaluated, and built at once.

use std::collections::{BTreeMap, BTreeSet};

use nixmox_core::manifest::{Declared, SystemRef};
use nixmox_core::model::{ContainerName, Service, StorePath};

use super::closure;
use super::error::BuildError;
use super::evaluate::{Evaluated, Source, Told, evaluate};
use super::options::NixOptions;
use super::roots::Roots;
use super::run::{Call, Nix, words};
use crate::context::{Context, block_on};
use crate::error::CtlError;

/// How far systems are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// They are built.
    Built,
    /// It is known what they will be; they may not be there.
    Evaluated,
}

/// Services with their systems.
#[derive(Debug)]
pub(crate) struct Systems {
    /// Every service, in the order in which they were declared.
    pub(crate) services: Vec<Service>,
    /// Those whose system is not in the store.
    pub(crate) unbuilt: BTreeSet<ContainerName>,
    /// What keeps the systems from the garbage collector; `None`: nothing was made by nix.
    pub(crate) roots: Option<Roots>,
}

/// Returns every service with its system's store path, in order. What nix does is shown on stderr.
pub(crate) fn build(
    context: &mut Context,
    declared: &[Declared],
    options: &NixOptions,
    extent: Extent,
) -> Result<Systems, CtlError> {
    // Faults that need no nix are told before it is run.
    let known: Vec<Option<Service>> = declared.iter().map(without_nix).collect::<Result<_, _>>()?;
    let sources: Vec<Option<Source>> = declared.iter().map(Source::of).collect();
    let mut wanted: Vec<&Source> = Vec::new();
    for source in sources.iter().flatten() {
        if !wanted.contains(&source) {
            wanted.push(source);
        }
    }
    if wanted.is_empty() {
        return Ok(Systems {
            services: known.into_iter().flatten().collect(),
            unbuilt: BTreeSet::new(),
            roots: None,
        });
    }
    let mut nix = Nix::new(context, options);
    let Made { paths, missing, roots } = block_on(async { Ok(make(&mut nix, &wanted, extent).await?) })?;
    let service = |((declared, known), source): ((&Declared, Option<Service>), &Option<Source>)| match source {
        Some(source) => Some(declared.with_system(paths.get(source)?.clone())),
        None => known,
    };
    let services = declared.iter().zip(known).zip(&sources).filter_map(service).collect();
    let is_missing = |source: &Source| paths.get(source).is_some_and(|path| missing.contains(path));
    let unbuilt = declared.iter().zip(&sources).filter(|(_, source)| source.as_ref().is_some_and(is_missing));
    let unbuilt = unbuilt.map(|(declared, _)| declared.service.name.clone()).collect();
    Ok(Systems { services, unbuilt, roots })
}

/// What nix made.
struct Made<'a> {
    paths: BTreeMap<&'a Source, StorePath>,
    missing: BTreeSet<StorePath>,
    roots: Option<Roots>,
}

async fn make<'a>(nix: &mut Nix<'_>, wanted: &[&'a Source], extent: Extent) -> Result<Made<'a>, BuildError> {
    let evaluated = evaluate(nix, wanted).await?;
    let about: Vec<String> = wanted.iter().map(|source| source.written()).collect();
    if extent == Extent::Built && !nix.options.no_build {
        let roots = make_roots()?;
        let paths = build_all(nix, &evaluated, &about, &roots).await?;
        return Ok(Made { paths, missing: BTreeSet::new(), roots: Some(roots) });
    }
    let path = |(source, evaluated): (&&'a Source, &Evaluated)| match &evaluated.path {
        Some(path) => Ok((*source, path.clone())),
        None => Err(BuildError::Unknown { installable: source.written() }),
    };
    let paths: BTreeMap<&Source, StorePath> = evaluated.iter().map(path).collect::<Result<_, _>>()?;
    let missing = closure::missing(&nix.context.machine, paths.values().collect());
    if !nix.options.no_build {
        return Ok(Made { paths, missing, roots: None });
    }
    let lacking = wanted.iter().filter(|source| paths.get(**source).is_some_and(|path| missing.contains(path)));
    let lacking: Vec<String> = lacking.map(|source| source.written()).collect();
    if !lacking.is_empty() {
        return Err(BuildError::NotBuilt { installables: lacking });
    }
    let roots = make_roots()?;
    // Paths alone, without what they are built from: nothing is done but to keep them.
    let kept: BTreeSet<&str> = paths.values().map(StorePath::as_str).collect();
    realise(nix, kept.into_iter(), &about, &roots).await?;
    Ok(Made { paths, missing, roots: Some(roots) })
}

/// Builds all at once.
async fn build_all<'a>(
    nix: &mut Nix<'_>,
    evaluated: &BTreeMap<&'a Source, Evaluated>,
    about: &[String],
    roots: &Roots,
) -> Result<BTreeMap<&'a Source, StorePath>, BuildError> {
    let derivations: BTreeSet<String> =
        evaluated.values().map(|evaluated| format!("{}^{}", evaluated.derivation, evaluated.output)).collect();
    let installables = derivations.iter().map(String::as_str);
    let answer = realise(nix, installables, about, roots).await;
    let answer = answer.map_err(|error| {
        error.with_hidden(&nix.context.machine, evaluated.keys().filter_map(|source| source.flake()))
    })?;
    let told: Vec<Told> =
        serde_json::from_slice(&answer).map_err(|source| BuildError::Answer { command: "build", source })?;
    let path = |(source, wanted): (&&'a Source, &Evaluated)| {
        let mut of_it = told.iter().filter(|told| told.derivation == wanted.derivation);
        let built = of_it.find_map(|told| told.outputs.get(&wanted.output)?.as_ref()?.parse().ok());
        let path = built.or_else(|| wanted.path.clone());
        path.map(|path| (*source, path)).ok_or_else(|| BuildError::NotOnePath { installable: source.written() })
    };
    evaluated.iter().map(path).collect()
}

/// Builds what is not there, and makes roots of all.
async fn realise<'a>(
    nix: &mut Nix<'_>,
    installables: impl Iterator<Item = &'a str>,
    about: &[String],
    roots: &Roots,
) -> Result<Vec<u8>, BuildError> {
    let link = roots.link();
    let options = [words(["--json", "--out-link"]), words([link])];
    let arguments = [options.concat(), words(["--"]), words(installables)].concat();
    let folder = nix.context.folder.clone();
    nix.run(Call { command: "build", doing: "building", arguments, folder: &folder, about }).await
}

fn make_roots() -> Result<Roots, BuildError> {
    let place = Roots::place();
    Roots::make(&place).map_err(|source| BuildError::Roots { place, source })
}

/// Returns a service whose system needs no nix; `None`: it does.
fn without_nix(declared: &Declared) -> Result<Option<Service>, BuildError> {
    if let Some(ready) = declared.ready() {
        return Ok(Some(ready));
    }
    let service = || declared.service.name.to_string();
    match &declared.service.system {
        SystemRef::Link(link) => {
            let target = link.canonicalize().map_err(|source| BuildError::Link {
                service: service(),
                link: link.clone(),
                source,
            })?;
            match target.to_str().and_then(|target| target.parse::<StorePath>().ok()) {
                Some(path) => Ok(Some(declared.with_system(path))),
                None => Err(BuildError::NotInStore { service: service(), link: link.clone(), target }),
            }
        }
        SystemRef::Module(module) => match std::fs::metadata(module) {
            Ok(_) => Ok(None),
            Err(source) => Err(BuildError::Module { service: service(), module: module.clone(), source }),
        },
        SystemRef::Flake { .. } | SystemRef::StorePath(_) | SystemRef::Adopted => Ok(None),
    }
}
