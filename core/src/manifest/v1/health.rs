//! How health is found out.

use std::borrow::Cow;

use schemars::json_schema;

use super::{Pressure, Time};
use crate::manifest::diagnostic::did_you_mean;
use crate::manifest::form::{Form, List, Misfit, Reader, Text, Value, schema, table, table_form, unsigned};
use crate::model::OnUnhealthy;

table! {
    /// How health is found out, and what follows from it. One of `http`, `tcp`, `unit` and `exec` is given, or `pressure`, or both.
    /// Without any of the four, a guest that boots systemd is healthy when its systemd says `running`, another one when
    /// its unit is active.
    #[foreign(
        "test" => "write `exec`, `http`, `tcp` or `unit`",
        "command" => "write `exec`",
        "cmd" => "write `exec`",
        "url" => "write `http`",
        "https" => "TLS is not spoken; ask the plain port with `http`, or use `tcp` or `exec`",
        "port" => "write `tcp`",
        "start_interval" => "`interval` holds in the start period too",
    )]
    pub struct Health {
        /// A GET of this `http://` URL, asked from inside the container's network, answers with a status below 400.
        /// Redirects are not followed: they count as an answer.
        #[key(Means("another check"), Live, "health = { http = \"http://localhost:8080/health\" }")]
        pub http: HttpUrl,

        /// This TCP port of the container accepts a connection.
        #[key(Means("another check"), Live, "health = { tcp = 5432 }")]
        pub tcp: PortNumber,

        /// This unit of the guest's systemd is active.
        #[key(Means("another check"), Live, "health = { unit = \"postgresql.service\" }")]
        pub unit: UnitName,

        /// This command, run by the guest's systemd, exits with 0. The first item is the program, as an absolute
        /// path or a name that the guest's systemd finds; no shell is involved.
        #[key(Means("another check"), Live, "health = { exec = [\"pg_isready\", \"-q\"] }")]
        pub exec: List<String>,

        /// Pressures that it must not be under, whatever else is asked. Where the kernel does not count pressure, a plan warns and
        /// nothing is asked.
        #[key(Means("any pressure is well"), Live, "health = { pressure = { memory = \"20%\", cpu = \"80%\" } }")]
        pub pressure: Pressure,

        /// The time from one answer to the next question, 100 ms to 1 h.
        #[key(Default("\"10s\""), Live, "health = { tcp = 80, interval = \"5s\" }")]
        pub interval: Time,

        /// The time after which a question counts as failed, 10 ms to 10 min.
        #[key(Default("\"5s\""), Live, "health = { tcp = 80, timeout = \"2s\" }")]
        pub timeout: Time,

        /// Failures in a row after which a service that was healthy is unhealthy; 1 to 1000.
        #[key(Default("3"), Live, "health = { tcp = 80, retries = 5 }")]
        pub retries: u32,

        /// The time after the start in which failures do not count, at most 24 h. The start itself is given this
        /// long too, so it covers a first boot that migrates a database.
        #[key(Default("\"1min\""), Live, "health = { tcp = 80, start_period = \"5min\" }")]
        pub start_period: Time,

        /// What is done with an unhealthy service.
        #[key(Default("\"report\""), Live, "health = { tcp = 80, on_unhealthy = \"restart\" }")]
        pub on_unhealthy: OnUnhealthy,
    }
}

table_form!(
    Health,
    "a table such as `{ http = \"http://localhost/\" }`, `{ tcp = 80 }` or `{ unit = \"nginx.service\" }`"
);

/// An `http://` URL with a host, without blanks and control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(pub String);

/// A port from 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortNumber(pub u16);

/// The full name of a systemd unit, such as `postgresql.service` (systemd.unit(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitName(pub String);

schema!(HttpUrl, json_schema!({ "type": "string", "pattern": "^http://[^ /]+" }));

impl Text for HttpUrl {
    const EXPECTED: &'static str = "a URL such as `\"http://localhost:8080/health\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        if text.starts_with("https://") {
            let misfit = Misfit::new("health checks do not speak TLS");
            return Err(misfit.help("ask the plain port with http://, or use `tcp` or `exec`"));
        }
        let Some(rest) = text.strip_prefix("http://") else {
            let misfit = Misfit::new(format!("`{text}` is not an http:// URL"));
            return Err(misfit.help("for example \"http://localhost:8080/health\""));
        };
        if let Some((at, c)) =
            text.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control() || !c.is_ascii())
        {
            let misfit = Misfit::new("a URL has no blanks, control or non-ASCII characters");
            return Err(misfit.at(at..at + c.len_utf8()).help("write them as %XX"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        if authority.contains('@') {
            return Err(Misfit::new("a health check sends no user name").help("leave out what is before the `@`"));
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("invalid"))),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(Misfit::new(format!("`{text}` has no host")).help("for example \"http://localhost/\""));
        }
        match port.map(str::parse::<u16>) {
            None | Some(Ok(1..)) => Ok(Self(text.to_owned())),
            Some(Ok(0) | Err(_)) => Err(Misfit::new(format!("`{authority}` has no port from 1 to 65535"))),
        }
    }
}

schema!(PortNumber, json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 }));

impl Form for PortNumber {
    fn expected() -> Cow<'static, str> {
        "a port from 1 to 65535".into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(number) = unsigned(value) else {
            reader.mismatch::<Self>(value);
            return None;
        };
        let port = number.ok().and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
        if port.is_none() {
            let error = reader.error(&value.span(), format!("expected {}", Self::expected()));
            reader.report(error.label("out of range"));
        }
        port.map(Self)
    }
}

/// The kinds of units that can be active in a useful way (systemd.unit(5)).
const UNIT_KINDS: [&str; 9] =
    ["service", "socket", "target", "mount", "automount", "timer", "path", "swap", "device"];

schema!(UnitName, {
    let kinds = UNIT_KINDS.join("|");
    json_schema!({ "type": "string", "pattern": format!("^[A-Za-z0-9:_.\\\\@-]+\\.({kinds})$") })
});

impl Text for UnitName {
    const EXPECTED: &'static str = "the name of a unit such as `\"postgresql.service\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c);
        if let Some((at, c)) = text.char_indices().find(|(_, c)| !allowed(*c)) {
            let misfit = Misfit::new(format!("`{}` cannot occur in the name of a unit", c.escape_debug()));
            return Err(misfit.at(at..at + c.len_utf8()));
        }
        if text.len() > 255 {
            return Err(Misfit::new("the name of a unit has at most 255 characters"));
        }
        match text.rsplit_once('.') {
            Some((name, kind)) if !name.is_empty() && UNIT_KINDS.contains(&kind) => Ok(Self(text.to_owned())),
            Some((name, kind)) if did_you_mean(kind, UNIT_KINDS).is_some() => {
                let kind = did_you_mean(kind, UNIT_KINDS).unwrap_or("service");
                Err(Misfit::new(format!("`{text}` is not a unit")).help(format!("did you mean `{name}.{kind}`?")))
            }
            Some(_) | None if text.is_empty() => Err(Misfit::new(format!("expected {}", Self::EXPECTED))),
            Some(_) | None => Err(Misfit::new(format!("`{text}` is not the full name of a unit"))
                .help(format!("write `{text}.service`"))),
        }
    }
}
