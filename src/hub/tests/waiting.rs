//! Waiting rooms as clients see them: what they are told, when, and what control learns.

mod lost;
mod model;
mod paced;

use super::*;
use crate::{
    event::Denial,
    line::{LineDenial, LinePace, LineRequest, LineState, LineUpdate, PlaceNews, Places, Seated, Ticket},
};

pub(super) const EVENT: &str = "event-1";

/// News of an open queue: sequence, serving, departed; a difference to the sequence before.
pub(super) fn news(sequence: u64, serving: u32, departed: &[(u32, u32)]) -> LineUpdate {
    LineUpdate {
        event_id: EVENT.into(),
        epoch: 1,
        after: Some(sequence - 1),
        sequence,
        departed: Places::Runs(departed.into()),
        serving,
        total: 1_000_000,
        pace: None,
        moved_at_ms: START.wall_ms,
        state: LineState::Open,
        draw: None,
    }
}

pub(super) fn whole(sequence: u64, serving: u32, departed: &[(u32, u32)]) -> LineUpdate {
    LineUpdate { after: None, ..news(sequence, serving, departed) }
}

pub(super) fn with_state(state: LineState, update: LineUpdate) -> LineUpdate {
    LineUpdate { state, ..update }
}

fn paused() -> LineState {
    LineState::Paused { reason: "the shop \"rests\"".into(), opens_at_ms: None }
}

impl Scene {
    /// Nobody has to show life for an hour.
    pub(super) fn in_line() -> Self {
        Self::with(|settings| {
            settings.keep_alive.ping_interval = Duration::from_secs(3_600);
            settings.keep_alive.pong_timeout = Duration::from_secs(7_200);
        })
    }

    pub(super) fn tell(&mut self, update: &LineUpdate) {
        self.handle(Input::Line(update));
        // As a turn of the shard does after its mail.
        self.sweep();
    }

    /// The end of a turn: ticks while one is due, and everybody dirty keeps what waits.
    pub(super) fn sweep(&mut self) {
        while self.hub.next_deadline().is_some_and(|due| due <= self.now.mono_ns) {
            self.handle(Input::Tick);
        }
    }

