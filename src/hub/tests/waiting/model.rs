//! Goal: whatever happens to a queue and to those who wait, everybody is told the truth, soon enough, not too often, and
//! never a worse position than before. The model counts the departed one by one.

use std::collections::BTreeSet;

use super::*;
use crate::hub::tests::Random;

const PLACES: u64 = 20_000;
const STEP: Duration = Duration::from_millis(50);
const SECOND_NS: u64 = 1_000_000_000;
const OLD_MAX: Duration = Duration::from_secs(10);

/// What control knows, and what reached the hub.
#[derive(Clone, Default)]
struct Queue {
    sequence: u64,
    serving: u32,
    departed: BTreeSet<u32>,
}

impl Queue {
    fn position(&self, place: u32) -> u64 {
        if place <= self.serving {
            return 0;
        }
        let between = place - 1 - self.serving;
        1 + u64::from(between) - self.departed.range(self.serving + 1..place).count() as u64
    }
}

struct Client {
    conn: ConnId,
    place: u32,
    /// Reads only at the end.
    slow: bool,
    told: Vec<(u64, u64)>,
    /// What was true from when on.
    truth: Vec<(u64, u64)>,
    /// The sequence number of the news that `truth` knows.
    known: u64,
}

struct World {
    scene: Scene,
    random: Random,
    control: Queue,
    hub: Queue,
    clients: Vec<Client>,
    next_slot: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut scene = Scene::in_line();
        scene.tell(&whole(1, 0, &[]));
        let control = Queue { sequence: 1, ..Queue::default() };
        Self { scene, random: Random(seed), hub: control.clone(), control, clients: Vec::new(), next_slot: 0 }
    }

    /// Control changes something; the news may be lost.
    fn change(&mut self) {
        let before = self.control.sequence;
        self.control.sequence += 1;
        let mut runs = Vec::new();
        for _ in 0..self.random.below(4) {
            let first = 1 + self.random.below(PLACES) as u32;
            let length = if self.random.below(5) == 0 { 3_000 } else { 4 };
            let last = first + self.random.below(length) as u32;
            runs.push((first, last));
            self.control.departed.extend(first..=last);
        }
        if self.random.below(2) == 0 {
            self.control.serving += self.random.below(300) as u32;
        }
        if self.random.below(6) == 0 {
            return;
        }
        self.scene.tell(&news(self.control.sequence, self.control.serving, &runs));
        if self.hub.sequence == before {
            self.hub = self.control.clone();
        } else {
            assert!(self.scene.reports().iter().any(|report| matches!(report, Report::LineLost { .. })));
            if self.random.below(2) == 0 {
                self.tell_whole();
            }
        }
    }

    fn tell_whole(&mut self) {
        let Queue { sequence, serving, departed } = self.control.clone();
        let runs: Vec<_> = departed.into_iter().map(|place| (place, place)).collect();
        self.scene.tell(&whole(sequence, serving, &runs));
        self.hub = self.control.clone();
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
        self.clients.push(Client { conn, place, slow, told: Vec::new(), truth: Vec::new(), known: 0 });
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
            if std::mem::replace(&mut client.known, self.hub.sequence) == self.hub.sequence {
                continue;
            }
            let position = self.hub.position(client.place);
            if client.truth.last().is_none_or(|(_, last)| *last != position) {
                client.truth.push((now, position));
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

    /// Reads what came, and holds it against the model.
    fn read(&mut self, all: bool, seed: u64) {
        let now = self.scene.now.mono_ns;
        for client in self.clients.iter_mut() {
            if client.slow && !all {
                continue;
            }
            let frames = self.scene.read(client.conn);
            let positions = frames.iter().filter(|frame| frame.contains("queue_position"));
            for frame in positions {
                let told = number(frame, "position").unwrap();
                let (before, last) = client.told.last().copied().unwrap_or((0, u64::MAX));
                assert!(told <= last, "seed {seed}: {told} after {last} at place {}", client.place);
                let too_soon = now - before < SECOND_NS - STEP.as_nanos() as u64 && told > 0 && !client.slow;
                assert!(
                    !too_soon,
                    "seed {seed}: {client:?} was told twice within a second",
                    client = client.conn
                );
                client.told.push((now, told));
            }
            let told = client.told.last().map(|(_, told)| *told);
            let since = now.saturating_sub(OLD_MAX.as_nanos() as u64);
            let ends = client.truth.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
            let mut recent = client.truth.iter().zip(ends).filter(|(_, end)| *end >= since);
            assert!(
                recent.any(|((_, position), _)| Some(*position) == told),
                "seed {seed}: place {} was told {told:?}, which is none of {:?} since {since}",
                client.place,
                client.truth
            );
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
            let told = client.told.last().map(|(_, told)| *told);
            assert_eq!(told, Some(world.hub.position(client.place)), "seed {seed}, place {}", client.place);
        }
    }
}
