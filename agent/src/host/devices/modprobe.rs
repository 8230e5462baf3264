//! The driver's own program, which loads its modules and makes their nodes: nvidia-modprobe(1).
//!
//! It runs as a unit of its own: to load a module is nothing that the agent's sandbox lets a child do.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::numbers::Nvidia;

/// Where it may lie: as packages install it, and as NixOS does.
const FOLDERS: [&str; 5] =
    ["/run/wrappers/bin", "/run/current-system/sw/bin", "/usr/bin", "/usr/sbin", "/usr/local/bin"];
const PROGRAM: &str = "nvidia-modprobe";
/// How long it may take: to initialise a GPU takes seconds.
const LIMIT: Duration = Duration::from_secs(8);
/// What is added for systemd to end it.
const MARGIN: Duration = Duration::from_secs(1);

/// Returns the arguments of each call that these nodes need; none where none of them is NVIDIA's.
pub(in crate::host) fn calls<'a>(nodes: impl Iterator<Item = &'a Path>) -> Vec<Vec<String>> {
    let (mut of_gpus, mut of_modeset, mut of_uvm) = (Vec::new(), Vec::new(), Vec::new());
    for node in nodes.filter_map(Nvidia::of) {
        match node {
            Nvidia::Gpu(minor) => of_gpus.extend(["-c".to_owned(), minor.to_string()]),
            // Its module is another one, and `-c` with its minor makes a node of a GPU that nobody has.
            Nvidia::Modeset => of_modeset = vec!["-m".to_owned()],
            // Makes both of its nodes.
            Nvidia::Uvm(_) => of_uvm = ["-u", "-c", "0"].map(str::to_owned).into(),
            // Made by their numbers: the program wants the name of a file below /proc instead.
            Nvidia::Capability(_) => {}
        }
    }
    [of_gpus, of_modeset, of_uvm].into_iter().filter(|call| !call.is_empty()).collect()
}

/// Runs it where it is installed. What it does not do, nobody counts on: nodes are looked at afterwards.
pub(in crate::host) async fn run(arguments: &[String]) {
    let Some(program) = FOLDERS.iter().map(|folder| PathBuf::from(folder).join(PROGRAM)).find(|path| path.exists())
    else {
        return;
    };
    let limit = format!("--property=RuntimeMaxSec={}", LIMIT.as_secs());
    let child = Command::new("systemd-run")
        .args(["--quiet", "--wait", "--collect", "--property=KillMode=control-group", &limit, "--"])
        .arg(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(LIMIT + MARGIN, child).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(?arguments, %status, "nvidia-modprobe failed"),
        Ok(Err(error)) => tracing::warn!(%error, "cannot run nvidia-modprobe"),
        Err(_late) => tracing::warn!(?arguments, "nvidia-modprobe did not end in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_is_asked_for_apart() {
        let calls = |nodes: &[&str]| calls(nodes.iter().map(Path::new));
        let nodes =
            ["/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia1", "/dev/nvidiactl", "/dev/dri/renderD128"];
        assert_eq!(calls(&nodes), [vec!["-c", "1", "-c", "255"], vec!["-u", "-c", "0"]]);
        let nodes = ["/dev/nvidia-modeset", "/dev/nvidia1"];
        assert_eq!(calls(&nodes), [vec!["-c", "1"], vec!["-m"]]);
        assert!(calls(&["/dev/kfd", "/dev/nvidia-caps/nvidia-cap1"]).is_empty());
    }
}
