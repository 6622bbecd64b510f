//! Coming into a queue and leaving it: what clients ask, and what control answers.
//!
//! Owns the conditions. Nothing waits in the hub for control's answer: it brings along what was asked, and is ignored
//! where the connection is another's by then.

use std::{rc::Rc, sync::Arc};

use super::line::{Mark, Shown};
use crate::{
    hub::{Hub, Output, Turn, frame::Frame, problem::Problem, requests::Asked},
    ids::ConnId,
    limits::LINES_PER_CONNECTION_MAX,
    line::{LineDenial, LineRequest, PlaceNews, Seated, Ticket},
    sale::fair::hex,
    wire::{command::RequestId, ticketing::Notice},
};

impl Hub {
    /// `queue:join`, `queue:leave`.
    pub(in crate::hub) fn ask_line(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &Asked<'_>,
        leave: bool,
        (event_id, place_token): (Arc<str>, Option<&str>),
    ) {
        let conn = asked.conn;
        let Some(record) = self.connections.get(conn) else { return };
        if record.user.is_some() && !record.is_admitted() {
            return self.refuse(turn, asked, Problem::BUSY);
        }
        if !leave && !self.has_room_for(conn, &event_id) {
            return self.refuse(turn, asked, Problem::TOO_MANY_QUEUES);
        }
        let user = self.user_name(conn);
        let (request, place_token) = (asked.id.clone(), place_token.map(Box::from));
        let stands_as = self.lines.holder(conn.slot() as u32, &event_id).cloned();
        let request = Box::new(LineRequest { conn, request, event_id, user, place_token, stands_as });
        turn.out.push(if leave { Output::LeaveLine(request) } else { Output::JoinLine(request) });
    }

    /// Control: the connection has a place.
    pub(in crate::hub) fn seated(&mut self, turn: &mut Turn<'_>, seated: &Seated) {
        let LineRequest { conn, request, event_id, user, .. } = &seated.asked;
        let conn = *conn;
        let is_another = user.is_some() && self.user_name(conn) != *user;
        if !self.is_open(conn) || is_another {
            return;
        }
        if !self.has_room_for(conn, event_id) {
            return self.send_problem(turn, conn, (request.as_ref(), Some(JOIN)), Problem::TOO_MANY_QUEUES);
        }
        let index = self.lines.find_or_begin(event_id);
        let Some(line) = self.lines.line(index) else { return };
        if line.replica.version == 0 {
            line.lost = true;
        }
        let Some(mark) = line.mark(seated.ticket) else {
            return self.send_problem(turn, conn, (request.as_ref(), Some(JOIN)), Problem::INTERNAL);
        };
        let commitment = hex(&seated.commitment);
        let notice = Notice::QueueJoined {
            event_id,
            place: mark.place(),
            place_token: seated.place_token.as_deref(),
            receipt: seated.receipt.as_deref(),
            commitment: &commitment,
            opens_at_ms: line.replica.state.opens_at_ms(),
        };
        self.lines.unstand(conn.slot() as u32, index);
        self.lines.stand(index, conn.slot() as u32, &seated.holder, mark);
        self.notice(turn, conn, &notice, request.as_ref());
        if let Some(payload) = &seated.admitted {
            self.notice(turn, conn, &Notice::Custom { kind: "queue:admitted", payload }, None);
        }
        self.show(turn, conn, index, seated.ticket);
    }

    /// Control, or the shard where control could not be asked: no.
    pub(in crate::hub) fn line_denied(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        request: Option<&RequestId>,
        (leave, denial): (bool, LineDenial),
    ) {
        let problem = match denial {
            LineDenial::Unknown => Problem::NO_QUEUE,
            LineDenial::Over => Problem::QUEUE_OVER,
            LineDenial::Full => Problem::QUEUE_FULL,
            LineDenial::TooManyPlaces => Problem::TOO_MANY_PLACES,
            LineDenial::Lost => Problem::QUEUE_LOST,
            LineDenial::BadToken => Problem::BAD_PLACE_TOKEN,
            LineDenial::NotIn => Problem::NOT_IN_QUEUE,
            LineDenial::RateLimited { retry_after_ms } => {
                Problem::TOO_MANY_NEWCOMERS.after(u64::from(retry_after_ms))
            }
            LineDenial::Overloaded { retry_after_ms } => Problem::OVERLOADED.after(u64::from(retry_after_ms)),
        };
        self.send_problem(turn, conn, (request, Some(if leave { LEAVE } else { JOIN })), problem);
    }

