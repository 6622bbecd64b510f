//! Start, reload, graceful stop (catalogue L): what a deployment sees.

use std::{net::TcpListener, process::Command};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    grpc::{Backend, to_user},
    http::{Stream, is_closed, read_answer},
    server::{Server, command},
    ws::{Ask, Heard},
};

/// The exit code and output of a command that must not serve.
fn failure(mut command: Command) -> (i32, String) {
    let output = command.output().expect("the binary was built");
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{text}");
    (output.status.code().expect("it ended by itself"), text)
}

#[test]
fn the_banner_names_every_address() {
    let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let wss = server.wss.expect("a wss listener");
    for address in [
        format!("ws://127.0.0.1:{}/ws", server.ws.port()),
        format!("wss://127.0.0.1:{}/ws", wss.port()),
        format!("127.0.0.1:{}", server.grpc.port()),
        format!("http://127.0.0.1:{}", server.admin.port()),
    ] {
        assert!(server.banner().contains(&address), "{address} in {}", server.banner());
    }
    assert_eq!(server.admin("/ready").status, 200, "what is printed can be used");
}

#[test]
fn the_process_takes_no_huge_pages_whatever_the_kernel_is_set_to() {
    let server = Server::with(&[]);
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{}/{file}", server.pid())).expect("the gateway runs")
    };
    // Kernels without huge pages have no such line.
    assert!(!read("status").contains("THP_enabled:\t1"));
    let smaps = read("smaps");
    let huge = smaps.lines().filter_map(|line| line.strip_prefix("AnonHugePages:"));
    let kb: u64 = huge.map(|kb| kb.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")).sum();
    assert!(kb <= 2 << 10, "{kb} kB, of which one page may be from before the program began");
}

/// L1, L2
#[test]
fn a_stop_sends_everybody_away_with_a_time_to_return_and_exits_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::with(&[("SHARDS", "2")]);
        let mut clients: Vec<_> = (0..20).map(|n| server.connect_as(&format!("user{n}"))).collect();
        server.signal(signal);
        for client in &mut clients {
            let (code, reason) = client.expect_close();
            assert_eq!(code, 1001);
            assert!(reason.contains("reconnect_after_ms"), "{reason}");
            client.bytes(&crate::support::frame::close(1001, b""));
        }
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// L1
#[test]
fn what_was_accepted_before_a_stop_is_delivered() {
    let mut server = Server::start();
    let mut ann = server.connect_as("ann");
    let backend = Backend::of(&server);
    for n in 0..100 {
        backend.send_to_user(to_user("ann", "booking:updated", &n.to_string())).expect("accepted");
    }
    server.signal(Signal::TERM);
    for n in 0..100 {
        assert_eq!(ann.expect("booking:updated"), n);
    }
    assert_eq!(ann.expect_end(), 1001);
    assert_eq!(server.wait().code(), Some(0));
}

/// L1
#[test]
fn readiness_goes_first() {
    let server = Server::with(&[("DRAIN_DELAY", "2s")]);
    let mut client = server.connect();
    server.signal(Signal::TERM);
    let answer = (0..10_000).map(|_| server.admin("/ready")).find(|answer| answer.status != 200);
    let answer = answer.expect("not ready within the delay");
    assert_eq!((answer.status, answer.json()["reason"].as_str()), (503, Some("draining")));
    client.expect_silence();
    assert_eq!(server.admin("/health").status, 200, "it still lives");
    assert_eq!(client.expect_end(), 1001);
}

/// L1
#[test]
fn who_does_not_answer_the_close_is_left_behind_in_time() {
    let mut server = Server::with(&[("SHUTDOWN_TIMEOUT", "2s")]);
    let silent = server.connect();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    drop(silent);
}

