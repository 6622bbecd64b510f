//! `PushQueuePositions`: many positions on one stream, routed many at a time.
//!
//! Owns one batch of them. Never reads on before it is routed, so that a busy gateway slows its callers down. What one
//! position must be is what [`notify::queue_position`] says.

use std::{future::poll_fn, pin::Pin, task::Poll};

use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};

use crate::{
    clock::Now,
    control::{
        gateway::{Gateway, PublishError},
        grpc::{notify, service::refusal},
    },
    event::{Event, Refusal},
    generated::realtime::{NotifyQueuePositionRequest, PositionUpdates, PushQueuePositionsResponse},
    limits::{OVERLOAD_RETRY, PUSH_BATCH_MAX, PUSH_RETRY, PUSH_WAIT_MAX},
};

/// Reads to the end of the stream; the answer covers all of it.
///
/// # Errors
/// The stream broke, or the gateway stops: of what was sent, some may have been accepted.
pub(super) async fn push(
    gateway: &Gateway,
    mut updates: Streaming<PositionUpdates>,
) -> Result<PushQueuePositionsResponse, Status> {
    let mut push = Push { gateway, batch: Vec::new(), summary: PushQueuePositionsResponse::default() };
    loop {
        match next(&mut updates, push.batch.is_empty()).await {
            Next::Message(message) => push.take(message?.positions).await?,
            Next::Nothing => push.flush().await?,
            Next::End => {
                push.flush().await?;
                return Ok(push.summary);
            }
        }
    }
}

enum Next {
    Message(Result<PositionUpdates, Status>),
    /// None has come by now.
    Nothing,
    End,
}

async fn next(updates: &mut Streaming<PositionUpdates>, wait: bool) -> Next {
    poll_fn(|cx| match Pin::new(&mut *updates).poll_next(cx) {
        Poll::Ready(Some(message)) => Poll::Ready(Next::Message(message)),
        Poll::Ready(None) => Poll::Ready(Next::End),
        Poll::Pending if wait => Poll::Pending,
        Poll::Pending => Poll::Ready(Next::Nothing),
    })
    .await
}

struct Push<'a> {
    gateway: &'a Gateway,
    /// Checked, not routed yet.
    batch: Vec<Event>,
    summary: PushQueuePositionsResponse,
}

impl Push<'_> {
    async fn take(&mut self, positions: Vec<NotifyQueuePositionRequest>) -> Result<(), Status> {
        let mut now = Now::read();
        for position in positions {
            match notify::queue_position(position).and_then(|publication| Gateway::check(now, publication)) {
                Ok(event) => self.batch.push(event),
                Err(error) => self.refuse(1, error),
            }
            if self.batch.len() >= PUSH_BATCH_MAX {
                self.flush().await?;
                now = Now::read();
            }
        }
        Ok(())
    }

    /// Routes what was taken. What finds no room is tried again for [`PUSH_WAIT_MAX`]: the caller waits meanwhile.
    async fn flush(&mut self) -> Result<(), Status> {
        let give_up_at_ns = Now::read().after(PUSH_WAIT_MAX).mono_ns;
        while !self.batch.is_empty() {
            let events = std::mem::take(&mut self.batch);
            let pushed = self.gateway.push(events).await.map_err(|refused| refusal(refused.into()))?;
            self.summary.accepted += pushed.accepted;
            self.summary.stale += pushed.stale;
            self.summary.unknown_users += pushed.unknown;
            if !pushed.refused.is_empty() && Now::read().mono_ns >= give_up_at_ns {
                let retry_after_ms = OVERLOAD_RETRY.as_millis() as u32;
                self.refuse(pushed.refused.len() as u64, Refusal::Overloaded { retry_after_ms }.into());
                return Ok(());
            }
            self.batch = pushed.refused;
            if !self.batch.is_empty() {
                sleep(PUSH_RETRY).await;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, count: u64, error: PublishError) {
        let status = refusal(error);
        let code = match status.code() {
            Code::InvalidArgument => "INVALID_ARGUMENT",
            _ => "RESOURCE_EXHAUSTED",
        };
        if self.summary.refused == 0 {
            self.summary.first_problem = status.message().into();
        }
        self.summary.refused += count;
        *self.summary.refused_by_code.entry(code.into()).or_default() += count;
    }
}
