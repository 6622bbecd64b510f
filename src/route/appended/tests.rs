//! Two instances on a store that loses an append: one appended it, on the other somebody follows the stream.

use super::*;
use crate::{
    config::Settings,
    event::{Address, Class, Event, Target},
    ids::{ConnId, ShardId},
    route::{Input, Instances, Output, ShardView, Ticket, tests::event},
    stream::{
        history::{Bounds, History},
        store::Failure,
    },
};

const START: Now = Now { mono_ns: 1, wall_ms: 0 };
const STREAM: &str = "user:ann";
/// The one that appends, and has nobody of the stream.
const APPENDS: usize = 0;
/// The one that somebody is connected to.
const FOLLOWS: usize = 1;

fn ann() -> Address {
    Address::User("ann".into())
}

fn to_ann(payload: &str) -> Event {
    Event { payload: payload.to_owned().into(), ..event(Target::User("ann".into()), Class::Critical) }
}

/// What a client of the stream saw.
#[derive(Clone, Debug, PartialEq)]
enum Saw {
    Event(String),
    Gap(u64),
}

struct Bench {
    now: Now,
    routes: [Route; 2],
    store: History,
    kept: History,
    asks: [VecDeque<(Ticket, Ask)>; 2],
    /// Whom the store's publications reach.
    subscribed: [bool; 2],
    saw: Vec<Saw>,
    /// Calls that were answered.
    answered: u64,
}

impl Bench {
    /// Both instances are up, and the client has one event.
    fn new() -> Self {
        let settings = Settings::default();
        let store = History::new(Bounds::from(&settings.streams), 7);
        let mut bench = Self {
            now: START,
            routes: [(), ()].map(|()| Route::new(&settings, Instances::Several)),
            kept: store.clone(),
            store,
            asks: Default::default(),
            subscribed: [false; 2],
            saw: Vec::new(),
            answered: 0,
        };
        bench.calls(APPENDS, "0");
        bench.store_answers(APPENDS);
        bench.comes_up(APPENDS);
        bench.comes_up(FOLLOWS);
        bench.happens(
            FOLLOWS,
            Input::Admit { conn: ConnId::new(ShardId(0), 0, 0), user: "ann".into(), user_connections: 1 },
        );
        bench.subscribes(FOLLOWS);
        bench.calls(APPENDS, "1");
        bench.store_answers(APPENDS);
        assert_eq!(bench.take_saw(), [Saw::Event("1".into())]);
        bench
    }

    /// The store keeps what it has now, then takes another append whose publication reaches nobody, and breaks off.
    fn loses_an_append() -> Self {
        let mut bench = Self::new();
        bench.kept = bench.store.clone();
        bench.subscribed[FOLLOWS] = false;
        bench.calls(APPENDS, "lost");
        bench.store_answers(APPENDS);
        bench.breaks_off();
        bench
    }

    /// Every connection to the store ends, and it comes back with what it had kept.
    fn breaks_off(&mut self) {
        self.subscribed = [false; 2];
        self.happens(APPENDS, Input::Down);
        self.happens(FOLLOWS, Input::Down);
        self.store = self.kept.clone().restarted(8);
    }

    fn happens(&mut self, at: usize, input: Input<'_>) {
        let mut out = Vec::new();
        self.routes[at].handle(self.now, input, &mut out);
        self.routes[at].check_invariants();
        for output in out {
            match output {
                Output::Ask { ticket, ask } => self.asks[at].push_back((ticket, ask)),
                Output::Deliver { event, .. } => {
                    self.saw.push(Saw::Event(String::from_utf8_lossy(&event.payload).into_owned()));
                }
                Output::Resync { position, .. } => self.saw.push(Saw::Gap(position.offset)),
                Output::Answer { result, .. } => self.answered += u64::from(result.is_ok()),
                _ => {}
            }
        }
    }

