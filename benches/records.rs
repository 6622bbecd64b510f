//! What encryption costs by the size of a TLS record: one message in each, or several together.
//!
//! `cargo bench --bench records`; with `-- --test` each runs once, so that none can rot. perf/notes.md says what came of it.

use std::{
    hint::black_box,
    io::{IoSlice, Write as _},
    sync::Arc,
};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};
use usher::{
    config::settings::TlsSource,
    net::{
        tls::{Ticketing, load},
        tls_session::TlsSession,
    },
};

/// A frame of a message with 128 bytes of payload.
const MESSAGE_BYTES: usize = 165;
const COUNTS: [usize; 6] = [1, 2, 4, 16, 64, 99];

/// A session behind its handshake.
fn session() -> TlsSession {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name| directory.path().join(name);
    std::fs::write(file("cert.pem"), made.cert.pem()).expect("a file");
    std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).expect("a file");
    let source = TlsSource::Files { cert: file("cert.pem"), key: file("key.pem") };
    let rules = load(&source, &Ticketing::new().expect("keys")).expect("rules");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("cert.pem")).expect("a certificate")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut session = TlsSession::new(rules).expect("a session");
    while client.is_handshaking() || session.is_handshaking() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).expect("memory");
        }
        session.receive(&mut flight, &mut Vec::new()).expect("a handshake");
        let mut answer = session.outgoing();
        let count = answer.len();
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("memory");
            client.process_new_packets().expect("a handshake");
        }
        session.sent(count);
    }
    client.writer().flush().expect("memory");
    session
}

/// Encrypts so many messages, together or each in a record of its own; bytes that go out.
fn encrypt(session: &mut TlsSession, parts: &[IoSlice<'_>], together: bool) -> usize {
    if together {
        session.encrypt(parts).expect("an open session");
    } else {
        parts.iter().for_each(|part| {
            session.encrypt(std::slice::from_ref(part)).expect("an open session");
        });
    }
    let count = black_box(session.outgoing()).len();
    session.sent(count);
    count
}

fn records(c: &mut Criterion) {
    let message = [b'm'; MESSAGE_BYTES];
    for count in COUNTS {
        let mut group = c.benchmark_group(format!("{count} messages of {MESSAGE_BYTES} B"));
        group.throughput(Throughput::Elements(count as u64));
        let parts = vec![IoSlice::new(&message); count];
        for (name, together) in [("in one record", true), ("in as many records", false)] {
            // A key is good for 2^24.5 records (RFC 8446 §5.5), of which a warm benchmark sees more: a session each.
            let mut open = session();
            let overhead = encrypt(&mut open, &parts, together) - count * MESSAGE_BYTES;
            group.bench_function(format!("{name}, {overhead} B more"), |b| {
                open = session();
                b.iter(|| encrypt(&mut open, &parts, together));
            });
        }
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("a key"));
        let plain = vec![b'm'; count * MESSAGE_BYTES + 1];
        group.bench_function("AES-128-GCM alone, with the copy", |b| {
            let mut record = Vec::with_capacity(plain.len() + 16);
            b.iter(|| {
                record.clear();
                record.extend_from_slice(black_box(&plain));
                let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
                key.seal_in_place_append_tag(nonce, Aad::from([0; 5]), &mut record)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, records);
criterion_main!(benches);
