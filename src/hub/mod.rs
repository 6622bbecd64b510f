//! The hub of one shard: its connections, users, rooms, outboxes, limits and deadlines. Pure.
//!
//! Owns every connection's record from the verified handshake to the end of its socket. Never touches a socket,
//! a clock or another core. Invariants (`check_invariants`): a user or room entry exists exactly while it has a
//! connection, one that waits to come in, or control must hear that it has none; an outbox is within its bounds;
//! what control was told, or waits to be told, equals the indexes. Talks to its shard through [`Input`], [`Output`]
//! and [`Report`].
//!
//! Reading order: `io`, `connections`, `lifecycle`, `requests`, `rooms`, `joining`, `login`, `delivery`, `pacing`,
//! `replay`, `resume`, `waiting`, `timers`, `parting`.

mod announce;
mod connections;
mod custom;
mod deadlines;
mod delivery;
mod frame;
mod groups;
mod io;
mod joining;
mod lifecycle;
mod limiter;
mod login;
mod outbox;
mod pacing;
mod pages;
mod parting;
mod presence;
mod problem;
mod replay;
mod requests;
mod resume;
mod rooms;
mod sink;
mod timers;
mod waiting;

#[cfg(debug_assertions)]
mod invariants;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, hash::BuildHasher, rc::Rc, sync::Arc};

use foldhash::fast::FixedState;

use self::{
    connections::{Connections, Stage},
    deadlines::{Deadlines, Tick},
    frame::Frame,
    groups::Groups,
    outbox::Bounds,
    pacing::Pacing,
    parting::Parting,
    presence::Presence,
    timers::Spans,
    waiting::Lines,
};
pub use self::{
    delivery::Flushed,
    io::{CustomMessage, Input, Output, Purpose, Rejection, ReplayAsk, Report},
};
use crate::{
    clock::Now,
    config::settings::Settings,
    event::Address,
    ids::{ConnId, ShardId},
    metrics::ShardCells,
    rate::Rate,
    wire::deflate::Deflater,
};

/// Which messages go to handlers of the embedding program, as [`Output::Custom`].
#[derive(Clone, Debug, Default)]
pub struct CustomTypes {
    /// Types beyond those of 03 §4.
    pub kinds: HashSet<Box<str>>,
    /// Text and binary messages of raw connections, which are ignored otherwise.
    pub raw: bool,
}

/// The state of one shard.
#[derive(Debug)]
pub struct Hub {
    shard: ShardId,
    settings: Arc<Settings>,
    cells: Arc<ShardCells>,
    custom: CustomTypes,
    /// Spreads pings and returns over time.
    hasher: FixedState,
    bounds: Bounds,
    /// `None`: messages are not limited.
    rate: Option<Rate>,
    spans: Spans,

    connections: Connections,
    users: Groups,
    rooms: Groups,
    /// Users in rooms under `ROOM_PRESENCE`.
    presence: Presence,
    /// Waiting rooms.
    lines: Lines,
    /// Of the last join that control was asked for.
    attempt: u32,
    deadlines: Deadlines,
    pacing: Pacing,

    /// Connections whose outbox got something since [`Hub::take_dirty`].
    dirty: Vec<ConnId>,
    /// Connections whose outbox is over its bound, to be closed when the delivery is done.
    overflowed: Vec<ConnId>,
    /// Connections with a replay that wants something of control.
    asking: Vec<ConnId>,
    /// Slots of one tick; empty between ticks.
    due: Vec<u32>,
    /// Compresses for all who negotiated it; `None`: compression is off.
    deflater: Option<Deflater>,
    /// The one ping that everybody gets.
    ping: Rc<Frame>,
    /// When the hub was last found to have been away: nobody's silence counts from before.
    resumed_at: Tick,
    parting: Parting,
    #[cfg(debug_assertions)]
    handled: u64,
}

/// One call of [`Hub::handle`].
struct Turn<'a> {
    now: Now,
    tick: Tick,
    out: &'a mut Vec<Output>,
}

impl Hub {
    /// An empty hub. Hubs with the same seed and inputs have the same outputs.
    pub fn new(
        shard: ShardId,
        settings: Arc<Settings>,
        cells: Arc<ShardCells>,
        custom: CustomTypes,
        seed: u64,
    ) -> Self {
        let limits = &settings.limits;
        Self {
            shard,
            custom,
            hasher: FixedState::with_seed(seed),
            bounds: Bounds::new(limits),
            rate: Rate::new(limits.messages_max, limits.messages_window),
            spans: Spans::new(&settings),
            connections: Connections::new(),
            users: Groups::new(seed),
            rooms: Groups::new(seed),
            presence: Presence::new(seed),
            lines: Lines::new(&settings, seed),
            attempt: 0,
            deadlines: Deadlines::new(),
            pacing: Pacing::new(settings.client.queue_update_interval, seed),
            dirty: Vec::new(),
            overflowed: Vec::new(),
            asking: Vec::new(),
            due: Vec::new(),
            deflater: settings.client.compression.then(Deflater::new),
            ping: Rc::new(Frame::ping()),
            resumed_at: Tick(0),
            parting: Parting::default(),
            #[cfg(debug_assertions)]
            handled: 0,
            settings,
            cells,
        }
    }

