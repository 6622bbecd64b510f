//! What the control core does for an event: the directory, and the routing with classes, offsets and keys; and the
//! mailbox on the way to a shard.
//!
//! Four shards, 100 000 users and a room of them all: what a sale looks like from here.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    thread,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use usher::{
    clock::Now,
    config::Settings,
    event::{Address, Class, Event, Form, LatestKey, Target},
    ids::{ConnId, ShardId},
    mesh::{Mailbox, ToShard},
    route::{Input, Instances, Output, Route, ShardView, directory::Directory},
    stream::history::{Bounds, History},
};

const NOW: Now = Now { mono_ns: 1_000_000_000_000, wall_ms: 1_700_000_000_000 };
const SHARDS: u32 = 4;
const USERS: u32 = 100_000;
/// A stride through the users that no cache foresees; without a common factor with [`USERS`].
const STRIDE: u32 = 7_919;

fn user(number: u32) -> Arc<str> {
    format!("user-{number:031}").into()
}

fn users() -> Vec<Address> {
    (0..USERS).map(|number| Address::User(user(number))).collect()
}

fn shard_of(number: u32) -> ShardId {
    ShardId((number % SHARDS) as u16)
}

fn directory(c: &mut Criterion) {
    let users = users();
    let mut directory = Directory::default();
    for (number, address) in (0..).zip(&users) {
        directory.set(shard_of(number), address, 1);
    }
    let mut group = c.benchmark_group("directory");
    let mut next = 0;
    group.bench_function("look a user up", |b| {
        b.iter(|| {
            next = (next + STRIDE) % USERS;
            let Address::User(user) = &users[next as usize] else { return 0 };
            black_box(directory.user_connections(user))
        });
    });
    group.bench_function("a user comes and goes", |b| {
        b.iter(|| {
            next = (next + STRIDE) % USERS;
            let (address, elsewhere) = (&users[next as usize], shard_of(next + 1));
            directory.set(elsewhere, address, 1);
            directory.set(elsewhere, address, 0);
        });
    });
    let room = Address::Room("event:123".into());
    let mut count = 0;
    group.bench_function("a room's count changes", |b| {
        b.iter(|| {
            count = count % 50_000 + 1;
            directory.set(shard_of(count), &room, count);
        });
    });
    group.finish();
}

fn event(target: Target, class: Class) -> Event {
    Event {
        target,
        kind: "booking:confirmed".into(),
        payload: vec![b'1'; 128].into(),
        form: Form::Payload,
        class,
        version: None,
        position: None,
        except: None,
        accepted_at_ns: NOW.mono_ns,
    }
}

/// The stream store answers what the router asked, as the control loop lets it.
fn answer(route: &mut Route, store: &mut History, shards: &[ShardView], out: &mut Vec<Output>) {
    while let Some(Output::Ask { ticket, ask }) = out.pop_if(|last| matches!(last, Output::Ask { .. })) {
        let answer = store.answer(NOW, ask);
        route.handle(NOW, Input::Answered { ticket, answer, shards }, out);
    }
}

fn publish(c: &mut Criterion) {
    let mut route = Route::new(&Settings::default(), Instances::One);
    let mut store = History::new(Bounds::from(&Settings::default().streams), 1);
    let mut out = Vec::new();
    for (number, address) in (0..).zip(users()) {
        route.handle(NOW, Input::Members { shard: shard_of(number), address, count: 1 }, &mut out);
    }
    for shard in (0..SHARDS).map(shard_of) {
        let room = Address::Room("event:123".into());
        route.handle(NOW, Input::Members { shard, address: room, count: USERS / SHARDS }, &mut out);
    }
    let shard = ShardView {
        free: 1_000,
        free_bytes: 1 << 20,
        spare: 500,
        lagging: false,
        connections: USERS / SHARDS,
    };
    let shards = [shard; SHARDS as usize];
    let mut group = c.benchmark_group("publish");
    let mut next = 0;
    let mut run = |name, target: &dyn Fn(u32) -> Target, class: Class, keyed: bool| {
        group.bench_function(name, |b| {
            b.iter(|| {
                next = (next + STRIDE) % USERS;
                let event = event(target(next), class.clone());
                let idempotency_key = keyed.then(|| format!("key-{next}").into());
                let call = Input::Publish { token: 1, event, idempotency_key, shards: &shards };
                route.handle(NOW, call, &mut out);
                answer(&mut route, &mut store, &shards, &mut out);
                assert!(matches!(out.last(), Some(Output::Answer { result: Ok(_), .. })));
                out.clear();
            });
        });
    };
    let (to_user, to_room) = (|number| Target::User(user(number)), |_| Target::Room("event:123".into()));
    run("stored, to a user", &to_user, Class::Critical, false);
    run("stored, to a user, with a key", &to_user, Class::Critical, true);
    run("a position, to a user", &to_user, Class::Latest(LatestKey(1)), false);
    run("ordered, to a room on four shards", &to_room, Class::Ordered, false);
    run("to nobody", &|_| Target::User("nobody".into()), Class::Ordered, false);
    group.finish();
}

fn admission(c: &mut Criterion) {
    let mut route = Route::new(&Settings::default(), Instances::One);
    let mut store = History::new(Bounds::from(&Settings::default().streams), 1);
    let mut out = Vec::new();
    let mut next = 0;
    c.bench_function("admit a user and let it go", |b| {
        b.iter(|| {
            next = (next + STRIDE) % USERS;
            let (user, shard) = (user(next), shard_of(next));
            let conn = ConnId::new(shard, 0, next);
            route.handle(NOW, Input::Admit { conn, user: user.clone(), user_connections: 1 }, &mut out);
            answer(&mut route, &mut store, &[], &mut out);
            let address = Address::User(user);
            route.handle(NOW, Input::Members { shard, address, count: 0 }, &mut out);
            out.clear();
        });
    });
}

fn mailbox(c: &mut Criterion) {
    let event = Arc::new(event(Target::Room("event:123".into()), Class::Ordered));
    let mut group = c.benchmark_group("mailbox");
    let (sender, mut receiver) = Mailbox::bounded(1_024);
    group.throughput(Throughput::Elements(256));
    group.bench_function("256 sent, then 256 received", |b| {
        b.iter(|| {
            for _ in 0..256 {
                let sent = sender.try_send(ToShard::Deliver(event.clone()));
                debug_assert!(sent.is_ok());
            }
            for _ in 0..256 {
                black_box(receiver.try_recv());
            }
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one sent to a receiver that sleeps", |b| {
        let mut context = Context::from_waker(Waker::noop());
        b.iter(|| {
            black_box(receiver.poll_ready(&mut context).is_pending());
            let sent = sender.try_send(ToShard::Deliver(event.clone()));
            debug_assert!(sent.is_ok());
            black_box(receiver.try_recv());
        });
    });
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10000 received from another core", |b| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if sender.try_send(ToShard::Deliver(event.clone())).is_err() {
                        thread::yield_now();
                    }
                }
            });
            b.iter(|| {
                let mut received = 0;
                while received < 10_000 {
                    match receiver.try_recv() {
                        Some(message) => {
                            black_box(message);
                            received += 1;
                        }
                        None => thread::yield_now(),
                    }
                }
            });
            stop.store(true, Ordering::Relaxed);
        });
    });
    group.finish();
}

criterion_group!(benches, directory, publish, admission, mailbox);
criterion_main!(benches);
