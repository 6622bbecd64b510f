//! The shell around one hub, with sockets of a few kilobytes and no network.
//!
//! Does what `usher::shard` does: mail, outputs, counts for control, then one flush of whoever got something.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

use usher::{
    clock::Now,
    config::{Settings, settings::Dialect},
    event::{Denial, Position, Refusal, RoomDenial},
    hub::{CustomTypes, Flushed, Hub, Input, Output, Purpose, Rejection, ReplayAsk, Report},
    identity::Identity,
    ids::{ConnId, ShardId},
    limits::CLOSE_TIME_MAX,
    mesh::{Receiver, Sender, ToControl, ToShard},
    metrics::ShardCells,
};

/// Both ends of one connection's socket.
pub struct Socket {
    /// The client's number.
    pub client: usize,
    /// Sent by the hub, not yet read by the client.
    pub kernel: VecDeque<u8>,
    /// What the kernel takes.
    pub capacity: usize,
    blocked: bool,
    /// Upgraded; before, nothing is flushed.
    open: bool,
    /// The hub is done with it: gone when everything is written, or then.
    finishing_until: Option<u64>,
}

/// What a turn did to a connection, for its client.
#[derive(Debug)]
pub enum Fate {
    Upgraded,
    /// HTTP status.
    Rejected(u16),
    /// The socket ended; these bytes can still be read.
    Ended(Vec<u8>),
}

pub struct Shard {
    pub id: ShardId,
    pub hub: Hub,
    pub cells: Arc<ShardCells>,
    pub inbox: Receiver<ToShard>,
    pub to_control: Sender<ToControl>,
    pub lagging: bool,
    /// Does nothing until then.
    pub stalled_until: u64,
    pub sockets: BTreeMap<ConnId, Socket>,
    pub fates: Vec<(usize, Fate)>,
    /// Joins that control is asked for, with the attempt.
    pub joins: Vec<(ConnId, u32)>,
    generations: Vec<u32>,
    free_slots: Vec<u32>,
    outputs: Vec<Output>,
    drained_told: bool,
    draining: bool,
}

impl Shard {
    pub fn new(
        id: ShardId,
        settings: &Arc<Settings>,
        inbox: Receiver<ToShard>,
        to_control: Sender<ToControl>,
        seed: u64,
    ) -> Self {
        let cells = Arc::<ShardCells>::default();
        Self {
            id,
            hub: Hub::new(id, settings.clone(), cells.clone(), CustomTypes::default(), seed),
            cells,
            inbox,
            to_control,
            lagging: false,
            stalled_until: 0,
            sockets: BTreeMap::new(),
            fates: Vec::new(),
            joins: Vec::new(),
            generations: Vec::new(),
            free_slots: Vec::new(),
            outputs: Vec::new(),
            drained_told: false,
            draining: false,
        }
    }

