//! What the store was asked and has not answered yet.
//!
//! Owns the tickets, the lines of reads and what appends under way will need of mailboxes. Invariants: at most one read
//! of a stream is under way, and [`READS_MAX`] in all, those of inquiries aside; whoever waits for a read is in one line.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Output, Ticket, Token, appended::Session, entries::Entry, inquiries::Looking};
use crate::{
    event::LatestKey,
    ids::ConnId,
    limits::{APPENDS_BYTES_MAX, APPENDS_MAX, READS_MAX, READS_WAITING_MAX, REPLAY_PAGE_EVENTS_MAX},
    stream::store::{Ask, Mark},
};

/// Why something was asked.
#[derive(Debug)]
pub(super) enum Question {
    /// To store an event with a payload of so many bytes.
    Append { asker: Asker, bytes: usize, session: Session },
    /// To tell one who comes in where the stream stands.
    Entry(Entry),
    /// To know where a stream that is followed stands.
    Head(Arc<str>),
    /// Whether the store still has what this instance appended.
    Doubt { stream: Arc<str>, mark: Mark },
    /// For what was stored.
    Read(Read),
    /// For an operator.
    Inquiry(Looking),
    /// For the client's acknowledgement.
    Acknowledge(Arc<str>),
    /// To keep last values of an address.
    Remember { address: Arc<str>, keys: Vec<LatestKey> },
    /// For the last values of an address.
    Recall(Arc<str>),
}

/// Who waits for the outcome of an append.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// A caller.
    Call(Token),
    /// [`super::ingest`], under this number.
    Foreign(u64),
    /// Nobody.
    Nobody,
}

/// Somebody wants to read a stream.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) stream: Arc<str>,
    pub(super) epoch: Arc<str>,
    pub(super) after: u64,
    pub(super) reader: Reader,
    /// When it was first asked for, monotonic nanoseconds.
    pub(super) since_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// The instance itself: it missed something.
    Cursor,
    /// A connection, from the offset on.
    Replay(ConnId),
    /// A connection, from what was acknowledged on; epoch and offset are not known yet.
    Unacknowledged(ConnId),
}

/// Slots and bytes of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Questions {
    last: Ticket,
    open: HashMap<Ticket, Question>,
    /// What appends under way will need of each mailbox.
    appends: Room,
    /// Inquiries under way.
    inquiries: usize,
    lines: HashMap<Arc<str>, Line>,
    /// Streams with somebody waiting and no read under way, each once.
    ready: VecDeque<Arc<str>>,
    reads: usize,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Line {
    busy: bool,
    waiting: VecDeque<Read>,
}

impl Questions {
    /// Asks.
    pub(super) fn ask(&mut self, question: Question, ask: Ask, out: &mut Vec<Output>) {
        if let Question::Append { bytes, .. } = &question {
            self.appends.count += 1;
            self.appends.bytes += bytes;
        }
        self.inquiries += usize::from(matches!(question, Question::Inquiry(_)));
        self.last += 1;
        self.open.insert(self.last, question);
        out.push(Output::Ask { ticket: self.last, ask });
    }

    /// What the answer is to; `None`: nothing that was asked.
    pub(super) fn answered(&mut self, ticket: Ticket) -> Option<Question> {
        let question = self.open.remove(&ticket)?;
        match &question {
            Question::Append { bytes, .. } => {
                self.appends.count -= 1;
                self.appends.bytes -= bytes;
            }
            Question::Read(read) => self.freed(&read.stream),
            Question::Inquiry(_) => self.inquiries -= 1,
            Question::Entry(_)
            | Question::Head(_)
            | Question::Doubt { .. }
            | Question::Acknowledge(_)
            | Question::Remember { .. }
            | Question::Recall(_) => {}
        }
        Some(question)
    }

    /// Whether one more append of so many bytes may be asked for.
    pub(super) fn takes_append(&self, bytes: usize) -> bool {
        self.appends.count < APPENDS_MAX && self.appends.bytes + bytes <= APPENDS_BYTES_MAX
    }

    /// What is kept free in every mailbox for events that are being stored.
    pub(super) fn reserved(&self) -> Room {
        self.appends
    }

    /// Inquiries without an answer so far.
    pub(super) fn inquiry_count(&self) -> usize {
        self.inquiries
    }

    /// Questions without an answer so far.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Reads that wait for their turn.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting
    }

    /// Puts a read into its line, or gives it back when too many wait.
    pub(super) fn put(&mut self, read: Read) -> Result<(), Read> {
        if self.waiting >= READS_WAITING_MAX {
            return Err(read);
        }
        self.waiting += 1;
        let line = self.lines.entry(read.stream.clone()).or_default();
        if !line.busy && line.waiting.is_empty() {
            self.ready.push_back(read.stream.clone());
        }
        line.waiting.push_back(read);
        Ok(())
    }

    /// Asks for what may be read now.
    pub(super) fn start(&mut self, out: &mut Vec<Output>) {
        while self.reads < READS_MAX {
            let Some(stream) = self.ready.pop_front() else { break };
            let Some(line) = self.lines.get_mut(&stream) else { continue };
            let Some(read) = line.waiting.pop_front() else { continue };
            line.busy = true;
            self.reads += 1;
            self.waiting -= 1;
            let Read { epoch, after, .. } = &read;
            let ask = if matches!(read.reader, Reader::Unacknowledged(_)) {
                Ask::Head { stream, known: None }
            } else {
                Ask::Read { stream, epoch: epoch.clone(), after: *after, count_max: REPLAY_PAGE_EVENTS_MAX }
            };
            self.ask(Question::Read(read), ask, out);
        }
    }

    /// Takes out of the stream's line whom a page serves too that follows `after`: those who are no further than `to`.
    pub(super) fn take_served(&mut self, page: &Read, to: u64) -> Vec<Read> {
        let Some(line) = self.lines.get_mut(&page.stream) else { return Vec::new() };
        let served = |read: &Read| {
            matches!(read.reader, Reader::Replay(_))
                && read.epoch == page.epoch
                && (page.after..=to).contains(&read.after)
        };
        let (taken, left): (Vec<Read>, Vec<Read>) =
            std::mem::take(&mut line.waiting).into_iter().partition(served);
        line.waiting = left.into();
        self.waiting -= taken.len();
        if line.waiting.is_empty() && !line.busy {
            self.lines.remove(&page.stream);
            self.ready.retain(|ready| *ready != page.stream);
        }
        taken
    }

    /// The read of a stream is over.
    fn freed(&mut self, stream: &Arc<str>) {
        self.reads -= 1;
        let Some(line) = self.lines.get_mut(stream) else { return };
        line.busy = false;
        if line.waiting.is_empty() {
            self.lines.remove(stream);
        } else {
            self.ready.push_back(stream.clone());
        }
    }

    pub(super) fn check_invariants(&self) {
        let waiting: usize = self.lines.values().map(|line| line.waiting.len()).sum();
        assert_eq!(waiting, self.waiting, "reads that wait");
        let busy = self.lines.values().filter(|line| line.busy).count();
        assert!(busy == self.reads && busy <= READS_MAX, "reads under way");
        let inquiries =
            self.open.values().filter(|question| matches!(question, Question::Inquiry(_))).count();
        assert_eq!(inquiries, self.inquiries, "inquiries under way");
        let idle = self.lines.values().filter(|line| !line.busy).count();
        assert_eq!(idle, self.ready.len(), "streams whose turn may come");
    }
}
