//! wss (catalogue J), and certificates that change under a running gateway.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::{TLS12, TLS13},
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    frame,
    grpc::{Backend, to_user},
    http::{Stream, exchange, read_answer},
    server::{Server, command, text},
    ws::{Ask, Client},
};

/// Accepts any certificate: the tests compare it themselves.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = aws_lc_rs::default_provider();
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = aws_lc_rs::default_provider();
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client_config(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("known versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth()
}

/// Takes any certificate.
pub fn anyone() -> Arc<ClientConfig> {
    Arc::new(client_config(&[&TLS13, &TLS12]))
}

/// A client over TLS.
pub fn wss(server: &Server, ask: &Ask) -> Client {
    let stream = server.tls(anyone());
    Client::open(stream, ask).unwrap_or_else(|answer| panic!("{answer:?}")).greeted()
}

/// Opens and closes a connection that offers the ticket which `config` got from the one before, if any.
fn visit(server: &Server, config: &Arc<ClientConfig>) {
    let stream = server.tls(config.clone());
    let client = Client::open(stream, &Ask::to("/ws")).unwrap_or_else(|answer| panic!("{answer:?}"));
    // The ticket comes with the answer.
    client.greeted().close();
}

/// TLS handshakes so far: full, resumed, and those where a ticket was offered in vain.
fn tls_handshakes(server: &Server) -> [f64; 3] {
    [
        r#"usher_tls_handshakes_total{result="full"}"#,
        r#"usher_tls_handshakes_total{result="resumed"}"#,
        "usher_false_claims_total",
    ]
    .map(|series| server.metric(series))
}

/// A certificate with its key in files that can be replaced.
struct Files {
    _directory: TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> (Self, CertificateDer<'static>) {
        let directory = TempDir::new().expect("a directory");
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let files = Self { _directory: directory, cert, key };
        let der = files.replace();
        (files, der)
    }

    /// Puts a new certificate in place, as one rename each.
    fn replace(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        self.put(&self.key, &signing_key.serialize_pem());
        self.put(&self.cert, &cert.pem());
        cert.der().clone()
    }

    fn put(&self, path: &PathBuf, text: &str) {
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).expect("a file");
        fs::rename(&fresh, path).expect("a file");
    }

    fn server(&self) -> Server {
        Server::with(&[("TLS_CERT", text(&self.cert)), ("TLS_KEY", text(&self.key)), ("HTTPS_PORT", "0")])
    }
}

/// The certificate that a new connection gets.
fn served(server: &Server) -> CertificateDer<'static> {
    match wss(server, &Ask::to("/ws")).stream {
        Stream::Tls(stream) => {
            stream.conn.peer_certificates().expect("a certificate")[0].clone().into_owned()
        }
        Stream::Plain(_) => panic!("wss is TLS"),
    }
}

