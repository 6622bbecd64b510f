//! What the two tasks of a shard share, and the end of every turn: outputs, members, flush.

use std::{
    io,
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    ShardParts,
    accept::Listeners,
    connections::{Connections, Expiries, Phase},
    lanes::Lanes,
    pace::Pace,
};
use crate::{
    auth::{Failures, token::Verifier},
    clock::Now,
    config::{Settings, settings::KeepAlive},
    event::{Class, Denial, Event, Position, Refusal, RoomDenial},
    handler::{Body, Handlers, Message, Replies},
    hub::{CustomMessage, CustomTypes, Hub, Input, Output, Purpose, Rejection, ReplayAsk, Report},
    ids::ConnId,
    limits,
    line::{LineDenial, LineRequest},
    mesh::{Receiver, Sender, ToControl, ToShard},
    metrics::ShardCells,
    net::{http::Answer, listener, readiness::Readiness},
    status::Status,
    wire::{close::Close, command::RequestId, deflate::Inflater, frame::FrameLimits},
};

/// [`limits::CONTROL_RETRY`] in milliseconds.
const RETRY_AFTER_MS: u32 = limits::CONTROL_RETRY.as_millis() as u32;

/// A shard between two turns.
pub(super) struct Shard {
    pub(super) settings: Arc<Settings>,
    pub(super) status: Arc<Status>,
    pub(super) cells: Arc<ShardCells>,
    pub(super) verifier: Arc<Verifier>,
    /// What `/.well-known/jwks.json` says.
    pub(super) jwks: Arc<str>,
    /// `None`: failed authentications are not limited.
    pub(super) failures: Option<Failures>,
    /// Who joined queues and cannot be told from others, by address, as a failure would be; `None`: that is not limited.
    pub(super) newcomers: Option<Failures>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) frame_limits: FrameLimits,
    pub(super) hub: Hub,
    pub(super) connections: Connections,
    pub(super) listeners: Listeners,
    /// Sockets whose handshake can go on; for the handshakes task.
    pub(super) lanes: Lanes,
    pub(super) handshake_expiries: Expiries,
    /// Messages of which a part came, each by its number.
    pub(super) message_expiries: Expiries<(ConnId, u32)>,
    /// Sockets that are finishing or lingering.
    pub(super) closing_expiries: Expiries,
    /// As `closing_expiries` while draining, and newcomers; connections that cannot take what they should get are left
    /// out of it.
    pub(super) parting_expiries: Expiries,
    /// Sockets with more to read that no event will tell of.
    pub(super) unread: Vec<ConnId>,
    /// One read of one socket; [`limits::SCRATCH_BYTES`].
    pub(super) scratch: Vec<u8>,
    /// What it decrypted to.
    pub(super) plain: Vec<u8>,
    /// Inflates for all connections, one message at a time; `None`: compression is off.
    pub(super) inflater: Option<Inflater>,
    pub(super) outputs: Vec<Output>,
    pub(super) pace: Pace,
    handlers: Handlers,
    pub(super) control: Sender<ToControl>,
    lagging: Arc<AtomicBool>,
    dirty: Vec<ConnId>,
    /// When everybody must be gone, monotonic nanoseconds; `None`: not draining.
    pub(super) drain_deadline: Option<u64>,
    /// Control knows that nobody is left.
    pub(super) drained_told: bool,
}

