//! A lease: of all instances, one holds it.
//!
//! Owns the claim in Redis and what this instance knows of it ([`Lease`]). Never believes longer than Redis does: the belief
//! ends by our own clock, counted from before the claim was sent. A process that stands still in between (a stopped
//! machine) may have sent something that comes late: so what is done under the lease carries its end with it.

use std::{
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use redis::{Script, aio::ConnectionLike};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{
    clock::mono_ns,
    limits::{LEASE_HURRY, LEASE_MARGIN, LEASE_RENEWAL, LEASE_TIME},
    stream::lease::Lease,
};

/// What a lease is made of.
#[derive(Debug)]
pub struct LeaseParts<C> {
    /// The connection, which comes with a session that hears foreign channels; `None` while there is none.
    pub connection: watch::Receiver<Option<C>>,
    /// Its key in Redis: `usher:ingest`.
    pub key: String,
    /// Who holds it; must differ between starts and instances, and have no spaces.
    pub holder: String,
    /// Told when the holder may be about to give it up.
    pub hurry: Arc<Notify>,
    /// Turns true when this instance is to hold nothing any more. Dropping its sender means the same.
    pub drain: watch::Receiver<bool>,
    /// A command → its answer, at most. No longer than [`LEASE_RENEWAL`], or the claim after one without an answer comes
    /// too late.
    pub command_timeout: Duration,
}

/// What this instance knows of the lease, and what has to run for it, on a tokio runtime: it ends with `drain`, the
/// lease given up.
pub fn keep<C>(parts: LeaseParts<C>) -> (watch::Receiver<Lease>, impl Future<Output = ()> + Send)
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    let (lease, watched) = watch::channel(Lease::default());
    let heard_since_ns = mono_ns();
    let keeper = Keeper {
        claim: Script::new(include_str!("lease.lua")),
        key: parts.key.into(),
        holder: parts.holder.into(),
        connection: parts.connection,
        hurry: parts.hurry,
        command_timeout: parts.command_timeout,
        known: Lease { heard_since_ns, ..Lease::default() },
        lease,
        claimed_ns: 0,
        free_ns: 0,
        hurries_until_ns: 0,
    };
    (watched, keeper.run(parts.drain))
}

