//! Positions for connected users, as fast as the gateway accepts them.

use std::{io, net::SocketAddr};

use tokio::task::JoinSet;
use usher::generated::realtime::{
    NotifyQueuePositionRequest, PositionUpdates, PushQueuePositionsResponse,
    realtime_service_client::RealtimeServiceClient,
};

use super::Run;
use crate::{clock, options::Push, token};

/// The last positions are on their way for an interval, and a little.
const SETTLE_SECONDS: f64 = 2.0;

impl Run<'_> {
    /// Every position is distinct: of the next user, with a version of its own. What arrives is counted with the
    /// messages that carry no stamp, since the gateway leaves most of them out.
    pub(super) async fn positions(&mut self, push: &Push) -> io::Result<()> {
        let users = self.outcome.users;
        let mut streams = JoinSet::new();
        let start = self.begin()?;
        let until_ns = clock::mono_ns() + (push.seconds * 1e9) as u64;
        for stream in 0..push.streams {
            let part = Part { first: stream, step: push.streams, users, batch: push.batch, until_ns };
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
        self.crew.hold(SETTLE_SECONDS).await?;
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
        if sum.stale + sum.unknown_users > 0 {
            self.publish_faults.push(format!("{} stale, {} to nobody", sum.stale, sum.unknown_users));
        }
        let asked = [("streams", push.streams), ("batch", push.batch)];
        self.outcome.asked.extend(asked.map(|(name, value)| (name, f64::from(value))));
        Ok(())
    }
}

/// What one stream pushes: every so many-th user.
#[derive(Clone, Copy)]
struct Part {
    first: u32,
    step: u32,
    users: u32,
    batch: u32,
    until_ns: u64,
}

impl Part {
    async fn push(self, grpc: SocketAddr) -> io::Result<PushQueuePositionsResponse> {
        let mut client =
            RealtimeServiceClient::connect(format!("http://{grpc}")).await.map_err(io::Error::other)?;
        let summary = client.push_queue_positions(tokio_stream::iter(self.messages())).await;
        Ok(summary.map_err(io::Error::other)?.into_inner())
    }

    fn messages(self) -> impl Iterator<Item = PositionUpdates> {
        let users = (self.first..self.users).step_by(self.step as usize);
        let mut positions =
            (1_u64..).flat_map(move |version| users.clone().map(move |user| position(user, version)));
        std::iter::from_fn(move || {
            (clock::mono_ns() < self.until_ns).then(|| PositionUpdates {
                positions: positions.by_ref().take(self.batch as usize).collect(),
            })
        })
    }
}

fn position(user: u32, version: u64) -> NotifyQueuePositionRequest {
    NotifyQueuePositionRequest {
        user_id: token::user(user),
        event_id: "load".into(),
        position: u64::from(user) + 1_000_000_000 - version,
        total: 1_000_000,
        estimated_wait_seconds: 600,
        version,
        ..NotifyQueuePositionRequest::default()
    }
}