    fn happens_viewed(&mut self, at: usize, input: impl for<'v> FnOnce(&'v [ShardView]) -> Input<'v>) {
        let view = ShardView { free: 99, free_bytes: 1 << 20, spare: 99, ..ShardView::default() };
        self.happens(at, input(&[view]));
    }

    fn calls(&mut self, at: usize, payload: &str) {
        let event = to_ann(payload);
        self.happens_viewed(at, |shards| Input::Publish { token: 1, event, idempotency_key: None, shards });
    }

    fn comes_up(&mut self, at: usize) {
        self.happens(at, Input::Up);
    }

    fn subscribes(&mut self, at: usize) {
        self.subscribed[at] = true;
        self.happens(at, Input::Subscribed { address: ann() });
        self.store_answers(at);
    }

    fn ticks(&mut self, at: usize, seconds: u64) {
        self.now = self.now.after(std::time::Duration::from_secs(seconds));
        self.happens_viewed(at, |shards| Input::Tick { shards });
    }

    /// Until the instance has nothing more to ask; what the store publishes is heard at once.
    fn store_answers(&mut self, at: usize) {
        while let Some((ticket, answer)) = self.store_answers_late(at) {
            self.happens_viewed(at, |shards| Input::Answered { ticket, answer, shards });
        }
    }

    /// The store does what was asked first; the answer is on its way.
    fn store_answers_late(&mut self, at: usize) -> Option<(Ticket, Answer)> {
        let (ticket, ask) = self.asks[at].pop_front()?;
        let epoch = |store: &mut History| {
            let ask = Ask::Read { stream: STREAM.into(), epoch: "".into(), after: 0, count_max: 1 };
            let Answer::Page(page) = store.answer(START, ask) else { panic!("no page") };
            page.head
        };
        let before = epoch(&mut self.store);
        let answer = self.store.answer(self.now, ask);
        let head = epoch(&mut self.store);
        for other in 0..2 {
            if !self.subscribed[other] {
                continue;
            }
            if let Answer::Appended(event) = &answer {
                let event = event.clone();
                self.happens_viewed(other, |shards| Input::Heard { event, shards });
            } else if before.epoch != head.epoch {
                let position =
                    Position { stream: STREAM.into(), epoch: head.epoch.clone(), offset: head.offset };
                self.happens(other, Input::Renamed { position });
            }
        }
        Some((ticket, answer))
    }

    fn store_fails(&mut self, at: usize) {
        let asks: Vec<_> = self.asks[at].drain(..).collect();
        for (ticket, _) in asks {
            let answer = Answer::Failed(Failure::Unavailable);
            self.happens_viewed(at, |shards| Input::Answered { ticket, answer, shards });
        }
    }

    fn take_saw(&mut self) -> Vec<Saw> {
        std::mem::take(&mut self.saw)
    }

    /// From now on events come as they are stored.
    fn is_whole(&mut self) {
        self.calls(APPENDS, "last");
        for at in [APPENDS, FOLLOWS] {
            self.store_answers(at);
        }
        assert_eq!(self.take_saw(), [Saw::Event("last".into())]);
    }

    fn doubts(&self, at: usize) -> usize {
        let appended = &self.routes[at].following.as_ref().expect("there are others").appended;
        appended.doubted.len() + appended.failed.len()
    }
}

#[test]
fn who_follows_is_told_of_an_append_that_was_lost_before_anybody_heard_of_it() {
    let mut bench = Bench::loses_an_append();
    bench.comes_up(APPENDS);
    bench.store_answers(APPENDS);
    bench.comes_up(FOLLOWS);
    bench.subscribes(FOLLOWS);
    assert_eq!(bench.take_saw(), [Saw::Gap(2)]);
    bench.is_whole();
}

#[test]
fn who_went_on_before_the_appender_came_back_is_told_then() {
    let mut bench = Bench::loses_an_append();
    bench.comes_up(FOLLOWS);
    bench.subscribes(FOLLOWS);
    bench.calls(FOLLOWS, "other");
    bench.store_answers(FOLLOWS);
    assert_eq!(bench.take_saw(), [Saw::Event("other".into())], "the offset is given again");
    bench.comes_up(APPENDS);
    bench.store_answers(APPENDS);
    bench.store_answers(FOLLOWS);
    assert_eq!(bench.take_saw(), [Saw::Gap(3)]);
    bench.is_whole();
}

/// The follower's question is answered before the appender's, and its answer comes after the news of it; or the news come
/// before it is subscribed.
#[test]
fn news_that_pass_an_answer_are_not_lost() {
    for subscribed in [false, true] {
        let mut bench = Bench::loses_an_append();
        bench.comes_up(FOLLOWS);
        bench.subscribed[FOLLOWS] = subscribed;
        bench.happens(FOLLOWS, Input::Subscribed { address: ann() });
        let (ticket, answer) = bench.store_answers_late(FOLLOWS).expect("it asks for the head");
        bench.comes_up(APPENDS);
        bench.store_answers(APPENDS);
        bench.happens_viewed(FOLLOWS, |shards| Input::Answered { ticket, answer, shards });
        bench.store_answers(FOLLOWS);
        assert_eq!(bench.take_saw(), [Saw::Gap(2)], "subscribed: {subscribed}");
        bench.subscribed[FOLLOWS] = true;
        bench.is_whole();
    }
}

