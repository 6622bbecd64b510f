//! A lease: of all instances, one holds it.
//!
//! Owns the claim in Redis and what this instance believes of it. Never believes longer than Redis does: the belief
//! ends by our own clock, counted from before the claim was sent. A process that stands still in between (a stopped
//! machine) may believe for the moment until it looks at the clock; who holds a lease has to live with that.

use std::{
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use redis::{Script, aio::ConnectionLike};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    clock::mono_ns,
    limits::{LEASE_MARGIN, LEASE_RENEWAL, LEASE_TIME, REDIS_COMMAND_TIME_MAX},
};

/// What a lease is made of.
#[derive(Debug)]
pub struct LeaseParts<C> {
    /// The connection; `None` while there is none.
    pub connection: watch::Receiver<Option<C>>,
    /// Its key in Redis: `usher:ingest`.
    pub key: String,
    /// Who holds it; must differ between starts and instances.
    pub holder: String,
    /// Turns true when this instance is to hold nothing any more. Dropping its sender means the same.
    pub drain: watch::Receiver<bool>,
}

/// Whether this instance holds the lease, and what has to run for it, on a tokio runtime: it ends with `drain`, the
/// lease given up.
pub fn keep<C>(parts: LeaseParts<C>) -> (watch::Receiver<bool>, impl Future<Output = ()> + Send)
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    let (held, watched) = watch::channel(false);
    let keeper = Keeper {
        claim: Script::new(include_str!("lease.lua")),
        release: Script::new(include_str!("release.lua")),
        key: parts.key.into(),
        holder: parts.holder.into(),
        connection: parts.connection,
        held,
        until_ns: 0,
    };
    (watched, keeper.run(parts.drain))
}

struct Keeper<C> {
    claim: Script,
    release: Script,
    key: Arc<str>,
    holder: Arc<str>,
    connection: watch::Receiver<Option<C>>,
    held: watch::Sender<bool>,
    /// Monotonic nanoseconds at which the belief ends.
    until_ns: u64,
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Keeper<C> {
    async fn run(mut self, mut drain: watch::Receiver<bool>) {
        let drained = async move {
            // Without a sender nobody can say it any more.
            drain.wait_for(|drains| *drains).await.ok();
        };
        tokio::pin!(drained);
        loop {
            let turn = async {
                self.renew().await;
                self.rest().await;
            };
            tokio::select! {
                () = &mut drained => break,
                () = turn => {}
            }
        }
        self.tell(false);
        // A claim may have been on its way.
        self.give_up().await;
    }

    /// Claims the lease, or claims it again.
    async fn renew(&mut self) {
        let asked_ns = mono_ns();
        let Some(mut connection) = self.connection.borrow().clone() else { return self.look() };
        let mut invocation = self.claim.key(&*self.key);
        invocation.arg(&*self.holder).arg(LEASE_TIME.as_millis() as u64);
        let time_max = self.left().map_or(REDIS_COMMAND_TIME_MAX, |left| left.min(REDIS_COMMAND_TIME_MAX));
        match timeout(time_max, invocation.invoke_async::<u8>(&mut connection)).await {
            Ok(Ok(1)) => {
                self.until_ns = asked_ns + (LEASE_TIME - LEASE_MARGIN).as_nanos() as u64;
                self.tell(true);
            }
            Ok(Ok(_)) => self.tell(false),
            // Perhaps it was renewed, perhaps not.
            Ok(Err(_)) | Err(_) => self.look(),
        }
    }

    /// Until it is time to claim again: after a while, when there is a connection again, or when the belief ends.
    async fn rest(&mut self) {
        let left = self.left();
        let ends = async {
            match left {
                Some(left) => sleep(left).await,
                None => pending().await,
            }
        };
        let is_down = self.connection.borrow_and_update().is_none();
        tokio::select! {
            () = ends => self.look(),
            () = sleep(LEASE_RENEWAL) => {}
            Ok(()) = self.connection.changed(), if is_down => {}
        }
    }

    /// Time until the belief ends; `None`: there is none.
    fn left(&self) -> Option<Duration> {
        let left = self.until_ns.saturating_sub(mono_ns());
        self.held.borrow().then(|| Duration::from_nanos(left))
    }

    fn look(&self) {
        if self.left() == Some(Duration::ZERO) {
            self.tell(false);
        }
    }

    fn tell(&self, held: bool) {
        self.held.send_if_modified(|before| std::mem::replace(before, held) != held);
    }

    async fn give_up(&self) {
        let Some(mut connection) = self.connection.borrow().clone() else { return };
        let mut invocation = self.release.key(&*self.key);
        invocation.arg(&*self.holder);
        // Without an answer it ends by itself.
        timeout(REDIS_COMMAND_TIME_MAX, invocation.invoke_async::<u8>(&mut connection)).await.ok();
    }
}
