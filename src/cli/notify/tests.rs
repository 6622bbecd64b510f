//! A real call over a real socket, and what each line of arguments becomes.

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::*;
use crate::config::settings::Settings;
use crate::generated::realtime::{
    AdmitNextRequest, AdvanceQueueRequest, BroadcastEventRequest, CloseQueueRequest, DeliveryClass,
    DisconnectUserRequest, GetConnectionStatsRequest, GetDeliveryStateRequest, GetHistoryRequest,
    GetQueueRequest, HolderRequest, NotifyBookingResultRequest, NotifyPaymentStatusRequest,
    NotifyQueuePositionRequest, OpenQueueRequest, PauseQueueRequest, PositionUpdates, PresenceRequest,
    PublishBatchRequest, PublishBatchResponse, PublishRequest, PublishResponse, PushQueuePositionsResponse,
    QueueLogPart, QueueResponse, SendToUserRequest, broadcast_event_request, get_history_request,
    presence_request,
    realtime_service_server::{RealtimeService, RealtimeServiceServer},
    send_to_user_request,
};

fn call(line: &str) -> Call {
    let matches = command().try_get_matches_from(line.split(' ')).unwrap();
    Call::from_matches(&matches).unwrap()
}

#[test]
fn each_line_becomes_its_message() {
    let rows = [
        (
            "notify booking --user u --booking b --reference R --event e --seats A1,A2 --amount 9.50 --currency EUR \
             --message hello --key k",
            Call::Booking(NotifyBookingResultRequest {
                user_id: "u".into(),
                booking_id: "b".into(),
                success: true,
                message: "hello".into(),
                booking_reference: "R".into(),
                event_id: "e".into(),
                seat_numbers: vec!["A1".into(), "A2".into()],
                total_amount: "9.50".into(),
                currency: "EUR".into(),
                idempotency_key: "k".into(),
            }),
        ),
        (
            "notify queue --user u --event e --position 7 --total 90 --wait 2m --version 3",
            Call::Queue(NotifyQueuePositionRequest {
                user_id: "u".into(),
                event_id: "e".into(),
                position: 7,
                total: 90,
                estimated_wait_seconds: 120,
                version: 3,
                idempotency_key: String::new(),
            }),
        ),
        (
            "notify payment --user u --payment p --status refunded",
            Call::Payment(NotifyPaymentStatusRequest {
                user_id: "u".into(),
                payment_id: "p".into(),
                status: "refunded".into(),
                ..NotifyPaymentStatusRequest::default()
            }),
        ),
        (
            "notify broadcast --room event:1 --type ticket:sold --payload {\"left\":3} --class latest",
            Call::Broadcast(BroadcastEventRequest {
                room: "event:1".into(),
                event_type: "ticket:sold".into(),
                body: Some(broadcast_event_request::Body::PayloadJson(b"{\"left\":3}".to_vec())),
                class: DeliveryClass::Latest.into(),
                ..BroadcastEventRequest::default()
            }),
        ),
        (
            "notify user --user u --type notification:new",
            Call::User(SendToUserRequest {
                user_id: "u".into(),
                event_type: "notification:new".into(),
                body: Some(send_to_user_request::Body::PayloadJson(b"{}".to_vec())),
                ..SendToUserRequest::default()
            }),
        ),
        ("notify stats", Call::Stats(GetConnectionStatsRequest {})),
        (
            "notify disconnect --user u --reason abuse",
            Call::Disconnect(DisconnectUserRequest { user_id: "u".into(), reason: "abuse".into() }),
        ),
    ];
    for (line, expected) in rows {
        assert_eq!(call(line), expected, "{line}");
    }
    assert!(matches!(call("notify booking --user u --booking b --failed"), Call::Booking(it) if !it.success));
}

#[test]
fn each_inquiry_becomes_its_message() {
    let rows = [
        (
            "notify history --user u",
            Call::History(GetHistoryRequest {
                target: Some(get_history_request::Target::UserId("u".into())),
                ..GetHistoryRequest::default()
            }),
        ),
        (
            "notify history --room r --after 0 --epoch e --limit 9",
            Call::History(GetHistoryRequest {
                target: Some(get_history_request::Target::Room("r".into())),
                after_offset: Some(0),
                epoch: "e".into(),
                limit: 9,
            }),
        ),
        ("notify delivery --user u", Call::Delivery(GetDeliveryStateRequest { user_id: "u".into() })),
        (
            "notify presence --room r",
            Call::Presence(PresenceRequest { target: Some(presence_request::Target::Room("r".into())) }),
        ),
    ];
    for (line, expected) in rows {
        assert_eq!(call(line), expected, "{line}");
    }
}

