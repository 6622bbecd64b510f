//! Whose a connection is, and how that changes while it is connected (03 §3).

use std::sync::Arc;

use super::{
    Hub, Output, Purpose, Rejection, Turn,
    connections::{Awaits, Connection, Login, Stage},
    deadlines::{Span, Tick},
    groups::Seat,
    problem::Problem,
    requests::Asked,
};
use crate::{
    identity::Identity,
    ids::ConnId,
    wire::{close::Close, command::RequestId, ticketing::Notice},
};

/// What the shard found out about a token; see [`super::Input::Verified`].
pub(super) struct Answer {
    pub(super) conn: ConnId,
    pub(super) purpose: Purpose,
    pub(super) request: Option<RequestId>,
    pub(super) result: Result<Identity, Rejection>,
}

impl Hub {
    /// Has a token verified; one at a time.
    pub(super) fn verify(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, purpose: Purpose, token: &str) {
        let Some(record) = self.connections.get_mut(asked.conn) else { return };
        if record.awaits != Awaits::Nothing {
            return self.refuse(turn, asked, Problem::BUSY);
        }
        if purpose == Purpose::Refresh && record.user.is_none() {
            return self.refuse(turn, asked, Problem::OTHER_USER);
        }
        record.awaits = match purpose {
            Purpose::Login => Awaits::Login,
            Purpose::Refresh => Awaits::Refresh,
        };
        let (conn, request) = (asked.conn, asked.id.clone());
        turn.out.push(Output::Verify { conn, purpose, request, token: token.into() });
    }

    pub(super) fn verified(&mut self, turn: &mut Turn<'_>, answer: Answer) {
        let Answer { conn, purpose, request, result } = answer;
        let (awaited, kind) = match purpose {
            Purpose::Login => (Awaits::Login, "auth:login"),
            Purpose::Refresh => (Awaits::Refresh, "auth:token_refresh"),
        };
        let Some(record) = self.connections.get_mut(conn) else { return };
        if record.stage != Stage::Open || record.awaits != awaited {
            return;
        }
        record.awaits = Awaits::Nothing;
        let identity = match result {
            Ok(identity) => identity,
            Err(Rejection::TooManyFailures { retry_after_ms }) => {
                // Somebody else behind the same address may be to blame: the connection stays.
                let problem = Problem::TOO_MANY_FAILURES.after(retry_after_ms);
                return self.refuse(turn, &Asked { conn, id: request, kind }, problem);
            }
            Err(Rejection::Refused(reason)) => {
                let notice = Notice::Error {
                    code: "unauthorised",
                    message: &reason,
                    reference: Some(kind),
                    retry_after_ms: None,
                };
                self.notice(turn, conn, &notice, request.as_ref());
                return self.close(turn, conn, Close::Unauthorised("token refused"));
            }
        };
        let user = record.user.and_then(|seat| self.users.name(seat.group));
        let same_user = user.is_some_and(|user| *user == identity.user);
        match purpose {
            _ if same_user => self.renew(turn, conn, identity, request.as_ref()),
            Purpose::Refresh => {
                self.refuse(turn, &Asked { conn, id: request, kind }, Problem::OTHER_USER);
            }
            Purpose::Login => self.change_user(turn, conn, identity, request),
        }
    }

    /// Makes the connection the user's; events to the user wait for control's admission.
    pub(super) fn assume(&mut self, turn: &Turn<'_>, conn: ConnId, identity: Identity) {
        let seat = self.users.join(&identity.user, conn.slot() as u32);
        if let Some(record) = self.connections.get_mut(conn) {
            record.user = Some(seat);
            record.set_claims(turn, identity);
        }
    }

