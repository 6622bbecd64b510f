//! The two JSON objects of a token, typed.
//!
//! Owns what may stand in them. Invariants: a claim of the wrong type is an error and never as good as absent, `null`
//! included; a claim given twice is an error; what is not listed here has no effect.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::TokenError;

/// The JOSE header (RFC 7515 §4). `jku`, `jwk`, `x5u` and `x5c` are left out on purpose: a token does not bring the key
/// that verifies it.
#[derive(Debug, Deserialize)]
pub(super) struct Header<'a> {
    /// Compared with what configuration allows; decides nothing else.
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    /// Chooses among the keys at hand.
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) kid: Option<Cow<'a, str>>,
    /// Extensions that the verifier must understand; none is, so its presence refuses the token (§4.1.11).
    #[serde(default, deserialize_with = "present")]
    pub(super) crit: Option<de::IgnoredAny>,
}

/// The claims that are acted on (RFC 7519 §4).
#[derive(Debug, Deserialize)]
pub(super) struct Claims<'a> {
    pub(super) exp: Seconds,
    #[serde(default, deserialize_with = "present")]
    pub(super) nbf: Option<Seconds>,
    #[serde(default, deserialize_with = "present")]
    pub(super) iat: Option<Seconds>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) sub: Option<UserId<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) user_id: Option<UserId<'a>>,
    #[serde(borrow, default, rename = "userId", deserialize_with = "present")]
    pub(super) user_id_camel: Option<UserId<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) aud: Option<Audience<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) iss: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) rooms: Option<Vec<Cow<'a, str>>>,
}

impl<'a> Claims<'a> {
    /// `sub`, else `user_id`, else `userId`.
    pub(super) fn user(&self) -> Option<&str> {
        [&self.sub, &self.user_id, &self.user_id_camel].into_iter().flatten().next().map(|id| id.0.as_ref())
    }
}

/// Whole seconds since the Unix epoch, `0 <= n < 2^53`: beyond it two readers of JSON may see different numbers
/// (RFC 8259 §6).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u64")]
pub(super) struct Seconds(u64);

impl Seconds {
    pub(super) fn in_ms(self) -> u64 {
        self.0.saturating_mul(1_000)
    }
}

impl TryFrom<u64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: u64) -> Result<Self, Self::Error> {
        if seconds < 1 << 53 { Ok(Self(seconds)) } else { Err("seconds beyond 2^53") }
    }
}

/// A user id: a string, or a whole number as its decimal digits.
#[derive(Debug)]
pub(super) struct UserId<'a>(pub(super) Cow<'a, str>);

/// `aud`: one name or a list of names (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Many(#[serde(borrow)] Vec<Cow<'a, str>>),
}

impl Audience<'_> {
    pub(super) fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(name) => name == wanted,
            Self::Many(names) => names.iter().any(|name| name == wanted),
        }
    }
}

/// Decodes one part of a token (RFC 7515 §2: base64url without padding).
pub(super) fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

/// Reads a JSON object, and only an object: serde would take an array for a struct too.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// A field that is there has to have the right type: `null` is not absence.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'de: 'a, 'a> Deserialize<'de> for UserId<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Id;
        impl<'de> Visitor<'de> for Id {
            type Value = UserId<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(UserId(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(UserId(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(UserId(Cow::Owned(number.to_string())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(UserId(Cow::Owned(number.to_string())))
            }
        }
        deserializer.deserialize_any(Id)
    }
}
