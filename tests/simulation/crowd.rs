//! Several routers that tell each other whom they have, over a bus that loses words, while instances die and come.
//!
//! Nobody is announced as coming twice without having gone in between, on any instance, and where no word is lost nobody as
//! leaving; who left a room and is still connected may be announced as online again. In the end every instance knows who is in
//! which room, and how many connections others have of whom it has itself; and nobody counts who died.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use usher::{
    clock::Now,
    config::Settings,
    event::Address,
    ids::{ConnId, ShardId},
    route::{Input, Instances, Output, Route, ShardView},
    stream::word::{InstanceId, Word},
};

use crate::rng::Rng;

const USERS: [&str; 4] = ["ann", "bob", "cleo", "dan"];
const ROOMS: [&str; 2] = ["team:1", "team:2"];
const SHARDS: usize = 2;
const VIEWS: [ShardView; SHARDS] =
    [ShardView { free: 1 << 20, free_bytes: 1 << 30, spare: 1 << 20, lagging: false, connections: 0 };
        SHARDS];

/// What happened; the test wants all of it to have happened.
#[derive(Debug, Default)]
pub struct Seen {
    joined: u64,
    left: u64,
    online: u64,
    offline: u64,
    lost: u64,
    killed: u64,
    stopped: u64,
    outages: u64,
    elsewhere: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        for (sum, one) in self.fields().into_iter().zip(Self { ..*other }.fields()) {
            *sum += *one;
        }
    }

    pub fn check_that_everything_happened(&mut self) {
        assert!(self.fields().iter().all(|count| **count > 0), "something never happened");
    }

    fn fields(&mut self) -> [&mut u64; 9] {
        let Self { joined, left, online, offline, lost, killed, stopped, outages, elsewhere } = self;
        [joined, left, online, offline, lost, killed, stopped, outages, elsewhere]
    }
}

enum FromBus {
    Subscribed(Address),
    Said(InstanceId, Word),
}

struct Instance {
    id: InstanceId,
    route: Route,
    up: bool,
    interest: BTreeSet<Address>,
    bus: VecDeque<FromBus>,
    /// Connections by user and shard.
    users: BTreeMap<(&'static str, u16), u32>,
    /// Users in rooms by shard, with one connection each.
    members: BTreeSet<(&'static str, &'static str, u16)>,
    /// What the members here were told last of a user in a room: joined, online.
    told: HashMap<(String, String, bool), bool>,
}

pub struct Crowd {
    now: Now,
    rng: Rng,
    settings: Settings,
    quiet: bool,
    /// No word is lost.
    calm: bool,
    instances: Vec<Instance>,
    ids: InstanceId,
    seen: Seen,
}

impl Crowd {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let count = 2 + rng.below(2);
        let mut settings = Settings::default();
        settings.client.rooms_presence = vec!["team:*".into()];
        let mut crowd = Self {
            now: Now { mono_ns: 1_000_000_000, wall_ms: 0 },
            rng,
            settings,
            quiet: false,
            calm: seed.is_multiple_of(2),
            instances: Vec::new(),
            ids: 0,
            seen: Seen::default(),
        };
        (0..count).for_each(|_| crowd.start());
        crowd
    }

    pub fn run(mut self, actions: usize) -> Seen {
        for _ in 0..actions {
            let at = self.rng.below(self.instances.len());
            self.act(at);
            for _ in 0..self.rng.below(8) {
                let at = self.rng.below(self.instances.len());
                self.hear(at);
            }
        }
        self.come_to_rest();
        self.check();
        self.seen
    }

    /// A new instance, with a member in every room who is there from the beginning.
    fn start(&mut self) {
        self.ids += 1;
        self.instances.push(Instance {
            id: self.ids,
            route: Route::new(&self.settings, Instances::Several),
            up: false,
            interest: BTreeSet::new(),
            bus: VecDeque::new(),
            users: BTreeMap::new(),
            members: BTreeSet::new(),
            told: HashMap::new(),
        });
        let at = self.instances.len() - 1;
        self.set_up(at, true);
        ROOMS.iter().for_each(|room| self.count_room(at, room));
    }

