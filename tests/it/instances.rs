//! Several instances on one Redis that breaks (catalogue F6, H1, H2, H4, H5, R5): every message is counted at every client.
//!
//! A caller repeats each call with its key until it is answered OK. Then each client has it once, in its place, or was told
//! of a gap. What `usher-faults` shows in `./test` (a Redis that comes back empty, instances that are killed and replaced
//! under load) is not shown here again.

use std::{cell::Cell, thread, time::Duration};

use serde_json::json;
use tonic::Code;
use usher::generated::realtime::{NotifyResponse, SendToUserRequest};

use crate::support::{
    grpc::{Backend, to_user},
    holds_soon,
    proxy::{Link, Proxy},
    redis::{self, Options, Redis},
    server::Server,
    ws::{Ask, Client},
};

/// An instance that is connected to that Redis, and its caller.
struct Instance {
    server: Server,
    backend: Backend,
}

impl Instance {
    fn on(url: &str) -> Self {
        Self::with(&[("REDIS_URL", url)])
    }

    fn with(environment: &[(&str, &str)]) -> Self {
        let server = Server::with(environment);
        let instance = Self { backend: Backend::of(&server), server };
        instance.until_connected();
        instance
    }

    fn until_connected(&self) {
        self.until("connected");
    }

    fn until(&self, redis: &str) {
        let is = || self.server.get("/ready").json()["redis"] == redis;
        assert!((0..20_000).any(|_| is()), "{redis}: {}", self.server.get("/ready").text());
    }

    fn try_call(&self, number: u64) -> Result<NotifyResponse, tonic::Status> {
        try_call(&self.backend, number)
    }

    /// Repeats the call until it is answered OK.
    fn call(&self, number: u64) -> NotifyResponse {
        let answer = (0..20_000).find_map(|_| self.try_call(number).ok());
        let answer = answer.unwrap_or_else(|| panic!("call {number}: {:?}", self.try_call(number)));
        assert!(answer.offset > 0, "{answer:?}");
        answer
    }

    fn reader(&self) -> Reader {
        // Who comes in before the router has heard that Redis is there is told later where the stream stands.
        let mut clients = std::iter::repeat_with(|| self.server.connect_as("ann")).take(1_000);
        let client = clients.find(|client| client.connected["streams"][0]["offset"].is_u64());
        let client = client.expect("somebody is told where the stream stands");
        let place = client.connected["streams"][0].clone();
        let at = place["offset"].as_u64().expect("the stream's position is known");
        let epoch = Cell::new(place["epoch"].as_str().expect("an epoch").into());
        Reader { client, at, epoch, gaps: 0 }
    }
}

fn try_call(backend: &Backend, number: u64) -> Result<NotifyResponse, tonic::Status> {
    let event = to_user("ann", "booking:confirmed", &number.to_string());
    let idempotency_key = format!("call-{number}");
    backend.send_to_user(SendToUserRequest { idempotency_key, ..event })
}

/// A client of ann, and where it is.
struct Reader {
    client: Client,
    at: u64,
    epoch: Cell<String>,
    gaps: u32,
}

impl Reader {
    /// The numbers that come until the last one; each follows the one before it, but where a gap is told.
    fn until(&mut self, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            numbers.extend(self.next());
        }
        numbers
    }

    /// The next number, which follows the one before it; nothing: a gap is told.
    fn next(&mut self) -> Option<u64> {
        let message = self.client.message();
        let is_gap = message["type"] == "system:resync";
        let place = if is_gap { &message["payload"] } else { &message };
        let offset = place["offset"].as_u64().expect("a position");
        self.epoch.set(place["epoch"].as_str().expect("an epoch").into());
        self.gaps += u32::from(is_gap);
        assert!(is_gap || offset == self.at + 1, "{message}");
        self.at = offset;
        (!is_gap).then(|| message["payload"].as_u64().expect("a number"))
    }

    fn is_told_of_a_gap(&mut self) {
        assert_eq!(self.next(), None);
    }

    /// Has exactly these, and was told of no gap.
    fn gets(&mut self, numbers: std::ops::RangeInclusive<u64>) {
        assert_eq!(self.until(*numbers.end()), numbers.collect::<Vec<u64>>());
        assert_eq!(self.gaps, 0);
        self.client.expect_silence();
    }
}

