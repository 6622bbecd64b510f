//! Goal: whatever comes in whatever order, a client gets each event of its streams once and in order, or is told that
//! some are lost.
//!
//! The test is control and store: a log per stream that may go on under another name, a mailbox that delivers it live and
//! may be behind what pages read, in names too, answers to questions in any order, now and then no room to ask, and, in the
//! second half of the seeds, mailboxes without room, logs that are trimmed and streams that begin anew. The client vanishes
//! and comes back with what it has.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    Random,
    resume::{ANN, offset_of, place, stored},
    *,
};
use crate::{
    event::{ReplayEnd, ReplayPage, Resume},
    hub::ReplayAsk,
};

const STREAMS: [&str; 3] = [ANN, "room:sale:1", "room:sale:2"];

/// One stream as the store has it.
struct Log {
    epoch: u64,
    /// Epochs that go on in this one, each with its last offset.
    past: Vec<(u64, u64)>,
    /// The oldest entry that is left, minus one.
    trimmed: u64,
    head: u64,
    /// Delivered live up to here; `<= head`.
    delivered: u64,
    /// Under which name; `<= epoch`.
    named: u64,
}

impl Log {
    fn new(epoch: u64, head: u64) -> Self {
        Self { epoch, past: Vec::new(), trimmed: 0, head, delivered: head, named: epoch }
    }

    /// Up to which offset the epoch is a part of it.
    fn reach(&self, epoch: &str) -> Option<u64> {
        let ends = self.past.iter().copied().chain([(self.epoch, self.head)]);
        ends.into_iter().find(|(past, _)| past.to_string() == *epoch).map(|(_, last)| last)
    }

    /// Whether it goes on at that place.
    fn joins(&self, epoch: &str, offset: u64) -> bool {
        offset >= self.trimmed && self.reach(epoch).is_some_and(|last| offset <= last)
    }
}

struct World {
    scene: Scene,
    random: Random,
    logs: HashMap<&'static str, Log>,
    conn: ConnId,
    generation: u32,
    /// Where the client is, as it knows.
    client: HashMap<&'static str, (String, u64)>,
    joins: Vec<(u32, &'static str)>,
    asks: Vec<ReplayAsk>,
    /// Streams that were told to be lost.
    losses: usize,
    received: usize,
}

fn name(stream: &str) -> &'static str {
    STREAMS.into_iter().find(|known| *known == stream).expect("a stream of the test")
}

impl World {
    fn new(seed: u64) -> Self {
        let scene = Scene::with(|settings| {
            settings.streams.rooms = vec!["sale:*".into()];
            settings.limits.outbox_messages_max = 24;
            settings.limits.outbox_bytes_max = 3_000;
            settings.limits.messages_max = 0;
        });
        let logs = STREAMS.map(|stream| (stream, Log::new(1, 3))).into();
        let mut world = Self {
            scene,
            random: Random(seed),
            logs,
            conn: id(0),
            generation: 0,
            client: STREAMS.map(|stream| (stream, ("1".into(), 0))).into(),
            joins: Vec::new(),
            asks: Vec::new(),
            losses: 0,
            received: 0,
        };
        world.connect();
        world
    }

    /// Comes back with everything it has.
    fn connect(&mut self) {
        self.scene.handle(Input::Gone { conn: self.conn });
        self.joins.clear();
        self.generation += 1;
        self.conn = ConnId::new(ShardId(3), self.generation, 0);
        let identity = Some(identity("ann", &[]));
        let conn = self.conn;
        self.scene.handle(Input::Open { conn, dialect: Dialect::Ticketing, identity, resume_waits: true });
        let position = Some(self.delivered(ANN));
        self.scene.handle(Input::Admitted { conn, position });
        self.scene.take();
        self.deliver_some(ANN);
        self.resume(&STREAMS);
    }

