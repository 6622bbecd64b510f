//! A backend: gRPC calls that wait for their answers.

use std::net::SocketAddr;

use tokio::runtime::{Builder, Runtime};
use tonic::{
    Request, Response, Status,
    codegen::http::Request as Post,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tower::ServiceExt;
use usher::generated::realtime::{
    AdmitNextRequest, AdvanceQueueRequest, BroadcastEventRequest, CloseQueueRequest, DisconnectUserRequest,
    GetConnectionStatsRequest, GetConnectionStatsResponse, GetDeliveryStateRequest, GetDeliveryStateResponse,
    GetHistoryRequest, GetHistoryResponse, GetQueueRequest, HolderRequest, NotifyBookingResultRequest,
    NotifyPaymentStatusRequest, NotifyQueuePositionRequest, NotifyResponse, OpenQueueRequest,
    PauseQueueRequest, PresenceRequest, PresenceResponse, QueueResponse, SendToUserRequest,
    broadcast_event_request, realtime_service_client::RealtimeServiceClient, send_to_user_request,
};

use super::{PATIENCE, server::Server};

/// One caller with one HTTP/2 connection.
pub struct Backend {
    runtime: Runtime,
    pub channel: Channel,
    client: RealtimeServiceClient<Channel>,
    authorization: Option<MetadataValue<Ascii>>,
}

/// Calls one method and waits.
macro_rules! methods {
    ($($name:ident($request:ty) -> $answer:ty;)*) => {
        $(pub fn $name(&self, request: $request) -> Result<$answer, Status> {
            let mut client = self.client.clone();
            let request = self.with_authorization(request);
            self.wait(client.$name(request)).map(Response::into_inner)
        })*
    };
}

impl Backend {
    pub fn of(server: &Server) -> Self {
        Self::at(server.grpc)
    }

    pub fn at(address: SocketAddr) -> Self {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).expect("an address").timeout(PATIENCE);
        Self::connect(&endpoint)
    }

    pub fn connect(endpoint: &Endpoint) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let channel = runtime.block_on(endpoint.connect()).expect("the gRPC listener accepts");
        let client = RealtimeServiceClient::new(channel.clone());
        Self { runtime, channel, client, authorization: None }
    }

    /// Every call carries this bearer token.
    #[must_use]
    pub fn bearer(mut self, token: &str) -> Self {
        self.authorization = Some(format!("Bearer {token}").parse().expect("a header value"));
        self
    }

    pub fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    methods! {
        notify_booking_result(NotifyBookingResultRequest) -> NotifyResponse;
        notify_queue_position(NotifyQueuePositionRequest) -> NotifyResponse;
        notify_payment_status(NotifyPaymentStatusRequest) -> NotifyResponse;
        broadcast_event(BroadcastEventRequest) -> NotifyResponse;
        send_to_user(SendToUserRequest) -> NotifyResponse;
        get_history(GetHistoryRequest) -> GetHistoryResponse;
        get_delivery_state(GetDeliveryStateRequest) -> GetDeliveryStateResponse;
        presence(PresenceRequest) -> PresenceResponse;
        open_queue(OpenQueueRequest) -> QueueResponse;
        advance_queue(AdvanceQueueRequest) -> QueueResponse;
        admit_next(AdmitNextRequest) -> QueueResponse;
        pause_queue(PauseQueueRequest) -> QueueResponse;
        close_queue(CloseQueueRequest) -> QueueResponse;
        get_queue(GetQueueRequest) -> QueueResponse;
        claim(HolderRequest) -> QueueResponse;
        complete(HolderRequest) -> QueueResponse;
        abandon(HolderRequest) -> QueueResponse;
    }

    /// The text of `GetQueueLog`.
    pub fn queue_log(&self, event_id: &str) -> String {
        let mut client = self.client.clone();
        let request = self.with_authorization(GetQueueRequest { event_id: event_id.into() });
        self.wait(async {
            let mut parts = client.get_queue_log(request).await.expect("a log").into_inner();
            let mut text = String::new();
            while let Some(part) = parts.message().await.expect("a part") {
                text += &part.text;
            }
            text
        })
    }

    /// For calls that are streams.
    pub fn client(&self) -> RealtimeServiceClient<Channel> {
        self.client.clone()
    }

    pub fn stats(&self) -> Result<GetConnectionStatsResponse, Status> {
        let mut client = self.client.clone();
        let request = self.with_authorization(GetConnectionStatsRequest {});
        self.wait(client.get_connection_stats(request)).map(Response::into_inner)
    }

    pub fn disconnect_user(&self, user: &str) -> Result<u32, Status> {
        let mut client = self.client.clone();
        let request = DisconnectUserRequest { user_id: user.into(), reason: "a test".into() };
        let answer = self.wait(client.disconnect_user(self.with_authorization(request)));
        answer.map(|answer| answer.into_inner().disconnected_connections)
    }

    /// Calls a method with any bytes as the body, framing included. A refusal comes with the headers.
    pub fn send(&self, method: &str, body: Vec<u8>) -> Status {
        let request = Post::post(format!("/realtime.RealtimeService/{method}"))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::new(axum::body::Body::from(body)))
            .expect("a request");
        let answer = self.wait(self.channel.clone().oneshot(request)).expect("an answer");
        Status::from_header_map(answer.headers()).unwrap_or_else(|| Status::ok("no refusal"))
    }

    fn with_authorization<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }
}

/// An event for a user with a JSON text as payload.
pub fn to_user(user: &str, kind: &str, json: &str) -> SendToUserRequest {
    SendToUserRequest {
        user_id: user.into(),
        event_type: kind.into(),
        body: Some(send_to_user_request::Body::PayloadJson(json.as_bytes().to_vec())),
        ..SendToUserRequest::default()
    }
}

/// An event for a room with a JSON text as payload.
pub fn to_room(room: &str, kind: &str, json: &str) -> BroadcastEventRequest {
    BroadcastEventRequest {
        room: room.into(),
        event_type: kind.into(),
        body: Some(broadcast_event_request::Body::PayloadJson(json.as_bytes().to_vec())),
        ..BroadcastEventRequest::default()
    }
}
