//! What the kernel says of a process that it killed for want of memory: its log in, values and a line for people out.
//!
//! Two lines belong together (kernel, `mm/oom_kill.c`). The first names the cgroups and may be left out where there are many;
//! the second tells how much the process held:
//!
//! ```text
//! oom-kill:constraint=C,nodemask=..,cpuset=..,mems_allowed=..,oom_memcg=PATH,task_memcg=PATH,task=COMM,pid=N,uid=U
//! Memory cgroup out of memory: Killed process N (COMM) total-vm:..kB, anon-rss:..kB, file-rss:..kB, shmem-rss:..kB, UID:..
//! ```
//!
//! `COMM` is what the process calls itself, 15 bytes of any kind, and what follows a container's unit in a path is named by its
//! guest. So each value is looked for from the side that no guest can write on.

use crate::model::{Bytes, ContainerName};

/// A process that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomKill {
    /// When the kernel said so, in microseconds since 1970.
    pub at_usec: u64,
    /// The process, as the host numbers it.
    pub pid: u32,
    /// What it called itself: hostile, not cleaned.
    pub process: String,
    /// The memory that it held, in bytes; `None`: the kernel did not say.
    pub resident: Option<u64>,
    /// What was short.
    pub scope: Scope,
}

/// Whose memory was short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The container came to its own limit.
    Own,
    /// A part of the guest came to a limit that is set within the guest.
    Inside,
    /// A slice that the container is in came to its limit; the slice's name.
    Slice(String),
    /// The whole host had none left.
    Host,
}

/// Returns the kills in a container that lines of the kernel's log tell of, oldest first. `lines` are without the time and in order;
/// each with its own, in microseconds since 1970.
pub fn kills<'a>(lines: impl IntoIterator<Item = (u64, &'a str)>, name: &ContainerName) -> Vec<OomKill> {
    let mut found: Vec<OomKill> = Vec::new();
    for (at_usec, line) in lines {
        if let Some(line) = line.strip_prefix("oom-kill:") {
            found.extend(victim(at_usec, line).filter(|(of, _)| of == name).map(|(_, kill)| kill));
        } else if let Some((pid, process, resident)) = killed(line)
            && let Some(kill) = found.last_mut().filter(|kill| kill.pid == pid && kill.resident.is_none())
        {
            (kill.process, kill.resident) = (process.to_owned(), Some(resident));
        }
    }
    found
}

/// Reads the line that names the cgroups.
fn victim(at_usec: u64, line: &str) -> Option<(ContainerName, OomKill)> {
    // No path comes before these, and no cgroup's name has a slash.
    let (own, global) = (line.find(",oom_memcg=/"), line.find(",global_oom,task_memcg=/"));
    let (short, rest) = match (own, global) {
        (Some(own), global) if global.is_none_or(|global| own < global) => {
            let rest = line.get(own + ",oom_memcg=".len()..)?;
            (Some(rest), rest)
        }
        (_, Some(global)) => (None, line.get(global + ",global_oom,task_memcg=".len()..)?),
        (_, None) => return None,
    };
    // From behind: a process or a cgroup may be called anything.
    let (rest, uid) = rest.rsplit_once(",uid=")?;
    let (rest, pid) = rest.rsplit_once(",pid=")?;
    let _: u32 = uid.trim_end().parse().ok()?;
    let (paths, process) = rest.rsplit_once(",task=")?;
    let (name, scope) = match short {
        None => (container(paths)?.0, Scope::Host),
        Some(_) => match container(paths) {
            // The limit of the container or of something in it, so what was killed is in it, too.
            Some((name, before)) if !before.contains(",task_memcg=") => {
                let inside = paths.get(before.len() + name.unit().len()..)?;
                (name, if inside.starts_with(",task_memcg=") { Scope::Own } else { Scope::Inside })
            }
            // That of a slice, whose name is the host's.
            Some((name, before)) => {
                let slice = before.split(",task_memcg=").next()?.rsplit('/').next()?;
                let slice = if slice.is_empty() { "-.slice" } else { slice };
                (name, Scope::Slice(slice.to_owned()))
            }
            None => return None,
        },
    };
    let kill = OomKill { at_usec, pid: pid.parse().ok()?, process: process.to_owned(), resident: None, scope };
    Some((name, kill))
}

