//! The control core: one loop that routes, and the servers that feed it.
//!
//! Owns the router, the ends of all mailboxes and the graceful stop. Never waits for a shard and never touches a
//! client's socket. Before a call is routed, everything that shards said before is heard: who joined, and was told
//! so, gets what is broadcast afterwards. Talks to shards through `mesh`, to everybody else through
//! [`gateway::Gateway`].

mod accept;
pub mod admin;
mod backend;
mod desk;
pub mod fetch;
pub mod gateway;
pub mod grpc;
pub mod keys;
mod leaving;
pub mod link;
pub mod passes;
pub mod target;

use std::{
    future::poll_fn,
    mem,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Sleep, sleep, timeout},
};

use crate::{
    auth::SigningKeys,
    bus::{Bus, Ear, Task},
    clock::Now,
    config::{Settings, settings::Redis},
    control::{
        backend::{Backend, News},
        desk::{Desk, DeskParts},
        gateway::{Call, Gateway},
        leaving::Phase,
        link::ShardLink,
        passes::Signer,
        target::Target,
    },
    net::handover::Place,
    status::Status,
};

/// What the control core is made of; topology makes it.
#[derive(Debug)]
pub struct ControlParts {
    /// What to run with.
    pub settings: Arc<Settings>,
    /// Shared with every thread.
    pub status: Arc<Status>,
    /// One per shard, by index.
    pub shards: Vec<ShardLink>,
    /// The handle whose calls come out of `calls`.
    pub gateway: Gateway,
    /// From [`Gateway::channel`].
    pub calls: mpsc::Receiver<Call>,
    /// Bound listener of the gRPC interface.
    pub grpc: TcpListener,
    /// Bound listener of the admin pages, if there are any.
    pub admin: Option<TcpListener>,
    /// Bound listener of `HEALTH_CHECK_PORT`, if there is one.
    pub health: Option<TcpListener>,
    /// Told when a token named a key that no shard knows.
    pub unknown_key: Arc<Notify>,
    /// Where clients come, and so where another process may take over; `None`: nowhere.
    pub place: Option<SocketAddr>,
    /// Names the epochs of streams; must differ between starts.
    pub seed: u64,
    /// What passes are signed with at first.
    pub pass_keys: Arc<SigningKeys>,
    /// From [`crate::bus::new`], where there is a Redis.
    pub bus: Option<(Bus, Ear, Task)>,
}

