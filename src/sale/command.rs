//! Commands of a queue, and an entry of its log.
//!
//! Owns both directions of the format: one JSON object, since payloads of stored events are JSON, and whoever audits a
//! sale reads it. Never trusts what it reads: whatever the bytes are, they become an entry within the limits or an error.
//!
//! | key | what |
//! |---|---|
//! | `v` | version, 1 |
//! | `at` | wall clock of the writer, ms |
//! | `c` | commands, in order, `1..=ENTRY_COMMANDS_MAX` |
//!
//! A command is a string (`"tick"`) or an object with one key (`{"join":{"h":"u:42","i":"a"}}`): `h` is the holder, `i`
//! the instance, `n` a place.

use serde::{Deserialize, Serialize};

use crate::{
    limits::{
        ENTRY_COMMANDS_MAX, EVENT_BYTES_MAX, HOLDER_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX,
        INLET_PER_MINUTE_MAX, INSTANCE_BYTES_MAX, OFFSET_MAX, PLACES_MAX, QUEUE_REASON_BYTES_MAX,
        QUEUE_TIME_MAX,
    },
    sale::inlet::Inlet,
};

const VERSION: u32 = 1;

/// What an operator settles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// When places are given, wall ms; `0`: at once.
    pub opens_at_ms: u64,
    /// Instead: so long after the command, ms; the same once more does not move it. `0`: it was said as a time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub opens_in_ms: u64,
    /// Orders the pre-queue; committed to before, revealed at the opening.
    pub seed: [u8; 32],
    /// Hides people in receipts of others ([`crate::sale::fair::Secrets`]); never revealed.
    #[serde(default)]
    pub salts: [u8; 32],
    /// Both were made by the gateway: a queue that there is keeps its own.
    #[serde(default)]
    pub made: bool,
    /// How people are let in by themselves.
    pub inlet: Inlet,
    /// Admission → its pass expires, ms, `1..=QUEUE_TIME_MAX`.
    pub claim_ms: u64,
    /// The last connection of a holder goes → its place departs, ms, `1..=QUEUE_TIME_MAX`.
    pub grace_ms: u64,
    /// A pass is used → whoever used it counts as gone, ms, `1..=QUEUE_TIME_MAX`; `0`: never.
    pub stay_ms: u64,
    /// Places in all, `1..=PLACES_MAX`.
    pub places_max: u32,
    /// What nobody asked for, each once: a queue that there is keeps its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Term>,
}

/// One of the terms that may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// `opens_at_ms` and `opens_in_ms`.
    Opening,
    /// `inlet`.
    Inlet,
    /// `claim_ms`.
    Claim,
    /// `grace_ms`.
    Grace,
    /// `stay_ms`.
    Stay,
    /// `places_max`.
    Places,
}

impl Terms {
    /// Whether every number is in its range.
    pub fn is_valid(&self) -> bool {
        self.out_of_range().is_none()
    }

    /// A number that is out of its range: how calls name it, and the least and the most that they may say.
    pub fn out_of_range(&self) -> Option<(&'static str, u64, u64)> {
        let time_max = QUEUE_TIME_MAX.as_secs();
        let is_time = |ms| (1..=time_max * 1_000).contains(&ms);
        let (inlet, inlet_max) = match self.inlet {
            Inlet::Manual | Inlet::PerMinute(_) => ("per_minute", INLET_PER_MINUTE_MAX),
            Inlet::Inside(_) => ("inside", PLACES_MAX),
        };
        let rows = [
            (self.opens_at_ms <= OFFSET_MAX, "opens_at_ms", 0, OFFSET_MAX),
            (self.opens_in_ms <= OPENS_IN_MS_MAX, "opens_in_seconds", 0, OPENS_IN_MS_MAX / 1_000),
            (self.inlet.is_valid(), inlet, 1, inlet_max.into()),
            (is_time(self.claim_ms), "claim_seconds", 1, time_max),
            (is_time(self.grace_ms), "grace_seconds", 1, time_max),
            (self.stay_ms == 0 || is_time(self.stay_ms), "stay_seconds", 1, time_max),
            ((1..=PLACES_MAX).contains(&self.places_max), "places_max", 1, PLACES_MAX.into()),
            (self.kept.len() <= TERMS_KEPT_MAX, "kept", 0, TERMS_KEPT_MAX as u64),
        ];
        rows.into_iter().find(|(is_right, ..)| !is_right).map(|(_, field, min, max)| (field, min, max))
    }

