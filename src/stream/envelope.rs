//! An event as instances store it and share it: compact, versioned, bounded.
//!
//! Owns both directions of the format. Never trusts what it reads: whatever the bytes are, they become an event within
//! the limits or an error. An envelope names no position: that is beside it, in a stored entry's id or in front of a
//! publication.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | class: 0 critical, 1 ordered, 2 latest, 3 ephemeral |
//! | 1 | form: 0 payload, 1 object, 2 message |
//! | 1 | flags: 1 a version of the value follows; the other bits are 0 |
//! | 1 | target: 0 user, 1 room, 2 everyone |
//! | 8 | only of Latest: its key, big-endian |
//! | 8 | only with that flag: version of the value, big-endian |
//! | 1 + n | only for a user or a room: length and name, UTF-8 |
//! | 1 + n | length and type, UTF-8 |
//! | rest | payload: JSON, UTF-8 |

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    event::{Class, Event, Form, LatestKey, Position, Target},
    limits::{EVENT_BYTES_MAX, KIND_BYTES_MAX, ROOM_NAME_BYTES_MAX, USER_ID_BYTES_MAX},
    stream::{
        names,
        word::{InstanceId, Word},
    },
};

const VERSION: u8 = 1;
const HAS_VALUE_VERSION: u8 = 1;

/// Why bytes are no envelope, or no publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Written by an instance of another version.
    #[error("version {0} is not known here")]
    Version(u8),
    /// They end within a field.
    #[error("cut off")]
    Truncated,
    /// A field has a value that means nothing.
    #[error("a field has no meaning")]
    Field,
    /// A name, type or payload is empty or over its limit.
    #[error("a length is out of range")]
    Length,
    /// A text is not UTF-8.
    #[error("not UTF-8")]
    Text,
}

/// The event as others get it. Its position, `except` and the time of acceptance stay here. One for a single
/// connection means nothing elsewhere: [`decode`] refuses it.
pub fn encode(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + ROOM_NAME_BYTES_MAX + event.kind.len() + event.payload.len());
    encode_into(event, &mut bytes);
    bytes
}

/// Whether others get the same of both.
pub fn is_equal(one: &Event, other: &Event) -> bool {
    let what = |event: &Event| (event.form, event.version);
    what(one) == what(other)
        && one.class == other.class
        && one.target == other.target
        && one.kind == other.kind
        && one.payload == other.payload
}

fn encode_into(event: &Event, bytes: &mut Vec<u8>) {
    let (target, name) = match &event.target {
        Target::User(user) => (0, Some(user)),
        Target::Room(room) => (1, Some(room)),
        Target::Everyone => (2, None),
        Target::Connection(_) => (NOT_SHARED, None),
    };
    let form = match event.form {
        Form::Payload => 0,
        Form::Object => 1,
        Form::Message => 2,
    };
    let flags = if event.version.is_some() { HAS_VALUE_VERSION } else { 0 };
    bytes.extend([VERSION, event.class.index() as u8, form, flags, target]);
    if let Class::Latest(LatestKey(key)) = event.class {
        bytes.extend(key.to_be_bytes());
    }
    bytes.extend(event.version.map(u64::to_be_bytes).iter().flatten());
    for text in name.into_iter().chain([&event.kind]) {
        // What is longer was refused where it entered; here it would be refused again.
        bytes.push(u8::try_from(text.len()).unwrap_or(0));
        bytes.extend(text.as_bytes());
    }
    bytes.extend(&*event.payload);
}

/// The event again, without position; `accepted_at_ns` is 0, for who receives it to set.
///
/// # Errors
/// Whatever [`encode`] does not write.
pub fn decode(bytes: &[u8]) -> Result<Event, Malformed> {
    let mut rest = Reader(bytes);
    let [version] = rest.array()?;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let [class, form, flags, target] = rest.array()?;
    let class = match class {
        0 => Class::Critical,
        1 => Class::Ordered,
        2 => Class::Latest(LatestKey(u64::from_be_bytes(rest.array()?))),
        3 => Class::Ephemeral,
        _ => return Err(Malformed::Field),
    };
    let form = match form {
        0 => Form::Payload,
        1 => Form::Object,
        2 => Form::Message,
        _ => return Err(Malformed::Field),
    };
    let version = match flags {
        0 => None,
        HAS_VALUE_VERSION => Some(u64::from_be_bytes(rest.array()?)),
        _ => return Err(Malformed::Field),
    };
    let target = match target {
        0 => Target::User(rest.text(USER_ID_BYTES_MAX)?),
        1 => Target::Room(rest.text(ROOM_NAME_BYTES_MAX)?),
        2 => Target::Everyone,
        _ => return Err(Malformed::Field),
    };
    let kind = rest.text(KIND_BYTES_MAX)?;
    let payload = rest.payload()?;
    Ok(Event { target, kind, payload, form, class, version, position: None, except: None, accepted_at_ns: 0 })
}