    /// Takes one thing that happened; what the shard must do about it is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        let turn = &mut Turn { now, tick: Tick::of(now), out };
        match input {
            Input::Open { conn, dialect, identity, resume_waits } => {
                self.open(turn, conn, dialect, identity);
                self.expect_resume(conn, resume_waits);
            }
            Input::Text { conn, text } => self.text(turn, conn, text),
            Input::Binary { conn, bytes } => self.binary(turn, conn, bytes),
            Input::Ping { conn, payload } => self.ping(turn, conn, payload),
            Input::Pong { conn } => self.hear(turn, conn),
            Input::PeerClose { conn, code } => self.peer_close(turn, conn, code),
            Input::Violation { conn, close } => self.violation(turn, conn, close),
            Input::Gone { conn } => self.gone(conn),
            Input::Verified { conn, purpose, request, result } => {
                self.verified(turn, login::Answer { conn, purpose, request, result });
                self.resume_waiting(turn, conn);
            }
            Input::Reply { conn, request, reply } => self.reply(turn, conn, request, reply),
            Input::Admitted { conn, position } => self.admitted(turn, conn, position.as_ref()),
            Input::Denied { conn, denial, retry_after_ms } => self.denied(turn, conn, denial, retry_after_ms),
            Input::JoinDecided { conn, attempt, outcome } => self.join_decided(turn, conn, attempt, outcome),
            Input::Latest { conn, values } => self.latest(turn, conn, &values),
            Input::Replay { conn, page } => self.replay(turn, conn, *page),
            Input::Resync { position, lost } => self.resync(turn, &position, lost),
            Input::Deliver(event) => self.deliver(turn, event),
            Input::Published { conn, request, outcome } => self.published(turn, conn, request, outcome),
            Input::Disconnect { user } => self.disconnect(turn, &user),
            Input::RoomCount { room, others } => self.rooms.set_others(&room, others),
            Input::SendAway { count, return_ms } => self.send_away(turn, count, return_ms),
            Input::Line(update) => self.line_update(turn, update),
            Input::Seated(seated) => self.seated(turn, &seated),
            Input::LineDenied { conn, request, leave, denial } => {
                self.line_denied(turn, conn, request.as_ref(), (leave, denial));
            }
            Input::PlaceNews(news) => self.place_news(turn, news),
            Input::Tick => self.tick(turn),
        }
        self.cells.users.set(self.users.populated() as u64);
        self.cells.rooms.set(self.rooms.populated() as u64);
        self.cells.waiting.set(self.lines.waiting() as u64);
        #[cfg(debug_assertions)]
        self.check_now_and_then();
    }

    /// Connections whose outbox got something since the last call, each once.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        for conn in self.dirty.drain(..) {
            if let Some(record) = self.connections.get_mut(conn) {
                record.dirty = false;
                into.push(conn);
            }
        }
    }

    /// Reports what changed since it was reported last, counts first, until `report` returns `false`; that report and
    /// those after it come again in the next call, as far as they still hold.
    pub fn take_reports(&mut self, report: &mut dyn FnMut(Report) -> bool) {
        let mut members = |address, count| report(Report::Members { address, count });
        let all = self.users.take_changes(&mut |user, count| members(Address::User(Arc::clone(user)), count))
            && self.rooms.take_changes(&mut |room, count| members(Address::Room(Arc::clone(room)), count));
        if all {
            self.presence.take_changes(report);
        }
        if all && !self.presence.has_changes() {
            self.lines.take_changes(report);
        }
    }

    /// Whether [`Hub::take_reports`] may have something to report.
    pub fn reports_pending(&self) -> bool {
        self.users.has_changes()
            || self.rooms.has_changes()
            || self.presence.has_changes()
            || self.lines.has_changes()
    }

    /// Members of a room in this hub; those that wait for control are none yet.
    pub fn room_members(&self, room: &str) -> usize {
        self.rooms.find(room).map_or(0, |key| self.rooms.members(key).len())
    }

    /// Members of a room on all shards, as well as is known here; 0 without any in this hub.
    pub fn room_total(&self, room: &str) -> u32 {
        self.rooms.find(room).map_or(0, |key| self.rooms.total(key))
    }

    /// When [`Input::Tick`] is due, monotonic nanoseconds; it may come a little before there is something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        let sweep = Some(self.lines.next_due()).filter(|due| *due != Tick::NEVER);
        [self.deadlines.next(), self.pacing.next(), sweep].into_iter().flatten().min().map(Tick::start_ns)
    }

    /// Whether the hub has a record of the connection.
    pub fn contains(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some()
    }

    /// Connections with a record, those that wait for control or for their end included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes a sign of life.
    fn hear(&mut self, turn: &Turn<'_>, conn: ConnId) {
        if let Some(record) = self.connections.get_mut(conn) {
            record.heard_at = turn.tick;
        }
    }

    /// Whether the connection is in service: what comes from others is out of date and ignored.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|record| record.stage == Stage::Open)
    }

    /// A number below `bound` that differs from slot to slot.
    fn spread(&self, conn: ConnId, bound: u32) -> u32 {
        (self.hasher.hash_one(conn.slot()) % u64::from(bound.max(1))) as u32
    }
}
