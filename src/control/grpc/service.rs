//! The methods of `RealtimeService`: who may call, what is asked, what is answered, and how long it took.

use std::sync::Arc;

use tonic::{Code, Request, Response, Streaming, metadata::MetadataValue};

use crate::{
    clock::Now,
    config::settings::Secret,
    control::{
        gateway::{Gateway, InquiryError, Publication, PublishError, Stats},
        grpc::{
            callers::Check,
            events, inquiries, notify, positions,
            publish::{self, Publishing},
            queues::{self, QueueSettings},
        },
    },
    event::{Receipt, Refusal},
    generated::realtime::{
        AdmitNextRequest, AdvanceQueueRequest, BroadcastEventRequest, CloseQueueRequest,
        DisconnectUserRequest, DisconnectUserResponse, GetConnectionStatsRequest, GetConnectionStatsResponse,
        GetDeliveryStateRequest, GetDeliveryStateResponse, GetHistoryRequest, GetHistoryResponse,
        GetQueueRequest, HolderRequest, NotifyBookingResultRequest, NotifyPaymentStatusRequest,
        NotifyQueuePositionRequest, NotifyResponse, OpenQueueRequest, PauseQueueRequest, PositionUpdates,
        PresenceRequest, PresenceResponse, PublishBatchRequest, PublishBatchResponse, PublishRequest,
        PushQueuePositionsResponse, QueueResponse, SendToUserRequest,
        realtime_service_server::RealtimeService,
    },
    sale::command::Command,
    status::Status,
};

/// The service on top of a [`Gateway`].
#[derive(Debug)]
pub struct Realtime {
    gateway: Gateway,
    status: Arc<Status>,
    check: Check,
    queues: QueueSettings,
}

/// Position of a method in [`crate::metrics::GRPC_METHODS`].
#[derive(Clone, Copy, Debug)]
enum Method {
    NotifyBookingResult,
    NotifyQueuePosition,
    NotifyPaymentStatus,
    BroadcastEvent,
    SendToUser,
    GetConnectionStats,
    DisconnectUser,
    GetHistory,
    GetDeliveryState,
    Presence,
    PushQueuePositions,
    Publish,
    PublishBatch,
    OpenQueue,
    AdvanceQueue,
    AdmitNext,
    PauseQueue,
    CloseQueue,
    GetQueue,
    GetQueueLog,
    Claim,
    Complete,
    Abandon,
}

impl Realtime {
    /// Runs on the control thread alone: it writes that thread's cells.
    pub fn new(gateway: Gateway, status: Arc<Status>, token: Option<Secret>, queues: QueueSettings) -> Self {
        Self { gateway, status, check: Check::new(token), queues }
    }

    fn begin(&self, method: Method) -> Running {
        Running { status: self.status.clone(), method, code: Code::Cancelled, started: Now::read() }
    }

    /// All five notify methods: make a publication of the request, publish it.
    async fn notify<A>(
        &self,
        method: Method,
        request: Request<A>,
        publication: fn(A) -> Result<Publication, PublishError>,
    ) -> Result<Response<NotifyResponse>, tonic::Status> {
        let running = self.begin(method);
        let answer = async {
            self.check.check(request.metadata())?;
            let publication = publication(request.into_inner()).map_err(refusal)?;
            self.gateway.publish(publication).await.map(notify_response).map_err(refusal)
        };
        running.end(answer.await)
    }

    /// All methods of queues: make a command of the request, have it done.
    async fn operate<A>(
        &self,
        method: Method,
        request: Request<A>,
        asked: impl FnOnce(A) -> Result<Asked, PublishError>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        let running = self.begin(method);
        let answer = async {
            self.check.check(request.metadata())?;
            let (event_id, run, command) = asked(request.into_inner()).map_err(refusal)?;
            let run = Some(run).filter(|run| *run != 0);
            let view = self.gateway.operate(&event_id, run, command).await.map_err(queues::refusal)?;
            Ok(queues::response(view, self.queues.store))
        };
        running.end(answer.await)
    }
}

#[tonic::async_trait]
impl RealtimeService for Realtime {
    async fn notify_booking_result(
        &self,
        request: Request<NotifyBookingResultRequest>,
    ) -> Result<Response<NotifyResponse>, tonic::Status> {
        self.notify(Method::NotifyBookingResult, request, notify::booking_result).await
    }

