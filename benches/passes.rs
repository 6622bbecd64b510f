//! What a sale signs and hashes: passes by algorithm, the tokens of anonymous holders, and a shuffle with its receipts.
//!
//! `sign` is one pass on one core; its inverse is how many a second the signing thread makes.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use usher::{
    auth::SigningKeys,
    config::settings::PassAlgorithm,
    control::passes::make,
    sale::{
        fair::{Secrets, Shuffle},
        pass::{Admission, Claims, PlaceKeys},
    },
};

const HOLDERS: usize = 100_000;

fn passes(c: &mut Criterion) {
    let mut group = c.benchmark_group("pass");
    let claims = Claims::of(&Admission {
        issuer: "usher",
        event_id: "event-1234567890",
        holder: "u:user-1234567890",
        place: 12_345,
        admitted_at_ms: 1_700_000_000_000,
        claim_until_ms: 1_700_000_300_000,
    });
    for algorithm in [PassAlgorithm::EdDsa, PassAlgorithm::Es256] {
        let key = make(algorithm).expect("a key");
        let keys = SigningKeys::of_pkcs8(&key, "").expect("a usable key");
        group.bench_function(format!("sign {}", algorithm.name()), |b| {
            b.iter(|| {
                let payload = serde_json::to_vec(black_box(&claims)).expect("claims are JSON");
                black_box(keys.sign(&payload).expect("the key signs"))
            });
        });
    }
    let places = PlaceKeys::new(&[[7; 32]]);
    let token = places.token("event-1234567890", &[9; 16]).expect("a key");
    group.bench_function("place token, made", |b| {
        b.iter(|| black_box(places.token("event-1234567890", black_box(&[9; 16]))));
    });
    group.bench_function("place token, checked", |b| {
        b.iter(|| black_box(places.holder("event-1234567890", black_box(&token))));
    });
    group.finish();
}

fn shuffle(c: &mut Criterion) {
    let mut group = c.benchmark_group("shuffle");
    group.sample_size(10);
    let secrets = Secrets::derive(&[7; 32]);
    let holders: Vec<Arc<str>> = (0..HOLDERS).map(|number| format!("u:user-{number}").into()).collect();
    let draw = || Shuffle::draw("event-1234567890".into(), &secrets, holders.clone());
    group.bench_function("draw, 100 000 holders", |b| b.iter(|| black_box(draw())));
    let shuffle = draw();
    group.bench_function("receipt", |b| b.iter(|| black_box(shuffle.receipt(black_box(54_321), "signed"))));
    let receipt = shuffle.receipt(54_321, "signed").expect("a place");
    group.bench_function("verify", |b| b.iter(|| assert!(black_box(&receipt).verify(&secrets.seed).is_ok())));
    group.finish();
}

criterion_group!(benches, passes, shuffle);
criterion_main!(benches);
