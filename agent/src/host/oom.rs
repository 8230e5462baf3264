//! What the kernel's log says of processes that were killed for want of memory, read through journald.
//!
//! `/dev/kmsg` is behind `ProtectKernelLogs=` of the agent's unit; that journald has what is in it is a matter of milliseconds.

use std::time::Duration;

use nixmox_core::model::ContainerName;
use nixmox_core::oom::{self, OomKill};

use super::{journal, line};

/// Lines of the log that are looked at, from the newest on: each kill comes with some hundred of them, a line for each process
/// that could have been killed.
const LINES: &str = "--lines=4000";
/// The waits before it is read, and read again where nothing is there yet.
const WAITS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// Returns the kills of a container after `since_usec`, in microseconds since 1970, oldest first.
pub(super) async fn kills(name: &ContainerName, since_usec: u64) -> Vec<OomKill> {
    let since = journal::since_argument(since_usec);
    let mut found = Vec::new();
    for wait in WAITS {
        tokio::time::sleep(wait).await;
        // From the newest on, since no more than a part of it is read.
        let text = journal::read(["--boot", "_TRANSPORT=kernel", "--reverse", LINES, since.as_str()]).await;
        found = of(&text, name);
        // The one of before is among them: `--since=` includes its moment.
        found.retain(|kill| kill.at_usec > since_usec);
        // The figures may be on their way still.
        if found.last().is_some_and(|kill| kill.resident.is_some()) {
            break;
        }
    }
    found
}

/// Returns the kills of a container that journalctl tells of, the newest line first.
fn of(text: &str, name: &ContainerName) -> Vec<OomKill> {
    let mut lines: Vec<(u64, &str)> = text.lines().filter_map(journal::timed).collect();
    lines.reverse();
    let messages = lines.into_iter().filter_map(|(at, line)| Some((at, line.strip_prefix("kernel: ")?)));
    let mut kills = oom::kills(messages, name);
    for kill in &mut kills {
        kill.process = line::clean(&kill.process);
    }
    kills
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_line_comes_first_and_a_name_is_cleaned() {
        let text = "1763633001.000002 kernel: Memory cgroup out of memory: Killed process 7 (a\u{1b}[31m) total-vm:9kB, anon-rss:4kB\n\
            1763633001.000001 kernel: oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
            oom_memcg=/machine.slice/container@web.service,task_memcg=/machine.slice/container@web.service/payload,\
            task=a\u{1b}[31m,pid=7,uid=0\n\
            1763633001.000000 other: oom-kill:constraint=CONSTRAINT_MEMCG\n";
        let kills = of(text, &"web".parse().unwrap());
        let told: Vec<_> = kills.iter().map(|kill| (kill.at_usec, kill.process.as_str(), kill.resident)).collect();
        assert_eq!(told, [(1_763_633_001_000_001, "a [31m", Some(4096))]);
        assert_eq!(of(text, &"db".parse().unwrap()), []);
    }
}
