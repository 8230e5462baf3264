//! Whom the host and its guests ask for names: files that are read, and looked at again and again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nixmox_core::model::Servers;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::changes::Changes;
use super::paths::Paths;

/// How often they are looked at. They are not watched: others replace them by links, and those by links to elsewhere, down to
/// folders in which much else happens, such as the store.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Reads the files. One that cannot be read names nobody; a look at it is too often for a word about that.
pub(super) fn read(paths: &Paths) -> Servers {
    Servers { guests: text(&paths.resolv_conf()), ..of_host(paths) }
}

/// Reads those of the host alone.
pub(super) fn of_host(paths: &Paths) -> Servers {
    Servers {
        own: text(&paths.own_resolv_conf()),
        behind_stub: text(&paths.resolv_conf_behind_stub()),
        guests: None,
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Notes each change of those of the host; that of guests lies in a folder that is watched.
pub(super) async fn follow(paths: Paths, changes: Changes, stop: CancellationToken) {
    let mut before = of_host(&paths);
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            () = time::sleep(LOOK_INTERVAL) => {}
        }
        let now = of_host(&paths);
        if now != before {
            before = now;
            changes.note();
        }
    }
}
