//! The commands in a line of text, as a shell would take them out of it.

/// Returns the words of every `nixmoxctl` in a line that stands where a command stands: at its begin, behind `sudo`, in a
/// pipe, behind `&&` or `;`, in `$(...)` or `<(...)`. What explains it stands behind at least two blanks, or `#`.
pub(super) fn commands_in(line: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    // Whether what follows explains, or is the name of a file.
    let mut is_over = false;
    let mut characters = line.trim().chars().peekable();
    while let Some(c) = characters.next() {
        let next = characters.peek().copied();
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, '|' | ';' | '&' | '(' | ')') => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
                is_over = false;
            }
            (None, '>' | '<') if next != Some('(') => is_over = true,
            (None, '#') if word.is_none() => break,
            (None, ' ') => {
                if !is_over {
                    words.extend(word.take());
                }
                word = None;
                is_over |= next == Some(' ');
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if !is_over {
        words.extend(word);
    }
    commands.push(words);
    let begin = |words: &Vec<String>| {
        let is_before = |word: &String| {
            word == "sudo"
                || word == "$"
                || word
                    .split_once('=')
                    .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        };
        let at = words.iter().position(|word| !is_before(word))?;
        (words[at] == "nixmoxctl").then(|| words[at..].to_vec())
    };
    commands.iter().filter_map(begin).collect()
}

#[test]
fn commands_are_found_where_a_shell_finds_them() {
    let found =
        |line: &str| -> Vec<String> { commands_in(line).into_iter().map(|words| words.join("|")).collect() };
    for (line, words) in [
        ("  nixmoxctl up caddy          one service", &["nixmoxctl|up|caddy"][..]),
        ("sudo nixmoxctl down && nixmoxctl up", &["nixmoxctl|down", "nixmoxctl|up"]),
        ("cat x | nixmoxctl exec db -- sh -c 'a | b  c' | jq '.x'", &["nixmoxctl|exec|db|--|sh|-c|a | b  c"]),
        ("nixmoxctl schema > /tmp/nixmoxctl.json", &["nixmoxctl|schema"]),
        ("for bash: source <(nixmoxctl completions bash)", &["nixmoxctl|completions|bash"]),
        ("NO_COLOR=1 nixmoxctl status # all", &["nixmoxctl|status"]),
        ("nixmoxctl is a program", &["nixmoxctl|is|a|program"]),
        ("the program nixmoxctl", &[]),
        ("did you mean `nixmoxctl up`?", &[]),
    ] {
        assert_eq!(found(line), words, "{line}");
    }
}
