//! What is taken for a secret: nothing of it is ever written or printed.

/// Words in the name of a variable, an argument or a label that make it one, in upper case.
const WORDS: [&str; 14] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "APIKEY",
    "PRIVATE",
    "HTPASSWD",
    "AUTHKEY",
    "AUTHORIZATION",
    "BEARER",
    "HMAC",
    "REQUIREPASS",
];

/// Whether something of this name holds a secret.
pub(super) fn is_name(name: &str) -> bool {
    let upper = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let ends = |end: &str| upper == end || upper.ends_with(&format!("_{end}"));
    // `POSTGRES_PASSWORD_FILE` is a path.
    if ends("FILE") || ends("PATH") {
        return false;
    }
    WORDS.iter().any(|word| upper.contains(word))
        || ["PASS", "PW", "PWD", "KEY", "SALT", "PIN", "DSN"].into_iter().any(ends)
        || upper.contains("_KEY_") && !upper.contains("PUBLIC")
}

/// Whether a value carries a password whatever its name: a URL such as `postgres://user:password@host/`, or a
/// connection string with `password=`.
pub(super) fn is_value(value: &str) -> bool {
    let in_url = value.split("://").skip(1).any(|rest| {
        // A password may hold a `/` or `@` that nobody escaped, so the last `@` counts.
        let authority = rest.split([' ', '?', '#']).next().unwrap_or_default();
        if let Some((user, _host)) = authority.rsplit_once('@') {
            return user.contains(':');
        }
        // What stands where a port does and is none may be a password whose `@` is missing.
        let host = authority.split(['/', ',']).next().unwrap_or_default();
        let port = host.rsplit_once(':').filter(|_| !host.starts_with('['));
        port.is_some_and(|(_host, port)| !port.chars().all(|c| c.is_ascii_digit()))
    });
    let lower = value.to_ascii_lowercase();
    in_url
        || ["password=", "passwd=", "pwd=", "secret=", "token=", "-----begin"]
            .iter()
            .any(|mark| lower.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "POSTGRES_PASSWORD",
            "db_pass",
            "ADMIN_TOKEN",
            "SECRET_KEY",
            "X-Api-Key",
            "headers.customrequestheaders.Authorization",
            "GF_SECURITY_ADMIN_PASSWORD",
            "MY_API_KEY",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in ["POSTGRES_PASSWORD_FILE", "POSTGRES_USER", "TZ", "KEYBOARD", "BYPASS_LOGIN", "SIGNUPS_ALLOWED"]
        {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_password_in_a_value_is_seen() {
        for value in [
            "postgres://u:p@db/x?sslmode=disable",
            "user=u password=p host=db",
            "redis://:p@redis:6379",
            "http://a:b/c@d",
        ] {
            assert!(is_value(value), "{value}");
        }
        for value in
            ["postgres://u@db/x", "https://example.org:8080/a", "mail@example.org", "a:b@c", "http://[::1]/"]
        {
            assert!(!is_value(value), "{value}");
        }
    }
}
