//! From a token to an identity, or to the reason why not.
//!
//! Owns the rules of 03 §3. Never takes anything from an unverified token but its key id, looked up in a fixed map, and
//! its algorithm, compared with the key's own; never shows a token. Work is bounded before a signature is looked at:
//! length, three parts, one small header, at most `KEY_TRIES_MAX` keys.

use std::{sync::Arc, time::Duration};

use hashbrown::HashMap;
use jsonwebtoken::{Algorithm, AlgorithmFamily, crypto};

use super::{
    claims::{Claims, Header, Seconds, decode, object},
    keys::{Key, KeySet, algorithm_named},
};
use crate::{
    clock::Now,
    config::settings::Auth,
    identity::{Identity, is_user_id},
    limits::{CLAIM_ROOMS_MAX, KEY_ID_BYTES_MAX, KEY_TRIES_MAX, ROOM_NAME_BYTES_MAX, TOKEN_BYTES_MAX},
};

/// Why a token is refused. The text is for clients and logs alike: it names a rule, never the token's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than `TOKEN_BYTES_MAX`.
    #[error("token is too long")]
    TooLong,
    /// Not three base64url parts with a JSON header first.
    #[error("token is malformed")]
    Malformed,
    /// `alg` is none that configuration and keys allow.
    #[error("token algorithm is not accepted")]
    Algorithm,
    /// `crit` asks for extensions.
    #[error("token needs extensions that are not supported")]
    Critical,
    /// `kid` is longer than `KEY_ID_BYTES_MAX`.
    #[error("token key id is too long")]
    KeyIdTooLong,
    /// `kid` names no key at hand, and no key without a name fits. Worth fetching the keys again.
    #[error("token key is unknown")]
    UnknownKey,
    /// The token names no key, and more than `KEY_TRIES_MAX` would fit.
    #[error("token has to name its key")]
    KeyIdMissing,
    /// No key at hand made this signature.
    #[error("token signature is invalid")]
    Signature,
    /// Claims that are no object, lack `exp`, or have the wrong type or a time beyond 2^53.
    #[error("token claims are malformed")]
    Claims,
    /// `exp` has passed, leeway included.
    #[error("token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("token is not valid yet")]
    NotYetValid,
    /// `iat` is to come.
    #[error("token was issued in the future")]
    IssuedInFuture,
    /// `exp` is further away than `JWT_MAX_LIFETIME`.
    #[error("token lives too long")]
    LifetimeTooLong,
    /// `aud` does not name `JWT_AUDIENCE`.
    #[error("token is for another audience")]
    Audience,
    /// `iss` is not `JWT_ISSUER`.
    #[error("token is from another issuer")]
    Issuer,
    /// No user, or an id that [`is_user_id`] refuses.
    #[error("token names no user")]
    User,
    /// More than `CLAIM_ROOMS_MAX` globs, or one of no bytes or too many.
    #[error("token lists too many rooms")]
    Rooms,
}

/// Why configuration and keys make no verifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// A name in `JWT_ALGORITHMS`.
    #[error("JWT_ALGORITHMS: `{0}` is no algorithm that can be verified")]
    UnknownAlgorithm(String),
    /// `JWT_ALGORITHMS` leaves nothing for the keys at hand.
    #[error("JWT_ALGORITHMS: none of them fits the configured keys")]
    NoKeyFits,
    /// `JWT_REFRESH_SECRET` is empty.
    #[error("JWT_REFRESH_SECRET is empty")]
    EmptyRefreshSecret,
}

/// Verifies tokens with fixed keys under fixed rules. Without keys it refuses every token.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    /// For `auth:token_refresh`, instead of `keys`.
    refresh: Option<Keys>,
    audience: Option<Box<str>>,
    issuer: Option<Box<str>>,
    leeway_ms: u64,
    lifetime_max_ms: Option<u64>,
}

