//! A line of a manifest that the agent names, as it stands in the file now.
//!
//! The agent knows files by the names that messages had when they were applied, and does not read them. So this looks
//! where they can be, and makes sure that the line is still about the service: a file may have been changed since.

use std::path::{Path, PathBuf};

use super::read;

/// Where a service is declared.
#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    /// The name that messages have for the file.
    file: String,
    lines: Vec<String>,
    /// The first line of the service, from 0, and the one behind its last.
    first: usize,
    end: usize,
    name: String,
}

impl Declaration {
    /// Reads the declaration at `file:line`; `None` when the file cannot be read, or that line is about something else.
    pub(crate) fn read(stack_file: &str, place: &str, name: &str) -> Option<Self> {
        let (file, line) = place.rsplit_once(':')?;
        let first = line.parse::<usize>().ok()?.checked_sub(1)?;
        let path = find(Path::new(stack_file), Path::new(file))?;
        let text = read::text(&path).ok()?;
        Self::of_text(file, &text, first, name)
    }

    fn of_text(file: &str, text: &str, first: usize, name: &str) -> Option<Self> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let heading = lines.get(first)?.trim();
        let end = if file.ends_with("service.toml") {
            lines.len()
        } else if table(heading).is_some_and(|table| is_of(&table, name)) {
            let others = lines
                .iter()
                .enumerate()
                .skip(first + 1)
                .find(|(_, line)| table(line.trim()).is_some_and(|table| !is_of(&table, name)));
            others.map_or(lines.len(), |(index, _)| index)
        } else if key(heading, name).is_some() {
            // `[services]` with a service a line.
            first + 1
        } else {
            return None;
        };
        Some(Self { file: file.to_owned(), lines, first, end, name: name.to_owned() })
    }

    /// Returns the first line of the service, as `file:line` and its text.
    pub(crate) fn heading(&self) -> Option<(String, String)> {
        let says_something = |line: &&String| !line.trim().is_empty() && !line.trim().starts_with('#');
        let skipped = self.lines.iter().take(self.end).skip(self.first).position(|line| says_something(&line));
        self.line(self.first + skipped.unwrap_or(0))
    }

    /// Returns the line of a key of the service, wherever in its tables it stands; `None`: it is not declared.
    pub(crate) fn key(&self, wanted: &str) -> Option<(String, String)> {
        let lines = || self.lines.iter().enumerate().take(self.end).skip(self.first);
        let is_table = |line: &str| table(line).is_some_and(|path| path.last().is_some_and(|last| last == wanted));
        let found = lines().find(|(_, line)| {
            let line = line.trim();
            is_table(line) && (line.contains(&self.name) || self.end == self.lines.len())
                || key(line, wanted) == Some(0)
        });
        // Inside an inline table.
        let found = found.or_else(|| lines().find(|(_, line)| key(line.trim(), wanted).is_some()));
        self.line(found?.0)
    }

    /// Returns a line by its number, from 1.
    pub(crate) fn number(&self, number: usize) -> Option<(String, String)> {
        self.line(number.checked_sub(1)?).filter(|_| (self.first..self.end).contains(&(number - 1)))
    }

    fn line(&self, index: usize) -> Option<(String, String)> {
        Some((format!("{}:{}", self.file, index + 1), self.lines.get(index)?.clone()))
    }
}

/// Returns a file: names in messages are absolute, or relative to the folder that the command ran in, which is that of the
/// stack file or one above.
fn find(stack_file: &Path, file: &Path) -> Option<PathBuf> {
    if file.is_absolute() {
        return Some(file.to_owned());
    }
    stack_file.parent()?.ancestors().map(|folder| folder.join(file)).find(|path| path.is_file())
}

/// Returns the path of a table's heading: `[services.web.health]`.
fn table(line: &str) -> Option<Vec<String>> {
    let inside = line.strip_prefix('[')?.split(']').next()?;
    Some(inside.trim_matches('[').split('.').map(|part| part.trim().trim_matches(['"', '\'']).to_owned()).collect())
}

fn is_of(table: &[String], name: &str) -> bool {
    matches!(table, [services, service, ..] if services == "services" && service == name)
}

