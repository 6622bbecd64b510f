//! Positions for connected users, as fast as the gateway accepts them.

use std::{io, net::SocketAddr};

use tokio::task::JoinSet;
use usher::generated::realtime::{
    NotifyQueuePositionRequest, PositionUpdates, PushQueuePositionsResponse,
    realtime_service_client::RealtimeServiceClient,
};

use super::Run;
use crate::{
    clock,
    options::Push,
    payload::{self, LAST_VERSION},
    token,
};

impl Run<'_> {
    /// Every position is distinct: of the next user, with a version of its own. The gateway leaves most of them out; at the
    /// end, which is not measured, everybody is sent one more that must arrive.
    pub(super) async fn positions(&mut self, push: &Push) -> io::Result<()> {
        let users = self.outcome.users;
        let mut streams = JoinSet::new();
        let start = self.begin()?;
        let queue = self.plan.queue;
        let until_ns = clock::mono_ns() + (push.seconds * 1e9) as u64;
        for stream in 0..push.streams {
            let part = Part { queue, first: stream, step: push.streams, users, batch: push.batch, until_ns };
            streams.spawn(part.push(self.options.grpc));
        }
        let mut sum = PushQueuePositionsResponse::default();
        loop {
            // Reports are taken meanwhile: who cannot tell how far it is stands still.
            let told = tokio::select! {
                told = streams.join_next() => told,
                failed = self.crew.watch() => return failed,
            };
            let Some(told) = told else { break };
            let summary = told.map_err(io::Error::other)??;
            sum.accepted += summary.accepted;
            sum.stale += summary.stale;
            sum.refused += summary.refused;
            sum.unknown_users += summary.unknown_users;
        }
        self.end(&start)?;
        self.last_positions(queue).await?;
        self.outcome.messages = sum.accepted;
        let per_second = sum.accepted as f64 / self.outcome.seconds;
        self.outcome.figures.extend([
            ("positions_accepted", sum.accepted as f64),
            ("positions_refused", sum.refused as f64),
            ("positions_accepted_per_second", per_second),
        ]);
        let threads = self.outcome.measured.iter().flat_map(|usage| &usage.thread_cpu_seconds);
        let control = threads.filter(|(name, _)| name == "usher-control").map(|(_, seconds)| seconds).next();
        if let Some(seconds) = control {
            self.outcome.figures.insert("control_us_per_position", seconds * 1e6 / sum.accepted as f64);
        }
        let shards = self.outcome.measured.iter().flat_map(|usage| &usage.thread_cpu_seconds);
        let shards = shards.filter(|(name, _)| name.starts_with("usher-shard")).map(|(_, seconds)| seconds);
        let shard_us = shards.sum::<f64>() * 1e6 / sum.accepted as f64;
        self.outcome.figures.insert("shard_us_per_position", shard_us);
        if sum.stale + sum.unknown_users > 0 {
            self.publish_faults.push(format!("{} stale, {} to nobody", sum.stale, sum.unknown_users));
        }
        let asked = [("streams", push.streams), ("batch", push.batch)];
        self.outcome.asked.extend(asked.map(|(name, value)| (name, f64::from(value))));
        Ok(())
    }

    /// Sends everybody a last position, and waits until all have it.
    async fn last_positions(&mut self, queue: u64) -> io::Result<()> {
        let users = self.outcome.users;
        self.published.users += users;
        self.expect().await?;
        let last = (0..users)
            .map(move |user| PositionUpdates { positions: vec![position(queue, user, LAST_VERSION)] });
        let summary = send(self.options.grpc, tokio_stream::iter(last)).await?;
        if summary.accepted != u64::from(users) {
            self.publish_faults.push(format!("of {users} last positions {} were accepted", summary.accepted));
        }
        self.crew.reached().await
    }
}

/// What one stream pushes: every so many-th user.
#[derive(Clone, Copy)]
struct Part {
    /// Distinct, so that runs on one gateway do not make each other's positions stale.
    queue: u64,
    first: u32,
    step: u32,
    users: u32,
    batch: u32,
    until_ns: u64,
}

impl Part {
    async fn push(self, grpc: SocketAddr) -> io::Result<PushQueuePositionsResponse> {
        send(grpc, tokio_stream::iter(self.messages())).await
    }

    fn messages(self) -> impl Iterator<Item = PositionUpdates> {
        let users = (self.first..self.users).step_by(self.step as usize);
        let mut positions = (1_u64..)
            .flat_map(move |version| users.clone().map(move |user| position(self.queue, user, version)));
        std::iter::from_fn(move || {
            (clock::mono_ns() < self.until_ns).then(|| PositionUpdates {
                positions: positions.by_ref().take(self.batch as usize).collect(),
            })
        })
    }
}

async fn send(
    grpc: SocketAddr,
    updates: impl tokio_stream::Stream<Item = PositionUpdates> + Send + 'static,
) -> io::Result<PushQueuePositionsResponse> {
    let mut client =
        RealtimeServiceClient::connect(format!("http://{grpc}")).await.map_err(io::Error::other)?;
    let summary = client.push_queue_positions(updates).await;
    Ok(summary.map_err(io::Error::other)?.into_inner())
}

fn position(queue: u64, user: u32, version: u64) -> NotifyQueuePositionRequest {
    NotifyQueuePositionRequest {
        user_id: token::user(user),
        event_id: payload::queue(queue),
        position: 1 + (u64::from(user) + version) % 1_000_000,
        total: 1_000_000,
        estimated_wait_seconds: 600,
        version,
        ..NotifyQueuePositionRequest::default()
    }
}
