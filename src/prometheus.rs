//! Metrics in Prometheus' text format (03 §14): the names of the services that this one replaces, and our own
//! under `usher_`.
//!
//! Reads the cells of all cores. Never makes a label of what clients or backends could multiply: types come from
//! [`KINDS`], rooms from a list of limited length, the rest is `other`.

mod handshakes;
mod latest;
mod queues;
mod redis;

use std::{
    fmt::{Display, Write},
    sync::Arc,
};

use crate::{
    event::Class,
    metrics::{
        CLOSE_CODES, Cell, ControlCells, DeflateCells, ForeignCells, GRPC_CODES, GRPC_METHODS, Histogram,
        KINDS, LATENCY_BOUNDS_US, MailboxCells, QueueSample, RESUMES, ShardCells,
    },
    status::{Phase, Status},
};

/// The media type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics. `rooms`: the rooms that get a label of their own; the rest is `other`.
pub fn render(status: &Status, rooms: &[(Arc<str>, u32)]) -> String {
    let mut text = Text::default();
    connections(&mut text, status, rooms);
    messages(&mut text, status);
    calls(&mut text, &status.control);
    errors(&mut text, status);
    shards(&mut text, status);
    handshakes::render(&mut text, status);
    compression(&mut text, status);
    resumes(&mut text, status);
    mailboxes(&mut text, &status.control);
    routing(&mut text, &status.control);
    latest::render(&mut text, status);
    queues::render(&mut text, status);
    redis::render(&mut text, &status.control.redis);
    text.0
}

/// The books of queues, to stand behind [`render`]'s text.
pub fn render_queues(queues: &mut [QueueSample]) -> String {
    let mut text = Text::default();
    queues::render_books(&mut text, queues);
    text.0
}

fn connections(text: &mut Text, status: &Status, rooms: &[(Arc<str>, u32)]) {
    let control = &status.control;
    text.one("realtime_websocket_connections_total", Gauge, "Open connections.", status.connections());
    let help = "Open connections of users.";
    text.one("realtime_websocket_connections_authenticated", Gauge, help, status.authenticated());
    text.one("websocket_clients_total", Gauge, "Open connections.", status.connections());
    text.one("websocket_rooms_total", Gauge, "Rooms with a member.", control.rooms.get());
    text.one("usher_users", Gauge, "Users with a connection.", control.users.get());

    let name = "realtime_websocket_connections_per_room";
    text.family(name, Gauge, "Connections in each of the largest rooms, and in all others.");
    for (room, members) in rooms {
        text.sample(name, &[("room", room)], *members);
    }
    let labelled: u64 = rooms.iter().map(|(_, members)| u64::from(*members)).sum();
    text.sample(name, &[("room", "other")], control.memberships.get().saturating_sub(labelled));

    let ready = u64::from(status.ready().0 == 200);
    text.one("usher_ready", Gauge, "1 while /ready says 200.", ready);
    let name = "usher_phase";
    text.family(name, Gauge, "1 for where the gateway is: serving, leaving (DRAIN_DELAY) or draining.");
    for phase in Phase::ALL {
        text.sample(name, &[("phase", phase.name())], u64::from(phase == status.phase()));
    }
    let started_s = status.started().wall_ms as f64 / 1_000.0;
    text.one("process_start_time_seconds", Gauge, "When the gateway started, Unix time.", started_s);
}

