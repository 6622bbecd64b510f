//! Streams in Redis.
//!
//! Owns the way of a question ([`Ask`]) to Redis and of its answer back, the scripts, and the lease of who takes in
//! foreign events. Never waits on behalf of who asks: what there is no room or no connection for fails at once. Never
//! decides what is stored, nor who gets it: that is `route`. Talks to the control loop through [`Store`] and the channel
//! of [`Answered`]; the connection is handed to it, and taken away while there is none.
//!
//! One question about a stream is under way at a time, or a batch of them: so their order is kept through scripts that
//! have to be loaded, and through a cluster that moves a slot. Questions about different streams are all under way at once.
//!
//! Redis does each script alone and whole; what keys they use is in README ("What is in Redis").

mod lanes;
pub mod lease;
mod scripts;

use std::{future::Future, sync::Arc, time::Duration};

use redis::aio::ConnectionLike;
use tokio::sync::{mpsc, watch};

use crate::{
    config::settings::Streams,
    limits,
    metrics::Cell,
    store::{lanes::Lanes, scripts::Scripts},
    stream::store::{Answer, Ask, Failure},
};

/// How much is kept of a stream, and for how long.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Entries; `>= 1`.
    pub count_max: usize,
    /// Bytes of all envelopes. The newest entry stays whatever its size.
    pub bytes_max: usize,
    /// Age of an entry that clients have, or that is a room's.
    pub age_max: Duration,
    /// Age of an entry of a user's stream that no client of the user acknowledged; at least `age_max`.
    pub ledger_age_max: Duration,
    /// How long epoch and offset outlive their last use.
    pub head_age_max: Duration,
    /// How long an idempotency key is honoured.
    pub key_age_max: Duration,
}

impl From<&Streams> for Bounds {
    fn from(settings: &Streams) -> Self {
        let ledger_age_max = settings.ledger_age_max.max(settings.age_max);
        Self {
            count_max: settings.count_max,
            bytes_max: limits::STREAM_LOG_BYTES_MAX,
            age_max: settings.age_max,
            ledger_age_max,
            head_age_max: limits::STREAM_HEAD_AGE_MAX.max(ledger_age_max),
            key_age_max: limits::IDEMPOTENCY_AGE_MAX,
        }
    }
}

/// What a store is made of.
#[derive(Debug)]
pub struct StoreParts<C> {
    /// The connection; `None` while there is none.
    pub connection: watch::Receiver<Option<C>>,
    /// Whether Redis is a cluster: stored events are published by `SPUBLISH` then. A cluster's connection must not
    /// repeat commands by itself (`retries(0)`): an append without a key would be stored twice.
    pub cluster: bool,
    /// `REDIS_PREFIX`, in front of all names.
    pub prefix: String,
    /// What is kept.
    pub bounds: Bounds,
    /// Names the epochs that this instance begins; must differ between starts and instances.
    pub seed: u64,
    /// A batch of questions → its answers, at most; then nobody knows what became of them.
    pub command_timeout: Duration,
}

/// A question's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// As it was asked with.
    pub ticket: u64,
    /// What Redis said.
    pub answer: Answer,
}

/// What the store counts, beside the answers themselves. Written on the control core alone.
#[derive(Debug, Default)]
pub struct Counts {
    /// Questions that there was no room for.
    pub full: Cell,
    /// Commands without an answer within [`StoreParts::command_timeout`].
    pub timed_out: Cell,
    /// Commands whose connection broke.
    pub broken: Cell,
    /// Commands that Redis answered with an error; nothing was stored.
    pub refused: Cell,
    /// Questions that failed at once: no connection, or one that says nothing.
    pub down: Cell,
    /// Events that were stored and not published: the user of Redis may not use the channel.
    pub unpublished: Cell,
}

/// Where questions are asked. Dropping it ends the store, when what is under way was answered.
#[derive(Debug)]
pub struct Store {
    asks: mpsc::Sender<Asked>,
    counts: Arc<Counts>,
}

/// A question on its way.
#[derive(Debug)]
struct Asked {
    ticket: u64,
    ask: Ask,
}

/// A store, what its answers come out of, and what has to run for it, on a tokio runtime of one thread.
pub fn open<C>(parts: StoreParts<C>) -> (Store, mpsc::Receiver<Answered>, impl Future<Output = ()> + Send)
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    let (asks, asked) = mpsc::channel(limits::STORE_ASKS_MAX);
    let (answers, answered) = mpsc::channel(limits::STORE_ASKS_MAX);
    let counts = Arc::new(Counts::default());
    let scripts = Scripts::new(parts.prefix, parts.bounds, parts.cluster, parts.seed);
    let scripts = Arc::new(scripts);
    let lanes = Lanes::new(parts.connection, scripts, answers, counts.clone(), parts.command_timeout);
    (Store { asks, counts }, answered, lanes.run(asked))
}

impl Store {
    /// Asks; the answer comes with the ticket.
    ///
    /// # Errors
    /// There is no room for the question, and no answer will come.
    pub fn ask(&self, ticket: u64, ask: Ask) -> Result<(), Failure> {
        self.asks.try_send(Asked { ticket, ask }).map_err(|_| {
            self.counts.full.add(1);
            Failure::Refused
        })
    }

    /// What was counted so far.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}
