//! Keys other than a shared secret: PEM files, JWKS files and addresses, and their rotation (D10).

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    http::Stream,
    keys::{base64url, claims, hand_made, sign, token_for},
    server::{Server, text},
    ws::{Ask, Client},
};

/// A key pair and the algorithms that it signs with.
struct Pair {
    pem: String,
    public: Vec<u8>,
    signing: EncodingKey,
    algorithms: Vec<Algorithm>,
}

impl Pair {
    fn new(kind: &'static SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(kind).expect("a key pair");
        let private = pair.serialize_der();
        let (signing, algorithms) = if kind == &PKCS_RSA_SHA256 {
            let all =
                [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS512];
            (EncodingKey::from_rsa_der(pkcs1(&private)), all.to_vec())
        } else if kind == &PKCS_ED25519 {
            (EncodingKey::from_ed_der(&private), vec![Algorithm::EdDSA])
        } else {
            (EncodingKey::from_ec_der(&private), vec![Algorithm::ES256])
        };
        Self { pem: pair.public_key_pem(), public: pair.public_key_raw().to_vec(), signing, algorithms }
    }

    fn token(&self, algorithm: Algorithm, kid: Option<&str>) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        sign(&header, &claims("ann"), &self.signing)
    }

    /// The public key as a document lists it (RFC 7518, 6.2; RFC 8037, 2).
    fn jwk(&self, kid: &str) -> Value {
        match (self.algorithms[0], self.public.as_slice()) {
            (Algorithm::ES256, [4, point @ ..]) => {
                let (x, y) = point.split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": base64url(x), "y": base64url(y)})
            }
            (Algorithm::EdDSA, point) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64url(point)})
            }
            other => panic!("{other:?} is not listed in these tests"),
        }
    }
}

/// The RSA key within its PKCS #8 wrapping: what follows the header of the octet string.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    let octets = pkcs8.windows(2).position(|pair| pair == [0x04, 0x82]).expect("an octet string");
    &pkcs8[octets + 4..]
}

fn bearer(token: &str) -> Ask {
    Ask::to("/ws").bearer(token)
}

/// Puts a whole new file in the place of the old one, so that nobody reads half of it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file");
    fs::rename(&new, path).expect("the same directory");
}

fn document(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

#[test]
fn pem_keys_verify_their_own_kind_alone() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("key.pem");
    for kind in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let pair = Pair::new(kind);
        fs::write(&path, &pair.pem).expect("a file");
        let server = Server::with(&[("JWT_SECRET", ""), ("JWT_PUBLIC_KEY_FILE", text(&path))]);
        for algorithm in &pair.algorithms {
            let token = server.remember(pair.token(*algorithm, None));
            assert_eq!(server.status_of(&bearer(&token)), 101, "{algorithm:?}");
        }
        assert_eq!(
            server.status_of(&bearer(&token_for("ann"))),
            401,
            "a shared secret that nobody configured"
        );
        let confused = EncodingKey::from_secret(pair.pem.as_bytes());
        let confused = sign(&Header::new(Algorithm::HS256), &claims("ann"), &confused);
        assert_eq!(server.status_of(&bearer(&confused)), 401, "the public key as a shared secret (D1)");
        let other = Pair::new(kind).token(pair.algorithms[0], None);
        assert_eq!(server.status_of(&bearer(&other)), 401, "another key of the same kind");
    }
}

#[test]
fn the_configured_algorithms_are_the_only_ones() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("key.pem");
    let pair = Pair::new(&PKCS_RSA_SHA256);
    fs::write(&path, &pair.pem).expect("a file");
    let environment =
        [("JWT_SECRET", ""), ("JWT_PUBLIC_KEY_FILE", text(&path)), ("JWT_ALGORITHMS", "RS256,PS256")];
    let server = Server::with(&environment);
    let status = |algorithm| server.status_of(&bearer(&pair.token(algorithm, None)));
    assert_eq!(status(Algorithm::RS256), 101);
    assert_eq!(status(Algorithm::PS256), 101);
    assert_eq!(status(Algorithm::RS512), 401);
}

