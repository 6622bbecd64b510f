//! Goal: whatever order things happen in, the hub's invariants hold and nothing is left behind.
//!
//! Every step ends with the check that debug builds do; the seed is in the message of a failure.

use super::{
    resume::{end, page, place, stored},
    *,
};
use crate::{
    event::{Denial, RoomDenial},
    wire::close::Close,
};

impl Random {
    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

const USERS: [&str; 3] = ["ann", "bob", "eve"];
const ROOMS: [&str; 5] = ["event:1", "team:a", "private:a", "private:b", "user:ann"];

/// A join that control was asked for may be decided at any time, or never.
fn decide(scene: &mut Scene, asked: &mut Vec<(ConnId, u32)>, random: &mut Random) {
    if asked.is_empty() {
        return;
    }
    let (conn, attempt) = asked.remove(random.below(asked.len() as u64) as usize);
    let outcome = match random.below(5) {
        0 => Err(RoomDenial::Full),
        1 => return,
        members => Ok(RoomEntry { members: members as u32, position: None }),
    };
    scene.handle(Input::JoinDecided { conn, attempt, outcome });
}

/// Something about a stream that the connection may have, or may not.
fn resume_something(scene: &mut Scene, conn: ConnId, random: &mut Random) {
    let stream = random.pick(&["user:ann", "user:bob", "room:private:a", "room:private:b"]);
    let offset = 1 + random.below(6);
    match random.below(6) {
        0 => scene.deliver(&stored(stream, offset)),
        1 => scene.handle(Input::Resync { position: place(stream, offset), lost: offset > 3 }),
        2 => scene.page(conn, page(stream, offset..=offset + random.below(3), None)),
        3 => scene.page(conn, page(stream, offset + 1..=6, end(offset, 6))),
        4 => {
            let message = r#"{"type":"system:resume","payload":{"since":"unacknowledged"}}"#;
            scene.say(conn, message);
        }
        _ => {
            let place = format!(r#"{{"stream":"{stream}","epoch":"e","offset":{offset}}}"#);
            let streams = format!(r#"{{"streams":[{place}]}}"#);
            scene.say(conn, &format!(r#"{{"type":"system:resume","payload":{streams}}}"#));
        }
    }
}

fn step(scene: &mut Scene, generations: &mut [u32], random: &mut Random) {
    let slot = random.below(generations.len() as u64) as usize;
    let conn = ConnId::new(ShardId(3), generations[slot], slot as u32);
    let user = random.pick(&USERS);
    let name = random.pick(&ROOMS);
    let someone = identity(user, &["private:a"]);
    match random.below(24) {
        0..=2 if !scene.hub.contains(conn) => {
            let identity = (random.below(3) > 0).then_some(someone);
            let dialect = if random.below(8) == 0 { Dialect::Raw } else { Dialect::Ticketing };
            scene.handle(Input::Open { conn, dialect, identity, resume_waits: random.below(2) == 0 });
        }
        0..=2 => {
            scene.handle(Input::Gone { conn });
            generations[slot] += 1;
        }
        3 | 4 => scene.admit(conn),
        5 => scene.handle(Input::Denied { conn, denial: Denial::TooManyConnections, retry_after_ms: 1 }),
        6..=8 => scene.say(conn, &format!(r#"{{"type":"room:join","payload":{{"room":"{name}"}}}}"#)),
        9 => scene.say(conn, &format!(r#"{{"type":"room:leave","payload":{{"room":"{name}"}}}}"#)),
        10 => scene.say(conn, r#"{"type":"auth:login","payload":{"token":"t"}}"#),
        11 => scene.verified(conn, Purpose::Login, Ok(someone)),
        12 => scene.say(conn, r#"{"type":"auth:logout"}"#),
        13 => scene.say(conn, r#"{"type":"user:typing","payload":{"room":"team:a","typing":true}}"#),
        14 => scene.deliver(&latest(random.below(40), "1")),
        15 => scene.deliver(&event(room(name), "1")),
        16 => scene.deliver(&Event { class: Class::Ephemeral, ..event(Target::User(user.into()), "1") }),
        17 => drop(scene.read(conn)),
        18 => match random.below(6) {
            0 => scene.handle(Input::PeerClose { conn, code: None }),
            1 => scene.handle(Input::Violation { conn, close: Close::TooBig }),
            2 => scene.handle(Input::Disconnect { user: user.into() }),
            _ => drop((scene.dirty(), scene.members())),
        },
        19 | 20 => resume_something(scene, conn, random),
        21 => drop(scene.asks()),
        _ => scene.pass(Duration::from_millis(random.below(9_000))),
    }
}

#[test]
fn no_order_of_events_breaks_the_hub() {
    for seed in 0..30 {
        let mut scene = Scene::with(|settings| {
            settings.limits.outbox_messages_max = 6;
            settings.limits.messages_max = 20;
            settings.client.rooms_presence = vec!["team:*".into()];
            settings.streams.rooms = vec!["private:*".into()];
        });
        let mut asked = Vec::new();
        let mut random = Random(seed);
        let mut generations = [0; 12];
        for _ in 0..2_000 {
            step(&mut scene, &mut generations, &mut random);
            // What the shell would do.
            for output in scene.take() {
                match output {
                    Output::Shutdown { conn } | Output::Reject { conn, .. } => {
                        scene.handle(Input::Gone { conn });
                        generations[conn.slot()] += 1;
                    }
                    Output::Join { conn, attempt, .. } => asked.push((conn, attempt)),
                    _ => {}
                }
            }
            if random.below(3) == 0 {
                decide(&mut scene, &mut asked, &mut random);
            }
        }
        for (slot, generation) in generations.iter().enumerate() {
            scene.handle(Input::Gone { conn: ConnId::new(ShardId(3), *generation, slot as u32) });
        }
        scene.members();
        let cells = &scene.cells;
        let left = [&cells.connections, &cells.connections_authenticated, &cells.users, &cells.rooms];
        assert_eq!(left.map(|cell| cell.get()), [0; 4], "seed {seed}");
        assert_eq!((scene.hub.len(), scene.hub.next_deadline()), (0, None), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut scene = Scene::new();
        let (mut random, mut generations, mut log) = (Random(7), [0; 12], Vec::new());
        for _ in 0..1_000 {
            step(&mut scene, &mut generations, &mut random);
            log.extend(scene.take());
            log.extend(scene.dirty().into_iter().map(|conn| Output::Upgrade { conn }));
        }
        log
    };
    assert_eq!(run(), run());
}
