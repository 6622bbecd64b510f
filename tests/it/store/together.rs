//! Several questions under way, several instances, a cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use redis::{ProtocolVersion, PushInfo, PushKind, Value, aio::SendError, cluster::ClusterClientBuilder};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    time::timeout,
};
use usher::{
    event::Position,
    limits::{STORE_ASKS_MAX, STREAM_WRITERS_MAX},
    store::{self, StoreParts},
    stream::{
        envelope::{Publication, publication},
        store::{Answer, Ask, Failure, Head, Page},
    },
};

use super::{
    contract::{
        ALICE, ROOM, Subject, acknowledge, append, event, head, mark, numbered, offsets, position, read,
        stored, with_key,
    },
    subject::{Instance, OnRedis, bounds, connect_with, patient, runtime},
};
use crate::support::{
    PATIENCE,
    redis::{Options, Redis},
};

/// Asks for an append, with the number as payload and ticket.
fn ask(instance: &Instance, stream: &str, number: u64) {
    instance.store.ask(number, Ask::Append(append(stream, &number.to_string()))).expect("there is room");
}

#[test]
fn what_is_asked_about_one_stream_is_done_and_answered_in_that_order() {
    let mut redis = OnRedis::new();
    let runtime = &redis.runtime;
    for number in 1..=500 {
        ask(&redis.instance, ["user:a", "user:b", "user:c"][number as usize % 3], number);
    }
    let mut offsets = BTreeMap::<Arc<str>, u64>::new();
    let mut tickets = BTreeMap::<Arc<str>, u64>::new();
    for _ in 1..=500 {
        let answered = runtime.block_on(redis.instance.answers.recv()).expect("a store");
        let position = position(answered.answer);
        let offset = offsets.entry(position.stream.clone()).or_default();
        *offset += 1;
        assert_eq!(position.offset, *offset);
        let ticket = tickets.entry(position.stream).or_default();
        assert!(*ticket < answered.ticket, "{} after {ticket}", answered.ticket);
        *ticket = answered.ticket;
    }
    assert_eq!(offsets.values().sum::<u64>(), 500);
}

#[test]
fn two_instances_append_into_one_order_without_holes() {
    let redis = Redis::start();
    let runtime = runtime();
    let mut instances = [1, 2].map(|seed| Instance::open(&runtime, &redis, seed));
    for number in 1..=200 {
        instances.iter().for_each(|instance| ask(instance, "room:event:1", number));
    }
    let mut offsets = Vec::new();
    let mut epochs = Vec::new();
    for instance in &mut instances {
        let mut before = 0;
        for number in 1..=200 {
            let position = position(runtime.block_on(instance.answer(number)));
            assert!(before < position.offset, "each sees its own in order");
            before = position.offset;
            offsets.push(position.offset);
            epochs.push(position.epoch);
        }
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=400).collect::<Vec<u64>>());
    epochs.dedup();
    assert_eq!(epochs.len(), 1);
}

