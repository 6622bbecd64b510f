//! How many connections and members other instances hold of what matters here.
//!
//! Owns what they told, and what this instance still has to tell them. Never stores anything anywhere: an instance tells
//! its count when it changes and when it is asked, and who is not heard of for a while counts for nothing. So nothing
//! has to be cleaned up after one that died. What is lost on the way is told again: whoever begins to listen asks, who
//! stood still asks, and now and then everything is told though nothing changed; what was not told again for three such
//! rounds is forgotten, since who has none left tells it once alone. Invariants: no entry counts 0, and none
//! is of an instance that is not known to live; what is due waits once.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{
    clock::Now,
    config::settings::Presence as Times,
    event::Address,
    limits::{COUNTS_REPEATED_MAX, COUNTS_TOLD_MAX, INSTANCES_MAX},
    stream::word::InstanceId,
};

/// The counts of the others.
#[derive(Debug)]
pub(super) struct Elsewhere {
    counts: HashMap<Address, Vec<Told>>,
    /// When each was last heard, monotonic nanoseconds; at most [`INSTANCES_MAX`].
    heard: HashMap<InstanceId, u64>,
    unheard: u64,
    interval_ns: u64,
    silence_max_ns: u64,
    round_interval_ns: u64,
    /// What the others are to be told.
    due: HashMap<Address, Due>,
    /// Told as soon as may be.
    queue: VecDeque<Address>,
    /// Changed members of rooms, told ten times a second at most.
    changed: VecDeque<Address>,
    /// What is still to be told again though nothing changed.
    round: VecDeque<Address>,
    round_asks: bool,
    /// What may still be told before the next clock.
    budget: usize,
    /// The last clock, monotonic nanoseconds; 0: none so far. The next two likewise.
    clock_ns: u64,
    /// When the others last heard from here that it lives.
    alive_ns: u64,
    round_began_ns: u64,
}

/// One count that another told.
#[derive(Clone, Copy, Debug)]
struct Told {
    from: InstanceId,
    /// Never 0.
    count: u32,
    /// When it was told last, monotonic nanoseconds.
    at_ns: u64,
}

/// One count that is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The others are asked for theirs.
    pub(super) asks: bool,
    /// With all that there is to tell of a room, not what changed alone.
    pub(super) whole: bool,
}

/// What has to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Beat {
    /// The others are to hear that this instance lives.
    pub(super) alive: bool,
    /// [`Elsewhere::begin_round`] wants all addresses.
    pub(super) round: bool,
    /// What the others told may be wrong.
    pub(super) asks: bool,
    /// Instances that are gone.
    pub(super) gone: Vec<InstanceId>,
}

