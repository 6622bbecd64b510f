//! What control and the shards tell each other of a waiting room's queue (03 §10).
//!
//! Owns the vocabulary. Never the rules of a queue: those are control's. A place is a number from 1; everybody with a
//! place behind the serving number waits for those between who are neither departed nor gone.

use std::sync::Arc;

use crate::ids::ConnId;

/// As in `wire::command`.
type RequestId = Box<str>;

/// News of one queue, the same for every shard: each computes what its own connections are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineUpdate {
    /// Which queue.
    pub event_id: Arc<str>,
    /// Grows when the event has another queue: of the one before it nothing holds any more.
    pub epoch: u64,
    /// The sequence number that this follows: a shard that has another one misses something, and asks for a whole
    /// picture ([`crate::mesh::ToControl::LineLost`]). `None`: this is one.
    pub after: Option<u64>,
    /// Grows with every update of the queue.
    pub sequence: u64,
    /// Places that do not count any more for those behind, for ever, `1..=` [`crate::limits::LINE_PLACES_MAX`]. Of a
    /// difference those since `after`, of a whole picture all that are behind `serving`.
    pub departed: Places,
    /// Everybody up to this place was let in or passed over; 0: nobody yet. Never falls.
    pub serving: u32,
    /// Places given out, or people in the pre-queue.
    pub total: u32,
    /// How fast people are let in; `None`: nobody knows.
    pub pace: Option<LinePace>,
    /// When the serving number was raised last, or the queue opened; wall clock, milliseconds.
    pub moved_at_ms: u64,
    /// What people may expect.
    pub state: LineState,
    /// The places drawn at the opening, by the number of entry into the pre-queue, counted from 1: entry 1 has the first
    /// place in the list. 0: that one left before. `None`: nothing was drawn yet, or in a difference nothing new.
    pub draw: Option<Arc<[u32]>>,
}

/// People let in per hour, at the least and at the most; `1 <= low <= high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePace {
    /// The slower estimate.
    pub low: u32,
    /// The faster one.
    pub high: u32,
}

impl LinePace {
    /// When somebody at that position is let in, in seconds from now, at the earliest and at the latest; rounded up.
    #[inline]
    pub fn wait_seconds(self, position: u32) -> (u32, u32) {
        let at = |per_hour: u32| (u64::from(position) * 3_600).div_ceil(u64::from(per_hour.max(1)));
        let seconds = |per_hour| u32::try_from(at(per_hour)).unwrap_or(u32::MAX);
        (seconds(self.high), seconds(self.low))
    }
}

/// A set of place numbers, as runs or as bits, whichever is shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// First and last of each run, ascending.
    Runs(Box<[(u32, u32)]>),
    /// Bit `n % 64` of word `n / 64` is the number `first + n`.
    Bits {
        /// The number of the first bit.
        first: u32,
        /// The bits.
        words: Box<[u64]>,
    },
}

impl Places {
    /// The set of these numbers, each once, in any order.
    pub fn new(mut numbers: Vec<u32>) -> Self {
        numbers.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for number in &numbers {
            match runs.last_mut() {
                Some(run) if run.1 + 1 == *number => run.1 = *number,
                _ => runs.push((*number, *number)),
            }
        }
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
            return Self::Runs([].into());
        };
        let word_count = ((last - first) / u64::BITS) as usize + 1;
        if runs.len() <= word_count {
            return Self::Runs(runs.into());
        }
        let mut words = vec![0; word_count];
        for number in &numbers {
            let bit = number - first;
            words[(bit / u64::BITS) as usize] |= 1 << (bit % u64::BITS);
        }
        Self::Bits { first: *first, words: words.into() }
    }

    /// Each number, ascending.
    pub fn for_each(&self, mut visit: impl FnMut(u32)) {
        self.for_each_run(|first, last| (first..=last).for_each(&mut visit));
    }

    /// First and last of runs that make the set, ascending.
    pub fn for_each_run(&self, mut visit: impl FnMut(u32, u32)) {
        match self {
            Self::Runs(runs) => runs.iter().for_each(|(first, last)| visit(*first, *last)),
            Self::Bits { first, words } => {
                for (index, word) in words.iter().enumerate() {
                    let mut left = *word;
                    while left != 0 {
                        let number = first + index as u32 * u64::BITS + left.trailing_zeros();
                        visit(number, number);
                        left &= left - 1;
                    }
                }
            }
        }
    }

    /// Bytes that it takes beside itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Runs(runs) => size_of_val(&**runs),
            Self::Bits { words, .. } => size_of_val(&**words),
        }
    }
}

/// What people in a queue may expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineState {
    /// The pre-queue: nobody has a place before it opens.
    Early {
        /// When it opens, wall clock, milliseconds; `None`: not known yet.
        opens_at_ms: Option<u64>,
    },
    /// People are let in.
    Open,
    /// Nobody is let in for the moment.
    Paused {
        /// Why, in words for people.
        reason: Arc<str>,
        /// When it opens, as in `Early`; `None`: it has opened.
        opens_at_ms: Option<u64>,
    },
    /// Nobody will be let in, unless it goes on: tickets may come back.
    SoldOut,
    /// The queue is over: everybody leaves it.
    Closed,
    /// Nobody knows the places any more: as if it were closed.
    Lost,
}

