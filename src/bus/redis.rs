//! The task that keeps a session with Redis, for ever.
//!
//! Owns the interests in force and the order of a session: connect, patterns, `Up`, interests in batches; `Down` at its
//! end, whatever ended it. Tries again with full jitter. Redis that stands still keeps the newest try waiting, so that it
//! has us back the moment it goes on.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use redis::RedisError;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Heard, Share,
    backoff::Backoff,
    channels,
    connection::{self, Commands, Session, Subscriptions},
    pushes::Pushes,
    queue,
};
use crate::{
    clock::Now,
    config::settings::Redis,
    limits::{
        CONFIRMATIONS_RESERVE, INTERESTS_BATCH_MAX, REDIS_PING_INTERVAL, REDIS_PING_TIME_MAX,
        REDIS_SUBSCRIBE_TIME_MAX, SHARES_BATCH_MAX,
    },
    log::sampled::Sampled,
    metrics::REDIS_PATTERNS,
    status::Status,
    stream::names::Subject,
};

/// The task's ends of all queues.
pub(super) struct Ends {
    pub(super) heard: queue::Sender<Heard>,
    pub(super) shares: queue::Receiver<Share>,
    pub(super) interests: mpsc::Receiver<HashMap<Subject, bool>>,
    pub(super) commands: watch::Sender<Option<Commands>>,
}

/// What keeps the connections; [`Task::run`] is to be spawned.
pub struct Task {
    settings: Redis,
    status: Arc<Status>,
    ends: Ends,
    wanted: Wanted,
    backoff: Backoff,
    unreachable: Sampled,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Task {
    pub(super) fn new(settings: Redis, status: Arc<Status>, ends: Ends, seed: u64) -> Self {
        let unreachable = Sampled::every(UNREACHABLE_INTERVAL);
        let backoff = Backoff::new(seed);
        Self { settings, status, ends, wanted: Wanted::default(), backoff, unreachable }
    }

    /// Runs until nobody is left to hear, and what was shared is published as far as Redis can be reached; or until it is
    /// aborted.
    pub async fn run(mut self) {
        while !self.ends.shares.is_over() {
            let began = Now::read();
            let (pushes, ended) =
                Pushes::new(self.ends.heard.clone(), self.status.clone(), self.settings.prefix.clone());
            match self.begin(&pushes).await {
                Ok(session) => {
                    self.backoff.reset();
                    self.serve(session, &pushes, ended).await;
                }
                Err(error) => self.tell_unreachable(&error),
            }
            if self.ends.shares.is_over() {
                break;
            }
            // A try that took long is followed by the next at once: whoever stands still is asked all the time.
            let took = Duration::from_nanos(Now::read().mono_ns.saturating_sub(began.mono_ns));
            let pause = self.backoff.next().saturating_sub(took);
            self.while_collecting(sleep(pause)).await;
        }
    }

    /// Connects and subscribes to what other services publish.
    async fn begin(&mut self, pushes: &Pushes) -> Result<Session, String> {
        let settings = self.settings.clone();
        let prefix = &self.settings.prefix;
        let everyone = channels::live(prefix, None);
        let begin = async {
            let mut session =
                connection::connect(&settings, pushes).await.map_err(|error| error.to_string())?;
            let subscribe = async {
                session.subscriptions.subscribe_patterns(&REDIS_PATTERNS).await?;
                session.subscriptions.set_subscribed(vec![everyone], true).await
            };
            in_time(REDIS_SUBSCRIBE_TIME_MAX, subscribe).await?;
            Ok(session)
        };
        self.while_collecting(begin).await
    }

    /// Meanwhile interests are noted, so that their queue does not fill.
    async fn while_collecting<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(changes) = self.ends.interests.recv() => self.wanted.note(changes),
            }
        }
    }

    async fn serve(&mut self, session: Session, pushes: &Pushes, mut ended: mpsc::Receiver<Subject>) {
        let cells = &self.status.control.redis;
        cells.up.set(1);
        cells.sessions.add(1);
        self.ends.heard.send(Heard::Up).await;
        self.ends.commands.send_replace(Some(session.commands.clone()));
        tracing::info!(nodes = %nodes(&self.settings), "Redis is connected");
        let publisher = Publisher {
            commands: session.commands.clone(),
            command_timeout: self.settings.command_timeout,
            status: &self.status,
            failed: Sampled::every(FAILED_INTERVAL),
        };
        self.wanted.begin();
        let keeper = Keeper {
            subscriptions: session.subscriptions.clone(),
            heard: &self.ends.heard,
            prefix: &self.settings.prefix,
            status: &self.status,
        };
        let reason = tokio::select! {
            () = pushes.lost() => "the connection ended".to_owned(),
            reason = keeper.run(&mut self.wanted, &mut self.ends.interests, &mut ended) => reason,
            reason = publisher.run(&mut self.ends.shares) => reason,
            reason = watch_over(&session, pushes) => reason,
        };
        cells.up.set(0);
        cells.subscriptions.set(0);
        self.ends.commands.send_replace(None);
        // What waits is older than the outage: instances that missed it read streams, or do without.
        while self.ends.shares.try_recv().is_some() {
            cells.failed.add(1);
        }
        drop(session);
        if self.ends.shares.is_over() {
            return;
        }
        tracing::warn!(nodes = %nodes(&self.settings), reason, "Redis is disconnected; this instance goes on alone");
        self.ends.heard.send(Heard::Down).await;
    }

    fn tell_unreachable(&self, error: &str) {
        self.status.control.redis.connect_failures.add(1);
        if let Some(kept_back) = self.unreachable.take(Now::read()) {
            let nodes = nodes(&self.settings);
            tracing::warn!(%nodes, error, kept_back, "Redis cannot be reached; this instance goes on alone");
        }
    }
}

