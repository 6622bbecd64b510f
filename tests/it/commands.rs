//! The commands beside the gateway itself, each as a person or a container types it.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    support::{
        keys::SECRET,
        look_until,
        server::{Server, command},
        ws::Ask,
    },
    tls,
};

/// Exit code, standard output and standard error.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = command();
    let output =
        command.args(arguments).envs(environment.iter().copied()).output().expect("the binary was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ended by itself"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_shows_values_origins_and_the_host_and_no_secret() {
    let environment = [("GRPC_AUTH_TOKEN", "canary-token"), ("PORT", "4004"), ("HTTP_PORT", "4003")];
    let (code, text, _) = run(&["check", "--ws-max-connections", "7"], &environment);
    assert_eq!(code, 0, "{text}");
    let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    assert!(
        line("WS_MAX_CONNECTIONS").contains('7')
            && line("WS_MAX_CONNECTIONS").contains("--ws-max-connections"),
        "{text}"
    );
    assert!(line("HTTP_PORT").contains("4003"), "{text}");
    for secret in [SECRET, "canary-token"] {
        assert!(!text.contains(secret), "{text}");
    }
    for host in ["descriptors", "memlock", "somaxconn", "io_uring", "cores"] {
        assert!(text.contains(host), "{host}\n{text}");
    }
    assert!(text.contains("memory"), "what the embedded store means is said\n{text}");
}

#[test]
fn check_names_every_mistake_and_fails() {
    let (code, _, errors) = run(&["check"], &[("HTTP_PORT", "many"), ("WS_PING_INTERVAL", "soon")]);
    assert_ne!(code, 0);
    assert!(errors.contains("HTTP_PORT") && errors.contains("WS_PING_INTERVAL"), "{errors}");
}

#[test]
fn a_made_token_opens_the_gateway() {
    let server = Server::start();
    let (code, token, errors) = run(&["token", "--user", "zoe", "--rooms", "private:*"], &[]);
    assert_eq!(code, 0, "{errors}");
    let token = server.remember(token.trim().to_owned());
    let mut client = server.ask(&Ask::to("/ws").bearer(&token)).greeted();
    assert_eq!(client.connected["user_id"], "zoe");
    client.join("private:club");
}

#[test]
fn who_can_not_make_a_token_is_told_what_to_do() {
    let (code, token, errors) = run(&["token", "--user", "zoe"], &[("JWT_SECRET", "")]);
    assert!(code == 2 && token.is_empty(), "{code} {token}");
    for hint in ["prints a token", "JWT_SECRET=", "--config", "--secret"] {
        assert!(errors.contains(hint), "{errors}");
    }
    let elsewhere = [("JWT_SECRET", ""), ("JWT_JWKS_URL", "https://keys.example/jwks")];
    let (code, _, errors) = run(&["token", "--user", "zoe"], &elsewhere);
    assert!(code == 2 && errors.contains("private key"), "{errors}");
}

#[test]
fn a_probe_says_healthy_or_fails() {
    let server = Server::start();
    let port = server.admin.port().to_string();
    let (code, text, _) = run(&["health"], &[("METRICS_PORT", &port)]);
    assert!(code == 0 && text.contains("healthy"), "{code} {text}");
    let (code, ..) = run(&["health", "--ready", "--metrics-port", &port], &[]);
    assert_eq!(code, 0);
    drop(server);
    let (code, _, errors) = run(&["health"], &[("METRICS_PORT", &port)]);
    assert!(code != 0 && !errors.is_empty(), "{errors}");
}

#[test]
fn notify_calls_every_method() {
    let server = Server::start();
    let mut ann = server.connect_as("ann");
    ann.join("event:1");
    let address = server.grpc.to_string();
    let notify = |arguments: &[&str]| -> Value {
        let (code, text, errors) = run(&[&["notify", "--address", &address], arguments].concat(), &[]);
        assert_eq!(code, 0, "{arguments:?}: {errors}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let answer = notify(&["booking", "--user", "ann", "--booking", "b-1", "--seats", "A1,A2"]);
    assert_eq!((&answer["delivered_connections"], &answer["offset"]), (&json!(1), &json!(1)), "{answer}");
    assert_eq!(ann.expect("booking:confirmed"), json!({"booking_id": "b-1", "seat_numbers": ["A1", "A2"]}));
    notify(&["booking", "--user", "ann", "--booking", "b-2", "--failed"]);
    ann.expect("booking:failed");
    notify(&["queue", "--user", "ann", "--event", "1", "--position", "3"]);
    assert_eq!(ann.expect("booking:queue_position")["position"], 3);
    notify(&["payment", "--user", "ann", "--payment", "p-1", "--status", "success"]);
    ann.expect("payment:success");
    notify(&["broadcast", "--room", "event:1", "--type", "ticket:sold", "--payload", r#"{"seat":"A1"}"#]);
    assert_eq!(ann.expect("ticket:sold"), json!({"seat": "A1"}));
    notify(&["user", "--user", "ann", "--type", "notification:new"]);
    ann.expect("notification:new");
    assert_eq!(notify(&["stats"])["total_connections"], 1);
    let history = notify(&["history", "--user", "ann", "--limit", "1"]);
    assert_eq!(
        (&history["head_offset"], &history["entries"][0]["event_type"]),
        (&json!(4), &json!("notification:new"))
    );
    let delivery = notify(&["delivery", "--user", "ann"]);
    assert_eq!((&delivery["delivered_offset"], &delivery["unacknowledged"]), (&json!(4), &json!(4)));
    assert_eq!(delivery["oldest_unacknowledged"]["payload"]["booking_id"], "b-1", "{delivery}");
    assert_eq!(notify(&["presence", "--room", "event:1"])["online"], true);
    notify(&["disconnect", "--user", "ann"]);
    assert_eq!(ann.expect_close().0, 4401);
}

#[test]
fn a_sale_can_be_run_by_queue_commands() {
    let server = Server::start();
    let address = server.grpc.to_string();
    let ask = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        run(&[&["queue"], &words[..], &["--event", "e1", "--address", &address]].concat(), &[])
    };
    let queue = |line: &str| -> Value {
        let (code, text, errors) = ask(line);
        assert_eq!(code, 0, "{line}: {errors}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let (code, _, errors) = ask("get");
    assert!(code == 1 && errors.contains("no such queue"), "{errors}");
    let opened = queue("open --opens-in 1h --places 9");
    assert_eq!((&opened["state"], &opened["seed"]), (&json!("early"), &Value::Null), "{opened}");
    let mut clients = ["ann", "bob", "cid"].map(|user| server.connect_as(user));
    for client in &mut clients {
        let (kind, joined) = client.request("queue:join", &json!({"event_id": "e1"}));
        assert_eq!(kind, "queue:joined", "{joined}");
    }
    assert_eq!(queue("open --opens-at 1")["seed"].as_str().map(str::len), Some(64));
    let log = look_until(|| Some(ask("log").1).filter(|log| !log.is_empty())).expect("it is drawn");
    assert_eq!(
        (log.lines().count(), log.contains("\"u:ann\"")),
        (4, true),
        "a heading, and everybody: {log}"
    );
    assert_eq!(queue("advance --to 1")["serving"], 1);
    for _ in 0..2 {
        assert_eq!(queue("admit --count 2 --key again")["admitted"], 3);
    }
    assert_eq!(queue("pause --reason rest")["state"], "paused");
    assert_eq!(queue("resume")["state"], "open");
    assert_eq!(queue("claim --user ann")["inside"], 1);
    assert_eq!(queue("complete --user ann")["completed"], 1);
    assert_eq!(queue("abandon --user bob")["abandoned"], 1);
    assert_eq!(queue("close --sold-out")["state"], "sold_out");
    assert_eq!(queue("close")["state"], "closed");
    let end = queue("get");
    assert_eq!(
        (&end["total"], &end["holding"], &end["event_id"]),
        (&json!(3), &json!(1), &json!("e1")),
        "{end}"
    );
}

#[test]
fn every_line_of_the_banner_can_be_pasted() {
    let server = Server::with(&[("JWT_SECRET", ""), ("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let lines = || server.banner().lines().map(str::trim);
    let ask_of = |start: &str| {
        let line = lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no {start}"));
        Ask::to(&format!("/ws{}", line.strip_suffix('"').expect("a closing quote")))
    };
    let ws = ask_of(&format!("npx wscat -c \"ws://{}/ws", server.ws));
    let wss = ask_of(&format!("npx wscat -n -c \"wss://{}/ws", server.wss.expect("a wss listener")));
    let mut clients = [server.ask(&ws).greeted(), tls::wss(&server, &wss)];
    for client in &mut clients {
        assert_eq!(client.connected["user_id"], "alice");
        lines().filter_map(|line| line.strip_prefix("> ")).for_each(|line| client.text(line));
        client.expect("room:joined");
    }
    let calls: Vec<_> = lines().filter(|line| line.contains(" notify ")).collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    for (call, kind) in calls.iter().zip(["booking:confirmed", "ticket:availability"]) {
        let answer = Command::new("/bin/sh").env_clear().args(["-c", call]).output().expect("a shell");
        assert!(answer.status.success(), "{call}\n{}", String::from_utf8_lossy(&answer.stderr));
        clients.iter_mut().for_each(|client| drop(client.expect(kind)));
    }
}

#[test]
fn notify_says_what_is_wrong() {
    let server = Server::start();
    let address = server.grpc.to_string();
    let (code, _, errors) =
        run(&["notify", "--address", &address, "broadcast", "--room", "a b", "--type", "x"], &[]);
    assert!(code != 0 && errors.contains("room"), "{errors}");
    drop(server);
    let (code, _, errors) = run(&["notify", "--address", &address, "stats"], &[]);
    assert!(code != 0 && !errors.contains("panicked"), "{errors}");
}

#[test]
fn help_is_for_people() {
    let (code, text, _) = run(&["--help"], &[]);
    assert_eq!(code, 0);
    for name in ["check", "token", "health", "notify", "queue", "--http-port", "--tls-self-signed"] {
        assert!(text.contains(name), "{name}");
    }
    let (code, text, _) = run(&["--version"], &[]);
    assert!(code == 0 && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}
