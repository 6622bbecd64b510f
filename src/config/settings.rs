//! What the gateway runs with: validated once, immutable afterwards, passed down.
//!
//! Every field: *meaning; unit or range; default (03 §13)*.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses.
    pub listen: Listen,
    /// Certificates of the wss listener and, with `listen.https_port`, its existence.
    pub tls: Option<TlsSource>,
    /// `TLS_TICKET_KEYS`: secrets of session tickets, shared by all instances; none: each run makes its own.
    pub ticket_keys: Option<PathBuf>,
    /// Threads and where they are pinned.
    pub cores: Cores,
    /// Tokens and origins.
    pub auth: Auth,
    /// What clients see and may do.
    pub client: Client,
    /// Keep-alive of connections.
    pub keep_alive: KeepAlive,
    /// Bounds per connection, user, room and gateway.
    pub limits: Limits,
    /// The bus between instances and to backends; `None`: this instance is alone.
    pub redis: Option<Redis>,
    /// What is kept for resume.
    pub streams: Streams,
    /// Passes of the waiting room.
    pub passes: Passes,
    /// Waiting rooms.
    pub queues: Queues,
    /// Who is connected.
    pub presence: Presence,
    /// Callers of the gRPC interface.
    pub callers: Callers,
    /// Graceful stop.
    pub shutdown: Shutdown,
    /// Logs.
    pub log: Log,
}

/// Listener addresses. Port 0 takes a free port, which is printed.
#[derive(Clone, Debug)]
pub struct Listen {
    /// `HOST`: address of the client listeners; 0.0.0.0.
    pub host: IpAddr,
    /// `HTTP_PORT`: ws and http; 3003.
    pub http_port: u16,
    /// `HTTPS_PORT`: wss and https; 3443 when a certificate is configured, else none.
    pub https_port: Option<u16>,
    /// `GRPC_HOST`, `GRPC_PORT`; 127.0.0.1:50057.
    pub grpc: SocketAddr,
    /// `ADMIN_HOST`, `METRICS_PORT`; 127.0.0.1:9057. `None`: `METRICS_ENABLED=false`.
    pub admin: Option<SocketAddr>,
    /// `HEALTH_CHECK_PORT` at the admin address; none.
    pub health: Option<SocketAddr>,
    /// `METRICS_ON_CLIENT_PORT`: whether `/metrics` answers on the client port too; false.
    pub metrics_on_client_port: bool,
    /// `ONSALE_PAGE`: whether the admin port serves a waiting room to look at, for development; false.
    pub onsale_page: bool,
}

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum TlsSource {
    /// `TLS_CERT`, `TLS_KEY`: PEM files, read again when they change or on SIGHUP.
    Files {
        /// Certificate chain, leaf first.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// `TLS_SELF_SIGNED`: a certificate for localhost made at every start. For development.
    SelfSigned,
}

/// Threads and where they are pinned.
#[derive(Clone, Debug)]
pub struct Cores {
    /// One shard per entry, pinned to that core; cores may repeat. 1 to 1 024 entries.
    pub shards: Vec<usize>,
    /// `CONTROL_CORE`: core of the control thread; may be a shard's too.
    pub control: usize,
    /// Each shard has a descriptor table of its own, for which the limit of open files counts alone; false. Not a knob: the
    /// command `usher` sets it, since all threads of that process are the gateway's own. In another program it asks for
    /// two things: that the gateway is started before sockets and files are opened, whose copies would stay open in each shard;
    /// and that what runs on shards (handlers, and a log subscriber that writes by itself) uses no descriptor opened
    /// after the start by another thread.
    pub private_descriptors: bool,
}

/// Tokens and origins (03 §3).
#[derive(Clone, Debug)]
pub struct Auth {
    /// Where the keys that verify tokens come from.
    pub keys: Vec<KeySource>,
    /// `JWT_REFRESH_SECRET`: verifies tokens of `auth:token_refresh` instead of `keys`; none.
    pub refresh_secret: Option<Secret>,
    /// `JWT_ALGORITHMS`: the only algorithms accepted, by JWS name; empty: those that fit the kind of each key.
    pub algorithms: Vec<String>,
    /// `JWT_AUDIENCE`: required in `aud`; none.
    pub audience: Option<String>,
    /// `JWT_ISSUER`: required in `iss`; none.
    pub issuer: Option<String>,
    /// `JWT_LEEWAY`: tolerance for `exp` and `nbf`; 5 s.
    pub leeway: Duration,
    /// `JWT_MAX_LIFETIME`: longest time from now to `exp`; none.
    pub lifetime_max: Option<Duration>,
    /// `WS_ALLOW_ANONYMOUS`; true.
    pub allow_anonymous: bool,
    /// `AUTH_FIRST_MESSAGE`: without a token, the upgrade succeeds and `auth:login` must come; false.
    pub first_message: bool,
    /// `WS_ALLOWED_ORIGINS`: exact origins; empty: any.
    pub allowed_origins: Vec<String>,
    /// `TOKEN_REFRESH_THRESHOLD`: `auth:token_expiring` is sent that long before `exp`; 300 s.
    pub refresh_threshold: Duration,
    /// `TOKEN_EXPIRY_GRACE`: the connection is closed that long after `exp`; 25 s.
    pub expiry_grace: Duration,
}

/// A source of verification keys.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// `JWT_SECRET`: a shared secret (HS256, HS384, HS512).
    Secret(Secret),
    /// `JWT_PUBLIC_KEY_FILE`: a PEM public key.
    Pem(PathBuf),
    /// `JWT_JWKS_FILE`: a JWKS document, read again when it changes.
    JwksFile(PathBuf),
    /// `JWT_JWKS_URL`: fetched at start, every `JWT_JWKS_REFRESH`, and for an unknown `kid` at most once a minute.
    JwksUrl {
        /// http or https.
        url: String,
        /// `JWT_JWKS_REFRESH`; 5 minutes.
        refresh: Duration,
    },
}

