//! What a client that was away gets: each event of a stream once and in order, or the word that some are lost.

use super::*;
use crate::{
    event::{ReplayEnd, ReplayPage, Resume},
    hub::ReplayAsk,
    limits::{REPLAY_PARKED_MAX, RESUME_WAIT_MAX},
};

/// The offsets of a page without events.
const NOTHING: [u64; 0] = [];
pub(super) const ANN: &str = "user:ann";

pub(super) fn place(stream: &str, offset: u64) -> Position {
    Position { stream: stream.into(), epoch: "e".into(), offset }
}

/// A stored event; its payload is its offset.
pub(super) fn stored(stream: &str, offset: u64) -> Event {
    let target = match stream.split_once(':').unwrap() {
        ("user", user) => Target::User(user.into()),
        (_, name) => room(name),
    };
    Event {
        class: Class::Critical,
        position: Some(place(stream, offset)),
        ..event(target, &offset.to_string())
    }
}

pub(super) fn page(
    stream: &str,
    offsets: impl IntoIterator<Item = u64>,
    end: Option<ReplayEnd>,
) -> Box<ReplayPage> {
    let events = offsets.into_iter().map(|offset| Arc::new(stored(stream, offset))).collect();
    let (stream, follows, epoch) = (stream.into(), "e".into(), "e".into());
    Box::new(ReplayPage { stream, follows, epoch, events, end })
}

pub(super) fn end(from: u64, to: u64) -> Option<ReplayEnd> {
    Some(ReplayEnd { recovered: true, from, to })
}

fn resume_request(streams: &[(&str, u64)]) -> String {
    let streams: Vec<String> = streams
        .iter()
        .map(|(stream, offset)| format!(r#"{{"stream":"{stream}","epoch":"e","offset":{offset}}}"#))
        .collect();
    format!(r#"{{"type":"system:resume","id":"r","payload":{{"streams":[{}]}}}}"#, streams.join(","))
}

pub(super) const UNACKNOWLEDGED: &str = r#"{"type":"system:resume","payload":{"since":"unacknowledged"}}"#;
pub(super) const PING: &str = r#"{"type":"system:ping"}"#;

impl Scene {
    /// Rooms `sale:*` are kept.
    pub(super) fn kept() -> Self {
        Self::with(|settings| settings.streams.rooms = vec!["sale:*".into()])
    }

    /// A user's connection that came with `?resume=wait`; the head of its stream is 7.
    pub(super) fn waiting(&mut self, slot: u32, user: &str) -> ConnId {
        let conn = id(slot);
        let identity = Some(identity(user, &[]));
        self.handle(Input::Open { conn, dialect: Dialect::Ticketing, identity, resume_waits: true });
        self.admit(conn);
        assert!(matches!(self.take()[..], [Output::Admit { .. }, Output::Upgrade { .. }]));
        assert_one(&self.read(conn), &["system:connected"]);
        conn
    }

    /// What control is asked for replays; it hears everything.
    pub(super) fn asks(&mut self) -> Vec<ReplayAsk> {
        let mut asks = Vec::new();
        self.hub.take_replay_asks(self.now, &mut self.out, &mut |ask| {
            asks.push(ask);
            true
        });
        asks
    }

    /// Control asked in vain.
    pub(super) fn ask_in_vain(&mut self) -> usize {
        let mut asked = 0;
        self.hub.take_replay_asks(self.now, &mut self.out, &mut |_| {
            asked += 1;
            false
        });
        asked
    }

    pub(super) fn resume(&mut self, conn: ConnId, streams: &[(&str, u64)]) {
        self.say(conn, &resume_request(streams));
    }

    pub(super) fn page(&mut self, conn: ConnId, page: Box<ReplayPage>) {
        self.handle(Input::Replay { conn, page });
    }

    pub(super) fn live(&mut self, stream: &str, offset: u64) {
        self.deliver(&stored(stream, offset));
    }

    /// Offsets of the events that were read, and the other messages whole.
    pub(super) fn seen(&mut self, conn: ConnId) -> Vec<String> {
        self.read(conn)
            .iter()
            .map(|frame| offset_of(frame).map_or_else(|| frame.clone(), |n| n.to_string()))
            .collect()
    }

    pub(super) fn has_rare(&self, conn: ConnId) -> bool {
        self.hub.connections.get(conn).is_some_and(|record| record.rare.is_some())
    }
}

pub(super) fn offset_of(frame: &str) -> Option<u64> {
    let payload = frame.strip_prefix(r#"{"type":"ticket:sold","payload":"#)?;
    payload.split(',').next()?.parse().ok()
}

pub(super) fn begin(conn: ConnId, user: &str, at: Position) -> ReplayAsk {
    ReplayAsk::Begin { conn, user: Some(user.into()), resume: Resume::Streams(vec![at]) }
}

pub(super) fn resumed(stream: &str, recovered: bool, from: u64, to: u64) -> String {
    format!(
        r#"{{"type":"system:resumed","payload":{{"stream":"{stream}","recovered":{recovered},"from":{from},"to":{to},"epoch":"e"}},"id":"r"}}"#
    )
}

pub(super) fn resync(stream: &str, epoch: &str, offset: u64) -> String {
    format!(
        r#"{{"type":"system:resync","payload":{{"stream":"{stream}","epoch":"{epoch}","offset":{offset}}}}}"#
    )
}

#[test]
fn what_was_missed_comes_before_what_is_live() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.live(ANN, 8);
    assert_eq!(scene.seen(conn), [""; 0], "held");
    scene.resume(conn, &[(ANN, 4)]);
    assert_eq!(scene.asks(), [begin(conn, "ann", place(ANN, 4))]);
    scene.live(ANN, 9);
    scene.page(conn, page(ANN, 5..=8, end(4, 8)));
    assert_eq!(scene.seen(conn), ["5", "6", "7", "8", &resumed(ANN, true, 4, 8), "9"]);
    scene.live(ANN, 10);
    assert_eq!(scene.seen(conn), ["10"]);
    assert_eq!(scene.asks(), []);
    assert_eq!((scene.cells.resumes[0].get(), scene.cells.replayed.get()), (1, 4));
    assert!(!scene.has_rare(conn), "an idle connection again");
}

#[test]
fn a_client_that_missed_nothing_is_told_so() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 7)]);
    scene.asks();
    scene.page(conn, page(ANN, NOTHING, end(7, 7)));
    assert_eq!(scene.seen(conn), [resumed(ANN, true, 7, 7)]);
    assert!(!scene.has_rare(conn));
}

