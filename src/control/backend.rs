//! What stands behind the router: the store of streams, and the other instances.
//!
//! Owns the ends of both. Never decides: it carries questions to the store, news of addresses and events to the bus, and
//! what both say back. In memory the store answers at once; in Redis later, as [`News`]. Instances share events only where
//! they share the store, since an event that is stored reaches the others through its stream.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};

use crate::{
    bus::{Bus, Ear, Heard, Task},
    clock::Now,
    config::{Settings, settings},
    control::desk::Signed,
    event::{Address, Event, Target},
    metrics::ControlCells,
    route::{Instances, Ticket},
    store::{
        self, Answered, Store, StoreParts,
        lease::{self, LeaseParts},
    },
    stream::{
        envelope::{self, Publication},
        history::{Bounds, History},
        lease::Lease,
        names::Subject,
        store::{Answer, Ask},
        word::Word,
    },
};

/// What the outside said.
#[derive(Debug)]
pub(super) enum News {
    /// The bus.
    Heard(Heard),
    /// The store.
    Answered(Answered),
    /// The signing thread.
    Signed(Signed),
}

/// The router's way out.
#[derive(Debug)]
pub(super) struct Backend {
    streams: Streams,
    bus: Option<(Bus, Ear)>,
    /// This start of this instance; it hears itself on the bus.
    origin: u64,
    /// Whose turn it is where both have news.
    store_first: bool,
}

#[derive(Debug)]
enum Streams {
    Memory(Box<History>),
    Redis {
        store: Store,
        answers: mpsc::Receiver<Answered>,
        /// Who stores what every instance hears.
        lease: watch::Receiver<Lease>,
        /// Tells that it may be free soon.
        hurry: Arc<Notify>,
    },
}

impl Backend {
    /// As the settings have it; what has to run for it is spawned, and ends with `stopped`.
    pub(super) fn new(
        settings: &Settings,
        bus: Option<(Bus, Ear, Task)>,
        seed: u64,
        (servers, stopped): (&mut JoinSet<()>, &watch::Receiver<bool>),
    ) -> Self {
        let memory = || Streams::Memory(Box::new(History::new(Bounds::from(&settings.streams), seed)));
        let streams = match (&settings.redis, &bus) {
            (Some(redis), Some((bus, ..))) if settings.streams.store == settings::Store::Redis => {
                let command_timeout = redis.command_timeout;
                let (store, answers, keeper) = store::open(StoreParts {
                    connection: bus.commands(),
                    cluster: redis.is_cluster(),
                    prefix: redis.prefix.clone(),
                    bounds: store::Bounds::from(&settings.streams),
                    seed,
                    command_timeout,
                });
                let hurry = Arc::new(Notify::new());
                let (last_answer, answered) = watch::channel(false);
                let (lease, lease_keeper) = lease::keep(LeaseParts {
                    connection: bus.commands(),
                    key: format!("{}ingest", redis.prefix),
                    holder: format!("{seed:016x}"),
                    hurry: hurry.clone(),
                    drain: answered,
                    command_timeout,
                });
                // What is under way is stored before another takes over, and the session outlives both.
                let (stopped, session) = (stopped.clone(), bus.session());
                servers.spawn(async move {
                    until_done(keeper, stopped, command_timeout).await;
                    drop(last_answer);
                });
                servers.spawn(async move {
                    lease_keeper.await;
                    drop(session);
                });
                Streams::Redis { store, answers, lease, hurry }
            }
            _ => memory(),
        };
        let bus = bus.map(|(bus, ear, task)| {
            let parting_time = settings.redis.as_ref().map_or(Duration::ZERO, settings::Redis::parting_time);
            servers.spawn(until_done(task.run(), stopped.clone(), parting_time));
            (bus, ear)
        });
        Self { streams, bus, origin: seed, store_first: false }
    }

    /// Names this start of this instance.
    pub(super) fn origin(&self) -> u64 {
        self.origin
    }

    /// Whether other instances append to the same streams.
    pub(super) fn instances(&self) -> Instances {
        match self.streams {
            Streams::Memory(_) => Instances::One,
            Streams::Redis { .. } => Instances::Several,
        }
    }

    /// Asks the store; `None`: the answer comes as [`News::Answered`].
    pub(super) fn ask(&mut self, now: Now, ticket: Ticket, ask: Ask) -> Option<Answer> {
        match &mut self.streams {
            Streams::Memory(history) => Some(history.answer(now, ask)),
            Streams::Redis { store, .. } => store.ask(ticket, ask).err().map(Answer::Failed),
        }
    }

    /// What is new of who stores what every instance hears.
    pub(super) fn take_lease(&mut self) -> Option<Lease> {
        match &mut self.streams {
            Streams::Redis { lease, .. } if lease.has_changed().unwrap_or(false) => {
                Some(*lease.borrow_and_update())
            }
            Streams::Redis { .. } | Streams::Memory(_) => None,
        }
    }

