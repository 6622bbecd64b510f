//! Judges what the kernel allows: its version, io_uring, limits and the sysctls of sockets.

use super::{
    facts::Facts,
    finding::{Finding, Setting},
};
use crate::config::settings::Listen;

/// Descriptors of a table that are not connections: logs, wakers, listeners; in the process's own, gRPC calls.
const FILES_RESERVED: u64 = 60;
/// Rings and wakers of one shard's executor, which other shards' tables may hold too.
const FILES_PER_EXECUTOR: u64 = 4;
/// More shards than this are no advice against a low limit.
const SHARDS_ADVISED_MAX: u64 = 64;
/// Open files of everything else on the host.
const FILES_OF_OTHERS: u64 = 65_536;
/// Without it no executor starts.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1_024;
/// Connections that arrive at one listener between two turns of its shard, when a sale opens.
const BACKLOG_WANTED: u64 = 4_096;
/// What the kernel needs for a connection that has something to send.
const TCP_BYTES_PER_CONNECTION: u64 = 16 * 1_024;

pub(super) fn version(facts: &Facts) -> Finding {
    let Some((major, minor)) = facts.kernel else { return Finding::new("kernel", "version unknown") };
    Finding::new("kernel", format!("Linux {major}.{minor}"))
        .wants("5.15 or newer")
        .advice(((major, minor) < (5, 15)).then(|| "use Linux 5.15 or newer".to_owned()))
}

pub(super) fn io_uring(facts: &Facts) -> Finding {
    let found = |says| Finding::new("io_uring", says).wants("an executor for each shard");
    match (&facts.executor_error, facts.io_uring_disabled) {
        (None, _) => found("an executor starts".to_owned()),
        (Some(error), Some(value @ 1..)) => found(format!(
            "disabled (kernel.io_uring_disabled={value}): {error}"
        ))
        .setting(Setting::sysctl("kernel.io_uring_disabled", value.to_string(), "0".to_owned())),
        (Some(error), _) => found(format!("no executor starts: {error}")).advice(Some(
            "see memlock below; in a container allow io_uring_setup, io_uring_enter and io_uring_register"
                .into(),
        )),
    }
}

pub(super) fn memlock(facts: &Facts) -> Finding {
    let Some(bytes) = facts.memlock else { return Finding::new("memlock", "unlimited") };
    let wanted = MEMLOCK_BYTES_MIN;
    let command = "ulimit -l 8192   (systemd: LimitMEMLOCK=8M)".to_owned();
    // In KiB, as `ulimit` and limits.conf count.
    Finding::new("memlock", format!("{} KiB", bytes >> 10))
        .wants(format!("{} KiB: without it no executor starts", wanted >> 10))
        .setting(Setting::limit("memlock", bytes >> 10, wanted >> 10, command))
}

pub(super) fn file_max(facts: &Facts, connections: u64) -> Finding {
    let Some(value) = facts.file_max else { return Finding::new("file-max", "unknown") };
    let wanted = connections.saturating_add(FILES_OF_OTHERS);
    Finding::new("file-max", format!("{value} open files of all processes"))
        .wants(format!("{wanted}: {connections} connections and everything else"))
        .setting(Setting::at_least("fs.file-max", value, wanted))
}

pub(super) fn nr_open(facts: &Facts, connections: u64, shards: u64) -> Finding {
    let Some(value) = facts.nr_open else { return Finding::new("nr_open", "unknown") };
    let wanted = files_wanted(facts, connections, shards);
    Finding::new("nr_open", format!("a descriptor table can be given {value} at most"))
        .wants(format!("{wanted}, for {connections} connections"))
        .setting(Setting::at_least("fs.nr_open", value, wanted))
}

pub(super) fn files(facts: &Facts, connections: u64, shards: u64) -> Finding {
    let Some(limit) = facts.files else { return Finding::new("descriptors", "unlimited") };
    let room = |shards| limit.saturating_sub(reserved(shards));
    let (says, more_room) = match &facts.tables_error {
        None => {
            let enough = |more: &u64| share(connections, *more) <= room(*more);
            (
                format!("{limit} for each of {shards} shards: {} connections in all", room(shards) * shards),
                (shards + 1..=SHARDS_ADVISED_MAX).find(enough).map(|more| format!("; or SHARDS={more}")),
            )
        }
        Some(error) => (
            format!(
                "{limit} for the process, since shards cannot have tables of their own ({error}): {} connections in all",
                room(shards)
            ),
            Some("; or allow unshare in the container".to_owned()),
        ),
    };
    let wanted = files_wanted(facts, connections, shards);
    let more_room = more_room.unwrap_or_default();
    let command = if facts.files_hard.is_none_or(|hard| wanted <= hard) {
        format!("ulimit -n {wanted}   (systemd: LimitNOFILE={wanted}){more_room}")
    } else {
        format!(
            "systemd: LimitNOFILE={wanted}; container: --ulimit nofile={wanted}; the hard limit is lower{more_room}"
        )
    };
    Finding::new("descriptors", says)
        .wants(format!("{wanted}, for {connections} connections"))
        .setting(Setting::limit("nofile", limit, wanted, command))
}

