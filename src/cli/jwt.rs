//! Making tokens: `usher token`, and the one of a development run.

use std::{process::ExitCode, time::Duration};

use clap::ArgMatches;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::{EXIT_USAGE, fail, say};
use crate::{
    clock::Now,
    config::{
        duration,
        resolve::Resolved,
        settings::{Auth, KeySource, Secret},
    },
    identity::is_user_id,
    limits::{TOKEN_BYTES_MAX, USER_ID_BYTES_MAX},
};

/// Prints a token and nothing else, so that `$(usher token …)` is one.
pub(super) fn execute(matches: &ArgMatches, resolved: &Resolved) -> ExitCode {
    match requested(matches, &resolved.settings.auth) {
        Ok(token) => {
            say(&format!("{token}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(error, EXIT_USAGE),
    }
}

/// Why no token was made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MintError {
    #[error(
        "there is no secret to sign with. A gateway that is given none makes one for each run and prints a token with it. \
         For tokens from here, start the gateway with JWT_SECRET=<TEXT> and give this command the same: in the \
         environment, in the file of --config, or as --secret"
    )]
    NoSecret,
    #[error(
        "there is no secret to sign with: this gateway's tokens are signed with a private key that it does not have. \
         Whoever has it makes them; with JWT_SECRET beside it, or --secret, this command could"
    )]
    Elsewhere,
    #[error("--user must be 1 to {USER_ID_BYTES_MAX} bytes without control characters")]
    User,
    #[error("--expires is longer than JWT_MAX_LIFETIME ({0}), so the gateway would refuse the token")]
    TooLong(String),
    #[error("the token would be longer than {TOKEN_BYTES_MAX} bytes")]
    TooLarge,
    #[error("cannot sign: {0}")]
    Sign(String),
}

fn requested(matches: &ArgMatches, auth: &Auth) -> Result<String, MintError> {
    let given = matches.get_one::<String>("secret").cloned().map(Secret);
    let missing = || if auth.keys.is_empty() { MintError::NoSecret } else { MintError::Elsewhere };
    let secret = given.or_else(|| secret_of(auth).cloned()).ok_or_else(missing)?;
    let user = matches.get_one::<String>("user").map_or("", String::as_str);
    let rooms = matches.get_many::<String>("rooms").into_iter().flatten().cloned().collect();
    let lifetime = matches.get_one::<Duration>("expires").copied().unwrap_or_default();
    mint(&Wanted { user, rooms, lifetime }, &secret, auth, Now::read())
}

/// What a token shall say.
pub(super) struct Wanted<'a> {
    /// 1 to 256 bytes.
    pub(super) user: &'a str,
    /// Globs; empty: no such claim.
    pub(super) rooms: Vec<String>,
    /// From now to `exp`.
    pub(super) lifetime: Duration,
}

/// RFC 7519 §4.1, with the claims that the gateway acts on.
#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rooms: &'a [String],
}

/// Makes a token that a gateway with these settings accepts.
pub(super) fn mint(wanted: &Wanted<'_>, secret: &Secret, auth: &Auth, now: Now) -> Result<String, MintError> {
    if !is_user_id(wanted.user) {
        return Err(MintError::User);
    }
    if let Some(max) = auth.lifetime_max.filter(|max| wanted.lifetime > *max) {
        return Err(MintError::TooLong(duration::show(max)));
    }
    let iat = now.wall_ms / 1_000;
    let claims = Claims {
        sub: wanted.user,
        iat,
        exp: iat.saturating_add(wanted.lifetime.as_secs()),
        aud: auth.audience.as_deref(),
        iss: auth.issuer.as_deref(),
        rooms: &wanted.rooms,
    };
    let key = EncodingKey::from_secret(secret.0.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(algorithm(auth)), &claims, &key)
        .map_err(|error| MintError::Sign(error.to_string()))?;
    if token.len() > TOKEN_BYTES_MAX { Err(MintError::TooLarge) } else { Ok(token) }
}

/// The first shared-secret algorithm that is allowed.
fn algorithm(auth: &Auth) -> Algorithm {
    let known = [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)];
    let allowed =
        |name: &str| auth.algorithms.is_empty() || auth.algorithms.iter().any(|known| known == name);
    known.into_iter().find(|(name, _)| allowed(name)).map_or(Algorithm::HS256, |(_, algorithm)| algorithm)
}

/// The shared secret, where there is one.
pub(super) fn secret_of(auth: &Auth) -> Option<&Secret> {
    auth.keys.iter().find_map(|source| match source {
        KeySource::Secret(secret) => Some(secret),
        KeySource::Pem(_) | KeySource::JwksFile(_) | KeySource::JwksUrl { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Settings;

    const NOW: Now = Now { mono_ns: 0, wall_ms: 1_700_000_000_500 };

    fn auth() -> Auth {
        Settings::default().auth
    }

    fn wanted(user: &str) -> Wanted<'_> {
        Wanted { user, rooms: Vec::new(), lifetime: Duration::from_secs(3_600) }
    }

    fn claims(token: &str, algorithm: Algorithm) -> Value {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(b"secret");
        jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims
    }

    #[test]
    fn a_token_says_who_and_until_when() {
        let token = mint(&wanted("alice"), &Secret("secret".into()), &auth(), NOW).unwrap();
        let expected = json!({"sub": "alice", "iat": 1_700_000_000_u64, "exp": 1_700_003_600_u64});
        assert_eq!(claims(&token, Algorithm::HS256), expected);
    }

    #[test]
    fn a_token_carries_what_the_gateway_asks_for() {
        let mut auth = auth();
        auth.audience = Some("shop".into());
        auth.issuer = Some("login".into());
        auth.algorithms = vec!["RS256".into(), "HS512".into()];
        let wanted = Wanted { rooms: vec!["private:a*".into()], ..wanted("alice") };
        let token = mint(&wanted, &Secret("secret".into()), &auth, NOW).unwrap();
        let claims = claims(&token, Algorithm::HS512);
        assert_eq!((&claims["aud"], &claims["iss"]), (&json!("shop"), &json!("login")));
        assert_eq!(claims["rooms"], json!(["private:a*"]));
    }

    #[test]
    fn a_token_that_would_be_refused_is_not_made() {
        let mut auth = auth();
        auth.lifetime_max = Some(Duration::from_secs(60));
        let secret = Secret("secret".into());
        assert_eq!(mint(&wanted("a"), &secret, &auth, NOW), Err(MintError::TooLong("1m".into())));
        assert_eq!(mint(&wanted(""), &secret, &auth, NOW), Err(MintError::User));
        assert_eq!(mint(&wanted(&"a".repeat(257)), &secret, &auth, NOW), Err(MintError::User));
    }
}
