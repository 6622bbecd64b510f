//! What a hub does, told through its inputs and outputs with a time of our own.

mod deflated;
mod delivery;
mod joining;
mod lifecycle;
mod login;
mod pacing;
mod parting;
mod random;
mod replaying;
mod requests;
mod resume;
mod resuming;
mod rooms;
mod seam;
mod timers;
mod waiting;

use std::{io, sync::Arc, time::Duration};

use super::{CustomTypes, Flushed, Hub, Input, Output, Purpose, Rejection, Report};
use crate::{
    clock::Now,
    config::settings::{Dialect, Settings},
    event::{Class, Event, Form, LatestKey, Position, RoomEntry, Target},
    identity::Identity,
    ids::{ConnId, ShardId},
    metrics::ShardCells,
};

/// A small generator of our own, so that a seed means the same run on every machine.
pub(in crate::hub) struct Random(pub(in crate::hub) u64);

impl Random {
    pub(in crate::hub) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A hub with its shell and its control played by the test.
struct Scene {
    hub: Hub,
    cells: Arc<ShardCells>,
    now: Now,
    /// What the hub asked for and no helper has taken.
    out: Vec<Output>,
}

const START: Now = Now { mono_ns: 1_000_000_000_000, wall_ms: 1_700_000_000_000 };
/// Every identity of these tests expires that long after the start, unless it says otherwise.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_custom(CustomTypes::default(), change)
    }

    fn with_custom(custom: CustomTypes, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let cells = Arc::new(ShardCells::default());
        let hub = Hub::new(ShardId(3), Arc::new(settings), Arc::clone(&cells), custom, 42);
        Self { hub, cells, now: START, out: Vec::new() }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.hub.handle(self.now, input, &mut self.out);
    }

    /// An upgraded connection without a user; its greeting is read.
    fn anonymous(&mut self, slot: u32) -> ConnId {
        let conn = id(slot);
        self.handle(Input::Open { conn, dialect: Dialect::Ticketing, identity: None, resume_waits: false });
        assert_eq!(self.take(), [Output::Upgrade { conn }]);
        self.read(conn);
        conn
    }

    /// An upgraded connection of a user; its greeting is read.
    fn user(&mut self, slot: u32, user: &str) -> ConnId {
        self.granted(slot, user, &[])
    }

    fn granted(&mut self, slot: u32, user: &str, rooms: &[&str]) -> ConnId {
        let conn = self.pending(slot, identity(user, rooms));
        self.admit(conn);
        assert_eq!(self.take(), [Output::Upgrade { conn }]);
        self.read(conn);
        conn
    }

    /// A connection that waits for control.
    fn pending(&mut self, slot: u32, identity: Identity) -> ConnId {
        let conn = id(slot);
        self.handle(Input::Open {
            conn,
            dialect: Dialect::Ticketing,
            identity: Some(identity),
            resume_waits: false,
        });
        assert!(matches!(self.take()[..], [Output::Admit { .. }]));
        conn
    }

    fn raw(&mut self, slot: u32) -> ConnId {
        let conn = id(slot);
        self.handle(Input::Open { conn, dialect: Dialect::Raw, identity: None, resume_waits: false });
        assert_eq!(self.take(), [Output::Upgrade { conn }]);
        conn
    }

    fn admit(&mut self, conn: ConnId) {
        self.handle(Input::Admitted { conn, position: Some(head(7)) });
    }

    fn verified(&mut self, conn: ConnId, purpose: Purpose, result: Result<Identity, String>) {
        let result = result.map_err(Rejection::Refused);
        self.handle(Input::Verified { conn, purpose, request: Some("1".into()), result });
    }

    fn join(&mut self, conn: ConnId, room: &str) {
        self.say(conn, &format!(r#"{{"type":"room:join","payload":{{"room":"{room}"}}}}"#));
        if let Some(Output::Join { conn, attempt, members, .. }) = self.out.last() {
            let (conn, attempt, members) = (*conn, *attempt, *members);
            self.out.pop();
            self.let_in(conn, attempt, RoomEntry { members, position: None });
        }
        self.out.pop_if(|output| matches!(output, Output::Entered { .. }));
        let answer = self.read(conn);
        assert!(answer.concat().contains("room:joined"), "{answer:?}");
    }

    /// Asks to come into a room that control decides about; the attempt.
    fn ask_to_join(&mut self, conn: ConnId, room: &str) -> u32 {
        self.say(conn, &format!(r#"{{"type":"room:join","id":"j","payload":{{"room":"{room}"}}}}"#));
        match self.take()[..] {
            [Output::Join { conn: asking, attempt, .. }] if asking == conn => attempt,
            ref other => panic!("{other:?}"),
        }
    }

    fn let_in(&mut self, conn: ConnId, attempt: u32, entry: RoomEntry) {
        self.handle(Input::JoinDecided { conn, attempt, outcome: Ok(entry) });
    }

    fn say(&mut self, conn: ConnId, text: &str) {
        self.handle(Input::Text { conn, text });
    }

    /// Says something and gives what comes back.
    fn ask(&mut self, conn: ConnId, text: &str) -> Vec<String> {
        self.say(conn, text);
        self.read(conn)
    }

    /// What the hub asked for since the last time.
    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Everything that waits for a connection, by frames: texts as they are, `ping`, `pong …`, `close 4401 …`.
    fn read(&mut self, conn: ConnId) -> Vec<String> {
        let mut bytes = Vec::new();
        let flushed = self.hub.flush(self.now, conn, &mut |slices| {
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert_eq!(flushed, Flushed::Drained);
        frames(&bytes)
    }

    /// Everybody who has something waiting.
    fn dirty(&mut self) -> Vec<ConnId> {
        let mut conns = Vec::new();
        self.hub.take_dirty(&mut conns);
        conns
    }

    fn deliver(&mut self, event: &Event) {
        self.handle(Input::Deliver(&Arc::new(event.clone())));
    }

    /// Lets time pass, with ticks where the hub wants them.
    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(due) = self.hub.next_deadline().filter(|due| *due <= end.mono_ns) {
            let step = Duration::from_nanos(due.saturating_sub(self.now.mono_ns));
            self.now = self.now.after(step);
            self.handle(Input::Tick);
        }
        self.now = end;
        self.handle(Input::Tick);
    }

    /// What control would be told.
    fn reports(&mut self) -> Vec<Report> {
        let mut list = Vec::new();
        self.hub.take_reports(&mut |report| {
            list.push(report);
            true
        });
        list
    }

    /// The counts that control would be told.
    fn members(&mut self) -> Vec<(String, u32)> {
        let counts = self.reports().into_iter().filter_map(|report| match report {
            Report::Members { address, count } => Some((format!("{address:?}"), count)),
            _ => None,
        });
        counts.collect()
    }

    /// Has a connection answer pings, or anything that shows life.
    fn show_life(&mut self, conn: ConnId) {
        self.handle(Input::Pong { conn });
    }
}

fn id(slot: u32) -> ConnId {
    ConnId::new(ShardId(3), 0, slot)
}

fn identity(user: &str, rooms: &[&str]) -> Identity {
    Identity {
        user: user.into(),
        expires_at_ms: START.wall_ms + TOKEN_LIFE.as_millis() as u64,
        rooms: rooms.iter().map(|glob| Box::from(*glob)).collect(),
    }
}

fn head(offset: u64) -> Position {
    Position { stream: "user:ann".into(), epoch: "e".into(), offset }
}

fn event(target: Target, payload: &str) -> Event {
    Event {
        target,
        kind: "ticket:sold".into(),
        payload: payload.to_owned().into(),
        form: Form::Payload,
        class: Class::Ordered,
        version: None,
        position: None,
        except: None,
        accepted_at_ns: START.mono_ns,
    }
}

fn latest(key: u64, payload: &str) -> Event {
    Event { class: Class::Latest(LatestKey(key)), ..event(Target::Everyone, payload) }
}

fn room(name: &str) -> Target {
    Target::Room(name.into())
}

/// Splits the bytes that a client would read into frames, as text.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut list = Vec::new();
    while let [first, second, ..] = *bytes {
        let (start, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize),
            short => (2, usize::from(short)),
        };
        let payload = &bytes[start..start + length];
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        list.push(match first {
            0x81 => text(payload),
            0x82 => format!("binary {payload:?}"),
            0x88 => format!("close {} {}", u16::from_be_bytes([payload[0], payload[1]]), text(&payload[2..])),
            0x89 => "ping".to_owned(),
            0x8A => format!("pong {}", text(payload)),
            other => panic!("a frame that begins with {other:#x}"),
        });
        bytes = &bytes[start + length..];
    }
    assert!(bytes.is_empty(), "a frame is cut off");
    list
}

/// Whether exactly one frame came and has all these parts.
#[track_caller]
fn assert_one(frames: &[String], parts: &[&str]) {
    let [frame] = frames else { panic!("not one frame: {frames:?}") };
    for part in parts {
        assert!(frame.contains(part), "{frame} lacks {part}");
    }
}

/// A socket that takes no more than so many bytes in all.
fn narrow(room: &mut usize) -> impl FnMut(&[io::IoSlice<'_>]) -> io::Result<usize> {
    move |slices| {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = offered.min(*room);
        *room -= taken;
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}
