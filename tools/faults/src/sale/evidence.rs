//! Passes and receipts, checked as a booking service and an auditor do: with the published keys, the revealed seed and
//! the operator's log.

use std::collections::HashMap;

use usher::sale::{
    fair::{Secrets, Seed, Shuffle, commitment, order},
    pass::Claims,
    receipt::{Log, Receipt},
};

use super::{
    booking::Booking,
    course::{Fate, Stay, Terms},
    diary::Diary,
};
use crate::verdict::Verdict;

/// What the operator shows after the opening.
pub(crate) struct Revealed {
    /// Published before anybody could join.
    pub(crate) commitment: Vec<u8>,
    pub(crate) seed: Seed,
    pub(crate) log: Log,
}

/// Every pass is good, and says who has which place.
pub(crate) fn check_passes(
    booking: &Booking,
    stays: &[Stay],
    diaries: &[&Diary],
    verdict: &mut Verdict,
) -> u64 {
    let mut good = 0;
    let mut numbers: HashMap<String, u32> = HashMap::new();
    for stay in stays {
        let (Some(place), Some(pass)) = (stay.place, &stay.pass) else { continue };
        let name = format!("person {}, place {place}", stay.person);
        let claims = match booking.check(&pass.text, pass.seen_ms) {
            Ok(claims) => claims,
            Err(problem) => {
                verdict.blame("a pass is no good", format!("{name}: {problem}"));
                continue;
            }
        };
        good += 1;
        let Claims { sub, anonymous, position, exp, jti, .. } = claims;
        let holder = if anonymous { sub } else { format!("u:{sub}") };
        let known = &diaries[stay.person].holder;
        let fits = position == place && exp == pass.until_ms / 1_000;
        if !fits || known.as_ref().is_some_and(|known| *known != holder) || known.is_some() == anonymous {
            verdict.blame("a pass is for somebody else", format!("{name}: {holder}, place {position}"));
        }
        if let Some(other) = numbers.insert(jti, place) {
            verdict.blame("two passes of one number", format!("places {place} and {other}"));
        }
    }
    good
}

/// Every place that the opening gave follows from seed and log, everybody has the place that the log says, and every receipt
/// verifies. How many receipts did.
pub(crate) fn check_receipts(
    (booking, terms): (&Booking, &Terms),
    revealed: &Revealed,
    (stays, diaries): (&[Stay], &[&Diary]),
    verdict: &mut Verdict,
) -> u64 {
    let Revealed { commitment: published, seed, log } = revealed;
    if commitment(seed)[..] != published[..] {
        verdict.blame("another seed than promised", "of GetQueue".into());
    }
    let mut ordered = log.holders.clone();
    order(seed, &mut ordered);
    if ordered.len() as u32 != terms.drawn {
        verdict.blame("the log has other people", format!("{} of {}", ordered.len(), terms.drawn));
    }
    let mut receipts =
        Receipts { booking, seed, log, ordered: &ordered, root: None, statements: HashMap::new() };
    let mut good = 0;
    for stay in stays {
        let Some(place) = stay.place.filter(|place| *place <= terms.drawn && *place > 0) else { continue };
        let diary = diaries[stay.person];
        let name = format!("person {}, place {place}", stay.person);
        let by_log = &ordered[place as usize - 1];
        if diary.holder.as_ref().is_some_and(|holder| holder != by_log) {
            verdict.blame("the place of another by seed and log", format!("{name}: {by_log}"));
        }
        let mut has_one = false;
        for receipt in diary.receipts.iter().filter(|receipt| receipt.place == place) {
            match receipts.check(receipt) {
                Ok(()) => has_one = true,
                Err(problem) => verdict.blame("a receipt is no good", format!("{name}: {problem}")),
            }
        }
        good += u64::from(has_one);
        // Who had lost the place before it could ask again was told of none.
        if !has_one && !matches!(stay.fate, Fate::ExpiredUnseen) {
            verdict.blame("no receipt", format!("{name}, {:?}", stay.fate));
        }
    }
    check_owners(stays, diaries, verdict);
    // Whoever has the place and no receipt could have got this one.
    let statement = receipts.statements.keys().next().cloned().unwrap_or_default();
    let secrets = Secrets { seed: *seed, salts: log.salts.0 };
    let holders = log.holders.iter().map(|holder| holder.as_str().into()).collect();
    let shuffle = Shuffle::draw(log.event_id.as_str().into(), &secrets, holders);
    for receipt in (1..=terms.drawn).filter_map(|place| shuffle.receipt(place, &statement)) {
        if let Err(problem) = receipts.check(&receipt) {
            verdict.blame("a place does not verify", format!("place {}: {problem}", receipt.place));
        }
    }
    good
}

/// Nobody was given the receipt of a place that it did not have.
fn check_owners(stays: &[Stay], diaries: &[&Diary], verdict: &mut Verdict) {
    for (person, diary) in diaries.iter().enumerate() {
        let own = |receipt: &&Receipt| {
            let has = |stay: &Stay| stay.person == person && stay.place == Some(receipt.place);
            !stays[first_of(stays, person)..].iter().take_while(|stay| stay.person == person).any(has)
        };
        for receipt in diary.receipts.iter().filter(own) {
            verdict.blame("a receipt of another place", format!("person {person}: {}", receipt.place));
        }
    }
}

fn first_of(stays: &[Stay], person: usize) -> usize {
    stays.partition_point(|stay| stay.person < person)
}

struct Receipts<'a> {
    booking: &'a Booking,
    seed: &'a Seed,
    log: &'a Log,
    ordered: &'a [String],
    /// Of the first receipt, which was checked against the whole log: all others have the same.
    root: Option<[u8; 32]>,
    /// Payloads of signed roots: there are few.
    statements: HashMap<String, Vec<u8>>,
}

impl Receipts<'_> {
    fn check(&mut self, receipt: &Receipt) -> Result<(), String> {
        receipt.verify(self.seed).map_err(|flaw| flaw.to_string())?;
        if !self.statements.contains_key(&receipt.signed_root) {
            let payload = self.booking.signatures().payload(&receipt.signed_root);
            let payload = payload.map_err(|error| error.to_string())?;
            self.statements.insert(receipt.signed_root.clone(), payload);
        }
        receipt.verify_statement(&self.statements[&receipt.signed_root]).map_err(|flaw| flaw.to_string())?;
        match self.root {
            None => {
                receipt.verify_log(self.seed, self.log).map_err(|flaw| flaw.to_string())?;
                self.root = Some(receipt.root.0);
            }
            Some(root) if root != receipt.root.0 => return Err("another root".into()),
            Some(_) => {}
        }
        let by_log = self.ordered.get(receipt.place as usize - 1);
        if by_log == Some(&receipt.holder) { Ok(()) } else { Err(format!("the log has {by_log:?} there")) }
    }
}
