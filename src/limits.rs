//! Every bound that is not a setting, in one place, with the relations between them.

use std::time::Duration;

/// Messages that fit one shard's mailbox from control. Larger rides out longer stalls of a shard, 88 B for each that waits.
pub const TO_SHARD_MESSAGES_MAX: usize = 65_536;
/// Bytes of payloads that wait in one shard's mailbox from control. Larger rides out longer stalls of a shard.
pub const TO_SHARD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages that fit the control core's mailbox from one shard.
pub const TO_CONTROL_MESSAGES_MAX: usize = 65_536;
/// Calls from gRPC, admin and embedding code that wait for the control loop.
pub const CALLS_MAX: usize = 16_384;
/// Messages that a shard takes from its mailbox before it looks at its sockets again.
pub const MAILBOX_BATCH_MAX: usize = 256;

/// Request head, bytes (03 §12): more is answered 431.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Request target, bytes: more is answered 414; less than a head, since a token may be in the query.
pub const TARGET_BYTES_MAX: usize = 6 * 1024;
/// Header fields of a request (03 §12): more is answered 431.
pub const HEADERS_MAX: usize = 64;
/// Entries read from `Sec-WebSocket-Protocol`; the rest is ignored.
pub const SUBPROTOCOLS_MAX: usize = 8;
/// TCP accept → upgraded, in all (03 §12).
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long `auth:login` may take to come where it must (03 §3).
pub const FIRST_LOGIN_TIME_MAX: Duration = Duration::from_secs(5);
/// A login whose token is good → control's answer.
pub const ADMISSION_TIME_MAX: Duration = Duration::from_secs(5);
/// Our close frame → the peer's, before the socket is closed anyway.
pub const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// Clients that a drain sends away a second at least, unless told otherwise: any gateway takes so many back.
pub const DRAIN_RATE_MIN: u32 = 100;
/// Who is sent away at its turn comes back within; before its turn, later by as much.
pub const DRAIN_RETURN_TIME: Duration = Duration::from_secs(1);
/// As [`CLOSE_TIME_MAX`] while draining, for a connection that has everything it will get.
pub const DRAIN_CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// A join that control decides → its answer; without one it is refused and may be tried again.
pub const JOIN_TIME_MAX: Duration = Duration::from_secs(5);

/// `?resume=wait`: admission → the first message; without one the held streams go on live.
pub const RESUME_WAIT_MAX: Duration = Duration::from_secs(5);
/// A page of a replay is asked for → it is here; for so long the store is asked, should it not answer. Without the first one
/// the client may resume again, the others are asked for again.
pub const REPLAY_TIME_MAX: Duration = Duration::from_secs(5);
/// Times that such a page is asked for, a minute in all; without it then, the client is told.
pub const REPLAY_ASKS_MAX: u8 = 12;
/// Events of one page of a replay.
pub const REPLAY_PAGE_EVENTS_MAX: usize = 64;
/// Live events of one stream that wait in the hub for a connection whose replay is under way.
pub const REPLAY_PARKED_MAX: usize = 64;
/// Streams that one `system:resume` may name: that of the user, and those of all rooms.
pub const RESUME_STREAMS_MAX: usize = ROOMS_PER_CONNECTION_MAX + 1;
/// Length of the epoch that a client names, bytes.
pub const EPOCH_BYTES_MAX: usize = 64;
/// The largest offset that every client can hold: 2^53 - 1 (RFC 8259 §6).
pub const OFFSET_MAX: u64 = (1 << 53) - 1;

/// Bytes read from one socket in one call; one such buffer per shard.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// Reads of one socket in a row before the others have their turn.
pub const READS_PER_TURN_MAX: usize = 4;
/// Deadlines of one kind acted on in a row before others have their turn: ten thousand handshakes may end at once.
pub const EXPIRIES_PER_TURN_MAX: usize = 64;
/// Sockets accepted in a row before those already connected have their turn, 20 µs each over TLS: as long as a step of a
/// handshake.
pub const ACCEPTS_PER_TURN_MAX: usize = 4;

