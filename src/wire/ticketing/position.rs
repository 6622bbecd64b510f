//! `booking:queue_position` (03 §10) for many receivers: what they share is encoded once, the rest written between.
//!
//! Invariant: [`PositionTemplate::write`] allocates nothing where the buffer has room.

use crate::wire::{
    frame::{OpCode, encode_header},
    json,
};

/// The parts of the message that do not change from receiver to receiver.
#[derive(Debug, Default)]
pub struct PositionTemplate {
    /// Up to the position's digits.
    head: Vec<u8>,
    /// `,"serving":…` up to the digits of `eta_seconds_low`.
    middle: Vec<u8>,
    /// `,"moved_at":…` and the end.
    tail: Vec<u8>,
}

const AHEAD: &[u8] = br#","ahead":"#;
const ETA_HIGH: &[u8] = br#","eta_seconds_high":"#;

impl PositionTemplate {
    /// For one state of one queue; the time in milliseconds since the epoch.
    pub fn new(event_id: &str, serving: u32, total: u32, moved_at_ms: u64) -> Self {
        let mut head = br#"{"type":"booking:queue_position","payload":{"event_id":"#.to_vec();
        json::write_string(event_id, &mut head);
        head.extend_from_slice(br#","position":"#);
        let middle = format!(r#","serving":{serving},"total":{total},"eta_seconds_low":"#);
        let tail = format!(r#","moved_at":{moved_at_ms}}}}}"#);
        Self { head, middle: middle.into(), tail: tail.into() }
    }

    /// Replaces what is in `frame` by a whole WebSocket text frame for one receiver. `eta` is in seconds, low and high;
    /// position 0: it is this one's turn.
    #[inline]
    pub fn write(&self, position: u32, ahead: u32, eta: Option<(u32, u32)>, frame: &mut Vec<u8>) {
        let position = Digits::of(position);
        let ahead = Digits::of(ahead);
        let (low, high) = match eta {
            Some((low, high)) => (Digits::of(low), Digits::of(high)),
            None => (Digits::NULL, Digits::NULL),
        };
        let parts: [&[u8]; 9] = [
            &self.head,
            position.as_bytes(),
            AHEAD,
            ahead.as_bytes(),
            &self.middle,
            low.as_bytes(),
            ETA_HIGH,
            high.as_bytes(),
            &self.tail,
        ];
        frame.clear();
        encode_header(OpCode::Text, parts.iter().map(|part| part.len()).sum(), frame);
        for part in parts {
            frame.extend_from_slice(part);
        }
    }
}

/// A number in decimal digits, right-aligned; the longest `u32` has ten.
struct Digits {
    text: [u8; 10],
    start: usize,
}

impl Digits {
    const NULL: Self = Self { text: *b"      null", start: 6 };

    fn of(mut number: u32) -> Self {
        let mut text = [b'0'; 10];
        let mut start = text.len();
        loop {
            start -= 1;
            text[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { text, start };
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    fn text(template: &PositionTemplate, position: u32, ahead: u32, eta: Option<(u32, u32)>) -> String {
        let mut bytes = b"what was there".to_vec();
        template.write(position, ahead, eta, &mut bytes);
        String::from_utf8(frame::payload(&bytes).to_vec()).unwrap()
    }

    #[test]
    fn a_position_is_the_documented_object() {
        let template = PositionTemplate::new("1\"2", 10, 4_294_967_295, 1_700_000_000_000);
        assert_eq!(
            text(&template, 4_294_967_295, 100, Some((0, 90))),
            r#"{"type":"booking:queue_position","payload":{"event_id":"1\"2","position":4294967295,"ahead":100,"#
                .to_owned()
                + r#""serving":10,"total":4294967295,"eta_seconds_low":0,"eta_seconds_high":90,"#
                + r#""moved_at":1700000000000}}"#
        );
        let null = text(&template, 1, 0, None);
        assert!(null.contains(r#""position":1,"ahead":0,"#), "{null}");
        assert!(null.contains(r#""eta_seconds_low":null,"eta_seconds_high":null,"moved_at""#), "{null}");
    }

    #[test]
    fn every_number_has_its_digits() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, 999_999_999, 1_000_000_000, u32::MAX] {
            assert_eq!(Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
