//! What operators ask, and how it is told: history, delivery, presence.

use std::sync::Arc;

use crate::{
    clock::Now,
    control::gateway::{HistoryQuery, PublishError},
    event::{Event, Target},
    generated::realtime::{
        GetDeliveryStateResponse, GetHistoryRequest, GetHistoryResponse, HistoryEntry, PresenceRequest,
        PresenceResponse, get_history_request, presence_request,
    },
    limits::HISTORY_BYTES_MAX,
    route::{Connections, Report},
    stream::store::Head,
};

/// What is looked for.
pub(super) fn history_query(request: GetHistoryRequest) -> Result<HistoryQuery, PublishError> {
    let target = match request.target {
        Some(get_history_request::Target::UserId(user)) => Target::User(user.into()),
        Some(get_history_request::Target::Room(room)) => Target::Room(room.into()),
        None => return Err(no_target()),
    };
    Ok(HistoryQuery {
        target,
        after: request.after_offset,
        epoch: request.epoch,
        count_max: request.limit as usize,
    })
}

/// Whose presence.
pub(super) fn present_target(request: PresenceRequest) -> Result<Target, PublishError> {
    match request.target {
        Some(presence_request::Target::UserId(user)) => Ok(Target::User(user.into())),
        Some(presence_request::Target::Room(room)) => Ok(Target::Room(room.into())),
        None => Err(no_target()),
    }
}

fn no_target() -> PublishError {
    PublishError::invalid("user_id", "is required, or `room`")
}

/// The entries, as many as fit a message.
pub(super) fn history_response(now: Now, (stream, report): (Arc<str>, Report)) -> GetHistoryResponse {
    let Report { head, events, .. } = report;
    let mut bytes = 0;
    let fits = |event: &&Arc<Event>| {
        bytes += event.payload.len();
        bytes <= HISTORY_BYTES_MAX
    };
    let is_users = stream.starts_with("user:");
    let acknowledged = if is_users { head.acknowledged } else { 0 };
    GetHistoryResponse {
        stream: stream.as_ref().into(),
        epoch: head.epoch.as_ref().into(),
        head_offset: head.offset,
        acknowledged_offset: head.acknowledged,
        joins: events.is_some(),
        entries: events
            .iter()
            .flatten()
            .take_while(fits)
            .map(|event| entry(now, event, acknowledged))
            .collect(),
    }
}

/// What a user has got, and said to have dealt with.
pub(super) fn delivery_response(now: Now, (stream, report): (Arc<str>, Report)) -> GetDeliveryStateResponse {
    let Report { head: Head { epoch, offset, acknowledged }, events, delivered, connections } = report;
    let oldest = events.as_ref().and_then(|events| events.first());
    GetDeliveryStateResponse {
        stream: stream.as_ref().into(),
        epoch: epoch.as_ref().into(),
        head_offset: offset,
        acknowledged_offset: acknowledged,
        unacknowledged: offset.saturating_sub(acknowledged),
        oldest_unacknowledged: oldest.map(|event| entry(now, event, acknowledged)),
        connections: connections.here,
        connections_elsewhere: connections.elsewhere,
        delivered_offset: delivered,
    }
}

/// Who is there.
pub(super) fn presence_response(connections: Connections) -> PresenceResponse {
    let Connections { here, elsewhere } = connections;
    PresenceResponse {
        online: here > 0 || elsewhere > 0,
        connections: here,
        connections_elsewhere: elsewhere,
    }
}

fn entry(now: Now, event: &Event, acknowledged: u64) -> HistoryEntry {
    let offset = event.position.as_ref().map_or(0, |position| position.offset);
    let accepted_at_ms = now.wall_ms.saturating_sub(now.since_ns(event.accepted_at_ns) / 1_000_000);
    HistoryEntry {
        offset,
        event_type: event.kind.as_ref().into(),
        payload_json: event.payload.to_vec(),
        accepted_at_ms,
        acknowledged: offset <= acknowledged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Class, Form, Position},
        limits::{EVENT_BYTES_MAX, HISTORY_ENTRIES_MAX},
    };

    fn report(events: Vec<Arc<Event>>, acknowledged: u64) -> (Arc<str>, Report) {
        let head = Head { epoch: "e".into(), offset: 9, acknowledged };
        let connections = Connections { here: 1, elsewhere: 0 };
        ("user:a".into(), Report { head, events: Some(events), delivered: Some(9), connections })
    }

    fn event(offset: u64, bytes: usize, accepted_at_ns: u64) -> Arc<Event> {
        Arc::new(Event {
            target: Target::User("a".into()),
            kind: "t".into(),
            payload: vec![b'1'; bytes].into(),
            form: Form::Payload,
            class: Class::Critical,
            version: None,
            position: Some(Position { stream: "user:a".into(), epoch: "e".into(), offset }),
            except: None,
            accepted_at_ns,
        })
    }

    const NOW: Now = Now { mono_ns: 5_000_000_000, wall_ms: 1_700_000_000_000 };

    #[test]
    fn an_answer_fits_a_message_whatever_is_stored() {
        let events = (1..=HISTORY_ENTRIES_MAX as u64).map(|offset| event(offset, EVENT_BYTES_MAX, 1));
        let response = history_response(NOW, report(events.collect(), 0));
        assert_eq!(response.entries.len(), HISTORY_BYTES_MAX / EVENT_BYTES_MAX);
        assert_eq!(response.entries[0].offset, 1, "who goes on after the last one misses nothing");
    }

    #[test]
    fn an_entry_tells_when_it_came_even_before_the_machine_started() {
        let day_before = NOW.mono_ns_at(NOW.wall_ms - 86_400_000);
        let response =
            history_response(NOW, report(vec![event(1, 1, day_before), event(2, 1, 4_000_000_000)], 1));
        let times = response.entries.iter().map(|entry| (entry.accepted_at_ms, entry.acknowledged));
        assert_eq!(times.collect::<Vec<_>>(), [(1_699_913_600_000, true), (1_699_999_999_000, false)]);
    }
}
