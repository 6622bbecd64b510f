//! A WebSocket client that says exactly what it is told and hears everything.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::{
    frame,
    http::{Answer, Stream, read_answer},
};

/// One upgraded connection.
pub struct Client {
    pub stream: Stream,
    buffer: Vec<u8>,
    /// The 101 that it got.
    pub upgrade: Answer,
    /// Messages that came compressed; inflated before anybody sees them.
    pub inflated: usize,
    /// The payload of `system:connected`; null where the dialect has no greeting.
    pub connected: Value,
    /// Types that [`Client::message`] leaves out.
    pub ignored: &'static [&'static str],
}

/// What a client hears.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code (1005: none) and reason.
    Close(u16, String),
    /// The socket ended.
    End,
}

/// What a request for an upgrade says beside what it must.
#[derive(Clone, Default)]
pub struct Ask {
    pub target: String,
    pub headers: Vec<String>,
}

impl Ask {
    pub fn to(target: &str) -> Self {
        Self { target: target.to_owned(), headers: Vec::new() }
    }

    #[must_use]
    pub fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    /// Offers permessage-deflate as browsers do.
    #[must_use]
    pub fn deflate(self) -> Self {
        self.header("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
    }

    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header(&format!("Authorization: Bearer {token}"))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut lines = vec![
            format!("GET {} HTTP/1.1", self.target),
            "Host: localhost".to_owned(),
            "Upgrade: websocket".to_owned(),
            "Connection: Upgrade".to_owned(),
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
            "Sec-WebSocket-Version: 13".to_owned(),
        ];
        lines.extend(self.headers.iter().cloned());
        (lines.join("\r\n") + "\r\n\r\n").into_bytes()
    }
}

impl Client {
    /// Upgrades; the answer where it is not 101.
    pub fn open(mut stream: Stream, ask: &Ask) -> Result<Self, Answer> {
        stream.put(&ask.bytes());
        Self::answered(stream)
    }

