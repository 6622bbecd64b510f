//! Signals, certificates and keys: what changes while the gateway runs.
//!
//! Runs on the control core beside the control loop. SIGTERM or SIGINT: graceful stop; the second: at once. SIGHUP,
//! or a change of the files: the certificate is read again; a bad one is reported and the old one stays.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::{
    config::{Settings, settings::TlsSource},
    control::{gateway::Gateway, keys::KeyRing},
    net::tls::{self, Ticketing},
    status::Status,
};

/// How often certificate files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the supervisor is built from; made by topology alone.
pub struct Parts {
    /// What the gateway runs with.
    pub settings: Arc<Settings>,
    /// Where reading keys is counted.
    pub status: Arc<Status>,
    /// The way to the control loop.
    pub gateway: Gateway,
    /// Ticket keys, which outlive certificates.
    pub tickets: Ticketing,
    /// The sources of verification keys.
    pub keys: KeyRing,
    /// Told by control when a token named a key that no shard knows.
    pub unknown_key: Arc<Notify>,
}

/// The signals that mean something. From the moment that this exists they no longer end the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over. Needs a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Runs until the control loop has ended.
pub async fn run(parts: Parts, mut signals: Signals) {
    let Parts { settings, status, gateway, tickets, keys, unknown_key } = parts;
    let certificate = Certificate { settings: &settings, gateway: &gateway, tickets: &tickets };
    let mut keys = keys.watch(status);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut seen = changed_at(&settings);
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => stop(&gateway, &mut stopping),
            _ = signals.interrupt.recv() => stop(&gateway, &mut stopping),
            _ = signals.hang_up.recv() => certificate.reload().await,
            verifier = keys.changed() => gateway.use_keys(verifier).await,
            () = unknown_key.notified() => keys.unknown_key(),
            _ = looks.tick() => {
                let now = changed_at(&settings);
                if now != seen {
                    seen = now;
                    certificate.reload().await;
                }
            }
        }
    }
}

fn stop(gateway: &Gateway, stopping: &mut bool) {
    if *stopping {
        tracing::warn!("stopping at once");
        std::process::exit(130);
    }
    *stopping = true;
    tracing::info!("stopping; a second signal stops at once");
    let gateway = gateway.clone();
    tokio::spawn(async move { gateway.shutdown().await });
}

/// What reading the certificate again takes.
struct Certificate<'a> {
    settings: &'a Settings,
    gateway: &'a Gateway,
    tickets: &'a Ticketing,
}

impl Certificate<'_> {
    async fn reload(&self) {
        let Some(source) = &self.settings.tls else { return };
        match tls::load(source, self.tickets) {
            Ok(config) => {
                self.gateway.use_certificate(config).await;
                tracing::info!("certificate read again");
            }
            Err(error) => tracing::error!(%error, "the new certificate is unusable, the old one stays"),
        }
    }
}

/// When the certificate's files last changed; `None`: there are none, or they cannot be looked at.
fn changed_at(settings: &Settings) -> Option<(SystemTime, SystemTime)> {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    match &settings.tls {
        Some(TlsSource::Files { cert, key }) => Some((changed(cert)?, changed(key)?)),
        _ => None,
    }
}
