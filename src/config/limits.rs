//! What the limits are as long as no knob says otherwise.

use std::time::Duration;

use super::settings::Limits;
use crate::limits::FRAGMENTS_MAX;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 0,
            handshakes_waiting_max: 16_384,
            connections_per_user_max: 20,
            room_members_max: 0,
            message_bytes_max: 65_536,
            fragments_max: FRAGMENTS_MAX,
            messages_max: 100,
            messages_window: Duration::from_secs(60),
            auth_failures_max: 5_000,
            auth_failures_window: Duration::from_secs(10),
            places_max: 5_000,
            places_window: Duration::from_secs(300),
            outbox_messages_max: 256,
            outbox_bytes_max: 262_144,
        }
    }
}
