//! What operators do with queues.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Call, Gateway, PublishError, check_length};
use crate::{
    control::passes::Drawn,
    event::Refusal,
    limits::{
        EVENT_ID_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, OVERLOAD_RETRY, PLACES_MAX, QUEUE_REASON_BYTES_MAX,
        STORE_RETRY, USER_ID_BYTES_MAX,
    },
    route::lines::io::{Denied, View},
    sale::{command::Command, queue},
    wire::room,
};

/// Why a queue was not changed, or not told of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// As for any other call.
    #[error(transparent)]
    Call(#[from] PublishError),
    /// The queue's rules.
    #[error(transparent)]
    Rules(#[from] queue::Refusal),
    /// Nobody knows its places any more.
    #[error("the log of the queue was lost: it has ended, and can be opened anew")]
    Lost,
    /// Nothing was done.
    #[error("the queue is over, and the event may have another: look at it before you decide again")]
    Another,
}

impl Gateway {
    /// The shuffle of the pre-queue, as this instance draws it: right after it read the log, or the opening, that takes a
    /// moment, which is waited for.
    ///
    /// # Errors
    /// As [`Gateway::operate`]; [`queue::Refusal::NotDrawn`] where nobody was in the pre-queue.
    pub async fn drawn(&self, event_id: &str) -> Result<Arc<Drawn>, QueueError> {
        // From then on it is followed.
        self.operate(event_id, None, None).await?.draw?;
        let (reply, answer) = oneshot::channel();
        self.hand_over(Call::Drawn { event_id: event_id.into(), reply }).map_err(PublishError::from)?;
        match answer.await {
            Ok(Some(drawn)) => Ok(drawn),
            // Too many wait for it, or it could not be signed, which is in the log.
            Ok(None) => {
                let retry_after_ms = OVERLOAD_RETRY.as_millis() as u32;
                Err(PublishError::from(Refusal::Overloaded { retry_after_ms }).into())
            }
            Err(_) => Err(PublishError::from(Refusal::Draining).into()),
        }
    }

    /// Does something with the queue of an event, or looks at it; the answer is the queue as it is afterwards. With a run
    /// ([`View::run`]) nothing is done to another queue of the event.
    ///
    /// # Errors
    /// A field that does not fit, the gateway's refusal, or the rules of the queue.
    pub async fn operate(
        &self,
        event_id: &str,
        run: Option<u64>,
        command: Option<Command>,
    ) -> Result<View, QueueError> {
        check_length("event_id", event_id, 1..=EVENT_ID_BYTES_MAX)?;
        if room::classify(event_id).is_none() {
            return Err(PublishError::invalid("event_id", "must be of A-Z a-z 0-9 _ . : -").into());
        }
        if let Some(command) = command.as_ref().filter(|command| !command.is_bounded()) {
            return Err(out_of_range(command).into());
        }
        let (reply, answer) = oneshot::channel();
        self.hand_over(Call::Operate { event_id: event_id.into(), run, command, reply })
            .map_err(PublishError::from)?;
        match answer.await {
            Ok(Ok(view)) => Ok(*view),
            Ok(Err(Denied::Refused(refusal))) => Err(refusal.into()),
            Ok(Err(Denied::Lost)) => Err(QueueError::Lost),
            Ok(Err(Denied::Another)) => Err(QueueError::Another),
            Ok(Err(Denied::Unwritable)) => {
                let retry_after_ms = STORE_RETRY.as_millis() as u32;
                Err(PublishError::from(Refusal::NotStored { retry_after_ms }).into())
            }
            Err(_) => Err(PublishError::from(Refusal::Draining).into()),
        }
    }
}

/// Which field of a call it is: but for the terms of a queue each has one.
fn out_of_range(command: &Command) -> PublishError {
    let (field, most) = match command {
        Command::Open(terms) => {
            let (field, min, max) = terms.out_of_range().unwrap_or_default();
            return PublishError::invalid(field, format!("must be {min} to {max}"));
        }
        Command::Advance { .. } => ("to", format!("{PLACES_MAX}")),
        Command::AdmitNext { .. } => ("idempotency_key", format!("{IDEMPOTENCY_KEY_BYTES_MAX} bytes")),
        Command::Pause { .. } => ("reason", format!("{QUEUE_REASON_BYTES_MAX} bytes")),
        _ => ("holder", format!("{USER_ID_BYTES_MAX} bytes")),
    };
    PublishError::invalid(field, format!("must be at most {most}"))
}