    fn act(&mut self, at: usize) {
        match self.rng.below(24) {
            0..5 => self.connect(at),
            5..8 => self.disconnect(at),
            8..12 => self.join(at),
            12..14 => self.leave(at),
            14 if self.rng.one_in(6) => {
                self.instances.remove(at);
                self.seen.killed += 1;
                self.start();
            }
            15 if self.rng.one_in(6) => {
                let id = self.instances.remove(at).id;
                self.say(id, &Word::Leaving);
                self.seen.stopped += 1;
                self.start();
            }
            16 if !self.calm && self.rng.one_in(3) => {
                self.set_up(at, false);
                self.seen.outages += 1;
            }
            17 => self.set_up(at, true),
            _ => {
                let tenths = 1 + self.rng.below(20) as u64;
                self.pass(Duration::from_millis(100 * tenths));
            }
        }
    }

    fn connect(&mut self, at: usize) {
        let (user, shard) = (*self.rng.pick(&USERS), self.rng.below(SHARDS) as u16);
        *self.instances[at].users.entry((user, shard)).or_default() += 1;
        self.count_user(at, user, shard);
    }

    fn disconnect(&mut self, at: usize) {
        let held: Vec<_> = self.instances[at].users.keys().copied().collect();
        let Some((user, shard)) = (!held.is_empty()).then(|| *self.rng.pick(&held)) else { return };
        let count = self.instances[at].users.get_mut(&(user, shard)).expect("it was picked");
        *count -= 1;
        if *count == 0 {
            self.instances[at].users.remove(&(user, shard));
            for room in ROOMS {
                self.set_member(at, room, user, shard, false);
            }
        }
        self.count_user(at, user, shard);
    }

    fn join(&mut self, at: usize) {
        let held: Vec<_> = self.instances[at].users.keys().copied().collect();
        let Some((user, shard)) = (!held.is_empty()).then(|| *self.rng.pick(&held)) else { return };
        let room = *self.rng.pick(&ROOMS);
        self.set_member(at, room, user, shard, true);
    }

    fn leave(&mut self, at: usize) {
        let members: Vec<_> = self.instances[at].members.iter().copied().collect();
        let Some((room, user, shard)) = (!members.is_empty()).then(|| *self.rng.pick(&members)) else {
            return;
        };
        self.set_member(at, room, user, shard, false);
    }

    fn set_member(&mut self, at: usize, room: &'static str, user: &'static str, shard: u16, present: bool) {
        let members = &mut self.instances[at].members;
        let place = (room, user, shard);
        if present != if present { members.insert(place) } else { !members.remove(&place) } {
            return;
        }
        self.count_room(at, room);
        let conn = ConnId::new(ShardId(shard), 0, 1);
        self.tell(at, Input::Present { room: room.into(), user: user.into(), present, conn });
        self.tell(at, Input::Announce { shards: &VIEWS });
    }

    fn count_user(&mut self, at: usize, user: &'static str, shard: u16) {
        let count = self.instances[at].users.get(&(user, shard)).copied().unwrap_or(0);
        let address = Address::User(user.into());
        self.tell(at, Input::Members { shard: ShardId(shard), address, count });
    }

    fn count_room(&mut self, at: usize, room: &'static str) {
        for shard in 0..SHARDS as u16 {
            let users = self.instances[at].members.iter().filter(|(of, _, on)| (*of, *on) == (room, shard));
            let count = users.count() as u32 + u32::from(shard == 0);
            let address = Address::Room(room.into());
            self.tell(at, Input::Members { shard: ShardId(shard), address, count });
        }
    }

    fn set_up(&mut self, at: usize, up: bool) {
        let instance = &mut self.instances[at];
        if instance.up == up {
            return;
        }
        instance.up = up;
        instance.bus.clear();
        if up {
            instance.bus.extend(instance.interest.iter().cloned().map(FromBus::Subscribed));
        }
        self.tell(at, if up { Input::Up } else { Input::Down });
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for at in 0..self.instances.len() {
            self.tell(at, Input::Clock { shards: &VIEWS });
            self.tell(at, Input::Announce { shards: &VIEWS });
        }
    }

