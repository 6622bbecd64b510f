//! Waiting rooms end to end: a queue opened by gRPC, people who join and are let in, on one instance and on two.

use std::{fs, process::Command};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ED25519};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;
use usher::{
    clock::Now,
    generated::realtime::{
        AdmitNextRequest, AdvanceQueueRequest, CloseQueueRequest, GetQueueRequest, HolderRequest,
        OpenQueueRequest, PauseQueueRequest, QueueResponse, open_queue_request::Inlet,
    },
    sale::fair::{self, Secrets, hex},
};

use crate::support::{
    grpc::Backend,
    holds_soon, look_until,
    redis::Redis,
    server::{Server, command, text},
    ws::Client,
};

/// The queue of `e1`, open to everybody at once.
fn open(backend: &Backend) {
    let opened = open_with(backend, OpenQueueRequest::default());
    assert_eq!((&*opened.state, opened.commitment.len()), ("open", 32));
}

pub fn open_with(backend: &Backend, terms: OpenQueueRequest) -> QueueResponse {
    backend.open_queue(OpenQueueRequest { event_id: "e1".into(), ..terms }).expect("it opens")
}

pub fn advance(backend: &Backend, to: u32) -> QueueResponse {
    backend.advance_queue(AdvanceQueueRequest { event_id: "e1".into(), to, run: 0 }).expect("it moves")
}

pub fn look(backend: &Backend) -> QueueResponse {
    backend.get_queue(GetQueueRequest { event_id: "e1".into() }).expect("the queue")
}

pub fn join(client: &mut Client) -> Value {
    let (kind, joined) = client.request("queue:join", &json!({"event_id": "e1"}));
    assert_eq!(kind, "queue:joined", "{joined}");
    joined
}

/// The payload of the next message of the kind, whatever comes before.
pub fn until(client: &mut Client, kind: &str) -> Value {
    loop {
        let message = client.message();
        if message["type"] == kind {
            return message["payload"].clone();
        }
    }
}

#[test]
fn people_join_wait_and_are_let_in_with_passes_that_anybody_can_check() {
    let server = Server::with(&[("SHARDS", "2")]);
    let backend = Backend::of(&server);
    let (mut ann, mut tab, mut nobody) =
        (server.connect_as("ann"), server.connect_as("ann"), server.connect());
    assert_eq!(ann.request("queue:join", &json!({"event_id": "e1"})).1["code"], "no_queue");
    let get = || backend.get_queue(GetQueueRequest { event_id: "e1".into() });
    assert_eq!(get().expect_err("there is none").code(), Code::NotFound);
    open(&backend);

    assert_eq!((join(&mut ann)["place"].as_u64(), join(&mut tab)["place"].as_u64()), (Some(1), Some(1)));
    let joined = join(&mut nobody);
    let token = joined["place_token"].as_str().expect("a token").to_owned();
    assert_eq!(joined["place"], 2);
    assert_eq!(until(&mut nobody, "booking:queue_position")["ahead"], 1);
    assert_eq!(get().expect("the queue").waiting, 2);

    assert_eq!(advance(&backend, 1).admitted, 1);
    let admitted = [until(&mut ann, "queue:admitted"), until(&mut tab, "queue:admitted")];
    assert_eq!(admitted[0]["pass"], admitted[1]["pass"]);
    assert_good(&server, &admitted[0], "user ann, place 1");
    let holder = HolderRequest { event_id: "e1".into(), holder: "ann".into(), ..Default::default() };
    assert_eq!(backend.claim(holder).expect("she claims").inside, 1);

    let next = backend.admit_next(AdmitNextRequest { event_id: "e1".into(), count: 1, ..Default::default() });
    assert_eq!(next.expect("one more").admitted, 2);
    let first = until(&mut nobody, "queue:admitted");
    assert_eq!(first["place"], 2);
    // Another device shows the token.
    let mut device = server.connect();
    device.send("queue:join", &json!({"event_id": "e1", "place_token": token}));
    assert_eq!(until(&mut device, "queue:admitted")["place"], 2);
}

