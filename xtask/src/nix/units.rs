//! The units that the module makes, in front of systemd: whether it takes them, and how exposed it finds them.

use anyhow::{Context as _, Result, ensure};
use nixmox_testbed::NixRoot;

use super::cases::{Good, minimal};
use super::evaluation::Evaluated;

/// Services, each with the exposure that `systemd-analyze security` gives it at most, in tenths. The agent is root and enters
/// guests: docs/security.md says what each opening is for.
const EXPOSURE: [(&str, u32); 2] = [("nixmox-agent.service", 65), ("nixmox-stacks.service", 15)];

/// Has systemd load the units of every case.
pub(super) fn verify(root: &NixRoot, good: &Good) -> Result<()> {
    for (case, evaluated) in good {
        let files = put(root, case, evaluated)?;
        let mut argv = ["systemd-analyze", "verify", "--man=no", "--generators=no"].map(str::to_owned).to_vec();
        argv.extend(files);
        let output = root.run(&argv)?;
        // What it ignores, such as a key that it does not know, is no failure to it.
        let told: Vec<&str> = output.stderr.lines().filter(|line| line.contains("/units/")).collect();
        ensure!(output.success() && told.is_empty(), "{case}: systemd-analyze verify:\n{}", output.stderr);
    }
    Ok(())
}

/// Has systemd weigh the sandboxes.
pub(super) fn security(root: &NixRoot, good: &Good) -> Result<()> {
    let files = put(root, "exposure", minimal(good)?)?;
    let services: Vec<&String> = files.iter().filter(|file| file.ends_with(".service")).collect();
    ensure!(services.len() == EXPOSURE.len(), "services without a limit for their exposure: {services:?}");
    for (service, most) in EXPOSURE {
        let file = services.iter().find(|file| file.ends_with(service));
        let file = file.with_context(|| format!("the module makes no {service}"))?;
        let threshold = format!("--threshold={most}");
        let output =
            root.run(&["systemd-analyze", "security", "--offline=true", "--no-pager", &threshold, file])?;
        let overall = output.stdout.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default();
        ensure!(output.success(), "{service} may have {most} tenths at most: {overall}\n{}", output.stderr);
        println!("{}", overall.trim_start_matches(['→', ' ']));
    }
    Ok(())
}

/// Writes the units of a case and returns where commands find them. Programs are another one that is there: they are not what is
/// looked at.
fn put(root: &NixRoot, case: &str, evaluated: &Evaluated) -> Result<Vec<String>> {
    let units = evaluated.texts.iter().filter_map(|(place, text)| Some((place.strip_prefix("units/")?, text)));
    units
        .map(|(unit, text)| {
            let text: String = text.lines().map(|line| with_a_program(line) + "\n").collect();
            Ok(root.put(&format!("{case}/units/{unit}"), &text)?.display().to_string())
        })
        .collect()
}

fn with_a_program(line: &str) -> String {
    match line.split_once("=/nix/store/") {
        Some((key, command)) if key.starts_with("Exec") => {
            let arguments = command.split_once(' ').map_or("", |(_, arguments)| arguments);
            format!("{key}=/bin/true {arguments}").trim_end().to_owned()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::with_a_program;

    #[test]
    fn a_program_of_the_store_is_replaced_and_its_arguments_stay() {
        let line = "ExecStart=/nix/store/HASH-nixmox/bin/nixmoxctl module up /etc";
        assert_eq!(with_a_program(line), "ExecStart=/bin/true module up /etc");
        assert_eq!(with_a_program("After=a b"), "After=a b");
    }
}