    /// Asks control for a place, as the hub has it.
    fn ask_place(&mut self, conn: ConnId, payload: &str) -> LineRequest {
        self.say(conn, &format!(r#"{{"type":"queue:join","id":7,"payload":{payload}}}"#));
        match self.take().pop() {
            Some(Output::JoinLine(request)) => *request,
            other => panic!("{other:?}: {:?}", self.read(conn)),
        }
    }

    /// Seats a connection as control would.
    pub(super) fn seat(&mut self, conn: ConnId, holder: &str, ticket: Ticket) {
        let asked = LineRequest {
            conn,
            request: Some("7".into()),
            event_id: EVENT.into(),
            user: None,
            place_token: None,
            stands_as: None,
        };
        self.handle(Input::Seated(Box::new(Seated {
            asked,
            holder: holder.into(),
            ticket,
            place_token: Some("token".into()),
            receipt: Some(r#"{"root":"r"}"#.into()),
            commitment: [7; 32],
            admitted: None,
        })));
    }

    /// An anonymous connection with a place; everything it was told is read.
    pub(super) fn waiter(&mut self, slot: u32, place: u32) -> ConnId {
        let conn = self.anonymous(slot);
        self.seat(conn, &format!("a:{place}"), Ticket::Place(place));
        self.read(conn);
        conn
    }

    /// What control learns of who waits.
    fn learnt(&mut self) -> Vec<(String, u32)> {
        let told = self.reports().into_iter().filter_map(|report| match report {
            Report::Waiting { holder, connections, .. } => Some((holder.to_string(), connections)),
            Report::LineLost { event_id } => Some((format!("lost {event_id}"), 0)),
            _ => None,
        });
        told.collect()
    }
}

/// The number of a field.
pub(super) fn number(frame: &str, field: &str) -> Option<u64> {
    let json: serde_json::Value = serde_json::from_str(frame).unwrap();
    json["payload"][field].as_u64()
}

/// `(position, ahead)` of the one frame there is.
#[track_caller]
fn position(frames: &[String]) -> (u64, u64) {
    assert_one(frames, &[r#"{"type":"booking:queue_position","payload":{"event_id":"event-1""#]);
    (number(&frames[0], "position").unwrap(), number(&frames[0], "ahead").unwrap())
}

#[test]
fn who_asks_without_a_word_is_told_from_others_by_the_place_it_stands_in() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conn = scene.anonymous(1);
    let event = r#"{"event_id":"event-1"}"#;
    assert!(scene.ask_place(conn, event).is_newcomer());
    scene.seat(conn, "a:5", Ticket::Place(5));
    scene.read(conn);
    let asked = scene.ask_place(conn, event);
    assert_eq!((asked.stands_as.as_deref(), asked.is_newcomer()), (Some("a:5"), false));
    assert!(scene.ask_place(conn, r#"{"event_id":"event-2"}"#).is_newcomer(), "of another queue it has none");
    let token = r#"{"event_id":"event-2","place_token":"t"}"#;
    let ann = scene.user(2, "ann");
    assert!(!scene.ask_place(conn, token).is_newcomer() && !scene.ask_place(ann, event).is_newcomer());
}

#[test]
fn a_join_goes_to_control_and_its_answer_to_the_client() {
    let mut scene = Scene::in_line();
    let conn = scene.user(1, "ann");
    scene.tell(&whole(1, 3, &[(5, 6)]));
    let asked = scene.ask_place(conn, r#"{"event_id":"event-1"}"#);
    assert_eq!((asked.conn, asked.user.as_deref(), asked.place_token), (conn, Some("ann"), None));
    scene.seat(conn, "u:ann", Ticket::Place(9));
    let frames = scene.read(conn);
    assert_eq!(
        frames[0],
        r#"{"type":"queue:joined","payload":{"event_id":"event-1","place":9,"place_token":"token","#
            .to_owned()
            + r#""receipt":{"root":"r"},"commitment":""#
            + &"07".repeat(32)
            + r#""},"id":7}"#
    );
    // 4, 7 and 8 are in front.
    assert_eq!(position(&frames[1..]), (4, 3));
    assert_eq!(number(&frames[1], "serving"), Some(3));
}

#[test]
fn nobody_is_told_of_fewer_people_than_the_own_place_makes() {
    let mut scene = Scene::in_line();
    scene.tell(&LineUpdate { total: 2, ..whole(1, 0, &[]) });
    let (first, last) = (scene.anonymous(1), scene.anonymous(2));
    scene.seat(last, "a:9", Ticket::Place(9));
    scene.seat(first, "a:1", Ticket::Place(1));
    for (conn, shown) in [(last, 9), (first, 1)] {
        let frames = scene.read(conn);
        assert_eq!(position(&frames[1..]).0, shown);
        assert_eq!(number(&frames[1], "total"), Some(9));
    }
}

#[test]
fn a_place_token_goes_to_control() {
    let mut scene = Scene::in_line();
    let conn = scene.anonymous(1);
    let asked = scene.ask_place(conn, r#"{"event_id":"e","place_token":"a.b"}"#);
    assert_eq!((asked.user, asked.place_token.as_deref()), (None, Some("a.b")));
    for payload in
        [r#"{"event_id":7}"#, r#"{"event_id":"a b"}"#, r#"{"event_id":"e","place_token":""}"#, "{}"]
    {
        let frames = scene.ask(conn, &format!(r#"{{"type":"queue:join","payload":{payload}}}"#));
        assert_one(&frames, &["invalid_payload"]);
    }
    assert_eq!(scene.take(), []);
}

#[test]
fn what_control_denies_is_told_with_the_requests_id() {
    let mut scene = Scene::in_line();
    let conn = scene.anonymous(1);
    let denials = [
        (LineDenial::Unknown, "no_queue"),
        (LineDenial::Over, "queue_over"),
        (LineDenial::Full, "queue_full"),
        (LineDenial::TooManyPlaces, "too_many_places"),
        (LineDenial::BadToken, "bad_place_token"),
        (LineDenial::NotIn, "not_in_queue"),
        (LineDenial::Overloaded { retry_after_ms: 5 }, r#""overloaded""#),
    ];
    for (denial, code) in denials {
        scene.handle(Input::LineDenied { conn, request: Some("8".into()), leave: true, denial });
        assert_one(&scene.read(conn), &[code, r#""ref":"queue:leave""#, r#""id":8"#]);
    }
}

#[test]
fn an_advance_moves_everybody_and_the_departed_move_those_behind() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let (near, far) = (scene.waiter(1, 4), scene.waiter(2, 8));
    scene.pass(Duration::from_secs(2));
    scene.tell(&news(2, 2, &[]));
    assert_eq!((position(&scene.read(near)), position(&scene.read(far))), ((2, 1), (6, 5)));
    scene.pass(Duration::from_secs(2));
    scene.tell(&news(3, 2, &[(3, 3), (5, 6)]));
    assert_eq!((position(&scene.read(near)), position(&scene.read(far))), ((1, 0), (3, 2)));
}

#[test]
fn who_is_served_is_told_at_once() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conn = scene.waiter(1, 4);
    scene.tell(&news(2, 4, &[]));
    assert_eq!(position(&scene.read(conn)), (0, 0));
    scene.tell(&news(3, 9, &[]));
    scene.pass(Duration::from_secs(20));
    assert_eq!(scene.read(conn).iter().filter(|frame| *frame != "ping").count(), 0, "once");
}

#[test]
fn the_estimate_is_a_range_and_absent_while_nobody_is_let_in() {
    let mut scene = Scene::in_line();
    let pace = Some(LinePace { low: 600, high: 1_200 });
    scene.tell(&LineUpdate { pace, ..whole(1, 0, &[]) });
    let conn = scene.anonymous(1);
    scene.seat(conn, "a:1", Ticket::Place(100));
    let frames = scene.read(conn);
    assert_eq!(number(&frames[1], "eta_seconds_low"), Some(300));
    assert_eq!(number(&frames[1], "eta_seconds_high"), Some(600));
    scene.pass(Duration::from_secs(2));
    scene.tell(&LineUpdate { pace, ..with_state(paused(), news(2, 0, &[])) });
    let frames = scene.read(conn);
    assert_eq!(
        frames[0],
        r#"{"type":"queue:paused","payload":{"event_id":"event-1","reason":"the shop \"rests\""}}"#
    );
    assert!(frames[1].contains(r#""eta_seconds_low":null"#), "{frames:?}");
}

#[test]
fn states_are_told_to_everybody_at_once_and_to_who_comes_later() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conn = scene.waiter(1, 4_000_000);
    for (sequence, state, kind) in [
        (2, paused(), "queue:paused"),
        (3, LineState::Open, "queue:resumed"),
        (4, LineState::SoldOut, "queue:sold_out"),
        (5, LineState::Open, "queue:resumed"),
    ] {
        scene.tell(&with_state(state.clone(), news(sequence, 0, &[])));
        let frames = scene.read(conn);
        assert!(frames[0].contains(kind), "{frames:?}");
        let late = scene.anonymous(2);
        scene.seat(late, "a:late", Ticket::Place(5));
        let frames = scene.read(late).concat();
        assert_eq!(frames.contains(kind), state != LineState::Open, "{frames}");
        assert_eq!(frames.contains("queue_position"), state != LineState::SoldOut, "{frames}");
        scene.handle(Input::Gone { conn: late });
    }
}

#[test]
fn news_before_the_opening_are_told_once_and_who_comes_has_them_too() {
    let mut scene = Scene::in_line();
    let early = |opens_at_ms| LineState::Early { opens_at_ms: Some(opens_at_ms) };
    let paused = |opens_at_ms| LineState::Paused { reason: "a rest".into(), opens_at_ms };
    let first = scene.anonymous(1);
    scene.seat(first, "a:1", Ticket::Entry(1));
    scene.read(first);
    let whole = with_state(early(77), whole(1, 0, &[]));
    let states = [
        (early(88), "queue:scheduled", r#"{"event_id":"event-1","opens_at":88}"#),
        (paused(Some(88)), "queue:paused", r#"{"event_id":"event-1","reason":"a rest","opens_at":88}"#),
        (paused(Some(99)), "queue:paused", r#"{"event_id":"event-1","reason":"a rest","opens_at":99}"#),
        (early(99), "queue:resumed", r#"{"event_id":"event-1","opens_at":99}"#),
    ];
    scene.tell(&whole);
    assert_one(&scene.read(first), &[r#"{"type":"queue:scheduled""#, r#""opens_at":77"#]);
    for ((state, kind, payload), sequence) in states.into_iter().zip(2..) {
        scene.tell(&with_state(state.clone(), news(sequence, 0, &[])));
        assert_eq!(scene.read(first), [format!(r#"{{"type":"{kind}","payload":{payload}}}"#)]);
        let late = scene.anonymous(2);
        scene.seat(late, "a:late", Ticket::Entry(5));
        let frames = scene.read(late);
        assert_eq!(number(&frames[0], "opens_at"), state.opens_at_ms(), "{frames:?}");
        assert_eq!(frames[1..].concat().contains("queue:paused"), kind == "queue:paused", "{frames:?}");
        scene.handle(Input::Gone { conn: late });
    }
    // The position tells that it has opened.
    scene.pass(Duration::from_secs(2));
    scene.tell(&LineUpdate { draw: Some([1].into()), ..news(6, 0, &[]) });
    assert_eq!(position(&scene.read(first)), (1, 0));
}

#[test]
fn a_slow_reader_finds_the_newest_state_and_position_alone() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conn = scene.waiter(1, 100);
    for sequence in 2..40 {
        let state = if sequence % 2 == 0 { paused() } else { LineState::Open };
        scene.tell(&with_state(state, news(sequence, sequence as u32, &[])));
        scene.pass(Duration::from_secs(2));
    }
    let frames: Vec<String> = scene.read(conn).into_iter().filter(|frame| frame != "ping").collect();
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert!(frames[0].contains("queue:resumed"), "{frames:?}");
    assert_eq!(position(&frames[1..]), (61, 60));
}

#[test]
fn a_queue_that_closes_is_forgotten_when_everybody_knows() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conns: Vec<ConnId> = (0..600).map(|slot| scene.waiter(slot, slot + 1)).collect();
    scene.handle(Input::Line(&with_state(LineState::Closed, news(2, 0, &[]))));
    scene.handle(Input::Tick);
    assert_eq!(scene.cells.waiting.get(), 600, "not all of them were told in one turn");
    scene.sweep();
    for conn in conns {
        assert_one(&scene.read(conn), &["queue:closed"]);
    }
    assert_eq!((scene.cells.waiting.get(), scene.learnt()), (0, vec![]));
    // The next queue of that event begins anew.
    scene.tell(&whole(1, 0, &[]));
    assert_eq!(scene.learnt(), []);
}

#[test]
fn places_drawn_at_the_opening_are_those_of_the_entries() {
    let mut scene = Scene::in_line();
    let early = LineState::Early { opens_at_ms: Some(77) };
    scene.tell(&with_state(early, whole(1, 0, &[])));
    let conns: Vec<ConnId> = (1..=3).map(|slot| scene.anonymous(slot)).collect();
    for (entry, conn) in (1..).zip(&conns) {
        scene.seat(*conn, &format!("a:{entry}"), Ticket::Entry(entry));
        assert_one(&scene.read(*conn), &[r#""place":null"#, r#""opens_at":77"#]);
    }
    let draw = Some([3, 1, 2].into());
    scene.tell(&LineUpdate { draw, ..news(2, 0, &[]) });
    let positions = conns.iter().map(|conn| position(&scene.read(*conn)).0);
    assert_eq!(positions.collect::<Vec<_>>(), [3, 1, 2]);
    let late = scene.anonymous(9);
    scene.seat(late, "a:1", Ticket::Entry(1));
    assert!(scene.read(late).concat().contains(r#""place":3"#), "an answer that was on its way");
}

#[test]
fn control_learns_how_many_connections_a_holder_has_until_it_listens() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conns: Vec<ConnId> = (0..3).map(|slot| scene.user(slot, "ann")).collect();
    conns.iter().for_each(|conn| scene.seat(*conn, "u:ann", Ticket::Place(4)));
    let mut refused = 0;
    scene.hub.take_reports(&mut |report| {
        refused += u32::from(matches!(report, Report::Waiting { .. }));
        !matches!(report, Report::Waiting { .. })
    });
    assert_eq!((refused, scene.hub.reports_pending()), (1, true));
    assert_eq!(scene.learnt(), [("u:ann".into(), 3)]);
    scene.handle(Input::Gone { conn: conns[0] });
    scene.handle(Input::PeerClose { conn: conns[1], code: None });
    assert_eq!(scene.learnt(), [("u:ann".into(), 1)]);
    scene.read(conns[2]);
    scene.say(conns[2], r#"{"type":"auth:logout"}"#);
    assert_eq!(scene.learnt(), [("u:ann".into(), 0)]);
    assert!(!scene.hub.reports_pending());
    scene.tell(&news(2, 1, &[]));
    assert!(!scene.read(conns[2]).concat().contains("queue_position"));
}

#[test]
fn who_waits_without_a_user_goes_on_after_a_login() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conn = scene.waiter(1, 4);
    assert_eq!(scene.learnt(), [("a:4".into(), 1)]);
    scene.say(conn, r#"{"type":"auth:login","payload":{"token":"t"}}"#);
    scene.verified(conn, Purpose::Login, Ok(identity("ann", &[])));
    assert_eq!(scene.learnt(), []);
    scene.handle(Input::Denied { conn, denial: Denial::TooManyConnections, retry_after_ms: 1 });
    assert_eq!(scene.learnt(), [("a:4".into(), 0)], "the connection was closed");
}

#[test]
fn an_answer_for_another_user_is_ignored() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let conn = scene.user(1, "ann");
    let asked = scene.ask_place(conn, r#"{"event_id":"event-1"}"#);
    scene.ask(conn, r#"{"type":"auth:logout"}"#);
    let seated = Seated {
        asked,
        holder: "u:ann".into(),
        ticket: Ticket::Place(1),
        place_token: None,
        receipt: None,
        commitment: [7; 32],
        admitted: None,
    };
    scene.handle(Input::Seated(Box::new(seated)));
    assert_eq!((scene.read(conn), scene.cells.waiting.get()), (vec![], 0));
}

#[test]
fn news_of_a_place_reach_all_its_connections_and_the_one_that_asked() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(1, 0, &[]));
    let (tab, asking) = (scene.waiter(1, 4), scene.waiter(2, 4));
    let other = scene.waiter(3, 5);
    scene.say(asking, r#"{"type":"queue:leave","id":"x","payload":{"event_id":"event-1"}}"#);
    let Some(Output::LeaveLine(asked)) = scene.take().pop() else { panic!("control was not asked") };
    assert_eq!((asked.stands_as.as_deref(), asked.place_token), (Some("a:4"), None));
    scene.learnt();
    let left = PlaceNews {
        event_id: EVENT.into(),
        holder: "a:4".into(),
        kind: "queue:left".into(),
        payload: r#"{"event_id":"event-1"}"#.into(),
        asked: Some((asked.conn, asked.request)),
        leaves: true,
    };
    let admitted = PlaceNews { kind: "queue:admitted".into(), asked: None, leaves: false, ..left.clone() };
    scene.handle(Input::PlaceNews(&admitted));
    scene.handle(Input::PlaceNews(&left));
    let both = |frames: Vec<String>| {
        let [admitted, left] = &frames[..] else { panic!("{frames:?}") };
        assert!(admitted.contains("queue:admitted") && left.contains("queue:left"));
        left.contains(r#""id":"x""#)
    };
    assert_eq!((both(scene.read(tab)), both(scene.read(asking))), (false, true));
    assert_eq!((scene.read(other), scene.learnt()), (vec![], vec![("a:4".into(), 0)]));
}

#[test]
fn a_connection_waits_in_so_many_queues_and_no_more() {
    let mut scene = Scene::in_line();
    let conn = scene.anonymous(1);
    for number in 0..16 {
        let mut asked = scene.ask_place(conn, r#"{"event_id":"e"}"#);
        asked.event_id = format!("e{number}").into();
        scene.handle(Input::Seated(Box::new(Seated {
            asked,
            holder: "a:1".into(),
            ticket: Ticket::Place(1),
            place_token: None,
            receipt: None,
            commitment: [7; 32],
            admitted: None,
        })));
    }
    let frames = scene.read(conn);
    assert_eq!((frames.len(), scene.cells.waiting.get()), (16, 16));
    let join = |event: &str| format!(r#"{{"type":"queue:join","payload":{{"event_id":"{event}"}}}}"#);
    assert_one(&scene.ask(conn, &join("one-more")), &["too_many_queues"]);
    scene.say(conn, &join("e3"));
    assert!(matches!(scene.take()[..], [Output::JoinLine(_)]), "it is in that one");
    scene.handle(Input::Gone { conn });
    assert_eq!(scene.cells.waiting.get(), 0);
}
