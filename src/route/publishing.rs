//! Events on their way: from callers and clients here, and from other instances.
//!
//! Never refuses what was stored. Invariant: an event is refused before anything of it was stored or sent, or else goes to
//! every shard that may hold its target; what is being stored has room reserved in their mailboxes.

use std::sync::Arc;

use super::{
    Output, Route, Token, classify,
    following::target_of,
    questions::Question,
    sequencer::{Accepted, Verdict},
    turn::Turn,
};
use crate::{
    event::{Event, Receipt, Refusal, Target},
    ids::ShardId,
    limits::{OVERLOAD_RETRY, STORE_RETRY},
    stream::store::{Answer, Append, Ask, Failure, Head},
};

/// An event with what its caller wants.
pub(super) struct Publication {
    /// `None`: nobody waits for the outcome.
    pub(super) token: Option<Token>,
    pub(super) event: Event,
    pub(super) idempotency_key: Option<Arc<str>>,
}

impl Route {
    pub(super) fn publish(&mut self, turn: &mut Turn<'_>, publication: Publication) {
        let Publication { token, mut event, idempotency_key } = publication;
        event.target = classify::resolve(event.target);
        let result = match self.sequencer.judge(turn.now, &mut event, idempotency_key) {
            Verdict::Store(append) => self.store(turn, token, append).err().map(Err),
            Verdict::Send(accepted) => Some(self.send(turn, event, accepted)),
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
        if let (Some(token), Some(result)) = (token, result) {
            turn.out.push(Output::Answer { token, result });
        }
    }

    /// Asks the store for an append, if there will be room for what comes of it.
    fn store(
        &mut self,
        turn: &mut Turn<'_>,
        token: Option<Token>,
        mut append: Append,
    ) -> Result<(), Refusal> {
        let (targets, _) = self.targets(&append.event.target, turn.shards);
        let reserved = self.questions.reserved();
        let bytes = append.event.payload.len();
        let fits = targets.iter().all(|shard| turn.fits(*shard, &append.event, reserved));
        if !fits || !self.questions.takes_append(bytes) {
            return Err(self.overloaded());
        }
        let cursor = self.following.as_ref().and_then(|following| following.cursors.get(&append.stream));
        append.known = cursor.and_then(|cursor| cursor.known());
        self.questions.ask(Question::Append { token, bytes }, Ask::Append(append), turn.out);
        Ok(())
    }

    /// Sends what is not stored, here and to the other instances.
    fn send(&mut self, turn: &mut Turn<'_>, event: Event, accepted: Accepted) -> Result<Receipt, Refusal> {
        let (targets, delivered_connections) = self.targets(&event.target, turn.shards);
        let reserved = self.questions.reserved();
        if !targets.iter().all(|shard| turn.fits(*shard, &event, reserved)) {
            return Err(self.overloaded());
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
            Question::Append { token, .. } => self.append_told(turn, token, answer),
            Question::Entry(entry) => self.entered(turn, entry, head_in(&answer)),
            Question::Head(stream) => self.head_told(turn, &stream, head_in(&answer)),
            Question::Read(read) => self.read_told(turn, read, answer),
            Question::Inquiry(looking) => self.inquiry_told(turn, looking, answer),
            Question::Acknowledge(stream) => self.acknowledged(turn, stream),
            Question::Remember { address, keys } => self.remembered(turn, (&address, keys), &answer),
            Question::Recall(address) => self.recalled(turn, address, answer),
        }
    }

    fn append_told(&mut self, turn: &mut Turn<'_>, token: Option<Token>, answer: Answer) {
        let result = match answer {
            Answer::Appended(event) => {
                self.counts.accepted[event.class.index()] += 1;
                self.counts.appended += 1;
                Ok(self.appended(turn, event))
            }
            Answer::Repeated(position) => {
                self.counts.repeated += 1;
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
            Answer::Failed(Failure::Refused) => {
                self.counts.appends_failed += 1;
                Err(Refusal::NotStored { retry_after_ms: STORE_RETRY.as_millis() as u32 })
            }
            // An answer to another question tells nothing of this one.
            Answer::Failed(Failure::Unavailable)
            | Answer::Head(_)
            | Answer::Page(_)
            | Answer::Acknowledged(_)
            | Answer::Remembered
            | Answer::Recalled(_) => {
                self.counts.appends_failed += 1;
                Err(Refusal::OutcomeUnknown)
            }
        };
        if let Some(token) = token {
            turn.out.push(Output::Answer { token, result });
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

    /// What every instance hears: this one alone stores it, or each delivers it to its own.
    pub(super) fn foreign(&mut self, turn: &mut Turn<'_>, mut event: Event, ingests: bool) {
        event.target = classify::resolve(event.target);
        if !self.sequencer.stores(&event) {
            return self.heard_unstored(turn, event, ingests);
        }
        if ingests && let Verdict::Store(append) = self.sequencer.judge(turn.now, &mut event, None) {
            self.counts.lost += u64::from(self.store(turn, None, append).is_err());
        }
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
