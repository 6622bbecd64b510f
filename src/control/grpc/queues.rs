//! Queues of waiting rooms: what operators ask as commands, the queue as an answer.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::{
    clock::Now,
    control::gateway::{PublishError, QueueError},
    generated::realtime::{HolderRequest, OpenQueueRequest, QueueResponse, open_queue_request},
    limits::PLACES_MAX,
    line::LineState,
    route::lines::io::View,
    sale::{
        command::{Command, Terms},
        inlet::Inlet,
        pass::USER_PREFIX,
        queue::Refusal,
    },
};

/// The terms that are asked for.
pub(super) fn open(now: Now, request: &OpenQueueRequest) -> Result<Command, PublishError> {
    let mut seed = [0; 32];
    if request.seed.is_empty() {
        let problem = "cannot be made now";
        SystemRandom::new().fill(&mut seed).map_err(|_| PublishError::invalid("seed", problem))?;
    } else if request.seed.len() == seed.len() {
        seed.copy_from_slice(&request.seed);
    } else {
        return Err(PublishError::invalid("seed", "must be 32 bytes or none"));
    }
    let seconds = |given: u32, default: Duration| match given {
        0 => default.as_millis() as u64,
        given => u64::from(given) * 1_000,
    };
    Ok(Command::Open(Box::new(Terms {
        opens_at_ms: if request.opens_at_ms == 0 { now.wall_ms } else { request.opens_at_ms },
        seed,
        inlet: match request.inlet {
            None => Inlet::Manual,
            Some(open_queue_request::Inlet::PerMinute(count)) => Inlet::PerMinute(count),
            Some(open_queue_request::Inlet::Inside(count)) => Inlet::Inside(count),
        },
        claim_ms: seconds(request.claim_seconds, CLAIM),
        grace_ms: seconds(request.grace_seconds, GRACE),
        stay_ms: u64::from(request.stay_seconds) * 1_000,
        places_max: if request.places_max == 0 { PLACES_MAX } else { request.places_max },
    })))
}

/// Whose place is meant, as the log has it.
pub(super) fn holder(request: &HolderRequest) -> Result<Box<str>, PublishError> {
    match &*request.holder {
        "" => Err(PublishError::invalid("holder", "is required")),
        name if request.anonymous => Ok(name.into()),
        name => Ok(format!("{USER_PREFIX}{name}").into()),
    }
}

/// The queue, for an operator.
pub(super) fn response(view: View) -> QueueResponse {
    let View { stats, line, commitment } = view;
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
    }
}

/// The gRPC status of what was not done.
pub(super) fn refusal(error: QueueError) -> tonic::Status {
    match error {
        QueueError::Call(error) => super::service::refusal(error),
        lost @ QueueError::Lost => tonic::Status::data_loss(lost.to_string()),
        QueueError::Rules(refusal @ (Refusal::NoQueue | Refusal::NoPlace)) => {
            tonic::Status::not_found(refusal.to_string())
        }
        QueueError::Rules(refusal @ Refusal::Terms) => tonic::Status::invalid_argument(refusal.to_string()),
        QueueError::Rules(refusal @ Refusal::TooManyQueues) => {
            tonic::Status::resource_exhausted(refusal.to_string())
        }
        QueueError::Rules(refusal) => tonic::Status::failed_precondition(refusal.to_string()),
    }
}

const CLAIM: Duration = Duration::from_secs(300);
/// `QUEUE_GRACE` of the contract.
const GRACE: Duration = Duration::from_secs(120);
