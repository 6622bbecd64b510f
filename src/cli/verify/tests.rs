//! What is said of evidence that is good, incomplete, or not what it seems.

use std::sync::Arc;

use super::*;
use crate::{
    auth::SigningKeys,
    config::settings::PassAlgorithm,
    control::passes,
    sale::{
        fair::{Hex, Secrets as ShuffleSecrets, Shuffle},
        pass::anonymous_holder,
    },
};

const NOW: Now = Now { mono_ns: 0, wall_ms: 1_700_000_000_000 };

fn keys() -> SigningKeys {
    SigningKeys::of_pkcs8(&passes::make(PassAlgorithm::Es256).unwrap(), "").unwrap()
}

fn checks(keys: &SigningKeys) -> Signatures {
    Signatures::new(KeySet::jwks(&keys.jwks(), Secrets::Skipped).unwrap())
}

fn pass(keys: &SigningKeys, holder: &str) -> String {
    let claims = Claims::of(&Admission {
        issuer: "usher",
        event_id: "e1",
        holder,
        place: 7,
        admitted_at_ms: NOW.wall_ms,
        claim_until_ms: NOW.wall_ms + 60_000,
    });
    keys.sign(serde_json::json!(claims).to_string().as_bytes()).unwrap()
}

/// A receipt with everything that there may be.
fn evidence(keys: &SigningKeys) -> Evidence {
    let secrets = ShuffleSecrets::derive(&[3; 32]);
    let holders: Vec<Arc<str>> = (0..40).map(|number| format!("u:{number}").into()).collect();
    let log = Log {
        event_id: "e1".into(),
        salts: Hex(secrets.salts),
        holders: holders.iter().map(ToString::to_string).collect(),
    };
    let shuffle = Shuffle::draw("e1".into(), &secrets, holders);
    let statement = serde_json::json!(shuffle.statement("usher", 5)).to_string();
    let receipt = shuffle.receipt(12, &keys.sign(statement.as_bytes()).unwrap()).unwrap();
    Evidence { receipt, seed: secrets.seed, signatures: Some(checks(keys)), log: Some(log) }
}

#[test]
fn a_good_pass_says_whose_and_what_was_not_checked() {
    let keys = keys();
    let text = read_pass(&checks(&keys), &pass(&keys, "u:alice"), "e1", NOW).unwrap();
    assert!(text.starts_with("good: user alice, place 7, event e1, 60 s left, from usher\n"), "{text}");
    assert!(text.contains("not checked: whether it was used before"), "{text}");
    let holder = anonymous_holder(&[1; 16]);
    let text = read_pass(&checks(&keys), &pass(&keys, &holder), "e1", NOW).unwrap();
    assert!(text.contains(&format!("anonymous holder {holder}")), "{text}");
}

#[test]
fn a_pass_is_refused_for_a_reason() {
    let (one, other) = (keys(), keys());
    let pass = pass(&one, "u:alice");
    let refusal = |keys, event, now| read_pass(&checks(keys), &pass, event, now).unwrap_err();
    assert_eq!(refusal(&other, "e1", NOW), "token key is unknown");
    assert_eq!(refusal(&one, "e2", NOW), "the pass is for another event");
    let late = Now { wall_ms: NOW.wall_ms + 70_000, ..NOW };
    assert_eq!(refusal(&one, "e1", late), "the pass expired 10 s ago");
    let signed_root = evidence(&one).receipt.signed_root;
    let root = read_pass(&checks(&one), &signed_root, "e1", NOW).unwrap_err();
    assert_eq!(root, "these are not the claims of a pass");
}

#[test]
fn whole_evidence_is_good() {
    let (text, good) = evidence(&keys()).examine();
    assert!(good && !text.contains("WRONG"), "{text}");
    assert_eq!(text.matches("\ngood: ").count(), 3, "{text}");
    assert_eq!(text.matches("\nnot checked: ").count(), 1, "{text}");
    assert!(text.contains("receipt: event e1, holder u:") && text.contains("place 12 of 40\n"), "{text}");
}

#[test]
fn what_was_not_given_is_said_to_be_unchecked() {
    let (text, good) = Evidence { signatures: None, log: None, ..evidence(&keys()) }.examine();
    assert!(good, "{text}");
    assert!(text.contains("not checked: that the gateway signed this root (--jwks)"), "{text}");
    assert!(text.contains("not checked: the places of others (--log, from the operator)"), "{text}");
}

#[test]
fn what_is_wrong_is_said_beside_what_is_good() {
    let mut evidence = evidence(&keys());
    evidence.signatures = Some(checks(&keys()));
    evidence.log.as_mut().unwrap().holders.pop();
    let (text, good) = evidence.examine();
    assert!(!good && text.contains("good: seed, proof and place fit"), "{text}");
    assert!(text.contains("WRONG: the gateway signed this root: token key is unknown"), "{text}");
    assert!(text.contains("WRONG: every place follows from seed and log: the log has 39 holders"), "{text}");
    evidence.seed = [0; 32];
    assert!(evidence.examine().0.contains("WRONG: seed, proof and place fit each other: the seed does not"));
}
