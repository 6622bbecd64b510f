//! What this host allows, what is wanted and why, and the command that mends each shortfall.
//!
//! [`Facts`] reads the host; `kernel` and `machine` judge facts alone. The values that are wanted stand there and nowhere
//! else: `tools/tune-host` takes them from `usher check --settings`.

mod facts;
mod finding;
mod kernel;
mod machine;
#[cfg(test)]
mod tests;

pub(super) use self::{
    facts::Facts,
    finding::{Finding, Setting},
};
use crate::config::Settings;

/// The connections that this configuration is judged for, where it names no number.
const CONNECTIONS_EXPECTED: u64 = 100_000;

/// Judges the facts for this configuration.
pub(super) fn findings(facts: &Facts, settings: &Settings) -> Vec<Finding> {
    let connections = match settings.limits.connections_max {
        0 => CONNECTIONS_EXPECTED,
        limit => limit,
    };
    let cores = &settings.cores;
    let shards = cores.shards.len() as u64;
    let mut findings = vec![
        kernel::version(facts),
        kernel::io_uring(facts),
        kernel::memlock(facts),
        machine::cores(cores),
        // In this order they can be carried out: the second bounds what the third may be raised to.
        kernel::file_max(facts, connections),
        kernel::nr_open(facts, connections, shards),
        kernel::files(facts, connections, shards),
        kernel::backlog(facts),
        kernel::syn_backlog(facts),
        kernel::migration(facts),
        kernel::tcp_memory(facts, connections),
        kernel::ports(facts, &settings.listen),
        machine::swap(facts),
        machine::governor(facts, cores),
        machine::isolated(facts, cores),
        machine::nodes(facts, cores),
    ];
    findings.extend(facts.devices.iter().map(|device| machine::device(device, cores)));
    findings
}
