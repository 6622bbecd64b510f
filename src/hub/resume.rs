//! Resuming: what clients ask for and what control answers (03 §4).
//!
//! Owns who may resume what, and when control is asked: one page per connection at a time, the next when its outbox is
//! less than half full. The seam of each stream is in `replay`.

use std::{mem, rc::Rc, sync::Arc};

use super::{
    Hub, Output, ReplayAsk, Turn,
    connections::{Awaits, Connection, Stage as Life},
    deadlines::{Span, Tick},
    frame::Frame,
    groups::GroupKey,
    joining::Why,
    problem::Problem,
    replay::{Need, Replay, Replays, Stage},
    requests::Asked,
    sink::Sink,
};
use crate::{
    clock::Now,
    config::settings::Dialect,
    event::{Position, ReplayPage, Resume},
    ids::ConnId,
    limits::OVERLOAD_RETRY,
    wire::{
        command::{Command, RequestId},
        room::{RoomKind, classify, glob_matches},
        ticketing::Notice,
    },
};

/// What a `system:ack` says.
pub(super) struct Acknowledged {
    pub(super) stream: Arc<str>,
    pub(super) epoch: Option<Arc<str>>,
    pub(super) offset: u64,
}

/// The type of the request, for the answers.
const KIND: &str = "system:resume";

impl Hub {
    /// Notes that `system:resume` is to come before anything else; nobody sends one in the raw dialect.
    pub(super) fn expect_resume(&mut self, conn: ConnId, resume_waits: bool) {
        if let Some(record) = self.connections.get_mut(conn) {
            record.resume_waits = resume_waits && record.dialect == Dialect::Ticketing;
        }
    }

    /// Holds what comes live for a user whose client will say, or has said already, where it wants to go on.
    /// `position`: where the stream stands; `None`: not known yet.
    pub(super) fn hold_user_stream(&mut self, turn: &Turn<'_>, conn: ConnId, position: Option<&Position>) {
        let until = turn.tick.plus(self.spans.resume_wait).plus(Span(1));
        let Some(user) = self.user_name(conn) else { return };
        let Some(record) = self.connections.get_mut(conn) else { return };
        let asked = record.replays_mut().is_some_and(|replays| replays.waiting.is_some());
        if mem::take(&mut record.resume_waits) || asked {
            let mut replay = Replay::new(format!("user:{user}").into(), None, Stage::Held);
            if let Some(position) = position {
                replay.watch_from(position);
            }
            replay.hold(Stage::Held, until);
            record.replays_or_new().list.push(replay);
            self.reschedule(turn, conn);
        }
    }

    /// A message came. What is held for `system:resume` goes on live where that is something else.
    pub(super) fn first_message(&mut self, turn: &mut Turn<'_>, conn: ConnId, command: Option<&Command<'_>>) {
        if matches!(command, Some(Command::Resume(_) | Command::Login(_) | Command::Noted)) {
            return;
        }
        let Some(record) = self.connections.get_mut(conn) else { return };
        record.resume_waits = false;
        if record.replays_mut().is_some() {
            self.release(turn, conn, |replay| replay.stage == Stage::Held);
        }
    }

    pub(super) fn resume(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, resume: Resume) {
        let Some(record) = self.connections.get_mut(asked.conn) else { return };
        if !matches!(record.awaits, Awaits::Login | Awaits::Admission) {
            record.resume_waits = false;
            return self.begin_resume(turn, asked, resume);
        }
        let waiting = &mut record.replays_or_new().waiting;
        if waiting.is_some() {
            return self.refuse(turn, asked, Problem::RESUMING);
        }
        *waiting = Some((asked.id.clone(), resume));
    }

    /// It may be known by now whose the connection is.
    pub(super) fn resume_waiting(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        if matches!(record.awaits, Awaits::Login | Awaits::Admission) {
            return;
        }
        let Some((id, resume)) = record.replays_mut().and_then(|replays| replays.waiting.take()) else {
            return;
        };
        self.begin_resume(turn, &Asked { conn, id, kind: KIND }, resume);
    }

