use std::time::Duration;

use super::*;
use crate::{
    auth::{KeySet, keys::mint},
    net::http::parse_head,
};

/// The sample handshake of RFC 6455 §1.3, path and fields to be filled in.
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const NOW: Now = Now { mono_ns: 0, wall_ms: 1_800_000_000_000 };

fn request(target: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn good(target: &str, more: &[&str]) -> String {
    request(target, &[&["Upgrade: websocket", "Connection: Upgrade", KEY, VERSION], more].concat())
}

fn settings() -> Settings {
    Settings::default()
}

/// What a request leads to, in words; tokens and subprotocols shown.
fn outcome(request: &str, settings: &Settings) -> String {
    let head = match parse_head(request.as_bytes()) {
        Ok(head) => head.expect("a whole head"),
        Err(answer) => return answer.status.to_string(),
    };
    match route(&head, settings) {
        Ok(Route::Upgrade(upgrade)) => {
            assert_eq!(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            let token = upgrade.token.map(|token| format!(" {:?}={}", token.source, token.text));
            let subprotocol = upgrade.subprotocol.map(|name| format!(" selects {name}"));
            format!("{:?}{}{}", upgrade.dialect, token.unwrap_or_default(), subprotocol.unwrap_or_default())
        }
        Ok(route) => format!("{route:?}"),
        Err(answer) => {
            assert!(answer.close);
            answer.status.to_string()
        }
    }
}

#[test]
fn a_path_leads_where_the_contract_says() {
    let raw = Settings {
        client: crate::config::settings::Client { dialect: Dialect::Raw, ..settings().client },
        ..settings()
    };
    let mut metrics = settings();
    metrics.listen.metrics_on_client_port = true;
    for (target, settings, expected) in [
        ("/ws", &settings(), "Ticketing"),
        ("/ws?x=y", &settings(), "Ticketing"),
        ("/ws", &raw, "Raw"),
        ("/ws/raw", &settings(), "Raw"),
        ("/ws/ticketing", &raw, "Ticketing"),
        ("/health", &settings(), "Health"),
        ("/health?verbose", &settings(), "Health"),
        ("/.well-known/jwks.json", &settings(), "Jwks"),
        ("/.well-known/other", &settings(), "404"),
        ("/ready", &settings(), "Ready"),
        ("/stats", &settings(), "Stats"),
        ("/metrics", &settings(), "404"),
        ("/metrics", &metrics, "Metrics"),
        ("/", &settings(), "404"),
        ("/ws/", &settings(), "404"),
        ("/WS", &settings(), "404"),
        ("/ws/rooms", &settings(), "404"),
        ("/ws/../health", &settings(), "404"),
        ("/ws%00", &settings(), "404"),
        ("/%77s", &settings(), "404"),
        ("//ws", &settings(), "404"),
        ("/etc/passwd", &settings(), "404"),
        ("/ws#x", &settings(), "404"),
    ] {
        assert_eq!(outcome(&good(target, &[]), settings), expected, "{target}");
    }
}

#[test]
fn a_handshake_is_checked_field_by_field() {
    let upgrade = "Upgrade: websocket";
    let connection = "Connection: Upgrade";
    let cases: [(&[&str], &str); 25] = [
        (&[upgrade, connection, KEY, VERSION], "Ticketing"),
        (&["upgrade: WebSocket", "connection: keep-alive, UPGRADE", KEY, VERSION], "Ticketing"),
        (&["Upgrade: h2c, websocket", connection, KEY, VERSION], "Ticketing"),
        (&[upgrade, "Connection: keep-alive", connection, KEY, VERSION], "Ticketing"),
        (&[KEY, VERSION], "426"),
        (&[upgrade, KEY, VERSION], "426"),
        (&[connection, KEY, VERSION], "426"),
        (&[upgrade, "Connection: keep-alive", KEY, VERSION], "426"),
        (&["Upgrade: websockets", connection, KEY, VERSION], "426"),
        (&["Upgrade: h2c", connection, KEY, VERSION], "426"),
        (&[upgrade, connection, KEY], "426"),
        (&[upgrade, connection, KEY, "Sec-WebSocket-Version: 8"], "426"),
        (&[upgrade, connection, KEY, "Sec-WebSocket-Version: 13, 8"], "426"),
        (&[upgrade, connection, KEY, "Sec-WebSocket-Version: 013"], "426"),
        (&[upgrade, connection, KEY, VERSION, VERSION], "426"),
        (&[upgrade, connection, VERSION], "400"),
        (&[upgrade, connection, VERSION, KEY, KEY], "400"),
        (&[upgrade, connection, VERSION, "Sec-WebSocket-Key:"], "400"),
        (&[upgrade, connection, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], "400"),
        (&[upgrade, connection, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], "400"),
        (&[upgrade, connection, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXh4"], "400"),
        (&[upgrade, connection, VERSION, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="], "400"),
        (&[upgrade, connection, VERSION, "Sec-WebSocket-Key: ????????????????????????"], "400"),
        (&[upgrade, connection, KEY, VERSION, "Content-Length: 4"], "400"),
        (
            &[upgrade, connection, KEY, VERSION, "Sec-WebSocket-Extensions: permessage-deflate; =;;x=\""],
            "Ticketing",
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(outcome(&request("/ws", fields), &settings()), expected, "{fields:?}");
    }
}

#[test]
fn a_refused_handshake_says_what_is_needed() {
    for (fields, needed) in [
        (vec![KEY, VERSION], "\r\nUpgrade: websocket\r\n"),
        (vec!["Upgrade: websocket", "Connection: Upgrade", KEY], "\r\nSec-WebSocket-Version: 13\r\n"),
    ] {
        let request = request("/ws", &fields);
        let head = parse_head(request.as_bytes()).unwrap().unwrap();
        let text = String::from_utf8(route(&head, &settings()).unwrap_err().encode()).unwrap();
        assert!(text.contains(needed) && text.contains("\r\nConnection: Upgrade, close\r\n"), "{text}");
    }
    let request = good("/ws", &[]).replace("GET", "HEAD");
    let head = parse_head(request.as_bytes()).unwrap().unwrap();
    let answer = route(&head, &settings()).unwrap_err();
    assert_eq!((answer.status, answer.head_only), (405, true));
}

#[test]
fn data_before_the_answer_is_refused() {
    let early = format!("{}\u{1}", good("/ws", &[]));
    assert_eq!(outcome(&early, &settings()), "400");
    // A second request after the first is the listener's business.
    let pipelined = request("/health", &[]).repeat(2);
    assert_eq!(outcome(&pipelined, &settings()), "Health");
}

#[test]
fn only_listed_origins_pass_and_programs_without_one() {
    let mut listed = settings();
    listed.auth.allowed_origins = vec!["https://good.example".into()];
    for (fields, expected) in [
        (vec![], "Ticketing"),
        (vec!["Origin: https://good.example"], "Ticketing"),
        (vec!["Origin: https://evil.example"], "403"),
        (vec!["Origin: null"], "403"),
        (vec!["Origin: https://good.example.evil"], "403"),
        (vec!["Origin: https://good.example", "Origin: https://good.example"], "403"),
        (vec!["Origin: https://good.\u{e9}xample"], "403"),
    ] {
        assert_eq!(outcome(&good("/ws", &fields), &listed), expected, "{fields:?}");
    }
    assert_eq!(outcome(&good("/ws", &["Origin: https://evil.example"]), &settings()), "Ticketing");
}

#[test]
fn the_first_place_that_has_a_token_decides() {
    let cases: [(&str, &[&str], &str); 16] = [
        (
            "/ws?token=q",
            &["Authorization: Bearer h", "Sec-WebSocket-Protocol: bearer, p"],
            "Header=h selects bearer",
        ),
        ("/ws?token=q", &["Sec-WebSocket-Protocol: bearer, p"], "Subprotocol=p selects bearer"),
        ("/ws?token=q", &[], "Query=q"),
        ("/ws?a=b&token=a%2Eb%2dc&token=second", &[], "Query=a.b-c"),
        ("/ws?token=", &[], ""),
        ("/ws?token", &[], ""),
        ("/ws?Token=q", &[], ""),
        ("/ws?token=%ff%00", &[], "Query=\u{fffd}\0"),
        ("/ws", &["Authorization: bearer  h"], "Header=h"),
        ("/ws", &["Authorization: Bearer one", "Authorization: Bearer two"], "Header=one"),
        ("/ws", &["Authorization: Basic eDp5", "Authorization: Bearer h"], "Header=h"),
        ("/ws?token=q", &["Authorization: Basic eDp5"], "Query=q"),
        ("/ws?token=q", &["Authorization: Bearer "], "Query=q"),
        ("/ws", &["Authorization: Bearerh"], ""),
        ("/ws", &["Sec-WebSocket-Protocol: bearer"], ""),
        (
            "/ws",
            &["Sec-WebSocket-Protocol: bearer", "sec-websocket-protocol: p"],
            "Subprotocol=p selects bearer",
        ),
    ];
    for (target, fields, expected) in cases {
        let expected = format!("Ticketing {expected}");
        assert_eq!(outcome(&good(target, fields), &settings()), expected.trim_end(), "{target} {fields:?}");
    }
    assert_eq!(outcome(&good("/ws", &["Authorization: Bearer \u{e9}"]), &settings()), "400");
}

#[test]
fn subprotocols_choose_the_dialect_and_are_answered_only_when_meant() {
    let many = format!("{}usher.raw.v1", "x,".repeat(1_000));
    let seven = format!("{}usher.raw.v1", "x,".repeat(7));
    let spaces = format!("{}usher.raw.v1", " ".repeat(6_000));
    for (target, offer, expected) in [
        ("/ws", "usher.raw.v1", "Raw selects usher.raw.v1"),
        ("/ws", "usher.ticketing.v1, usher.raw.v1", "Ticketing selects usher.ticketing.v1"),
        ("/ws", "chat, usher.raw.v1", "Raw selects usher.raw.v1"),
        ("/ws", "chat", "Ticketing"),
        ("/ws", "USHER.RAW.V1", "Ticketing"),
        ("/ws", ",,, ,", "Ticketing"),
        ("/ws", "usher.rooms.v1", "Ticketing"),
        ("/ws/raw", "usher.ticketing.v1", "Raw"),
        ("/ws/raw", "usher.ticketing.v1, usher.raw.v1", "Raw selects usher.raw.v1"),
        ("/ws", "usher.raw.v1, bearer, p", "Raw Subprotocol=p selects bearer"),
        ("/ws", "bearer, p, usher.raw.v1", "Raw Subprotocol=p selects bearer"),
        ("/ws", "bearer, p, bearer, second", "Ticketing Subprotocol=p selects bearer"),
        ("/ws", &many, "Ticketing"),
        ("/ws", &seven, "Raw selects usher.raw.v1"),
        ("/ws", &spaces, "Raw selects usher.raw.v1"),
    ] {
        let field = format!("Sec-WebSocket-Protocol: {offer}");
        assert_eq!(outcome(&good(target, &[&field]), &settings()), expected, "{target} {offer:.60}");
    }
    let both = ["Authorization: Bearer h", "Sec-WebSocket-Protocol: bearer, p, usher.raw.v1"];
    assert_eq!(outcome(&good("/ws", &both), &settings()), "Raw Header=h selects usher.raw.v1");
}

#[test]
fn a_connection_is_let_in_as_its_token_and_the_settings_say() {
    let token = mint("secret", "user-1", Duration::from_secs(60), NOW, &[]).unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let verifier = Verifier::new(KeySet::secret("secret").unwrap(), &settings().auth).unwrap();
    let ask = |fields: &[&str], allow_anonymous, first_message| {
        let auth = Auth { allow_anonymous, first_message, ..settings().auth };
        let request = good("/ws", fields);
        let head = parse_head(request.as_bytes()).unwrap().unwrap();
        let Ok(Route::Upgrade(upgrade)) = route(&head, &settings()) else { panic!("no upgrade") };
        let identity = upgrade.authenticate(&verifier, &auth, NOW)?;
        Ok(identity.map(|identity| identity.user.to_string()))
    };
    assert_eq!(ask(&[&bearer], false, false), Ok(Some("user-1".into())));
    assert_eq!(ask(&[], true, false), Ok(None));
    assert_eq!(ask(&[], false, true), Ok(None));
    assert_eq!(ask(&[], false, false), Err(Unauthorised::Missing));
    // A bad token is no reason to let its bearer in as nobody.
    assert_eq!(ask(&["Authorization: Bearer x"], true, true), Err(TokenError::Malformed.into()));
    let text = String::from_utf8(Unauthorised::Missing.answer().encode()).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 401 Unauthorized\r\n")
            && text.contains("\r\nWWW-Authenticate: Bearer\r\n")
    );
}

#[test]
fn who_will_resume_says_so_in_the_query() {
    for (target, waits) in [
        ("/ws", false),
        ("/ws?resume=wait", true),
        ("/ws?token=a&resume=wait", true),
        ("/ws?resume=no&resume=wait", true),
        ("/ws/ticketing?resume=wai%74", true),
        ("/ws?resume", false),
        ("/ws?resume=", false),
        ("/ws?resume=waiting", false),
        ("/ws?resume=WAIT", false),
        ("/ws?presume=wait", false),
    ] {
        let request = good(target, &[]);
        let head = parse_head(request.as_bytes()).unwrap().unwrap();
        let Ok(Route::Upgrade(upgrade)) = route(&head, &settings()) else { panic!("{target}") };
        assert_eq!(upgrade.resume_waits, waits, "{target}");
    }
}

#[test]
fn a_token_shows_in_no_debug_form() {
    let request = good("/ws?token=canary", &[]);
    let head = parse_head(request.as_bytes()).unwrap().unwrap();
    let upgrade = route(&head, &settings()).unwrap();
    assert!(!format!("{upgrade:?}").contains("canary"));
}

#[test]
fn the_answer_is_the_one_of_the_rfc() {
    assert_eq!(
        String::from_utf8(response("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Some("usher.raw.v1"), None)).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: usher.raw.v1\r\n\r\n"
    );
    assert!(response("x", None, None).ends_with(b"Sec-WebSocket-Accept: x\r\n\r\n"));
}

#[test]
fn compression_is_accepted_only_where_it_is_on_and_offered() {
    let mut on = settings();
    on.client.compression = true;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    let ask = |fields: &[&str], settings: &Settings| {
        let request = good("/ws", fields);
        let head = parse_head(request.as_bytes()).unwrap().unwrap();
        let Ok(Route::Upgrade(upgrade)) = route(&head, settings) else { panic!("no upgrade") };
        String::from_utf8(response(&upgrade.accept, None, upgrade.deflate)).unwrap()
    };
    let extensions = "Sec-WebSocket-Extensions";
    assert!(!ask(&[offer], &settings()).contains(extensions));
    assert!(!ask(&[], &on).contains(extensions));
    assert!(!ask(&["Sec-WebSocket-Extensions: permessage-deflate; =;;x=\""], &on).contains(extensions));
    let answer = "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                  client_no_context_takeover\r\n\r\n";
    assert!(ask(&[offer], &on).ends_with(answer));
}
