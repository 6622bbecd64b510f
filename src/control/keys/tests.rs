use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    time::Duration,
};

use super::*;
use crate::config::{Settings, settings::Secret};

const EMPTY_SET: &str = r#"{"keys":[]}"#;
const START: Now = Now { mono_ns: 0, wall_ms: 0 };

fn set(ids: &[&str]) -> String {
    let keys: Vec<String> =
        ids.iter().map(|id| format!(r#"{{"kty":"oct","kid":"{id}","k":"c2VjcmV0"}}"#)).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// A public key, since a URL brings no secrets.
fn published(id: &str) -> String {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037, A.2
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#)
}

fn auth(keys: Vec<KeySource>) -> Auth {
    Auth { keys, ..Settings::default().auth }
}

fn url(url: impl Into<String>) -> KeySource {
    KeySource::JwksUrl { url: url.into(), refresh: Duration::from_secs(300) }
}

/// Answers one request with each of these, then stops listening.
fn serve(answers: Vec<(u16, String)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    format!("http://{address}/jwks.json")
}

fn error_of(origin: KeySource) -> String {
    Source::open(origin, START).unwrap_err().to_string()
}

#[test]
fn a_source_that_fails_is_named_without_its_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    let missing = error_of(KeySource::Pem(directory.path().join("absent.pem")));
    assert!(missing.contains("absent.pem: No such file"), "{missing}");
    fs::write(&file, EMPTY_SET).unwrap();
    assert!(error_of(KeySource::JwksFile(file.clone())).contains("keys.json: no usable key"));
    assert!(error_of(KeySource::Pem(file.clone())).contains("keys.json: no PEM block"));
    fs::write(&file, " ".repeat(KEY_DOCUMENT_BYTES_MAX as usize + 1)).unwrap();
    assert!(error_of(KeySource::JwksFile(file)).contains("keys.json: file is too large"));
    assert_eq!(error_of(KeySource::Secret(Secret(String::new()))), "JWT_SECRET: the secret is empty");
    let address = serve(vec![(404, String::new())]).replace("http://", "http://user:canary@");
    let failed = error_of(url(format!("{address}?key=canary")));
    assert!(
        failed.contains("/jwks.json: ") && failed.contains("404") && !failed.contains("canary"),
        "{failed}"
    );
    let nothing = error_of(url(serve(vec![(200, set(&["a"]))])));
    assert!(nothing.contains("no usable key"), "a secret that is published is none: {nothing}");
}

#[test]
fn a_changed_file_is_read_again_and_a_bad_one_keeps_the_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    fs::write(&file, set(&["a"])).unwrap();
    let mut source = Source::open(KeySource::JwksFile(file.clone()), START).unwrap();
    assert_eq!(source.look(START, true).unwrap(), Looked::NotDue);
    fs::write(&file, set(&["a", "b"])).unwrap();
    assert_eq!(source.look(START, false).unwrap(), Looked::Changed);
    assert_eq!(source.keys.len(), 2);
    // Touched, not changed: a new file with the same text.
    fs::remove_file(&file).unwrap();
    assert!(matches!(source.look(START, false), Err(KeyError::Read { .. })));
    assert_eq!(source.look(START, false).unwrap(), Looked::NotDue, "a missing file is reported once");
    fs::write(&file, set(&["a", "b"])).unwrap();
    assert_eq!(source.look(START, false).unwrap(), Looked::Unchanged);
    fs::write(&file, "not json").unwrap();
    assert!(matches!(source.look(START, false), Err(KeyError::Content { .. })));
    assert_eq!(source.look(START, false).unwrap(), Looked::NotDue, "a bad file is reported once");
    assert_eq!(source.keys.len(), 2);
}

#[test]
fn a_url_is_fetched_when_due_and_for_unknown_keys_once_a_minute() {
    let origin = url("http://unused");
    let mut due = Due::after(&origin, START);
    let at = |seconds| START.after(Duration::from_secs(seconds));
    let steps = [
        (0, false, false),
        (1, true, true),
        (2, true, false),
        (60, true, false),
        (61, true, true),
        (299, false, false),
        (300, false, true),
    ];
    for (seconds, unknown, expected) in steps {
        assert_eq!(due.is_due(at(seconds), unknown), expected, "{seconds} s");
    }
    due.tried(&origin, at(300), false);
    assert!(!due.is_due(at(359), false) && due.is_due(at(360), false), "sooner after a failure");
    due.tried(&origin, at(360), true);
    assert!(!due.is_due(at(659), false) && due.is_due(at(660), false));
}

#[test]
fn a_url_that_fails_keeps_its_keys() {
    let answers = [(200, published("a")), (500, String::new()), (200, published("b")), (200, published("b"))];
    let mut source = Source::open(url(serve(answers.to_vec())), START).unwrap();
    let at = |minutes: u64| START.after(Duration::from_secs(60 * minutes));
    assert!(matches!(source.look(at(5), false), Err(KeyError::Fetch { .. })));
    assert_eq!(source.keys.len(), 1);
    assert_eq!(source.look(at(6), false).unwrap(), Looked::Changed);
    assert_eq!(source.look(at(11), false).unwrap(), Looked::Unchanged, "the same text is no change");
}

#[tokio::test]
async fn an_unknown_key_brings_new_keys() {
    let address = serve(vec![(200, published("a")), (200, published("b"))]);
    let ring = load(&auth(vec![KeySource::Secret(Secret("secret".into())), url(address)])).await.unwrap();
    assert_eq!(ring.keys().len(), 2);
    let before = ring.verifier();
    let status = Arc::new(Status::new(1, START));
    let mut watcher = ring.watch(status.clone());
    watcher.unknown_key();
    let after = watcher.changed().await;
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!((status.control.keys_refreshed.get(), status.control.keys_failed.get()), (1, 0));
}

#[tokio::test]
async fn a_secret_needs_no_watching() {
    let ring = load(&auth(vec![KeySource::Secret(Secret("secret".into()))])).await.unwrap();
    let watcher = ring.watch(Arc::new(Status::new(1, START)));
    assert!(watcher.task.is_none());
}

#[tokio::test]
async fn rules_that_fit_no_key_are_an_error_at_start() {
    let mut auth = auth(vec![KeySource::Secret(Secret("secret".into()))]);
    auth.algorithms = vec!["ES256".into()];
    assert!(matches!(load(&auth).await, Err(KeyError::Rules(VerifierError::NoKeyFits))));
}
