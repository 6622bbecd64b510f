//! Usher: a thread-per-core real-time gateway for ticket on-sales.
//!
//! ```text
//!   clients (wss, ws)                                     services (gRPC, HTTP, Redis)
//!        │ one listener per core                                  │
//!  ┌─────┴───────────────────┐   bounded mailboxes    ┌───────────┴───────────┐
//!  │ shard 0 │ shard 1 │ …   │◄──────────────────────►│ control core          │
//!  │ executor, hub, sockets  │   ToShard / ToControl  │ route, streams, gRPC  │
//!  └─────────────────────────┘                        └───────────────────────┘
//! ```
//!
//! Imports only point downward; `tests/tidy.rs` holds the code to it.
//!
//! | layer | modules | what they are |
//! |---:|---|---|
//! | 5 | `main`, `cli`, `topology`, `supervisor` | threads, queues, the command |
//! | 4 | `shard`, `control` | shells: they do I/O and nothing else |
//! | 3 | `net`, `bus`, `store`, `generated` | sockets, TLS, HTTP heads; Redis; streams in Redis; gRPC code |
//! | 2 | `hub`, `route`, `mesh` | connections of one shard; where events go; mailboxes |
//! | 1 | `wire`, `auth`, `sale`, `stream` | bytes ↔ commands, tokens ↔ identities, rules of a sale, offsets: pure |
//! | 0 | `ids`, `clock`, `limits`, `config`, `event`, `line`, `identity`, `handler`, `metrics`, `rate`, `status`, `prometheus`, `log` | the words |
//!
//! To read it: [`topology`] (who can talk to whom), [`event`] (what travels), [`hub`] (the rules of a connection),
//! [`shard`] (how the rules meet sockets), [`route`] and [`control`] (where events come from and go).
//!
//! Programs use what is re-exported here; the modules are public for simulations and benchmarks, and may change.

pub mod auth;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod event;
pub mod generated;
pub mod handler;
pub mod hub;
pub mod identity;
pub mod ids;
pub mod limits;
pub mod line;
pub mod log;
pub mod mesh;
pub mod metrics;
pub mod net;
pub mod prometheus;
pub mod rate;
pub mod route;
pub mod sale;
pub mod shard;
pub mod status;
pub mod store;
pub mod stream;
pub mod supervisor;
pub mod topology;
pub mod wire;

pub use config::Settings;
pub use control::gateway::{Gateway, Publication, PublishError, Stats};
pub use handler::{Handler, Handlers};
pub use topology::{Running, StartError, start};
