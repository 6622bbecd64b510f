//! Metrics of waiting rooms.

use super::{Gauge, Text};
use crate::status::Status;

pub(super) fn render(text: &mut Text, status: &Status) {
    let cells = &status.control.queues;
    let help = "Connections in queues of waiting rooms.";
    text.one("usher_queue_waiting", Gauge, help, status.sum(|shard| &shard.waiting));
    let help = "1 while this instance has inlets pause, since what sells is not ready.";
    text.one("usher_queue_target_down", Gauge, help, cells.target_down.get());
    let probes = [("ready", cells.target_ready.get()), ("not_ready", cells.target_not_ready.get())];
    text.by("usher_queue_target_probes_total", "Answers of what sells, by what it said.", "result", &probes);
}
