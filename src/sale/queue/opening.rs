//! The opening: numbers for the pre-queue.

use std::collections::BTreeSet;

use crate::sale::{
    fair::order_key,
    place::{Ending, State},
    queue::{Effect, Phase, Queue},
};

impl Queue {
    /// Numbers by ascending key, equal ones by holder. Who left the pre-queue gets none; who is away for longer than the
    /// grace gets one that counts for nobody.
    pub(super) fn open(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Open;
        self.opened = true;
        let mut places = std::mem::take(&mut self.places);
        let entered: Vec<u32> = places.iter().map(|place| place.person).collect();
        places.retain(|place| {
            let has_left = place.state == State::Gone(Ending::Left);
            if has_left {
                self.people[place.person as usize].number = 0;
            }
            !has_left
        });
        self.books.left = 0;
        places.sort_by_cached_key(|place| {
            let holder = self.holders.name(place.person);
            (order_key(&self.terms.seed, holder), Box::<str>::from(holder))
        });
        self.places = places;
        self.due = BTreeSet::new();
        out.push(Effect::Opened { seed: self.terms.seed, total: self.places.len() as u32 });
        for (index, place) in self.places.iter().enumerate() {
            let number = index as u32 + 1;
            self.people[place.person as usize].number = number;
            self.line.push(place.state == State::Waiting);
            if place.state == State::Departed {
                self.departures.push(number);
            }
            if place.due_ms != 0 {
                self.due.insert((place.due_ms, number));
            }
            let holder = self.holders.name(place.person).into();
            out.push(Effect::Placed { holder, number: Some(number), again: true });
        }
        self.draw = entered.into_iter().map(|person| self.people[person as usize].number).collect();
        self.bucket.open(self.at_ms);
        self.history.start(self.at_ms);
    }
}
