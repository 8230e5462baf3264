//! As much of HTTP/1.1 as a scrape needs (RFC 9112): one request is read, one answer given, and the connection closed.
//!
//! Pure: bytes in, a verdict out. A body is not read. Nothing of a request is repeated in an answer or in the log.

use std::net::IpAddr;

use super::text::Form;

/// The only page.
const PATH: &str = "/metrics";

/// What is asked for, or why not.
pub(super) type Asked = Result<Form, Refusal>;

/// Why no page is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no request of HTTP/1.
    Malformed,
    /// There is no such page.
    NotFound,
    /// Pages are only read.
    Method,
    /// A browser was led here by a name that somebody else chose.
    Misdirected,
    /// The request is longer than one can be.
    TooLarge,
    /// The agent is stopping.
    Stopping,
}

/// Returns the head of a request, up to the empty line; `None` while it is not all there. Of the bytes, the first `before`
/// are known to be no whole head.
pub(super) fn head(bytes: &[u8], before: usize) -> Option<&[u8]> {
    // The empty line may have begun in them.
    let from = before.saturating_sub(3);
    let unsearched = bytes.get(from..)?;
    let ends = |ending: &[u8]| unsearched.windows(ending.len()).position(|window| window == ending);
    let end = match (ends(b"\r\n\r\n"), ends(b"\n\n")) {
        (Some(one), Some(other)) => one.min(other),
        (one, other) => one.or(other)?,
    };
    bytes.get(..from + end)
}

/// Reads a head. On a network, `named` wants a `Host` that no page of a stranger can choose: an address or `localhost`. A
/// browser on this machine that was told that a stranger's name has this address would otherwise read for the stranger.
pub(super) fn read(head: &[u8], named: bool) -> Asked {
    let text = std::str::from_utf8(head).map_err(|_| Refusal::Malformed)?;
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::Malformed);
    };
    let is_token = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !is_token(method) || !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err(Refusal::Malformed);
    }
    let mut accept = Vec::new();
    let mut host = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::Malformed)?;
        if name.eq_ignore_ascii_case("accept") {
            accept.extend(value.split(','));
        } else if name.eq_ignore_ascii_case("host") {
            host = Some(value.trim());
        }
    }
    // HTTP/1.0 goes without; no browser speaks it.
    if named && !host.map_or(version == "HTTP/1.0", is_of_this_machine) {
        return Err(Refusal::Misdirected);
    }
    if target.split('?').next() != Some(PATH) {
        return Err(Refusal::NotFound);
    }
    if method != "GET" {
        return Err(Refusal::Method);
    }
    Ok(form(&accept))
}

/// Returns the answer to a request: what comes before the page's text, or all of a refusal.
pub(super) fn answer(asked: Asked, page_bytes: usize) -> String {
    let (status, more, content_type, length) = match asked {
        Ok(form) => ("200 OK", "", form.content_type(), page_bytes),
        Err(refusal) => {
            let (status, more) = refusal.status();
            (status, more, "text/plain; charset=utf-8", 0)
        }
    };
    // The same address gives two forms, and each page is of its moment.
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{more}Vary: Accept\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
}

impl Refusal {
    fn status(self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed => ("400 Bad Request", ""),
            Self::NotFound => ("404 Not Found", ""),
            Self::Method => ("405 Method Not Allowed", "Allow: GET\r\n"),
            Self::Misdirected => ("421 Misdirected Request", ""),
            Self::TooLarge => ("431 Request Header Fields Too Large", ""),
            Self::Stopping => ("503 Service Unavailable", ""),
        }
    }
}

fn is_of_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    name.is_some_and(|name| name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

/// Returns the form that is liked best of the two; `Accept` as of RFC 9110, section 12.5.1.
fn form(accept: &[&str]) -> Form {
    let liked = |media: &str| accept.iter().filter_map(|range| weight(range, media)).max().unwrap_or(0);
    let (open, plain) = (liked("application/openmetrics-text"), liked("text/plain"));
    if open > 0 && open >= plain { Form::OpenMetrics } else { Form::Prometheus }
}

/// Returns how much a range likes a media type, in thousandths; `None` where it is about another one, or wants a version
/// of it that is not ours.
fn weight(range: &str, media: &str) -> Option<u32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(media) {
        return None;
    }
    let mut weight = 1000;
    for part in parts {
        match part.split_once('=') {
            Some(("q", value)) => weight = thousandths(value)?,
            Some(("version", "0.0.1")) if media != "text/plain" => return None,
            Some(("version", version)) if !matches!(version, "1.0.0" | "0.0.4") => return None,
            _ => {}
        }
    }
    Some(weight)
}

