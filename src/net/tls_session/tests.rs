use std::io::{Read, Write};

use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;

use super::*;
use crate::{
    config::settings::TlsSource,
    net::{
        claim,
        tls::{Ticketing, load},
    },
};

/// A certificate on disk, and clients that trust it.
struct Fixture {
    directory: TempDir,
    tickets: Ticketing,
}

impl Fixture {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { directory, tickets: Ticketing::new().unwrap() }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let file = |name| self.directory.path().join(name);
        load(&TlsSource::Files { cert: file("cert.pem"), key: file("key.pem") }, &self.tickets).unwrap()
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.directory.path().join("cert.pem")).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A client and a session with nothing but memory between them.
struct Pair {
    client: ClientConnection,
    session: TlsSession,
    /// What the session decrypted.
    plain: Vec<u8>,
    /// What the client decrypted.
    answers: Vec<u8>,
    received: Received,
    /// Bytes that reach the session in one call.
    chunk: usize,
}

impl Pair {
    fn new(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Self {
        Self {
            client: ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap(),
            session: TlsSession::new(server).unwrap(),
            plain: Vec::new(),
            answers: Vec::new(),
            received: Received::default(),
            chunk: usize::MAX,
        }
    }

    fn open(version: &'static SupportedProtocolVersion) -> Self {
        let fixture = Fixture::new();
        let mut pair = Self::new(fixture.server(), fixture.client(version));
        pair.run().unwrap();
        assert!(!pair.session.is_handshaking() && !pair.client.is_handshaking());
        pair
    }

    /// Moves bytes both ways until neither side has any.
    fn run(&mut self) -> Result<(), SessionError> {
        while self.client.wants_write() || self.session.wants_write() {
            self.feed_session()?;
            self.feed_client();
        }
        Ok(())
    }

    fn feed_session(&mut self) -> Result<(), SessionError> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        for chunk in bytes.chunks_mut(self.chunk) {
            let received = self.session.receive(chunk, &mut self.plain)?;
            self.received.handshake_done |= received.handshake_done;
            self.received.peer_closed |= received.peer_closed;
            assert!(self.session.pending.len() <= TLS_PENDING_BYTES_MAX);
        }
        Ok(())
    }

    fn feed_client(&mut self) {
        while self.session.wants_write() {
            let taken = self.client.read_tls(&mut self.session.outgoing()).unwrap();
            self.session.sent(taken);
            let state = self.client.process_new_packets().unwrap();
            let start = self.answers.len();
            self.answers.resize(start + state.plaintext_bytes_to_read(), 0);
            self.client.reader().read_exact(&mut self.answers[start..]).unwrap();
        }
    }

    /// What the client decrypted since the last call.
    fn read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.answers)
    }

    fn owns_no_buffer(&self) -> bool {
        self.session.pending.capacity() == 0 && self.session.outgoing.capacity() == 0
    }
}

#[test]
fn both_versions_shake_hands_and_carry_data_both_ways() {
    for (version, name) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
        let mut pair = Pair::open(version);
        assert!(pair.received.handshake_done && pair.owns_no_buffer());
        assert_eq!(format!("{:?}", pair.client.protocol_version().unwrap()), name);
        assert_eq!(pair.client.alpn_protocol(), Some(b"http/1.1".as_slice()));
        pair.client.writer().write_all(b"from the client").unwrap();
        assert_eq!(pair.session.encrypt(&[IoSlice::new(b"from the "), IoSlice::new(b"server")]), Ok(15));
        pair.run().unwrap();
        assert_eq!((pair.read(), &pair.plain[..]), (b"from the server".to_vec(), &b"from the client"[..]));
        assert!(pair.owns_no_buffer());
    }
}

#[test]
fn the_cipher_suite_is_ours_to_choose() {
    for (version, expected) in [
        (&TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256),
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ] {
        // The client would rather have AES-256.
        let pair = Pair::open(version);
        assert_eq!(pair.client.negotiated_cipher_suite().unwrap().suite(), expected);
    }
}

