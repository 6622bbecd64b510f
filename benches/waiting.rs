//! What it costs to tell 100 000 people in a queue where they stand, beside a plain loop that sends each of the same
//! connections a message of its own. The sink takes every byte at once: the figures are the hub's part alone.

use std::{
    hint::black_box,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use usher::{
    clock::Now,
    config::settings::{Dialect, Settings},
    event::{Class, Event, Form, LatestKey, Target},
    hub::{CustomTypes, Hub, Input, Output},
    ids::{ConnId, ShardId},
    line::{LinePace, LineRequest, LineState, LineUpdate, Places, Seated, Ticket},
    metrics::ShardCells,
};

const START: Now = Now { mono_ns: 1_000_000_000_000, wall_ms: 1_700_000_000_000 };
const COUNT: u32 = 100_000;
const EVENT: &str = "event-123";

/// A hub with its buffers, as a shard drives it.
struct Shard {
    hub: Hub,
    now: Now,
    out: Vec<Output>,
    dirty: Vec<ConnId>,
    sent: u64,
    sequence: u64,
}

impl Shard {
    /// So many who wait, one connection each, at every second place.
    fn with_waiting(count: u32) -> Self {
        let mut settings = Settings::default();
        settings.limits.messages_max = 0;
        let cells = Arc::new(ShardCells::default());
        let hub = Hub::new(ShardId(0), Arc::new(settings), cells, CustomTypes::default(), 1);
        let (out, dirty) = (Vec::new(), Vec::new());
        let mut shard = Self { hub, now: START, out, dirty, sent: 0, sequence: 0 };
        shard.advance();
        for slot in 0..count {
            let conn = id(slot);
            let dialect = Dialect::Ticketing;
            shard.handle(Input::Open { conn, dialect, identity: None, resume_waits: false });
            let asked = LineRequest {
                conn,
                request: None,
                event_id: EVENT.into(),
                user: None,
                place_token: None,
                stands_as: None,
            };
            shard.handle(Input::Seated(Box::new(Seated {
                asked,
                holder: format!("a:{slot}").into(),
                ticket: Ticket::Place(1_000 + 2 * slot),
                place_token: None,
                receipt: None,
                commitment: [0; 32],
                admitted: None,
            })));
        }
        shard.hub.take_reports(&mut |_| true);
        shard.flush();
        shard
    }

    /// One step of the queue, with somebody departed.
    fn advance(&mut self) {
        self.sequence += 1;
        let place = 1_001 + 2 * self.sequence as u32;
        let update = LineUpdate {
            event_id: EVENT.into(),
            epoch: 1,
            after: (self.sequence > 1).then(|| self.sequence - 1),
            sequence: self.sequence,
            departed: Places::Runs([(place, place)].into()),
            serving: self.sequence as u32 % 1_000,
            total: 2 * COUNT,
            pace: Some(LinePace { low: 5_000, high: 9_000 }),
            moved_at_ms: self.now.wall_ms,
            state: LineState::Open,
            draw: None,
        };
        self.handle(Input::Line(&update));
    }

    fn handle(&mut self, input: Input<'_>) {
        self.hub.handle(self.now, input, &mut self.out);
        self.out.clear();
    }

    /// One flush per connection that got something, as at the end of a shard's turn.
    fn flush(&mut self) {
        self.hub.take_dirty(&mut self.dirty);
        self.sent += self.dirty.len() as u64;
        for conn in self.dirty.drain(..) {
            black_box(self.hub.flush(self.now, conn, &mut take_all));
        }
    }
}

/// A socket that takes everything.
fn take_all(slices: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(slices.iter().map(|slice| slice.len()).sum())
}

fn id(slot: u32) -> ConnId {
    ConnId::new(ShardId(0), 0, slot)
}

fn advance(c: &mut Criterion) {
    let mut group = c.benchmark_group("waiting");
    group.sample_size(20).throughput(Throughput::Elements(u64::from(COUNT)));
    let mut shard = Shard::with_waiting(COUNT);
    group.bench_function("advance_100000", |b| {
        b.iter(|| {
            // Longer than the longest pace, so that everybody is due; nobody's pings are.
            shard.now = shard.now.after(Duration::from_secs(9));
            let before = shard.sent;
            shard.advance();
            while shard.hub.next_deadline().is_some_and(|due| due <= shard.now.mono_ns)
                && shard.sent - before < u64::from(COUNT)
            {
                shard.handle(Input::Tick);
                shard.flush();
            }
        });
    });
    let payload = format!(r#"{{"event_id":"{EVENT}","position":50000,"pad":"{}"}}"#, "x".repeat(130));
    let events: Vec<Arc<Event>> = (0..COUNT)
        .map(|slot| {
            Arc::new(Event {
                target: Target::Connection(id(slot)),
                kind: "booking:queue_position".into(),
                payload: payload.clone().into(),
                form: Form::Payload,
                class: Class::Latest(LatestKey(1)),
                version: None,
                position: None,
                except: None,
                accepted_at_ns: START.mono_ns,
            })
        })
        .collect();
    group.bench_function("unicast_100000", |b| {
        b.iter(|| {
            for chunk in events.chunks(256) {
                chunk.iter().for_each(|event| shard.handle(Input::Deliver(event)));
                shard.flush();
            }
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = advance
}
criterion_main!(benches);
