//! What this host allows, and the command that mends each shortfall.
//!
//! [`Facts`] reads the host; [`findings`] judges facts alone.

use std::{fs, io, thread};

use glommio::{LocalExecutorBuilder, Placement};
use rustix::process::{Resource, getrlimit};

use crate::{config::Settings, net::descriptors};

/// What was read; `None`: could not be, or, for limits, there is none.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Major and minor version.
    pub(super) kernel: Option<(u32, u32)>,
    /// `kernel.io_uring_disabled`: 0 everybody may, 1 some may, 2 nobody may.
    pub(super) io_uring_disabled: Option<u64>,
    /// Why an executor could not be made.
    pub(super) executor_error: Option<String>,
    /// Soft limit of open files, per descriptor table.
    pub(super) files: Option<u64>,
    /// Hard limit of open files.
    pub(super) files_hard: Option<u64>,
    /// Why shards cannot have descriptor tables of their own.
    pub(super) tables_error: Option<String>,
    /// Soft limit of locked memory, bytes.
    pub(super) memlock: Option<u64>,
    /// `net.core.somaxconn`.
    pub(super) somaxconn: Option<u64>,
    /// The third value of `net.ipv4.tcp_mem`, in bytes.
    pub(super) tcp_bytes: Option<u64>,
    /// `net.ipv4.ip_local_port_range`.
    pub(super) ports: Option<(u64, u64)>,
}

impl Facts {
    /// Reads them; makes an executor for a moment, since a container may forbid that without a trace in `/proc`.
    pub(super) fn read() -> Self {
        let (files, memlock) = (getrlimit(Resource::Nofile), getrlimit(Resource::Memlock));
        let tcp_pages = numbers("/proc/sys/net/ipv4/tcp_mem").get(2).copied();
        let ports = numbers("/proc/sys/net/ipv4/ip_local_port_range");
        Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().and_then(|text| version(&text)),
            io_uring_disabled: numbers("/proc/sys/kernel/io_uring_disabled").first().copied(),
            executor_error: probe_executor().err(),
            files: files.current,
            files_hard: files.maximum,
            tables_error: probe_table().err().map(|error| error.to_string()),
            memlock: memlock.current,
            somaxconn: numbers("/proc/sys/net/core/somaxconn").first().copied(),
            tcp_bytes: tcp_pages.map(|pages| pages.saturating_mul(rustix::param::page_size() as u64)),
            ports: ports.first().copied().zip(ports.get(1).copied()),
        }
    }
}

fn numbers(path: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// On a thread of its own, so that even a panic of the executor is only an answer.
fn probe_executor() -> Result<(), String> {
    let make =
        || LocalExecutorBuilder::new(Placement::Unbound).make().map(drop).map_err(|error| error.to_string());
    thread::spawn(make).join().unwrap_or_else(|_| Err("the executor panicked".into()))
}

/// On a thread of its own, which alone gets a table and ends with it.
fn probe_table() -> io::Result<()> {
    let died = |_| Err(io::Error::other("the thread panicked"));
    thread::spawn(descriptors::make_private).join().unwrap_or_else(died)
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) name: &'static str,
    /// What was found and what follows from it.
    pub(super) says: String,
    /// The command or change that mends it; `None`: nothing is wrong.
    pub(super) mend: Option<String>,
}

fn fine(name: &'static str, says: String) -> Finding {
    Finding { name, says, mend: None }
}

/// The connections that this configuration is judged for, where it names no number.
const CONNECTIONS_EXPECTED: u64 = 100_000;
/// Descriptors of a table that are not connections: logs, wakers, listeners; in the process's own, gRPC calls.
const FILES_RESERVED: u64 = 60;
/// Rings and wakers of one shard's executor, which other shards' tables may hold too.
const FILES_PER_EXECUTOR: u64 = 4;
/// More shards than this are no advice against a low limit.
const SHARDS_ADVISED_MAX: u64 = 64;
/// Without it no executor starts.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1_024;
/// Connections that arrive at one listener between two turns of its shard, when a sale opens.
const BACKLOG_WANTED: u64 = 4_096;
/// What the kernel needs for a connection that has something to send.
const TCP_BYTES_PER_CONNECTION: u64 = 16 * 1_024;

/// Judges the facts for this configuration.
pub(super) fn findings(facts: &Facts, settings: &Settings) -> Vec<Finding> {
    let connections = match settings.limits.connections_max {
        0 => CONNECTIONS_EXPECTED,
        limit => limit,
    };
    vec![
        kernel(facts),
        io_uring(facts),
        memlock(facts),
        cores(settings),
        files(facts, connections, settings.cores.shards.len() as u64),
        backlog(facts),
        tcp_memory(facts, connections),
        ports(facts),
        fine(
            "store",
            "embedded: streams end with the process; clients that reconnect afterwards start anew".into(),
        ),
    ]
}

