//! The store in memory.

use std::time::Duration;

use usher::{
    clock::Now,
    stream::{
        history::{Bounds, History},
        store::{Answer, Ask},
    },
};

use super::contract::Subject;

/// It, and its time.
pub struct Embedded {
    history: History,
    kept: Option<History>,
    now: Now,
    seed: u64,
}

impl Embedded {
    pub fn new() -> Self {
        Self { history: history(1), kept: None, now: Now { mono_ns: 0, wall_ms: 0 }, seed: 1 }
    }
}

fn history(seed: u64) -> History {
    let bounds = Bounds {
        count_max: Embedded::COUNT_MAX,
        age_max: Embedded::AGE_MAX,
        ledger_age_max: Embedded::LEDGER_AGE_MAX,
        bytes_max: Embedded::BYTES_MAX,
        streams_max: 16,
    };
    History::new(bounds, seed)
}

impl Subject for Embedded {
    fn ask(&mut self, ask: Ask) -> Answer {
        self.history.answer(self.now, ask)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.history.expire(self.now);
    }

    fn keep(&mut self) {
        self.kept = Some(self.history.clone());
    }

    fn restart(&mut self) {
        self.seed += 1;
        self.history = self.kept.clone().map_or_else(|| history(self.seed), |kept| kept.restarted(self.seed));
    }
}
