//! A store that starts again with what it had put aside, or that an instance knows to have lost something: its streams go
//! on under other names.

use std::sync::Arc;

use super::{History, PAST_MAX, Record, Stream, epoch};
use crate::stream::store::Mark;

impl History {
    /// Goes on from what was put aside. Nobody knows whether that was all: so every stream goes on under another name, and
    /// what was stored after it, if anything was, is not mistaken for what comes now. Streams without an
    /// event have no name yet, and get another. The seed must differ between starts.
    pub fn restarted(mut self, seed: u64) -> Self {
        self.generation += 1;
        let epoch = epoch(seed, self.generation);
        for record in self.young.iter_mut().chain(&mut self.ledger) {
            if let Some(stream) = self.streams.peek(&*record.position.stream) {
                rename(record, stream, &epoch);
            }
        }
        for stream in self.streams.values_mut() {
            let past = stream.ends();
            stream.go_on(&epoch, past);
        }
        self.seed = seed;
        self.renew();
        self
    }

    /// The stream goes on under another name, later than the one that is known, and no earlier epoch joins it: whoever came
    /// by one may have missed just what was lost.
    pub(super) fn part(&mut self, stream: &str, known: &Mark) {
        self.generation = self.generation.max(generation(&known.epoch)) + 1;
        let epoch = epoch(self.seed, self.generation);
        let Some(held) = self.streams.peek_mut(stream) else { return };
        let records = self.young.iter_mut().chain(&mut self.ledger);
        for record in records.filter(|record| *record.position.stream == *stream) {
            rename(record, held, &epoch);
        }
        held.go_on(&epoch, Vec::new());
    }
}

impl Stream {
    /// Whether there was something at this place that is not here any more: of an epoch that ended before it, or of one
    /// that is not here and later than the first of those that are. Of earlier ones nobody can tell.
    pub(super) fn has_lost(&self, known: &Mark) -> bool {
        if let Some(last) = self.reach(&known.epoch) {
            return known.offset > last;
        }
        let oldest = self.past.last().map_or(&self.epoch, |past| &past.epoch);
        generation(&known.epoch) > generation(oldest)
    }

    /// The epochs that it came by and the one that ends now, the newest first.
    fn ends(&mut self) -> Vec<Mark> {
        let mut past = std::mem::take(&mut self.past);
        past.insert(0, Mark { epoch: self.epoch.clone(), offset: self.last });
        past.truncate(PAST_MAX);
        past
    }

    fn go_on(&mut self, epoch: &Arc<str>, past: Vec<Mark>) {
        self.epoch = epoch.clone();
        if past.is_empty() {
            self.cut = self.last;
        }
        self.past = past;
        for entry in &mut self.entries {
            if let Some(position) = &mut Arc::make_mut(entry).position {
                position.epoch = epoch.clone();
            }
        }
    }
}

/// Records of entries that are gone keep their name.
fn rename(record: &mut Record, stream: &Stream, epoch: &Arc<str>) {
    if Arc::ptr_eq(&stream.epoch, &record.position.epoch) {
        record.position.epoch = epoch.clone();
    }
}

/// Of two histories of a stream, the later one has the higher generation.
fn generation(epoch: &str) -> u64 {
    epoch.split_once('.').and_then(|(generation, _)| generation.parse().ok()).unwrap_or(0)
}
