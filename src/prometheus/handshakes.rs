//! What becomes of newcomers.

use super::{
    Kind::{Counter, Gauge},
    Text,
};
use crate::{
    metrics::{Cell, ControlCells, LANES, REFUSALS, ShardCells},
    status::Status,
};

pub(super) fn render(text: &mut Text, status: &Status) {
    let sum = |cell: fn(&ShardCells) -> &Cell| status.sum(cell);
    text.by(
        "usher_handshakes_total",
        "Requests on the client port, by how they ended.",
        "result",
        &[
            ("upgraded", sum(|shard| &shard.upgraded)),
            ("answered_2xx", sum(|shard| &shard.http_answers[0])),
            ("answered_4xx", sum(|shard| &shard.http_answers[1])),
            ("answered_5xx", sum(|shard| &shard.http_answers[2])),
            ("timed_out", sum(|shard| &shard.handshake_timeouts)),
            ("gone", sum(|shard| &shard.handshakes_gone)),
        ],
    );
    text.by(
        "usher_tls_handshakes_total",
        "TLS handshakes: in full, with a ticket of before, or in vain.",
        "result",
        &[
            ("full", sum(|shard| &shard.tls_full)),
            ("resumed", sum(|shard| &shard.tls_resumed)),
            ("failed", sum(|shard| &shard.tls_failures)),
        ],
    );
    text.by(
        "usher_tokens_total",
        "Tokens, by what came of them.",
        "result",
        &[
            ("accepted", sum(|shard| &shard.auth_accepted)),
            ("refused", sum(|shard| &shard.auth_refused)),
            ("throttled", sum(|shard| &shard.auth_throttled)),
        ],
    );
    let control = &status.control;
    text.by(
        "usher_admissions_total",
        "Connections of users, by their number.",
        "result",
        &[
            ("admitted", control.admitted.get()),
            ("too_many", control.denied.get()),
            ("timed_out", sum(|shard| &shard.admission_timeouts)),
        ],
    );
    text.by(
        "usher_room_joins_total",
        "Joins that the control core decides, by how they ended.",
        "result",
        &[
            ("entered", control.joined.get()),
            ("full", control.rooms_full.get()),
            ("unanswered", sum(|shard| &shard.joins_unanswered)),
        ],
    );
    files(text, control);
    lanes(text, status);
}

fn files(text: &mut Text, control: &ControlCells) {
    text.by(
        "usher_key_documents_total",
        "Key files and addresses read again.",
        "result",
        &[("done", control.keys_refreshed.get()), ("failed", control.keys_failed.get())],
    );
    let reloads = &control.tls_reloads;
    text.by(
        "usher_tls_reloads_total",
        "Certificates and ticket keys read again.",
        "result",
        &[
            ("done", reloads.done.get()),
            ("certificate_failed", reloads.certificate_failed.get()),
            ("ticket_keys_failed", reloads.ticket_keys_failed.get()),
        ],
    );
    let passes = &control.passes;
    text.by(
        "usher_pass_key_reloads_total",
        "Keys of passes read again.",
        "result",
        &[("done", passes.reloads_done.get()), ("failed", passes.reloads_failed.get())],
    );
    text.by(
        "usher_pass_signatures_total",
        "Passes and roots that were to be signed.",
        "result",
        &[("accepted", passes.accepted.get()), ("refused", passes.refused.get())],
    );
    let help = "Tokens whose key id was unknown.";
    text.one("usher_unknown_keys_total", Counter, help, control.unknown_keys.get());
}

fn lanes(text: &mut Text, status: &Status) {
    let name = "usher_newcomers_total";
    text.family(name, Counter, "Newcomers, by what their first bytes claim.");
    for (index, lane) in LANES.iter().enumerate() {
        text.sample(name, &[("lane", lane)], status.sum(|shard| &shard.newcomers[index]));
    }
    let help = "Newcomers who offered a ticket and needed a full TLS handshake.";
    text.one("usher_false_claims_total", Counter, help, status.sum(|shard| &shard.false_claims));
    let name = "usher_refused_newcomers_total";
    text.family(name, Counter, "Newcomers refused for want of room, by what there were too many of.");
    for (index, reason) in REFUSALS.iter().enumerate() {
        text.sample(name, &[("reason", reason)], status.sum(|shard| &shard.newcomers_refused[index]));
    }
    let (name, control) = ("usher_accept_queue_lost_total", &status.control);
    text.by(
        name,
        "Connections that the kernel lost before they were accepted, of all processes since boot.",
        "reason",
        &[("overflow", control.accept_queue_overflows.get()), ("any", control.accept_queue_drops.get())],
    );
    let name = "usher_handshakes_waiting";
    text.family(name, Gauge, "Newcomers who wait for their turn.");
    for (core, shard) in status.cells.iter().enumerate() {
        for (lane, waiting) in LANES.iter().zip(&shard.handshakes_waiting) {
            text.sample(name, &[("core", &core.to_string()), ("lane", lane)], waiting.get());
        }
    }
}
