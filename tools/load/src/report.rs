//! The result: one JSON line for scripts, a table for people.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use serde::Serialize;

use crate::{latency::Summary, order::Tls, server::Usage};

/// Everything that a run found out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: &'static str,
    /// `gateway`, `floor`, or what [`crate::options::Options::target`] says.
    pub(crate) target: String,
    pub(crate) url: String,
    pub(crate) connections: u32,
    pub(crate) users: u32,
    pub(crate) workers: u32,
    pub(crate) payload_bytes: usize,
    /// What the scenario was asked for, by option.
    pub(crate) asked: BTreeMap<&'static str, f64>,
    /// Whether everything that was checked held.
    pub(crate) ok: bool,
    pub(crate) fault_count: u64,
    /// The first few.
    pub(crate) faults: Vec<String>,
    pub(crate) connect_seconds: f64,
    /// CPU and memory while the connections were made.
    pub(crate) connecting: Option<Usage>,
    /// CPU and memory during what was measured.
    pub(crate) measured: Option<Usage>,
    /// After everybody left, against before everybody came.
    pub(crate) afterwards: Option<Usage>,
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    /// Published messages received, or pongs.
    pub(crate) deliveries: u64,
    pub(crate) others: u64,
    /// Messages that overtook each other on their way in, the same for all receivers.
    pub(crate) reordered: u32,
    /// What the clients saw of TLS.
    pub(crate) tls: Tls,
    /// Microseconds, by phase.
    pub(crate) latency_us: BTreeMap<String, Summary>,
    /// Ends of connections, by code.
    pub(crate) ends: BTreeMap<String, u32>,
    /// Ends of those that stopped reading.
    pub(crate) stalled_ends: BTreeMap<String, u32>,
    /// Storms: median and longest milliseconds until everybody was in.
    pub(crate) storm_connect_ms: Option<(u64, u64)>,
    /// Derived figures, in the units of their names.
    pub(crate) figures: BTreeMap<&'static str, f64>,
    pub(crate) command: Vec<String>,
}

impl Outcome {
    /// Works out figures per connection and per delivery.
    pub(crate) fn derive(&mut self) {
        let connections = u64::from(self.connections);
        let mut figure = |name, value: Option<f64>| {
            if let Some(value) = value {
                self.figures.insert(name, (value * 1000.0).round() / 1000.0);
            }
        };
        if let Some(usage) = &self.connecting {
            figure("connect_cpu_us_per_connection", usage.cpu_us_per(connections));
            let each = |bytes: i64| Some(bytes as f64 / connections as f64);
            figure("rss_bytes_per_connection", each(usage.rss_grown_bytes));
            figure("pss_bytes_per_connection", each(usage.pss_grown_bytes));
            figure("slab_bytes_per_connection_both_ends", each(usage.slab_grown_bytes));
            figure("tcp_buffer_bytes_per_connection_both_ends", each(usage.tcp_buffers_grown_bytes));
        }
        if let Some(usage) = &self.measured {
            figure("cpu_us_per_delivery", usage.cpu_us_per(self.deliveries));
            figure("busiest_thread_us_per_delivery", usage.busiest_us_per(self.deliveries));
            figure("cpu_percent", Some(usage.cpu_percent));
        }
        if self.seconds > 0.0 && self.deliveries > 0 {
            figure("deliveries_per_second", Some(self.deliveries as f64 / self.seconds));
        }
        if self.connect_seconds > 0.0 {
            figure("connects_per_second", Some(connections as f64 / self.connect_seconds));
        }
    }
}

/// Writes the result to stdout.
pub(crate) fn print(outcome: &Outcome, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return writeln!(out, "{}", serde_json::to_string(outcome)?);
    }
    let Outcome { scenario, target, url, connections, .. } = outcome;
    writeln!(out, "{scenario}: {connections} connections, {target} at {url}")?;
    for (name, value) in &outcome.figures {
        writeln!(out, "  {name:<38} {value:>14.3}")?;
    }
    for (name, us) in &outcome.latency_us {
        writeln!(
            out,
            "  {name:<12} µs  n {}  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            us.count, us.p50, us.p90, us.p99, us.p999, us.max
        )?;
    }
    if let Some(usage) = &outcome.measured {
        for (thread, seconds) in &usage.thread_cpu_seconds {
            writeln!(out, "  thread {thread:<31} {seconds:>14.3} s of {:.3} s", usage.seconds)?;
        }
    }
    for (name, ends) in [("ends", &outcome.ends), ("stalled ends", &outcome.stalled_ends)] {
        if !ends.is_empty() {
            writeln!(out, "  {name}: {ends:?}")?;
        }
    }
    for fault in &outcome.faults {
        writeln!(out, "  FAULT {fault}")?;
    }
    match outcome.fault_count {
        0 => writeln!(out, "  every receiver got every message once and in order"),
        count => writeln!(out, "  FAILED: {count} faults"),
    }
}
