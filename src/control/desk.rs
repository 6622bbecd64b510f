//! The control loop's hands: mail and calls into the router, its outputs out to shards and callers.
//!
//! Owns the router and the links. No `async`: everything here happens at once. Invariant: between two calls into
//! the router all its outputs were applied, so that a view of the mailboxes is never out of date.

mod gauges;
mod inquiries;
mod outside;
mod receipts;
mod stopping;
mod untold;
mod waiting;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::Context,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    clock::Now,
    config::{Settings, settings::Shutdown},
    control::{
        backend::Backend,
        desk::{untold::Pass, waiting::Waiting},
        gateway::{Call, Stats},
        leaving::{Order, Phase},
        link::{Link, ShardLink},
        passes::Signer,
        target::Target,
    },
    event::{Class, Event, Position, Pushed, Receipt, Refusal},
    ids::{ConnId, ShardId},
    limits::OVERLOAD_RETRY,
    mesh::{ToControl, ToShard},
    route::{
        Connections, Input, NoReport, Output, Report, Route, ShardView, Ticket, Token,
        lines::{self, Lines},
    },
    status::Status,
    stream::store::Ask,
    wire::command::RequestId,
};

pub(super) use self::waiting::Signed;

/// The state behind the loop.
pub(super) struct Desk {
    shutdown: Shutdown,
    status: Arc<Status>,
    route: Route,
    /// The store, and the other instances.
    backend: Backend,
    /// What the router wants to ask the store, in order.
    asks: VecDeque<(Ticket, Ask)>,
    links: Vec<Link>,
    /// Whoever waits for an answer of the router's.
    waiting: HashMap<Token, ReplyTo>,
    token_last: Token,
    /// Scratch: clients' messages that were heard and not routed yet, with whoever waits for the answer.
    messages: Vec<(Event, Option<ReplyTo>)>,
    /// Scratch: the links as the router sees them.
    views: Vec<ShardView>,
    /// Scratch: empty between two calls into the router.
    outputs: Vec<Output>,
    phase: Phase,
    /// Another process serves at the same addresses.
    taken_over: bool,
    /// Scratch: empty between two steps of the graceful stop.
    orders: Vec<Order>,
    /// Whoever fetches keys is told here that one is missing.
    unknown_key: Arc<Notify>,
    /// Signs passes and receipts.
    signer: Signer,
    waiting_rooms: Waiting,
    /// What inlets wait for.
    target: Target,
    /// When the running second ends, monotonic nanoseconds.
    second_ends_ns: u64,
    /// Messages from and to clients when the running second began.
    messages_before: u64,
}

/// Where an answer goes.
enum ReplyTo {
    Caller(oneshot::Sender<Result<Receipt, Refusal>>),
    Disconnector(oneshot::Sender<Result<u32, Refusal>>),
    Counter(oneshot::Sender<Result<Connections, NoReport>>),
    Inquirer(oneshot::Sender<Result<Report, NoReport>>),
    Pusher(oneshot::Sender<Result<Pushed, Refusal>>),
    Operator(oneshot::Sender<Result<Box<lines::io::View>, lines::io::Denied>>),
    Connection(ConnId, Option<RequestId>),
    Pass(Box<Pass>),
}

/// What a desk is made of.
pub(super) struct DeskParts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) status: Arc<Status>,
    pub(super) shards: Vec<ShardLink>,
    pub(super) unknown_key: Arc<Notify>,
    pub(super) signer: Signer,
    pub(super) backend: Backend,
    pub(super) target: Target,
}

