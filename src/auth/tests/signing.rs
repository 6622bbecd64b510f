//! Keys that sign: the examples of the standards, and what a file may hold.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::{
    auth::{
        KeySet, SigningKeys,
        keys::Secrets,
        signing::SigningError,
        token::{Signatures, TokenError},
    },
    config::settings::PassAlgorithm,
    limits::PASS_KEYS_MAX,
};

/// RFC 8037 §A.1: `d` and `x`.
const RFC_8037_D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const RFC_8037_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// The key of RFC 8037 as OpenSSL writes it (RFC 8410 §7).
fn rfc_8037() -> String {
    let wrapper = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pem("PRIVATE KEY", &[&wrapper[..], &decoded(RFC_8037_D)].concat())
}

fn ed25519() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn jwks(keys: &SigningKeys) -> Value {
    serde_json::from_str(&keys.jwks()).unwrap()
}

fn signatures(jwks: &str) -> Signatures {
    Signatures::new(KeySet::jwks(jwks, Secrets::Skipped).unwrap())
}

#[test]
fn the_key_of_rfc_8037_is_published_and_called_as_there() {
    let keys = SigningKeys::parse(&rfc_8037(), "").unwrap();
    // §A.2 and §A.3.
    let expected = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": RFC_8037_X, "alg": "EdDSA", "use": "sig",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    }]});
    assert_eq!(jwks(&keys), expected);
    assert!(!format!("{keys:?}{}", keys.jwks()).contains(RFC_8037_D));
}

#[test]
fn signatures_are_those_of_rfc_8037() {
    // §A.4 signs with another header than ours, so that its signature is checked, and ours by whoever checks that.
    let example = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6d\
                   WbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let keys = SigningKeys::parse(&rfc_8037(), "").unwrap();
    let others = signatures(&keys.jwks());
    assert_eq!(others.payload(example).unwrap(), b"Example of Ed25519 signing");
    let own = keys.sign(b"Example of Ed25519 signing").unwrap();
    assert_eq!(others.payload(&own).unwrap(), b"Example of Ed25519 signing");
    assert_eq!(own, keys.sign(b"Example of Ed25519 signing").unwrap(), "the same on every instance");
    let header: Value = serde_json::from_slice(&decoded(own.split('.').next().unwrap())).unwrap();
    let id = &jwks(&keys)["keys"][0]["kid"];
    assert_eq!(header, json!({"alg": "EdDSA", "typ": "JWT", "kid": id}));
}

#[test]
fn the_example_of_rfc_7515_is_checked_with_es256() {
    // §A.3.
    let jwks = json!({"keys": [{
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }]});
    let example = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb\
                   290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert!(signatures(&jwks.to_string()).payload(example).is_ok());
}

#[test]
fn keys_of_both_kinds_sign_what_their_document_verifies_and_any_change_is_found() {
    for (pair, algorithm) in [(ed25519(), "EdDSA"), (p256(), "ES256")] {
        let keys = SigningKeys::parse(&pair.serialize_pem(), "").unwrap();
        let others = signatures(&keys.jwks());
        let token = keys.sign(br#"{"position":7}"#).unwrap();
        assert_eq!(jwks(&keys)["keys"][0]["alg"], algorithm);
        assert_eq!(others.payload(&token).unwrap(), br#"{"position":7}"#);
        for position in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(others.payload(&forged).is_err(), "{algorithm}: {position} of {token}");
        }
        let stranger = SigningKeys::parse(&ed25519().serialize_pem(), "").unwrap();
        assert_eq!(others.payload(&stranger.sign(b"{}").unwrap()), Err(TokenError::UnknownKey));
    }
}

#[test]
fn other_keys_are_published_once_each_beside_the_one_in_use() {
    let (own, old, next) = (ed25519(), p256(), ed25519());
    let others = [old.serialize_pem(), next.public_key_pem(), own.serialize_pem()].concat();
    let keys = SigningKeys::parse(&own.serialize_pem(), &others).unwrap();
    assert_eq!(jwks(&keys)["keys"].as_array().unwrap().len(), 3);
    let older = SigningKeys::parse(&old.serialize_pem(), "").unwrap();
    assert!(signatures(&keys.jwks()).payload(&older.sign(b"{}").unwrap()).is_ok());
    let secrets = keys.secrets("a purpose");
    assert_eq!(secrets[0], secrets[2], "a public key brings none");
    assert_eq!(older.secrets("a purpose"), secrets[1..2]);
    assert_ne!(older.secrets("another purpose"), secrets[1..2]);
}

#[test]
fn what_cannot_sign_is_refused_and_says_why() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let rows = [
        (String::new(), String::new(), SigningError::NoPrivateKey),
        (ed25519().public_key_pem(), String::new(), SigningError::NoPrivateKey),
        (pem("PRIVATE KEY", b"nonsense"), String::new(), SigningError::Unsupported),
        (rsa.serialize_pem(), String::new(), SigningError::Unsupported),
        (
            "-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----\n".into(),
            String::new(),
            SigningError::Broken,
        ),
        (rfc_8037(), rsa.public_key_pem(), SigningError::Unsupported),
        (rfc_8037(), ed25519().public_key_pem().repeat(PASS_KEYS_MAX), SigningError::TooMany),
    ];
    for (own, others, error) in rows {
        assert_eq!(SigningKeys::parse(&own, &others).err(), Some(error), "{own}{others}");
    }
    let keys = SigningKeys::parse(&rfc_8037(), "").unwrap();
    let refused = keys.of_algorithm(Some(PassAlgorithm::Es256));
    assert_eq!(refused.err(), Some(SigningError::OtherAlgorithm("EdDSA")));
}
