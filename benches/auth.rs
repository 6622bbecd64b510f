//! What a token costs: base64, JSON, the signature and the claims, by algorithm.
//!
//! A handshake verifies one, so this is the largest part of what a newcomer costs beside TLS.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, RsaKeySize};
use serde_json::json;
use usher::{
    auth::{KeySet, TokenError, Verifier},
    clock::Now,
    config::Settings,
};

const NOW_S: u64 = 1_700_000_000;
const NOW: Now = Now { mono_ns: 0, wall_ms: NOW_S * 1_000 };
const SECRET: &str = "a secret of the benchmark, 32 B!";
/// Of the wrapper (PKCS #8) around the RSAPrivateKey of a 2048-bit key.
const RSA_WRAPPER_BYTES: usize = 26;

/// What signs, and what verifies that.
fn pair(algorithm: Algorithm) -> (EncodingKey, KeySet) {
    let pair = match algorithm {
        Algorithm::HS256 => {
            return (EncodingKey::from_secret(SECRET.as_bytes()), KeySet::secret(SECRET).expect("a secret"));
        }
        Algorithm::ES256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        Algorithm::EdDSA => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        _ => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
    }
    .expect("a key pair");
    let der = pair.serialize_der();
    let key = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_der(&der),
        Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
        _ => EncodingKey::from_rsa_der(&der[RSA_WRAPPER_BYTES..]),
    };
    (key, KeySet::pem(&pair.public_key_pem()).expect("a public key"))
}

fn tokens(c: &mut Criterion) {
    let claims = json!({
        "sub": "user-1234567890", "iat": NOW_S, "exp": NOW_S + 3_600, "aud": "shop", "rooms": ["private:club", "vip:*"],
    });
    let mut group = c.benchmark_group("verify");
    for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA] {
        let (key, keys) = pair(algorithm);
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).expect("the key fits");
        let verifier = Verifier::new(keys, &Settings::default().auth).expect("rules that fit");
        assert!(verifier.verify(&token, NOW).is_ok(), "{algorithm:?}");
        group.bench_function(format!("{algorithm:?}"), |b| {
            b.iter(|| black_box(verifier.verify(black_box(&token), NOW).is_ok()));
        });
        // What an attacker can make a shard do: the signature is looked at, and is another's.
        let forged = token.replacen("eyJ", "eyI", 2).replacen("eyI", "eyJ", 1);
        assert_eq!(verifier.verify(&forged, NOW), Err(TokenError::Signature), "{algorithm:?}");
        group.bench_function(format!("{algorithm:?}, forged"), |b| {
            b.iter(|| black_box(verifier.verify(black_box(&forged), NOW).is_ok()));
        });
    }
    group.bench_function("nonsense", |b| {
        let verifier = Verifier::new(KeySet::secret(SECRET).expect("a secret"), &Settings::default().auth)
            .expect("rules that fit");
        b.iter(|| black_box(verifier.verify(black_box("no.token.atall"), NOW).is_ok()));
    });
    group.finish();
}

criterion_group!(benches, tokens);
criterion_main!(benches);
