//! Users' connections that were let in before it was known how many the user has on other instances.
//!
//! Owns the newest of them, as long as the others' answers may take. Never decides how many are allowed. Bounded: where there is
//! no room, a connection counts as proven, and [`Unproven::overlooked`] counts it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{clock::Now, ids::ConnId, limits::UNPROVEN_MAX};

/// A subscription, a question and an answer; who has not told by then has nobody, or cannot be reached.
const ANSWERS_TIME_MAX: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Unproven {
    /// Of each user, in the order in which they came.
    conns: HashMap<Arc<str>, Vec<ConnId>>,
    /// Until when, in order.
    until: VecDeque<(u64, Arc<str>, ConnId)>,
    overlooked: u64,
}

impl Unproven {
    /// A connection was let in; `first`: the user had none here.
    pub(super) fn add(&mut self, now: Now, user: &Arc<str>, conn: ConnId, first: bool) {
        if !first && !self.conns.contains_key(user) {
            return;
        }
        if self.until.len() >= UNPROVEN_MAX {
            self.overlooked += 1;
            return;
        }
        self.conns.entry(user.clone()).or_default().push(conn);
        self.until.push_back((now.after(ANSWERS_TIME_MAX).mono_ns, user.clone(), conn));
    }

    /// Takes the newest of a user.
    pub(super) fn take(&mut self, user: &str) -> Option<ConnId> {
        self.conns.get_mut(user)?.pop()
    }

    /// Whoever was not answered for by now is proven.
    pub(super) fn expire(&mut self, now: Now) {
        while self.until.front().is_some_and(|(until, ..)| *until <= now.mono_ns) {
            let Some((_, user, conn)) = self.until.pop_front() else { break };
            if let Some(conns) = self.conns.get_mut(&user) {
                conns.retain(|one| *one != conn);
                if conns.is_empty() {
                    self.conns.remove(&user);
                }
            }
        }
    }

    /// Connections for which there was no room.
    pub(super) fn overlooked(&self) -> u64 {
        self.overlooked
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.until.len() <= UNPROVEN_MAX, "connections that are not proven");
        for conn in self.conns.values().flatten() {
            assert!(self.until.iter().any(|(_, _, waits)| waits == conn), "{conn:?} expires");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn at(seconds: u64) -> Now {
        Now { mono_ns: 0, wall_ms: 0 }.after(Duration::from_secs(seconds))
    }

    fn conn(n: u32) -> ConnId {
        ConnId::new(ShardId(0), 0, n)
    }

    #[test]
    fn the_newest_goes_first_and_each_once() {
        let mut unproven = Unproven::default();
        let ann = Arc::from("ann");
        unproven.add(at(0), &ann, conn(1), true);
        unproven.add(at(0), &ann, conn(2), false);
        unproven.check_invariants();
        assert_eq!([unproven.take("ann"), unproven.take("ann")], [Some(conn(2)), Some(conn(1))]);
        assert_eq!((unproven.take("ann"), unproven.take("bob")), (None, None));
    }

    #[test]
    fn after_three_seconds_all_are_proven_and_those_beside_proven_ones_at_once() {
        let mut unproven = Unproven::default();
        let ann = Arc::from("ann");
        unproven.add(at(0), &ann, conn(1), true);
        unproven.expire(at(2));
        unproven.add(at(2), &ann, conn(2), false);
        unproven.expire(at(3));
        unproven.check_invariants();
        assert_eq!((unproven.take("ann"), unproven.take("ann")), (Some(conn(2)), None));
        unproven.expire(at(5));
        unproven.add(at(5), &ann, conn(3), false);
        assert_eq!(unproven.take("ann"), None);
    }

    #[test]
    fn without_room_a_connection_counts_as_proven_and_is_counted() {
        let mut unproven = Unproven::default();
        for n in 0..UNPROVEN_MAX as u32 {
            unproven.add(at(0), &format!("user {n}").into(), conn(n), true);
        }
        unproven.add(at(0), &"ann".into(), conn(0), true);
        assert_eq!((unproven.take("ann"), unproven.overlooked()), (None, 1));
        unproven.expire(at(3));
        unproven.add(at(3), &"ann".into(), conn(0), true);
        assert_eq!(unproven.take("ann"), Some(conn(0)));
    }
}
