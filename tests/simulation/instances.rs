//! Several routers over one stream store and one bus that lose, delay, reorder and fail.
//!
//! What a connection gets of its stream follows the position that it was told, one by one, until it is told of another,
//! and each event is the one that was stored after the one that it got before. That holds in every seed, also where the
//! store comes back with less than it had and gives offsets again: whatever a caller was told is stored, each connection
//! that was there got, or was told of a gap. Where nothing was lost for good, nobody who has a
//! position is told that something was. In the end everybody has everything.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use usher::{
    clock::Now,
    config::Settings,
    event::{Address, Class, Event, Form, Position, Resume, Target},
    ids::{ConnId, ShardId},
    route::{Input, Instances, Output, Route, ShardView, Ticket},
    stream::{
        history::{Bounds, History},
        store::{Answer, Append, Ask, Failure, Head, Page},
    },
};

use crate::{
    reader::{Conn, token},
    rng::Rng,
    seen::Seen,
};

const USERS: [&str; 3] = ["ann", "bob", "cleo"];
const SHARDS: usize = 2;

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
}

pub struct Cluster {
    now: Now,
    rng: Rng,
    settings: Settings,
    store: History,
    /// The store as it was some time ago.
    kept: History,
    /// Nothing is lost for good: no store that forgets, mailboxes that hold everything.
    calm: bool,
    down: bool,
    /// Nothing goes wrong any more.
    quiet: bool,
    instances: Vec<Instance>,
    /// What stood before each event in the store, by their payloads; absent: nobody knows.
    before: HashMap<u64, u64>,
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
        };
        let mut cluster = Self {
            instances: (0..2 + rng.below(2)).map(instance).collect(),
            store: History::new(Bounds::from(&settings.streams), seed),
            kept: History::new(Bounds::from(&settings.streams), seed),
            now: Now { mono_ns: 1_000_000_000, wall_ms: 0 },
            rng,
            settings,
            calm,
            down: false,
            quiet: false,
            before: HashMap::new(),
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
        match self.rng.below(22) {
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
            19 if !self.calm && self.rng.one_in(4) => self.kept = self.store.clone(),
            _ => self.pass(at),
        }
    }

    /// The store in memory names a stream for good only with its first event.
    fn begin(&mut self) {
        for user in USERS {
            let (stream, event) = (format!("user:{user}").into(), self.event(user, Class::Critical));
            self.store.answer(
                self.now,
                Ask::Append(Append { stream, event, memory: None, known: None, proviso: None }),
            );
        }
    }

    fn publish(&mut self, at: usize, class: Class) {
        let user = *self.rng.pick(&USERS);
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
        let conn = ConnId::new(shard, 0, instance.next_slot);
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

    /// The store comes back empty, and everybody lost the connection to it. No older copy comes back then: which of both
    /// was later, its epochs would not tell.
    fn forget(&mut self) {
        self.store = History::new(Bounds::from(&self.settings.streams), self.rng.next());
        self.kept = self.store.clone();
        self.seen.renewed += 1;
        for at in 0..self.instances.len() {
            self.set_up(at, false);
        }
    }

    /// The store comes back with what it had, or had some time ago; everybody lost the connection to it.
    fn restart(&mut self) {
        let copy = if self.calm || self.rng.one_in(2) { &self.store } else { &self.kept };
        let (had, has) = (self.store.entry_count(), copy.entry_count());
        self.store = copy.clone().restarted(self.rng.next());
        self.seen.restarted += u64::from(has == had);
        self.seen.rolled_back += u64::from(has < had);
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
        self.now = self.now.after(std::time::Duration::from_millis(100));
        self.tell_viewed(at, |shards| Input::Clock { shards });
        if self.quiet || self.rng.one_in(4) {
            self.tell_viewed(at, |shards| Input::Tick { shards });
        }
        // Who lost a message learns in the end that it did.
        if self.instances[at].lost && self.rng.one_in(2) {
            self.set_up(at, false);
        }
    }

    /// Something that is under way arrives.
    fn step(&mut self, at: usize) -> bool {
        match self.rng.below(5) {
            0 => self.subscribe(at),
            1 => self.hear(at),
            2 => self.ask(at),
            3 => self.answer(at),
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
            let said = self.answer_of_store(ask);
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

    /// What the store says, and what follows from it for all who listen.
    fn answer_of_store(&mut self, ask: Ask) -> Answer {
        let (Ask::Append(Append { stream, known, .. }) | Ask::Head { stream, known }) = &ask else {
            return self.store.answer(self.now, ask);
        };
        let (stream, saw) = (stream.clone(), known.is_some());
        let before = self.page(&stream, "", 0).head;
        let said = self.store.answer(self.now, ask);
        let Head { epoch, .. } = self.page(&stream, "", 0).head;
        if saw && epoch != before.epoch {
            self.seen.parted += 1;
            let position = Position { stream: stream.clone(), epoch, offset: before.offset };
            let address = Address::User(stream.split_once(':').expect("it is of a user").1.into());
            for instance in self.instances.iter_mut().filter(|one| one.subscribed.contains(&address)) {
                instance.bus.push_back(FromBus::Renamed(position.clone()));
            }
        }
        said
    }

    /// One entry after a place.
    fn page(&mut self, stream: &Arc<str>, epoch: &str, after: u64) -> Page {
        let ask = Ask::Read { stream: stream.clone(), epoch: epoch.into(), after, count_max: 1 };
        let Answer::Page(page) = self.store.answer(self.now, ask) else { panic!("no page") };
        page
    }

    fn published(&mut self, event: Arc<Event>) {
        let Position { stream, epoch, offset } = event.position.clone().expect("it was stored");
        if offset > 1 {
            let before = self
                .page(&stream, &epoch, offset - 2)
                .events
                .and_then(|events| events.first().map(|event| token(event)));
            self.before.extend(before.map(|before| (token(&event), before)));
        }
        for conn in self.instances.iter_mut().flat_map(|instance| instance.conns.values_mut()) {
            conn.is_due(&stream, &event);
        }
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
            more = conn.read(of, &message, &self.before, &mut self.seen).map(|place| (*id, place)).or(more);
        }
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
        let view = |mailbox: &VecDeque<Output>| {
            let free = capacity - mailbox.len().min(capacity);
            ShardView { free, free_bytes: usize::MAX, spare: free, lagging: false, connections: 0 }
        };
        let views = instance.mailboxes.each_ref().map(view);
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

    fn come_to_rest(&mut self) {
        self.quiet = true;
        for at in 0..self.instances.len() {
            if self.instances[at].lost {
                self.set_up(at, false);
            }
            self.set_up(at, true);
        }
        for _ in 0..100 {
            for at in 0..self.instances.len() {
                self.pass(at);
                // Everything that is under way arrives, and nothing fails.
                while self.subscribe(at) | self.hear(at) | self.ask(at) | self.answer(at) | self.read(at) {}
            }
        }
    }

    fn check(&mut self) {
        for (at, instance) in self.instances.iter().enumerate() {
            assert_eq!(instance.route.asked(), (0, 0), "every question was answered");
            let counts = instance.route.counts();
            self.seen.filled += counts.filled;
            self.seen.heard += counts.heard;
            for (id, conn) in &instance.conns {
                assert!(conn.admitted && conn.replay.is_none(), "{id:?} was answered");
                let (epoch, after) = conn.mark.clone().expect("it was told where the stream stands");
                let lost: Vec<_> = conn.due.intersection(&self.answered).collect();
                assert!(lost.is_empty(), "{} at {id:?} of {at} was not told of {lost:?}", conn.user);
                let stream: Arc<str> = format!("user:{}", conn.user).into();
                let ask = Ask::Read { stream, epoch, after, count_max: 1 };
                let Answer::Page(page) = self.store.answer(self.now, ask) else { panic!("no page") };
                assert_eq!(page.events, Some(Vec::new()), "{} at {id:?} of {at} has everything", conn.user);
                assert_eq!(page.head.offset, after);
            }
        }
    }
}

impl Instance {
    fn count(&self, shard: ShardId, user: &str) -> u32 {
        self.conns.iter().filter(|(id, conn)| id.shard() == shard && conn.user == user).count() as u32
    }
}
