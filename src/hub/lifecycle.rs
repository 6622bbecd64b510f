//! How connections begin and end.

use std::rc::Rc;

use super::{
    Hub, Output, Turn,
    connections::{Awaits, Connection, Stage},
    deadlines::{Span, Tick},
    frame::Frame,
    problem::Problem,
};
use crate::{
    config::settings::Dialect,
    event::{Denial, Position},
    identity::Identity,
    ids::ConnId,
    wire::{close::Close, command::RequestId, ticketing::Notice},
};

impl Hub {
    pub(super) fn open(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        dialect: Dialect,
        identity: Option<Identity>,
    ) {
        debug_assert_eq!(conn.shard(), self.shard, "a connection of another shard");
        if let Some(before) = self.connections.at(conn.slot() as u32).map(|record| record.id) {
            // The shell uses a slot again only when its socket is closed.
            self.gone(before);
        }
        self.connections.insert(Connection::new(conn, dialect, turn.tick));
        match identity {
            Some(identity) => {
                self.assume(turn, conn, identity);
                self.ask_admission(turn, conn);
            }
            None => {
                self.require_login(turn, conn);
                self.upgrade(turn, conn);
                self.greet(turn, conn, &[]);
                self.send_late_away(turn, conn);
            }
        }
    }

    /// Where everybody must log in, an anonymous connection has a few seconds for it (03 §3).
    fn require_login(&mut self, turn: &Turn<'_>, conn: ConnId) {
        let auth = &self.settings.auth;
        if auth.first_message
            && !auth.allow_anonymous
            && let Some(record) = self.connections.get_mut(conn)
        {
            record.login_required = true;
            record.deadline = turn.tick.plus(self.spans.first_login).plus(Span(1));
        }
    }

    fn upgrade(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let phase = Span(self.spread(conn, self.spans.ping_interval.0));
        let Some(record) = self.connections.get_mut(conn) else { return };
        record.stage = Stage::Open;
        record.heard_at = turn.tick;
        record.ping_at = turn.tick.plus(phase).plus(Span(1));
        self.cells.connections.add(1);
        self.reschedule(turn, conn);
        turn.out.push(Output::Upgrade { conn });
    }

    /// Sends `system:connected`, unless the connection must log in first.
    fn greet(&mut self, turn: &mut Turn<'_>, conn: ConnId, streams: &[Position]) {
        let Some(record) = self.connections.get(conn).filter(|record| !record.login_required) else { return };
        let user = record.user.and_then(|seat| self.users.name(seat.group)).cloned();
        let notice = Notice::Connected {
            conn,
            user: user.as_deref(),
            server_time_ms: turn.now.wall_ms,
            ping_interval_ms: self.settings.keep_alive.ping_interval.as_millis() as u64,
            streams,
            preferences: None,
        };
        self.notice(turn, conn, &notice, None);
    }

    /// Control decides whether the user may have one more connection, and tells the head of the user's stream.
    pub(super) fn ask_admission(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(seat) = record.user else { return };
        let Some(user) = self.users.name(seat.group).cloned() else { return };
        record.awaits = Awaits::Admission;
        self.users.set_told(seat.group);
        let user_connections = self.users.count(seat.group);
        turn.out.push(Output::Admit { conn, user, user_connections });
    }

