//! The way to Redis: one lane per stream that something is asked about.
//!
//! Owns every question between [`super::Store::ask`] and its answer. Invariants: a stream has a lane while a batch of
//! its questions is under way, and one batch at a time; every question is answered once; at most
//! [`STORE_ASKS_MAX`] are held, and no more are taken from the queue until some are answered.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use redis::{ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, aio::ConnectionLike};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    clock::Now,
    limits::{STORE_ASKS_MAX, STORE_BATCH_BYTES_MAX, STORE_BATCH_MAX},
    store::{
        Answered, Asked, Counts,
        scripts::{By, Scripts},
    },
    stream::store::{Answer, Ask, Failure},
};

pub(super) struct Lanes<C> {
    connection: watch::Receiver<Option<C>>,
    scripts: Arc<Scripts>,
    answers: mpsc::Sender<Answered>,
    counts: Arc<Counts>,
    command_timeout: Duration,
    /// What waits behind the batch of its stream that is under way.
    lanes: HashMap<Arc<str>, VecDeque<Asked>>,
    /// Batches under way.
    flights: JoinSet<Flight>,
    /// Questions waiting and under way.
    held: usize,
    /// The last that was heard of Redis is that it says nothing. Then one batch at a time goes, to see whether it does
    /// again, and everything else fails at once.
    is_silent: bool,
}

/// A batch that is over.
struct Flight {
    stream: Arc<str>,
    batch: Vec<Asked>,
    outcome: Result<Vec<Value>, Lost>,
}

/// Why a batch came back without answers.
enum Lost {
    TimedOut,
    Broken(RedisError),
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Lanes<C> {
    pub(super) fn new(
        connection: watch::Receiver<Option<C>>,
        scripts: Arc<Scripts>,
        answers: mpsc::Sender<Answered>,
        counts: Arc<Counts>,
        command_timeout: Duration,
    ) -> Self {
        Self {
            connection,
            scripts,
            answers,
            counts,
            command_timeout,
            lanes: HashMap::new(),
            flights: JoinSet::new(),
            held: 0,
            is_silent: false,
        }
    }

    /// Until nobody can ask any more, and all are answered.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Asked>) {
        let mut is_open = true;
        while is_open || self.held > 0 {
            tokio::select! {
                Some(flight) = self.flights.join_next() => match flight {
                    Ok(flight) => self.land(flight).await,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        // Nobody ends one of them alone: the runtime itself is at its end.
                        Err(_) => return,
                    },
                },
                asked = asks.recv(), if is_open && self.held < STORE_ASKS_MAX => match asked {
                    Some(asked) => self.take(asked).await,
                    None => is_open = false,
                },
            }
        }
    }

    async fn take(&mut self, asked: Asked) {
        self.held += 1;
        let stream = asked.ask.stream();
        if let Some(waiting) = self.lanes.get_mut(stream) {
            waiting.push_back(asked);
            return;
        }
        if self.is_silent && !self.flights.is_empty() {
            self.fail([asked]).await;
            return;
        }
        let stream = stream.clone();
        self.lanes.insert(stream.clone(), VecDeque::from([asked]));
        self.fly(stream).await;
    }

    /// Sends what waits in the lane, or as much as makes a batch; ends the lane if nothing does.
    async fn fly(&mut self, stream: Arc<str>) {
        let Some(waiting) = self.lanes.get_mut(&stream) else { return };
        let batch = batch(waiting);
        if batch.is_empty() {
            self.lanes.remove(&stream);
            return;
        }
        let connection = self.connection.borrow().clone();
        let Some(mut connection) = connection else {
            let waiting = self.lanes.remove(&stream).unwrap_or_default();
            self.fail(batch.into_iter().chain(waiting)).await;
            return;
        };
        let (scripts, command_timeout) = (self.scripts.clone(), self.command_timeout);
        self.flights.spawn(async move {
            let asked = timeout(command_timeout, ask(&mut connection, &scripts, &batch)).await;
            let outcome = match asked {
                Ok(Ok(values)) => Ok(values),
                Ok(Err(error)) if !error.is_timeout() => Err(Lost::Broken(error)),
                // Ours, or the connection's own.
                Ok(Err(_)) | Err(_) => Err(Lost::TimedOut),
            };
            Flight { stream, batch, outcome }
        });
    }

    async fn land(&mut self, flight: Flight) {
        let Flight { stream, batch, outcome } = flight;
        let (failure, count) = match outcome {
            Ok(values) if values.len() == batch.len() => {
                self.is_silent = false;
                let now = Now::read();
                for (asked, value) in batch.into_iter().zip(values) {
                    self.answer(now, asked, value).await;
                }
                return self.fly(stream).await;
            }
            Err(Lost::TimedOut) => {
                self.is_silent = true;
                (Failure::Unavailable, &self.counts.timed_out)
            }
            // A cluster's connection gives an error of the server so; of several commands, some may have been done.
            Err(Lost::Broken(error)) if matches!(error.kind(), ErrorKind::Server(_)) && batch.len() == 1 => {
                (Failure::Refused, &self.counts.refused)
            }
            Ok(_) | Err(Lost::Broken(_)) => (Failure::Unavailable, &self.counts.broken),
        };
        count.add(batch.len() as u64);
        for asked in batch {
            self.tell(asked.ticket, Answer::Failed(failure)).await;
        }
        // What waits would wait as long again.
        let waiting = self.lanes.remove(&stream).unwrap_or_default();
        self.fail(waiting).await;
    }

    async fn answer(&mut self, now: Now, asked: Asked, value: Value) {
        let Asked { ticket, ask } = asked;
        let answer = if let Value::ServerError(error) = value {
            tracing::debug!(%error, "Redis refused a script");
            self.counts.refused.add(1);
            Answer::Failed(Failure::Refused)
        } else {
            let said = self.scripts.understand(now, ask, &value);
            self.counts.unpublished.add(u64::from(said.unpublished));
            said.answer
        };
        self.tell(ticket, answer).await;
    }

    /// Nothing was sent.
    async fn fail(&mut self, asked: impl IntoIterator<Item = Asked>) {
        for asked in asked {
            self.counts.down.add(1);
            self.tell(asked.ticket, Answer::Failed(Failure::Unavailable)).await;
        }
    }

    async fn tell(&mut self, ticket: u64, answer: Answer) {
        self.held -= 1;
        // Nobody listens any more only where the control loop has ended.
        self.answers.send(Answered { ticket, answer }).await.ok();
    }
}

