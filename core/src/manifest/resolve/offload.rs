//! What runs models: only where it has a budget of video memory, and only in what runs on.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Scope, health};
use crate::manifest::form::Entry;
use crate::manifest::v1::{self, Time};
use crate::model::{ContainerName, CpuFallback, Engine, Kind, Network, Offload};

/// How long a model may stay loaded that nobody asks.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Offload::IDLE_MAX;

/// Returns what runs models in a service, and what is asked of it.
pub(super) fn resolve(
    scope: &mut Scope<'_>,
    written: &v1::Service,
    kind: Kind,
    (name, network): (&ContainerName, &Network),
) -> Option<Offload> {
    let offload = written.offload.get()?;
    check_budget(scope, written);
    check_url(scope, &offload.url, name, address_of(network));
    if kind == Kind::Job {
        report(scope, written, "a job runs no models", "leave out `kind` or `offload`");
    }
    let mut keep: Vec<String> = Vec::new();
    for model in offload.keep.get().into_iter().flatten() {
        if keep.contains(&model.value.0) {
            let error = scope.error(&model.span, format!("`{}` is here twice", model.value.0));
            scope.report(error.help("what is named first is given up last"));
        } else {
            keep.push(model.value.0.clone());
        }
    }
    // Without it the table was complained about.
    let engine = offload.engine.get().copied().unwrap_or(Engine::Ollama);
    let mut time = |key, entry: &Entry<Time>, range: RangeInclusive<Duration>| {
        entry.get().is_some().then(|| health::time(scope, key, entry, *range.start(), range))
    };
    Some(Offload {
        engine,
        url: offload.url.get().map_or_else(|| engine.default_url().to_owned(), |url| url.0.clone()),
        keep,
        idle_unload: time("idle_unload", &offload.idle_unload, IDLE),
        request_grace: time("request_grace", &offload.request_grace, Duration::ZERO..=Offload::GRACE_MAX),
        context: offload.context.get().map(|context| context.0),
        cpu_fallback: offload.cpu_fallback.get().copied().unwrap_or(CpuFallback::Refuse),
    })
}

fn address_of(network: &Network) -> Option<Ipv4Addr> {
    match network {
        Network::Private { address } => *address,
        Network::Bridge(_) | Network::Host => None,
    }
}

/// Complains where another machine than the container is named: its engine is asked from inside.
fn check_url(
    scope: &mut Scope<'_>,
    written: &Entry<v1::EngineUrl>,
    name: &ContainerName,
    address: Option<Ipv4Addr>,
) {
    let Some(url) = written.located() else { return };
    if !Offload::is_inside(&url.value.0, name.as_str(), address) {
        let error = scope.error(
            &url.span,
            "the URL of an engine names the container itself: it is seen from inside the container",
        );
        scope.report(error.help("write \"http://localhost:PORT\""));
    }
}

/// Complains where nothing says how much video memory it may have.
fn check_budget(scope: &mut Scope<'_>, written: &v1::Service) {
    let has_none = match written.gpu.get() {
        Some(gpu) => gpu.vram.is_absent(),
        None => written.gpu.is_absent(),
    };
    if has_none {
        let help = "`vram` is what its models may take: `gpu = { vram = \"8G\" }`";
        report(scope, written, "`offload` needs `gpu.vram`", help);
    }
}

/// Complains at the key of the table.
fn report(scope: &mut Scope<'_>, written: &v1::Service, message: &str, help: &str) {
    if let Some(key) = written.keys.iter().find(|key| key.value == "offload") {
        let error = scope.error(&key.span, message);
        scope.report(error.help(help));
    }
}
