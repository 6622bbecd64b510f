//! What a command brought about, for whoever has to tell it.

use std::sync::Arc;

use crate::sale::place::Ending;

/// An effect. The same on every instance; each tells those who are connected to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The holder has a place.
    Placed {
        /// Who.
        holder: Arc<str>,
        /// `None`: before the opening.
        number: Option<u32>,
        /// It had it before.
        again: bool,
    },
    /// The opening: everybody of the pre-queue is placed right after it.
    Opened {
        /// May be known now.
        seed: [u8; 32],
        /// Numbers given.
        total: u32,
    },
    /// The line is another: shards are to be told. Once for what a command changes.
    Moved,
    /// The holder gets a pass.
    Admitted {
        /// Who.
        holder: Arc<str>,
        /// Its number.
        number: u32,
        /// When the pass expires, wall ms.
        claim_until_ms: u64,
    },
    /// The pass was used.
    Claimed {
        /// Who.
        holder: Arc<str>,
        /// Its number.
        number: u32,
    },
    /// The place ended. Repeated where the command is.
    Ended {
        /// Who.
        holder: Arc<str>,
        /// `None`: it left the pre-queue.
        number: Option<u32>,
        /// How.
        ending: Ending,
    },
    /// Nobody is let in by itself.
    Paused {
        /// For people.
        reason: Arc<str>,
    },
    /// The pause is over.
    Resumed,
    /// Everybody who waits, waits in vain.
    SoldOut,
    /// Likewise: the sale is over.
    Closed,
    /// The command changed nothing.
    Refused {
        /// `None`: it was an operator's.
        holder: Option<Arc<str>>,
        /// Why.
        refusal: Refusal,
    },
}

impl Effect {
    pub(super) fn operator_refused(refusal: Refusal) -> Self {
        Self::Refused { holder: None, refusal }
    }
}

/// Why a command changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such queue, and no room for another.
    #[error("no such queue")]
    NoQueue,
    /// The instance has as many queues as it may.
    #[error("too many queues")]
    TooManyQueues,
    /// `places_max` places were given.
    #[error("the queue is full")]
    Full,
    /// The holder left and came back too often.
    #[error("too many places of one holder")]
    TooManyPlaces,
    /// Holders are connected to as many instances as can be told apart.
    #[error("too many instances")]
    TooManyInstances,
    /// The holder has no place, or none any more.
    #[error("no place")]
    NoPlace,
    /// The place has no pass.
    #[error("not admitted")]
    NotAdmitted,
    /// The pass was not used in time.
    #[error("the pass expired")]
    Expired,
    /// There is no order yet.
    #[error("not open yet")]
    NotOpen,
    /// It opened without a pre-queue.
    #[error("nobody was there before the opening: nothing was drawn")]
    NotDrawn,
    /// There is nothing left.
    #[error("sold out")]
    SoldOut,
    /// The sale is over.
    #[error("closed")]
    Closed,
    /// People joined for the seed that was committed to.
    #[error("the seed cannot be changed")]
    SeedIsSettled,
    /// The key was used for another number of people.
    #[error("the key was used for another call")]
    KeyReused,
    /// A number is out of its range.
    #[error("terms out of range")]
    Terms,
}
