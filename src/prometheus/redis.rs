//! Metrics of the bus.

use super::{Counter, Gauge, Text};
use crate::metrics::{Cell, REDIS_MALFORMED, REDIS_PATTERNS, RedisCells};

pub(super) fn render(text: &mut Text, cells: &RedisCells) {
    let gauges = [
        ("usher_redis_up", "1 while Redis can be reached.", &cells.up),
        ("usher_redis_subscriptions", "Users and rooms whose channel is subscribed.", &cells.subscriptions),
    ];
    for (name, help, cell) in gauges {
        text.one(name, Gauge, help, cell.get());
    }
    let reconnects = cells.sessions.get().saturating_sub(1);
    let counters = [
        ("usher_redis_reconnects_total", "Times that Redis could be reached again.", reconnects),
        (
            "usher_redis_connect_failures_total",
            "Tries to reach Redis that failed.",
            cells.connect_failures.get(),
        ),
        (
            "usher_redis_overflows_total",
            "Connections given up since control heard too slowly.",
            cells.overflows.get(),
        ),
    ];
    for (name, help, count) in counters {
        text.one(name, Counter, help, count);
    }
    let shared = [
        ("published", cells.published.get()),
        ("failed", cells.failed.get()),
        ("refused", cells.refused.get()),
    ];
    text.by(
        "usher_redis_shared_total",
        "Events for other instances, by what came of them.",
        "result",
        &shared,
    );
    let heard = REDIS_PATTERNS.iter().copied().zip(cells.heard.iter().map(Cell::get));
    let heard: Vec<_> = heard.chain([("own", cells.shared_heard.get())]).collect();
    text.by("usher_redis_heard_total", "Messages that Redis pushed.", "channel", &heard);
    let malformed: Vec<_> =
        REDIS_MALFORMED.iter().copied().zip(cells.malformed.iter().map(Cell::get)).collect();
    text.by("usher_redis_malformed_total", "Messages of other services refused.", "reason", &malformed);
    let help = "Messages of other services lost for want of room.";
    text.one("usher_redis_dropped_total", Counter, help, cells.dropped.get());
}

/// What went wrong with the bus, all together.
pub(super) fn errors(cells: &RedisCells) -> u64 {
    let malformed: u64 = cells.malformed.iter().map(Cell::get).sum();
    malformed + cells.dropped.get() + cells.failed.get() + cells.refused.get() + cells.overflows.get()
}
