//! What clients ask: limits first, then one match over the commands.

use std::sync::Arc;

use super::{
    Hub, Output, Purpose, Turn, connections::Stage, frame::Frame, problem::Problem, resume::Acknowledged,
};
use crate::{
    config::settings::Dialect,
    event::{Class, Event, Form, Receipt, Refusal, Target},
    ids::ConnId,
    wire::{
        close::Close,
        command::{BadRequest, Command, Request, RequestId},
        ticketing::{Notice, parse, room_message_payload},
    },
};

/// Who asked what, for the answer.
pub(super) struct Asked<'a> {
    pub(super) conn: ConnId,
    /// `id` of the request.
    pub(super) id: Option<RequestId>,
    /// Its type.
    pub(super) kind: &'a str,
}

impl Hub {
    pub(super) fn text(&mut self, turn: &mut Turn<'_>, conn: ConnId, text: &str) {
        let Some(dialect) = self.message_came(turn, conn) else { return };
        if dialect == Dialect::Raw {
            return self.raw_text(turn, conn, text);
        }
        if let Err(retry_after_ms) = self.take_from_bucket(turn, conn) {
            let request = parse(text).ok();
            let (id, kind) = request.map_or((None, None), |request| (request.id, Some(request.kind)));
            return self.over_rate(turn, conn, retry_after_ms, (id, kind));
        }
        let parsed = parse(text);
        self.first_message(turn, conn, parsed.as_ref().ok().map(|request| &request.command));
        match parsed {
            Ok(request) => self.request(turn, conn, request),
            Err(bad) => self.bad_request(turn, conn, &bad),
        }
    }

    /// A WebSocket ping counts as a message, lest a flood of them be free.
    pub(super) fn ping(&mut self, turn: &mut Turn<'_>, conn: ConnId, payload: &[u8]) {
        if self.message_came(turn, conn).is_none() {
            return;
        }
        match self.take_from_bucket(turn, conn) {
            Ok(()) => self.push_control(conn, Frame::pong(payload)),
            Err(retry_after_ms) => self.over_rate(turn, conn, retry_after_ms, (None, None)),
        }
    }

    /// Notes a sign of life; the dialect, if the connection is in service.
    pub(super) fn message_came(&mut self, turn: &Turn<'_>, conn: ConnId) -> Option<Dialect> {
        let record = self.connections.get_mut(conn)?;
        record.heard_at = turn.tick;
        (record.stage == Stage::Open).then_some(record.dialect)
    }

    /// Takes one message out of the connection's bucket, or says in how many milliseconds there will be one.
    pub(super) fn take_from_bucket(&mut self, turn: &Turn<'_>, conn: ConnId) -> Result<(), u64> {
        let (Some(rate), Some(record)) = (self.rate, self.connections.get_mut(conn)) else { return Ok(()) };
        record.bucket.take(rate, turn.now.mono_ns).map_err(|ns| ns.div_ceil(1_000_000))
    }

    /// A message beyond the rate is answered, and too many of them end the connection (03 §12).
    pub(super) fn over_rate(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        retry_after_ms: u64,
        (id, kind): (Option<RequestId>, Option<&str>),
    ) {
        self.cells.rate_limited.add(1);
        let problem = Problem::RATE_LIMITED.after(retry_after_ms);
        self.send_problem(turn, conn, (id.as_ref(), kind), problem);
        let violations = self.spans.violations;
        if let Some(record) = self.connections.get_mut(conn)
            && record.rare_mut().rate_violations.strike(turn.tick, violations)
        {
            self.close(turn, conn, Close::RateLimited);
        }
    }

    /// Answers a request with `system:error`.
    pub(super) fn refuse(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, problem: Problem) {
        self.send_problem(turn, asked.conn, (asked.id.as_ref(), Some(asked.kind)), problem);
    }

    pub(super) fn send_problem(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        (id, reference): (Option<&RequestId>, Option<&str>),
        problem: Problem,
    ) {
        let Problem { code, message, retry_after_ms } = problem;
        self.notice(turn, conn, &Notice::Error { code, message, reference, retry_after_ms }, id);
    }

    pub(super) fn published(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        request: Option<RequestId>,
        outcome: Result<Receipt, Refusal>,
    ) {
        let problem = match outcome {
            Ok(_) if request.is_none() => return,
            Ok(_) => return self.notice(turn, conn, &Notice::Ok, request.as_ref()),
            Err(Refusal::Overloaded { retry_after_ms }) => {
                Problem::OVERLOADED.after(u64::from(retry_after_ms))
            }
            Err(Refusal::Draining) => Problem::DRAINING,
            Err(Refusal::KeyReused) => Problem::KEY_REUSED,
            Err(Refusal::OutcomeUnknown) => Problem::UNAVAILABLE,
            Err(Refusal::NotStored { retry_after_ms }) => {
                Problem::UNAVAILABLE.after(u64::from(retry_after_ms))
            }
        };
        self.send_problem(turn, conn, (request.as_ref(), Some("room:message")), problem);
    }

