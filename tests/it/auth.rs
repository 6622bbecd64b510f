//! Authentication (catalogue D and the table of cases): who gets in, as whom, and for how long.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{
    grpc::{Backend, to_user},
    keys::{SECRET, base64url, claims, hand_made, in_seconds, sign, token, token_for},
    server::Server,
    ws::{Ask, Client},
};

const CLOSED_TO_STRANGERS: [(&str, &str); 1] = [("WS_ALLOW_ANONYMOUS", "false")];
const LOGIN_COMES_FIRST: [(&str, &str); 2] =
    [("WS_ALLOW_ANONYMOUS", "false"), ("AUTH_FIRST_MESSAGE", "true")];

fn bearer(token: &str) -> Ask {
    Ask::to("/ws").bearer(token)
}

fn login(client: &mut Client, token: &str) -> (String, Value) {
    client.request("auth:login", &json!({"token": token}))
}

// --- five ways to bring a token ---

#[test]
fn a_token_comes_in_a_header_a_subprotocol_a_query_or_a_first_message() {
    let server = Server::with(&LOGIN_COMES_FIRST);
    let token = server.token("ann");
    let asks = [
        bearer(&token),
        Ask::to("/ws").header(&format!("authorization: bearer {token}")),
        Ask::to("/ws").header(&format!("Sec-WebSocket-Protocol: bearer, {token}")),
        Ask::to(&format!("/ws?token={token}")),
        Ask::to(&format!("/ws?a=b&token={}&c", token.replace('.', "%2E"))),
    ];
    for ask in asks {
        let client = server.ask(&ask).greeted();
        assert_eq!(client.connected["user_id"], "ann", "{:?}", ask.headers);
        assert_eq!(client.connected["authenticated"], true);
    }
    let mut client = server.ask(&Ask::to("/ws"));
    client.send("auth:login", &json!({"token": token}));
    let (first, second) = (client.message(), client.message());
    let kinds = [&first["type"], &second["type"]].map(|kind| kind.as_str().unwrap_or_default().to_owned());
    assert!(kinds.contains(&"auth:ok".to_owned()), "{first} {second}");
    assert!(
        first["payload"]["user_id"] == "ann" || second["payload"]["user_id"] == "ann",
        "{first} {second}"
    );
}

#[test]
fn the_bearer_subprotocol_is_selected_and_never_the_token() {
    let server = Server::start();
    let token = server.token("ann");
    let client = server.ask(&Ask::to("/ws").header(&format!("Sec-WebSocket-Protocol: bearer, {token}")));
    assert_eq!(client.upgrade.header("Sec-WebSocket-Protocol"), Some("bearer"));
}

#[test]
fn the_header_wins_over_the_subprotocol_over_the_query() {
    let server = Server::start();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| server.token(user));
    let protocol = format!("Sec-WebSocket-Protocol: bearer, {bob}");
    let ask = Ask::to(&format!("/ws?token={eve}")).header(&protocol);
    assert_eq!(server.ask(&ask).greeted().connected["user_id"], "bob");
    assert_eq!(server.ask(&ask.bearer(&ann)).greeted().connected["user_id"], "ann");
}

#[test]
fn the_user_is_sub_else_user_id_else_user_id_in_camel_case() {
    let server = Server::start();
    let exp = in_seconds(3600);
    let rows = [
        (json!({"sub": "a", "user_id": "b", "userId": "c", "exp": exp}), "a"),
        (json!({"user_id": "b", "userId": "c", "exp": exp}), "b"),
        (json!({"userId": "c", "exp": exp}), "c"),
        (json!({"sub": 42, "exp": exp}), "42"),
    ];
    for (claims, user) in rows {
        assert_eq!(server.ask(&bearer(&token(&claims))).greeted().connected["user_id"], user, "{claims}");
    }
}

// --- without a token ---

#[test]
fn strangers_are_let_in_unless_configured_otherwise() {
    let open = Server::start();
    let connected = open.connect().connected;
    assert_eq!((&connected["user_id"], &connected["authenticated"]), (&Value::Null, &json!(false)));
    assert!(connected["connection_id"].is_string() && connected["server_time"].is_u64(), "{connected}");
    assert_eq!(connected["ping_interval_ms"], 30_000);

    let closed = Server::with(&CLOSED_TO_STRANGERS);
    assert_eq!(closed.status_of(&Ask::to("/ws")), 401);
    assert_eq!(closed.status_of(&bearer("")), 401);
    assert_eq!(closed.status_of(&bearer(&closed.token("ann"))), 101);
}