/// Returns where a key stands in a line, as a word with `=` or `.` behind it; comments do not count.
fn key(line: &str, wanted: &str) -> Option<usize> {
    let code = line.split('#').next().unwrap_or_default();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    code.match_indices(wanted).map(|(at, _)| at).find(|at| {
        let before = code.get(..*at).unwrap_or_default();
        let behind = code.get(at + wanted.len()..).unwrap_or_default();
        let behind = behind.strip_prefix(['"', '\'']).unwrap_or(behind).trim_start();
        !before.ends_with(is_word) && behind.starts_with(['=', '.'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: &str = "format = 1\n[stack]\nname = \"cloud\"\n\n[services.db]\nsystem = \"x\"\n\n[services.web]\n\
                         # depends_on = []\nsystem = \"y\"\nlimits = { memory_max = \"2G\" }\n\n[services.web.depends_on]\ndb = \"healthy\"\n\n\
                         [services.web-2]\nmounts = []\n";

    fn found(text: &str, first: usize, name: &str, wanted: &str) -> Option<(String, String)> {
        Declaration::of_text("nixmox.toml", text, first, name)?.key(wanted)
    }

    fn line(place: &str, text: &str) -> (String, String) {
        (place.to_owned(), text.to_owned())
    }

    #[test]
    fn a_key_is_found_in_the_tables_of_its_service_alone() {
        assert_eq!(found(STACK, 7, "web", "system"), Some(line("nixmox.toml:10", "system = \"y\"")));
        assert_eq!(found(STACK, 7, "web", "depends_on"), Some(line("nixmox.toml:13", "[services.web.depends_on]")));
        assert_eq!(
            found(STACK, 7, "web", "memory_max"),
            Some(line("nixmox.toml:11", "limits = { memory_max = \"2G\" }"))
        );
        assert_eq!(found(STACK, 7, "web", "mounts"), None, "that is of another service");
        assert_eq!(found(STACK, 4, "db", "depends_on"), None);
    }

    #[test]
    fn a_file_that_was_changed_since_is_not_shown() {
        assert_eq!(found(STACK, 4, "web", "system"), None, "line 5 is of another service now");
        assert_eq!(found(STACK, 99, "web", "system"), None);
    }

    #[test]
    fn a_service_a_line_and_a_file_a_service_are_read_too() {
        let text = "[services]\nweb = { system = \"y\", depends_on = [\"db\"] }\nother = { mounts = [] }\n";
        assert_eq!(found(text, 1, "web", "depends_on").unwrap().0, "nixmox.toml:2");
        assert_eq!(found(text, 1, "web", "mounts"), None);
        let file = "system = \"y\"\ndepends_on.db = \"healthy\"\n\n[health]\ntcp = 80\n";
        let file = Declaration::of_text("services/web/service.toml", file, 0, "web").unwrap();
        assert_eq!(
            file.key("depends_on"),
            Some(line("services/web/service.toml:2", "depends_on.db = \"healthy\""))
        );
        assert_eq!(file.key("health"), Some(line("services/web/service.toml:4", "[health]")));
        assert_eq!(file.number(4), Some(line("services/web/service.toml:4", "[health]")));
        assert_eq!((file.number(0), file.number(9)), (None, None));
    }

    #[test]
    fn a_file_is_looked_for_from_the_stack_file_upwards() {
        let folder = tempfile::tempdir().unwrap();
        let stack = folder.path().join("cloud/nixmox.toml");
        std::fs::create_dir(folder.path().join("cloud")).unwrap();
        std::fs::write(&stack, STACK).unwrap();
        let read = |place: &str| {
            Declaration::read(stack.to_str().unwrap(), place, "web").and_then(|found| found.heading())
        };
        assert_eq!(read("nixmox.toml:8"), Some(line("nixmox.toml:8", "[services.web]")));
        assert_eq!(read("cloud/nixmox.toml:8"), Some(line("cloud/nixmox.toml:8", "[services.web]")));
        assert_eq!((read("gone.toml:8"), read("nixmox.toml"), read("/dev/zero:1")), (None, None, None));
    }
}