impl Desk {
    pub(super) fn new(parts: DeskParts<'_>) -> Self {
        let lines = Lines::new(parts.backend.origin(), 2 * parts.settings.presence.interval);
        Self {
            waiting_rooms: Waiting::new(lines, &parts.settings.passes.issuer),
            shutdown: parts.settings.shutdown.clone(),
            status: parts.status,
            route: Route::new(parts.settings, parts.backend.instances()),
            backend: parts.backend,
            target: parts.target,
            asks: VecDeque::new(),
            links: parts.shards.into_iter().map(Link::new).collect(),
            unknown_key: parts.unknown_key,
            signer: parts.signer,
            waiting: HashMap::new(),
            token_last: 0,
            messages: Vec::new(),
            views: Vec::new(),
            outputs: Vec::new(),
            phase: Phase::Serving,
            taken_over: false,
            orders: Vec::new(),
            second_ends_ns: 0,
            messages_before: 0,
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Whether load balancers should send clients and callers here.
    pub(super) fn is_serving(&self) -> bool {
        self.phase == Phase::Serving && self.status.is_ready()
    }

    /// Whether another process serves at the same addresses.
    pub(super) fn is_taken_over(&self) -> bool {
        self.taken_over
    }

    /// Whether any shard is behind with what control has for it.
    pub(super) fn holds_back(&self) -> bool {
        self.links.iter().any(Link::holds_back)
    }

    /// Whether any shard said something; all of them know whom to wake afterwards.
    pub(super) fn poll_mail(&mut self, cx: &mut Context<'_>) -> bool {
        let mut mail = false;
        for link in &mut self.links {
            mail |= link.from.poll_ready(cx).is_ready();
        }
        mail
    }

    /// Sends what waits for room.
    pub(super) fn retry(&mut self) {
        self.links.iter_mut().for_each(Link::retry);
    }

    /// Hears everything that shards had said by now; `true`: they said more meanwhile.
    ///
    /// Clients' messages are routed last: who joined on any shard before gets them, and was announced before.
    pub(super) fn hear(&mut self, now: Now) -> bool {
        for index in 0..self.links.len() {
            // Before the mailbox: a shard that catches up meanwhile has told either the mailbox or the flag.
            self.links[index].look_whether_lagging();
            for _ in 0..self.links[index].from.len() {
                let Some(message) = self.links[index].from.try_recv() else { break };
                self.mail(now, ShardId(index as u16), message);
            }
        }
        self.announce(now);
        let mut messages = std::mem::take(&mut self.messages);
        for (event, reply) in messages.drain(..) {
            self.publish(now, event, None, reply);
        }
        self.messages = messages;
        self.links.iter().any(|link| !link.from.is_empty())
    }

    fn mail(&mut self, now: Now, shard: ShardId, message: ToControl) {
        match message {
            ToControl::Members { address, count } => {
                self.route_input(now, Input::Members { shard, address, count });
            }
            ToControl::Admit { conn, user, user_connections } => {
                self.route_input(now, Input::Admit { conn, user, user_connections });
            }
            ToControl::Join { conn, attempt, room, members, newcomer } => {
                self.route_input(now, Input::Join { conn, attempt, room, members, newcomer });
            }
            ToControl::Entered { conn, room } => self.route_input(now, Input::Entered { conn, room }),
            ToControl::Present { room, user, present, conn } => {
                let behind = self.route.has_announcements();
                self.route_input(now, Input::Present { room, user, present, conn });
                // At once, so that who came and went is told of in that order; where some wait, all do.
                if !behind {
                    self.announce(now);
                }
            }
            ToControl::Publish { conn, request, event } => {
                // Who spoke without an id learns of a refusal alone; nobody misses what is Ephemeral.
                let wants_answer = request.is_some() || event.class != Class::Ephemeral;
                self.messages.push((*event, wants_answer.then_some(ReplyTo::Connection(conn, request))));
            }
            ToControl::Resume { conn, user, resume } => {
                self.route_input(now, Input::Resume { conn, user, resume: *resume });
            }
            ToControl::ReplayMore { conn, stream, epoch, after } => {
                let position = Position { stream, epoch, offset: after };
                self.route_input(now, Input::ReplayMore { conn, position });
            }
            ToControl::Acknowledge { stream, epoch, offset } => {
                self.route_input(now, Input::Acknowledge { position: Position { stream, epoch, offset } });
            }
            ToControl::JoinLine(request) => self.ask_line(now, request, false),
            ToControl::LeaveLine(request) => self.ask_line(now, request, true),
            ToControl::Waiting { event_id, holder, connections } => {
                let waiting = lines::io::Input::Waiting { shard, event_id, holder, connections };
                self.lines_input(now, waiting);
            }
            ToControl::LineLost { event_id } => {
                self.lines_input(now, lines::io::Input::Lost { shard, event_id });
            }
            ToControl::Drained => self.links[shard.index()].drained = true,
            ToControl::UnknownKey => {
                self.status.control.unknown_keys.add(1);
                self.unknown_key.notify_one();
            }
        }
    }

    /// Tells who came and went, as far as mailboxes can spare the room.
    fn announce(&mut self, now: Now) {
        if self.route.has_announcements() {
            self.route_viewed(now, |shards| Input::Announce { shards });
        }
    }

    /// Passes on what the others are to know, once a turn.
    pub(super) fn flush(&mut self) {
        self.backend.flush();
    }

    /// Does what a caller asks, or has it done.
    pub(super) fn call(&mut self, now: Now, call: Call) {
        match call {
            Call::Publish { event, idempotency_key, reply } => {
                self.publish(now, event, idempotency_key, Some(ReplyTo::Caller(reply)));
            }
            Call::Push { events, reply } => self.push(now, events, reply),
            Call::Disconnect { user, reply } => self.disconnect(now, user, reply),
            Call::Operate { event_id, run, command, reply } => {
                self.operate(now, (event_id, run), command, reply);
            }
            Call::Drawn { event_id, reply } => self.waiting_rooms.receipts.tell(&event_id, reply),
            Call::Stats { rooms_max, reply } => give(reply, self.stats(rooms_max)),
            Call::Inquire { inquiry, reply } => self.inquire(now, inquiry, reply),
            Call::Presence { address, reply } => self.count(now, address, reply),
            Call::Certificate(config) => {
                for link in &mut self.links {
                    link.order(ToShard::Certificate(config.clone()));
                }
            }
            Call::Keys(verifier) => {
                for link in &mut self.links {
                    link.order(ToShard::Keys(verifier.clone()));
                }
            }
            Call::PassKeys(keys) => {
                for link in &mut self.links {
                    link.order(ToShard::PassKeys(keys.jwks()));
                }
                self.signer.use_keys(keys);
            }
            // The loop's own business.
            Call::Started { .. } => {}
            Call::Shutdown => {
                self.status.begin_draining();
                self.phase.ask(now, &self.shutdown, &mut self.orders);
            }
            Call::TakenOver => {
                self.status.begin_draining();
                self.taken_over = true;
                self.phase.taken_over(now, &self.shutdown);
            }
        }
    }

    fn publish(&mut self, now: Now, event: Event, idempotency_key: Option<Arc<str>>, reply: Option<ReplyTo>) {
        let token = self.token(reply);
        if matches!(self.phase, Phase::Over { .. }) {
            // Nobody is left that it could be sent to.
            self.answer(token, Err(Refusal::Draining));
            return;
        }
        self.route_viewed(now, |shards| Input::Publish { token, event, idempotency_key, shards });
    }

    fn push(&mut self, now: Now, events: Vec<Event>, reply: oneshot::Sender<Result<Pushed, Refusal>>) {
        if matches!(self.phase, Phase::Over { .. }) {
            give(reply, Err(Refusal::Draining));
            return;
        }
        let token = self.token(Some(ReplyTo::Pusher(reply)));
        self.route_viewed(now, |shards| Input::Push { token, events, shards });
    }

    fn disconnect(&mut self, now: Now, user: Arc<str>, reply: oneshot::Sender<Result<u32, Refusal>>) {
        if self.links.iter().any(Link::is_full) {
            let retry_after_ms = OVERLOAD_RETRY.as_millis() as u32;
            give(reply, Err(Refusal::Overloaded { retry_after_ms }));
            return;
        }
        let token = self.token(Some(ReplyTo::Disconnector(reply)));
        self.route_viewed(now, |shards| Input::Disconnect { token, user, shards });
    }

    fn token(&mut self, reply: Option<ReplyTo>) -> Token {
        self.token_last += 1;
        if let Some(reply) = reply {
            self.waiting.insert(self.token_last, reply);
        }
        self.token_last
    }

    fn route_input(&mut self, now: Now, input: Input<'_>) {
        self.route.handle(now, input, &mut self.outputs);
        self.apply();
        self.answer_asks(now);
    }

    /// For inputs whose outcome depends on the room in mailboxes.
    fn route_viewed(&mut self, now: Now, input: impl for<'v> FnOnce(&'v [ShardView]) -> Input<'v>) {
        self.route_once(now, input);
        self.answer_asks(now);
    }

    /// What the router is told may make it ask again.
    fn answer_asks(&mut self, now: Now) {
        while let Some((ticket, ask)) = self.asks.pop_front() {
            let Some(answer) = self.backend.ask(now, ticket, ask) else { continue };
            self.route_once(now, |shards| Input::Answered { ticket, answer, shards });
        }
    }

    fn route_once(&mut self, now: Now, input: impl for<'v> FnOnce(&'v [ShardView]) -> Input<'v>) {
        let mut views = std::mem::take(&mut self.views);
        views.clear();
        views.extend(self.links.iter().zip(&self.status.cells).map(|(link, cells)| ShardView {
            free: link.free(),
            free_bytes: link.free_bytes(),
            spare: link.spare(),
            lagging: link.is_lagging(),
            connections: cells.connections.get() as u32,
        }));
        self.route.handle(now, input(&views), &mut self.outputs);
        self.views = views;
        self.apply();
    }