/// Has the pass checked by the command, with the keys that the gateway publishes.
fn assert_good(server: &Server, admitted: &Value, holder: &str) {
    let directory = TempDir::new().expect("a directory");
    let jwks = directory.path().join("jwks.json");
    fs::write(&jwks, server.get("/.well-known/jwks.json").text()).expect("a file");
    let pass = server.remember(admitted["pass"].as_str().expect("a pass").to_owned());
    let mut verify: Command = command();
    let output = verify.args(["pass", "verify", &pass, "--event", "e1", "--jwks", text(&jwks)]).output();
    let said = String::from_utf8_lossy(&output.expect("the binary was built").stdout).into_owned();
    assert!(said.contains(&format!("good: {holder}, event e1")), "{said}");
}

#[test]
fn a_pause_and_an_end_are_told_to_who_waits_and_to_who_comes() {
    let server = Server::start();
    let backend = Backend::of(&server);
    open(&backend);
    let mut ann = server.connect_as("ann");
    join(&mut ann);
    let pause = |resume| PauseQueueRequest { event_id: "e1".into(), reason: "a rest".into(), resume, run: 0 };
    assert_eq!(backend.pause_queue(pause(false)).expect("it pauses").state, "paused");
    assert_eq!(until(&mut ann, "queue:paused")["reason"], "a rest");
    let mut bob = server.connect_as("bob");
    join(&mut bob);
    assert_eq!(until(&mut bob, "queue:paused")["reason"], "a rest");
    backend.pause_queue(pause(true)).expect("it goes on");
    until(&mut ann, "queue:resumed");
    bob.send("queue:leave", &json!({"event_id": "e1"}));
    assert_eq!(until(&mut bob, "queue:left")["event_id"], "e1");
    let close = CloseQueueRequest { event_id: "e1".into(), sold_out: true, ..Default::default() };
    assert_eq!(backend.close_queue(close).expect("it ends").state, "sold_out");
    until(&mut ann, "queue:sold_out");
    let late = server.connect_as("cid").request("queue:join", &json!({"event_id": "e1"})).1;
    assert_eq!(late["code"], "queue_over");
    let next = backend.admit_next(AdmitNextRequest { event_id: "e1".into(), count: 1, ..Default::default() });
    assert_eq!(next.expect_err("nobody is let in").code(), Code::FailedPrecondition);
}

/// The next message about a position that says so, whatever comes before.
fn until_ahead(client: &mut Client, ahead: u64) {
    while until(client, "booking:queue_position")["ahead"] != ahead {}
}

fn place(joined: &Value) -> Option<u64> {
    joined["place"].as_u64()
}

#[test]
fn who_came_before_the_opening_is_shuffled_by_the_seed_and_who_comes_later_stands_behind() {
    let server = Server::with(&[("SHARDS", "2"), ("QUEUE_UPDATE_INTERVAL", "0s")]);
    let backend = Backend::of(&server);
    let Secrets { seed, .. } = Secrets::derive(&[9; 32]);
    let opens_at_ms = Now::read().wall_ms + 1_500;
    let terms = OpenQueueRequest { opens_at_ms, secret: vec![9; 32], ..OpenQueueRequest::default() };
    let early = open_with(&backend, terms);
    assert_eq!(early.seed, [0_u8; 0], "a secret until then");
    assert_eq!((&*early.state, early.commitment), ("early", fair::commitment(&seed).to_vec()));
    let names: Vec<String> = (0..12).map(|n| format!("user{n}")).collect();
    let mut clients: Vec<Client> = names.iter().map(|name| server.connect_as(name)).collect();
    for client in &mut clients {
        let joined = join(client);
        assert_eq!((place(&joined), joined["opens_at"].as_u64()), (None, Some(opens_at_ms)), "{joined}");
        assert_eq!(joined["commitment"], hex(&fair::commitment(&seed)), "{joined}");
    }
    assert!(
        backend
            .admit_next(AdmitNextRequest { event_id: "e1".into(), count: 1, ..Default::default() })
            .is_err(),
        "not yet"
    );

    let mut holders: Vec<String> = names.iter().map(|name| format!("u:{name}")).collect();
    fair::order(&seed, &mut holders);
    let place_of = |name: &str| 1 + holders.iter().position(|holder| holder[2..] == *name).unwrap() as u64;
    for (client, name) in clients.iter_mut().zip(&names) {
        assert_eq!(until(client, "booking:queue_position")["ahead"], place_of(name) - 1, "{name}");
    }
    let opened = look(&backend);
    assert_eq!((&*opened.state, opened.seed), ("open", seed.to_vec()));
    assert_receipt_is_good(&server, &backend, &mut clients[5], &seed);
    assert_eq!(place(&join(&mut server.connect_as("late"))), Some(13));
    // Another device has the place that was drawn.
    assert_eq!(place(&join(&mut server.connect_as("user5"))), Some(place_of("user5")));

    assert_eq!(advance(&backend, 4).admitted, 4);
    for (client, name) in clients.iter_mut().zip(&names) {
        match place_of(name) {
            place @ 1..=4 => assert_eq!(until(client, "queue:admitted")["place"], place),
            place => until_ahead(client, place - 5),
        }
    }
}

