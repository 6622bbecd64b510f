//! What a hub costs: a delivery to a room and to a user with the flush into a sink, an outbox that fills, keep-alives,
//! coming and going.
//!
//! The sink takes every byte at once, so that the figures are the hub's part of a delivery and nothing of the
//! kernel's. Times of fan-outs are per round; the throughput line says deliveries per second.

use std::{
    hint::black_box,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use usher::{
    clock::Now,
    config::settings::{Dialect, Settings},
    event::{Class, Event, Form, LatestKey, Position, Target},
    hub::{CustomTypes, Hub, Input, Output},
    identity::Identity,
    ids::{ConnId, ShardId},
    metrics::ShardCells,
};

const START: Now = Now { mono_ns: 1_000_000_000_000, wall_ms: 1_700_000_000_000 };
const ROOM: &str = "event:123";
const JOIN: &str = r#"{"type":"room:join","payload":{"room":"event:123"}}"#;
const LEAVE: &str = r#"{"type":"room:leave","payload":{"room":"event:123"}}"#;

/// A hub with its buffers, as a shard drives it.
struct Shard {
    hub: Hub,
    now: Now,
    out: Vec<Output>,
    dirty: Vec<ConnId>,
}

impl Shard {
    /// So many users with one connection each, all in one room.
    fn with_members(count: u32) -> Self {
        let mut settings = Settings::default();
        settings.limits.messages_max = 0;
        let cells = Arc::new(ShardCells::default());
        let hub = Hub::new(ShardId(0), Arc::new(settings), cells, CustomTypes::default(), 1);
        let mut shard = Self { hub, now: START, out: Vec::new(), dirty: Vec::new() };
        for slot in 0..count {
            shard.open(slot);
            shard.handle(Input::Text { conn: id(slot), text: JOIN });
        }
        shard.hub.take_reports(&mut |_| true);
        shard.flush();
        shard
    }

    fn open(&mut self, slot: u32) {
        let conn = id(slot);
        let identity =
            Identity { user: user(slot), expires_at_ms: START.wall_ms + 3_600_000, rooms: Arc::new([]) };
        self.handle(Input::Open {
            conn,
            dialect: Dialect::Ticketing,
            identity: Some(identity),
            resume_waits: false,
        });
        let position = Position { stream: "user:u".into(), epoch: "e".into(), offset: 0 };
        self.handle(Input::Admitted { conn, position: Some(position) });
    }

    fn handle(&mut self, input: Input<'_>) {
        self.hub.handle(self.now, input, &mut self.out);
        self.out.clear();
    }

    /// One flush per connection that got something, as at the end of a shard's turn.
    fn flush(&mut self) {
        self.hub.take_dirty(&mut self.dirty);
        for conn in self.dirty.drain(..) {
            black_box(self.hub.flush(self.now, conn, &mut take_all));
        }
    }

    /// The same, each answered with a pong.
    fn flush_and_hear(&mut self) -> usize {
        self.hub.take_dirty(&mut self.dirty);
        for conn in &self.dirty {
            black_box(self.hub.flush(self.now, *conn, &mut take_all));
            self.hub.handle(self.now, Input::Pong { conn: *conn }, &mut self.out);
        }
        self.dirty.drain(..).count()
    }
}

/// A socket that takes everything.
fn take_all(slices: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(slices.iter().map(|slice| slice.len()).sum())
}

fn id(slot: u32) -> ConnId {
    ConnId::new(ShardId(0), 0, slot)
}

fn user(slot: u32) -> Arc<str> {
    format!("user-{slot:031}").into()
}

fn event(target: Target, class: Class) -> Arc<Event> {
    Arc::new(Event {
        target,
        kind: "ticket:availability".into(),
        payload: format!(r#"{{"event_id":"123","pad":"{}"}}"#, "x".repeat(80)).into(),
        form: Form::Payload,
        class,
        version: None,
        position: None,
        except: None,
        accepted_at_ns: START.mono_ns,
    })
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for (members, burst) in [(1, 1), (100, 1), (1_000, 1), (10_000, 1), (10_000, 16)] {
        let mut shard = Shard::with_members(members);
        let event = event(Target::Room(ROOM.into()), Class::Ordered);
        group.throughput(Throughput::Elements(u64::from(members) * burst));
        group.bench_function(format!("{members}_members_{burst}_in_flight"), |b| {
            b.iter(|| {
                for _ in 0..burst {
                    shard.handle(Input::Deliver(&event));
                }
                shard.flush();
            });
        });
    }
    group.finish();
}

/// One connection's outbox: filled with so many frames, then flushed into a socket that takes all, or 1 KiB at a time.
fn outbox(c: &mut Criterion) {
    let mut group = c.benchmark_group("outbox");
    let event = event(Target::Connection(id(0)), Class::Ordered);
    for (waiting, socket, bytes_max) in
        [(1, "all", usize::MAX), (64, "all", usize::MAX), (64, "1 KiB", 1_024)]
    {
        let mut shard = Shard::with_members(1);
        group.throughput(Throughput::Elements(waiting));
        group.bench_function(format!("{waiting} waiting, the socket takes {socket}"), |b| {
            b.iter(|| {
                for _ in 0..waiting {
                    shard.handle(Input::Deliver(&event));
                }
                shard.hub.take_dirty(&mut shard.dirty);
                shard.dirty.clear();
                let mut sent = usize::MAX;
                while sent > 0 {
                    sent = 0;
                    let mut socket = |slices: &[IoSlice<'_>]| {
                        sent = take_all(slices)?.min(bytes_max);
                        Ok(sent)
                    };
                    black_box(shard.hub.flush(shard.now, id(0), &mut socket));
                }
            });
        });
    }
    group.finish();
}

/// Every ping of 10 000 connections, each answered: one interval of virtual time in ticks of the wheel.
fn keep_alives(c: &mut Criterion) {
    let mut group = c.benchmark_group("keep_alives");
    let mut shard = Shard::with_members(10_000);
    let interval = Settings::default().keep_alive.ping_interval;
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10000_connections", |b| {
        b.iter(|| {
            let end = shard.now.after(interval).mono_ns;
            while let Some(due) = shard.hub.next_deadline().filter(|due| *due <= end) {
                let step = Duration::from_nanos(due.saturating_sub(shard.now.mono_ns));
                shard.now = shard.now.after(step);
                shard.handle(Input::Tick);
                black_box(shard.flush_and_hear());
            }
        });
    });
    assert_eq!(shard.hub.len(), 10_000, "nobody fell silent");
    group.finish();
}

