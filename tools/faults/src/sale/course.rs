//! What became of each place that somebody had, by the diary; and what alone is wrong with it.

use super::diary::{Deed, Diary, Seen};
use crate::verdict::Verdict;

/// What the story promised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) claim_ms: u64,
    pub(crate) grace_ms: u64,
    pub(crate) opened_at_ms: u64,
    /// Nobody is let in from then on.
    pub(crate) paused_at_ms: u64,
    /// The books are of then, or later.
    pub(crate) end_ms: u64,
    pub(crate) per_minute: u32,
    /// Beside that, at once.
    pub(crate) crowd: u32,
    /// Places that the opening gave.
    pub(crate) drawn: u32,
    /// From the crowd until Redis was back: whoever was let in then and there to be told is told soon after.
    pub(crate) outage_ms: (u64, u64),
}

/// Clocks and messages take their time.
pub(crate) const SLACK_MS: u64 = 1_000;

/// A place and its holder, from joining to the end.
#[derive(Debug)]
pub(crate) struct Stay {
    /// Which of the people.
    pub(crate) person: usize,
    /// `None`: it was over before the holder was told.
    pub(crate) place: Option<u32>,
    /// It began before the opening.
    pub(crate) early: bool,
    /// When it was first asked for, wall ms.
    pub(crate) asked_ms: u64,
    /// When the holder was connected and knew the place: from, to.
    pub(crate) present: Vec<(u64, u64)>,
    pub(crate) pass: Option<Pass>,
    pub(crate) fate: Fate,
    /// The pass was used.
    pub(crate) claimed: bool,
    /// The booking service ended it, or is about to.
    gives_up: bool,
    leaves: bool,
    position: u32,
    serving: u32,
}

/// An admission as its holder saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) text: String,
    pub(crate) until_ms: u64,
    /// When it came.
    pub(crate) seen_ms: u64,
}

/// Where a place is at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fate {
    Waiting,
    /// Given up before the opening, so that there is no such place.
    LeftEarly,
    Left,
    Admitted,
    Inside,
    Completed,
    Abandoned,
    /// By the holder's clock, or by what the booking service was told.
    Expired,
    /// While the holder was away: it saw neither the pass nor its end.
    ExpiredUnseen,
}

impl Stay {
    fn new(person: usize, asked_ms: u64, terms: &Terms) -> Self {
        Self {
            person,
            place: None,
            early: asked_ms < terms.opened_at_ms,
            asked_ms,
            present: Vec::new(),
            pass: None,
            fate: Fate::Waiting,
            claimed: false,
            gives_up: false,
            leaves: false,
            position: u32::MAX,
            serving: 0,
        }
    }

    /// It ever had a pass.
    pub(crate) fn is_admitted(&self) -> bool {
        !matches!(self.fate, Fate::Waiting | Fate::Left | Fate::LeftEarly)
    }

    fn is_over(&self, at_ms: u64) -> bool {
        match self.fate {
            Fate::Waiting | Fate::Inside => self.gives_up,
            Fate::Admitted => self.gives_up || self.pass.as_ref().is_some_and(|pass| pass.until_ms <= at_ms),
            _ => true,
        }
    }

    /// The pass may have come and expired while nobody was there.
    fn may_have_expired(&self, at_ms: u64, terms: &Terms) -> bool {
        let gone_ms = self.present.last().map_or(at_ms, |(_, to)| *to);
        self.pass.is_none()
            && self.fate == Fate::Waiting
            && gone_ms + terms.claim_ms <= at_ms + SLACK_MS
            && terms.opened_at_ms + terms.claim_ms <= at_ms
    }

    fn end(&mut self, at_ms: u64) {
        if self.fate == Fate::Admitted && self.pass.as_ref().is_some_and(|pass| pass.until_ms <= at_ms) {
            self.fate = Fate::Expired;
        }
    }
}

/// Reads a diary.
struct Reader<'a> {
    person: usize,
    terms: &'a Terms,
    verdict: &'a mut Verdict,
    stays: Vec<Stay>,
    asked_ms: Option<u64>,
    /// Since when it has been connected and known its place.
    since_ms: Option<u64>,
}

/// Every place that somebody had, in order.
pub(crate) fn read(person: usize, diary: &Diary, terms: &Terms, verdict: &mut Verdict) -> Vec<Stay> {
    let mut reader = Reader { person, terms, verdict, stays: Vec::new(), asked_ms: None, since_ms: None };
    for (at_ms, seen) in &diary.seen {
        reader.take(*at_ms, seen);
    }
    reader.away(terms.end_ms);
    let mut stays = reader.stays;
    stays.iter_mut().for_each(|stay| stay.end(terms.end_ms));
    stays
}

