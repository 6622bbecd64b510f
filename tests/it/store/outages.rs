//! Redis that says nothing, says no, or is gone.

use usher::{
    store::Counts,
    stream::store::{Answer, Ask, Failure},
};

use super::{
    contract::{Subject, acknowledge, append, head, mark, offsets, position, stored, with_key},
    subject::{Instance, OnRedis, SHORT, connect_with, patient},
};
use crate::support::{
    PATIENCE, holds_soon,
    redis::{Options, Redis},
};

const ALICE: &str = "user:alice";
const UNAVAILABLE: Answer = Answer::Failed(Failure::Unavailable);
const REFUSED: Answer = Answer::Failed(Failure::Refused);

fn count(redis: &OnRedis, of: impl Fn(&Counts) -> u64) -> u64 {
    of(redis.instance.store.counts())
}

/// The one that may wait for longer asks before the one that gives up, and has its answer after it.
#[test]
fn a_question_waits_for_its_answer_as_long_as_it_may() {
    let mut redis = OnRedis::new();
    let mut hasty = Instance::with_timeout(&redis.runtime, &redis.redis, 2, SHORT);
    redis.redis.freeze();
    redis.instance.store.ask(1, Ask::Append(append(ALICE, "a"))).expect("there is room");
    assert_eq!(redis.runtime.block_on(hasty.ask(Ask::Append(append("user:bob", "b")))), UNAVAILABLE);
    assert_eq!(hasty.store.counts().timed_out.get(), 1);
    redis.redis.thaw();
    assert_eq!(position(redis.runtime.block_on(redis.instance.answer(1))).offset, 1);
}

/// H1.
#[test]
fn a_redis_that_says_nothing_costs_one_time_out() {
    let mut redis = OnRedis::new();
    let first = stored(&mut redis, ALICE, "a");
    redis.replace(SHORT);
    redis.redis.freeze();
    let streams = ["user:b", "user:b", ALICE, "room:c"];
    for (ticket, stream) in (0..).zip(streams) {
        redis.instance.store.ask(ticket, Ask::Append(append(stream, "b"))).expect("there is room");
    }
    for _ in streams {
        let answered = redis.runtime.block_on(redis.instance.answers.recv()).expect("a store");
        assert_eq!(answered.answer, UNAVAILABLE);
    }
    assert_eq!(count(&redis, |counts| counts.timed_out.get()), 3, "each stream asked once");
    assert_eq!(count(&redis, |counts| counts.down.get()), 1, "what waited did not go after it");

    for ticket in 0..100 {
        let stream = format!("user:{ticket}");
        redis.instance.store.ask(ticket, Ask::Append(append(&stream, "c"))).expect("there is room");
    }
    for _ in 0..100 {
        let answered = redis.runtime.block_on(redis.instance.answers.recv()).expect("a store");
        assert_eq!(answered.answer, UNAVAILABLE);
    }
    let looked = count(&redis, |counts| counts.timed_out.get()) - 3;
    let down = count(&redis, |counts| counts.down.get()) - 1;
    assert_eq!(looked + down, 100);
    assert!((1..10).contains(&looked), "one at a time looks whether it does again, not {looked}");

    redis.redis.thaw();
    let answer = std::iter::repeat_with(|| redis.ask(Ask::Append(append(ALICE, "d"))));
    let next = answer.into_iter().find(|answer| *answer != UNAVAILABLE).map(position).expect("it answers");
    assert_eq!(next.epoch, first.epoch);
    redis.replace(PATIENCE);
    let stored: Vec<u64> = offsets(&mut redis, (ALICE, &first.epoch, next.offset - 1)).expect("no gap");
    assert_eq!(stored, [next.offset]);
}

