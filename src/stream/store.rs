//! What is asked of a stream store, and what it answers.
//!
//! Owns the vocabulary alone: [`crate::stream::history`] answers from memory, and what keeps streams elsewhere answers
//! the same questions in the same way. Every question is answered once.

use std::sync::Arc;

use crate::event::{Event, Position};

/// A question to a stream store. Each is answered once; those about one stream in the order asked.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is the usual one: a box would cost an allocation each"
)]
pub enum Ask {
    /// Store an event as the next of its stream.
    Append(Append),
    /// Where the stream stands, for who follows it; one that does not exist begins.
    Head {
        /// Which.
        stream: Arc<str>,
        /// The newest position that this instance saw; a store that is behind it has lost something and begins a new
        /// epoch. `None`: it saw none.
        known: Option<Mark>,
    },
    /// Where the stream stands, for who does not follow it; nothing changes.
    Look {
        /// Which.
        stream: Arc<str>,
    },
    /// Entries after an offset, at most so many. A stream that does not exist does not begin.
    Read {
        /// Which stream.
        stream: Arc<str>,
        /// The history that the offset belongs to.
        epoch: Arc<str>,
        /// `0`: from the first entry.
        after: u64,
        /// At least 1.
        count_max: usize,
    },
    /// The client has everything up to the offset; cumulative, never falls.
    Acknowledge {
        /// Which stream.
        stream: Arc<str>,
        /// The history that the offset belongs to, empty: whichever it is; another than the stream's: nothing changes.
        epoch: Arc<str>,
        /// Of the newest entry that it has.
        offset: u64,
    },
    /// Keep the last values of Latest keys; one with an older version than what is kept changes nothing.
    Remember {
        /// The stream of whom they are for, whether it is kept or not.
        stream: Arc<str>,
        /// One for each key.
        values: Vec<Arc<Event>>,
    },
    /// The values that are kept.
    Recall {
        /// As above.
        stream: Arc<str>,
    },
    /// Let go of the log of a queue that is over; of another one that the event has by now nothing goes.
    Forget {
        /// Which.
        stream: Arc<str>,
        /// Of its history.
        epoch: Arc<str>,
    },
}

impl Ask {
    /// What it is about.
    pub fn stream(&self) -> &Arc<str> {
        match self {
            Self::Append(Append { stream, .. })
            | Self::Head { stream, .. }
            | Self::Look { stream }
            | Self::Read { stream, .. }
            | Self::Acknowledge { stream, .. }
            | Self::Remember { stream, .. }
            | Self::Recall { stream }
            | Self::Forget { stream, .. } => stream,
        }
    }
}

/// A place in a stream that is named beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Names one unbroken history of the stream.
    pub epoch: Arc<str>,
    /// `0`: before the first entry.
    pub offset: u64,
}

/// An event to store.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    /// Which stream.
    pub stream: Arc<str>,
    /// What; without a position.
    pub event: Event,
    /// What makes a repeat known; `None`: every append is a first one.
    pub memory: Option<Memory>,
    /// As in [`Ask::Head`].
    pub known: Option<Mark>,
    /// `None`: it is stored in any case.
    pub proviso: Option<Proviso>,
}

/// On what condition an event is stored; times are by the store's own clock, ms since 1970. The last two are for what
/// several instances may try to store, without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proviso {
    /// The stream goes on from what is known of it ([`Append::known`]), whatever came since then, or there was and is
    /// nothing of it; else [`Failure::Parted`].
    Follows,
    /// It is not that late yet; else [`Failure::Refused`].
    Before(u64),
    /// Of entries that are equal in all that others get, fewer than so many were stored since that time; else
    /// [`Answer::Repeated`] with the head.
    Fewer {
        /// At least 1.
        than: u32,
        /// Entries of that millisecond count.
        since_ms: u64,
    },
}

/// Idempotency inside the append, scope = stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// For 5 minutes.
    Key {
        /// The caller's.
        key: Arc<str>,
        /// A hash of what is sent; stable over builds and instances.
        body: u64,
    },
    /// For good, however late it is repeated: of a writer that asks for no entry before it knows what became of the one
    /// before. Of too many writers ([`crate::limits::STREAM_WRITERS_MAX`]) the one is forgotten that wrote longest ago.
    Number {
        /// Nobody else has this name, nor had it before.
        writer: Arc<str>,
        /// Higher than that of every entry before it. One below the last is refused: a try that was held up.
        number: u64,
    },
}

/// What the store says to an [`Ask`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Stored; the event carries its position now.
    Appended(Arc<Event>),
    /// The key had been used for the same body, the entry of that number is stored, or an equal event is ([`Proviso::Fewer`]):
    /// where that one is.
    Repeated(Position),
    /// The key had been used for another body.
    KeyReused,
    /// To [`Ask::Head`] and [`Ask::Look`].
    Head(Head),
    /// To [`Ask::Read`].
    Page(Page),
    /// To [`Ask::Acknowledge`]: the acknowledged offset as it is now.
    Acknowledged(u64),
    /// To [`Ask::Remember`].
    Remembered,
    /// To [`Ask::Recall`]; in no order.
    Recalled(Vec<Arc<Event>>),
    /// To [`Ask::Forget`].
    Forgotten,
    /// To any of them.
    Failed(Failure),
}

/// Where a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Of the running history; empty where no stream exists, and none was to begin.
    pub epoch: Arc<str>,
    /// Of the newest entry; `0`: there was none.
    pub offset: u64,
    /// What clients have; `<= offset`.
    pub acknowledged: u64,
}

/// Some entries of a stream, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Where the stream stood then.
    pub head: Head,
    /// They follow `after` without a hole, under the name of the head's epoch, which may be one in which the asker's goes on;
    /// `None`: they do not join it (an epoch that is no part of this history, trimmed, future).
    pub events: Option<Vec<Arc<Event>>>,
    /// What follows this offset of the head's history is there, and nothing of it is of what the asker had: `after` where they
    /// join it, else where they begin.
    pub rest: u64,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Outcome unknown: repeat with the same key.
    Unavailable,
    /// Nothing was stored (out of memory, read-only, …).
    Refused,
    /// Nothing was stored: what is known of the stream is no part of its history ([`Proviso::Follows`]).
    Parted,
}
