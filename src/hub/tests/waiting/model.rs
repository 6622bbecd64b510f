//! Goal: whatever happens to a queue and to those who wait, everybody is told the truth, soon enough, not too often, and
//! never a worse position than before. The model counts the departed one by one.

use std::collections::VecDeque;

use super::*;
use crate::hub::tests::Random;

const PLACES: u64 = 20_000;
/// At most so many places depart together.
const RUN_MAX: u64 = 3_000;
const STEP: Duration = Duration::from_millis(50);
const SECOND_NS: u64 = 1_000_000_000;
const OLD_MAX: Duration = Duration::from_secs(10);

/// What control knows.
struct Queue {
    sequence: u64,
    serving: u32,
    /// By place.
    departed: Vec<bool>,
}

impl Queue {
    /// Of each place.
    fn positions(&self) -> Vec<u64> {
        let mut next = 1;
        let mut positions = Vec::with_capacity(self.departed.len());
        for (place, departed) in self.departed.iter().enumerate() {
            if place <= self.serving as usize {
                positions.push(0);
            } else {
                positions.push(next);
                next += u64::from(!departed);
            }
        }
        positions
    }
}

struct Client {
    conn: ConnId,
    place: u32,
    /// Reads only at the end.
    slow: bool,
    /// What it was told last, and when.
    told: Option<(u64, u64)>,
    /// What was true from when on; of what ended long ago nothing.
    truth: VecDeque<(u64, u64)>,
    /// The sequence number of the news that `truth` knows.
    known: u64,
}

impl Client {
    /// Was told positions.
    fn hear(&mut self, now: u64, frames: &[String], seed: u64) {
        for frame in frames.iter().filter(|frame| frame.contains("queue_position")) {
            let told = number(frame, "position").unwrap();
            let (before, last) = self.told.unwrap_or((0, u64::MAX));
            assert!(told <= last, "seed {seed}: {told} after {last} at place {}", self.place);
            let too_soon = now - before < SECOND_NS - STEP.as_nanos() as u64 && told > 0 && !self.slow;
            assert!(!too_soon, "seed {seed}: {conn:?} was told twice within a second", conn = self.conn);
            self.told = Some((now, told));
        }
    }

    /// What it was told was true a while ago, or is.
    fn check(&mut self, now: u64, seed: u64) {
        let since = now.saturating_sub(OLD_MAX.as_nanos() as u64);
        while self.truth.get(1).is_some_and(|(from, _)| *from < since) {
            self.truth.pop_front();
        }
        let told = self.told.map(|(_, told)| told);
        assert!(
            self.truth.iter().any(|(_, position)| Some(*position) == told),
            "seed {seed}: place {} was told {told:?}, which is none of {:?} since {since}",
            self.place,
            self.truth
        );
    }
}

