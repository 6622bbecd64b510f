//! The handle through which everything enters the control core: gRPC, the admin pages, embedding programs.
//!
//! Owns the checks of what callers bring. Never routes: it hands calls to the control loop through one bounded
//! queue and waits for the answer. Cheap to clone, usable from any thread and any async runtime.

mod checks;
mod inquiries;
mod queues;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use self::checks::{check_length, check_payload, check_target, check_user};
pub use self::{
    inquiries::{HistoryQuery, InquiryError},
    queues::QueueError,
};
use crate::{
    auth::{SigningKeys, Verifier},
    clock::Now,
    control::passes::Drawn,
    event::{Address, Class, Event, Form, Pushed, Receipt, Refusal, Target},
    limits::{CALLS_MAX, IDEMPOTENCY_KEY_BYTES_MAX, KIND_BYTES_MAX, LISTED_ROOMS_MAX, OVERLOAD_RETRY},
    metrics::QueueSample,
    route::{
        Connections, Inquiry, NoReport, Report, classify,
        lines::io::{Denied, View},
    },
    sale::command::Command,
};

/// One thing that somebody asks of the control loop.
#[derive(Debug)]
pub enum Call {
    /// Route an event.
    Publish {
        /// What, checked.
        event: Event,
        /// The caller's key for repeats.
        idempotency_key: Option<Arc<str>>,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Receipt, Refusal>>,
    },
    /// Route many Latest values.
    Push {
        /// What, checked.
        events: Vec<Event>,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<Pushed, Refusal>>,
    },
    /// End a user's connections.
    Disconnect {
        /// Whose.
        user: Arc<str>,
        /// Gets the number of connections.
        reply: oneshot::Sender<Result<u32, Refusal>>,
    },
    /// Do something with a queue, or look at it.
    Operate {
        /// Of which event.
        event_id: Arc<str>,
        /// Which of its queues, by when it began; `None`: whichever it has.
        run: Option<u64>,
        /// What, checked; `None`: a look.
        command: Option<Command>,
        /// Gets the queue as it is then.
        reply: oneshot::Sender<Result<Box<View>, Denied>>,
    },
    /// Tell who was in the pre-queue.
    Drawn {
        /// Of which event.
        event_id: Arc<str>,
        /// Gets the shuffle, once it was drawn; `None`: it is not being drawn, or too many wait for it.
        reply: oneshot::Sender<Option<Arc<Drawn>>>,
    },
    /// Count.
    Stats {
        /// Rooms to list, the largest ones.
        rooms_max: usize,
        /// Gets the counts.
        reply: oneshot::Sender<Stats>,
    },
    /// Look into a stream.
    Inquire {
        /// Which, and what of it.
        inquiry: Inquiry,
        /// Gets what is known.
        reply: oneshot::Sender<Result<Report, NoReport>>,
    },
    /// Count the connections of a user or room.
    Presence {
        /// Whose.
        address: Address,
        /// Gets the counts.
        reply: oneshot::Sender<Result<Connections, NoReport>>,
    },
    /// Use this certificate for handshakes from now on.
    Certificate(Arc<rustls::ServerConfig>),
    /// Verify tokens with these keys from now on.
    Keys(Arc<Verifier>),
    /// Sign passes and receipts with these keys from now on.
    PassKeys(Arc<SigningKeys>),
    /// Every shard accepts: tell whoever watches the gateway's health.
    Started {
        /// Told when they know.
        reply: oneshot::Sender<()>,
    },
    /// Begin the graceful stop; while it is under way: hurry; then: stop at once.
    Shutdown,
    /// Another process serves at the same addresses: begin the graceful stop without delay.
    TakenOver,
}

/// A handle on a running gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    calls: mpsc::Sender<Call>,
}

/// Something to send.
#[derive(Clone, Debug)]
pub struct Publication {
    /// To whom. The room `user:<id>` is that user.
    pub target: Target,
    /// The type that clients see; 1 to 128 bytes.
    pub kind: Arc<str>,
    /// One JSON value, at most 256 KiB; passed on byte for byte.
    pub payload: Bytes,
    /// `None`: by type (03 §4a).
    pub class: Option<Class>,
    /// Of a Latest value: a lower version never replaces a higher one. `None`: the newest arrival wins.
    pub version: Option<u64>,
    /// A repeated publication with the same key gets the first answer for five minutes; at most 256 bytes.
    pub idempotency_key: Option<String>,
    pub(crate) origin: Origin,
}

/// Where a payload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller, who calls it so: it is checked.
    Caller(&'static str),
    /// The gateway wrote it, of fields: it is JSON.
    Fields,
}

impl Publication {
    /// To a target, class by type, without version and key.
    pub fn new(target: Target, kind: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self {
            target,
            kind: kind.into(),
            payload: payload.into(),
            class: None,
            version: None,
            idempotency_key: None,
            origin: Origin::Caller("payload"),
        }
    }

