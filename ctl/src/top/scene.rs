//! What there is to show: each service with its state, its figures and its rates.

use nixmox_api::{Pressure, ServiceStatus, Status};

use super::rates::{Measured, Sample};

/// A service on the screen.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What it does, and why.
    pub(crate) status: ServiceStatus,
    /// What it uses; without figures before the first sample, and where it does not run.
    pub(crate) measured: Measured,
}

/// Everything that a frame shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// The services that are meant.
    pub(crate) rows: Vec<Row>,
    /// When the figures were read, in microseconds since 1970; 0: not yet.
    pub(crate) at_usec: u64,
    /// The time between two samples, in milliseconds.
    pub(crate) interval_ms: u64,
    /// The agent cannot be reached: what is shown is as it was.
    pub(crate) is_away: bool,
}

impl Row {
    /// Returns the limit of memory in force that counts first; `None`: no limit, or not known.
    pub(crate) fn memory_limit(&self) -> Option<u64> {
        let usage = &self.measured.usage;
        usage.memory_max.into_iter().chain(usage.memory_high).min()
    }

    /// Returns what most of the time was waited for, with a word for it; `None`: the kernel does not say.
    pub(crate) fn worst_pressure(&self) -> Option<(&'static str, f64)> {
        let usage = &self.measured.usage;
        let kinds = [("cpu", usage.cpu_pressure), ("mem", usage.memory_pressure), ("io", usage.io_pressure)];
        let told = kinds
            .into_iter()
            .filter_map(|(kind, pressure): (_, Option<Pressure>)| Some((kind, pressure?.some_avg10)));
        told.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// Returns the bytes that it reads and writes a second.
    pub(crate) fn io(&self) -> Option<f64> {
        sum(self.measured.rates.io_read_per_second, self.measured.rates.io_write_per_second)
    }

    /// Returns the bytes that it receives and sends a second.
    pub(crate) fn network(&self) -> Option<f64> {
        let rates = &self.measured.rates;
        sum(rates.network_receive_per_second, rates.network_transmit_per_second)
    }
}

fn sum(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0.0) + other.unwrap_or(0.0)),
    }
}

/// Returns a row for each service of a status, with what a sample has of it.
pub(crate) fn rows(status: &Status, sample: Option<&Sample>) -> Vec<Row> {
    let measured = |name: &str| {
        let services = sample.map(|sample| sample.services.as_slice()).unwrap_or_default();
        services.iter().find(|measured| measured.usage.name == name).cloned().unwrap_or_default()
    };
    status
        .services
        .iter()
        .map(|service| Row { status: service.clone(), measured: measured(&service.name) })
        .collect()
}
