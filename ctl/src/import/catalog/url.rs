//! Addresses of databases with a password in them: `postgres://user:password@host:5432/name?sslmode=disable`.

/// An address that was taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// The address without its password.
    pub(super) open: String,
    /// The password, as a program takes it; absent without one.
    pub(super) password: Option<String>,
}

impl Url {
    /// Takes an address apart, or a connection string such as `user=u password=p host=db`; `None`: it has a form in
    /// which the password cannot be told from the rest for certain.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((scheme, rest)) = text.split_once("://") {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            // A `/` or `?` in a password that nobody escaped.
            if path.contains('@') || path.to_ascii_lowercase().contains("password=") {
                return None;
            }
            let Some((user, host)) = authority.rsplit_once('@') else {
                return Some(Self { open: text.to_owned(), password: None });
            };
            let Some((user, password)) = user.split_once(':') else {
                return Some(Self { open: text.to_owned(), password: None });
            };
            let open = format!("{scheme}://{user}@{host}{path}");
            return Some(Self { open, password: Some(unescaped(password)?) });
        }
        if text.contains(['\'', '\\']) || text.contains(" = ") {
            return None;
        }
        let (mut open, mut password) = (Vec::new(), None);
        for word in text.split_whitespace() {
            match word.split_once('=')? {
                ("password", value) => password = Some(value.to_owned()),
                (_, _) => open.push(word),
            }
        }
        Some(Self { open: open.join(" "), password })
    }
}

/// Returns a text with its `%40` and the like put back.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?.to_owned();
            bytes.push(u8::from_str_radix(&digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_told_from_the_rest_or_nothing_is() {
        let of = |text| Url::parse(text).map(|url| (url.open, url.password));
        let some = |open: &str, password: Option<&str>| Some((open.to_owned(), password.map(ToOwned::to_owned)));
        assert_eq!(
            of("postgres://u:p%40@db:5432/x?sslmode=disable"),
            some("postgres://u@db:5432/x?sslmode=disable", Some("p@"))
        );
        assert_eq!(of("postgres://u@db/x"), some("postgres://u@db/x", None));
        assert_eq!(of("user=u password=p host=db"), some("user=u host=db", Some("p")));
        assert_eq!(of("postgres://u:a/b@db/x"), None);
        assert_eq!(of("postgres://u:%zz@db/x"), None);
        assert_eq!(of("user=u password='a b'"), None);
        assert_eq!(of("postgres://db/x?user=u&password=p"), None);
    }
}
