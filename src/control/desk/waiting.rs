//! The desk's part in waiting rooms: what shards, operators and the store say goes in, what comes out is sent on.
//!
//! Owns the passes that wait for their signatures; [`super::untold`] those that the store may not have. Never decides
//! anything about a queue: [`crate::route::lines`] does.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    Desk, Link, ReplyTo, give,
    receipts::Receipts,
    untold::{self, Pass, Untold},
};
use crate::{
    clock::Now,
    control::passes::Draw,
    event::{Class, Event, Form, Target},
    ids::ShardId,
    limits::{LINE_WAITING_MAX, OVERLOAD_RETRY, SIGN_BATCH_MAX, STORE_RETRY},
    line::{LineDenial, LineRequest, PlaceNews, Seated},
    mesh::ToShard,
    metrics::{QUEUE_REFUSALS, QueueSample},
    route::lines::{
        Lines,
        io::{Admission, Denied, Input, Output, View},
    },
    sale::{
        command::Command,
        pass::{self, Claims, USER_PREFIX, anonymous_holder},
        queue::{Queue, Refusal, Stats},
    },
    stream::names::Subject,
};

/// The waiting rooms, and what is under way for them.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) lines: Lines,
    issuer: Box<str>,
    random: SystemRandom,
    /// Scratch: empty between two turns.
    outputs: Vec<Output>,
    pub(super) receipts: Receipts,
    /// Passes that wait to be signed.
    grants: VecDeque<Grant>,
    /// Passes of users, until the store has them.
    pub(super) untold: Untold,
    /// Passes that are being signed, in order.
    signing: VecDeque<(oneshot::Receiver<Vec<String>>, Vec<Grant>)>,
}

/// Where a pass goes.
#[derive(Debug)]
enum Grant {
    /// Into the user's stream.
    User(Pass),
    /// To the connections of who is anonymous.
    Anonymous { admission: Admission, shards: Vec<ShardId> },
    /// Along with the answer to a join.
    Seated { admission: Admission, seated: Box<Seated> },
}

impl Grant {
    fn admission(&self) -> &Admission {
        match self {
            Self::User(Pass { admission, .. })
            | Self::Anonymous { admission, .. }
            | Self::Seated { admission, .. } => admission,
        }
    }
}

/// Passes with whom they are for; `None`: the library failed, which the thread has logged.
#[derive(Debug)]
pub(in crate::control) struct Signed(Vec<(Grant, Option<String>)>);

impl Waiting {
    pub(super) fn new(lines: Lines, issuer: &str) -> Self {
        Self {
            lines,
            issuer: issuer.into(),
            random: SystemRandom::new(),
            outputs: Vec::new(),
            receipts: Receipts::default(),
            grants: VecDeque::new(),
            untold: Untold::default(),
            signing: VecDeque::new(),
        }
    }

    /// The next passes that were signed.
    pub(super) fn poll_signed(&mut self, cx: &mut Context<'_>) -> Poll<Signed> {
        self.receipts.poll(cx);
        let Some((answer, _)) = self.signing.front_mut() else { return Poll::Pending };
        let Poll::Ready(passes) = std::pin::Pin::new(answer).poll(cx) else { return Poll::Pending };
        let grants = self.signing.pop_front().map(|(_, grants)| grants).unwrap_or_default();
        let passes = passes.unwrap_or_default().into_iter().map(Some).chain(std::iter::repeat(None));
        Poll::Ready(Signed(grants.into_iter().zip(passes).collect()))
    }
}