impl Reader<'_> {
    fn take(&mut self, at_ms: u64, seen: &Seen) {
        match seen {
            Seen::Asks => {
                self.asked_ms.get_or_insert(at_ms);
            }
            Seen::Joined(place) => self.joined(at_ms, *place),
            Seen::Position { position, ahead, serving } => self.position(*position, *ahead, *serving),
            Seen::Admitted { place, pass, until_ms } => {
                self.admitted(*place, Pass { text: pass.clone(), until_ms: *until_ms, seen_ms: at_ms });
            }
            Seen::Leaves => {
                if let Some(stay) = self.stays.last_mut() {
                    stay.leaves = true;
                }
            }
            Seen::Left => self.left(at_ms),
            Seen::Away => self.away(at_ms),
            Seen::Gap => {}
            Seen::Booking(deed) => self.booked(*deed),
        }
    }

    fn joined(&mut self, at_ms: u64, place: Option<u32>) {
        let (terms, was_away) = (self.terms, self.since_ms.is_none());
        let lost = match self.stays.last_mut() {
            None => None,
            Some(stay) => match (stay.place, place) {
                (None, Some(told)) if stay.fate == Fate::Waiting && stay.early && told > terms.drawn => {
                    Some((None, was_away && stay.may_have_expired(at_ms, terms)))
                }
                (None, _) if stay.fate == Fate::Waiting => {
                    stay.place = place;
                    return self.come(at_ms);
                }
                (known, told) if known == told && known.is_some() => return self.come(at_ms),
                _ if stay.is_over(at_ms) => {
                    stay.end(at_ms);
                    None
                }
                (known, _) => Some((known, was_away && stay.may_have_expired(at_ms, terms))),
            },
        };
        if let (Some((known, expired)), Some(stay)) = (lost, self.stays.last_mut()) {
            if expired {
                stay.fate = Fate::ExpiredUnseen;
            } else {
                let example = format!("person {}: {known:?} became {place:?}", self.person);
                self.verdict.blame("a place was lost", example);
            }
        }
        self.away(at_ms);
        let mut stay = Stay::new(self.person, self.asked_ms.unwrap_or(at_ms), terms);
        stay.place = place;
        self.stays.push(stay);
        self.come(at_ms);
    }

    fn come(&mut self, at_ms: u64) {
        self.asked_ms = None;
        self.since_ms.get_or_insert(at_ms);
    }

    fn away(&mut self, at_ms: u64) {
        if let (Some(since_ms), Some(stay)) = (self.since_ms.take(), self.stays.last_mut()) {
            stay.present.push((since_ms, at_ms));
        }
    }

    fn position(&mut self, position: u32, ahead: u32, serving: u32) {
        let person = self.person;
        let Some(stay) = self.stays.last_mut() else {
            return self.verdict.blame("a position without a place", format!("person {person}: {position}"));
        };
        if position > stay.position {
            let example =
                format!("person {person}, place {:?}: {} became {position}", stay.place, stay.position);
            self.verdict.blame("a position got worse", example);
        }
        if serving < stay.serving {
            let example = format!("person {person}: {} became {serving}", stay.serving);
            self.verdict.blame("the serving number fell", example);
        }
        // Nobody is in front but those between the serving number and the place.
        let fits = match stay.place {
            _ if ahead != position.saturating_sub(1) => false,
            Some(place) if position == 0 => place <= serving,
            Some(place) => place > serving && position <= place - serving,
            None => true,
        };
        if !fits {
            let why = format!("{position}, {ahead} ahead, serving {serving}, place {:?}", stay.place);
            self.verdict.blame("a position contradicts itself", format!("person {person}: {why}"));
        }
        (stay.position, stay.serving) = (position, serving);
    }

    fn admitted(&mut self, place: u32, pass: Pass) {
        let person = self.person;
        let last = self.stays.len().wrapping_sub(1);
        let known = self.stays.iter().rposition(|stay| stay.place == Some(place));
        // It may hear of the pass before it hears of the number.
        let unnamed = self.stays.last().filter(|stay| stay.place.is_none() && stay.fate == Fate::Waiting);
        let Some(index) = known.or_else(|| unnamed.map(|_| last)) else {
            return self.verdict.blame("a pass for another place", format!("person {person}: {place}"));
        };
        let stay = &mut self.stays[index];
        stay.place = Some(place);
        match (&stay.pass, stay.fate) {
            (Some(known), _) if (&known.text, known.until_ms) == (&pass.text, pass.until_ms) => {}
            (Some(_), _) => self.verdict.blame("admitted twice", format!("person {person}, place {place}")),
            (None, Fate::Waiting) => {
                stay.fate = Fate::Admitted;
                stay.pass = Some(pass);
            }
            (None, _) => {
                self.verdict.blame("admitted after the end", format!("person {person}, place {place}"));
            }
        }
    }

    fn left(&mut self, at_ms: u64) {
        self.away(at_ms);
        let Some(stay) = self.stays.last_mut() else { return };
        let expires = |pass: &Pass| pass.until_ms <= at_ms + SLACK_MS;
        stay.fate = match stay.fate {
            Fate::Waiting if stay.leaves && at_ms < self.terms.opened_at_ms => Fate::LeftEarly,
            Fate::Waiting if stay.leaves => Fate::Left,
            Fate::Admitted if !stay.gives_up && stay.pass.as_ref().is_some_and(expires) => Fate::Expired,
            fate if stay.gives_up || stay.leaves => fate,
            fate => {
                let example = format!("person {}, place {:?}, {fate:?}", self.person, stay.place);
                return self.verdict.blame("thrown out", example);
            }
        };
    }

    fn booked(&mut self, deed: Deed) {
        let Some(stay) = self.stays.iter_mut().rfind(|stay| stay.pass.is_some()) else { return };
        match deed {
            Deed::GivesUp => stay.gives_up = true,
            Deed::Claimed => (stay.fate, stay.claimed) = (Fate::Inside, true),
            Deed::Completed => stay.fate = Fate::Completed,
            Deed::Abandoned => stay.fate = Fate::Abandoned,
            Deed::TooLate => stay.fate = Fate::Expired,
        }
    }
}
