//! Metrics of last values.

use super::{Counter, Gauge, Text};
use crate::status::Status;

pub(super) fn render(text: &mut Text, status: &Status) {
    let cells = &status.control.latest;
    text.one("usher_latest_values", Gauge, "Last values kept for who comes in.", cells.values.get());
    text.one("usher_latest_bytes", Gauge, "Bytes of them.", cells.bytes.get());
    text.one("usher_latest_shown_total", Counter, "Last values sent to who came in.", cells.shown.get());
    let lost = [
        ("evicted", cells.evicted.get()),
        ("unsaved", cells.unsaved.get()),
        ("unasked", status.sum(|shard| &shard.latest_unasked)),
        ("unsent", status.sum(|shard| &shard.latest_unsent)),
    ];
    text.by("usher_latest_lost_total", "Last values that somebody may not get, by why.", "reason", &lost);
}
