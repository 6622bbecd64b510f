//! Passes of users until the store has them: said again with the same key until then, or until there is nothing to say.
//!
//! Owns those that are not known to be stored, [`PASSES_UNTOLD_MAX`] at most; who finds no room is counted and told at the
//! next `queue:join`. Never signs and never publishes: the desk does. Invariants: at most [`PASSES_ASKED_MAX`] are being
//! signed or stored, so that other appends have their room and few passes are made before their time; once a try failed,
//! nothing is tried before the store may have recovered. Whoever gets a pass twice, since the store had forgotten the key by
//! the time that it answered, gets the same one.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::{
    clock::Now,
    event::{Receipt, Refusal},
    limits::{PASSES_ASKED_MAX, PASSES_UNTOLD_MAX, STORE_RETRY},
    route::lines::io::Admission,
};

/// A pass on its way into its user's stream.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) admission: Admission,
    /// What the user will be told, JSON; `None`: it was not signed yet.
    pub(super) payload: Option<Bytes>,
}

/// What became of passes of users so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// In the stream of the user.
    pub(super) stored: u64,
    /// Tries that failed.
    pub(super) failed: u64,
    /// No good any more before the store had them: used otherwise, given up, or expired.
    pub(super) over: u64,
    /// For which there was no room.
    pub(super) dropped: u64,
}

/// All of them, in the order of the admissions.
#[derive(Debug, Default)]
pub(super) struct Untold {
    waiting: VecDeque<Pass>,
    /// Being signed or stored.
    asked: usize,
    /// A try failed since the last look: how long nothing is to be tried.
    pause: Option<Duration>,
    /// Nothing is tried before, monotonic ns.
    rests_until_ns: u64,
    /// The last one found no room, which was logged.
    was_full: bool,
    counts: Counts,
}

impl Untold {
    /// Takes a pass that is to be told.
    pub(super) fn keep(&mut self, admission: Admission) {
        let is_full = self.len() >= PASSES_UNTOLD_MAX;
        if is_full {
            self.counts.dropped += 1;
            if !self.was_full {
                let event_id = &*admission.event_id;
                tracing::error!(
                    event_id,
                    "too many passes wait to be stored: others are told at queue:join alone"
                );
            }
        } else {
            self.waiting.push_back(Pass { admission, payload: None });
        }
        self.was_full = is_full;
    }

    /// The next that may be signed, or stored; of those that are no good any more it lets go. Each comes back by
    /// [`Untold::told`] or [`Untold::failed`].
    pub(super) fn next(&mut self, now: Now, is_good: impl Fn(&Admission) -> bool) -> Option<Pass> {
        if let Some(pause) = self.pause.take() {
            self.rests_until_ns = now.after(pause).mono_ns;
        }
        if now.mono_ns < self.rests_until_ns {
            return None;
        }
        while self.asked < PASSES_ASKED_MAX {
            let pass = self.waiting.pop_front()?;
            if pass.admission.claim_until_ms > now.wall_ms && is_good(&pass.admission) {
                self.asked += 1;
                return Some(pass);
            }
            self.counts.over += 1;
        }
        None
    }

    /// The store said what became of it, or could not be asked.
    pub(super) fn told(&mut self, pass: Pass, result: Result<Receipt, Refusal>) {
        match result {
            // Another instance was first, with a signature of its own.
            Ok(_) | Err(Refusal::KeyReused) => {
                self.asked -= 1;
                self.counts.stored += 1;
            }
            // Nothing is said here any more; who connects elsewhere joins there.
            Err(Refusal::Draining) => self.asked -= 1,
            Err(Refusal::Overloaded { retry_after_ms } | Refusal::NotStored { retry_after_ms }) => {
                self.failed(pass, Duration::from_millis(retry_after_ms.into()));
            }
            Err(Refusal::OutcomeUnknown) => self.failed(pass, STORE_RETRY),
        }
    }

    /// It is tried again, before all others and not at once.
    pub(super) fn failed(&mut self, pass: Pass, pause: Duration) {
        self.asked -= 1;
        self.counts.failed += 1;
        self.waiting.push_front(pass);
        self.pause = self.pause.max(Some(pause));
    }

    /// The store is back.
    pub(super) fn hurry(&mut self) {
        (self.pause, self.rests_until_ns) = (None, 0);
    }

