//! Critical messages of foreign channels while the instance that stores them goes (catalogue F5, L3, H2): each that Redis
//! gave to an instance is counted at a client of another.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::mpsc::{self, SyncSender},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::Signal;

use crate::support::{
    holds_soon, look_until,
    redis::{Options, Redis},
    server::Server,
    ws::Client,
};

/// Between two messages: some hundreds fall into the time in which nobody holds the lease.
const PACE: Duration = Duration::from_millis(10);
/// Messages before something happens, and after what it led to.
const SOME: usize = 50;

/// A backend that says numbers from 1 on to ann, over and over, while Redis is there.
struct Publisher {
    stop: SyncSender<()>,
    thread: JoinHandle<Vec<u64>>,
}

impl Publisher {
    fn start(port: u16) -> Self {
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut connection = None;
            let mut heard = Vec::new();
            for number in 1.. {
                if stopped.recv_timeout(PACE).is_ok() {
                    break;
                }
                if connection.is_none() {
                    connection = TcpStream::connect(("127.0.0.1", port)).ok().map(BufReader::new);
                }
                match connection.as_mut().map(|open| publish(open, number)) {
                    Some(Ok(instances)) if instances > 0 => heard.push(number),
                    Some(Err(_)) => connection = None,
                    Some(Ok(_)) | None => {}
                }
            }
            heard
        });
        Self { stop, thread }
    }

    /// The numbers that Redis gave to an instance.
    fn stop(self) -> Vec<u64> {
        self.stop.send(()).expect("it publishes");
        self.thread.join().expect("it does not panic")
    }
}

/// How many subscriptions got it.
fn publish(connection: &mut BufReader<TcpStream>, number: u64) -> std::io::Result<u64> {
    let payload = format!(r#"{{"userId":"ann","number":{number}}}"#);
    let command =
        format!("*3\r\n$7\r\nPUBLISH\r\n$17\r\nbooking:confirmed\r\n${}\r\n{payload}\r\n", payload.len());
    connection.get_mut().write_all(command.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    line.trim_end()
        .strip_prefix(':')
        .and_then(|count| count.parse().ok())
        .ok_or_else(std::io::Error::last_os_error)
}

fn instance(redis: &Redis) -> Server {
    let server = Server::with(&[("REDIS_URL", &redis.url()), ("DRAIN_DELAY", "0s")]);
    assert!(holds_soon(|| server.get("/ready").json()["redis"] == "connected"));
    server
}

fn durable() -> Redis {
    Redis::with(&Options { append_only: true, ..Options::default() })
}

/// The one that holds the lease, and the others.
fn holder_and_others(redis: &Redis) -> (Server, Vec<Server>) {
    let mut servers = vec![instance(redis), instance(redis), instance(redis)];
    let holder = look_until(|| servers.iter().position(|one| one.metric("usher_store_ingests") == 1.0));
    let holder = servers.swap_remove(holder.expect("one of them holds it"));
    // Whoever hears that one leave, or takes over, has heard all that it did.
    servers.iter().for_each(|other| assert!(holds_soon(|| other.metric("usher_instances") == 3.0)));
    (holder, servers)
}

fn number(client: &mut Client) -> u64 {
    let message = client.message();
    message["payload"]["number"].as_u64().unwrap_or_else(|| panic!("{message}"))
}

/// The next so many.
fn some(client: &mut Client, seen: &mut Vec<u64>) {
    seen.extend((0..SOME).map(|_| number(client)));
}

/// What a client of another instance sees of all that is published while `end` happens to the holder.
fn seen_while(redis: &mut Redis, end: impl FnOnce(&mut Redis, &mut Server)) -> (Vec<u64>, Vec<u64>) {
    let (mut holder, others) = holder_and_others(redis);
    let mut ann = others[0].connect_as("ann");
    let publisher = Publisher::start(redis.port);
    let mut seen = Vec::new();
    some(&mut ann, &mut seen);
    end(redis, &mut holder);
    // From the next holder: all that was heard before is stored before that.
    let is_held = || others.iter().chain([&holder].into_iter().filter(|one| one.runs())).any(holds);
    assert!(holds_soon(is_held));
    some(&mut ann, &mut seen);
    let heard = publisher.stop();
    // What one instance alone heard is stored last.
    while !heard.iter().all(|number| seen.contains(number)) {
        seen.push(number(&mut ann));
    }
    ann.expect_silence();
    let dropped = |reason: &str| format!("usher_foreign_dropped_total{{reason=\"{reason}\"}}");
    for other in &others {
        assert_eq!([other.metric(&dropped("full")), other.metric(&dropped("no_lease"))], [0.0; 2]);
    }
    (heard, seen)
}

fn holds(server: &Server) -> bool {
    server.metric("usher_store_ingests") == 1.0
}

fn key_holder(redis: &Redis) -> String {
    redis.cli(&["GET", "usher:ingest"]).split(' ').next().unwrap_or_default().to_owned()
}

/// F5
#[test]
fn a_holder_that_is_killed_leaves_nothing_unstored() {
    let (heard, seen) = seen_while(&mut durable(), |_, holder| {
        holder.signal(Signal::KILL);
        holder.wait();
    });
    assert_eq!(seen, heard);
}

/// L3: it gives the lease up before it ends, and stores nothing afterwards.
#[test]
fn a_holder_that_is_told_to_stop_leaves_nothing_unstored() {
    let (heard, seen) = seen_while(&mut durable(), |redis, holder| {
        let before = key_holder(redis);
        holder.signal(Signal::TERM);
        assert!(holder.wait().success());
        assert_ne!(key_holder(redis), before);
    });
    assert_eq!(seen, heard);
}

/// It does not know, when it goes on, that another stored what it hears only now.
#[test]
fn a_holder_that_stands_still_stores_nothing_twice() {
    let (heard, seen) = seen_while(&mut durable(), |redis, holder| {
        let before = key_holder(redis);
        holder.signal(Signal::STOP);
        assert!(holds_soon(|| !["", &before].contains(&&*key_holder(redis))));
        holder.signal(Signal::CONT);
    });
    assert_eq!(seen, heard);
}

/// H2: what Redis gave to one instance before the others were subscribed again is stored too.
#[test]
fn a_redis_that_restarts_loses_nothing_that_an_instance_was_given() {
    let (heard, mut seen) = seen_while(&mut durable(), |redis, _| {
        redis.kill();
        redis.restart();
    });
    seen.sort_unstable();
    let twice = seen.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "of {} that were heard, {seen:?}", heard.len());
}

/// Equal messages are told apart by how many were heard.
#[test]
fn equal_messages_are_as_many_after_the_holder_was_killed() {
    let redis = durable();
    let (holder, others) = holder_and_others(&redis);
    let mut ann = others[0].connect_as("ann");
    let say = |count| (0..count).for_each(|_| assert!(redis.publish("user_noti:ann", r#"{"a":1}"#) >= 2));
    say(3);
    (0..3).for_each(|_| drop(ann.expect("notification:new")));
    holder.signal(Signal::KILL);
    say(3);
    (0..3).for_each(|_| drop(ann.expect("notification:new")));
    ann.expect_silence();
}
