//! JSON texts of clients (catalogue C): what cannot be understood is answered, and the connection lives on.

use serde_json::{Value, json};

use crate::support::server::Server;

/// Each text, and the code of the `system:error` that answers it.
fn check(rows: &[(&str, &str, &str)]) {
    let server = Server::start();
    for (what, text, code) in rows {
        let mut client = server.connect();
        client.text(text);
        assert_eq!(client.expect_error(), *code, "{what}");
        client.expect_silence();
    }
}

/// C1
#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"type":"system:ping","payload":{open}{close}}}"#)
    };
    check(&[
        ("33 levels", &nested(32), "invalid_json"),
        ("1 000 levels", &nested(1_000), "invalid_json"),
        ("30 000 levels", &nested(30_000), "invalid_json"),
        ("never closed", &"[".repeat(60_000), "invalid_json"),
    ]);
    let server = Server::start();
    let mut client = server.connect();
    client.text(&nested(31));
    client.expect("system:pong");
}

/// C2
#[test]
fn a_key_stands_once() {
    check(&[
        ("the type", r#"{"type":"system:ping","type":"room:join","payload":{"room":"a"}}"#, "invalid_json"),
        (
            "the room",
            r#"{"type":"room:join","payload":{"room":"event:1","room":"private:x"}}"#,
            "invalid_json",
        ),
        (
            "written differently",
            r#"{"type":"room:join","payload":{"room":"a","r\u006fom":"private:x"}}"#,
            "invalid_json",
        ),
        ("deep inside", r#"{"type":"system:ping","payload":[{"a":{"b":1,"b":2}}]}"#, "invalid_json"),
    ]);
}

/// C3
#[test]
fn numbers_pass_unchanged() {
    let server = Server::start();
    let mut client = server.connect();
    for number in ["1e308", "9007199254740993", "18446744073709551616", "-0", "1.0", "1E-2", "0.1000"] {
        client.text(&format!(r#"{{"type":"system:ping","id":{number},"payload":{{"n":{number}}}}}"#));
        let text = client.next_text();
        assert!(
            text.contains(&format!(r#""n":{number}}}"#)) && text.contains(&format!(r#""id":{number}"#)),
            "{text}"
        );
    }
    let not_numbers = ["1e999", "NaN", "Infinity", "01", "+1", ".5", "1.", "0x10", "1e"];
    for number in not_numbers {
        let mut client = server.connect();
        client.text(&format!(r#"{{"type":"system:ping","payload":{number}}}"#));
        assert_eq!(client.expect_error(), "invalid_json", "{number}");
    }
}

/// C4
#[test]
fn strings_and_keys_are_bounded_and_unicode() {
    let keys: Vec<String> = (0..10_000).map(|n| format!(r#""{n}":0"#)).collect();
    let long_key = "k".repeat(64_000);
    let long_kind = "t".repeat(129);
    check(&[
        ("a lone surrogate", r#"{"type":"room:join","payload":{"room":"\ud800"}}"#, "invalid_json"),
        ("NUL in a name", r#"{"type":"room:join","payload":{"room":"a\u0000b"}}"#, "invalid_room"),
        ("a raw control character", "{\"type\":\"system:ping\",\"payload\":\"\u{1}\"}", "invalid_json"),
        (
            "10 000 keys",
            &format!(r#"{{"type":"room:join","payload":{{{}}}}}"#, keys[..5_000].join(",")),
            "invalid_json",
        ),
        (
            "a key of 64 000 bytes",
            &format!(r#"{{"type":"room:join","payload":{{"{long_key}":1}}}}"#),
            "invalid_json",
        ),
        ("a long type", &format!(r#"{{"type":"{long_kind}"}}"#), "invalid_message"),
        ("an empty type", r#"{"type":""}"#, "invalid_message"),
    ]);
}

/// C5
#[test]
fn keys_that_javascript_minds_are_data() {
    let server = Server::start();
    let (mut ann, mut bob) = (server.connect_as("ann"), server.connect_as("bob"));
    ann.join("event:1");
    bob.join("event:1");
    ann.text(r#"{"type":"room:message","payload":{"room":"event:1","data":{"__proto__":{"a":1},"constructor":2}}}"#);
    let text = bob.next_text();
    assert!(text.contains(r#""data":{"__proto__":{"a":1},"constructor":2}"#), "{text}");
}

/// C6
#[test]
fn texts_are_whole_objects() {
    check(&[
        ("a byte order mark", "\u{feff}{\"type\":\"system:ping\"}", "invalid_json"),
        ("bytes behind", r#"{"type":"system:ping"} x"#, "invalid_json"),
        ("two objects", r#"{"type":"system:ping"}{"type":"system:ping"}"#, "invalid_json"),
        ("nothing", "", "invalid_json"),
        ("white space", "  \n ", "invalid_json"),
        ("cut off", r#"{"type":"system:ping""#, "invalid_json"),
        ("an array", r#"["system:ping"]"#, "invalid_json"),
        ("a string", r#""system:ping""#, "invalid_json"),
        ("a single quote", "{'type':'system:ping'}", "invalid_json"),
        ("a trailing comma", r#"{"type":"system:ping",}"#, "invalid_json"),
        ("a comment", r#"{"type":"system:ping"/**/}"#, "invalid_json"),
    ]);
}

#[test]
fn envelopes_and_payloads_are_checked() {
    check(&[
        ("no type", r#"{"payload":{}}"#, "invalid_message"),
        ("a type that is no string", r#"{"type":1}"#, "invalid_message"),
        ("an id that is an object", r#"{"type":"system:ping","id":{}}"#, "invalid_message"),
        ("an id that is null", r#"{"type":"system:ping","id":true}"#, "invalid_message"),
        ("no payload", r#"{"type":"room:join"}"#, "invalid_payload"),
        ("a payload that is no object", r#"{"type":"room:join","payload":[]}"#, "invalid_payload"),
        ("no room", r#"{"type":"room:join","payload":{}}"#, "invalid_payload"),
        ("a room that is no string", r#"{"type":"room:join","payload":{"room":7}}"#, "invalid_payload"),
        (
            "a status that is none",
            r#"{"type":"user:presence","payload":{"status":"asleep"}}"#,
            "invalid_payload",
        ),
        (
            "typing that is no bool",
            r#"{"type":"user:typing","payload":{"room":"a","typing":1}}"#,
            "invalid_payload",
        ),
        ("a login without token", r#"{"type":"auth:login","payload":{}}"#, "invalid_payload"),
        ("an unknown type", r#"{"type":"booking:confirmed","payload":{}}"#, "unknown_type"),
    ]);
}

#[test]
fn an_error_names_its_request() {
    let server = Server::start();
    let mut client = server.connect();
    client.text(r#"{"type":"room:join","id":"q7","payload":{"room":"no spaces"}}"#);
    let error = client.message();
    assert_eq!((&error["type"], &error["id"]), (&json!("system:error"), &json!("q7")), "{error}");
    assert_eq!(
        (&error["payload"]["code"], &error["payload"]["ref"]),
        (&json!("invalid_room"), &json!("room:join"))
    );
    assert!(error["payload"]["message"].is_string());
}

#[test]
fn the_tenth_message_that_cannot_be_understood_closes() {
    let server = Server::start();
    let mut client = server.connect();
    for _ in 0..10 {
        client.text("nonsense");
    }
    let mut errors = 0;
    let (code, _) = loop {
        match client.hear() {
            crate::support::ws::Heard::Text(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(message["type"], "system:error");
                errors += 1;
            }
            crate::support::ws::Heard::Close(code, reason) => break (code, reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 4400);
    assert!((9..=10).contains(&errors), "{errors}");
}

#[test]
fn a_ping_comes_back_with_whatever_it_carried() {
    let server = Server::start();
    let mut client = server.connect();
    for payload in [json!({"t": 1}), json!([1, null]), json!("x"), json!(null), json!(7)] {
        let (kind, back) = client.request("system:ping", &payload);
        assert_eq!((kind.as_str(), back), ("system:pong", payload));
    }
    client.text(r#"{"type":"system:ping"}"#);
    assert_eq!(client.expect("system:pong"), Value::Null);
    for kind in ["socket:connect", "socket:disconnect", "socket:reconnect"] {
        client.send(kind, &json!({}));
    }
    client.expect_silence();
}
