//! What clients say that they have, on its way to the store.
//!
//! Owns the acknowledgements that were asked for, few enough to leave the store's queue to appends, and those that wait
//! for their turn: one per stream, the furthest. Never waits for room: what is one stream too many is dropped and counted,
//! and made up for by the next. Invariants: of a stream one is under way at a time; who waits without one has one turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Route, questions::Question, turn::Turn};
use crate::{
    event::Position,
    limits::{ACKNOWLEDGEMENTS_ASKED_MAX, ACKNOWLEDGEMENTS_MAX},
    stream::store::{Ask, Mark},
};

#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    lines: HashMap<Arc<str>, Line>,
    /// Streams with something waiting and nothing under way.
    turns: VecDeque<Arc<str>>,
    asked: usize,
}

#[derive(Debug)]
struct Line {
    asked: bool,
    next: Option<Mark>,
}

impl Acknowledgements {
    /// Takes one; `false`: too many streams have some.
    fn put(&mut self, stream: Arc<str>, mark: Mark) -> bool {
        if let Some(line) = self.lines.get_mut(&stream) {
            let further = line.next.as_ref().is_none_or(|next| {
                // Of two histories, which comes later only the store knows: the newest word counts.
                next.epoch != mark.epoch || next.offset < mark.offset
            });
            if further {
                line.next = Some(mark);
            }
            return true;
        }
        let fits = self.lines.len() < ACKNOWLEDGEMENTS_MAX;
        if fits {
            self.lines.insert(stream.clone(), Line { asked: false, next: Some(mark) });
            self.turns.push_back(stream);
        }
        fits
    }

    /// What is to be asked for now.
    fn next(&mut self) -> Option<(Arc<str>, Mark)> {
        if self.asked >= ACKNOWLEDGEMENTS_ASKED_MAX {
            return None;
        }
        let stream = self.turns.pop_front()?;
        let line = self.lines.get_mut(&stream)?;
        let mark = line.next.take()?;
        line.asked = true;
        self.asked += 1;
        Some((stream, mark))
    }

    /// The store answered.
    fn answered(&mut self, stream: Arc<str>) {
        let Some(line) = self.lines.get_mut(&stream) else { return };
        line.asked = false;
        self.asked -= 1;
        if line.next.is_some() {
            self.turns.push_back(stream);
        } else {
            self.lines.remove(&stream);
        }
    }

    pub(super) fn check_invariants(&self) {
        let asked = self.lines.values().filter(|line| line.asked).count();
        assert!(asked == self.asked && asked <= ACKNOWLEDGEMENTS_ASKED_MAX, "acknowledgements under way");
        assert!(self.lines.len() <= ACKNOWLEDGEMENTS_MAX, "streams with an acknowledgement");
        assert_eq!(self.turns.len() + asked, self.lines.len(), "who waits has one turn");
    }
}

impl Route {
    pub(super) fn acknowledge(&mut self, turn: &mut Turn<'_>, position: Position) {
        let Position { stream, epoch, offset } = position;
        if self.sequencer.is_kept(&stream) && self.acknowledgements.put(stream, Mark { epoch, offset }) {
            self.ask_acknowledgements(turn);
        } else {
            self.counts.acknowledgements_dropped += 1;
        }
    }

    /// The store took an acknowledgement, or could not: the next one says more.
    pub(super) fn acknowledged(&mut self, turn: &mut Turn<'_>, stream: Arc<str>) {
        self.acknowledgements.answered(stream);
        self.ask_acknowledgements(turn);
    }

    fn ask_acknowledgements(&mut self, turn: &mut Turn<'_>) {
        while let Some((stream, Mark { epoch, offset })) = self.acknowledgements.next() {
            let question = Question::Acknowledge(stream.clone());
            self.questions.ask(question, Ask::Acknowledge { stream, epoch, offset }, turn.out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Now,
        config::Settings,
        route::{Input, Instances, Output, Ticket},
        stream::store::Answer,
    };

    const NOW: Now = Now { mono_ns: 1, wall_ms: 0 };

    /// What the store is asked for, each as ticket, stream and offset.
    fn asked(route: &mut Route, input: Input<'_>) -> Vec<(Ticket, Arc<str>, u64)> {
        let mut out = Vec::new();
        route.handle(NOW, input, &mut out);
        route.check_invariants();
        let asked = |output| match output {
            Output::Ask { ticket, ask: Ask::Acknowledge { stream, offset, .. } } => (ticket, stream, offset),
            other => panic!("{other:?}"),
        };
        out.into_iter().map(asked).collect()
    }

    fn of(user: usize, epoch: &str, offset: u64) -> Input<'static> {
        let stream = format!("user:{user}").into();
        Input::Acknowledge { position: Position { stream, epoch: epoch.into(), offset } }
    }

    fn answer(ticket: Ticket) -> Input<'static> {
        Input::Answered { ticket, answer: Answer::Acknowledged(0), shards: &[] }
    }

    #[test]
    fn a_flood_of_them_leaves_the_store_to_others_and_all_have_their_turn() {
        let mut route = Route::new(&Settings::default(), Instances::One);
        let users = 3 * ACKNOWLEDGEMENTS_ASKED_MAX;
        let mut under_way: VecDeque<_> =
            (0..users).flat_map(|user| asked(&mut route, of(user, "e", 1))).collect();
        let mut streams = Vec::new();
        while let Some((ticket, stream, _)) = under_way.pop_front() {
            assert!(under_way.len() < ACKNOWLEDGEMENTS_ASKED_MAX);
            streams.push(stream);
            under_way.extend(asked(&mut route, answer(ticket)));
        }
        let expected: Vec<Arc<str>> = (0..users).map(|user| format!("user:{user}").into()).collect();
        assert_eq!((streams, route.counts.acknowledgements_dropped), (expected, 0));
        assert!(route.acknowledgements.lines.is_empty());
    }

    #[test]
    fn of_one_stream_one_is_under_way_and_the_furthest_follows() {
        let mut route = Route::new(&Settings::default(), Instances::One);
        let first = asked(&mut route, of(1, "e", 1)).remove(0).0;
        for (epoch, offset) in [("e", 3), ("e", 2)] {
            assert_eq!(asked(&mut route, of(1, epoch, offset)), []);
        }
        let second = asked(&mut route, answer(first)).remove(0);
        assert_eq!(second.2, 3);
        [("e", 5), ("f", 1)].iter().for_each(|(epoch, offset)| _ = asked(&mut route, of(1, epoch, *offset)));
        assert_eq!(asked(&mut route, answer(second.0))[0].2, 1, "of another history the newest word counts");
    }

    #[test]
    fn one_stream_too_many_is_dropped_and_counted() {
        let mut route = Route::new(&Settings::default(), Instances::One);
        (0..ACKNOWLEDGEMENTS_MAX).for_each(|user| {
            route.handle(NOW, of(user, "e", 1), &mut Vec::new());
        });
        assert_eq!(
            (asked(&mut route, of(ACKNOWLEDGEMENTS_MAX, "e", 1)), asked(&mut route, of(0, "e", 2))),
            (vec![], vec![])
        );
        assert_eq!(route.counts.acknowledgements_dropped, 1);
    }
}