/// A value that never shows in logs or on screens.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"***\"")
    }
}

/// The language of a connection, for life (03 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `{"type","payload"}` objects both ways.
    Ticketing,
    /// The notification objects alone; nothing is expected from the client.
    Raw,
}

/// What clients see and may do.
#[derive(Clone, Debug)]
pub struct Client {
    /// `WS_DIALECT`: what `/ws` speaks when neither path nor subprotocol says; ticketing.
    pub dialect: Dialect,
    /// `ROOM_PROTECTED`: globs of rooms that need the claim `rooms`, beside `private:*`; none.
    pub rooms_protected: Vec<String>,
    /// `ROOM_PRESENCE`: globs of rooms that announce comings, goings and typing; none.
    pub rooms_presence: Vec<String>,
    /// `ROOM_TYPING_TIMEOUT`: typing ends by itself after; 5 s.
    pub typing_timeout: Duration,
    /// `WS_COMPRESSION`: whether clients may negotiate permessage-deflate; false.
    pub compression: bool,
    /// `QUEUE_UPDATE_INTERVAL`: between two positions of an event to one connection; zero: none is kept back; 1 s.
    pub queue_update_interval: Duration,
    /// `QUEUE_GRACE`: how long who waits in a queue may be away before the place counts for nobody; 120 s.
    pub queue_grace: Duration,
}

/// Keep-alive of connections.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    /// `WS_PING_INTERVAL`: between two pings, phases spread over connections; 30 s.
    pub ping_interval: Duration,
    /// `WS_PONG_TIMEOUT`: without any frame for so long, close 4408; 60 s, more than the interval.
    pub pong_timeout: Duration,
    /// `HTTP_READ_TIMEOUT`: accept → upgraded or answered; at most 5 s counts (limits.rs); 15 s in the seeds.
    pub read_timeout: Duration,
    /// `HTTP_WRITE_TIMEOUT`: an HTTP answer or the last frame → the socket is gone; at most 5 s counts (limits.rs); 15 s.
    pub write_timeout: Duration,
}

