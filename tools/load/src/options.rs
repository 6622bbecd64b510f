//! The command line.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand};

/// Load generator for Usher.
///
/// Opens connections, makes traffic, checks that every receiver got every message once and in order, and tells what
/// it cost. Ends with 1 when anything that was checked did not hold.
#[derive(Debug, Parser)]
#[command(name = "usher-load", version)]
pub(crate) struct Options {
    /// The gateway: ws://127.0.0.1:3003/ws or wss://...; an address, not a host name
    #[arg(long, global = true, default_value = "ws://127.0.0.1:3003/ws")]
    pub(crate) url: String,
    /// Where messages are published
    #[arg(long, global = true, default_value = "127.0.0.1:50057")]
    pub(crate) grpc: SocketAddr,
    /// Control addresses of a floor's threads, with commas; --url is a floor then, without rooms, tokens and gRPC
    #[arg(long, global = true, value_delimiter = ',')]
    pub(crate) floor: Vec<SocketAddr>,
    /// What the result calls the server [default: gateway, or floor]
    #[arg(long, global = true)]
    pub(crate) target: Option<String>,
    /// Publish there instead, as backends do through Redis; a bare subscriber reads along for comparison
    #[arg(long, global = true, conflicts_with = "floor")]
    pub(crate) redis: Option<SocketAddr>,
    /// Channel of a message to a user, whose name takes the place of {user}
    #[arg(long, global = true, default_value = "user:{user}:load")]
    pub(crate) channel: String,
    /// Connections in all
    #[arg(long, short = 'n', global = true, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Distinct users; 0: one per connection
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) users: u32,
    /// JWT_SECRET of the gateway, for tokens; without it connections are anonymous
    #[arg(long, global = true)]
    pub(crate) secret: Option<String>,
    /// Joined by every connection; empty: none
    #[arg(long, global = true, default_value = "event:load")]
    pub(crate) room: String,
    /// Type of the published messages
    #[arg(long = "type", global = true, default_value = "ticket:sold")]
    pub(crate) kind: String,
    /// Payload of a message, bytes of JSON
    #[arg(long, global = true, default_value_t = 128)]
    pub(crate) payload: usize,
    /// Connect from so many of 127.0.0.2, 127.0.0.3 ...; 0: the kernel chooses
    #[arg(long, global = true, default_value_t = 8)]
    pub(crate) source_addresses: u8,
    /// Connects per second in all; 0: as many as the server takes
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) connect_rate: u32,
    /// wss: resume TLS sessions, as clients do that come back
    #[arg(long, global = true)]
    pub(crate) resume: bool,
    /// Handshakes under way at once, per worker
    #[arg(long, global = true, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) handshakes: u32,
    /// Worker processes; 0: as few as the descriptor limit allows
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) workers: u32,
    /// Pin everything to this core
    #[arg(long, global = true)]
    pub(crate) core: Option<usize>,
    /// Process whose CPU time and memory are read from /proc
    #[arg(long, global = true)]
    pub(crate) server_pid: Option<u32>,
    /// Seconds after which the run is given up
    #[arg(long, global = true, default_value_t = 300.0, value_parser = seconds)]
    pub(crate) timeout: f64,
    /// Print one JSON line instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress on stderr
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Scenario(Scenario),
    /// Serve as the floor: accept, then one non-blocking send of ready bytes per receiver
    Floor(Floor),
    /// AES-128-GCM alone: what sealing the records of a fan-out costs (--payload, --type)
    Seal(Seal),
    /// What a handshake cannot do without: key operations, a token's check, rustls in memory
    Keyop(Keyop),
    /// One worker process; started by the others
    #[command(hide = true)]
    Worker,
}

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Connect, join, hold: memory and CPU of idle connections
    Idle {
        /// How long to hold
        #[arg(long, default_value_t = 60.0, value_parser = seconds)]
        seconds: f64,
    },
    /// One publisher to all connections of a room
    Fanout(Traffic),
    /// One publisher to one user after the other
    Unicast(Traffic),
    /// Messages to the room and to one user after the other, at a rate each
    Hold(Hold),
    /// Positions in a queue to one user after the other, as fast as they are accepted
    Positions(Push),
    /// A waiting room that everybody joins, and AdvanceQueue: what everybody is told of it, and when
    Advance(Advance),
    /// system:ping round trips
    Echo {
        /// Pings under way at once (closed loop)
        #[arg(long, default_value_t = 1)]
        window: u32,
        /// Pings per second in all (open loop), instead of --window
        #[arg(long)]
        rate: Option<f64>,
        /// How long
        #[arg(long, default_value_t = 5.0, value_parser = seconds)]
        seconds: f64,
    },
    /// Connect and vanish, a third without a close
    Storm {
        /// How often
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Some clients stop reading: latencies of the others before and after
    Stall {
        /// How many of a hundred stop
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=50))]
        percent: u32,
        /// Messages per second to the room
        #[arg(long, default_value_t = 20.0)]
        rate: f64,
        /// Length of each of the two phases
        #[arg(long, default_value_t = 20.0, value_parser = seconds)]
        seconds: f64,
    },
}

