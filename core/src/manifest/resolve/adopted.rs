//! Containers that are there already: what can stand beside `adopt = true`.

use super::Scope;
use crate::manifest::v1;

/// The keys that need no file of the container rewritten.
const ALLOWED: [&str; 8] = ["adopt", "depends_on", "devices", "gpu", "health", "limits", "offload", "restart"];

/// Complains about each key that would need the container's own files rewritten.
pub(super) fn check(scope: &mut Scope<'_>, written: &v1::Service) {
    for key in written.keys.iter().filter(|key| !ALLOWED.contains(&key.value)) {
        let error = scope.error(&key.span, format!("`{}` cannot be set on an adopted container", key.value));
        scope.report(error.help(match key.value {
            "system" => "leave it out, or leave out `adopt` and let NixMox make the container".to_owned(),
            "kind" => "an adopted container is a service".to_owned(),
            key => format!(
                "its files belong to nixos-container or to the host's configuration: set `{key}` there; \
                 beside `adopt` can stand: depends_on, devices, gpu, health, limits, offload, restart"
            ),
        }));
    }
}