/// Bytes of a newcomer that are read before it is its turn, to see whether it returns; a hello with a ticket and a
/// post-quantum key share takes 2 KiB.
pub const FIRST_BYTES_MAX: usize = 8 * 1024;
/// Newcomers whose first bytes are looked at between two steps of handshakes, 2 µs each.
pub const FIRST_LOOKS_PER_TURN_MAX: usize = 16;
/// TLS input of one session that waits for the rest of its record or handshake message, bytes. Holds the largest
/// record (5 + 16 384 + 2 048, RFC 5246 §6.2.3), and so every hello that is no attack.
pub const TLS_PENDING_BYTES_MAX: usize = 18 * 1024 + 8;
/// Plaintext of one TLS record, bytes (RFC 8446 §5.1).
pub const TLS_RECORD_PLAIN_MAX: usize = 16 * 1024;

/// Fragments of one message (03 §12): more closes with 1008.
pub const FRAGMENTS_MAX: u32 = 64;
/// First byte of a message → its last (06 B8): longer closes with 1008.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// Shorter messages are sent as they are, bytes: of one of 128 compression saves about 10, less than what the packet
/// around it costs anyway (`benches/deflate.rs`).
pub const DEFLATE_BYTES_MIN: usize = 128;
/// Nesting of a JSON text.
pub const JSON_DEPTH_MAX: usize = 32;
/// Keys of all objects of a JSON text together.
pub const JSON_KEYS_MAX: usize = 256;
/// Length of one key of a JSON text, unescaped, bytes.
pub const JSON_KEY_BYTES_MAX: usize = 1024;

/// Length of a message type, bytes.
pub const KIND_BYTES_MAX: usize = 128;
/// Length of a room name, bytes.
pub const ROOM_NAME_BYTES_MAX: usize = 128;
/// Length of a user id, bytes: `user:<id>` is a room name.
pub const USER_ID_BYTES_MAX: usize = ROOM_NAME_BYTES_MAX - "user:".len();
/// Length of a token, bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Length of a key id (`kid`), bytes.
pub const KEY_ID_BYTES_MAX: usize = 64;
/// Keys that one source may bring; what comes after them is ignored and counted.
pub const KEYS_MAX: usize = 256;
/// Keys tried on a token that names none; where more would fit, the token has to name one.
pub const KEY_TRIES_MAX: usize = 4;
/// Length of a PEM or JWKS document, bytes.
pub const KEY_DOCUMENT_BYTES_MAX: u64 = 1024 * 1024;
/// How long fetching a JWKS document may take.
pub const KEY_FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two looks at key files and at what is due.
pub const KEY_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Addresses in `QUEUE_READY_URLS`.
pub const TARGETS_MAX: usize = 8;
/// Between two times that each of them is asked.
pub const TARGET_INTERVAL: Duration = Duration::from_secs(1);
/// How long the answer may take.
pub const TARGET_TIME_MAX: Duration = Duration::from_secs(2);
/// So often in a row they have to say the same before it counts.
pub const TARGET_ALIKE_MIN: u32 = 2;
/// Between two fetches that tokens with an unknown key id may cause (03 §3).
pub const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(60);
/// Networks whose failed authentications one shard counts, 16 B each; the one that failed least gives way.
pub const AUTH_FAILURE_NETWORKS_MAX: usize = 4_096;
/// Globs in the claim `rooms`.
pub const CLAIM_ROOMS_MAX: usize = 64;
/// Rooms of one connection (03 §12).
pub const ROOMS_PER_CONNECTION_MAX: usize = 128;
/// Preferences of one connection, bytes of JSON (03 §4).
pub const PREFERENCES_BYTES_MAX: usize = 4 * 1024;
/// Type patterns in the `muted` list of preferences.
pub const MUTED_PATTERNS_MAX: usize = 32;
/// Length of a request's `id` as JSON text, bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Messages that could not be understood within [`BAD_MESSAGE_WINDOW`] before close 4400 (03 §4).
pub const BAD_MESSAGES_MAX: u8 = 10;
/// Violations of the message rate within [`BAD_MESSAGE_WINDOW`] before close 4429 (03 §12).
pub const RATE_VIOLATIONS_MAX: u8 = 5;
/// The minute in which violations are counted.
pub const BAD_MESSAGE_WINDOW: Duration = Duration::from_secs(60);
/// Rooms with more members do not announce comings, goings and typing (03 §4a).
pub const ANNOUNCED_ROOM_MEMBERS_MAX: usize = 200;
/// Rooms listed by `GetConnectionStats` and `/stats` (03 §4a).
pub const LISTED_ROOMS_MAX: usize = 1_000;
/// Positions that one shard paces at once, one per connection and event, some 70 B each beside what waits; beyond that
/// they go unpaced.
pub const PACED_MAX: usize = 1 << 20;
/// Latest values that may wait beyond the outbox bound: they must show eventually, and their keys are few.
pub const LATEST_EXTRA_MESSAGES_MAX: usize = 32;
/// Bytes of Latest values beyond the outbox bound.
pub const LATEST_EXTRA_BYTES_MAX: usize = 64 * 1024;
/// Frames handed to one gather write; the kernel takes 1 024 at most.
pub const GATHER_FRAMES_MAX: usize = 64;
/// A hub whose deadlines are looked at later than this was itself away: silence in that time is not the peers'.
pub const TICK_LATE_MAX: Duration = Duration::from_secs(1);

