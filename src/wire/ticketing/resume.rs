//! Payloads of `system:resume` and `system:ack` (03 §4).

use std::{collections::HashSet, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse::{Fault, NOT_AN_OBJECT, object, present, string};
use crate::{
    event::{Position, Resume},
    limits::{EPOCH_BYTES_MAX, OFFSET_MAX, RESUME_STREAMS_MAX, USER_ID_BYTES_MAX},
    wire::{
        command::Command,
        room::{RoomKind, classify},
    },
};

/// What is asked; other keys are ignored.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    streams: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    since: Option<&'a RawValue>,
}

/// A place in a stream as a client names it; other keys are ignored.
#[derive(Deserialize)]
struct Place<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    epoch: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    offset: Option<&'a RawValue>,
}

const WHAT: Fault = Fault::Payload("either `streams`, or `since` as \"unacknowledged\"");
const STREAMS: Fault = Fault::Payload("`streams` must be a list of 1 to 129 objects");
const TWICE: Fault = Fault::Payload("a stream is named twice");
const STREAM: Fault = Fault::Payload("`stream` must be \"user:<id>\" or \"room:<name>\"");
const EPOCH: Fault = Fault::Payload("`epoch` must be a string of 1 to 64 bytes");
const OFFSET: Fault = Fault::Payload("`offset` must be a whole number from 0 to 2^53 - 1");

pub(super) fn resume(payload: Option<&RawValue>) -> Result<Resume, Fault> {
    let payload = object(payload.ok_or(NOT_AN_OBJECT)?)?;
    let Asked { streams, since } = serde_json::from_str(payload).map_err(|_| NOT_AN_OBJECT)?;
    match (streams, since) {
        (Some(streams), None) => positions(streams).map(Resume::Streams),
        (None, Some(since)) if string(since).as_deref() == Some("unacknowledged") => {
            Ok(Resume::Unacknowledged)
        }
        _ => Err(WHAT),
    }
}

pub(super) fn acknowledge(payload: Option<&RawValue>) -> Result<Command<'static>, Fault> {
    let place = Place::read(payload.ok_or(NOT_AN_OBJECT)?, NOT_AN_OBJECT)?;
    let epoch = place.epoch.map(|_| place.epoch()).transpose()?;
    Ok(Command::Acknowledge { stream: place.stream()?, epoch, offset: place.offset()? })
}

fn positions(streams: &RawValue) -> Result<Vec<Position>, Fault> {
    let places: Vec<&RawValue> = serde_json::from_str(streams.get()).map_err(|_| STREAMS)?;
    if !(1..=RESUME_STREAMS_MAX).contains(&places.len()) {
        return Err(STREAMS);
    }
    let positions: Vec<Position> = places
        .into_iter()
        .map(|place| {
            let place = Place::read(place, STREAMS)?;
            Ok(Position { stream: place.stream()?, epoch: place.epoch()?, offset: place.offset()? })
        })
        .collect::<Result<_, Fault>>()?;
    let mut names = HashSet::new();
    if positions.iter().all(|position| names.insert(&position.stream)) { Ok(positions) } else { Err(TWICE) }
}

impl<'a> Place<'a> {
    fn read(json: &'a RawValue, fault: Fault) -> Result<Self, Fault> {
        // serde would take an array for an object.
        if !json.get().starts_with('{') {
            return Err(fault);
        }
        serde_json::from_str(json.get()).map_err(|_| fault)
    }

    fn stream(&self) -> Result<Arc<str>, Fault> {
        let name = self.stream.and_then(string).ok_or(STREAM)?;
        let is_stream = match name.split_once(':') {
            Some(("user", id)) => (1..=USER_ID_BYTES_MAX).contains(&id.len()),
            Some(("room", room)) => matches!(classify(room), Some(RoomKind::Public | RoomKind::Private)),
            _ => false,
        };
        if is_stream { Ok(name.into()) } else { Err(STREAM) }
    }

    fn epoch(&self) -> Result<Arc<str>, Fault> {
        let epoch = self.epoch.and_then(string).ok_or(EPOCH)?;
        if (1..=EPOCH_BYTES_MAX).contains(&epoch.len()) { Ok(epoch.into()) } else { Err(EPOCH) }
    }

    /// Digits alone: `1.0` and `1e3` are whole numbers, but not as anybody here writes them.
    fn offset(&self) -> Result<u64, Fault> {
        let text = self.offset.ok_or(OFFSET)?.get();
        let number = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None };
        number.filter(|offset| *offset <= OFFSET_MAX).ok_or(OFFSET)
    }
}

#[cfg(test)]
mod tests;