    async fn notify_queue_position(
        &self,
        request: Request<NotifyQueuePositionRequest>,
    ) -> Result<Response<NotifyResponse>, tonic::Status> {
        self.notify(Method::NotifyQueuePosition, request, notify::queue_position).await
    }

    async fn notify_payment_status(
        &self,
        request: Request<NotifyPaymentStatusRequest>,
    ) -> Result<Response<NotifyResponse>, tonic::Status> {
        self.notify(Method::NotifyPaymentStatus, request, notify::payment_status).await
    }

    async fn broadcast_event(
        &self,
        request: Request<BroadcastEventRequest>,
    ) -> Result<Response<NotifyResponse>, tonic::Status> {
        self.notify(Method::BroadcastEvent, request, events::broadcast).await
    }

    async fn send_to_user(
        &self,
        request: Request<SendToUserRequest>,
    ) -> Result<Response<NotifyResponse>, tonic::Status> {
        self.notify(Method::SendToUser, request, events::send_to_user).await
    }

    async fn get_connection_stats(
        &self,
        request: Request<GetConnectionStatsRequest>,
    ) -> Result<Response<GetConnectionStatsResponse>, tonic::Status> {
        let running = self.begin(Method::GetConnectionStats);
        let answer = async {
            self.check.check(request.metadata())?;
            self.gateway.stats().await.map(stats_response).map_err(|refused| refusal(refused.into()))
        };
        running.end(answer.await)
    }

    async fn disconnect_user(
        &self,
        request: Request<DisconnectUserRequest>,
    ) -> Result<Response<DisconnectUserResponse>, tonic::Status> {
        let running = self.begin(Method::DisconnectUser);
        let answer = async {
            self.check.check(request.metadata())?;
            let DisconnectUserRequest { user_id, reason } = request.into_inner();
            let disconnected_connections = self.gateway.disconnect_user(&user_id).await.map_err(refusal)?;
            tracing::info!(user_id, reason, disconnected_connections, "user disconnected");
            Ok(DisconnectUserResponse { disconnected_connections })
        };
        running.end(answer.await)
    }

