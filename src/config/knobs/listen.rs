//! The rows about listeners.

use Kind::{Address, Bool, Port};

use super::{Knob, table::knob};
use crate::config::kind::Kind;

pub(super) const LISTEN: &[Knob] = &[
    knob("HOST", Address(|d, v| d.settings.listen.host = v), "0.0.0.0", "Address of the client listeners")
        .also(&["WEBSOCKET_HOST"]),
    knob(
        "HTTP_PORT",
        Port(|d, v| d.settings.listen.http_port = v),
        "3003",
        "Client port: ws and http; 0 takes a free one",
    )
    .also(&["PORT", "WEBSOCKET_PORT"]),
    knob(
        "HTTPS_PORT",
        Port(|d, v| d.https_port = Some(v)),
        "(3443 with a certificate, else off)",
        "Client port: wss and https; needs a certificate",
    ),
    knob(
        "GRPC_HOST",
        Address(|d, v| d.settings.listen.grpc.set_ip(v)),
        "127.0.0.1",
        "Address of the gRPC listener",
    ),
    knob("GRPC_PORT", Port(|d, v| d.settings.listen.grpc.set_port(v)), "50057", "gRPC port, for backends"),
    knob("ADMIN_HOST", Address(|d, v| d.admin_host = v), "127.0.0.1", "Address of the admin listener"),
    knob(
        "METRICS_PORT",
        Port(|d, v| d.metrics_port = v),
        "9057",
        "Admin port: /metrics, /health, /ready, /stats",
    ),
    knob(
        "METRICS_ENABLED",
        Bool(|d, v| d.metrics_enabled = v),
        "true",
        "Whether there is an admin port at all",
    ),
    knob(
        "HEALTH_CHECK_PORT",
        Port(|d, v| d.health_port = Some(v)),
        "(none)",
        "One more port for /health and /ready, at the admin address",
    ),
    knob(
        "METRICS_ON_CLIENT_PORT",
        Bool(|d, v| d.settings.listen.metrics_on_client_port = v),
        "false",
        "Whether /metrics answers on the client port too",
    ),
    knob(
        "ONSALE_PAGE",
        Bool(|d, v| d.settings.listen.onsale_page = v),
        "false",
        "Whether the admin port serves a waiting room at /onsale, for development",
    ),
];
