//! How many connections a user or room has on all instances, asked of one that may have none.
//!
//! Owns the questions that wait for the others. Where this instance has some, it knows what the others have; else it
//! listens to the address for a moment and asks once. Who has none says nothing: so the moment passes in any case. Never
//! keeps what was told. Invariants: a bounded number waits, each address once.

use std::{collections::HashMap, time::Duration};

use super::{
    Output, Route, Token,
    elsewhere::Due,
    following::Following,
    inquiries::{Connections, NoReport},
    turn::Turn,
};
use crate::{
    event::Address,
    limits::{CENSUS_MAX, OVERLOAD_RETRY},
};

/// The others have heard the question → theirs was heard; ten times what it takes with a Redis nearby.
const ANSWERS_TIME: Duration = Duration::from_millis(250);
/// The same, where Redis does not confirm that the others are listened to.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Addresses that others are asked about.
#[derive(Debug, Default)]
pub(super) struct Census {
    open: HashMap<Address, Asked>,
}

#[derive(Debug)]
struct Asked {
    tokens: Vec<Token>,
    /// Monotonic nanoseconds.
    until_ns: u64,
}

impl Census {
    pub(super) fn asks(&self, address: &Address) -> bool {
        self.open.contains_key(address)
    }

    fn waiting(&self) -> usize {
        self.open.values().map(|asked| asked.tokens.len()).sum()
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.waiting() <= CENSUS_MAX, "questions that wait for other instances");
    }
}

impl Route {
    /// How many connections an address has, by what is known now.
    pub fn connections(&self, address: &Address) -> Connections {
        Connections { here: self.directory.count(address), elsewhere: self.elsewhere(address) }
    }

    pub(super) fn count(&mut self, turn: &mut Turn<'_>, token: Token, address: Address) {
        let known = self.connections(&address);
        let result = match &mut self.following {
            Some(Following { up: true, census, .. }) if !self.directory.holds(&address) => {
                if census.waiting() < CENSUS_MAX {
                    let until_ns = turn.now.after(TIME_MAX).mono_ns;
                    let asked = census.open.entry(address.clone()).or_insert_with(|| {
                        turn.out.push(Output::Interest { address, on: true });
                        Asked { tokens: Vec::new(), until_ns }
                    });
                    return asked.tokens.push(token);
                }
                Err(NoReport::Overloaded { retry_after_ms: OVERLOAD_RETRY.as_millis() as u32 })
            }
            _ => Ok(known),
        };
        turn.out.push(Output::Counted { token, result });
    }

    /// What the others say about the address is heard from now on.
    pub(super) fn census_listens(&mut self, turn: &Turn<'_>, address: &Address) {
        let Some(Following { census, elsewhere, .. }) = &mut self.following else { return };
        if let Some(asked) = census.open.get_mut(address) {
            asked.until_ns = asked.until_ns.min(turn.now.after(ANSWERS_TIME).mono_ns);
            elsewhere.tell(address, Due { asks: true, whole: false });
        }
    }

    /// Answers those whose time is over; all of them where the others cannot be reached.
    pub(super) fn end_censuses(&mut self, turn: &mut Turn<'_>) {
        let Some(Following { census, up, .. }) = &mut self.following else { return };
        let is_over = |asked: &Asked| !*up || asked.until_ns <= turn.now.mono_ns;
        let over: Vec<_> = census.open.extract_if(|_, asked| is_over(asked)).collect();
        for (address, asked) in over {
            let counted = self.connections(&address);
            let answer = |token| Output::Counted { token, result: Ok(counted) };
            turn.out.extend(asked.tokens.into_iter().map(answer));
            if !self.directory.holds(&address)
                && let Some(Following { elsewhere, .. }) = &mut self.following
            {
                elsewhere.forget(&address);
                turn.out.push(Output::Interest { address, on: false });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Now,
        config::Settings,
        ids::ShardId,
        route::{Input, Instances},
        stream::word::Word,
    };

    const START: Now = Now { mono_ns: 1, wall_ms: 0 };

    /// Of an instance that reaches others, what comes of each input.
    fn reaching() -> impl FnMut(Duration, Input<'_>) -> Vec<Output> {
        let mut route = Route::new(&Settings::default(), Instances::Several);
        let mut handle = move |after, input: Input<'_>| {
            let mut out = Vec::new();
            route.handle(START.after(after), input, &mut out);
            route.check_invariants();
            out.retain(|output| !matches!(output, Output::Tell { word: Word::Alive } | Output::Ask { .. }));
            out
        };
        assert_eq!(handle(Duration::ZERO, Input::Up), []);
        handle
    }

    fn ann() -> Address {
        Address::User("ann".into())
    }

    fn count(token: Token) -> Input<'static> {
        Input::Count { token, address: ann() }
    }

