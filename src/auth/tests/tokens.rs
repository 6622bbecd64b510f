//! From tokens to identities.

use std::time::Duration;

use super::*;
use crate::{
    auth::keys::{MintError, mint},
    config::settings::Secret,
    limits::{TOKEN_BYTES_MAX, USER_ID_BYTES_MAX},
};

#[test]
fn every_kind_of_key_verifies_every_algorithm_of_its_kind() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let cases: [(&Signer, &[Algorithm]); 4] = [
        (&RSA, &[RS256, RS384, RS512, PS256, PS384, PS512]),
        (&P256, &[ES256]),
        (&P384, &[ES384]),
        (&ED, &[EdDSA]),
    ];
    for (signer, algorithms) in cases {
        let from_pem = verifier(KeySet::pem(&signer.pair.public_key_pem()).unwrap());
        let from_jwks = verifier(jwks(&[signer.jwk("one")]));
        for algorithm in algorithms {
            let token = signer.token(*algorithm, json!({"kid": "one"}), &claims());
            for verifier in [&from_pem, &from_jwks] {
                assert_eq!(user(verifier.verify(&token, NOW)), Ok("user-1".into()), "{algorithm:?}");
            }
        }
    }
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let token = sign(&json!({ "alg": algorithm }), &claims().to_string(), &secret, algorithm);
        assert!(by_secret().verify(&token, NOW).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn the_algorithm_is_configuration_s_and_never_the_token_s() {
    let rsa = verifier(KeySet::pem(&RSA.pair.public_key_pem()).unwrap());
    for name in ["none", "nOnE", "None", "", "RS1", "HS256 ", "dir"] {
        let unsigned =
            format!("{}.{}.", encode(json!({"alg": name}).to_string()), encode(claims().to_string()));
        assert_eq!(by_secret().verify(&unsigned, NOW), Err(TokenError::Algorithm), "{name}");
        assert_eq!(rsa.verify(&unsigned, NOW), Err(TokenError::Algorithm), "{name}");
    }
    // RS/HS confusion: the public key as a shared secret, in the forms that an attacker may guess.
    let pem = RSA.pair.public_key_pem();
    for guess in [pem.as_bytes(), pem.trim().as_bytes(), RSA.pair.public_key_raw()] {
        let forged = sign(
            &json!({"alg": "HS256"}),
            &claims().to_string(),
            &EncodingKey::from_secret(guess),
            Algorithm::HS256,
        );
        assert_eq!(rsa.verify(&forged, NOW), Err(TokenError::Algorithm));
    }
    // A label that the signature does not keep.
    assert_eq!(
        by_secret().verify(&hs256(json!({"alg": "HS512"}), &claims()), NOW),
        Err(TokenError::Signature)
    );
    // What configuration leaves out is out, however good the signature.
    let only_512 = Auth { algorithms: vec!["HS512".into()], ..auth() };
    let only_512 = Verifier::new(KeySet::secret(SECRET).unwrap(), &only_512).unwrap();
    assert_eq!(only_512.verify(&hs256(json!({}), &claims()), NOW), Err(TokenError::Algorithm));
    // The curve belongs to the key.
    let p256 = verifier(jwks(&[P256.jwk("one")]));
    let other = P384.token(Algorithm::ES384, json!({"kid": "one"}), &claims());
    assert_eq!(p256.verify(&other, NOW), Err(TokenError::Algorithm));
}

#[test]
fn times_are_whole_numbers_within_their_bounds() {
    let cases = [
        ("exp", json!(NOW_S + 60), Ok(())),
        ("exp", json!(253_402_300_799_u64), Ok(())),
        ("exp", json!((1_u64 << 53) - 1), Ok(())),
        ("exp", json!(1_u64 << 53), Err(TokenError::Claims)),
        ("exp", json!(u64::MAX), Err(TokenError::Claims)),
        ("exp", json!(NOW_S - 5), Ok(())),
        ("exp", json!(NOW_S - 6), Err(TokenError::Expired)),
        ("exp", json!(0), Err(TokenError::Expired)),
        ("exp", json!((NOW_S + 60).to_string()), Err(TokenError::Claims)),
        ("exp", json!(-1), Err(TokenError::Claims)),
        ("exp", json!((NOW_S + 60) as f64), Err(TokenError::Claims)),
        ("exp", json!(null), Err(TokenError::Claims)),
        ("exp", json!([NOW_S + 60]), Err(TokenError::Claims)),
        ("nbf", json!(NOW_S), Ok(())),
        ("nbf", json!(NOW_S + 5), Ok(())),
        ("nbf", json!(NOW_S + 6), Err(TokenError::NotYetValid)),
        ("nbf", json!((1_u64 << 53) - 1), Err(TokenError::NotYetValid)),
        ("nbf", json!(1_u64 << 53), Err(TokenError::Claims)),
        ("nbf", json!("9999999999"), Err(TokenError::Claims)),
        ("nbf", json!(null), Err(TokenError::Claims)),
        ("nbf", json!(1.5), Err(TokenError::Claims)),
        ("iat", json!(NOW_S + 5), Ok(())),
        ("iat", json!(NOW_S + 6), Err(TokenError::IssuedInFuture)),
        ("iat", json!(1_u64 << 53), Err(TokenError::Claims)),
        ("iat", json!("now"), Err(TokenError::Claims)),
    ];
    for (name, value, expected) in cases {
        let token = hs256(json!({}), &with(name, value.clone()));
        assert_eq!(by_secret().verify(&token, NOW).map(drop), expected, "{name}: {value}");
    }
    assert_eq!(by_secret().verify(&hs256(json!({}), &json!({"sub": "a"})), NOW), Err(TokenError::Claims));
}

#[test]
fn leeway_and_longest_lifetime_are_configuration_s() {
    let strict = Auth { leeway: Duration::ZERO, lifetime_max: Some(Duration::from_secs(3_600)), ..auth() };
    let strict = Verifier::new(KeySet::secret(SECRET).unwrap(), &strict).unwrap();
    for (exp, expected) in [
        (NOW_S, Ok(())),
        (NOW_S - 1, Err(TokenError::Expired)),
        (NOW_S + 3_600, Ok(())),
        (NOW_S + 3_601, Err(TokenError::LifetimeTooLong)),
        (253_402_300_799, Err(TokenError::LifetimeTooLong)),
    ] {
        let token = hs256(json!({}), &with("exp", json!(exp)));
        assert_eq!(strict.verify(&token, NOW).map(drop), expected, "{exp}");
    }
    // The clock is the caller's.
    let later = NOW.after(Duration::from_secs(61));
    assert_eq!(strict.verify(&hs256(json!({}), &claims()), later), Err(TokenError::Expired));
}

#[test]
fn audience_and_issuer_have_to_match_when_configured() {
    let rules = Auth { audience: Some("usher".into()), issuer: Some("https://id.example".into()), ..auth() };
    let rules = Verifier::new(KeySet::secret(SECRET).unwrap(), &rules).unwrap();
    let iss = json!("https://id.example");
    for (aud, iss, expected) in [
        (json!("usher"), iss.clone(), Ok(())),
        (json!(["other", "usher"]), iss.clone(), Ok(())),
        (json!("other"), iss.clone(), Err(TokenError::Audience)),
        (json!(["other"]), iss.clone(), Err(TokenError::Audience)),
        (json!([]), iss.clone(), Err(TokenError::Audience)),
        (json!({"usher": true}), iss.clone(), Err(TokenError::Claims)),
        (json!(null), iss, Err(TokenError::Claims)),
        (json!("usher"), json!("https://id.example/"), Err(TokenError::Issuer)),
        (json!("usher"), json!(["https://id.example"]), Err(TokenError::Claims)),
    ] {
        let mut claims = with("aud", aud);
        claims["iss"] = iss;
        assert_eq!(rules.verify(&hs256(json!({}), &claims), NOW).map(drop), expected, "{claims}");
    }
    assert_eq!(rules.verify(&hs256(json!({}), &claims()), NOW), Err(TokenError::Audience));
    assert_eq!(rules.verify(&hs256(json!({}), &with("aud", json!("usher"))), NOW), Err(TokenError::Issuer));
}

#[test]
fn headers_that_bring_a_key_of_their_own_have_no_effect() {
    let foreign = Signer::new(Algorithm::ES256);
    let trusted = verifier(jwks(&[P256.jwk("one")]));
    let urls =
        json!({"kid": "one", "jku": "https://evil.example", "x5u": "https://evil.example", "x5c": ["MIIB"]});
    let mut own_key = urls.clone();
    own_key["jwk"] = foreign.jwk("one");
    for header in [urls, own_key] {
        let forged = foreign.token(Algorithm::ES256, header.clone(), &claims());
        assert_eq!(trusted.verify(&forged, NOW), Err(TokenError::Signature));
        assert!(trusted.verify(&P256.token(Algorithm::ES256, header, &claims()), NOW).is_ok());
    }
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!("x")] {
        let token = hs256(json!({ "crit": crit }), &claims());
        assert_eq!(by_secret().verify(&token, NOW), Err(TokenError::Critical), "{crit}");
    }
    assert_eq!(by_secret().verify(&hs256(json!({"crit": null}), &claims()), NOW), Err(TokenError::Critical));
}

