//! Keys from files, and a signing thread that may be asked too much.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{super::tests::pass_keys, *};
use crate::{
    auth::{
        KeySet,
        keys::Secrets as KeySecrets,
        token::{Signatures, TokenError},
    },
    clock::Now,
    config::Settings,
    sale::pass::Admission,
};

fn signer() -> Signer {
    let status = Arc::new(Status::new(1, Now { mono_ns: 0, wall_ms: 0 }));
    Signer::start(pass_keys(), "usher".into(), status).unwrap()
}

fn claims(place: u32) -> Claims {
    Claims::of(&Admission {
        issuer: "usher",
        event_id: "e1",
        holder: "u:alice",
        place,
        admitted_at_ms: 1_000,
        claim_until_ms: 2_000,
    })
}

fn signatures(jwks: &str) -> Signatures {
    Signatures::new(KeySet::jwks(jwks, KeySecrets::Skipped).unwrap())
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

fn private() -> String {
    pem("PRIVATE KEY", &make(PassAlgorithm::EdDsa).unwrap())
}

fn files(key: Option<PathBuf>, other_keys: Option<PathBuf>) -> KeyFiles {
    KeyFiles::new(Passes { key, other_keys, ..Settings::default().passes }).unwrap()
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order_and_others_can_check_it() {
    let signer = signer();
    let jwks = signer.keys().borrow().jwks();
    let passes = signer.sign((1..=5).map(claims).collect()).unwrap().await.unwrap();
    let read = |pass: &String| {
        let payload = signatures(&jwks).payload(pass).unwrap();
        Claims::check(&payload, "e1", Now { mono_ns: 0, wall_ms: 1_500 }).unwrap().position
    };
    assert_eq!(passes.iter().map(read).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(signer.status.control.passes.accepted.get(), 5);
}

#[tokio::test]
async fn a_draw_gives_receipts_under_one_signed_root() {
    let signer = signer();
    let secrets = Secrets::derive(&[5; 32]);
    let holders = (0..50).map(|number| format!("u:{number}").into()).collect();
    let draw = Draw { event_id: "e1".into(), secrets: secrets.clone(), holders, issued_at_s: 9 };
    let Drawn { shuffle, signed_root, .. } = signer.draw(draw).unwrap().await.unwrap();
    let payload = signatures(&signer.keys().borrow().jwks()).payload(&signed_root).unwrap();
    for place in 1..=50 {
        let receipt = shuffle.receipt(place, &signed_root).unwrap();
        assert_eq!(receipt.verify(&secrets.seed), Ok(()));
        assert_eq!(receipt.verify_statement(&payload), Ok(()));
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_counts_and_nothing_that_was_taken_is_lost() {
    // Nobody takes jobs out: the thread's part is played below.
    let (jobs, queue) = sync_channel(SIGN_BATCHES_MAX);
    let keys = pass_keys();
    let (sender, in_use) = watch::channel(keys.clone());
    let status = Arc::new(Status::new(1, Now { mono_ns: 0, wall_ms: 0 }));
    let signer = Signer { jobs, places: place_keys(&keys), keys: sender, status: status.clone() };
    let taken: Vec<_> = (0..SIGN_BATCHES_MAX).map(|_| signer.sign(vec![claims(1)]).unwrap()).collect();
    assert_eq!(signer.sign(vec![claims(1), claims(2)]).err(), Some(SignError::Full));
    assert_eq!(signer.sign(vec![claims(1); SIGN_BATCH_MAX + 1]).err(), Some(SignError::TooLarge));
    let cells = &status.control.passes;
    assert_eq!((cells.accepted.get(), cells.refused.get()), (SIGN_BATCHES_MAX as u64, 2));
    let thread = std::thread::spawn(move || Signing { queue, keys: in_use, issuer: "usher".into() }.run());
    for answer in taken {
        assert_eq!(answer.await.unwrap().len(), 1);
    }
    drop(signer);
    thread.join().unwrap();
}

#[tokio::test]
async fn new_keys_sign_and_old_place_tokens_stay_good_while_the_old_key_is_there() {
    let mut signer = signer();
    let folder = TempDir::new().unwrap();
    let (own, others) = (folder.path().join("own.pem"), folder.path().join("others.pem"));
    let (first, second) = (private(), private());
    fs::write(&own, &first).unwrap();
    fs::write(&others, "").unwrap();
    let mut files = files(Some(own.clone()), Some(others.clone()));
    signer.use_keys(files.load().unwrap());
    assert!(!files.has_changed() && !files.are_made());
    let old_pass = signer.sign(vec![claims(1)]).unwrap().await.unwrap().remove(0);
    let old_place = signer.places().token("e1", &[1; 16]).unwrap();

    fs::write(&own, &second).unwrap();
    fs::write(&others, &first).unwrap();
    assert!(files.has_changed());
    signer.use_keys(files.load().unwrap());
    let new_pass = signer.sign(vec![claims(1)]).unwrap().await.unwrap().remove(0);
    let jwks = signer.keys().borrow().jwks();
    for pass in [&old_pass, &new_pass] {
        assert!(signatures(&jwks).payload(pass).is_ok());
    }
    assert!(signer.places().holder("e1", &old_place).is_some());

    fs::write(&others, "").unwrap();
    signer.use_keys(files.load().unwrap());
    let jwks = signer.keys().borrow().jwks();
    assert_eq!(signatures(&jwks).payload(&old_pass), Err(TokenError::UnknownKey));
    assert!(signatures(&jwks).payload(&new_pass).is_ok());
    assert_eq!(signer.places().holder("e1", &old_place), None);
}

#[test]
fn a_key_that_was_made_stays_when_others_come() {
    let folder = TempDir::new().unwrap();
    let others = folder.path().join("others.pem");
    fs::write(&others, "").unwrap();
    let mut files = files(None, Some(others.clone()));
    assert!(files.are_made());
    let count = |keys: &SigningKeys| {
        let jwks: Value = serde_json::from_str(&keys.jwks()).unwrap();
        (jwks["keys"].as_array().unwrap().len(), jwks["keys"][0]["kid"].clone())
    };
    let (one, own) = count(&files.load().unwrap());
    fs::write(&others, private()).unwrap();
    assert_eq!((one, count(&files.load().unwrap())), (1, (2, own)));
}

#[test]
fn an_unusable_file_is_named() {
    let folder = TempDir::new().unwrap();
    let own = folder.path().join("own.pem");
    let refusal = || files(Some(own.clone()), None).load().unwrap_err().to_string();
    assert!(refusal().contains("own.pem: No such file"), "{}", refusal());
    fs::write(&own, "nothing").unwrap();
    assert!(refusal().contains("own.pem: no PEM block `PRIVATE KEY`"), "{}", refusal());
    fs::write(&own, private()).unwrap();
    let passes =
        Passes { algorithm: Some(PassAlgorithm::Es256), key: Some(own), ..Settings::default().passes };
    let error = KeyFiles::new(passes).unwrap().load().unwrap_err().to_string();
    assert!(error.contains("EdDSA, which is not PASS_ALGORITHM"), "{error}");
}
