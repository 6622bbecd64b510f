//! simd-json beside serde_json on what clients send, the copy that it needs included: perf/notes.md says what came of it.
//!
//! `cargo bench --bench json`; with `-- --test` each runs once, so that none can rot. simd-json unescapes in place, and what the
//! gateway passes on (`data` of a message, the payload of a ping) must stay as it came: so it works on a copy.

use std::{borrow::Cow, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, de::IgnoredAny};
use usher::wire::ticketing;

const MESSAGES: [(&str, &str); 6] = [
    ("ping", r#"{"type":"system:ping","payload":{"sent_at":1700000000000,"seq":1234567}}"#),
    ("join", r#"{"type":"room:join","payload":{"room":"event:1234567"},"id":"j-1"}"#),
    (
        "message",
        concat!(
            r#"{"type":"room:message","payload":{"room":"event:1234567","#,
            r#""data":{"text":"is this seat free?","at":1700000000}},"id":7}"#
        ),
    ),
    (
        "seats",
        concat!(
            r#"{"type":"seat:choose","payload":{"event_id":"1234567","seats":["A1","A2","A3","A4"],"#,
            r#""price":"120.00","currency":"EUR"},"id":"request-000000000001"}"#
        ),
    ),
    (
        "message with escapes",
        concat!(
            r#"{"type":"room:message","payload":{"room":"event:1234567","data":{"text":"\"is this seat free?\"\nasked "#,
            r#"for the second time, since nobody said anything to the first \u00e9","at":1700000000,"to":"user-1"}},"id":7}"#
        ),
    ),
    (
        "login",
        concat!(
            r#"{"type":"auth:login","id":1,"payload":{"token":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."#,
            "eyJzdWIiOiJ1c2VyLTEyMzQ1Njc4OTAiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMCwiYXVkIjoic2hvcCIsInJv",
            "b21zIjpbInByaXZhdGU6Y2x1YiIsInZpcDoqIl0sIm5hbWUiOiJBIFVzZXIifQ.",
            r#"c2lnbmF0dXJlLWMyaWduYXR1cmUtc2lnbmF0dXJlLXM"}}"#
        ),
    ),
];

/// What both can read without a tree. serde_json's `RawValue`, which the gateway uses, simd-json does not have.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Payload<'a>,
}

#[derive(Default, Deserialize)]
struct Payload<'a> {
    #[serde(borrow, default)]
    room: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(default)]
    data: Option<IgnoredAny>,
}

impl Envelope<'_> {
    fn digest(&self) -> usize {
        let length = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
        let Payload { room, token, data } = &self.payload;
        self.kind.len() + length(room) + length(token) + usize::from(data.is_some())
    }
}

fn envelopes(c: &mut Criterion) {
    for (name, text) in MESSAGES {
        let mut group = c.benchmark_group(format!("{name} of {} B", text.len()));
        group.throughput(Throughput::Bytes(text.len() as u64));
        let mut copy = Vec::with_capacity(text.len());
        let mut buffers = simd_json::Buffers::new(text.len());
        // Both must have read the same.
        copy.extend_from_slice(text.as_bytes());
        let digest = serde_json::from_str::<Envelope<'_>>(text).expect("an envelope").digest();
        let theirs: Envelope<'_> = simd_json::serde::from_slice(&mut copy).expect("an envelope");
        assert_eq!(theirs.digest(), digest, "{name}");

        group.bench_function("the copy alone", |b| {
            let mut copy = Vec::with_capacity(text.len());
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(text).as_bytes());
                black_box(copy.len())
            });
        });
        group.bench_function("fields, serde_json", |b| {
            b.iter(|| serde_json::from_str::<Envelope<'_>>(black_box(text)).map(|it| it.digest()));
        });
        group.bench_function("fields, simd-json", |b| {
            let mut copy = Vec::with_capacity(text.len());
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(text).as_bytes());
                let it: Result<Envelope<'_>, _> =
                    simd_json::serde::from_slice_with_buffers(&mut copy, &mut buffers);
                it.map(|it| it.digest())
            });
        });
        group.bench_function("valid or not, serde_json", |b| {
            b.iter(|| serde_json::from_str::<IgnoredAny>(black_box(text)).is_ok());
        });
        group.bench_function("valid or not, simd-json", |b| {
            let mut copy = Vec::with_capacity(text.len());
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(text).as_bytes());
                simd_json::to_tape_with_buffers(&mut copy, &mut buffers).is_ok()
            });
        });
        group.bench_function("tree, serde_json", |b| {
            b.iter(|| serde_json::from_str::<serde_json::Value>(black_box(text)));
        });
        group.bench_function("tree, simd-json", |b| {
            let mut copy = Vec::with_capacity(text.len());
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(text).as_bytes());
                let tree = simd_json::to_borrowed_value_with_buffers(&mut copy, &mut buffers);
                black_box(tree.is_ok())
            });
        });
        // Checks all of it, depth and duplicates too, and then takes the fields.
        group.bench_function("what the gateway does", |b| {
            b.iter(|| black_box(ticketing::parse(black_box(text)).is_ok()));
        });
        group.finish();
    }
}

criterion_group!(benches, envelopes);
criterion_main!(benches);