/// Why the control core could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A listener could not be handed to the runtime.
    #[error("listener: {0}")]
    Listener(#[from] std::io::Error),
    /// A PEM file of the gRPC interface could not be read.
    #[error("{path}: {source}")]
    Pem {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What sells cannot be asked.
    #[error("QUEUE_READY_URLS: {0}")]
    Target(#[from] target::Problem),
    /// The certificates of the gRPC interface cannot be used.
    #[error("TLS of the gRPC interface: {0}")]
    Tls(#[from] tonic::transport::Error),
}

/// Serves until the graceful stop that [`Gateway::shutdown`] begins is over. Needs a tokio runtime of one thread.
///
/// # Errors
/// Only at the start, before anything is served.
pub async fn run(parts: ControlParts) -> Result<(), ControlError> {
    let target = Target::new(&parts.settings.queues)?;
    let (stop_calls, calls_stopped) = watch::channel(false);
    let (stop_pages, pages_stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    let (health, grpc) = grpc::serve(
        grpc::Callers {
            settings: &parts.settings.callers,
            listener: parts.grpc,
            queues: grpc::QueueSettings {
                grace: parts.settings.client.queue_grace,
                store: parts.settings.streams.store,
            },
        },
        parts.gateway.clone(),
        parts.status.clone(),
        calls_stopped,
    )?;
    // Of itself the health service begins with a yes.
    health.tell(false).await;
    servers.spawn(grpc);
    let signer = Signer::start(parts.pass_keys, parts.settings.passes.issuer.clone(), parts.status.clone())?;
    let source = admin::Source::new(parts.gateway.clone(), parts.status.clone(), signer.keys());
    let pages = admin::pages(source.clone(), parts.settings.listen.onsale_page);
    for (listener, pages) in [(parts.admin, pages), (parts.health, admin::health_pages(source))] {
        let Some(listener) = listener else { continue };
        let incoming = accept::Incoming::new(listener, parts.status.clone(), pages_stopped.clone())?;
        servers.spawn(admin::serve(incoming, pages));
    }
    let (stop_backend, backend_stopped) = watch::channel(false);
    let ends = (&mut servers, &backend_stopped);
    let parting_time = parts.settings.redis.as_ref().map_or(Duration::ZERO, Redis::parting_time);
    let backend = Backend::new(&parts.settings, parts.bus, parts.seed, ends);
    let desk = Desk::new(DeskParts {
        settings: &parts.settings,
        status: parts.status,
        shards: parts.shards,
        unknown_key: parts.unknown_key,
        signer,
        backend,
        target,
    });
    let control = Control {
        desk,
        calls: parts.calls,
        news_first: false,
        timer: Box::pin(sleep(TICK)),
        wait: TICK,
        health,
        serving: false,
        place: parts.place.map(|address| (address, parts.gateway)),
        stop_calls,
        stop_pages,
    };
    let time = control.run().await.min(SERVERS_STOP_TIME_MAX.max(parting_time));
    stop_backend.send_replace(true);
    let all_ended = async { while servers.join_next().await.is_some() {} };
    if timeout(time, all_ended).await.is_err() {
        tracing::debug!("callers kept their connections open to the end");
    }
    Ok(())
}

/// Everything that can wake the loop.
enum Event {
    /// Time passed: deadlines, gauges, what waits for room.
    Timer,
    /// Somebody asks something.
    Call(Call),
    /// The store or another instance said something.
    News(News),
    /// A shard said something.
    Mail,
}

struct Control {
    desk: Desk,
    calls: mpsc::Receiver<Call>,
    /// Whose turn it is where there are news and a call.
    news_first: bool,
    timer: Pin<Box<Sleep>>,
    /// How long `timer` was set for.
    wait: Duration,
    health: grpc::Health,
    /// What `health` was told last.
    serving: bool,
    /// Where another process may take over, from the moment that this one serves.
    place: Option<(SocketAddr, Gateway)>,
    /// Ends the gRPC listener.
    stop_calls: watch::Sender<bool>,
    /// Ends the listeners of pages.
    stop_pages: watch::Sender<bool>,
}

impl Control {
    /// Returns how long callers may still take.
    async fn run(mut self) -> Duration {
        loop {
            let event = self.next().await;
            let now = Now::read();
            self.desk.retry();
            match event {
                Event::Timer => self.desk.tick(now),
                Event::Mail => {
                    if self.desk.hear(now) {
                        tokio::task::yield_now().await;
                    }
                }
                Event::Call(Call::Started { reply }) => {
                    self.tell_health().await;
                    self.open_place();
                    // Nobody waits any more only where the start failed after all.
                    reply.send(()).ok();
                }
                Event::News(news) => {
                    self.desk.hear(now);
                    self.desk.news(now, news);
                    self.more_news(now).await;
                }
                Event::Call(call) => {
                    self.desk.hear(now);
                    self.desk.call(now, call);
                }
            }
            self.desk.flush_lines(now);
            self.desk.flush();
            self.desk.leave(now);
            self.tell_health().await;
            self.stop_listeners();
            if let Phase::Over { end_at_ns } = *self.desk.phase() {
                return Duration::from_nanos(end_at_ns.saturating_sub(now.mono_ns));
            }
            self.arm();
        }
    }

    /// Deadlines first and mail last: neither starves, since every call hears the mail before it. Calls and news take
    /// turns.
    async fn next(&mut self) -> Event {
        let Self { desk, calls, news_first, timer, .. } = self;
        poll_fn(|cx| {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Timer);
            }
            for news in [*news_first, !*news_first] {
                let event = if news {
                    desk.poll_news(cx).map(Event::News)
                } else {
                    match calls.poll_recv(cx) {
                        Poll::Ready(Some(call)) => Poll::Ready(Event::Call(call)),
                        Poll::Ready(None) | Poll::Pending => Poll::Pending,
                    }
                };
                if event.is_ready() {
                    *news_first = !news;
                    return event;
                }
            }
            // Every mailbox is asked: each has to know whom to wake.
            let mail = desk.poll_mail(cx);
            if mail { Poll::Ready(Event::Mail) } else { Poll::Pending }
        })
        .await
    }

    /// Takes what has come by now with the first, so that a busy Redis does not cost a turn of the loop for each word.
    async fn more_news(&mut self, now: Now) {
        for _ in 1..NEWS_TOGETHER_MAX {
            let news = poll_fn(|cx| Poll::Ready(self.desk.poll_news(cx))).await;
            let Poll::Ready(news) = news else { break };
            self.desk.news(now, news);
        }
    }

    /// From now on another process can take over.
    fn open_place(&mut self) {
        let Some((address, gateway)) = self.place.take() else { return };
        match Place::open(address) {
            Ok(place) => {
                tokio::spawn(give_way(place, gateway));
            }
            Err(error) => tracing::warn!(%error, "no other process can take over from this one"),
        }
    }

    /// Closes the listeners that the graceful stop is done with.
    fn stop_listeners(&self) {
        let phase = self.desk.phase();
        let close = |listeners: &watch::Sender<bool>| {
            listeners.send_if_modified(|stop| !mem::replace(stop, true));
        };
        if phase.drains() {
            close(&self.stop_calls);
        }
        // Operators look at a gateway that drains, unless its successor answers them.
        if matches!(phase, Phase::Over { .. }) || phase.drains() && self.desk.is_taken_over() {
            close(&self.stop_pages);
        }
    }

    fn arm(&mut self) {
        let wait = if self.desk.holds_back() {
            RETRY
        } else if self.desk.phase().drains() {
            TURN
        } else {
            TICK
        };
        if self.timer.is_elapsed() || wait < self.wait {
            self.timer.set(sleep(wait));
            self.wait = wait;
        }
    }

    async fn tell_health(&mut self) {
        let serving = self.desk.is_serving();
        if serving != self.serving {
            self.serving = serving;
            self.health.tell(serving).await;
        }
    }
}

/// Waits for another process to serve at the same addresses, then has this one drain.
async fn give_way(place: Place, gateway: Gateway) {
    let heir = place.heir().await;
    drop(place);
    tracing::info!(process = heir.process, "another process serves in this one's place");
    gateway.taken_over().await;
    heir.leave_to().await;
}

/// Words of the store and of other instances in one turn.
const NEWS_TOGETHER_MAX: usize = 256;
/// Between two looks at deadlines and gauges.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at whose turn it is to be sent away.
const TURN: Duration = Duration::from_millis(10);
/// Between two tries to send what waits for room in a mailbox.
const RETRY: Duration = Duration::from_millis(2);
/// How long answers under way to callers may take after the last client is gone; or as long as it takes to part from Redis.
const SERVERS_STOP_TIME_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
