//! The shuffle and its receipts: what is fair verifies, and nothing else does.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::*;
use crate::sale::receipt::{Flaw, Log};

const EVENT: &str = "e1";
const SIGNED: &str = "header.payload.signature";

fn secrets() -> Secrets {
    Secrets::derive(&[7; 32])
}

fn holders(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|number| format!("u:{number}").into()).collect()
}

fn shuffle(count: usize) -> Shuffle {
    Shuffle::draw(EVENT.into(), &secrets(), holders(count))
}

fn log(count: usize) -> Log {
    let holders = holders(count).iter().map(ToString::to_string).collect();
    Log { event_id: EVENT.into(), salts: Hex(secrets().salts), holders }
}

#[test]
fn the_commitment_is_the_hash_of_the_seed() {
    // By `head -c 32 /dev/zero | sha256sum`.
    let zeros = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
    assert_eq!(hex(&commitment(&[0; 32])), zeros);
}

#[test]
fn holders_are_ordered_by_their_keys_alone() {
    let seed = secrets().seed;
    let mut ordered = holders(500);
    order(&seed, &mut ordered);
    let keys: Vec<Hash> = ordered.iter().map(|holder| order_key(&seed, holder)).collect();
    assert!(keys.is_sorted());
    let mut other_way: Vec<Arc<str>> = holders(500).into_iter().rev().collect();
    order(&seed, &mut other_way);
    assert_eq!(ordered, other_way, "who came first does not matter");
    assert_eq!(shuffle(500).holders(), ordered);
    order(&Secrets::derive(&[8; 32]).seed, &mut other_way);
    assert_ne!(ordered, other_way, "the seed does");
}

#[test]
fn the_key_of_a_holder_is_hmac_sha_256() {
    // By Python: hmac.new(bytes(32), b"u:alice", hashlib.sha256).hexdigest()
    let expected = "7ba2e5eec30e32010b4c790582a2171ba586393fc1fdebcd33a0f115496a641b";
    assert_eq!(hex(&order_key(&[0; 32], "u:alice")), expected);
}

#[test]
fn one_secret_gives_two_that_have_nothing_in_common() {
    let Secrets { seed, salts } = secrets();
    assert_ne!(seed, salts);
    assert_ne!(seed, [7; 32]);
    assert_eq!(format!("{:?}", secrets()), "Secrets(***)");
}

#[test]
fn every_receipt_verifies_alone_and_against_the_log() {
    for count in [1, 2, 3, 100, 257] {
        let (shuffle, seed) = (shuffle(count), secrets().seed);
        let statement = serde_json::to_vec(&shuffle.statement("usher", 5)).unwrap();
        for place in 1..=shuffle.size() {
            let receipt = shuffle.receipt(place, SIGNED).unwrap();
            assert_eq!(receipt.verify(&seed), Ok(()), "{place} of {count}");
            assert_eq!(receipt.verify_statement(&statement), Ok(()));
            assert_eq!(receipt.verify_log(&seed, &log(count)), Ok(()));
        }
        assert_eq!(shuffle.receipt(0, SIGNED), None);
        assert_eq!(shuffle.receipt(shuffle.size() + 1, SIGNED), None);
    }
    assert_eq!(shuffle(0).size(), 0);
}

/// Every way to change one field a little: characters of texts, digits of numbers, elements of lists.
fn tampered(receipt: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (field, value) in receipt.as_object().unwrap() {
        let mut put = |value: Value| {
            let mut changed = receipt.clone();
            changed[field] = value;
            all.push((field.clone(), changed));
        };
        match value {
            Value::Number(number) => {
                let number = number.as_u64().unwrap();
                [number + 1, number - 1, number * 2, 0].into_iter().for_each(|other| put(json!(other)));
            }
            Value::String(text) => changed_texts(text).into_iter().for_each(|text| put(json!(text))),
            Value::Array(list) => {
                put(json!(list[1..]));
                put(json!(list.iter().rev().collect::<Vec<_>>()));
                for (index, hash) in list.iter().enumerate() {
                    for text in changed_texts(hash.as_str().unwrap()) {
                        let mut list = list.clone();
                        list[index] = json!(text);
                        put(json!(list));
                    }
                }
            }
            _ => panic!("{field} is none of these"),
        }
    }
    all
}

fn changed_texts(text: &str) -> Vec<String> {
    let replaced = (0..text.len()).map(|at| {
        let other = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    });
    replaced.chain([format!("{text}0"), text[1..].to_owned()]).collect()
}

#[test]
fn a_change_of_any_field_is_found() {
    let (shuffle, seed) = (shuffle(100), secrets().seed);
    let statement = serde_json::to_vec(&shuffle.statement("usher", 5)).unwrap();
    let receipt = serde_json::to_value(shuffle.receipt(37, SIGNED).unwrap()).unwrap();
    let mut count = 0;
    for (field, changed) in tampered(&receipt) {
        // What the signature covers is checked where the signature is: the statement stands in it.
        if field == "signed_root" {
            continue;
        }
        let sound = serde_json::from_value::<Receipt>(changed.clone()).is_ok_and(|receipt| {
            receipt.verify(&seed).is_ok() && receipt.verify_statement(&statement).is_ok()
        });
        assert!(!sound, "{field}: {changed}");
        count += 1;
    }
    assert!(count > 500, "{count}");
}

