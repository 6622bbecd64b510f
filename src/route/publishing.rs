//! Events on their way: from callers and clients here, and from other instances.
//!
//! Never refuses what was stored. Invariant: an event is refused before anything of it was stored or sent, or else goes to
//! every shard that may hold its target; what is being stored has room reserved in their mailboxes.

use std::sync::Arc;

use super::{
    Output, Route, Token,
    appended::Session,
    classify,
    following::target_of,
    ingest::Outcome,
    questions::{Asker, Question},
    sequencer::{Accepted, Verdict},
    turn::Turn,
};
use crate::{
    event::{Class, Event, Pushed, Receipt, Refusal, Target},
    ids::ShardId,
    limits::{OVERLOAD_RETRY, STORE_RETRY},
    stream::{
        lease::Lease,
        store::{Answer, Append, Ask, Failure, Head},
    },
};

/// An event with what its caller wants.
pub(super) struct Publication {
    pub(super) token: Token,
    pub(super) event: Event,
    pub(super) idempotency_key: Option<Arc<str>>,
}

impl Route {
    pub(super) fn publish(&mut self, turn: &mut Turn<'_>, publication: Publication) {
        let Publication { token, mut event, idempotency_key } = publication;
        event.target = classify::resolve(event.target);
        let result = match self.sequencer.judge(turn.now, &mut event, idempotency_key) {
            Verdict::Store(append) => {
                let asked = self.store(turn, Asker::Call(token), append);
                (!asked).then(|| Err(self.overloaded()))
            }
            Verdict::Send(accepted) => Some(self.send(turn, event, accepted).map_err(|_| self.overloaded())),
            Verdict::Repeated(receipt) => {
                self.counts.repeated += 1;
                Some(Ok(receipt))
            }
            Verdict::Stale => {
                self.counts.stale += 1;
                Some(Ok(Receipt::default()))
            }
            Verdict::KeyReused => {
                self.counts.key_reused += 1;
                Some(Err(Refusal::KeyReused))
            }
        };
        if let Some(result) = result {
            turn.out.push(Output::Answer { token, result });
        }
    }

    /// As [`Route::publish`] for many Latest values, which no store and no key has a say in.
    pub(super) fn push(&mut self, turn: &mut Turn<'_>, token: Token, events: Vec<Event>) {
        let mut pushed = Pushed::default();
        for mut event in events {
            if !matches!(event.class, Class::Latest(_)) {
                pushed.refused.push(event);
                continue;
            }
            let Verdict::Send(accepted) = self.sequencer.judge(turn.now, &mut event, None) else {
                self.counts.stale += 1;
                pushed.stale += 1;
                continue;
            };
            match self.send(turn, event, accepted) {
                Ok(receipt) => {
                    pushed.accepted += 1;
                    pushed.unknown += u64::from(receipt.delivered_connections == 0);
                }
                Err(event) => {
                    self.counts.overloaded += 1;
                    pushed.refused.push(*event);
                }
            }
        }
        turn.out.push(Output::Pushed { token, pushed });
    }

    /// Asks the store for an append, if there will be room for what comes of it; whether it did.
    fn store(&mut self, turn: &mut Turn<'_>, asker: Asker, mut append: Append) -> bool {
        let (targets, _) = self.targets(&append.event.target, turn.shards);
        let reserved = self.questions.reserved();
        let bytes = append.event.payload.len();
        let fits = targets.iter().all(|shard| turn.fits(*shard, &append.event, reserved));
        if !fits || !self.questions.takes_append(bytes) {
            return false;
        }
        let cursor = self.following.as_ref().and_then(|following| following.cursors.get(&append.stream));
        append.known = cursor.and_then(|cursor| cursor.known());
        let session = self.following.as_ref().map_or(0, |following| following.appended.session());
        self.questions.ask(Question::Append { asker, bytes, session }, Ask::Append(append), turn.out);
        true
    }