/// Asks all of it at once, in order. One value for each, which may be an error of the server: then nothing was done.
async fn ask<C: ConnectionLike>(
    connection: &mut C,
    scripts: &Scripts,
    batch: &[Asked],
) -> Result<Vec<Value>, RedisError> {
    let mut values = send(connection, scripts, By::Name, batch).await?;
    if let Some(first) = values.iter().position(is_unknown_script)
        && let rest = batch.get(first..).unwrap_or_default()
        // Otherwise somebody loaded it meanwhile, and what was asked first would be done last: those are refused. What is
        // no append may be done twice.
        && rest.iter().zip(&values[first..]).all(|(asked, value)| {
            is_unknown_script(value) || !matches!(asked.ask, Ask::Append(_))
        })
    {
        values.truncate(first);
        values.extend(send(connection, scripts, By::Text, rest).await?);
    }
    Ok(values)
}

async fn send<C: ConnectionLike>(
    connection: &mut C,
    scripts: &Scripts,
    by: By,
    batch: &[Asked],
) -> Result<Vec<Value>, RedisError> {
    let mut pipeline = Pipeline::with_capacity(batch.len());
    for asked in batch {
        pipeline.add_command(scripts.command(by, &asked.ask));
    }
    connection.req_packed_commands(&pipeline, 0, batch.len()).await
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

fn batch(waiting: &mut VecDeque<Asked>) -> Vec<Asked> {
    let mut bytes = 0;
    let mut batch = Vec::new();
    while batch.len() < STORE_BATCH_MAX && bytes < STORE_BATCH_BYTES_MAX {
        let Some(asked) = waiting.pop_front() else { break };
        bytes += match &asked.ask {
            Ask::Append(append) => append.event.payload.len(),
            Ask::Remember { values, .. } => values.iter().map(|value| value.payload.len()).sum(),
            _ => 0,
        };
        batch.push(asked);
    }
    batch
}
