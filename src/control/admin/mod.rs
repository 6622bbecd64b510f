//! HTTP for people and their machines: metrics, health, readiness, counts, and a page that lists them.
//!
//! Listens beside the client ports, on the control core. Never waits for a shard.

mod onsale;
mod page;

use std::{future::Future, sync::Arc};

use crate::{
    auth::SigningKeys,
    clock::Now,
    control::{accept::Incoming, gateway::Gateway},
    limits::{LABELLED_ROOMS_MAX, LISTED_ROOMS_MAX},
    prometheus,
    status::Status,
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

/// What the pages are made of.
#[derive(Clone)]
pub(super) struct Source {
    gateway: Gateway,
    status: Arc<Status>,
    pass_keys: watch::Receiver<Arc<SigningKeys>>,
}

impl Source {
    pub(super) fn new(
        gateway: Gateway,
        status: Arc<Status>,
        pass_keys: watch::Receiver<Arc<SigningKeys>>,
    ) -> Self {
        Self { gateway, status, pass_keys }
    }

    /// The largest rooms; none while the control loop has no time for it.
    async fn rooms(&self, rooms_max: usize) -> Vec<(Arc<str>, u32)> {
        self.gateway.stats_with(rooms_max).await.map(|stats| stats.rooms).unwrap_or_default()
    }
}

/// Everything: the admin listener. `onsale`: with the page of a waiting room, for development.
pub(super) fn pages(source: Source, onsale: bool) -> Router {
    let example = if onsale { onsale::routes() } else { Router::new() };
    example
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/stats", get(stats))
        .route("/.well-known/jwks.json", get(jwks))
        .merge(health_routes())
        .with_state(source)
}

/// `/health` and `/ready` alone: the listener of `HEALTH_CHECK_PORT`.
pub(super) fn health_pages(source: Source) -> Router {
    health_routes().with_state(source)
}

fn health_routes() -> Router<Source> {
    Router::new().route("/health", get(health)).route("/ready", get(ready))
}

/// Serves the pages until nobody comes any more.
pub(super) fn serve(mut incoming: Incoming, pages: Router) -> impl Future<Output = ()> + Send + 'static {
    let ended = incoming.ended();
    // Without it nobody comes either.
    let stop = async { ended.await.unwrap_or_default() };
    async move {
        if let Err(error) = axum::serve(incoming, pages).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the admin pages ended");
        }
    }
}

async fn index(State(source): State<Source>) -> Response {
    let stats = source.gateway.stats_with(page::ROOMS_SHOWN_MAX).await.unwrap_or_default();
    let text = page::render(&source.status, &stats, Now::read());
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

async fn metrics(State(source): State<Source>) -> Response {
    let mut stats = source.gateway.stats_with(LABELLED_ROOMS_MAX).await.unwrap_or_default();
    let text =
        prometheus::render(&source.status, &stats.rooms) + &prometheus::render_queues(&mut stats.queues);
    ([(CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response()
}

async fn stats(State(source): State<Source>) -> Response {
    let rooms = source.rooms(LISTED_ROOMS_MAX).await;
    json((200, source.status.stats_with_rooms(&rooms)))
}

async fn jwks(State(source): State<Source>) -> Response {
    let document = source.pass_keys.borrow().jwks();
    json((200, document.to_string()))
}

async fn health(State(source): State<Source>) -> Response {
    json(source.status.health(Now::read()))
}

async fn ready(State(source): State<Source>) -> Response {
    json(source.status.ready())
}

fn json((code, body): (u16, String)) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(CONTENT_TYPE, "application/json")], body).into_response()
}
