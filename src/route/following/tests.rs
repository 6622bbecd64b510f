use super::*;
use crate::{
    clock::Now,
    config::Settings,
    ids::ConnId,
    limits::EMPTY_STREAM_AGE_MAX,
    route::{Input, Instances, Ticket},
    stream::store::Head,
};

/// Streams whose head is asked for meanwhile.
fn heads(out: Vec<Output>) -> Vec<(Ticket, Arc<str>)> {
    let head = |output| match output {
        Output::Ask { ticket, ask: Ask::Head { stream, .. } } => Some((ticket, stream)),
        _ => None,
    };
    out.into_iter().filter_map(head).collect()
}

#[test]
fn no_stream_expires_while_somebody_follows_it() {
    let mut route = Route::new(&Settings::default(), Instances::Several);
    let mut handle = |now, input: Input<'_>| {
        let mut out = Vec::new();
        route.handle(now, input, &mut out);
        route.check_invariants();
        heads(out)
    };
    let start = Now { mono_ns: 1, wall_ms: 0 };
    handle(start, Input::Up);
    assert_eq!(handle(start, Input::Tick { shards: &[] }), []);
    let conn = ConnId::new(ShardId(0), 0, 0);
    handle(start, Input::Admit { conn, user: "ann".into(), user_connections: 1 });
    let address = Address::User("ann".into());
    let asked = handle(start, Input::Subscribed { address });
    let [(ticket, stream)] = &asked[..] else { panic!("{asked:?}") };
    let answer = || Answer::Head(Head { epoch: "1.a".into(), offset: 0, acknowledged: 0 });
    assert_eq!(handle(start, Input::Answered { ticket: *ticket, answer: answer(), shards: &[] }), []);
    for round in 1..=4 {
        let due = start.after(HEADS_INTERVAL * round);
        let before = Now { mono_ns: due.mono_ns - 1, ..due };
        assert_eq!(handle(before, Input::Tick { shards: &[] }), []);
        let asked = handle(due, Input::Tick { shards: &[] });
        let [(ticket, again)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(again, stream);
        assert_eq!(handle(due, Input::Answered { ticket: *ticket, answer: answer(), shards: &[] }), []);
    }
}

#[test]
fn a_room_in_which_nothing_was_stored_is_asked_for_often_enough_while_it_has_members() {
    let mut settings = Settings::default();
    settings.streams.rooms = vec!["event:*".into()];
    let mut route = Route::new(&settings, Instances::Several);
    let mut handle = |now, input: Input<'_>| {
        let mut out = Vec::new();
        route.handle(now, input, &mut out);
        heads(out)
    };
    let mut now = Now { mono_ns: 1, wall_ms: 0 };
    let room: Arc<str> = "event:1".into();
    handle(now, Input::Up);
    handle(now, Input::Tick { shards: &[] });
    let conn = ConnId::new(ShardId(0), 0, 0);
    handle(now, Input::Join { conn, attempt: 1, room: room.clone(), members: 1, newcomer: true });
    let mut asked = handle(now, Input::Subscribed { address: Address::Room(room) });
    // What is stored there outlives its last use for as long as everything does.
    for (offset, asks) in [(0, true), (0, true), (1, false)] {
        let [(ticket, _)] = asked[..] else { panic!("{asked:?}") };
        let answer = Answer::Head(Head { epoch: "1.a".into(), offset, acknowledged: 0 });
        handle(now, Input::Answered { ticket, answer, shards: &[] });
        now = now.after(EMPTY_ROOMS_INTERVAL);
        assert!(EMPTY_ROOMS_INTERVAL * 2 < EMPTY_STREAM_AGE_MAX);
        asked = handle(now, Input::Tick { shards: &[] });
        assert_eq!(asked.len(), usize::from(asks));
    }
}
