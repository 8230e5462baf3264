//! The pages of the documentation, and the blocks between their fences.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::build::workspace_root;

/// What stands between two fences of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The page, such as `docs/install.md`.
    pub page: String,
    /// The heading that it stands below, without its marks.
    pub heading: String,
    /// What it is written in, such as `nix`; empty where the page does not say.
    pub language: String,
    /// Its lines, without the indentation of a list that it stands in.
    pub text: String,
}

impl Block {
    /// Returns its first line.
    #[must_use]
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

/// Returns the names of all pages: README.md, and those in docs/.
pub fn pages() -> Result<Vec<String>> {
    let folder = workspace_root().join("docs");
    let mut pages = vec!["README.md".to_owned()];
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name();
        let name = Path::new(&name);
        if name.extension().is_some_and(|extension| extension == "md") {
            pages.push(format!("docs/{}", name.display()));
        }
    }
    pages.sort();
    Ok(pages)
}

/// Returns the blocks of a page in their order.
///
/// # Errors
/// When the page cannot be read, or its last block has no end.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let path = workspace_root().join(page);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    blocks_in(page, &text)
}

fn blocks_in(page: &str, text: &str) -> Result<Vec<Block>> {
    let (mut found, mut open, mut heading) = (Vec::new(), None::<(usize, Block)>, "");
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (open.take(), fence) {
            (None, None) if line.starts_with('#') => heading = line.trim_start_matches('#').trim(),
            (None, None) => {}
            (None, Some(language)) => {
                let [page, heading, language] = [page, heading, language.trim()].map(str::to_owned);
                let indent = line.len() - line.trim_start().len();
                open = Some((indent, Block { page, heading, language, text: String::new() }));
            }
            (Some((_, block)), Some(_)) => found.push(block),
            (Some((indent, mut block)), None) => {
                block.text.push_str(line.get(indent..).unwrap_or_default());
                block.text.push('\n');
                open = Some((indent, block));
            }
        }
    }
    match open {
        None => Ok(found),
        Some((_, block)) => bail!("{page}: the block that begins with `{}` has no end", block.first_line()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, blocks_in};

    #[test]
    fn blocks_know_where_they_stand() {
        let page = "# A\n```nix\n# one\n  two\n```\n## `b`\n- item\n\n  ```\n  three\n    four\n\n  ```\n";
        let block = |heading: &str, language: &str, text: &str| Block {
            page: "page".to_owned(),
            heading: heading.to_owned(),
            language: language.to_owned(),
            text: text.to_owned(),
        };
        let expected = [block("A", "nix", "# one\n  two\n"), block("`b`", "", "three\n  four\n\n")];
        assert_eq!(blocks_in("page", page).ok().as_deref(), Some(&expected[..]));
        assert!(blocks_in("page", "```\nno end\n").is_err());
    }
}
