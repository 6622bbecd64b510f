//! Names of other services that are known and have no effect in this version (03 §13).

use Kind::{Ignored, Later};

use super::{Knob, table::knob};
use crate::config::kind::Kind;

const NOT_YET: &str = "has no effect in this version";

pub(super) const OTHER: &[Knob] = &[
    other("RABBITMQ_URL", Later(NOT_YET), "RabbitMQ").secret(),
    other("REALTIME_QUEUE", Later(NOT_YET), "RabbitMQ"),
    other("LOCK_DURATION_MINUTES", Later(NOT_YET), "Ticket locks"),
    other("CLEANUP_INTERVAL_MINUTES", Later(NOT_YET), "Ticket locks"),
    other("WS_PATH", Later(NOT_YET), "Path of Socket.IO"),
    other("CLIENT_BROADCAST", Later(NOT_YET), "Broadcasts by clients of the rooms dialect"),
    other("ROOM_MESSAGE_HISTORY", Later(NOT_YET), "Messages kept of a room; see STREAM_MAX_COUNT"),
    other("REDIS_POOL_SIZE", Ignored("two connections serve all cores"), "Redis connections"),
    other("WEBSOCKET_ENABLED", Ignored("the gateway serves nothing else"), "Switch of the rooms module"),
    other(
        "WEBSOCKET_READ_BUFFER_SIZE",
        Ignored("connections share one read buffer per core"),
        "Buffer of a connection",
    ),
    other(
        "WEBSOCKET_WRITE_BUFFER_SIZE",
        Ignored("a connection has no write buffer; see OUTBOX_MAX_BYTES"),
        "Buffer of a connection",
    ),
    other("NODE_ENV", Ignored("there is one mode for development and production"), "Mode of Node.js"),
];

const fn other(name: &'static str, kind: Kind, help: &'static str) -> Knob {
    knob(name, kind, "(none)", help)
}
