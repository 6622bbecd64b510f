//! One shard: an executor on a core of its own that accepts, serves and closes its connections.
//!
//! Owns its listeners, its sockets and its hub. Never touches another shard's; never waits for control. Two
//! tasks share it: the *driver* (deliveries, messages, deadlines) and the *handshakes*, which have fewer shares
//! of the core, so that a storm of newcomers does not hurt those inside.
//!
//! A turn: mailbox and readable sockets → hub → outputs → what control must know → one flush per connection.

mod accept;
mod connections;
mod drain;
mod handshake;
mod lanes;
mod newcomers;
mod pace;
mod state;
mod traffic;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll, Waker},
    time::Duration,
};

use glommio::{Latency, Shares, executor};

use self::{pace::Task, state::Shard};
use crate::{
    auth::token::Verifier,
    clock::{self, Now},
    config::Settings,
    handler::Handlers,
    ids::ShardId,
    limits,
    mesh::{Receiver, Sender, ToControl, ToShard},
    metrics::ShardCells,
    net::readiness::{Bell, Readiness, Ready},
    status::Status,
};

/// Shares of the core: deliveries against handshakes, where both want it.
const DELIVERY_SHARES: usize = 1_000;
const HANDSHAKE_SHARES: usize = 200;
/// The longest sleep of a shard, so that what it shows of the last seconds stays true.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// For the executor of a shard: practically never. Its tasks yield by themselves, wherever another one has work.
///
/// An executor of glommio 0.9 whose preemption timer fires between its look at the rings and its first task believes
/// that nothing can run, and sleeps with tasks that could.
pub const PREEMPT_TIMER: Duration = Duration::from_secs(3_600);

/// What a shard is built from; made by topology alone.
pub struct ShardParts {
    /// Which one.
    pub id: ShardId,
    /// What it runs with.
    pub settings: Arc<Settings>,
    /// What all cores show of themselves.
    pub status: Arc<Status>,
    /// What this shard counts.
    pub cells: Arc<ShardCells>,
    /// The keys known at start.
    pub verifier: Arc<Verifier>,
    /// The keys of passes, a JWKS document.
    pub jwks: Arc<str>,
    /// Certificate of the wss listener.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Custom message types.
    pub handlers: Handlers,
    /// Plain listener.
    pub ws: SocketAddr,
    /// TLS listener; needs `tls`.
    pub wss: Option<SocketAddr>,
    /// From control.
    pub mailbox: Receiver<ToShard>,
    /// To control.
    pub control: Sender<ToControl>,
    /// Set while control does not know all members: control then sends everything here.
    pub lagging: Arc<AtomicBool>,
    /// Ends the shard's sleep; made before the threads, so that all of them can ring it.
    pub bell: Arc<Bell>,
    /// For hashing and for spreading phases.
    pub seed: u64,
}

/// Serves until it was drained. `bound` is told once whether the listeners stand.
pub async fn run(parts: ShardParts, bound: impl FnOnce(io::Result<()>)) {
    let bell = parts.bell.clone();
    let (shard, mailbox, readiness) = match Shard::build(parts) {
        Ok(built) => {
            built.0.status.shard_accepts();
            bound(Ok(()));
            built
        }
        Err(error) => return bound(Err(error)),
    };
    let shard = Rc::new(RefCell::new(shard));
    let doors = Rc::new(Doors::default());
    let deliveries =
        executor().create_task_queue(Shares::Static(DELIVERY_SHARES), Latency::NotImportant, "deliveries");
    let handshakes =
        executor().create_task_queue(Shares::Static(HANDSHAKE_SHARES), Latency::NotImportant, "handshakes");
    let newcomers = glommio::spawn_local_into(greet(shard.clone(), doors.clone()), handshakes);
    let driver = Driver { shard, mailbox, readiness, doors, waker: Waker::from(bell) };
    let driver = glommio::spawn_local_into(driver.run(), deliveries);
    match (newcomers, driver) {
        (Ok(newcomers), Ok(driver)) => {
            driver.await;
            newcomers.cancel().await;
        }
        // The queues were created above, on this executor.
        _ => unreachable!("a task queue vanished"),
    }
}

/// How the two tasks of a shard wake each other.
#[derive(Default)]
struct Doors {
    handshakes: Door,
    driver: Door,
}