    /// Sends what is not stored, here and to the other instances; gives it back where a mailbox has no room.
    fn send(&mut self, turn: &mut Turn<'_>, event: Event, accepted: Accepted) -> Result<Receipt, Box<Event>> {
        let (targets, delivered_connections) = self.targets(&event.target, turn.shards);
        let reserved = self.questions.reserved();
        if !targets.iter().all(|shard| turn.fits(*shard, &event, reserved)) {
            return Err(Box::new(event));
        }
        self.counts.accepted[event.class.index()] += 1;
        let shared = self.following.is_some() && !matches!(event.target, Target::Connection(_));
        let published = shared && self.following.as_ref().is_some_and(|following| following.up);
        let receipt = Receipt { delivered_connections, published, position: None };
        self.sequencer.commit(turn.now, &event, accepted, &receipt);
        let event = Arc::new(event);
        self.keep_latest(turn.now, &event, true);
        targets.into_iter().for_each(|shard| turn.deliver(shard, &event));
        if shared {
            turn.out.push(Output::Share { event });
        }
        Ok(receipt)
    }

    fn overloaded(&mut self) -> Refusal {
        self.counts.overloaded += 1;
        Refusal::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 }
    }

    /// The store answered a question.
    pub(super) fn answered(&mut self, turn: &mut Turn<'_>, question: Question, answer: Answer) {
        match question {
            Question::Append { asker, session, .. } => self.append_told(turn, (asker, session), answer),
            Question::Entry(entry) => self.entered(turn, entry, head_in(&answer)),
            Question::Doubt { stream, mark } => self.doubt_told(turn, stream, mark, answer),
            Question::Head(stream) => self.head_told(turn, &stream, &answer),
            Question::Read(read) => self.read_told(turn, read, answer),
            Question::Inquiry(looking) => self.inquiry_told(turn, looking, answer),
            Question::Acknowledge(stream) => self.acknowledged(turn, stream),
            Question::Remember { address, keys } => self.remembered(turn, (&address, keys), &answer),
            Question::Recall(address) => self.recalled(turn, address, answer),
        }
    }

    fn append_told(&mut self, turn: &mut Turn<'_>, (asker, session): (Asker, Session), answer: Answer) {
        if let Some(following) = &mut self.following {
            following.appended.note(turn.now, &answer, session);
        }
        let outcome = match &answer {
            Answer::Appended(_) => Some(Outcome::Appended),
            Answer::Repeated(_) => Some(Outcome::Found),
            _ => None,
        };
        let result = match answer {
            Answer::Appended(event) => {
                self.counts.accepted[event.class.index()] += 1;
                self.counts.appended += 1;
                Ok(self.appended(turn, event))
            }
            Answer::Repeated(position) => {
                self.counts.repeated += u64::from(matches!(asker, Asker::Call(_)));
                self.follow(turn, &position.stream, |cursor, _| cursor.note(&position));
                let target = target_of(&position.stream);
                let (_, delivered_connections) = self.targets(&target, turn.shards);
                let published = self.following.is_some();
                Ok(Receipt { delivered_connections, published, position: Some(position) })
            }
            Answer::KeyReused => {
                self.counts.key_reused += 1;
                Err(Refusal::KeyReused)
            }
            Answer::Failed(Failure::Refused | Failure::Parted) => {
                self.counts.appends_failed += 1;
                Err(Refusal::NotStored { retry_after_ms: STORE_RETRY.as_millis() as u32 })
            }
            // An answer to another question tells nothing of this one.
            Answer::Failed(Failure::Unavailable)
            | Answer::Head(_)
            | Answer::Page(_)
            | Answer::Acknowledged(_)
            | Answer::Remembered
            | Answer::Recalled(_)
            | Answer::Forgotten => {
                self.counts.appends_failed += 1;
                Err(Refusal::OutcomeUnknown)
            }
        };
        match asker {
            Asker::Call(token) => turn.out.push(Output::Answer { token, result }),
            Asker::Foreign(number) => self.ingest.answered(number, outcome),
            Asker::Nobody => {}
        }
    }

    /// Delivers what was stored: in its turn where others append too, else at once, since answers come in order.
    fn appended(&mut self, turn: &mut Turn<'_>, event: Arc<Event>) -> Receipt {
        let (targets, delivered_connections) = self.targets(&event.target, turn.shards);
        let published = self.following.is_some();
        let receipt = Receipt { delivered_connections, published, position: event.position.clone() };
        match &event.position {
            Some(position) if published => {
                let stream = position.stream.clone();
                self.follow(turn, &stream, |cursor, moved| cursor.hear(event, moved));
            }
            _ => targets.into_iter().for_each(|shard| turn.deliver(shard, &event)),
        }
        receipt
    }

    /// What an instance published.
    pub(super) fn heard(&mut self, turn: &mut Turn<'_>, event: Arc<Event>) {
        match &event.position {
            Some(position) => {
                let stream = position.stream.clone();
                self.follow(turn, &stream, |cursor, moved| cursor.hear(event, moved));
            }
            None => self.heard_unstored(turn, Event::clone(&event), false),
        }
    }

    /// What every instance hears: one of them stores it, or each delivers it to its own.
    pub(super) fn foreign(&mut self, turn: &mut Turn<'_>, mut event: Event) {
        event.target = classify::resolve(event.target);
        let is_alone = self.following.is_none();
        if !self.sequencer.stores(&event) {
            let ingests = is_alone || self.ingest.holds(turn.now);
            return self.heard_unstored(turn, event, ingests);
        }
        let Verdict::Store(append) = self.sequencer.judge(turn.now, &mut event, None) else { return };
        if is_alone {
            self.counts.lost += u64::from(!self.store(turn, Asker::Nobody, append));
        } else if let Some((number, append)) = self.ingest.hear(turn.now, append)
            && !self.store(turn, Asker::Foreign(number), append)
        {
            self.ingest.postpone(number);
        }
    }

    /// More is known of who stores what every instance hears.
    pub(super) fn lease(&mut self, turn: &mut Turn<'_>, lease: Lease) {
        self.ingest.learn(turn.now, lease);
        self.ingest_due(turn);
    }

    /// Stores what other services said and nobody may have stored, as far as there is room.
    pub(super) fn ingest_due(&mut self, turn: &mut Turn<'_>) {
        let mut ingest = std::mem::take(&mut self.ingest);
        ingest.ask_due(turn.now, |number, append| self.store(turn, Asker::Foreign(number), append));
        self.ingest = ingest;
    }

    /// Nobody can be refused any more: a shard without room misses it, which is counted.
    /// `ingests`: the store hears of it from here.
    pub(super) fn heard_unstored(&mut self, turn: &mut Turn<'_>, mut event: Event, ingests: bool) {
        let Verdict::Send(accepted) = self.sequencer.judge(turn.now, &mut event, None) else {
            self.counts.stale += 1;
            return;
        };
        self.counts.heard += 1;
        let (targets, _) = self.targets(&event.target, turn.shards);
        self.sequencer.commit(turn.now, &event, accepted, &Receipt::default());
        let event = Arc::new(event);
        self.keep_latest(turn.now, &event, ingests);
        self.deliver_or_lose(turn, targets, &event);
    }

    /// Sends what nobody can be refused any more; shards without room are counted.
    pub(super) fn deliver_or_lose(&mut self, turn: &mut Turn<'_>, targets: Vec<ShardId>, event: &Arc<Event>) {
        let reserved = self.questions.reserved();
        for shard in targets {
            if turn.fits(shard, event, reserved) {
                turn.deliver(shard, event);
            } else {
                self.counts.lost += 1;
            }
        }
    }
}

