//! The rules once more, as plainly as they can be said: one list, looked through for every question.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    limits::PLACES_PER_HOLDER_MAX,
    sale::{
        command::{Command, Terms},
        fair::order_key,
        inlet::Inlet,
        place::{Ending, State},
    },
};

/// What happened to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    Admitted(String, u32, u64),
    Ended(String, Option<u32>, Ending),
}

pub(super) struct Place {
    pub(super) holder: String,
    pub(super) state: State,
    pub(super) due_ms: Option<u64>,
    /// Those behind count it.
    pub(super) counts: bool,
}

pub(super) struct Model {
    terms: Terms,
    at_ms: u64,
    pub(super) opened: bool,
    over: bool,
    closed: bool,
    paused: bool,
    target_down: bool,
    pub(super) serving: u32,
    pub(super) admitted: u32,
    /// In the order of their numbers, once it is opened.
    pub(super) places: Vec<Place>,
    here: BTreeMap<String, BTreeSet<String>>,
    taken: BTreeMap<String, u8>,
    /// Sixty-thousandths of people.
    saved: u64,
    filled_ms: u64,
    owed: u64,
    news: Vec<News>,
}

impl Model {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            at_ms: 0,
            opened: false,
            over: false,
            closed: false,
            paused: false,
            target_down: false,
            serving: 0,
            admitted: 0,
            places: Vec::new(),
            here: BTreeMap::new(),
            taken: BTreeMap::new(),
            saved: 0,
            filled_ms: 0,
            owed: 0,
            news: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, at_ms: u64, command: &Command) -> Vec<News> {
        self.at_ms = self.at_ms.max(at_ms);
        self.pass_time();
        self.fill();
        self.obey(command);
        if self.lets_in() {
            self.let_in();
        }
        std::mem::take(&mut self.news)
    }

    fn lets_in(&self) -> bool {
        let waits = self.paused || self.target_down && self.terms.inlet != Inlet::Manual;
        self.opened && !self.over && !waits
    }

    /// The newest place of a holder.
    pub(super) fn place(&self, holder: &str) -> Option<usize> {
        self.places.iter().rposition(|place| place.holder == holder)
    }

    pub(super) fn ahead(&self, index: usize) -> u32 {
        let serving = self.serving as usize;
        let before = self.places[..index].iter().skip(serving);
        before.filter(|place| place.counts && place.state == State::Waiting).count() as u32
    }

    pub(super) fn count(&self, state: State) -> u32 {
        self.places.iter().filter(|place| place.state == state).count() as u32
    }

    fn pass_time(&mut self) {
        loop {
            let opens = !self.opened && !self.over && self.terms.opens_at_ms <= self.at_ms;
            let limit_ms = if opens { self.terms.opens_at_ms - 1 } else { self.at_ms };
            let due =
                (0..self.places.len()).filter_map(|index| Some((self.places[index].due_ms?, index))).min();
            match due.filter(|(due_ms, _)| *due_ms <= limit_ms) {
                Some((_, index)) => self.time_is_up(index),
                None if opens => self.open(),
                None => break,
            }
        }
    }

    fn time_is_up(&mut self, index: usize) {
        let place = &mut self.places[index];
        place.due_ms = None;
        match place.state {
            State::Waiting | State::Departed => {
                place.state = State::Departed;
                place.counts = false;
            }
            State::Admitted => self.end(index, Ending::Expired),
            State::Inside => self.end(index, Ending::Abandoned),
            State::Gone(_) => unreachable!("these do not end by themselves"),
        }
    }

    fn open(&mut self) {
        self.opened = true;
        self.places.retain(|place| place.state.is_live());
        self.places.sort_by_key(|place| (order_key(&self.terms.seed, &place.holder), place.holder.clone()));
        (self.saved, self.filled_ms) = (60_000, self.at_ms);
    }

    fn is_here(&self, index: usize) -> bool {
        self.here.get(&self.places[index].holder).is_some_and(|instances| !instances.is_empty())
    }

    /// The next who is to be let in.
    fn next(&self) -> Option<usize> {
        (0..self.places.len()).find(|index| {
            let place = &self.places[*index];
            match place.state {
                State::Waiting => true,
                // It is back, or was not away for the grace since then.
                State::Departed => self.is_here(*index) || place.due_ms.is_some(),
                _ => false,
            }
        })
    }

    fn admit(&mut self, index: usize) {
        let number = index as u32 + 1;
        let until_ms = self.at_ms + self.terms.claim_ms;
        self.serving = self.serving.max(number);
        self.admitted += 1;
        let place = &mut self.places[index];
        (place.state, place.due_ms) = (State::Admitted, Some(until_ms));
        self.news.push(News::Admitted(place.holder.clone(), number, until_ms));
    }

    fn end(&mut self, index: usize, ending: Ending) {
        let is_rate = matches!(self.terms.inlet, Inlet::PerMinute(_));
        let place = &mut self.places[index];
        if is_rate && place.state == State::Admitted && ending != Ending::Completed {
            self.owed += 1;
        }
        (place.state, place.due_ms) = (State::Gone(ending), None);
        self.news.push(News::Ended(place.holder.clone(), self.opened.then_some(index as u32 + 1), ending));
    }

    fn fill(&mut self) {
        if let Inlet::PerMinute(count) = self.terms.inlet
            && self.lets_in()
        {
            let count = u64::from(count);
            let most = if count * 3_000 > 60_000 { count * 3_000 } else { 60_000 };
            self.saved = (self.saved + (self.at_ms - self.filled_ms) * count).min(most);
        }
        self.filled_ms = self.at_ms;
    }

    fn let_in(&mut self) {
        self.fill();
        while let Some(index) = self.next() {
            match self.terms.inlet {
                Inlet::Manual if index as u32 >= self.serving => return,
                Inlet::Inside(max) if self.count(State::Admitted) + self.count(State::Inside) >= max => {
                    return;
                }
                Inlet::PerMinute(_) if self.owed > 0 => self.owed -= 1,
                Inlet::PerMinute(_) if self.saved >= 60_000 => self.saved -= 60_000,
                Inlet::PerMinute(_) => return,
                Inlet::Manual | Inlet::Inside(_) => {}
            }
            self.admit(index);
        }
        self.owed = 0;
    }

    fn obey(&mut self, command: &Command) {
        match command {
            Command::Open(terms) if !self.over && terms.seed == self.terms.seed => {
                let opens_at_ms = if self.opened { self.terms.opens_at_ms } else { terms.opens_at_ms };
                self.terms = Terms { opens_at_ms, ..(**terms).clone() };
                self.pass_time();
            }
            Command::Open(_) | Command::Tick => {}
            Command::Join { holder, instance } => self.join(holder, instance),
            Command::Leave { holder } => self.give_up(holder),
            Command::Here { holder, instance } if self.here.contains_key(&**holder) => {
                self.come(holder, instance)
            }
            Command::Here { .. } => {}
            Command::Away { holder, instance } => self.go(holder, instance),
            Command::InstanceGone { instance } => {
                let holders: Vec<String> = self.here.keys().cloned().collect();
                holders.iter().for_each(|holder| self.go(holder, instance));
            }
            Command::Advance { to } => self.advance(*to),
            Command::AdmitNext { count, key: None } if self.opened && !self.over => {
                for _ in 0..*count {
                    let Some(index) = self.next() else { break };
                    self.admit(index);
                }
            }
            Command::AdmitNext { .. } => {}
            Command::Claim { holder, place } if self.means_newest(holder, *place) => self.claim(holder),
            Command::Complete { holder, place } if self.means_newest(holder, *place) => {
                self.finish(holder, Ending::Completed);
            }
            Command::Abandon { holder, place } if self.means_newest(holder, *place) => {
                self.finish(holder, Ending::Abandoned);
            }
            // What was given up for another place cannot be used.
            Command::Claim { .. } | Command::Complete { .. } | Command::Abandon { .. } => {}
            Command::Pause { .. } => self.paused |= !self.over,
            Command::Resume => self.paused = false,
            Command::TargetDown { .. } => self.target_down |= !self.over,
            Command::TargetUp => self.target_down = false,
            Command::SellOut => self.over = true,
            Command::Close => (self.over, self.closed) = (true, true),
            Command::Reopen => {
                self.over = self.closed;
                self.pass_time();
            }
        }
    }

    fn join(&mut self, holder: &str, instance: &str) {
        let newest = self.place(holder);
        let is_live = newest.is_some_and(|index| self.places[index].state.is_live());
        if self.over && !is_live {
            return;
        }
        if let Some(index) = newest.filter(|_| !self.opened && !is_live) {
            (self.places[index].state, self.places[index].counts) = (State::Waiting, true);
        } else if !is_live {
            let taken = self.taken.get(holder).copied().unwrap_or(0);
            if self.places.len() >= self.terms.places_max as usize || taken >= PLACES_PER_HOLDER_MAX {
                return;
            }
            self.taken.insert(holder.into(), taken + 1);
            let counts = !self.opened || self.places.len() as u32 >= self.serving;
            self.places.push(Place { holder: holder.into(), state: State::Waiting, due_ms: None, counts });
        }
        self.here.entry(holder.into()).or_default();
        self.come(holder, instance);
    }

    fn come(&mut self, holder: &str, instance: &str) {
        self.here.entry(holder.into()).or_default().insert(instance.into());
        let Some(index) = self.place(holder) else { return };
        let place = &mut self.places[index];
        if place.state == State::Departed && !self.opened {
            (place.state, place.counts) = (State::Waiting, true);
        }
        if matches!(place.state, State::Waiting | State::Departed) {
            place.due_ms = None;
        }
    }

    fn go(&mut self, holder: &str, instance: &str) {
        let Some(instances) = self.here.get_mut(holder) else { return };
        if !instances.remove(instance) || !instances.is_empty() {
            return;
        }
        let Some(index) = self.place(holder) else { return };
        if matches!(self.places[index].state, State::Waiting | State::Departed) {
            self.places[index].due_ms = Some(self.at_ms + self.terms.grace_ms);
        }
    }

    fn give_up(&mut self, holder: &str) {
        let Some(index) = self.place(holder) else { return };
        match self.places[index].state {
            State::Waiting | State::Departed => self.end(index, Ending::Left),
            State::Admitted | State::Inside => self.end(index, Ending::Abandoned),
            State::Gone(ending) => {
                let number = self.opened.then_some(index as u32 + 1);
                self.news.push(News::Ended(holder.into(), number, ending));
            }
        }
    }

    fn advance(&mut self, to: u32) {
        let to = to.min(self.places.len() as u32);
        if !self.opened || self.over || to <= self.serving {
            return;
        }
        while let Some(index) = self.next().filter(|index| (*index as u32) < to) {
            self.admit(index);
        }
        self.serving = to;
    }

    fn means_newest(&self, holder: &str, place: Option<u32>) -> bool {
        place.is_none_or(|place| self.place(holder).is_some_and(|index| index as u32 + 1 == place))
    }

    fn claim(&mut self, holder: &str) {
        let Some(index) = self.place(holder).filter(|index| self.places[*index].state == State::Admitted)
        else {
            return;
        };
        let stay_ms = Some(self.terms.stay_ms).filter(|stay_ms| *stay_ms > 0);
        self.places[index].state = State::Inside;
        self.places[index].due_ms = stay_ms.map(|stay_ms| self.at_ms + stay_ms);
    }

    fn finish(&mut self, holder: &str, ending: Ending) {
        let Some(index) = self.place(holder) else { return };
        match self.places[index].state {
            State::Admitted | State::Inside => self.end(index, ending),
            State::Gone(was) if was == ending => {
                self.news.push(News::Ended(holder.into(), Some(index as u32 + 1), ending));
            }
            _ => {}
        }
    }
}