#[test]
fn the_end_of_a_handshake_is_told_once() {
    let fixture = Fixture::new();
    let mut pair = Pair::new(fixture.server(), fixture.client(&TLS13));
    pair.feed_session().unwrap();
    assert!(!pair.received.handshake_done && pair.session.is_handshaking());
    pair.run().unwrap();
    assert!(pair.received.handshake_done);
    pair.received = Received::default();
    pair.client.writer().write_all(b"x").unwrap();
    pair.run().unwrap();
    assert_eq!(pair.received, Received::default());
}

#[test]
fn large_data_is_cut_into_records_and_small_parts_share_one() {
    let large: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(version);
        pair.client.set_buffer_limit(None);
        pair.client.writer().write_all(&large).unwrap();
        pair.run().unwrap();
        assert!(pair.plain == large);
        for parts in
            [vec![&large[..40_000]], vec![&large[..10], &large[10..30_000], &[], &large[30_000..40_000]]]
        {
            let parts: Vec<IoSlice<'_>> = parts.into_iter().map(IoSlice::new).collect();
            assert_eq!(pair.session.encrypt(&parts), Ok(40_000));
            let overhead = pair.session.outgoing().len() - 40_000;
            assert!(overhead <= 3 * RECORD_OVERHEAD_MAX, "{overhead}");
            pair.feed_client();
            assert!(pair.read() == large[..40_000]);
        }
        let small = [IoSlice::new(b"a"); 100];
        pair.session.encrypt(&small).unwrap();
        assert!(pair.session.outgoing().len() <= 100 + RECORD_OVERHEAD_MAX);
        pair.feed_client();
        assert_eq!(pair.read(), [b'a'; 100]);
        assert_eq!(pair.session.encrypt(&[]), Ok(0));
        assert!(pair.owns_no_buffer());
    }
}

#[test]
fn it_does_not_matter_where_the_network_cuts() {
    for version in [&TLS12, &TLS13] {
        for chunk in [1, 2, 3, 5, 7, 100, 1_000] {
            let fixture = Fixture::new();
            let mut pair = Pair::new(fixture.server(), fixture.client(version));
            pair.chunk = chunk;
            pair.run().unwrap();
            pair.client.writer().write_all(&[7; 3_000]).unwrap();
            pair.client.writer().write_all(b"end").unwrap();
            pair.run().unwrap();
            assert_eq!((pair.plain.len(), pair.plain.ends_with(b"end")), (3_003, true), "{chunk}");
            assert!(pair.owns_no_buffer());
        }
    }
}

#[test]
fn a_partly_sent_buffer_keeps_its_order() {
    let mut pair = Pair::open(&TLS13);
    let mut wire = Vec::new();
    for round in 0..200_u32 {
        pair.session.encrypt(&[IoSlice::new(&[round as u8; 97])]).unwrap();
        let taken = pair.session.outgoing().len().min(64 + (round as usize * 13) % 80);
        wire.extend_from_slice(&pair.session.outgoing()[..taken]);
        pair.session.sent(taken);
    }
    wire.extend_from_slice(pair.session.outgoing());
    pair.session.outgoing = wire;
    pair.session.sent = 0;
    pair.feed_client();
    let plain = pair.read();
    assert_eq!(plain.len(), 200 * 97);
    assert!(plain.chunks(97).enumerate().all(|(round, chunk)| chunk == [round as u8; 97]));
}

#[test]
fn a_ticket_resumes_on_another_shard_and_after_a_reload() {
    for version in [&TLS12, &TLS13] {
        let mut fixture = Fixture::new();
        let client = fixture.client(version);
        let mut kinds = Vec::new();
        for round in 0..3 {
            if round == 2 {
                fixture.tickets = Ticketing::new().unwrap();
            }
            let mut pair = Pair::new(fixture.server(), client.clone());
            pair.run().unwrap();
            kinds.push(pair.session.conn.handshake_kind());
        }
        assert_eq!(
            kinds,
            [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed), Some(HandshakeKind::Full)]
        );
    }
}

