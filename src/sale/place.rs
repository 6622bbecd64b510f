//! Places, and those who hold them.

/// Where a place is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the line, or in the pre-queue, and counted by those behind.
    Waiting,
    /// Nobody of its holder was connected for the grace; counts for nobody any more. Its holder may come back: it keeps its
    /// number and is admitted when that is served.
    Departed,
    /// Has a pass that is not used yet.
    Admitted,
    /// Used its pass.
    Inside,
    /// Its holder may join anew, for another place.
    Gone(Ending),
}

impl State {
    /// Whether joining again finds this place.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::Gone(_))
    }
}

/// How a place ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its holder gave it up while waiting.
    Left,
    /// Its pass was not used in time.
    Expired,
    /// Its holder bought.
    Completed,
    /// Its holder had a pass or was inside and gave up, or stayed too long.
    Abandoned,
}

/// One place. Its number is its index and 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// When its state ends by itself, wall ms; `0`: never. It departs, once more where it was back, its pass expires, its
    /// stay is over.
    pub(super) due_ms: u64,
    /// Index into the people.
    pub(super) person: u32,
    pub(super) state: State,
}

/// Who holds a place. Its index is the id of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// Instances that it is connected to, one bit each.
    pub(super) here: u64,
    /// The newest of its places; `0`: it left before the opening.
    pub(super) number: u32,
    /// Places that it had, `1..=PLACES_PER_HOLDER_MAX`.
    pub(super) places: u8,
    /// How often it came back after leaving the pre-queue, `0..=RETURNS_PER_HOLDER_MAX`.
    pub(super) returns: u8,
}

const _: () = assert!(size_of::<Place>() == 16 && size_of::<Person>() == 16);