/// Places of one queue, and people in its pre-queue: a shard keeps one bit for each.
pub const LINE_PLACES_MAX: u32 = 1 << 26;
/// Queues that one connection may wait in.
pub const LINES_PER_CONNECTION_MAX: usize = 16;
/// Length of a place token, bytes.
pub const PLACE_TOKEN_BYTES_MAX: usize = 1024;
/// People with fewer in front of them see every change of their position, once a `QUEUE_UPDATE_INTERVAL`; with so many
/// more in front of them, every second change, and so on.
pub const POSITION_NEAR: u32 = 1_000;
/// The longest between two looks at a position that changed; with a sweep under way and the next one due, no client sees
/// one that is older than 10 s (03 §10).
pub const POSITION_PACE_MAX: Duration = Duration::from_secs(8);
/// Between two times that shards are told how long a line has become that does not move.
pub const LINE_COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// Positions written in a row before a shard does other things, 4 µs each with the send.
pub const SWEEP_SENDS_MAX: usize = 256;
/// Waiting connections looked at in a row, 20 ns each.
pub const SWEEP_LOOKS_MAX: usize = 16_384;

/// Payload of one event from a backend, bytes.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Idempotency key of a call, bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// How long an idempotency key is honoured (03 §7).
pub const IDEMPOTENCY_AGE_MAX: Duration = Duration::from_secs(300);
/// Keys remembered at once; the oldest goes first.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1 << 20;
/// Streams with a head at once; the one idle for longest goes first, and takes the epoch with it.
pub const STREAMS_MAX: usize = 1 << 20;
/// How long a stream's epoch and offset outlive its entries.
pub const STREAM_HEAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes of all stored events together; the oldest entries go first.
pub const STREAM_BYTES_MAX: usize = 1 << 30;
/// Bytes of the stored events of one stream in Redis; its oldest entries go first.
pub const STREAM_LOG_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Questions that wait for the store, and as many again that it has taken up; more fail at once.
pub const STORE_ASKS_MAX: usize = 4_096;
/// Questions about one stream that go to Redis together.
pub const STORE_BATCH_MAX: usize = 64;
/// Bytes of payloads after which a batch takes no more.
pub const STORE_BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How long a lease outlives its last renewal: as long foreign events are late when an instance dies.
pub const LEASE_TIME: Duration = Duration::from_secs(3);
/// Between two renewals of a lease, and between two tries to get it.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(1);
/// A holder believes in its lease for so much less than Redis does: clocks do not run at one speed.
pub const LEASE_MARGIN: Duration = Duration::from_millis(500);
/// Between two tries to get a lease that its holder is giving up, for [`LEASE_RENEWAL`].
pub const LEASE_HURRY: Duration = Duration::from_millis(50);
/// How long Critical events of foreign channels are kept here after they were heard, for whoever takes the lease over: as
/// long as a holder may be dead and nobody notices, and four seconds that it or the next may be behind.
pub const FOREIGN_TIME: Duration = Duration::from_secs(8);
/// By how much two instances may differ in when they hear one foreign event, with what it takes to store it.
pub const FOREIGN_OVERLAP: Duration = Duration::from_secs(2);
/// Events kept so; the oldest goes first.
pub const FOREIGN_KEPT_MAX: usize = 1 << 17;
/// Bytes of their payloads.
pub const FOREIGN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the version of a Latest value is remembered after its last update.
pub const VERSION_AGE_MAX: Duration = Duration::from_secs(3600);
/// Versions remembered at once; the one not updated for longest goes first.
pub const VERSIONS_MAX: usize = 1 << 20;
/// How long the last value of a Latest key is kept for who comes in, after its last update.
pub const LATEST_AGE_MAX: Duration = VERSION_AGE_MAX;
/// Last values kept at once; those of the user or room not updated for longest go first.
pub const LATEST_VALUES_MAX: usize = 1 << 19;
/// Bytes of them, with what keeping them costs: about 400 000 positions.
pub const LATEST_BYTES_MAX: usize = 192 * 1024 * 1024;
/// Last values of one user or room; the oldest goes first. Fits into half of an outbox.
pub const LATEST_KEYS_PER_ADDRESS_MAX: usize = 64;
/// Bytes of their payloads, but for a single one that is larger: half of an outbox.
pub const LATEST_BYTES_PER_ADDRESS_MAX: usize = 128 * 1024;
/// Users and rooms whose last values the store does not have yet; what is beyond it is not stored until it changes again.
pub const LATEST_UNSAVED_MAX: usize = 1 << 17;
/// Questions about last values under way at once; the others wait.
pub const LATEST_ASKS_MAX: usize = 1_024;
/// When last values are read once more: what another instance had not stored yet at the first time is there then, since
/// it stores once a second.
pub const LATEST_RECALL_AGAIN: Duration = Duration::from_secs(3);

