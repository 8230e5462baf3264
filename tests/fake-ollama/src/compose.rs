//! The host's side: what NVML tells, made of what guests and others hold, and told to the guests.
//!
//! Three files beside what the stand-in for NVML reads: `gpus`, which is such a state without `used` and `process`; `others`, lines
//! `PID INDEX BYTES` of processes of the host; and `state`, which is made of them. Below the folder of guests' roots each guest has the
//! files of `gpus`. Whatever a process holds is gone with the process, and others get no more than there is: they grow as guests give back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

const PAUSE: Duration = Duration::from_millis(50);

/// Where a guest's files are in its root.
const FOLDER: &str = "var/lib/guest/gpu";

/// What was found and told the last time.
#[derive(Debug, Default)]
pub struct Composed {
    state: String,
    free: BTreeMap<PathBuf, String>,
    pids: BTreeMap<(String, u32), u32>,
}

/// A use of a GPU: a process as the host counts, the GPU's index, bytes.
type Use = (u32, usize, u64);

/// Composes again and again, for ever: `state` in `folder` is what NVML tells, `roots` has the guests' roots.
pub fn compose_for_ever(folder: &Path, roots: &Path) -> ! {
    let mut composed = Composed::default();
    loop {
        compose_once(folder, roots, Path::new("/proc"), &mut composed);
        thread::sleep(PAUSE);
    }
}

/// Composes once; writes only what changed.
pub fn compose_once(folder: &Path, roots: &Path, proc: &Path, composed: &mut Composed) {
    // Without it nothing is known, and nothing is told.
    let Ok(gpus) = fs::read_to_string(folder.join("gpus")) else { return };
    let others = fs::read_to_string(folder.join("others")).unwrap_or_default();
    let is_alive = |used: &Use| proc.join(used.0.to_string()).exists();
    let others: Vec<Use> = others.lines().filter_map(parse).filter(is_alive).collect();
    let mut held: Vec<Use> = Vec::new();
    let mut guests = Vec::new();
    for entry in fs::read_dir(roots).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let files = entry.path().join(FOLDER);
        let Ok(text) = fs::read_to_string(files.join("held")) else { continue };
        let mut lines = text.lines();
        let number = lines.next().unwrap_or_default().to_owned();
        let of_guest = lines
            .filter_map(parse)
            .filter_map(|(pid, gpu, bytes)| Some((composed.host_pid(proc, &name, pid)?, gpu, bytes)));
        held.extend(of_guest);
        guests.push((files, number));
    }
    for (pid, gpu, bytes) in others {
        let (_, free) = describe(&gpus, &held);
        let free = free.lines().nth(gpu).and_then(|line| line.rsplit(' ').next()?.parse().ok());
        held.push((pid, gpu, bytes.min(free.unwrap_or(0))));
    }
    let (told, free) = describe(&gpus, &held);
    if told != composed.state && replace(&folder.join("state"), &told) {
        composed.state = told;
    }
    for (files, number) in guests {
        let text = format!("{number}\n{free}");
        if composed.free.get(&files) != Some(&text) || !files.join("free").exists() {
            replace(&files.join("free"), &text);
            composed.free.insert(files, text);
        }
    }
}

/// Returns what NVML tells, and what guests are told, a line each GPU.
fn describe(gpus: &str, held: &[Use]) -> (String, String) {
    let (mut state, mut rooms) = (String::new(), String::new());
    let mut sections: Vec<Vec<&str>> = vec![Vec::new()];
    for line in gpus.lines() {
        if line.trim() == "gpu" {
            sections.push(Vec::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push(line);
        }
    }
    for (index, section) in sections.iter().enumerate() {
        for line in section {
            let _ = writeln!(state, "{line}");
        }
        let Some(index) = index.checked_sub(1) else { continue };
        let of_gpu = || held.iter().filter(|used| used.1 == index);
        let used: u64 = of_gpu().map(|used| used.2).sum();
        let _ = writeln!(state, " used {used}");
        for (pid, _, bytes) in of_gpu() {
            let _ = writeln!(state, " process compute {pid} {bytes}");
        }
        let key =
            |key: &str| section.iter().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default().trim();
        let (total, reserved) = (size(key("total ")), size(key("reserved ")));
        let free = total.saturating_sub(reserved).saturating_sub(used);
        let _ = writeln!(rooms, "{index} {} {total} {free}", key("minor "));
    }
    (state, rooms)
}

impl Composed {
    /// Returns the id of a guest's process as the host counts; `None`: it has ended.
    fn host_pid(&mut self, proc: &Path, guest: &str, pid: u32) -> Option<u32> {
        let key = (guest.to_owned(), pid);
        if let Some(known) = self.pids.get(&key).copied() {
            if is(proc, known, guest, pid) {
                return Some(known);
            }
            self.pids.remove(&key);
        }
        let entries = fs::read_dir(proc).ok()?.flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let found = ids.into_iter().find(|id| is(proc, *id, guest, pid))?;
        self.pids.insert(key, found);
        Some(found)
    }
}

/// Whether a process of the host is this one of a guest: by its unit, and by what it is in its innermost namespace.
fn is(proc: &Path, id: u32, guest: &str, pid: u32) -> bool {
    let read = |file: &str| fs::read_to_string(proc.join(id.to_string()).join(file)).unwrap_or_default();
    let status = read("status");
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let mut ids = ids.split_ascii_whitespace();
    // One that has ended and that nobody has taken holds nothing.
    let is_dead = status.lines().any(|line| line.starts_with("State:") && line.contains('Z'));
    ids.next().is_some()
        && ids.next_back().and_then(|id| id.parse().ok()) == Some(pid)
        && !is_dead
        && read("cgroup").split('/').any(|part| part.trim_end() == format!("container@{guest}.service"))
}

fn parse(line: &str) -> Option<Use> {
    let mut words = line.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, size(words.next()?)))
}