/// The interests of the control loop, and what Redis knows of them.
#[derive(Default)]
struct Wanted {
    all: HashSet<Subject>,
    /// Subscribe, or unsubscribe.
    changes: HashMap<Subject, bool>,
}

impl Wanted {
    /// What is wanted again is subscribed again: it may have been unwanted in between, and whoever wants it waits to hear
    /// that it is heard.
    fn note(&mut self, changes: HashMap<Subject, bool>) {
        for (address, on) in changes {
            let changed = if on { self.all.insert(address.clone()) } else { self.all.remove(&address) };
            if on || changed {
                self.changes.insert(address, on);
            }
        }
    }

    /// A session begins: nothing is subscribed yet.
    fn begin(&mut self) {
        self.changes = self.all.iter().map(|address| (address.clone(), true)).collect();
    }

    /// Redis ended a subscription; one that is wanted is to be made again.
    fn lost(&mut self, address: Subject) {
        if self.all.contains(&address) {
            self.changes.insert(address, true);
        }
    }

    /// The next batch, all subscriptions or all the opposite; empty where nothing changed.
    fn take(&mut self) -> (Vec<Subject>, bool) {
        let Some(on) = self.changes.values().next().copied() else { return (Vec::new(), true) };
        let batch: Vec<Subject> = self
            .changes
            .iter()
            .filter(|(_, wanted)| **wanted == on)
            .map(|(address, _)| address.clone())
            .take(INTERESTS_BATCH_MAX)
            .collect();
        batch.iter().for_each(|address| _ = self.changes.remove(address));
        (batch, on)
    }
}

/// Keeps the subscriptions as the interests are.
struct Keeper<'a> {
    subscriptions: Subscriptions,
    /// Where Redis' confirmations go.
    heard: &'a queue::Sender<Heard>,
    prefix: &'a str,
    status: &'a Status,
}

impl Keeper<'_> {
    /// Returns why it cannot go on.
    async fn run(
        mut self,
        wanted: &mut Wanted,
        interests: &mut mpsc::Receiver<HashMap<Subject, bool>>,
        ended: &mut mpsc::Receiver<Subject>,
    ) -> String {
        loop {
            while let Ok(changes) = interests.try_recv() {
                wanted.note(changes);
            }
            let (batch, on) = wanted.take();
            if batch.is_empty() {
                tokio::select! {
                    Some(changes) = interests.recv() => wanted.note(changes),
                    Some(address) = ended.recv() => wanted.lost(address),
                    // Nobody has interests any more.
                    else => return pending().await,
                }
                continue;
            }
            if on {
                // Confirmations come as fast as Redis is asked, and one that finds no room ends the session.
                self.heard.has_room(CONFIRMATIONS_ROOM).await;
            }
            let channels = batch.iter().map(|address| channels::live(self.prefix, Some(address))).collect();
            let subscribe = self.subscriptions.set_subscribed(channels, on);
            if let Err(reason) = in_time(REDIS_SUBSCRIBE_TIME_MAX, subscribe).await {
                return reason;
            }
            if wanted.changes.is_empty() {
                self.status.control.redis.subscriptions.set(wanted.all.len() as u64);
            }
        }
    }
}

/// Publishes what is shared.
struct Publisher<'a> {
    commands: Commands,
    command_timeout: Duration,
    status: &'a Status,
    failed: Sampled,
}

