//! What a worker's connections received, and whether that is what was sent.
//!
//! Invariant: every receiver of a room sees the same messages in the same order, each once. The first receiver to
//! get its k-th message says which one that is; the others must agree, and at the end the k's must be all of them.

use std::collections::BTreeMap;

use crate::{
    latency::Latency,
    order::{Done, Messages, Tls},
    payload::{self, Finder, Mark, Stamp},
};

/// Faults told in words; the rest is counted.
const FAULTS_TOLD_MAX: usize = 8;

/// One connection's own counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    /// Published messages.
    pub(crate) messages: Messages,
    /// Pings sent.
    pub(crate) pings: u32,
    /// Pongs that came.
    pub(crate) pongs: u32,
    /// Of the last position that came; 0: none did.
    pub(crate) version: u64,
    /// Whether it will stop reading, so that what it gets counts neither as delivered nor for latency.
    pub(crate) stalls: bool,
}

/// A worker's counts.
#[derive(Debug)]
pub(crate) struct Tally {
    /// What messages about it contain.
    queue: String,
    /// Numbers of the room's messages in the order of their arrival.
    order: Vec<u32>,
    stamps: Finder,
    /// Intended send time → read here, since the last phase; messages to the room.
    pub(crate) room_latency: Latency,
    /// The same of messages to one user.
    pub(crate) user_latency: Latency,
    /// Intended ping time → pong read here, since the last phase.
    pub(crate) pong_latency: Latency,
    pub(crate) deliveries: u64,
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    pub(crate) positions: u64,
    pub(crate) others: u64,
    pub(crate) tls: Tls,
    ends: BTreeMap<String, u32>,
    faults: Vec<String>,
    fault_count: u64,
}

impl Tally {
    /// Nothing received yet; positions are of this queue.
    pub(crate) fn new(queue: u64) -> Self {
        Self {
            queue: payload::queue(queue),
            order: Vec::new(),
            stamps: Finder::default(),
            room_latency: Latency::new(),
            user_latency: Latency::new(),
            pong_latency: Latency::new(),
            deliveries: 0,
            pings: 0,
            pongs: 0,
            positions: 0,
            others: 0,
            tls: Tls::default(),
            ends: BTreeMap::new(),
            faults: Vec::new(),
            fault_count: 0,
        }
    }

    /// Takes one text message of an open connection.
    #[inline]
    pub(crate) fn message(&mut self, text: &[u8], received: &mut Received, now_ns: u64) {
        let Some((mark, stamp)) = self.stamps.find(text) else { return self.unstamped(text, received) };
        let latency = match mark {
            Mark::Room => &mut self.room_latency,
            Mark::User => &mut self.user_latency,
            Mark::Ping => &mut self.pong_latency,
        };
        let counts = mark == Mark::Ping || !received.stalls;
        if counts {
            latency.record(now_ns.saturating_sub(stamp.intended_ns));
        }
        if mark == Mark::Ping {
            return self.ponged(stamp, received);
        }
        self.deliveries += u64::from(counts);
        self.delivered(mark, stamp, received);
    }

    fn delivered(&mut self, mark: Mark, stamp: Stamp, received: &mut Received) {
        let of_room = mark == Mark::Room;
        let count = if of_room { &mut received.messages.room } else { &mut received.messages.users };
        let position = *count;
        *count += 1;
        let expected = match self.order.get(position as usize) {
            _ if !of_room => position,
            Some(agreed) => *agreed,
            None => {
                self.order.push(stamp.sequence);
                return;
            }
        };
        if stamp.sequence != expected {
            self.fault(format!("message {} came where {expected} was due", stamp.sequence));
        }
    }

    fn ponged(&mut self, stamp: Stamp, received: &mut Received) {
        if stamp.sequence != received.pongs {
            self.fault(format!("pong {} came where {} was due", stamp.sequence, received.pongs));
        }
        received.pongs += 1;
        self.pongs += 1;
    }

    fn unstamped(&mut self, text: &[u8], received: &mut Received) {
        match payload::version(text, &self.queue) {
            Some(version) => self.position(version, received),
            None => self.other(text),
        }
    }

    /// Most positions are left out; those that come are newer each time, and the last of all counts as the user's message.
    fn position(&mut self, version: u64, received: &mut Received) {
        self.positions += 1;
        if version <= received.version {
            self.fault(format!("position {version} came after {}", received.version));
        }
        received.version = version;
        if version == payload::LAST_VERSION {
            received.messages.users += 1;
            self.deliveries += 1;
        }
    }

    fn other(&mut self, text: &[u8]) {
        self.others += 1;
        if payload::position(&text[..text.len().min(256)], b"system:error").is_some() {
            self.fault(String::from_utf8_lossy(text).into_owned());
        }
    }

    /// Counts the end of a connection.
    pub(crate) fn ended(&mut self, how: String) {
        *self.ends.entry(how).or_default() += 1;
    }