    fn begin_resume(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, resume: Resume) {
        let conn = asked.conn;
        match resume {
            Resume::Streams(positions) => {
                for position in positions {
                    let stream = Arc::clone(&position.stream);
                    if let Err(problem) = self.begin_stream(turn, asked, &stream, Some(position)) {
                        self.refuse_stream(turn, conn, (asked.id.as_ref(), &stream), problem);
                    }
                }
            }
            Resume::Unacknowledged => match self.user_name(conn) {
                Some(user) => {
                    let stream = format!("user:{user}").into();
                    if let Err(problem) = self.begin_stream(turn, asked, &stream, None) {
                        self.refuse_stream(turn, conn, (asked.id.as_ref(), &stream), problem);
                    }
                }
                None => self.refuse(turn, asked, Problem::NOT_ALLOWED),
            },
        }
        self.release(turn, conn, |replay| replay.stage == Stage::Held);
    }

    /// Begins to replay a stream; from now on what comes of it live waits.
    fn begin_stream(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &Asked<'_>,
        stream: &Arc<str>,
        at: Option<Position>,
    ) -> Result<(), Problem> {
        let conn = asked.conn;
        let room = self.resumable(conn, stream)?;
        let Some(record) = self.connections.get_mut(conn) else { return Err(Problem::INTERNAL) };
        if let Some(replay) = record.replays_mut().and_then(|replays| replays.find(stream)) {
            if !matches!(replay.stage, Stage::Held | Stage::Refused | Stage::Settled) {
                return Err(Problem::RESUMING);
            }
            replay.begin(asked.id.clone(), at);
            return Ok(());
        }
        let (key, stage) = match room {
            None => (None, Stage::Wants),
            Some(room) => match self.membership(conn, room) {
                Some(key) => (Some(key), Stage::Wants),
                None => {
                    self.ask_to_join(turn, asked, &room.into(), Why::Resume)?;
                    (self.joining(conn, room), Stage::Joining)
                }
            },
        };
        let mut replay = Replay::new(Arc::clone(stream), key, stage);
        replay.begin(asked.id.clone(), at);
        if let Some(record) = self.connections.get_mut(conn) {
            record.replays_or_new().list.push(replay);
        }
        Ok(())
    }