/// Has a receipt checked by the command, alone and against everybody who was in the pre-queue.
fn assert_receipt_is_good(server: &Server, backend: &Backend, client: &mut Client, seed: &fair::Seed) {
    let receipt = look_until(|| {
        client.send("queue:join", &json!({"event_id": "e1"}));
        let joined = until(client, "queue:joined");
        (!joined["receipt"].is_null()).then(|| joined["receipt"].clone())
    });
    let mut receipt = receipt.expect("a receipt, once it was drawn");
    let directory = TempDir::new().expect("a directory");
    let [file, jwks, log] =
        ["receipt.json", "jwks.json", "joins.jsonl"].map(|name| directory.path().join(name));
    fs::write(&jwks, server.get("/.well-known/jwks.json").text()).expect("a file");
    fs::write(&log, backend.queue_log("e1")).expect("a file");
    let check = |receipt: &Value| {
        fs::write(&file, receipt.to_string()).expect("a file");
        let (seed, jwks, log) = (fair::hex(seed), text(&jwks), text(&log));
        let arguments = ["queue", "verify", text(&file), "--seed", &seed, "--jwks", jwks, "--log", log];
        command().args(arguments).output().expect("the binary was built")
    };
    let said = check(&receipt);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    receipt["place"] = json!(receipt["place"].as_u64().expect("a place") % 12 + 1);
    assert!(!check(&receipt).status.success(), "another place is none");
}

#[test]
fn a_call_that_is_repeated_with_its_key_lets_nobody_more_in() {
    let Pair { servers, backends, .. } = &pair(&[]);
    open(&backends[0]);
    let mut clients = [(); 4].map(|()| servers[0].connect());
    clients.iter_mut().for_each(|client| drop(join(client)));
    let admit = |at: usize, count, key: &str| {
        let request = AdmitNextRequest { event_id: "e1".into(), count, idempotency_key: key.into(), run: 0 };
        backends[at].admit_next(request)
    };
    for (at, key, admitted) in [(0, "k", 1), (1, "k", 1), (1, "l", 2), (0, "", 3), (0, "l", 3)] {
        assert_eq!(admit(at, 1, key).expect("it answers").admitted, admitted, "{key}");
    }
    assert_eq!(admit(1, 2, "k").expect_err("another call").code(), Code::AlreadyExists);
    // To change the terms needs no secret.
    let terms = OpenQueueRequest { inlet: Some(Inlet::PerMinute(60_000)), ..OpenQueueRequest::default() };
    open_with(&backends[1], terms);
    assert!(holds_soon(|| look(&backends[0]).admitted == 4), "the inlet runs");
}

#[test]
fn a_pass_that_nobody_uses_expires_and_lets_the_next_in() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let inlet = Some(Inlet::Inside(1));
    open_with(&backend, OpenQueueRequest { inlet, claim_seconds: 1, ..OpenQueueRequest::default() });
    let (mut ann, mut bob, mut cid) =
        (server.connect_as("ann"), server.connect_as("bob"), server.connect_as("cid"));
    [&mut ann, &mut bob, &mut cid].into_iter().for_each(|client| drop(join(client)));
    let pass = until(&mut ann, "queue:admitted");
    assert!(pass["claim_until"].as_u64() > Some(0), "{pass}");
    until(&mut ann, "queue:left");
    until(&mut bob, "queue:admitted");
    let bob_is =
        |holder: &str| HolderRequest { event_id: "e1".into(), holder: holder.into(), ..Default::default() };
    assert_eq!(backend.claim(bob_is("ann")).expect_err("too late").code(), Code::FailedPrecondition);
    assert_eq!(backend.claim(bob_is("bob")).expect("in time").inside, 1);
    let stats = backend.complete(bob_is("bob")).expect("he bought");
    assert_eq!((stats.expired, stats.completed, stats.inside), (1, 1, 0));
    until(&mut cid, "queue:admitted");
    assert_eq!(backend.abandon(bob_is("cid")).expect("he gave up").abandoned, 1);
    until(&mut cid, "queue:left");
    let stats = look(&backend);
    assert_eq!(
        stats.admitted,
        stats.holding + stats.inside + stats.expired + stats.completed + stats.abandoned
    );
}

