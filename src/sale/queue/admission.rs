//! Who is let in, and what becomes of them.

use crate::{
    limits::{ADMIT_KEYS_MAX, IDEMPOTENCY_AGE_MAX},
    sale::{
        inlet::Inlet,
        place::{Ending, State},
        queue::{Effect, Phase, Queue, Refusal},
    },
};

impl Queue {
    /// Whoever may come in by now, by itself: those whose number was served without an inlet, else as the inlet says.
    pub(super) fn let_in(&mut self, out: &mut Vec<Effect>) {
        if self.phase != Phase::Open || self.pause_reason().is_some() {
            return;
        }
        self.fill_bucket();
        while let Some(number) = self.next_person() {
            let has_room = match self.terms.inlet {
                Inlet::Manual => number <= self.serving,
                Inlet::PerMinute(_) => self.bucket.take(),
                Inlet::Inside(max) => self.books.holding + self.books.inside < max,
            };
            if !has_room {
                return;
            }
            self.admit(number, out);
        }
        self.bucket.forgive();
    }

    /// Until now, as it was until now.
    pub(super) fn fill_bucket(&mut self) {
        match self.terms.inlet {
            Inlet::PerMinute(count) if self.phase == Phase::Open && self.pause_reason().is_none() => {
                self.bucket.fill(self.at_ms, count);
            }
            _ => self.bucket.skip(self.at_ms),
        }
    }

    pub(super) fn advance(&mut self, to: u32, out: &mut Vec<Effect>) {
        if let Err(refusal) = self.expect_open() {
            return out.push(Effect::operator_refused(refusal));
        }
        // Nobody takes it back, so it promises nothing to those who are not here yet: an inlet would let them wait at its end.
        let to = to.min(self.places.len() as u32);
        if to <= self.serving {
            return;
        }
        while let Some(number) = self.next_person().filter(|number| *number <= to) {
            self.admit(number, out);
        }
        self.serve(to);
    }

    /// Lets people in, unless the key says that they were.
    pub(super) fn admit_once(&mut self, count: u32, key: Option<&str>, out: &mut Vec<Effect>) {
        let Some(key) = key else { return self.admit_next(count, out) };
        let age_max_ms = IDEMPOTENCY_AGE_MAX.as_millis() as u64;
        while self.keys.pop_front_if(|(_, _, at_ms)| *at_ms + age_max_ms <= self.at_ms).is_some() {}
        match self.keys.iter().find(|(known, ..)| **known == *key) {
            Some((_, first, _)) if *first == count => {}
            Some(_) => out.push(Effect::operator_refused(Refusal::KeyReused)),
            None => {
                if self.keys.len() >= ADMIT_KEYS_MAX {
                    self.keys.pop_front();
                }
                if self.expect_open().is_ok() {
                    self.keys.push_back((key.into(), count, self.at_ms));
                }
                self.admit_next(count, out);
            }
        }
    }

    fn admit_next(&mut self, count: u32, out: &mut Vec<Effect>) {
        if let Err(refusal) = self.expect_open() {
            return out.push(Effect::operator_refused(refusal));
        }
        for _ in 0..count {
            let Some(number) = self.next_person() else { break };
            self.admit(number, out);
        }
    }

    pub(super) fn claim(&mut self, holder: &str, place: Option<u32>, out: &mut Vec<Effect>) {
        let number = match self.meant(holder, place).and_then(|number| self.admitted(number)) {
            Ok(number) => number,
            Err(refusal) => return out.push(Effect::Refused { holder: Some(holder.into()), refusal }),
        };
        if self.state(number) == State::Admitted {
            self.set_state(number, State::Inside);
            self.used.insert(number, self.places[number as usize - 1].due_ms);
            let stay_ms = self.terms.stay_ms;
            self.set_due(number, if stay_ms == 0 { 0 } else { self.at_ms.saturating_add(stay_ms) });
        }
        out.push(Effect::Claimed { holder: holder.into(), number });
    }

    /// Whoever was admitted is done, with a pass used or not.
    pub(super) fn finish(&mut self, holder: &str, place: Option<u32>, ending: Ending, out: &mut Vec<Effect>) {
        let meant = self.meant(holder, place);
        match meant.and_then(|number| self.admitted(number)) {
            Ok(number) => self.end(number, ending, out),
            Err(refusal) => match meant.ok().filter(|number| self.state(*number) == State::Gone(ending)) {
                // Of another place than the one that its holder has by now there is nothing to tell.
                Some(number) if self.number_of(holder) != Some(number) => {}
                Some(number) => out.push(self.ended(number, ending)),
                None => out.push(Effect::Refused { holder: Some(holder.into()), refusal }),
            },
        }
    }

    /// A live place ends.
    pub(super) fn end(&mut self, number: u32, ending: Ending, out: &mut Vec<Effect>) {
        let has_unused_pass = self.state(number) == State::Admitted;
        if has_unused_pass && ending != Ending::Completed && matches!(self.terms.inlet, Inlet::PerMinute(_)) {
            self.bucket.owe();
        }
        self.set_due(number, 0);
        self.set_state(number, State::Gone(ending));
        self.late.remove(&number);
        self.used.remove(&number);
        self.leave_line(number);
        out.push(self.ended(number, ending));
    }

    /// The next who is here, or was within the grace: the late before the line, since their numbers were served, or are lower.
    pub(super) fn next_person(&self) -> Option<u32> {
        match (self.late.first().copied(), self.line.first()) {
            (Some(late), Some(first)) => Some(late.min(first)),
            (late, first) => late.or(first),
        }
    }

    fn admit(&mut self, number: u32, out: &mut Vec<Effect>) {
        if self.line.clear(number) {
            self.history.record(self.at_ms);
        }
        self.late.remove(&number);
        self.serve(number);
        self.set_state(number, State::Admitted);
        self.books.admitted += 1;
        let claim_until_ms = self.at_ms.saturating_add(self.terms.claim_ms);
        self.set_due(number, claim_until_ms);
        out.push(Effect::Admitted { holder: self.holder_of(number), number, claim_until_ms });
    }

    fn serve(&mut self, number: u32) {
        if number > self.serving {
            self.serving = number;
            self.moved_at_ms = self.at_ms;
        }
    }

    fn expect_open(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Before => Err(Refusal::NotOpen),
            Phase::Open => Ok(()),
            Phase::SoldOut | Phase::Closed => Err(self.over()),
        }
    }

    /// The place of a holder by its number, or the newest.
    fn meant(&self, holder: &str, place: Option<u32>) -> Result<u32, Refusal> {
        let Some(number) = place else { return self.number_of(holder).ok_or(Refusal::NoPlace) };
        let is_known = (1..=self.places.len() as u32).contains(&number);
        if is_known && *self.holder_of(number) == *holder { Ok(number) } else { Err(Refusal::NoPlace) }
    }

    /// A place that has a pass, used or not.
    fn admitted(&self, number: u32) -> Result<u32, Refusal> {
        match self.state(number) {
            State::Admitted | State::Inside => Ok(number),
            State::Gone(Ending::Expired) => Err(Refusal::Expired),
            State::Waiting | State::Departed => Err(Refusal::NotAdmitted),
            State::Gone(_) => Err(Refusal::NoPlace),
        }
    }
}
