//! Passes and place tokens: what they say, and whether what somebody shows says it.
//!
//! Never signs and never looks at a signature of a pass: [`crate::auth::signing`] makes them, `auth::token` checks
//! them. Invariants: a pass is the same whichever instance makes it, `jti` included; it never outlives its claim
//! window; a place token holds for one event only, and cannot be made of what receipts, logs or other people's
//! messages show.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::merkle::sha256;
use crate::clock::Now;

/// The claims of a pass (RFC 7519 §4.1), and the place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// `PASS_ISSUER`.
    pub iss: String,
    /// The event.
    pub aud: String,
    /// The user, or the anonymous holder as in the log.
    pub sub: String,
    /// `sub` is no user; absent: it is one. So no user id can be taken for an anonymous holder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// The place in the queue, from 1.
    pub position: u32,
    /// Admitted, seconds since the Unix epoch.
    pub iat: u64,
    /// End of the claim window, seconds since the Unix epoch.
    pub exp: u64,
    /// The same for all copies of one admission: who claims with it does so once.
    pub jti: String,
}

/// What a pass is made from.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// `PASS_ISSUER`.
    pub issuer: &'a str,
    /// Which queue.
    pub event_id: &'a str,
    /// `u:<user>` or `a:<anonymous>`.
    pub holder: &'a str,
    /// From 1.
    pub place: u32,
    /// Admitted, milliseconds since the Unix epoch.
    pub admitted_at_ms: u64,
    /// End of the claim window.
    pub claim_until_ms: u64,
}

impl Claims {
    /// The pass of an admission.
    pub fn of(admission: &Admission<'_>) -> Self {
        let Admission { issuer, event_id, holder, place, admitted_at_ms, claim_until_ms } = *admission;
        let user = holder.strip_prefix(USER_PREFIX);
        let exp = claim_until_ms / 1_000;
        let named = [
            &exp.to_be_bytes()[..],
            &place.to_be_bytes(),
            &(event_id.len() as u64).to_be_bytes(),
            event_id.as_bytes(),
            holder.as_bytes(),
        ];
        Self {
            iss: issuer.to_owned(),
            aud: event_id.to_owned(),
            sub: user.unwrap_or(holder).to_owned(),
            anonymous: user.is_none(),
            position: place,
            iat: admitted_at_ms / 1_000,
            exp,
            jti: URL_SAFE_NO_PAD.encode(&sha256(&named.concat())[..16]),
        }
    }

    /// Reads the payload of a pass whose signature was verified.
    ///
    /// # Errors
    /// It is no pass, is for another event, has expired, or was made in the future. A clock that differs by
    /// [`LEEWAY_S`] is no reason.
    pub fn check(payload: &[u8], event_id: &str, now: Now) -> Result<Self, PassError> {
        let claims: Self = serde_json::from_slice(payload).map_err(|_| PassError::Claims)?;
        let now_s = now.wall_ms / 1_000;
        if claims.aud != event_id {
            Err(PassError::Event)
        } else if claims.exp.saturating_add(LEEWAY_S) <= now_s {
            Err(PassError::Expired { seconds: now_s - claims.exp })
        } else if claims.iat > now_s.saturating_add(LEEWAY_S) {
            Err(PassError::Future)
        } else {
            Ok(claims)
        }
    }
}

/// Why a token is no good as a pass, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// Not the claims of a pass.
    #[error("these are not the claims of a pass")]
    Claims,
    /// `aud` is another event.
    #[error("the pass is for another event")]
    Event,
    /// The claim window is over.
    #[error("the pass expired {seconds} s ago")]
    Expired {
        /// Since `exp`.
        seconds: u64,
    },
    /// `iat` is to come.
    #[error("the pass was made in the future")]
    Future,
}

/// Clocks may differ by so many seconds.
pub const LEEWAY_S: u64 = 5;

/// Begins the holder of a place who is a user.
pub const USER_PREFIX: &str = "u:";
/// Begins the holder of a place who is nobody known.
pub const ANONYMOUS_PREFIX: &str = "a:";

/// The number of an anonymous holder, random.
pub type AnonymousId = [u8; 16];

/// The holder with that number: `a:<22 characters>`.
pub fn anonymous_holder(id: &AnonymousId) -> String {
    format!("{ANONYMOUS_PREFIX}{}", URL_SAFE_NO_PAD.encode(id))
}

/// The number of an anonymous holder; `None`: it is a user.
pub fn anonymous_id(holder: &str) -> Option<AnonymousId> {
    let id = URL_SAFE_NO_PAD.decode(holder.strip_prefix(ANONYMOUS_PREFIX)?).ok()?;
    id.try_into().ok()
}

/// Makes and checks place tokens: 64 characters, the number of the holder and an HMAC-SHA-256 over event and number. Far
/// cheaper than a signature, so that the control thread may.
#[derive(Clone, Debug)]
pub struct PlaceKeys(Vec<hmac::Key>);