#[test]
fn who_is_away_for_the_grace_counts_for_nobody_and_keeps_the_place() {
    let server = Server::with(&[("SHARDS", "2"), ("QUEUE_UPDATE_INTERVAL", "0s")]);
    let backend = Backend::of(&server);
    open_with(&backend, OpenQueueRequest { grace_seconds: 1, ..OpenQueueRequest::default() });
    let (mut ann, mut tab, mut bob) =
        (server.connect_as("ann"), server.connect_as("ann"), server.connect_as("bob"));
    [&mut ann, &mut tab, &mut bob].into_iter().for_each(|client| drop(join(client)));
    until_ahead(&mut bob, 1);
    drop(ann);
    drop(tab);
    until_ahead(&mut bob, 0);
    let stats = look(&backend);
    assert_eq!((stats.waiting, stats.departed), (1, 1));
    assert_eq!(advance(&backend, 2).admitted, 1);
    assert_eq!(until(&mut bob, "queue:admitted")["place"], 2);
    // She comes back, and her number was served.
    let mut ann = server.connect_as("ann");
    ann.send("queue:join", &json!({"event_id": "e1"}));
    assert_eq!(until(&mut ann, "queue:admitted")["place"], 1);
}

#[test]
fn metrics_say_how_a_queue_stands_and_what_was_refused() {
    let server = Server::with(&[("QUEUE_GRACE", "1s")]);
    let backend = Backend::of(&server);
    let mut early = server.connect_as("ann");
    assert_eq!(early.request("queue:join", &json!({"event_id": "e1"})).1["code"], "no_queue");
    open(&backend);
    let mut clients = ["ann", "bob", "cid"].map(|user| server.connect_as(user));
    clients.iter_mut().for_each(|client| drop(join(client)));
    assert_eq!(advance(&backend, 1).admitted, 1);
    let holder = HolderRequest { event_id: "e1".into(), holder: "ann".into(), ..Default::default() };
    assert_eq!(backend.claim(holder).expect("she claims").inside, 1);
    let wrong = HolderRequest { event_id: "e1".into(), holder: "bob".into(), ..Default::default() };
    assert_eq!(backend.claim(wrong).expect_err("he waits").code(), Code::FailedPrecondition);
    let [_ann, _bob, cid] = clients;
    // Whoever is away is waited for as long as QUEUE_GRACE says, unless the queue's own terms do.
    drop(cid);
    let places =
        |state: &str| server.metric(&format!("usher_queue_places{{event=\"e1\",state=\"{state}\"}}"));
    assert!(holds_soon(|| places("departed") == 1.0), "{}", server.admin("/metrics").text());
    assert_eq!((places("waiting"), places("inside"), places("holding")), (1.0, 1.0, 0.0));
    let is = |name: &str, value: f64| holds_soon(|| server.metric(name) == value);
    assert!(is("usher_queue_serving{event=\"e1\"}", 1.0) && is("usher_queue_admitted{event=\"e1\"}", 1.0));
    assert!(is("usher_queues", 1.0) && is("usher_queues_lost", 0.0));
    for reason in ["no_queue", "rules"] {
        assert!(is(&format!("usher_queue_refused_total{{reason=\"{reason}\"}}"), 1.0), "{reason}");
    }
    let entries = |result: &str| server.metric(&format!("usher_queue_entries_total{{result=\"{result}\"}}"));
    // Between two looks there may be one more.
    assert!(holds_soon(|| entries("written") >= 6.0 && entries("written") == entries("applied")));
}

/// Two instances with one Redis, and one key for passes and place tokens.
pub struct Pair {
    pub servers: [Server; 2],
    pub backends: [Backend; 2],
    pub redis: Redis,
    _keys: TempDir,
}

