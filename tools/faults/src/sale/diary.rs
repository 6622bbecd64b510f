//! What one of the people in a queue saw and did, in order.

use usher::{clock::Now, sale::receipt::Receipt};

/// The diary of one of them.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    /// `u:<user>`; `None`: anonymous, and known by its passes and receipts alone.
    pub(crate) holder: Option<String>,
    /// With the wall clock, ms.
    pub(crate) seen: Vec<(u64, Seen)>,
    /// Those that are not the same as the one before.
    pub(crate) receipts: Vec<Receipt>,
    /// First joins whose answers never came: each may have left a place that nobody knows.
    pub(crate) unanswered: u32,
    /// What it could not make sense of.
    pub(crate) faults: Vec<String>,
    /// It is connected and has been told its place, or is no longer in the queue by its own will.
    pub(crate) settled: bool,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It asks for its place.
    Asks,
    /// `queue:joined`; `None`: before the opening.
    Joined(Option<u32>),
    /// `booking:queue_position`.
    Position { position: u32, ahead: u32, serving: u32 },
    /// `queue:admitted`.
    Admitted { place: u32, pass: String, until_ms: u64 },
    /// It is about to give its place up.
    Leaves,
    /// `queue:left`, or there is nothing to leave.
    Left,
    /// `system:resync`: something of its stream may be missing.
    Gap,
    /// The connection ended.
    Away,
    /// The booking service was told something of its pass, and agreed; or it is about to be told.
    Booking(Deed),
}

/// What the booking service says of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Claimed,
    Completed,
    /// It will be given up: `queue:left` may come before the answer.
    GivesUp,
    Abandoned,
    /// It was not used in time.
    TooLate,
}

impl Diary {
    pub(crate) fn note(&mut self, seen: Seen) {
        self.seen.push((Now::read().wall_ms, seen));
    }

    pub(crate) fn keep(&mut self, receipt: Receipt) {
        if self.receipts.last() != Some(&receipt) {
            self.receipts.push(receipt);
        }
    }

    pub(crate) fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }
}