#[test]
fn what_is_missing_or_unknown_is_told() {
    for line in [
        "notify booking --user u",
        "notify payment --user u --payment p --status lost",
        "notify queue --user u --event e --position -1",
        "notify broadcast --room r",
        "notify stats --tls-cert a",
        "notify history",
        "notify presence --user u --room r",
        "notify fax",
    ] {
        assert!(command().try_get_matches_from(line.split(' ')).is_err(), "{line}");
    }
}

fn target(line: &str, settings: &Settings) -> Result<Target, CallError> {
    let matches = command().try_get_matches_from(line.split(' ')).unwrap();
    Target::from_matches(&matches, settings)
}

#[test]
fn the_address_is_the_configured_one_unless_typed() {
    let mut settings = Settings::default();
    settings.listen.grpc = "0.0.0.0:6000".parse().unwrap();
    for (line, address) in [
        ("notify stats", "http://127.0.0.1:6000"),
        ("notify stats --address 10.0.0.1:7", "http://10.0.0.1:7"),
        ("notify --address http://10.0.0.1:7 stats", "http://10.0.0.1:7"),
    ] {
        assert_eq!(target(line, &settings).unwrap().address, address);
    }
}

#[test]
fn https_needs_an_authority() {
    let error = target("notify stats --address https://10.0.0.1:7", &Settings::default()).err().unwrap();
    assert!(error.to_string().contains("--tls-ca"), "{error}");
    let error =
        target("notify stats --address https://h:7 --tls-ca /nowhere", &Settings::default()).err().unwrap();
    assert!(error.to_string().starts_with("cannot read /nowhere: "), "{error}");
}

/// Answers bookings alone, to callers that show the token.
struct Service;

#[tonic::async_trait]
impl RealtimeService for Service {
    async fn notify_booking_result(
        &self,
        request: Request<NotifyBookingResultRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if shown != Some("Bearer sesame") {
            return Err(Status::unauthenticated("a valid bearer token is required"));
        }
        let stream = format!("user:{}", request.into_inner().user_id);
        Ok(Response::new(NotifyResponse { success: true, stream, offset: 4, ..NotifyResponse::default() }))
    }

    async fn notify_queue_position(
        &self,
        _: Request<NotifyQueuePositionRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn notify_payment_status(
        &self,
        _: Request<NotifyPaymentStatusRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn broadcast_event(
        &self,
        _: Request<BroadcastEventRequest>,
    ) -> Result<Response<NotifyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn send_to_user(&self, _: Request<SendToUserRequest>) -> Result<Response<NotifyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_connection_stats(
        &self,
        _: Request<GetConnectionStatsRequest>,
    ) -> Result<Response<GetConnectionStatsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn disconnect_user(
        &self,
        _: Request<DisconnectUserRequest>,
    ) -> Result<Response<DisconnectUserResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_history(
        &self,
        _: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_delivery_state(
        &self,
        _: Request<GetDeliveryStateRequest>,
    ) -> Result<Response<GetDeliveryStateResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn presence(&self, _: Request<PresenceRequest>) -> Result<Response<PresenceResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn push_queue_positions(
        &self,
        _: Request<Streaming<PositionUpdates>>,
    ) -> Result<Response<PushQueuePositionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn open_queue(&self, _: Request<OpenQueueRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn advance_queue(
        &self,
        _: Request<AdvanceQueueRequest>,
    ) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn admit_next(&self, _: Request<AdmitNextRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn pause_queue(&self, _: Request<PauseQueueRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn close_queue(&self, _: Request<CloseQueueRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_queue(&self, _: Request<GetQueueRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type GetQueueLogStream = tokio_stream::Empty<Result<QueueLogPart, Status>>;

    async fn get_queue_log(
        &self,
        _: Request<GetQueueRequest>,
    ) -> Result<Response<Self::GetQueueLogStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn claim(&self, _: Request<HolderRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn complete(&self, _: Request<HolderRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn abandon(&self, _: Request<HolderRequest>) -> Result<Response<QueueResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type PublishStream = tokio_stream::Empty<Result<PublishResponse, Status>>;

    async fn publish(
        &self,
        _: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn publish_batch(
        &self,
        _: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn a_call_carries_the_token_and_brings_the_answer_or_the_status() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = Settings::default();
    settings.listen.grpc = listener.local_addr().unwrap();
    let server = Server::builder().add_service(RealtimeServiceServer::new(Service));
    let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let line = "notify booking --user u --booking b --token sesame";
    let answer = perform(call(line), &target(line, &settings).unwrap()).await.unwrap();
    assert_eq!(
        (&answer["success"], &answer["stream"], &answer["offset"]),
        (&json!(true), &json!("user:u"), &json!(4))
    );

    let line = "notify booking --user u --booking b";
    let error = perform(call(line), &target(line, &settings).unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "Unauthenticated: a valid bearer token is required");

    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    let error = perform(call(line), &target(line, &settings).unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}