/// What one instance says to the others on a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Publication {
    /// `S <epoch> <offset> ` and the envelope: it is stored, and carries its position.
    Stored(Event),
    /// `H <epoch> <offset> ` and the stream: something of it was lost, and it goes on there in an epoch that no other joins.
    Renamed(Position),
    /// `E <origin> ` and the envelope: sent once, by the instance of that id.
    Passing {
        /// Who said it: an instance hears itself too.
        origin: InstanceId,
        /// What.
        event: Event,
    },
    /// `C <origin> ` and the word: what an instance says of itself.
    Word {
        /// Who said it.
        origin: InstanceId,
        /// What.
        word: Word,
    },
}

/// A publication of what is not stored. Stored events are published by the script that stores them.
pub fn passing(origin: InstanceId, event: &Event) -> Vec<u8> {
    let mut bytes = format!("E {origin:016x} ").into_bytes();
    encode_into(event, &mut bytes);
    bytes
}

/// A publication of what an instance says of itself.
pub fn word(origin: InstanceId, word: &Word) -> Vec<u8> {
    let mut bytes = format!("C {origin:016x} ").into_bytes();
    word.encode_into(&mut bytes);
    bytes
}

/// Reads what came on a channel of ours.
///
/// # Errors
/// What neither [`passing`] nor [`word`] nor a script of the store writes.
pub fn publication(bytes: &[u8]) -> Result<Publication, Malformed> {
    let mut rest = Reader(bytes);
    match rest.word()? {
        "S" => {
            let (epoch, offset) = rest.place()?;
            let mut event = decode(rest.0)?;
            let stream = names::stream_of(&event.target).ok_or(Malformed::Field)?;
            event.position = Some(Position { stream, epoch, offset });
            Ok(Publication::Stored(event))
        }
        "H" => {
            let (epoch, offset) = rest.place()?;
            let stream = str::from_utf8(rest.0).map_err(|_| Malformed::Text)?.into();
            Ok(Publication::Renamed(Position { stream, epoch, offset }))
        }
        "E" => Ok(Publication::Passing { origin: rest.origin()?, event: decode(rest.0)? }),
        "C" => Ok(Publication::Word { origin: rest.origin()?, word: Word::decode(rest)? }),
        _ => Err(Malformed::Field),
    }
}

/// Target of an event that is not shared.
const NOT_SHARED: u8 = u8::MAX;
/// Longest word in front of a publication's envelope, bytes.
const WORD_BYTES_MAX: usize = 64;

const _: () = assert!(KIND_BYTES_MAX <= u8::MAX as usize && ROOM_NAME_BYTES_MAX <= u8::MAX as usize);

