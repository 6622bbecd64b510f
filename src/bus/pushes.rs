//! What Redis pushes, turned into what the control loop hears.
//!
//! Runs inside of the connection's own task, so nothing waits in a queue before it is judged. Never blocks: foreign
//! messages that find no room are dropped and counted; of our own nothing may be lost unnoticed, so the connection is
//! given up instead, and what was missed is read from the streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{
    PushInfo, PushKind, Value,
    aio::{AsyncPushSender, SendError},
};
use tokio::sync::{Notify, mpsc};

use super::{
    Heard,
    channels::{self, Malformed},
    queue,
};
use crate::{
    clock::Now,
    limits::{HEARD_RESERVE, INTERESTS_BATCH_MAX},
    log::sampled::Sampled,
    status::Status,
    stream::names::Subject,
};

/// Takes the pushes of one session. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Pushes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    heard: queue::Sender<Heard>,
    status: Arc<Status>,
    prefix: String,
    /// The session is over: its connection is gone, or something of our own was lost.
    lost: Notify,
    /// Bytes read since the last push or answer; see [`super::connection`].
    unread: Arc<AtomicUsize>,
    /// Subscriptions that Redis ended.
    ended: mpsc::Sender<Subject>,
    malformed: Sampled,
    dropped: Sampled,
}

impl Pushes {
    /// With where it tells of addresses whose subscription Redis ended by itself, as when a slot of a cluster moves; or
    /// because it was asked to.
    pub(super) fn new(
        heard: queue::Sender<Heard>,
        status: Arc<Status>,
        prefix: String,
    ) -> (Self, mpsc::Receiver<Subject>) {
        let (ended, ends) = mpsc::channel(4 * INTERESTS_BATCH_MAX);
        let inner = Inner {
            heard,
            status,
            prefix,
            lost: Notify::new(),
            unread: Arc::default(),
            ended,
            malformed: Sampled::every(SAMPLE_INTERVAL),
            dropped: Sampled::every(SAMPLE_INTERVAL),
        };
        (Self(Arc::new(inner)), ends)
    }

    /// Returns when the session is over.
    pub(super) async fn lost(&self) {
        self.0.lost.notified().await;
    }

    /// Bytes read since the last push, or since Redis last said that it is there.
    pub(super) fn unread(&self) -> Arc<AtomicUsize> {
        self.0.unread.clone()
    }

    /// Redis answered a ping on this connection. What had been read of pushes before is whole, and on a connection that
    /// nothing is pushed on, years of answers are no message without end.
    pub(super) fn answered(&self) {
        self.0.unread.store(0, Ordering::Relaxed);
    }
}

impl AsyncPushSender for Pushes {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        self.0.unread.store(0, Ordering::Relaxed);
        let mut texts = push.data.into_iter().map(|value| match value {
            Value::BulkString(bytes) => bytes,
            _ => Vec::new(),
        });
        let mut next = || texts.next().unwrap_or_default();
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                let (_channel, payload) = (next(), next());
                self.0.own(Heard::Shared(payload.into()));
            }
            PushKind::PMessage => {
                let (_pattern, channel, payload) = (next(), next(), next());
                self.0.foreign(&channel, &payload);
            }
            PushKind::Subscribe | PushKind::SSubscribe => {
                if let Some(address) = self.0.address(&next()) {
                    self.0.own(Heard::Subscribed(address));
                }
            }
            PushKind::SUnsubscribe => {
                if let Some(address) = self.0.address(&next())
                    && self.0.ended.try_send(address).is_err()
                {
                    self.0.lost.notify_one();
                }
            }
            PushKind::Disconnection => self.0.lost.notify_one(),
            _ => {}
        }
        Ok(())
    }
}

impl Inner {
    fn address(&self, channel: &[u8]) -> Option<Subject> {
        channels::subject_of(&self.prefix, str::from_utf8(channel).ok()?)?
    }

    fn own(&self, heard: Heard) {
        if matches!(heard, Heard::Shared(_)) {
            self.status.control.redis.shared_heard.add(1);
        }
        // Who does not listen any more has the session for what he still says.
        if self.heard.try_send(heard).is_err() && !self.heard.is_over() {
            self.status.control.redis.overflows.add(1);
            self.lost.notify_one();
        }
    }

    fn foreign(&self, channel: &[u8], payload: &[u8]) {
        let now = Now::read();
        let cells = &self.status.control.redis;
        let Ok(channel) = str::from_utf8(channel) else {
            return self.malformed(now, "(not text)", Malformed::Channel);
        };
        // A prefix that begins as a pattern does brings our own messages twice.
        if channels::subject_of(&self.prefix, channel).is_some() {
            return;
        }
        if let Some(pattern) = channels::pattern_of(channel) {
            cells.heard[pattern].add(1);
        }
        if self.heard.is_over() {
            return;
        }
        if self.heard.free() <= HEARD_RESERVE {
            return self.dropped(now, channel);
        }
        match channels::read(now, channel, payload) {
            Err(reason) => self.malformed(now, channel, reason),
            Ok(foreign) => {
                if self.heard.try_send(Heard::Foreign(foreign)).is_err() {
                    self.dropped(now, channel);
                }
            }
        }
    }

    fn malformed(&self, now: Now, channel: &str, reason: Malformed) {
        self.status.control.redis.malformed[reason.index()].add(1);
        if let Some(kept_back) = self.malformed.take(now) {
            tracing::warn!(%reason, channel = shown(channel), kept_back, "a message from Redis is refused");
        }
    }

    fn dropped(&self, now: Now, channel: &str) {
        self.status.control.redis.dropped.add(1);
        if let Some(kept_back) = self.dropped.take(now) {
            tracing::warn!(
                channel = shown(channel),
                kept_back,
                "a message from Redis is lost: more come than are taken"
            );
        }
    }
}

/// As much of a channel's name as a log line takes.
fn shown(channel: &str) -> String {
    channel.chars().take(160).flat_map(char::escape_debug).collect()
}

/// Between two log lines about messages of one sort.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