    /// Checks everything and makes the event of it.
    fn check(self, now: Now) -> Result<(Event, Option<Arc<str>>), PublishError> {
        check_target(&self.target)?;
        check_length("event_type", &self.kind, 1..=KIND_BYTES_MAX)?;
        check_payload(self.origin, &self.payload)?;
        if let Some(key) = &self.idempotency_key {
            check_length("idempotency_key", key, 0..=IDEMPOTENCY_KEY_BYTES_MAX)?;
        }
        let target = classify::resolve(self.target);
        let class = self.class.unwrap_or_else(|| classify::class_of(&self.kind, &target, &self.payload));
        let event = Event {
            target,
            kind: self.kind,
            payload: self.payload,
            form: Form::Payload,
            class,
            version: self.version,
            position: None,
            except: None,
            accepted_at_ns: now.mono_ns,
        };
        Ok((event, self.idempotency_key.filter(|key| !key.is_empty()).map(Arc::from)))
    }
}

/// Why something was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The caller's mistake: repeating helps nobody.
    #[error("`{field}` {problem}")]
    Invalid {
        /// Its name in the gRPC requests.
        field: &'static str,
        /// What it must be.
        problem: String,
    },
    /// The gateway's reason.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl PublishError {
    /// A field that does not fit.
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }
}

/// Who is connected to this instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open connections.
    pub connections: u32,
    /// Open connections of users.
    pub authenticated: u32,
    /// Users with a connection.
    pub users: u32,
    /// Rooms with a member.
    pub room_count: u32,
    /// The largest rooms with their members, largest first.
    pub rooms: Vec<(Arc<str>, u32)>,
    /// Open connections by shard.
    pub per_core: Vec<u32>,
    /// Waiting rooms, by event.
    pub queues: Vec<QueueSample>,
}

impl Gateway {
    /// A handle, and the queue behind it for [`crate::control::ControlParts`].
    pub fn channel() -> (Self, mpsc::Receiver<Call>) {
        let (calls, receiver) = mpsc::channel(CALLS_MAX);
        (Self { calls }, receiver)
    }

    /// Sends an event to its target.
    ///
    /// # Errors
    /// A field that does not fit, or the gateway's refusal: nothing was stored and nothing sent then.
    pub async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        self.submit(publication)?.await
    }

    /// As [`Gateway::publish`], with the outcome for later. What is submitted first is routed first.
    ///
    /// # Errors
    /// As [`Gateway::publish`].
    pub(crate) fn submit(&self, publication: Publication) -> Result<Submitted, PublishError> {
        let (event, idempotency_key) = publication.check(Now::read())?;
        let (reply, answer) = oneshot::channel();
        self.hand_over(Call::Publish { event, idempotency_key, reply })?;
        Ok(Submitted(answer))
    }

    /// Checks a publication for [`Gateway::push`].
    ///
    /// # Errors
    /// A field that does not fit.
    pub(crate) fn check(now: Now, publication: Publication) -> Result<Event, PublishError> {
        publication.check(now).map(|(event, _)| event)
    }

    /// Sends many Latest values to their targets, one after another. Waits for room in the queue.
    ///
    /// # Errors
    /// The gateway's refusal of all of them.
    pub(crate) async fn push(&self, events: Vec<Event>) -> Result<Pushed, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Push { events, reply }).await.map_err(|_| Refusal::Draining)?;
        answer.await.unwrap_or(Err(Refusal::Draining))
    }

    /// Sends an event to all connections of a user.
    ///
    /// # Errors
    /// As [`Gateway::publish`].
    pub async fn send_to_user(
        &self,
        user: &str,
        kind: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, PublishError> {
        self.publish(Publication::new(Target::User(user.into()), kind, payload)).await
    }

    /// Sends an event to all members of a room.
    ///
    /// # Errors
    /// As [`Gateway::publish`].
    pub async fn broadcast(
        &self,
        room: &str,
        kind: &str,
        payload: impl Into<Bytes>,
    ) -> Result<Receipt, PublishError> {
        self.publish(Publication::new(Target::Room(room.into()), kind, payload)).await
    }

    /// Closes all connections of a user with 4401; how many there were.
    ///
    /// # Errors
    /// A user id that does not fit, or the gateway's refusal.
    pub async fn disconnect_user(&self, user: &str) -> Result<u32, PublishError> {
        check_user(user)?;
        let (reply, answer) = oneshot::channel();
        self.hand_over(Call::Disconnect { user: user.into(), reply })?;
        Ok(answer.await.unwrap_or(Err(Refusal::Draining))?)
    }

    /// Counts who is connected, with the 1 000 largest rooms.
    ///
    /// # Errors
    /// The gateway's refusal.
    pub async fn stats(&self) -> Result<Stats, Refusal> {
        self.stats_with(LISTED_ROOMS_MAX).await
    }

    /// As [`Gateway::stats`], with so many rooms at most.
    pub(crate) async fn stats_with(&self, rooms_max: usize) -> Result<Stats, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(Call::Stats { rooms_max, reply })?;
        answer.await.map_err(|_| Refusal::Draining)
    }

    /// Gives every shard a certificate for handshakes from now on. Waits for room in the queue.
    pub async fn use_certificate(&self, config: Arc<rustls::ServerConfig>) {
        // Without a control loop there are no handshakes either.
        let _stopped = self.calls.send(Call::Certificate(config)).await;
    }

    /// Gives every shard the keys that verify tokens from now on. Waits for room in the queue.
    pub async fn use_keys(&self, verifier: Arc<Verifier>) {
        // Without a control loop there are no tokens either.
        let _stopped = self.calls.send(Call::Keys(verifier)).await;
    }

    /// Signs passes and receipts with these keys from now on, and publishes them. Waits for room in the queue.
    pub async fn use_pass_keys(&self, keys: Arc<SigningKeys>) {
        // Without a control loop nothing is signed either.
        let _stopped = self.calls.send(Call::PassKeys(keys)).await;
    }

    /// Tells that every shard accepts. Blocks until the control loop knows, or has ended.
    pub(crate) fn started(&self) {
        let (reply, known) = oneshot::channel();
        if self.calls.blocking_send(Call::Started { reply }).is_ok() {
            // Without an answer the loop has ended, which `Running::wait` tells.
            known.blocking_recv().ok();
        }
    }

    /// Begins the graceful stop. Called again, it sends everybody away at once; a third time, it waits for nobody. Waits
    /// for room in the queue, not for the end.
    pub async fn shutdown(&self) {
        // Without a control loop it has ended already.
        let _stopped = self.calls.send(Call::Shutdown).await;
    }

    /// Tells that another process serves at the same addresses. Waits for room in the queue.
    pub(crate) async fn taken_over(&self) {
        // As above.
        let _stopped = self.calls.send(Call::TakenOver).await;
    }

    fn hand_over(&self, call: Call) -> Result<(), Refusal> {
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 }
            }
            mpsc::error::TrySendError::Closed(_) => Refusal::Draining,
        })
    }
}

