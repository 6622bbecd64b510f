//! Receipts of places, and what can be checked with one: alone, with the revealed seed, with the log of joins.
//!
//! Never trusts a receipt: whoever holds one may have written it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    fair::{self, Hex, Seed, Statement, commitment, expected_place, place_leaf, root_over},
    merkle::{PROOF_HASHES_MAX, root_of},
};

/// A place of a shuffle, for the one who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Which queue.
    pub event_id: String,
    /// Who: `u:<user>` or `a:<anonymous>`.
    pub holder: String,
    /// From 1.
    pub place: u32,
    /// Part of the leaf.
    pub salt: Hex<16>,
    /// From the leaf to the root.
    pub proof: Vec<Hex<32>>,
    /// Of the tree over all places.
    pub root: Hex<32>,
    /// Places.
    pub size: u32,
    /// SHA-256 of the seed.
    pub commitment: Hex<32>,
    /// The operator's [`Statement`] about the three before, as a JWS.
    pub signed_root: String,
}

/// What is wrong with a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The seed is not the one that was committed to.
    #[error("the seed does not belong to the commitment {0}")]
    Seed(String),
    /// The proof does not lead from this place and holder to the root.
    #[error("the proof does not lead from this holder at this place to the root")]
    Proof,
    /// The signed statement is about something else, or is none.
    #[error("the signed root says something else than the receipt")]
    Statement,
    /// A fair shuffle does not put this holder there.
    #[error(
        "place {place} is not where this seed puts the holder: near {expected}, {tolerance} more or less"
    )]
    Implausible {
        /// Of the receipt.
        place: u32,
        /// The middle of what is likely.
        expected: u32,
        /// More than this from the middle happens once in 10^9 fair shuffles.
        tolerance: u32,
    },
    /// The log is of another event.
    #[error("the log is of event `{0}`")]
    OtherEvent(String),
    /// A holder stands in the log twice.
    #[error("`{0}` is in the log twice")]
    Twice(String),
    /// The holder is not in the log.
    #[error("the holder is not in the log")]
    NotInLog,
    /// The seed gives another place to the holder.
    #[error("by the log and the seed the place is {0}")]
    OtherPlace(u32),
    /// The log has another number of holders than the signed root.
    #[error("the log has {0} holders")]
    OtherSize(usize),
    /// The places of the log make another root.
    #[error("the places of the log make another root: somebody else's place differs")]
    OtherRoot,
}

impl Receipt {
    /// Checks what needs neither keys nor the log: that the seed is the promised one, that this place of this holder is under the
    /// root, and that a fair shuffle with this seed may have put it there.
    ///
    /// # Errors
    /// The first flaw found.
    pub fn verify(&self, seed: &Seed) -> Result<(), Flaw> {
        if commitment(seed) != self.commitment.0 {
            return Err(Flaw::Seed(fair::hex(&self.commitment.0)));
        }
        self.verify_proof()?;
        let (expected, tolerance) = expected_place(seed, &self.holder, self.size);
        if self.place.abs_diff(expected) > tolerance {
            return Err(Flaw::Implausible { place: self.place, expected, tolerance });
        }
        Ok(())
    }

    /// Checks the receipt against a statement whose signature was verified.
    ///
    /// # Errors
    /// [`Flaw::Statement`].
    pub fn verify_statement(&self, payload: &[u8]) -> Result<(), Flaw> {
        let statement: Statement = serde_json::from_slice(payload).map_err(|_| Flaw::Statement)?;
        let same = statement.event_id == self.event_id
            && statement.root == self.root
            && statement.size == self.size
            && statement.commitment == self.commitment;
        if same { Ok(()) } else { Err(Flaw::Statement) }
    }

    /// Checks the receipt, and with it everybody's place, against the log of joins.
    ///
    /// # Errors
    /// The first flaw found.
    pub fn verify_log(&self, seed: &Seed, log: &Log) -> Result<(), Flaw> {
        if log.event_id != self.event_id {
            return Err(Flaw::OtherEvent(log.event_id.clone()));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = log.holders.iter().find(|holder| !seen.insert(holder.as_str())) {
            return Err(Flaw::Twice(twice.clone()));
        }
        if usize::try_from(self.size) != Ok(log.holders.len()) {
            return Err(Flaw::OtherSize(log.holders.len()));
        }
        let mut ordered = log.holders.clone();
        fair::order(seed, &mut ordered);
        let place = (1..).zip(&ordered).find(|(_, holder)| **holder == self.holder);
        let (place, _) = place.ok_or(Flaw::NotInLog)?;
        if place != self.place {
            return Err(Flaw::OtherPlace(place));
        }
        if root_over(&log.salts.0, &ordered) == self.root.0 { Ok(()) } else { Err(Flaw::OtherRoot) }
    }

    fn verify_proof(&self) -> Result<(), Flaw> {
        let index = self.place.checked_sub(1).ok_or(Flaw::Proof)?;
        if self.proof.len() > PROOF_HASHES_MAX {
            return Err(Flaw::Proof);
        }
        let leaf = place_leaf(&self.salt.0, self.place, &self.holder);
        let proof: Vec<_> = self.proof.iter().map(|hash| hash.0).collect();
        let root = root_of(leaf, index.into(), self.size.into(), &proof);
        if root == Some(self.root.0) { Ok(()) } else { Err(Flaw::Proof) }
    }
}

/// Who was in the pre-queue when it opened, for an auditor. Lines of JSON: first `{"event_id", "salts"}`, then each holder as a
/// text, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Which queue.
    pub event_id: String,
    /// [`fair::Secrets::salts`].
    pub salts: Hex<32>,
    /// In any order.
    pub holders: Vec<String>,
}

/// A line of a log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LogError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: serde_json::Error,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heading {
    event_id: String,
    salts: Hex<32>,
}

impl Log {
    /// Reads a log.
    ///
    /// # Errors
    /// The first line that is no line of a log.
    pub fn parse(text: &str) -> Result<Self, LogError> {
        let wrong = |index: usize| move |problem| LogError { line: index + 1, problem };
        let mut lines = text.lines();
        let heading: Heading = serde_json::from_str(lines.next().unwrap_or_default()).map_err(wrong(0))?;
        let holders = lines.enumerate();
        let holders = holders.map(|(index, line)| serde_json::from_str(line).map_err(wrong(index + 1)));
        let holders = holders.collect::<Result<_, _>>()?;
        Ok(Self { event_id: heading.event_id, salts: heading.salts, holders })
    }

    /// Writes a log that [`Log::parse`] reads.
    pub fn text(&self) -> String {
        let heading = Heading { event_id: self.event_id.clone(), salts: self.salts };
        let mut text = serde_json::json!(heading).to_string();
        for holder in &self.holders {
            text.push('\n');
            text += &serde_json::json!(holder).to_string();
        }
        text.push('\n');
        text
    }
}
