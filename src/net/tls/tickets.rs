//! Session tickets under secrets that several instances share (RFC 5077 §4, with an AEAD for its CBC and MAC).
//!
//! A ticket is `name[16] ‖ salt[32] ‖ AES-256-GCM(state)`. Each has a key and nonce of its own, by HKDF of the secret
//! and the random salt, so that any number of instances may seal any number of tickets under one secret. The name,
//! derived from the secret, tells which one it was. Owns no clock: how long a ticket is good is how long its secret is
//! in the file.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::server::ProducesTickets;

/// Secrets in one file: the one in use, the one before, the one to come.
pub const SECRETS_MAX: usize = 3;
/// Bytes of a secret at least.
pub const SECRET_BYTES_MIN: usize = 32;
/// Bytes of a secret at most; a larger file is a mistake.
const SECRET_BYTES_MAX: usize = 1024;
/// What a client is told, seconds: as long as the tickets that a gateway without such a file makes.
const LIFETIME_S: u32 = 12 * 3600;
const NAME_BYTES: usize = 16;
const SALT_BYTES: usize = 32;
const KEY_BYTES: usize = 32;

/// Why a file of secrets is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// None in it.
    Empty,
    /// More than [`SECRETS_MAX`].
    TooMany,
    /// A line is no base64; counted from 1.
    NotBase64(usize),
    /// A secret has less than [`SECRET_BYTES_MIN`] bytes, or far too many; its line, counted from 1.
    Length(usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("holds no ticket secret; make one with `openssl rand -base64 48`"),
            Self::TooMany => write!(f, "holds more than {SECRETS_MAX} ticket secrets"),
            Self::NotBase64(line) => write!(f, "line {line} is no ticket secret in base64"),
            Self::Length(line) => {
                write!(
                    f,
                    "the ticket secret in line {line} must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes"
                )
            }
        }
    }
}

/// Seals with the first secret, opens with any.
pub struct TicketKeys(Vec<TicketKey>);

struct TicketKey {
    name: [u8; NAME_BYTES],
    secret: Prk,
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({})", self.0.len())
    }
}

/// Reads secrets: base64, one a line, empty lines and those that begin with `#` left out; or one secret as it is, which
/// is told by a byte beyond ASCII.
pub fn parse(file: &[u8]) -> Result<TicketKeys, Problem> {
    let Some(text) = std::str::from_utf8(file).ok().filter(|text| text.is_ascii()) else {
        return Ok(TicketKeys(vec![checked(file, 1)?]));
    };
    let lines = text.lines().map(str::trim).zip(1..);
    let mut keys = Vec::new();
    for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        let secret = STANDARD.decode(line).map_err(|_| Problem::NotBase64(number))?;
        keys.push(checked(&secret, number)?);
    }
    match keys.len() {
        0 => Err(Problem::Empty),
        1..=SECRETS_MAX => Ok(TicketKeys(keys)),
        _ => Err(Problem::TooMany),
    }
}

fn checked(secret: &[u8], line: usize) -> Result<TicketKey, Problem> {
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(Problem::Length(line));
    }
    // Fails on more bytes than a hash may give alone (RFC 5869 §2.3).
    TicketKey::new(secret).map_err(|Unspecified| Problem::Length(line))
}

impl TicketKey {
    fn new(secret: &[u8]) -> Result<Self, Unspecified> {
        let secret = Salt::new(HKDF_SHA256, b"usher tls tickets").extract(secret);
        let mut name = [0; NAME_BYTES];
        secret.expand(&[b"name"], Length(NAME_BYTES))?.fill(&mut name)?;
        Ok(Self { name, secret })
    }