/// A publication that is on its way; its outcome, once it is decided.
#[derive(Debug)]
pub(crate) struct Submitted(oneshot::Receiver<Result<Receipt, Refusal>>);

impl Future for Submitted {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let decided = Pin::new(&mut self.0).poll(cx);
        decided.map(|decided| Ok(decided.unwrap_or(Err(Refusal::Draining))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{EVENT_BYTES_MAX, USER_ID_BYTES_MAX};

    fn to_room(room: &str) -> Publication {
        Publication::new(Target::Room(room.into()), "ticket:sold", "{}")
    }

    fn to_user(user: &str) -> Publication {
        Publication::new(Target::User(user.into()), "booking:confirmed", "{}")
    }

    #[test]
    fn a_publication_that_does_not_fit_names_its_field() {
        let kind = Publication { kind: "k".repeat(129).into(), ..to_user("a") };
        let no_kind = Publication { kind: "".into(), ..to_user("a") };
        let key = Publication { idempotency_key: Some("k".repeat(257)), ..to_user("a") };
        let not_json = Publication { payload: Bytes::from_static(b"{]"), ..to_user("a") };
        let not_text = Publication { payload: Bytes::from_static(b"\"\xff\""), ..to_user("a") };
        let big = Publication { payload: vec![b' '; EVENT_BYTES_MAX + 1].into(), ..to_user("a") };
        let table = [
            (to_user(""), "user_id"),
            (to_user(&"u".repeat(USER_ID_BYTES_MAX + 1)), "user_id"),
            (to_user("a\nb"), "user_id"),
            (to_room(""), "room"),
            (to_room("two words"), "room"),
            (kind, "event_type"),
            (no_kind, "event_type"),
            (key, "idempotency_key"),
            (not_json, "payload"),
            (not_text, "payload"),
            (big, "payload"),
        ];
        for (publication, expected) in table {
            match publication.clone().check(Now::read()) {
                Err(PublishError::Invalid { field, .. }) => assert_eq!(field, expected),
                other => panic!("{publication:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn a_class_is_by_type_unless_the_caller_names_one() {
        let (event, _) = to_user("a").check(Now::read()).unwrap();
        assert_eq!(event.class, Class::Critical);
        let (event, _) =
            Publication { class: Some(Class::Ephemeral), ..to_user("a") }.check(Now::read()).unwrap();
        assert_eq!(event.class, Class::Ephemeral);
    }

    #[test]
    fn an_empty_idempotency_key_is_none() {
        let publication = Publication { idempotency_key: Some(String::new()), ..to_user("a") };
        assert_eq!(publication.check(Now::read()).unwrap().1, None);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_closed_one_says_so() {
        let (calls, receiver) = mpsc::channel(1);
        let gateway = Gateway { calls };
        gateway.shutdown().await;
        assert!(matches!(gateway.stats().await, Err(Refusal::Overloaded { .. })));
        drop(receiver);
        assert_eq!(gateway.stats().await, Err(Refusal::Draining));
    }
}