/// Reads `1`, `0.5` or `0.125`.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Asked {
        let bytes = format!("{text}\r\n\r\nbody");
        read(head(bytes.as_bytes(), 0).unwrap(), true)
    }

    #[test]
    fn a_head_is_whole_at_its_empty_line() {
        assert_eq!(head(b"GET / HTTP/1.1\r\nHost: x\r\n", 0), None);
        assert_eq!(head(b"GET / HTTP/1.1\n\nrest\r\n\r\n", 0), Some(&b"GET / HTTP/1.1"[..]));
        assert_eq!(head(b"", 0), None);
        // However it trickles in.
        let all = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for before in 0..all.len() {
            assert_eq!(head(all, before), Some(&all[..all.len() - 4]), "{before}");
        }
    }

    #[test]
    fn one_page_is_read_and_nothing_else_is_done() {
        let host = "\r\nHost: localhost:9";
        let cases = [
            ("GET /metrics HTTP/1.1", Ok(Form::Prometheus)),
            ("GET /metrics?name[]=x HTTP/1.1", Ok(Form::Prometheus)),
            ("GET / HTTP/1.1", Err(Refusal::NotFound)),
            ("GET /metricsx HTTP/1.1", Err(Refusal::NotFound)),
            ("GET /../metrics HTTP/1.1", Err(Refusal::NotFound)),
            ("POST /metrics HTTP/1.1", Err(Refusal::Method)),
            ("HEAD /metrics HTTP/1.1", Err(Refusal::Method)),
            ("GET /metrics HTTP/2.0", Err(Refusal::Malformed)),
            ("GET  /metrics HTTP/1.1", Err(Refusal::Malformed)),
            ("GET /metrics", Err(Refusal::Malformed)),
            ("G\u{e9}T /metrics HTTP/1.1", Err(Refusal::Malformed)),
            ("", Err(Refusal::Malformed)),
        ];
        for (line, expected) in cases {
            assert_eq!(asked(&format!("{line}{host}")), expected, "{line}");
        }
        assert_eq!(read(b"\xff\xfe", true), Err(Refusal::Malformed));
        assert_eq!(asked("GET /metrics HTTP/1.1\r\nnonsense"), Err(Refusal::Malformed));
    }

    #[test]
    fn a_name_that_a_stranger_chose_is_not_answered_on_a_network() {
        for (host, served) in [
            ("localhost", true),
            ("LOCALHOST:19558", true),
            ("127.0.0.1:19558", true),
            ("[::1]:19558", true),
            ("evil.example:19558", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}");
            assert_eq!(asked(&request).is_ok(), served, "{host}");
            assert!(read(request.as_bytes(), false).is_ok(), "{host}");
        }
        assert_eq!(asked("GET /metrics HTTP/1.1"), Err(Refusal::Misdirected));
        assert!(asked("GET /metrics HTTP/1.0").is_ok());
    }

    #[test]
    fn the_form_is_the_one_that_is_liked_best() {
        for (accept, open) in [
            ("", false),
            ("*/*", false),
            ("application/openmetrics-text; version=1.0.0", true),
            ("application/openmetrics-text", true),
            ("application/openmetrics-text;version=0.0.1", false),
            ("application/openmetrics-text;q=0", false),
            ("text/plain;q=0.9, application/openmetrics-text;q=0.5", false),
            // Prometheus 2 and 3.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                true,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;\
                 escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                true,
            ),
        ] {
            let form = asked(&format!("GET /metrics HTTP/1.1\r\nHost: ::1\r\nhost: 127.0.0.1\r\naCCept: {accept}"));
            let expected = if open { Form::OpenMetrics } else { Form::Prometheus };
            assert_eq!(form, Ok(expected), "{accept}");
        }
    }
}