/// Appends that the stream store was asked for and has not answered. More are refused.
pub const APPENDS_MAX: usize = 4_096;
/// Bytes of their payloads.
pub const APPENDS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Reads of the store under way at once, one per stream; a page of the largest events is 16 MiB.
pub const READS_MAX: usize = 64;
/// Reads that wait for their turn. Holds one for each connection that a machine can have; beyond it a client is told that
/// it cannot be given what it missed.
pub const READS_WAITING_MAX: usize = 1 << 17;
/// Inquiries of operators about streams under way at once; more are refused. Each may hold a page of the largest events.
pub const INQUIRIES_MAX: usize = 16;
/// Entries of one answer to them.
pub const HISTORY_ENTRIES_MAX: usize = REPLAY_PAGE_EVENTS_MAX;
/// Bytes of their payloads, which fit a gRPC message with all that is around them.
pub const HISTORY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Between two times that the heads of all followed streams are asked for. What nobody asks about expires in the store
/// after 24 h, with its epoch.
pub const HEADS_INTERVAL: Duration = Duration::from_secs(6 * 3_600);
/// How long the head of a room or a queue in which nothing was ever stored outlives its last use: 300 B in Redis, and anybody
/// may join those of made-up names, as fast as messages are taken.
pub const EMPTY_STREAM_AGE_MAX: Duration = Duration::from_secs(600);
/// Between two times that the heads of such rooms are asked for that have members.
pub const EMPTY_ROOMS_INTERVAL: Duration = Duration::from_secs(240);
/// Streams whose head is asked for at once; the others wait.
pub const HEADS_MAX: usize = 1_024;
/// Streams that an instance remembers to have appended to, so that it can ask after an outage whether the store still has
/// that: some 200 B each. Those in doubt, which wait to be asked for, are as many again.
pub const APPENDED_MAX: usize = 1 << 16;
/// For how long. Whoever was further behind when the store broke off is not told of what it lost.
pub const APPENDED_AGE_MAX: Duration = Duration::from_secs(60);
/// Streams with an acknowledgement under way or waiting; one of another stream is dropped then, and made up for by the next.
pub const ACKNOWLEDGEMENTS_MAX: usize = 16_384;
/// Those of them that the store is asked for at once.
pub const ACKNOWLEDGEMENTS_ASKED_MAX: usize = 256;
/// Stored events of one stream that came before their turn and are kept; the rest is read again.
pub const PARKED_EVENTS_MAX: usize = 64;
/// How long a connection's entry waits for a stream's head, before it goes on without a position. Time to ask a store that
/// did not answer once more.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(2);
/// What a caller is told to wait when the store refuses.
pub const STORE_RETRY: Duration = Duration::from_secs(1);

