//! The bus alone, on a real Redis: interests, what is shared, and the sessions that carry it.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use tokio::{sync::mpsc, time::timeout};
use usher::{
    bus::{self, Bus, Ear},
    clock::Now,
    config::settings::{Redis as RedisSettings, RedisNode},
    event::Address,
    limits::{HEARD_MAX, INTERESTS_BATCH_MAX, PUSH_BYTES_MAX, REDIS_COMMAND_TIME_MAX},
    status::Status,
    stream::names::Subject,
};

use crate::support::{
    PATIENCE,
    redis::{self, Redis},
};

/// The bus alone, with what it hears.
fn with_bus(redis: RedisSettings, story: impl AsyncFnOnce(&mut Bus, &mut Ear, &Status)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let status = Arc::new(Status::new(1, Now::read()));
        let (mut bus, mut ear, task) = bus::new(&redis, status.clone(), 7);
        let task = tokio::spawn(task.run());
        story(&mut bus, &mut ear, &status).await;
        task.abort();
    });
}

async fn hear(ear: &mut Ear) -> bus::Heard {
    let heard = tokio::time::timeout(PATIENCE, poll_fn(|cx| ear.poll_hear(cx))).await;
    heard.expect("something is heard").expect("the task runs")
}

fn settings_of(nodes: &[Redis]) -> RedisSettings {
    RedisSettings {
        nodes: nodes.iter().map(|node| RedisNode { host: "127.0.0.1".into(), port: node.port }).collect(),
        username: None,
        password: None,
        db: 0,
        tls: false,
        ca: None,
        prefix: "test:".into(),
        command_timeout: REDIS_COMMAND_TIME_MAX,
        ready_required: true,
    }
}

/// Subscriptions are confirmed one by one, what is shared about them is heard, and nothing else.
async fn sharing_story(bus: &mut Bus, ear: &mut Ear, status: &Status) {
    let user = |id: &str| Subject::from(Address::User(id.into()));
    assert_eq!(bus.share(None, "early".into()), Err(bus::Full));
    assert_eq!(hear(ear).await, bus::Heard::Up);
    let addresses = [user("alice"), user("a}b"), Address::Room("event:1".into()).into()];
    addresses.iter().for_each(|address| bus.set_interest(address.clone(), true));
    bus.set_interest(user("bob"), true);
    bus.set_interest(user("bob"), false);
    bus.flush();
    let mut subscribed = Vec::new();
    for _ in &addresses {
        match hear(ear).await {
            bus::Heard::Subscribed(address) => subscribed.push(address),
            other => panic!("{other:?}"),
        }
    }
    subscribed.sort();
    assert_eq!(subscribed, {
        let mut all = addresses.to_vec();
        all.sort();
        all
    });
    bus.share(Some(&user("bob")), "to bob".into()).expect("room");
    for (address, payload) in
        [(Some(&addresses[0]), "1"), (Some(&addresses[1]), "2"), (Some(&addresses[2]), "3"), (None, "4")]
    {
        bus.share(address, payload.into()).expect("room");
    }
    let mut shared = Vec::new();
    for _ in 0..4 {
        match hear(ear).await {
            bus::Heard::Shared(payload) => shared.push(payload),
            other => panic!("{other:?}"),
        }
    }
    shared.sort();
    assert_eq!(shared, ["1", "2", "3", "4"]);
    assert_eq!(status.control.redis.refused.get(), 1);
}

#[test]
fn what_instances_share_is_heard_by_interest() {
    with_bus(settings_of(&[Redis::start()]), sharing_story);
}

#[test]
fn what_instances_share_is_heard_by_interest_in_a_cluster() {
    let nodes = redis::cluster();
    with_bus(settings_of(&nodes), sharing_story);
}

