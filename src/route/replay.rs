//! What clients get that were here before: pages of stored events.
//!
//! Never keeps anything of a client: it asks for each page. Where a page cannot be had, since too many wait or the store
//! is down, the client is told that not everything could be recovered: it is never left with a gap that it does not know.

use std::sync::Arc;

use super::{
    Output, Route,
    questions::{Read, Reader},
    turn::Turn,
};
use crate::{
    event::{Event, Position, ReplayEnd, ReplayPage, Resume},
    ids::ConnId,
    limits::{READS_WAITING_MAX, REPLAY_PAGE_EVENTS_MAX, REPLAY_TIME_MAX},
    stream::store::{Answer, Head, Page},
};

impl Route {
    pub(super) fn resume(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        user: Option<Arc<str>>,
        resume: Resume,
    ) {
        match (resume, user) {
            (Resume::Streams(positions), _) => {
                for position in positions {
                    self.replay(turn, conn, position);
                }
            }
            (Resume::Unacknowledged, Some(user)) => {
                let reader = Reader::Unacknowledged(conn);
                self.read(
                    turn,
                    Read {
                        stream: format!("user:{user}").into(),
                        epoch: "".into(),
                        after: 0,
                        reader,
                        since_ns: turn.now.mono_ns,
                    },
                );
            }
            // Who is nobody has no stream.
            (Resume::Unacknowledged, None) => {}
        }
    }

    /// The page after a position.
    pub(super) fn replay(&mut self, turn: &mut Turn<'_>, conn: ConnId, position: Position) {
        let Position { stream, epoch, offset } = position;
        let read =
            Read { stream, epoch, after: offset, reader: Reader::Replay(conn), since_ns: turn.now.mono_ns };
        if self.sequencer.is_kept(&read.stream) {
            self.read(turn, read);
        } else {
            self.cannot(turn, &read);
        }
    }

    fn read(&mut self, turn: &mut Turn<'_>, read: Read) {
        if let Err(read) = self.questions.put(read) {
            self.counts.reads_refused += 1;
            self.cannot(turn, &read);
        }
    }

    /// The store answered a read; `None`: it could not.
    pub(super) fn read_told(&mut self, turn: &mut Turn<'_>, read: Read, answer: Answer) {
        self.counts.reads += 1;
        match (read.reader, answer) {
            (Reader::Cursor, Answer::Page(page)) => self.gap_read(turn, &read, Some(page)),
            (Reader::Cursor, _) => self.gap_read(turn, &read, None),
            (Reader::Replay(conn), Answer::Page(page)) => self.page_read(turn, conn, &read, page),
            (Reader::Unacknowledged(conn), Answer::Head(head)) => {
                let (epoch, offset) = (head.epoch, head.acknowledged);
                self.replay(turn, conn, Position { stream: read.stream, epoch, offset });
            }
            (Reader::Replay(_) | Reader::Unacknowledged(_), _) => self.retry(turn, read),
        }
    }

    fn page_read(&mut self, turn: &mut Turn<'_>, conn: ConnId, read: &Read, page: Page) {
        let Page { head, events, .. } = page;
        if head.epoch.is_empty() {
            return self.cannot(turn, read);
        }
        let Some(events) = events else {
            let end = ReplayEnd { recovered: false, from: read.after, to: head.offset };
            return give(turn, conn, read, (&head, Vec::new(), Some(end)));
        };
        // Many come back at once with the same position: one read serves them all.
        let to = read.after + events.len() as u64;
        // Where the store goes on in another epoch, others may have what is no part of it.
        let served = if head.epoch == read.epoch { to } else { read.after };
        for other in self.questions.take_served(read, served) {
            let Reader::Replay(conn) = other.reader else { continue };
            let rest = events[(other.after - read.after) as usize..].to_vec();
            self.serve(turn, conn, &other, (&head, rest, to));
        }
        self.serve(turn, conn, read, (&head, events, to));
    }

    fn serve(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        read: &Read,
        (head, events, to): (&Head, Vec<Arc<Event>>, u64),
    ) {
        let is_last = to >= head.offset;
        let end = is_last.then_some(ReplayEnd { recovered: true, from: read.after, to });
        debug_assert!(events.len() <= REPLAY_PAGE_EVENTS_MAX);
        give(turn, conn, read, (head, events, end));
    }

    /// The store is down, or slow: the read is tried again each second. Whoever asked asks again after a time of its own, or
    /// gives up, and may be gone.
    fn retry(&mut self, turn: &mut Turn<'_>, read: Read) {
        if turn.now.mono_ns.saturating_sub(read.since_ns) > REPLAY_TIME_MAX.as_nanos() as u64 {
            self.counts.reads_refused += 1;
        } else if self.retries.len() < READS_WAITING_MAX {
            self.retries.push(read);
        } else {
            self.counts.reads_refused += 1;
            self.cannot(turn, &read);
        }
    }

    /// A second passed: what the store did not answer is asked again.
    pub(super) fn read_again(&mut self, turn: &mut Turn<'_>) {
        for read in std::mem::take(&mut self.retries) {
            self.read(turn, read);
        }
    }

    /// Ends a replay that cannot go on where this instance stands.
    fn cannot(&self, turn: &mut Turn<'_>, read: &Read) {
        let (Reader::Replay(conn) | Reader::Unacknowledged(conn)) = read.reader else { return };
        let cursor = self.following.as_ref().and_then(|following| following.cursors.get(&read.stream));
        let (epoch, offset) = match cursor.and_then(|cursor| cursor.at()) {
            Some(at) => (at.epoch.clone(), at.offset),
            None => (read.epoch.clone(), read.after),
        };
        let head = Head { epoch, offset, acknowledged: 0 };
        let end = ReplayEnd { recovered: false, from: read.after, to: head.offset };
        give(turn, conn, read, (&head, Vec::new(), Some(end)));
    }
}

fn give(
    turn: &mut Turn<'_>,
    conn: ConnId,
    read: &Read,
    (head, events, end): (&Head, Vec<Arc<Event>>, Option<ReplayEnd>),
) {
    let (stream, follows, epoch) = (read.stream.clone(), read.epoch.clone(), head.epoch.clone());
    let page = ReplayPage { stream, follows, epoch, events, end };
    turn.out.push(Output::Replay { conn, page: Box::new(page) });
}