fn kernel(facts: &Facts) -> Finding {
    let Some((major, minor)) = facts.kernel else { return fine("kernel", "version unknown".into()) };
    let mend = ((major, minor) < (5, 15)).then(|| "use Linux 5.15 or newer".to_owned());
    Finding { name: "kernel", says: format!("Linux {major}.{minor}"), mend }
}

fn io_uring(facts: &Facts) -> Finding {
    let (says, mend) = match (&facts.executor_error, facts.io_uring_disabled) {
        (None, _) => ("an executor starts".to_owned(), None),
        (Some(error), Some(value @ 1..)) => (
            format!("disabled (kernel.io_uring_disabled={value}): {error}"),
            Some("sysctl -w kernel.io_uring_disabled=0".to_owned()),
        ),
        (Some(error), _) => (
            format!("no executor starts: {error}"),
            Some("see memlock below; in a container allow io_uring_setup, io_uring_enter and io_uring_register".into()),
        ),
    };
    Finding { name: "io_uring", says, mend }
}

fn memlock(facts: &Facts) -> Finding {
    let Some(bytes) = facts.memlock else { return fine("memlock", "unlimited".into()) };
    let mend = (bytes < MEMLOCK_BYTES_MIN).then(|| "ulimit -l 8192   (systemd: LimitMEMLOCK=8M)".to_owned());
    Finding {
        name: "memlock",
        says: format!("{} KiB; executors need {} KiB", bytes >> 10, MEMLOCK_BYTES_MIN >> 10),
        mend,
    }
}

fn cores(settings: &Settings) -> Finding {
    let cores = &settings.cores;
    let shared = if cores.shards.contains(&cores.control) { ", which a shard uses too" } else { "" };
    let count = cores.shards.len();
    let plural = if count == 1 { "" } else { "s" };
    fine("cores", format!("{count} shard{plural}; control on core {}{shared}", cores.control))
}

fn files(facts: &Facts, connections: u64, shards: u64) -> Finding {
    let Some(limit) = facts.files else { return fine("descriptors", "unlimited".into()) };
    let room = |shards| limit.saturating_sub(FILES_RESERVED + FILES_PER_EXECUTOR * shards);
    let reserved = limit - room(shards);
    let (says, fits, wanted) = match &facts.tables_error {
        None => (
            format!("{limit} for each of {shards} shards: {} connections in all", room(shards) * shards),
            share(connections, shards) <= room(shards),
            share(connections, shards) + reserved,
        ),
        Some(error) => (
            format!(
                "{limit} for the process, since shards cannot have tables of their own ({error}): {} connections in all",
                room(shards)
            ),
            connections <= room(shards),
            connections + reserved,
        ),
    };
    let mend = (!fits).then(|| {
        let more_shards = (shards + 1..=SHARDS_ADVISED_MAX).find(|more| share(connections, *more) <= room(*more));
        let or_shards = match (&facts.tables_error, more_shards) {
            (None, Some(more)) => format!("; or SHARDS={more}"),
            (None, None) => String::new(),
            (Some(_), _) => "; or allow unshare in the container".to_owned(),
        };
        if facts.files_hard.is_none_or(|hard| wanted <= hard) {
            format!("ulimit -n {wanted}   (systemd: LimitNOFILE={wanted}){or_shards}")
        } else {
            format!("systemd: LimitNOFILE={wanted}; container: --ulimit nofile={wanted}; the hard limit is lower{or_shards}")
        }
    });
    Finding { name: "descriptors", says, mend }
}

/// Connections of the fullest shard: the kernel spreads them by a hash, so that their number varies about the mean as the
/// square root of it; four times that is not met in practice.
fn share(connections: u64, shards: u64) -> u64 {
    let mean = connections.div_ceil(shards);
    if shards == 1 { mean } else { mean + 4 * mean.isqrt() }
}

fn backlog(facts: &Facts) -> Finding {
    let Some(value) = facts.somaxconn else { return fine("somaxconn", "unknown".into()) };
    let mend = (value < BACKLOG_WANTED).then(|| format!("sysctl -w net.core.somaxconn={BACKLOG_WANTED}"));
    Finding { name: "somaxconn", says: format!("{value} connections wait for each listener at most"), mend }
}