/// What is published.
#[derive(Clone, Debug, Args)]
pub(crate) struct Traffic {
    /// Messages under way at once; the next burst goes out when all receivers have the last (closed loop)
    #[arg(long, short = 'w', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) window: u32,
    /// Bursts, in a closed loop
    #[arg(long, default_value_t = 20)]
    pub(crate) bursts: u32,
    /// Bursts before the measured ones
    #[arg(long, default_value_t = 2)]
    pub(crate) warm_up: u32,
    /// Messages per second (open loop) instead of bursts
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// How long, in an open loop
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Floor: one send per message and receiver, rather than one per burst and receiver
    #[arg(long)]
    pub(crate) each: bool,
}

/// What is published while all connections are held.
#[derive(Clone, Debug, Args)]
pub(crate) struct Hold {
    /// How long
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Messages per second to the room
    #[arg(long, default_value_t = 1.0)]
    pub(crate) rate: f64,
    /// Messages per second to users, one after the other
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) user_rate: f64,
}

/// Positions that are pushed.
#[derive(Clone, Debug, Args)]
pub(crate) struct Push {
    /// How long
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Streams at once; no more than users
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) streams: u32,
    /// Positions in one message
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,
}

/// A queue that advances.
#[derive(Clone, Debug, Args)]
pub(crate) struct Advance {
    /// Places let in by each call
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) step: u32,
    /// Calls at which everybody is due
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) calls: u32,
    /// Seconds before and between them
    #[arg(long, default_value_t = 11.0, value_parser = seconds)]
    pub(crate) apart: f64,
    /// Calls behind them, a second apart; a floor has none
    #[arg(long, default_value_t = 30)]
    pub(crate) stream: u32,
    /// Joins under way at once, per worker
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) joins: u32,
}

/// The bare server.
#[derive(Debug, Args)]
pub(crate) struct Floor {
    /// Send back what comes, rather than drop it
    #[arg(long)]
    pub(crate) echo: bool,
    /// So many send loops on one port, each with a descriptor table of its own if there are several
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
}

/// Sealing alone.
#[derive(Debug, Args)]
pub(crate) struct Seal {
    /// Messages in one record
    #[arg(long, short = 'w', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) window: u32,
    /// Keys used in turn: as many receivers have as many
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) keys: u32,
    /// How long at least
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub(crate) seconds: f64,
}

/// Key operations alone.
#[derive(Debug, Args)]
pub(crate) struct Keyop {
    /// How long at least, each
    #[arg(long, default_value_t = 0.2, value_parser = seconds)]
    pub(crate) seconds: f64,
}

impl Scenario {
    /// Whether each of some users is told something.
    pub(crate) fn needs_users(&self) -> bool {
        matches!(self, Self::Unicast(_) | Self::Hold(_) | Self::Positions(_) | Self::Advance(_))
    }
}

impl Options {
    /// [`Options::timeout`] as a duration.
    pub(crate) fn time_max(&self) -> Duration {
        Duration::from_secs_f64(self.timeout)
    }

    /// What the result calls the server.
    pub(crate) fn target_name(&self) -> String {
        let usual = if self.floor.is_empty() { "gateway" } else { "floor" };
        self.target.clone().unwrap_or_else(|| usual.to_owned())
    }

    /// Distinct users.
    pub(crate) fn user_count(&self) -> u32 {
        if self.users == 0 { self.connections } else { self.users }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, at most a day".into()),
    }
}
