//! What messages carry: a mark, a sequence number and the intended send time, at fixed positions.
//!
//! `{"room":"SSSSSSSSSSTTTTTTTTTTTTTTTTTTTT","pad":"xxx"}`: ten digits of sequence, twenty of monotonic
//! nanoseconds. A receiver looks for each mark once and then reads at the same place in every message.

/// Whom a message is for; it opens the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Published to the room.
    Room,
    /// Published to one user.
    User,
    /// A `system:ping`, for whoever sent it.
    Ping,
}

const MARK_BYTES: usize = 9;

impl Mark {
    const ALL: [Self; 3] = [Self::Room, Self::User, Self::Ping];

    fn text(self) -> &'static [u8; MARK_BYTES] {
        match self {
            Self::Room => b"{\"room\":\"",
            Self::User => b"{\"user\":\"",
            Self::Ping => b"{\"ping\":\"",
        }
    }
}

const SEQUENCE_DIGITS: usize = 10;
const TIME_DIGITS: usize = 20;
const BEFORE_PAD: &[u8] = b"\",\"pad\":\"";
const END: &[u8] = b"\"}";

/// The shortest payload that holds everything.
pub(crate) const BYTES_MIN: usize = MARK_BYTES + SEQUENCE_DIGITS + TIME_DIGITS + BEFORE_PAD.len() + END.len();

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Position among the messages of its publisher, from 0; per user when each goes to one user.
    pub(crate) sequence: u32,
    /// When it should have been sent, monotonic nanoseconds.
    pub(crate) intended_ns: u64,
}

/// A JSON object of `max(bytes, BYTES_MIN)` bytes with the stamp.
pub(crate) fn build(mark: Mark, stamp: Stamp, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.max(BYTES_MIN));
    payload.extend_from_slice(mark.text());
    payload.extend_from_slice(format!("{:010}{:020}", stamp.sequence, stamp.intended_ns).as_bytes());
    payload.extend_from_slice(BEFORE_PAD);
    payload.resize(bytes.max(BYTES_MIN) - END.len(), b'x');
    payload.extend_from_slice(END);
    payload
}

/// Finds stamps; remembers where the last one of each mark was.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    offsets: [usize; Mark::ALL.len()],
}

impl Finder {
    /// The message's mark and stamp; `None`: it has no mark, or something else behind it.
    pub(crate) fn find(&mut self, message: &[u8]) -> Option<(Mark, Stamp)> {
        let opens = |offset: usize, mark: Mark| {
            message.get(offset..).is_some_and(|rest| rest.starts_with(mark.text()))
        };
        let remembered = Mark::ALL.into_iter().find(|mark| opens(self.offsets[*mark as usize], *mark));
        let mark = match remembered {
            Some(mark) => mark,
            None => {
                let marked =
                    |offset| Mark::ALL.into_iter().find(|mark| opens(offset, *mark)).zip(Some(offset));
                let (mark, offset) = (0..message.len()).find_map(marked)?;
                self.offsets[mark as usize] = offset;
                mark
            }
        };
        let behind = self.offsets[mark as usize] + MARK_BYTES;
        let digits = message.get(behind..)?.get(..SEQUENCE_DIGITS + TIME_DIGITS)?;
        let (sequence, time) = digits.split_at(SEQUENCE_DIGITS);
        let stamp = Stamp { sequence: u32::try_from(number(sequence)?).ok()?, intended_ns: number(time)? };
        Some((mark, stamp))
    }
}

/// Of the position that a run ends with.
pub(crate) const LAST_VERSION: u64 = (1 << 53) - 1;

/// The event of a queue; none is the beginning of another's.
pub(crate) fn queue(number: u64) -> String {
    format!("load-{number:020}")
}

/// The version of a position in that queue; `None`: it is none.
pub(crate) fn version(message: &[u8], queue: &str) -> Option<u64> {
    const VERSION: &[u8] = br#""version":"#;
    let head = &message[..message.len().min(64)];
    position(head, b"booking:queue_position")?;
    position(message, queue.as_bytes())?;
    let digits = &message[position(message, VERSION)? + VERSION.len()..];
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    number(&digits[..count]).filter(|_| count > 0)
}

/// Where `needle` begins in `hay`.
pub(crate) fn position(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, digit| {
        digit.is_ascii_digit().then(|| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { sequence: 4_000_000_000, intended_ns: 987_654_321_012_345 };

    #[test]
    fn a_stamp_comes_back_from_any_place_in_a_message() {
        let mut finder = Finder::default();
        for mark in [Mark::Room, Mark::User, Mark::Ping, Mark::Room] {
            let payload = String::from_utf8(build(mark, STAMP, 128)).unwrap();
            for message in [
                format!(r#"{{"type":"ticket:sold","payload":{payload}}}"#),
                format!(r#"{{"stream":"room:a","type":"ticket:sold","payload":{payload}}}"#),
                payload,
            ] {
                assert_eq!(finder.find(message.as_bytes()), Some((mark, STAMP)), "{message}");
            }
        }
    }

    #[test]
    fn a_payload_has_the_length_asked_for_and_is_json() {
        for (asked, got) in [(0, BYTES_MIN), (BYTES_MIN, BYTES_MIN), (128, 128), (4_096, 4_096)] {
            let payload = build(Mark::Ping, STAMP, asked);
            assert_eq!(payload.len(), got);
            assert!(serde_json::from_slice::<serde_json::Value>(&payload).unwrap().is_object());
        }
    }

    #[test]
    fn what_has_no_stamp_has_none() {
        let mut finder = Finder::default();
        for message in [&b"{}"[..], b"", b"{\"room\":\"12", b"{\"room\":\"00000000010000000000000000000x\"}"]
        {
            assert_eq!(finder.find(message), None);
        }
    }
}
