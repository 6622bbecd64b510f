//! What earlier calls with an idempotency key were answered (03 §7).

use std::sync::Arc;

use crate::{
    clock::Now,
    limits::{IDEMPOTENCY_AGE_MAX, IDEMPOTENCY_KEYS_MAX},
    stream::expiring::Expiring,
};

/// Answers by scope and key: five minutes from the first call, the oldest go first when there are too many.
#[derive(Clone, Debug)]
pub struct Idempotency<A> {
    calls: Expiring<(Arc<str>, Arc<str>), Call<A>>,
}

#[derive(Clone, Debug)]
struct Call<A> {
    body: u64,
    answer: A,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Earlier<A> {
    /// Nothing: the call is a first one.
    Nothing,
    /// It was used for the same body, and this was the answer.
    Same(A),
    /// It was used for another body.
    Other,
}

impl<A> Default for Idempotency<A> {
    fn default() -> Self {
        Self::bounded(IDEMPOTENCY_KEYS_MAX)
    }
}

impl<A> Idempotency<A> {
    fn bounded(keys_max: usize) -> Self {
        Self { calls: Expiring::new(IDEMPOTENCY_AGE_MAX, keys_max) }
    }

    /// Looks for an earlier call with the key in the scope (a stream); `body` is a hash of what is sent.
    pub fn look(&self, now: Now, scope: &Arc<str>, key: &Arc<str>, body: u64) -> Earlier<A>
    where
        A: Clone,
    {
        match self.calls.fresh(now, &(scope.clone(), key.clone())) {
            None => Earlier::Nothing,
            Some(call) if call.body == body => Earlier::Same(call.answer.clone()),
            Some(_) => Earlier::Other,
        }
    }

    /// Remembers the answer to a first call.
    pub fn remember(&mut self, now: Now, scope: Arc<str>, key: Arc<str>, body: u64, answer: A) {
        // What makes room is the oldest key: nothing else has to know.
        let _oldest = self.calls.put(now, (scope, key), Call { body, answer });
    }

    /// Forgets keys that are too old.
    pub fn expire(&mut self, now: Now) {
        self.calls.expire(now, |_, _| ());
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Now = Now { mono_ns: 0, wall_ms: 0 };

    fn look(memory: &Idempotency<u32>, now: Now, scope: &str, key: &str, body: u64) -> Earlier<u32> {
        memory.look(now, &scope.into(), &key.into(), body)
    }

    #[test]
    fn a_repeated_key_gets_the_first_answer_for_five_minutes() {
        let mut memory = Idempotency::default();
        memory.remember(START, "user:a".into(), "k".into(), 1, 3);
        let table = [
            ("user:a", "k", 1, 299, Earlier::Same(3)),
            ("user:a", "k", 2, 299, Earlier::Other),
            ("user:b", "k", 1, 299, Earlier::Nothing),
            ("user:a", "j", 1, 299, Earlier::Nothing),
            ("user:a", "k", 1, 300, Earlier::Nothing),
        ];
        for (scope, key, body, second, expected) in table {
            let now = START.after(Duration::from_secs(second));
            assert_eq!(look(&memory, now, scope, key, body), expected, "{scope} {key} {body} {second}");
        }
        memory.expire(START.after(Duration::from_secs(300)));
        assert!(memory.is_empty());
    }

    #[test]
    fn the_oldest_key_makes_room() {
        let mut memory = Idempotency::bounded(2);
        for (second, key) in ["a", "b", "c"].into_iter().enumerate() {
            let now = START.after(Duration::from_secs(second as u64));
            memory.remember(now, "s".into(), key.into(), 1, 1);
        }
        let known = ["a", "b", "c"].map(|key| look(&memory, START, "s", key, 1) != Earlier::Nothing);
        assert_eq!((known, memory.len()), ([false, true, true], 2));
    }
}