impl Desk {
    /// `queue:join`, `queue:leave`.
    pub(super) fn ask_line(&mut self, now: Now, asked: Box<LineRequest>, leave: bool) {
        let places = self.signer.places();
        let event_id = &asked.event_id;
        // To leave the place that one stands in needs no token, and it may be another than the user's.
        let is_named = asked.user.is_none() && asked.place_token.is_some();
        let own = asked.stands_as.as_ref().filter(|_| leave && !is_named);
        let held = match (own, &asked.user, &asked.place_token) {
            (Some(holder), ..) => Ok((holder.to_string(), None)),
            (None, Some(user), _) => Ok((format!("{USER_PREFIX}{user}"), None)),
            (None, None, Some(token)) => match places.holder(event_id, token) {
                Some(holder) => Ok((holder, Some(token.clone()))),
                None => Err(LineDenial::BadToken),
            },
            (None, None, None) if leave => Err(LineDenial::NotIn),
            (None, None, None) => {
                let known = asked.stands_as.as_deref().and_then(pass::anonymous_id);
                let id = known.or_else(|| {
                    let mut id = pass::AnonymousId::default();
                    self.waiting_rooms.random.fill(&mut id).ok().map(|()| id)
                });
                let token = id.and_then(|id| Some((id, places.token(event_id, &id)?)));
                let overloaded = LineDenial::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 };
                token.map(|(id, token)| (anonymous_holder(&id), Some(token.into()))).ok_or(overloaded)
            }
        };
        match held {
            Ok((holder, _)) if leave => self.lines_input(now, Input::Leave { holder: holder.into(), asked }),
            Ok((holder, place_token)) => {
                self.lines_input(now, Input::Join { holder: holder.into(), place_token, asked });
            }
            Err(denial) => self.deny_line(*asked, leave, denial),
        }
    }

    /// How all queues stand.
    pub(super) fn queue_samples(&self) -> Vec<QueueSample> {
        let sample = |queue: &Queue| {
            let Stats {
                total,
                waiting,
                departed,
                left,
                admitted,
                holding,
                inside,
                expired,
                completed,
                abandoned,
            } = queue.stats();
            QueueSample {
                event_id: Arc::clone(queue.event_id()),
                serving: queue.serving(),
                total,
                admitted,
                places: [waiting, departed, left, holding, inside, expired, completed, abandoned],
                log_bytes: self.waiting_rooms.lines.log_bytes(queue.event_id()) as u64,
            }
        };
        self.waiting_rooms.lines.queues().iter().map(sample).collect()
    }

    /// Writes down what waiting rooms count.
    pub(super) fn measure_lines(&self) {
        let (cells, lines) = (&self.status.control.queues, &self.waiting_rooms.lines);
        let counts = lines.counts();
        cells.followed.set(lines.queues().iter().count() as u64);
        cells.lost.set(lines.lost_count() as u64);
        cells.entries_written.set(counts.written);
        cells.entries_applied.set(counts.applied);
        cells.entries_unreadable.set(counts.unreadable);
        cells.lines_missed.set(counts.missed);
        let untold = &self.waiting_rooms.untold;
        let untold::Counts { stored, failed, over, dropped } = untold.counts();
        cells.passes_untold.set(untold.len() as u64);
        for (cell, count) in cells.passes.iter().zip([stored, failed, over, dropped]) {
            cell.set(count);
        }
    }

    fn count_refusal(&self, reason: &str) {
        if let Some(index) = QUEUE_REFUSALS.iter().position(|known| *known == reason) {
            self.status.control.queues.refused[index].add(1);
        }
    }

    pub(super) fn deny_line(&mut self, asked: LineRequest, leave: bool, denial: LineDenial) {
        self.count_refusal(match denial {
            LineDenial::Unknown => "no_queue",
            LineDenial::Over => "over",
            LineDenial::Full => "full",
            LineDenial::TooManyPlaces => "too_many_places",
            LineDenial::Lost => "lost",
            LineDenial::BadToken => "bad_token",
            LineDenial::NotIn => "not_in",
            LineDenial::RateLimited { .. } => "rate_limited",
            LineDenial::Overloaded { .. } => "overloaded",
        });
        let LineRequest { conn, request, .. } = asked;
        self.answer_shard(conn.shard(), ToShard::LineDenied { conn, request, leave, denial });
    }

    /// An operator's command, or a look.
    pub(super) fn operate(
        &mut self,
        now: Now,
        (event_id, run): (Arc<str>, Option<u64>),
        command: Option<Command>,
        reply: oneshot::Sender<Result<Box<View>, Denied>>,
    ) {
        let token = self.token(Some(ReplyTo::Operator(reply)));
        self.lines_input(now, Input::Operate { token, event_id, run, command });
    }

    pub(super) fn lines_input(&mut self, now: Now, input: Input) {
        self.waiting_rooms.lines.handle(now, input, &mut self.waiting_rooms.outputs);
        self.apply_lines(now);
    }

    /// Writes what the turn brought, and has passes signed.
    pub(in crate::control) fn flush_lines(&mut self, now: Now) {
        loop {
            let Waiting { lines, outputs, .. } = &mut self.waiting_rooms;
            lines.flush(now, outputs);
            if outputs.is_empty() {
                break;
            }
            self.apply_lines(now);
        }
        self.tell_users(now);
        self.sign();
        self.waiting_rooms.receipts.ask(&self.signer);
    }

    fn apply_lines(&mut self, now: Now) {
        let mut outputs = VecDeque::from(std::mem::take(&mut self.waiting_rooms.outputs));
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Ask { ticket, ask } => {
                    if let Some(answer) = self.backend.ask(now, ticket, ask) {
                        let Waiting { lines, outputs: more, .. } = &mut self.waiting_rooms;
                        lines.handle(now, Input::Answered { ticket, answer }, more);
                        outputs.extend(more.drain(..));
                    }
                }
                Output::Interest { event_id, on } => {
                    if !on {
                        self.waiting_rooms.receipts.forget(&event_id);
                    }
                    self.backend.set_interest(Subject::Queue(event_id), on);
                }
                Output::Opened { event_id, secrets, holders, opened_at_ms } => {
                    let issued_at_s = opened_at_ms / 1_000;
                    self.waiting_rooms.receipts.draw(Draw { event_id, secrets, holders, issued_at_s });
                }
                Output::Line { shard, update } => {
                    let links: &mut [Link] = match shard {
                        Some(shard) => std::slice::from_mut(&mut self.links[shard.index()]),
                        None => &mut self.links,
                    };
                    // A shard that misses one says so.
                    for link in links.iter_mut().filter(|link| !link.is_full()) {
                        link.order(ToShard::Line(Arc::clone(&update)));
                    }
                }
                Output::Seated { mut seated, admission } => {
                    seated.receipt = self.waiting_rooms.receipts.receipt(&seated);
                    match admission {
                        None => self.answer_shard(seated.asked.conn.shard(), ToShard::Seated(seated)),
                        Some(_) if self.waiting_rooms.grants.len() >= LINE_WAITING_MAX => {
                            let retry_after_ms = OVERLOAD_RETRY.as_millis() as u32;
                            self.deny_line(seated.asked, false, LineDenial::Overloaded { retry_after_ms });
                        }
                        Some(admission) => {
                            self.waiting_rooms.grants.push_back(Grant::Seated { admission, seated });
                        }
                    }
                }
                Output::Denied { asked, leave, denial } => self.deny_line(*asked, leave, denial),
                Output::PlaceNews { shard, news } => self.answer_shard(shard, ToShard::PlaceNews(news)),
                Output::Admitted { admission, .. } if admission.holder.starts_with(USER_PREFIX) => {
                    self.waiting_rooms.untold.keep(admission);
                }
                Output::Admitted { admission, shards } => {
                    self.waiting_rooms.grants.push_back(Grant::Anonymous { admission, shards });
                }
                Output::Operated { token, result } => {
                    match &result {
                        Ok(_) => {}
                        Err(Denied::Refused(Refusal::NoQueue)) => self.count_refusal("no_queue"),
                        Err(Denied::Refused(_)) => self.count_refusal("rules"),
                        Err(Denied::Unwritable) => self.count_refusal("overloaded"),
                        Err(Denied::Lost) => self.count_refusal("lost"),
                        Err(Denied::Another) => self.count_refusal("another"),
                    }
                    if let Some(ReplyTo::Operator(reply)) = self.waiting.remove(&token) {
                        give(reply, result);
                    }
                }
            }
        }
    }

    /// Has passes of users signed and stored, as far as that is possible now.
    fn tell_users(&mut self, now: Now) {
        loop {
            let Waiting { lines, untold, grants, .. } = &mut self.waiting_rooms;
            // Who used the pass, left or came anew meanwhile would not know what to do with it.
            let is_good = |admission: &Admission| {
                let queue = lines.queues().get(&admission.event_id);
                let seat = queue.and_then(|queue| queue.seat(&admission.holder));
                seat.is_some_and(|seat| {
                    (seat.number, seat.claim_until_ms)
                        == (Some(admission.place), Some(admission.claim_until_ms))
                })
            };
            let Some(pass) = untold.next(now, is_good) else { return };
            match pass.payload.clone() {
                Some(payload) => self.tell_user(now, pass, payload),
                None => grants.push_back(Grant::User(pass)),
            }
        }
    }

    /// Hands passes to the signing thread, as far as it takes them; the others go with a later turn.
    fn sign(&mut self) {
        let Waiting { issuer, grants, signing, .. } = &mut self.waiting_rooms;
        while !grants.is_empty() {
            let count = grants.len().min(SIGN_BATCH_MAX);
            let claims = grants.iter().take(count).map(|grant| {
                let Admission { event_id, holder, place, admitted_at_ms, claim_until_ms } = grant.admission();
                Claims::of(&pass::Admission {
                    issuer,
                    event_id,
                    holder,
                    place: *place,
                    admitted_at_ms: *admitted_at_ms,
                    claim_until_ms: *claim_until_ms,
                })
            });
            let Ok(answer) = self.signer.sign(claims.collect()) else { return };
            signing.push_back((answer, grants.drain(..count).collect()));
        }
    }

    /// Tells passes.
    pub(super) fn signed(&mut self, now: Now, Signed(passes): Signed) {
        for (grant, pass) in passes {
            let Some(pass) = pass else {
                // Of the others, who joins again has another try.
                if let Grant::User(pass) = grant {
                    self.waiting_rooms.untold.failed(pass, STORE_RETRY);
                }
                continue;
            };
            let Admission { event_id, place, claim_until_ms, .. } = grant.admission();
            let payload = json!({
                "event_id": &**event_id,
                "place": place,
                "pass": pass,
                "claim_until": claim_until_ms,
            });
            let payload = payload.to_string();
            match grant {
                Grant::Seated { mut seated, .. } => {
                    seated.admitted = Some(payload.into());
                    self.answer_shard(seated.asked.conn.shard(), ToShard::Seated(seated));
                }
                Grant::User(pass) => self.tell_user(now, pass, payload.into()),
                Grant::Anonymous { admission, shards } => self.tell_anonymous(&admission, shards, payload),
            }
        }
    }

    fn tell_user(&mut self, now: Now, pass: Pass, payload: Bytes) {
        let Admission { event_id, holder, place, claim_until_ms, .. } = &pass.admission;
        let event = Event {
            target: Target::User(holder.strip_prefix(USER_PREFIX).unwrap_or_default().into()),
            kind: ADMITTED.into(),
            payload: payload.clone(),
            form: Form::Payload,
            class: Class::Critical,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: now.mono_ns,
        };
        // Whichever instance is first; of the others' the store knows the key. While it does, the event may have another queue,
        // and the user another pass for the same place: until another moment.
        let key = format!("queue:{event_id}:{place}:{claim_until_ms}").into();
        let pass = Box::new(Pass { payload: Some(payload), ..pass });
        self.publish(now, event, Some(key), Some(ReplyTo::Pass(pass)));
    }

    fn tell_anonymous(&mut self, admission: &Admission, shards: Vec<ShardId>, payload: String) {
        let news = Arc::new(PlaceNews {
            event_id: Arc::clone(&admission.event_id),
            holder: Arc::clone(&admission.holder),
            kind: ADMITTED.into(),
            payload: payload.into(),
            asked: None,
            leaves: false,
        });
        for shard in shards {
            self.answer_shard(shard, ToShard::PlaceNews(Arc::clone(&news)));
        }
    }
}

const ADMITTED: &str = "queue:admitted";