    fn hear(&mut self, at: usize) -> bool {
        let lost = !self.quiet && !self.calm && self.rng.one_in(16);
        match self.instances[at].bus.pop_front() {
            None => return false,
            Some(FromBus::Subscribed(address)) => self.tell(at, Input::Subscribed { address }),
            Some(FromBus::Said(..)) if lost => self.seen.lost += 1,
            Some(FromBus::Said(from, word)) => self.tell(at, Input::Word { from, word }),
        }
        self.tell(at, Input::Announce { shards: &VIEWS });
        true
    }

    fn say(&mut self, from: InstanceId, word: &Word) {
        let address = word.address();
        for other in self.instances.iter_mut().filter(|other| other.id != from && other.up) {
            if address.as_ref().is_none_or(|address| other.interest.contains(address)) {
                other.bus.push_back(FromBus::Said(from, word.clone()));
            }
        }
    }

    fn tell(&mut self, at: usize, input: Input<'_>) {
        let mut out = Vec::new();
        self.instances[at].route.handle(self.now, input, &mut out);
        self.instances[at].route.check_invariants();
        for output in out {
            let instance = &mut self.instances[at];
            match output {
                Output::Interest { address, on: false } => _ = instance.interest.remove(&address),
                Output::Interest { address, on: true } => {
                    instance.interest.insert(address.clone());
                    if instance.up {
                        instance.bus.push_back(FromBus::Subscribed(address));
                    }
                }
                Output::Tell { word } => {
                    assert!(instance.up, "nothing is said to nobody");
                    let from = instance.id;
                    self.say(from, &word);
                }
                Output::Deliver { shard: ShardId(0), event } => {
                    let payload: serde_json::Value = serde_json::from_slice(&event.payload).expect("JSON");
                    let name = |key: &str| payload[key].as_str().expect("a name").to_owned();
                    let (count, online, comes) = match &*event.kind {
                        "room:user_joined" => (&mut self.seen.joined, false, true),
                        "room:user_left" => (&mut self.seen.left, false, false),
                        "user:online" => (&mut self.seen.online, true, true),
                        "user:offline" => (&mut self.seen.offline, true, false),
                        other => panic!("{other}"),
                    };
                    *count += 1;
                    let before = instance.told.insert((name("room"), name("user_id"), online), comes);
                    let strict = if online { false } else { comes || self.calm };
                    assert!(
                        !strict || before != Some(comes),
                        "{} {payload} twice, {}",
                        event.kind,
                        instance.id
                    );
                }
                // Streams are judged in `instances`; what shards hear of a room's count, in `world`.
                Output::Deliver { .. } | Output::Ask { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Nothing is lost any more, and time enough passes for what is not told again to be forgotten.
    fn come_to_rest(&mut self) {
        self.quiet = true;
        (0..self.instances.len()).for_each(|at| self.set_up(at, true));
        for _ in 0..5 * 310 {
            self.pass(Duration::from_secs(1));
            for at in 0..self.instances.len() {
                while self.hear(at) {}
            }
        }
    }

    fn check(&mut self) {
        let truth: BTreeSet<(&str, &str)> = self
            .instances
            .iter()
            .flat_map(|one| one.members.iter().map(|(room, user, _)| (*room, *user)))
            .collect();
        let count = |instance: &Instance, user: &str| {
            instance.users.iter().filter(|((of, _), _)| *of == user).map(|(_, count)| *count).sum::<u32>()
        };
        for instance in &self.instances {
            assert_eq!(instance.route.instances(), self.instances.len() - 1, "who lives, on {}", instance.id);
            assert_eq!(instance.route.present().collect::<BTreeSet<_>>(), truth, "on {}", instance.id);
            for user in USERS.iter().filter(|user| count(instance, user) > 0) {
                let all: u32 = self.instances.iter().map(|one| count(one, user)).sum();
                let known = instance.route.connections(&Address::User((*user).into()));
                let here = count(instance, user);
                assert_eq!((known.here, known.elsewhere), (here, all - here), "{user}");
                self.seen.elsewhere += u64::from(all > here);
            }
            for ((room, user, online), told) in &instance.told {
                let present = truth.contains(&(room.as_str(), user.as_str()));
                let right = present == *told || *online || present && !self.calm;
                assert!(right, "what was told of {user} in {room} on {}", instance.id);
            }
        }
    }
}
