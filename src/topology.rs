//! The threads and the queues between them: every one is made here, so that this page tells who can talk to whom.
//!
//! ```text
//!   clients                                                        services, operators
//!      │ SO_REUSEPORT, one listener per shard                          │ gRPC, HTTP
//!  ┌───┴─────┬─────────┬─────────┐   ToShard (65 536 each)    ┌────────┴────────┐
//!  │ shard 0 │ shard 1 │ shard n │◄───────────────────────────┤     control     │◄── Gateway (calls, 16 384)
//!  │ glommio │ glommio │ glommio ├───────────────────────────►│ tokio, 1 thread │◄── Ear (heard, 16 384) ◄─┐
//!  └─────────┴─────────┴─────────┘   ToControl (65 536 each)  │  with the bus   ├──► Bus (shares, 16 384) ──┴─ Redis
//!                                                             └─────────────────┘
//! ```
//!
//! Owns the order of starting and stopping. Start: what wakes threads (the control runtime, the bells, the executors), the
//! shards' descriptor tables, then addresses, keys, certificate, control, and the shards' listeners; whoever served in this
//! place is told last. Stop: a call of `Gateway::shutdown`, a signal, or a process that took over; shards end when nobody is
//! left, control when all shards have.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::Notify;

use crate::{
    auth::SigningKeys,
    bus,
    clock::Now,
    config::{Settings, settings::Cores},
    control::{self, ControlError, ControlParts, gateway::Gateway, keys, link::ShardLink, passes},
    handler::Handlers,
    ids::ShardId,
    limits,
    log::Dropped,
    mesh::Mailbox,
    net::{
        descriptors,
        handover::Claim,
        listener::{self, Company, Reservation},
        readiness::Bell,
        tls,
    },
    shard::{self, ShardParts},
    status::{RedisRole, Status},
    supervisor,
};

/// Memory that glommio registers for direct I/O, which shards do not do; its smallest useful value.
const EXECUTOR_IO_MEMORY_BYTES: usize = 64 << 10;

/// Where a gateway can be reached; real ports where 0 was configured.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// ws and http.
    pub ws: SocketAddr,
    /// wss and https.
    pub wss: Option<SocketAddr>,
    /// gRPC.
    pub grpc: SocketAddr,
    /// Metrics, health, statistics.
    pub admin: Option<SocketAddr>,
    /// Health alone.
    pub health: Option<SocketAddr>,
}

