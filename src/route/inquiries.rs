//! What an operator asks about a stream: what is in it, and how far it was delivered and acknowledged.
//!
//! Owns the way from a question to a report, one question to the store after the other, a bounded number of inquiries at
//! a time. Never changes anything: no stream begins for it, nor a new epoch, and nobody is told.

use std::sync::Arc;

use super::{Output, Route, Token, following::target_of, questions::Question, turn::Turn};
use crate::{
    event::{Address, Event, Target},
    limits::{INQUIRIES_MAX, OVERLOAD_RETRY, STORE_RETRY},
    stream::store::{Answer, Ask, Failure, Head, Page},
};

/// What somebody wants to know about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// `user:<id>` or `room:<name>`.
    pub stream: Arc<str>,
    /// The history that is meant; empty: the running one.
    pub epoch: Arc<str>,
    /// Which entries.
    pub start: Start,
    /// Entries at most; at least 1.
    pub count_max: usize,
}

/// Where entries begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Behind this offset.
    After(u64),
    /// Behind what is acknowledged.
    Unacknowledged,
    /// So that the last of them is the newest one.
    Newest,
}

/// What is known about a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Where it stands.
    pub head: Head,
    /// Consecutive, oldest first; `None`: they cannot be had (other epoch, trimmed, future).
    pub events: Option<Vec<Arc<Event>>>,
    /// Up to here everything was handed to the shards that hold its connections; `<= head.offset`. `None`: nobody here has the
    /// stream, or its position is not known, or somebody is owed the news that something is missing.
    pub delivered: Option<u64>,
    /// Who has it.
    pub connections: Connections,
}

/// How many connections a user has, or members a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// On this instance.
    pub here: u32,
    /// On others, as they told it last. In a [`Report`] it is known where there are some on this one too, else 0.
    pub elsewhere: u32,
}

/// Why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoReport {
    /// The stream is not kept.
    NotKept,
    /// Too much is being asked; worth trying again after so many milliseconds.
    Overloaded {
        /// Milliseconds.
        retry_after_ms: u32,
    },
    /// The store did not answer.
    StoreAway,
}

/// An inquiry on its way.
#[derive(Debug)]
pub(super) struct Looking {
    token: Token,
    inquiry: Inquiry,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Asked where the stream stands.
    Head,
    /// Asked for what follows `after`.
    Read { after: u64 },
    /// Asked for what follows `after`, where the log begins being wanted: entries do not join `gone`, those in `page` do join
    /// `found`. `gone < after < found`.
    Search { gone: u64, after: u64, found: u64, page: Page },
}