    /// Those that are not known to be stored.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.asked
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono_ns: 1, wall_ms: 1_000 };

    fn admission(place: u32) -> Admission {
        let holder = format!("u:{place}").into();
        Admission { event_id: "e".into(), holder, place, admitted_at_ms: 900, claim_until_ms: 5_000 }
    }

    fn kept(count: usize) -> Untold {
        let mut untold = Untold::default();
        (1..=count).for_each(|place| untold.keep(admission(place as u32)));
        untold
    }

    fn all(untold: &mut Untold, now: Now) -> Vec<Pass> {
        std::iter::from_fn(|| untold.next(now, |_| true)).collect()
    }

    fn places(passes: &[Pass]) -> Vec<u32> {
        passes.iter().map(|pass| pass.admission.place).collect()
    }

    #[test]
    fn a_pass_is_kept_until_the_store_has_it_and_tried_again_with_what_was_signed() {
        let mut untold = kept(2);
        let mut tried = all(&mut untold, NOW);
        tried[0].payload = Some("signed".into());
        let second = tried.pop().unwrap();
        untold.told(second, Ok(Receipt::default()));
        untold.told(tried.pop().unwrap(), Err(Refusal::OutcomeUnknown));
        assert_eq!((untold.len(), all(&mut untold, NOW).len()), (1, 0), "not at once");
        let later = NOW.after(STORE_RETRY);
        let tried = all(&mut untold, later);
        assert_eq!((places(&tried), tried[0].payload.as_deref()), (vec![1], Some(&b"signed"[..])));
        untold.told(tried.into_iter().next().unwrap(), Err(Refusal::KeyReused));
        let counts = untold.counts();
        assert_eq!((untold.len(), counts.stored, counts.failed), (0, 2, 1));
    }

    #[test]
    fn what_failed_goes_before_those_that_were_not_tried_and_few_are_under_way() {
        let mut untold = kept(PASSES_ASKED_MAX + 1);
        let tried = all(&mut untold, NOW);
        assert_eq!(tried.len(), PASSES_ASKED_MAX);
        let refusal = || Refusal::NotStored { retry_after_ms: 10 };
        tried.into_iter().rev().for_each(|pass| untold.told(pass, Err(refusal())));
        assert_eq!(all(&mut untold, NOW).len(), 0, "the store rests");
        untold.hurry();
        let tried = all(&mut untold, NOW);
        assert_eq!(tried.len(), PASSES_ASKED_MAX, "it is back");
        tried.into_iter().rev().for_each(|pass| untold.told(pass, Err(refusal())));
        assert_eq!(all(&mut untold, NOW).len(), 0, "or not");
        let later = NOW.after(Duration::from_millis(10));
        let tried = all(&mut untold, later);
        assert_eq!(
            (places(&tried)[0], tried.len(), untold.len()),
            (1, PASSES_ASKED_MAX, PASSES_ASKED_MAX + 1)
        );
        tried.into_iter().for_each(|pass| untold.told(pass, Ok(Receipt::default())));
        assert_eq!(places(&all(&mut untold, later)), [PASSES_ASKED_MAX as u32 + 1]);
    }

    #[test]
    fn what_is_no_good_any_more_is_told_to_nobody() {
        let mut untold = kept(3);
        let used = |admission: &Admission| admission.place != 2;
        let first = untold.next(NOW, used).unwrap();
        assert_eq!(untold.next(NOW, used).unwrap().admission.place, 3);
        untold.told(first, Err(Refusal::OutcomeUnknown));
        assert!(untold.next(NOW, used).is_none(), "the store rests");
        let expired = Now { wall_ms: 5_000, ..NOW.after(STORE_RETRY) };
        assert!(untold.next(expired, |_| true).is_none());
        assert_eq!((untold.counts().over, untold.len()), (2, 1), "the third is still under way");
    }

    #[test]
    fn who_finds_no_room_is_counted() {
        let mut untold = kept(PASSES_UNTOLD_MAX);
        let first = untold.next(NOW, |_| true).unwrap();
        untold.keep(admission(0));
        assert_eq!((untold.len(), untold.counts().dropped), (PASSES_UNTOLD_MAX, 1), "under way is kept too");
        untold.told(first, Ok(Receipt::default()));
        untold.keep(admission(0));
        assert_eq!((untold.len(), untold.counts().dropped), (PASSES_UNTOLD_MAX, 1));
    }

    #[test]
    fn a_gateway_that_is_over_keeps_none() {
        let mut untold = kept(1);
        let pass = untold.next(NOW, |_| true).unwrap();
        untold.told(pass, Err(Refusal::Draining));
        assert_eq!(untold.len(), 0);
    }
}
