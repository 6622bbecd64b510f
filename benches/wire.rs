//! What one message costs in the wire layer alone, without sockets.
//!
//! `cargo bench --bench wire`; with `-- --test` each runs once, so that none can rot.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use usher::{
    config::settings::Dialect,
    event::{Class, Event, Position, Target},
    limits::FRAGMENTS_MAX,
    wire::{
        frame::{Decoder, FrameLimits, Incoming},
        json, ticketing,
    },
};

const LIMITS: FrameLimits = FrameLimits { message_bytes_max: 64 * 1024, fragments_max: FRAGMENTS_MAX };
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A masked final frame.
fn frame(op: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | op];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    // Binary costs the header and the mask alone; text adds the check of UTF-8.
    let table = [
        ("text 128 B", frame(1, &[b'a'; 128])),
        ("text 64 KiB", frame(1, &[b'a'; 64 * 1024])),
        ("unmask 128 B", frame(2, &[b'a'; 128])),
        ("unmask 64 KiB", frame(2, &[b'a'; 64 * 1024])),
    ];
    for (name, bytes) in table {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            let mut decoder = Decoder::default();
            let mut input = bytes.clone();
            b.iter(|| {
                // Decoding unmasks in place: without a fresh copy the next round would read another text.
                input.copy_from_slice(&bytes);
                let mut on = |incoming: Incoming<'_>| {
                    black_box(incoming);
                };
                decoder.decode(&LIMITS, &mut input, &mut on)
            });
        });
    }
    let long = frame(1, "é".repeat(32 * 1024).as_bytes());
    group.throughput(Throughput::Bytes(long.len() as u64));
    group.bench_function("text 64 KiB in reads of 1460 B", |b| {
        let mut decoder = Decoder::default();
        b.iter_batched_ref(
            || long.clone(),
            |input| {
                for piece in input.chunks_mut(1460) {
                    let mut on = |incoming: Incoming<'_>| {
                        black_box(incoming);
                    };
                    black_box(decoder.decode(&LIMITS, piece, &mut on)).ok();
                }
            },
            BatchSize::SmallInput,
        );
    });
}

fn requests(c: &mut Criterion) {
    let table = [
        ("system:ping", r#"{"type":"system:ping"}"#),
        ("room:join", r#"{"type":"room:join","payload":{"room":"event:123"},"id":7}"#),
        (
            "room:message",
            r#"{"type":"room:message","payload":{"room":"event:123","data":{"text":"is this seat free?","at":1}}}"#,
        ),
    ];
    let mut group = c.benchmark_group("parse");
    for (name, text) in table {
        group.bench_function(name, |b| b.iter(|| black_box(ticketing::parse(black_box(text)).is_ok())));
    }
    group.finish();
    let payload = r#"{"booking_id":"b-1","booking_reference":"REF-000001","seat_numbers":["A1","A2"],"total_amount":"120.00","currency":"EUR"}"#;
    c.bench_function("validate 120 B", |b| b.iter(|| json::validate(black_box(payload))));
}

fn events(c: &mut Criterion) {
    let mut event = Event {
        target: Target::User("u-1".into()),
        kind: "booking:confirmed".into(),
        payload: vec![b'1'; 128].into(),
        class: Class::Critical,
        version: None,
        position: None,
        except: None,
        accepted_at_ns: 0,
    };
    c.bench_function("encode event of 128 B", |b| {
        b.iter(|| ticketing::encode_event(black_box(&event), Dialect::Ticketing));
    });
    event.position = Some(Position { stream: "user:u-1".into(), epoch: "01H".into(), offset: 12_345 });
    c.bench_function("encode stored event of 128 B", |b| {
        b.iter(|| ticketing::encode_event(black_box(&event), Dialect::Ticketing));
    });
}

criterion_group!(benches, frames, requests, events);
criterion_main!(benches);