/// A wake-up for one task of the same executor.
#[derive(Default)]
struct Door {
    open: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Door {
    fn knock(&self) {
        self.open.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    async fn opened(&self) {
        poll_fn(|cx| {
            if self.open.take() {
                return Poll::Ready(());
            }
            self.waiting.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// Ends the process when a task of a shard panics. A gateway without one of its shards looks whole and loses what it
/// accepts; one that is gone is started again.
struct Fatal;

impl Drop for Fatal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(EXIT_SOFTWARE);
        }
    }
}

/// "An internal software error has been detected" (sysexits.h).
const EXIT_SOFTWARE: i32 = 70;

/// Everything but handshakes: the task that sleeps in the set of the shard's sockets.
struct Driver {
    shard: Rc<RefCell<Shard>>,
    mailbox: Receiver<ToShard>,
    readiness: Readiness,
    doors: Rc<Doors>,
    /// What control rings when it sends to a driver that sleeps.
    waker: Waker,
}

/// What is left to do after a turn.
enum Next {
    /// More of the same, at once.
    Turn,
    /// Newcomers wait for their share of the core; for all of it, if nobody else wants any.
    Handshakes { alone: bool },
    /// Nothing until a socket, a message or the deadline, monotonic nanoseconds.
    Sleep(Option<u64>),
    /// Nobody is left after a drain.
    Finished,
}

impl Driver {
    async fn run(mut self) {
        let _fatal = Fatal;
        let mut ready: Vec<Ready> = Vec::new();
        let mut sleep_max = Duration::ZERO;
        let mut slept = false;
        loop {
            ready.clear();
            let more_sockets = self.readiness.wait(sleep_max, &mut ready).unwrap_or(true);
            self.mailbox.wake_up();
            slept |= sleep_max != Duration::ZERO;
            sleep_max = Duration::ZERO;
            match self.turn(&ready, more_sockets) {
                Next::Turn => {}
                Next::Handshakes { alone } => {
                    if std::mem::take(&mut slept) {
                        // The executor takes sleep for work. It has to enter that into its books before newcomers
                        // begin, or they would have the core for themselves for as long again.
                        executor().yield_task_queue_now().await;
                    }
                    self.doors.handshakes.knock();
                    if alone {
                        self.doors.driver.opened().await;
                    } else {
                        executor().yield_task_queue_now().await;
                    }
                }
                Next::Sleep(deadline) => sleep_max = self.sleep_max(deadline),
                Next::Finished => return,
            }
        }
    }

    fn turn(&mut self, ready: &[Ready], more_sockets: bool) -> Next {
        let now = Now::read();
        let mut shard = self.shard.borrow_mut();
        let more_messages = take_mail(&mut shard, now, &mut self.mailbox);
        shard.serve(now, ready, &self.readiness);
        shard.expire(now, &self.readiness);
        shard.finish_turn(now);
        shard.pace.turn_ended(Task::Deliveries, now, clock::mono_ns());
        let more_reads = shard.has_unread();
        if shard.is_finished() {
            Next::Finished
        } else if shard.has_handshakes() {
            Next::Handshakes { alone: ready.is_empty() && !more_messages && !more_reads }
        } else if more_sockets || more_messages || more_reads {
            Next::Turn
        } else {
            Next::Sleep(shard.next_deadline())
        }
    }

    /// How long the driver may sleep: not at all if a message came meanwhile; from here on, the next one rings.
    fn sleep_max(&mut self, deadline: Option<u64>) -> Duration {
        if self.mailbox.poll_ready(&mut Context::from_waker(&self.waker)).is_ready() {
            return Duration::ZERO;
        }
        let until = |due: u64| Duration::from_nanos(due.saturating_sub(clock::mono_ns()));
        deadline.map_or(SLEEP_MAX, until).min(SLEEP_MAX)
    }
}

fn take_mail(shard: &mut Shard, now: Now, mailbox: &mut Receiver<ToShard>) -> bool {
    for _ in 0..limits::MAILBOX_BATCH_MAX {
        match mailbox.try_recv() {
            Some(message) => shard.take(now, message),
            None => return false,
        }
    }
    true
}

/// The handshakes: one at a time, looking up in between.
async fn greet(shard: Rc<RefCell<Shard>>, doors: Rc<Doors>) {
    let _fatal = Fatal;
    loop {
        let more = {
            let mut shard = shard.borrow_mut();
            let now = Now::read();
            let more = shard.greet_next(now);
            shard.finish_turn(now);
            shard.pace.turn_ended(Task::Handshakes, now, clock::mono_ns());
            more
        };
        doors.driver.knock();
        if more {
            executor().yield_task_queue_now().await;
        } else {
            doors.handshakes.opened().await;
        }
    }
}