    /// The key and nonce of one ticket.
    fn cipher(&self, salt: &[u8]) -> Result<(LessSafeKey, Nonce), Unspecified> {
        let mut bytes = [0; KEY_BYTES + NONCE_LEN];
        self.secret.expand(&[b"ticket", salt], Length(bytes.len()))?.fill(&mut bytes)?;
        let (key, nonce) = bytes.split_at(KEY_BYTES);
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?);
        Ok((key, Nonce::try_assume_unique_for_key(nonce)?))
    }

    fn seal(&self, state: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt)?;
        let (key, nonce) = self.cipher(&salt)?;
        let mut sealed = state.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::from(self.name), &mut sealed)?;
        Ok([&self.name[..], &salt, &sealed].concat())
    }

    fn open(&self, salt: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let (key, nonce) = self.cipher(salt)?;
        let mut state = sealed.to_vec();
        let length = key.open_in_place(nonce, Aad::from(self.name), &mut state)?.len();
        state.truncate(length);
        Ok(state)
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.first()?.seal(plain).ok()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_at_checked(NAME_BYTES)?;
        let (salt, sealed) = rest.split_at_checked(SALT_BYTES)?;
        // Names are no secret: every client sees them.
        let key = self.0.iter().find(|key| key.name == name)?;
        key.open(salt, sealed).ok()
    }
}

/// Bytes to derive.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> String {
        STANDARD.encode([byte; SECRET_BYTES_MIN])
    }

    fn keys(bytes: &[u8]) -> TicketKeys {
        let lines: Vec<String> = bytes.iter().map(|byte| secret(*byte)).collect();
        parse(lines.join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn the_first_secret_seals_and_all_open() {
        let state = b"resumption state";
        let ticket = keys(&[1]).encrypt(state).unwrap();
        for (others, opens) in [(&[1_u8][..], true), (&[2, 1], true), (&[3, 2, 1], true), (&[2, 3], false)] {
            assert_eq!(
                keys(others).decrypt(&ticket).is_some_and(|opened| opened == state),
                opens,
                "{others:?}"
            );
        }
        let ticket = keys(&[2, 1]).encrypt(state).unwrap();
        assert_eq!((keys(&[1]).decrypt(&ticket), keys(&[2]).decrypt(&ticket)), (None, Some(state.to_vec())));
        assert!(!ticket.windows(state.len()).any(|window| window == state));
        assert_ne!(ticket, keys(&[2, 1]).encrypt(state).unwrap());
    }

    #[test]
    fn a_ticket_with_any_bit_changed_or_cut_short_is_none() {
        let keys = keys(&[1]);
        let ticket = keys.encrypt(b"state").unwrap();
        for position in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[position] ^= 1;
            assert_eq!(
                (keys.decrypt(&changed), keys.decrypt(&ticket[..position])),
                (None, None),
                "{position}"
            );
        }
    }

    #[test]
    fn secrets_are_lines_of_base64_or_one_raw_secret() {
        let commented = format!("# in use\n{}\r\n\n  {}  \n", secret(1), secret(2));
        assert!(parse(commented.as_bytes()).is_ok_and(|keys| keys.0.len() == 2));
        assert!(parse(&[0xfe; 48]).is_ok_and(|keys| keys.0.len() == 1));
        let many = [secret(1), secret(2), secret(3), secret(4)].join("\n");
        let short = format!("{}\n{}", secret(1), STANDARD.encode([7; 31]));
        let cases: [(&[u8], Problem); 7] = [
            (b"", Problem::Empty),
            (b"# nothing\n\n", Problem::Empty),
            (many.as_bytes(), Problem::TooMany),
            (b"\nnot base64!", Problem::NotBase64(2)),
            (short.as_bytes(), Problem::Length(2)),
            (&[0xfe; 31], Problem::Length(1)),
            (&[0xfe; 1025], Problem::Length(1)),
        ];
        for (file, problem) in cases {
            assert_eq!(parse(file).err(), Some(problem), "{file:?}");
        }
    }

    #[test]
    fn what_is_printed_of_keys_and_problems_holds_no_secret() {
        assert_eq!(format!("{:?}", keys(&[1, 2])), "TicketKeys(2)");
        assert!(Problem::Length(4).to_string().contains("line 4 must have 32 to 1024 bytes"));
    }
}