fn messages(text: &mut Text, status: &Status) {
    let by_kind = |text: &mut Text, name, help, cells: fn(&ShardCells) -> &[Cell]| {
        text.family(name, Counter, help);
        for (index, kind) in KINDS.iter().enumerate() {
            let count = status.sum(|shard| &cells(shard)[index]);
            // Of 46 types most never travel.
            if count > 0 {
                text.sample(name, &[("type", kind)], count);
            }
        }
    };
    by_kind(text, "realtime_messages_sent_total", "Messages to clients.", |shard| &shard.sent.0);
    by_kind(text, "realtime_messages_received_total", "Messages from clients.", |shard| &shard.received.0);
    let name = "realtime_notifications_delivered_total";
    text.family(name, Counter, "Events handed to the kernel, per connection.");
    for (index, class) in Class::NAMES.iter().enumerate() {
        text.sample(name, &[("class", class)], status.sum(|shard| &shard.delivered[index]));
    }
    let help = "Messages to and from clients in the last second.";
    text.one("websocket_messages_per_second", Gauge, help, status.control.messages_per_second.get());

    let name = "usher_delivery_latency_seconds";
    text.family(
        name,
        Summed,
        "Event accepted to the turn of the shard that handed its last byte to the kernel.",
    );
    for (index, class) in Class::NAMES.iter().enumerate() {
        text.histogram(name, &[("class", class)], status.cells.iter().map(|shard| &shard.latency[index]));
    }
}

fn calls(text: &mut Text, control: &ControlCells) {
    let name = "realtime_grpc_requests_total";
    text.family(name, Counter, "gRPC calls answered.");
    for (method, cells) in GRPC_METHODS.iter().zip(&control.methods) {
        for (code, cell) in GRPC_CODES.iter().zip(&cells.by_code).filter(|(_, cell)| cell.get() > 0) {
            text.sample(name, &[("method", method), ("code", code)], cell.get());
        }
    }
    let name = "realtime_grpc_request_duration_seconds";
    text.family(name, Summed, "gRPC call decoded to answer ready.");
    for (method, cells) in GRPC_METHODS.iter().zip(&control.methods) {
        text.histogram(name, &[("method", method)], std::iter::once(&cells.duration));
    }
}

fn errors(text: &mut Text, status: &Status) {
    let closed = |code: u16| {
        let index = CLOSE_CODES.iter().position(|known| *known == code);
        index.map_or(0, |index| status.sum(|shard| &shard.closed[index]))
    };
    let protocol = [1002, 1003, 1007, 1008, 1009];
    let errors = [
        ("accept", status.sum(|shard| &shard.accept_errors) + status.control.accept_errors.get()),
        ("tls_handshake", status.sum(|shard| &shard.tls_failures)),
        ("handshake_timeout", status.sum(|shard| &shard.handshake_timeouts)),
        ("http_client", status.sum(|shard| &shard.http_answers[1])),
        ("http_server", status.sum(|shard| &shard.http_answers[2])),
        ("auth", status.sum(|shard| &shard.auth_refused)),
        ("protocol", protocol.into_iter().map(closed).sum()),
        ("bad_message", status.sum(|shard| &shard.bad_messages)),
        ("handler_panic", status.sum(|shard| &shard.handler_panics)),
        ("rate_limited", status.sum(|shard| &shard.rate_limited)),
        ("slow_consumer", closed(4413)),
        ("internal", closed(1011)),
        ("overloaded", status.control.overloaded.get()),
        ("redis", redis::errors(&status.control.redis)),
    ];
    let name = "realtime_errors_total";
    text.family(name, Counter, "What went wrong, by kind.");
    for (kind, count) in errors {
        text.sample(name, &[("type", kind)], count);
    }
    let total = errors.iter().map(|(_, count)| count).sum::<u64>();
    text.one("websocket_errors_total", Counter, "What went wrong, all kinds together.", total);
    if let Some(lines) = status.log_lines_dropped() {
        let help = "Log lines lost since the writer was behind.";
        text.one("usher_log_lines_dropped_total", Counter, help, lines);
    }
}

type OfShard = (&'static str, Kind, &'static str, fn(&ShardCells) -> &Cell);

