//! Who comes in: connections of users, and newcomers to rooms that control decides about.
//!
//! Owns the decision, by what shards and other instances told; never waits for it. Where a stream's position goes with the
//! answer, the answer waits for the stream's head, and no longer than [`HEAD_TIME_MAX`].

use std::sync::Arc;

use super::{Output, Route, following::Following, questions::Question, turn::Turn};
use crate::{
    event::{Address, Denial, Position, RoomDenial, RoomEntry},
    ids::ConnId,
    limits::{HEAD_TIME_MAX, TOO_MANY_CONNECTIONS_RETRY},
    stream::{
        names::stream_of_address,
        store::{Ask, Head, Mark},
    },
};

/// Somebody who may come in.
#[derive(Debug)]
pub(super) enum Entry {
    /// A user's connection.
    Connection { conn: ConnId, stream: Arc<str> },
    /// A member of a room that is kept, with so many others.
    Member { conn: ConnId, stream: Arc<str>, attempt: u32, members: u32 },
}

/// One who waits to learn where a stream stands.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) entry: Entry,
    /// Monotonic nanoseconds.
    pub(super) until_ns: u64,
}

/// What a connection asks with [`super::Input::Join`].
pub(super) struct Join {
    pub(super) conn: ConnId,
    pub(super) attempt: u32,
    pub(super) room: Arc<str>,
    pub(super) members: u32,
    pub(super) newcomer: bool,
}

impl Entry {
    pub(super) fn stream(&self) -> &Arc<str> {
        match self {
            Self::Connection { stream, .. } | Self::Member { stream, .. } => stream,
        }
    }

    fn conn(&self) -> ConnId {
        match self {
            Self::Connection { conn, .. } | Self::Member { conn, .. } => *conn,
        }
    }

    /// The answer; `at`: where the stream stands, as far as it is known.
    fn answer(self, at: Option<&Mark>) -> Output {
        let position = at.map(|at| Position {
            stream: self.stream().clone(),
            epoch: at.epoch.clone(),
            offset: at.offset,
        });
        match self {
            Self::Connection { conn, .. } => Output::Admitted { conn, position },
            Self::Member { conn, attempt, members, .. } => {
                Output::JoinDecided { conn, attempt, outcome: Ok(RoomEntry { members, position }) }
            }
        }
    }
}

impl Route {
    pub(super) fn admit(&mut self, turn: &mut Turn<'_>, conn: ConnId, user: Arc<str>, user_connections: u32) {
        let stream = format!("user:{user}").into();
        let before = self.directory.user(&user).map_or(0, |held| held.on(conn.shard()));
        let address = Address::User(user.clone());
        let first = self.directory.count(&address) == 0;
        let here = self.directory.count(&address) + user_connections - before;
        let total = here.saturating_add(self.elsewhere(&address));
        let refused = self.connections_per_user_max > 0 && total > self.connections_per_user_max;
        // A refused connection is not one of the user's; the shard will say the same soon.
        let counted = if refused { user_connections.saturating_sub(1) } else { user_connections };
        self.members(turn, conn.shard(), &address, counted);
        if refused {
            self.counts.denied += 1;
            let retry_after_ms = TOO_MANY_CONNECTIONS_RETRY.as_millis() as u32;
            let denial = Denial::TooManyConnections;
            return turn.out.push(Output::Denied { conn, denial, retry_after_ms });
        }
        self.counts.admitted += 1;
        if let Some(following) = &mut self.following
            && self.connections_per_user_max > 0
        {
            following.unproven.add(turn.now, &user, conn, first);
        }
        self.enter(turn, Entry::Connection { conn, stream });
    }

    /// Decides by what the shards told: each counts all whom it holds or waits for, so that members are never more than
    /// the directory says.
    pub(super) fn join(&mut self, turn: &mut Turn<'_>, join: Join) {
        let Join { conn, attempt, room, members, newcomer } = join;
        let shard = conn.shard();
        let others = self.directory.room(&room).map_or(0, |held| held.total() - held.on(shard));
        let stream = self.sequencer.room_stream(&room);
        let address = Address::Room(room);
        let elsewhere = others.saturating_add(self.elsewhere(&address));
        let total = elsewhere.saturating_add(members);
        let max = if self.room_members_max > 0 { self.room_members_max } else { u32::MAX };
        if newcomer && total > max {
            // The shard will say the same when it knows.
            self.members(turn, shard, &address, members.saturating_sub(1));
            self.counts.rooms_full += 1;
            let outcome = Err(RoomDenial::Full);
            return turn.out.push(Output::JoinDecided { conn, attempt, outcome });
        }
        self.members(turn, shard, &address, members);
        self.counts.joined += 1;
        // Beyond the limit are only some that wait to hear that they are not let in.
        let members = total.min(max);
        match stream {
            Some(stream) => self.enter(turn, Entry::Member { conn, stream, attempt, members }),
            None => {
                let outcome = Ok(RoomEntry { members, position: None });
                turn.out.push(Output::JoinDecided { conn, attempt, outcome });
                self.show_latest(turn, conn, &stream_of_address(&address));
            }
        }
    }

    /// Lets somebody in with the stream's position: at once where it is known.
    fn enter(&mut self, turn: &mut Turn<'_>, entry: Entry) {
        let Some(following) = &mut self.following else {
            let stream = entry.stream().clone();
            return self.questions.ask(Question::Entry(entry), Ask::Head { stream, known: None }, turn.out);
        };
        let Following { up, cursors, deadlines, .. } = following;
        let Some(cursor) = cursors.get_mut(entry.stream()) else { return self.let_one_in(turn, entry, None) };
        if let Some(at) = cursor.at().cloned() {
            return self.let_one_in(turn, entry, Some(&at));
        }
        if !*up {
            cursor.nameless = true;
            return self.let_one_in(turn, entry, None);
        }
        let until_ns = turn.now.after(HEAD_TIME_MAX).mono_ns;
        deadlines.push_back((until_ns, entry.stream().clone()));
        cursor.waiters.push(Waiter { entry, until_ns });
    }

    /// The store told one who comes in where the stream stands.
    pub(super) fn entered(&mut self, turn: &mut Turn<'_>, entry: Entry, head: Option<&Head>) {
        let at = head.map(|head| Mark { epoch: head.epoch.clone(), offset: head.offset });
        self.let_one_in(turn, entry, at.as_ref());
    }

    /// Lets somebody in, and shows the last values behind it.
    pub(super) fn let_one_in(&mut self, turn: &mut Turn<'_>, entry: Entry, at: Option<&Mark>) {
        let (conn, stream) = (entry.conn(), entry.stream().clone());
        turn.out.push(entry.answer(at));
        self.show_latest(turn, conn, &stream);
    }
}