/// Places of one queue; a hundred bytes each (`sale::queue`).
pub const PLACES_MAX: u32 = 1 << 20;
/// Queues of an instance.
pub const QUEUES_MAX: usize = 256;
/// Length of an event's id: `event:<id>` is a room name.
pub const EVENT_ID_BYTES_MAX: usize = ROOM_NAME_BYTES_MAX - "event:".len();
/// Length of who holds a place, bytes: `u:` and a user id, or `a:` and a token.
pub const HOLDER_BYTES_MAX: usize = "u:".len() + USER_ID_BYTES_MAX;
/// Places that one holder may have had in one queue: leaving and joining again uses up numbers.
pub const PLACES_PER_HOLDER_MAX: u8 = 16;
/// Times that one holder may come back after leaving a pre-queue: it uses up no number, but 150 B of the log.
pub const RETURNS_PER_HOLDER_MAX: u8 = 100;
/// Instances that holders of one queue are connected to at a time, one bit each in every holder.
pub const QUEUE_INSTANCES_MAX: usize = 64;
/// Length of an instance's name, bytes.
pub const INSTANCE_BYTES_MAX: usize = 64;
/// Idempotency keys that one queue remembers; the oldest goes first.
pub const ADMIT_KEYS_MAX: usize = 1_024;
/// Length of the reason of a pause, bytes.
pub const QUEUE_REASON_BYTES_MAX: usize = 256;
/// Claim window, grace and stay of a queue.
pub const QUEUE_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// People a minute that an inlet may let in.
pub const INLET_PER_MINUTE_MAX: u32 = 1_000_000;
/// Calls of `GetQueueLog` that wait for the draw of a pre-queue, on one instance; more are refused.
pub const DRAW_WAITING_MAX: usize = 256;
/// Bytes of the log of one queue, in memory or in Redis: a join that is an entry of its own takes 340 to 510 B, so that a million
/// fit. What is more is refused.
pub const QUEUE_LOG_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Of them, those that only time, operators and services may fill, so that whatever people do a sale goes on and can be
/// closed: two hundred thousand ticks, beside what waited to be written when people filled the rest.
pub const QUEUE_LOG_RESERVE: usize = 64 * 1024 * 1024;
/// Bytes of all logs that an instance follows beyond which people are refused; the others never are for that.
pub const QUEUE_LOGS_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// What keeping an entry of a log takes beside its payload.
pub const QUEUE_ENTRY_BYTES: usize = 256;
/// How long a log outlives its last use: an entry, or a look of an instance that follows the queue.
pub const QUEUE_LOG_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Writers of one stream whose last entries are known, so that a repeat stores nothing; each start of an instance is one of
/// every queue that it follows. The one goes first that wrote longest ago. 60 B each.
pub const STREAM_WRITERS_MAX: usize = 256;
/// Commands of a queue that wait for their turn in the log, on one instance; more are refused. 250 B each.
pub const LINE_WAITING_MAX: usize = 1 << 16;
/// Of them, those that are never people's.
pub const LINE_WAITING_RESERVE: usize = 1 << 10;
/// Of them, those that are written as one entry: of the longest holders and instances, as many fit an event.
pub const LINE_BATCH_MAX: usize = 512;
/// How long somebody waits for a command that the store was not asked to write yet, before it is given back undone: longer
/// than a busy store takes, shorter than callers wait (10 s, `usher queue`).
pub const LINE_WAITING_TIME_MAX: Duration = Duration::from_secs(4);
/// Queues that an instance follows, with those that clients ask for and that do not exist.
pub const LINES_FOLLOWED_MAX: usize = 1_024;
/// The least that somebody is told to wait from whose address too many came.
pub const NEWCOMER_RETRY_MIN: Duration = Duration::from_secs(3);
/// How long a connection that was given a place may take to come into it.
pub const SEAT_TIME_MAX: Duration = Duration::from_secs(10);
/// Commands of one entry of a queue's log.
pub const ENTRY_COMMANDS_MAX: usize = 4_096;

