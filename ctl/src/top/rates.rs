//! Rates: what was used between two answers of the agent about the same run.
//!
//! Made here and not by the agent: who asks often and who asks seldom do not disturb each other, and nobody has to
//! remember anything for those that ask no more.

use std::collections::BTreeMap;

use nixmox_api::{ServiceUsage, UsageReply};
use serde::Serialize;

/// The figures of one moment with the rates up to it: what `top --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// When the figures were read, in microseconds since 1970.
    pub(crate) at_usec: u64,
    /// The time that the rates are of, in microseconds; absent in the first sample, which has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) period_usec: Option<u64>,
    /// The services, by stack and then in start order.
    pub(crate) services: Vec<Measured>,
}

/// A service's figures and rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Measured {
    /// As the agent told them.
    #[serde(flatten)]
    pub(crate) usage: ServiceUsage,
    /// What was made of them.
    #[serde(flatten)]
    pub(crate) rates: Rates,
}

/// What a service used per second. `None`: one of the figures was missing, or they are of different runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    /// CPU time in percent of one CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_percent: Option<f64>,
    /// Bytes read a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) io_read_per_second: Option<f64>,
    /// Bytes written a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) io_write_per_second: Option<f64>,
    /// Bytes received a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_receive_per_second: Option<f64>,
    /// Bytes sent a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network_transmit_per_second: Option<f64>,
}

/// Makes samples of one answer after the other; keeps the last one alone.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    before: Option<UsageReply>,
}

impl Sampler {
    /// Returns the sample of an answer.
    pub(crate) fn take(&mut self, now: UsageReply) -> Sample {
        // The clock of another boot may be behind.
        let period_usec = self.before.as_ref().and_then(|before| now.clock_usec.checked_sub(before.clock_usec));
        let period_usec = period_usec.filter(|period| *period > 0);
        let known: BTreeMap<&str, &ServiceUsage> = self
            .before
            .iter()
            .flat_map(|before| &before.services)
            .map(|usage| (usage.name.as_str(), usage))
            .collect();
        let measured = |usage: &ServiceUsage| {
            let before = known.get(usage.name.as_str());
            let rates = before.zip(period_usec).map(|(before, period)| Rates::between(before, usage, period));
            Measured { usage: usage.clone(), rates: rates.unwrap_or_default() }
        };
        let services = now.services.iter().map(measured).collect();
        let sample = Sample { at_usec: now.at_usec, period_usec, services };
        self.before = Some(now);
        sample
    }
}

impl Rates {
    fn between(before: &ServiceUsage, now: &ServiceUsage, period_usec: u64) -> Self {
        if now.invocation.is_none() || before.invocation != now.invocation {
            return Self::default();
        }
        let per_second = |figure: fn(&ServiceUsage) -> Option<u64>| {
            // A counter that went back is another one: a device that is gone, an interface that was made anew.
            let used = figure(now)?.checked_sub(figure(before)?)?;
            Some(float(used) * 1e6 / float(period_usec))
        };
        Self {
            // Microseconds a second, in percent.
            cpu_percent: per_second(|usage| usage.cpu_usec).map(|usec| usec / 1e4),
            io_read_per_second: per_second(|usage| usage.io_read_bytes),
            io_write_per_second: per_second(|usage| usage.io_write_bytes),
            network_receive_per_second: per_second(|usage| usage.network_receive_bytes),
            network_transmit_per_second: per_second(|usage| usage.network_transmit_bytes),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people; 2^53 bytes are eight pebibytes")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(run: &str, cpu_usec: u64, written: Option<u64>) -> ServiceUsage {
        ServiceUsage {
            name: "web".to_owned(),
            invocation: Some(run.to_owned()),
            cpu_usec: Some(cpu_usec),
            io_write_bytes: written,
            ..ServiceUsage::default()
        }
    }

    fn rates(before: ServiceUsage, now: ServiceUsage) -> Rates {
        let mut sampler = Sampler::default();
        let reply = |clock_usec, usage| UsageReply { at_usec: 5, clock_usec, services: vec![usage] };
        assert_eq!(sampler.take(reply(1_000_000, before)).period_usec, None);
        let sample = sampler.take(reply(3_000_000, now));
        assert_eq!(sample.period_usec, Some(2_000_000));
        sample.services[0].rates
    }

    #[test]
    fn a_rate_is_what_was_used_in_the_time_between() {
        let expected = Rates { cpu_percent: Some(150.0), io_write_per_second: Some(2048.0), ..Rates::default() };
        assert_eq!(rates(usage("a", 1_000_000, Some(1024)), usage("a", 4_000_000, Some(5120))), expected);
    }

    #[test]
    fn there_is_none_between_two_runs_without_a_figure_or_where_a_counter_went_back() {
        assert_eq!(rates(usage("a", 9, Some(9)), usage("b", 10, Some(10))), Rates::default());
        let idle = Rates { cpu_percent: Some(0.0), ..Rates::default() };
        assert_eq!(rates(usage("a", 9, None), usage("a", 9, Some(10))), idle);
        assert_eq!(rates(usage("a", 9, Some(9)), usage("a", 9, Some(8))), idle);
    }

    #[test]
    fn the_clock_of_another_boot_makes_no_rates() {
        let mut sampler = Sampler::default();
        let reply = |clock_usec| UsageReply { at_usec: 5, clock_usec, services: vec![usage("a", 5, None)] };
        sampler.take(reply(9));
        let sample = sampler.take(reply(3));
        assert_eq!((sample.period_usec, sample.services[0].rates), (None, Rates::default()));
    }
}