impl Shard {
    /// Binds the listeners and builds the rest; the parts that the driver waits on are handed back.
    pub(super) fn build(parts: ShardParts) -> io::Result<(Self, Receiver<ToShard>, Readiness)> {
        let readiness = Readiness::new(&parts.bell)?;
        let mut sockets: Vec<(TcpListener, bool)> = vec![(listener::listen(parts.ws)?, false)];
        if let Some(wss) = parts.wss {
            sockets.push((listener::listen(wss)?, true));
        }
        let listeners = Listeners::open(sockets, &readiness)?;
        let custom = CustomTypes {
            kinds: parts.handlers.kinds().map(Into::into).collect(),
            raw: parts.handlers.takes_raw(),
        };
        let limits = &parts.settings.limits;
        let KeepAlive { read_timeout, write_timeout, .. } = parts.settings.keep_alive;
        let failures = Failures::new(limits.auth_failures_max, limits.auth_failures_window, parts.seed);
        let newcomers = Failures::new(limits.places_max, limits.places_window, parts.seed);
        let shard = Self {
            frame_limits: FrameLimits {
                message_bytes_max: limits.message_bytes_max,
                fragments_max: limits.fragments_max,
            },
            inflater: parts.settings.client.compression.then(Inflater::new),
            hub: Hub::new(parts.id, parts.settings.clone(), parts.cells.clone(), custom, parts.seed),
            pace: Pace::new(parts.cells.clone()),
            settings: parts.settings,
            status: parts.status,
            cells: parts.cells,
            verifier: parts.verifier,
            jwks: parts.jwks,
            failures,
            newcomers,
            tls: parts.tls,
            connections: Connections::new(parts.id),
            listeners,
            lanes: Lanes::default(),
            handshake_expiries: Expiries::new(read_timeout.min(limits::HANDSHAKE_TIME_MAX)),
            message_expiries: Expiries::new(limits::MESSAGE_TIME_MAX),
            closing_expiries: Expiries::new(write_timeout.min(limits::CLOSE_TIME_MAX)),
            parting_expiries: Expiries::new(limits::DRAIN_CLOSE_TIME_MAX),
            unread: Vec::new(),
            scratch: vec![0; limits::SCRATCH_BYTES],
            plain: Vec::new(),
            outputs: Vec::new(),
            handlers: parts.handlers,
            control: parts.control,
            lagging: parts.lagging,
            dirty: Vec::new(),
            drain_deadline: None,
            drained_told: false,
        };
        Ok((shard, parts.mailbox, readiness))
    }

    /// One message from control.
    pub(super) fn take(&mut self, now: Now, message: ToShard) {
        let input = match message {
            ToShard::Deliver(event) => {
                return self.hub.handle(now, Input::Deliver(&event), &mut self.outputs);
            }
            ToShard::Admitted { conn, position } => Input::Admitted { conn, position },
            ToShard::Denied { conn, denial, retry_after_ms } => {
                Input::Denied { conn, denial, retry_after_ms }
            }
            ToShard::Published { conn, request, outcome } => Input::Published { conn, request, outcome },
            ToShard::Disconnect { user } => Input::Disconnect { user },
            ToShard::JoinDecided { conn, attempt, outcome } => Input::JoinDecided { conn, attempt, outcome },
            ToShard::Latest { conn, values } => Input::Latest { conn, values },
            ToShard::RoomCount { room, others } => Input::RoomCount { room, others },
            ToShard::Replay { conn, page } => Input::Replay { conn, page },
            ToShard::Resync { position, lost } => Input::Resync { position, lost },
            ToShard::Line(update) => {
                return self.hub.handle(now, Input::Line(&update), &mut self.outputs);
            }
            ToShard::PlaceNews(news) => {
                return self.hub.handle(now, Input::PlaceNews(&news), &mut self.outputs);
            }
            ToShard::Seated(seated) => Input::Seated(seated),
            ToShard::LineDenied { conn, request, leave, denial } => {
                Input::LineDenied { conn, request, leave, denial }
            }
            ToShard::Certificate(config) => {
                self.tls = Some(config);
                return;
            }
            ToShard::Keys(verifier) => {
                self.verifier = verifier;
                return;
            }
            ToShard::PassKeys(jwks) => {
                self.jwks = jwks;
                return;
            }
            ToShard::Drain { within } => return self.drain(now, within),
            ToShard::SendAway { count, return_ms } => Input::SendAway { count, return_ms },
        };
        self.hub.handle(now, input, &mut self.outputs);
    }

    /// The end of a turn: nothing that happened in it waits for the next one.
    pub(super) fn finish_turn(&mut self, now: Now) {
        loop {
            self.settle(now);
            self.ask_replays(now);
            // Before anything is flushed: who reads "joined" may rely on control knowing it.
            self.report();
            self.hub.take_dirty(&mut self.dirty);
            if self.dirty.is_empty() {
                break;
            }
            let mut dirty = std::mem::take(&mut self.dirty);
            for conn in dirty.drain(..) {
                self.flush(now, conn);
            }
            self.dirty = dirty;
        }
        self.cells
            .handshaking
            .set((self.connections.len() - self.hub.len().min(self.connections.len())) as u64);
        for (cell, waiting) in self.cells.handshakes_waiting.iter().zip(self.lanes.waiting()) {
            cell.set(waiting as u64);
        }
        self.finish_drain(now);
    }