struct World {
    scene: Scene,
    random: Random,
    control: Queue,
    /// Of the news that reached the hub.
    sequence: u64,
    /// As these news have them, by place.
    positions: Vec<u64>,
    clients: Vec<Client>,
    next_slot: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut scene = Scene::in_line();
        scene.tell(&whole(1, 0, &[]));
        let control = Queue { sequence: 1, serving: 0, departed: vec![false; (PLACES + RUN_MAX) as usize] };
        let positions = control.positions();
        let random = Random(seed);
        Self { scene, random, control, sequence: 1, positions, clients: Vec::new(), next_slot: 0 }
    }

    /// Control changes something; the news may be lost.
    fn change(&mut self) {
        let before = self.control.sequence;
        self.control.sequence += 1;
        let mut runs = Vec::new();
        for _ in 0..self.random.below(4) {
            let first = 1 + self.random.below(PLACES) as u32;
            let length = if self.random.below(5) == 0 { RUN_MAX } else { 4 };
            let last = first + self.random.below(length) as u32;
            runs.push((first, last));
            self.control.departed[first as usize..=last as usize].fill(true);
        }
        if self.random.below(2) == 0 {
            self.control.serving += self.random.below(300) as u32;
        }
        if self.random.below(6) == 0 {
            return;
        }
        self.scene.tell(&news(self.control.sequence, self.control.serving, &runs));
        if self.sequence == before {
            self.reached();
        } else {
            assert!(self.scene.reports().iter().any(|report| matches!(report, Report::LineLost { .. })));
            if self.random.below(2) == 0 {
                self.tell_whole();
            }
        }
    }

    fn tell_whole(&mut self) {
        let Queue { sequence, serving, departed } = &self.control;
        let departed = (0..).zip(departed).filter_map(|(place, departed)| departed.then_some(place));
        let departed = Places::new(departed.collect());
        self.scene.tell(&LineUpdate { departed, ..whole(*sequence, *serving, &[]) });
        self.reached();
    }

    /// All that control knows reached the hub.
    fn reached(&mut self) {
        self.sequence = self.control.sequence;
        self.positions = self.control.positions();
    }

    fn come(&mut self) {
        // Several connections of one place now and then.
        let place = match self.clients.last() {
            Some(client) if self.random.below(4) == 0 => client.place,
            _ => {
                let range = [50, 2_000, PLACES][self.random.below(3) as usize];
                1 + self.random.below(range) as u32
            }
        };
        self.scene.take();
        let conn = self.scene.anonymous(self.next_slot);
        self.next_slot += 1;
        self.scene.seat(conn, &format!("a:{place}"), Ticket::Place(place));
        let slow = self.random.below(5) == 0;
        self.clients.push(Client { conn, place, slow, told: None, truth: VecDeque::new(), known: 0 });
    }

    fn go(&mut self) {
        if !self.clients.is_empty() {
            let index = self.random.below(self.clients.len() as u64) as usize;
            let client = self.clients.swap_remove(index);
            match self.random.below(2) {
                0 => self.scene.handle(Input::Gone { conn: client.conn }),
                _ => self.scene.handle(Input::PeerClose { conn: client.conn, code: None }),
            }
        }
    }

    /// Works out what is true now.
    fn note_truth(&mut self) {
        let now = self.scene.now.mono_ns;
        for client in self.clients.iter_mut() {
            if std::mem::replace(&mut client.known, self.sequence) == self.sequence {
                continue;
            }
            let position = self.positions[client.place as usize];
            if client.truth.back().is_none_or(|(_, last)| *last != position) {
                client.truth.push_back((now, position));
            }
        }
    }

    /// Lets time pass in steps short enough to tell when something came.
    fn pass(&mut self, time: Duration, seed: u64) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.scene.pass(STEP);
            self.read(false, seed);
        }
    }

    /// Reads what came, and holds it against the model. What the hub does not call dirty nobody reads.
    fn read(&mut self, all: bool, seed: u64) {
        let (now, dirty) = (self.scene.now.mono_ns, self.scene.dirty());
        for client in self.clients.iter_mut().filter(|client| all || !client.slow) {
            if client.slow || dirty.contains(&client.conn) {
                let frames = self.scene.read(client.conn);
                client.hear(now, &frames, seed);
            }
            client.check(now, seed);
        }
    }
}

#[test]
fn everybody_is_told_the_truth_in_time_and_never_a_worse_position() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            match world.random.below(8) {
                0..=2 if world.clients.len() < 40 => world.come(),
                3 => world.go(),
                4 | 5 => world.change(),
                _ => {
                    let time = Duration::from_millis(world.random.below(1_500));
                    world.pass(time, seed);
                }
            }
            world.note_truth();
            world.read(false, seed);
        }
        world.tell_whole();
        world.note_truth();
        world.pass(OLD_MAX, seed);
        world.read(true, seed);
        for client in &world.clients {
            let told = client.told.map(|(_, told)| told);
            let position = world.positions[client.place as usize];
            assert_eq!(told, Some(position), "seed {seed}, place {}", client.place);
        }
    }
}
