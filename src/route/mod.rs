//! Which shards get an event, and which place in which stream it has. Pure.
//!
//! Owns the directory, the sequencer, who is present in which room, what the stream store was asked, how far streams were
//! delivered that other instances publish to as well, and whom those instances have. Never waits: counts are what shards
//! told so far, a shard that is behind with telling gets everything, and the store's answers are inputs. Talks to the
//! control loop through [`Input`] and [`Output`].

mod acknowledging;
mod appended;
mod census;
pub mod classify;
mod counts;
mod cursor;
pub mod directory;
mod elsewhere;
mod entries;
mod following;
mod ingest;
mod inquiries;
pub mod io;
mod latest;
pub mod lines;
mod presence;
mod publishing;
mod questions;
mod replay;
pub mod sequencer;
mod sharing;
mod turn;
mod unproven;

use std::sync::Arc;

pub use self::{
    ingest::IngestCounts,
    inquiries::{Connections, Inquiry, NoReport, Report, Start},
    io::{Input, Instances, Output, ShardView, Ticket, Token},
};
use crate::{
    clock::Now,
    config::Settings,
    event::{Address, Class, Event, Form, Target},
    ids::ShardId,
    limits::ANNOUNCED_ROOM_MEMBERS_MAX,
    route::{
        acknowledging::Acknowledgements,
        directory::Directory,
        entries::Join,
        following::Following,
        ingest::Ingest,
        latest::Latest,
        presence::{Announcement, Change, Presence},
        publishing::Publication,
        questions::{Questions, Read},
        sequencer::Sequencer,
        turn::Turn,
    },
    stream::{latest::LatestValues, word::Word},
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
    /// Events that the store took.
    pub appended: u64,
    /// Events that it did not take, or did not say so.
    pub appends_failed: u64,
    /// Reads of the store that were answered.
    pub reads: u64,
    /// Reads for clients refused since too many waited.
    pub reads_refused: u64,
    /// Gaps in what other instances published that were read from the store.
    pub gaps: u64,
    /// Events that such reads brought.
    pub filled: u64,
    /// Times that a stream's connections were told that they missed something for good.
    pub resyncs: u64,
    /// Events of other instances, not stored, that were delivered here.
    pub heard: u64,
    /// Deliveries of such events that found no room.
    pub lost: u64,
    /// Acknowledgements given up since too many were under way, or of no stream.
    pub acknowledgements_dropped: u64,
    /// Last values sent to who came in.
    pub latest_shown: u64,
    /// Last values that the store will not have, too many being to be stored.
    pub latest_unsaved: u64,
}

/// The router of one instance.
#[derive(Debug)]
pub struct Route {
    directory: Directory,
    sequencer: Sequencer,
    presence: Presence,
    questions: Questions,
    /// `None`: there is no other instance.
    following: Option<Following>,
    /// Used only where there are others.
    ingest: Ingest,
    acknowledgements: Acknowledgements,
    latest: Latest,
    /// Reads for clients that the store did not answer.
    retries: Vec<Read>,
    /// Globs of rooms whose members learn of each other.
    rooms_presence: Vec<String>,
    connections_per_user_max: u32,
    /// 0: no limit.
    room_members_max: u32,
    counts: Counts,
}

impl Route {
    /// Nothing connected, nothing asked.
    pub fn new(settings: &Settings, instances: Instances) -> Self {
        Self {
            directory: Directory::default(),
            sequencer: Sequencer::new(&settings.streams),
            presence: Presence::new(settings.presence.grace),
            questions: Questions::default(),
            following: (instances == Instances::Several).then(|| Following::new(&settings.presence)),
            ingest: Ingest::default(),
            acknowledgements: Acknowledgements::default(),
            latest: Latest::default(),
            retries: Vec::new(),
            rooms_presence: settings.client.rooms_presence.clone(),
            connections_per_user_max: settings.limits.connections_per_user_max,
            room_members_max: settings.limits.room_members_max,
            counts: Counts::default(),
        }
    }

