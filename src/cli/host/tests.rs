//! Judgements of hosts that are made up.

use super::{facts::Device, *};

fn good() -> Facts {
    Facts {
        kernel: Some((6, 1)),
        io_uring_disabled: Some(0),
        files: Some(200_000),
        files_hard: Some(1_000_000),
        nr_open: Some(1_048_576),
        file_max: Some(u64::MAX >> 1),
        somaxconn: Some(4_096),
        syn_backlog: Some(8_192),
        migrate_requests: Some(1),
        tcp_pages: Some([1 << 20, 1 << 20, 2 << 20]),
        ports: Some((32_768, 60_999)),
        reserved_ports: vec![(50_050, 50_059)],
        swappiness: Some(1),
        governors: vec![(0, "performance".into()), (1, "performance".into()), (7, "powersave".into())],
        isolated: vec![0, 1],
        nodes: vec![vec![0, 1, 7]],
        devices: vec![Device {
            name: "eth0".into(),
            queues: 2,
            interrupt_cores: vec![0, 1],
            ..Device::default()
        }],
        ..Facts::default()
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    (settings.cores.shards, settings.cores.control) = (vec![0, 1], 1);
    settings
}

fn mends(facts: &Facts) -> Vec<(&'static str, String)> {
    let findings = findings(facts, &settings());
    findings.into_iter().filter_map(|finding| Some((finding.name, finding.mend()?))).collect()
}

#[test]
fn a_good_host_needs_no_mending() {
    assert_eq!(mends(&good()), []);
}

#[test]
fn what_cannot_be_read_is_no_shortfall() {
    assert_eq!(mends(&Facts::default()), []);
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
        (Facts { files: Some(1_024), ..good() }, "descriptors", "ulimit -n 50960"),
        (Facts { files: Some(1_024), files_hard: Some(4_096), ..good() }, "descriptors", "LimitNOFILE=50960"),
        (Facts { nr_open: Some(40_000), ..good() }, "nr_open", "sysctl -w fs.nr_open=50960"),
        (Facts { file_max: Some(100_000), ..good() }, "file-max", "sysctl -w fs.file-max=165536"),
        (Facts { somaxconn: Some(128), ..good() }, "somaxconn", "sysctl -w net.core.somaxconn=4096"),
        (Facts { migrate_requests: Some(0), ..good() }, "migration", "sysctl -w net.ipv4.tcp_migrate_req=1"),
        (
            Facts { syn_backlog: Some(512), ..good() },
            "syn backlog",
            "sysctl -w net.ipv4.tcp_max_syn_backlog=4096",
        ),
        (Facts { tcp_pages: Some([1, 2, 3]), ..good() }, "tcp_mem", "sysctl -w net.ipv4.tcp_mem=\""),
        (
            Facts { reserved_ports: vec![(40_000, 40_001)], ..good() },
            "port range",
            "sysctl -w net.ipv4.ip_local_reserved_ports=40000-40001,50057",
        ),
        (Facts { swappiness: Some(60), ..good() }, "swappiness", "sysctl -w vm.swappiness=10"),
        (
            Facts { governors: vec![(1, "powersave".into())], ..good() },
            "governor",
            "echo performance > /sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        ),
    ];
    for (facts, name, command) in rows {
        let mends = mends(&facts);
        assert!(mends.len() == 1 && mends[0].0 == name && mends[0].1.contains(command), "{mends:?}");
    }
}

#[test]
fn few_receive_queues_are_spread_over_the_shards_and_piled_up_interrupts_told() {
    let host = |device| Facts { devices: vec![device], ..good() };
    let one = Device { name: "eth0".into(), queues: 1, ..Device::default() };
    let rows = [
        (one.clone(), Some("echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus")),
        (Device { queues_spread: 1, ..one.clone() }, None),
        (Device { queues: 2, ..one.clone() }, None),
        (Device { queues: 2, interrupt_cores: vec![1, 1], ..one }, Some("irqbalance")),
    ];
    for (device, expected) in rows {
        let mends = mends(&host(device));
        let mend = mends.first().map(|(_, mend)| &**mend);
        let fits = match expected {
            Some(expected) => mend.is_some_and(|mend| mend.contains(expected)),
            None => mend.is_none(),
        };
        assert!(fits, "{expected:?}: {mends:?}");
    }
}

#[test]
fn more_than_enough_is_never_lowered() {
    for finding in findings(&good(), &settings()) {
        assert!(finding.settings.iter().all(|setting| setting.is_met()), "{finding:?}");
    }
}

#[test]
fn limits_follow_the_connections_that_are_configured() {
    let mut settings = settings();
    settings.limits.connections_max = 500;
    let findings = findings(&Facts { files: Some(100), ..good() }, &settings);
    let files = findings.iter().find(|finding| finding.name == "descriptors").expect("it is looked at");
    assert_eq!(files.settings[0].wanted, "378");
    assert!(files.wants.contains("500 connections"), "{files:?}");
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
        let finding = kernel::files(&facts(error), 100_000, shards);
        assert!(finding.says.contains(says), "{finding:?}");
        let found = finding.mend();
        assert_eq!(found.is_some(), mend.is_some(), "{finding:?}");
        assert!(mend.is_none_or(|mend| found.is_some_and(|found| found.contains(mend))), "{finding:?}");
    }
}

#[test]
fn two_nodes_are_told_with_what_stands_on_them() {
    let nodes = vec![vec![0], vec![1, 2, 3]];
    let finding = machine::nodes(&Facts { nodes, ..good() }, &settings().cores);
    assert!(finding.says.contains("nodes 0-1") && finding.says.contains("control on node 1"), "{finding:?}");
    assert!(finding.wants.contains("SHARD_CORES=1-3") && finding.mend().is_none(), "{finding:?}");
}