impl LineState {
    /// When it opens, wall clock, milliseconds; `None`: it has opened, or is over, or nobody knows.
    pub fn opens_at_ms(&self) -> Option<u64> {
        match self {
            Self::Early { opens_at_ms } | Self::Paused { opens_at_ms, .. } => *opens_at_ms,
            Self::Open | Self::SoldOut | Self::Closed | Self::Lost => None,
        }
    }
}

/// Where somebody stands in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticket {
    /// Number of entry into the pre-queue, `1 <=` it `<=` [`crate::limits::LINE_PLACES_MAX`].
    Entry(u32),
    /// The place, in the same range.
    Place(u32),
}

/// A connection wants to join a queue, or to give its place up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineRequest {
    /// The connection.
    pub conn: ConnId,
    /// The request's id.
    pub request: Option<RequestId>,
    /// Which queue.
    pub event_id: Arc<str>,
    /// Whose it is; `None`: anonymous.
    pub user: Option<Arc<str>>,
    /// As the client sent it, at most [`crate::limits::PLACE_TOKEN_BYTES_MAX`].
    pub place_token: Option<Box<str>>,
    /// Whose place of the queue the connection stands in already, as in [`Seated::holder`]; `None`: in none.
    pub stands_as: Option<Arc<str>>,
}

impl LineRequest {
    /// Whether whoever joins gets a place of its own each time: nobody knows who it is.
    pub fn is_newcomer(&self) -> bool {
        self.user.is_none() && self.place_token.is_none() && self.stands_as.is_none()
    }
}

/// A connection has a place, or had it already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seated {
    /// What it asked.
    pub asked: LineRequest,
    /// Whose the place is: `u:<user>`, or `a:` and what its token names.
    pub holder: Arc<str>,
    /// Where.
    pub ticket: Ticket,
    /// Brings the place back without a user.
    pub place_token: Option<Box<str>>,
    /// JSON text.
    pub receipt: Option<Box<str>>,
    /// SHA-256 of the seed: who has it from before the opening can tell whether the order was settled by then.
    pub commitment: [u8; 32],
    /// It was let in already: JSON text of `queue:admitted`, for who has no stream that tells it.
    pub admitted: Option<Box<str>>,
}

/// Why a connection gets no place, or cannot give it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineDenial {
    /// There is no such queue.
    Unknown,
    /// It takes nobody any more.
    Over,
    /// It has as many places as it may have.
    Full,
    /// The holder had as many places as one may have.
    TooManyPlaces,
    /// Nobody knows its places any more.
    Lost,
    /// The place token is not ours, or of another queue.
    BadToken,
    /// To leave: there is no place to give up.
    NotIn,
    /// Too many people without a token came from its address.
    RateLimited {
        /// Milliseconds until the next may.
        retry_after_ms: u32,
    },
    /// Control could not be asked, or could not write it down.
    Overloaded {
        /// Milliseconds until it is worth trying again.
        retry_after_ms: u32,
    },
}

/// Something for every connection of one place on a shard: `queue:admitted` of an anonymous holder, `queue:left`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceNews {
    /// Which queue.
    pub event_id: Arc<str>,
    /// Whose place, as in [`Seated::holder`].
    pub holder: Arc<str>,
    /// Type of the message.
    pub kind: Arc<str>,
    /// JSON text of its payload.
    pub payload: Box<str>,
    /// The connection whose request this answers, and the request's id; it gets the message whether it waits or not.
    pub asked: Option<(ConnId, Option<RequestId>)>,
    /// Whether the place is gone with it, so that its connections leave the queue.
    pub leaves: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(places: &Places) -> Vec<u32> {
        let mut listed = Vec::new();
        places.for_each(|number| listed.push(number));
        listed
    }

    #[test]
    fn a_set_takes_the_shorter_form() {
        assert_eq!(Places::new(vec![3, 1, 2, 900]), Places::Runs([(1, 3), (900, 900)].into()));
        assert_eq!(Places::new(Vec::new()).heap_bytes(), 0);
        let every_third: Vec<u32> = (5..100_000).step_by(3).collect();
        let places = Places::new(every_third.clone());
        assert!(places.heap_bytes() <= 100_000 / 8 + 8, "{} B", places.heap_bytes());
        assert_eq!(listed(&places), every_third);
        assert_eq!(listed(&Places::new(vec![7, 8, 1_000])), [7, 8, 1_000]);
    }

    #[test]
    fn the_faster_estimate_is_the_lower_one() {
        assert_eq!(LinePace { low: 600, high: 1_200 }.wait_seconds(100), (300, 600));
        assert_eq!(LinePace { low: 7_200, high: 7_200 }.wait_seconds(1), (1, 1));
        assert_eq!(LinePace { low: 1, high: 1 }.wait_seconds(u32::MAX), (u32::MAX, u32::MAX));
    }
}