    fn apply(&mut self) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Deliver { shard, event } => self.links[shard.index()].order(ToShard::Deliver(event)),
                Output::Admitted { conn, position } => {
                    self.answer_shard(conn.shard(), ToShard::Admitted { conn, position });
                }
                Output::Denied { conn, denial, retry_after_ms } => {
                    self.answer_shard(conn.shard(), ToShard::Denied { conn, denial, retry_after_ms });
                }
                Output::JoinDecided { conn, attempt, outcome } => {
                    self.answer_shard(conn.shard(), ToShard::JoinDecided { conn, attempt, outcome });
                }
                Output::Latest { conn, values } => {
                    self.answer_shard(conn.shard(), ToShard::Latest { conn, values });
                }
                Output::Answer { token, result } => self.answer(token, result),
                Output::Pushed { token, pushed } => {
                    if let Some(ReplyTo::Pusher(reply)) = self.waiting.remove(&token) {
                        give(reply, Ok(pushed));
                    }
                }
                Output::Disconnect { shard, user } => {
                    self.links[shard.index()].order(ToShard::Disconnect { user });
                }
                Output::Disconnected { token, connections } => self.disconnected(token, connections),
                Output::Counted { token, result } => self.counted(token, result),
                Output::Inquired { token, result } => self.inquired(token, result),
                Output::Ask { ticket, ask } => self.asks.push_back((ticket, ask)),
                Output::Interest { address, on } => self.backend.set_interest(address.into(), on),
                Output::Share { event } => self.backend.share(&event),
                Output::Tell { word } => self.backend.tell(&word),
                Output::Resync { shard, position, lost } => {
                    self.links[shard.index()].order(ToShard::Resync { position, lost });
                }
                Output::Replay { conn, page } => {
                    self.answer_shard(conn.shard(), ToShard::Replay { conn, page });
                }
                Output::RoomCount { shard, room, others } => {
                    self.links[shard.index()].order(ToShard::RoomCount { room, others });
                }
            }
        }
        self.outputs = outputs;
    }

    fn answer(&mut self, token: Token, result: Result<Receipt, Refusal>) {
        match self.waiting.remove(&token) {
            Some(ReplyTo::Caller(reply)) => give(reply, result),
            Some(ReplyTo::Connection(_, None)) if result.is_ok() => {}
            Some(ReplyTo::Connection(conn, request)) => {
                self.answer_shard(conn.shard(), ToShard::Published { conn, request, outcome: result });
            }
            Some(ReplyTo::Pass(pass)) => self.waiting_rooms.untold.told(*pass, result),
            Some(
                ReplyTo::Counter(_)
                | ReplyTo::Disconnector(_)
                | ReplyTo::Inquirer(_)
                | ReplyTo::Pusher(_)
                | ReplyTo::Operator(_),
            )
            | None => {}
        }
    }

    fn disconnected(&mut self, token: Token, connections: u32) {
        if let Some(ReplyTo::Disconnector(reply)) = self.waiting.remove(&token) {
            give(reply, Ok(connections));
        }
    }

    fn answer_shard(&mut self, shard: ShardId, message: ToShard) {
        if !self.links[shard.index()].answer(message) {
            self.status.control.replies_lost.add(1);
        }
    }

    fn stats(&self, rooms_max: usize) -> Stats {
        let directory = self.route.directory();
        Stats {
            connections: self.status.connections() as u32,
            authenticated: self.status.authenticated() as u32,
            users: directory.user_count() as u32,
            room_count: directory.room_count() as u32,
            rooms: directory.largest_rooms(rooms_max),
            per_core: self.status.cells.iter().map(|cells| cells.connections.get() as u32).collect(),
            queues: self.queue_samples(),
        }
    }
}

/// Gives an answer to whoever asked, unless the call was given up meanwhile.
fn give<T>(reply: oneshot::Sender<T>, answer: T) {
    if reply.send(answer).is_err() {
        tracing::trace!("the caller did not wait for the answer");
    }
}