/// Answers and orders that wait for room in one shard's mailbox.
pub const HELD_BACK_MAX: usize = 65_536;
/// What a caller is told to wait when a mailbox on the way is full.
pub const OVERLOAD_RETRY: Duration = Duration::from_millis(100);
/// What a client is told to wait when control was asked in vain.
pub const CONTROL_RETRY: Duration = Duration::from_secs(1);
/// What a client is told to wait when its user has too many connections.
pub const TOO_MANY_CONNECTIONS_RETRY: Duration = Duration::from_secs(5);
/// Rooms whose member counts are told to shards at a time; the rest goes a second later.
pub const ROOM_COUNTS_MAX: usize = 4_096;
/// Comings and goings announced at a time; the rest goes a tenth of a second later, or sooner.
pub const ANNOUNCEMENTS_MAX: usize = 4_096;
/// Connections let in before it was known how many their users have elsewhere; the rest is not looked at again.
pub const UNPROVEN_MAX: usize = 65_536;
/// Other instances that are listened to; what more of them say counts for nothing until some of these are gone.
pub const INSTANCES_MAX: usize = 1_024;
/// Questions of callers about users and rooms with no connection here, that wait for the others; more are refused.
pub const CENSUS_MAX: usize = 64;
/// Counts told to other instances in a tenth of a second; the rest waits.
pub const COUNTS_TOLD_MAX: usize = 4_096;
/// Those of them that are told again though nothing changed.
pub const COUNTS_REPEATED_MAX: usize = 512;
/// Users who left a room under `ROOM_PRESENCE` and may come back within `PRESENCE_GRACE`, in all rooms; of more, the
/// first to leave do not get the whole time.
pub const GRACES_MAX: usize = 65_536;
/// Room in a shard's mailbox that member counts and announcements leave to deliveries and answers, messages.
pub const DELIVERIES_RESERVE: usize = 4_096;