/// Bounds per connection, user, room and gateway (03 §12).
#[derive(Clone, Debug)]
pub struct Limits {
    /// `WS_MAX_CONNECTIONS`: of the whole gateway; 0 = none.
    pub connections_max: u64,
    /// `WS_MAX_WAITING_HANDSHAKES`: newcomers who sent something and wait for their turn, per shard and lane; 16 384.
    pub handshakes_waiting_max: usize,
    /// `RATE_LIMIT_MAX_CONNECTIONS`: per user; 20; 0 = none.
    pub connections_per_user_max: u32,
    /// `MAX_ROOM_MEMBERS`: per room; 0 = none.
    pub room_members_max: u32,
    /// `WS_MAX_MESSAGE_SIZE`, bytes; 65 536.
    pub message_bytes_max: usize,
    /// Fragments of one message; 64. No variable: a library knob for conformance runs.
    pub fragments_max: u32,
    /// `RATE_LIMIT_MAX_MESSAGES` per `RATE_LIMIT_WINDOW_MS`; 100 per 60 s; 0 = no limit.
    pub messages_max: u32,
    /// The window that refills the bucket of `messages_max`; 60 s.
    pub messages_window: Duration,
    /// `RATE_LIMIT_MAX_AUTH_FAILURES` of one address per `RATE_LIMIT_AUTH_WINDOW`, on each shard; 5 000 per 10 s; 0 = none.
    pub auth_failures_max: u32,
    /// The window that refills the bucket of `auth_failures_max`; 10 s.
    pub auth_failures_window: Duration,
    /// `RATE_LIMIT_MAX_PLACES` of one address per `RATE_LIMIT_PLACES_WINDOW`, on each shard; 5 000 per 5 min; 0 = none.
    pub places_max: u32,
    /// The window that refills the bucket of `places_max`; 5 min.
    pub places_window: Duration,
    /// `OUTBOX_MAX_MESSAGES` per connection; 256.
    pub outbox_messages_max: usize,
    /// `OUTBOX_MAX_BYTES` per connection; 262 144.
    pub outbox_bytes_max: usize,
}

/// How Redis is reached (03 §8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// `REDIS_URL`, or `REDIS_HOST` and `REDIS_PORT`: one server, or two and more nodes of one cluster.
    pub nodes: Vec<RedisNode>,
    /// `REDIS_USERNAME`; none: the default user.
    pub username: Option<String>,
    /// `REDIS_PASSWORD`; none.
    pub password: Option<Secret>,
    /// `REDIS_DB`; 0.
    pub db: u32,
    /// `REDIS_TLS`, `rediss://`; false.
    pub tls: bool,
    /// `REDIS_TLS_CA`: authorities, PEM; none: the system's.
    pub ca: Option<PathBuf>,
    /// `REDIS_PREFIX`: begins all channels and keys of our own; `usher:`.
    pub prefix: String,
    /// `REDIS_COMMAND_TIMEOUT`: a command, of the bus or the store → its answer (06 H1), then its outcome is unknown; 250 ms.
    pub command_timeout: Duration,
    /// `READY_REQUIRES_REDIS`; true.
    pub ready_required: bool,
}

impl Redis {
    /// Whether the nodes are of a cluster.
    pub fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }
}

/// Where one Redis server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisNode {
    /// Name or address.
    pub host: String,
    /// 1 to 65 535.
    pub port: u16,
}

impl std::fmt::Display for RedisNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where streams are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In memory, gone at exit.
    Embedded,
    /// In Redis, shared by all instances.
    Redis,
}

impl Store {
    /// As `STORE` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
        }
    }
}

/// What is kept for resume.
#[derive(Clone, Debug)]
pub struct Streams {
    /// `STORE`; redis when Redis is configured, else embedded.
    pub store: Store,
    /// `STREAM_MAX_COUNT`: entries of one stream; 1 000.
    pub count_max: usize,
    /// `STREAM_MAX_AGE`: of an entry; 10 minutes.
    pub age_max: Duration,
    /// `LEDGER_MAX_AGE`: of an entry that a user did not acknowledge; 24 hours.
    pub ledger_age_max: Duration,
    /// `ROOM_STREAMS`: globs of rooms that are kept; none.
    pub rooms: Vec<String>,
}

/// How passes and receipts are signed (03 §10).
#[derive(Clone, Debug)]
pub struct Passes {
    /// `PASS_KEY_FILE`: private key, PKCS #8 PEM; none: made at every start.
    pub key: Option<PathBuf>,
    /// `PASS_OTHER_KEYS_FILE`: keys published beside it, PEM; none.
    pub other_keys: Option<PathBuf>,
    /// `PASS_ALGORITHM`: what is made, or what a file must hold; none: EdDSA is made, a file decides by itself.
    pub algorithm: Option<PassAlgorithm>,
    /// `PASS_ISSUER`: `iss`; usher.
    pub issuer: String,
}

/// What passes are signed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassAlgorithm {
    /// Ed25519 (RFC 8037).
    #[default]
    EdDsa,
    /// ECDSA over P-256 (RFC 7518 §3.4).
    Es256,
}

impl PassAlgorithm {
    /// As `alg` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }
}

