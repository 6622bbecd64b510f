//! Message types of your own: implement [`Handler`], register it, and the gateway speaks them (03 §9).
//!
//! A handler runs on the shard of the connection, between two reads: it must not block, and whatever takes long
//! belongs on a thread of its own that answers through [`crate::Gateway`].

use std::{collections::HashMap, fmt, sync::Arc};

use crate::ids::ConnId;

/// Something that answers messages of clients.
pub trait Handler: Send + Sync + 'static {
    /// Takes one message; answers through `replies`.
    fn handle(&self, message: Message<'_>, replies: &mut Replies);
}

impl<F: Fn(Message<'_>, &mut Replies) + Send + Sync + 'static> Handler for F {
    fn handle(&self, message: Message<'_>, replies: &mut Replies) {
        self(message, replies);
    }
}

/// A message as its handler sees it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The connection that sent it.
    pub conn: ConnId,
    /// Its user; `None` while anonymous.
    pub user: Option<&'a str>,
    /// What was sent.
    pub body: Body<'a>,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// A message of a registered type: its payload as JSON text, validated; `null` where it had none.
    Typed {
        /// The type.
        kind: &'a str,
        /// JSON text.
        payload: &'a str,
    },
    /// A whole text message of a raw connection.
    Text(&'a str),
    /// A whole binary message of a raw connection.
    Binary(&'a [u8]),
}

/// What a handler answers, sent in order when it returns.
#[derive(Debug, Default)]
pub struct Replies {
    pub(crate) list: Vec<Reply>,
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// `{"type": kind, "payload": payload}`, with the request's `id`.
    Typed {
        /// The type.
        kind: String,
        /// JSON text, sent as it is; checked when sent.
        payload: String,
    },
    /// `system:error` with the request's `id`.
    Error {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
}

impl Replies {
    /// Answers with a typed message.
    pub fn send(&mut self, kind: impl Into<String>, payload: impl Into<String>) {
        self.list.push(Reply::Typed { kind: kind.into(), payload: payload.into() });
    }

    /// Answers with `system:error`.
    pub fn error(&mut self, code: impl Into<String>, message: impl Into<String>) {
        self.list.push(Reply::Error { code: code.into(), message: message.into() });
    }

    /// Sends a text message as it is.
    pub fn text(&mut self, text: impl Into<String>) {
        self.list.push(Reply::Text(text.into()));
    }

    /// Sends a binary message as it is.
    pub fn binary(&mut self, bytes: impl Into<Vec<u8>>) {
        self.list.push(Reply::Binary(bytes.into()));
    }
}

/// The handlers of one gateway.
#[derive(Clone, Default)]
pub struct Handlers {
    typed: HashMap<Box<str>, Arc<dyn Handler>>,
    raw: Option<Arc<dyn Handler>>,
}

impl Handlers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers messages of that type from ticketing clients. The gateway's own types cannot be replaced.
    #[must_use]
    pub fn on(mut self, kind: impl Into<Box<str>>, handler: impl Handler) -> Self {
        self.typed.insert(kind.into(), Arc::new(handler));
        self
    }

    /// Answers every message of raw clients, which are ignored otherwise.
    #[must_use]
    pub fn on_raw(mut self, handler: impl Handler) -> Self {
        self.raw = Some(Arc::new(handler));
        self
    }

    /// The types that have a handler.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.typed.keys().map(AsRef::as_ref)
    }

    /// Whether raw messages have a handler.
    pub fn takes_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Runs the handler that the message belongs to; nothing happens where there is none.
    pub(crate) fn run(&self, message: Message<'_>, replies: &mut Replies) {
        let handler = match message.body {
            Body::Typed { kind, .. } => self.typed.get(kind),
            Body::Text(_) | Body::Binary(_) => self.raw.as_ref(),
        };
        if let Some(handler) = handler {
            handler.handle(message, replies);
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers")
            .field("typed", &self.typed.keys())
            .field("raw", &self.raw.is_some())
            .finish()
    }
}
