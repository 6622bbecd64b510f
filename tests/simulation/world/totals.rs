//! What happened in a run: a simulation in which nothing happens proves nothing.

use std::collections::HashMap;

/// What was seen to happen, over all seeds.
#[derive(Debug, Default)]
pub struct Totals {
    pub heard: u64,
    pub critical: u64,
    pub ordered: u64,
    pub latest: u64,
    pub stale: u64,
    pub conflated: u64,
    pub dropped_ephemeral: u64,
    pub overloaded: u64,
    pub repeated: u64,
    pub refused_429: u64,
    pub lagged: u64,
    pub joins: u64,
    /// Joins that control granted, refused, and never answered.
    pub entered: u64,
    pub rooms_full: u64,
    pub joins_unanswered: u64,
    /// Comings and goings that clients knew at the end.
    pub told: u64,
    /// Clients that had every last value at the end, from before they came too.
    pub shown: u64,
    pub closed: HashMap<u16, u64>,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.heard += other.heard;
        self.critical += other.critical;
        self.ordered += other.ordered;
        self.latest += other.latest;
        self.stale += other.stale;
        self.conflated += other.conflated;
        self.dropped_ephemeral += other.dropped_ephemeral;
        self.overloaded += other.overloaded;
        self.repeated += other.repeated;
        self.refused_429 += other.refused_429;
        self.lagged += other.lagged;
        self.joins += other.joins;
        self.entered += other.entered;
        self.rooms_full += other.rooms_full;
        self.joins_unanswered += other.joins_unanswered;
        self.told += other.told;
        self.shown += other.shown;
        for (code, count) in &other.closed {
            *self.closed.entry(*code).or_default() += count;
        }
    }

    /// A run that never met a misfortune proves nothing.
    pub fn check_that_everything_happened(&self) {
        let counts = [
            self.heard,
            self.critical,
            self.ordered,
            self.latest,
            self.stale,
            self.conflated,
            self.dropped_ephemeral,
            self.overloaded,
            self.repeated,
            self.refused_429,
            self.lagged,
            self.joins,
            self.entered,
            self.rooms_full,
            self.joins_unanswered,
            self.told,
            self.shown,
        ];
        assert!(counts.iter().all(|count| *count > 0), "{self:#?}");
        for code in [1000, 1001, 4401, 4408, 4413] {
            assert!(self.closed.contains_key(&code), "nobody was closed with {code}: {self:#?}");
        }
    }
}
