//! Reads the host: `/proc`, `/sys`, limits, and whether an executor starts.
//!
//! Never judges. What could not be read is `None` or empty, and then nothing is said against it.

use std::{fs, io, path::Path, thread};

use glommio::{LocalExecutorBuilder, Placement};
use rustix::process::{Resource, getrlimit};

use crate::net::descriptors;

/// What was read; `None`: could not be, or, for limits, there is none.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Facts {
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
    /// `fs.nr_open`: the largest limit of open files that a process can be given.
    pub(super) nr_open: Option<u64>,
    /// `fs.file-max`: open files of all processes.
    pub(super) file_max: Option<u64>,
    /// Soft limit of locked memory, bytes.
    pub(super) memlock: Option<u64>,
    /// `net.core.somaxconn`.
    pub(super) somaxconn: Option<u64>,
    /// `net.ipv4.tcp_max_syn_backlog`.
    pub(super) syn_backlog: Option<u64>,
    /// `net.ipv4.tcp_migrate_req`; `None` before Linux 5.14.
    pub(super) migrate_requests: Option<u64>,
    /// `net.ipv4.tcp_mem`, in pages.
    pub(super) tcp_pages: Option<[u64; 3]>,
    /// `net.ipv4.ip_local_port_range`.
    pub(super) ports: Option<(u64, u64)>,
    /// `net.ipv4.ip_local_reserved_ports`, from and to.
    pub(super) reserved_ports: Vec<(u64, u64)>,
    /// `vm.swappiness`; `None` where there is no swap.
    pub(super) swappiness: Option<u64>,
    /// Cores whose frequency something governs, with the governor's name.
    pub(super) governors: Vec<(usize, String)>,
    /// Cores that the scheduler leaves alone (`isolcpus=`).
    pub(super) isolated: Vec<usize>,
    /// Cores of each NUMA node.
    pub(super) nodes: Vec<Vec<usize>>,
    /// Network devices that are no software alone.
    pub(super) devices: Vec<Device>,
}

/// One network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// `eth0`.
    pub(super) name: String,
    /// Receive queues; each is served by one interrupt.
    pub(super) queues: usize,
    /// Queues whose packets are spread over cores by software (RPS).
    pub(super) queues_spread: usize,
    /// Core of each interrupt, where the kernel tells.
    pub(super) interrupt_cores: Vec<usize>,
    /// Its NUMA node.
    pub(super) node: Option<usize>,
}

impl Facts {
    /// Reads them; makes an executor for a moment, since a container may forbid that without a trace in `/proc`.
    pub(in crate::cli) fn read() -> Self {
        let (files, memlock) = (getrlimit(Resource::Nofile), getrlimit(Resource::Memlock));
        let ports = numbers("/proc/sys/net/ipv4/ip_local_port_range");
        let has_swap = text("/proc/swaps").lines().count() > 1;
        Self {
            kernel: version(&text("/proc/sys/kernel/osrelease")),
            io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
            executor_error: probe_executor().err(),
            files: files.current,
            files_hard: files.maximum,
            tables_error: probe_table().err().map(|error| error.to_string()),
            nr_open: number("/proc/sys/fs/nr_open"),
            file_max: number("/proc/sys/fs/file-max"),
            memlock: memlock.current,
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            syn_backlog: number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
            migrate_requests: number("/proc/sys/net/ipv4/tcp_migrate_req"),
            tcp_pages: numbers("/proc/sys/net/ipv4/tcp_mem").try_into().ok(),
            ports: ports.first().copied().zip(ports.get(1).copied()),
            reserved_ports: ranges(&text("/proc/sys/net/ipv4/ip_local_reserved_ports")),
            swappiness: number("/proc/sys/vm/swappiness").filter(|_| has_swap),
            governors: governors(),
            isolated: cores(&text("/sys/devices/system/cpu/isolated")),
            nodes: numbered("/sys/devices/system/node", "node")
                .map(|(_, node)| cores(&text(node.join("cpulist"))))
                .filter(|cores| !cores.is_empty())
                .collect(),
            devices: devices(),
        }
    }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn numbers(path: &str) -> Vec<u64> {
    text(path).split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn number(path: &str) -> Option<u64> {
    numbers(path).first().copied()
}

/// `0-5,8`.
fn ranges(text: &str) -> Vec<(u64, u64)> {
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}

fn cores(text: &str) -> Vec<usize> {
    ranges(text).into_iter().flat_map(|(first, last)| first as usize..=last as usize).collect()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Entries of a directory that are called so, with their number, in order.
fn numbered(directory: impl AsRef<Path>, prefix: &str) -> impl Iterator<Item = (usize, std::path::PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter()
}

fn governors() -> Vec<(usize, String)> {
    let governor = |(core, path): (usize, std::path::PathBuf)| {
        let name = text(path.join("cpufreq/scaling_governor")).trim().to_owned();
        (!name.is_empty()).then_some((core, name))
    };
    numbered("/sys/devices/system/cpu", "cpu").filter_map(governor).collect()
}

fn devices() -> Vec<Device> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    // What has no device behind it (lo, bridges, tunnels) has no interrupts either.
    let mut found: Vec<Device> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("device").exists())
        .map(|path| device(&path))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn device(path: &Path) -> Device {
    let queues: Vec<_> = numbered(path.join("queues"), "rx-").collect();
    let is_spread = |queue: &Path| {
        text(queue.join("rps_cpus")).chars().any(|digit| matches!(digit, '1'..='9' | 'a'..='f'))
    };
    // A virtio device's interrupts hang on its bus.
    let interrupts = ["device/msi_irqs", "device/../msi_irqs"].into_iter().find_map(|below| {
        let found: Vec<_> = numbered(path.join(below), "").map(|(interrupt, _)| interrupt).collect();
        (!found.is_empty()).then_some(found)
    });
    let core = |interrupt: usize| {
        let list = text(format!("/proc/irq/{interrupt}/effective_affinity_list"));
        cores(&list).first().copied()
    };
    Device {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        queues: queues.len(),
        queues_spread: queues.iter().filter(|(_, queue)| is_spread(queue)).count(),
        interrupt_cores: interrupts.into_iter().flatten().filter_map(core).collect(),
        node: text(path.join("device/numa_node")).trim().parse().ok(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_kernel_says() {
        for (text, expected) in
            [("6.1.0-18-amd64\n", Some((6, 1))), ("5.15", Some((5, 15))), ("", None), ("x.y", None)]
        {
            assert_eq!(version(text), expected);
        }
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(ranges("8080,9148-9150\n"), [(8080, 8080), (9148, 9150)]);
        assert_eq!((cores("0-2,5\n"), cores("\n")), (vec![0, 1, 2, 5], vec![]));
    }

    #[test]
    fn a_device_tells_its_queues_and_which_of_them_are_spread() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("eth7");
        for (queue, mask) in [("rx-0", "00000000,00000000\n"), ("rx-1", "00000000,0000000a\n"), ("tx-0", "")]
        {
            let queue = path.join("queues").join(queue);
            fs::create_dir_all(&queue).expect("a directory");
            fs::write(queue.join("rps_cpus"), mask).expect("a file");
        }
        let expected = Device { name: "eth7".into(), queues: 2, queues_spread: 1, ..Device::default() };
        assert_eq!(device(&path), expected);
    }

    #[test]
    fn reading_this_host_works() {
        let facts = Facts::read();
        assert!(facts.kernel.is_some() && facts.nr_open.is_some(), "{facts:?}");
    }
}
