//! The reference page of the manifest, `docs/manifest.md`, from the types.

use std::fmt::Write as _;

use super::form::{Absence, Key, Table, prose};
use super::v1::{
    Gpu, Health, Limits, Mount, Network, Offload, Pressure, Restart, Service, Stack, StackFile, Tmpfs,
};

const HEAD: &str = "\
# The manifest

<!-- Made from the types in core/src/manifest/v1, which hold the text. After a change there:
     UPDATE_REFERENCE=1 cargo test -p nixmox-core the_reference_page -->

A stack is described in TOML (version 1.1): the *stack file*, `nixmox.toml`, and any number of *included files*, one
service each. `nixmoxctl check` reads them all and says everything that is wrong with them at once; `nixmoxctl schema`
prints a JSON Schema for a TOML language server.

```toml
# nixmox.toml
format = 1

[stack]
name = \"cloud\"
include = [\"services/*/service.toml\"]

[services.postgres]
system = \".#postgres\"
mounts = [\"/srv/postgres:/var/lib/postgresql\"]
health = { unit = \"postgresql.service\" }
limits = { memory_max = \"2G\" }
```

```toml
# services/caddy/service.toml: the service `caddy`
system = \"./result\"
depends_on = { postgres = \"healthy\" }
network = { ports = [\"80\", \"443\", \"443/udp\"] }
```

Keys that are not on this page are errors. What is written in more than one place:

- **Durations** are whole numbers with the units `d`, `h`, `min`, `s` and `ms`, from large to small: `\"5s\"`, `\"1h30min\"`.
- **Sizes** are numbers with a unit of 1024: `K`, `M`, `G`, `T`, as in systemd: `\"512M\"`, `\"1.5G\"`. A bare number is
  bytes.
- **Paths on the host** are absolute or relative to the file they stand in; neither `~` nor variables are expanded.
- **Paths in the container** are absolute, without `..`.
- Paths, names of credentials and flags reach systemd-nspawn through a file without quoting: blanks, quotes, backslashes
  and `*?[]` cannot occur in them.
- **A change** of a key of a running service costs nothing (*live*) or a *restart* of that service.
";

/// Returns the text of the reference page.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    section::<StackFile>(&mut page, "The stack file", "");
    section::<Stack>(&mut page, "`stack`", "stack.");
    section::<Service>(&mut page, "A service", "");
    section::<Health>(&mut page, "`health`", "health.");
    section::<Pressure>(&mut page, "`health.pressure`", "health.pressure.");
    section::<Limits>(&mut page, "`limits`", "limits.");
    section::<Network>(&mut page, "`network`", "network.");
    section::<Mount>(&mut page, "`mounts`, each item", "mounts.");
    section::<Tmpfs>(&mut page, "`tmpfs`, each item", "tmpfs.");
    section::<Restart>(&mut page, "`restart`", "restart.");
    section::<Gpu>(&mut page, "`gpu`", "gpu.");
    section::<Offload>(&mut page, "`offload`", "offload.");
    page
}

fn section<T: Table>(page: &mut String, title: &str, prefix: &str) {
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {title}\n\n{}\n", prose(T::DOC));
    for key in T::KEYS {
        entry(page, key, prefix);
    }
}

fn entry(page: &mut String, key: &Key, prefix: &str) {
    let absent = match key.absence {
        Absence::Refused => "refused".to_owned(),
        Absence::Default(value) => format!("`{value}`"),
        Absence::Means(words) => words.to_owned(),
    };
    let form = (key.form)();
    let change = key.change.words();
    let _ = write!(page, "\n### `{prefix}{}`\n\n{}\n\n", key.name, prose(key.doc));
    for (word, meaning) in (key.values)() {
        let _ = writeln!(page, "- `\"{word}\"`: {meaning}");
    }
    let _ = write!(page, "- Written as: {form}\n- Without it: {absent}\n- A change: {change}\n");
    let _ = write!(page, "\n```toml\n{}\n```\n", key.example);
}
