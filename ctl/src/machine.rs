//! The machine that the client runs on, as far as complaints need to know it: what is installed, and who is asking.
//!
//! Read only once something has failed, never before a command does its work.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Where systemd looks for units (systemd.unit(5)).
const UNITS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// Where the installers of Nix put it when it is not in `PATH`, as under `sudo`.
const NIX: [&str; 2] = ["nix/var/nix/profiles/default/bin", "run/current-system/sw/bin"];

/// The machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    root: PathBuf,
    /// Where programs are looked for; `None`: where the process looks for them.
    path: Option<OsString>,
}

/// Somebody who asks, and a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// There is no such group.
    NoGroup,
    /// The user is not in it.
    No {
        /// The user.
        user: String,
    },
    /// The user is in it, and this session began before that.
    NotInThisSession {
        /// The user.
        user: String,
    },
    /// This session is of it.
    Yes,
    /// The files do not tell who the user is.
    Unknown,
}

impl Machine {
    /// Returns the machine as it is.
    pub(crate) fn real() -> Self {
        Self { root: PathBuf::from("/"), path: None }
    }

    /// Returns a machine whose files lie below a folder.
    #[cfg(test)]
    pub(crate) fn below(root: &std::path::Path, path: OsString) -> Self {
        Self { root: root.to_owned(), path: Some(path) }
    }

    /// Returns a program to be run.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut program = Command::new(name);
        if let Some(path) = &self.path {
            program.env("PATH", path);
        }
        program
    }

    /// Returns where an absolute path of the machine lies.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Returns whether systemd has a unit.
    pub(crate) fn has_unit(&self, name: &str) -> bool {
        UNITS.iter().any(|folder| self.root.join(folder).join(name).exists())
    }

    /// Returns the folder in which nix lies although `PATH` does not name it.
    pub(crate) fn nix(&self) -> Option<PathBuf> {
        NIX.iter().map(|folder| self.root.join(folder)).find(|folder| folder.join("nix").exists())
    }

    /// Returns whether whoever runs this process is in a group, by the files of the machine.
    pub(crate) fn membership(&self, group: &str) -> Membership {
        let groups = self.read("etc/group");
        let Some(group) = Group::find(group, &groups) else { return Membership::NoGroup };
        let status = self.read("proc/self/status");
        if numbers(&status, "Gid:").chain(numbers(&status, "Groups:")).any(|gid| gid == group.gid) {
            return Membership::Yes;
        }
        let users = self.read("etc/passwd");
        let user = numbers(&status, "Uid:").next().and_then(|uid| User::find(uid, &users));
        match user {
            Some(user) if user.gid == group.gid || group.members.contains(&user.name) => {
                Membership::NotInThisSession { user: user.name.to_owned() }
            }
            Some(user) => Membership::No { user: user.name.to_owned() },
            None => Membership::Unknown,
        }
    }

    /// Returns a file's text; a file that cannot be read says nothing.
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }
}

/// A line of group(5).
struct Group<'a> {
    gid: u32,
    members: Vec<&'a str>,
}

impl<'a> Group<'a> {
    fn find(name: &str, file: &'a str) -> Option<Self> {
        file.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (here, _password, gid, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (here == name).then_some(())?;
            Some(Self { gid: gid.parse().ok()?, members: members.split(',').collect() })
        })
    }
}

/// A line of passwd(5).
struct User<'a> {
    name: &'a str,
    gid: u32,
}

impl<'a> User<'a> {
    fn find(uid: u32, file: &'a str) -> Option<Self> {
        file.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _password, here, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (here.parse() == Ok(uid)).then_some(())?;
            Some(Self { name, gid: gid.parse().ok()? })
        })
    }
}

/// Returns the numbers of a line of `/proc/PID/status` (`proc_pid_status(5)`).
fn numbers<'a>(status: &'a str, key: &str) -> impl Iterator<Item = u32> + use<'a> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().filter_map(|number| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which anna (1000) runs in a session with these groups.
    fn machine(groups: &str) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("etc/group", "root:x:0:\nnixmox:x:985:berta,anna\nnixmox-operator:x:986:berta\nstaff:x:50:\n"),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nanna:x:1000:50::/home/anna:/bin/sh\n"),
            (
                "proc/self/status",
                &format!("Name:\tctl\nUid:\t1000\t1000\t1000\t1000\nGid:\t50\t50\t50\t50\nGroups:\t{groups}\n"),
            ),
        ] {
            fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            fs::write(root.path().join(file), text).unwrap();
        }
        let machine = Machine::below(root.path(), OsString::new());
        (root, machine)
    }

    #[test]
    fn a_session_is_told_from_what_the_files_say() {
        let (_root, machine) = machine("27 50");
        let user = || "anna".to_owned();
        assert_eq!(machine.membership("nixmox"), Membership::NotInThisSession { user: user() });
        assert_eq!(machine.membership("nixmox-operator"), Membership::No { user: user() });
        assert_eq!(machine.membership("staff"), Membership::Yes);
        assert_eq!(machine.membership("nixmox-o"), Membership::NoGroup);
        let (root, machine) = self::machine("27 985");
        assert_eq!(machine.membership("nixmox"), Membership::Yes);
        fs::write(root.path().join("etc/passwd"), "").unwrap();
        assert_eq!(machine.membership("nixmox-operator"), Membership::Unknown);
    }
}