    /// Makes the connection nobody's.
    pub(super) fn release_user(&mut self, conn: ConnId) {
        let Some(record) = self.connections.get(conn) else { return };
        let admitted = record.is_admitted();
        let rooms: Vec<_> = record.rooms.iter().map(|seat| seat.group).collect();
        rooms.into_iter().for_each(|room| self.user_goes(conn, room));
        let Some(record) = self.connections.get_mut(conn) else { return };
        let Some(seat) = record.user.take() else { return };
        record.awaits = Awaits::Nothing;
        record.expires_at_ms = 0;
        if record.stage == Stage::Open {
            record.deadline = Tick::NEVER;
        }
        if let Some(rare) = &mut record.rare {
            rare.grants = None;
            rare.login = None;
            rare.typing.clear();
        }
        if admitted {
            self.cells.connections_authenticated.sub(1);
        }
        self.vacate_user(seat);
    }

    /// Takes a connection out of its user's.
    pub(super) fn vacate_user(&mut self, seat: Seat) {
        if let Some(moved) = self.users.leave(seat).and_then(|slot| self.connections.at_mut(slot)) {
            moved.user = Some(seat);
        }
    }

    /// A login that control admitted is answered.
    pub(super) fn logged_in(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        let request = record.rare.as_mut().and_then(|rare| rare.login.take()?.request);
        let rooms: Vec<_> = record.rooms.iter().map(|seat| seat.group).collect();
        rooms.into_iter().for_each(|room| self.user_comes(conn, room));
        self.confirm(turn, conn, request.as_ref());
    }

    pub(super) fn logout(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) {
        let conn = asked.conn;
        if self.connections.get(conn).is_some_and(|record| record.awaits != Awaits::Nothing) {
            return self.refuse(turn, asked, Problem::BUSY);
        }
        self.end_replays(turn, conn, None, Problem::LEFT);
        self.leave_users_lines(conn);
        self.release_user(conn);
        self.leave_forbidden_rooms(turn, conn);
        self.confirm(turn, conn, asked.id.as_ref());
        if !self.settings.auth.allow_anonymous {
            self.close(turn, conn, Close::Unauthorised("logged out"));
        }
    }

    fn change_user(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        identity: Identity,
        request: Option<RequestId>,
    ) {
        self.end_replays(turn, conn, None, Problem::LEFT);
        self.leave_users_lines(conn);
        self.release_user(conn);
        self.assume(turn, conn, identity);
        self.leave_forbidden_rooms(turn, conn);
        let deadline = turn.tick.plus(self.spans.admission).plus(Span(1));
        if let Some(record) = self.connections.get_mut(conn) {
            record.rare_mut().login = Some(Login { request, deadline });
        }
        self.ask_admission(turn, conn);
        self.reschedule(turn, conn);
    }

    fn renew(&mut self, turn: &mut Turn<'_>, conn: ConnId, identity: Identity, request: Option<&RequestId>) {
        if let Some(record) = self.connections.get_mut(conn) {
            record.set_claims(turn, identity);
        }
        self.leave_forbidden_rooms(turn, conn);
        self.confirm(turn, conn, request);
    }

    /// Says whose the connection is now.
    fn confirm(&mut self, turn: &mut Turn<'_>, conn: ConnId, request: Option<&RequestId>) {
        let Some(record) = self.connections.get(conn) else { return };
        let user = record.user.and_then(|seat| self.users.name(seat.group)).cloned();
        let expires_at_ms = user.is_some().then_some(record.expires_at_ms);
        self.notice(turn, conn, &Notice::AuthOk { user: user.as_deref(), expires_at_ms }, request);
        self.reschedule(turn, conn);
    }
}

impl Connection {
    fn set_claims(&mut self, turn: &Turn<'_>, identity: Identity) {
        let left_ms = identity.expires_at_ms.saturating_sub(turn.now.wall_ms);
        self.deadline = Tick::at(turn.now.mono_ns.saturating_add(left_ms.saturating_mul(1_000_000)));
        self.expires_at_ms = identity.expires_at_ms;
        self.expiry_announced = false;
        if !identity.rooms.is_empty() || self.rare.is_some() {
            self.rare_mut().grants = Some(Arc::clone(&identity.rooms)).filter(|globs| !globs.is_empty());
        }
    }
}