/// D9
#[test]
fn a_first_login_has_five_seconds() {
    let server = Server::with(&LOGIN_COMES_FIRST);
    let mut silent = server.ask(&Ask::to("/ws"));
    assert_eq!(silent.expect_close().0, 4401);
}

#[test]
fn before_the_first_login_nothing_else_is_done() {
    let server = Server::with(&LOGIN_COMES_FIRST);
    let mut client = server.ask(&Ask::to("/ws"));
    client.send("room:join", &json!({"room": "event:1"}));
    login_must_close(&mut client, &token_for("ann"), false);
}

#[test]
fn a_bad_first_login_closes() {
    let server = Server::with(&LOGIN_COMES_FIRST);
    let mut client = server.ask(&Ask::to("/ws"));
    login_must_close(&mut client, "no.token.atall", true);
}

/// Logs in; `bad`: the token alone must close, else it is the message before that was wrong.
fn login_must_close(client: &mut Client, token: &str, bad: bool) {
    client.send("auth:login", &json!({"token": token}));
    let first = client.message();
    assert_ne!(first["type"], "room:joined", "{first}");
    if bad {
        assert_eq!(client.expect_close().0, 4401);
    }
}

// --- bad tokens ---

fn refused(rows: &[(&str, String)]) {
    let server = Server::start();
    for (what, token) in rows {
        let answer = server.try_ask(&bearer(token)).err().map(|answer| (answer.status, answer.text()));
        let (status, body) = answer.unwrap_or_else(|| panic!("{what} was let in"));
        assert_eq!(status, 401, "{what}: {body}");
        let told = token.split('.').any(|part| part.len() > 20 && body.contains(part));
        assert!(!told, "{what}: {body}");
    }
}

fn with(name: &str, value: Value) -> String {
    let mut claims = claims("ann");
    claims[name] = value;
    token(&claims)
}