pub fn pair(environment: &[(&str, &str)]) -> Pair {
    let redis = Redis::start();
    let keys = TempDir::new().expect("a directory");
    let key = keys.path().join("pass.pem");
    fs::write(&key, KeyPair::generate_for(&PKCS_ED25519).expect("a key pair").serialize_pem())
        .expect("a file");
    let url = redis.url();
    let mut all = vec![
        ("REDIS_URL", url.as_str()),
        ("PASS_KEY_FILE", text(&key)),
        ("QUEUE_UPDATE_INTERVAL", "0s"),
        ("PRESENCE_INTERVAL", "500ms"),
        ("PRESENCE_TIMEOUT", "5s"),
    ];
    all.extend(environment);
    let servers = [(); 2].map(|()| Server::with(&all));
    for server in &servers {
        assert!(holds_soon(|| server.metric("usher_instances") == 2.0), "both know each other");
    }
    let backends = servers.each_ref().map(Backend::of);
    Pair { servers, backends, redis, _keys: keys }
}

#[test]
fn a_queue_is_the_same_on_two_instances() {
    let Pair { servers, backends: [one, other], .. } = &pair(&[]);
    open(one);
    let (mut ann, mut bob) = (servers[0].connect_as("ann"), servers[1].connect_as("bob"));
    assert_eq!((place(&join(&mut ann)), place(&join(&mut bob))), (Some(1), Some(2)));
    let joined = join(&mut servers[0].connect());
    let (token, third) = (&joined["place_token"], &joined["place"]);
    let mut device = servers[1].connect();
    let (_, again) = device.request("queue:join", &json!({"event_id": "e1", "place_token": token}));
    assert_eq!((&again["place"], third), (&json!(3), &json!(3)), "a token is good on every instance");

    assert_eq!(advance(other, 1).serving, 1);
    assert_eq!(until(&mut ann, "queue:admitted")["place"], 1);
    until_ahead(&mut bob, 0);
    let next = one.admit_next(AdmitNextRequest { event_id: "e1".into(), count: 1, ..Default::default() });
    assert_eq!(next.expect("one").admitted, 2);
    assert_eq!(until(&mut bob, "queue:admitted")["place"], 2);
    let [mut books, same] = [one, other].map(look);
    assert_eq!(books, same);
    let claim = HolderRequest { event_id: "e1".into(), holder: "bob".into(), ..Default::default() };
    books = other.claim(claim).expect("he claims");
    assert_eq!((books.inside, look(one)), (1, books.clone()), "what was answered is known everywhere");
}

#[test]
fn nothing_of_a_log_is_trimmed_as_other_streams_are() {
    let bounds = [("STREAM_MAX_COUNT", "1"), ("STREAM_MAX_AGE", "1s"), ("LEDGER_MAX_AGE", "1s")];
    let Pair { servers, backends: [one, other], redis, .. } = &pair(&bounds);
    open(one);
    let mut clients: Vec<Client> = (0..20).map(|n| servers[0].connect_as(&format!("user{n}"))).collect();
    clients.iter_mut().for_each(|client| drop(join(client)));
    for key in ["usher:{queue:e1}:log", "usher:{queue:e1}:meta"] {
        let left_ms: u64 = redis.cli(&["PTTL", key]).parse().expect("a time");
        assert!((6 * DAY_MS..=7 * DAY_MS).contains(&left_ms), "{key}: {left_ms}");
    }
    // Whoever reads keeps it.
    redis.cli(&["PEXPIRE", "usher:{queue:e1}:log", "100000"]);
    assert_eq!(look(other).waiting, 20, "who comes later reads it from the beginning");
    let left_ms: u64 = redis.cli(&["PTTL", "usher:{queue:e1}:log"]).parse().expect("a time");
    assert!(left_ms > 6 * DAY_MS, "{left_ms}");
}

const DAY_MS: u64 = 24 * 3_600_000;