#[test]
fn live_events_that_were_replayed_already_are_left_out() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 7)]);
    scene.asks();
    // Control has read further than it has delivered here.
    scene.page(conn, page(ANN, 8..=10, end(7, 10)));
    assert_eq!(scene.seen(conn), ["8", "9", "10", &resumed(ANN, true, 7, 10)]);
    for offset in 8..=12 {
        scene.live(ANN, offset);
    }
    assert_eq!(scene.seen(conn), ["11", "12"]);
    assert!(!scene.has_rare(conn));
}

#[test]
fn a_stream_is_held_until_the_first_message_that_is_no_resume() {
    let mut scene = Scene::new();
    let quiet = [r#"{"type":"socket:connect"}"#, r#"{"type":"auth:login","payload":{"token":"t"}}"#];
    for (slot, silent) in quiet.into_iter().enumerate() {
        let conn = scene.waiting(slot as u32, "ann");
        scene.live(ANN, 8);
        scene.say(conn, silent);
        assert_eq!(scene.seen(conn), [""; 0], "{silent}");
        scene.take();
        scene.handle(Input::Gone { conn });
    }
    let loud = [PING, "no json", r#"{"type":"system:resume","payload":{"since":"ever"}}"#];
    for (slot, other) in loud.into_iter().enumerate() {
        let conn = scene.waiting(slot as u32 + 2, "ann");
        scene.live(ANN, 8);
        scene.live(ANN, 9);
        scene.say(conn, other);
        assert_eq!(scene.seen(conn)[..2], ["8", "9"], "{other}");
        scene.live(ANN, 10);
        assert_eq!(scene.seen(conn), ["10"]);
        scene.handle(Input::Gone { conn });
    }
}

#[test]
fn a_stream_is_held_for_five_seconds() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.live(ANN, 8);
    scene.pass(RESUME_WAIT_MAX);
    assert!(!scene.seen(conn).contains(&"8".to_owned()));
    scene.pass(Duration::from_millis(200));
    assert_eq!(scene.seen(conn), ["8"]);
    assert!(!scene.has_rare(conn));
}

#[test]
fn only_a_users_stream_is_held_and_only_for_who_asked() {
    let mut scene = Scene::kept();
    let (waiting, plain) = (scene.waiting(0, "ann"), scene.user(1, "ann"));
    scene.live(ANN, 8);
    scene.deliver(&event(Target::Everyone, "0"));
    assert_eq!((scene.seen(waiting).len(), scene.seen(plain).len()), (1, 2), "what has no position goes on");
    assert!(!scene.has_rare(plain));
    let conn = id(2);
    scene.handle(Input::Open {
        conn,
        dialect: Dialect::Raw,
        identity: Some(identity("ann", &[])),
        resume_waits: true,
    });
    scene.admit(conn);
    scene.live(ANN, 9);
    assert_eq!(scene.read(conn).len(), 1, "nobody resumes in the raw dialect");
}

#[test]
fn what_is_held_is_bounded_and_read_again() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    let parked = REPLAY_PARKED_MAX as u64;
    for offset in 8..8 + parked + 5 {
        scene.live(ANN, offset);
    }
    assert_eq!(scene.cells.parked_dropped.get(), 5);
    scene.say(conn, PING);
    assert_one(&scene.read(conn), &["system:pong"]);
    assert_eq!(scene.asks(), [ReplayAsk::More { conn, after: place(ANN, 7) }]);
    scene.page(conn, page(ANN, 8..=12, end(7, 12)));
    let expected: Vec<String> = (8..8 + parked + 5).map(|n| n.to_string()).collect();
    assert_eq!(scene.seen(conn), expected, "and nobody asked for a `system:resumed`");
    assert!(!scene.has_rare(conn));
}

