//! People who join a queue and cannot be told from one another: so many of one client address.
//!
//! Owns nothing but the condition. A user has one place, and so has a place token; who has neither gets another place each time.

use super::state::Shard;
use crate::{
    clock::Now, hub::Input, limits::NEWCOMER_RETRY_MIN, line::LineDenial, line::LineRequest, mesh::ToControl,
    net::socket,
};

impl Shard {
    /// Asks control for a place, unless too many newcomers came from the address of this one.
    pub(super) fn join_line(&mut self, now: Now, request: Box<LineRequest>) {
        match self.may_join(now, &request) {
            Ok(()) => self.ask_line(now, ToControl::JoinLine(request)),
            Err(wait_ns) => {
                self.cells.newcomers_limited.add(1);
                // No sooner, since others from there try as well.
                let wait_ms = wait_ns.div_ceil(1_000_000).max(NEWCOMER_RETRY_MIN.as_millis() as u64);
                let denial =
                    LineDenial::RateLimited { retry_after_ms: wait_ms.try_into().unwrap_or(u32::MAX) };
                let LineRequest { conn, request, .. } = *request;
                let denied = Input::LineDenied { conn, request, leave: false, denial };
                self.hub.handle(now, denied, &mut self.outputs);
            }
        }
    }

    /// Counts a newcomer; else in how many nanoseconds there is room for one. Of a queue that nobody knows there are no places.
    fn may_join(&mut self, now: Now, request: &LineRequest) -> Result<(), u64> {
        let Some(newcomers) = &mut self.newcomers else { return Ok(()) };
        if !request.is_newcomer() || !self.hub.knows_line(&request.event_id) {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(request.conn) else { return Ok(()) };
        let network = socket::network(connection.fd());
        newcomers.check(network, now.mono_ns)?;
        newcomers.count(network, now.mono_ns);
        Ok(())
    }
}