#[test]
fn one_call_is_one_entry_that_the_others_hear_of() {
    let Pair { servers, backends: [one, other], redis, .. } = &pair(&[]);
    open(one);
    let mut clients = servers.each_ref().map(|server| [server.connect(), server.connect()]);
    clients.iter_mut().flatten().for_each(|client| drop(join(client)));
    assert_eq!(look(other).waiting, 4);
    let channel = "usher:{queue:e1}:live";
    assert!(holds_soon(|| redis.cli(&["PUBSUB", "NUMSUB", channel]).ends_with('2')), "both listen");
    redis.cli(&["CONFIG", "RESETSTAT"]);
    assert_eq!(advance(one, 1).admitted, 1);
    clients[1].iter_mut().for_each(|client| while until(client, "booking:queue_position")["serving"] != 1 {});
    let appended = redis.cli(&["INFO", "commandstats"]);
    assert!(appended.contains("cmdstat_xadd:calls=1,"), "{appended}");
}

#[test]
fn people_of_an_instance_that_was_killed_depart_after_the_grace() {
    let mut pair = pair(&[("PRESENCE_TIMEOUT", "2s")]);
    open_with(&pair.backends[0], OpenQueueRequest { grace_seconds: 1, ..OpenQueueRequest::default() });
    let (mut bob, mut ann) = (pair.servers[1].connect_as("bob"), pair.servers[0].connect_as("ann"));
    [&mut bob, &mut ann].into_iter().for_each(|client| drop(join(client)));
    until_ahead(&mut ann, 1);
    pair.servers[1].signal(Signal::KILL);
    pair.servers[1].wait();
    until_ahead(&mut ann, 0);
    assert_eq!((look(&pair.backends[0]).departed, look(&pair.backends[0]).waiting), (1, 1));
    // On another instance he has it again.
    assert_eq!(place(&join(&mut pair.servers[0].connect_as("bob"))), Some(1));
}

#[test]
fn a_place_departs_when_its_holder_is_on_neither_instance() {
    let Pair { servers, backends: [one, _], .. } = &pair(&[]);
    open_with(one, OpenQueueRequest { grace_seconds: 1, ..OpenQueueRequest::default() });
    let (mut here, mut there) = (servers[0].connect_as("ann"), servers[1].connect_as("ann"));
    assert_eq!([&mut here, &mut there].map(|tab| place(&join(tab))), [Some(1); 2]);
    let mut bob = servers[1].connect_as("bob");
    join(&mut bob);
    until_ahead(&mut bob, 1);
    drop(here);
    // Time enough to depart in, if one of two were nobody.
    let mut cid = servers[0].connect_as("cid");
    join(&mut cid);
    drop(cid);
    assert!(holds_soon(|| look(one).departed == 1), "cid is away");
    assert_eq!(look(one).waiting, 2, "ann is not");
    drop(there);
    until_ahead(&mut bob, 0);
}

#[test]
fn who_has_a_place_token_alone_finds_place_and_turn_on_another_instance_and_the_pass_again() {
    let Pair { servers, backends: [one, other], .. } = &pair(&[]);
    open_with(one, OpenQueueRequest { grace_seconds: 1, ..OpenQueueRequest::default() });
    let mut stranger = servers[0].connect();
    let joined = join(&mut stranger);
    let token = joined["place_token"].clone();
    let mut bob = servers[1].connect_as("bob");
    assert_eq!((place(&joined), place(&join(&mut bob)), token.is_string()), (Some(1), Some(2), true));
    drop(stranger);
    until_ahead(&mut bob, 0);
    assert_eq!(advance(other, 2).admitted, 1, "the turn goes to the next");

    // The page is loaded again, here and there, and the booking may have seen the pass.
    let back = |server: &Server| {
        let mut client = server.connect();
        client.send("queue:join", &json!({"event_id": "e1", "place_token": token}));
        (client.message()["payload"]["place"].as_u64(), until(&mut client, "queue:admitted"))
    };
    let (again, admitted) = back(&servers[1]);
    assert_eq!((again, place(&admitted)), (Some(1), Some(1)));
    assert_eq!(back(&servers[0]), (Some(1), admitted.clone()));
    let sub = claims(&admitted)["sub"].as_str().expect("a holder").to_owned();
    let claim = HolderRequest { event_id: "e1".into(), holder: sub, anonymous: true, ..Default::default() };
    assert_eq!(one.claim(claim).expect("a pass").inside, 1);
    assert_eq!(back(&servers[1]), (Some(1), admitted));
}

/// What the pass says.
fn claims(admitted: &Value) -> Value {
    let part = admitted["pass"].as_str().and_then(|pass| pass.split('.').nth(1)).expect("a pass");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}