fn conflation(c: &mut Criterion) {
    let mut group = c.benchmark_group("conflation");
    let mut shard = Shard::with_members(10_000);
    let event = event(Target::Room(ROOM.into()), Class::Latest(LatestKey(1)));
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10000_members_that_do_not_read", |b| {
        b.iter(|| shard.handle(Input::Deliver(&event)));
    });
    group.finish();
}

fn notify_user(c: &mut Criterion) {
    let mut shard = Shard::with_members(10_000);
    let events: Vec<Arc<Event>> =
        (0..10_000).map(|slot| event(Target::User(user(slot)), Class::Critical)).collect();
    let mut next = 0;
    c.bench_function("notify_user", |b| {
        b.iter(|| {
            // A stride that meets every user in an order no cache foresees.
            next = (next + 7_919) % events.len();
            shard.handle(Input::Deliver(&events[next]));
            shard.flush();
        });
    });
}

fn coming_and_going(c: &mut Criterion) {
    let mut shard = Shard::with_members(10_000);
    c.bench_function("join_and_leave", |b| {
        b.iter(|| {
            for text in [LEAVE, JOIN] {
                shard.handle(Input::Text { conn: id(5_000), text });
            }
            shard.hub.take_reports(&mut |_| true);
            shard.flush();
        });
    });
    c.bench_function("connect_and_vanish", |b| {
        b.iter(|| {
            shard.open(20_000);
            shard.handle(Input::Gone { conn: id(20_000) });
            shard.hub.take_reports(&mut |_| true);
            shard.flush();
        });
    });
    c.bench_function("fill_10000", |b| {
        b.iter_batched(|| (), |()| Shard::with_members(10_000), BatchSize::LargeInput);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = fan_out, outbox, conflation, notify_user, keep_alives, coming_and_going
}
criterion_main!(benches);