#[test]
fn what_is_held_is_taken_later_and_tells_of_the_ticket() {
    for version in [&TLS12, &TLS13] {
        let fixture = Fixture::new();
        let client = fixture.client(version);
        for resumes in [false, true] {
            let mut pair = Pair::new(fixture.server(), client.clone());
            let mut hello = Vec::new();
            pair.client.write_tls(&mut hello).unwrap();
            let (start, rest) = hello.split_at(100);
            pair.session.hold(start);
            assert_eq!(claim::offers_ticket(pair.session.held()), None);
            pair.session.hold(rest);
            assert_eq!(claim::offers_ticket(pair.session.held()), Some(resumes));
            assert_eq!((pair.session.wants_write(), pair.session.is_resumed()), (false, None));
            pair.session.receive(&mut [], &mut pair.plain).unwrap();
            assert_eq!((pair.session.wants_write(), pair.session.is_resumed()), (true, Some(resumes)));
            pair.run().unwrap();
            assert!(pair.session.held().is_empty() && !pair.session.is_handshaking());
        }
    }
}

#[test]
fn what_is_no_tls_ends_the_session_with_an_alert() {
    let fixture = Fixture::new();
    let http = b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let overlong = b"\x16\x03\x01\xff\xff\x01".to_vec();
    let empty = b"\x16\x03\x01\x00\x00".to_vec();
    let data_first = b"\x17\x03\x03\x00\x01x".to_vec();
    let broken_hello = b"\x16\x03\x01\x00\x08\x01\x00\x00\x04aaaa".to_vec();
    for mut input in [http, overlong, empty, data_first, broken_hello, vec![0; 64], vec![0xff; 64]] {
        let mut session = TlsSession::new(fixture.server()).unwrap();
        let mut plain = Vec::new();
        assert!(matches!(session.receive(&mut input, &mut plain), Err(SessionError::Tls(_))), "{input:?}");
        assert_eq!((session.outgoing()[0], plain.len()), (0x15, 0), "{input:?}");
        assert_eq!(session.pending.capacity(), 0);
        assert_eq!(session.receive(&mut [0x16], &mut plain), Err(SessionError::NotOpen));
        assert_eq!(session.encrypt(&[IoSlice::new(b"x")]), Err(SessionError::NotOpen));
        session.close_notify();
    }
}

#[test]
fn a_changed_record_ends_the_session_and_the_peer_is_told() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(version);
        pair.client.writer().write_all(b"good").unwrap();
        pair.client.writer().write_all(b"bad").unwrap();
        let mut bytes = Vec::new();
        pair.client.write_tls(&mut bytes).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let error = pair.session.receive(&mut bytes, &mut pair.plain).unwrap_err();
        assert_eq!((error, &pair.plain[..]), (SessionError::Tls(rustls::Error::DecryptError), &b"good"[..]));
        let taken = pair.client.read_tls(&mut pair.session.outgoing()).unwrap();
        pair.session.sent(taken);
        let told = pair.client.process_new_packets().unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
    }
}

#[test]
fn either_side_may_close_first() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(version);
        pair.client.writer().write_all(b"last").unwrap();
        pair.client.send_close_notify();
        pair.run().unwrap();
        assert_eq!((pair.received.peer_closed, &pair.plain[..]), (true, &b"last"[..]));
        // What follows means nothing, and the other direction is still open.
        let again = pair.session.receive(&mut [1, 2, 3], &mut pair.plain).unwrap();
        assert!(again.peer_closed && pair.owns_no_buffer());
        pair.session.encrypt(&[IoSlice::new(b"answer")]).unwrap();
        pair.session.close_notify();
        pair.feed_client();
        assert_eq!(pair.read(), b"answer");
        assert_eq!(pair.session.encrypt(&[IoSlice::new(b"x")]), Err(SessionError::NotOpen));

        let mut pair = Pair::open(version);
        pair.session.close_notify();
        pair.session.close_notify();
        pair.feed_client();
        assert_eq!(pair.client.reader().read(&mut [0; 8]).unwrap(), 0);
        pair.client.writer().write_all(b"late").unwrap();
        pair.run().unwrap();
        assert_eq!(pair.plain, b"late");
    }
}