/// Waiting rooms.
#[derive(Clone, Debug)]
pub struct Queues {
    /// `QUEUE_READY_URLS`: inlets pause while one of them does not answer with 2xx; at most [`crate::limits::TARGETS_MAX`].
    pub ready_urls: Vec<String>,
    /// `QUEUE_READY_CA`: authorities for those that begin with `https://`, PEM; `None`: the system's.
    pub ready_ca: Option<PathBuf>,
}

/// Who is connected, over all instances that share a store.
#[derive(Clone, Debug)]
pub struct Presence {
    /// `PRESENCE_INTERVAL`: between two times that an instance tells that it lives; 5 s.
    pub interval: Duration,
    /// `PRESENCE_TIMEOUT`: who is silent for so long counts no more; 15 s, more than the interval.
    pub timeout: Duration,
    /// `PRESENCE_CLEANUP_INTERVAL`: between two times that all counts are told again; 5 minutes.
    pub repeat_interval: Duration,
    /// `PRESENCE_GRACE`: a user who left may come back for so long before it is offline; 10 s.
    pub grace: Duration,
}

/// Callers of the gRPC interface.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// `GRPC_AUTH_TOKEN`: bearer token that every call must carry; none.
    pub token: Option<Secret>,
    /// `GRPC_TLS_CERT`, `GRPC_TLS_KEY`: PEM files; none: plain text.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// `GRPC_TLS_CLIENT_CA`: callers must show a certificate of this authority; none.
    pub client_ca: Option<PathBuf>,
}

/// Graceful stop and hand-over.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// `SHUTDOWN_TIMEOUT`: SIGTERM → exit at the latest; 30 s.
    pub timeout: Duration,
    /// `DRAIN_DELAY`: not ready → first close, for load balancers to notice; 0 s.
    pub drain_delay: Duration,
    /// `DRAIN_RATE`: clients sent away a second, on all shards together; 0: as few as the time-out allows.
    pub rate: u32,
    /// `TAKE_OVER`: replace the gateway that runs at the same address of clients; false.
    pub take_over: bool,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Log {
    /// `LOG_LEVEL`: error, warn, info, debug, trace, or a tracing filter; info.
    pub level: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people; the default on a terminal.
    Pretty,
}

impl Default for Settings {
    fn default() -> Self {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            listen: Listen {
                host: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                http_port: 3003,
                https_port: None,
                grpc: local(50057),
                admin: Some(local(9057)),
                health: None,
                metrics_on_client_port: false,
                onsale_page: false,
            },
            tls: None,
            ticket_keys: None,
            cores: Cores { shards: vec![0], control: 0, private_descriptors: false },
            auth: Auth::default(),
            client: Client {
                dialect: Dialect::Ticketing,
                rooms_protected: Vec::new(),
                rooms_presence: Vec::new(),
                typing_timeout: Duration::from_secs(5),
                compression: false,
                queue_update_interval: Duration::from_secs(1),
                queue_grace: Duration::from_secs(120),
            },
            keep_alive: KeepAlive {
                ping_interval: Duration::from_secs(30),
                pong_timeout: Duration::from_secs(60),
                read_timeout: Duration::from_secs(15),
                write_timeout: Duration::from_secs(15),
            },
            limits: Limits::default(),
            redis: None,
            streams: Streams {
                store: Store::Embedded,
                count_max: 1_000,
                age_max: Duration::from_secs(600),
                ledger_age_max: Duration::from_secs(24 * 3_600),
                rooms: Vec::new(),
            },
            passes: Passes { key: None, other_keys: None, algorithm: None, issuer: "usher".into() },
            queues: Queues { ready_urls: Vec::new(), ready_ca: None },
            presence: Presence {
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(15),
                repeat_interval: Duration::from_secs(300),
                grace: Duration::from_secs(10),
            },
            callers: Callers::default(),
            shutdown: Shutdown {
                timeout: Duration::from_secs(30),
                drain_delay: Duration::ZERO,
                rate: 0,
                take_over: false,
            },
            log: Log { level: "info".into(), format: LogFormat::Json },
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            refresh_secret: None,
            algorithms: Vec::new(),
            audience: None,
            issuer: None,
            leeway: Duration::from_secs(5),
            lifetime_max: None,
            allow_anonymous: true,
            first_message: false,
            allowed_origins: Vec::new(),
            refresh_threshold: Duration::from_secs(300),
            expiry_grace: Duration::from_secs(25),
        }
    }
}
