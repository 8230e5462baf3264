//! `cargo xtask demo`: a homelab on a real systemd, from `up` to `down`, with the agent killed in between.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nixmox_testbed::{HOMELAB_DIR, LAN_HOST_ADDRESS, Options, Testbed};

/// Port on which the stack publishes its page.
const PORT: u16 = 8280;
/// Longest time from `up` to the last service being healthy.
const UP_LIMIT: Duration = Duration::from_mins(3);
/// Longest time until a killed agent answers again.
const AGENT_LIMIT: Duration = Duration::from_secs(15);

/// Shows everything and fails at the first thing that is not as promised.
pub(crate) fn run() -> Result<ExitCode> {
    let begin = Instant::now();
    let bed = Testbed::boot(&Options::new("demo"))?;
    bed.install_homelab()?;
    bed.add_lan()?;
    say(begin, "a host is booted: systemd as PID 1, machined, nftables, Nix; the homelab lies in /srv/homelab");

    show(&bed, begin, "nixmoxctl up", UP_LIMIT)?;
    fetch_page(&bed, begin)?;
    show(&bed, begin, "nixmoxctl status", AGENT_LIMIT)?;
    kill_agent(&bed, begin)?;
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::env::var_os("CI").is_none() {
        println!("\nA shell on the host; try `nixmoxctl status`, `machinectl`, `journalctl -f`. Ctrl-D goes on.");
        bed.interactive(&["bash", "-c", &format!("cd {HOMELAB_DIR} && exec bash -i")])?;
    }
    show(&bed, begin, "nixmoxctl down", UP_LIMIT)?;
    let running = containers(&bed)?;
    ensure!(running.is_empty(), "containers still run after `down`: {running:?}");
    say(begin, "all containers are stopped; the data stays in /srv");
    Ok(ExitCode::SUCCESS)
}

/// Fetches Miniflux's login page through Caddy: on the host, on its address, and from another machine of the network.
fn fetch_page(bed: &Testbed, begin: Instant) -> Result<()> {
    for host in ["127.0.0.1", LAN_HOST_ADDRESS] {
        let page = bed.exec(&["curl", "-sSfL", "--max-time", "10", &format!("http://{host}:{PORT}/")])?;
        ensure_page(host, &page.stdout, &page.to_string())?;
    }
    let page =
        bed.exec_from_lan(&["curl", "-sSfL", "--max-time", "10", &format!("http://{LAN_HOST_ADDRESS}:{PORT}/")])?;
    ensure_page("the local network", &page.stdout, &page.to_string())?;
    let title = page.stdout.lines().find(|line| line.contains("<title>")).unwrap_or_default().trim();
    say(begin, &format!("http://localhost:{PORT}/ -> {title}, also from another machine of the network"));
    Ok(())
}

fn ensure_page(from: &str, body: &str, whole: &str) -> Result<()> {
    ensure!(body.contains("Miniflux") && body.contains("password"), "no login page of Miniflux at {from}: {whole}");
    Ok(())
}

/// Kills the agent and shows that it comes back and that no container was touched.
fn kill_agent(bed: &Testbed, begin: Instant) -> Result<()> {
    let before = containers(bed)?;
    ensure!(!before.is_empty(), "no container runs");
    let pid = agent_pid(bed)?;
    say(begin, &format!("kill -9 {pid}  # the agent"));
    bed.succeed(&format!("kill -9 {pid}"))?;
    bed.wait_until(
        &format!("test \"$(systemctl show -P MainPID nixmox-agent)\" -gt 0 && test \"$(systemctl show -P MainPID nixmox-agent)\" != {pid} && cd {HOMELAB_DIR} && nixmoxctl status"),
        AGENT_LIMIT,
    )
    .context("the agent did not come back")?;
    let after = containers(bed)?;
    ensure!(before == after, "containers changed with the agent's death: {before:?} became {after:?}");
    for (unit, invocation) in &after {
        println!("  {unit:<32} {invocation}  same invocation");
    }
    say(begin, &format!("the agent is back as PID {}; no container noticed", agent_pid(bed)?));
    Ok(())
}

fn agent_pid(bed: &Testbed) -> Result<String> {
    bed.succeed("systemctl show -P MainPID nixmox-agent")
}

/// Running containers' units with their invocation IDs.
fn containers(bed: &Testbed) -> Result<BTreeMap<String, String>> {
    let units = bed
        .succeed("systemctl list-units --state=active --plain --no-legend 'container@*.service' | cut -d' ' -f1")?;
    units
        .lines()
        .map(|unit| Ok((unit.to_owned(), bed.succeed(&format!("systemctl show -P InvocationID {unit}"))?)))
        .collect()
}

/// Runs a command of ours in the stack's folder on the caller's terminal.
fn show(bed: &Testbed, begin: Instant, command: &str, limit: Duration) -> Result<()> {
    say(begin, &format!("$ {command}"));
    let seconds = limit.as_secs();
    let script = format!("cd {HOMELAB_DIR} && exec timeout --foreground {seconds} {command}");
    let code = bed.interactive(&["bash", "-c", &script])?;
    ensure!(
        code == 0,
        "`{command}` ended with exit status {code}; journal of the agent:\n{}",
        bed.journal(&["-u", "nixmox-agent", "-n", "40"])?
    );
    Ok(())
}

fn say(begin: Instant, text: &str) {
    println!("[{:5.1} s] {text}", begin.elapsed().as_secs_f32());
}
