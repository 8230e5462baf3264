//! The agent's child that looks at the GPUs, of a machine that lies in the folder `$PROBE_ROOT`.

use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let root = std::env::var_os("PROBE_ROOT").map(PathBuf::from);
    let root = root.ok_or_else(|| anyhow::anyhow!("$PROBE_ROOT names no folder"))?;
    Ok(nixmox_agent::gpu_probe::run_below(&root)?)
}