#[test]
fn after_an_outage_every_interest_is_confirmed_anew() {
    let mut nodes = [Redis::start()];
    with_bus(settings_of(&nodes), async |bus, ear, status| {
        let address = Subject::from(Address::User("alice".into()));
        assert_eq!(hear(ear).await, bus::Heard::Up);
        bus.set_interest(address.clone(), true);
        bus.flush();
        assert_eq!(hear(ear).await, bus::Heard::Subscribed(address.clone()));
        nodes[0].kill();
        assert_eq!(hear(ear).await, bus::Heard::Down);
        assert_eq!(bus.share(Some(&address), "lost".into()), Err(bus::Full));
        assert!(bus.commands().borrow().is_none());
        let other = Subject::from(Address::Room("r".into()));
        bus.set_interest(other.clone(), true);
        bus.flush();
        nodes[0].restart();
        assert_eq!(hear(ear).await, bus::Heard::Up);
        let again = [hear(ear).await, hear(ear).await];
        assert!(
            again.contains(&bus::Heard::Subscribed(address))
                && again.contains(&bus::Heard::Subscribed(other))
        );
        assert!(bus.commands().borrow().is_some());
        assert_eq!((status.control.redis.sessions.get(), status.control.redis.up.get()), (2, 1));
    });
}

/// More than the queue between Redis and the control loop holds, while the control loop does something else.
#[test]
fn however_many_subscriptions_are_confirmed_the_session_lives() {
    with_bus(settings_of(&[Redis::start()]), async |bus, ear, status| {
        let count = HEARD_MAX + 2 * INTERESTS_BATCH_MAX;
        (0..count).for_each(|id| bus.set_interest(Address::User(id.to_string().into()).into(), true));
        bus.flush();
        assert_eq!(hear(ear).await, bus::Heard::Up);
        let mut commands = bus.commands().borrow().clone().expect("a connection");
        // Nothing is heard for as long as it takes to make them all.
        for _ in 0..20 * count / INTERESTS_BATCH_MAX {
            ::redis::cmd("PING").exec_async(&mut commands).await.expect("Redis is there");
        }
        for _ in 0..count {
            assert!(matches!(hear(ear).await, bus::Heard::Subscribed(_)));
        }
        let cells = &status.control.redis;
        assert_eq!((cells.overflows.get(), cells.sessions.get()), (0, 1));
    });
}

/// A Redis whose answers to pings, on the second connection and every other one after it, are so many bytes long; they come
/// out of the channel.
fn verbose(redis: &Redis, bytes: usize) -> (u16, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound socket").port();
    let (told, pongs) = mpsc::channel(64);
    let behind = redis.port;
    std::thread::spawn(move || {
        for (index, near) in listener.incoming().flatten().enumerate() {
            let far = TcpStream::connect(("127.0.0.1", behind)).expect("a Redis");
            let mut up_from = near.try_clone().expect("a socket");
            let mut up_to = far.try_clone().expect("a socket");
            std::thread::spawn(move || std::io::copy(&mut up_from, &mut up_to));
            let told = told.clone();
            std::thread::spawn(move || {
                let (mut far, mut near, mut buffer) = (far, near, [0; 4_096]);
                while let Ok(length @ 1..) = far.read(&mut buffer) {
                    let mut said = buffer[..length].to_vec();
                    if said == b"+PONG\r\n" && index % 2 == 1 {
                        said = format!("${bytes}\r\n{}\r\n", "p".repeat(bytes)).into();
                        let _ = told.try_send(()); // Whoever listened has seen enough.
                    }
                    if near.write_all(&said).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, pongs)
}

/// They were added up until a push came; where nothing is shared, none does.
#[test]
fn answers_to_pings_are_no_message_without_end() {
    let redis = Redis::start();
    let (port, mut pongs) = verbose(&redis, PUSH_BYTES_MAX / 2);
    let nodes = vec![RedisNode { host: "127.0.0.1".into(), port }];
    let settings = RedisSettings { nodes, ..settings_of(&[]) };
    with_bus(settings, async |_, ear, status| {
        assert_eq!(hear(ear).await, bus::Heard::Up);
        for _ in 0..4 {
            timeout(PATIENCE, pongs.recv()).await.expect("pings go on").expect("a proxy");
        }
        assert_eq!((ear.try_hear(), status.control.redis.sessions.get()), (None, 1));
    });
}
