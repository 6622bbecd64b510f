//! The shuffle of a pre-queue: drawn from a seed whose hash is published before, and which is revealed after.
//!
//! Owns the order of holders and the tree of places. Invariants: the order follows from seed and holders alone, whoever computes
//! it; one signed root gives each place to one holder at most; nothing that is published or handed out tells of a holder
//! whom the reader did not know. What a receipt proves, and to whom, is in README ("Fair start").

use std::{fmt, sync::Arc};

use aws_lc_rs::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    merkle::{self, Hash, Tree, bytes_of, leaf, sha256},
    receipt::Receipt,
};

/// What orders holders. Secret until the sale is open.
pub type Seed = [u8; 32];

/// Hides the neighbours of a place in its proof: without it their hashes could be found by trying the ids of users.
pub type Salt = [u8; 16];

/// The secrets of one shuffle.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Published at the opening.
    pub seed: Seed,
    /// Makes the salts. Never published; an auditor gets it together with the log, which names everybody anyway.
    pub salts: [u8; 32],
}

impl Secrets {
    /// Both from one secret of 32 random bytes, which therefore is all that must be kept. The seed tells nothing of the salts.
    pub fn derive(secret: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = |label: &[u8]| bytes_of(hmac::sign(&key, label).as_ref());
        Self { seed: derived(b"usher shuffle seed"), salts: derived(b"usher receipt salts") }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(***)")
    }
}

/// What is published when the pre-queue opens: SHA-256 of the seed.
pub fn commitment(seed: &Seed) -> Hash {
    sha256(seed)
}

/// What a holder is ordered by, ascending: HMAC-SHA-256(seed, holder).
pub fn order_key(seed: &Seed, holder: &str) -> Hash {
    keyed(&hmac::Key::new(hmac::HMAC_SHA256, seed), holder)
}

/// Puts holders in the order of their places; the first gets place 1. Each may stand there once.
pub fn order<H: AsRef<str>>(seed: &Seed, holders: &mut [H]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
    holders.sort_by_cached_key(|holder| keyed(&key, holder.as_ref()));
}

/// Where a fair shuffle puts somebody, as far as his own key tells: `(place, tolerance)`. Further off it puts him with a
/// probability below 10^-9 (Bernstein's inequality over the others, each of whom is before him with the same chance).
pub fn expected_place(seed: &Seed, holder: &str, size: u32) -> (u32, u32) {
    let mut first = [0; 8];
    first.copy_from_slice(&order_key(seed, holder)[..8]);
    let share = u64::from_be_bytes(first) as f64 / 2.0_f64.powi(64);
    let others = f64::from(size.saturating_sub(1));
    let variance = others * share * (1.0 - share);
    let third = LOG_ODDS / 3.0;
    let tolerance = third + (third * third + 2.0 * LOG_ODDS * variance).sqrt();
    // Floats saturate where they do not fit.
    (1 + (others * share).round() as u32, tolerance.ceil() as u32)
}

/// ln(2 · 10^9).
const LOG_ODDS: f64 = 21.42;

/// The places of one shuffle, ready to give receipts.
#[derive(Debug)]
pub struct Shuffle {
    event_id: Arc<str>,
    commitment: Hash,
    salts: hmac::Key,
    /// By place, from 1.
    holders: Vec<Arc<str>>,
    tree: Tree,
}

impl Shuffle {
    /// Orders the holders and builds their tree. Four hashes a holder, so not on the control thread.
    pub fn draw(event_id: Arc<str>, secrets: &Secrets, mut holders: Vec<Arc<str>>) -> Self {
        order(&secrets.seed, &mut holders);
        let salts = hmac::Key::new(hmac::HMAC_SHA256, &secrets.salts);
        let places = (1..).zip(&holders);
        let leaves = places.map(|(place, holder)| place_leaf(&salt(&salts, holder), place, holder)).collect();
        let tree = Tree::new(leaves);
        Self { event_id, commitment: commitment(&secrets.seed), salts, holders, tree }
    }

    /// What is signed, once for all receipts.
    pub fn statement(&self, issuer: &str, issued_at_s: u64) -> Statement {
        Statement {
            iss: issuer.to_owned(),
            event_id: self.event_id.to_string(),
            root: Hex(self.tree.root()),
            size: self.size(),
            commitment: Hex(self.commitment),
            iat: issued_at_s,
        }
    }

    /// Holders by place, from 1.
    pub fn holders(&self) -> &[Arc<str>] {
        &self.holders
    }

    /// Places.
    pub fn size(&self) -> u32 {
        u32::try_from(self.holders.len()).unwrap_or(u32::MAX)
    }

    /// The receipt for a place, with the statement that was signed; `None`: there is no such place.
    pub fn receipt(&self, place: u32, signed_root: &str) -> Option<Receipt> {
        let index = usize::try_from(place.checked_sub(1)?).ok()?;
        let holder = self.holders.get(index)?;
        Some(Receipt {
            event_id: self.event_id.to_string(),
            holder: holder.to_string(),
            place,
            salt: Hex(salt(&self.salts, holder)),
            proof: self.tree.proof(index)?.into_iter().map(Hex).collect(),
            root: Hex(self.tree.root()),
            size: self.size(),
            commitment: Hex(self.commitment),
            signed_root: signed_root.to_owned(),
        })
    }
}

/// What the operator signs about a shuffle. Has neither `aud` nor `sub` nor `exp`, so that nobody takes it for a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Who signed.
    pub iss: String,
    /// Which queue.
    pub event_id: String,
    /// Of the tree over all places.
    pub root: Hex<32>,
    /// Places.
    pub size: u32,
    /// SHA-256 of the seed.
    pub commitment: Hex<32>,
    /// When it was signed, seconds since the Unix epoch.
    pub iat: u64,
}

/// The leaf of a place. Salt and place have fixed lengths, so that no two places have the same data.
pub(super) fn place_leaf(salt: &Salt, place: u32, holder: &str) -> Hash {
    leaf(&[salt, &place.to_be_bytes(), holder.as_bytes()])
}

/// The root over holders in the order of their places.
pub(super) fn root_over(salts: &[u8; 32], ordered: &[String]) -> Hash {
    let salts = hmac::Key::new(hmac::HMAC_SHA256, salts);
    let leaves = (1..).zip(ordered).map(|(place, holder)| place_leaf(&salt(&salts, holder), place, holder));
    merkle::Tree::new(leaves.collect()).root()
}

fn salt(salts: &hmac::Key, holder: &str) -> Salt {
    let mut salt = Salt::default();
    salt.copy_from_slice(&keyed(salts, holder)[..16]);
    salt
}

fn keyed(key: &hmac::Key, holder: &str) -> Hash {
    bytes_of(hmac::sign(key, holder.as_bytes()).as_ref())
}

/// Bytes that JSON has as lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = || de::Error::custom(format!("not {} lower-case hexadecimal digits", 2 * N));
        unhex(&text).map(Self).ok_or_else(digits)
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Exactly `N` bytes of lower-case hexadecimal digits.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