/// L1. The measure is another gateway's handshake, whose five seconds began before.
#[test]
fn who_stays_silent_does_not_hold_a_stop_up() {
    let other = Server::start();
    let mut server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let mut measure = Stream::plain(other.ws);
    let [mut silent, mut half] = [server.ws; 2].map(Stream::plain);
    half.put(b"GET /ws HTTP/1.1\r\n");
    let mut hello = Stream::plain(server.wss.expect("a wss listener"));
    hello.put(b"\x16\x03\x01");
    let mut never_closes = server.connect();
    let mut answered = Stream::plain(server.ws);
    answered.put(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(read_answer(&mut answered, &mut Vec::new()).status, 200);

    server.signal(Signal::TERM);
    assert_eq!(read_answer(&mut half, &mut Vec::new()).status, 503);
    assert_eq!([&mut silent, &mut hello].map(is_closed), [true, true]);
    assert_eq!(never_closes.expect_close().0, 1001);
    assert_eq!(never_closes.hear(), Heard::End);
    assert_eq!(server.wait().code(), Some(0));
    measure.socket().set_nonblocking(true).expect("a socket option");
    let unfinished = std::io::Read::read(&mut measure, &mut [0]).err().map(|error| error.kind());
    assert_eq!(unfinished, Some(std::io::ErrorKind::WouldBlock), "it took five seconds or more");
}

/// L2
#[test]
fn a_second_signal_waits_for_nobody_who_stays_silent() {
    let mut server = Server::with(&[("DRAIN_DELAY", "1h"), ("SHUTDOWN_TIMEOUT", "1h")]);
    let _client = server.connect();
    server.signal(Signal::TERM);
    assert!((0..10_000).any(|_| server.admin("/ready").status == 503));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// L2
#[test]
fn signals_of_no_meaning_are_survived() {
    let server = Server::start();
    let mut client = server.connect();
    for signal in [Signal::HUP, Signal::PIPE] {
        server.signal(signal);
        client.expect_silence();
    }
    server.connect().close();
}

/// L5
#[test]
fn a_port_in_use_is_said_in_one_line() {
    for name in ["HTTP_PORT", "GRPC_PORT", "METRICS_PORT"] {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("a bound port").port().to_string();
        let mut command = command();
        command.env(name, &port).env("LOG_LEVEL", "error");
        let (_, text) = failure(command);
        assert!(text.contains(&port), "{name}: {text}");
        assert!(!text.contains("panicked"), "{name}: {text}");
    }
}

/// L5
#[test]
fn a_bad_configuration_is_named_before_anything_serves() {
    let rows: [(&str, &str); 8] = [
        ("HTTP_PORT", "many"),
        ("WS_PING_INTERVAL", "soon"),
        ("WS_ALLOW_ANONYMOUS", "perhaps"),
        ("JWT_PUBLIC_KEY_FILE", "/nonexistent/key.pem"),
        ("TLS_CERT", "/nonexistent/cert.pem"),
        ("LOG_FORMAT", "poetry"),
        ("JWT_ALGORITHMS", "none"),
        ("SHARDS", "0"),
    ];
    for (name, value) in rows {
        let mut command = command();
        command.env(name, value);
        let (code, text) = failure(command);
        let named = text.contains(name) || text.contains(value);
        assert!(named && code > 0 && !text.contains("panicked"), "{name}: {code} {text}");
    }
}

/// L5
#[test]
fn unknown_names_get_the_nearest_known_one() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = directory.path().join("usher.toml");
    std::fs::write(&path, "[listen]\nhttp_prot = 1\n").expect("a file");
    let mut by_file = command();
    by_file.args(["--config".as_ref(), path.as_os_str()]);
    let (_, text) = failure(by_file);
    assert!(text.contains("http_prot") && text.contains("http_port"), "{text}");
    let mut by_flag = command();
    by_flag.args(["--http-prot", "1"]);
    let (_, text) = failure(by_flag);
    assert!(text.contains("--http-prot") && text.contains("--http-port"), "{text}");
}

#[test]
fn a_file_then_the_environment_then_flags() {
    let directory = tempfile::TempDir::new().expect("a directory");
    for (file, text) in [
        (
            "usher.toml",
            "[limits]\nrate_limit_max_messages = 1\nmax_room_members = 1\n[client]\nroom_presence = [\"a\"]\n",
        ),
        (
            "usher.yaml",
            "limits:\n  rate_limit_max_messages: 1\n  max_room_members: 1\nclient:\n  room_presence: [a]\n",
        ),
    ] {
        let path = directory.path().join(file);
        std::fs::write(&path, text).expect("a file");
        let mut command = command();
        command.args(["--config".as_ref(), path.as_os_str()]).args(["--rate-limit-max-messages", "3"]);
        command.env("RATE_LIMIT_MAX_MESSAGES", "2");
        let server = Server::run(command).unwrap_or_else(|(status, log)| panic!("{status}\n{log}"));
        let (mut client, mut other) = (server.connect(), server.connect());
        client.join("event:1");
        assert_eq!(
            other.request("room:join", &json!({"room": "event:1"})).0,
            "system:error",
            "the file counts"
        );
        client.request("system:ping", &json!(1));
        client.request("system:ping", &json!(2));
        client.send("system:ping", &json!(3));
        assert_eq!(client.expect_error(), "rate_limited", "the flag counts");
    }
}

#[test]
fn a_connection_that_came_while_stopping_is_answered_or_refused() {
    let mut server = Server::with(&[("DRAIN_DELAY", "1s")]);
    server.signal(Signal::TERM);
    let late = server.try_ask(&Ask::to("/ws"));
    if let Ok(mut client) = late {
        loop {
            match client.hear() {
                Heard::Close(code, _) => {
                    assert_eq!(code, 1001);
                    break;
                }
                Heard::Text(_) | Heard::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        client.bytes(&crate::support::frame::close(1001, b""));
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// The kernel would clear 2 MiB at once, for ms, in the thread that touches one first.
#[test]
fn no_shard_waits_for_a_huge_page() {
    let server = Server::start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let allowed =
        status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).expect("Linux 5.0 or later");
    assert_eq!(allowed.trim(), "0");
}