impl PlaceKeys {
    /// The first secret makes tokens, all of them check.
    pub fn new(secrets: &[[u8; 32]]) -> Self {
        Self(secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret)).collect())
    }

    /// The token of an anonymous holder; `None`: there is no key.
    pub fn token(&self, event_id: &str, id: &AnonymousId) -> Option<String> {
        let tag = tag(self.0.first()?, event_id, id);
        Some(URL_SAFE_NO_PAD.encode([id, tag.as_ref()].concat()))
    }

    /// The holder whose token it is; `None`: it is none for this event.
    pub fn holder(&self, event_id: &str, token: &str) -> Option<String> {
        if token.len() != PLACE_TOKEN_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (id, shown) = bytes.split_first_chunk::<16>()?;
        let fits = |key| verify_slices_are_equal(tag(key, event_id, id).as_ref(), shown).is_ok();
        self.0.iter().any(fits).then(|| anonymous_holder(id))
    }
}

/// Length of a place token.
pub const PLACE_TOKEN_BYTES: usize = 64;

fn tag(key: &hmac::Key, event_id: &str, id: &AnonymousId) -> hmac::Tag {
    // The number has a fixed length, so where the event ends is clear.
    hmac::sign(key, &[event_id.as_bytes(), id].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMISSION: Admission<'_> = Admission {
        issuer: "usher",
        event_id: "e1",
        holder: "u:alice",
        place: 7,
        admitted_at_ms: 1_700_000_000_900,
        claim_until_ms: 1_700_000_300_900,
    };

    fn at(seconds: u64) -> Now {
        Now { mono_ns: 0, wall_ms: seconds * 1_000 }
    }

    fn payload(claims: &Claims) -> Vec<u8> {
        serde_json::to_vec(claims).unwrap()
    }

    #[test]
    fn a_pass_says_who_where_and_until_when() {
        let claims = Claims::of(&ADMISSION);
        assert_eq!((claims.sub.as_str(), claims.anonymous, claims.position), ("alice", false, 7));
        assert_eq!((claims.iat, claims.exp), (1_700_000_000, 1_700_000_300));
        let text = String::from_utf8(payload(&claims)).unwrap();
        assert!(!text.contains("anonymous"), "{text}");
        assert_eq!(Claims::check(text.as_bytes(), "e1", at(1_700_000_100)), Ok(claims));
    }

    #[test]
    fn every_copy_of_an_admission_is_the_same_and_no_other_has_its_number() {
        let number = |admission: Admission<'_>| Claims::of(&admission).jti;
        assert_eq!(number(ADMISSION), number(Admission { admitted_at_ms: 1, ..ADMISSION }));
        let others = [
            Admission { event_id: "e2", ..ADMISSION },
            Admission { event_id: "e1u", holder: ":alice", ..ADMISSION },
            Admission { holder: "u:bob", ..ADMISSION },
            Admission { place: 8, ..ADMISSION },
            Admission { claim_until_ms: 1_700_000_400_900, ..ADMISSION },
        ];
        assert!(others.into_iter().all(|other| number(other) != number(ADMISSION)));
    }

    #[test]
    fn a_user_who_is_called_like_an_anonymous_holder_is_none() {
        let holder = anonymous_holder(&[1; 16]);
        let user = format!("u:{holder}");
        let (one, other) = (
            Claims::of(&Admission { holder: &holder, ..ADMISSION }),
            Claims::of(&Admission { holder: &user, ..ADMISSION }),
        );
        assert_eq!(one.sub, other.sub);
        assert!(one.anonymous && !other.anonymous);
    }

    #[test]
    fn a_pass_of_another_event_or_time_is_refused() {
        let payload = payload(&Claims::of(&ADMISSION));
        let check = |event, seconds| Claims::check(&payload, event, at(seconds)).err();
        assert_eq!(check("e2", 1_700_000_100), Some(PassError::Event));
        assert_eq!(check("e1", 1_700_000_304), None);
        assert_eq!(check("e1", 1_700_000_305), Some(PassError::Expired { seconds: 5 }));
        assert_eq!(check("e1", 1_699_999_994), Some(PassError::Future));
        assert_eq!(Claims::check(b"{}", "e1", at(0)), Err(PassError::Claims));
    }

    #[test]
    fn an_anonymous_holder_is_its_number() {
        assert_eq!(anonymous_id(&anonymous_holder(&[7; 16])), Some([7; 16]));
        for nobody in ["u:ann", "a:", "a:ann", "a:!", ""] {
            assert_eq!(anonymous_id(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_place_token_holds_for_its_event_and_its_holder_alone() {
        let keys = PlaceKeys::new(&[[1; 32], [2; 32]]);
        let token = keys.token("e1", &[9; 16]).unwrap();
        assert_eq!(token.len(), PLACE_TOKEN_BYTES);
        assert_eq!(keys.holder("e1", &token), Some(anonymous_holder(&[9; 16])));
        assert_eq!(keys.holder("e2", &token), None);
        let older = PlaceKeys::new(&[[2; 32]]).token("e1", &[9; 16]).unwrap();
        assert!(keys.holder("e1", &older).is_some(), "a key that no longer makes tokens still checks");
        assert_eq!(PlaceKeys::new(&[[3; 32]]).holder("e1", &token), None);
        for position in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys.holder("e1", &String::from_utf8(forged).unwrap()), None, "{position}");
        }
        for nonsense in ["", "a", &token[1..], &format!("{token}A"), &"=".repeat(64)] {
            assert_eq!(keys.holder("e1", nonsense), None, "{nonsense}");
        }
    }
}
