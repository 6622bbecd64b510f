//! `usher notify`: a gRPC client for every unary method, so that nobody needs another tool.
//!
//! Owns the connection and what is printed; `arguments` says what can be typed. Exit code 1 with the status on
//! standard error when the gateway refuses or cannot be reached.

mod arguments;

use std::{fs, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::ArgMatches;
use serde_json::{Value, json};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{fail, nearby, say};
use crate::{
    config::{resolve::Resolved, settings::Settings},
    generated::realtime::{
        DisconnectUserResponse, GetConnectionStatsResponse, GetDeliveryStateResponse, GetHistoryResponse,
        HistoryEntry, NotifyResponse, PresenceResponse, realtime_service_client::RealtimeServiceClient,
    },
};
use arguments::Call;
pub(super) use arguments::command;

/// Connecting, and then the call: a gateway that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the call that was typed and prints the answer as JSON.
pub(super) fn execute(matches: &ArgMatches, resolved: &Resolved) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(NotifyError::Runtime).and_then(|runtime| {
        let call = Call::from_matches(matches)?;
        runtime.block_on(perform(call, &Target::from_matches(matches, &resolved.settings)?))
    });
    match outcome {
        Ok(answer) => {
            say(&format!("{answer:#}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(error, 1),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NotifyError {
    #[error("{0}")]
    Arguments(&'static str),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot read {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("--token can not be sent: it has characters that no header may have")]
    Token,
    #[error("{address}: {reason}")]
    Connect { address: String, reason: String },
    /// `INVALID_ARGUMENT: user_id is required`.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
}

/// Whom to call, and as whom.
struct Target {
    address: String,
    token: Option<MetadataValue<Ascii>>,
    tls: Option<ClientTlsConfig>,
}

impl Target {
    /// What was typed, else what a gateway with this configuration listens to on this machine.
    fn from_matches(matches: &ArgMatches, settings: &Settings) -> Result<Self, NotifyError> {
        let scheme = if settings.callers.tls.is_some() { "https" } else { "http" };
        let own = || format!("{scheme}://{}", nearby(settings.listen.grpc));
        let address = match matches.get_one::<String>("address") {
            Some(typed) if typed.contains("://") => typed.clone(),
            Some(typed) => format!("{scheme}://{typed}"),
            None => own(),
        };
        let token = matches
            .get_one::<String>("token")
            .or_else(|| settings.callers.token.as_ref().map(|token| &token.0));
        let token = token.map(|token| bearer(token)).transpose()?;
        let tls = if address.starts_with("https://") { Some(tls(matches)?) } else { None };
        Ok(Self { address, token, tls })
    }

    fn connect_error(&self, error: &tonic::transport::Error) -> NotifyError {
        // The outer error only says "transport error"; the reason is its deepest source.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        NotifyError::Connect { address: self.address.clone(), reason: reason.to_string() }
    }

    async fn connect(&self) -> Result<Channel, NotifyError> {
        let told = |error| self.connect_error(&error);
        let endpoint = Endpoint::from_shared(self.address.clone()).map_err(told)?;
        let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
        let endpoint = match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(told)?,
            None => endpoint,
        };
        endpoint.connect().await.map_err(told)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, NotifyError> {
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| NotifyError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(matches: &ArgMatches) -> Result<ClientTlsConfig, NotifyError> {
    let read = |name: &str| match matches.get_one::<PathBuf>(name) {
        None => Ok(None),
        Some(path) => {
            fs::read(path).map(Some).map_err(|error| NotifyError::File { path: path.clone(), error })
        }
    };
    let Some(authority) = read("tls-ca")? else {
        return Err(NotifyError::Arguments(
            "https needs --tls-ca, the authority that signed the gateway's certificate",
        ));
    };
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    Ok(match read("tls-cert")?.zip(read("tls-key")?) {
        Some((cert, key)) => config.identity(Identity::from_pem(cert, key)),
        None => config,
    })
}

async fn perform(call: Call, target: &Target) -> Result<Value, NotifyError> {
    let mut client = RealtimeServiceClient::new(target.connect().await?);
    let answer = match call {
        Call::Booking(message) => client.notify_booking_result(target.request(message)).await.map(notified),
        Call::Queue(message) => client.notify_queue_position(target.request(message)).await.map(notified),
        Call::Payment(message) => client.notify_payment_status(target.request(message)).await.map(notified),
        Call::Broadcast(message) => client.broadcast_event(target.request(message)).await.map(notified),
        Call::User(message) => client.send_to_user(target.request(message)).await.map(notified),
        Call::Stats(message) => client.get_connection_stats(target.request(message)).await.map(counted),
        Call::Disconnect(message) => client.disconnect_user(target.request(message)).await.map(disconnected),
        Call::History(message) => client.get_history(target.request(message)).await.map(history),
        Call::Delivery(message) => client.get_delivery_state(target.request(message)).await.map(delivery),
        Call::Presence(message) => client.presence(target.request(message)).await.map(presence),
    };
    answer.map_err(|status| NotifyError::Refused(Box::new(status)))
}

fn notified(answer: tonic::Response<NotifyResponse>) -> Value {
    let NotifyResponse { success, delivered_connections, published, stream, offset, epoch, message } =
        answer.into_inner();
    json!({
        "success": success,
        "delivered_connections": delivered_connections,
        "published": published,
        "stream": stream,
        "offset": offset,
        "epoch": epoch,
        "message": message,
    })
}

fn counted(answer: tonic::Response<GetConnectionStatsResponse>) -> Value {
    let stats = answer.into_inner();
    json!({
        "total_connections": stats.total_connections,
        "authenticated_connections": stats.authenticated_connections,
        "unique_users": stats.unique_users,
        "rooms": stats.rooms,
        "connections_per_core": stats.connections_per_core,
    })
}

fn disconnected(answer: tonic::Response<DisconnectUserResponse>) -> Value {
    json!({"disconnected_connections": answer.into_inner().disconnected_connections})
}

fn history(answer: tonic::Response<GetHistoryResponse>) -> Value {
    let history = answer.into_inner();
    json!({
        "stream": history.stream,
        "epoch": history.epoch,
        "head_offset": history.head_offset,
        "acknowledged_offset": history.acknowledged_offset,
        "joins": history.joins,
        "entries": history.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn delivery(answer: tonic::Response<GetDeliveryStateResponse>) -> Value {
    let state = answer.into_inner();
    json!({
        "stream": state.stream,
        "epoch": state.epoch,
        "head_offset": state.head_offset,
        "delivered_offset": state.delivered_offset,
        "acknowledged_offset": state.acknowledged_offset,
        "unacknowledged": state.unacknowledged,
        "oldest_unacknowledged": state.oldest_unacknowledged.as_ref().map(entry),
        "connections": state.connections,
        "connections_elsewhere": state.connections_elsewhere,
    })
}

fn presence(answer: tonic::Response<PresenceResponse>) -> Value {
    let presence = answer.into_inner();
    json!({
        "online": presence.online,
        "connections": presence.connections,
        "connections_elsewhere": presence.connections_elsewhere,
    })
}

/// The payload as the JSON that it is, for people to read.
fn entry(entry: &HistoryEntry) -> Value {
    json!({
        "offset": entry.offset,
        "event_type": entry.event_type,
        "accepted_at_ms": entry.accepted_at_ms,
        "acknowledged": entry.acknowledged,
        "payload": serde_json::from_slice::<Value>(&entry.payload_json).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