    /// Takes what happened and appends what is to be done.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        let shards = match &input {
            Input::Announce { shards }
            | Input::Publish { shards, .. }
            | Input::Push { shards, .. }
            | Input::Disconnect { shards, .. }
            | Input::Answered { shards, .. }
            | Input::Heard { shards, .. }
            | Input::Foreign { shards, .. }
            | Input::ForeignPresence { shards, .. }
            | Input::Lease { shards, .. }
            | Input::Clock { shards }
            | Input::Tick { shards } => shards,
            _ => &[][..],
        };
        let turn = &mut Turn::new(now, shards, out);
        match input {
            Input::Members { shard, address, count } => self.members(turn, shard, &address, count),
            Input::Admit { conn, user, user_connections } => self.admit(turn, conn, user, user_connections),
            Input::Join { conn, attempt, room, members, newcomer } => {
                self.join(turn, Join { conn, attempt, room, members, newcomer });
            }
            Input::Entered { conn, room } => self.show_room(turn, conn, &room),
            Input::Present { room, user, present, conn } => {
                self.user_present(turn, room, user, present, conn);
            }
            Input::Announce { .. } => self.announce(turn),
            Input::Publish { token, event, idempotency_key, .. } => {
                self.publish(turn, Publication { token, event, idempotency_key });
            }
            Input::Push { token, events, .. } => self.push(turn, token, events),
            Input::Disconnect { token, user, .. } => self.disconnect(turn, token, &user),
            Input::Count { token, address } => self.count(turn, token, address),
            Input::Inquire { token, inquiry } => self.inquire(turn, token, inquiry),
            Input::Answered { ticket, answer, .. } => {
                if let Some(question) = self.questions.answered(ticket) {
                    self.answered(turn, question, answer);
                }
            }
            Input::Up => {
                if let Some(following) = &mut self.following {
                    following.up = true;
                    following.elsewhere.up(turn.now);
                    turn.out.push(Output::Tell { word: Word::Alive });
                }
                self.doubt_appended(turn);
            }
            Input::Down => self.down(turn),
            Input::Subscribed { address } => self.subscribed(turn, &address),
            Input::Renamed { position } => self.renamed(turn, &position),
            Input::Heard { event, .. } => self.heard(turn, event),
            Input::Foreign { event, .. } => self.foreign(turn, event),
            Input::Lease { lease, .. } => self.lease(turn, lease),
            Input::ForeignPresence { event, .. } => self.foreign_presence(turn, &event),
            Input::Word { from, word } => self.word(turn, from, word),
            Input::Resume { conn, user, resume } => self.resume(turn, conn, user, resume),
            Input::ReplayMore { conn, position } => self.replay(turn, conn, position),
            Input::Acknowledge { position } => self.acknowledge(turn, position),
            Input::Clock { .. } => {
                self.look_after(turn);
                self.look_after_latest(turn);
                self.ingest_due(turn);
                self.beat(turn);
            }
            Input::Tick { .. } => self.tick(turn),
        }
        self.tell_due(turn);
        self.questions.start(turn.out);
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

    /// Whether somebody waits for the store's answer.
    pub fn is_asking(&self) -> bool {
        self.questions.open_count() > 0
    }

    /// What the store was asked and has not answered, and reads that wait for their turn.
    pub fn asked(&self) -> (usize, usize) {
        (self.questions.open_count(), self.questions.waiting_count())
    }

    /// Streams that other instances publish to and that are followed here.
    pub fn followed_count(&self) -> usize {
        self.following.as_ref().map_or(0, |following| following.cursors.len())
    }

    /// What is remembered.
    pub fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// What became of Critical events that every instance hears.
    pub fn ingest_counts(&self) -> IngestCounts {
        self.ingest.counts()
    }

    /// How many of them are kept for a while, and the bytes of their payloads.
    pub fn ingest_kept(&self) -> (usize, usize) {
        self.ingest.kept()
    }

    /// Last values of Latest keys.
    pub fn latest(&self) -> &LatestValues {
        &self.latest.values
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Panics when the indexes contradict each other; for tests and simulations.
    pub fn check_invariants(&self) {
        self.directory.check_invariants();
        self.presence.check_invariants();
        self.questions.check_invariants();
        self.acknowledgements.check_invariants();
        self.latest.check_invariants();
        self.ingest.check_invariants();
        if let Some(following) = &self.following {
            following.check_invariants();
        }
    }

    fn disconnect(&self, turn: &mut Turn<'_>, token: Token, user: &Arc<str>) {
        let (targets, connections) = self.targets(&Target::User(user.clone()), turn.shards);
        turn.out.extend(targets.into_iter().map(|shard| Output::Disconnect { shard, user: user.clone() }));
        turn.out.push(Output::Disconnected { token, connections });
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        self.sequencer.expire(turn.now);
        if let Some(following) = &mut self.following {
            following.unproven.expire(turn.now);
            if following.up {
                self.ingest.expire(turn.now);
            }
        }
        let mut spare: Vec<usize> = turn.shards.iter().map(|shard| shard.spare).collect();
        let following = self.following.as_ref();
        let elsewhere =
            |room: &Arc<str>| following.map_or(0, |all| all.elsewhere.count(&Address::Room(room.clone())));
        self.directory.take_room_counts(&mut spare, elsewhere, |shard, room, others| {
            turn.sent(shard, 0);
            turn.out.push(Output::RoomCount { shard, room, others });
        });
        self.ask_again(turn);
        self.look_after_appended(turn);
        self.keep_heads(turn);
        self.read_again(turn);
        self.save_latest(turn);
    }

    /// Tells members who came and went. What finds no room to spare stays due; larger rooms are told nothing.
    fn announce(&mut self, turn: &mut Turn<'_>) {
        let (now, shards) = (turn.now, turn.shards);
        let mut spare: Vec<usize> = shards.iter().map(|shard| shard.spare).collect();
        let mut presence = std::mem::take(&mut self.presence);
        presence.take_due(|announcement| {
            if self.members_of(announcement.room) as usize > ANNOUNCED_ROOM_MEMBERS_MAX {
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
            targets.into_iter().for_each(|shard| turn.deliver(shard, &event));
            true
        });
        self.presence = presence;
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
    let Announcement { room, user, change, conn } = announcement;
    Event {
        target: Target::Room(Arc::clone(room)),
        kind: match change {
            Change::Joined => "room:user_joined",
            Change::Left => "room:user_left",
            Change::Online => "user:online",
            Change::Offline => "user:offline",
        }
        .into(),
        payload: room_user_payload(room, user, None).into(),
        form: Form::Payload,
        class: Class::Ephemeral,
        version: None,
        position: None,
        except: *conn,
        accepted_at_ns: now.mono_ns,
    }
}

#[cfg(test)]
mod tests;