/// Returns the first container whose unit is a part of these paths, and what stands before it: that much is named by the host.
fn container(paths: &str) -> Option<(ContainerName, &str)> {
    let mut start = 0;
    for part in paths.split_inclusive(['/', ',']) {
        if let Some(name) = ContainerName::from_unit(part.trim_end_matches(['/', ','])) {
            return Some((name, paths.get(..start)?));
        }
        start += part.len();
    }
    None
}

/// Reads the line of the kill: the process, its name, and the bytes that it held.
fn killed(line: &str) -> Option<(u32, &str, u64)> {
    let (_, rest) = line.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    // From behind: the name may hold these words, too.
    let (process, figures) = rest.rsplit_once(") total-vm:")?;
    let of = |key: &str| -> u64 {
        let value = figures.split_once(key).and_then(|(_, rest)| rest.split("kB").next());
        value.and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or_default()
    };
    let kilobytes = ["anon-rss:", "file-rss:", "shmem-rss:"].map(of).into_iter().fold(0, u64::saturating_add);
    Some((pid.parse().ok()?, process, kilobytes.saturating_mul(1024)))
}

/// Returns what happened in one line. `last` is what is known of the last kill, with a name that is cleaned; `new`: kills since that was last
/// told; `limit`: the declared `memory_max`.
#[must_use]
pub fn text(last: Option<&OomKill>, new: u64, limit: Option<Bytes>) -> String {
    let limit = || limit.map(|limit| format!("; limit {}", size(limit.0))).unwrap_or_default();
    let Some(OomKill { pid, process, resident, scope, .. }) = last else {
        let processes = if new > 1 { format!("{new} processes") } else { "a process".to_owned() };
        return format!("out of memory: the kernel killed {processes}{}", limit());
    };
    let resident = resident.map(|bytes| format!(", {} resident", size(bytes))).unwrap_or_default();
    let scope = match scope {
        Scope::Own => limit(),
        Scope::Inside => "; by a limit within the guest".to_owned(),
        Scope::Slice(slice) => format!("; by the limit of {slice}"),
        Scope::Host => "; the whole host had none left".to_owned(),
    };
    let others = if new > 1 { format!("; and {} more", new - 1) } else { String::new() };
    format!("out of memory: killed {process} (pid {pid}){resident}{scope}{others}")
}