/// The others learn what is stored by the script that stores it; those who listen get it before who asked gets the answer.
#[test]
fn what_is_stored_is_published_with_its_position() {
    let mut redis = OnRedis::new();
    let (push, mut pushed) = mpsc::channel(16);
    let push = move |info: PushInfo| push.try_send(info).map_err(|_| SendError);
    let config = patient().set_push_sender(push);
    let mut listener = connect_with(&redis.runtime, &redis.redis, &config);
    let channel = "usher:{user:alice}:live";
    redis.runtime.block_on(listener.subscribe(channel)).expect("a subscription");
    let mut heard = |runtime: &Runtime| {
        let message = async {
            loop {
                let pushed: PushInfo = pushed.recv().await.expect("a connection");
                if pushed.kind == PushKind::Message {
                    return pushed.data;
                }
            }
        };
        let message = runtime.block_on(async { timeout(PATIENCE, message).await }).expect("a message");
        match &*message {
            [_, Value::BulkString(bytes)] => bytes.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(redis.redis.publish(channel, "of somebody else"), 1);
    let bytes = heard(&redis.runtime);
    assert!(publication(&bytes).is_err());

    let first = stored(&mut redis, "user:alice", "a");
    let bytes = heard(&redis.runtime);
    let mut expected = event("user:alice", "a");
    expected.position = Some(first.clone());
    assert_eq!(publication(&bytes), Ok(Publication::Stored(expected)));
    assert!(bytes.starts_with(format!("S {} 1 ", first.epoch).as_bytes()));

    head(&mut redis, "user:alice", mark(&first.epoch, 1));
    let now = head(&mut redis, "user:alice", mark(&first.epoch, 2));
    let bytes = heard(&redis.runtime);
    let position = Position { stream: "user:alice".into(), epoch: now.epoch, offset: 1 };
    assert_eq!(
        publication(&bytes),
        Ok(Publication::Renamed(position)),
        "where something is lost, and only there"
    );
}

#[test]
fn scripts_that_redis_forgot_are_loaded_again() {
    let mut redis = OnRedis::new();
    assert_eq!(stored(&mut redis, "user:alice", "a").offset, 1);
    redis.redis.cli(&["SCRIPT", "FLUSH"]);
    for number in 1..=100 {
        ask(&redis.instance, "user:alice", number);
    }
    for number in 1..=100 {
        let answer = redis.runtime.block_on(redis.instance.answer(number));
        assert_eq!(position(answer).offset, number + 1);
    }
}

#[test]
fn a_store_holds_so_many_questions_and_no_more() {
    let (_connection, none) = watch::channel(None::<redis::aio::MultiplexedConnection>);
    let parts = StoreParts {
        connection: none,
        cluster: false,
        prefix: String::new(),
        bounds: bounds(),
        seed: 1,
        command_timeout: PATIENCE,
    };
    let (store, mut answers, lanes) = store::open(parts);
    let question = || Ask::Head { stream: "user:alice".into(), known: None };
    for ticket in 0..STORE_ASKS_MAX as u64 {
        store.ask(ticket, question()).expect("there is room");
    }
    assert_eq!(store.ask(0, question()), Err(Failure::Refused));
    assert_eq!(store.counts().full.get(), 1);
    let runtime = runtime();
    runtime.spawn(lanes);
    for expected in 0..STORE_ASKS_MAX as u64 {
        let answered = runtime.block_on(answers.recv()).expect("a store");
        assert_eq!((answered.ticket, answered.answer), (expected, Answer::Failed(Failure::Unavailable)));
    }
    assert_eq!(store.counts().down.get(), STORE_ASKS_MAX as u64);
}

#[test]
fn an_entry_that_is_missing_or_not_ours_is_a_gap() {
    let mut redis = OnRedis::new();
    let log = "usher:{user:alice}:log";
    let epoch = stored(&mut redis, "user:alice", "a").epoch;
    stored(&mut redis, "user:alice", "b");
    stored(&mut redis, "user:alice", "c");
    redis.redis.cli(&["XDEL", log, "2-0"]);
    assert_eq!(offsets(&mut redis, ("user:alice", &epoch, 2)), Some(vec![3]));
    assert_eq!(offsets(&mut redis, ("user:alice", &epoch, 1)), None);
    assert_eq!(offsets(&mut redis, ("user:alice", &epoch, 0)), None);
    for foreign in [["4-0", "t", "1", "e", "junk"], ["4-1", "t", "1", "e", ""], ["5-0", "x", "", "y", ""]] {
        redis.redis.cli(&[["XADD", log].as_slice(), &foreign].concat());
        redis.redis.cli(&["HINCRBY", "usher:{user:alice}:meta", "offset", "1"]);
        assert_eq!(offsets(&mut redis, ("user:alice", &epoch, 2)), None, "{foreign:?}");
    }
    redis.redis.cli(&["DEL", log]);
    assert_eq!(offsets(&mut redis, ("user:alice", &epoch, 5)), None);
    let next = stored(&mut redis, "user:alice", "d");
    assert_eq!((&next.epoch, next.offset), (&epoch, 7), "it goes on behind what was written into it");
}

/// A failover that loses the last epoch brings back the one before it: that one is older, whatever its offset.
#[test]
fn an_epoch_that_was_over_does_not_come_back() {
    let mut redis = OnRedis::new();
    let old = stored(&mut redis, "user:alice", "a").epoch;
    stored(&mut redis, "user:alice", "b");
    let meta = "usher:{user:alice}:meta";
    let new = head(&mut redis, "user:alice", mark(&old, 9)).epoch;
    redis.redis.cli(&["HSET", meta, "epoch", &old, "offset", "2"]);
    let later = head(&mut redis, "user:alice", mark(&new, 1));
    assert!(later.epoch != old && later.epoch != new && later.offset == 2);
    assert_eq!(
        head(&mut redis, "user:alice", mark(&old, 2)),
        later,
        "who knows the old one alone changes nothing"
    );
}

/// Anybody may ask for made-up names; whoever follows a stream makes it begin.
#[test]
fn who_only_looks_leaves_nothing_in_redis() {
    let mut redis = OnRedis::new();
    let stream = "room:event:made-up";
    let none = Head { epoch: "".into(), offset: 0, acknowledged: 0 };
    assert_eq!(redis.ask(Ask::Look { stream: stream.into() }), Answer::Head(none.clone()));
    assert_eq!(read(&mut redis, (stream, "e", 7), 9), Page { head: none, events: None, rest: 0 });
    assert_eq!(acknowledge(&mut redis, (stream, "e", 7)), 0);
    assert_eq!(redis.redis.cli(&["DBSIZE"]), "0");
    let begun = head(&mut redis, stream, None);
    assert_eq!(redis.ask(Ask::Look { stream: stream.into() }), Answer::Head(begun.clone()));
    let restless = read(&mut redis, (stream, &begun.epoch, 0), 9);
    assert_eq!(restless, Page { head: begun, events: Some(Vec::new()), rest: 0 });
}

/// Anybody may join rooms of made-up names; who keeps asking about them keeps them no longer.
#[test]
fn what_nothing_was_ever_stored_in_is_gone_ten_minutes_after_its_last_use() {
    let mut redis = OnRedis::new();
    let left = |redis: &OnRedis, stream: &str| -> u64 {
        let left: u64 =
            redis.redis.cli(&["PTTL", &format!("usher:{{{stream}}}:meta")]).parse().expect("a number");
        left.div_ceil(60_000)
    };
    let empty = head(&mut redis, ROOM, None);
    assert_eq!(left(&redis, ROOM), 10);
    redis.pass(Duration::from_secs(300));
    assert_eq!(read(&mut redis, (ROOM, &empty.epoch, 0), 9).events, Some(Vec::new()));
    assert_eq!(left(&redis, ROOM), 10, "somebody may have it");
    assert_eq!(stored(&mut redis, ROOM, "a").epoch, empty.epoch);
    let again = head(&mut redis, ROOM, None);
    assert_eq!((again.offset, left(&redis, ROOM)), (1, 24 * 60));
    head(&mut redis, "queue:made-up", None);
    assert_eq!(left(&redis, "queue:made-up"), 10, "as of a queue that was never opened");
    head(&mut redis, ALICE, None);
    assert_eq!(left(&redis, ALICE), 24 * 60, "of users there are no more than there are");
}

/// One node that has all slots: keys and channels of a script have to be in one.
#[test]
fn a_cluster_stores_and_publishes_too() {
    let redis = Redis::with(&Options { lines: &["cluster-enabled yes"], ..Options::default() });
    redis.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let runtime = runtime();
    let connect = async {
        loop {
            let builder = ClusterClientBuilder::new([redis.url()]).use_protocol(ProtocolVersion::RESP3);
            let client = builder.retries(0).response_timeout(PATIENCE).build().expect("a URL");
            let connection = client.get_async_connection().await.expect("a cluster");
            // It takes a moment until it finds itself whole.
            if redis.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
                return connection;
            }
        }
    };
    let connection = runtime.block_on(async { timeout(PATIENCE, connect).await }).expect("it is whole");
    let (_connection, connection) = watch::channel(Some(connection));
    let parts = StoreParts {
        connection,
        cluster: true,
        prefix: "usher:".into(),
        bounds: bounds(),
        seed: 1,
        command_timeout: PATIENCE,
    };
    let (store, mut answers, lanes) = store::open(parts);
    runtime.spawn(lanes);
    let mut answer = |ask| {
        store.ask(1, ask).expect("there is room");
        runtime.block_on(answers.recv()).expect("a store").answer
    };
    for name in ["alice", "bob", "a}b", "{c"] {
        let stream: Arc<str> = format!("user:{name}").into();
        let first = position(answer(Ask::Append(with_key(&stream, "a", "k", 1))));
        assert_eq!(first.offset, 1);
        assert_eq!(answer(Ask::Append(with_key(&stream, "a", "k", 1))), Answer::Repeated(first.clone()));
        let epoch = first.epoch.clone();
        let page = answer(Ask::Read { stream: stream.clone(), epoch: epoch.clone(), after: 0, count_max: 9 });
        assert!(matches!(page, Answer::Page(page) if page.events.as_ref().map(Vec::len) == Some(1)));
        assert_eq!(answer(Ask::Acknowledge { stream, epoch, offset: 1 }), Answer::Acknowledged(1));
    }
    assert_eq!(store.counts().unpublished.get(), 0);
    assert_eq!(store.counts().refused.get(), 0);
}

#[test]
fn entries_with_numbers_leave_no_key_and_a_field_of_each_writer_up_to_a_bound() {
    let mut redis = OnRedis::new();
    let fields = |redis: &OnRedis| -> usize {
        redis.redis.cli(&["HLEN", "usher:{user:alice}:meta"]).parse().expect("a number")
    };
    stored(&mut redis, ALICE, "a");
    let others = fields(&redis);
    for number in 1..=3 {
        numbered(&mut redis, "one", number);
    }
    assert_eq!((fields(&redis), &*redis.redis.cli(&["DBSIZE"])), (others + 1, "2"));
    (0..STREAM_WRITERS_MAX).for_each(|writer| drop(numbered(&mut redis, &writer.to_string(), 1)));
    assert_eq!(fields(&redis), others + STREAM_WRITERS_MAX);
}

/// The suite leans on it: what `pass` does is what time does.
#[test]
fn everything_in_redis_expires() {
    let mut redis = OnRedis::new();
    position(redis.ask(Ask::Append(with_key("user:alice", "a", "k", 1))));
    stored(&mut redis, "room:event:1", "a");
    let ages = [
        ("usher:{user:alice}:meta", Duration::from_secs(24 * 3_600)),
        ("usher:{user:alice}:log", OnRedis::LEDGER_AGE_MAX),
        ("usher:{user:alice}:key:k", Duration::from_secs(300)),
        ("usher:{room:event:1}:meta", Duration::from_secs(24 * 3_600)),
        ("usher:{room:event:1}:log", OnRedis::AGE_MAX),
    ];
    let keys = redis.redis.cli(&["DBSIZE"]);
    assert_eq!(keys, ages.len().to_string());
    for (key, age) in ages {
        let left: u64 = redis.redis.cli(&["PTTL", key]).parse().expect("a number");
        let age = age.as_millis() as u64;
        assert!((age - 60_000..=age).contains(&left), "{key}: {left} of {age}");
    }
}