fn tcp_memory(facts: &Facts, connections: u64) -> Finding {
    let Some(bytes) = facts.tcp_bytes else { return fine("tcp_mem", "unknown".into()) };
    let wanted = connections.saturating_mul(TCP_BYTES_PER_CONNECTION);
    let mend = (bytes < wanted).then(|| {
        let pages = wanted.div_ceil(rustix::param::page_size() as u64);
        format!("sysctl -w net.ipv4.tcp_mem=\"{} {} {pages}\"", pages / 2, pages / 4 * 3)
    });
    let says = format!(
        "{} MiB of socket memory, {} KiB for each of {connections}",
        bytes >> 20,
        (bytes / connections) >> 10
    );
    Finding { name: "tcp_mem", says, mend }
}

/// Never a shortfall of the gateway, which accepts at one port; proxies and load generators run into it.
fn ports(facts: &Facts) -> Finding {
    let Some((first, last)) = facts.ports else { return fine("port range", "unknown".into()) };
    let count = last.saturating_sub(first) + 1;
    fine(
        "port range",
        format!("a proxy or load generator on this host makes {count} connections per source address"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            kernel: Some((6, 1)),
            io_uring_disabled: Some(0),
            executor_error: None,
            files: Some(200_000),
            files_hard: Some(1_000_000),
            tables_error: None,
            memlock: None,
            somaxconn: Some(4_096),
            tcp_bytes: Some(8 << 30),
            ports: Some((32_768, 60_999)),
        }
    }

    fn mends(facts: &Facts) -> Vec<(&'static str, String)> {
        let findings = findings(facts, &Settings::default());
        findings.into_iter().filter_map(|finding| Some((finding.name, finding.mend?))).collect()
    }

    #[test]
    fn a_good_host_needs_no_mending() {
        assert_eq!(mends(&good()), []);
    }

    #[test]
    fn each_shortfall_has_its_command() {
        let uring = "sysctl -w kernel.io_uring_disabled=0";
        let error = || Some("EPERM".to_owned());
        let rows = [
            (Facts { kernel: Some((5, 10)), ..good() }, "kernel", "5.15"),
            (Facts { executor_error: error(), io_uring_disabled: Some(2), ..good() }, "io_uring", uring),
            (Facts { executor_error: error(), ..good() }, "io_uring", "in a container allow io_uring_setup"),
            (Facts { memlock: Some(65_536), ..good() }, "memlock", "ulimit -l"),
            (Facts { files: Some(1_024), ..good() }, "descriptors", "ulimit -n 100064"),
            (
                Facts { files: Some(1_024), files_hard: Some(4_096), ..good() },
                "descriptors",
                "LimitNOFILE=100064",
            ),
            (Facts { somaxconn: Some(128), ..good() }, "somaxconn", "sysctl -w net.core.somaxconn=4096"),
            (Facts { tcp_bytes: Some(64 << 20), ..good() }, "tcp_mem", "sysctl -w net.ipv4.tcp_mem="),
        ];
        for (facts, name, command) in rows {
            let mends = mends(&facts);
            assert!(mends.len() == 1 && mends[0].0 == name && mends[0].1.contains(command), "{mends:?}");
        }
    }

    #[test]
    fn descriptors_count_for_each_shard_unless_tables_cannot_be_private() {
        let facts = |error: Option<&str>| Facts {
            files: Some(20_000),
            files_hard: Some(20_000),
            tables_error: error.map(str::to_owned),
            ..good()
        };
        for (error, shards, says, mend) in [
            (None, 6, "each of 6 shards: 119496 connections", None),
            (None, 5, "each of 5 shards: 99600 connections", Some("SHARDS=6")),
            (None, 2, "each of 2 shards", Some("LimitNOFILE=50960; container: --ulimit nofile=50960")),
            (Some("EPERM"), 6, "for the process", Some("allow unshare")),
        ] {
            let finding = files(&facts(error), 100_000, shards);
            assert!(finding.says.contains(says), "{finding:?}");
            let found = finding.mend.as_deref();
            assert_eq!(found.is_some(), mend.is_some(), "{finding:?}");
            assert!(mend.is_none_or(|mend| found.is_some_and(|found| found.contains(mend))), "{finding:?}");
        }
    }

    #[test]
    fn versions_are_read_from_what_the_kernel_says() {
        for (text, expected) in
            [("6.1.0-18-amd64\n", Some((6, 1))), ("5.15", Some((5, 15))), ("", None), ("x.y", None)]
        {
            assert_eq!(version(text), expected);
        }
    }

    #[test]
    fn reading_this_host_works() {
        assert!(Facts::read().kernel.is_some());
    }
}
