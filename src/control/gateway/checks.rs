//! What a caller's fields must be.

use std::ops::RangeInclusive;

use super::{Origin, PublishError};
use crate::{
    event::Target,
    identity::is_user_id,
    limits::{EVENT_BYTES_MAX, USER_ID_BYTES_MAX},
    wire,
};

pub(super) fn check_target(target: &Target) -> Result<(), PublishError> {
    match target {
        Target::User(user) => check_user(user),
        Target::Room(room) if room.is_empty() => Err(PublishError::invalid("room", "is required")),
        Target::Room(room) => match wire::room::classify(room) {
            Some(_) => Ok(()),
            None => Err(PublishError::invalid("room", "must be 1 to 128 characters of A-Z a-z 0-9 _ . : -")),
        },
        Target::Connection(_) | Target::Everyone => Ok(()),
    }
}

pub(super) fn check_user(user: &str) -> Result<(), PublishError> {
    check_length("user_id", user, 1..=USER_ID_BYTES_MAX)?;
    if is_user_id(user) {
        Ok(())
    } else {
        Err(PublishError::invalid("user_id", "must have no control characters"))
    }
}

pub(super) fn check_length(
    field: &'static str,
    text: &str,
    length: RangeInclusive<usize>,
) -> Result<(), PublishError> {
    if text.is_empty() && *length.start() > 0 {
        return Err(PublishError::invalid(field, "is required"));
    }
    if !length.contains(&text.len()) {
        return Err(PublishError::invalid(field, format!("must be at most {} bytes", length.end())));
    }
    Ok(())
}

pub(super) fn check_payload(origin: Origin, payload: &[u8]) -> Result<(), PublishError> {
    let field = match origin {
        Origin::Caller(field) => field,
        Origin::Fields => "payload",
    };
    if payload.len() > EVENT_BYTES_MAX {
        return Err(PublishError::invalid(field, format!("must be at most {EVENT_BYTES_MAX} bytes")));
    }
    if origin == Origin::Fields {
        return Ok(());
    }
    let text = std::str::from_utf8(payload)
        .map_err(|_| PublishError::invalid(field, "must be JSON: it is not UTF-8"))?;
    wire::json::validate(text)
        .map_err(|invalid| PublishError::invalid(field, format!("must be JSON: {invalid}")))
}
