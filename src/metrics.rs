//! Counters and histograms: cells with one writer, read by whoever scrapes.
//!
//! Owns the cells of each core. Invariant: a cell is written by the core that owns it alone, so that counting
//! is a plain load and store; readers see values that may be a moment old. Never holds labels that a client
//! or backend could multiply: types outside [`KINDS`] are counted as `other`.

mod kinds;
mod latest;
mod queues;
mod redis;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::kinds::{KINDS, kind_index};
pub use latest::LatestCells;
pub use queues::{QUEUE_PASSES, QUEUE_REFUSALS, QUEUE_STATES, QueueCells, QueueSample};
pub use redis::{ForeignCells, REDIS_MALFORMED, REDIS_PATTERNS, RedisCells, StoreCells};

use crate::event::Class;

/// A count that only its owner writes.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds, as the only writer.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts, as the only writer (gauges).
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Replaces, as the only writer (gauges).
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value; anybody may ask.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One count per entry of [`KINDS`].
#[derive(Debug)]
pub struct ByKind(pub [Cell; KINDS.len()]);

impl Default for ByKind {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell::default()))
    }
}

impl ByKind {
    /// Counts one message of that type.
    pub fn count(&self, kind: &str) {
        self.0[kind_index(kind)].add(1);
    }
}

/// Upper bounds of latency buckets, microseconds; what is larger falls into the last, open one.
pub const LATENCY_BOUNDS_US: [u64; 14] =
    [25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000];

/// A histogram with fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulative; the last one is open.
    pub buckets: [Cell; LATENCY_BOUNDS_US.len() + 1],
    /// Sum of all values, microseconds.
    pub sum_us: Cell,
}

impl Histogram {
    /// Counts one value `n` times.
    pub fn record(&self, us: u64, n: u64) {
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(n);
        self.sum_us.add(us.wrapping_mul(n));
    }
}

/// What was compressed, or inflated.
#[derive(Debug, Default)]
pub struct DeflateCells {
    /// Messages that changed their size.
    pub messages: Cell,
    /// Their bytes before.
    pub bytes_before: Cell,
    /// Their bytes after.
    pub bytes_after: Cell,
    /// Messages that would not have become smaller, or could not be inflated.
    pub in_vain: Cell,
}

