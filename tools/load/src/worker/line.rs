//! A worker's connections in a queue: they join, and check what they are told of their places.
//!
//! Invariant: a place's position is its number less the serving number, since nobody leaves; what is told of a later serving
//! number is never worse, and one that went back is a fault.

use std::{io, mem};

use super::{Worker, connection::State, pipe::report};
use crate::{
    frame,
    latency::Latency,
    order::{Call, Report, Told},
    payload::position,
};

/// People with fewer in front of them must see every change (`POSITION_NEAR` of the gateway).
const NEAR: u32 = 1_000;

/// Where one connection stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stand {
    /// Its number; 0: none yet.
    place: u32,
    /// The newest serving number that it was told.
    serving: u32,
}

impl Stand {
    /// Whether it need not be told of a line served so far.
    fn knows(self, serving: u32) -> bool {
        self.serving >= serving.min(self.place)
    }
}

/// The queue of a worker's connections.
pub(crate) struct Line {
    /// The frame that joins.
    join: Vec<u8>,
    under_way_max: u32,
    under_way: u32,
    /// The connection that joins next.
    next: u32,
    joined: u32,
    said_joined: bool,
    calls: Vec<Call>,
    /// Connections that do not know the last call yet; `None`: that was said.
    behind: Option<u32>,
    positions: u64,
    near: Latency,
    all: Latency,
    age: Latency,
    near_age: Latency,
    /// What is wrong: the gateway lets nobody join, or told something that does not hold.
    pub(crate) fault: Option<String>,
}

impl Line {
    fn new(event_id: &str, under_way_max: u32) -> Self {
        let text = format!(r#"{{"type":"queue:join","payload":{{"event_id":"{event_id}"}}}}"#);
        let mut join = Vec::new();
        frame::encode_client(frame::TEXT, text.as_bytes(), &mut join);
        Self {
            join,
            under_way_max,
            under_way: 0,
            next: 0,
            joined: 0,
            said_joined: false,
            calls: Vec::new(),
            behind: None,
            positions: 0,
            near: Latency::new(),
            all: Latency::new(),
            age: Latency::new(),
            near_age: Latency::new(),
            fault: None,
        }
    }

    /// Takes a message; whether it was one of the queue.
    pub(crate) fn message(&mut self, text: &[u8], stand: &mut Stand, now_ns: u64) -> bool {
        let is = |kind: &[u8]| text.get(9..).is_some_and(|rest| rest.starts_with(kind));
        if is(b"booking:queue_position\"") {
            if let Err(fault) = self.told(text, stand, now_ns) {
                self.fault.get_or_insert(fault);
            }
        } else if is(b"queue:joined\"") {
            stand.place = field(text, b"\"place\":").unwrap_or(0);
            self.under_way -= 1;
            self.joined += 1;
        } else if is(b"system:error\"") {
            self.fault = Some(String::from_utf8_lossy(text).into_owned());
        } else {
            return false;
        }
        true
    }

    fn told(&mut self, text: &[u8], stand: &mut Stand, now_ns: u64) -> Result<(), String> {
        let of = |name: &[u8]| field(text, name).ok_or_else(|| format!("half a position: {text:?}"));
        let (shown, serving) = (of(b"\"position\":")?, of(b"\"serving\":")?);
        self.positions += 1;
        let before = *stand;
        if shown != stand.place.saturating_sub(serving) || serving < before.serving {
            return Err(format!("{before:?} was told position {shown}, serving {serving}"));
        }
        stand.serving = serving;
        if serving == before.serving {
            return Ok(());
        }
        let age_of = |number: usize| self.calls.get(number).map(|call| now_ns.saturating_sub(call.at_ns));
        let number = self.calls.partition_point(|call| call.to < serving);
        // The first call of which it did not know.
        let missed = self.calls.partition_point(|call| call.to <= before.serving);
        let Some((latency, age)) = age_of(number).zip(age_of(missed)) else {
            return Err(format!("position {shown}, serving {serving}, for which nobody called"));
        };
        self.all.record(latency);
        self.age.record(age);
        if shown <= NEAR {
            self.near.record(latency);
            self.near_age.record(age);
        }
        let last = self.calls.last().map_or(0, |call| call.to);
        if let Some(behind) = &mut self.behind
            && !before.knows(last)
            && stand.knows(last)
        {
            *behind -= 1;
        }
        Ok(())
    }

    fn take(&mut self) -> Told {
        Told {
            positions: mem::take(&mut self.positions),
            near: self.near.take(),
            all: self.all.take(),
            age: self.age.take(),
            near_age: self.near_age.take(),
        }
    }
}

impl Worker {
    /// Everybody is to join the queue. At a floor everybody has the place of its number.
    pub(super) fn start_line(&mut self, event_id: &str, under_way_max: u32) {
        let mut line = Line::new(event_id, under_way_max);
        if self.desk.plan.floor {
            for (number, connection) in (self.desk.plan.first + 1..).zip(&mut self.connections) {
                connection.stand.place = number;
            }
            (line.next, line.joined) = (self.desk.plan.count, self.desk.plan.count);
        }
        self.desk.line = Some(line);
    }

