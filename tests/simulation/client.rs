//! One client: reads frames, keeps what it has seen, and judges it against the shadow model.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;
use usher::{
    event::{Position, Target},
    ids::ConnId,
};

use crate::oracle::{Claim, Key, Oracle};

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Asked for an upgrade, or upgraded and not yet greeted.
    Opening,
    /// Greeted.
    Open,
    /// Read a close frame with that code.
    Closed(u16),
    /// Answered with an HTTP status.
    Refused(u16),
    /// Vanished, or the socket ended.
    Gone,
}

/// A room as the client believes it to be.
#[derive(Debug)]
pub enum Membership {
    /// Asked to join, once or more.
    Joining,
    In(Claim),
    /// Asked to leave; messages may still come, after `room:joined`.
    Leaving(Option<Claim>),
}

/// What a client does at once because of what it read.
#[derive(Debug, PartialEq)]
pub enum Reaction {
    Pong,
    Close(u16),
}

pub struct Client {
    pub conn: ConnId,
    pub state: State,
    pub user: Option<Arc<str>>,
    /// Asked with `auth:login`.
    pub login: Option<Arc<str>>,
    pub reading: bool,
    /// When it last did not read, monotonic nanoseconds.
    pub idle_at: Option<u64>,
    /// It sent a close frame.
    pub left: bool,
    /// Its user was disconnected.
    pub revoked: bool,
    /// The gateway said that it drains.
    pub draining: bool,
    pub rooms: BTreeMap<String, Membership>,
    /// Rooms asked to join or leave, by the id of the request.
    pub requests: HashMap<u64, String>,
    /// What control decided about joins, by the id of the request.
    pub entered: HashMap<u64, (Claim, Option<Position>)>,
    /// Who came or left last, as told since it joined the room.
    pub told: HashMap<(String, String), bool>,
    /// It was told the same of the same user twice.
    pub told_twice: bool,
    claims: Vec<Claim>,
    /// Position that the greeting must tell.
    position: Option<Position>,
    pub seen: HashMap<Key, u64>,
    buffer: Vec<u8>,
    pub heard: u64,
}

impl Client {
    pub fn new(conn: ConnId) -> Self {
        Self {
            conn,
            state: State::Opening,
            user: None,
            login: None,
            reading: true,
            idle_at: None,
            left: false,
            revoked: false,
            draining: false,
            rooms: BTreeMap::new(),
            requests: HashMap::new(),
            entered: HashMap::new(),
            told: HashMap::new(),
            told_twice: false,
            claims: Vec::new(),
            position: None,
            seen: HashMap::new(),
            buffer: Vec::new(),
            heard: 0,
        }
    }

    pub fn is_alive(&self) -> bool {
        matches!(self.state, State::Opening | State::Open)
    }

    pub fn is_open(&self) -> bool {
        self.state == State::Open && !self.left
    }

    /// Control let the connection's user in.
    pub fn admitted(&mut self, oracle: &Oracle, user: Arc<str>, position: Position) {
        let target = Target::User(user.clone());
        assert_eq!(position.offset, oracle.head(&target), "the position is that of the last stored event");
        self.claims.push(Claim::new(oracle, target, true));
        self.user = Some(user);
        self.position = Some(position);
    }

    /// Takes bytes of the socket and says what it does because of them.
    pub fn hear(&mut self, oracle: &Oracle, bytes: &[u8]) -> Vec<Reaction> {
        self.buffer.extend_from_slice(bytes);
        let mut reactions = Vec::new();
        while let Some((op, payload)) = take_frame(&mut self.buffer) {
            assert!(self.is_alive(), "nothing follows a close frame");
            match op {
                1 => self.message(oracle, &payload),
                8 => reactions.push(self.closed(&payload)),
                9 => reactions.push(Reaction::Pong),
                10 => {}
                _ => panic!("op code {op}"),
            }
        }
        reactions
    }