#[test]
fn a_receipt_of_another_seed_or_statement_is_found() {
    let receipt = shuffle(100).receipt(1, SIGNED).unwrap();
    let other = Secrets::derive(&[8; 32]);
    assert!(matches!(receipt.verify(&other.seed), Err(Flaw::Seed(_))));
    let others = Shuffle::draw("e2".into(), &secrets(), holders(100)).statement("usher", 5);
    let payload = serde_json::to_vec(&others).unwrap();
    assert_eq!(receipt.verify_statement(&payload), Err(Flaw::Statement));
    assert_eq!(receipt.verify_statement(b"{"), Err(Flaw::Statement));
}

#[test]
fn an_operator_who_moves_somebody_far_is_found_by_the_one_who_was_moved() {
    let (seed, mut ordered) = (secrets().seed, holders(1_000));
    order(&seed, &mut ordered);
    // The tree of a liar: the last becomes the first, and the first the last.
    ordered.swap(0, 999);
    let salts = hmac::Key::new(hmac::HMAC_SHA256, &secrets().salts);
    let leaves = (1..).zip(&ordered).map(|(place, holder)| place_leaf(&salt(&salts, holder), place, holder));
    let tree = Tree::new(leaves.collect());
    let lie =
        Shuffle { event_id: EVENT.into(), commitment: commitment(&seed), salts, holders: ordered, tree };
    for place in [1, 1_000] {
        let receipt = lie.receipt(place, SIGNED).unwrap();
        assert!(matches!(receipt.verify(&seed), Err(Flaw::Implausible { .. })), "{place}");
        assert!(matches!(receipt.verify_log(&seed, &log(1_000)), Err(Flaw::OtherPlace(_))));
    }
    // Somebody else's receipt is in order, and only the log tells.
    let receipt = lie.receipt(500, SIGNED).unwrap();
    assert_eq!(receipt.verify(&seed), Ok(()));
    assert_eq!(receipt.verify_log(&seed, &log(1_000)), Err(Flaw::OtherRoot));
}

#[test]
fn a_log_that_does_not_fit_is_found() {
    let (receipt, seed) = (shuffle(100).receipt(50, SIGNED).unwrap(), secrets().seed);
    let check = |log: Log| receipt.verify_log(&seed, &log).err();
    assert_eq!(check(log(99)), Some(Flaw::OtherSize(99)));
    assert_eq!(check(Log { event_id: "e2".into(), ..log(100) }), Some(Flaw::OtherEvent("e2".into())));
    assert_eq!(check(Log { salts: Hex([0; 32]), ..log(100) }), Some(Flaw::OtherRoot));
    let mut twice = log(100);
    twice.holders[0] = twice.holders[1].clone();
    assert_eq!(check(twice.clone()), Some(Flaw::Twice(twice.holders[1].clone())));
    let mut without = log(100);
    let own = without.holders.iter().position(|holder| *holder == receipt.holder).unwrap();
    without.holders[own] = "u:nobody".into();
    assert_eq!(check(without), Some(Flaw::NotInLog));
}

#[test]
fn a_log_reads_as_it_was_written() {
    let mut log = log(3);
    log.holders.push("u:\"quoted\"\n".into());
    assert_eq!(Log::parse(&log.text()).unwrap(), log);
    for (text, line) in [("", 1), ("{}", 1), ("nonsense\n\"u:1\"", 1)] {
        assert_eq!(Log::parse(text).unwrap_err().line, line, "{text}");
    }
    assert_eq!(Log::parse(&(log.text() + "u:1")).unwrap_err().line, 6);
}

#[test]
fn a_receipt_tells_of_no_other_holder() {
    let (shuffle, seed) = (shuffle(100), secrets().seed);
    let receipt = shuffle.receipt(50, SIGNED).unwrap();
    // Whoever has the seed and guesses the ids of neighbours and their places cannot tell whether he guessed right.
    let known: HashSet<Hash> = receipt.proof.iter().map(|hash| hash.0).collect();
    let guess = |place, salt: &Salt| place_leaf(salt, place, &shuffle.holders()[place as usize - 1]);
    let mut from_seed = Salt::default();
    from_seed.copy_from_slice(&order_key(&seed, &shuffle.holders()[48])[..16]);
    assert!([49, 51].iter().all(|place| !known.contains(&guess(*place, &from_seed))));
    assert!(
        known.contains(&guess(49, &salt(&shuffle.salts, &shuffle.holders()[48]))),
        "50 is the right leaf"
    );
    let text = serde_json::to_string(&receipt).unwrap();
    let others = shuffle.holders().iter().filter(|holder| ***holder != *receipt.holder);
    assert!(others.into_iter().all(|other| !text.contains(&format!("\"{other}\""))));
}

#[test]
fn hexadecimal_digits_read_as_they_are_written() {
    assert_eq!(unhex(&hex(&[0, 1, 0xab, 255])), Some([0, 1, 0xab, 255]));
    for text in ["", "0", "000", "AB", "zz", "é"] {
        assert_eq!(unhex::<1>(text), None, "{text}");
    }
}
