//! Whether the services behind a sale take people: `QUEUE_READY_URLS`, asked while somebody has to know.
//!
//! Owns what they said. Never waits: each question is a job of a helper thread. Invariant: one word counts for nothing, only
//! what they say [`TARGET_ALIKE_MIN`] times in a row.

use tokio::task::JoinSet;
use ureq::Agent;

use super::fetch::{self, FetchError};
use crate::{
    clock::Now,
    config::settings::Queues,
    limits::{TARGET_ALIKE_MIN, TARGET_INTERVAL, TARGET_TIME_MAX, TARGETS_MAX},
    metrics::QueueCells,
    route::lines::io,
};

/// The services, as far as it is known.
#[derive(Debug)]
pub(super) struct Target {
    sites: Vec<(String, Agent)>,
    /// Questions without an answer.
    asking: JoinSet<Result<(), Problem>>,
    /// What one of them said of why it is not ready, since they were asked.
    problem: Option<Problem>,
    /// What they said the last times, and how often in a row.
    alike: (bool, u32),
    known: io::Target,
    /// When they are to be asked again, monotonic ns.
    due_ns: u64,
}

/// Why a service is not ready; the URL without secrets.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {problem}")]
pub struct Problem {
    url: String,
    problem: FetchError,
}

impl Target {
    /// Asks nobody yet. Blocks, on a file. What is beyond [`TARGETS_MAX`] is not asked.
    ///
    /// # Errors
    /// A URL that nobody could be asked by.
    pub(super) fn new(settings: &Queues) -> Result<Self, Problem> {
        let Queues { ready_urls, ready_ca } = settings;
        let site = |url: &String| match fetch::prober(url, ready_ca.as_deref(), TARGET_TIME_MAX) {
            Ok(agent) => Ok((url.clone(), agent)),
            Err(problem) => Err(Problem { url: fetch::shown(url), problem }),
        };
        Ok(Self {
            sites: ready_urls.iter().take(TARGETS_MAX).map(site).collect::<Result<_, _>>()?,
            asking: JoinSet::new(),
            problem: None,
            alike: (false, 0),
            known: io::Target::Unknown,
            due_ns: 0,
        })
    }

    /// What is known by now. Where `wanted`, they are asked again in time; else what is known is forgotten.
    pub(super) fn look(&mut self, now: Now, wanted: bool, cells: &QueueCells) -> io::Target {
        if self.sites.is_empty() {
            return io::Target::Ready;
        }
        if !wanted {
            self.asking.detach_all();
            (self.problem, self.alike, self.known) = (None, (false, 0), io::Target::Unknown);
        } else if !self.asking.is_empty() {
            self.hear(cells);
        } else if now.mono_ns >= self.due_ns {
            self.due_ns = now.after(TARGET_INTERVAL).mono_ns;
            for (url, agent) in &self.sites {
                let (url, agent) = (url.clone(), agent.clone());
                self.asking.spawn_blocking(move || {
                    let problem = |problem| Problem { url: fetch::shown(&url), problem };
                    fetch::probe(&agent, &url).map_err(problem)
                });
            }
        }
        cells.target_down.set(u64::from(self.known == io::Target::Down));
        self.known
    }

    fn hear(&mut self, cells: &QueueCells) {
        while let Some(answer) = self.asking.try_join_next() {
            match answer {
                Ok(Ok(())) => cells.target_ready.add(1),
                Ok(Err(problem)) => {
                    cells.target_not_ready.add(1);
                    self.problem = Some(problem);
                }
                // Only a stopping runtime does that.
                Err(_) => {}
            }
        }
        if self.asking.is_empty() {
            self.decide();
        }
    }

    /// All have answered.
    fn decide(&mut self) {
        let problem = self.problem.take();
        let (was_down, count) = self.alike;
        let is_down = problem.is_some();
        self.alike = (is_down, if is_down == was_down { count.saturating_add(1) } else { 1 });
        if self.alike.1 < TARGET_ALIKE_MIN {
            return;
        }
        let before = self.known;
        match problem {
            Some(problem) => {
                self.known = io::Target::Down;
                if before != self.known {
                    tracing::warn!(%problem, "what sells is not ready: inlets pause");
                }
            }
            None => {
                self.known = io::Target::Ready;
                if before == io::Target::Down {
                    tracing::info!("what sells is ready again: inlets go on");
                }
            }
        }
    }
}
