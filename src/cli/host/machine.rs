//! Judges cores, memory and network devices: where the machine works against the shards.

use super::{
    facts::{Device, Facts},
    finding::{Finding, Setting},
};
use crate::config::{kind::show_cores, settings::Cores};

/// Above it, the kernel swaps what is idle in favour of caches.
const SWAPPINESS_MAX: u64 = 10;

pub(super) fn cores(cores: &Cores) -> Finding {
    let shared = if cores.shards.contains(&cores.control) { ", which a shard uses too" } else { "" };
    let count = cores.shards.len();
    let plural = if count == 1 { "" } else { "s" };
    Finding::new("cores", format!("{count} shard{plural}; control on core {}{shared}", cores.control))
}

pub(super) fn governor(facts: &Facts, cores: &Cores) -> Finding {
    let ours = facts.governors.iter().filter(|(core, _)| is_ours(*core, cores));
    let mut slow: Vec<usize> = Vec::new();
    let mut settings = Vec::new();
    for (core, governor) in ours {
        if governor != "performance" {
            slow.push(*core);
        }
        let path = format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
        settings.push(Setting::file(path, governor.clone(), "performance".into()));
    }
    let says = match (settings.is_empty(), slow.is_empty()) {
        (true, _) => "nothing here governs the frequency of our cores".to_owned(),
        (false, true) => "performance".to_owned(),
        (false, false) => format!("not performance on cores {}", show_cores(&slow)),
    };
    let wants = "performance: a core that slowed down while idle is slow for the first deliveries of a burst";
    Finding { settings, ..Finding::new("governor", says).wants(wants) }
}

/// Never a shortfall: it takes a restart of the host, and many hosts have nothing else to do.
pub(super) fn isolated(facts: &Facts, cores: &Cores) -> Finding {
    let outside: Vec<usize> =
        cores.shards.iter().copied().filter(|core| !facts.isolated.contains(core)).collect();
    let says = match (facts.isolated.is_empty(), outside.is_empty()) {
        (true, _) => "none: other processes may run on the shards' cores".to_owned(),
        (false, true) => format!("{}, all shards on them", show_cores(&facts.isolated)),
        (false, false) => {
            format!("{}, but shards run on {} too", show_cores(&facts.isolated), show_cores(&outside))
        }
    };
    let shards = show_cores(&cores.shards);
    Finding::new("isolation", says).wants(format!(
        "where p99 counts and other work runs here: isolcpus={shards} nohz_full={shards} on the kernel's command line"
    ))
}

/// Never a shortfall: a host of two nodes is worth using whole.
pub(super) fn nodes(facts: &Facts, cores: &Cores) -> Finding {
    if facts.nodes.len() < 2 {
        return Finding::new("numa", "one node");
    }
    let node_of = |core: usize| facts.nodes.iter().position(|node| node.contains(&core));
    let mut of_shards: Vec<usize> = cores.shards.iter().filter_map(|core| node_of(*core)).collect();
    of_shards.sort_unstable();
    of_shards.dedup();
    let home = node_of(cores.control).unwrap_or_default();
    let devices: String = facts
        .devices
        .iter()
        .filter_map(|device| Some(format!("; {} on node {}", device.name, device.node?)))
        .collect();
    let says = format!("shards on nodes {}; control on node {home}{devices}", show_cores(&of_shards));
    Finding::new("numa", says).wants(format!(
        "one node for shards, control and network where its cores suffice: every event crosses from control to its shards \
         (SHARD_CORES={})",
        show_cores(&facts.nodes[home])
    ))
}

pub(super) fn swap(facts: &Facts) -> Finding {
    let Some(value) = facts.swappiness else { return Finding::new("swappiness", "no swap") };
    Finding::new("swappiness", format!("{value}, and there is swap"))
        .wants(format!(
            "{SWAPPINESS_MAX} or less: idle connections are what a kernel swaps first, and the next broadcast needs them all"
        ))
        .setting(Setting::sysctl("vm.swappiness", value.to_string(), value.min(SWAPPINESS_MAX).to_string()))
}

/// Who takes packets in: with fewer receive queues than shards, few cores do the kernel's part for all.
pub(super) fn device(device: &Device, cores: &Cores) -> Finding {
    let shards = cores.shards.len();
    let Device { name, queues, queues_spread, .. } = device;
    let mut interrupts = device.interrupt_cores.clone();
    interrupts.sort_unstable();
    interrupts.dedup();
    let on = if interrupts.is_empty() {
        String::new()
    } else {
        format!("; interrupts on cores {}", show_cores(&interrupts))
    };
    let plural = if *queues == 1 { "" } else { "s" };
    let says = format!("{name}: {queues} receive queue{plural}, {queues_spread} spread by RPS{on}");
    let piled_up = device.interrupt_cores.len() > 1 && interrupts.len() == 1 && shards > 1;
    let advice = piled_up.then(|| {
        format!("spread {name}'s interrupts: run irqbalance, or write a core each to /proc/irq/*/smp_affinity_list")
    });
    let finding = Finding::new("network", says).advice(advice).wants(format!(
        "a receive queue for each of {shards} shards (ethtool -L {name} combined {shards}), else RPS over their cores; \
         with neither, one core does the kernel's part of receiving for all"
    ));
    if *queues >= shards {
        return finding;
    }
    (0..*queues).fold(finding, |finding, queue| {
        let path = format!("/sys/class/net/{name}/queues/rx-{queue}/rps_cpus");
        let wanted = mask(&cores.shards);
        // Whoever spread it knows better over what.
        let now = if *queues_spread == *queues { wanted.clone() } else { "0".to_owned() };
        finding.setting(Setting::file(path, now, wanted))
    })
}

/// A set of cores as the kernel reads it: groups of 32 bits in hexadecimal, the highest first.
fn mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(1, |core| core / 32 + 1);
    let group = |number: usize| {
        let bits = cores
            .iter()
            .filter(|core| **core / 32 == number)
            .fold(0_u32, |bits, core| bits | 1 << (core % 32));
        if number + 1 == groups { format!("{bits:x}") } else { format!("{bits:08x}") }
    };
    (0..groups).rev().map(group).collect::<Vec<_>>().join(",")
}

fn is_ours(core: usize, cores: &Cores) -> bool {
    core == cores.control || cores.shards.contains(&core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_reads_them() {
        assert_eq!((mask(&[0, 1]), mask(&[3]), mask(&[])), ("3".into(), "8".into(), "0".into()));
        assert_eq!(mask(&[0, 33, 64]), "1,00000002,00000001");
    }
}
