//! What happens because time passed.

use std::mem;

use super::{
    Hub, Turn,
    connections::{Connection, Stage},
    deadlines::{Span, Tick},
};
use crate::{
    config::settings::Settings,
    event::Denial,
    ids::ConnId,
    limits::{
        ADMISSION_TIME_MAX, BAD_MESSAGE_WINDOW, CLOSE_TIME_MAX, CONTROL_RETRY, FIRST_LOGIN_TIME_MAX,
        JOIN_TIME_MAX, REPLAY_TIME_MAX, RESUME_WAIT_MAX, TICK_LATE_MAX,
    },
    wire::{close::Close, ticketing::Notice},
};

/// The settings that are lengths of time, in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    pub(super) ping_interval: Span,
    pong_timeout: Span,
    refresh_threshold: Span,
    expiry_grace: Span,
    pub(super) typing: Span,
    pub(super) join: Span,
    pub(super) close: Span,
    pub(super) first_login: Span,
    pub(super) admission: Span,
    pub(super) resume_wait: Span,
    pub(super) replay: Span,
    pub(super) violations: Span,
    late: Span,
}

impl Spans {
    pub(super) fn new(settings: &Settings) -> Self {
        let Span(ping_interval) = Span::of(settings.keep_alive.ping_interval);
        Self {
            ping_interval: Span(ping_interval.max(1)),
            pong_timeout: Span::of(settings.keep_alive.pong_timeout),
            refresh_threshold: Span::of(settings.auth.refresh_threshold),
            expiry_grace: Span::of(settings.auth.expiry_grace),
            typing: Span::of(settings.client.typing_timeout),
            join: Span::of(JOIN_TIME_MAX),
            close: Span::of(CLOSE_TIME_MAX),
            first_login: Span::of(FIRST_LOGIN_TIME_MAX),
            admission: Span::of(ADMISSION_TIME_MAX),
            resume_wait: Span::of(RESUME_WAIT_MAX),
            replay: Span::of(REPLAY_TIME_MAX),
            violations: Span::of(BAD_MESSAGE_WINDOW),
            late: Span::of(TICK_LATE_MAX),
        }
    }
}

impl Hub {
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        if self.deadlines.next().is_some_and(|due| due.plus(self.spans.late) < turn.tick) {
            // No pings went out meanwhile, so nobody had anything to answer.
            self.resumed_at = turn.tick;
        }
        let mut due = mem::take(&mut self.due);
        self.deadlines.take_due(turn.tick, &mut due);
        for slot in due.drain(..) {
            if let Some(conn) = self.connections.at(slot).map(|record| record.id) {
                self.look_at(turn, conn);
                self.reschedule(turn, conn);
            }
        }
        self.due = due;
        self.release_paced(turn);
        self.sweep(turn);
    }

    fn look_at(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        match record.stage {
            Stage::Pending | Stage::Ended => {}
            Stage::Closing => {
                if record.deadline <= turn.tick {
                    self.end(turn, conn);
                }
            }
            Stage::Open if self.spans.silence_ends(record, self.resumed_at) <= turn.tick => {
                self.close(turn, conn, Close::KeepAlive);
                self.end(turn, conn);
            }
            Stage::Open => {
                self.send_ping(turn, conn);
                self.end_typing(turn, conn);
                self.end_login(turn, conn);
                self.give_up_late_joins(turn, conn);
                self.end_waits_of_replays(turn, conn);
                self.check_token(turn, conn);
            }
        }
    }

    fn send_ping(&mut self, turn: &Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        if record.ping_at > turn.tick {
            return;
        }
        let next = record.ping_at.plus(self.spans.ping_interval);
        record.ping_at = if next > turn.tick { next } else { turn.tick.plus(self.spans.ping_interval) };
        record.outbox.push_control(&self.ping);
        record.mark_dirty(&mut self.dirty);
    }

    /// Gives up a login that control did not answer; the client comes back and tries again.
    fn end_login(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get(conn) else { return };
        if record.login_deadline() <= turn.tick {
            self.cells.admission_timeouts.add(1);
            self.denied(turn, conn, Denial::Overloaded, CONTROL_RETRY.as_millis() as u32);
        }
    }

    fn check_token(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get_mut(conn) else { return };
        if record.user.is_none() {
            if record.login_required && record.deadline <= turn.tick {
                self.close(turn, conn, Close::Unauthorised("no login in time"));
            }
        } else if record.deadline.plus(self.spans.expiry_grace) <= turn.tick {
            self.close(turn, conn, Close::Unauthorised("token expired"));
        } else if !record.expiry_announced && self.spans.announces_expiry_at(record) <= turn.tick {
            record.expiry_announced = true;
            let expires_at_ms = record.expires_at_ms;
            self.notice(turn, conn, &Notice::TokenExpiring { expires_at_ms }, None);
        }
    }

    /// Puts the connection into the wheel where it must be looked at next.
    pub(super) fn reschedule(&mut self, turn: &Turn<'_>, conn: ConnId) {
        let Some(record) = self.connections.get(conn) else { return };
        let due = self.spans.next_look(record, self.resumed_at);
        self.deadlines.set(conn.slot() as u32, turn.tick, due);
    }
}

impl Spans {
    fn next_look(&self, record: &Connection, resumed_at: Tick) -> Tick {
        match record.stage {
            Stage::Pending | Stage::Ended => Tick::NEVER,
            Stage::Closing => record.deadline,
            Stage::Open => {
                let typing = record.rare.iter().flat_map(|rare| &rare.typing);
                let typing_ends = typing.map(|(_, until)| *until).min().unwrap_or(Tick::NEVER);
                let joins_end = record.joining().iter().map(|joining| joining.until).min();
                let replays = record.rare.iter().flat_map(|rare| &rare.replays);
                let replays_end = replays.map(|replays| replays.until()).min().unwrap_or(Tick::NEVER);
                let silence_ends = self.silence_ends(record, resumed_at);
                let due = record.ping_at.min(silence_ends).min(self.token_due(record));
                let asked_ends = replays_end.min(joins_end.unwrap_or(Tick::NEVER));
                due.min(typing_ends).min(record.login_deadline()).min(asked_ends)
            }
        }
    }

    fn silence_ends(&self, record: &Connection, resumed_at: Tick) -> Tick {
        // One more, since the tick of the last frame was under way when it came.
        record.heard_at.max(resumed_at).plus(self.pong_timeout).plus(Span(1))
    }

    fn announces_expiry_at(&self, record: &Connection) -> Tick {
        record.deadline.minus(self.refresh_threshold)
    }

    fn token_due(&self, record: &Connection) -> Tick {
        match record.user {
            None if record.login_required => record.deadline,
            None => Tick::NEVER,
            Some(_) if record.expiry_announced => record.deadline.plus(self.expiry_grace),
            Some(_) => self.announces_expiry_at(record),
        }
    }
}
