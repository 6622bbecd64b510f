//! What messages carry: a mark, a sequence number and the intended send time, at fixed positions.
//!
//! `{"load":"SSSSSSSSSSTTTTTTTTTTTTTTTTTTTT","pad":"xxx"}`: ten digits of sequence, twenty of monotonic
//! nanoseconds. A receiver looks for the mark once and then reads at the same place in every message.

/// Opens the payload of a published message.
pub(crate) const LOAD: &[u8] = b"{\"load\":\"";
/// Opens the payload of a `system:ping`.
pub(crate) const PING: &[u8] = b"{\"ping\":\"";

const SEQUENCE_DIGITS: usize = 10;
const TIME_DIGITS: usize = 20;
const BEFORE_PAD: &[u8] = b"\",\"pad\":\"";
const END: &[u8] = b"\"}";

/// The shortest payload that holds everything.
pub(crate) const BYTES_MIN: usize = LOAD.len() + SEQUENCE_DIGITS + TIME_DIGITS + BEFORE_PAD.len() + END.len();

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Position among the messages of its publisher, from 0; per user when each goes to one user.
    pub(crate) sequence: u32,
    /// When it should have been sent, monotonic nanoseconds.
    pub(crate) intended_ns: u64,
}

/// A JSON object of `max(bytes, BYTES_MIN)` bytes with the stamp.
pub(crate) fn build(mark: &[u8], stamp: Stamp, bytes: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.max(BYTES_MIN));
    payload.extend_from_slice(mark);
    payload.extend_from_slice(format!("{:010}{:020}", stamp.sequence, stamp.intended_ns).as_bytes());
    payload.extend_from_slice(BEFORE_PAD);
    payload.resize(bytes.max(BYTES_MIN) - END.len(), b'x');
    payload.extend_from_slice(END);
    payload
}

/// Finds stamps; remembers where the last one was.
#[derive(Debug)]
pub(crate) struct Finder {
    mark: &'static [u8],
    /// Where the mark was in the last message that had one.
    offset: usize,
}

impl Finder {
    /// A finder of the given mark.
    pub(crate) fn new(mark: &'static [u8]) -> Self {
        Self { mark, offset: 0 }
    }

    /// The message's stamp; `None`: it has no such mark, or something else behind it.
    pub(crate) fn find(&mut self, message: &[u8]) -> Option<Stamp> {
        if !message.get(self.offset..)?.starts_with(self.mark) {
            self.offset = position(message, self.mark)?;
        }
        let digits = message.get(self.offset + self.mark.len()..)?.get(..SEQUENCE_DIGITS + TIME_DIGITS)?;
        let (sequence, time) = digits.split_at(SEQUENCE_DIGITS);
        Some(Stamp { sequence: u32::try_from(number(sequence)?).ok()?, intended_ns: number(time)? })
    }
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
        let mut finder = Finder::new(LOAD);
        let payload = String::from_utf8(build(LOAD, STAMP, 128)).unwrap();
        for message in [
            format!(r#"{{"type":"ticket:sold","payload":{payload}}}"#),
            format!(r#"{{"stream":"room:a","type":"ticket:sold","payload":{payload}}}"#),
            payload,
        ] {
            assert_eq!(finder.find(message.as_bytes()), Some(STAMP), "{message}");
        }
    }

    #[test]
    fn a_payload_has_the_length_asked_for_and_is_json() {
        for (asked, got) in [(0, BYTES_MIN), (BYTES_MIN, BYTES_MIN), (128, 128), (4_096, 4_096)] {
            let payload = build(PING, STAMP, asked);
            assert_eq!(payload.len(), got);
            assert!(serde_json::from_slice::<serde_json::Value>(&payload).unwrap().is_object());
        }
    }

    #[test]
    fn what_has_no_stamp_has_none() {
        let mut finder = Finder::new(LOAD);
        for message in [&b"{}"[..], b"", b"{\"load\":\"12", b"{\"load\":\"00000000010000000000000000000x\"}"]
        {
            assert_eq!(finder.find(message), None);
        }
    }
}
