//! One encoded WebSocket frame, shared by all who get it.
//!
//! Owns the encoding of everything that a hub sends, and what is counted when it was sent.

use crate::{
    clock::Now,
    config::settings::Dialect,
    event::{Class, Event},
    metrics::{ShardCells, kind_index},
    wire::{
        close::Close,
        command::RequestId,
        frame::{OpCode, encode, encode_close, encode_close_reply},
        ticketing::{Notice, encode_event, encode_notice, notice_kind},
    },
};

/// Encoded bytes and how they are treated, shared by all who get them.
#[derive(Debug)]
pub(super) struct Frame {
    /// One whole WebSocket frame.
    pub(super) bytes: Vec<u8>,
    pub(super) role: Role,
    /// Index into `metrics::KINDS`.
    pub(super) kind_index: u8,
}

/// What a frame is.
#[derive(Debug)]
pub(super) enum Role {
    /// Outside the bounds; at most one waits.
    Ping,
    /// Outside the bounds; a few wait, then the newest takes the place of the one before it.
    Pong,
    /// Outside the bounds; nothing follows it.
    Close,
    /// The gateway's own words, Ordered.
    Notice,
    /// An event.
    Event {
        class: Class,
        /// See [`crate::event::Event::version`].
        version: Option<u64>,
        /// See [`crate::event::Event::accepted_at_ns`].
        accepted_at_ns: u64,
    },
}

impl Frame {
    pub(super) fn event(event: &Event, dialect: Dialect) -> Self {
        let Event { class, version, accepted_at_ns, .. } = event;
        Self {
            bytes: encode_event(event, dialect),
            role: Role::Event { class: class.clone(), version: *version, accepted_at_ns: *accepted_at_ns },
            kind_index: kind_index(&event.kind) as u8,
        }
    }

    /// The gateway's own words.
    pub(super) fn notice(notice: &Notice<'_>, request: Option<&RequestId>) -> Self {
        let kind_index = kind_index(notice_kind(notice)) as u8;
        Self { bytes: encode_notice(notice, request), role: Role::Notice, kind_index }
    }

    /// A whole message that no type describes.
    pub(super) fn message(op: OpCode, payload: &[u8]) -> Self {
        let mut bytes = Vec::new();
        encode(op, payload, &mut bytes);
        Self { bytes, role: Role::Notice, kind_index: 0 }
    }

    pub(super) fn ping() -> Self {
        Self { role: Role::Ping, ..Self::message(OpCode::Ping, &[]) }
    }

    pub(super) fn pong(payload: &[u8]) -> Self {
        Self { role: Role::Pong, ..Self::message(OpCode::Pong, payload) }
    }

    pub(super) fn close(close: Close) -> Self {
        let mut bytes = Vec::new();
        encode_close(close, &mut bytes);
        Self { bytes, role: Role::Close, kind_index: 0 }
    }

    /// The answer to the peer's close frame.
    pub(super) fn close_reply(code: u16) -> Self {
        let mut bytes = Vec::new();
        encode_close_reply(Some(code), &mut bytes);
        Self { bytes, role: Role::Close, kind_index: 0 }
    }

    /// Counts that the last byte was handed to the kernel.
    pub(super) fn count_sent(&self, cells: &ShardCells, now: Now) {
        match &self.role {
            Role::Ping | Role::Pong | Role::Close => return,
            Role::Notice => {}
            Role::Event { class, accepted_at_ns, .. } => {
                let index = class.index();
                cells.delivered[index].add(1);
                cells.latency[index].record(now.mono_ns.saturating_sub(*accepted_at_ns) / 1_000, 1);
            }
        }
        cells.sent.0[usize::from(self.kind_index)].add(1);
    }
}
