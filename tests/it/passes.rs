//! Passes: keys that are published on both ports and rotated, and the commands that make and check passes.

use std::{fs, path::Path};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::server::{Server, command, text};

const JWKS: &str = "/.well-known/jwks.json";

/// Exit code and both outputs of a command.
fn run(arguments: &[&str], key: Option<&Path>) -> (i32, String) {
    let mut command = command();
    if let Some(key) = key {
        command.env("PASS_KEY_FILE", key);
    }
    let output = command.args(arguments).output().expect("the binary was built");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ended by itself"), String::from_utf8_lossy(&said).trim().to_owned())
}

fn replace(path: &Path, content: &str) {
    let next = path.with_extension("next");
    fs::write(&next, content).expect("a file");
    fs::rename(&next, path).expect("a file");
}

fn pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).expect("a key pair")
}

fn count(document: &Value) -> usize {
    document["keys"].as_array().expect("keys").len()
}

#[test]
fn a_made_pass_is_good_where_the_keys_of_the_gateway_are_known() {
    for kind in [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
        let directory = TempDir::new().expect("a directory");
        let key = directory.path().join("pass.pem");
        fs::write(&key, KeyPair::generate_for(kind).expect("a key pair").serialize_pem()).expect("a file");
        let server = Server::with(&[("PASS_KEY_FILE", text(&key))]);
        let (code, pass) =
            run(&["pass", "make", "--user", "zoe", "--event", "e1", "--place", "7"], Some(&key));
        assert_eq!(code, 0, "{pass}");
        server.remember(pass.clone());
        let verify =
            |event: &str, jwks: &str| run(&["pass", "verify", &pass, "--event", event, "--jwks", jwks], None);

        let document = server.get(JWKS);
        assert_eq!((document.status, document.header("content-type")), (200, Some("application/json")));
        assert_eq!(document.json(), server.admin(JWKS).json(), "both ports say the same");
        let file = directory.path().join("jwks.json");
        fs::write(&file, document.text()).expect("a file");
        for jwks in
            [text(&file), &format!("http://{}{JWKS}", server.ws), &format!("http://{}{JWKS}", server.admin)]
        {
            let (code, said) = verify("e1", jwks);
            assert!(code == 0 && said.starts_with("good: user zoe, place 7, event e1"), "{said}");
        }
        assert_eq!(verify("e2", text(&file)), (1, "error: the pass is for another event".into()));
        assert_eq!(verify("e1", "/nonexistent").0, 2);
        assert_eq!(
            server.status_of(&crate::support::ws::Ask::to("/ws").bearer(&pass)),
            401,
            "a pass is no login"
        );
    }
}

#[test]
fn without_a_file_each_run_has_a_key_of_its_own() {
    let servers = [Server::start(), Server::start()];
    let [one, other] = servers.each_ref().map(|server| server.get(JWKS).json());
    assert_eq!((count(&one), count(&other)), (1, 1));
    assert_ne!(one, other);
    assert!(servers[0].log().contains("no PASS_KEY_FILE"));
    let (code, said) = run(&["pass", "make", "--user", "zoe", "--event", "e1"], None);
    assert!(code == 2 && said.contains("PASS_KEY_FILE"), "{said}");
}

#[test]
fn keys_are_replaced_without_a_moment_in_which_old_passes_are_refused() {
    let directory = TempDir::new().expect("a directory");
    let [key, others] = ["pass.pem", "others.pem"].map(|name| directory.path().join(name));
    let (old, new) = (pair(), pair());
    fs::write(&key, old.serialize_pem()).expect("a file");
    fs::write(&others, "").expect("a file");
    let server = Server::with(&[("PASS_KEY_FILE", text(&key)), ("PASS_OTHER_KEYS_FILE", text(&others))]);
    let (_, pass) = run(&["pass", "make", "--user", "zoe", "--event", "e1"], Some(&key));
    let url = format!("http://{}{JWKS}", server.ws);
    let verified = || run(&["pass", "verify", &pass, "--event", "e1", "--jwks", &url], None).0;
    let first = server.get(JWKS).json()["keys"][0]["kid"].clone();

    // The next key is published, then used, then the old one goes.
    replace(&others, &new.public_key_pem());
    server.signal(Signal::HUP);
    assert!((0..20_000).any(|_| count(&server.get(JWKS).json()) == 2), "the next key was not published");
    assert_eq!(verified(), 0);
    replace(&others, &old.serialize_pem());
    replace(&key, &new.serialize_pem());
    server.signal(Signal::HUP);
    let in_use = |document: Value| document["keys"][0]["kid"] != first && count(&document) == 2;
    assert!((0..20_000).any(|_| in_use(server.get(JWKS).json())), "the next key is not in use");
    assert!((0..20_000).any(|_| in_use(server.admin(JWKS).json())));
    assert_eq!(verified(), 0);

    replace(&key, "no key");
    server.signal(Signal::HUP);
    let failed = || server.metric(r#"usher_pass_key_reloads_total{result="failed"}"#);
    assert!((0..20_000).any(|_| failed() > 0.0), "the bad file was not read");
    assert_eq!(verified(), 0, "the keys at hand stay");
    replace(&key, &new.serialize_pem());
    replace(&others, "");
    assert!((0..20_000).any(|_| count(&server.get(JWKS).json()) == 1), "the old key is still published");
    assert_eq!(verified(), 1);
}

#[test]
fn a_key_that_cannot_sign_stops_the_start() {
    let directory = TempDir::new().expect("a directory");
    let key = directory.path().join("pass.pem");
    fs::write(&key, pair().public_key_pem()).expect("a file");
    let mut command = command();
    command.env("PASS_KEY_FILE", &key);
    let (status, log) = Server::run(command).err().expect("no gateway");
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("pass.pem: no PEM block `PRIVATE KEY`"), "{log}");
}

#[test]
fn a_receipt_that_is_none_is_a_mistake_of_whoever_typed_it() {
    let directory = TempDir::new().expect("a directory");
    let receipt = directory.path().join("receipt.json");
    fs::write(&receipt, "{}").expect("a file");
    let verify = |seed: &str| run(&["queue", "verify", text(&receipt), "--seed", seed], None);
    let (code, said) = verify(&"0".repeat(64));
    assert!(code == 2 && said.contains("no receipt"), "{said}");
    assert_eq!(run(&["queue"], None).0, 2);
}