/// What one shard counts. Written by that shard alone, read by control and by the other shards' `/health`.
#[derive(Debug, Default)]
pub struct ShardCells {
    /// Open connections (gauge).
    pub connections: Cell,
    /// Open connections of a user (gauge).
    pub connections_authenticated: Cell,
    /// Users with a connection here (gauge).
    pub users: Cell,
    /// Rooms with a member here (gauge).
    pub rooms: Cell,
    /// Handshakes under way (gauge).
    pub handshaking: Cell,
    /// Newcomers who sent something and wait for their turn, by [`LANES`] (gauge).
    pub handshakes_waiting: [Cell; LANES.len()],
    /// Newcomers by what their first bytes claim, by [`LANES`].
    pub newcomers: [Cell; LANES.len()],
    /// Newcomers refused for want of room, by [`REFUSALS`].
    pub newcomers_refused: [Cell; REFUSALS.len()],
    /// Newcomers who offered a ticket and needed a full TLS handshake.
    pub false_claims: Cell,
    /// Sockets accepted.
    pub accepted: Cell,
    /// Errors of `accept` (EMFILE, ECONNABORTED …).
    pub accept_errors: Cell,
    /// Upgrades done.
    pub upgraded: Cell,
    /// Upgrades that negotiated permessage-deflate.
    pub upgraded_deflate: Cell,
    /// Messages to clients that were compressed, each once whatever the number of receivers.
    pub deflated: DeflateCells,
    /// Compressed messages from clients.
    pub inflated: DeflateCells,
    /// TLS handshakes done without a ticket, or with one that was no good.
    pub tls_full: Cell,
    /// TLS handshakes done with a ticket of before.
    pub tls_resumed: Cell,
    /// TLS handshakes failed.
    pub tls_failures: Cell,
    /// Answers on the client port other than 101, by status class: 2xx, 4xx, 5xx.
    pub http_answers: [Cell; 3],
    /// Handshakes that ended by [`crate::limits::HANDSHAKE_TIME_MAX`].
    pub handshake_timeouts: Cell,
    /// Connections of users that control did not answer in time.
    pub admission_timeouts: Cell,
    /// Handshakes whose peer left before it was answered.
    pub handshakes_gone: Cell,
    /// Tokens accepted.
    pub auth_accepted: Cell,
    /// Tokens refused.
    pub auth_refused: Cell,
    /// Tokens not looked at, since too many of the client's address were refused.
    pub auth_throttled: Cell,
    /// Messages handed to sockets, by [`KINDS`].
    pub sent: ByKind,
    /// Messages from clients, by [`KINDS`].
    pub received: ByKind,
    /// Events whose last byte was handed to the kernel, per receiver, by [`Class::index`].
    pub delivered: [Cell; Class::NAMES.len()],
    /// Event accepted → start of the turn that handed its last byte to the kernel, by [`Class::index`].
    pub latency: [Histogram; Class::NAMES.len()],
    /// Bytes read from sockets.
    pub bytes_in: Cell,
    /// Bytes written to sockets.
    pub bytes_out: Cell,
    /// Latest values replaced before they were sent.
    pub conflated: Cell,
    /// Positions in a queue sent at once, since as many as are paced at once were.
    pub unpaced: Cell,
    /// Ephemeral messages dropped for want of room in an outbox.
    pub dropped_ephemeral: Cell,
    /// Connections closed by the gateway, by code: 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013, 4400,
    /// 4401, 4403, 4408, 4409, 4413, 4429.
    pub closed: [Cell; CLOSE_CODES.len()],
    /// Panics of custom handlers; each ended its connection with 1011.
    pub handler_panics: Cell,
    /// Messages that could not be understood.
    pub bad_messages: Cell,
    /// Messages refused by the rate limit.
    pub rate_limited: Cell,
    /// Joins that control was asked for and did not answer in time.
    pub joins_unanswered: Cell,
    /// Joins of queues that were refused, since too many newcomers came from the client's address.
    pub newcomers_limited: Cell,
    /// Connections in queues of waiting rooms, each as often as it waits (gauge).
    pub waiting: Cell,
    /// Streams that clients wanted to resume, by [`RESUMES`].
    pub resumes: [Cell; RESUMES.len()],
    /// Events sent once more, or for the first time to who was away.
    pub replayed: Cell,
    /// Live events that did not wait for a replay's end and were read again instead.
    pub parked_dropped: Cell,
    /// Pages of replays that control was asked for and did not send in time.
    pub replays_unanswered: Cell,
    /// Connections told that a stream lost something (`system:resync`).
    pub resyncs: Cell,
    /// Acknowledgements dropped since the mailbox to control was full; the next one covers them.
    pub acks_dropped: Cell,
    /// Joins whose last values control could not be asked for.
    pub latest_unasked: Cell,
    /// Last values that a connection was not sent, its outbox being half full.
    pub latest_unsent: Cell,
    /// Connections whose socket does not take more at the moment (gauge).
    pub blocked: Cell,
    /// Turns of the driver: mailbox and readable sockets taken → everything flushed.
    pub delivery_turns: Histogram,
    /// Turns of the handshakes: one socket's step, with what it caused.
    pub handshake_turns: Histogram,
    /// The longest turn of either within the last second or two, microseconds (gauge).
    pub loop_lag_us: Cell,
}

/// What becomes of a stream that a client wants to resume: all of it came, some is lost for ever, or it was refused.
pub const RESUMES: [&str; 3] = ["recovered", "gap", "refused"];

/// The lanes of handshakes.
pub const LANES: [&str; 2] = ["returning", "new"];

