//! Who is connected, and what that does to places.
//!
//! A holder is here while one instance says so. For the grace nothing changes, wherever the place stands: its turn may
//! come meanwhile. Away for longer, its place departs: for ever, so that nobody's position gets worse when it comes back;
//! then it is among the late, until it was away for the grace again.

use crate::{
    limits::QUEUE_INSTANCES_MAX,
    sale::{
        place::State,
        queue::{Effect, Queue, Refusal},
    },
};

impl Queue {
    pub(super) fn here(&mut self, holder: &str, instance: &str, out: &mut Vec<Effect>) {
        let known = self.holders.find(holder).ok_or(Refusal::NoPlace);
        match known.and_then(|id| Ok((id, self.bit_of(instance)?))) {
            Ok((id, bit)) => self.arrive(id, bit),
            Err(refusal) => out.push(Effect::Refused { holder: Some(holder.into()), refusal }),
        }
    }

    pub(super) fn away(&mut self, holder: &str, instance: &str) {
        let bit = self.instances.iter().position(|name| name.as_deref() == Some(instance));
        if let (Some(id), Some(bit)) = (self.holders.find(holder), bit) {
            self.go_away(id, 1 << bit);
        }
    }

    /// Looks at everybody: it is rare.
    pub(super) fn instance_gone(&mut self, instance: &str) {
        let Some(bit) = self.instances.iter().position(|name| name.as_deref() == Some(instance)) else {
            return;
        };
        for id in 0..self.people.len() as u32 {
            self.go_away(id, 1 << bit);
        }
        self.instances[bit] = None;
    }

    /// The bit of an instance, a free one where it has none yet.
    pub(super) fn bit_of(&mut self, instance: &str) -> Result<u64, Refusal> {
        let mut names = self.instances.iter();
        if let Some(bit) = names.position(|name| name.as_deref() == Some(instance)) {
            return Ok(1 << bit);
        }
        let free = self.instances.iter().position(Option::is_none);
        let bit = free.unwrap_or(self.instances.len());
        if bit >= QUEUE_INSTANCES_MAX {
            return Err(Refusal::TooManyInstances);
        }
        match self.instances.get_mut(bit) {
            Some(slot) => *slot = Some(instance.into()),
            None => self.instances.push(Some(instance.into())),
        }
        Ok(1 << bit)
    }

    pub(super) fn arrive(&mut self, id: u32, bit: u64) {
        self.people[id as usize].here |= bit;
        let Some(number) = self.place_of(id) else { return };
        match self.state(number) {
            State::Waiting => self.set_due(number, 0),
            State::Departed if !self.opened => self.set_state(number, State::Waiting),
            State::Departed => {
                self.set_due(number, 0);
                self.late.insert(number);
            }
            State::Admitted | State::Inside | State::Gone(_) => {}
        }
    }

    fn go_away(&mut self, id: u32, bit: u64) {
        let person = &mut self.people[id as usize];
        if person.here & bit == 0 {
            return;
        }
        person.here &= !bit;
        if person.here != 0 {
            return;
        }
        let Some(number) = self.place_of(id) else { return };
        if matches!(self.state(number), State::Waiting | State::Departed) {
            self.set_due(number, self.at_ms.saturating_add(self.terms.grace_ms));
        }
    }

    /// Nobody of the holder came back within the grace.
    pub(super) fn depart(&mut self, number: u32) {
        self.set_due(number, 0);
        self.set_state(number, State::Departed);
        self.late.remove(&number);
        self.leave_line(number);
    }

    /// The place counts for nobody any more.
    pub(super) fn leave_line(&mut self, number: u32) {
        if self.line.clear(number) {
            self.departures.push(number);
        }
    }
}