#[test]
fn wss_serves_what_ws_serves() {
    let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let mut ann = wss(&server, &Ask::to("/ws").bearer(&server.token("ann")));
    let mut bob = server.connect_as("bob");
    ann.join("event:1");
    bob.join("event:1");
    bob.send("room:message", &json!({"room": "event:1", "data": "x".repeat(50_000)}));
    assert_eq!(ann.expect("room:message")["data"].as_str().map(str::len), Some(50_000));
    Backend::of(&server).send_to_user(to_user("ann", "booking:created", "{}")).expect("accepted");
    ann.expect("booking:created");
    ann.close();
    let stream = server.tls(Arc::new(client_config(&[&TLS13])));
    assert_eq!(exchange(stream, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
}

#[test]
fn what_is_compressed_is_encrypted_too() {
    let server = Server::with(&[("WS_COMPRESSION", "on"), ("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let mut client = wss(&server, &Ask::to("/ws").deflate());
    let greeted = client.inflated;
    let ping = json!({"type": "system:ping", "payload": "x".repeat(40_000)});
    client.bytes(&frame::deflated(frame::TEXT, ping.to_string().as_bytes()));
    assert_eq!(client.expect("system:pong"), ping["payload"]);
    assert_eq!(client.inflated - greeted, 1);
}

#[test]
fn both_current_versions_of_tls_are_spoken() {
    let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    for version in [&TLS12, &TLS13] {
        let stream = server.tls(Arc::new(client_config(&[version])));
        let client = Client::open(stream, &Ask::to("/ws")).unwrap_or_else(|answer| panic!("{answer:?}"));
        client.greeted().close();
    }
}

/// J1
#[test]
fn a_client_that_wants_only_http_2_is_refused() {
    let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let mut config = client_config(&[&TLS13]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let answer = Client::open(server.tls(Arc::new(config)), &Ask::to("/ws"));
    assert_eq!(answer.err().map(|answer| answer.status), Some(0));
    let mut config = client_config(&[&TLS13]);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(Client::open(server.tls(Arc::new(config)), &Ask::to("/ws")).is_ok());
}

/// A2, J3
#[test]
fn garbage_on_the_tls_port_ends_its_connection_alone() {
    let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let mut ann = wss(&server, &Ask::to("/ws"));
    for garbage in
        [&b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0xff; 600], b"\x16\x03\x01\x00\x05hello"]
    {
        let mut stream = Stream::plain(server.wss.expect("a wss listener"));
        stream.put(garbage);
        let mut alert = Vec::new();
        while stream.fill(&mut alert) {}
        assert!(!alert.starts_with(b"HTTP/1.1 101"), "{alert:?}");
    }
    let mut broken = wss(&server, &Ask::to("/ws"));
    if let Stream::Tls(stream) = &mut broken.stream {
        std::io::Write::write_all(&mut stream.sock, &[0xff; 100]).expect("a socket");
    }
    let mut rest = Vec::new();
    while broken.stream.fill(&mut rest) {}
    ann.expect_silence();
}

/// J4
#[test]
fn a_certificate_is_replaced_on_hangup_and_a_bad_one_is_not_taken() {
    let (files, first) = Files::new();
    let server = files.server();
    assert_eq!(served(&server), first);
    let mut old = wss(&server, &Ask::to("/ws"));

    let second = files.replace();
    server.signal(Signal::HUP);
    assert!((0..500).any(|_| served(&server) == second), "the new certificate was not taken");
    old.expect_silence();

    files.put(&files.key, "no key");
    server.signal(Signal::HUP);
    for _ in 0..20 {
        assert_eq!(served(&server), second, "a bad file keeps the old certificate");
    }
    let third = files.replace();
    server.signal(Signal::HUP);
    assert!((0..500).any(|_| served(&server) == third));
}

#[test]
fn a_certificate_is_replaced_when_its_file_changes() {
    let (files, first) = Files::new();
    let server = files.server();
    assert_eq!(served(&server), first);
    let second = files.replace();
    assert!((0..20_000).any(|_| served(&server) == second), "the new certificate was not noticed");
}

#[test]
fn a_client_resumes_on_whichever_shard_it_lands() {
    for version in [&TLS12, &TLS13] {
        let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0"), ("SHARDS", "3")]);
        let config = Arc::new(client_config(&[version]));
        for _ in 0..64 {
            visit(&server, &config);
        }
        assert_eq!(tls_handshakes(&server), [1.0, 63.0, 0.0]);
        assert_eq!(server.metric(r#"usher_newcomers_total{lane="returning"}"#), 63.0);
        for core in 0..3 {
            let accepted = server.metric(&format!(r#"usher_accepted_total{{core="{core}"}}"#));
            assert!(accepted > 0.0, "nobody landed on shard {core}");
        }
    }
}

#[test]
fn a_ticket_of_another_gateway_is_a_claim_that_does_not_hold() {
    let [first, second] = [(); 2].map(|()| Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]));
    for (round, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let config = Arc::new(client_config(&[version]));
        visit(&first, &config);
        visit(&second, &config);
        let rounds = round as f64 + 1.0;
        assert_eq!(tls_handshakes(&second), [rounds, 0.0, rounds]);
    }
}

fn with_ticket_keys(file: &Path) -> Server {
    let file = file.to_str().expect("a path in UTF-8");
    Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0"), ("TLS_TICKET_KEYS", file)])
}

#[test]
fn gateways_with_the_same_ticket_keys_resume_each_others_sessions() {
    let directory = TempDir::new().expect("a directory");
    let [shared, rotated] = ["shared", "rotated"].map(|name| directory.path().join(name));
    let [old, new] = ["AAAA", "BBBB"].map(|part| part.repeat(12));
    fs::write(&shared, &old).expect("a file");
    fs::write(&rotated, format!("# in use\n{new}\n# before\n{old}\n")).expect("a file");
    let [first, second, third] = [&shared, &shared, &rotated].map(|file| with_ticket_keys(file));
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(client_config(&[version]));
        for server in [&first, &second, &first, &third] {
            visit(server, &config);
        }
        // Its ticket is under a key that the others do not have yet.
        visit(&first, &config);
    }
    assert_eq!(tls_handshakes(&first), [4.0, 2.0, 2.0]);
    assert_eq!(tls_handshakes(&second), [0.0, 2.0, 0.0]);
    assert_eq!(tls_handshakes(&third), [0.0, 2.0, 0.0]);
}

#[test]
fn bad_ticket_keys_are_one_error_at_start_and_are_kept_out_later() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("keys");
    fs::write(&file, "AAAA".repeat(12)).expect("a file");
    let server = with_ticket_keys(&file);
    let config = Arc::new(client_config(&[&TLS13]));
    visit(&server, &config);

    fs::write(&file, "too short").expect("a file");
    server.signal(Signal::HUP);
    let failed = || server.metric(r#"usher_tls_reloads_total{result="ticket_keys_failed"}"#) > 0.0;
    assert!((0..20_000).any(|_| failed()), "the bad file was not noticed");
    visit(&server, &config);
    assert_eq!(tls_handshakes(&server), [1.0, 1.0, 0.0]);

    let mut command = command();
    command.envs([("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]).env("TLS_TICKET_KEYS", &file);
    let Err((status, log)) = Server::run(command) else { panic!("it started") };
    assert!(!status.success() && log.contains("keys: line 1 is no ticket secret in base64"), "{log}");
    assert!(!log.contains("too short"), "{log}");
}

/// Those who stand in line are read before their turn: nothing may be lost or doubled by that.
#[test]
fn a_hello_and_a_request_may_come_in_any_pieces() {
    let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let (mut session, address) = (
        ClientConnection::new(Arc::new(client_config(&[&TLS13])), "localhost".try_into().expect("a name"))
            .expect("a session"),
        server.wss.expect("a wss listener"),
    );
    let mut socket = TcpStream::connect(address).expect("a listener");
    socket.set_nodelay(true).expect("a socket");
    let mut hello = Vec::new();
    session.write_tls(&mut hello).expect("a hello");
    for byte in hello {
        socket.write_all(&[byte]).expect("a socket");
    }
    let stream = Stream::Tls(Box::new(StreamOwned::new(session, socket)));
    let answer = exchange(stream, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(answer.status, 200);
    let mut stream = Stream::plain(server.ws);
    for byte in b"GET /health?resume=wait HTTP/1.1\r\nHost: localhost\r\n\r\n" {
        stream.put(&[*byte]);
    }
    assert_eq!(read_answer(&mut stream, &mut Vec::new()).status, 200);
}

#[test]
fn plain_http_stays_beside_it() {
    let server = Server::with(&[("TLS_SELF_SIGNED", "true"), ("HTTPS_PORT", "0")]);
    let mut stream = Stream::plain(server.ws);
    stream.put(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(read_answer(&mut stream, &mut Vec::new()).status, 200);
}