    fn resume(&mut self, streams: &[&'static str]) {
        let place = |stream: &&str| {
            let (epoch, offset) = &self.client[*stream];
            format!(r#"{{"stream":"{stream}","epoch":"{epoch}","offset":{offset}}}"#)
        };
        let places = streams.iter().map(place).collect::<Vec<_>>().join(",");
        let text = format!(r#"{{"type":"system:resume","payload":{{"streams":[{places}]}}}}"#);
        self.scene.say(self.conn, &text);
    }

    /// Where live delivery is.
    fn delivered(&self, stream: &str) -> Position {
        let log = &self.logs[stream];
        Position { stream: stream.into(), epoch: log.named.to_string().into(), offset: log.delivered }
    }

    fn deliver_some(&mut self, stream: &'static str) {
        let burst = if self.random.below(4) == 0 { 90 } else { 12 };
        for _ in 0..self.random.below(burst) {
            let log = self.logs.get_mut(stream).unwrap();
            if log.delivered == log.head {
                return;
            }
            if log.reach(&log.named.to_string()) == Some(log.delivered) {
                log.named = log.epoch;
            }
            log.delivered += 1;
            let position = self.delivered(stream);
            let event = stored(stream, position.offset);
            self.scene.deliver(&Event { position: Some(position), ..event });
        }
    }

    fn answer(&mut self, ask: ReplayAsk) {
        let (conn, at, begins) = match ask {
            ReplayAsk::Begin { conn, resume: Resume::Streams(mut at), .. } => (conn, at.remove(0), true),
            ReplayAsk::Begin { .. } => panic!("nobody asks for that"),
            ReplayAsk::More { conn, after } => (conn, after, false),
        };
        let log = &self.logs[&*at.stream];
        let from = at.offset;
        let joins = log.joins(&at.epoch, from);
        let last = if joins { log.head.min(from + 1 + self.random.below(64)) } else { from };
        let epoch: Arc<str> = log.epoch.to_string().into();
        let event = |offset| {
            let position = Position { epoch: epoch.clone(), ..place(&at.stream, offset) };
            Arc::new(Event { position: Some(position), ..stored(&at.stream, offset) })
        };
        let events = (from + 1..=last).map(event).collect();
        let end = if !joins {
            Some(ReplayEnd { recovered: false, from, to: log.head })
        } else {
            let from = if begins { from } else { 0 };
            (last == log.head).then_some(ReplayEnd { recovered: true, from, to: last })
        };
        let Position { stream, epoch: follows, .. } = at;
        let page = Box::new(ReplayPage { stream, follows, epoch, events, end });
        self.scene.handle(Input::Replay { conn, page });
    }

    fn begin_anew(&mut self, stream: &'static str) {
        let log = self.logs.get_mut(stream).unwrap();
        *log = Log::new(log.epoch + 1, 2);
        self.resync(stream, true);
    }

    /// The store starts again, and nobody delivers under the new name yet.
    fn go_on(&mut self, stream: &'static str) {
        let log = self.logs.get_mut(stream).unwrap();
        log.past.push((log.epoch, log.head));
        log.epoch += 1;
    }

    fn resync(&mut self, stream: &'static str, lost: bool) {
        let position = self.delivered(stream);
        self.scene.handle(Input::Resync { position, lost });
    }

    /// The client reads so many bytes, or all there is.
    fn read(&mut self) {
        let mut bytes = Vec::new();
        self.scene.hub.flush(self.scene.now, self.conn, &mut |slices| {
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        let mut again = Vec::new();
        for frame in frames(&bytes) {
            self.understand(&frame, &mut again);
        }
        if !again.is_empty() {
            self.resume(&again);
        }
    }

    fn understand(&mut self, frame: &str, again: &mut Vec<&'static str>) {
        if frame.starts_with("close 4413") {
            return;
        }
        let json: Value = serde_json::from_str(frame).unwrap_or_else(|_| panic!("{frame}"));
        let field = |name: &str| json["payload"][name].as_str().map(String::from);
        match json["type"].as_str() {
            Some("ticket:sold") if json.get("stream").is_some() => {
                let stream = name(json["stream"].as_str().unwrap());
                let (epoch, last) = self.client.get_mut(stream).unwrap();
                let offset = json["offset"].as_u64().unwrap();
                assert_eq!(offset, *last + 1, "{stream}: after {epoch}:{last} came {frame}");
                assert_eq!(offset_of(frame), Some(offset));
                *epoch = json["epoch"].as_str().unwrap().into();
                *last += 1;
                self.received += 1;
            }
            Some("system:resumed") => {
                let stream = name(&field("stream").unwrap());
                let to = (field("epoch").unwrap(), json["payload"]["to"].as_u64().unwrap());
                if json["payload"]["recovered"] == true {
                    assert_eq!(self.client[stream].1, to.1, "{stream}");
                } else {
                    self.losses += 1;
                }
                self.client.insert(stream, to);
            }
            Some("system:resync") => {
                let to = (field("epoch").unwrap(), json["payload"]["offset"].as_u64().unwrap());
                self.losses += 1;
                self.client.insert(name(&field("stream").unwrap()), to);
            }
            Some("system:error") => {
                let message = field("message").unwrap();
                assert!(frame.contains("overloaded"), "{frame}");
                again.push(name(message.rsplit_once(": ").unwrap().0));
            }
            _ => {}
        }
    }

    fn step(&mut self, lossy: bool) {
        let stream = STREAMS[self.random.below(3) as usize];
        match self.random.below(if lossy { 25 } else { 22 }) {
            0..=3 => self.logs.get_mut(stream).unwrap().head += self.random.below(40),
            4..=7 => self.deliver_some(stream),
            8..=11 => self.read(),
            12..=14 if !self.asks.is_empty() => {
                let ask = self.asks.remove(self.random.below(self.asks.len() as u64) as usize);
                self.answer(ask);
            }
            15 if self.random.below(6) == 0 => self.connect(),
            16 => self.scene.deliver(&latest(self.random.below(3), "1")),
            17 if !self.joins.is_empty() => {
                let (attempt, stream) = self.joins.remove(0);
                let position = Some(self.delivered(stream));
                self.scene.let_in(self.conn, attempt, RoomEntry { members: 1, position });
            }
            18 if self.random.below(4) == 0 => self.go_on(stream),
            19 => self.logs.values_mut().for_each(|log| log.named = log.epoch),
            22 => {
                let log = self.logs.get_mut(stream).unwrap();
                log.trimmed = log.delivered.min(log.trimmed + self.random.below(20));
            }
            23 if self.random.below(8) == 0 => self.begin_anew(stream),
            24 if self.random.below(4) == 0 => {
                let log = self.logs.get_mut(stream).unwrap();
                log.delivered = log.head.min(log.delivered + self.random.below(20));
                self.resync(stream, false);
            }
            _ => {}
        }
        self.shell();
    }

    /// What the shard would do.
    fn shell(&mut self) {
        for output in self.scene.take() {
            match output {
                Output::Join { conn, attempt, room, .. } if conn == self.conn => {
                    self.joins.push((attempt, name(&format!("room:{room}"))));
                }
                // What came live did not fit.
                Output::Shutdown { conn } if conn == self.conn => return self.connect(),
                _ => {}
            }
        }
        let (asks, heard) = (&mut self.asks, self.random.below(10) > 0);
        self.scene.hub.take_replay_asks(self.scene.now, &mut self.scene.out, &mut |ask| {
            if heard {
                asks.push(ask);
            }
            heard
        });
    }

    /// Everything that is under way arrives.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            for stream in STREAMS {
                self.deliver_some(stream);
            }
            while let Some(ask) = self.asks.pop() {
                self.answer(ask);
            }
            while !self.joins.is_empty() {
                let (attempt, stream) = self.joins.remove(0);
                let position = Some(self.delivered(stream));
                self.scene.let_in(self.conn, attempt, RoomEntry { members: 1, position });
            }
            self.read();
            self.shell();
            let heads = |stream: &&str| self.client[*stream].1 == self.logs[*stream].head;
            if STREAMS.iter().all(heads) && self.asks.is_empty() && self.joins.is_empty() {
                return;
            }
        }
        panic!("the client never gets everything: {:?}", self.client);
    }
}

#[test]
fn each_event_of_a_stream_comes_once_and_in_order() {
    let (mut received, mut dropped, mut losses) = (0, 0, 0);
    for seed in 0..60 {
        let lossy = seed >= 30;
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step(lossy);
        }
        world.settle();
        for (stream, log) in &world.logs {
            let (epoch, offset) = &world.client[stream];
            assert!(*offset == log.head && log.joins(epoch, *offset), "{stream}, seed {seed}");
        }
        assert!(lossy || world.losses == 0, "seed {seed}: {} losses", world.losses);
        received += world.received;
        losses += world.losses;
        dropped += world.scene.cells.parked_dropped.get();
    }
    assert!(received > 10_000 && dropped > 100 && losses > 10, "{received} {dropped} {losses}");
}
