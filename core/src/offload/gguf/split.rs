//! Names of the files of a model that is split into several: `NAME-00001-of-00003.gguf` (llama.cpp's `gguf-split`).

/// The digits of a number in a name.
const DIGITS: usize = 5;

/// The name of one of the files of a model that is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    name: &'a str,
    count: u32,
}

impl<'a> Split<'a> {
    /// Reads the name of a file, with or without its folder; `None`: it is not the name of a part.
    #[must_use]
    pub fn of(path: &'a str) -> Option<Self> {
        let (rest, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (name, number) = rest.rsplit_once('-')?;
        let is_number = |text: &str| text.len() == DIGITS && text.bytes().all(|digit| digit.is_ascii_digit());
        let count = count.parse().ok().filter(|_| is_number(count) && is_number(number))?;
        Some(Self { name, count })
    }

    /// Returns how many files there are, by the name.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the name of a file, from 1 on.
    #[must_use]
    pub fn part(&self, number: u32) -> String {
        format!("{}-{number:0DIGITS$}-of-{:0DIGITS$}.gguf", self.name, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_all_parts_follow_from_one_of_them() {
        let named = |path: &'static str| Split::of(path).map(|split| (split.count(), split.part(2)));
        assert_eq!(named("/m/x-00001-of-00003.gguf"), Some((3, "/m/x-00002-of-00003.gguf".into())));
        assert_eq!(named("a-of-b-00003-of-00003.gguf"), Some((3, "a-of-b-00002-of-00003.gguf".into())));
        for other in
            ["x.gguf", "x-1-of-3.gguf", "x-00001-of-3.gguf", "x-0000a-of-00003.gguf", "x-00001-of-00003", "/"]
        {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
