//! Signals, certificates and keys: what changes while the gateway runs.
//!
//! Runs on the control core beside the control loop. SIGTERM or SIGINT: graceful stop; the second: faster; the third:
//! at once. SIGHUP, or a change of the files: certificate, ticket keys and keys of passes are read again; bad ones are
//! reported and the old ones stay.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::{
    control::{gateway::Gateway, keys::KeyRing, passes::KeyFiles},
    net::tls::Certificate,
    status::Status,
};

/// How often certificate files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the supervisor is built from; made by topology alone.
pub struct Parts {
    /// Where reading keys is counted.
    pub status: Arc<Status>,
    /// The way to the control loop.
    pub gateway: Gateway,
    /// The certificate that the shards began with, if any.
    pub certificate: Option<Certificate>,
    /// The sources of verification keys.
    pub keys: KeyRing,
    /// Where the keys of passes come from.
    pub pass_files: KeyFiles,
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
    let Parts { status, gateway, mut certificate, keys, mut pass_files, unknown_key } = parts;
    let mut keys = keys.watch(status.clone());
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut stops = 0;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => stop(&gateway, &mut stops),
            _ = signals.interrupt.recv() => stop(&gateway, &mut stops),
            _ = signals.hang_up.recv() => {
                reload(certificate.as_mut(), &gateway, &status).await;
                reload_passes(&mut pass_files, &gateway, &status).await;
            }
            verifier = keys.changed() => gateway.use_keys(verifier).await,
            () = unknown_key.notified() => keys.unknown_key(),
            _ = looks.tick() => {
                let changed = certificate.as_mut().filter(|certificate| certificate.has_changed());
                reload(changed, &gateway, &status).await;
                if pass_files.has_changed() {
                    reload_passes(&mut pass_files, &gateway, &status).await;
                }
            }
        }
    }
}

fn stop(gateway: &Gateway, signals: &mut u32) {
    *signals += 1;
    match signals {
        1 => tracing::info!("stopping; a second signal sends everybody away at once"),
        2 => tracing::warn!("sending everybody away at once; a third signal waits for nobody"),
        _ => tracing::warn!("stopping at once"),
    }
    let gateway = gateway.clone();
    tokio::spawn(async move { gateway.shutdown().await });
}

/// Reads certificate and ticket keys again; either may be bad without the other.
async fn reload(certificate: Option<&mut Certificate>, gateway: &Gateway, status: &Status) {
    let Some(certificate) = certificate else { return };
    let cells = &status.control.tls_reloads;
    if let Err(error) = certificate.read_ticket_keys() {
        cells.ticket_keys_failed.add(1);
        tracing::error!(%error, "the new ticket keys are unusable, the old ones stay");
    }
    match certificate.load() {
        Ok(config) => {
            gateway.use_certificate(config).await;
            cells.done.add(1);
            tracing::info!("certificate read again");
        }
        Err(error) => {
            cells.certificate_failed.add(1);
            tracing::error!(%error, "the new certificate is unusable, the old one stays");
        }
    }
}

/// Reads the keys of passes again.
async fn reload_passes(files: &mut KeyFiles, gateway: &Gateway, status: &Status) {
    let cells = &status.control.passes;
    match files.load() {
        Ok(keys) => {
            gateway.use_pass_keys(keys).await;
            cells.reloads_done.add(1);
            tracing::info!("keys of passes read again");
        }
        Err(error) => {
            cells.reloads_failed.add(1);
            tracing::error!(%error, "the new keys of passes are unusable, the old ones stay");
        }
    }
}