    pub(super) fn expect_calls(&mut self, calls: Vec<Call>) {
        let Some(line) = &mut self.desk.line else { return };
        line.calls.extend(calls);
        let last = line.calls.last().map_or(0, |call| call.to);
        let behind = self.connections.iter().filter(|connection| !connection.stand.knows(last)).count();
        line.behind = Some(behind as u32);
    }

    pub(super) fn report_told(&mut self) -> io::Result<()> {
        match &mut self.desk.line {
            Some(line) => report(&Report::Told(line.take())),
            None => Ok(()),
        }
    }

    /// Joins what may join, and says what was waited for.
    pub(super) fn line(&mut self) -> io::Result<()> {
        let Some(line) = &mut self.desk.line else { return Ok(()) };
        if let Some(fault) = line.fault.take() {
            return Err(io::Error::other(fault));
        }
        if !line.said_joined && line.joined == self.desk.plan.count {
            line.said_joined = true;
            report(&Report::Joined)?;
        }
        if line.behind.take_if(|behind| *behind == 0).is_some() {
            report(&Report::Reached)?;
        }
        let due = line.under_way_max.saturating_sub(line.under_way).min(self.desk.plan.count - line.next);
        let slots = line.next..line.next + due;
        (line.next, line.under_way) = (slots.end, line.under_way + due);
        let join = line.join.clone();
        for slot in slots {
            if let Err(end) = self.connections[slot as usize].send(&join) {
                self.end(slot, State::Ready, end);
            }
        }
        Ok(())
    }
}

/// The number behind a name; blanks before it are skipped.
fn field(text: &[u8], name: &[u8]) -> Option<u32> {
    let rest = &text[position(text, name)? + name.len()..];
    let digits = rest.trim_ascii_start();
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..count]).ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn text(shown: u32, serving: u32) -> String {
        format!(
            r#"{{"type":"booking:queue_position","payload":{{"position": {shown},"serving":{serving}}}}}"#
        )
    }

    fn line() -> Line {
        let mut line = Line::new("e", 1);
        line.calls =
            vec![Call { to: 10, at_ns: 1_000 }, Call { to: 20, at_ns: 2_000 }, Call { to: 30, at_ns: 3_000 }];
        line.behind = Some(1);
        line
    }

    #[test]
    fn a_position_is_the_place_less_those_served_and_its_age_counts_from_the_first_call_that_was_missed() {
        let (mut line, mut stand) = (line(), Stand { place: 2_000, serving: 10 });
        assert!(line.message(text(1_970, 30).as_bytes(), &mut stand, 3_500));
        assert_eq!((line.fault.take(), line.behind, stand.serving), (None, Some(0), 30));
        let told = line.take();
        let worst = |counts| {
            let mut latency = Latency::new();
            latency.merge(counts);
            (latency.summary().count, latency.summary().max)
        };
        assert_eq!((worst(&told.all), worst(&told.age)), ((1, 0.5), (1, 1.5)));
        assert_eq!((told.positions, worst(&told.near).0), (1, 0));
    }

    #[test]
    fn what_is_wrong_worse_or_of_no_call_is_a_fault() {
        for (shown, serving) in [(1_971, 30), (1_995, 5), (1_975, 25 + 20)] {
            let (mut line, mut stand) = (line(), Stand { place: 2_000, serving: 10 });
            line.message(text(shown, serving).as_bytes(), &mut stand, 3_500);
            assert!(line.fault.is_some(), "{shown} of {serving}");
        }
    }

    #[test]
    fn who_was_let_in_need_not_know_of_later_calls() {
        let (mut line, mut stand) = (line(), Stand { place: 15, serving: 10 });
        assert!(!stand.knows(30));
        line.message(text(0, 20).as_bytes(), &mut stand, 2_100);
        assert!(line.fault.is_none() && stand.knows(30) && line.behind == Some(0));
    }
}
