//! What a server process costs, read from /proc.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::clock;

/// One reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    at_ns: u64,
    /// User and system time of all threads, from /proc/PID/stat.
    cpu_us: f64,
    /// Time on a processor per thread id: name, microseconds, from /proc/PID/task/*/schedstat.
    threads: BTreeMap<u32, (String, f64)>,
    /// VmRSS and Pss, bytes.
    rss: u64,
    pss: u64,
    /// Kernel memory of the whole machine, bytes: both ends of all connections.
    slab: u64,
    /// Buffers of all TCP sockets of the machine, bytes.
    tcp_buffers: u64,
    /// Open descriptors of all tables: a thread may have one of its own.
    descriptors: u64,
}

/// What happened between two readings.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Share of one core.
    pub(crate) cpu_percent: f64,
    /// CPU seconds by thread, the busiest first; those below a millisecond are left out.
    pub(crate) thread_cpu_seconds: Vec<(String, f64)>,
    pub(crate) rss_bytes: u64,
    pub(crate) pss_bytes: u64,
    pub(crate) rss_grown_bytes: i64,
    pub(crate) pss_grown_bytes: i64,
    pub(crate) slab_grown_bytes: i64,
    pub(crate) tcp_buffers_grown_bytes: i64,
    pub(crate) descriptors: u64,
    pub(crate) descriptors_grown: i64,
}

/// Reads the figures of a process.
pub(crate) fn sample(pid: u32) -> io::Result<Sample> {
    let root = format!("/proc/{pid}");
    let read = |name: &str| fs::read_to_string(format!("{root}/{name}"));
    let mut sample = Sample {
        at_ns: clock::mono_ns(),
        cpu_us: cpu_us(&read("stat")?),
        rss: kilobytes(&read("status")?, "VmRSS:"),
        pss: kilobytes(&read("smaps_rollup").unwrap_or_default(), "Pss:"),
        slab: kilobytes(&fs::read_to_string("/proc/meminfo")?, "Slab:"),
        tcp_buffers: tcp_buffers(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default()),
        ..Sample::default()
    };
    let mut tables = BTreeSet::new();
    for task in fs::read_dir(format!("{root}/task"))? {
        let path = task?.path();
        if sample.read_thread(&path) {
            tables.insert(table(&path.join("fd")));
        }
    }
    sample.descriptors = tables.iter().map(|table| table.len() as u64).sum();
    Ok(sample)
}

/// Reads the CPU time of a process alone, which does not take long however many descriptors are open.
pub(crate) fn cpu(pid: u32) -> io::Result<Sample> {
    let root = format!("/proc/{pid}");
    let cpu_us = cpu_us(&fs::read_to_string(format!("{root}/stat"))?);
    let mut sample = Sample { at_ns: clock::mono_ns(), cpu_us, ..Sample::default() };
    for task in fs::read_dir(format!("{root}/task"))? {
        sample.read_thread(&task?.path());
    }
    Ok(sample)
}

/// What is open in a thread's table, by number. Threads that share a table show the same.
fn table(path: &Path) -> BTreeMap<OsString, PathBuf> {
    let list = fs::read_dir(path).into_iter().flatten().flatten();
    list.filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?))).collect()
}

impl Sample {
    /// Takes the name and the time of a thread by its directory; whether it is still there.
    fn read_thread(&mut self, task: &Path) -> bool {
        let read = |name: &str| fs::read_to_string(task.join(name));
        let (Ok(name), Ok(schedule)) = (read("comm"), read("schedstat")) else { return false };
        let id = task.file_name().and_then(|id| id.to_string_lossy().parse().ok()).unwrap_or(0);
        let on_core_ns: f64 = schedule.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0);
        self.threads.insert(id, (name.trim().to_owned(), on_core_ns / 1e3));
        true
    }

    /// CPU seconds since `before` of threads whose names begin with one of these.
    pub(crate) fn seconds_of(&self, before: &Self, names: &[&str]) -> f64 {
        let us = |sample: &Self| {
            let threads = sample.threads.values();
            let of = threads.filter(|(name, _)| names.iter().any(|start| name.starts_with(start)));
            of.map(|(_, us)| us).sum::<f64>()
        };
        (us(self) - us(before)) / 1e6
    }

    /// What happened since `before`.
    pub(crate) fn since(&self, before: &Self) -> Usage {
        let seconds = self.at_ns.saturating_sub(before.at_ns) as f64 / 1e9;
        let cpu_seconds = (self.cpu_us - before.cpu_us) / 1e6;
        let mut threads: Vec<(String, f64)> = self
            .threads
            .iter()
            .map(|(id, (name, us))| {
                (name.clone(), (us - before.threads.get(id).map_or(0.0, |(_, us)| *us)) / 1e6)
            })
            .filter(|(_, seconds)| *seconds >= 0.001)
            .collect();
        threads.sort_by(|a, b| b.1.total_cmp(&a.1));
        let grown = |now: u64, then: u64| now as i64 - then as i64;
        Usage {
            seconds,
            cpu_seconds,
            cpu_percent: if seconds > 0.0 { 100.0 * cpu_seconds / seconds } else { 0.0 },
            thread_cpu_seconds: threads,
            rss_bytes: self.rss,
            pss_bytes: self.pss,
            rss_grown_bytes: grown(self.rss, before.rss),
            pss_grown_bytes: grown(self.pss, before.pss),
            slab_grown_bytes: grown(self.slab, before.slab),
            tcp_buffers_grown_bytes: grown(self.tcp_buffers, before.tcp_buffers),
            descriptors: self.descriptors,
            descriptors_grown: grown(self.descriptors, before.descriptors),
        }
    }
}

impl Usage {
    /// CPU microseconds of the process per unit of work.
    pub(crate) fn cpu_us_per(&self, units: u64) -> Option<f64> {
        (units > 0).then(|| self.cpu_seconds * 1e6 / units as f64)
    }

    /// CPU microseconds of the busiest thread per unit of work.
    pub(crate) fn busiest_us_per(&self, units: u64) -> Option<f64> {
        let (_, seconds) = self.thread_cpu_seconds.first()?;
        (units > 0).then(|| seconds * 1e6 / units as f64)
    }
}

/// User and system time of a /proc/PID/stat line: fields 14 and 15; the name before them may hold anything.
fn cpu_us(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks * 1e6 / rustix::param::clock_ticks_per_second() as f64
}

/// The value of a `Name:   123 kB` line, in bytes.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    value.unwrap_or(0) * 1024
}

/// The last value of the line `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 5`, pages, in bytes.
fn tcp_buffers(sockstat: &str) -> u64 {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"));
    let pages = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "1 (a) b (c)) S 0 1 1 0 -1 4194560 1 2 3 4 300 200 0 0 20 0 1 0 5 6 7";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_us(stat), 500.0 * 1e6 / ticks);
    }

    #[test]
    fn tcp_buffers_are_found_in_their_line() {
        let text = "sockets: used 9\nTCP: inuse 6 orphan 0 tw 0 alloc 8 mem 3\nUDP: inuse 0 mem 7\n";
        assert_eq!(tcp_buffers(text), 3 * rustix::param::page_size() as u64);
    }

    #[test]
    fn sizes_are_found_by_name() {
        assert_eq!(kilobytes("VmPeak:  9 kB\nVmRSS:\t     123 kB\n", "VmRSS:"), 123 * 1024);
    }

    #[test]
    fn this_process_can_be_read() {
        let before = sample(std::process::id()).unwrap();
        let usage = sample(std::process::id()).unwrap().since(&before);
        assert!(usage.rss_bytes > 0 && usage.seconds > 0.0);
    }
}
