//! What cryptography costs alone: the operations that a wss delivery or a handshake cannot do without.
//!
//! One thread, its own CPU time, no sockets. Each operation proves that it did what its name says, or there is no figure.
//! Operations are those of aws-lc-rs and jsonwebtoken, which the gateway and rustls run on.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    agreement::{Algorithm, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral},
    error::Unspecified,
    rand::{self, SystemRandom},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey as VerifyingKey,
    },
};
use jsonwebtoken::{DecodingKey, Validation};
use rustls::{ClientConnection, HandshakeKind, ServerConfig, ServerConnection};
use serde::{Deserialize, Serialize};
use usher::{
    config::settings::TlsSource,
    net::tls::{self, Ticketing},
};

use crate::{
    clock,
    options::{self, Options},
    order::Audience,
    publish::Topic,
    tls::Connector,
    token::{self, Mint},
};

/// Bytes of plaintext that one record may carry (RFC 8446 §5.1).
const RECORD_PLAIN_MAX: usize = 1 << 14;
/// Application data, as the content type behind the plaintext and in the header (RFC 8446 §5.2).
const APPLICATION_DATA: u8 = 23;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 16;
/// What the server signs in `CertificateVerify`: 64 spaces, 33 bytes of context, a zero, a hash (RFC 8446 §4.4.3).
const SIGNED_BYTES: usize = 64 + 33 + 1 + 32;
/// Flights of a handshake at most, each way.
const FLIGHTS_MAX: usize = 8;

/// Nanoseconds of CPU time for one operation, by name, and what else is to be known of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Costs {
    ns: BTreeMap<&'static str, f64>,
    /// Bytes on the wire, or numbers of things, by name.
    sizes: BTreeMap<&'static str, usize>,
}

impl Costs {
    /// Writes the result to stdout; `true`: a figure exists only where its check held.
    pub(crate) fn print(&self, json: bool) -> io::Result<bool> {
        let mut out = io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
            return Ok(true);
        }
        for (name, ns) in &self.ns {
            writeln!(out, "  {name:<38} {ns:>14.1} ns")?;
        }
        for (name, size) in &self.sizes {
            writeln!(out, "  {name:<38} {size:>14}")?;
        }
        Ok(true)
    }
}

/// CPU nanoseconds of one call, over at least so many seconds.
fn ns_each(seconds: f64, mut operation: impl FnMut() -> io::Result<()>) -> io::Result<f64> {
    let mut count = 1u32;
    loop {
        let began_ns = clock::thread_ns();
        for _ in 0..count {
            operation()?;
        }
        let took_ns = clock::thread_ns() - began_ns;
        if took_ns as f64 >= seconds * 1e9 || count > u32::MAX / 2 {
            return Ok(took_ns as f64 / f64::from(count));
        }
        count *= 2;
    }
}

fn failed(what: &'static str) -> io::Error {
    io::Error::other(format!("{what}: the operation failed or did not do what it should"))
}

/// Seals one record after the other, with one key in turn of many: the plaintext is copied and sealed in place.
pub(crate) fn seal(options: &Options, asked: &options::Seal) -> io::Result<Costs> {
    let topic = Topic {
        audience: Audience::Room,
        room: options.room.clone(),
        users: 1,
        receivers: 1,
        kind: options.kind.clone(),
        payload_bytes: options.payload,
        each: false,
    };
    let mut frames = Vec::new();
    (0..asked.window).for_each(|number| topic.frame(number, clock::mono_ns(), &mut frames));
    let mut sealer = Sealer::new(&frames, asked.keys).map_err(|Unspecified| failed("a key"))?;
    let ns = ns_each(asked.seconds, || sealer.seal().map_err(|Unspecified| failed("a seal")))?;
    if !sealer.opens(&frames) {
        return Err(failed("the last record"));
    }
    Ok(Costs {
        ns: [("record", ns), ("message", ns / f64::from(asked.window))].into(),
        sizes: [
            ("plain_bytes", frames.len()),
            ("record_bytes", sealer.header.len() + sealer.record.len()),
            ("messages", asked.window as usize),
            ("keys", asked.keys as usize),
        ]
        .into(),
    })
}

/// Records as TLS 1.3 makes them (RFC 8446 §5.2).
struct Sealer {
    plain: Vec<u8>,
    header: [u8; 5],
    record: Vec<u8>,
    keys: Vec<LessSafeKey>,
    /// Records so far; the nonce of each.
    count: u64,
}