/// What is not read yet.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn text(&mut self, length_max: usize) -> Result<Arc<str>, Malformed> {
        let length = usize::from(self.array::<1>()?[0]);
        if !(1..=length_max).contains(&length) {
            return Err(Malformed::Length);
        }
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(str::from_utf8(text).map_err(|_| Malformed::Text)?.into())
    }

    fn payload(self) -> Result<Bytes, Malformed> {
        if !(1..=EVENT_BYTES_MAX).contains(&self.0.len()) {
            return Err(Malformed::Length);
        }
        str::from_utf8(self.0).map_err(|_| Malformed::Text)?;
        Ok(Bytes::copy_from_slice(self.0))
    }

    /// Who says it.
    fn origin(&mut self) -> Result<InstanceId, Malformed> {
        u64::from_str_radix(self.word()?, 16).map_err(|_| Malformed::Field)
    }

    /// Epoch and offset.
    fn place(&mut self) -> Result<(Arc<str>, u64), Malformed> {
        let epoch = self.word()?.into();
        Ok((epoch, self.word()?.parse().map_err(|_| Malformed::Field)?))
    }

    /// The text before the next space.
    fn word(&mut self) -> Result<&'a str, Malformed> {
        let end = self.0.iter().take(WORD_BYTES_MAX + 1).position(|byte| *byte == b' ');
        let end = end.ok_or(Malformed::Truncated)?;
        let word = str::from_utf8(&self.0[..end]).map_err(|_| Malformed::Text)?;
        self.0 = &self.0[end + 1..];
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConnId, ShardId};

    fn event() -> Event {
        Event {
            target: Target::User("alice".into()),
            kind: "booking:confirmed".into(),
            payload: Bytes::from_static(br#"{"booking_id":"b-1"}"#),
            form: Form::Payload,
            class: Class::Critical,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: 0,
        }
    }

    /// Every class, form and target.
    fn events() -> Vec<Event> {
        let latest = Class::Latest(LatestKey(u64::MAX - 1));
        vec![
            event(),
            Event { target: Target::Room("événement:1".into()), form: Form::Object, ..event() },
            Event { class: Class::Ordered, form: Form::Message, ..event() },
            Event { class: latest, version: Some(7), target: Target::Everyone, ..event() },
            Event { class: Class::Ephemeral, version: Some(u64::MAX), ..event() },
            Event { kind: "k".repeat(KIND_BYTES_MAX).into(), ..event() },
            Event { target: Target::Room("r".repeat(ROOM_NAME_BYTES_MAX).into()), ..event() },
            Event { payload: format!("\"{}\"", "x".repeat(EVENT_BYTES_MAX - 2)).into(), ..event() },
        ]
    }

    #[test]
    fn every_event_comes_back_as_it_was() {
        for event in events() {
            assert_eq!(decode(&encode(&event)).as_ref(), Ok(&event));
        }
    }

    #[test]
    fn the_format_is_the_one_that_older_instances_wrote() {
        let latest =
            Event { class: Class::Latest(LatestKey(1)), version: Some(2), payload: "{}".into(), ..event() };
        let written =
            b"\x01\x02\x00\x01\x00\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x05alice\x11booking:confirmed{}";
        assert_eq!(encode(&latest), written);
        let critical = Event { target: Target::Everyone, payload: "1".into(), kind: "a".into(), ..event() };
        assert_eq!(encode(&critical), b"\x01\x00\x00\x00\x02\x01a1");
    }

    #[test]
    fn what_belongs_to_one_instance_stays_there() {
        let conn = ConnId::new(ShardId(0), 1, 1);
        let position = Position { stream: "user:alice".into(), epoch: "e".into(), offset: 1 };
        let here = Event { except: Some(conn), position: Some(position), accepted_at_ns: 9, ..event() };
        assert_eq!(decode(&encode(&here)), Ok(event()));
        let private = Event { target: Target::Connection(conn), ..event() };
        assert_eq!(decode(&encode(&private)), Err(Malformed::Field));
    }

    #[test]
    fn what_is_over_a_limit_is_refused() {
        let long = |length: usize| Arc::<str>::from("x".repeat(length));
        let table = [
            Event { kind: long(KIND_BYTES_MAX + 1), ..event() },
            Event { kind: long(300), ..event() },
            Event { kind: "".into(), ..event() },
            Event { target: Target::User(long(ROOM_NAME_BYTES_MAX + 1)), ..event() },
            Event { payload: vec![b'1'; EVENT_BYTES_MAX + 1].into(), ..event() },
            Event { payload: Bytes::new(), ..event() },
        ];
        for event in table {
            assert_eq!(decode(&encode(&event)), Err(Malformed::Length), "{:.40}", event.kind);
        }
        assert_eq!(decode(&[2, 0, 0, 0, 2, 1, b'a', b'1']), Err(Malformed::Version(2)));
        assert_eq!(decode(&[1, 0, 0, 0, 2, 1, 0xff, b'1']), Err(Malformed::Text));
        assert_eq!(decode(&[1, 0, 0, 0, 2, 1, b'a', 0xff]), Err(Malformed::Text));
        assert_eq!(decode(&[1, 0, 0, 2, 2, 1, b'a', b'1']), Err(Malformed::Field));
    }

    #[test]
    fn a_publication_carries_its_position_or_its_origin() {
        let stream: Arc<str> = "user:alice".into();
        let stored = [b"S 3.a9 41 ".as_slice(), &encode(&event())].concat();
        let position = Position { stream: stream.clone(), epoch: "3.a9".into(), offset: 41 };
        let expected = Publication::Stored(Event { position: Some(position), ..event() });
        assert_eq!(publication(&stored), Ok(expected));
        let position = Position { stream: "room:a b".into(), epoch: "4.b0".into(), offset: 7 };
        assert_eq!(publication(b"H 4.b0 7 room:a b"), Ok(Publication::Renamed(position)));
        let expected = Publication::Passing { origin: 0xabc, event: event() };
        assert_eq!(publication(&passing(0xabc, &event())), Ok(expected));
        for bytes in [
            "",
            "S",
            "S ",
            "S e",
            "S e x ",
            "H",
            "H e ",
            "H e x s",
            "E g ",
            "E -1 ",
            "X 1 ",
            " ",
            &"S".repeat(200),
        ] {
            assert!(publication(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
    }

    /// Catalogue H4: neither bytes cut off, nor changed, nor made up bring more than an error.
    #[test]
    fn no_bytes_are_too_much() {
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut roll = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice
        };
        let whole: Vec<Vec<u8>> = events().iter().take(5).map(encode).collect();
        for bytes in &whole {
            // A payload cut off is one that is shorter: a length of its own would say nothing that Redis does not.
            let fixed = bytes.len() - event().payload.len();
            assert!((0..=fixed).all(|length| decode(&bytes[..length]).is_err()));
        }
        let mut read = 0;
        for _ in 0..200_000 {
            let mut bytes = whole[roll() as usize % whole.len()].clone();
            bytes.truncate(roll() as usize % (bytes.len() + 1));
            for _ in 0..roll() % 4 {
                let at = roll() as usize % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = roll() as u8;
                }
            }
            if let Ok(event) = decode(&bytes) {
                read += 1;
                assert_eq!(encode(&event), bytes, "what can be read is what would be written");
            }
            bytes.splice(0..0, if roll() % 2 == 0 { *b"S 1.a 2 " } else { *b"E 1234f " });
            // Only that it returns.
            let _ = publication(&bytes);
        }
        assert!(read > 1_000, "{read} were events: enough to say something");
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..roll() % 64).map(|_| roll() as u8).collect();
            // Only that they return.
            let _ = (decode(&bytes), publication(&bytes));
        }
    }
}