    /// Whether the connection may have the stream; the room that it is of, `None`: it is the user's own.
    fn resumable<'a>(&self, conn: ConnId, stream: &'a str) -> Result<Option<&'a str>, Problem> {
        let Some(record) = self.connections.get(conn) else { return Err(Problem::INTERNAL) };
        if let Some(user) = stream.strip_prefix("user:") {
            let own = record.is_admitted() && self.user_name(conn).is_some_and(|own| *own == *user);
            return if own { Ok(None) } else { Err(Problem::NOT_ALLOWED) };
        }
        let room = stream.strip_prefix("room:").ok_or(Problem::NOT_ALLOWED)?;
        match classify(room) {
            Some(RoomKind::Public | RoomKind::Private) => {}
            Some(RoomKind::User(_)) | None => return Err(Problem::NOT_ALLOWED),
        }
        if self.is_protected(room) && !record.is_granted(room) {
            return Err(Problem::NOT_ALLOWED);
        }
        let kept = self.settings.streams.rooms.iter().any(|glob| glob_matches(glob, room));
        if kept { Ok(Some(room)) } else { Err(Problem::NOT_KEPT) }
    }

    /// The connection has come into the room whose stream it resumes.
    pub(super) fn resume_seated(
        &mut self,
        turn: &Turn<'_>,
        conn: ConnId,
        room: GroupKey,
        position: Option<&Position>,
    ) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let replays = record.replays_mut().into_iter().flat_map(|replays| &mut replays.list);
        for replay in replays.filter(|replay| replay.room == Some(room)) {
            if let Some(position) = position {
                replay.watch_from(position);
            }
            replay.stage = Stage::Wants;
        }
        self.pump(conn);
        self.reschedule(turn, conn);
    }

    pub(super) fn replay(&mut self, turn: &Turn<'_>, conn: ConnId, page: ReplayPage) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let replay = record.replays_mut().and_then(|replays| replays.find(&page.stream));
        if let Some(replay) = replay {
            replay.take_page(page);
            self.pump(conn);
            self.reschedule(turn, conn);
        }
    }

    /// Tells everybody who has the stream that not all of it came; `lost`: nor can it be read. Who replays it reads what it
    /// misses, and is told what the store does not have.
    pub(super) fn resync(&mut self, turn: &mut Turn<'_>, position: &Position, lost: bool) {
        let members = match position.stream.split_once(':') {
            Some(("user", id)) => self.users.find(id).map(|key| self.users.members(key)),
            Some(("room", room)) => self.rooms.find(room).map(|key| self.rooms.members(key)),
            _ => None,
        };
        let members = members.unwrap_or_default().iter().filter_map(|slot| self.connections.at(*slot));
        let hears = |record: &&Connection| {
            let admitted = record.awaits != Awaits::Admission || position.stream.starts_with("room:");
            let greeted = record.stage == Life::Open && !record.login_required;
            greeted && admitted && record.dialect == Dialect::Ticketing
        };
        let conns: Vec<ConnId> = members.filter(hears).map(|record| record.id).collect();
        let frame = Rc::new(Frame::notice(&Notice::Resync(position), None));
        for conn in conns {
            let Some(record) = self.connections.get_mut(conn) else { continue };
            let replay = record.replays_mut().and_then(|replays| replays.find(&position.stream));
            if let Some(replay) = replay {
                replay.resync(position, lost);
                self.pump(conn);
                continue;
            }
            self.cells.resyncs.add(1);
            self.queue(turn, conn, &frame);
        }
    }

    /// The connection has no part in the stream of that room, `None`: of its user, any more.
    pub(super) fn end_replays(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        room: Option<GroupKey>,
        problem: Problem,
    ) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(replays) = record.replays_mut() else { return };
        let ended: Vec<Replay> = replays.list.extract_if(.., |replay| replay.room == room).collect();
        record.trim_rare();
        for mut replay in ended {
            if let Some(request) = replay.take_request() {
                self.refuse_stream(turn, conn, (request.as_ref(), &replay.stream), problem);
            }
        }
        self.pump(conn);
        self.reschedule(turn, conn);
    }

    pub(super) fn end_waits_of_replays(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let tick = turn.tick;
        let held = |replay: &Replay| matches!(replay.stage, Stage::Held | Stage::Refused);
        self.release(turn, conn, |replay| held(replay) && replay.until <= tick);
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(replays) = record.replays_mut() else { return };
        let late = |replay: &&mut Replay| replay.stage == Stage::Asked && replay.until <= tick;
        let Some(replay) = replays.list.iter_mut().find(late) else { return };
        self.cells.replays_unanswered.add(1);
        if !replay.has_not_begun() {
            replay.has_waited(&self.cells);
            self.pump(conn);
            return;
        }
        let stream = Arc::clone(&replay.stream);
        self.refuse_overloaded(turn, conn, &stream);
    }

    pub(super) fn acknowledge(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, it: Acknowledged) {
        let conn = asked.conn;
        let allowed = match self.resumable(conn, &it.stream) {
            Ok(Some(room)) => self.membership(conn, room).is_some(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !allowed {
            return self.refuse(turn, asked, Problem::NOT_ALLOWED);
        }
        let Acknowledged { stream, epoch, offset } = it;
        let epoch = epoch.unwrap_or_default();
        turn.out.push(Output::Acknowledge { stream, epoch, offset });
    }

    /// Passes on what replays have for the connection, as far as there is room; whether anything was queued.
    pub(super) fn pump(&mut self, conn: ConnId) -> bool {
        let Some(record) = self.connections.get_mut(conn).filter(|record| record.stage == Life::Open) else {
            return false;
        };
        let Some(mut replays) = record.rare.as_mut().and_then(|rare| rare.replays.take()) else {
            return false;
        };
        let was_empty = record.outbox.is_empty();
        let mut sink = Sink { record, bounds: self.bounds, cells: &self.cells, dirty: &mut self.dirty };
        replays.list.retain_mut(|replay| !replay.advance(&mut sink));
        if !replays.listed && replays.wants() && sink.has_room(0) {
            replays.listed = true;
            self.asking.push(conn);
        }
        let queued = was_empty && !record.outbox.is_empty();
        record.rare_mut().replays = Some(replays);
        record.trim_rare();
        queued
    }

    /// Asks for pages that connections have room for, until `ask` returns `false`; what was begun is asked again in the
    /// next call, what was not is refused.
    pub fn take_replay_asks(
        &mut self,
        now: Now,
        out: &mut Vec<Output>,
        ask: &mut dyn FnMut(ReplayAsk) -> bool,
    ) {
        let turn = &mut Turn { now, tick: Tick::of(now), out };
        let mut asking = mem::take(&mut self.asking);
        asking.retain(|conn| self.ask_replay(turn, *conn, ask));
        self.asking.append(&mut asking);
    }

    /// Whether the connection has to wait for its question.
    fn ask_replay(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        ask: &mut dyn FnMut(ReplayAsk) -> bool,
    ) -> bool {
        let user = self.user_name(conn);
        let until = turn.tick.plus(self.spans.replay).plus(Span(1));
        let Some(record) = self.connections.get_mut(conn) else { return false };
        let Some(replays) = record.replays_mut() else { return false };
        replays.listed = false;
        let Some(replay) = replays.next_to_ask() else { return false };
        let heard = match replay.need() {
            Some(Need::Begin(at)) => {
                let resume = at.map_or(Resume::Unacknowledged, |at| Resume::Streams(vec![at]));
                ask(ReplayAsk::Begin { conn, user, resume })
            }
            Some(Need::More(after)) => {
                let heard = ask(ReplayAsk::More { conn, after });
                replays.listed = !heard;
                heard
            }
            None => return false,
        };
        if heard {
            replays.asked(until);
        } else if replays.listed {
            return true;
        } else if let Some(replay) = replays.next_to_ask() {
            let stream = Arc::clone(&replay.stream);
            self.refuse_overloaded(turn, conn, &stream);
        }
        self.reschedule(turn, conn);
        false
    }

    /// Nobody can be asked: the client may try again, and its stream is held for it.
    fn refuse_overloaded(&mut self, turn: &mut Turn<'_>, conn: ConnId, stream: &Arc<str>) {
        let until = turn.tick.plus(self.spans.resume_wait).plus(Span(1));
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(replay) = record.replays_mut().and_then(|replays| replays.find(stream)) else { return };
        replay.hold(Stage::Refused, until);
        if let Some(request) = replay.take_request() {
            let problem = Problem::OVERLOADED.after(OVERLOAD_RETRY.as_millis() as u64);
            self.refuse_stream(turn, conn, (request.as_ref(), stream), problem);
        }
        self.pump(conn);
    }

    /// Lets streams that are held go on live.
    fn release(&mut self, turn: &Turn<'_>, conn: ConnId, is_it: impl Fn(&Replay) -> bool) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(replays) = record.replays_mut() else { return };
        let released = replays.list.iter_mut().filter(|replay| is_it(replay));
        released.for_each(|replay| replay.go_live(&self.cells));
        self.pump(conn);
        self.reschedule(turn, conn);
    }

    /// `system:error` about one of the streams that a request names.
    fn refuse_stream(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        (request, stream): (Option<&RequestId>, &str),
        problem: Problem,
    ) {
        self.cells.resumes[2].add(1);
        let Problem { code, message, retry_after_ms } = problem;
        let message = &format!("{stream}: {message}");
        let notice = Notice::Error { code, message, reference: Some(KIND), retry_after_ms };
        self.notice(turn, conn, &notice, request);
    }
}

impl Connection {
    /// What it resumes, if anything.
    pub(super) fn replays_mut(&mut self) -> Option<&mut Replays> {
        self.rare.as_mut()?.replays.as_deref_mut()
    }

    fn replays_or_new(&mut self) -> &mut Replays {
        self.rare_mut().replays.get_or_insert_default()
    }
}
