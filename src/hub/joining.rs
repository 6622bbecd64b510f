//! Joins that control decides, since they need the view of all shards.
//!
//! Owns what waits for control's answer: a place reserved in the room, which counts and gets nothing yet. The answer
//! stands in the mailbox between the events before it and those after it, so that a member gets exactly what follows
//! the position that it was told. Nothing depends on the answer's coming: whoever stops waiting gives the place up,
//! and control hears of that as of every other count. An answer that comes too late names an attempt that nobody
//! waits for.

use std::sync::Arc;

use super::{
    Hub, Output, Turn,
    connections::Connection,
    deadlines::{Span, Tick},
    groups::GroupKey,
    problem::Problem,
    requests::Asked,
};
use crate::{
    event::{RoomDenial, RoomEntry},
    ids::ConnId,
    limits::OVERLOAD_RETRY,
    wire::{command::RequestId, room::glob_matches, ticketing::Notice},
};

/// A join that waits for control.
#[derive(Debug)]
pub(super) struct Joining {
    /// A newcomer has a reservation there, a member asks again and has a seat.
    pub(super) room: GroupKey,
    attempt: u32,
    request: Option<RequestId>,
    pub(super) why: Why,
    /// When it is given up.
    pub(super) until: Tick,
}

/// What a join is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// `room:join`, which is answered.
    Join,
    /// The room's stream is resumed; that is answered instead.
    Resume,
}

/// The type of the request, for the answer.
const KIND: &str = "room:join";

impl Hub {
    /// Whether joining the room needs the view of all shards: a limit, a position in its stream, or who is there.
    pub(super) fn is_governed(&self, room: &str) -> bool {
        let settings = &self.settings;
        settings.limits.room_members_max > 0
            || settings.streams.rooms.iter().any(|glob| glob_matches(glob, room))
            || self.has_presence(room)
    }

    /// Asks control; the connection may join the room as far as this hub can tell, or is a member already.
    pub(super) fn ask_to_join(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &Asked<'_>,
        room: &Arc<str>,
        why: Why,
    ) -> Result<(), Problem> {
        let conn = asked.conn;
        if self.joining(conn, room).is_some() {
            return Err(Problem::JOINING);
        }
        let member = self.membership(conn, room);
        let key = match member {
            Some(key) => key,
            None => {
                self.check_join(conn, room)?;
                self.rooms.reserve(room)
            }
        };
        self.attempt = self.attempt.wrapping_add(1);
        let attempt = self.attempt;
        let until = turn.tick.plus(self.spans.join).plus(Span(1));
        if let Some(record) = self.connections.get_mut(conn) {
            let joining = Joining { room: key, attempt, request: asked.id.clone(), why, until };
            record.rare_mut().joining.push(joining);
        }
        self.rooms.set_told(key);
        let (room, members) = (Arc::clone(room), self.rooms.count(key));
        turn.out.push(Output::Join { conn, attempt, room, members, newcomer: member.is_none() });
        self.reschedule(turn, conn);
        Ok(())
    }

    pub(super) fn join_decided(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        attempt: u32,
        outcome: Result<RoomEntry, RoomDenial>,
    ) {
        let Some(joining) = self.take_joining(conn, |joining| joining.attempt == attempt) else { return };
        match outcome {
            Ok(entry) => self.enter_decided(turn, conn, &joining, &entry),
            Err(RoomDenial::Full) => self.refuse_join(turn, conn, &joining, Problem::ROOM_FULL),
            Err(RoomDenial::Overloaded { retry_after_ms }) => {
                let problem = Problem::OVERLOADED.after(u64::from(retry_after_ms));
                self.refuse_join(turn, conn, &joining, problem);
            }
        }
    }

    /// The room that the connection waits for, if it does.
    pub(super) fn joining(&self, conn: ConnId, room: &str) -> Option<GroupKey> {
        let key = self.rooms.find(room)?;
        let rare = self.connections.get(conn)?.rare.as_ref()?;
        rare.joining.iter().any(|joining| joining.room == key).then_some(key)
    }

    /// Ends a wait for control's answer, whose request is answered with the problem; whether there was one.
    pub(super) fn give_up_join(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        room: GroupKey,
        problem: Problem,
    ) -> bool {
        let joining = self.take_joining(conn, |joining| joining.room == room);
        if let Some(joining) = &joining {
            self.refuse_join(turn, conn, joining, problem);
        }
        joining.is_some()
    }

    /// Control did not answer in time.
    pub(super) fn give_up_late_joins(&mut self, turn: &mut Turn<'_>, conn: ConnId) {
        while let Some(joining) = self.take_joining(conn, |joining| joining.until <= turn.tick) {
            self.cells.joins_unanswered.add(1);
            let problem = Problem::OVERLOADED.after(OVERLOAD_RETRY.as_millis() as u64);
            self.refuse_join(turn, conn, &joining, problem);
        }
    }

    /// The connection ends: nobody waits for answers any more.
    pub(super) fn forget_joins(&mut self, conn: ConnId) {
        while let Some(joining) = self.take_joining(conn, |_| true) {
            self.give_back(conn, &joining);
        }
    }

    fn enter_decided(&mut self, turn: &mut Turn<'_>, conn: ConnId, joining: &Joining, entry: &RoomEntry) {
        let Some(room) = self.rooms.name(joining.room).cloned() else { return };
        if !self.is_member(conn, joining.room) {
            let seat = self.rooms.settle(joining.room, conn.slot() as u32);
            if let Some(record) = self.connections.get_mut(conn) {
                record.rooms.insert(seat);
            }
            self.user_comes(conn, joining.room);
        }
        if joining.why == Why::Resume {
            return self.resume_seated(turn, conn, joining.room, entry.position.as_ref());
        }
        let notice =
            Notice::Joined { room: &room, members: entry.members, position: entry.position.as_ref() };
        self.notice(turn, conn, &notice, joining.request.as_ref());
    }

    fn refuse_join(&mut self, turn: &mut Turn<'_>, conn: ConnId, joining: &Joining, problem: Problem) {
        self.give_back(conn, joining);
        if joining.why == Why::Resume {
            return self.end_replays(turn, conn, Some(joining.room), problem);
        }
        self.send_problem(turn, conn, (joining.request.as_ref(), Some(KIND)), problem);
    }

    /// Gives the reserved place back, if there is one.
    fn give_back(&mut self, conn: ConnId, joining: &Joining) {
        if !self.is_member(conn, joining.room) {
            self.rooms.release(joining.room);
        }
    }

    fn is_member(&self, conn: ConnId, room: GroupKey) -> bool {
        self.connections.get(conn).is_some_and(|record| record.rooms.contains(room))
    }

    fn take_joining(&mut self, conn: ConnId, is_it: impl Fn(&Joining) -> bool) -> Option<Joining> {
        let rare = self.connections.get_mut(conn)?.rare.as_mut()?;
        let index = rare.joining.iter().position(is_it)?;
        Some(rare.joining.remove(index))
    }
}

impl Connection {
    /// Rooms that it waits to come into, or asks about.
    pub(super) fn joining(&self) -> &[Joining] {
        self.rare.as_ref().map_or(&[], |rare| &rare.joining)
    }
}
