//! Names of other services that are known and have no effect in this version (03 §13).

use Kind::{Ignored, Later, Refused};

use super::{Knob, table::knob};
use crate::config::kind::Kind;

const NOT_YET: &str = "has no effect in this version";
const NO_REDIS: &str = "Redis is not supported in this version";

pub(super) const OTHER: &[Knob] = &[
    knob(
        "REDIS_URL",
        Refused(NO_REDIS),
        "(none)",
        "Redis server; not in this version: setting it is an error",
    )
    .secret(),
    knob(
        "REDIS_HOST",
        Refused(NO_REDIS),
        "(none)",
        "Redis server; not in this version: setting it is an error",
    ),
    other("REDIS_PORT", Later(NOT_YET), "Redis"),
    other("REDIS_PASSWORD", Later(NOT_YET), "Redis").secret(),
    other("REDIS_DB", Later(NOT_YET), "Redis").also(&["REDIS_DATABASE"]),
    other("REDIS_TLS", Later(NOT_YET), "Redis"),
    other("RABBITMQ_URL", Later(NOT_YET), "RabbitMQ").secret(),
    other("REALTIME_QUEUE", Later(NOT_YET), "RabbitMQ"),
    other("LOCK_DURATION_MINUTES", Later(NOT_YET), "Ticket locks"),
    other("CLEANUP_INTERVAL_MINUTES", Later(NOT_YET), "Ticket locks"),
    other("WS_PATH", Later(NOT_YET), "Path of Socket.IO"),
    other("CLIENT_BROADCAST", Later(NOT_YET), "Broadcasts by clients of the rooms dialect"),
    other("ROOM_MESSAGE_HISTORY", Later(NOT_YET), "Messages kept of a room; see STREAM_MAX_COUNT"),
    other("PRESENCE_TIMEOUT", Later(NOT_YET), "Presence across instances"),
    other("PRESENCE_INTERVAL", Later(NOT_YET), "Presence across instances"),
    other("PRESENCE_CLEANUP_INTERVAL", Later(NOT_YET), "Presence across instances"),
    other("READY_REQUIRES_REDIS", Later(NOT_YET), "Redis"),
    other("REDIS_POOL_SIZE", Ignored("one connection serves all cores"), "Redis connections"),
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
