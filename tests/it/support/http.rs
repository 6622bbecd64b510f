//! Raw HTTP/1.1 over a plain or TLS socket: bytes out, a parsed answer in.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// A socket whose reads give up after [`PATIENCE`].
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub fn plain(address: SocketAddr) -> Self {
        Self::Plain(tcp(address))
    }

    /// As [`Stream::plain`], from an address of ours.
    pub fn plain_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this host");
        socket.connect(&address.into()).expect("the gateway accepts");
        Self::Plain(patient(socket.into()))
    }

    pub fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let name = "localhost".try_into().expect("a valid name");
        let session = ClientConnection::new(config, name).expect("a client configuration");
        Self::Tls(Box::new(StreamOwned::new(session, tcp(address))))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Reads at least one byte into `buffer`; false: the peer closed or reset.
    pub fn fill(&mut self, buffer: &mut Vec<u8>) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.read(&mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                buffer.extend_from_slice(&chunk[..length]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came within {PATIENCE:?}")
            }
            Err(_) => false,
        }
    }

    /// Writes what the peer takes; false: it had closed.
    pub fn put(&mut self, bytes: &[u8]) -> bool {
        self.write_all(bytes).and_then(|()| self.flush()).is_ok()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&address, PATIENCE).expect("the gateway accepts"))
}

fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    socket.set_nodelay(true).expect("a socket option");
    socket
}

/// An HTTP answer; status 0: the peer closed without one.
#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads one answer: head, then as many bytes as `Content-Length` says, or until the end without one.
/// What was read behind the head of a 101 is left in `rest`.
pub fn read_answer(stream: &mut Stream, rest: &mut Vec<u8>) -> Answer {
    let head_end = loop {
        if let Some(at) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if !stream.fill(rest) {
            return Answer::default();
        }
    };
    let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
    rest.drain(..head_end);
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not an HTTP/1.1 status line: {status_line:?}"));
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    if status != 101 {
        let length = answer.header("Content-Length").and_then(|value| value.parse().ok());
        while length.is_none_or(|length: usize| rest.len() < length) && stream.fill(rest) {}
        answer.body = std::mem::take(rest);
    }
    answer
}

/// Sends the bytes on a new connection and reads one answer.
pub fn exchange(mut stream: Stream, request: &[u8]) -> Answer {
    stream.put(request);
    read_answer(&mut stream, &mut Vec::new())
}

/// Whether the peer closes (or resets) without another byte.
pub fn is_closed(stream: &mut Stream) -> bool {
    let mut rest = Vec::new();
    !stream.fill(&mut rest)
}
