//! The rows. Order within an alias list is the order in which aliases win (03 §13).

use std::time::Duration;

use Kind::{Bool, Choice, Cores, Integer, List, Path, Text};

use super::{
    Knob, Section,
    absent::OTHER,
    checks::{algorithm, any, filter, glob, origin, origins, url},
    listen::LISTEN,
    passes::PASSES,
    presence::PRESENCE,
    queues::QUEUES,
    redis::REDIS,
};
use crate::{
    config::{
        duration::Plain,
        kind::{Kind, Set},
        settings::{Dialect, LogFormat, Secret},
    },
    limits,
};

pub(super) const SECTIONS: &[Section] = &[
    Section { name: "listen", title: "Listeners", knobs: LISTEN },
    Section { name: "tls", title: "Certificates", knobs: TLS },
    Section { name: "auth", title: "Tokens and origins", knobs: AUTH },
    Section { name: "client", title: "What clients see", knobs: CLIENT },
    Section { name: "keep_alive", title: "Keep-alive and time-outs", knobs: KEEP_ALIVE },
    Section { name: "limits", title: "Limits", knobs: LIMITS },
    Section { name: "redis", title: "Redis", knobs: REDIS },
    Section { name: "streams", title: "What is kept for resume", knobs: STREAMS },
    Section { name: "passes", title: "Passes of the waiting room", knobs: PASSES },
    Section { name: "queues", title: "Waiting rooms", knobs: QUEUES },
    Section { name: "presence", title: "Who is connected", knobs: PRESENCE },
    Section { name: "callers", title: "Callers of the gRPC interface", knobs: CALLERS },
    Section { name: "cores", title: "Cores", knobs: CORES },
    Section { name: "shutdown", title: "Graceful stop", knobs: SHUTDOWN },
    Section { name: "log", title: "Logs", knobs: LOG },
    Section { name: "other", title: "Names of other services, without effect here", knobs: OTHER },
];

const TLS: &[Knob] = &[
    knob(
        "TLS_CERT",
        Path(|d, v| d.tls_cert = Some(v)),
        "(none)",
        "Certificate chain, PEM, leaf first; read again when it changes",
    ),
    knob("TLS_KEY", Path(|d, v| d.tls_key = Some(v)), "(none)", "Its private key, PEM"),
    knob(
        "TLS_SELF_SIGNED",
        Bool(|d, v| d.self_signed = v),
        "false",
        "A certificate for localhost made at every start, for development",
    ),
    knob(
        "TLS_TICKET_KEYS",
        Path(|d, v| d.settings.ticket_keys = Some(v)),
        "(none)",
        "Secrets of session tickets for all instances, read again when the file changes",
    ),
];

const AUTH: &[Knob] = &[
    knob(
        "JWT_SECRET",
        Text(any, |d, v| d.jwt_secret = Some(Secret(v))),
        "(none)",
        "Shared secret that tokens are signed with; without any key source, each run makes its own",
    )
    .secret(),
    knob(
        "JWT_PUBLIC_KEY_FILE",
        Path(|d, v| d.jwt_public_key = Some(v)),
        "(none)",
        "Public key that verifies tokens, PEM",
    ),
    knob(
        "JWT_JWKS_FILE",
        Path(|d, v| d.jwks_file = Some(v)),
        "(none)",
        "JWKS document, read again when it changes",
    ),
    knob(
        "JWT_JWKS_URL",
        Text(url, |d, v| d.jwks_url = Some(v)),
        "(none)",
        "JWKS document, fetched at start and then regularly",
    ),
    knob(
        "JWT_JWKS_REFRESH",
        time(seconds(10), DAY, |d, v| d.jwks_refresh = v),
        "5m",
        "How often JWT_JWKS_URL is fetched",
    ),
    knob(
        "JWT_REFRESH_SECRET",
        Text(any, |d, v| d.settings.auth.refresh_secret = Some(Secret(v))),
        "(none)",
        "Verifies the tokens of auth:token_refresh instead",
    )
    .secret(),
    knob(
        "JWT_ALGORITHMS",
        List(algorithm, |d, v| d.settings.auth.algorithms = v),
        "(those that fit each key)",
        "The only algorithms accepted",
    ),
    knob("JWT_AUDIENCE", Text(any, |d, v| d.settings.auth.audience = Some(v)), "(none)", "Required in aud"),
    knob("JWT_ISSUER", Text(any, |d, v| d.settings.auth.issuer = Some(v)), "(none)", "Required in iss"),
    knob(
        "JWT_LEEWAY",
        time(Duration::ZERO, seconds(600), |d, v| d.settings.auth.leeway = v),
        "5s",
        "Tolerance for exp and nbf, for clocks that differ",
    ),
    knob(
        "JWT_MAX_LIFETIME",
        time(seconds(1), Duration::from_secs(3_650 * 86_400), |d, v| d.settings.auth.lifetime_max = Some(v)),
        "(none)",
        "Tokens that live longer from now are refused",
    ),
    knob(
        "WS_ALLOW_ANONYMOUS",
        Bool(|d, v| d.settings.auth.allow_anonymous = v),
        "true",
        "Whether one may connect without a token; only public rooms then",
    ),
    knob(
        "AUTH_FIRST_MESSAGE",
        Bool(|d, v| d.settings.auth.first_message = v),
        "false",
        "Where a token is needed: connect first, then send auth:login within 5 s",
    ),
    knob(
        "WS_ALLOWED_ORIGINS",
        List(origin, |d, v| d.settings.auth.allowed_origins = origins(v)),
        "(any)",
        "Origins of browsers that may connect, exactly; * is any",
    )
    .also(&["WS_CORS_ORIGIN", "WEBSOCKET_CORS_ORIGIN"]),
    knob(
        "TOKEN_REFRESH_THRESHOLD",
        time_or_ms(Duration::ZERO, DAY, |d, v| d.settings.auth.refresh_threshold = v),
        "5m",
        "auth:token_expiring is sent that long before a token expires",
    ),
    knob(
        "TOKEN_EXPIRY_GRACE",
        time(Duration::ZERO, HOUR, |d, v| d.settings.auth.expiry_grace = v),
        "25s",
        "A connection is closed that long after its token expired",
    ),
];

