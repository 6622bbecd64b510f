//! Keys and tokens of the tests.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use usher::clock::Now;

/// The secret that every gateway of the tests runs with, unless it brings keys of its own.
pub const SECRET: &str = "canary-secret-that-no-log-may-ever-show";

/// Seconds since the epoch, `seconds` from now.
pub fn in_seconds(seconds: i64) -> i64 {
    (Now::read().wall_ms / 1000) as i64 + seconds
}

/// Claims of a user for the next hour.
pub fn claims(user: &str) -> Value {
    json!({"sub": user, "exp": in_seconds(3600)})
}

/// An HS256 token with these claims, signed with [`SECRET`].
pub fn token(claims: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

/// A token for the user for the next hour.
pub fn token_for(user: &str) -> String {
    token(&claims(user))
}

pub fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).expect("the key fits the algorithm")
}

/// `base64url(text)`, for tokens that no library would make.
pub fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..=chunk.len() {
            out.push(ALPHABET[(word >> (18 - 6 * position)) as usize & 63] as char);
        }
    }
    out
}

/// A token whose header and claims are written as given, signed as HS256 with [`SECRET`].
pub fn hand_made(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("HMAC");
    format!("{signed}.{signature}")
}
