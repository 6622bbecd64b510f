//! The booking service and the operator: what they ask of a queue, repeated until it is answered.

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status, transport::Channel};
use usher::{
    auth::{KeySet, keys::Secrets, token::Signatures},
    clock::Now,
    generated::realtime::{
        AdmitNextRequest, GetQueueRequest, HolderRequest, OpenQueueRequest, PauseQueueRequest, QueueResponse,
        realtime_service_client::RealtimeServiceClient,
    },
    sale::pass::Claims,
};

use super::diary::{Deed, Diary, Seen};
use crate::{callers::Callers, random::Random};

/// How long a call may wait for its answer.
const CALL_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two tries of a call.
const RETRY: Duration = Duration::from_millis(250);
/// Tries of a call, some minutes of them.
const TRIES_MAX: u32 = 500;

type Client = RealtimeServiceClient<Channel>;

/// Calls any instance in service.
pub(crate) struct Booking {
    pub(crate) event_id: String,
    callers: Callers,
    signatures: Signatures,
}

impl Booking {
    /// Checks passes with these keys.
    pub(crate) fn new(event_id: String, callers: Callers, jwks: &str) -> Result<Self, String> {
        let keys = KeySet::jwks(jwks, Secrets::Skipped).map_err(|error| format!("jwks.json: {error}"))?;
        Ok(Self { event_id, callers, signatures: Signatures::new(keys) })
    }

    /// What a pass says, if it is good at that time.
    pub(crate) fn check(&self, pass: &str, at_ms: u64) -> Result<Claims, String> {
        let payload = self.signatures.payload(pass).map_err(|error| error.to_string())?;
        let now = Now { mono_ns: 0, wall_ms: at_ms };
        Claims::check(&payload, &self.event_id, now).map_err(|error| error.to_string())
    }

    pub(crate) const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    pub(crate) async fn open(&self, terms: OpenQueueRequest) -> Result<QueueResponse, Status> {
        self.ask(|mut client| {
            let terms = terms.clone();
            async move { client.open_queue(terms).await }
        })
        .await
    }

    pub(crate) async fn pause(&self) -> Result<QueueResponse, Status> {
        let request = PauseQueueRequest {
            event_id: self.event_id.clone(),
            reason: "the books".into(),
            resume: false,
            run: 0,
        };
        self.ask(|mut client| {
            let request = request.clone();
            async move { client.pause_queue(request).await }
        })
        .await
    }

    /// Lets so many more in, once however often it is asked.
    pub(crate) async fn admit(&self, count: u32, key: &str) -> Result<QueueResponse, Status> {
        let (event_id, idempotency_key) = (self.event_id.clone(), key.to_owned());
        let request = AdmitNextRequest { event_id, count, idempotency_key, run: 0 };
        self.ask(|mut client| {
            let request = request.clone();
            async move { client.admit_next(request).await }
        })
        .await
    }

    /// How the queue stands, by the instance of that number.
    pub(crate) async fn look(&self, instance: u32) -> Result<QueueResponse, Status> {
        let mut client = self.callers.of(instance).ok_or_else(|| Status::unavailable("nobody in service"))?;
        let request = GetQueueRequest { event_id: self.event_id.clone() };
        Ok(client.get_queue(request).await?.into_inner())
    }

    /// Everybody who was in the pre-queue, by the instance of that number.
    pub(crate) async fn log(&self, instance: u32) -> Result<String, Status> {
        let mut client = self.callers.of(instance).ok_or_else(|| Status::unavailable("nobody in service"))?;
        let request = GetQueueRequest { event_id: self.event_id.clone() };
        let mut parts = client.get_queue_log(request).await?.into_inner();
        let mut text = String::new();
        while let Some(part) = parts.message().await? {
            text.push_str(&part.text);
        }
        Ok(text)
    }

    /// What somebody does with a pass: checked first, as a booking service does, then told to the gateway.
    pub(crate) async fn use_pass(&self, diary: &Rc<RefCell<Diary>>, pass: &str, plan: Plan) {
        let at_ms = Now::read().wall_ms;
        let Claims { sub, anonymous, position, .. } = match self.check(pass, at_ms) {
            Ok(claims) => claims,
            Err(problem) => return diary.borrow_mut().fault(format!("a pass is no good: {problem}")),
        };
        let event_id = self.event_id.clone();
        // The call may be repeated when the holder has another place.
        let holder = HolderRequest { event_id, holder: sub, anonymous, run: 0, place: position };
        for deed in plan.deeds {
            sleep(plan.pause).await;
            if *deed == Deed::Abandoned {
                diary.borrow_mut().note(Seen::Booking(Deed::GivesUp));
            }
            let answer = self.tell(*deed, &holder).await;
            let mut diary = diary.borrow_mut();
            match answer {
                Ok(()) => diary.note(Seen::Booking(*deed)),
                Err(status) if status.code() == Code::FailedPrecondition => {
                    return diary.note(Seen::Booking(Deed::TooLate));
                }
                Err(status) => return diary.fault(format!("{deed:?} {holder:?}: {status}")),
            }
        }
    }

    async fn tell(&self, deed: Deed, holder: &HolderRequest) -> Result<(), Status> {
        let answer = self.ask(|mut client| {
            let holder = holder.clone();
            async move {
                match deed {
                    Deed::Claimed => client.claim(holder).await,
                    Deed::Completed => client.complete(holder).await,
                    _ => client.abandon(holder).await,
                }
            }
        });
        answer.await.map(drop)
    }

    /// Calls one instance after the other until one knows the outcome.
    async fn ask<F>(&self, call: impl Fn(Client) -> F) -> Result<QueueResponse, Status>
    where
        F: Future<Output = Result<Response<QueueResponse>, Status>>,
    {
        let mut random = Random::new(Now::read().mono_ns);
        let mut last = Status::unavailable("nobody in service");
        for _ in 0..TRIES_MAX {
            if let Some(client) = self.callers.of(random.below(u32::MAX)) {
                match timeout(CALL_TIME_MAX, call(client)).await {
                    Ok(Ok(answer)) => return Ok(answer.into_inner()),
                    Ok(Err(status)) if is_known(&status) => return Err(status),
                    Ok(Err(status)) => last = status,
                    Err(_) => last = Status::deadline_exceeded("no answer in time"),
                }
            }
            sleep(RETRY).await;
        }
        Err(last)
    }
}

/// Whether asking again would bring the same.
fn is_known(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::FailedPrecondition
            | Code::NotFound
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::DataLoss
    )
}

/// What somebody will do with a pass, and how long it takes each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) deeds: &'static [Deed],
    pub(crate) pause: Duration,
}

impl Plan {
    /// Half of the people buy; the others give up sooner or later, stay inside, or do not use their passes.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let deeds: &'static [Deed] = match random.below(100) {
            0..50 => &[Deed::Claimed, Deed::Completed],
            50..60 => &[Deed::Claimed, Deed::Abandoned],
            60..70 => &[Deed::Claimed],
            70..76 => &[Deed::Abandoned],
            _ => &[],
        };
        Self { deeds, pause: Duration::from_millis(100 + u64::from(random.below(900))) }
    }

    /// The place is over when everything is done.
    pub(crate) fn ends(&self) -> bool {
        matches!(self.deeds.last(), Some(Deed::Completed | Deed::Abandoned))
    }
}