    fn request(&mut self, turn: &mut Turn<'_>, conn: ConnId, request: Request<'_>) {
        let Request { id, kind, command } = request;
        self.cells.received.count(kind);
        let asked = &Asked { conn, id, kind };
        let login_required = self.connections.get(conn).is_some_and(|record| record.login_required);
        if login_required && !matches!(command, Command::Login(_) | Command::Noted) {
            return self.refuse(turn, asked, Problem::LOGIN_FIRST);
        }
        match command {
            Command::Ping(payload) => self.notice(turn, conn, &Notice::Pong(payload), asked.id.as_ref()),
            Command::Join(room) => self.join(turn, asked, &room),
            Command::Leave(room) => self.leave(turn, asked, &room),
            Command::RoomMessage { room, data } => self.room_message(turn, asked, room, data),
            Command::Typing { room, typing } => self.typing(turn, asked, &room, typing),
            Command::Presence(payload) => self.presence(turn, asked, payload),
            Command::Preferences { json: _, muted } => self.preferences(turn, asked, muted),
            Command::Login(token) => self.verify(turn, asked, Purpose::Login, token),
            Command::TokenRefresh(token) => self.verify(turn, asked, Purpose::Refresh, token),
            Command::Logout => self.logout(turn, asked),
            Command::Resume(resume) => self.resume(turn, asked, resume),
            Command::Acknowledge { stream, epoch, offset } => {
                self.acknowledge(turn, asked, Acknowledged { stream, epoch, offset });
            }
            Command::Line { leave, event_id, place_token } => {
                self.ask_line(turn, asked, leave, (event_id, place_token));
            }
            Command::Noted => {}
            Command::Other(payload) if self.custom.kinds.contains(kind) => {
                self.custom_request(turn, asked, payload);
            }
            Command::Other(_) => {
                self.refuse(turn, asked, Problem::UNKNOWN_TYPE);
                self.count_bad_message(turn, conn);
            }
        }
    }

    fn room_message(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, room: Arc<str>, data: &str) {
        if self.membership(asked.conn, &room).is_none() {
            return self.refuse(turn, asked, Problem::NOT_IN_ROOM);
        }
        let user = self.user_name(asked.conn);
        let payload = room_message_payload(&room, user.as_ref(), asked.conn, data, turn.now.wall_ms);
        let event = Event {
            target: Target::Room(room),
            kind: "room:message".into(),
            payload: payload.into(),
            form: Form::Payload,
            class: Class::Ordered,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: turn.now.mono_ns,
        };
        turn.out.push(Output::Publish { conn: asked.conn, request: asked.id.clone(), event });
    }

    fn preferences(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>, muted: Vec<String>) {
        let Some(record) = self.connections.get_mut(asked.conn) else { return };
        if !muted.is_empty() || record.rare.is_some() {
            record.rare_mut().muted = muted;
        }
        self.notice(turn, asked.conn, &Notice::Ok, asked.id.as_ref());
    }

    fn bad_request(&mut self, turn: &mut Turn<'_>, conn: ConnId, bad: &BadRequest) {
        self.cells.received.count("other");
        let (id, reference) = match bad {
            BadRequest::InvalidPayload { kind, id, .. } => (id.as_ref(), Some(&**kind)),
            BadRequest::InvalidRoom { kind, id } => (id.as_ref(), Some(&**kind)),
            BadRequest::InvalidJson(_) | BadRequest::MissingType | BadRequest::InvalidId => (None, None),
        };
        let notice =
            Notice::Error { code: bad.code(), message: &bad.to_string(), reference, retry_after_ms: None };
        self.notice(turn, conn, &notice, id);
        self.count_bad_message(turn, conn);
    }

    /// "The tenth within a minute closes it with 4400" (03 §4).
    fn count_bad_message(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        self.cells.bad_messages.add(1);
        let violations = self.spans.violations;
        if let Some(record) = self.connections.get_mut(conn)
            && record.rare_mut().bad_messages.strike(turn.tick, violations)
        {
            self.close(turn, conn, Close::BadRequests);
        }
    }

    /// Whose the connection is.
    pub(super) fn user_name(&self, conn: ConnId) -> Option<Arc<str>> {
        let seat = self.connections.get(conn)?.user?;
        self.users.name(seat.group).cloned()
    }
}