const CLIENT: &[Knob] = &[
    knob(
        "WS_DIALECT",
        Choice(&["ticketing", "raw"], &["rooms"], |d, v| {
            d.settings.client.dialect = if v == "raw" { Dialect::Raw } else { Dialect::Ticketing };
        }),
        "ticketing",
        "What /ws speaks when neither path nor subprotocol says: ticketing or raw",
    ),
    knob(
        "ROOM_PROTECTED",
        List(glob, |d, v| d.settings.client.rooms_protected = v),
        "(none)",
        "Globs of rooms that need the claim rooms, beside private:*",
    ),
    knob(
        "ROOM_PRESENCE",
        List(glob, |d, v| d.settings.client.rooms_presence = v),
        "(none)",
        "Globs of rooms that announce comings, goings and typing",
    ),
    knob(
        "ROOM_TYPING_TIMEOUT",
        time_or_ms(Duration::from_millis(500), seconds(60), |d, v| d.settings.client.typing_timeout = v),
        "5s",
        "Typing ends by itself after",
    ),
    knob(
        "WS_COMPRESSION",
        Choice(&["off", "on"], &[], |d, v| d.settings.client.compression = v == "on"),
        "off",
        "Whether clients may have their messages compressed (permessage-deflate): off or on",
    ),
    knob(
        "QUEUE_UPDATE_INTERVAL",
        time(Duration::ZERO, HOUR, |d, v| d.settings.client.queue_update_interval = v),
        "1s",
        "Between two positions in a queue to one connection, the newest wins; 0s: every one goes at once",
    ),
    knob(
        "QUEUE_GRACE",
        time(seconds(1), HOUR, |d, v| d.settings.client.queue_grace = v),
        "2m",
        "How long somebody in a queue may be away before the place counts for nobody; `OpenQueue` may say otherwise",
    ),
];

const KEEP_ALIVE: &[Knob] = &[
    knob(
        "WS_PING_INTERVAL",
        time_or_ms(INSTANT, HOUR, |d, v| d.settings.keep_alive.ping_interval = v),
        "30s",
        "Between two pings of a connection",
    )
    .also(&["WEBSOCKET_PING_INTERVAL"]),
    knob(
        "WS_PONG_TIMEOUT",
        time_or_ms(INSTANT, DAY, |d, v| d.settings.keep_alive.pong_timeout = v),
        "1m",
        "Silence after which a connection is closed; more than WS_PING_INTERVAL",
    )
    .also(&["WS_PING_TIMEOUT", "WEBSOCKET_PONG_WAIT"]),
    knob(
        "HTTP_READ_TIMEOUT",
        time_or_ms(INSTANT, HOUR, |d, v| d.settings.keep_alive.read_timeout = v),
        "15s",
        "Accepted to upgraded or answered; no more than 5 s count",
    )
    .also(&["WS_CONNECTION_TIMEOUT", "WEBSOCKET_TIMEOUT"]),
    knob(
        "HTTP_WRITE_TIMEOUT",
        time_or_ms(INSTANT, HOUR, |d, v| d.settings.keep_alive.write_timeout = v),
        "15s",
        "Answered or closed to gone; no more than 5 s count",
    )
    .also(&["WEBSOCKET_WRITE_WAIT"]),
];

