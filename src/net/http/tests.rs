use super::*;

fn get(fields: &str) -> String {
    format!("GET /ws?token=a HTTP/1.1\r\n{fields}\r\n")
}

fn status(bytes: impl AsRef<[u8]>) -> Result<(), u16> {
    match parse_head(bytes.as_ref()) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => panic!("incomplete"),
        Err(answer) => {
            assert!(answer.close, "{answer:?}");
            Err(answer.status)
        }
    }
}

#[test]
fn a_head_is_read_with_its_fields() {
    let request = "HEAD /ws/raw?token=a%20b&x HTTP/1.1\r\nHost: a.example:3003\r\nAccept: a, ,b\r\n\
                   accept:\t c \r\nX-Odd: \u{e9}\r\nConnection: Keep-Alive, CLOSE\r\n\r\nrest";
    let head = parse_head(request.as_bytes()).unwrap().unwrap();
    assert_eq!((head.method, head.path, head.query), (Method::Head, "/ws/raw", Some("token=a%20b&x")));
    assert_eq!((head.length + head.surplus, head.surplus), (request.len(), 4));
    assert!(!head.keep_alive);
    assert_eq!(head.list("ACCEPT").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert!(head.lists("accept", "B") && !head.lists("accept", "d") && !head.lists("none", "b"));
    assert_eq!(head.single("host"), Ok(Some("a.example:3003")));
    assert_eq!(head.single("none"), Ok(None));
    assert_eq!((head.single("accept"), head.single("x-odd")), (Err(NotSingle), Err(NotSingle)));
}

#[test]
fn a_head_shows_no_token() {
    let request = "GET /ws?token=canary HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer canary\r\n\r\n";
    let head = parse_head(request.as_bytes()).unwrap().unwrap();
    assert_eq!(format!("{head:?}"), "Head { method: Get, path: \"/ws\", .. }");
}

#[test]
fn a_head_is_incomplete_until_its_last_byte() {
    let request = get("Host: a\r\nUser-Agent: b\r\n");
    for end in 0..request.len() {
        assert!(parse_head(&request.as_bytes()[..end]).unwrap().is_none(), "{end}");
    }
    assert!(parse_head(request.as_bytes()).unwrap().is_some());
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "GETT"] {
        let request = format!("{method} /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        let answer = parse_head(request.as_bytes()).unwrap_err();
        assert_eq!((answer.status, answer.close), (405, true), "{method}");
        assert!(String::from_utf8(answer.encode()).unwrap().contains("\r\nAllow: GET\r\n"));
    }
}

#[test]
fn what_is_not_http_1_1_is_refused_at_once() {
    for bytes in [
        b"GET /ws HTTP/1.0\r\nHost: a\r\n\r\n".as_slice(),
        b"GET /ws HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /ws\r\n\r\n",
        b"GET  /ws HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /ws HTTP/1.1 x\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x16",
        b"\x80\x00",
        b"\x00\x00\x00\x00",
        b"{\"type\": \"x\"}",
        b"\xff\xfe",
    ] {
        assert_eq!(status(bytes), Err(400), "{}", bytes.escape_ascii());
    }
}

#[test]
fn exactly_one_valid_host_is_needed() {
    for (fields, expected) in [
        ("Host: a\r\n", Ok(())),
        ("hOsT:a.example:3003\r\n", Ok(())),
        ("Host: [::1]:3003\r\n", Ok(())),
        ("Accept: a\r\n", Err(400)),
        ("Host: a\r\nHost: a\r\n", Err(400)),
        ("Host: a\r\nhost: b\r\n", Err(400)),
        ("Host:\r\n", Err(400)),
        ("Host: a b\r\n", Err(400)),
        ("Host: a, b\r\n", Err(400)),
        ("Host: user@a\r\n", Err(400)),
        ("Host: a/b\r\n", Err(400)),
        ("Host: \u{e9}\r\n", Err(400)),
    ] {
        assert_eq!(status(get(fields)), expected, "{fields}");
    }
}

#[test]
fn lines_that_two_readers_could_split_differently_are_refused() {
    for request in [
        "GET /ws HTTP/1.1\nHost: a\n\n",
        "GET /ws HTTP/1.1\n",
        "GET /ws HTTP/1.1\r\nHost: a\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nX: b\r\n\tfolded\r\n\r\n",
        "GET /ws HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nX\0: b\r\n",
        "GET /w\0s HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n",
    ] {
        assert_eq!(status(request), Err(400), "{}", request.escape_debug());
    }
}

#[test]
fn a_request_that_announces_a_body_is_refused() {
    for (field, expected) in [
        ("Content-Length: 0", Ok(())),
        ("Content-Length: 5", Err(400)),
        ("Content-Length: 00", Err(400)),
        ("Content-Length: +0", Err(400)),
        ("Content-Length: -1", Err(400)),
        ("Content-Length:", Err(400)),
        ("Content-Length: 0, 0", Err(400)),
        ("Content-Length: 0\r\nContent-Length: 5", Err(400)),
        ("Transfer-Encoding: chunked", Err(400)),
        ("Transfer-Encoding: identity", Err(400)),
        ("Content-Length: 0\r\ntransfer-encoding: xchunked", Err(400)),
    ] {
        assert_eq!(status(get(&format!("Host: a\r\n{field}\r\n"))), expected, "{field}");
    }
}

#[test]
fn a_target_is_a_path() {
    for (target, expected) in [
        ("/", Ok(())),
        ("/../../etc/passwd", Ok(())),
        ("/%00", Ok(())),
        ("//evil.example/ws", Ok(())),
        ("http://a/ws", Err(400)),
        ("HTTPS://a/ws", Err(400)),
        ("a:443", Err(400)),
        ("*", Err(400)),
        ("ws", Err(400)),
    ] {
        assert_eq!(status(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")), expected, "{target}");
    }
}

#[test]
fn what_is_too_large_is_refused_within_the_first_bytes() {
    let long = "a".repeat(64 * 1024);
    let field = get(&format!("Host: a\r\nX: {long}\r\n"));
    let fields = |count: usize| get(&format!("Host: a\r\n{}", "X: b\r\n".repeat(count)));
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &long[..length]);
    for (request, expected) in [
        (field, Err(431)),
        (fields(129), Err(431)),
        (fields(64), Err(431)),
        (fields(63), Ok(())),
        (target(64 * 1024 - 1), Err(414)),
        (target(7 * 1024), Err(414)),
        (target(TARGET_BYTES_MAX), Err(414)),
        (target(TARGET_BYTES_MAX - 1), Ok(())),
        (long.clone(), Err(414)),
        (get(&format!("Host: a\r\nX: {}\r\n", &long[..HEAD_BYTES_MAX])), Err(431)),
        ("\r\n".repeat(HEAD_BYTES_MAX), Err(400)),
    ] {
        assert_eq!(status(&request), expected, "{request:.40}");
        let first = &request.as_bytes()[..request.len().min(HEAD_BYTES_MAX)];
        assert_eq!(status(first), expected, "{request:.40}");
    }
}

#[test]
fn no_mutation_of_a_request_makes_it_panic() {
    let good = get("Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n").into_bytes();
    for position in 0..good.len() {
        for byte in 0..=255 {
            let mut bytes = good.clone();
            bytes[position] = byte;
            drop(parse_head(&bytes));
            bytes.truncate(position + 1);
            drop(parse_head(&bytes));
        }
    }
}

#[test]
fn an_answer_measures_its_body_and_says_whether_the_connection_ends() {
    let request = get("Host: a\r\n");
    let head = parse_head(request.as_bytes()).unwrap().unwrap();
    let answer = Answer::json(200, "{}").to(&head);
    assert_eq!(
        String::from_utf8(answer.encode()).unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\n{}"
    );
    let request = "HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let head = parse_head(request.as_bytes()).unwrap().unwrap();
    let answer = Answer::text(200, "text/plain", "four").to(&head);
    let text = String::from_utf8(answer.encode()).unwrap();
    assert!(text.contains("Content-Length: 4\r\n") && text.ends_with("Connection: close\r\n\r\n"), "{text}");
    let text = String::from_utf8(Answer::retry(503, "the server is \"full\"", 7).encode()).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && text.contains("\r\nRetry-After: 7\r\n")
    );
    assert!(
        text.contains("\r\nConnection: close\r\n")
            && text.ends_with("{\"error\":\"the server is \\\"full\\\"\"}")
    );
}
