//! Keys, tokens and identities together, as the verifier's callers see them.

mod signing;
mod sources;
mod tokens;

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use rcgen::{KeyPair, RsaKeySize};
use serde_json::{Value, json};

use super::{
    KeySet, TokenError, Verifier,
    keys::{Secrets, tagged},
};
use crate::{
    clock::Now,
    config::{Settings, settings::Auth},
    identity::Identity,
};

const SECRET: &str = "a secret of the test";
const NOW_S: u64 = 1_800_000_000;
const NOW: Now = Now { mono_ns: 0, wall_ms: NOW_S * 1_000 };

/// A key pair that signs tokens and shows its public half.
struct Signer {
    pair: KeyPair,
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::ES256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Algorithm::ES384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Algorithm::EdDSA => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            _ => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let pair = pair.unwrap();
        let der = pair.serialize_der();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&der),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
            _ => EncodingKey::from_rsa_der(pkcs1(&der)),
        };
        Self { pair, key, algorithm }
    }

    fn jwk(&self, kid: &str) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            return json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": encode(self.pair.public_key_raw())});
        }
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = kid.into();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    }

    fn token(&self, algorithm: Algorithm, extra: Value, claims: &Value) -> String {
        let mut header = extra;
        header["alg"] = serde_json::to_value(algorithm).unwrap();
        sign(&header, &claims.to_string(), &self.key, algorithm)
    }
}

/// The RSAPrivateKey in a PKCS #8 wrapper.
fn pkcs1(der: &[u8]) -> &[u8] {
    let (whole, _) = tagged(der, 0x30).unwrap();
    let (_, rest) = tagged(whole, 0x02).unwrap();
    let (_, rest) = tagged(rest, 0x30).unwrap();
    tagged(rest, 0x04).unwrap().0
}

static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::RS256));
static P256: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::ES256));
static P384: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::ES384));
static ED: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::EdDSA));

fn sign(header: &Value, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn hs256(header: Value, claims: &Value) -> String {
    hs256_text(header, &claims.to_string())
}

fn hs256_text(mut header: Value, claims: &str) -> String {
    if header.get("alg").is_none() {
        header["alg"] = "HS256".into();
    }
    sign(&header, claims, &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256)
}

fn claims() -> Value {
    json!({"sub": "user-1", "exp": NOW_S + 60})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn auth() -> Auth {
    Settings::default().auth
}

fn verifier(set: KeySet) -> Verifier {
    Verifier::new(set, &auth()).unwrap()
}

fn by_secret() -> Verifier {
    verifier(KeySet::secret(SECRET).unwrap())
}

fn jwks(keys: &[Value]) -> KeySet {
    KeySet::jwks(&json!({ "keys": keys }).to_string(), Secrets::Accepted).unwrap()
}

fn user(verified: Result<Identity, TokenError>) -> Result<String, TokenError> {
    verified.map(|identity| identity.user.to_string())
}