impl Elsewhere {
    /// Nobody is known yet.
    pub(super) fn new(times: &Times) -> Self {
        let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            counts: HashMap::new(),
            heard: HashMap::new(),
            unheard: 0,
            interval_ns: ns(times.interval),
            silence_max_ns: ns(times.timeout),
            round_interval_ns: ns(times.repeat_interval),
            due: HashMap::new(),
            queue: VecDeque::new(),
            changed: VecDeque::new(),
            round: VecDeque::new(),
            round_asks: false,
            budget: COUNTS_TOLD_MAX,
            clock_ns: 0,
            alive_ns: 0,
            round_began_ns: 0,
        }
    }

    /// Another instance says something, so it lives. `false`: there are too many of them to listen to this one.
    pub(super) fn alive(&mut self, now: Now, from: InstanceId) -> bool {
        if let Some(heard_ns) = self.heard.get_mut(&from) {
            *heard_ns = now.mono_ns;
        } else if self.heard.len() < INSTANCES_MAX {
            self.heard.insert(from, now.mono_ns);
        } else {
            self.unheard += 1;
            return false;
        }
        true
    }

    /// Words of instances that are too many.
    pub(super) fn unheard(&self) -> u64 {
        self.unheard
    }

    /// Another instance, that lives, tells a count of an address that matters here; `true`: it is another one than before.
    pub(super) fn told(&mut self, now: Now, from: InstanceId, address: Address, count: u32) -> bool {
        let before = self.count(&address);
        if let Some(told) = self.counts.get_mut(&address) {
            told.retain(|told| told.from != from);
        }
        if count > 0 {
            let told = Told { from, count, at_ns: now.mono_ns };
            self.counts.entry(address.clone()).or_default().push(told);
        } else if self.counts.get(&address).is_some_and(Vec::is_empty) {
            self.counts.remove(&address);
        }
        before != self.count(&address)
    }

    /// It goes; what it had.
    pub(super) fn forget_instance(&mut self, from: InstanceId) -> Vec<(InstanceId, Address)> {
        self.heard.remove(&from);
        self.drop_counts(|told| told.from == from)
    }

    /// Drops what `gone` says; what that was.
    fn drop_counts(&mut self, gone: impl Fn(&Told) -> bool) -> Vec<(InstanceId, Address)> {
        let mut dropped = Vec::new();
        self.counts.retain(|address, told| {
            told.retain(|told| {
                let gone = gone(told);
                if gone {
                    dropped.push((told.from, address.clone()));
                }
                !gone
            });
            !told.is_empty()
        });
        dropped
    }

    /// Nobody here has to do with the address any more: the others are told so, and theirs is forgotten.
    pub(super) fn forget(&mut self, address: &Address) {
        if self.counts.remove(address).is_some() {
            self.tell(address, Due::default());
        }
    }

    /// Connections or members that the others have.
    pub(super) fn count(&self, address: &Address) -> u32 {
        self.counts.get(address).map_or(0, |told| total(told))
    }

    /// Other instances that live.
    pub(super) fn instances(&self) -> usize {
        self.heard.len()
    }

    /// Who they are.
    pub(super) fn names(&self) -> impl Iterator<Item = InstanceId> {
        self.heard.keys().copied()
    }

    /// The others are to be told, as soon as may be.
    pub(super) fn tell(&mut self, address: &Address, due: Due) {
        if let Some(waiting) = self.due.get_mut(address) {
            waiting.asks |= due.asks;
            waiting.whole |= due.whole;
            return;
        }
        self.due.insert(address.clone(), due);
        self.queue.push_back(address.clone());
    }

    /// The own count changed. Who holds none of it will ask when that changes.
    pub(super) fn changed(&mut self, address: &Address) {
        if !self.counts.contains_key(address) || self.due.contains_key(address) {
            return;
        }
        self.due.insert(address.clone(), Due::default());
        match address {
            Address::User(_) => self.queue.push_back(address.clone()),
            Address::Room(_) => self.changed.push_back(address.clone()),
        }
    }

    /// What is to be told next, if there is any and it may be told now.
    pub(super) fn next_due(&mut self) -> Option<(Address, Due)> {
        self.budget = self.budget.checked_sub(1)?;
        let Some(address) = self.queue.pop_front() else {
            self.budget += 1;
            return None;
        };
        let due = self.due.remove(&address).unwrap_or_default();
        Some((address, due))
    }

    /// The others can be reached again: nobody can be blamed for the silence.
    pub(super) fn up(&mut self, now: Now) {
        self.heard.values_mut().for_each(|heard_ns| *heard_ns = now.mono_ns);
        (self.clock_ns, self.alive_ns) = (now.mono_ns, now.mono_ns);
    }

    /// A tenth of a second passed, and the others can be reached.
    pub(super) fn clock(&mut self, now: Now) -> Beat {
        // Who stood still itself heard nobody, and nobody heard it: all begin anew.
        let stood_still = now.mono_ns > self.clock_ns.saturating_add(self.interval_ns);
        self.clock_ns = now.mono_ns;
        if stood_still {
            self.up(now);
        }
        self.budget = COUNTS_TOLD_MAX;
        self.queue.append(&mut self.changed);
        for _ in 0..COUNTS_REPEATED_MAX {
            let Some(address) = self.round.pop_front() else { break };
            self.tell(&address, Due { asks: self.round_asks, whole: true });
        }
        let alive = stood_still || now.mono_ns >= self.alive_ns.saturating_add(self.interval_ns);
        if alive {
            self.alive_ns = now.mono_ns;
        }
        let round_due = now.mono_ns >= self.round_began_ns.saturating_add(self.round_interval_ns);
        let silent = |heard_ns: u64| heard_ns.saturating_add(self.silence_max_ns) <= now.mono_ns;
        let gone = self.heard.iter().filter(|(_, heard_ns)| silent(**heard_ns)).map(|(id, _)| *id).collect();
        let round = !self.heard.is_empty() && (stood_still || round_due);
        Beat { alive, round, asks: stood_still, gone }
    }

    /// Everything is to be told again, and the others asked if that is wanted; `addresses`: whatever matters here. Returns
    /// what others did not tell again for so long that they cannot have it any more.
    pub(super) fn begin_round(
        &mut self,
        now: Now,
        asks: bool,
        addresses: impl Iterator<Item = Address>,
    ) -> Vec<(InstanceId, Address)> {
        self.round_began_ns = now.mono_ns;
        self.round_asks = asks;
        self.round = addresses.collect();
        let age_max_ns = self.round_interval_ns.saturating_mul(3);
        self.drop_counts(|told| !asks && told.at_ns.saturating_add(age_max_ns) < now.mono_ns)
    }

    /// Panics when an invariant does not hold.
    pub(super) fn check_invariants(&self) {
        let waiting: HashSet<&Address> = self.queue.iter().chain(&self.changed).collect();
        let length = self.queue.len() + self.changed.len();
        assert!(self.heard.len() <= INSTANCES_MAX, "instances that are listened to");
        assert_eq!((waiting.len(), length), (self.due.len(), self.due.len()), "what is due waits once");
        for (address, told) in &self.counts {
            assert!(!told.is_empty(), "{address:?} is remembered for nothing");
            let live = |told: &Told| told.count > 0 && self.heard.contains_key(&told.from);
            assert!(told.iter().all(live), "{address:?}: {told:?}");
        }
    }
}

