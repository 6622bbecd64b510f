//! Inlets that pause while what sells is not ready (`QUEUE_READY_URLS`).

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivatePkcs8KeyDer};
use tempfile::TempDir;
use usher::generated::realtime::{
    AdmitNextRequest, OpenQueueRequest, PauseQueueRequest, open_queue_request::Inlet,
};

use crate::{
    queues::{advance, join, look, open_with, pair, until},
    support::{
        grpc::Backend,
        holds_soon,
        server::{Server, text},
    },
};

/// A shop: answers each request with the status that it has then.
struct Shop {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
    is_secure: bool,
}

impl Shop {
    fn open() -> Self {
        Self::behind(None)
    }

    /// With a certificate that it signed itself, PEM in the file.
    fn secure(certificate: &Path) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        fs::write(certificate, cert.pem()).expect("a file");
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate with its key");
        Self::behind(Some(Arc::new(config)))
    }

    fn behind(tls: Option<Arc<ServerConfig>>) -> Self {
        let is_secure = tls.is_some();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let (says, counts) = (Arc::clone(&status), Arc::clone(&asked));
        // Ends with the test's process.
        std::thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                let mut head = [0; 4096];
                let status = says.load(Ordering::Relaxed);
                let location = format!("Location: http://{address}/elsewhere\r\n");
                let answer = format!(
                    "HTTP/1.1 {status} As It Is\r\n{location}Content-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let answered = match &tls {
                    None => socket.read(&mut head).and_then(|_| socket.write_all(answer.as_bytes())),
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).expect("a session");
                        let mut stream = StreamOwned::new(session, socket);
                        stream.read(&mut head).and_then(|_| stream.write_all(answer.as_bytes()))
                    }
                };
                // Whoever hung up has its answer by that, or did not want it.
                counts.fetch_add(usize::from(answered.is_ok()), Ordering::Relaxed);
            }
        });
        Self { address, status, asked, is_secure }
    }

    fn says(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn url(&self) -> String {
        format!("{}://{}/ready", if self.is_secure { "https" } else { "http" }, self.address)
    }
}

const ONE_INSIDE: OpenQueueRequest = OpenQueueRequest {
    event_id: String::new(),
    opens_at_ms: 0,
    secret: Vec::new(),
    inlet: Some(Inlet::Inside(1)),
    claim_seconds: 0,
    grace_seconds: 0,
    stay_seconds: 0,
    places_max: 0,
    run: 0,
    opens_in_seconds: 0,
    now: false,
    stay_forever: false,
};

fn pause(backend: &Backend, resume: bool) -> String {
    let request = PauseQueueRequest { event_id: "e1".into(), reason: "a rest".into(), resume, run: 0 };
    backend.pause_queue(request).expect("it answers").state
}

#[test]
fn an_inlet_pauses_while_the_shop_is_not_ready_and_goes_on_by_itself() {
    let (shop, other) = (Shop::open(), Shop::open());
    let urls = format!("{},{}", shop.url(), other.url());
    let server = Server::with(&[("QUEUE_READY_URLS", &urls)]);
    let backend = Backend::of(&server);
    open_with(&backend, ONE_INSIDE);
    let mut ann = server.connect_as("ann");
    join(&mut ann);
    until(&mut ann, "queue:admitted");
    let mut bob = server.connect_as("bob");
    join(&mut bob);

    // Elsewhere is not ready either.
    shop.says(302);
    let told = until(&mut bob, "queue:paused")["reason"].to_string();
    assert!(told.contains("shop") && !told.contains("127.0.0.1"), "{told}");
    assert_eq!(server.metric("usher_queue_target_down"), 1.0);
    assert!(server.metric("usher_queue_target_probes_total{result=\"not_ready\"}") >= 2.0);
    // Nobody is let in by itself, but an operator may.
    let done = usher::generated::realtime::HolderRequest {
        event_id: "e1".into(),
        holder: "ann".into(),
        ..Default::default()
    };
    assert_eq!(backend.complete(done).expect("she bought").admitted, 1);
    assert_eq!(look(&backend).state, "paused");
    let next = AdmitNextRequest { event_id: "e1".into(), count: 1, ..AdmitNextRequest::default() };
    assert_eq!(backend.admit_next(next).expect("it lets in").admitted, 2);
    until(&mut bob, "queue:admitted");

    let mut cid = server.connect_as("cid");
    join(&mut cid);
    until(&mut cid, "queue:paused");
    // The operator's pause is the operator's to end.
    assert_eq!(pause(&backend, false), "paused");
    let by: Vec<String> = look(&backend).pauses.into_iter().map(|pause| pause.by).collect();
    assert_eq!(by, ["operator", "target"]);
    shop.says(204);
    assert!(holds_soon(|| server.metric("usher_queue_target_down") == 0.0), "both are ready");
    assert!(holds_soon(|| look(&backend).pauses.len() == 1));
    let queue = look(&backend);
    assert_eq!(
        (&*queue.state, &*queue.pauses[0].by, &*queue.pauses[0].reason),
        ("paused", "operator", "a rest")
    );
    assert_eq!(pause(&backend, true), "open");
    until(&mut cid, "queue:resumed");
    assert!(other.asked() > 0 && server.log().contains("what sells is not ready"));
}

#[test]
fn a_shop_that_fails_is_asked_by_the_leader_alone_and_all_are_told() {
    let shop = Shop::open();
    let url = shop.url();
    let pair = pair(&[("QUEUE_READY_URLS", &url)]);
    let [one, other] = &pair.servers;
    open_with(&pair.backends[0], ONE_INSIDE);
    let asks = |server: &Server| server.metric("usher_queue_target_probes_total{result=\"ready\"}") > 0.0;
    assert!(holds_soon(|| asks(one) || asks(other)), "the leader asks");
    shop.says(500);
    let mut ann = one.connect_as("ann");
    let mut bob = other.connect_as("bob");
    [&mut ann, &mut bob].into_iter().for_each(|client| drop(join(client)));
    until(&mut ann, "queue:paused");
    until(&mut bob, "queue:paused");
    let leader = [one, other].map(|server| server.metric("usher_store_ingests"));
    let down = [one, other].map(|server| server.metric("usher_queue_target_down"));
    assert_eq!((down, down[0] + down[1]), (leader, 1.0));
    assert!(!(asks(one) && asks(other)), "the other asks nobody");
    assert_eq!(advance(&pair.backends[1], 2).admitted, 2, "an operator may");
}

#[test]
fn a_shop_behind_tls_counts_if_its_certificate_is_to_be_trusted() {
    let directory = TempDir::new().expect("a directory");
    let (own, others) = (directory.path().join("own.pem"), directory.path().join("others.pem"));
    let (shop, _other) = (Shop::secure(&own), Shop::secure(&others));
    for (ca, expected) in [(&own, "open"), (&others, "paused")] {
        let url = shop.url();
        let server = Server::with(&[("QUEUE_READY_URLS", &*url), ("QUEUE_READY_CA", text(ca))]);
        let backend = Backend::of(&server);
        open_with(&backend, ONE_INSIDE);
        let probes = || {
            let said =
                |result| server.metric(&format!("usher_queue_target_probes_total{{result=\"{result}\"}}"));
            (said("ready"), said("not_ready"))
        };
        let heard = |(ready, not_ready): (f64, f64)| ready + not_ready >= 3.0;
        assert!(
            holds_soon(|| heard(probes()) && look(&backend).state == expected),
            "{expected}: {:?}",
            probes()
        );
        let log = server.log();
        assert_eq!(log.contains("what sells is not ready"), expected == "paused", "{log}");
    }
    assert!(shop.asked() >= 3);
}