fn head_in(answer: &Answer) -> Option<&Head> {
    if let Answer::Head(head) = answer { Some(head) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Now,
        config::Settings,
        event::{Address, LatestKey},
        ids::ShardId,
        route::{Input, Instances, ShardView, tests::event},
    };

    const NOW: Now = Now { mono_ns: 1_000_000_000, wall_ms: 0 };

    fn view(free: usize) -> ShardView {
        ShardView { free, free_bytes: 1_000, ..ShardView::default() }
    }

    /// Users `a` and `b` are on shards 0 and 1.
    fn route(instances: Instances) -> Route {
        let mut route = Route::new(&Settings::default(), instances);
        for (shard, user) in [(0, "a"), (1, "b")] {
            let address = Address::User(user.into());
            route.handle(NOW, Input::Members { shard: ShardId(shard), address, count: 1 }, &mut Vec::new());
        }
        route
    }

    fn position(user: &str, version: u64) -> Event {
        Event { version: Some(version), ..event(Target::User(user.into()), Class::Latest(LatestKey(1))) }
    }

    fn push(route: &mut Route, shards: &[ShardView], events: Vec<Event>) -> (Vec<Output>, Pushed) {
        let mut out = Vec::new();
        route.handle(NOW, Input::Push { token: 3, events, shards }, &mut out);
        let Some(Output::Pushed { token: 3, pushed }) = out.pop() else { panic!("{out:?}") };
        (out, pushed)
    }

    fn sent(out: &[Output]) -> Vec<(u16, Option<u64>)> {
        let deliveries = out.iter().filter_map(|output| match output {
            Output::Deliver { shard, event } => Some((shard.0, event.version)),
            _ => None,
        });
        deliveries.collect()
    }

    #[test]
    fn pushed_values_are_judged_one_after_another() {
        let mut route = route(Instances::One);
        let events =
            vec![position("a", 2), position("a", 1), position("b", 1), position("c", 1), position("a", 3)];
        let (out, pushed) = push(&mut route, &[view(9), view(9)], events);
        assert_eq!(sent(&out), [(0, Some(2)), (1, Some(1)), (0, Some(3))]);
        assert_eq!(pushed, Pushed { accepted: 4, stale: 1, unknown: 1, refused: vec![] });
        assert_eq!((route.counts().accepted[2], route.counts().stale), (4, 1));
    }

    #[test]
    fn what_finds_no_room_comes_back_in_order_and_may_be_pushed_again() {
        let mut route = route(Instances::One);
        let events = vec![position("a", 1), position("a", 2), position("b", 1), position("a", 3)];
        let (out, pushed) = push(&mut route, &[view(1), view(9)], events);
        assert_eq!(sent(&out), [(0, Some(1)), (1, Some(1))]);
        assert_eq!((pushed.accepted, &pushed.refused), (2, &vec![position("a", 2), position("a", 3)]));
        let (out, pushed) = push(&mut route, &[view(9), view(9)], pushed.refused);
        assert_eq!(
            (sent(&out), pushed.accepted),
            (vec![(0, Some(2)), (0, Some(3))], 2),
            "refusals leave no trace"
        );
    }

    #[test]
    fn other_instances_are_told_of_those_who_are_not_here_too() {
        let mut route = route(Instances::Several);
        let (out, pushed) = push(&mut route, &[view(9), view(9)], vec![position("c", 1)]);
        assert!(matches!(&out[..], [Output::Share { .. }]), "{out:?}");
        assert_eq!((pushed.accepted, pushed.unknown), (1, 1));
    }

    #[test]
    fn only_latest_values_are_pushed() {
        let mut route = route(Instances::One);
        let event = Event { class: Class::Critical, ..position("a", 1) };
        let (out, pushed) = push(&mut route, &[view(9), view(9)], vec![event.clone()]);
        assert_eq!((out, pushed.refused), (vec![], vec![event]));
    }
}