/// Why newcomers are refused: too many wait for a handshake (ws: answered with 503; wss: closed unanswered), or
/// `WS_MAX_CONNECTIONS` are there.
pub const REFUSALS: [&str; 3] = ["waiting_ws", "waiting_wss", "connections"];

/// Close codes with a counter of their own.
pub const CLOSE_CODES: [u16; 16] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013, 4400, 4401, 4403, 4408, 4409, 4413, 4429];

impl ShardCells {
    /// Counts a close by the gateway.
    pub fn count_close(&self, code: u16) {
        if let Some(index) = CLOSE_CODES.iter().position(|known| *known == code) {
            self.closed[index].add(1);
        }
    }
}

/// Methods of `realtime.RealtimeService`, in the order of the proto file.
pub const GRPC_METHODS: [&str; 23] = [
    "NotifyBookingResult",
    "NotifyQueuePosition",
    "NotifyPaymentStatus",
    "BroadcastEvent",
    "SendToUser",
    "GetConnectionStats",
    "DisconnectUser",
    "GetHistory",
    "GetDeliveryState",
    "Presence",
    "PushQueuePositions",
    "Publish",
    "PublishBatch",
    "OpenQueue",
    "AdvanceQueue",
    "AdmitNext",
    "PauseQueue",
    "CloseQueue",
    "GetQueue",
    "GetQueueLog",
    "Claim",
    "Complete",
    "Abandon",
];

/// gRPC status codes by number.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Calls of one gRPC method.
#[derive(Debug, Default)]
pub struct MethodCells {
    /// Answered calls, by [`GRPC_CODES`].
    pub by_code: [Cell; GRPC_CODES.len()],
    /// Request decoded → answer ready.
    pub duration: Histogram,
}

/// The two mailboxes between control and one shard, as read once a second.
#[derive(Debug, Default)]
pub struct MailboxCells {
    /// Messages waiting for the shard, those that control holds back included (gauge).
    pub to_shard_waiting: Cell,
    /// Bytes of payloads waiting for the shard (gauge).
    pub to_shard_bytes: Cell,
    /// Sends to the shard that found its mailbox full.
    pub to_shard_refused: Cell,
    /// Messages waiting for control (gauge).
    pub to_control_waiting: Cell,
    /// Sends of the shard that found its mailbox full.
    pub to_control_refused: Cell,
    /// 1 while the shard is behind with telling whom it holds (gauge).
    pub lagging: Cell,
}

/// What came of reading TLS files again.
#[derive(Debug, Default)]
pub struct TlsReloads {
    /// The certificate is in use.
    pub done: Cell,
    /// The certificate was unusable; the old one stayed.
    pub certificate_failed: Cell,
    /// The ticket keys were unusable; the old ones stayed.
    pub ticket_keys_failed: Cell,
}

/// What came of signing passes, and of reading their keys again.
#[derive(Debug, Default)]
pub struct PassCells {
    /// Signatures that the signing thread was asked for.
    pub accepted: Cell,
    /// Signatures that it was not asked for, for want of room.
    pub refused: Cell,
    /// Keys that are in use since their files changed.
    pub reloads_done: Cell,
    /// Files that changed and were unusable; the keys at hand stayed.
    pub reloads_failed: Cell,
}