    fn closed(&mut self, payload: &[u8]) -> Reaction {
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        let said = match code {
            1000 => self.left,
            1001 => self.draining,
            4401 => self.revoked,
            4408 => self.idle_at.is_some(),
            4413 => true,
            4429 | 1013 => self.login.is_some(),
            _ => false,
        };
        assert!(said, "closed with {code} for no reason");
        self.state = State::Closed(code);
        Reaction::Close(code)
    }

    fn message(&mut self, oracle: &Oracle, text: &[u8]) {
        let message: Value = serde_json::from_slice(text).expect("messages are JSON");
        let kind = message["type"].as_str().expect("messages have a type");
        let payload = &message["payload"];
        self.heard += 1;
        if self.state == State::Opening {
            assert_eq!(kind, "system:connected", "the greeting comes first");
            return self.greeted(oracle, payload);
        }
        let room = payload["room"].as_str();
        match kind {
            "room:joined" => self.joined(oracle, room.expect("a room"), &message),
            "room:left" => {
                self.rooms.remove(room.expect("a room"));
                message["id"].as_u64().and_then(|id| self.requests.remove(&id));
            }
            "system:draining" => assert!(self.draining),
            "system:error" => self.refused(&message),
            "auth:ok" | "system:ok" => {}
            "booking:queue_position" | "ticket:availability" => self.latest(oracle, payload),
            "system:announcement" => self.taken(oracle, &Target::Everyone, &message),
            "booking:updated" | "chat:note" if room.is_none() => {
                let user = self.user.clone().expect("users alone get what is for a user");
                self.taken(oracle, &Target::User(user), &message);
            }
            "room:typing" | "user:online" | "user:offline" => drop(self.claim_of(room.expect("a room"))),
            "room:user_joined" | "room:user_left" => {
                let room = room.expect("a room");
                self.claim_of(room);
                let user = payload["user_id"].as_str().expect("a user");
                let joined = kind == "room:user_joined";
                let before = self.told.insert((room.to_owned(), user.to_owned()), joined);
                self.told_twice |= before == Some(joined);
            }
            _ => self.taken(oracle, &Target::Room(room.expect("a room").into()), &message),
        }
    }

    fn greeted(&mut self, oracle: &Oracle, payload: &Value) {
        self.state = State::Open;
        self.claims.push(Claim::new(oracle, Target::Everyone, false));
        assert_eq!(payload["user_id"].as_str(), self.user.as_deref());
        if let Some(position) = &self.position {
            let told = &payload["streams"][0];
            assert_eq!(told["offset"], position.offset, "{payload}");
            assert_eq!(told["epoch"].as_str(), Some(&*position.epoch), "{payload}");
        }
    }

    fn joined(&mut self, oracle: &Oracle, room: &str, message: &Value) {
        let request = message["id"].as_u64().expect("requests to join have ids");
        assert_eq!(self.requests.remove(&request).as_deref(), Some(room), "joined on request alone");
        let decided = self.entered.remove(&request);
        assert_eq!(decided.is_some(), oracle.governed.contains(&room), "{message}");
        let told = &message["payload"];
        let claim = match decided {
            Some((claim, position)) => {
                let offset = position.as_ref().map(|position| position.offset);
                assert_eq!(told["offset"].as_u64(), offset, "{message}");
                assert_eq!(told["epoch"].as_str(), position.as_ref().map(|position| &*position.epoch));
                claim
            }
            None => Claim::new(oracle, Target::Room(room.into()), false),
        };
        let membership = self.rooms.get_mut(room).expect("joined on request alone");
        match membership {
            Membership::Joining => *membership = Membership::In(claim),
            Membership::Leaving(none @ None) => *none = Some(claim),
            Membership::In(_) | Membership::Leaving(Some(_)) => return,
        }
        self.told.retain(|(known, _), _| known != room);
    }

    /// A join or a leave was refused; whatever else was is of no interest.
    fn refused(&mut self, message: &Value) {
        let request = message["id"].as_u64();
        let Some(room) = request.and_then(|id| self.requests.remove(&id)) else { return };
        let ends = match self.rooms.get(&room) {
            Some(Membership::Joining) => !self.requests.values().any(|other| *other == room),
            Some(Membership::Leaving(_)) => message["payload"]["ref"] == "room:leave",
            _ => false,
        };
        if ends {
            self.rooms.remove(&room);
        }
    }

