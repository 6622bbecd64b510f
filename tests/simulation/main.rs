//! The whole gateway in one thread: several hubs, the router, small mailboxes, slow readers, virtual time.
//!
//! Each seed is one run: a few hundred weighted actions of clients, backends and misfortune, each followed by as
//! much work as the dice allow. A shadow model ([`oracle`]) knows what was accepted; every client judges what it
//! reads. The rules, for every seed:
//!
//! - what was accepted for a live connection and must not be lost (Critical, Ordered) comes once and in order, or the
//!   connection is closed with a code that says so;
//! - a Latest value is never older than one seen before, and the newest arrives in the end;
//! - a room that control decides about has no more members than it may, and its members get what follows the position
//!   that they were told and nothing from before it;
//! - a user is announced once when it comes and once when it has left all shards, and nobody stays a ghost;
//! - nothing reaches who is not in its room; bounds hold; when everybody has left, nothing is left.
//!
//! `USHER_SEED=7 cargo test --test simulation` replays one seed, `USHER_SEEDS=100000` runs that many.

#![expect(unreachable_pub, reason = "nobody is outside a test")]

mod client;
mod control;
mod crowd;
mod instances;
mod oracle;
mod reader;
mod rng;
mod seen;
mod shard;
mod world;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use crowd::Crowd;
use instances::Cluster;
use seen::Seen;
use world::{Totals, World};

/// Seeds of a plain run.
const SEEDS: u64 = 256;
/// Actions of one seed.
const ACTIONS: usize = 300;

#[test]
fn every_seed_keeps_every_promise() {
    let seeds = seeds();
    let plain = seeds == (0..SEEDS);
    let mut totals = Totals::default();
    for seed in seeds {
        totals.add(&replayable(seed, || World::new(seed).run(ACTIONS)));
    }
    eprintln!("{totals:#?}");
    if plain {
        totals.check_that_everything_happened();
    }
}

#[test]
fn streams_are_whole_on_every_instance() {
    let seeds = seeds();
    let plain = seeds == (0..SEEDS);
    let mut seen = Seen::default();
    for seed in seeds {
        seen.add(&replayable(seed, || Cluster::new(seed).run(ACTIONS)));
    }
    eprintln!("{seen:#?}");
    if plain {
        seen.check_that_everything_happened();
    }
}

#[test]
fn who_is_connected_is_known_on_every_instance() {
    let seeds = seeds();
    let plain = seeds == (0..SEEDS);
    let mut seen = crowd::Seen::default();
    for seed in seeds {
        seen.add(&replayable(seed, || Crowd::new(seed).run(ACTIONS)));
    }
    eprintln!("{seen:#?}");
    if plain {
        seen.check_that_everything_happened();
    }
}

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("USHER_SEED"), number("USHER_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    }
}

/// Says which seed failed.
fn replayable<T>(seed: u64, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        eprintln!("replay with: USHER_SEED={seed} cargo test --test simulation");
        resume_unwind(panic)
    })
}