/// What every core tells for itself.
const OF_SHARDS: [OfShard; 10] = [
    ("usher_connections", Gauge, "Open connections.", |shard| &shard.connections),
    ("usher_handshakes_under_way", Gauge, "Sockets that are not upgraded yet.", |shard| &shard.handshaking),
    ("usher_blocked_connections", Gauge, "Sockets that take no more.", |shard| &shard.blocked),
    ("usher_accepted_total", Counter, "Sockets accepted.", |shard| &shard.accepted),
    ("usher_received_bytes_total", Counter, "Bytes read from sockets.", |shard| &shard.bytes_in),
    ("usher_sent_bytes_total", Counter, "Bytes written to sockets.", |shard| &shard.bytes_out),
    ("usher_conflated_total", Counter, "Latest values replaced before they were sent.", |shard| {
        &shard.conflated
    }),
    ("usher_unpaced_total", Counter, "Positions sent at once, for want of room to pace them.", |shard| {
        &shard.unpaced
    }),
    ("usher_dropped_ephemeral_total", Counter, "Ephemeral messages dropped for want of room.", |shard| {
        &shard.dropped_ephemeral
    }),
    (
        "usher_loop_lag_microseconds",
        Gauge,
        "Longest turn of the core's loop in the last two seconds.",
        |shard| &shard.loop_lag_us,
    ),
];

fn shards(text: &mut Text, status: &Status) {
    for (name, kind, help, cell) in OF_SHARDS {
        text.family(name, kind, help);
        for (core, shard) in status.cells.iter().enumerate() {
            text.sample(name, &[("core", &core.to_string())], cell(shard).get());
        }
    }
    let name = "usher_loop_turn_seconds";
    text.family(name, Summed, "Turns of the core's loop, by the task that had them.");
    for (core, shard) in status.cells.iter().enumerate() {
        let core = core.to_string();
        for (task, turns) in [("deliveries", &shard.delivery_turns), ("handshakes", &shard.handshake_turns)] {
            text.histogram(name, &[("core", &core), ("task", task)], std::iter::once(turns));
        }
    }
    let name = "usher_closed_total";
    text.family(name, Counter, "Connections closed by the gateway, by close code.");
    for (index, code) in CLOSE_CODES.iter().enumerate() {
        text.sample(name, &[("code", &code.to_string())], status.sum(|shard| &shard.closed[index]));
    }
}

fn resumes(text: &mut Text, status: &Status) {
    let results: Vec<(&str, u64)> = RESUMES
        .into_iter()
        .enumerate()
        .map(|(index, result)| (result, status.sum(|shard| &shard.resumes[index])))
        .collect();
    text.by("usher_resumes_total", "Streams that clients wanted to resume.", "result", &results);
    let help = "Events sent by replays.";
    text.one("usher_replayed_events_total", Counter, help, status.sum(|shard| &shard.replayed));
    let help = "Live events that did not wait for a replay's end; they were read again.";
    text.one("usher_replay_dropped_total", Counter, help, status.sum(|shard| &shard.parked_dropped));
    let help = "Pages of replays that control did not send in time.";
    text.one("usher_replays_unanswered_total", Counter, help, status.sum(|shard| &shard.replays_unanswered));
    let help = "Connections told that a stream lost something.";
    text.one("usher_resyncs_total", Counter, help, status.sum(|shard| &shard.resyncs));
    let help = "Acknowledgements dropped; the next one covers them.";
    text.one("usher_acks_dropped_total", Counter, help, status.sum(|shard| &shard.acks_dropped));
}