impl Publisher<'_> {
    /// Returns why it cannot go on.
    async fn run(mut self, shares: &mut queue::Receiver<Share>) -> String {
        let mut batch = Vec::with_capacity(SHARES_BATCH_MAX);
        while shares.recv_many(&mut batch, SHARES_BATCH_MAX).await {
            let count = batch.len() as u64;
            match in_time(self.command_timeout, self.publish(&mut batch)).await {
                Ok(()) => self.status.control.redis.published.add(count),
                Err(reason) => {
                    self.status.control.redis.failed.add(count);
                    if let Some(kept_back) = self.failed.take(Now::read()) {
                        tracing::warn!(reason, count, kept_back, "other instances do not hear of events");
                    }
                }
            }
            batch.clear();
        }
        "there is no control loop any more".to_owned()
    }

    async fn publish(&mut self, batch: &mut Vec<Share>) -> Result<(), RedisError> {
        match &mut self.commands {
            Commands::Single(connection) => {
                let mut pipeline = redis::Pipeline::with_capacity(batch.len());
                for Share { channel, payload } in batch.drain(..) {
                    pipeline.cmd("PUBLISH").arg(channel).arg(&*payload).ignore();
                }
                pipeline.query_async(connection).await
            }
            // One slot after the other would wait for each; of one channel the order is kept.
            Commands::Cluster(connection) => {
                let mut channels: HashMap<String, Vec<Share>> = HashMap::new();
                for share in batch.drain(..) {
                    channels.entry(share.channel.clone()).or_default().push(share);
                }
                let mut calls = JoinSet::new();
                for (channel, shares) in channels {
                    let mut connection = connection.clone();
                    calls.spawn(async move {
                        for share in shares {
                            let mut publish = redis::cmd("SPUBLISH");
                            publish.arg(&channel).arg(&*share.payload);
                            publish.exec_async(&mut connection).await?;
                        }
                        Ok(())
                    });
                }
                calls.join_all().await.into_iter().collect()
            }
        }
    }
}

/// Asks both connections whether somebody is there, and returns why not.
async fn watch_over(session: &Session, pushes: &Pushes) -> String {
    let (mut commands, mut subscriptions) = (session.commands.clone(), session.subscriptions.clone());
    loop {
        sleep(REDIS_PING_INTERVAL).await;
        let answers = async {
            // The commands' connection has a limit per command that is no longer than this one: a slow moment is no outage.
            let answered = async {
                while let Err(error) = connection::ping(&mut commands).await {
                    if !error.is_timeout() {
                        return Err(error);
                    }
                }
                Ok(())
            };
            tokio::try_join!(answered, subscriptions.ping()).map(|_| ())
        };
        if let Err(reason) = in_time(REDIS_PING_TIME_MAX, answers).await {
            return reason;
        }
        pushes.answered();
    }
}

/// Waits so long at most; why it failed, in words for a log.
async fn in_time<T>(limit: Duration, work: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
    }
}

fn nodes(settings: &Redis) -> String {
    settings.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Room for a batch's confirmations, and for what is heard meanwhile.
const CONFIRMATIONS_ROOM: usize = INTERESTS_BATCH_MAX + CONFIRMATIONS_RESERVE;
/// Between two log lines that say that Redis cannot be reached.
const UNREACHABLE_INTERVAL: Duration = Duration::from_secs(30);
/// Between two log lines about what could not be published.
const FAILED_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: u32) -> Subject {
        Subject::Address(crate::event::Address::User(id.to_string().into()))
    }

    #[test]
    fn the_last_word_on_an_interest_counts() {
        let mut wanted = Wanted::default();
        wanted.note(HashMap::from([(user(1), true), (user(2), true)]));
        wanted.note(HashMap::from([(user(1), false), (user(3), false)]));
        let mut batches = [wanted.take(), wanted.take()];
        batches.sort_by_key(|(_, on)| *on);
        assert_eq!(batches, [(vec![user(1)], false), (vec![user(2)], true)]);
        assert_eq!(wanted.take(), (Vec::new(), true));
    }

    #[test]
    fn a_session_begins_with_all_interests_in_batches() {
        let mut wanted = Wanted::default();
        let count = INTERESTS_BATCH_MAX + 5;
        wanted.note((0..count as u32).map(|id| (user(id), true)).collect());
        while !wanted.take().0.is_empty() {}
        wanted.begin();
        let mut batches = [wanted.take().0.len(), wanted.take().0.len(), wanted.take().0.len()];
        batches.sort_unstable();
        assert_eq!(batches, [0, 5, INTERESTS_BATCH_MAX]);
    }

    #[test]
    fn a_subscription_that_redis_ended_is_made_again_where_it_is_wanted() {
        let mut wanted = Wanted::default();
        wanted.note(HashMap::from([(user(1), true)]));
        wanted.take();
        wanted.lost(user(1));
        wanted.lost(user(2));
        assert_eq!((wanted.take(), wanted.take().0.len()), ((vec![user(1)], true), 0));
    }
}