fn durable() -> Redis {
    Redis::with(&Options { append_only: true, ..Options::default() })
}

/// Two instances, and a client of the same user on each.
fn pair(redis: &Redis) -> ([Instance; 2], [Reader; 2]) {
    let instances = [Instance::on(&redis.url()), Instance::on(&redis.url())];
    let readers = instances.each_ref().map(Instance::reader);
    (instances, readers)
}

fn all_get(readers: &mut [Reader], numbers: std::ops::RangeInclusive<u64>) {
    readers.iter_mut().for_each(|reader| reader.gets(numbers.clone()));
}

/// H2, F6.
#[test]
fn a_redis_that_is_killed_and_comes_back_loses_and_repeats_nothing() {
    let mut redis = durable();
    let (instances, mut readers) = pair(&redis);
    let mut number = 0;
    for _ in 0..2 {
        for instance in &instances {
            number += 1;
            instance.call(number);
        }
        redis.kill();
        assert_eq!(instances[0].try_call(number + 1).expect_err("no Redis").code(), Code::Unavailable);
        redis.restart();
        for instance in &instances {
            number += 1;
            instance.call(number);
        }
    }
    all_get(&mut readers, 1..=8);
}

/// H1.
#[test]
fn a_redis_that_hangs_loses_and_repeats_nothing() {
    let redis = durable();
    let (instances, mut readers) = pair(&redis);
    instances[0].call(1);
    redis.freeze();
    for instance in &instances {
        let refused = instance.try_call(2).expect_err("Redis says nothing");
        assert_eq!(refused.code(), Code::Unavailable, "nobody knows what becomes of it");
    }
    redis.thaw();
    for (number, instance) in (2..=5).zip(instances.iter().cycle()) {
        instance.call(number);
    }
    all_get(&mut readers, 1..=5);
}

/// One gives up a call that Redis does not answer, one that asked before has its answer later.
#[test]
fn a_call_waits_for_redis_as_long_as_it_may() {
    let redis = Redis::start();
    let [hasty, patient] = ["250ms", "1s"]
        .map(|timeout| Instance::with(&[("REDIS_URL", &redis.url()), ("REDIS_COMMAND_TIMEOUT", timeout)]));
    let sits_through = |number| {
        let asks = || patient.server.metric("usher_stream_questions") > 0.0;
        [&hasty, &patient].iter().for_each(|instance| drop(instance.call(number)));
        assert!(holds_soon(|| !asks()));
        redis.freeze();
        let answer = thread::scope(|scope| {
            let waits = scope.spawn(|| try_call(&patient.backend, number + 1));
            assert!(holds_soon(|| asks() || waits.is_finished()));
            assert_eq!(hasty.try_call(number + 2).expect_err("it gives up").code(), Code::Unavailable);
            redis.thaw();
            waits.join().expect("no panic")
        });
        answer.is_ok()
    };
    // A second may pass before a busy machine is there again.
    assert!((0..10).map(|round| 3 * round).any(sits_through), "the longer time makes no difference");
}

/// H4.
#[test]
fn a_redis_without_memory_refuses_calls_and_takes_them_later() {
    let redis = Redis::start();
    let (instances, mut readers) = pair(&redis);
    instances[0].call(1);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    for instance in &instances {
        assert_eq!(instance.try_call(2).expect_err("no memory").code(), Code::ResourceExhausted);
    }
    readers.iter_mut().for_each(|reader| reader.gets(1..=1));
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    instances[1].call(2);
    all_get(&mut readers, 2..=2);
}