    fn counted(token: Token, here: u32, elsewhere: u32) -> Output {
        Output::Counted { token, result: Ok(Connections { here, elsewhere }) }
    }

    fn told(from: u64, count: u32) -> Input<'static> {
        Input::Word { from, word: Word::Count { address: ann(), count, asks: false } }
    }

    const CLOCK: Input<'static> = Input::Clock { shards: &[] };

    #[test]
    fn the_others_are_asked_once_where_nobody_is_here() {
        let mut handle = reaching();
        let interest = |on| Output::Interest { address: ann(), on };
        assert_eq!(handle(Duration::ZERO, count(1)), [interest(true)]);
        assert_eq!(handle(Duration::ZERO, count(2)), []);
        let asks = Output::Tell { word: Word::Count { address: ann(), count: 0, asks: true } };
        assert_eq!(handle(Duration::ZERO, Input::Subscribed { address: ann() }), [asks]);
        for (from, count) in [(7, 2), (8, 1)] {
            assert_eq!(handle(Duration::ZERO, told(from, count)), []);
        }
        assert_eq!(handle(ANSWERS_TIME - Duration::from_nanos(1), CLOCK), []);
        let mut out = handle(ANSWERS_TIME, CLOCK);
        assert_eq!(out.drain(..3).collect::<Vec<_>>(), [counted(1, 0, 3), counted(2, 0, 3), interest(false)]);
        // What was told is forgotten: the next one asks again.
        assert_eq!(handle(ANSWERS_TIME, count(3)), [interest(true)]);
        assert_eq!(handle(ANSWERS_TIME, Input::Down), [counted(3, 0, 0), interest(false)]);
    }

    #[test]
    fn who_is_here_and_who_cannot_be_asked_about_is_answered_at_once() {
        let mut handle = reaching();
        handle(Duration::ZERO, Input::Members { shard: ShardId(0), address: ann(), count: 2 });
        handle(Duration::ZERO, told(7, 1));
        assert_eq!(handle(Duration::ZERO, count(1)), [counted(1, 2, 1)]);
        handle(Duration::ZERO, Input::Down);
        let bob = Input::Count { token: 2, address: Address::User("bob".into()) };
        assert_eq!(handle(Duration::ZERO, bob), [counted(2, 0, 0)]);
    }

    #[test]
    fn who_comes_and_goes_meanwhile_does_not_end_the_listening() {
        let mut handle = reaching();
        handle(Duration::ZERO, count(1));
        let mut members =
            |count| handle(Duration::ZERO, Input::Members { shard: ShardId(0), address: ann(), count });
        members(1);
        assert_eq!(members(0), []);
        handle(Duration::ZERO, told(7, 1));
        assert!(handle(TIME_MAX, CLOCK).contains(&counted(1, 0, 1)));
    }

    #[test]
    fn only_so_many_wait() {
        let mut handle = reaching();
        (0..CENSUS_MAX as Token).for_each(|token| _ = handle(Duration::ZERO, count(token)));
        let result = Err(NoReport::Overloaded { retry_after_ms: 100 });
        assert_eq!(handle(Duration::ZERO, count(99)), [Output::Counted { token: 99, result }]);
    }
}