#[test]
fn a_document_names_its_keys_and_is_read_again() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("jwks.json");
    let (old, new) = (Pair::new(&PKCS_ECDSA_P256_SHA256), Pair::new(&PKCS_ED25519));
    fs::write(&path, document(&[old.jwk("old")])).expect("a file");
    let server = Server::with(&[("JWT_SECRET", ""), ("JWT_JWKS_FILE", text(&path))]);
    let old_token = server.remember(old.token(Algorithm::ES256, Some("old")));
    let new_token = server.remember(new.token(Algorithm::EdDSA, Some("new")));
    assert_eq!(server.status_of(&bearer(&old_token)), 101);
    assert_eq!(server.status_of(&bearer(&new_token)), 401);
    assert_eq!(server.status_of(&bearer(&old.token(Algorithm::ES256, Some("nobody")))), 401);
    let body = claims("ann").to_string();
    assert_eq!(server.status_of(&bearer(&hand_made(r#"{"alg":"HS256","kid":"old"}"#, &body))), 401);

    replace(&path, &document(&[old.jwk("old"), new.jwk("new")]));
    server.signal(Signal::HUP);
    let taken = (0..2_000).any(|_| {
        assert_eq!(server.status_of(&bearer(&old_token)), 101, "no spurious refusal while keys rotate (D10)");
        server.status_of(&bearer(&new_token)) == 101
    });
    assert!(taken, "the new key was not read");
    let read = |result: &str| server.metric(&format!(r#"usher_key_documents_total{{result="{result}"}}"#));
    assert_eq!((read("done"), read("failed")), (1.0, 0.0));

    replace(&path, "no document");
    assert!((0..20_000).any(|_| read("failed") == 1.0), "the bad file was not read");
    assert_eq!(server.status_of(&bearer(&new_token)), 101, "a bad file keeps the keys that there are");
    assert_eq!(read("done"), 1.0);
}

/// D10. Clients with both keys connect all the time while the document changes.
#[test]
fn rotation_under_load_refuses_nobody() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("jwks.json");
    let put = |keys: &[Value]| {
        fs::write(path.with_extension("new"), document(keys)).expect("a file");
        fs::rename(path.with_extension("new"), &path).expect("a file");
    };
    let [old, new] = [("old", Pair::new(&PKCS_ED25519)), ("new", Pair::new(&PKCS_ECDSA_P256_SHA256))];
    let jwks = [&old, &new].map(|(kid, pair)| pair.jwk(kid));
    put(&jwks);
    let environment = [
        ("JWT_SECRET", ""),
        ("JWT_JWKS_FILE", text(&path)),
        // An unknown key is held against nobody (D6).
        ("RATE_LIMIT_MAX_AUTH_FAILURES", "1"),
        ("RATE_LIMIT_AUTH_WINDOW", "1h"),
    ];
    let server = Server::with(&environment);
    let address = server.ws;
    let done = AtomicBool::new(false);
    let connect = |ask: Ask| {
        let mut refused = Vec::new();
        let mut connected = 0;
        while !done.load(Ordering::Relaxed) && connected < CONNECTIONS_MAX {
            match Client::open(Stream::plain(address), &ask) {
                Ok(_) => connected += 1,
                Err(answer) => refused.push(answer.status),
            }
        }
        (connected, refused)
    };
    std::thread::scope(|scope| {
        let clients = [&old, &new].map(|(kid, pair)| {
            let ask = bearer(&server.remember(pair.token(pair.algorithms[0], Some(kid))));
            scope.spawn(move || connect(ask))
        });
        for turn in 0..TURNS {
            let next = Pair::new(&PKCS_ED25519);
            let kid = format!("next{turn}");
            let ask = bearer(&server.remember(next.token(Algorithm::EdDSA, Some(&kid))));
            assert_eq!(server.status_of(&ask), 401);
            put(&[next.jwk(&kid), jwks[turn % 2].clone(), jwks[1 - turn % 2].clone()]);
            assert!((0..20_000).any(|_| server.status_of(&ask) == 101), "the document was not read again");
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            let (connected, refused) = client.join().expect("a client");
            assert_eq!(refused, [0; 0], "of {connected}");
            assert!(connected > 0);
        }
    });
}

/// How often the document changes.
const TURNS: usize = 50;
/// Connections of one client meanwhile, at most.
const CONNECTIONS_MAX: u32 = 50_000;

#[test]
fn an_address_is_fetched_at_start_and_for_an_unknown_key() {
    let (old, new) = (Pair::new(&PKCS_ED25519), Pair::new(&PKCS_ED25519));
    let site = Site::serve();
    site.documents.send(document(&[old.jwk("old")])).expect("the site runs");
    let url = format!("http://{}/jwks.json", site.address);
    let server = Server::with(&[("JWT_SECRET", ""), ("JWT_JWKS_URL", &url)]);
    site.fetched.recv_timeout(PATIENCE).expect("fetched at start");
    let old_token = server.remember(old.token(Algorithm::EdDSA, Some("old")));
    let new_token = server.remember(new.token(Algorithm::EdDSA, Some("new")));
    assert!((0..2_000).any(|_| server.status_of(&bearer(&old_token)) == 101));

    site.documents.send(document(&[old.jwk("old"), new.jwk("new")])).expect("the site runs");
    assert_eq!(server.status_of(&bearer(&new_token)), 401);
    site.fetched.recv_timeout(PATIENCE).expect("an unknown key id asks again");
    let taken = (0..2_000).any(|_| {
        assert_eq!(server.status_of(&bearer(&old_token)), 101);
        server.status_of(&bearer(&new_token)) == 101
    });
    assert!(taken, "the new key was not fetched");
}

/// Serves each document sent to it to one request, then the next.
struct Site {
    address: SocketAddr,
    documents: SyncSender<String>,
    fetched: Receiver<()>,
    _thread: JoinHandle<()>,
}

impl Site {
    fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (documents, next) = sync_channel::<String>(8);
        let (done, fetched) = sync_channel(8);
        let thread = std::thread::spawn(move || {
            for body in next {
                let Ok((mut socket, _)) = listener.accept() else { return };
                let mut head = [0; 4096];
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{body}"
                );
                let served = socket.read(&mut head).and_then(|_| socket.write_all(answer.as_bytes()));
                if served.is_err() || done.send(()).is_err() {
                    return;
                }
            }
        });
        Self { address, documents, fetched, _thread: thread }
    }
}