/// Messages of the bus that wait for the control loop.
pub const HEARD_MAX: usize = 16_384;
/// Bytes of payloads among them.
pub const HEARD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Room among them that messages of other services leave to what instances share, messages.
pub const HEARD_RESERVE: usize = 4_096;
/// Room among them that a batch of subscriptions leaves, beside that for its confirmations, to what is heard meanwhile.
pub const CONFIRMATIONS_RESERVE: usize = 2_048;
/// Events that wait to be shared with other instances.
pub const SHARES_MAX: usize = 16_384;
/// Bytes of payloads among them.
pub const SHARED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Events shared by one pipeline.
pub const SHARES_BATCH_MAX: usize = 256;
/// Batches of changed interests that wait for the bus; what changes meanwhile is kept as one more.
pub const INTEREST_BATCHES_MAX: usize = 4;
/// Channels of one `SUBSCRIBE`.
pub const INTERESTS_BATCH_MAX: usize = 512;
/// Bytes of one message that Redis pushes; a larger one ends the connection.
pub const PUSH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest that `REDIS_COMMAND_TIMEOUT` may be: what else waits for Redis leaves room for a command or two.
pub const REDIS_COMMAND_TIME_MAX: Duration = Duration::from_secs(1);
/// Subscriptions → their confirmation.
pub const REDIS_SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(5);
/// Name looked up → both connections answered. Long, since a Redis that stands still answers the moment it goes on.
pub const REDIS_CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two questions whether Redis is there.
pub const REDIS_PING_INTERVAL: Duration = Duration::from_millis(500);
/// Such a question → its answer, before Redis counts as away.
pub const REDIS_PING_TIME_MAX: Duration = Duration::from_secs(1);
/// The first pause between two tries to reach Redis, at most.
pub const REDIS_RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest such pause.
pub const REDIS_RETRY_MAX: Duration = Duration::from_secs(10);

/// Keys that passes are signed or checked with at once: before, in use, after.
pub const PASS_KEYS_MAX: usize = 8;
/// Length of `PASS_ISSUER`, bytes.
pub const PASS_ISSUER_BYTES_MAX: usize = 256;
/// Batches that wait for the signing thread; more are refused.
pub const SIGN_BATCHES_MAX: usize = 64;
/// Passes of one batch; larger ones are refused.
pub const SIGN_BATCH_MAX: usize = 1_024;

/// Passes of users that an instance has yet to tell, and to see stored; of more, each is told at its holder's next
/// `queue:join` alone. 200 B each.
pub const PASSES_UNTOLD_MAX: usize = 1 << 17;
/// Those of them that are being signed or stored; the others wait, so that other appends have their room.
pub const PASSES_ASKED_MAX: usize = 1_024;

/// Length of one gRPC message, bytes.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Notifications of one `PublishBatch`.
pub const PUBLISH_BATCH_MAX: usize = 1_000;
/// Notifications of one `Publish` stream that wait for their answer; nothing more is read meanwhile.
pub const PUBLISH_UNANSWERED_MAX: usize = 1_024;
/// Positions that the control loop routes in one go, some 0.5 ms.
pub const PUSH_BATCH_MAX: usize = 512;
/// Between two tries to push positions for which a mailbox had no room.
pub const PUSH_RETRY: Duration = Duration::from_millis(5);
/// After so long without room they are refused.
pub const PUSH_WAIT_MAX: Duration = Duration::from_secs(1);
/// Calls under way on one gRPC connection.
pub const GRPC_STREAMS_MAX: u32 = 1_024;
/// Rooms with a label of their own in the metrics; the rest is `other`.
pub const LABELLED_ROOMS_MAX: usize = 50;
/// Queues with a label of their own in `/metrics`.
pub const LABELLED_QUEUES_MAX: usize = 20;

const _: () =
    assert!(APPENDS_MAX <= DELIVERIES_RESERVE, "what may wait takes no room from what is being stored");