struct Keeper<C> {
    claim: Script,
    key: Arc<str>,
    holder: Arc<str>,
    connection: watch::Receiver<Option<C>>,
    hurry: Arc<Notify>,
    command_timeout: Duration,
    /// What `lease` was told last.
    known: Lease,
    lease: watch::Sender<Lease>,
    /// When it was time for the last claim, answered or not, monotonic nanoseconds.
    claimed_ns: u64,
    /// When another's lease ends, unless it is renewed, monotonic nanoseconds.
    free_ns: u64,
    /// Until when to ask again and again, monotonic nanoseconds.
    hurries_until_ns: u64,
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
        self.tell(Lease { until_ns: 0, ..self.known });
        // A claim may have been on its way.
        self.give_up().await;
    }

    /// Claims the lease, or claims it again.
    async fn renew(&mut self) {
        if self.connection.has_changed().unwrap_or(false) {
            self.look_at_session();
        }
        let asked_ns = mono_ns();
        self.claimed_ns = asked_ns;
        let Some(mut connection) = self.connection.borrow().clone() else { return self.look() };
        let heard_ms = asked_ns.saturating_sub(self.known.heard_since_ns) / NS_PER_MS;
        let mut invocation = self.claim.key(&*self.key);
        invocation.arg(&*self.holder).arg(milliseconds(LEASE_TIME)).arg(heard_ms);
        let time_max = self.left().map_or(self.command_timeout, |left| left.min(self.command_timeout));
        match timeout(time_max, invocation.invoke_async(&mut connection)).await {
            Ok(Ok(answer)) => self.told(asked_ns, answer),
            // Perhaps it was renewed, perhaps not.
            Ok(Err(_)) | Err(_) => self.look(),
        }
    }

    /// What Redis answered to a claim: see `lease.lua`.
    fn told(&mut self, asked_ns: u64, (held, redis_ms, heard_ms, left_ms): (u8, u64, i64, i64)) {
        let before = self.known;
        let told = Lease { asked_ns, redis_ms, ..before };
        if held == 1 {
            let until_ns = asked_ns + nanoseconds(LEASE_TIME - LEASE_MARGIN);
            let held_since_ns = if before.until_ns > 0 { before.held_since_ns } else { asked_ns };
            self.tell(Lease { until_ns, held_since_ns, other_since_ns: None, ..told });
        } else {
            let since_ns = u64::try_from(heard_ms).map(|heard| asked_ns.saturating_sub(heard * NS_PER_MS));
            self.free_ns = mono_ns() + u64::try_from(left_ms).unwrap_or(0) * NS_PER_MS;
            self.tell(Lease { until_ns: 0, other_since_ns: Some(since_ns.unwrap_or(0)), ..told });
        }
    }

    /// Until it is time to claim again: after a while, when there is another connection, when the belief ends or that of
    /// another may have.
    async fn rest(&mut self) {
        let left = self.left();
        let ends = async {
            match left {
                Some(left) => sleep(left).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = ends => self.look(),
            () = sleep(self.pause()) => {}
            Ok(()) = self.connection.changed() => self.look_at_session(),
            () = self.hurry.notified() => self.hurries_until_ns = mono_ns() + nanoseconds(LEASE_RENEWAL),
        }
    }

    fn pause(&self) -> Duration {
        let now_ns = mono_ns();
        if self.known.until_ns > 0 {
            until_renewal(self.claimed_ns, now_ns)
        } else if now_ns < self.hurries_until_ns {
            LEASE_HURRY
        } else {
            Duration::from_nanos(self.free_ns.saturating_sub(now_ns)).clamp(LEASE_HURRY, LEASE_RENEWAL)
        }
    }

    /// There is another connection, or none: what was said in between was not heard.
    fn look_at_session(&mut self) {
        if self.connection.borrow_and_update().is_some() {
            self.known.heard_since_ns = mono_ns();
        }
    }

    /// Time until the belief ends; `None`: there is none.
    fn left(&self) -> Option<Duration> {
        let left = self.known.until_ns.saturating_sub(mono_ns());
        (self.known.until_ns > 0).then(|| Duration::from_nanos(left))
    }

    fn look(&mut self) {
        if self.left() == Some(Duration::ZERO) {
            self.tell(Lease { until_ns: 0, ..self.known });
        }
    }

    fn tell(&mut self, lease: Lease) {
        self.known = lease;
        self.lease.send_replace(lease);
    }

    /// By its text: who stops has no time to find out that Redis does not know the script.
    async fn give_up(&self) {
        let Some(mut connection) = self.connection.borrow().clone() else { return };
        let mut release = redis::cmd("EVAL");
        release.arg(include_str!("release.lua")).arg(1).arg(&*self.key).arg(&*self.holder);
        // Without an answer it ends by itself.
        timeout(self.command_timeout, release.exec_async(&mut connection)).await.ok();
    }
}

/// From claim to claim, not from an answer to a claim: one that was waited for in vain leaves time for another.
fn until_renewal(claimed_ns: u64, now_ns: u64) -> Duration {
    Duration::from_nanos((claimed_ns + nanoseconds(LEASE_RENEWAL)).saturating_sub(now_ns))
}

const NS_PER_MS: u64 = 1_000_000;

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REDIS_COMMAND_TIME_MAX;

    #[test]
    fn a_claim_without_an_answer_is_not_the_end_of_the_lease() {
        let held_until_ns = nanoseconds(LEASE_TIME - LEASE_MARGIN);
        let lost_ns = nanoseconds(until_renewal(0, 0));
        let given_up_ns = lost_ns + nanoseconds(REDIS_COMMAND_TIME_MAX);
        let next_ns = given_up_ns + nanoseconds(until_renewal(lost_ns, given_up_ns));
        assert!(lost_ns > 0 && next_ns < held_until_ns, "{next_ns} of {held_until_ns}");
    }
}
