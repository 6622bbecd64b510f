//! A store that starts again with what it had put aside.

use std::sync::Arc;

use super::{History, PAST_MAX, Stream, epoch};
use crate::stream::store::Mark;

impl History {
    /// Goes on from what was put aside. Nobody knows whether that was all: so every stream goes on under another name, and
    /// what was stored after it, if anything was, is not mistaken for what comes now. Streams without an
    /// event have no name yet, and get another. The seed must differ between starts.
    pub fn restarted(mut self, seed: u64) -> Self {
        let Self { streams, young, ledger, generation, .. } = &mut self;
        *generation += 1;
        let epoch = epoch(seed, *generation);
        for position in young.iter_mut().chain(ledger).map(|record| &mut record.position) {
            let stream = streams.peek(&*position.stream);
            if stream.is_some_and(|stream| Arc::ptr_eq(&stream.epoch, &position.epoch)) {
                position.epoch = epoch.clone();
            }
        }
        streams.values_mut().for_each(|stream| stream.go_on(&epoch));
        self.seed = seed;
        self.renew();
        self
    }
}

impl Stream {
    fn go_on(&mut self, epoch: &Arc<str>) {
        self.past
            .insert(0, Mark { epoch: std::mem::replace(&mut self.epoch, epoch.clone()), offset: self.last });
        self.past.truncate(PAST_MAX);
        for entry in &mut self.entries {
            if let Some(position) = &mut Arc::make_mut(entry).position {
                position.epoch = epoch.clone();
            }
        }
    }
}