impl Route {
    pub(super) fn inquire(&mut self, turn: &mut Turn<'_>, token: Token, inquiry: Inquiry) {
        let refused = if !self.sequencer.is_kept(&inquiry.stream) {
            NoReport::NotKept
        } else if self.questions.inquiry_count() >= INQUIRIES_MAX {
            NoReport::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 }
        } else {
            let ask = Ask::Look { stream: inquiry.stream.clone() };
            let looking = Looking { token, inquiry, step: Step::Head };
            return self.questions.ask(Question::Inquiry(looking), ask, turn.out);
        };
        turn.out.push(Output::Inquired { token, result: Err(refused) });
    }

    /// The store answered a step of an inquiry.
    pub(super) fn inquiry_told(&mut self, turn: &mut Turn<'_>, looking: Looking, answer: Answer) {
        let Looking { token, inquiry, step } = looking;
        match (step, answer) {
            (Step::Head, Answer::Head(head)) => self.look_behind(turn, token, inquiry, head),
            (Step::Read { after }, Answer::Page(page)) => {
                let is_gone = inquiry.start == Start::Newest && page.events.is_none();
                if is_gone && after < page.head.offset {
                    let found = page.head.offset;
                    // Nothing follows the head, which joins.
                    let page = Page { events: Some(Vec::new()), ..page };
                    self.search(turn, token, inquiry, (after, found, page));
                } else {
                    self.report(turn, token, &inquiry, page);
                }
            }
            (Step::Search { gone, after, found, page: before }, Answer::Page(page)) => {
                if page.events.is_some() {
                    self.search(turn, token, inquiry, (gone, after, page));
                } else {
                    self.search(turn, token, inquiry, (after, found, before));
                }
            }
            (_, answer) => {
                let refused = match answer {
                    Answer::Failed(Failure::Refused) => {
                        NoReport::Overloaded { retry_after_ms: STORE_RETRY.as_millis() as u32 }
                    }
                    _ => NoReport::StoreAway,
                };
                turn.out.push(Output::Inquired { token, result: Err(refused) });
            }
        }
    }

    fn look_behind(&mut self, turn: &mut Turn<'_>, token: Token, inquiry: Inquiry, head: Head) {
        if head.epoch.is_empty() {
            let joins = inquiry.epoch.is_empty() && !matches!(inquiry.start, Start::After(1..));
            let events = joins.then(Vec::new);
            return self.report(turn, token, &inquiry, Page { head, events, rest: 0 });
        }
        if !inquiry.epoch.is_empty() && *inquiry.epoch != *head.epoch {
            return self.report(turn, token, &inquiry, Page { head, events: None, rest: 0 });
        }
        let after = match inquiry.start {
            Start::After(offset) => offset,
            Start::Unacknowledged => head.acknowledged,
            Start::Newest => head.offset.saturating_sub(inquiry.count_max as u64),
        };
        self.read_for(turn, token, inquiry, (head.epoch, after), Step::Read { after });
    }

    /// Halves the range in which the oldest entry is that is kept: the log is trimmed from its beginning alone. A page's
    /// worth of entries takes six reads.
    fn search(&mut self, turn: &mut Turn<'_>, token: Token, inquiry: Inquiry, range: (u64, u64, Page)) {
        let (gone, found, page) = range;
        if found <= gone + 1 {
            return self.report(turn, token, &inquiry, page);
        }
        let after = gone.midpoint(found);
        let epoch = page.head.epoch.clone();
        self.read_for(turn, token, inquiry, (epoch, after), Step::Search { gone, after, found, page });
    }

    fn read_for(
        &mut self,
        turn: &mut Turn<'_>,
        token: Token,
        inquiry: Inquiry,
        (epoch, after): (Arc<str>, u64),
        step: Step,
    ) {
        let ask = Ask::Read { stream: inquiry.stream.clone(), epoch, after, count_max: inquiry.count_max };
        self.questions.ask(Question::Inquiry(Looking { token, inquiry, step }), ask, turn.out);
    }

    fn report(&self, turn: &mut Turn<'_>, token: Token, inquiry: &Inquiry, page: Page) {
        let Page { head, events, .. } = page;
        let connections = match target_of(&inquiry.stream) {
            Target::User(user) => self.connections(&Address::User(user)),
            Target::Room(room) => self.connections(&Address::Room(room)),
            Target::Connection(_) | Target::Everyone => Connections::default(),
        };
        let delivered = self.delivered(&inquiry.stream, &head).filter(|_| connections.here > 0);
        let report = Report { head, events, delivered, connections };
        turn.out.push(Output::Inquired { token, result: Ok(report) });
    }

    fn delivered(&self, stream: &str, head: &Head) -> Option<u64> {
        // An instance alone hands over what it stores with the store's answer.
        let Some(following) = &self.following else { return Some(head.offset) };
        let at = following.cursors.get(stream)?.at().filter(|at| at.epoch == head.epoch)?;
        (!following.owed.contains_key(stream)).then_some(at.offset.min(head.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Now,
        config::Settings,
        event::Class,
        ids::ShardId,
        route::{Input, Instances, ShardView, tests::event},
        stream::{
            history::{Bounds, History},
            store::Append,
        },
    };

    const NOW: Now = Now { mono_ns: 1, wall_ms: 0 };

    struct Bench {
        route: Route,
        store: History,
    }

    impl Bench {
        /// So many entries are kept of a stream.
        fn new(count_max: usize) -> Self {
            let mut settings = Settings::default();
            settings.streams.count_max = count_max;
            let store = History::new(Bounds::from(&settings.streams), 7);
            Self { route: Route::new(&settings, Instances::One), store }
        }

        fn store(&mut self, count: u64) -> Vec<Arc<Event>> {
            let mut store = || {
                let event = Event { accepted_at_ns: 1, ..event(Target::User("a".into()), Class::Critical) };
                let append =
                    Append { stream: "user:a".into(), event, memory: None, known: None, proviso: None };
                match self.store.answer(NOW, Ask::Append(append)) {
                    Answer::Appended(event) => event,
                    other => panic!("{other:?}"),
                }
            };
            (0..count).map(|_| store()).collect()
        }

        /// What comes of it and is no question; the store answers those.
        fn happens(&mut self, input: Input<'_>) -> Vec<Output> {
            let mut out = Vec::new();
            self.route.handle(NOW, input, &mut out);
            while let Some(place) = out.iter().position(|output| matches!(output, Output::Ask { .. })) {
                let Output::Ask { ticket, ask } = out.remove(place) else { unreachable!() };
                let answer = self.store.answer(NOW, ask);
                self.route.handle(NOW, Input::Answered { ticket, answer, shards: &[] }, &mut out);
            }
            out
        }

        fn handle(&mut self, input: Input<'_>) -> Output {
            let mut out = Vec::new();
            self.route.handle(NOW, input, &mut out);
            self.route.check_invariants();
            assert_eq!(out.len(), 1, "{out:?}");
            out.remove(0)
        }

        fn begin(&mut self, stream: &str, count_max: usize) -> Output {
            let inquiry =
                Inquiry { stream: stream.into(), epoch: "".into(), start: Start::Newest, count_max };
            self.handle(Input::Inquire { token: 5, inquiry })
        }

        /// The outcome, and how often the store was asked; `failure`: what it says at the second time.
        fn ask(&mut self, count_max: usize, failure: Option<Failure>) -> (Result<Report, NoReport>, usize) {
            let mut output = self.begin("user:a", count_max);
            for asked in 0.. {
                let (ticket, ask) = match output {
                    Output::Ask { ticket, ask } => (ticket, ask),
                    Output::Inquired { token: 5, result } => return (result, asked),
                    other => panic!("{other:?}"),
                };
                let answer = match failure.filter(|_| asked == 1) {
                    Some(failure) => Answer::Failed(failure),
                    None => self.store.answer(NOW, ask),
                };
                output = self.handle(Input::Answered { ticket, answer, shards: &[] });
            }
            unreachable!("the range is halved each time")
        }
    }

    #[test]
    fn the_newest_entries_are_found_wherever_the_log_begins() {
        for kept in [1, 2, 31, 32, 33, 63, 64, 200] {
            let mut bench = Bench::new(kept);
            bench.store(100);
            let (report, asked) = bench.ask(64, None);
            let report = report.unwrap();
            let events = report.events.unwrap();
            let offsets = events.iter().map(|event| event.position.as_ref().unwrap().offset);
            let first = 101 - kept.min(64) as u64;
            assert_eq!(offsets.collect::<Vec<_>>(), (first..=100).collect::<Vec<_>>(), "{kept} kept");
            assert!(asked <= 8, "{asked} questions for {kept}");
        }
    }

    #[test]
    fn what_nobody_here_has_was_delivered_to_nobody() {
        let mut bench = Bench::new(9);
        bench.store(2);
        let report = bench.ask(9, None).0.unwrap();
        assert_eq!((report.delivered, report.connections.here), (None, 0));
        let address = Address::User("a".into());
        bench.route.handle(NOW, Input::Members { shard: ShardId(0), address, count: 3 }, &mut Vec::new());
        let report = bench.ask(9, None).0.unwrap();
        assert_eq!((report.delivered, report.connections.here), (Some(2), 3));
    }

    #[test]
    fn what_a_shard_is_owed_was_not_delivered() {
        let mut bench = Bench::new(9);
        bench.route = Route::new(&Settings::default(), Instances::Several);
        let address = Address::User("a".into());
        bench.happens(Input::Up);
        bench.happens(Input::Members { shard: ShardId(0), address: address.clone(), count: 1 });
        bench.happens(Input::Subscribed { address });
        let full = ShardView::default();
        let free = ShardView { free: 9, free_bytes: 99, ..full };
        for (shard, delivered) in [(free, Some(1)), (full, None)] {
            let event = bench.store(1).remove(0);
            let out = bench.happens(Input::Heard { event, shards: &[shard] });
            assert_eq!(out.len(), delivered.iter().len(), "{out:?}");
            assert_eq!(bench.ask(9, None).0.unwrap().delivered, delivered);
        }
    }

    #[test]
    fn only_so_many_are_asked_at_once() {
        let mut bench = Bench::new(9);
        let open: Vec<Output> = (0..INQUIRIES_MAX).map(|_| bench.begin("user:a", 1)).collect();
        assert!(open.iter().all(|output| matches!(output, Output::Ask { .. })));
        let refused = Err(NoReport::Overloaded { retry_after_ms: 100 });
        assert_eq!(bench.begin("user:a", 1), Output::Inquired { token: 5, result: refused });
        let Some(Output::Ask { ticket, .. }) = open.into_iter().next() else { unreachable!() };
        let answer = Answer::Failed(Failure::Unavailable);
        let told = bench.handle(Input::Answered { ticket, answer, shards: &[] });
        assert_eq!(told, Output::Inquired { token: 5, result: Err(NoReport::StoreAway) });
        assert!(matches!(bench.begin("user:a", 1), Output::Ask { .. }), "its place is free");
    }

    #[test]
    fn a_store_that_fails_ends_the_inquiry() {
        let mut bench = Bench::new(9);
        assert_eq!(bench.ask(9, Some(Failure::Unavailable)).0, Err(NoReport::StoreAway));
        let refused = Err(NoReport::Overloaded { retry_after_ms: 1_000 });
        assert_eq!(bench.ask(9, Some(Failure::Refused)).0, refused);
    }

    #[test]
    fn a_room_that_is_not_kept_has_no_history() {
        let not_kept = Output::Inquired { token: 5, result: Err(NoReport::NotKept) };
        assert_eq!(Bench::new(9).begin("room:event:1", 1), not_kept);
    }
}
