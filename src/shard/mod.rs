//! One shard: an executor on a core of its own that accepts, serves and closes its connections.
//!
//! Owns its listeners, its sockets and its hub. Never touches another shard's; never waits for control. Two
//! tasks share it: the *driver* (deliveries, messages, deadlines) and the *handshakes*, which have fewer shares
//! of the core, so that a storm of newcomers does not hurt those inside.
//!
//! A turn: mailbox and readable sockets → hub → outputs → what control must know → one flush per connection.

mod accept;
mod connections;
mod handshake;
mod state;
mod traffic;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    task::{Poll, Waker},
    time::Duration,
};

use glommio::{Latency, Shares, executor, timer::Timer};

use self::state::Shard;
use crate::{
    auth::token::Verifier,
    clock::Now,
    config::Settings,
    handler::Handlers,
    ids::ShardId,
    limits,
    mesh::{Receiver, Sender, ToControl, ToShard},
    metrics::ShardCells,
    net::readiness::{Readiness, Ready},
    status::Status,
};

/// Shares of the core: deliveries against handshakes, where both want it.
const DELIVERY_SHARES: usize = 1_000;
const HANDSHAKE_SHARES: usize = 200;
/// The longest sleep of the driver, whatever it waits for: see [`PREEMPT_TIMER`].
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The longest sleep of a driver that cannot wait for its sockets, since the process is out of descriptors.
const BLIND_SLEEP_MAX: Duration = Duration::from_millis(5);

/// For the executor of a shard: practically never. Its tasks yield by themselves after every turn.
///
/// An executor of glommio 0.9 whose preemption timer fires between its look at the rings and its first task believes
/// that nothing can run, and sleeps with tasks that could. On a busy host a timer of a millisecond does that within
/// minutes, and the shard stands still until a socket or a message wakes it.
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
    /// For hashing and for spreading phases.
    pub seed: u64,
}

/// Serves until it was drained. `bound` is told once whether the listeners stand.
pub async fn run(parts: ShardParts, bound: impl FnOnce(io::Result<()>)) {
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
    let driver = glommio::spawn_local_into(drive(shard, mailbox, readiness, doors), deliveries);
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

    fn poll(&self, waker: &Waker) -> Poll<()> {
        if self.open.take() {
            return Poll::Ready(());
        }
        self.waiting.set(Some(waker.clone()));
        Poll::Pending
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

/// The driver: everything but handshakes.
async fn drive(
    shard: Rc<RefCell<Shard>>,
    mut mailbox: Receiver<ToShard>,
    mut readiness: Readiness,
    doors: Rc<Doors>,
) {
    let _fatal = Fatal;
    let mut ready: Vec<Ready> = Vec::new();
    loop {
        ready.clear();
        let more_sockets = readiness.poll(&mut ready).unwrap_or(true);
        let now = Now::read();
        let (sleep_until, newcomers, finished) = {
            let mut shard = shard.borrow_mut();
            let more_messages = take_mail(&mut shard, now, &mut mailbox);
            let more_reads = shard.serve(now, &ready, &readiness);
            shard.expire(now, &readiness);
            shard.finish_turn(now);
            let busy = more_sockets || more_messages || more_reads;
            ((!busy).then(|| shard.next_deadline()), shard.has_handshakes(), shard.is_finished())
        };
        if finished {
            return;
        }
        if newcomers {
            doors.handshakes.knock();
        }
        match sleep_until {
            None => executor().yield_task_queue_now().await,
            Some(deadline) => idle(&mut mailbox, &mut readiness, &doors.driver, deadline).await,
        }
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

/// Sleeps until a message, a socket, a deadline or the other task wants the driver.
async fn idle(
    mailbox: &mut Receiver<ToShard>,
    readiness: &mut Readiness,
    door: &Door,
    deadline: Option<u64>,
) {
    let until = |due: u64| Duration::from_nanos(due.saturating_sub(Now::read().mono_ns));
    let sleep_max = if readiness.arm() { SLEEP_MAX } else { BLIND_SLEEP_MAX };
    let mut timer = pin!(Timer::new(deadline.map_or(sleep_max, until).min(sleep_max)));
    poll_fn(|cx| {
        let timed_out = timer.as_mut().poll(cx).is_ready();
        let woken = mailbox.poll_ready(cx).is_ready()
            | readiness.poll_ready(cx).is_ready()
            | door.poll(cx.waker()).is_ready();
        if timed_out || woken { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
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
            more
        };
        if more {
            executor().yield_task_queue_now().await;
        } else {
            // Deadlines may have come nearer.
            doors.driver.knock();
            poll_fn(|cx| doors.handshakes.poll(cx.waker())).await;
        }
    }
}
