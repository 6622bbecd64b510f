//! The waiting rooms of an instance.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    limits::{EVENT_ID_BYTES_MAX, QUEUES_MAX},
    sale::{
        command::{Command, Entry},
        queue::{Effect, Queue, Refusal},
    },
};

/// Queues by event. A queue begins with the first `Open` of its log.
#[derive(Debug, Default, PartialEq)]
pub struct Queues {
    queues: BTreeMap<Arc<str>, Queue>,
}

impl Queues {
    /// Applies an entry of the log of an event: each entry once, in order. `out` is told the effects with the index of
    /// the command that brought them about.
    pub fn apply(&mut self, event_id: &str, entry: &Entry, mut out: impl FnMut(usize, Effect)) {
        let mut effects = Vec::new();
        for (index, command) in entry.commands.iter().enumerate() {
            match self.queue_for(event_id, entry.at_ms, command) {
                Ok(queue) => queue.apply(entry.at_ms, command, &mut effects),
                Err(refusal) => effects.push(Effect::Refused { holder: None, refusal }),
            }
            effects.drain(..).for_each(|effect| out(index, effect));
        }
    }

    /// The queue of an event.
    pub fn get(&self, event_id: &str) -> Option<&Queue> {
        self.queues.get(event_id)
    }

    /// All of them, by event.
    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values()
    }

    /// Forgets a queue, whose log is to be forgotten too.
    pub fn remove(&mut self, event_id: &str) -> bool {
        self.queues.remove(event_id).is_some()
    }

    fn queue_for(&mut self, event_id: &str, at_ms: u64, command: &Command) -> Result<&mut Queue, Refusal> {
        if !self.queues.contains_key(event_id) {
            let Command::Open(terms) = command else { return Err(Refusal::NoQueue) };
            if !(1..=EVENT_ID_BYTES_MAX).contains(&event_id.len()) {
                return Err(Refusal::NoQueue);
            }
            if !terms.is_valid() {
                return Err(Refusal::Terms);
            }
            if self.queues.len() >= QUEUES_MAX {
                return Err(Refusal::TooManyQueues);
            }
            let event_id: Arc<str> = event_id.into();
            self.queues.insert(Arc::clone(&event_id), Queue::new(event_id, terms.begun(at_ms)));
        }
        self.queues.get_mut(event_id).ok_or(Refusal::NoQueue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sale::{command::Terms, inlet::Inlet};

    fn open() -> Command {
        let inlet = Inlet::Manual;
        Command::Open(Box::new(Terms {
            opens_at_ms: 0,
            seed: [1; 32],
            salts: [0; 32],
            made: false,
            opens_in_ms: 0,
            kept: Vec::new(),
            inlet,
            claim_ms: 1,
            grace_ms: 1,
            stay_ms: 0,
            places_max: 1,
        }))
    }

    fn refusals(queues: &mut Queues, event_id: &str, commands: Vec<Command>) -> Vec<(usize, Refusal)> {
        let mut refusals = Vec::new();
        queues.apply(event_id, &Entry::new(5, commands), |index, effect| {
            if let Effect::Refused { refusal, .. } = effect {
                refusals.push((index, refusal));
            }
        });
        refusals
    }

    #[test]
    fn a_queue_begins_with_its_terms() {
        let mut queues = Queues::default();
        assert_eq!(
            refusals(&mut queues, "e", vec![Command::Tick, open(), Command::Tick]),
            [(0, Refusal::NoQueue)]
        );
        assert_eq!(queues.get("e").map(|queue| (&**queue.event_id(), queue.at_ms())), Some(("e", 5)));
        assert!(queues.remove("e") && !queues.remove("e") && queues.iter().count() == 0);
    }

    #[test]
    fn queues_are_bounded_and_refused_by_name() {
        let mut queues = Queues::default();
        for index in 0..QUEUES_MAX {
            assert_eq!(refusals(&mut queues, &index.to_string(), vec![open()]), []);
        }
        assert_eq!(refusals(&mut queues, "one more", vec![open()]), [(0, Refusal::TooManyQueues)]);
        assert_eq!(refusals(&mut queues, "0", vec![open()]), [], "one that is there");
        assert_eq!(
            refusals(&mut queues, &"x".repeat(EVENT_ID_BYTES_MAX + 1), vec![open()]),
            [(0, Refusal::NoQueue)]
        );
    }
}
