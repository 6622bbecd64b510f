use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc::sync_channel,
    thread,
};

use jsonwebtoken::{EncodingKey, Header};
use tokio_rustls::rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    crypto::aws_lc_rs, pki_types::ServerName,
};
use usher::{
    auth::KeySet,
    config::{Settings, settings::TlsSource},
    net::tls::{self, Ticketing},
};

use super::*;

const SECRET: &str = "a secret of the test, 32 bytes !";

/// Serves on a thread that ends with the process.
fn start(tls: Option<TlsAcceptor>) -> SocketAddr {
    let (ready, told) = sync_channel(1);
    thread::spawn(move || {
        let verifier = Verifier::new(KeySet::secret(SECRET).unwrap(), &Settings::default().auth).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = crate::listener().unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, tls, app(Arc::new(verifier))).await
        })
    });
    told.recv().unwrap()
}

/// Asks with a token of that secret; what comes until `end` is among it.
fn ask(socket: &mut (impl std::io::Read + std::io::Write), secret: &str, end: &str) -> String {
    let claims = serde_json::json!({ "sub": "ann", "exp": Now::read().wall_ms / 1_000 + 60 });
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    write!(
        socket,
        "GET /ws?token={token} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .unwrap();
    let (mut read, mut chunk) = (String::new(), [0; 1024]);
    while !read.contains(end) {
        let count = socket.read(&mut chunk).unwrap();
        assert!(count > 0, "ended after: {read}");
        read.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    read
}

#[test]
fn who_brings_a_token_is_welcomed_and_others_are_not() {
    let address = start(None);
    let mut socket = TcpStream::connect(address).unwrap();
    let answer = ask(&mut socket, SECRET, "}]}}");
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains(r#"{"type":"system:connected","payload":{"#), "{answer}");
    assert!(answer.contains(r#""user_id":"ann","authenticated":true"#), "{answer}");
    // A close frame with 1000, masked with zeros, is answered with its like, and the connection ends (RFC 6455 §5.5.1).
    socket.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8]).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [0x88, 0x02, 0x03, 0xE8]);

    let refused =
        ask(&mut TcpStream::connect(address).unwrap(), "another secret of also 32 bytes!", "\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
}

#[test]
fn who_comes_again_over_tls_resumes_and_both_times_by_the_gateways_cipher() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let rules = tls::load(&TlsSource::Files { cert, key }, &Ticketing::new().unwrap()).unwrap();
    let address = start(Some(rules.into()));

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(config.clone(), name).unwrap();
        let mut socket = StreamOwned::new(client, TcpStream::connect(address).unwrap());
        let answer = ask(&mut socket, SECRET, "}]}}");
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert_eq!(socket.conn.handshake_kind(), Some(kind));
        let suite = socket.conn.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}