/// Returns a size in MiB, or in GiB from one on, with tenths where they say anything.
fn size(bytes: u64) -> String {
    let (unit, shift) = if bytes >= 1 << 30 { ("GiB", 30) } else { ("MiB", 20) };
    let tenths = bytes.saturating_mul(10) >> shift;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "/machine.slice/container@hog.service";

    fn name(text: &str) -> ContainerName {
        text.parse().unwrap()
    }

    fn victim_line(cpuset: &str, paths: &str, task: &str) -> String {
        format!(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={cpuset},mems_allowed=0,{paths},task={task},pid=812,uid=0"
        )
    }

    fn killed_line(pid: u32, comm: &str) -> String {
        format!(
            "Memory cgroup out of memory: Killed process {pid} ({comm}) total-vm:206184kB, anon-rss:62000kB, \
             file-rss:640kB, shmem-rss:0kB, UID:0 pgtables:180kB oom_score_adj:0"
        )
    }

    fn read(name_text: &str, lines: &[String]) -> Vec<OomKill> {
        kills((7..).zip(lines.iter().map(String::as_str)), &name(name_text))
    }

    fn own(task: &str) -> String {
        victim_line("payload", &format!("oom_memcg={UNIT},task_memcg={UNIT}/payload"), task)
    }

    #[test]
    fn a_kill_within_a_containers_limit_is_read_with_its_process_and_its_memory() {
        let lines = ["hog invoked oom-killer: gfp_mask=0x1".to_owned(), own("stress"), killed_line(812, "stress")];
        let kill = OomKill {
            at_usec: 8,
            pid: 812,
            process: "stress".to_owned(),
            resident: Some(62_640 * 1024),
            scope: Scope::Own,
        };
        assert_eq!(read("hog", &lines), std::slice::from_ref(&kill));
        assert_eq!(read("ho", &lines), []);
        let told = |new, limit: Option<u64>| text(Some(&kill), new, limit.map(Bytes));
        let whole = "out of memory: killed stress (pid 812), 61.1 MiB resident; limit 64 MiB";
        assert_eq!(told(1, Some(64 << 20)), whole);
        assert_eq!(told(3, Some(64 << 20)), format!("{whole}; and 2 more"));
        assert_eq!(text(None, 3, None), "out of memory: the kernel killed 3 processes");
        assert_eq!((size(0), size(5 << 29)), ("0 MiB".to_owned(), "2.5 GiB".to_owned()));
        assert_eq!(
            text(None, 1, Some(Bytes(3 << 19))),
            "out of memory: the kernel killed a process; limit 1.5 MiB"
        );
    }

    #[test]
    fn the_figures_may_be_lost_and_those_of_another_are_not_taken() {
        let lost = read("hog", &[own("stress"), killed_line(99, "other")]);
        assert_eq!((lost.len(), lost[0].resident), (1, None));
        assert_eq!(read("hog", &[killed_line(812, "stress")]), [], "of which cgroup, nobody knows");
        // As before Linux 5.0, and of nothing.
        assert_eq!(read("hog", &["oom-kill:".to_owned(), "Killed process (".to_owned(), String::new()]), []);
    }

    #[test]
    fn whose_memory_was_short_is_told() {
        let scope = |paths: String| read("hog", &[victim_line("p", &paths, "x")])[0].scope.clone();
        let payload = format!("{UNIT}/payload");
        assert_eq!(scope(format!("oom_memcg={UNIT},task_memcg={UNIT}")), Scope::Own);
        assert_eq!(scope(format!("oom_memcg={payload}/a.slice,task_memcg={payload}/a.slice/b")), Scope::Inside);
        assert_eq!(
            scope(format!("oom_memcg=/machine.slice,task_memcg={payload}")),
            Scope::Slice("machine.slice".to_owned())
        );
        assert_eq!(scope(format!("oom_memcg=/,task_memcg={payload}")), Scope::Slice("-.slice".to_owned()));
        assert_eq!(scope(format!("global_oom,task_memcg={payload}")), Scope::Host);
    }

    #[test]
    fn no_guest_can_blame_another_one() {
        let evil = "/machine.slice/container@evil.service/payload";
        let forged = format!("{evil}/,task_memcg={UNIT}/payload/,task=x,pid=1,uid=0");
        let lines = [
            victim_line("payload", &format!("oom_memcg={evil},task_memcg={forged}"), "x"),
            victim_line("payload", &format!("oom_memcg={forged},task_memcg={forged}"), "x"),
            victim_line("payload", &format!("oom_memcg=/machine.slice,task_memcg={forged}"), "x"),
            victim_line("payload", &format!("global_oom,task_memcg={forged}"), "x"),
            victim_line(",oom_memcg=,global_oom,task_memcg=", &format!("oom_memcg={evil},task_memcg={evil}"), "x"),
            victim_line("payload", &format!("oom_memcg={evil},task_memcg={evil}"), "x,pid=1,uid=0"),
            victim_line("payload", &format!("oom_memcg={evil},task_memcg={evil}/container@hog.service"), "x"),
        ];
        assert_eq!(read("hog", &lines), []);
        let found = read("evil", &lines);
        assert!(found.len() == lines.len() && found.iter().all(|kill| kill.pid == 812), "{found:?}");
    }

    #[test]
    fn a_process_may_call_itself_anything() {
        for comm in [") total-vm:1kB", "x) total-vm:9", "(", ",pid=1,uid=7", ",task=a", "\n", ""] {
            let found = read("hog", &[own(comm), killed_line(812, comm)]);
            assert_eq!(found.len(), 1, "{comm}");
            assert_eq!(
                (found[0].pid, found[0].process.as_str(), found[0].resident),
                (812, comm, Some(62_640 << 10))
            );
        }
    }
}
