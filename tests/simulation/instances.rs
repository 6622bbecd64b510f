//! Several routers over one stream store and one bus that lose, delay, reorder and fail.
//!
//! What a connection gets of its stream follows the position that it was told, one by one, until it is told of another,
//! and each event is the one that was stored after the one that it got before. That holds in every seed, also where the
//! store comes back with less than it had and gives offsets again: whatever a caller was told is stored, each connection
//! that was there got, or was told of a gap. Where nothing was lost for good, nobody who has a
//! position is told that something was. In the end everybody has everything. Some connections stand for themselves and judge
//! the routers alone; those of [`buyers`] have a hub before them.

mod buyers;
mod rest;
mod stored;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use usher::{
    clock::Now,
    config::Settings,
    event::{Address, Class, Event, Form, Position, Resume, Target},
    ids::{ConnId, ShardId},
    route::{Input, Instances, Output, Route, ShardView, Ticket},
    stream::store::{Answer, Append, Ask, Failure},
};

use self::{
    buyers::{BUYERS, Buyer, Front},
    stored::Stored,
};
use crate::{
    reader::{Conn, token},
    rng::Rng,
    seen::Seen,
};

const USERS: [&str; 3] = ["ann", "bob", "cleo"];
const SHARDS: usize = 2;
/// Of connections without a hub, which no connection of a hub reaches.
const GENERATION: u32 = 1 << 20;

enum FromBus {
    Subscribed(Address),
    Shared(Arc<Event>),
    Renamed(Position),
}

struct Instance {
    route: Route,
    up: bool,
    lost: bool,
    interest: BTreeSet<Address>,
    /// What the bus has for it, once it is subscribed.
    subscribed: BTreeSet<Address>,
    bus: VecDeque<FromBus>,
    asks: VecDeque<(Ticket, Ask)>,
    answers: VecDeque<(Ticket, Answer)>,
    mailboxes: [VecDeque<Output>; SHARDS],
    conns: BTreeMap<ConnId, Conn>,
    next_slot: u32,
    fronts: [Front; SHARDS],
}

