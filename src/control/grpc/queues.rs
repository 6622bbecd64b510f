//! Queues of waiting rooms: what operators ask as commands, the queue as an answer.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::{
    config::settings::Store,
    control::{
        gateway::{PublishError, QueueError},
        passes::Drawn,
    },
    generated::realtime::{
        HolderRequest, OpenQueueRequest, QueueLogPart, QueuePause, QueueResponse, open_queue_request,
    },
    limits::PLACES_MAX,
    line::LineState,
    route::lines::io::View,
    sale::{
        command::{Command, Term, Terms},
        fair::{Hex, Secrets},
        inlet::Inlet,
        pass::USER_PREFIX,
        queue::Refusal,
        receipt::Log,
    },
};

/// What of the settings counts for queues.
#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    /// `QUEUE_GRACE`.
    pub grace: Duration,
    /// Where their logs are.
    pub store: Store,
}

/// The terms that are asked for; what is not said is as for a queue that begins, which one that there is does not heed.
pub(super) fn open(grace: Duration, request: &OpenQueueRequest) -> Result<Command, PublishError> {
    let mut secret = [0; 32];
    let made = request.secret.is_empty();
    if made {
        let problem = "cannot be made now";
        SystemRandom::new().fill(&mut secret).map_err(|_| PublishError::invalid("secret", problem))?;
    } else if request.secret.len() == secret.len() {
        secret.copy_from_slice(&request.secret);
    } else {
        return Err(PublishError::invalid("secret", "must be 32 bytes or none"));
    }
    let OpenQueueRequest { opens_at_ms, opens_in_seconds, now, stay_seconds, stay_forever, .. } = *request;
    if usize::from(opens_at_ms != 0) + usize::from(opens_in_seconds != 0) + usize::from(now) > 1 {
        let problem = "must be alone: of opens_at_ms, opens_in_seconds and now, one says when";
        return Err(PublishError::invalid(if now { "now" } else { "opens_in_seconds" }, problem));
    }
    if stay_forever && stay_seconds != 0 {
        return Err(PublishError::invalid("stay_forever", "contradicts stay_seconds"));
    }
    let inlet = match request.inlet {
        None | Some(open_queue_request::Inlet::Manual(false)) => None,
        Some(open_queue_request::Inlet::Manual(true)) => Some(Inlet::Manual),
        Some(open_queue_request::Inlet::PerMinute(count)) => Some(Inlet::PerMinute(count)),
        Some(open_queue_request::Inlet::Inside(count)) => Some(Inlet::Inside(count)),
    };
    let unsaid = [
        (Term::Opening, opens_at_ms == 0 && opens_in_seconds == 0 && !now),
        (Term::Inlet, inlet.is_none()),
        (Term::Claim, request.claim_seconds == 0),
        (Term::Grace, request.grace_seconds == 0),
        (Term::Stay, stay_seconds == 0 && !stay_forever),
        (Term::Places, request.places_max == 0),
    ];
    let Secrets { seed, salts } = Secrets::derive(&secret);
    let seconds = |given: u32, default: Duration| match given {
        0 => default.as_millis() as u64,
        given => u64::from(given) * 1_000,
    };
    Ok(Command::Open(Box::new(Terms {
        opens_at_ms,
        opens_in_ms: u64::from(opens_in_seconds) * 1_000,
        seed,
        salts,
        made,
        inlet: inlet.unwrap_or(Inlet::Manual),
        claim_ms: seconds(request.claim_seconds, CLAIM),
        grace_ms: seconds(request.grace_seconds, grace),
        stay_ms: u64::from(stay_seconds) * 1_000,
        places_max: if request.places_max == 0 { PLACES_MAX } else { request.places_max },
        kept: unsaid.into_iter().filter_map(|(term, is_unsaid)| is_unsaid.then_some(term)).collect(),
    })))
}

/// Whose place is meant, as the log has it, and which of them.
pub(super) fn holder(request: &HolderRequest) -> Result<(Box<str>, Option<u32>), PublishError> {
    let holder = match &*request.holder {
        "" => return Err(PublishError::invalid("holder", "is required")),
        name if request.anonymous => name.into(),
        name => format!("{USER_PREFIX}{name}").into(),
    };
    Ok((holder, (request.place != 0).then_some(request.place)))
}