/// A gateway that serves.
pub struct Running {
    /// Where.
    pub addresses: Addresses,
    /// The way in for the program around it.
    pub gateway: Gateway,
    control: JoinHandle<Result<(), ControlError>>,
    shards: Vec<ExecutorJoinHandle<()>>,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be opened.
    #[error("cannot listen on {address} ({what}): {error}{}", advice(.error))]
    Listen {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A gateway serves at the address of clients and does not make room.
    #[error("cannot take over from the gateway at {address}: {error}")]
    TakeOver {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// No usable certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// No usable keys.
    #[error(transparent)]
    Keys(#[from] keys::KeyError),
    /// No usable keys for passes.
    #[error(transparent)]
    PassKeys(#[from] passes::PassKeyError),
    /// The control core could not begin to serve.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A thread or an executor could not be made.
    #[error("cannot start {what}: {error}")]
    Thread {
        /// Which.
        what: String,
        /// Why not.
        error: String,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; --take-over replaces a gateway that runs there",
        _ => "",
    }
}

impl Running {
    /// Waits until the gateway has stopped.
    pub fn wait(self) -> Result<(), StartError> {
        // Control ends when its shards have, at the latest when their time is over, which they keep too.
        self.control.join().map_err(|_| thread_error("control".into(), "it panicked"))??;
        for (index, shard) in self.shards.into_iter().enumerate() {
            shard.join().map_err(|error| thread_error(format!("shard {index}"), error))?;
        }
        Ok(())
    }
}

/// Starts every thread and returns once all of them serve.
///
/// Blocks meanwhile, which fetching keys may make seconds of. Works from any thread; async code that must not
/// stand still calls it through its runtime's `spawn_blocking`.
///
/// # Errors
/// A listener, the keys, the certificate or a thread could not be had; what had begun by then may run on until the
/// process ends.
pub fn start(settings: Settings, handlers: Handlers) -> Result<Running, StartError> {
    start_with_logs(settings, handlers, None)
}

/// As [`start`], with the logs of the process, so that `/metrics` tells of the lines that they lose.
///
/// # Errors
/// As [`start`].
pub fn start_with_logs(
    settings: Settings,
    handlers: Handlers,
    logs: Option<Dropped>,
) -> Result<Running, StartError> {
    // On a thread of its own: tokio panics where one of its runtimes is waited for inside of another.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("usher-start".into())
            .spawn_scoped(scope, || start_threads(settings, handlers, logs))
            .map_err(|error| thread_error("the starting thread".into(), error))?
            .join()
            .map_err(|_| thread_error("the starting thread".into(), "it panicked"))?
    })
}

fn start_threads(
    settings: Settings,
    handlers: Handlers,
    logs: Option<Dropped>,
) -> Result<Running, StartError> {
    let settings = Arc::new(settings);
    // First: the shards' descriptor tables are copied with what wakes control in them, and without any socket.
    let control_runtime = runtime()?;
    let bells = bells(settings.cores.shards.len())?;
    let crew = ShardThreads::start(&settings.cores)?;
    let runtime = runtime()?;
    let claim = runtime.block_on(claim(&settings))?;
    let ports = Ports::open(&settings, claim.is_some())?;
    let keys = runtime.block_on(keys::load(&settings.auth))?;
    let (certificate, tls) = load_certificate(&settings)?;
    let (pass_files, pass_keys) = load_pass_keys(&settings)?;
    let status = Arc::new(status(&settings, logs));
    let seed = seed();
    let (gateway, calls) = Gateway::channel();
    let unknown_key = Arc::new(Notify::new());
    let (mut links, mut parts) = (Vec::new(), Vec::new());
    for (index, (cells, bell)) in status.cells.iter().zip(bells).enumerate() {
        let (to_shard, mailbox) = Mailbox::bounded(limits::TO_SHARD_MESSAGES_MAX);
        let (to_control, from_shard) = Mailbox::bounded(limits::TO_CONTROL_MESSAGES_MAX);
        let lagging = Arc::new(AtomicBool::new(false));
        links.push(ShardLink { to: to_shard, from: from_shard, lagging: lagging.clone() });
        parts.push(ShardParts {
            id: ShardId(index as u16),
            settings: settings.clone(),
            status: status.clone(),
            cells: cells.clone(),
            verifier: keys.verifier(),
            jwks: pass_keys.jwks(),
            tls: tls.clone(),
            handlers: handlers.clone(),
            ws: ports.ws.address(),
            wss: ports.wss.as_ref().map(Reservation::address),
            mailbox,
            control: to_control,
            lagging,
            bell,
            seed: seed ^ index as u64,
        });
    }

    let addresses = ports.addresses();
    let Ports { grpc, admin, health, ws: _ws, wss: _wss } = ports;
    let control_parts = ControlParts {
        settings: settings.clone(),
        status: status.clone(),
        shards: links,
        calls,
        grpc,
        admin,
        health,
        gateway: gateway.clone(),
        unknown_key: unknown_key.clone(),
        place: Some(addresses.ws),
        seed,
        pass_keys,
        bus: settings.redis.as_ref().map(|redis| bus::new(redis, status.clone(), seed)),
    };
    let supervised = supervisor::Parts {
        status: status.clone(),
        gateway: gateway.clone(),
        certificate,
        keys,
        pass_files,
        unknown_key,
    };
    let control = start_control(control_runtime, settings.cores.control, control_parts, supervised)?;
    let shards = crew.serve(parts)?;
    runtime.block_on(take_over(claim));
    gateway.started();
    Ok(Running { addresses, gateway, control, shards })
}

/// Every listening address, taken before anything runs, so that a taken port is one clear error.
struct Ports {
    ws: Reservation,
    wss: Option<Reservation>,
    grpc: TcpListener,
    admin: Option<TcpListener>,
    health: Option<TcpListener>,
}

impl Ports {
    fn open(settings: &Settings, beside_another: bool) -> Result<Self, StartError> {
        let listen = &settings.listen;
        let company = if beside_another { Company::Expected } else { Company::Refused };
        let reserve = |what, port| {
            let address = SocketAddr::new(listen.host, port);
            Reservation::take(address, company).map_err(|error| StartError::Listen { what, address, error })
        };
        let open = |what, address| {
            listener::listen_alone(address, company).map_err(|error| StartError::Listen {
                what,
                address,
                error,
            })
        };
        Ok(Self {
            ws: reserve("HTTP_PORT", listen.http_port)?,
            wss: match (&settings.tls, listen.https_port) {
                (Some(_), Some(port)) => Some(reserve("HTTPS_PORT", port)?),
                _ => None,
            },
            grpc: open("GRPC_PORT", listen.grpc)?,
            admin: listen.admin.map(|address| open("METRICS_PORT", address)).transpose()?,
            health: listen.health.map(|address| open("HEALTH_CHECK_PORT", address)).transpose()?,
        })
    }

    fn addresses(&self) -> Addresses {
        let local = |listener: &TcpListener| listener.local_addr().ok();
        Addresses {
            ws: self.ws.address(),
            wss: self.wss.as_ref().map(Reservation::address),
            grpc: local(&self.grpc).unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
            admin: self.admin.as_ref().and_then(local),
            health: self.health.as_ref().and_then(local),
        }
    }
}

fn status(settings: &Settings, logs: Option<Dropped>) -> Status {
    let redis = match &settings.redis {
        None => RedisRole::Absent,
        Some(redis) if redis.ready_required => RedisRole::Required,
        Some(_) => RedisRole::Optional,
    };
    Status::new(settings.cores.shards.len(), Now::read())
        .with_logs(logs)
        .with_redis(redis, settings.streams.store)
}

/// The certificate of client listeners and its first form, where there is one.
fn load_certificate(
    settings: &Settings,
) -> Result<(Option<tls::Certificate>, Option<Arc<rustls::ServerConfig>>), StartError> {
    let Some(source) = settings.tls.clone() else { return Ok((None, None)) };
    let mut certificate = tls::Certificate::new(source, settings.ticket_keys.clone())?;
    let config = certificate.load()?;
    Ok((Some(certificate), Some(config)))
}

/// What passes are signed with.
fn load_pass_keys(settings: &Settings) -> Result<(passes::KeyFiles, Arc<SigningKeys>), StartError> {
    let mut files = passes::KeyFiles::new(settings.passes.clone())?;
    let keys = files.load()?;
    if files.are_made() {
        tracing::info!(
            "no PASS_KEY_FILE: passes and place tokens end with this process, and are of no other instance"
        );
    }
    Ok((files, keys))
}

/// Asks the gateway that serves at the same address, if any, for its place, where that is wanted.
async fn claim(settings: &Settings) -> Result<Option<Claim>, StartError> {
    let address = SocketAddr::new(settings.listen.host, settings.listen.http_port);
    if !settings.shutdown.take_over || address.port() == 0 {
        return Ok(None);
    }
    Claim::make(address).await.map_err(|error| StartError::TakeOver { address, error })
}

/// Tells the gateway that served so far that this one does.
async fn take_over(claim: Option<Claim>) {
    let Some(claim) = claim else { return };
    let process = claim.process.clone();
    match claim.redeem().await {
        Ok(()) => tracing::info!(process, "took over"),
        // Both serve: better than none.
        Err(error) => tracing::error!(%error, process, "the gateway that served here may not drain: stop it"),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| thread_error("the control runtime".into(), error))
}

fn start_control(
    runtime: tokio::runtime::Runtime,
    core: usize,
    parts: ControlParts,
    supervised: supervisor::Parts,
) -> Result<JoinHandle<Result<(), ControlError>>, StartError> {
    let body = move || {
        let mut cores = CpuSet::new();
        cores.set(core);
        if let Err(error) = sched_setaffinity(None, &cores) {
            tracing::warn!(%error, core, "cannot pin the control thread");
        }
        runtime.block_on(async move {
            // Before anybody is told that the gateway serves, lest a signal end it rudely.
            let signals = supervisor::Signals::listen().map_err(ControlError::Listener)?;
            let supervisor = tokio::spawn(supervisor::run(supervised, signals));
            let outcome = control::run(parts).await;
            supervisor.abort();
            outcome
        })
    };
    std::thread::Builder::new()
        .name("usher-control".into())
        .spawn(body)
        .map_err(|error| thread_error("the control thread".into(), error))
}

/// What wakes each shard.
fn bells(count: usize) -> Result<Vec<Arc<Bell>>, StartError> {
    let bells = (0..count).map(|_| Bell::new());
    bells.collect::<io::Result<_>>().map_err(|error| thread_error("the shards".into(), error))
}

/// The shards' threads: executors that wait for what they are built from.
struct ShardThreads {
    shards: Vec<Shard>,
    /// What became of the listeners of each.
    bound: Receiver<Result<(), StartError>>,
}

struct Shard {
    thread: ExecutorJoinHandle<()>,
    /// Dropped unused, it ends the thread.
    parts: SyncSender<ShardParts>,
}

impl ShardThreads {
    /// Starts an executor for each shard and returns when each has its descriptor table.
    fn start(cores: &Cores) -> Result<Self, StartError> {
        let count = cores.shards.len();
        let (tell_bound, bound) = sync_channel(count);
        let (tell_table, tables) = sync_channel(count);
        let mut shards = Vec::with_capacity(count);
        for (index, core) in cores.shards.iter().enumerate() {
            let private = cores.private_descriptors;
            let (tell_table, tell_bound) = (tell_table.clone(), tell_bound.clone());
            let (parts, take_parts) = sync_channel::<ShardParts>(1);
            let body = move || async move {
                let table = if private { descriptors::make_private() } else { Ok(()) };
                // Nobody listens any more only when the start failed elsewhere; there are no parts then.
                tell_table.send(table).ok();
                drop(tell_table);
                // Nothing else runs on this executor yet that blocking could hold up.
                let Ok(parts) = take_parts.recv() else { return };
                let address = parts.ws;
                let bound = move |outcome: io::Result<()>| {
                    let what = "client listeners";
                    let outcome = outcome.map_err(|error| StartError::Listen { what, address, error });
                    // As above: another shard failed already.
                    tell_bound.send(outcome).ok();
                };
                shard::run(parts, bound).await;
            };
            let name = format!("usher-shard-{index}");
            let thread = LocalExecutorBuilder::new(Placement::Fixed(*core))
                .name(&name)
                .io_memory(EXECUTOR_IO_MEMORY_BYTES)
                .preempt_timer(shard::PREEMPT_TIMER)
                .spawn(body)
                .map_err(|error| thread_error(name, error))?;
            shards.push(Shard { thread, parts });
        }
        drop(tell_table);
        let tables: Vec<io::Result<()>> = tables.iter().take(count).collect();
        if tables.len() < count {
            return Err(why_a_shard_ended(shards));
        }
        if let Some(error) = tables.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "shards share one descriptor table: the limit of open files counts for all of them");
        }
        Ok(Self { shards, bound })
    }

    /// Hands out the parts, one for each shard, and returns when all of them listen.
    fn serve(self, parts: Vec<ShardParts>) -> Result<Vec<ExecutorJoinHandle<()>>, StartError> {
        let ended = |_| thread_error("a shard".into(), "it ended");
        let mut threads = Vec::with_capacity(parts.len());
        for (shard, parts) in self.shards.into_iter().zip(parts) {
            shard.parts.send(parts).map_err(|error| ended(error.to_string()))?;
            threads.push(shard.thread);
        }
        for _ in &threads {
            self.bound.recv().map_err(|error| ended(error.to_string()))??;
        }
        Ok(threads)
    }
}

/// Ends all of them; what the first that failed says of itself.
fn why_a_shard_ended(shards: Vec<Shard>) -> StartError {
    let threads: Vec<_> = shards.into_iter().map(|shard| shard.thread).collect();
    let failed = threads.into_iter().find_map(|thread| thread.join().err());
    let why = failed.map_or_else(|| "it ended".to_owned(), |error| error.to_string());
    thread_error("a shard".into(), why)
}

fn thread_error(what: String, error: impl ToString) -> StartError {
    StartError::Thread { what, error: error.to_string() }
}

/// Makes hash tables and phases differ from one start to the next.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