#[test]
fn what_is_held_is_bounded_in_bytes() {
    let mut scene = Scene::with(|settings| settings.limits.outbox_bytes_max = 1_000);
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 7)]);
    scene.asks();
    for offset in 8..=9 {
        let payload = format!(r#""{}""#, "x".repeat(900)).into();
        scene.deliver(&Event { payload, ..stored(ANN, offset) });
    }
    assert_eq!(scene.cells.parked_dropped.get(), 1, "only one fits");
    let big = Event { payload: format!(r#""{}""#, "x".repeat(1_000)).into(), ..stored(ANN, 10) };
    scene.deliver(&big);
    assert_eq!(scene.cells.parked_dropped.get(), 3, "not even that one fits");
    scene.page(conn, page(ANN, 8..=9, end(7, 9)));
    assert_eq!(scene.seen(conn), ["8", "9"]);
    assert_eq!(scene.asks(), [ReplayAsk::More { conn, after: place(ANN, 9) }]);
    scene.page(conn, page(ANN, 10..=10, end(9, 10)));
    assert_eq!(scene.seen(conn), ["10", &resumed(ANN, true, 7, 10)]);
}

#[test]
fn pages_come_as_the_outbox_empties_and_never_overflow_it() {
    let mut scene = Scene::with(|settings| settings.limits.outbox_messages_max = 8);
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 0)]);
    scene.asks();
    scene.page(conn, page(ANN, 1..=64, None));
    assert_eq!(scene.asks(), [], "the first page waits for the client");
    for n in 0..4 {
        scene.deliver(&event(room("none"), "0"));
        scene.deliver(&Event { class: Class::Ordered, ..event(Target::User("ann".into()), &format!("{n}")) });
    }
    assert_eq!(scene.take(), [], "what is live has the other half");
    let mut allowance = 200;
    while scene.hub.flush(scene.now, conn, &mut narrow(&mut allowance)) != Flushed::Drained {
        assert_eq!(scene.take(), []);
        allowance = 200;
    }
    assert_eq!(scene.asks(), [ReplayAsk::More { conn, after: place(ANN, 64) }]);
    scene.page(conn, page(ANN, 65..=66, end(64, 66)));
    assert_eq!(scene.seen(conn), ["65", "66", &resumed(ANN, true, 0, 66)]);
}

#[test]
fn one_stream_is_asked_for_at_a_time_and_each_has_its_turn() {
    let mut scene = Scene::kept();
    let conn = scene.waiting(0, "ann");
    scene.join(conn, "sale:1");
    let room = "room:sale:1";
    scene.resume(conn, &[(ANN, 3), (room, 0)]);
    assert_eq!(scene.asks(), [begin(conn, "ann", place(ANN, 3))]);
    assert_eq!(scene.asks(), []);
    scene.live(room, 65);
    scene.page(conn, page(ANN, 4..=7, end(3, 7)));
    assert_eq!(scene.asks(), [begin(conn, "ann", place(room, 0))]);
    scene.page(conn, page(room, 1..=64, end(0, 64)));
    let frames = scene.seen(conn);
    assert_eq!(frames.len(), 4 + 1 + 64 + 1 + 1);
    assert_eq!(frames[frames.len() - 2..], [resumed(room, true, 0, 64), "65".into()]);
}

