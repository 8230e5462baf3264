//! Health checks and restarts.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Scope;
use crate::manifest::form::Entry;
use crate::manifest::v1::{self, Time};
use crate::model::{HealthCheck, Kind, Percent, PressureMax, Probe, Restart, RestartPolicy};

const MIN: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
const DELAY: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_mins(5);
const JOB_ATTEMPTS_MAX: u32 = 5;

/// Returns the health check; `None` when there is none, or none that could be read.
pub(super) fn resolve(scope: &mut Scope<'_>, service: &v1::Service, kind: Kind) -> Option<HealthCheck> {
    let located = service.health.located()?;
    let written = &located.value;
    // `[services.x.health]` is better blamed than the table below it.
    let key = service.keys.iter().find(|key| key.value == "health");
    let span = key.map_or(&located.span, |key| &key.span);
    if kind == Kind::Job {
        let error = scope.error(span, "a job has no health");
        scope.report(error.help("it is done when it exits with 0; leave `health` out"));
    }
    let pressure = pressure(scope, written);
    let probe = probe(scope, written, span);
    let millis = Duration::from_millis;
    let interval = time(scope, "interval", &written.interval, INTERVAL, millis(100)..=60 * MIN);
    let timeout = time(scope, "timeout", &written.timeout, TIMEOUT, millis(10)..=10 * MIN);
    let start_period = time(scope, "start_period", &written.start_period, MIN, Duration::ZERO..=24 * 60 * MIN);
    if let Some(retries) = written.retries.located()
        && !(1..=1000).contains(&retries.value)
    {
        let error = scope.error(&retries.span, "`retries` is from 1 to 1000");
        scope.report(error);
    }
    Some(HealthCheck {
        probe: probe?,
        pressure,
        interval,
        timeout,
        retries: written.retries.get().copied().unwrap_or(RETRIES),
        start_period,
        on_unhealthy: written.on_unhealthy.get().copied().unwrap_or_default(),
    })
}

/// Returns the pressures that are too much.
fn pressure(scope: &mut Scope<'_>, written: &v1::Health) -> PressureMax {
    let Some(located) = written.pressure.located() else { return PressureMax::default() };
    let v1::Pressure { cpu, memory, io, keys } = &located.value;
    if keys.is_empty() {
        let error = scope.error(&located.span, "no pressure is too much here");
        scope.report(error.help("for example `pressure = { memory = \"20%\" }`"));
    }
    let share = |entry: &Entry<Percent>| entry.get().copied();
    PressureMax { cpu: share(cpu), memory: share(memory), io: share(io) }
}

fn probe(scope: &mut Scope<'_>, written: &v1::Health, span: &crate::manifest::Span) -> Option<Probe> {
    let asked =
        |key: &&crate::manifest::form::Located<&'static str>| matches!(key.value, "http" | "tcp" | "unit" | "exec");
    let keys: Vec<_> = written.keys.iter().filter(asked).collect();
    match keys.as_slice() {
        [] if written.keys.iter().any(|key| key.value == "pressure") => return Some(Probe::Ready),
        [] => {
            let error = scope.error(span, "the health check asks nothing");
            scope.report(error.help("add one of `http`, `tcp`, `unit`, `exec` and `pressure`"));
        }
        [_] => {}
        [first, rest @ ..] => {
            for second in rest {
                let error = scope.error(&second.span, format!("`{}` beside `{}`", second.value, first.value));
                scope.report(error.help("a health check asks at most one of `http`, `tcp`, `unit` and `exec`"));
            }
        }
    }
    if let Some(exec) = written.exec.located() {
        let command = &exec.value;
        match command.as_slice() {
            [] => {
                let error = scope.error(&exec.span, "the command is empty");
                scope.report(error.help("for example `exec = [\"pg_isready\", \"-q\"]`"));
            }
            [only] if only.value.contains(' ') => {
                let words: Vec<_> = only.value.split_whitespace().map(|word| format!("{word:?}")).collect();
                let error = scope.error(&only.span, "no shell splits this command");
                scope.report(error.help(format!("write `exec = [{}]`", words.join(", "))));
            }
            [_, ..] => {}
        }
        if command.first().is_some_and(|program| program.value.is_empty()) {
            let error = scope.error(&exec.span, "the program has no name");
            scope.report(error);
        }
        for item in command.iter().filter(|item| item.value.contains('\0')) {
            let error = scope.error(&item.span, "an argument cannot hold a NUL character");
            scope.report(error);
        }
    }
    None.or_else(|| written.http.get().map(|url| Probe::Http(url.0.clone())))
        .or_else(|| written.tcp.get().map(|port| Probe::Tcp(port.0)))
        .or_else(|| written.unit.get().map(|unit| Probe::Unit(unit.0.clone())))
        .or_else(|| {
            written.exec.get().map(|command| Probe::Exec(command.iter().map(|word| word.value.clone()).collect()))
        })
}

/// Returns a time, and complains if it is out of range.
pub(super) fn time(
    scope: &mut Scope<'_>,
    key: &str,
    entry: &Entry<Time>,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Duration {
    let Some(time) = entry.located() else { return default };
    let time_value = time.value.0;
    if time_value < *range.start() {
        let error = scope.error(&time.span, format!("`{key}` is at least {}", v1::Time(*range.start())));
        scope.report(error);
    } else if time_value > *range.end() {
        let error = scope.error(&time.span, format!("`{key}` is at most {}", v1::Time(*range.end())));
        scope.report(error);
    }
    time_value
}

/// Returns what happens after the container ended.
pub(super) fn restart(scope: &mut Scope<'_>, service: &v1::Service, kind: Kind) -> Restart {
    let (policy, attempts_max) = match kind {
        Kind::Service => (RestartPolicy::Always, None),
        Kind::Job => (RestartPolicy::OnFailure, Some(JOB_ATTEMPTS_MAX)),
    };
    let Some(written) = service.restart.get() else {
        return Restart { policy, delay: DELAY, delay_max: DELAY_MAX, attempts_max };
    };
    if let Some(policy) = written.policy.located()
        && kind == Kind::Job
        && policy.value == RestartPolicy::Always
    {
        let error = scope.error(&policy.span, "a job that succeeded is not started again");
        scope.report(error.help("write \"on-failure\" or \"no\""));
    }
    let longest = 24 * 60 * MIN;
    let delay = time(scope, "delay", &written.delay, DELAY, Duration::from_millis(100)..=longest);
    let delay_max = time(scope, "delay_max", &written.delay_max, DELAY_MAX.max(delay), Duration::ZERO..=longest);
    if let Some(located) = written.delay_max.located()
        && delay_max < delay
    {
        let error = scope.error(&located.span, format!("`delay_max` is shorter than `delay`, {}", Time(delay)));
        scope.report(error);
    }
    if let Some(attempts) = written.attempts_max.located()
        && attempts.value == 0
    {
        let error = scope.error(&attempts.span, "`attempts_max` is at least 1");
        scope.report(error.help("`restart = \"no\"` never starts it again"));
    }
    Restart {
        policy: written.policy.get().copied().unwrap_or(policy),
        delay,
        delay_max,
        attempts_max: written.attempts_max.get().copied().or(attempts_max),
    }
}