    /// Whether this instance does what one of all does.
    pub(super) fn leads(&self, now: Now) -> bool {
        match &self.streams {
            Streams::Redis { lease, .. } => lease.borrow().holds(now.mono_ns),
            Streams::Memory(_) => true,
        }
    }

    /// An instance leaves, which may hold the lease.
    pub(super) fn hurry(&self) {
        if let Streams::Redis { hurry, .. } = &self.streams {
            hurry.notify_one();
        }
    }

    /// Whether what instances share about the address is to be heard.
    pub(super) fn set_interest(&mut self, subject: Subject, on: bool) {
        if let Some((bus, _)) = &mut self.bus {
            bus.set_interest(subject, on);
        }
    }

    /// Gives the other instances an event that is not stored. What there is no room for is counted by the bus.
    pub(super) fn share(&self, event: &Event) {
        let Some((bus, _)) = &self.bus else { return };
        let address = match &event.target {
            Target::User(user) => Some(Address::User(user.clone())),
            Target::Room(room) => Some(Address::Room(room.clone())),
            Target::Everyone => None,
            Target::Connection(_) => return,
        };
        bus.share(address.map(Subject::from).as_ref(), envelope::passing(self.origin, event).into()).ok();
    }

    /// Says something of this instance to the others. Of what there is no room for: as [`Backend::share`].
    pub(super) fn tell(&self, word: &Word) {
        if let (Some((bus, _)), Instances::Several) = (&self.bus, self.instances()) {
            bus.share(word.address().map(Subject::from).as_ref(), envelope::word(self.origin, word).into())
                .ok();
        }
    }

    /// What was said on a channel of ours; `None`: this instance said it, or nobody understands it.
    pub(super) fn understand(&self, bytes: &Bytes) -> Option<Publication> {
        match envelope::publication(bytes) {
            Ok(Publication::Passing { origin, .. } | Publication::Word { origin, .. })
                if origin == self.origin =>
            {
                None
            }
            Ok(publication) => Some(publication),
            Err(error) => {
                tracing::debug!(%error, "a message of another instance is not understood");
                None
            }
        }
    }

    /// Passes interests on that changed since the last time.
    pub(super) fn flush(&mut self) {
        if let Some((bus, _)) = &mut self.bus {
            bus.flush();
        }
    }

    /// The next thing that the outside said; the bus and the store take turns.
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        for of_store in [self.store_first, !self.store_first] {
            let news = if of_store { self.poll_store(cx) } else { self.poll_bus(cx) };
            if news.is_ready() {
                self.store_first = !of_store;
                return news;
            }
        }
        Poll::Pending
    }

    fn poll_store(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        match &mut self.streams {
            Streams::Redis { answers, .. } => match answers.poll_recv(cx) {
                Poll::Ready(Some(answered)) => Poll::Ready(News::Answered(answered)),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
            Streams::Memory(_) => Poll::Pending,
        }
    }

    fn poll_bus(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        match self.bus.as_mut().map(|(_, ear)| ear.poll_hear(cx)) {
            Some(Poll::Ready(Some(heard))) => Poll::Ready(News::Heard(heard)),
            Some(Poll::Ready(None) | Poll::Pending) | None => Poll::Pending,
        }
    }

    /// Idempotency keys that are remembered here.
    pub(super) fn key_count(&self) -> usize {
        match &self.streams {
            Streams::Memory(history) => history.key_count(),
            Streams::Redis { .. } => 0,
        }
    }

    /// A second passed: what is too old is let go of.
    pub(super) fn expire(&mut self, now: Now) {
        if let Streams::Memory(history) = &mut self.streams {
            history.expire(now);
        }
    }

    /// Writes down what is stored here, or what became of what Redis was asked.
    pub(super) fn measure(&self, cells: &ControlCells) {
        match &self.streams {
            Streams::Memory(history) => {
                cells.streams.set(history.stream_count() as u64);
                cells.stream_entries.set(history.entry_count() as u64);
                cells.stream_bytes.set(history.bytes() as u64);
            }
            Streams::Redis { store, lease, .. } => {
                let (cells, counts) = (&cells.store, store.counts());
                cells.ingests.set(u64::from(lease.borrow().until_ns > 0));
                for (cell, count) in [
                    (&cells.full, &counts.full),
                    (&cells.timed_out, &counts.timed_out),
                    (&cells.broken, &counts.broken),
                    (&cells.refused, &counts.refused),
                    (&cells.down, &counts.down),
                    (&cells.unpublished, &counts.unpublished),
                ] {
                    cell.set(count.get());
                }
            }
        }
    }
}

/// Runs to its end, or until so long after the stop.
async fn until_done(task: impl Future<Output = ()>, mut stopped: watch::Receiver<bool>, time_max: Duration) {
    tokio::select! {
        () = task => {}
        () = async {
            // An error says that nobody is left to stop it.
            let _stop = stopped.wait_for(|stop| *stop).await.is_ok();
            tokio::time::sleep(time_max).await;
        } => {}
    }
}