fn total(told: &[Told]) -> u32 {
    told.iter().fold(0, |sum: u32, told| sum.saturating_add(told.count))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ASK: Due = Due { asks: true, whole: false };

    fn at(seconds: u64) -> Now {
        Now { mono_ns: seconds * 1_000_000_000, wall_ms: 0 }
    }

    fn ann() -> Address {
        Address::User("ann".into())
    }

    /// Alive every 5 s, gone after 10, everything again after 60.
    fn elsewhere() -> Elsewhere {
        let seconds = Duration::from_secs;
        let mut elsewhere = Elsewhere::new(&Times {
            interval: seconds(5),
            timeout: seconds(10),
            repeat_interval: seconds(60),
            grace: seconds(1),
        });
        elsewhere.clock(at(0));
        elsewhere
    }

    fn hear(elsewhere: &mut Elsewhere, second: u64, from: InstanceId, count: u32) -> bool {
        elsewhere.alive(at(second), from);
        let changed = elsewhere.told(at(second), from, ann(), count);
        elsewhere.check_invariants();
        changed
    }

    fn due(elsewhere: &mut Elsewhere) -> Vec<Due> {
        let told = std::iter::from_fn(|| elsewhere.next_due()).map(|(_, due)| due).collect();
        elsewhere.check_invariants();
        told
    }

    #[test]
    fn the_counts_of_the_others_add_up_and_follow_what_they_tell() {
        let mut others = elsewhere();
        for (from, count, changed, total) in
            [(1, 2, true, 2), (2, 3, true, 5), (1, 1, true, 4), (1, 1, false, 4), (2, 0, true, 1)]
        {
            assert_eq!((hear(&mut others, 0, from, count), others.count(&ann())), (changed, total));
        }
        assert_eq!(others.forget_instance(1), [(1, ann())]);
        assert!(others.counts.is_empty());
    }

    #[test]
    fn who_is_silent_is_gone_and_who_lives_is_not() {
        let mut others = elsewhere();
        (1..=2).for_each(|from| _ = hear(&mut others, 0, from, 2));
        others.alive(at(5), 2);
        assert!(others.clock(at(5)).gone.is_empty());
        assert_eq!(others.clock(at(10)).gone, [1]);
        assert_eq!(
            (others.forget_instance(1), others.count(&ann()), others.instances()),
            (vec![(1, ann())], 2, 1)
        );
    }

    #[test]
    fn of_too_many_the_latest_are_not_listened_to_until_others_are_gone() {
        let mut others = elsewhere();
        let many = INSTANCES_MAX as InstanceId;
        assert!((1..=many).all(|from| others.alive(at(0), from)));
        assert!(!others.alive(at(0), many + 1) && others.alive(at(5), 1));
        others.check_invariants();
        assert_eq!((others.instances() as InstanceId, others.unheard()), (many, 1));
        others.forget_instance(2);
        assert!(others.alive(at(5), many + 1));
    }

    #[test]
    fn who_stood_still_itself_holds_nobody_for_dead_and_asks_for_everything() {
        let mut others = elsewhere();
        hear(&mut others, 0, 1, 2);
        let beat = others.clock(at(30));
        assert_eq!(beat, Beat { alive: true, round: true, asks: true, gone: vec![] });
        others.begin_round(at(30), beat.asks, std::iter::once(ann()));
        others.clock(at(31));
        assert_eq!(due(&mut others), [Due { asks: true, whole: true }]);
    }

    #[test]
    fn it_lives_at_each_interval_and_tells_everything_again_now_and_then() {
        let mut others = elsewhere();
        others.alive(at(0), 1);
        others.begin_round(at(0), false, std::iter::empty());
        let mut seen = (0, 0);
        for second in 1..=60 {
            others.alive(at(second), 1);
            let beat = others.clock(at(second));
            seen = (seen.0 + u32::from(beat.alive), seen.1 + u32::from(beat.round));
        }
        assert_eq!(seen, (12, 1));
    }

    #[test]
    fn who_begins_to_listen_asks_and_who_is_asked_tells_once() {
        let mut others = elsewhere();
        others.tell(&ann(), ASK);
        others.changed(&ann());
        assert_eq!(due(&mut others), [ASK]);
        (0..2).for_each(|_| others.tell(&ann(), Due::default()));
        assert_eq!(due(&mut others), [Due::default()]);
        assert_eq!(due(&mut others), []);
    }

    #[test]
    fn a_change_is_told_where_others_have_the_address_and_of_rooms_with_the_next_clock() {
        let mut others = elsewhere();
        let room = Address::Room("r".into());
        [&ann(), &room].iter().for_each(|address| others.changed(address));
        assert_eq!(due(&mut others), []);
        hear(&mut others, 0, 1, 1);
        others.told(at(0), 1, room.clone(), 1);
        [&ann(), &room].iter().for_each(|address| others.changed(address));
        assert_eq!(due(&mut others).len(), 1);
        others.clock(at(1));
        assert_eq!(others.next_due(), Some((room, Due::default())));
    }

    #[test]
    fn who_has_none_left_tells_so_and_forgets() {
        let mut others = elsewhere();
        hear(&mut others, 0, 1, 2);
        others.forget(&ann());
        assert_eq!((others.count(&ann()), due(&mut others)), (0, vec![Due::default()]));
        others.forget(&ann());
        assert_eq!(due(&mut others), []);
    }

    #[test]
    fn what_is_not_told_again_is_forgotten_after_three_rounds() {
        let mut others = elsewhere();
        hear(&mut others, 0, 1, 2);
        assert_eq!(others.begin_round(at(180), false, std::iter::empty()), []);
        assert_eq!(others.begin_round(at(181), false, std::iter::empty()), [(1, ann())]);
        assert_eq!((others.count(&ann()), others.instances()), (0, 1));
    }

    #[test]
    fn more_than_may_be_told_at_a_time_waits_for_the_next_clock() {
        let mut others = elsewhere();
        (0..=COUNTS_TOLD_MAX).for_each(|n| others.tell(&Address::User(n.to_string().into()), ASK));
        assert_eq!((due(&mut others).len(), due(&mut others).len()), (COUNTS_TOLD_MAX, 0));
        others.clock(at(1));
        assert_eq!(due(&mut others).len(), 1);
    }
}