#[test]
fn a_key_id_is_looked_up_and_nothing_else() {
    let known = verifier(jwks(&[P256.jwk("one"), ED.jwk("two")]));
    let signed = |kid: Value| P256.token(Algorithm::ES256, json!({ "kid": kid }), &claims());
    for (kid, expected) in [
        (json!("one"), Ok(())),
        (json!("two"), Err(TokenError::Algorithm)),
        (json!("three"), Err(TokenError::UnknownKey)),
        (json!(""), Err(TokenError::UnknownKey)),
        (json!("../../etc/passwd"), Err(TokenError::UnknownKey)),
        (json!("' OR 1=1 --"), Err(TokenError::UnknownKey)),
        (json!("k".repeat(65)), Err(TokenError::KeyIdTooLong)),
        (json!("k".repeat(5_000)), Err(TokenError::KeyIdTooLong)),
        (json!("k".repeat(10_240)), Err(TokenError::TooLong)),
        (json!(1), Err(TokenError::Malformed)),
        (json!(null), Err(TokenError::Malformed)),
    ] {
        assert_eq!(known.verify(&signed(kid.clone()), NOW).map(drop), expected, "{kid}");
    }
    // A secret has no name, so any name may be meant for it; beside named keys an unknown name stays unknown.
    assert!(by_secret().verify(&hs256(json!({"kid": "any"}), &claims()), NOW).is_ok());
    let mut both = jwks(&[P256.jwk("one")]);
    both.extend(&KeySet::secret("another").unwrap());
    let token = hs256(json!({"kid": "any"}), &claims());
    assert_eq!(verifier(both).verify(&token, NOW), Err(TokenError::UnknownKey));
}