    /// Control: something for all connections of a place.
    pub(in crate::hub) fn place_news(&mut self, turn: &mut Turn<'_>, news: &PlaceNews) {
        let PlaceNews { event_id, holder, kind, payload, asked, leaves } = news;
        let notice = Notice::Custom { kind, payload };
        let asking = asked.as_ref().map(|(conn, _)| *conn);
        if let Some((conn, request)) = asked {
            self.notice(turn, *conn, &notice, request.as_ref());
        }
        let Some(index) = self.lines.find(event_id) else { return };
        let Some(line) = self.lines.line(index) else { return };
        let members = line.places.find(holder).map_or(&[][..], |key| line.places.members(key));
        let slots = members.to_vec();
        let conns: Vec<ConnId> =
            slots.into_iter().filter_map(|slot| Some(self.connections.at(slot)?.id)).collect();
        let frame = Rc::new(Frame::notice(&notice, None));
        for conn in conns {
            if asking != Some(conn) {
                self.queue(turn, conn, &frame);
            }
            if *leaves {
                self.lines.unstand(conn.slot() as u32, index);
            }
        }
    }

    /// A connection is its user's no more. Who waits without a user goes on: the place is the token's.
    pub(in crate::hub) fn leave_users_lines(&mut self, conn: ConnId) {
        if self.connections.get(conn).is_some_and(|record| record.user.is_some()) {
            self.leave_lines(conn);
        }
    }

    /// A connection ends: it waits nowhere.
    pub(in crate::hub) fn leave_lines(&mut self, conn: ConnId) {
        if self.connections.get(conn).is_some() {
            self.lines.unstand_all(conn.slot() as u32);
        }
    }

    /// Tells a connection at once how its queue stands, and where it stands itself.
    fn show(&mut self, turn: &mut Turn<'_>, conn: ConnId, index: u32, ticket: Ticket) {
        let slot = conn.slot() as u32;
        let Some(line) = self.lines.line(index) else { return };
        if let Some(place) = line.mark(ticket).and_then(Mark::place) {
            line.replica.note_place(place);
        }
        let (replica, now_ns) = (&line.replica, turn.now.mono_ns);
        let mut frames = Vec::new();
        if replica.version > 0
            && let Some(notice) = line.state_notice()
        {
            frames.push(Rc::new(Frame::state(&notice, line.state_key, now_ns)));
        }
        if let Some(mark) = line.mark(ticket)
            && let Some(place) = mark.place()
            && replica.shows_positions()
        {
            let standing = replica.standing(place, &mut replica.walk());
            let mut frame = Frame::position();
            frame.rewrite(line.key, now_ns, |bytes| replica.write(standing, bytes));
            frames.push(Rc::new(frame));
            if let Some(shown) = line.waiting.get_mut(&(mark, slot)) {
                *shown = Shown { at: turn.tick, version: replica.version };
            }
        }
        frames.iter().for_each(|frame| self.queue(turn, conn, frame));
    }

    fn has_room_for(&self, conn: ConnId, event_id: &str) -> bool {
        let stands = self.lines.stands.get(conn.slot() as u32).map_or(&[][..], Vec::as_slice);
        let known = self.lines.find(event_id);
        stands.len() < LINES_PER_CONNECTION_MAX || stands.iter().any(|stand| Some(stand.line) == known)
    }
}

const JOIN: &str = "queue:join";
const LEAVE: &str = "queue:leave";
