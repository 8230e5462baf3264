//! Flags for systemd-nspawn(1) beside ours: the escape hatch, and what must not pass through it.
//!
//! Flags stand between ours on one command line, and `getopt_long` takes abbreviations and separate values. A
//! flag is let through only when it cannot swallow its neighbour or mean another one.

use super::Scope;
use crate::manifest::diagnostic::{Diagnostic, did_you_mean};
use crate::manifest::form::{Located, Misfit};
use crate::manifest::v1;
use crate::manifest::value;

/// What is done with a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It passes, without a value.
    Bare,
    /// It passes, with a value behind `=`.
    Valued,
    /// A key of the manifest says the same.
    Key(&'static str),
    /// The container's unit or the agent depends on it.
    Ours,
}

/// The flags of systemd-nspawn 257 in the order of their names.
const FLAGS: [(&str, Verdict); 73] = {
    use Verdict::{Bare, Key, Ours, Valued};
    [
        ("ambient-capability", Valued),
        ("as-pid2", Ours),
        ("background", Ours),
        ("bind", Key("mounts")),
        ("bind-ro", Key("mounts")),
        ("bind-user", Ours),
        ("bind-user-shell", Ours),
        ("boot", Ours),
        ("capability", Key("capabilities")),
        ("chdir", Ours),
        ("console", Ours),
        ("cpu-affinity", Key("limits.allowed_cpus")),
        ("directory", Ours),
        ("drop-capability", Valued),
        ("ephemeral", Key("ephemeral")),
        ("help", Ours),
        ("hostname", Ours),
        ("image", Ours),
        ("image-policy", Ours),
        ("inaccessible", Valued),
        ("keep-unit", Ours),
        ("kill-signal", Ours),
        ("link-journal", Ours),
        ("load-credential", Key("credentials")),
        ("machine", Ours),
        ("network-bridge", Key("network.bridge")),
        ("network-interface", Valued),
        ("network-ipvlan", Valued),
        ("network-macvlan", Valued),
        ("network-namespace-path", Ours),
        ("network-veth", Key("network.mode")),
        ("network-veth-extra", Valued),
        ("network-zone", Key("network.mode")),
        ("no-new-privileges", Valued),
        ("no-pager", Ours),
        ("notify-ready", Ours),
        ("oci-bundle", Ours),
        ("oom-score-adjust", Valued),
        ("overlay", Valued),
        ("overlay-ro", Valued),
        ("personality", Valued),
        ("pipe", Ours),
        ("pivot-root", Ours),
        ("port", Key("network.ports")),
        ("private-network", Key("network.mode")),
        ("private-users", Key("private_users")),
        ("private-users-chown", Ours),
        ("private-users-ownership", Ours),
        ("property", Key("limits")),
        ("quiet", Bare),
        ("read-only", Bare),
        ("register", Ours),
        ("resolv-conf", Valued),
        ("rlimit", Valued),
        ("root-hash", Ours),
        ("root-hash-sig", Ours),
        ("selinux-apifs-context", Valued),
        ("selinux-context", Valued),
        ("set-credential", Key("credentials")),
        ("setenv", Key("environment")),
        ("settings", Ours),
        ("share-system", Ours),
        ("slice", Ours),
        ("suppress-sync", Valued),
        ("system-call-filter", Valued),
        ("template", Ours),
        ("timezone", Valued),
        ("tmpfs", Key("tmpfs")),
        ("user", Ours),
        ("uuid", Valued),
        ("verity-data", Ours),
        ("version", Ours),
        ("volatile", Key("ephemeral")),
    ]
};

/// Short flags with their long form, for a hint.
const SHORT: [(char, &str); 18] = [
    ('D', "directory"),
    ('E', "setenv"),
    ('L', "selinux-apifs-context"),
    ('M', "machine"),
    ('P', "pipe"),
    ('S', "slice"),
    ('U', "private-users"),
    ('Z', "selinux-context"),
    ('a', "as-pid2"),
    ('b', "boot"),
    ('h', "help"),
    ('i', "image"),
    ('j', "link-journal"),
    ('n', "network-veth"),
    ('p', "port"),
    ('q', "quiet"),
    ('u', "user"),
    ('x', "ephemeral"),
];