const _: () = assert!(
    HEADS_MAX + READS_MAX + INQUIRIES_MAX + LATEST_ASKS_MAX + ACKNOWLEDGEMENTS_ASKED_MAX <= STORE_ASKS_MAX
        && APPENDS_MAX <= STORE_ASKS_MAX,
    "what is no append leaves appends their half of what the store holds"
);
const _: () = assert!(2 * PASSES_ASKED_MAX <= APPENDS_MAX, "passes leave others half of the appends");
const _: () = assert!(APPENDS_BYTES_MAX < TO_SHARD_BYTES_MAX && EVENT_BYTES_MAX < APPENDS_BYTES_MAX);
const _: () = assert!(EVENT_BYTES_MAX < STREAM_LOG_BYTES_MAX, "every event fits its stream");
const _: () = assert!(LEASE_RENEWAL.as_millis() * 2 < LEASE_TIME.as_millis() - LEASE_MARGIN.as_millis());
const _: () = assert!(
    REDIS_COMMAND_TIME_MAX.as_millis() <= LEASE_RENEWAL.as_millis(),
    "a claim without an answer does not put off the next"
);
const _: () = assert!(
    REDIS_COMMAND_TIME_MAX.as_millis() * 2 <= HEAD_TIME_MAX.as_millis(),
    "a store that did not answer is asked once more"
);
const _: () = assert!(
    REDIS_COMMAND_TIME_MAX.as_millis() <= REDIS_PING_TIME_MAX.as_millis(),
    "a command ends before the session does"
);
const _: () = assert!(
    REDIS_COMMAND_TIME_MAX.as_millis() * 2 <= FOREIGN_OVERLAP.as_millis(),
    "what brings the clock of Redis, and then what stores by it, may take that long"
);
const _: () = assert!(
    LEASE_TIME.as_millis()
        + LEASE_RENEWAL.as_millis()
        + REDIS_COMMAND_TIME_MAX.as_millis()
        + FOREIGN_OVERLAP.as_millis()
        <= FOREIGN_TIME.as_millis(),
    "what a dead holder had not stored is still there when another takes over"
);
const _: () = assert!(EVENT_BYTES_MAX < FOREIGN_BYTES_MAX);
const _: () = assert!(DELIVERIES_RESERVE < TO_SHARD_MESSAGES_MAX, "what may wait gets its turn");
const _: () =
    assert!(EVENT_BYTES_MAX < GRPC_MESSAGE_BYTES_MAX, "too big a payload is told from too big a call");
const _: () = assert!(EVENT_BYTES_MAX < HISTORY_BYTES_MAX && 2 * HISTORY_BYTES_MAX <= GRPC_MESSAGE_BYTES_MAX);
const _: () = assert!(EVENT_BYTES_MAX < TO_SHARD_BYTES_MAX, "every event fits a mailbox that is empty");
const _: () = assert!(
    (PLACES_MAX as usize) * HOLDER_BYTES_MAX < u32::MAX as usize,
    "32 bits count the bytes of a queue's holders"
);
const _: () = assert!(QUEUE_INSTANCES_MAX <= u64::BITS as usize, "one bit each");
const _: () = assert!(
    QUEUE_LOG_RESERVE < QUEUE_LOG_BYTES_MAX && LINE_WAITING_MAX * 2 * HOLDER_BYTES_MAX < QUEUE_LOG_RESERVE,
    "what people wrote and was not applied yet leaves most of the reserve"
);
const _: () = assert!(LINE_WAITING_RESERVE < LINE_WAITING_MAX, "people are served at all");
const _: () = assert!(EVENT_BYTES_MAX < PUSH_BYTES_MAX && EVENT_BYTES_MAX < HEARD_BYTES_MAX);
const _: () = assert!(COUNTS_REPEATED_MAX < COUNTS_TOLD_MAX && COUNTS_TOLD_MAX < SHARES_MAX);
const _: () = assert!(
    INTERESTS_BATCH_MAX + CONFIRMATIONS_RESERVE < HEARD_RESERVE,
    "however much other services say, subscriptions go on"
);
const _: () = assert!(HEARD_RESERVE < HEARD_MAX, "other services are heard at all");
const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX, "a long target must be told from a long head");
const _: () = assert!(FIRST_BYTES_MAX <= TLS_PENDING_BYTES_MAX && FIRST_BYTES_MAX <= HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX <= SCRATCH_BYTES, "a head is parsed from the scratch buffer");
const _: () =
    assert!(MAILBOX_BATCH_MAX < TO_SHARD_MESSAGES_MAX && MAILBOX_BATCH_MAX < TO_CONTROL_MESSAGES_MAX);