/// Descriptors that one table must have.
fn files_wanted(facts: &Facts, connections: u64, shards: u64) -> u64 {
    let fullest = if facts.tables_error.is_none() { share(connections, shards) } else { connections };
    fullest.saturating_add(reserved(shards))
}

fn reserved(shards: u64) -> u64 {
    FILES_RESERVED + FILES_PER_EXECUTOR * shards
}

/// Connections of the fullest shard: the kernel spreads them by a hash, so that their number varies about the mean as the
/// square root of it; four times that is not met in practice.
fn share(connections: u64, shards: u64) -> u64 {
    let mean = connections.div_ceil(shards.max(1));
    if shards <= 1 { mean } else { mean + 4 * mean.isqrt() }
}

pub(super) fn backlog(facts: &Facts) -> Finding {
    let Some(value) = facts.somaxconn else { return Finding::new("somaxconn", "unknown") };
    Finding::new("somaxconn", format!("{value} connections wait for each listener at most"))
        .wants(format!(
            "{BACKLOG_WANTED}: what arrives at one shard between two of its turns when a sale opens"
        ))
        .setting(Setting::at_least("net.core.somaxconn", value, BACKLOG_WANTED))
}

pub(super) fn syn_backlog(facts: &Facts) -> Finding {
    let Some(value) = facts.syn_backlog else { return Finding::new("syn backlog", "unknown") };
    Finding::new("syn backlog", format!("{value} half-open connections for each listener at most"))
        .wants(format!(
            "{BACKLOG_WANTED}, as somaxconn: beyond it cookies answer, or the client tries again a second later"
        ))
        .setting(Setting::at_least("net.ipv4.tcp_max_syn_backlog", value, BACKLOG_WANTED))
}

pub(super) fn migration(facts: &Facts) -> Finding {
    let Some(value) = facts.migrate_requests else { return Finding::new("migration", "unknown") };
    let says = if value == 0 { "reset with the listener" } else { "go to another listener of the port" };
    Finding::new("migration", format!("connections under way when a listener closes {says}"))
        .wants("net.ipv4.tcp_migrate_req=1: a new process takes over without losing one (TAKE_OVER)")
        .setting(Setting::at_least("net.ipv4.tcp_migrate_req", value, 1))
}

pub(super) fn tcp_memory(facts: &Facts, connections: u64) -> Finding {
    let Some([low, pressure, most]) = facts.tcp_pages else { return Finding::new("tcp_mem", "unknown") };
    let page = rustix::param::page_size() as u64;
    let bytes = most.saturating_mul(page);
    let pages = connections.saturating_mul(TCP_BYTES_PER_CONNECTION).div_ceil(page);
    let now = format!("{low} {pressure} {most}");
    let wanted = if most >= pages { now.clone() } else { format!("{} {} {pages}", pages / 2, pages / 4 * 3) };
    let each = (bytes / connections.max(1)) >> 10;
    Finding::new(
        "tcp_mem",
        format!("{} MiB of socket memory, {each} KiB for each of {connections}", bytes >> 20),
    )
    .wants(format!(
        "{} KiB for each of {connections}: a message to all at once",
        TCP_BYTES_PER_CONNECTION >> 10
    ))
    .setting(Setting::sysctl("net.ipv4.tcp_mem", now, wanted))
}

/// How many connections a proxy or load generator makes from here; and whether one of theirs can take a port of ours while
/// the gateway is not running.
pub(super) fn ports(facts: &Facts, listen: &Listen) -> Finding {
    let Some((first, last)) = facts.ports else { return Finding::new("port range", "unknown") };
    let count = last.saturating_sub(first) + 1;
    let says = format!("a proxy or load generator on this host makes {count} connections per source address");
    let finding = Finding::new("port range", says);
    let within = |port: &u64| (first..=last).contains(port);
    let mut ours: Vec<u64> = listening(listen).into_iter().filter(within).collect();
    ours.sort_unstable();
    if ours.is_empty() {
        return finding;
    }
    let range = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let reserved: Vec<String> = facts.reserved_ports.iter().map(range).collect();
    let missing =
        ours.iter().filter(|port| !facts.reserved_ports.iter().any(|(a, b)| (a..=b).contains(port)));
    let wanted: Vec<String> = reserved.iter().cloned().chain(missing.map(u64::to_string)).collect();
    let list = ours.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    finding
        .wants(format!(
            "{list} kept out of it: else somebody's connection may hold the port when the gateway starts"
        ))
        .setting(Setting::sysctl("net.ipv4.ip_local_reserved_ports", reserved.join(","), wanted.join(",")))
}

/// Ports that the configuration names.
fn listening(listen: &Listen) -> Vec<u64> {
    let others = [listen.admin, listen.health].into_iter().flatten().map(|address| address.port());
    let clients = [Some(listen.http_port), listen.https_port, Some(listen.grpc.port())].into_iter().flatten();
    clients.chain(others).filter(|port| *port > 0).map(u64::from).collect()
}
