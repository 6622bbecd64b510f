//! Messages for handlers of the embedding program, and their answers (03 §9).

use std::rc::Rc;

use super::{CustomMessage, Hub, Output, Turn, frame::Frame, problem::Problem, requests::Asked};
use crate::{
    config::settings::Dialect,
    handler::Reply,
    ids::ConnId,
    wire::{close::Close, command::RequestId, frame::OpCode, json, ticketing::Notice},
};

impl Hub {
    /// A text of a raw connection: nothing is expected of it, but a handler may want it.
    pub(super) fn raw_text(&mut self, turn: &mut Turn<'_>, conn: ConnId, text: &str) {
        self.raw_message(turn, conn, || CustomMessage::Text(text.into()));
    }

    pub(super) fn binary(&mut self, turn: &mut Turn<'_>, conn: ConnId, bytes: &[u8]) {
        match self.message_came(turn, conn) {
            None => {}
            Some(Dialect::Raw) => self.raw_message(turn, conn, || CustomMessage::Binary(bytes.into())),
            Some(Dialect::Ticketing) => self.close(turn, conn, Close::Unsupported),
        }
    }

    pub(super) fn custom_request(&self, turn: &mut Turn<'_>, asked: &Asked<'_>, payload: &str) {
        turn.out.push(Output::Custom {
            conn: asked.conn,
            user: self.user_name(asked.conn),
            request: asked.id.clone(),
            message: CustomMessage::Typed { kind: asked.kind.into(), payload: payload.into() },
        });
    }

    pub(super) fn reply(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        request: Option<RequestId>,
        reply: Reply,
    ) {
        let frame = match reply {
            Reply::Typed { kind, payload } => {
                return self.typed_reply(turn, conn, request.as_ref(), (&kind, &payload));
            }
            Reply::Error { code, message } => {
                let notice =
                    Notice::Error { code: &code, message: &message, reference: None, retry_after_ms: None };
                return self.notice(turn, conn, &notice, request.as_ref());
            }
            Reply::Text(text) => Frame::message(OpCode::Text, text.as_bytes()),
            Reply::Binary(bytes) => Frame::message(OpCode::Binary, &bytes),
        };
        self.queue(turn, conn, &Rc::new(frame));
    }

    fn typed_reply(
        &mut self,
        turn: &mut Turn<'_>,
        conn: ConnId,
        request: Option<&RequestId>,
        (kind, payload): (&str, &str),
    ) {
        if json::validate(payload).is_err() {
            // What a handler sends must not break the envelope around it.
            return self.send_problem(turn, conn, (request, None), Problem::INTERNAL);
        }
        match self.connections.get(conn).map(|record| record.dialect) {
            Some(Dialect::Ticketing) => self.notice(turn, conn, &Notice::Custom { kind, payload }, request),
            Some(Dialect::Raw) => {
                let frame = Frame::message(OpCode::Text, payload.as_bytes());
                self.queue(turn, conn, &Rc::new(frame));
            }
            None => {}
        }
    }

    fn raw_message(&mut self, turn: &mut Turn<'_>, conn: ConnId, message: impl FnOnce() -> CustomMessage) {
        self.cells.received.count("other");
        if let Err(retry_after_ms) = self.take_from_bucket(turn, conn) {
            return self.over_rate(turn, conn, retry_after_ms, (None, None));
        }
        if self.custom.raw {
            let user = self.user_name(conn);
            turn.out.push(Output::Custom { conn, user, request: None, message: message() });
        }
    }
}
