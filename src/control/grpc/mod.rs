//! The gRPC server: `realtime.RealtimeService`, health and reflection (03 §7).
//!
//! Owns the server's bounds. Never routes: every method is a call through the [`Gateway`].

mod callers;
mod events;
mod inquiries;
mod notify;
mod positions;
mod publish;
mod queues;
mod service;

use std::{
    future::{Future, pending},
    net::TcpListener,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::Response,
    service::LayerExt,
    transport::{Server, server::Router},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapResponseLayer;

pub use publish::Publishing;
pub use queues::{LogParts, QueueSettings};
pub use service::Realtime;

use crate::{
    config::settings,
    control::{ControlError, accept::Incoming, gateway::Gateway},
    generated::{
        DESCRIPTORS,
        realtime::realtime_service_server::{RealtimeServiceServer, SERVICE_NAME},
    },
    limits::{GRPC_MESSAGE_BYTES_MAX, GRPC_STREAMS_MAX},
    status,
};

/// Who may call, and where.
pub(super) struct Callers<'a> {
    pub(super) settings: &'a settings::Callers,
    pub(super) listener: TcpListener,
    pub(super) queues: QueueSettings,
}

/// Tells the standard health service what to say.
pub(super) struct Health(HealthReporter);

impl Health {
    pub(super) async fn tell(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        // The empty name is the server as a whole.
        for service in ["", SERVICE_NAME] {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// Makes the server; the future serves until `stopped` turns true. Callers are then told to go elsewhere (GOAWAY), and
/// what they had called is answered.
pub(super) fn serve(
    callers: Callers<'_>,
    gateway: Gateway,
    status: Arc<status::Status>,
    stopped: watch::Receiver<bool>,
) -> Result<(Health, impl Future<Output = ()> + Send + 'static), ControlError> {
    let incoming = Incoming::new(callers.listener, status.clone(), stopped)?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let realtime = Realtime::new(gateway, status, callers.settings.token.clone(), callers.queues);
    let realtime = RealtimeServiceServer::new(realtime).max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let realtime = MapResponseLayer::new(tell_too_large as fn(_) -> _).named_layer(realtime);
    let router = bounded(callers.settings)?.add_service(health_service).add_service(realtime);
    let router = with_reflection(router, callers.settings.token.clone());
    let served = async move {
        // It stops when nobody comes any more; that it can be told to stop has it do so in good order.
        if let Err(error) = router.serve_with_incoming_shutdown(incoming, pending()).await {
            tracing::error!(%error, "the gRPC interface ended");
        }
    };
    Ok((Health(health), served))
}

/// A server within the bounds of `limits`, with TLS where it is configured.
fn bounded(settings: &settings::Callers) -> Result<Server, ControlError> {
    let server = Server::builder()
        .max_concurrent_streams(GRPC_STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX);
    match callers::tls(settings)? {
        Some(tls) => Ok(server.tls_config(tls)?),
        None => Ok(server),
    }
}

/// tonic answers a message that is too large with OUT_OF_RANGE, which nothing else here answers; callers know it as
/// RESOURCE_EXHAUSTED (gRPC's own table of status codes).
fn tell_too_large(response: Response<Body>) -> Response<Body> {
    let status = response.headers().get(Status::GRPC_STATUS);
    if status.map(|code| Code::from_bytes(code.as_bytes())) != Some(Code::OutOfRange) {
        return response;
    }
    Status::resource_exhausted(format!("the message is longer than {GRPC_MESSAGE_BYTES_MAX} bytes"))
        .into_http()
}

/// Both versions: callers in Python know the older one alone.
fn with_reflection(router: Router, token: Option<settings::Secret>) -> Router {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let made = "the committed descriptors are those of a proto file that compiles";
    let check = callers::Check::new(token);
    router
        .add_service(tonic::service::interceptor::InterceptedService::new(
            builder().build_v1().expect(made),
            check.clone(),
        ))
        .add_service(tonic::service::interceptor::InterceptedService::new(
            builder().build_v1alpha().expect(made),
            check,
        ))
}

/// A silent caller is pinged after.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A caller that does not answer a ping is given up after.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Header fields of one call, bytes.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