    /// As they are for a queue that begins with them.
    pub fn begun(&self, at_ms: u64) -> Self {
        let opens_at_ms = if self.opens_in_ms == 0 { self.opens_at_ms } else { at_ms + self.opens_in_ms };
        Self { opens_at_ms, kept: Vec::new(), ..self.clone() }
    }

    /// As they are once these were asked for of a queue that has others, its seed and salts too.
    pub fn changed(&self, asked: &Self, at_ms: u64) -> Self {
        let Self { seed, salts, made, .. } = *self;
        let mut terms = Self { seed, salts, made, ..asked.begun(at_ms) };
        if asked.opens_in_ms != 0 && asked.opens_in_ms == self.opens_in_ms {
            terms.opens_at_ms = self.opens_at_ms;
        }
        for term in &asked.kept {
            match term {
                Term::Opening => {
                    (terms.opens_at_ms, terms.opens_in_ms) = (self.opens_at_ms, self.opens_in_ms);
                }
                Term::Inlet => terms.inlet = self.inlet,
                Term::Claim => terms.claim_ms = self.claim_ms,
                Term::Grace => terms.grace_ms = self.grace_ms,
                Term::Stay => terms.stay_ms = self.stay_ms,
                Term::Places => terms.places_max = self.places_max,
            }
        }
        terms
    }
}

/// As many seconds as a call can name.
const OPENS_IN_MS_MAX: u64 = u32::MAX as u64 * 1_000;
/// Each once.
const TERMS_KEPT_MAX: usize = 6;

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What happens to a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Begins a queue, or changes its terms: what is asked for but the seed, and the opening time as long as it is not open.
    Open(Box<Terms>),
    /// Time passes; so it does with every command.
    Tick,
    /// The holder, connected to an instance, wants a place, or has one.
    Join {
        /// `u:<user>` or `a:<token>`, `1..=HOLDER_BYTES_MAX` bytes.
        #[serde(rename = "h")]
        holder: Box<str>,
        /// `1..=INSTANCE_BYTES_MAX` bytes.
        #[serde(rename = "i")]
        instance: Box<str>,
    },
    /// The holder gives its place up.
    Leave {
        /// As in `Join`.
        #[serde(rename = "h")]
        holder: Box<str>,
    },
    /// The holder has a connection to the instance.
    Here {
        /// As in `Join`.
        #[serde(rename = "h")]
        holder: Box<str>,
        /// As in `Join`.
        #[serde(rename = "i")]
        instance: Box<str>,
    },
    /// The holder has none to it any more.
    Away {
        /// As in `Join`.
        #[serde(rename = "h")]
        holder: Box<str>,
        /// As in `Join`.
        #[serde(rename = "i")]
        instance: Box<str>,
    },
    /// Nobody is connected to the instance any more.
    InstanceGone {
        /// As in `Join`.
        #[serde(rename = "i")]
        instance: Box<str>,
    },
    /// Serves up to a number, whatever the inlet says. Never takes back.
    Advance {
        /// `0..=PLACES_MAX`; no further than the last number that was given.
        to: u32,
    },
    /// Lets in so many more people who are here, whatever the inlet says.
    AdmitNext {
        /// Any number; no more than wait.
        count: u32,
        /// Whoever repeats it lets in nobody more, for five minutes; `1..=IDEMPOTENCY_KEY_BYTES_MAX` bytes.
        #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
        key: Option<Box<str>>,
    },
    /// The holder used its pass.
    Claim {
        /// As in `Join`.
        #[serde(rename = "h")]
        holder: Box<str>,
        /// Its number, `1..=PLACES_MAX`; `None`: the newest of the holder.
        #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
        place: Option<u32>,
    },
    /// The holder bought.
    Complete {
        /// As in `Join`.
        #[serde(rename = "h")]
        holder: Box<str>,
        /// As in `Claim`.
        #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
        place: Option<u32>,
    },
    /// The holder will not buy.
    Abandon {
        /// As in `Join`.
        #[serde(rename = "h")]
        holder: Box<str>,
        /// As in `Claim`.
        #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
        place: Option<u32>,
    },
    /// Nobody is let in by itself.
    Pause {
        /// For people, `0..=QUEUE_REASON_BYTES_MAX` bytes.
        reason: Box<str>,
    },
    /// Ends a pause.
    Resume,
    /// What sells cannot take people: no inlet lets anybody in until it can, beside any pause.
    TargetDown {
        /// For people, `0..=QUEUE_REASON_BYTES_MAX` bytes.
        reason: Box<str>,
    },
    /// It can again. Ends no pause.
    TargetUp,
    /// There is nothing left: nobody is admitted any more; who is inside stays.
    SellOut,
    /// There is something again: ends `SellOut`, and nothing else.
    Reopen,
    /// The sale is over, likewise.
    Close,
}

