//! Which shards get an event, and which place in which stream it has. Pure.
//!
//! Owns the directory, the sequencer and who is present in which room. Never waits for a shard: counts are what shards
//! told so far, and a shard that is behind with telling gets everything. Invariant: an event is refused before
//! anything of it was stored or sent, or else goes to every shard that may hold its target. Talks to the control loop
//! through [`Input`] and [`Output`].

pub mod classify;
mod counts;
pub mod directory;
pub mod io;
mod presence;
pub mod sequencer;

use std::sync::Arc;

pub use self::io::{Input, Output, ShardView, Token};
use crate::{
    clock::Now,
    config::Settings,
    event::{Address, Class, Denial, Event, Receipt, Refusal, RoomDenial, RoomEntry, Target},
    ids::{ConnId, ShardId},
    limits::{ANNOUNCED_ROOM_MEMBERS_MAX, OVERLOAD_RETRY, TOO_MANY_CONNECTIONS_RETRY},
    route::{
        directory::{Directory, Holding},
        presence::{Announcement, Presence},
        sequencer::{Plan, Sequencer, Verdict},
    },
    wire::ticketing::room_user_payload,
};

/// What happened so far; numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events accepted, by [`Class::index`], as they travelled.
    pub accepted: [u64; Class::NAMES.len()],
    /// Answered from the idempotency memory.
    pub repeated: u64,
    /// Latest values that came after a newer version.
    pub stale: u64,
    /// Refused for want of room in a mailbox.
    pub overloaded: u64,
    /// Refused since the key had another body.
    pub key_reused: u64,
    /// Connections admitted.
    pub admitted: u64,
    /// Connections denied.
    pub denied: u64,
    /// Joins granted, of those that are decided here.
    pub joined: u64,
    /// Joins refused since the room was full.
    pub rooms_full: u64,
}

/// The router of one instance.
#[derive(Debug)]
pub struct Route {
    directory: Directory,
    sequencer: Sequencer,
    presence: Presence,
    connections_per_user_max: u32,
    /// 0: no limit.
    room_members_max: u32,
    counts: Counts,
}