impl Sealer {
    fn new(frames: &[u8], key_count: u32) -> Result<Self, Unspecified> {
        if frames.len() > RECORD_PLAIN_MAX {
            return Err(Unspecified);
        }
        let plain = [frames, &[APPLICATION_DATA]].concat();
        let [high, low] = ((plain.len() + TAG_BYTES) as u16).to_be_bytes();
        let key = |_| {
            let mut bytes = [0; KEY_BYTES];
            rand::fill(&mut bytes)?;
            Ok(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes)?))
        };
        Ok(Self {
            record: Vec::with_capacity(plain.len() + TAG_BYTES),
            header: [APPLICATION_DATA, 3, 3, high, low],
            plain,
            keys: (0..key_count).map(key).collect::<Result<_, Unspecified>>()?,
            count: 0,
        })
    }

    fn place(&self, count: u64) -> (&LessSafeKey, Nonce) {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&count.to_be_bytes());
        (&self.keys[(count % self.keys.len() as u64) as usize], Nonce::assume_unique_for_key(nonce))
    }

    fn seal(&mut self) -> Result<(), Unspecified> {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        record.extend_from_slice(&self.plain);
        let (key, nonce) = self.place(self.count);
        key.seal_in_place_append_tag(nonce, Aad::from(self.header), &mut record)?;
        self.record = record;
        self.count += 1;
        Ok(())
    }

    /// Whether the last record holds these frames.
    fn opens(&self, frames: &[u8]) -> bool {
        let Some(last) = self.count.checked_sub(1) else { return false };
        let (key, nonce) = self.place(last);
        let mut record = self.record.clone();
        let opened = key.open_in_place(nonce, Aad::from(self.header), &mut record);
        opened.is_ok_and(|plain| plain.split_last() == Some((&APPLICATION_DATA, frames)))
    }
}

/// The operations of a handshake, each alone.
pub(crate) fn keyop(asked: &options::Keyop) -> io::Result<Costs> {
    let seconds = asked.seconds;
    let mut costs = Costs::default();
    costs.ns.insert("jwt_hs256", jwt(seconds)?);
    costs.ns.insert("p256_sign", sign(seconds)?);
    costs.ns.insert("x25519", exchange(&X25519, seconds)?);
    costs.ns.insert("p256_ecdhe", exchange(&ECDH_P256, seconds)?);
    for (name, resume) in [("rustls_full", false), ("rustls_resumed", true)] {
        costs.ns.insert(name, Handshaker::new(resume)?.ns_each(seconds)?);
    }
    Ok(costs)
}

/// The check of a token as the load generator's users have it.
fn jwt(seconds: f64) -> io::Result<f64> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    const SECRET: &str = "a secret for the bare check, 32 B+";
    let user = token::user(12_345);
    let token = Mint::new(SECRET).token(&user)?;
    let (key, rules) = (DecodingKey::from_secret(SECRET.as_bytes()), Validation::default());
    ns_each(seconds, || {
        let decoded = jsonwebtoken::decode::<Claims>(&token, &key, &rules).map_err(io::Error::other)?;
        if decoded.claims.sub == user { Ok(()) } else { Err(failed("a token")) }
    })
}

/// One signature of a server.
fn sign(seconds: f64) -> io::Result<f64> {
    let bad = |_| failed("a signature");
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(bad)?;
    let (random, message) = (SystemRandom::new(), [b' '; SIGNED_BYTES]);
    let mut last = None;
    let ns = ns_each(seconds, || {
        last = Some(pair.sign(&random, &message).map_err(bad)?);
        Ok(())
    })?;
    let last = last.ok_or_else(|| failed("a signature"))?;
    let verifier = VerifyingKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
    verifier.verify(&message, last.as_ref()).map_err(bad)?;
    Ok(ns)
}

/// A server's side of one ephemeral exchange: a key of its own, and what both have in common.
fn exchange(group: &'static Algorithm, seconds: f64) -> io::Result<f64> {
    let bad = |_| failed("a key exchange");
    let random = SystemRandom::new();
    let key = || EphemeralPrivateKey::generate(group, &random);
    let peer = key().and_then(|key| key.compute_public_key()).map_err(bad)?;
    let common = |mine: EphemeralPrivateKey, theirs: &[u8]| {
        let theirs = UnparsedPublicKey::new(group, theirs);
        agree_ephemeral(mine, theirs, Unspecified, |secret| Ok(secret.to_vec())).map_err(bad)
    };
    // Both sides of one exchange come to the same.
    let (one, other) = (key().map_err(bad)?, key().map_err(bad)?);
    let (of_one, of_other) =
        (one.compute_public_key().map_err(bad)?, other.compute_public_key().map_err(bad)?);
    if common(one, of_other.as_ref())? != common(other, of_one.as_ref())? {
        return Err(failed("a key exchange"));
    }
    ns_each(seconds, || {
        let mine = key().map_err(bad)?;
        // It goes into the ServerHello.
        std::hint::black_box(mine.compute_public_key().map_err(bad)?);
        std::hint::black_box(common(mine, peer.as_ref())?);
        Ok(())
    })
}