pub struct Cluster {
    now: Now,
    rng: Rng,
    settings: Arc<Settings>,
    stored: Stored,
    /// Nothing is lost for good: no store that forgets, mailboxes that hold everything.
    calm: bool,
    down: bool,
    /// Nothing goes wrong any more.
    quiet: bool,
    instances: Vec<Instance>,
    buyers: Vec<Buyer>,
    /// Events that a caller knows to be stored.
    answered: BTreeSet<u64>,
    token: u64,
    seen: Seen,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let calm = seed.is_multiple_of(2);
        let mut settings = Settings::default();
        settings.streams.count_max = if calm { 10_000 } else { 8 };
        settings.limits.connections_per_user_max = 0;
        settings.limits.messages_max = 0;
        (settings.limits.outbox_messages_max, settings.limits.outbox_bytes_max) = (24, 4_000);
        settings.keep_alive.ping_interval = Duration::from_secs(3_600);
        settings.keep_alive.pong_timeout = Duration::from_secs(7_200);
        let settings = Arc::new(settings);
        let instance = |_| Instance {
            route: Route::new(&settings, Instances::Several),
            up: false,
            lost: false,
            interest: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            bus: VecDeque::new(),
            asks: VecDeque::new(),
            answers: VecDeque::new(),
            mailboxes: [VecDeque::new(), VecDeque::new()],
            conns: BTreeMap::new(),
            next_slot: 0,
            fronts: std::array::from_fn(|index| Front::new(index, &settings, seed)),
        };
        let mut cluster = Self {
            instances: (0..2 + rng.below(2)).map(instance).collect(),
            buyers: BUYERS.into_iter().chain(BUYERS).map(Buyer::new).collect(),
            stored: Stored::new(&settings, seed),
            now: Now { mono_ns: 1_000_000_000, wall_ms: 0 },
            rng,
            settings,
            calm,
            down: false,
            quiet: false,
            answered: BTreeSet::new(),
            token: 0,
            seen: Seen::default(),
        };
        cluster.begin();
        cluster
    }

    pub fn run(mut self, actions: usize) -> Seen {
        for _ in 0..actions {
            let at = self.rng.below(self.instances.len());
            self.act(at);
            for _ in 0..self.rng.below(6) {
                let at = self.rng.below(self.instances.len());
                self.step(at);
            }
        }
        self.come_to_rest();
        self.check();
        self.seen
    }

    fn act(&mut self, at: usize) {
        match self.rng.below(32) {
            0..7 => self.publish(at, Class::Critical),
            7 => self.publish(at, Class::Ordered),
            8..11 => self.connect(at),
            11 => self.leave(at),
            12 => self.resume(at),
            13 => self.set_up(at, true),
            14 if self.rng.one_in(3) => self.set_up(at, false),
            15 => self.down = self.rng.one_in(3),
            16 if !self.calm && self.rng.one_in(8) => self.forget(),
            17 => self.acknowledge(at),
            18 if self.rng.one_in(8) => self.restart(),
            19 if !self.calm && self.rng.one_in(4) => self.stored.keep(),
            20..29 => self.act_as_buyer(),
            29 if self.rng.one_in(3) => (0..30).for_each(|_| self.publish(at, Class::Critical)),
            _ => self.pass(at),
        }
    }

    /// The store in memory names a stream for good only with its first event.
    fn begin(&mut self) {
        for user in USERS.into_iter().chain(BUYERS) {
            let (stream, event) = (format!("user:{user}").into(), self.event(user, Class::Critical));
            let append = Append { stream, event, memory: None, known: None, proviso: None };
            self.stored.answer(self.now, Ask::Append(append));
        }
    }

    fn publish(&mut self, at: usize, class: Class) {
        let users = if self.rng.one_in(2) { &USERS[..] } else { &BUYERS[..] };
        let user = *self.rng.pick(users);
        let event = self.event(user, class);
        let token = self.token;
        self.tell_viewed(at, |shards| Input::Publish { token, event, idempotency_key: None, shards });
    }

    fn event(&mut self, user: &str, class: Class) -> Event {
        self.token += 1;
        Event {
            target: Target::User(user.into()),
            kind: "booking:updated".into(),
            payload: self.token.to_string().into(),
            form: Form::Payload,
            class,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: 0,
        }
    }

    fn connect(&mut self, at: usize) {
        let user = *self.rng.pick(&USERS);
        let shard = ShardId(self.rng.below(SHARDS) as u16);
        let instance = &mut self.instances[at];
        instance.next_slot += 1;
        let conn = ConnId::new(shard, GENERATION, instance.next_slot);
        instance.conns.insert(conn, Conn::new(user));
        let user_connections = instance.count(shard, user);
        self.tell(at, Input::Admit { conn, user: user.into(), user_connections });
    }

    fn leave(&mut self, at: usize) {
        let Some(conn) = self.any_conn(at) else { return };
        let instance = &mut self.instances[at];
        let Some(gone) = instance.conns.remove(&conn) else { return };
        let (address, count) = (Address::User(gone.user.into()), instance.count(conn.shard(), gone.user));
        self.tell(at, Input::Members { shard: conn.shard(), address, count });
    }

    fn resume(&mut self, at: usize) {
        let Some(conn) = self.any_conn(at) else { return };
        let held = self.instances[at].conns.get_mut(&conn).expect("it was picked");
        let Some((epoch, offset)) = held.mark.clone().filter(|_| held.replay.is_none()) else { return };
        let from = offset.saturating_sub(self.rng.below(6) as u64);
        held.replay = Some((epoch.clone(), from));
        held.replayed = held.got.get(&from).copied();
        let user = held.user;
        let position = Position { stream: format!("user:{user}").into(), epoch, offset: from };
        let resume = Resume::Streams(vec![position]);
        self.tell(at, Input::Resume { conn, user: Some(user.into()), resume });
    }

    fn acknowledge(&mut self, at: usize) {
        let Some(conn) = self.any_conn(at) else { return };
        let held = &self.instances[at].conns[&conn];
        let Some((epoch, offset)) = held.mark.clone() else { return };
        let stream = format!("user:{}", held.user).into();
        self.tell(at, Input::Acknowledge { position: Position { stream, epoch, offset } });
    }

    fn any_conn(&mut self, at: usize) -> Option<ConnId> {
        let conns: Vec<ConnId> = self.instances[at].conns.keys().copied().collect();
        (!conns.is_empty()).then(|| *self.rng.pick(&conns))
    }

    /// The store comes back empty, and everybody lost the connection to it.
    fn forget(&mut self) {
        self.stored.forget(&self.settings, self.rng.next());
        self.seen.renewed += 1;
        for at in 0..self.instances.len() {
            self.set_up(at, false);
        }
    }

    /// The store comes back with what it had, or had some time ago; everybody lost the connection to it.
    fn restart(&mut self) {
        let rolls_back = !self.calm && self.rng.one_in(2);
        match self.stored.restart(rolls_back, self.rng.next()) {
            Ordering::Less => self.seen.rolled_back += 1,
            Ordering::Equal => self.seen.restarted += 1,
            Ordering::Greater => {}
        }
        for at in 0..self.instances.len() {
            self.set_up(at, false);
        }
    }

    /// The bus is reached again, or lost with everything that it had for the instance.
    fn set_up(&mut self, at: usize, up: bool) {
        let instance = &mut self.instances[at];
        if instance.up == up {
            return;
        }
        instance.up = up;
        instance.lost = false;
        instance.bus.clear();
        instance.subscribed.clear();
        self.tell(at, if up { Input::Up } else { Input::Down });
    }

    fn pass(&mut self, at: usize) {
        self.now = self.now.after(Duration::from_millis(100));
        self.tell_viewed(at, |shards| Input::Clock { shards });
        if self.quiet || self.rng.one_in(4) {
            self.tell_viewed(at, |shards| Input::Tick { shards });
        }
        self.tick_shards(at);
        // Who lost a message learns in the end that it did.
        if self.instances[at].lost && self.rng.one_in(2) {
            self.set_up(at, false);
        }
    }

    /// Something that is under way arrives.
    fn step(&mut self, at: usize) -> bool {
        match self.rng.below(6) {
            0 => self.subscribe(at),
            1 => self.hear(at),
            2 => self.ask(at),
            3 => self.answer(at),
            4 => self.hear_shard(at),
            _ => self.read(at),
        }
    }

    fn subscribe(&mut self, at: usize) -> bool {
        let instance = &mut self.instances[at];
        instance.subscribed.retain(|address| instance.interest.contains(address));
        let missing = instance.interest.difference(&instance.subscribed).next().cloned();
        let Some(address) = missing.filter(|_| instance.up) else { return false };
        instance.subscribed.insert(address.clone());
        instance.bus.push_back(FromBus::Subscribed(address));
        true
    }

    fn hear(&mut self, at: usize) -> bool {
        let (late, lost) = (!self.quiet && self.rng.one_in(4), !self.quiet && self.rng.one_in(16));
        let instance = &mut self.instances[at];
        let place = if late { self.rng.below(instance.bus.len().max(1)) } else { 0 };
        match instance.bus.remove(place) {
            None => return false,
            Some(FromBus::Subscribed(address)) => self.tell(at, Input::Subscribed { address }),
            Some(FromBus::Shared(_) | FromBus::Renamed(_)) if lost => instance.lost = true,
            Some(FromBus::Renamed(position)) => self.tell(at, Input::Renamed { position }),
            Some(FromBus::Shared(event)) => self.tell_viewed(at, |shards| Input::Heard { event, shards }),
        }
        true
    }

    fn ask(&mut self, at: usize) -> bool {
        let Some((ticket, ask)) = self.instances[at].asks.pop_front() else { return false };
        let fails = !self.quiet && (self.down || self.rng.one_in(24));
        let mut answer = Answer::Failed(Failure::Unavailable);
        // What is not known to be done may be done.
        if !fails || self.rng.one_in(3) {
            let (said, parted) = self.stored.answer(self.now, ask);
            if let Some(position) = parted {
                self.renamed(&position);
            }
            if let Answer::Appended(event) = &said {
                self.published(event.clone());
            }
            if !fails {
                answer = said;
            }
        }
        self.seen.failed += u64::from(fails);
        self.instances[at].answers.push_back((ticket, answer));
        true
    }

    /// A stream parts with what the store lost of it.
    fn renamed(&mut self, position: &Position) {
        self.seen.parted += 1;
        let (_, user) = position.stream.split_once(':').expect("it is of a user");
        let address = Address::User(user.into());
        for instance in self.instances.iter_mut().filter(|one| one.subscribed.contains(&address)) {
            instance.bus.push_back(FromBus::Renamed(position.clone()));
        }
    }

    fn published(&mut self, event: Arc<Event>) {
        self.stored.note(self.now, &event);
        let position = event.position.as_ref().expect("it was stored");
        for conn in self.instances.iter_mut().flat_map(|instance| instance.conns.values_mut()) {
            conn.is_due(&position.stream, &event);
        }
        self.buyers.iter_mut().for_each(|buyer| buyer.is_due(position, token(&event)));
        for at in 0..self.instances.len() {
            self.share(at, &event);
        }
    }

    fn share(&mut self, at: usize, event: &Arc<Event>) {
        let Target::User(user) = &event.target else { panic!("all is for users here") };
        let instance = &mut self.instances[at];
        if instance.subscribed.contains(&Address::User(user.clone())) {
            instance.bus.push_back(FromBus::Shared(event.clone()));
        }
    }

    fn answer(&mut self, at: usize) -> bool {
        let Some((ticket, answer)) = self.instances[at].answers.pop_front() else { return false };
        self.tell_viewed(at, |shards| Input::Answered { ticket, answer, shards });
        true
    }

    /// A shard takes a message from its mailbox.
    fn read(&mut self, at: usize) -> bool {
        let shard = self.rng.below(SHARDS);
        let Some(message) = self.instances[at].mailboxes[shard].pop_front() else { return false };
        let (shard, mut more) = (ShardId(shard as u16), None);
        for (id, conn) in &mut self.instances[at].conns {
            let of = (*id, shard, self.calm);
            let place = conn.read(of, &message, &self.stored.before, &mut self.seen);
            more = place.map(|place| (*id, place)).or(more);
        }
        self.mail(at, shard.index(), message);
        if let Some((conn, position)) = more {
            self.tell(at, Input::ReplayMore { conn, position });
        }
        true
    }

    fn tell(&mut self, at: usize, input: Input<'_>) {
        let mut out = Vec::new();
        self.instances[at].route.handle(self.now, input, &mut out);
        self.apply(at, out);
    }

    fn tell_viewed(&mut self, at: usize, input: impl for<'v> FnOnce(&'v [ShardView]) -> Input<'v>) {
        let capacity = if self.calm { 100_000 } else { 6 };
        let instance = &mut self.instances[at];
        let views: [ShardView; SHARDS] = std::array::from_fn(|index| {
            let free = capacity - instance.mailboxes[index].len().min(capacity);
            let lagging = instance.fronts[index].shard.lagging;
            ShardView { free, free_bytes: usize::MAX, spare: free, lagging, connections: 0 }
        });
        let mut out = Vec::new();
        instance.route.handle(self.now, input(&views), &mut out);
        self.apply(at, out);
    }

    fn apply(&mut self, at: usize, out: Vec<Output>) {
        self.instances[at].route.check_invariants();
        for output in out {
            let instance = &mut self.instances[at];
            match output {
                Output::Ask { ticket, ask } => instance.asks.push_back((ticket, ask)),
                Output::Interest { address, on: true } => assert!(instance.interest.insert(address)),
                Output::Interest { address, on: false } => assert!(instance.interest.remove(&address)),
                Output::Share { event } => {
                    for other in (0..self.instances.len()).filter(|other| *other != at) {
                        self.share(other, &event);
                    }
                }
                Output::Deliver { shard, .. } | Output::Resync { shard, .. } => {
                    instance.mailboxes[shard.index()].push_back(output);
                }
                Output::Admitted { conn, .. } | Output::Replay { conn, .. } => {
                    instance.mailboxes[conn.shard().index()].push_back(output);
                }
                Output::Answer { token, result: Ok(_) } => _ = self.answered.insert(token),
                // What instances say of themselves is judged in `crowd`.
                Output::Answer { .. } | Output::Tell { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Instance {
    fn count(&self, shard: ShardId, user: &str) -> u32 {
        self.conns.iter().filter(|(id, conn)| id.shard() == shard && conn.user == user).count() as u32
    }
}
