//! What people ask that would change nothing, so that nobody needs to write it.
//!
//! Says what applying it would say, after everything that is due by its time. Without it whoever repeats itself fills the log.

use crate::{
    limits::{PLACES_PER_HOLDER_MAX, RETURNS_PER_HOLDER_MAX},
    sale::queue::{Phase, Queue, Refusal},
};

impl Queue {
    /// What comes of a join that changes nothing: the holder has a place and is known to be connected to the instance, or gets
    /// none. `None`: it changes something.
    pub fn repeated_join(&self, holder: &str, instance: &str) -> Option<Result<(), Refusal>> {
        let known = self.holders.find(holder);
        let person = known.map(|id| &self.people[id as usize]);
        let number = known.and_then(|id| self.place_of(id));
        if let (Some(person), Some(_)) = (person, number.filter(|number| self.state(*number).is_live())) {
            let bit = self.instances.iter().position(|name| name.as_deref() == Some(instance));
            return bit.is_some_and(|bit| person.here & (1 << bit) != 0).then_some(Ok(()));
        }
        let returns = person.filter(|_| self.phase == Phase::Before);
        let refusal = if self.is_over() {
            self.over()
        } else if let Some(person) = returns {
            (person.returns >= RETURNS_PER_HOLDER_MAX).then_some(Refusal::TooManyPlaces)?
        } else if self.places.len() >= self.terms.places_max as usize {
            Refusal::Full
        } else {
            person.filter(|person| person.places >= PLACES_PER_HOLDER_MAX).map(|_| Refusal::TooManyPlaces)?
        };
        Some(Err(refusal))
    }

    /// Likewise of a leave: there is no place to give up, or it is given up.
    pub fn repeated_leave(&self, holder: &str) -> Option<Result<(), Refusal>> {
        match self.number_of(holder) {
            None => Some(Err(Refusal::NoPlace)),
            Some(number) if !self.state(number).is_live() => Some(Ok(())),
            Some(_) => None,
        }
    }
}
