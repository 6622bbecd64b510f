//! `Publish` and `PublishBatch`: notifications of any kind, each with the result that its own method would have given.
//!
//! Owns how many of a stream wait for their answer. Never drops one that was read: it is answered in its turn, or the
//! stream ends.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::{
    control::{
        gateway::{Gateway, Publication, PublishError, Submitted},
        grpc::{
            events, notify,
            service::{Running, notify_response, refusal},
        },
    },
    event::{Receipt, Refusal},
    generated::realtime::{
        PublishBatchRequest, PublishBatchResponse, PublishRequest, PublishResponse, Refused,
        publish_request::Notification, publish_response,
    },
    limits::{PUBLISH_BATCH_MAX, PUBLISH_UNANSWERED_MAX},
};

type Outcome = Result<Receipt, PublishError>;

fn publication(notification: Option<Notification>) -> Result<Publication, PublishError> {
    match notification {
        Some(Notification::BookingResult(request)) => notify::booking_result(request),
        Some(Notification::QueuePosition(request)) => notify::queue_position(request),
        Some(Notification::PaymentStatus(request)) => notify::payment_status(request),
        Some(Notification::Broadcast(request)) => events::broadcast(request),
        Some(Notification::ToUser(request)) => events::send_to_user(request),
        None => Err(PublishError::invalid("notification", "is required")),
    }
}

fn submit(gateway: &Gateway, notification: Option<Notification>) -> Result<Submitted, PublishError> {
    gateway.submit(publication(notification)?)
}

fn response(sequence: u64, outcome: Outcome) -> PublishResponse {
    let result = match outcome {
        Ok(receipt) => publish_response::Result::Accepted(notify_response(receipt)),
        Err(error) => publish_response::Result::Refused(refused(error)),
    };
    PublishResponse { sequence, result: Some(result) }
}

fn refused(error: PublishError) -> Refused {
    let retry_after_ms = match &error {
        PublishError::Refused(
            Refusal::Overloaded { retry_after_ms } | Refusal::NotStored { retry_after_ms },
        ) => *retry_after_ms,
        _ => 0,
    };
    let status = refusal(error);
    Refused { code: status.code().into(), message: status.message().into(), retry_after_ms }
}

/// All are submitted before the first is waited for, so they are routed in their order and together.
pub(super) async fn batch(
    gateway: &Gateway,
    request: PublishBatchRequest,
) -> Result<PublishBatchResponse, Status> {
    if request.notifications.len() > PUBLISH_BATCH_MAX {
        let problem = format!("must be at most {PUBLISH_BATCH_MAX}");
        return Err(refusal(PublishError::invalid("notifications", problem)));
    }
    let submitted: Vec<_> = request
        .notifications
        .into_iter()
        .map(|PublishRequest { sequence, notification }| (sequence, submit(gateway, notification)))
        .collect();
    let mut results = Vec::with_capacity(submitted.len());
    for (sequence, submitted) in submitted {
        let outcome = match submitted {
            Ok(submitted) => submitted.await,
            Err(error) => Err(error),
        };
        results.push(response(sequence, outcome));
    }
    Ok(PublishBatchResponse { results })
}

/// The answers of a `Publish` stream, in the order of its notifications. Whoever reads them drives it: an answer that the
/// caller does not take keeps the next notifications from being read, and HTTP/2 tells the caller so.
#[derive(Debug)]
pub struct Publishing {
    gateway: Gateway,
    /// `None`: the caller has sent everything.
    requests: Option<Streaming<PublishRequest>>,
    /// At most [`PUBLISH_UNANSWERED_MAX`], oldest first.
    unanswered: VecDeque<Unanswered>,
    /// Why the caller's side broke; told after what was read is answered.
    broken: Option<Status>,
    running: Running,
}

#[derive(Debug)]
struct Unanswered {
    /// The caller's.
    sequence: u64,
    /// An error: it was refused before it was submitted.
    submitted: Result<Submitted, PublishError>,
}

impl Publishing {
    pub(super) fn new(gateway: Gateway, requests: Streaming<PublishRequest>, running: Running) -> Self {
        Self { gateway, requests: Some(requests), unanswered: VecDeque::new(), broken: None, running }
    }

    /// The answer to the oldest, if it is decided.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<PublishResponse> {
        let Some(Unanswered { sequence, submitted }) = self.unanswered.front_mut() else {
            return Poll::Pending;
        };
        let sequence = *sequence;
        let outcome = match submitted {
            Ok(submitted) => ready!(Pin::new(submitted).poll(cx)),
            Err(error) => Err(error.clone()),
        };
        self.unanswered.pop_front();
        Poll::Ready(response(sequence, outcome))
    }

    /// Takes the next notification, or the end of the caller's side.
    fn take(&mut self, request: Option<Result<PublishRequest, Status>>) {
        match request {
            Some(Ok(PublishRequest { sequence, notification })) => {
                let submitted = submit(&self.gateway, notification);
                return self.unanswered.push_back(Unanswered { sequence, submitted });
            }
            Some(Err(status)) => self.broken = Some(status),
            None => {}
        }
        self.requests = None;
    }
}

impl Stream for Publishing {
    type Item = Result<PublishResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Poll::Ready(answer) = this.poll_answer(cx) {
                return Poll::Ready(Some(Ok(answer)));
            }
            let room = this.unanswered.len() < PUBLISH_UNANSWERED_MAX;
            match &mut this.requests {
                Some(requests) if room => {
                    let request = ready!(Pin::new(requests).poll_next(cx));
                    this.take(request);
                }
                None if this.unanswered.is_empty() => {
                    let broken = this.broken.take();
                    this.running.note(broken.as_ref());
                    return Poll::Ready(broken.map(Err));
                }
                _ => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_refusal_says_what_the_own_method_would_say() {
        let table = [
            (PublishError::invalid("room", "is required"), Code::InvalidArgument, 0),
            (Refusal::Overloaded { retry_after_ms: 100 }.into(), Code::ResourceExhausted, 100),
            (Refusal::NotStored { retry_after_ms: 70 }.into(), Code::ResourceExhausted, 70),
            (Refusal::OutcomeUnknown.into(), Code::Unavailable, 0),
            (Refusal::KeyReused.into(), Code::AlreadyExists, 0),
        ];
        for (error, code, retry_after_ms) in table {
            let message = error.to_string();
            assert_eq!(refused(error), Refused { code: code.into(), message, retry_after_ms });
        }
    }

    #[test]
    fn a_notification_is_required() {
        let problem = publication(None).unwrap_err();
        assert_eq!(problem.to_string(), "`notification` is required");
    }
}