    /// When the driver must look again at the latest, monotonic nanoseconds.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let drain = self.drain_deadline.filter(|_| !self.drained_told);
        let candidates = [
            self.hub.next_deadline(),
            self.handshake_expiries.next(),
            self.message_expiries.next(),
            self.closing_expiries.next(),
            self.parting_expiries.next(),
            self.listeners.resume_at(),
            drain,
        ];
        candidates.into_iter().flatten().min()
    }

    pub(super) fn report(&mut self) {
        let Self { hub, control, lagging, .. } = self;
        if !hub.reports_pending() && !lagging.load(Ordering::Relaxed) {
            return;
        }
        hub.take_reports(&mut |report| {
            let message = match report {
                Report::Members { address, count } => ToControl::Members { address, count },
                Report::Present { room, user, present, conn } => {
                    ToControl::Present { room, user, present, conn }
                }
                Report::Waiting { event_id, holder, connections } => {
                    ToControl::Waiting { event_id, holder, connections }
                }
                Report::LineLost { event_id } => ToControl::LineLost { event_id },
            };
            control.try_send(message).is_ok()
        });
        // Pairs with control's load: what was reported before is in its mailbox already.
        lagging.store(hub.reports_pending(), Ordering::Release);
    }

    fn ask_replays(&mut self, now: Now) {
        let Self { hub, control, outputs, .. } = self;
        hub.take_replay_asks(now, outputs, &mut |ask| control.try_send(replay_message(ask)).is_ok());
    }

    /// Carries out what the hub asked, until it asks no more.
    pub(super) fn settle(&mut self, now: Now) {
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                self.apply(now, output);
            }
        }
    }

    fn apply(&mut self, now: Now, output: Output) {
        match output {
            Output::Admit { conn, user, user_connections } => {
                self.ask_admission(now, conn, user, user_connections)
            }
            Output::Join { conn, attempt, room, members, newcomer } => {
                self.ask_to_join(now, ToControl::Join { conn, attempt, room, members, newcomer });
            }
            Output::Entered { conn, room } => {
                let lost = self.control.try_send(ToControl::Entered { conn, room }).is_err();
                self.cells.latest_unasked.add(u64::from(lost));
            }
            Output::Upgrade { conn } => self.upgrade(conn),
            Output::Reject { conn, status, retry_after_s } => {
                let reason = if status == 429 { "too many connections of this user" } else { "overloaded" };
                self.answer(now, conn, &Answer::retry(status, reason, retry_after_s));
            }
            Output::Verify { conn, purpose, request, token } => {
                self.verify(now, conn, purpose, request, &token)
            }
            Output::Custom { conn, user, request, message } => {
                self.run_handler(now, conn, user.as_deref(), request, &message);
            }
            Output::Publish { conn, request, event } => self.publish(now, conn, request, event),
            Output::JoinLine(request) => self.join_line(now, request),
            Output::LeaveLine(request) => self.ask_line(now, ToControl::LeaveLine(request)),
            Output::SentAway { conn } => self.parting_expiries.start(now.mono_ns, conn),
            Output::Acknowledge { stream, epoch, offset } => {
                let lost = self.control.try_send(ToControl::Acknowledge { stream, epoch, offset }).is_err();
                self.cells.acks_dropped.add(u64::from(lost));
            }
            Output::Shutdown { conn } => self.finish(now, conn),
        }
    }

    fn ask_admission(&mut self, now: Now, conn: ConnId, user: Arc<str>, user_connections: u32) {
        if self.control.try_send(ToControl::Admit { conn, user, user_connections }).is_err() {
            let denied = Input::Denied { conn, denial: Denial::Overloaded, retry_after_ms: RETRY_AFTER_MS };
            self.hub.handle(now, denied, &mut self.outputs);
        }
    }

    fn ask_to_join(&mut self, now: Now, join: ToControl) {
        if let Err(ToControl::Join { conn, attempt, .. }) = self.control.try_send(join) {
            let outcome = Err(RoomDenial::Overloaded { retry_after_ms: RETRY_AFTER_MS });
            self.hub.handle(now, Input::JoinDecided { conn, attempt, outcome }, &mut self.outputs);
        }
    }

    pub(super) fn ask_line(&mut self, now: Now, message: ToControl) {
        let Err(message) = self.control.try_send(message) else { return };
        let leave = matches!(message, ToControl::LeaveLine(_));
        if let ToControl::JoinLine(request) | ToControl::LeaveLine(request) = message {
            let denial = LineDenial::Overloaded { retry_after_ms: RETRY_AFTER_MS };
            let LineRequest { conn, request, .. } = *request;
            let denied = Input::LineDenied { conn, request, leave, denial };
            self.hub.handle(now, denied, &mut self.outputs);
        }
    }

    /// Puts the 101 before the frames that the hub queued.
    fn upgrade(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if let Phase::Admission(response) = std::mem::replace(&mut connection.phase, Phase::Open) {
            connection.unsent = Some(response);
            self.cells.upgraded.add(1);
            self.cells.upgraded_deflate.add(u64::from(connection.deflate.is_some()));
            if connection.ended {
                // Nothing tells of the end again.
                self.unread.push(conn);
            }
            self.dirty.push(conn);
        }
    }

    fn verify(&mut self, now: Now, conn: ConnId, purpose: Purpose, request: Option<RequestId>, token: &str) {
        let result = match self.may_try(now, conn) {
            Err(wait_ns) => Err(Rejection::TooManyFailures { retry_after_ms: wait_ns.div_ceil(1_000_000) }),
            Ok(()) => {
                let verified = match purpose {
                    Purpose::Login => self.verifier.verify(token, now),
                    Purpose::Refresh => self.verifier.verify_refresh(token, now),
                };
                match &verified {
                    Ok(_) => self.cells.auth_accepted.add(1),
                    Err(error) => self.count_refusal(now, conn, error),
                }
                verified.map_err(|error| Rejection::Refused(error.to_string()))
            }
        };
        self.hub.handle(now, Input::Verified { conn, purpose, request, result }, &mut self.outputs);
    }

    fn run_handler(
        &mut self,
        now: Now,
        conn: ConnId,
        user: Option<&str>,
        request: Option<RequestId>,
        message: &CustomMessage,
    ) {
        let body = match message {
            CustomMessage::Typed { kind, payload } => Body::Typed { kind, payload },
            CustomMessage::Text(text) => Body::Text(text),
            CustomMessage::Binary(bytes) => Body::Binary(bytes),
        };
        let mut replies = Replies::default();
        let run = AssertUnwindSafe(|| self.handlers.run(Message { conn, user, body }, &mut replies));
        if catch_unwind(run).is_err() {
            self.cells.handler_panics.add(1);
            let close = Close::Internal;
            return self.hub.handle(now, Input::Violation { conn, close }, &mut self.outputs);
        }
        for reply in replies.list {
            self.hub.handle(now, Input::Reply { conn, request: request.clone(), reply }, &mut self.outputs);
        }
    }

    fn publish(&mut self, now: Now, conn: ConnId, request: Option<RequestId>, event: Event) {
        let message = ToControl::Publish { conn, request, event: Box::new(event) };
        let Err(ToControl::Publish { request, event, .. }) = self.control.try_send(message) else { return };
        if request.is_some() || event.class != Class::Ephemeral {
            let outcome = Err(Refusal::Overloaded { retry_after_ms: RETRY_AFTER_MS });
            self.hub.handle(now, Input::Published { conn, request, outcome }, &mut self.outputs);
        }
    }
}

fn replay_message(ask: ReplayAsk) -> ToControl {
    match ask {
        ReplayAsk::Begin { conn, user, resume } => ToControl::Resume { conn, user, resume: Box::new(resume) },
        ReplayAsk::More { conn, after: Position { stream, epoch, offset } } => {
            ToControl::ReplayMore { conn, stream, epoch, after: offset }
        }
    }
}
