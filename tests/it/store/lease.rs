//! The lease: one of all instances takes in foreign events.

use std::sync::Arc;

use tokio::{
    runtime::Runtime,
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use usher::{
    limits::REDIS_COMMAND_TIME_MAX,
    store::lease::{LeaseParts, keep},
    stream::lease::Lease,
};

use super::subject::{connect, runtime};
use crate::support::{PATIENCE, redis::Redis};

struct Holder {
    lease: watch::Receiver<Lease>,
    hurry: Arc<Notify>,
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Holder {
    fn new(runtime: &Runtime, redis: &Redis, name: &str) -> Self {
        let (drain, drained) = watch::channel(false);
        // It stays open without its sender.
        let connection = watch::Sender::new(Some(connect(runtime, redis))).subscribe();
        let hurry = Arc::new(Notify::new());
        let parts = LeaseParts {
            connection,
            key: "usher:ingest".into(),
            holder: name.into(),
            hurry: hurry.clone(),
            drain: drained,
            command_timeout: REDIS_COMMAND_TIME_MAX,
        };
        let (lease, keeper) = keep(parts);
        Self { lease, hurry, drain, task: runtime.spawn(keeper) }
    }

    /// Waits until it believes so.
    async fn holds(&mut self, held: bool) {
        let changed = self.lease.wait_for(|lease| (lease.until_ns > 0) == held);
        timeout(PATIENCE, changed).await.expect("it changes its mind").expect("it runs");
    }
}

fn holder(redis: &Redis) -> String {
    redis.cli(&["GET", "usher:ingest"]).split(' ').next().expect("a word").to_owned()
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
            () = second.holds(true) => assert!(third.lease.borrow().until_ns == 0),
            () = third.holds(true) => assert!(second.lease.borrow().until_ns == 0),
        }
    });
    assert!(first.lease.borrow().until_ns == 0);
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

/// Nobody waits for what a holder gives up.
#[test]
fn who_hurries_has_the_lease_as_soon_as_it_is_given_up() {
    let redis = Redis::start();
    let runtime = runtime();
    redis.cli(&["SET", "usher:ingest", "another"]);
    let mut first = Holder::new(&runtime, &redis, "one");
    runtime.block_on(async {
        let known = first.lease.wait_for(|lease| lease.other_since_ns == Some(0));
        timeout(PATIENCE, known).await.expect("an answer").expect("it runs");
    });
    redis.cli(&["DEL", "usher:ingest"]);
    first.hurry.notify_one();
    runtime.block_on(first.holds(true));
}

#[test]
fn everybody_learns_since_when_the_holder_hears() {
    let redis = Redis::start();
    let runtime = runtime();
    let mut first = Holder::new(&runtime, &redis, "one");
    runtime.block_on(first.holds(true));
    let since_ns = first.lease.borrow().heard_since_ns;
    let mut second = Holder::new(&runtime, &redis, "two");
    let told = runtime.block_on(async {
        let known = second.lease.wait_for(|lease| lease.other_since_ns.is_some());
        timeout(PATIENCE, known).await.expect("an answer").expect("it runs").other_since_ns
    });
    // By as much as it takes to ask.
    assert!(told.is_some_and(|told| told + 1_000_000_000 >= since_ns), "{told:?}, {since_ns}");
    assert!(told <= Some(second.lease.borrow().asked_ns), "{told:?}");
}
