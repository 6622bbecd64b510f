//! Metrics of waiting rooms.

use std::cmp::Reverse;

use super::{Counter, Gauge, Text};
use crate::{
    limits::LABELLED_QUEUES_MAX,
    metrics::{Cell, QUEUE_PASSES, QUEUE_REFUSALS, QUEUE_STATES, QueueSample},
    status::Status,
};

pub(super) fn render(text: &mut Text, status: &Status) {
    let cells = &status.control.queues;
    let help = "Connections in queues of waiting rooms.";
    text.one("usher_queue_waiting", Gauge, help, status.sum(|shard| &shard.waiting));
    text.one("usher_queues", Gauge, "Queues that this instance follows.", cells.followed.get());
    text.one("usher_queues_lost", Gauge, "Of them, those whose log was lost.", cells.lost.get());
    let entries = [
        ("written", cells.entries_written.get()),
        ("applied", cells.entries_applied.get()),
        ("unreadable", cells.entries_unreadable.get()),
    ];
    text.by("usher_queue_entries_total", "Entries of the logs of queues.", "result", &entries);
    let help = "Times that a core missed news of a queue, and was told all of it.";
    text.one("usher_queue_lines_missed_total", Counter, help, cells.lines_missed.get());
    let help = "Passes of users that are not known to be stored.";
    text.one("usher_queue_passes_untold", Gauge, help, cells.passes_untold.get());
    let passes: Vec<_> = QUEUE_PASSES.iter().copied().zip(cells.passes.iter().map(Cell::get)).collect();
    let help = "Passes of users by what became of them, and tries that failed.";
    text.by("usher_queue_passes_total", help, "result", &passes);
    let mut refused: Vec<_> =
        QUEUE_REFUSALS.iter().copied().zip(cells.refused.iter().map(Cell::get)).collect();
    for (reason, count) in &mut refused {
        // Shards see to that themselves.
        *count += if *reason == "rate_limited" { status.sum(|shard| &shard.newcomers_limited) } else { 0 };
    }
    let help = "What clients and operators wanted of queues and did not get.";
    text.by("usher_queue_refused_total", help, "reason", &refused);
    let help = "1 while this instance has inlets pause, since what sells is not ready.";
    text.one("usher_queue_target_down", Gauge, help, cells.target_down.get());
    let probes = [("ready", cells.target_ready.get()), ("not_ready", cells.target_not_ready.get())];
    text.by("usher_queue_target_probes_total", "Answers of what sells, by what it said.", "result", &probes);
}

/// The books of the largest queues, and of all others together.
pub(super) fn render_books(text: &mut Text, queues: &mut [QueueSample]) {
    queues.sort_by_key(|queue| Reverse(queue.total));
    let (labelled, others) = queues.split_at(queues.len().min(LABELLED_QUEUES_MAX));
    let name = "usher_queue_places";
    text.family(
        name,
        Gauge,
        "Places of the largest queues and of all others, by where they are on their way.",
    );
    for (index, state) in QUEUE_STATES.into_iter().enumerate() {
        for queue in labelled {
            let labels = [("event", &*queue.event_id), ("state", state)];
            text.sample(name, &labels, queue.places[index]);
        }
        let rest: u64 = others.iter().map(|queue| u64::from(queue.places[index])).sum();
        text.sample(name, &[("event", "other"), ("state", state)], rest);
    }
    let name = "usher_queue_log_bytes";
    text.family(
        name,
        Gauge,
        "Bytes of the logs of the largest queues and of all others, with what keeping them takes.",
    );
    for queue in labelled {
        text.sample(name, &[("event", &*queue.event_id)], queue.log_bytes);
    }
    text.sample(name, &[("event", "other")], others.iter().map(|queue| queue.log_bytes).sum::<u64>());
    let name = "usher_queue_admitted";
    text.family(name, Gauge, "People who ever got a pass, of the largest queues.");
    for queue in labelled {
        text.sample(name, &[("event", &*queue.event_id)], queue.admitted);
    }
    let name = "usher_queue_serving";
    text.family(
        name,
        Gauge,
        "The place up to which people were let in or passed over, of the largest queues.",
    );
    for queue in labelled {
        text.sample(name, &[("event", &*queue.event_id)], queue.serving);
    }
}
