//! Keys that sign what the gateway vouches for, passes and the roots of shuffles, and the document that others check it with.
//!
//! Owns the key in use and those that are still, or soon, published beside it. Invariants: what is published holds no
//! private part; a key is called by its thumbprint (RFC 7638), so the same file has the same name everywhere. Never reads
//! a file and rolls no dice.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsBigEndian,
    hmac,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{
    alg_id,
    pem::{PemObject, SectionKind},
};
use serde_json::{Value, json};

use super::keys::split_spki;
use crate::{config::settings::PassAlgorithm, limits::PASS_KEYS_MAX};

/// Why there is no key to sign with. Says nothing of a key's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// No block that can be used.
    #[error("no PEM block `PRIVATE KEY`; of an `EC PRIVATE KEY`: openssl pkcs8 -topk8 -nocrypt")]
    NoPrivateKey,
    /// Not a key of either kind.
    #[error("not an Ed25519 or P-256 key")]
    Unsupported,
    /// A PEM block that does not decode.
    #[error("holds a PEM block that does not decode")]
    Broken,
    /// `PASS_ALGORITHM` asks for the other kind.
    #[error("the key is for {0}, which is not PASS_ALGORITHM")]
    OtherAlgorithm(&'static str),
    /// More than [`PASS_KEYS_MAX`].
    #[error("more than {PASS_KEYS_MAX} keys")]
    TooMany,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Library,
}

/// The key in use and those published beside it; built once, replaced whole.
pub struct SigningKeys {
    pair: Pair,
    /// base64url of the JOSE header, which is the same for all tokens.
    header: String,
    /// A JWKS document (RFC 7517 §5).
    jwks: Arc<str>,
    /// Private parts at hand, that in use first.
    private: Vec<Vec<u8>>,
}

impl SigningKeys {
    /// Takes the first block `PRIVATE KEY` of `own` (PKCS #8, RFC 5958) to sign with. `others` may hold any number of blocks
    /// `PRIVATE KEY` and `PUBLIC KEY`, none included: keys before and after that in use.
    ///
    /// # Errors
    /// A block cannot be used.
    pub fn parse(own: &str, others: &str) -> Result<Self, SigningError> {
        let blocks = blocks(own)?;
        let private = blocks.iter().find(|(kind, _)| *kind == SectionKind::PrivateKey);
        Self::of_pkcs8(&private.ok_or(SigningError::NoPrivateKey)?.1, others)
    }

    /// As [`SigningKeys::parse`], from the content of the block.
    ///
    /// # Errors
    /// As there.
    pub fn of_pkcs8(own: &[u8], others: &str) -> Result<Self, SigningError> {
        let pair = Pair::of_pkcs8(own)?;
        let mut published = vec![pair.public()];
        let mut private = vec![pair.private()?];
        for (kind, der) in blocks(others)? {
            match kind {
                SectionKind::PrivateKey => {
                    let pair = Pair::of_pkcs8(&der)?;
                    published.push(pair.public());
                    private.push(pair.private()?);
                }
                SectionKind::PublicKey => published.push(Public::of_spki(&der)?),
                _ => return Err(SigningError::Unsupported),
            }
        }
        if published.len() > PASS_KEYS_MAX {
            return Err(SigningError::TooMany);
        }
        let id = published[0].thumbprint();
        let header = json!({ "alg": pair.algorithm(), "typ": "JWT", "kid": id }).to_string();
        let mut keys: Vec<Value> = Vec::new();
        for key in published.iter().map(Public::jwk) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let jwks = json!({ "keys": keys }).to_string().into();
        Ok(Self { pair, header: URL_SAFE_NO_PAD.encode(header), jwks, private })
    }

    /// Refuses a key of another kind than was asked for.
    ///
    /// # Errors
    /// [`SigningError::OtherAlgorithm`].
    pub fn of_algorithm(self, wanted: Option<PassAlgorithm>) -> Result<Self, SigningError> {
        let algorithm = self.pair.algorithm();
        match wanted {
            Some(wanted) if wanted.name() != algorithm => Err(SigningError::OtherAlgorithm(algorithm)),
            _ => Ok(self),
        }
    }

