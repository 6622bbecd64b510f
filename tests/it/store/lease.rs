//! The lease: one of all instances takes in foreign events.

use tokio::{runtime::Runtime, sync::watch, task::JoinHandle, time::timeout};
use usher::store::lease::{LeaseParts, keep};

use super::subject::{connect, runtime};
use crate::support::{PATIENCE, redis::Redis};

struct Holder {
    held: watch::Receiver<bool>,
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Holder {
    fn new(runtime: &Runtime, redis: &Redis, name: &str) -> Self {
        let (drain, drained) = watch::channel(false);
        // It stays open without its sender.
        let connection = watch::Sender::new(Some(connect(runtime, redis))).subscribe();
        let parts =
            LeaseParts { connection, key: "usher:ingest".into(), holder: name.into(), drain: drained };
        let (held, keeper) = keep(parts);
        Self { held, drain, task: runtime.spawn(keeper) }
    }

    /// Waits until it believes so.
    async fn holds(&mut self, held: bool) {
        let changed = self.held.wait_for(|now| *now == held);
        timeout(PATIENCE, changed).await.expect("it changes its mind").expect("it runs");
    }
}

fn holder(redis: &Redis) -> String {
    redis.cli(&["GET", "usher:ingest"])
}

#[test]
fn one_instance_holds_the_lease_until_it_drains() {
    let redis = Redis::start();
    let runtime = runtime();
    let mut first = Holder::new(&runtime, &redis, "one");
    runtime.block_on(first.holds(true));
    assert_eq!(holder(&redis), "one");
    let mut second = Holder::new(&runtime, &redis, "two");
    let mut third = Holder::new(&runtime, &redis, "three");
    first.drain.send_replace(true);
    runtime.block_on(async {
        timeout(PATIENCE, &mut first.task).await.expect("it ends").expect("without a panic");
        tokio::select! {
            () = second.holds(true) => assert!(!*third.held.borrow()),
            () = third.holds(true) => assert!(!*second.held.borrow()),
        }
    });
    assert!(!*first.held.borrow());
    assert!(["two", "three"].contains(&&*holder(&redis)));
}

#[test]
fn a_lease_that_another_has_is_not_taken_and_not_given_up() {
    let redis = Redis::start();
    let runtime = runtime();
    redis.cli(&["SET", "usher:ingest", "another"]);
    let mut late = Holder::new(&runtime, &redis, "late");
    late.drain.send_replace(true);
    runtime.block_on(async { timeout(PATIENCE, &mut late.task).await.expect("it ends").expect("no panic") });
    assert_eq!(holder(&redis), "another");
}

#[test]
fn who_lost_the_lease_learns_it_at_the_next_renewal() {
    let redis = Redis::start();
    let runtime = runtime();
    let mut first = Holder::new(&runtime, &redis, "one");
    runtime.block_on(first.holds(true));
    redis.cli(&["SET", "usher:ingest", "another"]);
    runtime.block_on(first.holds(false));
    redis.cli(&["DEL", "usher:ingest"]);
    runtime.block_on(first.holds(true));
    let left: u64 = redis.cli(&["PTTL", "usher:ingest"]).parse().expect("a number");
    assert!((1..=3_000).contains(&left), "{left}");
}

/// H1: while Redis says nothing, it may have given the lease to another.
#[test]
fn nobody_believes_for_longer_than_the_lease_lasts() {
    let redis = Redis::start();
    let runtime = runtime();
    let mut first = Holder::new(&runtime, &redis, "one");
    runtime.block_on(first.holds(true));
    redis.freeze();
    runtime.block_on(first.holds(false));
    redis.thaw();
    runtime.block_on(first.holds(true));
}