impl Verifier {
    /// Takes the rules of `auth` and the keys that its sources had.
    pub fn new(set: KeySet, auth: &Auth) -> Result<Self, VerifierError> {
        let allowed = Allowed::new(&auth.algorithms)?;
        let given = !set.is_empty();
        let keys = Keys::new(set, &allowed);
        if given && keys.list.is_empty() {
            return Err(VerifierError::NoKeyFits);
        }
        let refresh = match &auth.refresh_secret {
            Some(secret) => {
                let set = KeySet::secret(&secret.0).map_err(|_| VerifierError::EmptyRefreshSecret)?;
                Some(Keys::new(set, &allowed.for_secrets()))
            }
            None => None,
        };
        Ok(Self {
            keys,
            refresh,
            audience: auth.audience.as_deref().map(Into::into),
            issuer: auth.issuer.as_deref().map(Into::into),
            leeway_ms: milliseconds(auth.leeway),
            lifetime_max_ms: auth.lifetime_max.map(milliseconds),
        })
    }

    /// Verifies a token of an upgrade or of `auth:login`.
    pub fn verify(&self, token: &str, now: Now) -> Result<Identity, TokenError> {
        self.verify_with(&self.keys, token, now)
    }

    /// Verifies a token of `auth:token_refresh`: by `JWT_REFRESH_SECRET` alone where there is one.
    pub fn verify_refresh(&self, token: &str, now: Now) -> Result<Identity, TokenError> {
        self.verify_with(self.refresh.as_ref().unwrap_or(&self.keys), token, now)
    }

    fn verify_with(&self, keys: &Keys, token: &str, now: Now) -> Result<Identity, TokenError> {
        let payload = decode(keys.verified_payload(token)?)?;
        let claims: Claims<'_> = object(&payload).ok_or(TokenError::Claims)?;
        self.check_times(&claims, now)?;
        self.check_parties(&claims)?;
        identity(&claims)
    }

    fn check_times(&self, claims: &Claims<'_>, now: Now) -> Result<(), TokenError> {
        let expires_at_ms = claims.exp.in_ms();
        let to_come = |at: Seconds| at.in_ms() > now.wall_ms.saturating_add(self.leeway_ms);
        if expires_at_ms.saturating_add(self.leeway_ms) < now.wall_ms {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(to_come) {
            return Err(TokenError::NotYetValid);
        }
        if claims.iat.is_some_and(to_come) {
            return Err(TokenError::IssuedInFuture);
        }
        let latest =
            self.lifetime_max_ms.map(|ms| now.wall_ms.saturating_add(ms).saturating_add(self.leeway_ms));
        match latest {
            Some(latest) if expires_at_ms > latest => Err(TokenError::LifetimeTooLong),
            _ => Ok(()),
        }
    }

    fn check_parties(&self, claims: &Claims<'_>) -> Result<(), TokenError> {
        if let Some(wanted) = &self.audience
            && !claims.aud.as_ref().is_some_and(|audience| audience.names(wanted))
        {
            return Err(TokenError::Audience);
        }
        match &self.issuer {
            Some(wanted) if claims.iss.as_deref() != Some(wanted) => Err(TokenError::Issuer),
            _ => Ok(()),
        }
    }
}

/// Checks signatures alone, for tokens with other claims than a client's: passes, signed roots.
#[derive(Debug)]
pub struct Signatures(Keys);

impl Signatures {
    /// Any algorithm that fits a key's kind is accepted.
    pub fn new(set: KeySet) -> Self {
        Self(Keys::new(set, &Allowed(None)))
    }

