//! How the gateway is, for whoever asks over HTTP.
//!
//! Owns what all threads may read at any time: the cells of every core and two flags. Never waits for a core:
//! answers are made of counts that may be a moment old (03 §1). Talks to `/health`, `/ready` and `/stats` of the
//! client, admin and health ports.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde::Serialize;

use crate::{
    clock::Now,
    config::settings::Store,
    log::Dropped,
    metrics::{Cell, ControlCells, ShardCells},
};

/// Where the gateway is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody asked it to stop.
    Serving,
    /// Not ready any more, and serving everybody until `DRAIN_DELAY` is over.
    Leaving,
    /// Nobody new is let in, clients are sent away.
    Draining,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Serving, Self::Leaving, Self::Draining];

    /// Its name in `/ready` and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Draining => "draining",
        }
    }
}

/// The state of the whole gateway as any thread sees it.
#[derive(Debug)]
pub struct Status {
    /// One per shard, each written by its shard alone.
    pub cells: Box<[Arc<ShardCells>]>,
    /// Written by the control thread alone.
    pub control: ControlCells,
    started: Now,
    /// Shards that accept connections, `0 <= accepting <= cells.len()`; each shard adds itself once.
    accepting: AtomicUsize,
    /// Set once, by control.
    draining: AtomicBool,
    /// Set once, by control, after `draining`: listeners close, and clients are sent away.
    sending_away: AtomicBool,
    /// Of the process's logs; `None`: they are not ours.
    logs: Option<Dropped>,
    redis: RedisRole,
    store: Store,
}

/// What Redis is to this gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisRole {
    /// There is none.
    #[default]
    Absent,
    /// Without it the gateway goes on, and says that it is ready.
    Optional,
    /// Without it the gateway goes on, and says that it is not ready.
    Required,
}

impl Status {
    /// Of a gateway with that many shards, none of which accepts yet.
    pub fn new(shards: usize, started: Now) -> Self {
        Self {
            cells: (0..shards).map(|_| Arc::default()).collect(),
            control: ControlCells::new(shards),
            started,
            accepting: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            sending_away: AtomicBool::new(false),
            logs: None,
            redis: RedisRole::Absent,
            store: Store::Embedded,
        }
    }

    /// Tells of the lines that these logs lose, too.
    #[must_use]
    pub fn with_logs(self, logs: Option<Dropped>) -> Self {
        Self { logs, ..self }
    }

    /// Tells of Redis, too, and of where streams are kept.
    #[must_use]
    pub fn with_redis(self, redis: RedisRole, store: Store) -> Self {
        Self { redis, store, ..self }
    }

    /// Log lines lost so far; `None`: the program around the gateway keeps the logs.
    pub fn log_lines_dropped(&self) -> Option<u64> {
        self.logs.as_ref().map(Dropped::lines)
    }

    /// One shard tells, once, that its listeners accept.
    pub fn shard_accepts(&self) {
        self.accepting.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether every shard accepts.
    pub fn all_accept(&self) -> bool {
        self.accepting.load(Ordering::Relaxed) >= self.cells.len()
    }

    /// From now on `/ready` says no.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the gateway is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on clients are sent away.
    pub fn begin_sending_away(&self) {
        self.sending_away.store(true, Ordering::Relaxed);
    }

    /// Where the gateway is between its start and its end.
    pub fn phase(&self) -> Phase {
        match (self.is_draining(), self.sending_away.load(Ordering::Relaxed)) {
            (false, _) => Phase::Serving,
            (true, false) => Phase::Leaving,
            (true, true) => Phase::Draining,
        }
    }

    /// Open connections on all shards.
    pub fn connections(&self) -> u64 {
        self.sum(|cells| &cells.connections)
    }

    /// Open connections of users on all shards.
    pub fn authenticated(&self) -> u64 {
        self.sum(|cells| &cells.connections_authenticated)
    }

    /// When the gateway started.
    pub fn started(&self) -> Now {
        self.started
    }

    /// Whole seconds since the start.
    pub fn uptime_seconds(&self, now: Now) -> u64 {
        now.mono_ms().saturating_sub(self.started.mono_ms()) / 1_000
    }

    /// One cell of every shard, added up.
    pub fn sum(&self, cell: impl Fn(&ShardCells) -> &Cell) -> u64 {
        self.cells.iter().map(|cells| cell(cells).get()).sum()
    }

    /// `/health`: HTTP status and JSON body. 200 as long as anybody answers.
    pub fn health(&self, now: Now) -> (u16, String) {
        let body = Health {
            status: "healthy",
            clients: self.connections(),
            rooms: self.control.rooms.get(),
            uptime_seconds: self.uptime_seconds(now),
            redis: self.redis(),
        };
        (200, json(&body))
    }

    /// `/ready`: HTTP status and JSON body. 503 while draining, before every shard accepts, and while Redis is needed and
    /// cannot be reached; the body says which.
    pub fn ready(&self) -> (u16, String) {
        let reason = self.why_not_ready();
        let body = Ready {
            status: if reason.is_none() { "ready" } else { "not ready" },
            reason,
            phase: self.phase().name(),
            connections: self.connections(),
            shards: self.cells.len(),
            shards_accepting: self.accepting.load(Ordering::Relaxed),
            store: match self.store {
                Store::Embedded => "embedded (memory only)",
                Store::Redis => "redis",
            },
            redis: self.redis(),
        };
        (if reason.is_none() { 200 } else { 503 }, json(&body))
    }

    /// Whether clients and callers should come here.
    pub fn is_ready(&self) -> bool {
        self.why_not_ready().is_none()
    }

    fn why_not_ready(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("draining")
        } else if !self.all_accept() {
            Some("not every shard accepts yet")
        } else if self.redis == RedisRole::Required && self.control.redis.followed.get() == 0 {
            Some("Redis cannot be reached")
        } else {
            None
        }
    }