    /// A request for an upgrade, already verified.
    pub fn open(
        &mut self,
        now: Now,
        client: usize,
        identity: Option<Identity>,
        capacity: usize,
        resume_waits: bool,
    ) -> ConnId {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.generations.push(0);
            self.generations.len() as u32 - 1
        });
        let conn = ConnId::new(self.id, self.generations[slot as usize], slot);
        let kernel = VecDeque::new();
        let socket = Socket { client, kernel, capacity, blocked: false, open: false, finishing_until: None };
        self.sockets.insert(conn, socket);
        self.input(now, Input::Open { conn, dialect: Dialect::Ticketing, identity, resume_waits });
        conn
    }

    /// Something that a client did; whatever it was, the turn ends with flushes.
    pub fn input(&mut self, now: Now, input: Input<'_>) {
        self.hub.handle(now, input, &mut self.outputs);
        self.finish_turn(now);
    }

    /// The client's end is gone.
    pub fn gone(&mut self, now: Now, conn: ConnId) {
        self.remove(now, conn);
        self.finish_turn(now);
    }

    /// The client made room in the kernel.
    pub fn writable(&mut self, now: Now, conn: ConnId) {
        if let Some(socket) = self.sockets.get_mut(&conn)
            && std::mem::take(&mut socket.blocked)
        {
            self.flush(now, conn);
            self.finish_turn(now);
        }
    }

    /// Mail, deadlines, flushes; whether there was mail.
    pub fn turn(&mut self, now: Now, mail_max: usize) -> bool {
        if now.mono_ns < self.stalled_until {
            return false;
        }
        let mut heard = false;
        for _ in 0..mail_max {
            let Some(message) = self.inbox.try_recv() else { break };
            heard = true;
            self.mail(now, message);
        }
        let due = |socket: &Socket| socket.finishing_until.is_some_and(|until| until <= now.mono_ns);
        let expired: Vec<ConnId> =
            self.sockets.iter().filter(|(_, socket)| due(socket)).map(|(conn, _)| *conn).collect();
        expired.into_iter().for_each(|conn| self.remove(now, conn));
        if self.hub.next_deadline().is_some_and(|deadline| deadline <= now.mono_ns) {
            self.hub.handle(now, Input::Tick, &mut self.outputs);
        }
        self.finish_turn(now);
        heard
    }

    fn mail(&mut self, now: Now, message: ToShard) {
        let input = match &message {
            ToShard::Deliver(event) => Input::Deliver(event),
            ToShard::Admitted { conn, position } => {
                Input::Admitted { conn: *conn, position: position.clone() }
            }
            ToShard::Denied { conn, denial, retry_after_ms } => {
                Input::Denied { conn: *conn, denial: *denial, retry_after_ms: *retry_after_ms }
            }
            ToShard::Published { conn, request, outcome } => {
                Input::Published { conn: *conn, request: request.clone(), outcome: outcome.clone() }
            }
            ToShard::Disconnect { user } => Input::Disconnect { user: user.clone() },
            ToShard::JoinDecided { conn, attempt, outcome } => {
                Input::JoinDecided { conn: *conn, attempt: *attempt, outcome: outcome.clone() }
            }
            ToShard::RoomCount { room, others } => Input::RoomCount { room: room.clone(), others: *others },
            ToShard::Latest { conn, values } => Input::Latest { conn: *conn, values: values.clone() },
            ToShard::Replay { conn, page } => Input::Replay { conn: *conn, page: page.clone() },
            ToShard::Resync { position, lost } => Input::Resync { position: position.clone(), lost: *lost },
            ToShard::Drain { within } => {
                assert!(!within.is_zero(), "nobody is cut off here");
                self.draining = true;
                return;
            }
            ToShard::SendAway { count, return_ms } => {
                Input::SendAway { count: *count, return_ms: *return_ms }
            }
            ToShard::Line(update) => Input::Line(update),
            ToShard::PlaceNews(news) => Input::PlaceNews(news),
            ToShard::Seated(seated) => Input::Seated(seated.clone()),
            ToShard::LineDenied { conn, request, leave, denial } => {
                let request = request.clone();
                Input::LineDenied { conn: *conn, request, leave: *leave, denial: *denial }
            }
            ToShard::Certificate(_) | ToShard::Keys(_) | ToShard::PassKeys(_) => return,
        };
        self.hub.handle(now, input, &mut self.outputs);
    }

    fn finish_turn(&mut self, now: Now) {
        let mut dirty = Vec::new();
        loop {
            while !self.outputs.is_empty() {
                for output in std::mem::take(&mut self.outputs) {
                    self.apply(now, output);
                }
            }
            let Self { hub, to_control, outputs, .. } = self;
            hub.take_replay_asks(now, outputs, &mut |ask| {
                let message = match ask {
                    ReplayAsk::Begin { conn, user, resume } => {
                        ToControl::Resume { conn, user, resume: Box::new(resume) }
                    }
                    ReplayAsk::More { conn, after } => {
                        let Position { stream, epoch, offset: after } = after;
                        ToControl::ReplayMore { conn, stream, epoch, after }
                    }
                };
                to_control.try_send(message).is_ok()
            });
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
                to_control.try_send(message).is_ok()
            });
            self.lagging = self.hub.reports_pending();
            self.hub.take_dirty(&mut dirty);
            if dirty.is_empty() {
                break;
            }
            dirty.drain(..).for_each(|conn| self.flush(now, conn));
        }
        if self.draining && self.sockets.is_empty() && !self.drained_told {
            self.drained_told = self.to_control.try_send(ToControl::Drained).is_ok();
        }
    }

    fn apply(&mut self, now: Now, output: Output) {
        match output {
            Output::Admit { conn, user, user_connections } => {
                if self.to_control.try_send(ToControl::Admit { conn, user, user_connections }).is_err() {
                    let denied = Input::Denied { conn, denial: Denial::Overloaded, retry_after_ms: 1_000 };
                    self.hub.handle(now, denied, &mut self.outputs);
                }
            }
            Output::Join { conn, attempt, room, members, newcomer } => {
                self.joins.push((conn, attempt));
                let join = ToControl::Join { conn, attempt, room, members, newcomer };
                if self.to_control.try_send(join).is_err() {
                    let outcome = Err(RoomDenial::Overloaded { retry_after_ms: 1_000 });
                    self.hub.handle(now, Input::JoinDecided { conn, attempt, outcome }, &mut self.outputs);
                }
            }
            Output::Entered { conn, room } => {
                let lost = self.to_control.try_send(ToControl::Entered { conn, room }).is_err();
                self.cells.latest_unasked.add(u64::from(lost));
            }
            Output::Upgrade { conn } => {
                let socket = self.sockets.get_mut(&conn).expect("upgraded connections have sockets");
                socket.open = true;
                self.fates.push((socket.client, Fate::Upgraded));
                self.flush(now, conn);
            }
            Output::Reject { conn, status, .. } => {
                let socket = self.sockets.remove(&conn).expect("rejected connections have sockets");
                self.fates.push((socket.client, Fate::Rejected(status)));
                self.free(conn);
            }
            Output::Publish { conn, request, event } => {
                let message = ToControl::Publish { conn, request, event: Box::new(event) };
                if let Err(ToControl::Publish { request: Some(request), .. }) =
                    self.to_control.try_send(message)
                {
                    let outcome = Err(Refusal::Overloaded { retry_after_ms: 1_000 });
                    self.hub.handle(
                        now,
                        Input::Published { conn, request: Some(request), outcome },
                        &mut self.outputs,
                    );
                }
            }
            Output::Verify { conn, purpose, request, token } => {
                let result = if purpose == Purpose::Login {
                    Ok(identity(&token))
                } else {
                    Err(Rejection::Refused("no".into()))
                };
                self.hub.handle(now, Input::Verified { conn, purpose, request, result }, &mut self.outputs);
            }
            Output::Shutdown { conn } => {
                if let Some(socket) = self.sockets.get_mut(&conn) {
                    socket.finishing_until = Some(now.mono_ns + CLOSE_TIME_MAX.as_nanos() as u64);
                    self.flush(now, conn);
                }
            }
            // Nobody here waits for an answer to a close any longer than the hub does.
            Output::JoinLine(_) | Output::LeaveLine(_) => panic!("no client of these asks for a place"),
            Output::SentAway { .. } => {}
            Output::Acknowledge { stream, epoch, offset } => {
                // The next one covers one that is dropped.
                self.to_control.try_send(ToControl::Acknowledge { stream, epoch, offset }).ok();
            }
            Output::Custom { .. } => panic!("no handler is registered"),
        }
    }

    fn flush(&mut self, now: Now, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn).filter(|socket| socket.open && !socket.blocked) else {
            return;
        };
        let Socket { kernel, capacity, .. } = socket;
        let flushed = self.hub.flush(now, conn, &mut |slices| {
            let mut taken = 0;
            for slice in slices {
                let fits = slice.len().min(*capacity - kernel.len());
                kernel.extend(&slice[..fits]);
                taken += fits;
            }
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        });
        assert!(socket.kernel.len() <= socket.capacity, "the kernel takes no more than it has");
        match flushed {
            Flushed::Drained if socket.finishing_until.is_some() => self.remove(now, conn),
            Flushed::Drained => {}
            Flushed::Blocked => socket.blocked = true,
            Flushed::Failed(kind) => panic!("a socket that never fails failed: {kind}"),
        }
    }

    fn remove(&mut self, now: Now, conn: ConnId) {
        if let Some(socket) = self.sockets.remove(&conn) {
            self.fates.push((socket.client, Fate::Ended(socket.kernel.into())));
            self.hub.handle(now, Input::Gone { conn }, &mut self.outputs);
            self.free(conn);
        }
    }

    fn free(&mut self, conn: ConnId) {
        self.generations[conn.slot()] += 1;
        self.free_slots.push(conn.slot() as u32);
    }
}

/// A token is the user's name here.
pub fn identity(user: &str) -> Identity {
    Identity { user: user.into(), expires_at_ms: u64::MAX / 2, rooms: Arc::new([]) }
}
