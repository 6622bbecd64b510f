//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Breaks what Usher stands on, under load, and counts every message at the clients.
///
/// Starts redis-server and gateways on free ports of 127.0.0.1, ends them by their process ids, and ends with 1 when a
/// message was lost, repeated or out of order without the client having been told of a gap, or a place in a queue was.
#[derive(Debug, Parser)]
#[command(name = "usher-faults", version)]
pub(crate) struct Options {
    /// What happens
    pub(crate) story: Story,
    /// Clients, each a user of its own, or the people of a queue
    #[arg(long, short = 'n', visible_alias = "people", default_value_t = 3_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub(crate) clients: u32,
    /// Critical calls per second over all instances
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Critical messages by PUBLISH per second, in `rolling`; 0: none
    #[arg(long, default_value_t = 100)]
    pub(crate) publish_rate: u32,
    /// People let in per minute, of a queue
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) per_minute: u32,
    /// Seconds of calls, or of a sale, over which the faults are spread
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(5..))]
    pub(crate) seconds: u32,
    /// Instances behind the load balancer; of a queue 2, else 3
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    instances: Option<u32>,
    /// Chooses users, instances and delays
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The gateway's binary
    #[arg(long, default_value = "target/release/usher")]
    pub(crate) usher: PathBuf,
    /// The server's binary
    #[arg(long, default_value = "redis-server")]
    pub(crate) redis_server: PathBuf,
    /// Where logs and data are kept, instead of a directory that is removed at the end
    #[arg(long)]
    pub(crate) keep: Option<PathBuf>,
}

/// What happens while clients wait and calls come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Story {
    /// Redis (appendonly, fsync always) is killed and restarted twice, the instance that takes in what others publish is killed,
    /// all are replaced in turn
    Rolling,
    /// Redis comes back empty: nobody misses a message without being told of a gap
    Empty,
    /// Redis comes back with an older copy of its data, and gives lost offsets again: as for `empty`
    RolledBack,
    /// Redis hangs for half of the time: nobody is disconnected, the gap is filled
    Outage,
    /// People in a waiting room go and come back, Redis is killed right after it let a crowd in, then one instance: who is there
    /// gets the pass, every place stays whose it is and gets no worse, the books are exact, every receipt verifies
    Queue,
}

impl Options {
    /// Instances of the story.
    pub(crate) fn instances(&self) -> u32 {
        self.instances.unwrap_or(if self.story == Story::Queue { 2 } else { 3 })
    }
}
