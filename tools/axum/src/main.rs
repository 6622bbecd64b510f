//! What the gateway's handshakes are compared with: the same greeting by axum, tokio and rustls, tuned.
//!
//! Alike by being the gateway's own: TLS rules (`usher::net::tls`), listener options, check of tokens, allocator, build
//! profile. The rest is axum's: one thread with one tokio runtime, hyper's HTTP/1, a router with one route, axum's
//! WebSocket, a task per connection. Tuned: small buffers, and the answers of a greeting go out together. Does less than
//! the gateway (no rooms, admission, limits, deadlines, metrics, pings), so it is the harder to beat. `perf/run handshake`
//! runs it.

mod gathered;
mod server;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use rustix::thread::CpuSet;
use tokio_rustls::TlsAcceptor;
use usher::{
    auth::{KeySet, Verifier},
    config::{Settings, settings::TlsSource},
    net::{
        listener::{Company, listen_alone},
        tls::{self, Ticketing},
    },
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The greeting of a newcomer by axum, tokio and rustls.
///
/// Serves ws and wss at free ports of 127.0.0.1 until it is killed, and says on stdout where. Path /ws, with a token in
/// ?token=. Ends when a connection cannot be accepted: figures of such a run are void.
#[derive(Debug, Parser)]
#[command(name = "usher-axum", version)]
struct Options {
    /// Verifies tokens (HS256, HS384, HS512) [default: the environment's JWT_SECRET]
    #[arg(long)]
    secret: Option<String>,
    /// Pin everything to this core
    #[arg(long)]
    core: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("usher-axum: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    if let Some(core) = options.core {
        let mut set = CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let secret = options.secret.clone().or_else(|| std::env::var("JWT_SECRET").ok());
    let secret = secret.ok_or_else(|| io::Error::other("give --secret or JWT_SECRET"))?;
    let keys = KeySet::secret(&secret).map_err(io::Error::other)?;
    let verifier = Verifier::new(keys, &Settings::default().auth).map_err(io::Error::other)?;
    let tickets = Ticketing::new().map_err(io::Error::other)?;
    let tls = TlsAcceptor::from(tls::load(&TlsSource::SelfSigned, &tickets).map_err(io::Error::other)?);

    let app = server::app(Arc::new(verifier));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (plain, sealed) = (listener()?, listener()?);
        let mut out = io::stdout().lock();
        writeln!(out, "ws    ws://{}/ws", plain.local_addr()?)?;
        writeln!(out, "wss   wss://{}/ws", sealed.local_addr()?)?;
        out.flush()?;
        drop(out);
        let sealed = tokio::spawn(server::serve(sealed, Some(tls), app.clone()));
        server::serve(plain, None, app).await?;
        sealed.await?
    })
}

/// A listener with the socket options of a shard's: no delay, room for a burst.
fn listener() -> io::Result<tokio::net::TcpListener> {
    let listener = listen_alone(([127, 0, 0, 1], 0).into(), Company::Refused)?;
    tokio::net::TcpListener::from_std(listener)
}
