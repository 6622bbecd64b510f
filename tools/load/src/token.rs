//! Tokens for the simulated users (HS256).

use std::io;

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use crate::clock;

/// How long the tokens are valid; longer than any run.
const LIFETIME_SECONDS: u64 = 24 * 3600;

/// Mints a token per user.
pub(crate) struct Mint {
    key: EncodingKey,
    header: Header,
    expires_at: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
}

impl Mint {
    /// A mint with the gateway's `JWT_SECRET`.
    pub(crate) fn new(secret: &str) -> Self {
        Self {
            key: EncodingKey::from_secret(secret.as_bytes()),
            header: Header::default(),
            expires_at: clock::wall_seconds() + LIFETIME_SECONDS,
        }
    }

    /// A token whose `sub` is the user.
    pub(crate) fn token(&self, user: &str) -> io::Result<String> {
        let claims = Claims { sub: user, exp: self.expires_at };
        jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(io::Error::other)
    }
}

/// The id of the simulated user `index`.
pub(crate) fn user(index: u32) -> String {
    format!("load-{index}")
}
