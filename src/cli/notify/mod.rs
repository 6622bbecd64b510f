//! `usher notify`: a gRPC client for every unary method but those of queues, so that nobody needs another tool.
//!
//! Owns what is printed; `arguments` says what can be typed. Exit code 1 with the status on standard error when the
//! gateway refuses or cannot be reached.

mod arguments;

use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::{Value, json};

use super::target::{self, CallError, Target};
use crate::{
    config::resolve::Resolved,
    generated::realtime::{
        DisconnectUserResponse, GetConnectionStatsResponse, GetDeliveryStateResponse, GetHistoryResponse,
        HistoryEntry, NotifyResponse, PresenceResponse, realtime_service_client::RealtimeServiceClient,
    },
};
use arguments::Call;
pub(super) use arguments::command;

/// Makes the call that was typed and prints the answer as JSON.
pub(super) fn execute(matches: &ArgMatches, resolved: &Resolved) -> ExitCode {
    target::run(async {
        let call = Call::from_matches(matches)?;
        let answer = perform(call, &Target::from_matches(matches, &resolved.settings)?).await?;
        Ok(format!("{answer:#}\n"))
    })
}

async fn perform(call: Call, target: &Target) -> Result<Value, CallError> {
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
    Ok(answer?)
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
