//! The rows about Redis (03 §8, §13).

use Kind::{Bool, Choice, Integer, List, Path, Text};

use super::{
    Knob,
    checks::{any, redis_host, redis_prefix, redis_url},
    table::{INSTANT, knob, time},
};
use crate::{
    config::{
        kind::Kind,
        settings::{Secret, Store},
    },
    limits,
};

pub(super) const REDIS: &[Knob] = &[
    knob(
        "REDIS_URL",
        List(redis_url, |d, v| d.redis.urls = v),
        "(none)",
        "Redis: redis://user:password@host:port/db or rediss://; several, nodes of one cluster, with commas",
    )
    .secret(),
    knob(
        "REDIS_HOST",
        Text(redis_host, |d, v| d.redis.host = Some(v)),
        "(none)",
        "Redis without a URL: its host; what follows completes it, or what REDIS_URL leaves open",
    ),
    knob("REDIS_PORT", Integer(1, 65_535, |d, v| d.redis.port = v as u16), "6379", "Port of REDIS_HOST"),
    knob(
        "REDIS_USERNAME",
        Text(any, |d, v| d.redis.username = Some(v)),
        "(none)",
        "User of the access control list of Redis",
    ),
    knob(
        "REDIS_PASSWORD",
        Text(any, |d, v| d.redis.password = Some(Secret(v))),
        "(none)",
        "Password of Redis",
    )
    .secret(),
    knob(
        "REDIS_DB",
        Integer(0, 1_000_000, |d, v| d.redis.db = Some(v as u32)),
        "(0)",
        "Number of the database; Pub/Sub is the same in all of them",
    )
    .also(&["REDIS_DATABASE"]),
    knob(
        "REDIS_TLS",
        Bool(|d, v| d.redis.tls = Some(v)),
        "(as REDIS_URL says, else false)",
        "Whether connections to Redis are encrypted",
    ),
    knob(
        "REDIS_TLS_CA",
        Path(|d, v| d.redis.ca = Some(v)),
        "(those of the system)",
        "Authorities that the certificate of Redis is checked against, PEM",
    ),
    knob(
        "REDIS_PREFIX",
        Text(redis_prefix, |d, v| d.redis.prefix = v),
        "usher:",
        "Begins every channel and key of the gateway's own; the same for all instances that belong together",
    ),
    knob(
        "REDIS_COMMAND_TIMEOUT",
        time(INSTANT, limits::REDIS_COMMAND_TIME_MAX, |d, v| d.redis.command_timeout = v),
        "250ms",
        "How long a command to Redis may take; then nobody knows whether it was done",
    ),
    knob(
        "READY_REQUIRES_REDIS",
        Bool(|d, v| d.redis.ready_required = v),
        "true",
        "Whether /ready is 503 while Redis is configured and cannot be reached",
    ),
    knob(
        "STORE",
        Choice(&["embedded", "redis"], &[], |d, v| {
            d.store = Some(if v == "redis" { Store::Redis } else { Store::Embedded });
        }),
        "(redis when Redis is configured, else embedded)",
        "Where streams are kept: embedded is memory, gone at exit; redis is shared by all instances",
    ),
];
