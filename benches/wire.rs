//! What one message costs in the wire layer alone, without sockets.
//!
//! `cargo bench --bench wire`; with `-- --test` each runs once, so that none can rot.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use usher::{
    config::settings::Dialect,
    event::{Class, Event, Form, Position, Target},
    ids::{ConnId, ShardId},
    limits::FRAGMENTS_MAX,
    wire::{
        frame::{Decoder, FrameLimits, Incoming, OpCode, encode},
        json,
        ticketing::{self, Notice},
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
        ("header alone", frame(2, &[])),
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
    // Text in pieces is checked as it comes: reads that cut characters apart take the longer way.
    for (name, text) in
        [("ASCII", "a".repeat(64 * 1024)), ("é", "é".repeat(32 * 1024)), ("€", "€".repeat(21_845))]
    {
        let long = frame(1, text.as_bytes());
        group.throughput(Throughput::Bytes(long.len() as u64));
        group.bench_function(format!("text of {name}, 64 KiB in reads of 1460 B"), |b| {
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
    group.finish();

    let mut group = c.benchmark_group("encode");
    for (name, length) in [("empty", 0), ("text 128 B", 128), ("text 64 KiB", 64 * 1024)] {
        let payload = vec![b'a'; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(name, |b| {
            let mut out = Vec::new();
            b.iter(|| {
                out.clear();
                encode(OpCode::Text, black_box(&payload), &mut out);
            });
        });
    }
    group.finish();
}

/// A token's length and alphabet; nothing here looks inside.
const LOGIN: &str = concat!(
    r#"{"type":"auth:login","id":1,"payload":{"token":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."#,
    "eyJzdWIiOiJ1c2VyLTEyMzQ1Njc4OTAiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMH0.",
    r#"c2lnbmF0dXJlLWMyaWduYXR1cmUtc2lnbmF0dXJlLXM"}}"#
);
const REFRESH: &str = r#"{"type":"auth:token_refresh","payload":{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJl"}}"#;

fn requests(c: &mut Criterion) {
    let table = [
        ("system:ping", r#"{"type":"system:ping"}"#),
        (
            "system:ping with a payload",
            r#"{"type":"system:ping","payload":{"sent_at":1700000000000,"seq":12345}}"#,
        ),
        ("room:join", r#"{"type":"room:join","payload":{"room":"event:123"},"id":7}"#),
        ("room:leave", r#"{"type":"room:leave","payload":{"room":"event:123"},"id":8}"#),
        (
            "room:message",
            r#"{"type":"room:message","payload":{"room":"event:123","data":{"text":"is this seat free?","at":1}}}"#,
        ),
        ("user:typing", r#"{"type":"user:typing","payload":{"room":"event:123","typing":true}}"#),
        ("user:presence", r#"{"type":"user:presence","payload":{"status":"away","text":"back soon"}}"#),
        (
            "user:preferences",
            r#"{"type":"user:preferences","payload":{"muted":["ticket:*","room:typing"],"lang":"de"}}"#,
        ),
        ("auth:login", LOGIN),
        ("auth:token_refresh", REFRESH),
        ("auth:logout", r#"{"type":"auth:logout"}"#),
        ("socket:connect", r#"{"type":"socket:connect"}"#),
        (
            "a custom type",
            r#"{"type":"seat:choose","payload":{"event_id":"123","seats":["A1","A2"]},"id":"r-1"}"#,
        ),
        ("nonsense", r#"{"type":"room:join","payload":{"room":"event:123"}"#),
    ];
    let mut group = c.benchmark_group("parse");
    for (name, text) in table {
        // What is measured must be what its name says.
        assert_eq!(ticketing::parse(text).is_ok(), name != "nonsense", "{name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| black_box(ticketing::parse(black_box(text)).is_ok())));
    }
    group.finish();
    let payload = r#"{"booking_id":"b-1","booking_reference":"REF-000001","seat_numbers":["A1","A2"],"total_amount":"120.00","currency":"EUR"}"#;
    c.bench_function("validate 120 B", |b| b.iter(|| json::validate(black_box(payload))));
}

fn notices(c: &mut Criterion) {
    let stream = Position { stream: "user:user-1234567890".into(), epoch: "01H".into(), offset: 12_345 };
    let message = "the payload of `room:join` must be an object";
    let table = [
        (
            "system:connected",
            Notice::Connected {
                conn: ConnId::new(ShardId(1), 2, 3),
                user: Some("user-1234567890"),
                server_time_ms: 1_700_000_000_000,
                ping_interval_ms: 30_000,
                streams: std::slice::from_ref(&stream),
                preferences: None,
            },
        ),
        ("system:pong", Notice::Pong(Some(r#"{"sent_at":1700000000000,"seq":12345}"#))),
        ("system:ok", Notice::Ok),
        (
            "system:error",
            Notice::Error {
                code: "invalid_payload",
                message,
                reference: Some("room:join"),
                retry_after_ms: Some(1_000),
            },
        ),
        ("system:draining", Notice::Draining { reconnect_after_ms: 1_500 }),
        ("room:joined", Notice::Joined { room: "event:123", members: 10_000, position: None }),
        ("room:left", Notice::Left { room: "event:123" }),
        ("auth:ok", Notice::AuthOk { user: Some("user-1234567890"), expires_at_ms: Some(1_700_003_600_000) }),
        ("auth:token_expiring", Notice::TokenExpiring { expires_at_ms: 1_700_003_600_000 }),
        ("a custom type", Notice::Custom { kind: "greeting", payload: r#"{"to":"alice"}"# }),
    ];
    let mut group = c.benchmark_group("notice");
    let id = "7".into();
    for (name, notice) in &table {
        group.bench_function(*name, |b| b.iter(|| ticketing::encode_notice(black_box(notice), Some(&id))));
    }
    group.finish();
}

fn events(c: &mut Criterion) {
    let mut event = Event {
        target: Target::User("u-1".into()),
        kind: "booking:confirmed".into(),
        payload: vec![b'1'; 128].into(),
        form: Form::Payload,
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

criterion_group!(benches, frames, requests, notices, events);
criterion_main!(benches);
