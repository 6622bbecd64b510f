//! One seed's run: who acts, who gets a turn, and what must hold at the end.

mod settle;
mod totals;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

pub use totals::Totals;
use usher::{
    clock::Now,
    config::Settings,
    event::{Class, Event, Form, Receipt, Refusal, RoomEntry, Target},
    hub::Input,
    ids::{ConnId, ShardId},
    mesh::Mailbox,
    route::classify::class_of,
};

use crate::{
    client::{Client, Membership, Reaction, State, id_of},
    control::{Control, Decision},
    oracle::{Claim, Entry, Oracle},
    rng::Rng,
    shard::{Fate, Shard, identity},
};

const USERS: [&str; 4] = ["ann", "bob", "cyd", "dan"];
const ROOMS: [&str; 4] = ["event:1", "event:2", "sale:1", "lobby:1"];
const SLICE: Duration = Duration::from_millis(100);

/// What can happen.
#[derive(Clone, Copy)]
enum Action {
    Connect,
    Join,
    Leave,
    Speak,
    Type,
    Login,
    Notify,
    Repeat,
    StopReading,
    Read,
    Close,
    Vanish,
    Disconnect,
    Stall,
    Wait,
}

const ACTIONS: [(usize, Action); 15] = [
    (12, Action::Connect),
    (16, Action::Join),
    (6, Action::Leave),
    (12, Action::Speak),
    (3, Action::Type),
    (2, Action::Login),
    (50, Action::Notify),
    (3, Action::Repeat),
    (4, Action::StopReading),
    (10, Action::Read),
    (3, Action::Close),
    (3, Action::Vanish),
    (1, Action::Disconnect),
    (3, Action::Stall),
    (16, Action::Wait),
];