#[test]
fn rotation_keeps_old_and_new_tokens_good() {
    let (old, new) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let rotated = verifier(jwks(&[new.jwk("new"), old.jwk("old")]));
    for (signer, kid) in [(&old, "old"), (&new, "new")] {
        assert!(rotated.verify(&signer.token(Algorithm::ES256, json!({"kid": kid}), &claims()), NOW).is_ok());
    }
}

#[test]
fn a_token_without_a_key_id_is_tried_on_few_keys() {
    let unnamed = |count: usize| {
        let mut set = KeySet::default();
        for n in 1..count {
            set.extend(&KeySet::secret(&format!("other {n}")).unwrap());
        }
        set.extend(&KeySet::secret(SECRET).unwrap());
        verifier(set)
    };
    let token = hs256(json!({}), &claims());
    assert!(unnamed(4).verify(&token, NOW).is_ok());
    assert_eq!(unnamed(5).verify(&token, NOW), Err(TokenError::KeyIdMissing));
    assert_eq!(verifier(KeySet::default()).verify(&token, NOW), Err(TokenError::Algorithm));
}

#[test]
fn what_is_no_token_is_refused_before_any_signature_is_looked_at() {
    let good = hs256(json!({}), &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let long = format!("{good}{}", "a".repeat(TOKEN_BYTES_MAX));
    for (token, expected) in [
        ("", TokenError::Malformed),
        ("a.b", TokenError::Malformed),
        ("a.b.c", TokenError::Malformed),
        ("a.b.c.d.e", TokenError::Malformed),
        ("....", TokenError::Malformed),
        (&long, TokenError::TooLong),
        (&format!("{}.{}", parts[0], parts[1]), TokenError::Malformed),
        (&format!("{good}.{}", parts[2]), TokenError::Malformed),
        (&format!("{}=.{}.{}", parts[0], parts[1], parts[2]), TokenError::Malformed),
        (&format!("{}.{}.", parts[0], parts[1]), TokenError::Signature),
        (&format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]), TokenError::Signature),
        (&format!("{}.{}.{}\u{e9}", parts[0], parts[1], parts[2]), TokenError::Signature),
        (&format!("{}.{}.{}", encode("[\"HS256\"]"), parts[1], parts[2]), TokenError::Malformed),
        (
            &format!("{}.{}.{}", encode("{\"alg\":\"HS256\",\"alg\":\"none\"}"), parts[1], parts[2]),
            TokenError::Malformed,
        ),
    ] {
        assert_eq!(by_secret().verify(token, NOW), Err(expected), "{token:.80}");
    }
}