impl Route {
    /// Nothing connected, nothing stored. The seed must differ between starts.
    pub fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            directory: Directory::default(),
            sequencer: Sequencer::new(&settings.streams, seed),
            presence: Presence::default(),
            connections_per_user_max: settings.limits.connections_per_user_max,
            room_members_max: settings.limits.room_members_max,
            counts: Counts::default(),
        }
    }

    /// Takes what happened and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Members { shard, address, count } => self.directory.set(shard, &address, count),
            Input::Admit { conn, user, user_connections } => {
                let output = self.admit(conn, user, user_connections);
                out.push(output);
            }
            Input::Join { conn, attempt, room, members, newcomer } => {
                let outcome = self.join(conn.shard(), room, members, newcomer);
                out.push(Output::JoinDecided { conn, attempt, outcome });
            }
            Input::Present { room, user, present, conn } => self.presence.set(&room, &user, present, conn),
            Input::Announce { shards } => self.announce(now, shards, out),
            Input::Publish { token, event, idempotency_key, shards } => {
                let result = self.publish(now, event, idempotency_key, shards, out);
                out.push(Output::Answer { token, result });
            }
            Input::Disconnect { token, user, shards } => {
                let target = Target::User(user.clone());
                let (targets, connections) = self.targets(&target, shards);
                out.extend(targets.into_iter().map(|shard| Output::Disconnect { shard, user: user.clone() }));
                out.push(Output::Disconnected { token, connections });
            }
            Input::Tick { shards } => {
                self.sequencer.expire(now);
                let mut spare: Vec<usize> = shards.iter().map(|shard| shard.spare).collect();
                self.directory.take_room_counts(&mut spare, |shard, room, others| {
                    out.push(Output::RoomCount { shard, room, others });
                });
            }
        }
    }

    /// Who is connected where.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether comings or goings wait for [`Input::Announce`].
    pub fn has_announcements(&self) -> bool {
        self.presence.is_due()
    }

    /// Users in rooms under `ROOM_PRESENCE`, each as (room, user), by what shards told.
    pub fn present(&self) -> impl Iterator<Item = (&str, &str)> {
        self.presence.iter()
    }

    /// What is stored and remembered.
    pub fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Panics when the indexes contradict each other; for tests and simulations.
    pub fn check_invariants(&self) {
        self.directory.check_invariants();
        self.presence.check_invariants();
    }

    fn admit(&mut self, conn: ConnId, user: Arc<str>, user_connections: u32) -> Output {
        let address = Address::User(user.clone());
        self.directory.set(conn.shard(), &address, user_connections);
        let total = self.directory.user_connections(&user);
        if self.connections_per_user_max > 0 && total > self.connections_per_user_max {
            // The refused connection is not one of the user's; the shard will say the same soon.
            self.directory.set(conn.shard(), &address, user_connections.saturating_sub(1));
            self.counts.denied += 1;
            let retry_after_ms = TOO_MANY_CONNECTIONS_RETRY.as_millis() as u32;
            return Output::Denied { conn, denial: Denial::TooManyConnections, retry_after_ms };
        }
        self.counts.admitted += 1;
        Output::Admitted { conn, position: self.sequencer.user_head(&user) }
    }

    /// Decides by what the shards told: each counts all whom it holds or waits for, so that members are never more than
    /// the directory says.
    fn join(
        &mut self,
        shard: ShardId,
        room: Arc<str>,
        members: u32,
        newcomer: bool,
    ) -> Result<RoomEntry, RoomDenial> {
        let elsewhere = self.directory.room(&room).map_or(0, |held| held.total() - held.on(shard));
        let position = self.sequencer.room_head(&room);
        let address = Address::Room(room);
        let total = elsewhere.saturating_add(members);
        let max = if self.room_members_max > 0 { self.room_members_max } else { u32::MAX };
        if newcomer && total > max {
            // The shard will say the same when it knows.
            self.directory.set(shard, &address, members.saturating_sub(1));
            self.counts.rooms_full += 1;
            return Err(RoomDenial::Full);
        }
        self.directory.set(shard, &address, members);
        self.counts.joined += 1;
        // Beyond the limit are only some that wait to hear that they are not let in.
        Ok(RoomEntry { members: total.min(max), position })
    }

    /// Tells members who came and went. What finds no room to spare stays due; larger rooms are told nothing.
    fn announce(&mut self, now: Now, shards: &[ShardView], out: &mut Vec<Output>) {
        let mut spare: Vec<usize> = shards.iter().map(|shard| shard.spare).collect();
        let mut presence = std::mem::take(&mut self.presence);
        presence.take_due(|announcement| {
            let members = self.directory.room(announcement.room).map_or(0, Holding::total);
            if members as usize > ANNOUNCED_ROOM_MEMBERS_MAX {
                return true;
            }
            let event = announcing(now, &announcement);
            let (targets, _) = self.targets(&event.target, shards);
            if targets.iter().any(|shard| spare[shard.index()] == 0) {
                return false;
            }
            targets.iter().for_each(|shard| spare[shard.index()] -= 1);
            self.counts.accepted[event.class.index()] += 1;
            let event = Arc::new(event);
            out.extend(targets.into_iter().map(|shard| Output::Deliver { shard, event: event.clone() }));
            true
        });
        self.presence = presence;
    }

    fn publish(
        &mut self,
        now: Now,
        mut event: Event,
        idempotency_key: Option<Arc<str>>,
        shards: &[ShardView],
        out: &mut Vec<Output>,
    ) -> Result<Receipt, Refusal> {
        event.target = classify::resolve(event.target);
        let plan = match self.sequencer.judge(now, &mut event, idempotency_key) {
            Verdict::Go(plan) => plan,
            Verdict::Repeated(receipt) => {
                self.counts.repeated += 1;
                return Ok(receipt);
            }
            Verdict::Stale => {
                self.counts.stale += 1;
                return Ok(Receipt::default());
            }
            Verdict::KeyReused => {
                self.counts.key_reused += 1;
                return Err(Refusal::KeyReused);
            }
        };
        let (targets, delivered_connections) = self.targets(&event.target, shards);
        if !targets.iter().all(|shard| shards[shard.index()].takes(&event)) {
            self.counts.overloaded += 1;
            return Err(Refusal::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 });
        }
        self.counts.accepted[event.class.index()] += 1;
        Ok(self.accept(now, event, plan, Routing { targets, delivered_connections }, out))
    }

    fn accept(
        &mut self,
        now: Now,
        event: Event,
        plan: Plan,
        routing: Routing,
        out: &mut Vec<Output>,
    ) -> Receipt {
        let delivered_connections = routing.delivered_connections;
        let (event, receipt) = self.sequencer.commit(now, event, plan, delivered_connections);
        out.extend(routing.targets.into_iter().map(|shard| Output::Deliver { shard, event: event.clone() }));
        receipt
    }

    /// The shards that may hold the target, and the connections that they are known to hold of it.
    fn targets(&self, target: &Target, shards: &[ShardView]) -> (Vec<ShardId>, u32) {
        let all = || (0..shards.len()).map(|index| ShardId(index as u16));
        let lagging = |shard: &ShardId| shards[shard.index()].lagging;
        let held = match target {
            Target::User(user) => self.directory.user(user),
            Target::Room(room) => self.directory.room(room),
            Target::Connection(conn) if conn.shard().index() < shards.len() => {
                return (vec![conn.shard()], 1);
            }
            Target::Connection(_) => return (Vec::new(), 0),
            Target::Everyone => return (all().collect(), shards.iter().map(|shard| shard.connections).sum()),
        };
        let Some(held) = held else { return (all().filter(lagging).collect(), 0) };
        let targets = all().filter(|shard| held.on(*shard) > 0 || lagging(shard)).collect();
        (targets, held.total())
    }
}

/// What the other members are told.
fn announcing(now: Now, announcement: &Announcement<'_>) -> Event {
    let Announcement { room, user, joined, conn } = announcement;
    Event {
        target: Target::Room(Arc::clone(room)),
        kind: if *joined { "room:user_joined" } else { "room:user_left" }.into(),
        payload: room_user_payload(room, user, None).into(),
        class: Class::Ephemeral,
        version: None,
        position: None,
        except: Some(*conn),
        accepted_at_ns: now.mono_ns,
    }
}

/// Where an accepted event goes.
struct Routing {
    targets: Vec<ShardId>,
    delivered_connections: u32,
}

#[cfg(test)]
mod tests;