#[test]
fn a_doubt_lasts_until_the_store_has_answered() {
    let mut bench = Bench::loses_an_append();
    bench.comes_up(FOLLOWS);
    bench.subscribes(FOLLOWS);
    bench.comes_up(APPENDS);
    bench.store_fails(APPENDS);
    assert_eq!((bench.asks[APPENDS].len(), bench.doubts(APPENDS)), (0, 1), "not over and over");
    bench.ticks(APPENDS, 1);
    bench.store_fails(APPENDS);
    // A second outage, during which nobody asks, and the minute passes.
    bench.happens(APPENDS, Input::Down);
    bench.ticks(APPENDS, 600);
    assert_eq!((bench.asks[APPENDS].len(), bench.take_saw()), (0, vec![]));
    bench.comes_up(APPENDS);
    bench.ticks(APPENDS, 1);
    bench.store_answers(APPENDS);
    bench.store_answers(FOLLOWS);
    assert_eq!((bench.take_saw(), bench.doubts(APPENDS)), (vec![Saw::Gap(2)], 0));
    bench.is_whole();
}

#[test]
fn an_answer_that_comes_after_the_news_of_a_new_session_is_doubted_at_once() {
    let mut bench = Bench::new();
    bench.kept = bench.store.clone();
    bench.subscribed[FOLLOWS] = false;
    bench.calls(APPENDS, "lost");
    let (ticket, answer) = bench.store_answers_late(APPENDS).expect("it is asked");
    bench.breaks_off();
    for at in [APPENDS, FOLLOWS] {
        bench.comes_up(at);
        bench.store_answers(at);
    }
    bench.subscribes(FOLLOWS);
    assert_eq!(bench.take_saw(), [], "nobody knows of it");
    bench.happens_viewed(APPENDS, |shards| Input::Answered { ticket, answer, shards });
    bench.ticks(APPENDS, 1);
    bench.store_answers(APPENDS);
    bench.store_answers(FOLLOWS);
    assert_eq!(bench.take_saw(), [Saw::Gap(2)]);
    bench.is_whole();
}

#[test]
fn an_outage_that_lost_nothing_is_told_to_nobody() {
    let mut bench = Bench::new();
    bench.subscribed[FOLLOWS] = false;
    bench.calls(APPENDS, "2");
    bench.store_answers(APPENDS);
    bench.kept = bench.store.clone();
    bench.breaks_off();
    for at in [FOLLOWS, APPENDS] {
        bench.comes_up(at);
        bench.store_answers(at);
    }
    bench.subscribes(FOLLOWS);
    assert_eq!((bench.take_saw(), bench.doubts(APPENDS)), (vec![Saw::Event("2".into())], 0));
    bench.is_whole();
}

#[test]
fn what_is_appended_under_another_name_makes_nothing_forgotten() {
    let mut bench = Bench::loses_an_append();
    // The store is back before the instance has noticed that it was away.
    bench.calls(APPENDS, "2");
    bench.store_answers(APPENDS);
    bench.comes_up(FOLLOWS);
    bench.subscribes(FOLLOWS);
    assert_eq!(bench.take_saw(), [Saw::Event("2".into())], "the offset is given again");
    bench.comes_up(APPENDS);
    bench.store_answers(APPENDS);
    bench.store_answers(FOLLOWS);
    assert_eq!(bench.take_saw(), [Saw::Gap(3)]);
    bench.is_whole();
}

/// One of the same call, which an instance may have answered that is no more.
#[test]
fn a_repeat_is_an_append_too_and_makes_no_newer_one_forgotten() {
    let position = |offset| Position { stream: STREAM.into(), epoch: "1.a".into(), offset };
    let appended_at =
        |offset| Answer::Appended(Arc::new(Event { position: Some(position(offset)), ..to_ann("") }));
    let mut appended = Appended::new();
    appended.note(START, &Answer::Repeated(position(3)), 0);
    appended.note(START, &appended_at(5), 0);
    appended.note(START, &Answer::Repeated(position(3)), 0);
    appended.note(START, &Answer::KeyReused, 0);
    appended.up();
    assert_eq!(appended.doubted, [(STREAM.into(), Mark { epoch: "1.a".into(), offset: 5 })]);
}

#[test]
fn positions_are_bounded_in_number_and_age_and_those_forgotten_are_counted() {
    let mut appended = Appended::new();
    let note = |appended: &mut Appended, now, n: usize| {
        let position = Position { stream: format!("user:{n}").into(), epoch: "1.a".into(), offset: 1 };
        appended.note(now, &Answer::Repeated(position), appended.session());
        appended.check_invariants();
    };
    let later = START.after(APPENDED_AGE_MAX);
    note(&mut appended, START, 0);
    appended.expire(later);
    assert_eq!((appended.lately.len(), appended.forgotten), (0, 0), "old ones are no loss");
    (0..=APPENDED_MAX).for_each(|n| note(&mut appended, later, n));
    assert_eq!((appended.lately.len(), appended.forgotten), (APPENDED_MAX, 1));
    appended.up();
    note(&mut appended, later, 0);
    appended.up();
    assert_eq!((appended.doubted.len(), appended.forgotten), (APPENDED_MAX, 2));
}