    pub(super) fn admitted(&mut self, turn: &mut Turn<'_>, conn: ConnId, position: Option<&Position>) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        if record.awaits != Awaits::Admission {
            return;
        }
        let streams = position.map(std::slice::from_ref).unwrap_or_default();
        match record.stage {
            Stage::Pending => {
                record.awaits = Awaits::Nothing;
                self.cells.connections_authenticated.add(1);
                self.upgrade(turn, conn);
                self.greet(turn, conn, streams);
                self.hold_user_stream(turn, conn, position);
                self.send_late_away(turn, conn);
            }
            Stage::Open => {
                record.awaits = Awaits::Nothing;
                self.cells.connections_authenticated.add(1);
                if std::mem::take(&mut record.login_required) {
                    self.greet(turn, conn, streams);
                }
                self.logged_in(turn, conn);
                self.hold_user_stream(turn, conn, position);
                self.resume_waiting(turn, conn);
            }
            Stage::Closing | Stage::Ended => {}
        }
    }

    pub(super) fn denied(&mut self, turn: &mut Turn<'_>, conn: ConnId, denial: Denial, retry_after_ms: u32) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        if record.awaits != Awaits::Admission {
            if denial == Denial::LimitPassed {
                self.close(turn, conn, Close::RateLimited);
            }
            return;
        }
        let (status, problem, close) = match denial {
            Denial::TooManyConnections | Denial::LimitPassed => {
                (429, Problem::TOO_MANY_CONNECTIONS, Close::RateLimited)
            }
            Denial::Overloaded => (503, Problem::OVERLOADED, Close::TryLater),
        };
        match record.stage {
            Stage::Pending => self.reject(turn, conn, status, retry_after_ms.div_ceil(1_000)),
            Stage::Open => {
                let request = record.rare_mut().login.take().and_then(|login| login.request);
                let problem = problem.after(u64::from(retry_after_ms));
                self.refuse_login(turn, conn, request.as_ref(), problem);
                self.release_user(conn);
                self.close(turn, conn, close);
            }
            Stage::Closing | Stage::Ended => {}
        }
    }

    /// Answers the upgrade with an error and forgets the connection.
    fn reject(&mut self, turn: &mut Turn<'_>, conn: ConnId, status: u16, retry_after_s: u32) {
        self.gone(conn);
        turn.out.push(Output::Reject { conn, status, retry_after_s });
    }

    /// Begins to end a connection that is in service: a close frame behind what waits, then the peer's is awaited.
    pub(super) fn close(&mut self, turn: &mut Turn<'_>, conn: ConnId, close: Close) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        if record.stage != Stage::Open {
            return;
        }
        self.cells.count_close(close.code());
        record.stage = Stage::Closing;
        record.deadline = turn.tick.plus(self.spans.close).plus(Span(1));
        self.push_control(conn, Frame::close(close));
        self.retire(conn);
        self.reschedule(turn, conn);
    }

    /// Ends a connection whose peer broke the protocol: nothing that it says is understood any more, its close frame
    /// neither (RFC 6455, 7.1.7).
    pub(super) fn violation(&mut self, turn: &mut Turn<'_>, conn: ConnId, close: Close) {
        self.close(turn, conn, close);
        self.end(turn, conn);
    }

    /// Ends a connection whose outbox cannot take what must not be lost; what waits is of no use to anybody.
    pub(super) fn close_too_slow(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        if let Some(record) = self.connections.get_mut(conn).filter(|record| record.stage == Stage::Open) {
            record.outbox.clear();
            self.close(turn, conn, Close::TooSlow);
            self.end(turn, conn);
        }
    }

    /// The close handshake is over, or given up.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        if matches!(record.stage, Stage::Open | Stage::Closing) {
            record.stage = Stage::Ended;
            record.deadline = Tick::NEVER;
            self.deadlines.clear(conn.slot() as u32);
            self.retire(conn);
            turn.out.push(Output::Shutdown { conn });
        }
    }

    pub(super) fn peer_close(&mut self, turn: &mut Turn<'_>, conn: ConnId, code: Option<u16>) {
        if self.is_open(conn) {
            // "…the endpoint typically echos the status code it received" (RFC 6455, 5.5.1)
            self.push_control(conn, Frame::close_reply(code.unwrap_or_else(|| Close::Normal.code())));
        }
        self.end(turn, conn);
    }

    /// Takes a connection out of its rooms and from its user: nothing is delivered to it any more, and nobody
    /// shall count on it.
    fn retire(&mut self, conn: ConnId) {
        self.forget_joins(conn);
        self.leave_lines(conn);
        self.release_user(conn);
        let Some(record) = self.connections.get_mut(conn) else { return };
        if let Some(rare) = &mut record.rare {
            rare.replays = None;
        }
        let rooms = std::mem::take(&mut record.rooms);
        rooms.iter().for_each(|seat| self.vacate_room(*seat));
    }

    /// Forgets a connection and takes it out of every index.
    pub(super) fn gone(&mut self, conn: ConnId) {
        self.retire(conn);
        let Some(record) = self.connections.remove(conn) else { return };
        self.deadlines.clear(conn.slot() as u32);
        if record.stage != Stage::Pending {
            self.cells.connections.sub(1);
        }
    }

    pub(super) fn disconnect(&mut self, turn: &mut Turn<'_>, user: &str) {
        let Some(key) = self.users.find(user) else { return };
        let members = self.users.members(key).iter().filter_map(|slot| self.connections.at(*slot));
        let admitted = members.filter(|record| record.is_admitted());
        let conns: Vec<ConnId> = admitted.map(|record| record.id).collect();
        for conn in conns {
            self.close(turn, conn, Close::Unauthorised("revoked"));
        }
    }

    pub(super) fn refuse_login(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        request: Option<&RequestId>,
        problem: Problem,
    ) {
        let notice = Notice::Error {
            code: problem.code,
            message: problem.message,
            reference: Some("auth:login"),
            retry_after_ms: problem.retry_after_ms,
        };
        self.notice(turn, conn, &notice, request);
    }

    pub(super) fn push_control(&mut self, conn: ConnId, frame: Frame) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        record.outbox.push_control(&Rc::new(frame));
        record.mark_dirty(&mut self.dirty);
    }
}