#[test]
fn claims_given_twice_or_as_a_list_are_refused() {
    let exp = NOW_S + 60;
    for text in [
        format!(r#"{{"sub":"a","sub":"b","exp":{exp}}}"#),
        format!(r#"{{"sub":"a","exp":1,"exp":{exp}}}"#),
        format!(r#"[{exp}]"#),
        format!(r#"{{"sub":"a","exp":{exp}}} trailing"#),
        "null".into(),
        String::new(),
    ] {
        assert_eq!(by_secret().verify(&hs256_text(json!({}), &text), NOW), Err(TokenError::Claims), "{text}");
    }
}

#[test]
fn the_user_is_sub_else_user_id_else_user_id_in_camel_case() {
    let exp = NOW_S + 60;
    for (claims, expected) in [
        (json!({"exp": exp, "sub": "a", "user_id": "b", "userId": "c"}), Ok("a")),
        (json!({"exp": exp, "user_id": "b", "userId": "c"}), Ok("b")),
        (json!({"exp": exp, "userId": "c"}), Ok("c")),
        (json!({"exp": exp, "userId": 42}), Ok("42")),
        (json!({"exp": exp, "sub": u64::MAX}), Ok("18446744073709551615")),
        (json!({"exp": exp, "sub": "a\u{e9}\"\\"}), Ok("a\u{e9}\"\\")),
        (json!({"exp": exp}), Err(TokenError::User)),
        (json!({"exp": exp, "sub": ""}), Err(TokenError::User)),
        (json!({"exp": exp, "sub": "", "user_id": "b"}), Err(TokenError::User)),
        (json!({"exp": exp, "sub": "u".repeat(USER_ID_BYTES_MAX + 1)}), Err(TokenError::User)),
        (json!({"exp": exp, "sub": "ann\r\nbob"}), Err(TokenError::User)),
        (json!({"exp": exp, "userId": "\u{9b}31m"}), Err(TokenError::User)),
        (json!({"exp": exp, "sub": null, "user_id": "b"}), Err(TokenError::Claims)),
        (json!({"exp": exp, "sub": 1.5}), Err(TokenError::Claims)),
        (json!({"exp": exp, "sub": {"id": 1}}), Err(TokenError::Claims)),
    ] {
        let verified = user(by_secret().verify(&hs256(json!({}), &claims), NOW));
        assert_eq!(verified, expected.map(String::from), "{claims}");
    }
}

#[test]
fn the_identity_has_expiry_and_rooms() {
    let identity =
        by_secret().verify(&hs256(json!({}), &with("rooms", json!(["vip:*", "private:7"]))), NOW).unwrap();
    assert_eq!(identity.expires_at_ms, (NOW_S + 60) * 1_000);
    assert_eq!(*identity.rooms, [Box::from("vip:*"), Box::from("private:7")]);
    for (rooms, expected) in [
        (json!(vec!["r"; 64]), Ok(())),
        (json!(vec!["r"; 65]), Err(TokenError::Rooms)),
        (json!([""]), Err(TokenError::Rooms)),
        (json!(["r".repeat(129)]), Err(TokenError::Rooms)),
        (json!("vip:*"), Err(TokenError::Claims)),
        (json!([1]), Err(TokenError::Claims)),
    ] {
        let token = hs256(json!({}), &with("rooms", rooms.clone()));
        assert_eq!(by_secret().verify(&token, NOW).map(drop), expected, "{rooms}");
    }
}

#[test]
fn refresh_tokens_have_a_secret_of_their_own_where_one_is_configured() {
    let rules = Auth { refresh_secret: Some(Secret("for refresh".into())), ..auth() };
    let rules = Verifier::new(KeySet::secret(SECRET).unwrap(), &rules).unwrap();
    let day = Duration::from_secs(86_400);
    let access = mint(SECRET, "a", day, NOW, &[]).unwrap();
    let refresh = mint("for refresh", "a", day, NOW, &[]).unwrap();
    assert!(rules.verify(&access, NOW).is_ok() && rules.verify_refresh(&refresh, NOW).is_ok());
    assert_eq!(rules.verify(&refresh, NOW), Err(TokenError::Signature));
    assert_eq!(rules.verify_refresh(&access, NOW), Err(TokenError::Signature));
    assert!(by_secret().verify_refresh(&access, NOW).is_ok());
}

#[test]
fn a_minted_token_says_what_was_asked() {
    let rooms = ["vip:*".to_owned()];
    let token = mint(SECRET, "user-7", Duration::from_secs(3_600), NOW, &rooms).unwrap();
    let identity = by_secret().verify(&token, NOW).unwrap();
    assert_eq!((&*identity.user, identity.expires_at_ms), ("user-7", (NOW_S + 3_600) * 1_000));
    assert_eq!(*identity.rooms, [Box::from("vip:*")]);
    assert!(matches!(mint(SECRET, "", Duration::ZERO, NOW, &[]), Err(MintError::User)));
}
