//! Files of `NAME=value` lines: `.env` beside a Compose file, and what `env_file` names.

use super::yaml::Fault;

/// A variable of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// Its name.
    pub(super) name: String,
    /// Its value, without quotes. Variables in it are not put in.
    pub(super) value: String,
    /// The line, from 1.
    pub(super) line: usize,
}

/// Returns the variables of a file, in its order.
pub(super) fn parse(text: &str) -> Result<Vec<Variable>, Fault> {
    let mut variables = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, written)) = lines.next() {
        let line = index + 1;
        let bare = written.trim_start_matches('\u{feff}').trim();
        let bare = bare.strip_prefix("export ").unwrap_or(bare).trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        // A name alone takes its value from the environment, which is looked at anyway.
        let Some((name, value)) = bare.split_once('=') else { continue };
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Fault::new(line, "this is not `NAME=value`", "a comment begins with `#`"));
        }
        let value = value.trim_start();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let mut quoted = value.get(1..).unwrap_or_default().to_owned();
                while end_of(&quoted, quote).is_none() {
                    let Some((_, next)) = lines.next() else {
                        return Err(Fault::new(line, format!("the {quote} of this value is not closed"), ""));
                    };
                    quoted.push('\n');
                    quoted.push_str(next);
                }
                let inner = end_of(&quoted, quote).and_then(|end| quoted.get(..end)).unwrap_or_default();
                if quote == '"' { unescaped(inner) } else { inner.to_owned() }
            }
            Some(_) | None => value.split(" #").next().unwrap_or_default().trim_end().to_owned(),
        };
        variables.push(Variable { name: name.to_owned(), value, line });
    }
    Ok(variables)
}

/// Returns where a quote is closed.
fn end_of(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !is_escaped {
            return Some(at);
        }
        is_escaped = quote == '"' && c == '\\' && !is_escaped;
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_compose_reads_them() {
        let text = "# c\n\nA=1\nexport B = two words # c\nC='a#b'\nD=\"x\\\"y\\nz\"\nE=\"1\n2\"\nF=\nG\nH=a=b#c\n";
        let read = parse(text).unwrap();
        let read: Vec<_> = read.iter().map(|v| (v.name.as_str(), v.value.as_str(), v.line)).collect();
        let expected = [
            ("A", "1", 3),
            ("B", "two words", 4),
            ("C", "a#b", 5),
            ("D", "x\"y\nz", 6),
            ("E", "1\n2", 7),
            ("F", "", 9),
            ("H", "a=b#c", 11),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        assert_eq!(parse("A=1\nB=\"x\n").unwrap_err().line, 2);
        assert_eq!(parse("A=1\n\nfoo bar=1\n").unwrap_err().line, 3);
        assert_eq!(parse("=1\n").unwrap_err().line, 1);
    }
}
