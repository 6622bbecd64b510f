//! What compression costs for one message, and what it saves: the ground for its level and its threshold.
//!
//! `cargo bench --bench deflate`; with `-- --test` each runs once, so that none can rot. The names tell how many bytes
//! come out.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use usher::wire::deflate::{Deflater, Inflater};

/// Messages of a sale, from less than the threshold to the largest.
const SIZES: [usize; 7] = [64, 128, 256, 1_024, 4_096, 16_384, 65_536];

/// JSON that repeats its keys and hardly its values.
fn message(length: usize) -> String {
    let mut text = r#"{"type":"ticket:availability","payload":{"event_id":"123","seats":["#.to_owned();
    let mut state = 1_u64;
    while text.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (row, price, free) = ((state >> 40) % 99, (state >> 33) % 300, state >> 63);
        text += &format!(r#"{{"row":"{row}","price":"{price}.00","currency":"EUR","available":{free}}},"#);
    }
    text.truncate(length);
    text
}

fn deflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("deflate");
    for size in SIZES {
        let message = message(size);
        let mut deflater = Deflater::new();
        let after = deflater.deflate(message.as_bytes(), <[u8]>::len).unwrap_or(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B to {after} B"), |b| {
            b.iter(|| deflater.deflate(black_box(message.as_bytes()), <[u8]>::len));
        });
    }
    // What an attacker would send: nothing to save in it.
    let mut state = 1_u64;
    let mut chance = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..65_536).map(|_| chance()).collect();
    let mut deflater = Deflater::new();
    group.bench_function("64 KiB in vain", |b| b.iter(|| deflater.deflate(black_box(&noise), <[u8]>::len)));
}

fn inflate(c: &mut Criterion) {
    let mut group = c.benchmark_group("inflate");
    for size in SIZES {
        let message = message(size);
        let Some(compressed) = Deflater::new().deflate(message.as_bytes(), <[u8]>::to_vec) else { continue };
        let mut inflater = Inflater::new();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |b| {
            b.iter(|| inflater.inflate(black_box(&compressed), size, <[u8]>::len));
        });
    }
    let zeros = Deflater::new().deflate(&[0; 1 << 20], <[u8]>::to_vec).unwrap_or_default();
    let mut inflater = Inflater::new();
    group.bench_function("a bomb, until it is refused at 64 KiB", |b| {
        b.iter(|| inflater.inflate(black_box(&zeros), 65_536, <[u8]>::len));
    });
}

criterion_group!(benches, deflate, inflate);
criterion_main!(benches);