/// The first flight of a client as one handshake message.
fn hello(fixture: &Fixture) -> Vec<u8> {
    let mut pair = Pair::new(fixture.server(), fixture.client(&TLS13));
    let mut bytes = Vec::new();
    pair.client.write_tls(&mut bytes).unwrap();
    bytes.split_off(5)
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x16, 3, 1], &length[..], payload].concat()
}

#[test]
fn a_hello_in_many_records_is_put_together_and_the_session_may_be_asked_meanwhile() {
    let fixture = Fixture::new();
    let hello = hello(&fixture);
    for size in [1, 3, 4, 5, 50, 200] {
        for whole in [true, false] {
            let mut session = TlsSession::new(fixture.server()).unwrap();
            let records: Vec<Vec<u8>> = hello.chunks(size).map(record).collect();
            let mut wire = records.concat();
            let mut plain = Vec::new();
            for chunk in wire.chunks_mut(if whole { usize::MAX } else { size + 5 }) {
                assert!(!session.wants_write());
                session.receive(chunk, &mut plain).unwrap();
                if !session.wants_write() {
                    assert_eq!(session.encrypt(&[IoSlice::new(b"x")]), Err(SessionError::NotOpen));
                    session.close_notify();
                }
            }
            assert!(session.wants_write() && session.pending.capacity() == 0, "{size}");
        }
    }
}

#[test]
fn a_handshake_message_without_end_is_refused() {
    let fixture = Fixture::new();
    for size in [64, 16_384] {
        let mut session = TlsSession::new(fixture.server()).unwrap();
        let mut plain = Vec::new();
        let mut first = vec![1, 0, 0xff, 0xff];
        first.resize(size, 0);
        let mut outcome = session.receive(&mut record(&first), &mut plain);
        let mut total = size;
        while outcome.is_ok() && total < 1 << 20 {
            outcome = session.receive(&mut record(&vec![0; size]), &mut plain);
            total += size;
        }
        assert_eq!(outcome, Err(SessionError::TooLong));
        assert!(total <= 2 * TLS_PENDING_BYTES_MAX, "{total}");
        let mut session = TlsSession::new(fixture.server()).unwrap();
        let mut at_once = record(&first);
        at_once.extend(record(&vec![0; size]).repeat(60_000 / size));
        assert_eq!(session.receive(&mut at_once, &mut plain), Err(SessionError::TooLong));
    }
}

#[test]
fn keys_may_be_updated_but_not_for_ever() {
    let mut pair = Pair::open(&TLS13);
    for round in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(b"ping").unwrap();
        pair.feed_session().unwrap();
        pair.session.encrypt(&[IoSlice::new(&[round])]).unwrap();
        pair.feed_client();
        assert_eq!(pair.read(), [round]);
    }
    assert!(pair.plain == b"pingpingping" && pair.owns_no_buffer());
    let flood = (0..100).try_for_each(|_| {
        pair.client.refresh_traffic_keys().unwrap();
        pair.feed_session()
    });
    assert!(matches!(flood, Err(SessionError::Tls(rustls::Error::PeerMisbehaved(_)))), "{flood:?}");
}

#[test]
fn no_changed_byte_of_a_hello_makes_it_panic() {
    let fixture = Fixture::new();
    let good = record(&hello(&fixture));
    let config = fixture.server();
    for position in 0..good.len() {
        let mut bytes = good.clone();
        bytes[position] = bytes[position].wrapping_add(1 + position as u8 % 255);
        let mut session = TlsSession::new(config.clone()).unwrap();
        drop(session.receive(&mut bytes, &mut Vec::new()));
        session.close_notify();
        drop(session.encrypt(&[IoSlice::new(b"x")]));
    }
}