/// Returns the flags that pass.
pub(super) fn resolve(scope: &mut Scope<'_>, written: &v1::Service) -> Vec<String> {
    let mut flags = Vec::new();
    for flag in written.nspawn_flags.get().into_iter().flatten() {
        let checked = check(&flag.value);
        if scope.fit(flag, checked).is_some() {
            warn_if_unknown(scope, flag);
            flags.push(flag.value.clone());
        }
    }
    flags
}

fn find(name: &str) -> Option<Verdict> {
    FLAGS.iter().find(|(known, _)| *known == name).map(|(_, verdict)| *verdict)
}

fn check(flag: &str) -> Result<(), Misfit> {
    value::carried(flag)?;
    let Some(long) = flag.strip_prefix("--").filter(|long| long.starts_with(|c: char| c.is_ascii_lowercase()))
    else {
        let short = flag.strip_prefix('-').and_then(|rest| rest.chars().next());
        let long = short.and_then(|short| SHORT.iter().find(|(known, _)| *known == short));
        let misfit = Misfit::new(format!("`{flag}` is not a long flag"));
        return Err(match long {
            Some((_, long)) => match find(long) {
                Some(verdict @ (Verdict::Key(_) | Verdict::Ours)) => misfit.help(refusal(verdict)),
                Some(Verdict::Bare | Verdict::Valued) | None => {
                    misfit.help(format!("write `--{long}`, with `=` before a value"))
                }
            },
            None => misfit.help("write each flag as `--flag` or `--flag=value`"),
        });
    };
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let part = 0..name.len() + 2;
    match find(name) {
        Some(Verdict::Bare) if value.is_some() => {
            Err(Misfit::new(format!("`--{name}` takes no value")).help(format!("write \"--{name}\"")))
        }
        Some(Verdict::Valued) if value.is_none_or(str::is_empty) => {
            Err(Misfit::new(format!("`--{name}` needs a value"))
                .help(format!("write \"--{name}=VALUE\" as one item")))
        }
        Some(Verdict::Bare | Verdict::Valued) => Ok(()),
        Some(verdict @ (Verdict::Key(_) | Verdict::Ours)) => {
            Err(Misfit::new(format!("`--{name}` cannot be set here")).at(part).help(refusal(verdict)))
        }
        None => match FLAGS.iter().find(|(known, _)| known.starts_with(name)) {
            Some((full, _)) => Err(Misfit::new(format!("`--{name}` abbreviates a flag"))
                .at(part)
                .help(format!("write `--{full}`"))),
            None => Ok(()),
        },
    }
}

fn refusal(verdict: Verdict) -> String {
    match verdict {
        Verdict::Key(key) => format!("use `{key}`"),
        Verdict::Ours | Verdict::Bare | Verdict::Valued => {
            "the container's unit sets it, or depends on its default".to_owned()
        }
    }
}

fn warn_if_unknown(scope: &mut Scope<'_>, flag: &Located<String>) {
    let long = flag.value.trim_start_matches('-');
    let name = long.split_once('=').map_or(long, |(name, _)| name);
    if find(name).is_some() {
        return;
    }
    let message = format!("systemd-nspawn 257 has no flag `--{name}`");
    let near =
        did_you_mean(name, FLAGS.iter().map(|(known, _)| *known)).map(|near| format!("did you mean `--{near}`?"));
    let help = near.unwrap_or_else(|| "the container will not start where it is not known".to_owned());
    scope.report(Diagnostic::warning(scope.source, &flag.span, message).help(help));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_passes_only_if_it_can_mean_nothing_else() {
        for passes in ["--rlimit=NOFILE=1", "--quiet", "--suppress-sync=yes", "--new-flag=1"] {
            assert_eq!(check(passes), Ok(()), "{passes}");
        }
        for refused in [
            "",
            "-",
            "--",
            "-b",
            "-x",
            "rlimit",
            "--rlimit",
            "--rlimit=",
            "--quiet=1",
            "--machine=x",
            "--mach=x",
            "--port",
            "--notify-ready=no",
            "--bind=/a:/b",
            "--resolv-conf=a b",
            "---machine=x",
            "--network",
            "NOFILE=1",
        ] {
            assert!(check(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_refused_flag_is_answered_with_its_key() {
        assert_eq!(check("--port=80").unwrap_err().help.as_deref(), Some("use `network.ports`"));
        assert_eq!(check("-E=A=1").unwrap_err().help.as_deref(), Some("use `environment`"));
    }
}