    /// As [`Client::open`], where the request was sent already.
    pub fn answered(mut stream: Stream) -> Result<Self, Answer> {
        let mut buffer = Vec::new();
        let upgrade = read_answer(&mut stream, &mut buffer);
        if upgrade.status != 101 {
            return Err(upgrade);
        }
        assert_eq!(upgrade.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Ok(Self { stream, buffer, upgrade, inflated: 0, connected: Value::Null, ignored: &[] })
    }

    /// Hears the greeting of the ticketing dialect.
    #[must_use]
    pub fn greeted(mut self) -> Self {
        self.connected = self.expect("system:connected");
        self
    }

    // --- saying ---

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.stream.put(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(&frame::masked(frame::TEXT, text.as_bytes()));
    }

    pub fn send(&mut self, kind: &str, payload: &Value) {
        self.text(&json!({"type": kind, "payload": payload}).to_string());
    }

    /// Sends with an `id` and expects the next message to be the reply with the same `id`; its type and payload.
    pub fn request(&mut self, kind: &str, payload: &Value) -> (String, Value) {
        let id = format!("r{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.text(&json!({"type": kind, "id": id, "payload": payload}).to_string());
        let reply = self.message();
        assert_eq!(reply["id"], id, "reply to {kind}: {reply}");
        (reply["type"].as_str().unwrap_or_default().to_owned(), reply["payload"].clone())
    }

    pub fn join(&mut self, room: &str) -> Value {
        let (kind, payload) = self.request("room:join", &json!({"room": room}));
        assert_eq!((kind.as_str(), &payload["room"]), ("room:joined", &json!(room)), "{payload}");
        payload
    }

    pub fn leave(&mut self, room: &str) {
        let (kind, payload) = self.request("room:leave", &json!({"room": room}));
        assert_eq!((kind.as_str(), &payload["room"]), ("room:left", &json!(room)), "{payload}");
    }

    // --- hearing ---

    /// The next frame. Fragments and masks are never sent by a server here, and fail.
    pub fn hear(&mut self) -> Heard {
        loop {
            if let Some((op, payload)) = self.take_frame() {
                return heard(op, payload);
            }
            if !self.stream.fill(&mut self.buffer) {
                return Heard::End;
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&first, &second) = (self.buffer.first()?, self.buffer.get(1)?);
        assert_eq!(
            first & 0xb0,
            0x80,
            "server frames are whole, and RSV1 is used at most: {:02x?}",
            self.buffer
        );
        let compressed = first & 0x40 != 0;
        assert_eq!(second & 0x80, 0, "a server never masks (RFC 6455, 5.1)");
        let (length, header) = match second {
            126 => (u16::from_be_bytes(self.buffer.get(2..4)?.try_into().ok()?) as usize, 4),
            127 => (u64::from_be_bytes(self.buffer.get(2..10)?.try_into().ok()?) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.buffer.get(header..header + length)?.to_vec();
        self.buffer.drain(..header + length);
        if !compressed {
            return Some((first & 0x0f, payload));
        }
        assert!(self.upgrade.header("Sec-WebSocket-Extensions").is_some(), "compressed without an agreement");
        self.inflated += 1;
        Some((first & 0x0f, frame::inflate(&payload)))
    }

    /// The next message as text; keep-alive pings are answered on the way.
    pub fn next_text(&mut self) -> String {
        loop {
            match self.hear() {
                Heard::Text(text) => return text,
                Heard::Ping(payload) => self.bytes(&frame::masked(frame::PONG, &payload)),
                Heard::Pong(_) => {}
                other => panic!("a text message was expected, came {other:?}"),
            }
        }
    }

    /// The next message as JSON.
    pub fn message(&mut self) -> Value {
        loop {
            let text = self.next_text();
            let message: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            if !self.ignored.iter().any(|kind| message["type"] == *kind) {
                return message;
            }
        }
    }

    /// The payload of the next message, which must be of that type.
    pub fn expect(&mut self, kind: &str) -> Value {
        let mut message = self.message();
        assert_eq!(message["type"], kind, "{message}");
        message["payload"].take()
    }

    /// The code of the next `system:error`.
    pub fn expect_error(&mut self) -> String {
        self.expect("system:error")["code"].as_str().expect("an error has a code").to_owned()
    }

    /// Nothing was on the way: the answer to a ping of ours is the next thing that comes.
    pub fn expect_silence(&mut self) {
        let mark = json!({"mark": NEXT.fetch_add(1, Ordering::Relaxed)});
        self.send("system:ping", &mark);
        assert_eq!(self.expect("system:pong"), mark);
    }

    /// The code and reason of the close frame, after whatever messages come before it.
    pub fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.hear() {
                Heard::Close(code, reason) => return (code, reason),
                Heard::End => panic!("the socket ended without a close frame"),
                Heard::Ping(_) | Heard::Pong(_) | Heard::Text(_) | Heard::Binary(_) => {}
            }
        }
    }

    /// The close code, and that the socket ends after we answered it.
    pub fn expect_end(&mut self) -> u16 {
        let (code, _) = self.expect_close();
        self.bytes(&frame::close(code, b""));
        assert_eq!(self.hear(), Heard::End);
        code
    }

    /// Closes as a browser does.
    pub fn close(mut self) {
        self.bytes(&frame::close(1000, b""));
        assert_eq!(self.expect_close().0, 1000);
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

fn heard(op: u8, payload: Vec<u8>) -> Heard {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text is UTF-8");
    match op {
        frame::TEXT => Heard::Text(text(payload)),
        frame::BINARY => Heard::Binary(payload),
        frame::PING => Heard::Ping(payload),
        frame::PONG => Heard::Pong(payload),
        frame::CLOSE if payload.is_empty() => Heard::Close(1005, String::new()),
        frame::CLOSE => {
            Heard::Close(u16::from_be_bytes([payload[0], payload[1]]), text(payload[2..].to_vec()))
        }
        other => panic!("op code {other} from the server"),
    }
}
