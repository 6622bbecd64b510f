//! What a waiting room costs: joining, opening, serving 100 000 at once, and asking where one stands.
//!
//! A figure of a whole room is for 100 000 people; the memory of such a room is printed before the figures.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use usher::sale::{
    command::{Command, Entry, Terms},
    inlet::Inlet,
    queue::{Effect, Queue},
};

const PEOPLE: u32 = 100_000;
const OPENS_MS: u64 = 1_700_000_000_000;

fn terms() -> Terms {
    Terms {
        opens_at_ms: OPENS_MS,
        seed: [7; 32],
        salts: [0; 32],
        made: false,
        opens_in_ms: 0,
        kept: Vec::new(),
        inlet: Inlet::Manual,
        claim_ms: 60_000,
        grace_ms: 120_000,
        stay_ms: 0,
        places_max: PEOPLE,
    }
}

fn holder(number: u32) -> Box<str> {
    format!("u:user-{number:08}").into()
}

fn joins() -> Vec<Command> {
    (0..PEOPLE).map(|number| Command::Join { holder: holder(number), instance: "a".into() }).collect()
}

/// A queue that opens with the first of these, when its time is `OPENS_MS`.
fn joined(at_ms: u64, joins: &[Command]) -> Queue {
    let mut queue = Queue::new("e".into(), terms());
    let mut out = Vec::new();
    for join in joins {
        queue.apply(at_ms, join, &mut out);
        out.clear();
    }
    queue
}

fn apply(queue: &mut Queue, at_ms: u64, command: &Command) -> Vec<Effect> {
    let mut out = Vec::new();
    queue.apply(at_ms, command, &mut out);
    out
}

/// Resident memory of this process, bytes (proc(5), statm).
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn memory(joins: &[Command]) {
    let before = resident_bytes();
    let mut queue = joined(OPENS_MS, joins);
    let after = resident_bytes();
    apply(&mut queue, OPENS_MS, &Command::InstanceGone { instance: "a".into() });
    let away = resident_bytes();
    let each = |bytes: u64| bytes.saturating_sub(before) / u64::from(PEOPLE);
    eprintln!("memory: {} B a place, {} B when everybody is away", each(after), each(away));
    black_box(queue);
}

fn whole_rooms(c: &mut Criterion) {
    let joins = joins();
    memory(&joins);
    let mut group = c.benchmark_group("sale");
    group.sample_size(20).throughput(Throughput::Elements(u64::from(PEOPLE)));
    group.bench_function("100000 join", |b| b.iter_with_large_drop(|| joined(OPENS_MS, &joins)));
    group.bench_function("open with 100000", |b| {
        let before = || joined(OPENS_MS - 1, &joins);
        b.iter_batched_ref(before, |queue| apply(queue, OPENS_MS, &Command::Tick), BatchSize::PerIteration);
    });
    group.bench_function("advance by 100000", |b| {
        let open = || joined(OPENS_MS, &joins);
        let advance = Command::Advance { to: PEOPLE };
        b.iter_batched_ref(open, |queue| apply(queue, OPENS_MS, &advance), BatchSize::PerIteration);
    });
    group.bench_function("100000 passes expire", |b| {
        let admitted = || {
            let mut queue = joined(OPENS_MS, &joins);
            apply(&mut queue, OPENS_MS, &Command::Advance { to: PEOPLE });
            queue
        };
        b.iter_batched_ref(
            admitted,
            |queue| apply(queue, OPENS_MS + 60_000, &Command::Tick),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn questions(c: &mut Criterion) {
    let joins = joins();
    let mut queue = joined(OPENS_MS, &joins);
    for number in (0..PEOPLE).step_by(3) {
        apply(&mut queue, OPENS_MS, &Command::Leave { holder: holder(number) });
    }
    let mut group = c.benchmark_group("sale");
    let mut number = 0;
    group.bench_function("ahead of one of 100000", |b| {
        b.iter(|| {
            number = (number + 7_919) % PEOPLE;
            black_box(queue.ahead(number))
        });
    });
    group.bench_function("the whole line, a third of 100000 departed", |b| {
        b.iter(|| black_box(queue.line(None)))
    });
    let entry = Entry::new(OPENS_MS, joins[..1_000].to_vec());
    let bytes = entry.encode().expect("a thousand fit");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("decode an entry of 1000 joins", |b| b.iter(|| Entry::decode(black_box(&bytes))));
    group.finish();
}

criterion_group!(benches, whole_rooms, questions);
criterion_main!(benches);