#[test]
fn what_cannot_be_had_again_is_said() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 4_000)]);
    scene.asks();
    scene.live(ANN, 8);
    let lost = Some(ReplayEnd { recovered: false, from: 4_000, to: 8 });
    scene.page(conn, page(ANN, NOTHING, lost));
    assert_eq!(scene.seen(conn), [resumed(ANN, false, 4_000, 8)]);
    scene.live(ANN, 9);
    assert_eq!(scene.seen(conn), ["9"]);
    assert_eq!(scene.cells.resumes[1].get(), 1);
}

#[test]
fn another_epoch_is_told_with_the_answer() {
    let mut scene = Scene::new();
    let conn = scene.user(0, "ann");
    let request =
        r#"{"type":"system:resume","payload":{"streams":[{"stream":"user:ann","epoch":"old","offset":90}]}}"#;
    scene.say(conn, request);
    scene.asks();
    let lost = Some(ReplayEnd { recovered: false, from: 90, to: 7 });
    scene.page(conn, page(ANN, NOTHING, lost));
    assert_one(&scene.read(conn), &[r#""recovered":false,"from":90,"to":7,"epoch":"e""#]);
    scene.live(ANN, 8);
    assert_eq!(scene.seen(conn), ["8"]);
}

#[test]
fn a_page_that_does_not_follow_is_ignored() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.page(conn, page(ANN, 5..=6, end(4, 6)));
    scene.resume(conn, &[(ANN, 4)]);
    scene.page(conn, page(ANN, 5..=6, end(4, 6)));
    scene.asks();
    let other_epoch = ReplayPage { follows: "f".into(), ..*page(ANN, 5..=6, end(4, 6)) };
    let unnumbered =
        ReplayPage { events: vec![Arc::new(event(Target::Everyone, "0"))], ..*page(ANN, NOTHING, None) };
    let others = [page("room:x", 5..=6, None), page(ANN, 6..=7, None), page(ANN, 4..=5, None)];
    let ends =
        [page(ANN, NOTHING, None), page(ANN, 5..=6, end(4, 9)), Box::new(other_epoch), Box::new(unnumbered)];
    for wrong in others.into_iter().chain(ends) {
        scene.page(conn, wrong);
        assert_eq!(scene.seen(conn), [""; 0]);
    }
    scene.page(conn, page(ANN, 5..=7, end(4, 7)));
    assert_eq!(scene.seen(conn).len(), 4);
}

#[test]
fn what_a_connection_does_not_want_is_not_replayed() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.ask(conn, r#"{"type":"user:preferences","payload":{"muted":["ticket:*"]}}"#);
    scene.resume(conn, &[(ANN, 4)]);
    scene.asks();
    scene.live(ANN, 8);
    let mut page = page(ANN, 5..=7, end(4, 7));
    page.events[1] = Arc::new(Event { kind: "booking:confirmed".into(), ..stored(ANN, 6) });
    scene.page(conn, page);
    let frames = scene.read(conn);
    assert!(
        frames.len() == 2 && frames[0].contains("booking:confirmed") && frames[1].contains("resumed"),
        "{frames:?}"
    );
}

#[test]
fn a_replay_ends_where_it_meets_what_is_live() {
    let mut scene = Scene::new();
    let conn = scene.waiting(0, "ann");
    scene.resume(conn, &[(ANN, 6)]);
    scene.asks();
    let last = 8 + REPLAY_PARKED_MAX as u64;
    (8..=last).for_each(|offset| scene.live(ANN, offset));
    scene.page(conn, page(ANN, 7..=7, end(6, 7)));
    assert_eq!(scene.seen(conn), ["7"], "one that was live had no room");
    assert_eq!(scene.asks(), [ReplayAsk::More { conn, after: place(ANN, 7) }]);
    scene.page(conn, page(ANN, 8..=10, end(7, 10)));
    let frames = scene.seen(conn);
    assert_eq!(frames[..5], ["8", "9", "10", &resumed(ANN, true, 6, 10), "11"]);
    assert_eq!(frames.last(), Some(&last.to_string()));
}