/// As its connection may find out before we do.
#[test]
fn a_time_out_of_the_connection_is_a_time_out() {
    let mut redis = OnRedis::new();
    let config = patient().set_response_timeout(Some(SHORT));
    let connection = connect_with(&redis.runtime, &redis.redis, &config);
    redis.instance.connection.send_replace(Some(connection));
    redis.redis.freeze();
    assert_eq!(redis.ask(Ask::Append(append(ALICE, "a"))), UNAVAILABLE);
    assert_eq!(count(&redis, |counts| counts.timed_out.get()), 1);
    assert_eq!(count(&redis, |counts| counts.broken.get()), 0);
}

/// A repeat with the same key finds out what became of a call without an answer.
#[test]
fn what_was_under_way_is_found_by_its_key() {
    let mut redis = OnRedis::new();
    stored(&mut redis, ALICE, "a");
    redis.replace(SHORT);
    redis.redis.freeze();
    assert_eq!(redis.ask(Ask::Append(with_key(ALICE, "b", "k", 1))), UNAVAILABLE);
    redis.redis.thaw();
    assert!(holds_soon(|| redis.redis.cli(&["XLEN", "usher:{user:alice}:log"]) == "2"));
    redis.replace(PATIENCE);
    let again = redis.ask(Ask::Append(with_key(ALICE, "b", "k", 1)));
    assert!(matches!(again, Answer::Repeated(position) if position.offset == 2));
    assert_eq!(head(&mut redis, ALICE, None).offset, 2);
}