impl Command {
    /// Whether it says who is connected, which is so whatever becomes of it.
    pub fn is_presence(&self) -> bool {
        matches!(self, Self::Here { .. } | Self::Away { .. } | Self::InstanceGone { .. })
    }

    /// Whether a client brings it about, who may do so again and again.
    pub fn is_of_people(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Leave { .. } | Self::Here { .. } | Self::Away { .. })
    }

    /// Whether every number and text is in its range.
    pub fn is_bounded(&self) -> bool {
        let is_holder = |holder: &str| (1..=HOLDER_BYTES_MAX).contains(&holder.len());
        let is_instance = |instance: &str| (1..=INSTANCE_BYTES_MAX).contains(&instance.len());
        match self {
            Self::Open(terms) => terms.is_valid(),
            Self::Join { holder, instance }
            | Self::Here { holder, instance }
            | Self::Away { holder, instance } => is_holder(holder) && is_instance(instance),
            Self::Leave { holder } => is_holder(holder),
            Self::Claim { holder, place }
            | Self::Complete { holder, place }
            | Self::Abandon { holder, place } => {
                is_holder(holder) && place.is_none_or(|place| (1..=PLACES_MAX).contains(&place))
            }
            Self::InstanceGone { instance } => is_instance(instance),
            Self::Advance { to } => *to <= PLACES_MAX,
            Self::Pause { reason } | Self::TargetDown { reason } => reason.len() <= QUEUE_REASON_BYTES_MAX,
            Self::AdmitNext { key, .. } => {
                key.as_ref().is_none_or(|key| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()))
            }
            Self::Tick | Self::Resume | Self::TargetUp | Self::SellOut | Self::Reopen | Self::Close => true,
        }
    }
}

/// Commands that one instance wrote at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    #[serde(rename = "v")]
    version: u32,
    /// Wall clock of the writer, ms, `0..=OFFSET_MAX`.
    #[serde(rename = "at")]
    pub at_ms: u64,
    /// In order.
    #[serde(rename = "c")]
    pub commands: Vec<Command>,
}

/// Why bytes are no entry, or an entry has no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by an instance of another version.
    #[error("an entry of version {0} is not known here")]
    Version(u32),
    /// Not the JSON of an entry.
    #[error("not an entry")]
    Malformed,
    /// It is longer than an event may be, or has no command or too many.
    #[error("a length is out of range")]
    Length,
    /// A number or text of a command, or the time, is out of its range.
    #[error("a value is out of range")]
    Range,
}

impl Entry {
    /// Of commands in order.
    pub fn new(at_ms: u64, commands: Vec<Command>) -> Self {
        Self { version: VERSION, at_ms, commands }
    }

    /// As the payload of a stored event.
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|_| EntryError::Malformed)?;
        if bytes.len() > EVENT_BYTES_MAX { Err(EntryError::Length) } else { Ok(bytes) }
    }

    /// What was encoded, by whichever instance.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(EntryError::Length);
        }
        let Ok(entry) = serde_json::from_slice::<Self>(bytes) else { return Err(Self::refusal(bytes)) };
        entry.check()?;
        Ok(entry)
    }

    fn check(&self) -> Result<(), EntryError> {
        if self.version != VERSION {
            return Err(EntryError::Version(self.version));
        }
        if !(1..=ENTRY_COMMANDS_MAX).contains(&self.commands.len()) {
            return Err(EntryError::Length);
        }
        let is_in_range = self.at_ms <= OFFSET_MAX && self.commands.iter().all(Command::is_bounded);
        if is_in_range { Ok(()) } else { Err(EntryError::Range) }
    }

    /// A later version may have any other keys; it is told by `v` alone.
    fn refusal(bytes: &[u8]) -> EntryError {
        #[derive(Deserialize)]
        struct Head {
            v: u32,
        }
        match serde_json::from_slice::<Head>(bytes) {
            Ok(head) if head.v != VERSION => EntryError::Version(head.v),
            _ => EntryError::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
