//! A queue against its facts, and against a model that is plain and slow.

mod calls;
mod dice;
mod facts;
mod model;
mod properties;

use crate::sale::{
    command::{Command, Terms},
    inlet::Inlet,
    place::State,
    queue::{Effect, Queue, Refusal},
};

/// A queue with the time of its test.
struct Sale {
    queue: Queue,
    at_ms: u64,
}

const OPENS_MS: u64 = 1_000_000;

fn terms(inlet: Inlet) -> Terms {
    Terms {
        salts: [0; 32],
        made: false,
        opens_in_ms: 0,
        kept: Vec::new(),
        opens_at_ms: OPENS_MS,
        seed: [3; 32],
        inlet,
        claim_ms: 60_000,
        grace_ms: 120_000,
        stay_ms: 0,
        places_max: 1_000,
    }
}

impl Sale {
    /// Before the opening.
    fn new(terms: Terms) -> Self {
        Self { queue: Queue::new("e".into(), terms), at_ms: OPENS_MS - 10_000 }
    }

    /// Opened, with `h1..=h<count>` in this order.
    fn opened(inlet: Inlet, count: u32) -> Self {
        let mut sale = Self::new(terms(inlet));
        sale.at(OPENS_MS);
        for number in 1..=count {
            sale.join(&format!("h{number}"));
        }
        sale
    }

    /// Lets time pass until then.
    fn at(&mut self, at_ms: u64) -> Vec<Effect> {
        self.at_ms = at_ms;
        self.does(Command::Tick)
    }

    fn after(&mut self, seconds: u64) -> Vec<Effect> {
        self.at(self.at_ms + seconds * 1_000)
    }

    fn does(&mut self, command: Command) -> Vec<Effect> {
        let mut out = Vec::new();
        self.queue.apply(self.at_ms, &command, &mut out);
        out
    }

    fn join(&mut self, holder: &str) -> Vec<Effect> {
        self.does(Command::Join { holder: holder.into(), instance: "i".into() })
    }

    fn here(&mut self, holder: &str) -> Vec<Effect> {
        self.does(Command::Here { holder: holder.into(), instance: "i".into() })
    }

    fn away(&mut self, holder: &str) -> Vec<Effect> {
        self.does(Command::Away { holder: holder.into(), instance: "i".into() })
    }

    fn leave(&mut self, holder: &str) -> Vec<Effect> {
        self.does(Command::Leave { holder: holder.into() })
    }

    fn claim(&mut self, holder: &str) -> Vec<Effect> {
        self.does(Command::Claim { holder: holder.into(), place: None })
    }

    fn number(&self, holder: &str) -> Option<u32> {
        self.queue.seat(holder).and_then(|seat| seat.number)
    }

    fn state(&self, holder: &str) -> Option<State> {
        self.queue.seat(holder).map(|seat| seat.state)
    }

    fn ahead(&self, holder: &str) -> u32 {
        self.queue.seat(holder).expect("it has a place").ahead
    }
}

/// Who is admitted by these effects, in order.
fn admitted(effects: &[Effect]) -> Vec<&str> {
    let names = effects.iter().filter_map(|effect| match effect {
        Effect::Admitted { holder, .. } => Some(&**holder),
        _ => None,
    });
    names.collect()
}

fn refusal(effects: &[Effect]) -> Option<Refusal> {
    effects.iter().find_map(|effect| match effect {
        Effect::Refused { refusal, .. } => Some(*refusal),
        _ => None,
    })
}
