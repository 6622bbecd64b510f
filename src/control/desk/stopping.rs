//! The desk's part in a graceful stop: what the rules of leaving order, shards are told.
//!
//! Owns nothing. Never decides who goes when: [`leaving`](crate::control::leaving) does.

use std::sync::Arc;

use super::Desk;
use crate::{
    clock::Now,
    control::{
        leaving::{Order, Phase, ShardState},
        link::Link,
    },
    mesh::ToShard,
    metrics::ShardCells,
    stream::word::Word,
};

impl Desk {
    /// Takes the next step of the graceful stop, if one is under way and due.
    pub(in crate::control) fn leave(&mut self, now: Now) {
        if self.phase == Phase::Serving {
            return;
        }
        let states = self.links.iter().zip(&self.status.cells);
        let state = |(link, cells): (&Link, &Arc<ShardCells>)| ShardState {
            connections: cells.connections.get() as u32,
            drained: link.drained,
        };
        let states: Vec<ShardState> = states.map(state).collect();
        let was_over = matches!(self.phase, Phase::Over { .. });
        self.phase.step(now, &self.shutdown, &states, &mut self.orders);
        if !was_over && matches!(self.phase, Phase::Over { .. }) {
            self.backend.tell(&Word::Leaving);
        }
        for order in std::mem::take(&mut self.orders) {
            match order {
                Order::Drain { within } => {
                    self.status.begin_sending_away();
                    if let Phase::Draining { pace, .. } = &self.phase {
                        tracing::info!(time = ?pace.span(), "sending clients away");
                    }
                    self.links.iter_mut().for_each(|link| link.order(ToShard::Drain { within }));
                }
                Order::SendAway { shard, due } => {
                    self.links[shard].order(ToShard::SendAway { count: due.count, return_ms: due.return_ms });
                }
            }
        }
    }
}
