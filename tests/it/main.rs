//! The gateway as its clients, its callers and its operator see it: the real binary, over real sockets.
//!
//! Bodies read as the protocol does. Rows of the reliability catalogue (A1, B3 …) are named where they are tested.

#![expect(unreachable_pub, reason = "nobody is outside a test")]

/// Health, readiness, statistics and the exact names of the metrics.
mod admin;
/// Tokens: every way to bring one, every way to be refused, expiry, refresh, revocation.
mod auth;
/// Key files, key documents and their rotation.
mod auth_keys;
/// Redis: foreign channels, outages, TLS, passwords.
mod bus;
mod bus_sessions;
/// The commands beside the gateway itself: check, token, health, notify.
mod commands;
/// permessage-deflate: negotiation, messages both ways, bombs.
mod compression;
mod demo;
/// Descriptor tables of shards: their limit, and that nothing stays in them.
mod descriptors;
/// Clients that are sent away at a pace, and what they have had by then.
mod drain;
/// A program that embeds the gateway.
mod embedding;
/// Peers that end right behind their last bytes.
mod ends;
/// What comes in numbers: bad tokens, slow handshakes, resets.
mod floods;
/// WebSocket frames, right and wrong.
mod frames;
/// The six methods of the backends and `DisconnectUser`, and what clients see of them.
mod grpc;
/// gRPC bodies, right and wrong.
mod grpc_bodies;
/// Critical messages of foreign channels while the instance that stores them goes.
mod handover;
/// Requests for an upgrade, right and wrong.
mod handshake;
/// What the host should be set to, and what sets it.
mod host;
/// Positions and notifications by the thousand: PushQueuePositions, Publish, PublishBatch.
mod ingest;
/// What operators ask: history, delivery, presence.
mod inquiries;
/// Several instances on a Redis that breaks.
mod instances;
/// JSON texts, right and wrong.
mod json;
/// Last values for who comes in, and keys of calls, over instances.
mod latest;
/// Start, reload, graceful stop and exit codes.
mod lifecycle;
/// Every row of the limits table.
mod limits;
/// Keys of passes, and the commands about passes and receipts.
mod passes;
/// Several gateways on one Redis: who is connected.
mod presence;
/// Waiting rooms whose log is lost.
mod queue_losses;
/// What people hear of waiting rooms, and operators are warned of.
mod queue_news;
/// Waiting rooms whose Redis does not answer.
mod queue_outages;
/// Passes of people who are connected nowhere.
mod queue_passes;
/// What operators say of a waiting room that there is.
mod queue_terms;
/// Waiting rooms.
mod queues;
/// What is held for those who come back, and requests to resume that are refused.
mod resume;
/// Rooms: membership, messages, permission, presence.
mod rooms;
/// Streams in Redis.
mod store;
/// A new process in the place of one that serves.
mod takeover;
/// Inlets that pause while what sells is not ready.
mod targets;
/// wss, and certificates that change.
mod tls;

mod support;