/// What the control core counts. Written by the control thread alone.
#[derive(Debug, Default)]
pub struct ControlCells {
    /// Users with a connection anywhere (gauge).
    pub users: Cell,
    /// Rooms with a member anywhere (gauge).
    pub rooms: Cell,
    /// Members of all rooms together (gauge).
    pub memberships: Cell,
    /// Instances that live and share a store, this one included (gauge).
    pub instances: Cell,
    /// Calls by [`GRPC_METHODS`].
    pub methods: [MethodCells; GRPC_METHODS.len()],
    /// Events accepted, by [`Class::index`].
    pub accepted: [Cell; Class::NAMES.len()],
    /// Events refused since a mailbox on the way was full.
    pub overloaded: Cell,
    /// Events refused since their idempotency key had another body.
    pub key_reused: Cell,
    /// Events answered from the idempotency memory.
    pub repeated: Cell,
    /// Latest values accepted and not delivered, a newer version having been.
    pub stale: Cell,
    /// Connections of users admitted.
    pub admitted: Cell,
    /// Connections of users refused for their number.
    pub denied: Cell,
    /// Connections that no limit was held to later, for want of room.
    pub overlooked: Cell,
    /// Words of instances that were not listened to, there being too many.
    pub unheard: Cell,
    /// Joins granted, of those that control decides.
    pub joined: Cell,
    /// Joins refused since the room was full.
    pub rooms_full: Cell,
    /// Answers to a shard given up since even the list of what waits for it was full.
    pub replies_lost: Cell,
    /// Events that the stream store took.
    pub appends: Cell,
    /// Events that it did not take, or did not say so.
    pub appends_failed: Cell,
    /// Reads of the store that were answered.
    pub stream_reads: Cell,
    /// Reads for clients refused since too many waited.
    pub stream_reads_refused: Cell,
    /// Reads of what other instances had published and this one had missed.
    pub gaps: Cell,
    /// Events that they brought.
    pub gap_events: Cell,
    /// Times that a stream's connections were told that they missed something for good.
    pub resyncs: Cell,
    /// Appends of the last minute that were forgotten: whether an outage lost them will not be asked.
    pub appends_forgotten: Cell,
    /// Events of other instances, not stored, that were delivered here.
    pub heard: Cell,
    /// Deliveries of such events that found no room in a mailbox.
    pub heard_lost: Cell,
    /// Questions to the store without an answer so far (gauge).
    pub store_asked: Cell,
    /// Last values of Latest keys that are kept, and what of them happened.
    pub latest: LatestCells,
    /// The store in Redis.
    pub store: StoreCells,
    /// Critical events of other services.
    pub foreign: ForeignCells,
    /// Streams with a head (gauge).
    pub streams: Cell,
    /// Entries of all streams (gauge).
    pub stream_entries: Cell,
    /// Bytes of all entries (gauge).
    pub stream_bytes: Cell,
    /// Idempotency keys remembered (gauge).
    pub idempotency_keys: Cell,
    /// Versions of Latest values remembered (gauge).
    pub versions: Cell,
    /// Errors of `accept` on the gRPC, admin and health listeners.
    pub accept_errors: Cell,
    /// Tokens whose key id was unknown to a shard.
    pub unknown_keys: Cell,
    /// Connections that the kernel lost since an accept queue was full, since this host started; of all processes.
    pub accept_queue_overflows: Cell,
    /// As `accept_queue_overflows`, and for want of memory or while listeners closed.
    pub accept_queue_drops: Cell,
    /// Certificates and ticket keys read again.
    pub tls_reloads: TlsReloads,
    /// Passes and their keys.
    pub passes: PassCells,
    /// Waiting rooms.
    pub queues: QueueCells,
    /// Key files and documents read again.
    pub keys_refreshed: Cell,
    /// Key files and documents that could not be read again, or held nothing usable; the keys at hand stayed.
    pub keys_failed: Cell,
    /// The bus.
    pub redis: RedisCells,
    /// Messages from and to clients in the last second (gauge).
    pub messages_per_second: Cell,
    /// One entry per shard.
    pub mailboxes: Box<[MailboxCells]>,
}

impl ControlCells {
    /// Zeros, with mailboxes to that many shards.
    pub fn new(shards: usize) -> Self {
        Self { mailboxes: (0..shards).map(|_| MailboxCells::default()).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [25, 26, 9_000_000] {
            histogram.record(us, 2);
        }
        let counts: Vec<u64> = histogram.buckets.iter().map(Cell::get).collect();
        assert_eq!((counts[0], counts[1], counts[LATENCY_BOUNDS_US.len()]), (2, 2, 2));
    }

    #[test]
    fn unknown_types_share_one_label() {
        assert_eq!(kind_index("booking:confirmed:evil"), 0);
        assert_eq!(KINDS[kind_index("payment:refunded")], "payment:refunded");
    }
}
