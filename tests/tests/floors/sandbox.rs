//! What docs/security.md must explain of the agent's unit: every hole in its sandbox.

/// Returns what the unit opens or leaves open: writable paths, and the settings that its comment says are missing.
pub(crate) fn openings(unit: &str) -> Vec<String> {
    let writable = unit.lines().filter_map(|line| line.strip_prefix("ReadWritePaths="));
    let writable = writable.flat_map(str::split_whitespace).map(|path| path.trim_start_matches('-').to_owned());
    let families = unit.lines().filter_map(|line| line.strip_prefix("RestrictAddressFamilies="));
    let families = families.flat_map(str::split_whitespace).map(str::to_owned);
    let missing = unit.lines().skip_while(|line| !line.starts_with("# --- What looks missing")).skip(1);
    let missing = missing.take_while(|line| line.starts_with('#')).flat_map(|line| {
        let line = line.trim_start_matches(['#', ' ']);
        let names = line.split("  ").next().unwrap_or_default();
        let name = |word: &str| word.trim_end_matches(',').to_owned();
        names.split(' ').map(name).filter(|name| is_setting(name)).collect::<Vec<_>>()
    });
    let off = unit.lines().filter_map(|line| line.strip_suffix("=no")).map(str::to_owned);
    writable.chain(families).chain(missing).chain(off).collect()
}

/// Returns whether a word is written as settings of units are.
fn is_setting(word: &str) -> bool {
    word.len() > 3
        && word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric())
        && word.chars().filter(char::is_ascii_uppercase).count() > 1
}
