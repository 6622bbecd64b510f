//! One encoded WebSocket frame, shared by all who get it.
//!
//! Owns the encoding of everything that a hub sends, plain and compressed, and what is counted when it was sent.

use std::cell::OnceCell;

use crate::{
    clock::Now,
    config::settings::Dialect,
    event::{Class, Event, LatestKey},
    limits::DEFLATE_BYTES_MIN,
    metrics::{ShardCells, kind_index},
    wire::{
        close::Close,
        command::RequestId,
        deflate::{Deflater, Window},
        frame::{self, OpCode, encode, encode_close, encode_close_reply},
        ticketing::{Notice, encode_event, encode_notice, notice_kind},
    },
};

/// Encoded bytes and how they are treated, shared by all who get them.
#[derive(Debug)]
pub(super) struct Frame {
    /// One whole WebSocket frame, not compressed.
    pub(super) bytes: Vec<u8>,
    /// The same, compressed, once somebody needs it; `None` inside: it does not become smaller.
    deflated: OnceCell<Option<Vec<u8>>>,
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
    /// The gateway's own words, Ordered; an event of a replay too, whose latency would be the client's absence.
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

/// A position in a queue, with an event id of usual length.
const POSITION_BYTES: usize = 256;

impl Frame {
    pub(super) fn event(event: &Event, dialect: Dialect) -> Self {
        let Event { class, version, accepted_at_ns, .. } = event;
        let role = Role::Event { class: class.clone(), version: *version, accepted_at_ns: *accepted_at_ns };
        Self::new(encode_event(event, dialect), role, kind_index(&event.kind) as u8)
    }

    /// To be written by [`Frame::rewrite`]: a position in a queue.
    pub(super) fn position() -> Self {
        let kind_index = kind_index("booking:queue_position") as u8;
        Self::new(Vec::with_capacity(POSITION_BYTES), Role::Notice, kind_index)
    }

    /// Replaces the value of a key that nobody waits for any more by another one.
    #[inline]
    pub(super) fn rewrite(&mut self, key: LatestKey, accepted_at_ns: u64, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.deflated.take();
        self.role = Role::Event { class: Class::Latest(key), version: None, accepted_at_ns };
    }

    /// The gateway's own words about something that has one state at a time: the newest counts.
    pub(super) fn state(notice: &Notice<'_>, key: LatestKey, accepted_at_ns: u64) -> Self {
        let role = Role::Event { class: Class::Latest(key), version: None, accepted_at_ns };
        Self { role, ..Self::notice(notice, None) }
    }

    /// A stored event for who was away.
    pub(super) fn replayed(event: &Event, dialect: Dialect) -> Self {
        Self { role: Role::Notice, ..Self::event(event, dialect) }
    }

    /// The gateway's own words.
    pub(super) fn notice(notice: &Notice<'_>, request: Option<&RequestId>) -> Self {
        let kind_index = kind_index(notice_kind(notice)) as u8;
        Self::new(encode_notice(notice, request), Role::Notice, kind_index)
    }

    /// A whole message that no type describes.
    pub(super) fn message(op: OpCode, payload: &[u8]) -> Self {
        let mut bytes = Vec::new();
        encode(op, payload, &mut bytes);
        Self::new(bytes, Role::Notice, 0)
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
        Self::new(bytes, Role::Close, 0)
    }

    /// The answer to the peer's close frame.
    pub(super) fn close_reply(code: u16) -> Self {
        let mut bytes = Vec::new();
        encode_close_reply(Some(code), &mut bytes);
        Self::new(bytes, Role::Close, 0)
    }

    pub(super) fn new(bytes: Vec<u8>, role: Role, kind_index: u8) -> Self {
        Self { bytes, deflated: OnceCell::new(), role, kind_index }
    }

    /// Compresses it, unless that was tried before, would be for nothing, or is too long for this window.
    pub(super) fn deflate(&self, window: Window, deflater: &mut Deflater) {
        let length = frame::payload(&self.bytes).len();
        if length >= DEFLATE_BYTES_MIN && window.holds(length) {
            self.deflated.get_or_init(|| frame::deflated(&self.bytes, deflater));
        }
    }

    /// The bytes for a connection with that window, `None`: without compression. They stay the same once
    /// [`Frame::deflate`] was called for that window.
    pub(super) fn wire(&self, window: Option<Window>) -> &[u8] {
        match (window, self.deflated.get()) {
            (Some(window), Some(Some(deflated))) if window.holds(frame::payload(&self.bytes).len()) => {
                deflated
            }
            _ => &self.bytes,
        }
    }

    /// Counts that the last byte was handed to the kernel.
    pub(super) fn count_sent(&self, cells: &ShardCells, now: Now) {
        match &self.role {
            Role::Ping | Role::Pong | Role::Close => return,
            Role::Notice => {}
            Role::Event { class, accepted_at_ns, .. } => {
                let index = class.index();
                cells.delivered[index].add(1);
                cells.latency[index].record(now.since_ns(*accepted_at_ns) / 1_000, 1);
            }
        }
        cells.sent.0[usize::from(self.kind_index)].add(1);
    }
}