/// Handshakes of rustls in memory under the gateway's rules: the server's part of the time.
struct Handshaker {
    rules: std::sync::Arc<ServerConfig>,
    clients: Connector,
    resume: bool,
}

impl Handshaker {
    fn new(resume: bool) -> io::Result<Self> {
        let tickets = Ticketing::new().map_err(io::Error::other)?;
        let rules = tls::load(&TlsSource::SelfSigned, &tickets).map_err(io::Error::other)?;
        let handshaker = Self { rules, clients: Connector::new("127.0.0.1", resume)?, resume };
        if resume {
            // The first has no ticket.
            handshaker.once()?;
        }
        Ok(handshaker)
    }

    fn ns_each(&self, seconds: f64) -> io::Result<f64> {
        let wanted = if self.resume { HandshakeKind::Resumed } else { HandshakeKind::Full };
        let (mut sum_ns, mut count) = (0, 0u32);
        loop {
            let (ns, kind) = self.once()?;
            if kind != Some(wanted) {
                return Err(failed("a TLS handshake"));
            }
            (sum_ns, count) = (sum_ns + ns, count + 1);
            if sum_ns as f64 >= seconds * 1e9 {
                return Ok(sum_ns as f64 / f64::from(count));
            }
        }
    }

    /// One handshake to the ticket behind it: the server's nanoseconds, and how the client says that it was.
    fn once(&self) -> io::Result<(u64, Option<HandshakeKind>)> {
        let mut client = self.clients.connect()?;
        let began_ns = clock::thread_ns();
        let mut server = ServerConnection::new(self.rules.clone()).map_err(io::Error::other)?;
        let mut ns = clock::thread_ns() - began_ns;
        for _ in 0..FLIGHTS_MAX {
            let flight = sent_by(&mut client)?;
            let began_ns = clock::thread_ns();
            let answer = Self::answer(&mut server, &flight)?;
            ns += clock::thread_ns() - began_ns;
            let mut rest = &answer[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest)?;
                client.process_new_packets().map_err(io::Error::other)?;
            }
            if !client.is_handshaking() && !server.is_handshaking() {
                return Ok((ns, client.handshake_kind()));
            }
        }
        Err(failed("a TLS handshake"))
    }

    fn answer(server: &mut ServerConnection, mut flight: &[u8]) -> io::Result<Vec<u8>> {
        while !flight.is_empty() {
            server.read_tls(&mut flight)?;
            server.process_new_packets().map_err(io::Error::other)?;
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer)?;
        }
        Ok(answer)
    }
}

fn sent_by(client: &mut ClientConnection) -> io::Result<Vec<u8>> {
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight)?;
    }
    Ok(flight)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_22_bytes_longer_than_its_frames_and_opens_with_the_key_whose_turn_it_was() {
        let mut sealer = Sealer::new(b"frames", 3).unwrap();
        assert!(!sealer.opens(b"frames"), "nothing was sealed");
        for _ in 0..4 {
            sealer.seal().unwrap();
            assert!(sealer.opens(b"frames"));
            assert!(!sealer.opens(b"Frames"));
        }
        assert_eq!(sealer.header.len() + sealer.record.len(), b"frames".len() + 22);
        assert!(Sealer::new(&[0; RECORD_PLAIN_MAX + 1], 1).is_err());
    }

    #[test]
    fn every_operation_does_what_its_name_says() {
        let costs = keyop(&options::Keyop { seconds: 0.0 }).unwrap();
        assert_eq!(
            costs.ns.keys().copied().collect::<Vec<_>>(),
            ["jwt_hs256", "p256_ecdhe", "p256_sign", "rustls_full", "rustls_resumed", "x25519"]
        );
    }

    #[test]
    fn only_who_has_a_ticket_resumes() {
        let full = Handshaker::new(false).unwrap();
        assert_eq!(full.once().unwrap().1, Some(HandshakeKind::Full));
        let resuming = Handshaker { clients: Connector::new("127.0.0.1", true).unwrap(), ..full };
        let kinds: Vec<_> = (0..3).map(|_| resuming.once().unwrap().1).collect();
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed].map(Some));
    }
}