    /// Notes that something is wrong.
    pub(crate) fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(what);
        }
    }

    /// Checks the connection with this number among all: it must have the messages due.
    pub(crate) fn check(&mut self, number: u32, due: Messages, received: Received) {
        if received.messages != due {
            self.fault(format!("connection {number} got {:?} of {due:?}", received.messages));
        }
    }

    /// The result, after every connection was checked.
    pub(crate) fn finish(mut self, ready: u32) -> Done {
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if sorted.iter().zip(0..).any(|(number, place): (&u32, u32)| *number != place) {
            self.fault("the numbers of the messages received have gaps or repetitions".into());
        }
        let reordered =
            self.order.iter().zip(0..).filter(|(number, place)| **number != *place).count() as u32;
        Done {
            ready,
            deliveries: self.deliveries,
            pings: self.pings,
            pongs: self.pongs,
            positions: self.positions,
            others: self.others,
            reordered,
            order_hash: hash(&self.order),
            tls: self.tls,
            ends: self.ends,
            stalled_ends: BTreeMap::new(),
            faults: self.faults,
            fault_count: self.fault_count,
        }
    }
}

/// FNV-1a over the numbers.
fn hash(order: &[u32]) -> u64 {
    order.iter().fold(0xcbf2_9ce4_8422_2325, |hash, number| {
        (hash ^ u64::from(*number)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(tally: &mut Tally, received: &mut Received, mark: Mark, numbers: &[u32]) {
        for sequence in numbers {
            let stamp = Stamp { sequence: *sequence, intended_ns: 5 };
            tally.message(&payload::build(mark, stamp, 0), received, 1_005);
        }
    }

    fn faults(mark: Mark, each: &[&[u32]], due: &[u32]) -> u64 {
        let mut tally = Tally::new(7);
        for ((number, numbers), due) in (0..).zip(each).zip(due) {
            let mut received = Received::default();
            deliver(&mut tally, &mut received, mark, numbers);
            let due = match mark {
                Mark::User => Messages { users: *due, room: 0 },
                _ => Messages { room: *due, users: 0 },
            };
            tally.check(number, due, received);
        }
        tally.finish(0).fault_count
    }

    #[test]
    fn each_once_and_in_one_order_is_no_fault() {
        assert_eq!(faults(Mark::Room, &[&[0, 1, 2], &[0, 1, 2]], &[3, 3]), 0);
        assert_eq!(faults(Mark::Room, &[&[1, 0, 2], &[1, 0, 2]], &[3, 3]), 0, "racing calls, one order");
        assert_eq!(faults(Mark::User, &[&[0, 1], &[0]], &[2, 1]), 0);
    }

    #[test]
    fn loss_repetition_and_disagreement_are_faults() {
        for each in [
            &[&[0, 1][..], &[0, 1, 2]],
            &[&[0, 1, 1], &[0, 1, 1]],
            &[&[0, 1, 2], &[0, 2, 1]],
            &[&[0, 1, 3], &[0, 1, 3]],
            &[&[0, 1], &[0, 1]],
        ] {
            assert!(faults(Mark::Room, each, &[3, 3]) > 0, "{each:?}");
        }
        assert!(faults(Mark::User, &[&[1, 0], &[0]], &[2, 1]) > 0);
    }

    #[test]
    fn messages_to_the_room_and_to_a_user_are_counted_apart() {
        let mut tally = Tally::new(7);
        let mut received = Received::default();
        for (mark, number) in [(Mark::Room, 0), (Mark::User, 0), (Mark::User, 1), (Mark::Room, 1)] {
            deliver(&mut tally, &mut received, mark, &[number]);
        }
        tally.check(0, Messages { room: 2, users: 2 }, received);
        assert_eq!((tally.fault_count, tally.deliveries), (0, 4));
        tally.check(0, Messages { room: 3, users: 1 }, received);
        assert_eq!(tally.fault_count, 1);
    }

    #[test]
    fn positions_grow_newer_and_the_last_one_is_due() {
        let told = |versions: &[u64]| {
            let (mut tally, mut received) = (Tally::new(7), Received::default());
            for version in versions {
                // Who comes in is shown the last ones of other queues.
                for queue in [8, 7].map(payload::queue) {
                    let payload = format!(r#"{{"event_id":"{queue}","version":{version}}}"#);
                    let text = format!(r#"{{"type":"booking:queue_position","payload":{payload}}}"#);
                    tally.message(text.as_bytes(), &mut received, 0);
                }
            }
            tally.check(0, Messages { users: 1, room: 0 }, received);
            (tally.positions, tally.fault_count)
        };
        let last = payload::LAST_VERSION;
        assert_eq!(told(&[1, 5, last]), (3, 0));
        assert_eq!(told(&[last]), (1, 0));
        assert_eq!(told(&[5, 1, last]), (3, 1));
        assert_eq!(told(&[1, 1, last]), (3, 1));
        assert_eq!(told(&[1, 5]), (2, 1), "the newest never came");
        assert_eq!(told(&[1, last, last]), (3, 2), "twice");
    }

    #[test]
    fn an_error_message_is_a_fault_and_other_messages_are_not() {
        let mut tally = Tally::new(7);
        tally.message(br#"{"type":"system:announcement"}"#, &mut Received::default(), 0);
        assert_eq!((tally.others, tally.fault_count), (1, 0));
        tally.message(br#"{"type":"system:error","payload":{}}"#, &mut Received::default(), 0);
        assert_eq!((tally.others, tally.fault_count), (2, 1));
    }
}