/// H2, F6: what was answered is there after `kill -9`.
#[test]
fn a_redis_that_writes_to_disk_loses_nothing_that_it_answered() {
    let mut redis = OnRedis::on(Redis::with(&Options { append_only: true, ..Options::default() }));
    let mut last = position(redis.ask(Ask::Append(with_key(ALICE, "a", "1", 1))));
    for round in 2..=9 {
        let key = format!("{round}");
        redis
            .instance
            .store
            .ask(round, Ask::Append(with_key(ALICE, "b", &key, round)))
            .expect("there is room");
        // It gets further from round to round: not sent, sent, stored, perhaps answered.
        redis.runtime.block_on(async {
            for _ in 0..4 * (round - 2) {
                tokio::task::yield_now().await;
            }
        });
        redis.redis.kill();
        let lost = redis.runtime.block_on(redis.instance.answer(round));
        redis.redis.restart();
        redis.reconnect();
        let repeated = redis.ask(Ask::Append(with_key(ALICE, "b", &key, round)));
        let now = match (lost, repeated) {
            (UNAVAILABLE, Answer::Repeated(position)) => position,
            (UNAVAILABLE, appended) => position(appended),
            (first, Answer::Repeated(again)) => {
                assert_eq!(position(first).offset, again.offset);
                again
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(now.offset, last.offset + 1, "round {round}");
        assert_eq!(offsets(&mut redis, (ALICE, &last.epoch, last.offset)), Some(vec![now.offset]));
        last = now;
    }
    assert_eq!(offsets(&mut redis, (ALICE, &last.epoch, 6)), Some(vec![7, 8, 9]));
    let known = mark(&last.epoch, last.offset);
    assert_eq!(head(&mut redis, ALICE, known).epoch, last.epoch);
}

#[test]
fn without_a_connection_everything_fails_at_once() {
    let mut redis = OnRedis::new();
    redis.instance.connection.send_replace(None);
    assert_eq!(redis.ask(Ask::Append(append(ALICE, "a"))), UNAVAILABLE);
    assert_eq!(count(&redis, |counts| counts.down.get()), 1);
    redis.reconnect();
    assert_eq!(stored(&mut redis, ALICE, "a").offset, 1, "nothing was stored meanwhile");
}

#[test]
fn a_connection_that_breaks_is_no_answer() {
    let mut redis = OnRedis::new();
    stored(&mut redis, ALICE, "a");
    redis.redis.kill();
    for _ in 0..3 {
        assert_eq!(redis.ask(Ask::Append(append(ALICE, "b"))), UNAVAILABLE);
    }
    assert_eq!(count(&redis, |counts| counts.broken.get()), 3);
}

/// H4: errors of Redis leave nothing behind, whether they come before the script or within it.
#[test]
fn an_error_of_redis_means_that_nothing_was_stored() {
    let table: [(&str, &[&str], &[&str]); 5] = [
        ("OOM", &["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
        ("READONLY", &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (
            "NOREPLICAS",
            &["CONFIG", "SET", "min-replicas-to-write", "1"],
            &["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
        ("NOPERM", &["ACL", "SETUSER", "default", "-xadd"], &["ACL", "SETUSER", "default", "+xadd"]),
        (
            "NOPERM",
            &["ACL", "SETUSER", "default", "-evalsha", "-eval"],
            &["ACL", "SETUSER", "default", "+@all"],
        ),
    ];
    let mut redis = OnRedis::new();
    let first = stored(&mut redis, ALICE, "a");
    for (round, (error, on, off)) in (1..).zip(table) {
        redis.redis.cli(on);
        assert_eq!(redis.ask(Ask::Append(with_key(ALICE, "b", error, 1))), REFUSED, "{error}");
        assert_eq!(redis.ask(Ask::Append(with_key("room:new", "b", error, 1))), REFUSED, "{error}");
        redis.redis.cli(off);
        assert_eq!(count(&redis, |counts| counts.refused.get()), 2 * round);
        let now = head(&mut redis, ALICE, mark(&first.epoch, 1));
        assert_eq!((now.epoch, now.offset), (first.epoch.clone(), 1), "{error}");
        assert_eq!(offsets(&mut redis, (ALICE, &first.epoch, 0)), Some(vec![1]), "{error}");
        let keys = redis.redis.cli(&["KEYS", "*:key:*"]);
        assert_eq!(keys, "", "{error}");
    }
}

/// What clients of this instance already have must not look refused because the others could not be told.
#[test]
fn what_cannot_be_published_is_stored_all_the_same() {
    let mut redis = OnRedis::new();
    redis.redis.cli(&["ACL", "SETUSER", "default", "resetchannels"]);
    assert_eq!(stored(&mut redis, ALICE, "a").offset, 1);
    assert_eq!(count(&redis, |counts| counts.unpublished.get()), 1);
    redis.redis.cli(&["ACL", "SETUSER", "default", "allchannels"]);
    assert_eq!(stored(&mut redis, ALICE, "b").offset, 2);
    assert_eq!(count(&redis, |counts| counts.unpublished.get()), 1);
}

#[test]
fn what_stands_in_the_place_of_a_stream_is_left_alone() {
    let mut redis = OnRedis::new();
    for key in ["usher:{user:a}:meta", "usher:{user:b}:log"] {
        redis.redis.cli(&["SET", key, "mine"]);
    }
    assert_eq!(redis.ask(Ask::Append(append("user:a", "a"))), REFUSED);
    assert_eq!(redis.redis.cli(&["GET", "usher:{user:a}:meta"]), "mine");
}

#[test]
fn the_permissions_that_readme_names_are_enough() {
    let user = "user usher on >wonder ~usher:* allchannels +@read +@write +@scripting +@pubsub +@connection +time +info";
    let mut redis = OnRedis::on(Redis::with(&Options { lines: &[user], ..Options::default() }));
    let client =
        redis::Client::open(format!("redis://usher:wonder@127.0.0.1:{}", redis.redis.port)).expect("a URL");
    let config = patient();
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let connection = redis.runtime.block_on(connection).expect("Redis");
    redis.instance.connection.send_replace(Some(connection));
    let epoch = position(redis.ask(Ask::Append(with_key(ALICE, "a", "k", 1)))).epoch;
    assert_eq!(acknowledge(&mut redis, (ALICE, &epoch, 1)), 1);
    assert_eq!(offsets(&mut redis, (ALICE, &epoch, 0)), Some(vec![1]));
    assert_eq!(head(&mut redis, ALICE, mark(&epoch, 2)).offset, 1);
    assert_eq!(count(&redis, |counts| counts.unpublished.get()), 0);
}