    /// The claim on a room that it is in.
    fn claim_of(&mut self, room: &str) -> &mut Claim {
        match self.rooms.get_mut(room) {
            Some(Membership::In(claim) | Membership::Leaving(Some(claim))) => claim,
            other => panic!("a message of {room}, which is {other:?}"),
        }
    }

    /// Whether it is in the room or on its way in, and from now on on its way out.
    pub fn leave(&mut self, room: &str) -> bool {
        let claim = match self.rooms.get(room) {
            Some(Membership::In(claim)) => Some(claim.clone()),
            Some(Membership::Joining) => None,
            Some(Membership::Leaving(_)) | None => return false,
        };
        self.rooms.insert(room.to_owned(), Membership::Leaving(claim));
        true
    }

    /// Whether it is in the room and may rely on it.
    pub fn is_in(&self, room: &str) -> bool {
        self.is_open() && matches!(self.rooms.get(room), Some(Membership::In(_)))
    }

    fn taken(&mut self, oracle: &Oracle, target: &Target, message: &Value) {
        let id = id_of(&message["payload"]);
        let claim = match target {
            Target::Room(room) => self.claim_of(room),
            _ => self
                .claims
                .iter_mut()
                .find(|claim| claim.target == *target)
                .expect("a claim since the greeting"),
        };
        claim.take(oracle, id);
        let entry = oracle.log(target).iter().find(|entry| entry.id == id).expect("it was taken");
        assert_eq!(message["offset"].as_u64(), entry.offset, "{message}");
    }

    fn latest(&mut self, oracle: &Oracle, payload: &Value) {
        let target = match payload["room"].as_str() {
            Some(room) => {
                self.claim_of(room);
                Target::Room(room.into())
            }
            None => Target::User(self.user.clone().expect("users alone get what is for a user")),
        };
        let key = (target, payload["event_id"].as_u64().expect("an event"));
        let value = payload["value"].as_u64().expect("a value");
        assert!(oracle.values(&key).contains(&value), "{value} of {key:?} was not accepted");
        let before = self.seen.insert(key.clone(), value);
        // One that was there before may come once more with an admission or a join.
        assert!(before.is_none_or(|before| before <= value), "{value} of {key:?} after {before:?}");
    }

    /// The socket ended without a close frame.
    pub fn cut_off(&mut self, now_ns: u64) {
        let slow = self.idle_at.is_some_and(|at| now_ns.saturating_sub(at) < 10_000_000_000);
        let refused = matches!(self.state, State::Closed(_) | State::Refused(_) | State::Gone);
        assert!(refused || self.left || slow, "a reading client was cut off: {:?}", self.state);
        if !refused {
            self.state = State::Gone;
        }
    }

    /// Nothing is on the way any more: everything that it has a right to has come.
    /// `shown`: whoever came in was shown what was there.
    pub fn check_complete(&self, oracle: &Oracle, shown: bool) {
        self.claims.iter().for_each(|claim| claim.check_complete(oracle, &self.seen, shown));
        for (room, membership) in &self.rooms {
            match membership {
                Membership::In(claim) => claim.check_complete(oracle, &self.seen, shown),
                other => panic!("{room} is still {other:?}"),
            }
        }
    }
}

/// Takes a frame out of what was read: its op code and payload; `None`: it is not all there.
pub fn take_frame(buffer: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (first, second) = (*buffer.first()?, *buffer.get(1)?);
    let (length, header) = match second {
        126 => (usize::from(u16::from_be_bytes(buffer.get(2..4)?.try_into().ok()?)), 4),
        127 => panic!("no message here is that long"),
        short => (usize::from(short), 2),
    };
    let payload = buffer.get(header..header + length)?.to_vec();
    buffer.drain(..header + length);
    Some((first & 0x0f, payload))
}

/// The number that every message of the simulation carries.
pub fn id_of(payload: &Value) -> u64 {
    payload["id"].as_u64().or_else(|| payload["data"]["id"].as_u64()).expect("an id")
}