    fn redis(&self) -> &'static str {
        match (self.redis, self.control.redis.followed.get()) {
            (RedisRole::Absent, _) => "disabled",
            (RedisRole::Optional | RedisRole::Required, 0) => "disconnected",
            (RedisRole::Optional | RedisRole::Required, _) => "connected",
        }
    }

    /// `/stats`: JSON body.
    pub fn stats(&self) -> String {
        self.stats_body(None)
    }

    /// `/stats` with the members of rooms, for those who may see the names of rooms.
    pub fn stats_with_rooms(&self, rooms: &[(Arc<str>, u32)]) -> String {
        self.stats_body(Some(rooms.iter().map(|(room, members)| (&**room, *members)).collect()))
    }

    fn stats_body(&self, room_members: Option<BTreeMap<&str, u32>>) -> String {
        json(&StatsBody {
            service: "realtime-service",
            status: if self.is_draining() { "draining" } else { "active" },
            connected_users: self.control.users.get(),
            ticket_locks: TicketLocks::default(),
            connections: self.connections(),
            authenticated_connections: self.authenticated(),
            connections_per_core: self.cells.iter().map(|cells| cells.connections.get()).collect(),
            rooms: self.control.rooms.get(),
            room_members,
        })
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    clients: u64,
    rooms: u64,
    uptime_seconds: u64,
    redis: &'static str,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    phase: &'static str,
    connections: u64,
    shards: usize,
    shards_accepting: usize,
    store: &'static str,
    redis: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsBody<'a> {
    service: &'static str,
    status: &'static str,
    connected_users: u64,
    ticket_locks: TicketLocks,
    connections: u64,
    authenticated_connections: u64,
    connections_per_core: Vec<u64>,
    rooms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_members: Option<BTreeMap<&'a str, u32>>,
}

/// Zeros until there are locks: clients of the shape find every field.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TicketLocks {
    total_locks: u64,
    active_locks: u64,
    users_with_locks: u64,
    categories_with_locks: u64,
    locks_by_status: LocksByStatus,
}

#[derive(Default, Serialize)]
struct LocksByStatus {
    active: u64,
    expired: u64,
    confirmed: u64,
    released: u64,
}

fn json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("strings and numbers always have a JSON form")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    const START: Now = Now { mono_ns: 5_000_000_000, wall_ms: 1_700_000_000_000 };

    fn parsed((status, body): (u16, String)) -> (u16, Value) {
        (status, serde_json::from_str(&body).unwrap())
    }

    #[test]
    fn ready_says_why_it_is_not() {
        let status = Status::new(2, START);
        status.shard_accepts();
        let (code, body) = parsed(status.ready());
        assert_eq!((code, &body["reason"]), (503, &json!("not every shard accepts yet")));
        status.shard_accepts();
        let (code, body) = parsed(status.ready());
        assert_eq!((code, &body["store"]), (200, &json!("embedded (memory only)")));
        assert_eq!((body.get("reason"), &body["phase"]), (None, &json!("serving")));
        status.begin_draining();
        let (code, body) = parsed(status.ready());
        assert_eq!((code, &body["reason"], &body["phase"]), (503, &json!("draining"), &json!("leaving")));
        status.begin_sending_away();
        status.cells[0].connections.set(3);
        let (code, body) = parsed(status.ready());
        assert_eq!((code, &body["reason"], &body["phase"]), (503, &json!("draining"), &json!("draining")));
        assert_eq!(body["connections"], 3, "who is still here");
    }

    #[test]
    fn a_redis_that_is_needed_and_away_makes_it_not_ready() {
        let rows = [
            (RedisRole::Absent, 0, 200, "disabled"),
            (RedisRole::Optional, 0, 200, "disconnected"),
            (RedisRole::Required, 0, 503, "disconnected"),
            (RedisRole::Required, 1, 200, "connected"),
        ];
        for (role, up, code, redis) in rows {
            let status = Status::new(0, START).with_redis(role, Store::Redis);
            status.control.redis.followed.set(up);
            let (found, body) = parsed(status.ready());
            assert_eq!((found, &body["redis"]), (code, &json!(redis)), "{role:?}");
            assert_eq!(parsed(status.health(START)).1["redis"], redis);
            assert_eq!(status.is_ready(), code == 200);
        }
    }

    #[test]
    fn health_adds_up_the_shards() {
        let status = Status::new(2, START);
        status.cells[0].connections.set(3);
        status.cells[1].connections.set(4);
        status.control.rooms.set(2);
        let (code, body) = parsed(status.health(START.after(Duration::from_millis(61_500))));
        assert_eq!(code, 200);
        let expected =
            json!({"status": "healthy", "clients": 7, "rooms": 2, "uptime_seconds": 61, "redis": "disabled"});
        assert_eq!(body, expected);
    }

    #[test]
    fn stats_have_the_shape_of_the_lock_service() {
        let status = Status::new(2, START);
        status.cells[1].connections.set(4);
        status.control.users.set(3);
        let body: Value = serde_json::from_str(&status.stats()).unwrap();
        assert_eq!(body["service"], "realtime-service");
        assert_eq!((&body["status"], &body["connectedUsers"]), (&json!("active"), &json!(3)));
        assert_eq!(body["ticketLocks"]["locksByStatus"]["confirmed"], 0);
        assert_eq!(body["connectionsPerCore"], json!([0, 4]));
        assert_eq!(body.get("roomMembers"), None);
        let rooms = [(Arc::from("event:1"), 9)];
        let body: Value = serde_json::from_str(&status.stats_with_rooms(&rooms)).unwrap();
        assert_eq!(body["roomMembers"]["event:1"], 9);
    }
}