const LIMITS: &[Knob] = &[
    knob(
        "WS_MAX_CONNECTIONS",
        Integer(0, 100_000_000, |d, v| d.settings.limits.connections_max = v),
        "0",
        "Connections of the whole gateway; 0 is no limit",
    )
    .also(&["WEBSOCKET_LIMITS_MAX_CONNECTIONS"]),
    knob(
        "WS_MAX_WAITING_HANDSHAKES",
        Integer(1, 1_000_000, |d, v| d.settings.limits.handshakes_waiting_max = v as usize),
        "16384",
        "Newcomers that wait for their handshake, per core, returning and new ones apart; more are refused",
    ),
    knob(
        "RATE_LIMIT_MAX_CONNECTIONS",
        Integer(0, 1_000_000, |d, v| d.settings.limits.connections_per_user_max = v as u32),
        "20",
        "Connections of one user; 0 is no limit",
    ),
    knob(
        "MAX_ROOM_MEMBERS",
        Integer(0, 100_000_000, |d, v| d.settings.limits.room_members_max = v as u32),
        "0",
        "Members of one room; 0 is no limit",
    )
    .also(&["WEBSOCKET_LIMITS_MAX_CONNECTIONS_PER_ROOM"]),
    knob(
        "WS_MAX_MESSAGE_SIZE",
        Integer(1_024, 16 << 20, |d, v| d.settings.limits.message_bytes_max = v as usize),
        "65536",
        "Bytes of one message of a client",
    )
    .also(&["WEBSOCKET_MAX_MESSAGE_SIZE"]),
    knob(
        "RATE_LIMIT_MAX_MESSAGES",
        Integer(0, 1_000_000, |d, v| d.settings.limits.messages_max = v as u32),
        "100",
        "Messages of one connection per RATE_LIMIT_WINDOW_MS; 0 is no limit",
    ),
    knob(
        "RATE_LIMIT_WINDOW_MS",
        time_or_ms(INSTANT, HOUR, |d, v| d.settings.limits.messages_window = v),
        "1m",
        "The time in which RATE_LIMIT_MAX_MESSAGES refills",
    ),
    knob(
        "RATE_LIMIT_MAX_AUTH_FAILURES",
        Integer(0, 1_000_000, |d, v| d.settings.limits.auth_failures_max = v as u32),
        "5000",
        "Refused tokens of one client address (IPv6: /64) per RATE_LIMIT_AUTH_WINDOW, on each shard; 0 is no limit",
    ),
    knob(
        "RATE_LIMIT_AUTH_WINDOW",
        time(INSTANT, HOUR, |d, v| d.settings.limits.auth_failures_window = v),
        "10s",
        "The time in which RATE_LIMIT_MAX_AUTH_FAILURES refills",
    ),
    knob(
        "RATE_LIMIT_MAX_PLACES",
        Integer(0, 1_000_000, |d, v| d.settings.limits.places_max = v as u32),
        "5000",
        "Anonymous places of one client address (IPv6: /64) per RATE_LIMIT_PLACES_WINDOW, on each shard; 0 is no limit",
    ),
    knob(
        "RATE_LIMIT_PLACES_WINDOW",
        time(INSTANT, HOUR, |d, v| d.settings.limits.places_window = v),
        "5m",
        "The time in which RATE_LIMIT_MAX_PLACES refills",
    ),
    knob(
        "OUTBOX_MAX_MESSAGES",
        Integer(8, 1 << 20, |d, v| d.settings.limits.outbox_messages_max = v as usize),
        "256",
        "Messages that wait for one slow connection; more closes it",
    ),
    knob(
        "OUTBOX_MAX_BYTES",
        Integer(4_096, 1 << 30, |d, v| d.settings.limits.outbox_bytes_max = v as usize),
        "262144",
        "Bytes that wait for one slow connection; more closes it",
    ),
];

