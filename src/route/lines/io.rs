//! What goes into the waiting rooms of an instance, and what comes out.

use std::sync::Arc;

use crate::{
    event::Event,
    ids::ShardId,
    line::{LineDenial, LineRequest, LineUpdate, PlaceNews, Seated},
    route::{Ticket, Token},
    sale::{
        command::Command,
        fair::{Secrets, Seed},
        queue::{Pauses, Refusal, Stats},
    },
    stream::{
        store::{Answer, Ask},
        word::InstanceId,
    },
};

/// Something that waiting rooms are told.
#[derive(Debug)]
pub enum Input {
    /// A connection wants a place, as a holder whom the caller made sure of.
    Join {
        /// `u:<user>` or `a:<number>`.
        holder: Arc<str>,
        /// To be told to who is anonymous.
        place_token: Option<Box<str>>,
        /// What was asked.
        asked: Box<LineRequest>,
    },
    /// A connection gives a place up.
    Leave {
        /// Whose.
        holder: Arc<str>,
        /// What was asked.
        asked: Box<LineRequest>,
    },
    /// Connections of a holder on a shard.
    Waiting {
        /// Where.
        shard: ShardId,
        /// In which queue.
        event_id: Arc<str>,
        /// Whose.
        holder: Arc<str>,
        /// How many; 0: none any more.
        connections: u32,
    },
    /// A shard misses news of a queue.
    Lost {
        /// Which shard.
        shard: ShardId,
        /// Of which queue.
        event_id: Arc<str>,
    },
    /// An operator's command, or with none a look.
    Operate {
        /// Who waits for the view.
        token: Token,
        /// Which queue.
        event_id: Arc<str>,
        /// Nothing is done but to the queue that began then ([`View::run`]); `None`: to whichever the event has.
        run: Option<u64>,
        /// What is to be done; bounded ([`Command`]).
        command: Option<Command>,
    },
    /// The store said.
    Answered {
        /// To which question.
        ticket: Ticket,
        /// What.
        answer: Answer,
    },
    /// Another instance published an entry of a log.
    Stored(Arc<Event>),
    /// What is appended to the log from now on is heard.
    Subscribed {
        /// Of which queue.
        event_id: Arc<str>,
    },
    /// Time passed.
    Tick {
        /// This instance is the one that moves queues by time; others do when it is late.
        leads: bool,
        /// Other instances that live; `None`: nobody knows.
        others: Option<Vec<InstanceId>>,
        /// What inlets wait for; counts only where this instance leads.
        target: Target,
    },
}

/// Whether the services behind a sale take people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody knows.
    Unknown,
    /// They do, or nobody is to ask.
    Ready,
    /// They do not.
    Down,
}

/// Something that waiting rooms want done.
#[derive(Debug)]
pub enum Output {
    /// Ask the store; the answer comes back as [`Input::Answered`].
    Ask {
        /// Names the question.
        ticket: Ticket,
        /// What.
        ask: Ask,
    },
    /// What other instances append to the log is to be heard, or not any more.
    Interest {
        /// Of which queue.
        event_id: Arc<str>,
        /// Whether.
        on: bool,
    },
    /// News of a queue for one shard, or for all. Where there is no room the shard finds out by itself.
    Line {
        /// `None`: all of them.
        shard: Option<ShardId>,
        /// What.
        update: Arc<LineUpdate>,
    },
    /// Answer a join. With an admission its pass is to be told with it.
    Seated {
        /// The answer.
        seated: Box<Seated>,
        /// The pass that the place has.
        admission: Option<Admission>,
    },
    /// Answer a join or a leave.
    Denied {
        /// What was asked.
        asked: Box<LineRequest>,
        /// It was a leave.
        leave: bool,
        /// Why not.
        denial: LineDenial,
    },
    /// Tell all connections of a place on a shard.
    PlaceNews {
        /// Where.
        shard: ShardId,
        /// What.
        news: Arc<PlaceNews>,
    },
    /// Somebody was admitted, who is connected here, or by a command of this instance: sign the pass and tell it.
    Admitted {
        /// Who, where, until when.
        admission: Admission,
        /// Shards with connections of the holder.
        shards: Vec<ShardId>,
    },
    /// Places were drawn: make receipts of them.
    Opened {
        /// Of which queue.
        event_id: Arc<str>,
        /// The seed and the salts.
        secrets: Secrets,
        /// Who was in the pre-queue, by place.
        holders: Vec<Arc<str>>,
        /// When, wall ms.
        opened_at_ms: u64,
    },
    /// Answer an operator.
    Operated {
        /// Who waits.
        token: Token,
        /// The queue as it is now.
        result: Result<Box<View>, Denied>,
    },
}

/// What a pass is signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Which queue.
    pub event_id: Arc<str>,
    /// Who.
    pub holder: Arc<str>,
    /// Its number.
    pub place: u32,
    /// Now, wall ms.
    pub admitted_at_ms: u64,
    /// When the pass expires, wall ms.
    pub claim_until_ms: u64,
}

/// A queue, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The books.
    pub stats: Stats,
    /// When it began, wall ms: names it among the queues that the event has one after the other.
    pub run: u64,
    /// When it opens, wall ms; `None`: it has, or is over.
    pub opens_at_ms: Option<u64>,
    /// Why nobody is let in by itself.
    pub pauses: Pauses,
    /// The line without who departed.
    pub line: LineUpdate,
    /// As [`crate::sale::queue::Queue::draw`].
    pub draw: Result<(), Refusal>,
    /// SHA-256 of the seed; may be known before the opening.
    pub commitment: [u8; 32],
    /// The seed, once it opened.
    pub seed: Option<Seed>,
}

/// Why an operator's command was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// By the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too much waits, or the store refused: nothing was done.
    #[error("the queue cannot be written")]
    Unwritable,
    /// Its log was lost: the queue has ended.
    #[error("the log of the queue was lost")]
    Lost,
    /// It was meant for a queue that the event does not have any more; nothing was done.
    #[error("the queue is over, and the event may have another")]
    Another,
}