/// D1
#[test]
fn the_algorithm_is_ours_to_choose() {
    let body = claims("ann").to_string();
    let unsigned = |header: &str| format!("{}.{}.", base64url(header.as_bytes()), base64url(body.as_bytes()));
    let other_key = EncodingKey::from_secret(b"another secret of another service");
    let good = token_for("ann");
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    refused(&[
        ("none", unsigned(r#"{"alg":"none"}"#)),
        ("nOnE", unsigned(r#"{"alg":"nOnE","typ":"JWT"}"#)),
        ("no algorithm", hand_made(r#"{"typ":"JWT"}"#, &body)),
        ("HS512 by label", hand_made(r#"{"alg":"HS512"}"#, &body)),
        ("RS256 by label", hand_made(r#"{"alg":"RS256"}"#, &body)),
        ("another key", sign(&Header::new(Algorithm::HS256), &claims("ann"), &other_key)),
        ("no signature", format!("{head}.")),
        ("half a signature", format!("{head}.{}", &signature[..20])),
    ]);
}

/// D2, D3
#[test]
fn times_are_whole_numbers_and_in_range() {
    let mut without = claims("ann");
    without.as_object_mut().expect("claims are an object").remove("exp");
    refused(&[
        ("no exp", token(&without)),
        ("exp a string", with("exp", json!(in_seconds(3600).to_string()))),
        ("exp negative", with("exp", json!(-1))),
        ("exp a fraction", with("exp", json!(in_seconds(3600) as f64 + 0.5))),
        ("exp null", with("exp", Value::Null)),
        ("exp beyond 2^53", with("exp", json!(1_u64 << 53))),
        ("expired, beyond the leeway", with("exp", json!(in_seconds(-7)))),
        ("nbf a string", with("nbf", json!("99999999999"))),
        ("nbf in the future", with("nbf", json!(in_seconds(3600)))),
        ("iat in the future", with("iat", json!(in_seconds(3600)))),
    ]);
    let server = Server::start();
    let good = [
        ("a far future", with("exp", json!(253_402_300_799_i64))),
        ("expired, within the leeway", with("exp", json!(in_seconds(-2)))),
        ("nbf within the leeway", with("nbf", json!(in_seconds(2)))),
    ];
    for (what, token) in good {
        assert_eq!(server.status_of(&bearer(&token)), 101, "{what}");
    }
}

#[test]
fn a_configured_life_time_is_the_longest() {
    let server = Server::with(&[("JWT_MAX_LIFETIME", "1h")]);
    assert_eq!(server.status_of(&bearer(&with("exp", json!(in_seconds(7_200))))), 401);
    assert_eq!(server.status_of(&bearer(&with("exp", json!(in_seconds(1_800))))), 101);
}

/// D4
#[test]
fn audience_and_issuer_are_required_where_configured() {
    let server = Server::with(&[("JWT_AUDIENCE", "usher"), ("JWT_ISSUER", "https://id.example")]);
    let status = |aud: Value, iss: Value| {
        let claims = json!({"sub": "ann", "exp": in_seconds(3600), "aud": aud, "iss": iss});
        server.status_of(&bearer(&token(&claims)))
    };
    let (us, id) = (json!("usher"), json!("https://id.example"));
    assert_eq!(status(us.clone(), id.clone()), 101);
    assert_eq!(status(json!(["other", "usher"]), id.clone()), 101);
    assert_eq!(status(json!("other"), id.clone()), 401);
    assert_eq!(status(json!(["other"]), id.clone()), 401);
    assert_eq!(status(Value::Null, id), 401);
    assert_eq!(status(us.clone(), json!("https://evil.example")), 401);
    assert_eq!(status(us, Value::Null), 401);
}

/// D4, D5
#[test]
fn headers_that_point_elsewhere_are_refused() {
    let body = claims("ann").to_string();
    let made = |header: &str| hand_made(header, &body);
    refused(&[
        ("crit", made(r#"{"alg":"HS256","crit":["exp"]}"#)),
        ("an empty crit", made(r#"{"alg":"HS256","crit":[]}"#)),
        ("four dots", format!("{}..", token_for("ann"))),
        ("one part", "abc".to_owned()),
        ("no base64", "a!b.c!d.e!f".to_owned()),
        ("claims that are no object", hand_made(r#"{"alg":"HS256"}"#, "[1]")),
        ("an empty user", with("sub", json!(""))),
        ("a user that is no name", with("sub", json!({"a": 1}))),
        ("a user of 124 bytes, whose room would have no name", with("sub", json!("u".repeat(124)))),
        ("a user with a line break", with("sub", json!("ann\r\nX-Evil: 1"))),
        ("a user with NUL", with("sub", json!("ann\0"))),
    ]);
}

/// D5
#[test]
fn key_ids_that_are_unknown_or_absurd_are_no_way_in() {
    let server = Server::start();
    let body = claims("ann").to_string();
    let long = "k".repeat(3_000);
    for kid in [long.as_str(), "../../etc/passwd", "' OR 1=1 --"] {
        let header =
            json!({"alg": "HS256", "kid": kid, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"});
        let status = server.status_of(&bearer(&hand_made(&header.to_string(), &body)));
        // A shared secret has no key id: a harmless one may be ignored, an overlong one may not.
        assert!(status == 401 || (kid != long && status == 101), "{status} {kid:.20}");
    }
    let huge = "a".repeat(9_000);
    assert!([401, 431].contains(&server.status_of(&bearer(&huge))));
    assert!([401, 414, 431].contains(&server.status_of(&Ask::to(&format!("/ws?token={huge}")))));
}

// --- while connected ---

/// D7
#[test]
fn a_connection_ends_when_its_token_has_expired() {
    let server = Server::with(&[("TOKEN_EXPIRY_GRACE", "0s")]);
    let mut client = server.ask(&bearer(&with("exp", json!(in_seconds(2))))).greeted();
    assert!(client.expect("auth:token_expiring")["expires_at"].is_number());
    assert_eq!(client.expect_close().0, 4401);
}

#[test]
fn a_refreshed_token_keeps_the_connection() {
    let server = Server::with(&[("TOKEN_EXPIRY_GRACE", "0s"), ("TOKEN_REFRESH_THRESHOLD", "1s")]);
    let mut client = server.ask(&bearer(&with("exp", json!(in_seconds(3))))).greeted();
    client.expect("auth:token_expiring");
    let (kind, payload) = client.request("auth:token_refresh", &json!({"token": server.token("ann")}));
    assert_eq!((kind.as_str(), &payload["user_id"]), ("auth:ok", &json!("ann")), "{payload}");
    let (_, again) =
        client.request("auth:token_refresh", &json!({"token": with("exp", json!(in_seconds(2)))}));
    assert!(again["expires_at"].as_u64() < payload["expires_at"].as_u64(), "{again} {payload}");
    client.expect("auth:token_expiring");
    assert_eq!(client.expect_close().0, 4401, "the newest token counts");
}

#[test]
fn a_refresh_is_for_the_same_user() {
    let server = Server::start();
    let mut client = server.connect_as("ann");
    let (kind, error) = client.request("auth:token_refresh", &json!({"token": server.token("eve")}));
    assert_eq!((kind.as_str(), &error["ref"]), ("system:error", &json!("auth:token_refresh")), "{error}");
    let mut eve = server.connect_as("eve");
    Backend::of(&server).send_to_user(to_user("ann", "notification:new", "{}")).expect("accepted");
    client.expect("notification:new");
    eve.expect_silence();
}

#[test]
fn a_refresh_secret_verifies_refreshes_alone() {
    let secret = "canary-refresh-secret-of-the-tests";
    let server = Server::with(&[("JWT_REFRESH_SECRET", secret)]);
    let key = EncodingKey::from_secret(secret.as_bytes());
    let fresh = server.remember(sign(&Header::new(Algorithm::HS256), &claims("ann"), &key));
    let mut client = server.connect_as("ann");
    assert_eq!(client.request("auth:token_refresh", &json!({"token": fresh})).0, "auth:ok");
    assert_eq!(server.status_of(&bearer(&fresh)), 401, "not for connecting");
    client.send("auth:token_refresh", &json!({"token": server.token("ann")}));
    client.expect("system:error");
    assert_eq!(client.expect_close().0, 4401);
    assert_ne!(secret, SECRET);
}

#[test]
fn a_stranger_may_log_in_later_and_a_bad_login_closes() {
    let server = Server::start();
    let mut client = server.connect();
    client.join("event:1");
    let (kind, payload) = login(&mut client, &server.token("ann"));
    assert_eq!((kind.as_str(), &payload["user_id"]), ("auth:ok", &json!("ann")));
    let (_, payload) = client.request("room:join", &json!({"room": "event:2"}));
    assert_eq!(payload["room"], "event:2");

    let mut other = server.connect();
    other.send("auth:login", &json!({"token": hand_made(r#"{"alg":"none"}"#, "{}")}));
    assert_eq!(other.expect("system:error")["ref"], "auth:login");
    assert_eq!(other.expect_close().0, 4401);
}

#[test]
fn logging_out_makes_a_stranger_or_closes() {
    let server = Server::start();
    let claims = json!({"sub": "ann", "exp": in_seconds(3600), "rooms": ["private:*"]});
    let mut client = server.ask(&bearer(&token(&claims))).greeted();
    client.join("private:club");
    client.join("event:1");
    client.text(r#"{"type":"auth:logout","id":1}"#);
    let mut left = Vec::new();
    let reply = loop {
        let message = client.message();
        match message["type"].as_str() {
            Some("room:left") => left.push(message["payload"]["room"].clone()),
            _ => break message,
        }
    };
    assert_eq!((&reply["type"], &reply["payload"]["user_id"]), (&json!("auth:ok"), &Value::Null), "{reply}");
    assert!(!left.contains(&json!("event:1")), "a public room is kept: {left:?}");
    let error = client.request("room:join", &json!({"room": "private:club"}));
    assert_eq!(error.0, "system:error");

    let closed = Server::with(&CLOSED_TO_STRANGERS);
    let mut client = closed.connect_as("ann");
    client.send("auth:logout", &Value::Null);
    assert_eq!(client.expect_close().0, 4401);
}

/// D8
#[test]
fn tokens_in_any_place_stay_out_of_the_log() {
    let server = Server::with(&[("LOG_LEVEL", "trace")]);
    let token = server.token("ann");
    let bad = server.remember(token.clone() + "x");
    for token in [&token, &bad] {
        server.status_of(&bearer(token));
        server.status_of(&Ask::to(&format!("/ws?token={token}")));
        server.status_of(&Ask::to("/ws").header(&format!("Sec-WebSocket-Protocol: bearer, {token}")));
        server.get(&format!("/nothing?token={token}"));
        server.raw(format!("GET /ws?token={token} HTTP/1.0\r\n\r\n").as_bytes());
        let mut client = server.connect();
        client.send("auth:login", &json!({"token": token}));
        client.message();
        let mut client = server.connect();
        client.text(&format!(r#"{{"type":"auth:login","payload":{{"token":"{token}"}}"#));
        client.message();
    }
    let metrics = server.admin("/metrics").text();
    assert!(!metrics.contains(&token), "{metrics}");
}