/// F6, E6: offsets of what was lost are given again, by an instance that never knew of the loss.
#[test]
fn a_redis_that_is_rolled_back_is_told_to_whoever_has_more() {
    let mut redis = Redis::start();
    let (instances, mut readers) = pair(&redis);
    let mut away = instances[0].reader();
    (1..=2).for_each(|number| drop(instances[0].call(number)));
    assert_eq!(redis.cli(&["SAVE"]), "OK");
    (3..=5).for_each(|number| drop(instances[1].call(number)));
    all_get(&mut readers, 1..=5);
    away.gets(1..=5);
    let behind = instances.each_ref().map(|instance| instance.server.pid());
    behind.iter().for_each(|pid| signal(*pid, rustix::process::Signal::STOP));
    redis.kill();
    redis.restart();
    // Nobody who knows more can say so before the old offsets are passed.
    let stranger = Instance::on(&redis.url());
    (11..=15).for_each(|number| drop(stranger.call(number)));
    behind.iter().for_each(|pid| signal(*pid, rustix::process::Signal::CONT));
    instances.iter().for_each(Instance::until_connected);

    let resume = json!({"streams": [{"stream": "user:ann", "epoch": away.epoch.take(), "offset": 5}]});
    let mut back = stranger.server.ask(&Ask::to("/ws?resume=wait").bearer(&stranger.server.token("ann")));
    back.send("system:resume", &resume);
    back.expect("system:connected");
    let resumed = back.expect("system:resumed");
    assert_eq!((&resumed["recovered"], &resumed["to"]), (&json!(false), &json!(7)));

    // It has three that nobody else knows; what took their place is in the gap.
    readers.iter_mut().for_each(Reader::is_told_of_a_gap);
    stranger.call(16);
    for reader in &mut readers {
        assert_eq!(reader.until(16), [16]);
    }
}

/// F6, E6: an append that was answered and lost before anybody else heard of it. Whoever made it has nobody of the stream,
/// and says so when it is back: before who follows the stream, or after that one went on without it.
#[test]
fn an_append_that_nobody_heard_of_before_it_was_lost_is_told_as_a_gap() {
    for comes_last in [false, true] {
        let mut redis = Redis::start();
        let proxy = Proxy::before(redis.port);
        let caller = Instance::on(&redis.url());
        let follower = Instance::on(&format!("redis://{}", proxy.address));
        let mut reader = follower.reader();
        caller.call(1);
        reader.gets(1..=1);
        assert_eq!(redis.cli(&["SAVE"]), "OK");
        proxy.set(Link::Held);
        assert_eq!(caller.call(2).offset, 2, "the publication is held back");
        let pid = caller.server.pid();
        if comes_last {
            signal(pid, rustix::process::Signal::STOP);
        }
        redis.kill();
        proxy.set(Link::Cut);
        redis.restart();
        proxy.set(Link::Open);
        follower.until_connected();
        let mut number = 2;
        if comes_last {
            number += 1;
            assert_eq!(follower.call(number).offset, 2, "the offset is given again");
            assert_eq!((reader.until(number), reader.gaps), (vec![number], 0));
            signal(pid, rustix::process::Signal::CONT);
        }
        reader.is_told_of_a_gap();
        caller.until_connected();
        number += 1;
        caller.call(number);
        assert_eq!(reader.until(number), [number]);
    }
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("the gateway runs");
}