/// Reads `12G`, `300M` or a number of bytes.
fn size(text: &str) -> u64 {
    let (digits, shift) = match (text.strip_suffix('G'), text.strip_suffix('M')) {
        (Some(digits), _) => (digits, 30),
        (_, Some(digits)) => (digits, 20),
        (None, None) => (text, 0),
    };
    digits.parse::<u64>().map_or(0, |value| value << shift)
}

fn replace(path: &Path, text: &str) -> bool {
    let new = path.with_extension("new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Composed, compose_once};

    const GPUS: &str = "driver 1\ngpu\n minor 229\n total 12G\n reserved 256M\ngpu\n minor 234\n total 12G\n";

    fn process(proc: &Path, id: u32, inside: u32, guest: &str, state: &str) {
        let folder = proc.join(id.to_string());
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join("status"), format!("Name:\tx\nState:\t{state}\nNSpid:\t{id}\t{inside}\n"))
            .expect("written");
        fs::write(folder.join("cgroup"), format!("0::/machine.slice/container@{guest}.service/payload\n"))
            .expect("written");
    }

    #[test]
    fn nvml_tells_what_living_processes_hold_and_guests_hear_what_is_free() {
        let temporary = tempfile::tempdir().expect("made");
        let [folder, roots, proc] = ["run", "roots", "proc"].map(|name| temporary.path().join(name));
        let files = roots.join("ollama/var/lib/guest/gpu");
        for made in [&folder, &files, &proc] {
            fs::create_dir_all(made).expect("made");
        }
        fs::write(folder.join("gpus"), GPUS).expect("written");
        fs::write(folder.join("others"), "77 1 1G\n78 1 1G\n77 0 90G\n").expect("written");
        fs::write(files.join("held"), "5\n12 0 4G\n13 0 1G\n14 0 1G\n").expect("written");
        process(&proc, 400, 12, "ollama", "S (sleeping)");
        process(&proc, 401, 12, "other", "S (sleeping)");
        process(&proc, 402, 13, "ollama", "Z (zombie)");
        process(&proc, 77, 77, "none", "S (sleeping)");
        let mut composed = Composed::default();
        compose_once(&folder, &roots, &proc, &mut composed);
        let gib = 1_u64 << 30;
        let state = fs::read_to_string(folder.join("state")).expect("read");
        assert_eq!(
            state,
            format!(
                "driver 1\ngpu\n minor 229\n total 12G\n reserved 256M\n used {}\n process compute 400 {}\n process compute 77 {}\ngpu\n minor 234\n total 12G\n \
                 used {gib}\n process compute 77 {gib}\n",
                12 * gib - (256 << 20),
                4 * gib,
                8 * gib - (256 << 20)
            )
        );
        let free = fs::read_to_string(files.join("free")).expect("read");
        assert_eq!(free, format!("5\n0 229 {} {}\n1 234 {} {}\n", 12 * gib, 0, 12 * gib, 11 * gib));
        // It ends, and with it what it held.
        fs::remove_dir_all(proc.join("400")).expect("removed");
        compose_once(&folder, &roots, &proc, &mut composed);
        assert!(
            fs::read_to_string(folder.join("state"))
                .expect("read")
                .contains(&format!(" process compute 77 {}\n", 12 * gib - (256 << 20)))
        );
    }
}
