//! What instances say of themselves to each other: that they live, and whom they have (counts, who is in which room).
//!
//! Owns both directions of the format. Never trusts what it reads: whatever the bytes are, they become a word within
//! the limits or an error. Nothing of it is stored: a word that is lost is said again later.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | 0 alive, 1 leaving, 2 count, 3 count that asks, 4 came, 5 went, 6 members |
//! | 4 | only of a count: connections or members, big-endian |
//! | 1 | only of a count: 0 user, 1 room |
//! | 1 + n | but for 0 and 1: length and name of the user or room, UTF-8 |
//! | 1 + n | only of 4 and 5: length and user, UTF-8 |
//! | rest | only of 6: any number of users, each 1 + n |

use std::sync::Arc;

use super::envelope::{Malformed, Reader};
use crate::{
    event::Address,
    limits::{ANNOUNCED_ROOM_MEMBERS_MAX, ROOM_NAME_BYTES_MAX, USER_ID_BYTES_MAX},
};

/// An instance, by the number that it drew at its start.
pub type InstanceId = u64;

/// What one instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It lives.
    Alive,
    /// It goes, and takes its counts with it.
    Leaving,
    /// It has so many connections of the address. `asks`: it wants to know how many the others have.
    Count {
        /// Which user or room.
        address: Address,
        /// Connections or members there.
        count: u32,
        /// The others are to tell theirs.
        asks: bool,
    },
    /// A user came into a room under `ROOM_PRESENCE` there, or has left it.
    Present {
        /// Where.
        room: Arc<str>,
        /// Who.
        user: Arc<str>,
        /// Came, or left.
        present: bool,
    },
    /// All users that it has in a room under `ROOM_PRESENCE`; at most [`ANNOUNCED_ROOM_MEMBERS_MAX`].
    Members {
        /// Where.
        room: Arc<str>,
        /// Who.
        users: Vec<Arc<str>>,
    },
}

impl Word {
    /// On whose channel it is said; `None`: on that of all.
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Alive | Self::Leaving => None,
            Self::Count { address, .. } => Some(address.clone()),
            Self::Present { room, .. } | Self::Members { room, .. } => Some(Address::Room(room.clone())),
        }
    }

    pub(super) fn encode_into(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Alive => bytes.push(0),
            Self::Leaving => bytes.push(1),
            Self::Count { address, count, asks } => {
                bytes.push(2 + u8::from(*asks));
                bytes.extend(count.to_be_bytes());
                let (target, name) = match address {
                    Address::User(user) => (0, user),
                    Address::Room(room) => (1, room),
                };
                bytes.push(target);
                text_into(name, bytes);
            }
            Self::Present { room, user, present } => {
                bytes.push(if *present { 4 } else { 5 });
                text_into(room, bytes);
                text_into(user, bytes);
            }
            Self::Members { room, users } => {
                bytes.push(6);
                text_into(room, bytes);
                users.iter().for_each(|user| text_into(user, bytes));
            }
        }
    }

    pub(super) fn decode(mut rest: Reader<'_>) -> Result<Self, Malformed> {
        let [tag] = rest.array()?;
        let word = match tag {
            0 => Self::Alive,
            1 => Self::Leaving,
            2 | 3 => {
                let count = u32::from_be_bytes(rest.array()?);
                let address = match rest.array()? {
                    [0] => Address::User(rest.text(USER_ID_BYTES_MAX)?),
                    [1] => Address::Room(rest.text(ROOM_NAME_BYTES_MAX)?),
                    _ => return Err(Malformed::Field),
                };
                Self::Count { address, count, asks: tag == 3 }
            }
            4 | 5 => {
                let room = rest.text(ROOM_NAME_BYTES_MAX)?;
                Self::Present { room, user: rest.text(USER_ID_BYTES_MAX)?, present: tag == 4 }
            }
            6 => {
                let room = rest.text(ROOM_NAME_BYTES_MAX)?;
                let mut users = Vec::new();
                while !rest.0.is_empty() {
                    if users.len() == ANNOUNCED_ROOM_MEMBERS_MAX {
                        return Err(Malformed::Length);
                    }
                    users.push(rest.text(USER_ID_BYTES_MAX)?);
                }
                Self::Members { room, users }
            }
            _ => return Err(Malformed::Field),
        };
        if rest.0.is_empty() { Ok(word) } else { Err(Malformed::Length) }
    }
}

/// A length and a text; what is too long was refused where it entered, and is refused again by who reads it.
fn text_into(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(u8::try_from(text.len()).unwrap_or(0));
    bytes.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::envelope::{Publication, publication, word};

    fn words() -> Vec<Word> {
        let (room, user): (Arc<str>, Arc<str>) = ("team:é 1".into(), "ann".into());
        let count = |address, asks| Word::Count { address, count: u32::MAX, asks };
        vec![
            Word::Alive,
            Word::Leaving,
            count(Address::User(user.clone()), false),
            count(Address::Room(room.clone()), true),
            Word::Present { room: room.clone(), user: user.clone(), present: true },
            Word::Present { room: room.clone(), user: user.clone(), present: false },
            Word::Members { room: room.clone(), users: Vec::new() },
            Word::Members { room, users: vec![user, "bob".into()] },
        ]
    }

    #[test]
    fn every_word_comes_back_as_it_was_with_who_said_it() {
        for said in words() {
            let heard = publication(&word(0xabc, &said));
            assert_eq!(heard, Ok(Publication::Word { origin: 0xabc, word: said }));
        }
    }

    #[test]
    fn the_format_is_the_one_that_older_instances_wrote() {
        let said = Word::Count { address: Address::User("ann".into()), count: 258, asks: true };
        assert_eq!(word(1, &said), b"C 0000000000000001 \x03\0\0\x01\x02\0\x03ann");
    }

    #[test]
    fn what_is_over_a_limit_cut_off_or_followed_by_more_is_refused() {
        let users = (0..=ANNOUNCED_ROOM_MEMBERS_MAX).map(|n| n.to_string().into()).collect();
        let long = |length: usize| Arc::<str>::from("x".repeat(length));
        for said in [
            Word::Members { room: "r".into(), users },
            Word::Present { room: long(ROOM_NAME_BYTES_MAX + 1), user: "u".into(), present: true },
            Word::Count { address: Address::User("".into()), count: 1, asks: false },
        ] {
            assert_eq!(publication(&word(1, &said)), Err(Malformed::Length));
        }
        for said in words() {
            let mut bytes = word(1, &said);
            bytes.push(200);
            assert!(publication(&bytes).is_err(), "{said:?} and more");
            if !matches!(said, Word::Members { .. }) {
                bytes.truncate(bytes.len() - 2);
                assert!(publication(&bytes).is_err(), "{said:?} cut off");
            }
        }
        assert_eq!(publication(b"C 1 \x07"), Err(Malformed::Field));
    }

    /// Catalogue H4: made-up bytes bring no more than an error.
    #[test]
    fn no_bytes_are_too_much() {
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut roll = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice
        };
        for _ in 0..50_000 {
            let said = &words()[roll() as usize % words().len()];
            let mut bytes = word(1, said);
            let at = roll() as usize % bytes.len();
            bytes[at] = roll() as u8;
            if let Ok(Publication::Word { origin, word: read }) = publication(&bytes) {
                assert!(
                    bytes.ends_with(&word(origin, &read)[19..]),
                    "what can be read is what would be written"
                );
            }
        }
    }
}