fn compression(text: &mut Text, status: &Status) {
    let help = "Upgrades that negotiated permessage-deflate.";
    text.one(
        "usher_compressed_connections_total",
        Counter,
        help,
        status.sum(|shard| &shard.upgraded_deflate),
    );
    let mut both = |name, help, out: fn(&DeflateCells) -> &Cell, r#in: fn(&DeflateCells) -> &Cell| {
        let out = status.sum(|shard| out(&shard.deflated));
        let r#in = status.sum(|shard| r#in(&shard.inflated));
        text.by(name, help, "direction", &[("out", out), ("in", r#in)]);
    };
    let help = "Messages compressed, each once per core whatever the number of receivers, and inflated.";
    both("usher_compressed_messages_total", help, |cells| &cells.messages, |cells| &cells.messages);
    let help = "Bytes of these messages, plain.";
    both(
        "usher_compression_plain_bytes_total",
        help,
        |cells| &cells.bytes_before,
        |cells| &cells.bytes_after,
    );
    let help = "Bytes of these messages, compressed.";
    both(
        "usher_compression_deflated_bytes_total",
        help,
        |cells| &cells.bytes_after,
        |cells| &cells.bytes_before,
    );
    let help = "Messages that would not have become smaller, and those that could not be inflated.";
    both("usher_compression_in_vain_total", help, |cells| &cells.in_vain, |cells| &cells.in_vain);
}

fn mailboxes(text: &mut Text, control: &ControlCells) {
    type Pair = [(&'static str, fn(&MailboxCells) -> &Cell); 2];
    let mut both = |name, kind, help, cells: Pair| {
        text.family(name, kind, help);
        for (core, mailbox) in control.mailboxes.iter().enumerate() {
            for (direction, cell) in cells {
                let labels = [("core", &*core.to_string()), ("direction", direction)];
                text.sample(name, &labels, cell(mailbox).get());
            }
        }
    };
    both(
        "usher_mailbox_messages",
        Gauge,
        "Messages that wait between control and a core.",
        [
            ("to_shard", |mailbox| &mailbox.to_shard_waiting),
            ("to_control", |mailbox| &mailbox.to_control_waiting),
        ],
    );
    both(
        "usher_mailbox_refused_total",
        Counter,
        "Messages that found a mailbox full.",
        [
            ("to_shard", |mailbox| &mailbox.to_shard_refused),
            ("to_control", |mailbox| &mailbox.to_control_refused),
        ],
    );
    let name = "usher_mailbox_bytes";
    text.family(name, Gauge, "Bytes of payloads that wait for a core.");
    for (core, mailbox) in control.mailboxes.iter().enumerate() {
        text.sample(name, &[("core", &core.to_string())], mailbox.to_shard_bytes.get());
    }
    let name = "usher_shard_lagging";
    text.family(name, Gauge, "1 while a core is behind with telling whom it holds.");
    for (core, mailbox) in control.mailboxes.iter().enumerate() {
        text.sample(name, &[("core", &core.to_string())], mailbox.lagging.get());
    }
    let help = "Answers to a core given up since it took none for long.";
    text.one("usher_replies_lost_total", Counter, help, control.replies_lost.get());
}

fn routing(text: &mut Text, control: &ControlCells) {
    let accepted: Vec<(&str, u64)> =
        Class::NAMES.into_iter().zip(control.accepted.iter().map(Cell::get)).collect();
    text.by("usher_events_accepted_total", "Events accepted.", "class", &accepted);
    text.by(
        "usher_events_refused_total",
        "Events refused.",
        "reason",
        &[("overloaded", control.overloaded.get()), ("key_reused", control.key_reused.get())],
    );
    let help = "Events answered from the memory of idempotency keys.";
    text.one("usher_events_repeated_total", Counter, help, control.repeated.get());
    let help = "Latest values older than what was sent.";
    text.one("usher_events_stale_total", Counter, help, control.stale.get());
    streams(text, control);
    text.one("usher_versions", Gauge, "Versions of Latest values remembered.", control.versions.get());
}

/// Critical events of other services, which one instance stores.
fn foreign(text: &mut Text, foreign: &ForeignCells) {
    let help = "Critical events of foreign channels that are kept until a holder of the lease must have stored them.";
    text.one("usher_foreign_kept", Gauge, help, foreign.kept.get());
    text.one("usher_foreign_kept_bytes", Gauge, "Bytes of their payloads.", foreign.bytes.get());
    let looked = [("stored", foreign.rescued.get()), ("found", foreign.found.get())];
    let help = "Those that were looked for in their streams since another instance may have stored them.";
    text.by("usher_foreign_checked_total", help, "result", &looked);
    let dropped = [("full", foreign.overflowed.get()), ("no_lease", foreign.lapsed.get())];
    let help = "Those given up, not stored here.";
    text.by("usher_foreign_dropped_total", help, "reason", &dropped);
}

/// What is stored, and what other instances stored.
fn streams(text: &mut Text, control: &ControlCells) {
    let stored = [("stored", control.appends.get()), ("failed", control.appends_failed.get())];
    text.by("usher_stream_appends_total", "Events that the stream store was given.", "result", &stored);
    let reads = [("answered", control.stream_reads.get()), ("refused", control.stream_reads_refused.get())];
    text.by("usher_stream_reads_total", "Reads of the stream store, by result.", "result", &reads);
    let store = &control.store;
    let failed = [
        ("full", store.full.get()),
        ("timed_out", store.timed_out.get()),
        ("broken", store.broken.get()),
        ("refused", store.refused.get()),
        ("down", store.down.get()),
    ];
    text.by("usher_store_failures_total", "Questions to Redis without an answer, by why.", "reason", &failed);
    let help = "Events that were stored in Redis and not published.";
    text.one("usher_store_unpublished_total", Counter, help, store.unpublished.get());
    let help = "1 while this instance stores what every instance hears.";
    text.one("usher_store_ingests", Gauge, help, store.ingests.get());
    foreign(text, &control.foreign);
    let help = "Instances that live and share a store, this one included.";
    text.one("usher_instances", Gauge, help, control.instances.get());
    let help =
        "Connections let in before other instances told theirs, and not looked at again for want of room.";
    text.one("usher_connections_overlooked_total", Counter, help, control.overlooked.get());
    let help = "Words of other instances that count for nothing, too many instances having been heard of.";
    text.one("usher_instance_words_refused_total", Counter, help, control.unheard.get());
    let help = "Questions that the stream store has not answered.";
    text.one("usher_stream_questions", Gauge, help, control.store_asked.get());
    let help = "Reads of what other instances had published and this one had missed.";
    text.one("usher_stream_gaps_total", Counter, help, control.gaps.get());
    text.one("usher_stream_gap_events_total", Counter, "Events that they brought.", control.gap_events.get());
    let help = "Times that a stream's connections were told that they missed something for good.";
    text.one("usher_stream_resyncs_total", Counter, help, control.resyncs.get());
    let help = "Appends of the last minute that were forgotten for want of room.";
    text.one("usher_stream_appends_forgotten_total", Counter, help, control.appends_forgotten.get());
    let heard = [("heard", control.heard.get()), ("lost", control.heard_lost.get())];
    text.by("usher_heard_events_total", "Events of other instances that are not stored.", "result", &heard);
    text.one("usher_streams", Gauge, "Streams with a head.", control.streams.get());
    text.one("usher_stream_entries", Gauge, "Events kept for resume.", control.stream_entries.get());
    text.one("usher_stream_bytes", Gauge, "Bytes of events kept for resume.", control.stream_bytes.get());
    text.one("usher_idempotency_keys", Gauge, "Keys remembered.", control.idempotency_keys.get());
}

/// Type of a metric.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
    Summed,
}

use Kind::{Counter, Gauge, Summed};

/// The text under construction.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Gauge => "gauge",
            Counter => "counter",
            Summed => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.line(format_args!("{name}{} {value}", Labels(labels)));
    }

    /// A family of one sample.
    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A family of counters that differ by one label.
    fn by(&mut self, name: &str, help: &str, label: &str, counts: &[(&str, u64)]) {
        self.family(name, Counter, help);
        for (value, count) in counts {
            self.sample(name, &[(label, value)], count);
        }
    }

    /// One histogram, made of several cores' own.
    fn histogram<'a>(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        parts: impl Iterator<Item = &'a Histogram> + Clone,
    ) {
        let mut count = 0;
        for index in 0..=LATENCY_BOUNDS_US.len() {
            count += parts.clone().map(|part| part.buckets[index].get()).sum::<u64>();
            let bound = LATENCY_BOUNDS_US.get(index);
            let bound = bound.map_or_else(|| "+Inf".into(), |us| (*us as f64 / 1e6).to_string());
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            self.sample(&format!("{name}_bucket"), &labels, count);
        }
        let sum_s = parts.map(|part| part.sum_us.get()).sum::<u64>() as f64 / 1e6;
        self.sample(&format!("{name}_sum"), labels, sum_s);
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }
}

struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            f.write_char(if index == 0 { '{' } else { ',' })?;
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{name}=\"{value}\"")?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

#[cfg(test)]
mod tests;