const STREAMS: &[Knob] = &[
    knob(
        "STREAM_MAX_COUNT",
        Integer(1, 1_000_000, |d, v| d.settings.streams.count_max = v as usize),
        "1000",
        "Events kept of one stream",
    ),
    knob(
        "STREAM_MAX_AGE",
        time(seconds(1), limits::STREAM_HEAD_AGE_MAX, |d, v| d.settings.streams.age_max = v),
        "10m",
        "How long an event is kept",
    ),
    knob(
        "LEDGER_MAX_AGE",
        time(seconds(1), limits::STREAM_HEAD_AGE_MAX, |d, v| d.settings.streams.ledger_age_max = v),
        "1d",
        "How long an event is kept that its user did not acknowledge",
    ),
    knob(
        "ROOM_STREAMS",
        List(glob, |d, v| d.settings.streams.rooms = v),
        "(none)",
        "Globs of rooms whose events are kept",
    ),
];

const CALLERS: &[Knob] = &[
    knob(
        "GRPC_AUTH_TOKEN",
        Text(any, |d, v| d.settings.callers.token = Some(Secret(v))),
        "(none)",
        "Bearer token that every gRPC call must carry",
    )
    .secret(),
    knob(
        "GRPC_TLS_CERT",
        Path(|d, v| d.grpc_cert = Some(v)),
        "(none)",
        "Certificate chain of the gRPC listener, PEM",
    ),
    knob("GRPC_TLS_KEY", Path(|d, v| d.grpc_key = Some(v)), "(none)", "Its private key, PEM"),
    knob(
        "GRPC_TLS_CLIENT_CA",
        Path(|d, v| d.settings.callers.client_ca = Some(v)),
        "(none)",
        "Callers must show a certificate of this authority, PEM",
    ),
];

const CORES: &[Knob] = &[
    knob(
        "SHARD_CORES",
        Cores(|d, v| d.shard_cores = Some(v)),
        "(all but the control core; all of them on one or two cores)",
        "Cores that run a shard each, such as 0-5,8",
    ),
    knob(
        "SHARDS",
        Integer(1, 1_024, |d, v| d.shards = Some(v as usize)),
        "(one for each of SHARD_CORES)",
        "Instead of SHARD_CORES: so many shards, pinned in turn",
    ),
    knob(
        "CONTROL_CORE",
        Integer(0, 1_023, |d, v| d.control_core = Some(v as usize)),
        "(the last core)",
        "Core of the control thread; may be a shard's too",
    ),
];

const SHUTDOWN: &[Knob] = &[
    knob(
        "SHUTDOWN_TIMEOUT",
        time(Duration::ZERO, HOUR, |d, v| d.settings.shutdown.timeout = v),
        "30s",
        "From SIGTERM to exit at the latest",
    ),
    knob(
        "DRAIN_DELAY",
        time(Duration::ZERO, HOUR, |d, v| d.settings.shutdown.drain_delay = v),
        "0s",
        "From not ready to the first close, for load balancers to notice",
    ),
    knob(
        "DRAIN_RATE",
        Integer(0, 1_000_000, |d, v| d.settings.shutdown.rate = v as u32),
        "0",
        "Clients sent away a second, on all shards together; 0 is as few as SHUTDOWN_TIMEOUT allows, 100 or more",
    ),
    knob(
        "TAKE_OVER",
        Bool(|d, v| d.settings.shutdown.take_over = v),
        "false",
        "Replace the gateway that runs at the same address: it drains once this one serves",
    ),
];

const LOG: &[Knob] = &[
    knob(
        "LOG_LEVEL",
        Text(filter, |d, v| d.settings.log.level = v),
        "info",
        "error, warn, info, debug, trace or off, or a filter such as info,usher::hub=debug",
    ),
    knob(
        "LOG_FORMAT",
        Choice(&["json", "pretty"], &[], |d, v| {
            d.log_format = Some(if v == "json" { LogFormat::Json } else { LogFormat::Pretty });
        }),
        "(pretty on a terminal, else json)",
        "json, one object a line, or pretty",
    ),
];

/// Short enough for tests of a client, long enough for a timer wheel.
pub(super) const INSTANT: Duration = Duration::from_millis(100);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) const fn knob(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Knob {
    Knob { name, aliases: &[], kind, default, help, secret: false }
}

pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A time that needs a unit.
pub(super) const fn time(min: Duration, max: Duration, set: Set<Duration>) -> Kind {
    Kind::Duration(Plain::Refused, min, max, set)
}

/// A time that a seed writes as plain milliseconds.
pub(super) const fn time_or_ms(min: Duration, max: Duration, set: Set<Duration>) -> Kind {
    Kind::Duration(Plain::Milliseconds, min, max, set)
}
