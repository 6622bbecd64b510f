//! Two gateways on one Redis: limits hold over both, people are announced once, and who died is forgotten.

use serde_json::json;

use crate::support::{
    redis::Redis,
    server::Server,
    ws::{Ask, Client},
};

/// Two gateways on that Redis, connected to it and each other.
fn two(redis: &Redis, environment: &[(&str, &str)]) -> [Server; 2] {
    let url = redis.url();
    // Short, since a test waits for it; long enough for a busy machine.
    let mut all = vec![
        ("REDIS_URL", url.as_str()),
        ("PRESENCE_INTERVAL", "500ms"),
        ("PRESENCE_TIMEOUT", "5s"),
        ("PRESENCE_GRACE", "1s"),
        ("ROOM_PRESENCE", "team:*"),
    ];
    all.extend(environment);
    let servers = [Server::with(&all), Server::with(&all)];
    for server in &servers {
        until(|| server.metric("usher_instances") == 2.0, "both know each other");
    }
    servers
}

/// Asks again until it is so; every question takes a while.
fn until(is_so: impl Fn() -> bool, what: &str) {
    assert!((0..20_000).any(|_| is_so()), "{what}");
}

fn ask(server: &Server, user: &str) -> Ask {
    Ask::to("/ws").bearer(&server.token(user))
}

fn colleague(server: &Server, user: &str) -> Client {
    let mut client = server.connect_as(user);
    client.ignored = &["room:user_joined", "room:user_left", "user:online", "user:offline"];
    client.join("team:1");
    client
}

/// What a client hears of ann, in order.
fn hears(client: &mut Client, kinds: &[&str]) {
    client.ignored = &[];
    for kind in kinds {
        assert_eq!(client.expect(kind), json!({"room": "team:1", "user_id": "ann"}));
    }
}

/// Waits until somebody who joins the room on that gateway is told so many members, itself included.
fn members(server: &Server, room: &str, count: u32) {
    until(|| server.connect().join(room)["members"] == count, "members on both instances");
}

#[test]
fn connections_of_a_user_are_counted_over_both_and_who_died_is_forgotten() {
    let redis = Redis::start();
    let [one, mut other] = two(&redis, &[("RATE_LIMIT_MAX_CONNECTIONS", "3")]);
    let _here = [one.connect_as("ann")];
    let _there = [other.connect_as("ann"), other.connect_as("ann")];
    until(|| one.status_of(&ask(&one, "ann")) == 429, "the limit holds");
    until(|| other.status_of(&ask(&other, "ann")) == 429, "on both");
    assert_eq!(one.status_of(&ask(&one, "bob")), 101);

    other.signal(rustix::process::Signal::KILL);
    other.wait();
    until(|| one.status_of(&ask(&one, "ann")) == 101, "its connections are forgotten");
    until(|| one.metric("usher_instances") == 1.0, "and so is the instance");
}

#[test]
fn a_limit_that_is_found_passed_late_closes_the_newest() {
    let redis = Redis::start();
    let [one, other] = two(&redis, &[("RATE_LIMIT_MAX_CONNECTIONS", "1")]);
    let mut first = one.connect_as("ann");
    // Let in, since nobody told the other gateway of the first one yet, unless Redis was fast.
    match other.try_ask(&ask(&other, "ann")) {
        Ok(newest) => assert_eq!(newest.greeted().expect_close().0, 4429),
        Err(answer) => assert_eq!(answer.status, 429),
    }
    until(|| other.status_of(&ask(&other, "ann")) == 429, "the limit holds");
    first.expect_silence();
}

#[test]
fn members_of_a_room_are_counted_over_both_until_one_stops() {
    let redis = Redis::start();
    let [one, mut other] = two(&redis, &[("PRESENCE_TIMEOUT", "1h")]);
    let (mut ann, mut bob) = (one.connect_as("ann"), other.connect_as("bob"));
    ann.join("event:1");
    bob.join("event:1");
    members(&one, "event:1", 3);
    members(&other, "event:1", 3);
    drop(bob);
    other.signal(rustix::process::Signal::TERM);
    assert!(other.wait().success());
    until(|| one.metric("usher_instances") == 1.0, "who stops says so");
    members(&one, "event:1", 2);
}

#[test]
fn a_user_is_announced_once_over_both_and_offline_after_the_grace() {
    let redis = Redis::start();
    let servers = two(&redis, &[]);
    let mut watchers = servers.each_ref().map(|server| colleague(server, "bob"));
    let (first, second) = (colleague(&servers[0], "ann"), colleague(&servers[1], "ann"));
    watchers.iter_mut().for_each(|watcher| hears(watcher, &["room:user_joined", "user:online"]));
    // Who is where is said before it is counted.
    servers.iter().for_each(|server| members(server, "team:1", 5));
    drop(first);
    until(|| servers[0].stats()["connectedUsers"] == 1, "one of the two is gone");
    watchers.iter_mut().for_each(Client::expect_silence);

    // A reload: she leaves, and comes back.
    drop(second);
    watchers.iter_mut().for_each(|watcher| hears(watcher, &["room:user_left"]));
    let back = colleague(&servers[0], "ann");
    watchers.iter_mut().for_each(|watcher| hears(watcher, &["room:user_joined"]));
    drop(back);
    watchers.iter_mut().for_each(|watcher| hears(watcher, &["room:user_left", "user:offline"]));
}

#[test]
fn what_a_backend_says_of_presence_reaches_the_rooms_of_the_user() {
    let redis = Redis::start();
    let servers = two(&redis, &[]);
    let mut bob = colleague(&servers[0], "bob");
    let _ann = colleague(&servers[1], "ann");
    hears(&mut bob, &["room:user_joined", "user:online"]);
    let mut stranger = servers[0].connect_as("eve");
    stranger.join("event:1");
    redis.publish("user:status_change", r#"{"userId":"ann","status":"away"}"#);
    assert_eq!(bob.expect("user:status_change"), json!({"userId": "ann", "status": "away"}));
    redis.publish("user:status_change", r#"{"userId":"nobody","status":"away"}"#);
    bob.expect_silence();
    stranger.expect_silence();
}
