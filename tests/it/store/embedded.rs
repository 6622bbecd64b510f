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
    now: Now,
}

impl Embedded {
    pub fn new() -> Self {
        Self { history: history(1), now: Now { mono_ns: 0, wall_ms: 0 } }
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

    fn restart_empty(&mut self) {
        self.history = history(2);
    }
}