    /// The payload of a token that one of the keys signed.
    pub fn payload(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        decode(self.0.verified_payload(token)?)
    }
}

fn identity(claims: &Claims<'_>) -> Result<Identity, TokenError> {
    let user = claims.user().filter(|id| is_user_id(id)).ok_or(TokenError::User)?;
    let rooms = claims.rooms.as_deref().unwrap_or_default();
    let fit = rooms.iter().all(|glob| (1..=ROOM_NAME_BYTES_MAX).contains(&glob.len()));
    if rooms.len() > CLAIM_ROOMS_MAX || !fit {
        return Err(TokenError::Rooms);
    }
    Ok(Identity {
        user: Arc::from(user),
        expires_at_ms: claims.exp.in_ms(),
        rooms: rooms.iter().map(|glob| Box::from(glob.as_ref())).collect(),
    })
}

/// The algorithms of `JWT_ALGORITHMS`; `None`: whatever fits a key's kind.
struct Allowed(Option<Vec<Algorithm>>);

impl Allowed {
    fn new(names: &[String]) -> Result<Self, VerifierError> {
        if names.is_empty() {
            return Ok(Self(None));
        }
        let known = |name: &String| {
            algorithm_named(name).ok_or_else(|| VerifierError::UnknownAlgorithm(name.clone()))
        };
        Ok(Self(Some(names.iter().map(known).collect::<Result<_, _>>()?)))
    }

    /// What is left of it for a secret; all of its kind where the list is about other kinds only.
    fn for_secrets(&self) -> Self {
        let hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        Self(self.0.as_ref().filter(|list| list.iter().any(hmac)).cloned())
    }

    fn allows(&self, algorithm: Algorithm) -> bool {
        self.0.as_ref().is_none_or(|list| list.contains(&algorithm))
    }
}

/// Keys, found by name or by fit.
#[derive(Debug)]
struct Keys {
    list: Vec<Key>,
    /// Positions in `list` of the keys with that id; more than one where types differ (RFC 7517 §4.5).
    by_id: HashMap<Box<str>, Vec<usize>>,
}

impl Keys {
    fn new(set: KeySet, allowed: &Allowed) -> Self {
        let mut list = set.keys;
        for key in &mut list {
            key.algorithms.retain(|algorithm| allowed.allows(*algorithm));
        }
        list.retain(|key| !key.algorithms.is_empty());
        let mut by_id: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (position, key) in list.iter().enumerate() {
            if let Some(id) = &key.id {
                by_id.entry(id.clone()).or_default().push(position);
            }
        }
        Self { list, by_id }
    }

    /// The middle part of a token whose signature one of the keys made.
    fn verified_payload<'a>(&self, token: &'a str) -> Result<&'a str, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }
        let header = decode(header)?;
        let header: Header<'_> = object(&header).ok_or(TokenError::Malformed)?;
        let algorithm = algorithm_named(&header.alg).ok_or(TokenError::Algorithm)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let id = header.kid.as_deref();
        let candidates = self.candidates(id, algorithm)?;
        if candidates.iter().any(|key| signed_by(key, signature, message, algorithm)) {
            Ok(payload)
        } else if self.is_unknown(id) {
            Err(TokenError::UnknownKey)
        } else {
            Err(TokenError::Signature)
        }
    }

    /// Whether keys have names here, and the token's is none of them.
    fn is_unknown(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| !self.by_id.is_empty() && !self.by_id.contains_key(id))
    }

    /// The keys to try, 1 to `KEY_TRIES_MAX`.
    fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Vec<&Key>, TokenError> {
        if id.is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
            return Err(TokenError::KeyIdTooLong);
        }
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        let fitting: Vec<&Key> = match (id, id.and_then(|id| self.by_id.get(id))) {
            (_, Some(named)) => named.iter().map(|position| &self.list[*position]).filter(fits).collect(),
            // A secret or a PEM key has no name: it may have signed under any.
            (Some(_), None) => self.list.iter().filter(|key| key.id.is_none()).filter(fits).collect(),
            (None, None) => self.list.iter().filter(fits).collect(),
        };
        match fitting.len() {
            0 if self.is_unknown(id) => Err(TokenError::UnknownKey),
            0 => Err(TokenError::Algorithm),
            1..=KEY_TRIES_MAX => Ok(fitting),
            _ => Err(TokenError::KeyIdMissing),
        }
    }
}

fn signed_by(key: &Key, signature: &str, message: &str, algorithm: Algorithm) -> bool {
    crypto::verify(signature, message.as_bytes(), &key.material, algorithm).unwrap_or(false)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
