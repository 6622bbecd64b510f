//! Verification keys from what people keep them in: secrets, PEM text, JWKS documents.
//!
//! Owns the parsed keys and which algorithms each may verify. Invariant: an algorithm fits a key by the key's own kind,
//! so that no token can have a public key taken for a secret. Never reads a file or the network.

use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header};
use rustls::pki_types::{AlgorithmIdentifier, SubjectPublicKeyInfoDer, alg_id, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    clock::Now,
    identity::is_user_id,
    limits::{KEY_ID_BYTES_MAX, KEYS_MAX, USER_ID_BYTES_MAX},
};

/// One key: what it is called and what it may verify.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// `kid`, when it came from a JWKS document that names it; 1 to `KEY_ID_BYTES_MAX` bytes.
    pub(super) id: Option<Box<str>>,
    /// Never empty, all of one family.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) material: DecodingKey,
}

/// Keys of one or several sources.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    pub(super) keys: Vec<Key>,
    /// Entries of JWKS documents that cannot be used: another type, another use, broken.
    skipped: usize,
}

/// Why a source has no usable key. Says nothing of a key's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// A secret of no bytes verifies what anybody signs.
    #[error("the secret is empty")]
    EmptySecret,
    /// No `BEGIN PUBLIC KEY` block.
    #[error(
        "no PEM block `PUBLIC KEY`; for a certificate: openssl x509 -pubkey -noout -in FILE; \
         for a private key or `RSA PUBLIC KEY`: openssl pkey -pubout, openssl rsa -RSAPublicKey_in -pubout"
    )]
    NoPublicKey,
    /// A public key of a kind that no supported algorithm uses.
    #[error("not an RSA (2048 to 8192 bits), P-256, P-384 or Ed25519 public key")]
    UnsupportedKey,
    /// Not a JSON object with a list `keys` (RFC 7517 §5).
    #[error("not a JWKS document: {0}")]
    NotJwks(String),
    /// A JWKS document of which nothing can be used.
    #[error("no usable key among {0} in the JWKS document")]
    NoUsableKey(usize),
}

/// Whether a JWKS document may hold secrets (`kty: oct`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// From a file that the operator keeps.
    Accepted,
    /// From the network: a secret that is published is none.
    Skipped,
}

impl KeySet {
    /// A shared secret: HS256, HS384, HS512.
    pub fn secret(secret: &str) -> Result<Self, KeySetError> {
        if secret.is_empty() {
            return Err(KeySetError::EmptySecret);
        }
        Ok(Self::one(Key {
            id: None,
            algorithms: AlgorithmFamily::Hmac.algorithms().to_vec(),
            material: DecodingKey::from_secret(secret.as_bytes()),
        }))
    }

    /// The first `PUBLIC KEY` block of a PEM text (RFC 7468 §13): RSA, P-256, P-384 or Ed25519.
    pub fn pem(text: &str) -> Result<Self, KeySetError> {
        let der =
            SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| KeySetError::NoPublicKey)?;
        let (algorithm, key) = split_spki(&der).ok_or(KeySetError::UnsupportedKey)?;
        let public = PublicKey::of(algorithm, key).ok_or(KeySetError::UnsupportedKey)?;
        Ok(Self::one(Key { id: None, algorithms: public.algorithms, material: public.material }))
    }

    /// A JWKS document (RFC 7517 §5). Keys for encryption, of unknown types, or broken are skipped and counted; keys
    /// beyond [`KEYS_MAX`] too.
    pub fn jwks(text: &str, secrets: Secrets) -> Result<Self, KeySetError> {
        let document: Jwks =
            serde_json::from_str(text).map_err(|error| KeySetError::NotJwks(error.to_string()))?;
        let total = document.keys.len();
        let keys: Vec<Key> =
            document.keys.into_iter().take(KEYS_MAX).filter_map(|key| jwk(key, secrets)).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey(total));
        }
        Ok(Self { skipped: total - keys.len(), keys })
    }

    /// Adds the keys of another source.
    pub fn extend(&mut self, other: &Self) {
        self.keys.extend(other.keys.iter().cloned());
        self.skipped += other.skipped;
    }

    /// Keys that can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no token can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Entries of JWKS documents that were skipped.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    fn one(key: Key) -> Self {
        Self { keys: vec![key], skipped: 0 }
    }
}

/// A public key and the algorithms of its kind.
struct PublicKey {
    algorithms: Vec<Algorithm>,
    material: DecodingKey,
}

impl PublicKey {
    /// `key` is what the BIT STRING of the SubjectPublicKeyInfo holds.
    fn of(algorithm: &[u8], key: &[u8]) -> Option<Self> {
        let is = |id: AlgorithmIdentifier| algorithm == id.as_ref();
        if is(alg_id::RSA_ENCRYPTION) {
            let utilities = &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.key_utils;
            let (n, e) = (utilities.rsa_pub_components_from_public_key)(key).ok()?;
            Self::rsa(&n, &e)
        } else if is(alg_id::ECDSA_P256) {
            Self::point(key, Algorithm::ES256)
        } else if is(alg_id::ECDSA_P384) {
            Self::point(key, Algorithm::ES384)
        } else if is(alg_id::ED25519) {
            Self::edwards(key)
        } else {
            None
        }
    }

    fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
        let fits = RSA_BYTES.contains(&n.len()) && !e.is_empty() && e.len() <= 8;
        fits.then(|| Self {
            algorithms: AlgorithmFamily::Rsa.algorithms().to_vec(),
            material: DecodingKey::from_rsa_raw_components(n, e),
        })
    }

    /// An uncompressed point (SEC 1 §2.3.3), which alone names no curve: its algorithm does, by length.
    fn point(point: &[u8], algorithm: Algorithm) -> Option<Self> {
        let coordinate = if algorithm == Algorithm::ES256 { 32 } else { 48 };
        let fits = point.first() == Some(&4) && point.len() == 1 + 2 * coordinate;
        fits.then(|| Self { algorithms: vec![algorithm], material: DecodingKey::from_ec_der(point) })
    }

    fn edwards(key: &[u8]) -> Option<Self> {
        let fits = key.len() == 32;
        fits.then(|| Self { algorithms: vec![Algorithm::EdDSA], material: DecodingKey::from_ed_der(key) })
    }
}

/// Splits a SubjectPublicKeyInfo (RFC 5280 §4.1) into the content of its algorithm and of its key.
pub(super) fn split_spki(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    let (whole, _) = tagged(der, SEQUENCE)?;
    let (algorithm, rest) = tagged(whole, SEQUENCE)?;
    let (bits, _) = tagged(rest, BIT_STRING)?;
    // The first byte counts unused bits.
    Some((algorithm, bits.strip_prefix(&[0])?))
}

/// The content of a DER value with this tag, and what follows the value.
pub(super) fn tagged(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// One key of a JWKS document (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

fn jwk(value: Value, secrets: Secrets) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let id_fits = jwk.kid.as_ref().is_none_or(|id| (1..=KEY_ID_BYTES_MAX).contains(&id.len()));
    if !for_signatures || !id_fits {
        return None;
    }
    let mut public = material(&jwk, secrets)?;
    if let Some(name) = &jwk.alg {
        public.algorithms.retain(|algorithm| algorithm_name(*algorithm) == name);
    }
    let id = jwk.kid.map(String::into_boxed_str);
    (!public.algorithms.is_empty()).then_some(Key {
        id,
        algorithms: public.algorithms,
        material: public.material,
    })
}

fn material(jwk: &Jwk, secrets: Secrets) -> Option<PublicKey> {
    let decoded = |field: &Option<String>| super::claims::decode(field.as_deref()?).ok();
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => PublicKey::rsa(&decoded(&jwk.n)?, &decoded(&jwk.e)?),
        ("EC", Some("P-256")) => {
            PublicKey::point(&[vec![4], decoded(&jwk.x)?, decoded(&jwk.y)?].concat(), Algorithm::ES256)
        }
        ("EC", Some("P-384")) => {
            PublicKey::point(&[vec![4], decoded(&jwk.x)?, decoded(&jwk.y)?].concat(), Algorithm::ES384)
        }
        ("OKP", Some("Ed25519")) => PublicKey::edwards(&decoded(&jwk.x)?),
        ("oct", _) if secrets == Secrets::Accepted => {
            let secret = decoded(&jwk.k).filter(|secret| !secret.is_empty())?;
            Some(PublicKey {
                algorithms: AlgorithmFamily::Hmac.algorithms().to_vec(),
                material: DecodingKey::from_secret(&secret),
            })
        }
        _ => None,
    }
}

/// The name of an algorithm in `alg` (RFC 7518 §3.1, RFC 8037 §3.1).
pub(super) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.iter().find(|(_, known)| *known == algorithm).map_or("", |(name, _)| name)
}

/// The algorithm of a name.
pub(super) fn algorithm_named(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No user id.
    #[error("a user id has 1 to {USER_ID_BYTES_MAX} bytes and no control characters")]
    User,
    /// The library failed.
    #[error("cannot sign: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Signs an HS256 token for a user: for `usher token` and the development token.
pub fn mint(
    secret: &str,
    user: &str,
    lifetime: Duration,
    now: Now,
    rooms: &[String],
) -> Result<String, MintError> {
    #[derive(Serialize)]
    struct Minted<'a> {
        sub: &'a str,
        iat: u64,
        exp: u64,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        rooms: &'a [String],
    }
    if !is_user_id(user) {
        return Err(MintError::User);
    }
    let iat = now.wall_ms / 1_000;
    let claims = Minted { sub: user, iat, exp: iat.saturating_add(lifetime.as_secs()), rooms };
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}

/// Lengths of an RSA modulus that the algorithms take: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];