/// The queue, for an operator.
pub(super) fn response(view: View, store: Store) -> QueueResponse {
    let View { stats, run, opens_at_ms, pauses, line, draw: _, commitment, seed } = view;
    let pauses = [("operator", pauses.operator), ("target", pauses.target)];
    let state = match line.state {
        LineState::Early { .. } => "early",
        LineState::Open => "open",
        LineState::Paused { .. } => "paused",
        LineState::SoldOut => "sold_out",
        LineState::Closed => "closed",
        LineState::Lost => "lost",
    };
    QueueResponse {
        event_id: line.event_id.as_ref().into(),
        state: state.into(),
        serving: line.serving,
        total: stats.total,
        waiting: stats.waiting,
        departed: stats.departed,
        left: stats.left,
        admitted: stats.admitted,
        holding: stats.holding,
        inside: stats.inside,
        expired: stats.expired,
        completed: stats.completed,
        abandoned: stats.abandoned,
        commitment: commitment.to_vec(),
        seed: seed.map(Vec::from).unwrap_or_default(),
        run,
        pauses: pauses
            .into_iter()
            .filter_map(|(by, reason)| Some(QueuePause { by: by.into(), reason: reason?.as_ref().into() }))
            .collect(),
        opens_at_ms: opens_at_ms.unwrap_or_default(),
        warning: if store == Store::Embedded { IN_MEMORY.into() } else { String::new() },
    }
}

/// The gRPC status of what was not done.
pub(super) fn refusal(error: QueueError) -> tonic::Status {
    match error {
        QueueError::Call(error) => super::service::refusal(error),
        lost @ QueueError::Lost => tonic::Status::data_loss(lost.to_string()),
        another @ QueueError::Another => tonic::Status::aborted(another.to_string()),
        QueueError::Rules(refusal @ (Refusal::NoQueue | Refusal::NoPlace)) => {
            tonic::Status::not_found(refusal.to_string())
        }
        QueueError::Rules(refusal @ Refusal::Terms) => tonic::Status::invalid_argument(refusal.to_string()),
        QueueError::Rules(refusal @ Refusal::KeyReused) => tonic::Status::already_exists(refusal.to_string()),
        QueueError::Rules(refusal @ Refusal::TooManyQueues) => {
            tonic::Status::resource_exhausted(refusal.to_string())
        }
        QueueError::Rules(refusal) => tonic::Status::failed_precondition(refusal.to_string()),
    }
}

/// The text of who was in the pre-queue, in parts.
#[derive(Debug)]
pub struct LogParts {
    drawn: Arc<Drawn>,
    event_id: String,
    /// Holders that were told; `None`: not even the first line was.
    told: Option<usize>,
}

impl LogParts {
    pub(super) fn new(event_id: String, drawn: Arc<Drawn>) -> Self {
        Self { drawn, event_id, told: None }
    }
}

impl Iterator for LogParts {
    type Item = Result<QueueLogPart, tonic::Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let Drawn { shuffle, salts, .. } = &*self.drawn;
        let Some(told) = self.told else {
            self.told = Some(0);
            let heading = Log { event_id: self.event_id.clone(), salts: Hex(*salts), holders: Vec::new() };
            return Some(Ok(QueueLogPart { text: heading.text() }));
        };
        let holders = shuffle.holders().get(told..).filter(|rest| !rest.is_empty())?;
        let count = holders.len().min(LOG_PART_HOLDERS);
        self.told = Some(told + count);
        let lines = holders[..count].iter().map(|holder| serde_json::json!(&**holder).to_string() + "\n");
        Some(Ok(QueueLogPart { text: lines.collect() }))
    }
}

const IN_MEMORY: &str = "the queue is in memory, and ends with the gateway's process (STORE=embedded)";
const CLAIM: Duration = Duration::from_secs(300);
/// Holders in one message of the log of a pre-queue.
const LOG_PART_HOLDERS: usize = 1_000;
