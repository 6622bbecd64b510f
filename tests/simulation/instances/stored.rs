//! The store that all instances share, as it is and as it was.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use usher::{
    clock::Now,
    config::Settings,
    event::{Event, Position},
    stream::{
        history::{Bounds, History},
        store::{Answer, Append, Ask, Head, Page},
    },
};

use crate::reader::token;

pub(super) struct Stored {
    history: History,
    /// As it was some time ago.
    kept: History,
    /// What stood before each event, by their payloads; absent: nobody knows.
    pub(super) before: HashMap<u64, u64>,
}

impl Stored {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        let history = History::new(Bounds::from(&settings.streams), seed);
        Self { kept: history.clone(), history, before: HashMap::new() }
    }

    /// What the store says; and where a stream stands that goes on under another name, since whoever asked saw more of it.
    pub(super) fn answer(&mut self, now: Now, ask: Ask) -> (Answer, Option<Position>) {
        let (Ask::Append(Append { stream, known: Some(_), .. }) | Ask::Head { stream, known: Some(_) }) =
            &ask
        else {
            return (self.history.answer(now, ask), None);
        };
        let stream = stream.clone();
        let before = self.page(now, &stream, ("", 0)).head;
        let said = self.history.answer(now, ask);
        let Head { epoch, .. } = self.page(now, &stream, ("", 0)).head;
        let parted = (epoch != before.epoch).then_some(Position { stream, epoch, offset: before.offset });
        (said, parted)
    }

    /// One entry after a place.
    pub(super) fn page(&mut self, now: Now, stream: &Arc<str>, (epoch, after): (&str, u64)) -> Page {
        let ask = Ask::Read { stream: stream.clone(), epoch: epoch.into(), after, count_max: 1 };
        let Answer::Page(page) = self.history.answer(now, ask) else { panic!("no page") };
        page
    }

    /// Notes what stands before an event that was stored.
    pub(super) fn note(&mut self, now: Now, event: &Event) {
        let Position { stream, epoch, offset } = event.position.clone().expect("it was stored");
        if offset > 1 {
            let events = self.page(now, &stream, (&epoch, offset - 2)).events;
            let before = events.and_then(|events| events.first().map(|event| token(event)));
            self.before.extend(before.map(|before| (token(event), before)));
        }
    }

    pub(super) fn keep(&mut self) {
        self.kept = self.history.clone();
    }

    /// It comes back empty. No older copy comes back then: which of both was later, its epochs would not tell.
    pub(super) fn forget(&mut self, settings: &Settings, seed: u64) {
        self.history = History::new(Bounds::from(&settings.streams), seed);
        self.keep();
    }

    /// It comes back with what it had, or had some time ago; how much that is to what it had.
    pub(super) fn restart(&mut self, rolls_back: bool, seed: u64) -> Ordering {
        let copy = if rolls_back { &self.kept } else { &self.history };
        let order = copy.entry_count().cmp(&self.history.entry_count());
        self.history = copy.clone().restarted(seed);
        order
    }
}