/// What is on its way when packets are dropped comes later, or never: the others go on meanwhile.
#[test]
fn an_instance_that_is_cut_off_from_redis_catches_up() {
    let redis = durable();
    let proxy = Proxy::before(redis.port);
    let instances = [Instance::on(&format!("redis://{}", proxy.address)), Instance::on(&redis.url())];
    let mut readers = instances.each_ref().map(Instance::reader);
    let mut number = 0;
    for link in [Link::Held, Link::Cut] {
        instances[0].call(number + 1);
        all_get(&mut readers, number + 1..=number + 1);
        proxy.set(link);
        assert_eq!(instances[0].try_call(number + 2).expect_err("cut off").code(), Code::Unavailable);
        (number + 3..=number + 5).for_each(|number| drop(instances[1].call(number)));
        assert_eq!(
            readers[1].until(number + 5).last(),
            Some(&(number + 5)),
            "the other one is not kept waiting"
        );
        proxy.set(Link::Open);
        // It may have been stored behind the partition's back, and be found by its key.
        instances[0].call(number + 2);
        number += 6;
        instances[1].call(number);
        let [cut_off, other] = &mut readers;
        let mut got = cut_off.until(number);
        got.sort_unstable();
        assert_eq!(got, (number - 4..=number).collect::<Vec<u64>>(), "each once");
        other.until(number);
        assert_eq!((cut_off.at, cut_off.gaps, other.at, other.gaps), (number, 0, number, 0));
    }
}

/// What others published meanwhile is trimmed in part: only that part is the gap.
#[test]
fn what_the_store_still_has_of_a_gap_is_delivered() {
    let redis = durable();
    let proxy = Proxy::before(redis.port);
    let away = Instance::with(&[("REDIS_URL", &format!("redis://{}", proxy.address))]);
    let other = Instance::with(&[("REDIS_URL", &redis.url()), ("STREAM_MAX_COUNT", "3")]);
    let mut reader = away.reader();
    other.call(1);
    assert_eq!(reader.until(1), [1]);
    proxy.set(Link::Cut);
    (2..=7).for_each(|number| drop(other.call(number)));
    proxy.set(Link::Open);
    reader.is_told_of_a_gap();
    assert_eq!((reader.at, reader.until(7)), (4, vec![5, 6, 7]));
    other.call(8);
    assert_eq!((reader.until(8), reader.gaps), (vec![8], 1));
}

/// H5.
#[test]
fn a_slow_redis_costs_time_alone() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.port);
    let url = format!("redis://{}", proxy.address);
    let instances = [Instance::on(&url), Instance::on(&redis.url())];
    let mut readers = instances.each_ref().map(Instance::reader);
    proxy.set(Link::Slow(Duration::from_millis(20)));
    for (number, instance) in (1..=8).zip(instances.iter().cycle()) {
        instance.call(number);
    }
    all_get(&mut readers, 1..=8);
}

/// While a slot moves, Redis refuses scripts that name a key which does not exist yet, as that of a new call: `TRYAGAIN`.
#[test]
fn a_slot_that_moves_takes_its_streams_along() {
    let nodes = redis::cluster();
    let urls = nodes.each_ref().map(Redis::url).join(",");
    let instances = [Instance::on(&urls), Instance::on(&urls)];
    let mut readers = instances.each_ref().map(Instance::reader);
    instances[0].call(1);
    instances[1].call(2);
    let slot = nodes[0].cli(&["CLUSTER", "KEYSLOT", "usher:{user:ann}:meta"]);
    let is_first = slot.parse::<u16>().expect("a slot") < 8_192;
    let (from, to) = if is_first { (&nodes[0], &nodes[1]) } else { (&nodes[1], &nodes[0]) };
    let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
    to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    for instance in &instances {
        assert_eq!(instance.try_call(3).expect_err("a new key").code(), Code::ResourceExhausted);
        assert_eq!(instance.call(1).offset, 1, "a repeat finds its key");
    }
    let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
    let port = to.port.to_string();
    let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    from.cli(&migrate.into_iter().chain(keys.lines()).collect::<Vec<&str>>());
    for node in [to, from] {
        assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]), "OK");
    }
    for (number, instance) in (3..=6).zip(instances.iter().cycle()) {
        instance.call(number);
    }
    all_get(&mut readers, 1..=6);
}