pub struct World {
    now: Now,
    rng: Rng,
    shards: Vec<Shard>,
    control: Control,
    clients: Vec<Client>,
    by_conn: HashMap<ConnId, usize>,
    oracle: Oracle,
    /// Calls with a key, to be repeated.
    keyed: Vec<(Event, Arc<str>, Receipt)>,
    /// Users that were disconnected at some time: the order may be on its way when they return.
    revoked: HashSet<&'static str>,
    second_ends: u64,
    /// The id of the request to join, and the room, by connection and attempt.
    attempts: HashMap<(ConnId, u32), (u64, &'static str)>,
    /// `MAX_ROOM_MEMBERS`.
    room_members_max: usize,
    pub totals: Totals,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut settings = Settings::default();
        settings.limits.messages_max = 0;
        settings.limits.connections_per_user_max = 4;
        settings.limits.outbox_messages_max = 8 + rng.below(56);
        settings.limits.outbox_bytes_max = 8_192 + rng.below(32_768);
        settings.keep_alive.ping_interval = Duration::from_secs(1);
        settings.keep_alive.pong_timeout = Duration::from_secs(6);
        settings.streams.rooms = vec!["sale:*".into()];
        settings.client.rooms_presence = vec!["lobby:*".into()];
        settings.client.queue_update_interval = Duration::from_millis([0, 300, 1_000][rng.below(3)]);
        let room_members_max = if rng.one_in(2) { 2 + rng.below(4) } else { 0 };
        settings.limits.room_members_max = room_members_max as u32;
        let governed = |room: &&str| room_members_max > 0 || ["sale:1", "lobby:1"].contains(room);
        let mut oracle = Oracle::default();
        oracle.governed.extend(ROOMS.into_iter().filter(governed));
        let settings = Arc::new(settings);
        let mut shards = Vec::new();
        let mut links = Vec::new();
        for index in 0..1 + rng.below(4) {
            let (to_shard, inbox) = Mailbox::bounded(4 + rng.below(60));
            let (to_control, from_shard) = Mailbox::bounded(4 + rng.below(60));
            shards.push(Shard::new(ShardId(index as u16), &settings, inbox, to_control, rng.next()));
            links.push((to_shard, from_shard));
        }
        Self {
            now: Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 },
            control: Control::new(&settings, links, rng.next()),
            rng,
            shards,
            clients: Vec::new(),
            by_conn: HashMap::new(),
            oracle,
            keyed: Vec::new(),
            revoked: HashSet::new(),
            second_ends: 0,
            attempts: HashMap::new(),
            room_members_max,
            totals: Totals::default(),
        }
    }

    pub fn run(mut self, actions: usize) -> Totals {
        for _ in 0..actions {
            let action = self.rng.weighted(&ACTIONS);
            self.act(action);
            for _ in 0..self.rng.below(4) {
                self.control.loses_answers = self.rng.one_in(32);
                self.random_turn();
                self.check_room_sizes();
            }
            self.control.loses_answers = false;
            self.totals.lagged += u64::from(self.shards.iter().any(|shard| shard.lagging));
        }
        self.come_to_rest();
        self.check_complete();
        self.everybody_leaves();
        self.check_empty();
        self.totals.heard = self.clients.iter().map(|client| client.heard).sum();
        self.totals
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::Notify => self.notify(),
            Action::Repeat => self.repeat(),
            Action::Disconnect => self.disconnect(),
            Action::Stall => {
                let until = self.now.mono_ns + self.rng.next() % 3_000_000_000;
                let shard = self.rng.below(self.shards.len());
                self.shards[shard].stalled_until = until;
            }
            Action::Wait => {
                let slices = 1 + self.rng.below(8);
                self.pass(slices);
            }
            _ => {
                let open: Vec<usize> =
                    (0..self.clients.len()).filter(|n| self.clients[*n].is_open()).collect();
                if !open.is_empty() {
                    let client = *self.rng.pick(&open);
                    self.act_of(client, action);
                }
            }
        }
    }

    fn act_of(&mut self, client: usize, action: Action) {
        let room = *self.rng.pick(&ROOMS);
        match action {
            Action::Join => self.join(client, room),
            Action::Leave if self.clients[client].leave(room) => {
                self.ask(client, "room:leave", room);
            }
            Action::Leave => {}
            Action::Speak => {
                let id = self.oracle.fresh_id();
                let request = if self.rng.one_in(2) { format!(r#""id":{id},"#) } else { String::new() };
                self.say(client, &format!(
                    r#"{{"type":"room:message",{request}"payload":{{"room":"{room}","data":{{"id":{id}}}}}}}"#
                ));
            }
            Action::Type => {
                self.say(client, r#"{"type":"user:typing","payload":{"room":"lobby:1","typing":true}}"#);
            }
            Action::Login if self.clients[client].user.is_none() && self.clients[client].login.is_none() => {
                let user = *self.rng.pick(&USERS);
                self.clients[client].login = Some(user.into());
                self.clients[client].revoked = self.revoked.contains(user);
                self.say(client, &format!(r#"{{"type":"auth:login","payload":{{"token":"{user}"}}}}"#));
            }
            Action::StopReading => {
                self.clients[client].reading = false;
                self.clients[client].idle_at = Some(self.now.mono_ns);
            }
            Action::Read => {
                self.clients[client].reading = true;
                self.read(client);
            }
            Action::Close => {
                self.clients[client].left = true;
                self.tell(client, |conn| Input::PeerClose { conn, code: Some(1000) });
            }
            Action::Vanish => {
                // Half of them are reset, the others just fall silent.
                let silent = self.rng.one_in(2);
                self.clients[client].state = State::Gone;
                self.clients[client].reading = false;
                if !silent {
                    let conn = self.clients[client].conn;
                    self.shards[conn.shard().index()].gone(self.now, conn);
                    self.settle_fates();
                }
            }
            _ => {}
        }
    }

    fn join(&mut self, client: usize, room: &'static str) {
        let rooms = &mut self.clients[client].rooms;
        if !matches!(rooms.entry(room.to_owned()).or_insert(Membership::Joining), Membership::Leaving(_)) {
            self.ask(client, "room:join", room);
            self.totals.joins += 1;
        }
    }

    /// Something about a room that is answered.
    fn ask(&mut self, client: usize, kind: &str, room: &'static str) {
        let id = self.oracle.fresh_id();
        self.clients[client].requests.insert(id, room.to_owned());
        self.say(client, &format!(r#"{{"type":"{kind}","id":{id},"payload":{{"room":"{room}"}}}}"#));
        let shard = self.clients[client].conn.shard().index();
        for asked in self.shards[shard].joins.drain(..) {
            self.attempts.insert(asked, (id, room));
        }
    }

    fn connect(&mut self) {
        if self.clients.iter().filter(|client| client.is_alive()).count() >= 24 {
            return;
        }
        let user = self.rng.one_in(2).then(|| *self.rng.pick(&USERS));
        let shard = self.rng.below(self.shards.len());
        let capacity = 512 + self.rng.below(4_096);
        let number = self.clients.len();
        let conn = self.shards[shard].open(self.now, number, user.map(identity), capacity, false);
        let mut client = Client::new(conn);
        client.login = user.map(Into::into);
        client.revoked = user.is_some_and(|user| self.revoked.contains(user));
        self.clients.push(client);
        self.by_conn.insert(conn, number);
        self.settle_fates();
    }

    fn say(&mut self, client: usize, text: &str) {
        self.tell(client, |conn| Input::Text { conn, text });
    }

    fn tell<'a>(&mut self, client: usize, input: impl FnOnce(ConnId) -> Input<'a>) {
        let conn = self.clients[client].conn;
        self.shards[conn.shard().index()].input(self.now, input(conn));
        self.settle_fates();
    }

    // --- the backend ---

    fn notify(&mut self) {
        let id = self.oracle.fresh_id();
        let user = *self.rng.pick(&USERS);
        let room = *self.rng.pick(&ROOMS);
        let filler = "x".repeat(if self.rng.one_in(4) { self.rng.below(2_000) } else { 0 });
        let about = self.rng.below(3) as u64;
        // Odd events come with versions, some of them late.
        let late = about % 2 == 1 && id > 40 && self.rng.one_in(3);
        let value = if late { id * 10 - 395 } else { id * 10 };
        let version = (about % 2 == 1).then_some(value);
        let (kind, target, payload) = match self.rng.below(8) {
            0 | 1 => (
                "booking:updated",
                Target::User(user.into()),
                format!(r#"{{"id":{id},"filler":"{filler}"}}"#),
            ),
            2 => ("chat:note", Target::User(user.into()), format!(r#"{{"id":{id}}}"#)),
            3 => ("ticket:sold", Target::Room(room.into()), room_payload(room, id, &filler)),
            4 => ("booking:created", Target::Room(room.into()), room_payload(room, id, &filler)),
            5 => ("system:announcement", Target::Everyone, format!(r#"{{"id":{id}}}"#)),
            6 => {
                let payload = format!(r#"{{"event_id":{about},"value":{value},"filler":"{filler}"}}"#);
                ("booking:queue_position", Target::User(user.into()), payload)
            }
            _ => {
                let event =
                    about + 10 * (1 + ROOMS.iter().position(|known| *known == room).unwrap_or(0)) as u64;
                let version = (event % 2 == 1).then_some(value);
                let payload =
                    format!(r#"{{"room":"{room}","event_id":{event},"value":{value},"filler":"{filler}"}}"#);
                return self.publish(
                    event_of("ticket:availability", Target::Room(room.into()), payload, version),
                    None,
                );
            }
        };
        let version = version.filter(|_| kind == "booking:queue_position");
        let key = self.rng.one_in(4).then(|| Arc::from(format!("key {id}")));
        self.publish(event_of(kind, target, payload, version), key);
    }

    fn publish(&mut self, mut event: Event, key: Option<Arc<str>>) {
        event.accepted_at_ns = self.now.mono_ns;
        let result = self.control.publish(self.now, &self.lagging(), event.clone(), key.clone());
        self.settle_decisions();
        if let (Ok(receipt), Some(key), Class::Critical) = (result, key, &event.class)
            && receipt.position.is_some()
        {
            self.keyed.push((event, key, receipt));
        }
    }

    /// A caller that did not get its answer asks again: the same answer, and nothing is sent twice.
    fn repeat(&mut self) {
        if self.keyed.is_empty() {
            return;
        }
        let (event, key, receipt) = self.rng.pick(&self.keyed).clone();
        let again = self.control.publish(self.now, &self.lagging(), event, Some(key));
        match again {
            Ok(again) => {
                assert_eq!(again.position, receipt.position, "a repeated call gets the first answer");
                self.totals.repeated += 1;
            }
            // Only the store knows what is a repeat, and it is not asked while a mailbox is full.
            Err(refusal) => assert!(matches!(refusal, Refusal::Overloaded { .. }), "{refusal}"),
        }
        let repeated = self.control.decisions.pop();
        assert!(matches!(repeated, Some(Decision::Published(..))));
        self.settle_decisions();
    }

    fn disconnect(&mut self) {
        let user = *self.rng.pick(&USERS);
        self.revoked.insert(user);
        for client in &mut self.clients {
            let its = client.user.as_deref() == Some(user) || client.login.as_deref() == Some(user);
            client.revoked |= its;
        }
        self.control.disconnect(self.now, &self.lagging(), user);
        self.settle_decisions();
    }

    fn lagging(&self) -> Vec<bool> {
        self.shards.iter().map(|shard| shard.lagging).collect()
    }

    // --- turns ---

    fn random_turn(&mut self) {
        let mail_max = 1 + self.rng.below(16);
        match self.rng.below(3) {
            0 => {
                let shard = self.rng.below(self.shards.len());
                self.shards[shard].turn(self.now, mail_max);
                self.settle_fates();
            }
            1 => {
                self.control.turn(self.now, &self.lagging());
                self.settle_decisions();
            }
            _ if !self.clients.is_empty() => {
                let client = self.rng.below(self.clients.len());
                self.read(client);
            }
            _ => {}
        }
    }

    /// Time passes; everybody who is not stalled works meanwhile.
    fn pass(&mut self, slices: usize) {
        for _ in 0..slices {
            self.now = self.now.after(SLICE);
            for client in self.clients.iter_mut().filter(|client| !client.reading) {
                client.idle_at = Some(self.now.mono_ns);
            }
            self.round();
            if self.now.mono_ns >= self.second_ends {
                self.second_ends = self.now.mono_ns + 1_000_000_000;
                self.control.tick(self.now, &self.lagging());
            }
        }
    }

    /// Everybody has one turn; whether anybody had something to do.
    fn round(&mut self) -> bool {
        let mut busy = false;
        for shard in 0..self.shards.len() {
            busy |= self.shards[shard].turn(self.now, 256);
        }
        self.settle_fates();
        busy |= self.control.turn(self.now, &self.lagging());
        self.settle_decisions();
        for client in 0..self.clients.len() {
            busy |= self.read(client);
        }
        busy
    }

    /// The client reads everything that its kernel holds; whether there was anything.
    fn read(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        let shard = &mut self.shards[client.conn.shard().index()];
        let Some(socket) = shard.sockets.get_mut(&client.conn).filter(|_| client.reading) else {
            return false;
        };
        let bytes: Vec<u8> = socket.kernel.drain(..).collect();
        if bytes.is_empty() {
            return false;
        }
        let reactions = client.hear(&self.oracle, &bytes);
        let conn = client.conn;
        shard.writable(self.now, conn);
        for reaction in reactions {
            match reaction {
                Reaction::Pong => shard.input(self.now, Input::Pong { conn }),
                Reaction::Close(code) => {
                    *self.totals.closed.entry(code).or_default() += 1;
                    shard.input(self.now, Input::PeerClose { conn, code: Some(code) });
                }
            }
        }
        self.settle_fates();
        true
    }
}

fn room_payload(room: &str, id: u64, filler: &str) -> String {
    format!(r#"{{"room":"{room}","id":{id},"filler":"{filler}"}}"#)
}

fn event_of(kind: &str, target: Target, payload: String, version: Option<u64>) -> Event {
    let class = class_of(kind, &target, payload.as_bytes());
    Event {
        target,
        kind: kind.into(),
        payload: payload.into(),
        form: Form::Payload,
        class,
        version,
        position: None,
        except: None,
        accepted_at_ns: 0,
    }
}