    async fn get_history(
        &self,
        request: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, tonic::Status> {
        let running = self.begin(Method::GetHistory);
        let answer = async {
            self.check.check(request.metadata())?;
            let query = inquiries::history_query(request.into_inner()).map_err(refusal)?;
            let told = self.gateway.history(query).await.map_err(no_report)?;
            Ok(inquiries::history_response(Now::read(), told))
        };
        running.end(answer.await)
    }

    async fn push_queue_positions(
        &self,
        request: Request<Streaming<PositionUpdates>>,
    ) -> Result<Response<PushQueuePositionsResponse>, tonic::Status> {
        let running = self.begin(Method::PushQueuePositions);
        let answer = async {
            self.check.check(request.metadata())?;
            positions::push(&self.gateway, request.into_inner()).await
        };
        running.end(answer.await)
    }

    async fn get_delivery_state(
        &self,
        request: Request<GetDeliveryStateRequest>,
    ) -> Result<Response<GetDeliveryStateResponse>, tonic::Status> {
        let running = self.begin(Method::GetDeliveryState);
        let answer = async {
            self.check.check(request.metadata())?;
            let told = self.gateway.delivery_state(&request.get_ref().user_id).await.map_err(no_report)?;
            Ok(inquiries::delivery_response(Now::read(), told))
        };
        running.end(answer.await)
    }

    async fn presence(
        &self,
        request: Request<PresenceRequest>,
    ) -> Result<Response<PresenceResponse>, tonic::Status> {
        let running = self.begin(Method::Presence);
        let answer = async {
            self.check.check(request.metadata())?;
            let target = inquiries::present_target(request.into_inner()).map_err(refusal)?;
            self.gateway.presence(target).await.map(inquiries::presence_response).map_err(no_report)
        };
        running.end(answer.await)
    }

    type PublishStream = Publishing;

    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Publishing>, tonic::Status> {
        let running = self.begin(Method::Publish);
        if let Err(refused) = self.check.check(request.metadata()) {
            return running.end(Err(refused));
        }
        Ok(Response::new(Publishing::new(self.gateway.clone(), request.into_inner(), running)))
    }

    async fn publish_batch(
        &self,
        request: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, tonic::Status> {
        let running = self.begin(Method::PublishBatch);
        let answer = async {
            self.check.check(request.metadata())?;
            publish::batch(&self.gateway, request.into_inner()).await
        };
        running.end(answer.await)
    }

    async fn open_queue(
        &self,
        request: Request<OpenQueueRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        let open = |request: OpenQueueRequest| {
            let open = queues::open(self.queues.grace, &request)?;
            Ok((request.event_id, request.run, Some(open)))
        };
        self.operate(Method::OpenQueue, request, open).await
    }

    async fn advance_queue(
        &self,
        request: Request<AdvanceQueueRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        let asked =
            |AdvanceQueueRequest { event_id, to, run }| Ok((event_id, run, Some(Command::Advance { to })));
        self.operate(Method::AdvanceQueue, request, asked).await
    }

    async fn admit_next(
        &self,
        request: Request<AdmitNextRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        let asked = |AdmitNextRequest { event_id, count, idempotency_key, run }| {
            let key = (!idempotency_key.is_empty()).then(|| idempotency_key.into());
            Ok((event_id, run, Some(Command::AdmitNext { count, key })))
        };
        self.operate(Method::AdmitNext, request, asked).await
    }

    async fn pause_queue(
        &self,
        request: Request<PauseQueueRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        let asked = |PauseQueueRequest { event_id, reason, resume, run }| match resume {
            true => Ok((event_id, run, Some(Command::Resume))),
            false => Ok((event_id, run, Some(Command::Pause { reason: reason.into() }))),
        };
        self.operate(Method::PauseQueue, request, asked).await
    }

    async fn close_queue(
        &self,
        request: Request<CloseQueueRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        let asked = |CloseQueueRequest { event_id, sold_out, run, reopen }| match (reopen, sold_out) {
            (true, true) => Err(PublishError::invalid("reopen", "contradicts sold_out")),
            (true, false) => Ok((event_id, run, Some(Command::Reopen))),
            (false, true) => Ok((event_id, run, Some(Command::SellOut))),
            (false, false) => Ok((event_id, run, Some(Command::Close))),
        };
        self.operate(Method::CloseQueue, request, asked).await
    }

    async fn get_queue(
        &self,
        request: Request<GetQueueRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        self.operate(Method::GetQueue, request, |GetQueueRequest { event_id }| Ok((event_id, 0, None))).await
    }

    type GetQueueLogStream = tokio_stream::Iter<queues::LogParts>;

    async fn get_queue_log(
        &self,
        request: Request<GetQueueRequest>,
    ) -> Result<Response<Self::GetQueueLogStream>, tonic::Status> {
        let running = self.begin(Method::GetQueueLog);
        let answer = async {
            self.check.check(request.metadata())?;
            let event_id = request.into_inner().event_id;
            let drawn = self.gateway.drawn(&event_id).await.map_err(queues::refusal)?;
            Ok(tokio_stream::iter(queues::LogParts::new(event_id, drawn)))
        };
        running.end(answer.await)
    }

    async fn claim(&self, request: Request<HolderRequest>) -> Result<Response<QueueResponse>, tonic::Status> {
        self.operate(Method::Claim, request, |request| {
            let (holder, place) = queues::holder(&request)?;
            Ok((request.event_id, request.run, Some(Command::Claim { holder, place })))
        })
        .await
    }

    async fn complete(
        &self,
        request: Request<HolderRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        self.operate(Method::Complete, request, |request| {
            let (holder, place) = queues::holder(&request)?;
            Ok((request.event_id, request.run, Some(Command::Complete { holder, place })))
        })
        .await
    }

    async fn abandon(
        &self,
        request: Request<HolderRequest>,
    ) -> Result<Response<QueueResponse>, tonic::Status> {
        self.operate(Method::Abandon, request, |request| {
            let (holder, place) = queues::holder(&request)?;
            Ok((request.event_id, request.run, Some(Command::Abandon { holder, place })))
        })
        .await
    }
}

/// A call of a method of queues: the event, the run of its queue (0: whichever it is), and what is to be done, if anything.
type Asked = (String, u64, Option<Command>);

/// A call under way; counted when it ends, or when its caller gives it up. A stream is one call.
#[derive(Debug)]
pub(super) struct Running {
    status: Arc<Status>,
    method: Method,
    code: Code,
    started: Now,
}

impl Running {
    fn end<A>(mut self, answer: Result<A, tonic::Status>) -> Result<Response<A>, tonic::Status> {
        self.note(answer.as_ref().err());
        answer.map(Response::new)
    }

    /// How it ends; `None`: well.
    pub(super) fn note(&mut self, error: Option<&tonic::Status>) {
        self.code = error.map_or(Code::Ok, tonic::Status::code);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let cells = &self.status.control.methods[self.method as usize];
        let took_us = Now::read().mono_ns.saturating_sub(self.started.mono_ns) / 1_000;
        cells.duration.record(took_us, 1);
        cells.by_code[self.code as usize].add(1);
    }
}

pub(super) fn notify_response(receipt: Receipt) -> NotifyResponse {
    let response = NotifyResponse {
        success: true,
        delivered_connections: receipt.delivered_connections,
        published: receipt.published,
        ..NotifyResponse::default()
    };
    match receipt.position {
        Some(position) => NotifyResponse {
            stream: position.stream.as_ref().into(),
            offset: position.offset,
            epoch: position.epoch.as_ref().into(),
            ..response
        },
        None => response,
    }
}

fn stats_response(stats: Stats) -> GetConnectionStatsResponse {
    GetConnectionStatsResponse {
        total_connections: stats.connections,
        authenticated_connections: stats.authenticated,
        unique_users: stats.users,
        rooms: stats.rooms.into_iter().map(|(room, members)| (room.as_ref().into(), members)).collect(),
        connections_per_core: stats.per_core,
    }
}

/// The gRPC status of a call that did not succeed.
pub(super) fn refusal(error: PublishError) -> tonic::Status {
    let message = error.to_string();
    match error {
        PublishError::Invalid { .. } => tonic::Status::invalid_argument(message),
        PublishError::Refused(Refusal::KeyReused) => tonic::Status::already_exists(message),
        PublishError::Refused(Refusal::Draining | Refusal::OutcomeUnknown) => {
            tonic::Status::unavailable(message)
        }
        PublishError::Refused(
            Refusal::Overloaded { retry_after_ms } | Refusal::NotStored { retry_after_ms },
        ) => {
            let mut status = tonic::Status::resource_exhausted(message);
            // The delay under the name that gRPC libraries look for (gRFC A6).
            status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(retry_after_ms));
            status
        }
    }
}

/// As [`refusal`], of an inquiry.
fn no_report(error: InquiryError) -> tonic::Status {
    match error {
        InquiryError::Call(error) => refusal(error),
        InquiryError::StoreAway => tonic::Status::unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;

    #[test]
    fn every_refusal_has_its_status() {
        let overloaded = Refusal::Overloaded { retry_after_ms: 100 };
        let not_stored = Refusal::NotStored { retry_after_ms: 100 };
        let table = [
            (PublishError::invalid("room", "is required"), Code::InvalidArgument, "`room` is required"),
            (Refusal::KeyReused.into(), Code::AlreadyExists, "idempotency key"),
            (Refusal::Draining.into(), Code::Unavailable, "shutting down"),
            (Refusal::OutcomeUnknown.into(), Code::Unavailable, "the same idempotency key"),
            (not_stored.into(), Code::ResourceExhausted, "try again in 100 ms"),
            (overloaded.into(), Code::ResourceExhausted, "try again in 100 ms"),
        ];
        for (error, code, message) in table {
            let status = refusal(error);
            assert_eq!(status.code(), code);
            assert!(status.message().contains(message), "{}", status.message());
            let pushback =
                status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
            assert_eq!(pushback, (code == Code::ResourceExhausted).then_some("100"));
        }
    }

    #[test]
    fn a_receipt_names_the_place_in_the_stream() {
        let position = Position { stream: "user:u".into(), epoch: "7.0".into(), offset: 3 };
        let receipt = Receipt { delivered_connections: 2, published: false, position: Some(position) };
        let expected = NotifyResponse {
            success: true,
            delivered_connections: 2,
            stream: "user:u".into(),
            offset: 3,
            epoch: "7.0".into(),
            ..NotifyResponse::default()
        };
        assert_eq!(notify_response(receipt), expected);
    }
}
