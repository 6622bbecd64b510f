//! From texts to keys.

use rcgen::PublicKeyData;

use super::*;
use crate::{
    auth::{
        keys::{KeySetError, split_spki},
        token::VerifierError,
    },
    config::settings::Secret,
};

#[test]
fn keys_that_nothing_can_be_verified_with_are_skipped_and_counted() {
    let mut encryption = P256.jwk("enc");
    encryption["use"] = "enc".into();
    let mut signing_only = P256.jwk("sign");
    signing_only["key_ops"] = json!(["sign"]);
    let mut other_algorithm = P256.jwk("alg");
    other_algorithm["alg"] = "ECDH-ES".into();
    let mut named = P256.jwk("good");
    named["alg"] = "ES256".into();
    named["use"] = "sig".into();
    named["key_ops"] = json!(["verify"]);
    let secret = json!({"kty": "oct", "kid": "s", "k": encode(SECRET)});
    let bad = [
        encryption,
        signing_only,
        other_algorithm,
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "RSA", "n": encode([0xff; 128]), "e": "AQAB"}),
        json!({"kty": "oct", "k": ""}),
        json!({"kty": "quantum"}),
        P256.jwk(&"k".repeat(65)),
        P256.jwk(""),
        json!("text"),
        json!(null),
    ];
    let mut keys = bad.to_vec();
    keys.extend([named, secret.clone()]);
    let document = json!({ "keys": keys }).to_string();
    let set = KeySet::jwks(&document, Secrets::Accepted).unwrap();
    assert_eq!((set.len(), set.skipped()), (2, bad.len()));
    let published = KeySet::jwks(&document, Secrets::Skipped).unwrap();
    assert_eq!((published.len(), published.skipped()), (1, bad.len() + 1));
    assert!(verifier(set).verify(&hs256(json!({"kid": "s"}), &claims()), NOW).is_ok());
    let none = KeySet::jwks(&json!({ "keys": bad }).to_string(), Secrets::Accepted);
    assert_eq!(none.unwrap_err(), KeySetError::NoUsableKey(bad.len()));
}

#[test]
fn sources_without_a_usable_key_say_why() {
    assert_eq!(KeySet::secret("").unwrap_err(), KeySetError::EmptySecret);
    for text in ["", "{}", "[]", "{\"keys\": 1}", "not json"] {
        assert!(matches!(KeySet::jwks(text, Secrets::Accepted), Err(KeySetError::NotJwks(_))), "{text}");
    }
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap().public_key_pem();
    for (text, expected) in [
        ("", KeySetError::NoPublicKey),
        (&*RSA.pair.serialize_pem(), KeySetError::NoPublicKey),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeySetError::UnsupportedKey),
        ("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n", KeySetError::NoPublicKey),
        (&p521, KeySetError::UnsupportedKey),
        (RSA_1024, KeySetError::UnsupportedKey),
    ] {
        assert_eq!(KeySet::pem(text).unwrap_err(), expected, "{text:.60}");
    }
}

#[test]
fn a_public_key_cut_short_anywhere_is_refused() {
    let der = P256.pair.subject_public_key_info();
    for end in 0..der.len() {
        assert!(split_spki(&der[..end]).is_none(), "{end}");
    }
    assert!(split_spki(&der).is_some());
}

#[test]
fn rules_that_fit_no_key_are_errors_at_start() {
    let rules = |algorithms: &[&str]| Auth {
        algorithms: algorithms.iter().map(ToString::to_string).collect(),
        ..auth()
    };
    let build = |auth: Auth| Verifier::new(KeySet::secret(SECRET).unwrap(), &auth).map(drop);
    assert_eq!(build(rules(&["none"])), Err(VerifierError::UnknownAlgorithm("none".into())));
    assert_eq!(build(rules(&["RS256"])), Err(VerifierError::NoKeyFits));
    assert_eq!(build(rules(&["RS256", "HS256"])), Ok(()));
    let empty = Auth { refresh_secret: Some(Secret(String::new())), ..auth() };
    assert_eq!(build(empty), Err(VerifierError::EmptyRefreshSecret));
}

#[test]
fn no_text_or_debug_form_shows_a_secret() {
    let shown = format!("{:?}", by_secret());
    assert!(!shown.contains(SECRET) && !shown.contains(&format!("{:?}", SECRET.as_bytes())));
}

const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCjBYYsvTVo5MpJfsgQCZ2Gaiv0
bGjdR89RNAsB0MPfvZSn/FR0u/RLRSx0GNjK0B2xQc39FcOsXLphlfBXBbKx/El3
6/P/OqI7EqSiEMZlsDEhPNoyJqF4KWg97r5N1lM67Cr2zWRdoPR8QMWWL3wn1BKG
I2cvEKXpbIXzr8GukQIDAQAB
-----END PUBLIC KEY-----
";