    /// A token with these claims (RFC 7515 §7.1).
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn sign(&self, payload: &[u8]) -> Result<String, SigningError> {
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// What others check with, as `/.well-known/jwks.json` has it.
    pub fn jwks(&self) -> Arc<str> {
        self.jwks.clone()
    }

    /// A secret for this purpose of each private key at hand, that in use first: what all instances with the same files share.
    pub fn secrets(&self, purpose: &str) -> Vec<[u8; 32]> {
        let derive = |private: &Vec<u8>| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, private), purpose.as_bytes());
            let mut secret = [0; 32];
            secret.copy_from_slice(tag.as_ref());
            secret
        };
        self.private.iter().map(derive).collect()
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("jwks", &self.jwks).finish_non_exhaustive()
    }
}

fn blocks(pem: &str) -> Result<Vec<(SectionKind, Vec<u8>)>, SigningError> {
    let blocks = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes());
    blocks.take(PASS_KEYS_MAX + 1).collect::<Result<_, _>>().map_err(|_| SigningError::Broken)
}

/// What signs.
enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl Pair {
    fn of_pkcs8(der: &[u8]) -> Result<Self, SigningError> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::Ed25519(pair));
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        pair.map(Self::P256).map_err(|_| SigningError::Unsupported)
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => PassAlgorithm::EdDsa.name(),
            Self::P256(_) => PassAlgorithm::Es256.name(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let signature = match self {
            Self::Ed25519(pair) => pair.try_sign(message),
            Self::P256(pair) => pair.sign_digest(&digest(&SHA256, message)),
        };
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| SigningError::Library)
    }

    fn public(&self) -> Public {
        match self {
            Self::Ed25519(pair) => Public::Ed25519(pair.public_key().as_ref().to_vec()),
            Self::P256(pair) => Public::P256(pair.public_key().as_ref().to_vec()),
        }
    }

    fn private(&self) -> Result<Vec<u8>, SigningError> {
        let bytes = match self {
            Self::Ed25519(pair) => {
                pair.seed().and_then(|seed| seed.as_be_bytes()).map(|seed| seed.as_ref().to_vec())
            }
            Self::P256(pair) => pair.private_key().as_be_bytes().map(|key| key.as_ref().to_vec()),
        };
        bytes.map_err(|_| SigningError::Library)
    }
}

/// What checks.
enum Public {
    /// 32 bytes (RFC 8032 §5.1.5).
    Ed25519(Vec<u8>),
    /// An uncompressed point, 65 bytes (SEC 1 §2.3.3).
    P256(Vec<u8>),
}

impl Public {
    fn of_spki(der: &[u8]) -> Result<Self, SigningError> {
        let (algorithm, key) = split_spki(der).ok_or(SigningError::Unsupported)?;
        if algorithm == alg_id::ED25519.as_ref() && key.len() == 32 {
            Ok(Self::Ed25519(key.to_vec()))
        } else if algorithm == alg_id::ECDSA_P256.as_ref() && key.len() == 65 && key[0] == 4 {
            Ok(Self::P256(key.to_vec()))
        } else {
            Err(SigningError::Unsupported)
        }
    }

    /// The members that make the key, and no others, sorted by name (RFC 7638 §3.2; RFC 7518 §6.2.1, RFC 8037 §2).
    fn members(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed25519(key) => json!({ "crv": "Ed25519", "kty": "OKP", "x": text(key) }),
            Self::P256(point) => {
                json!({ "crv": "P-256", "kty": "EC", "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
        }
    }

    fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.members().to_string().as_bytes()))
    }

    fn jwk(&self) -> Value {
        let mut jwk = self.members();
        let algorithm = match self {
            Self::Ed25519(_) => PassAlgorithm::EdDsa,
            Self::P256(_) => PassAlgorithm::Es256,
        };
        jwk["alg"] = algorithm.name().into();
        jwk["use"] = "sig".into();
        jwk["kid"] = self.thumbprint().into();
        jwk
    }
}
