//! From the first byte to the WebSocket: TLS, the request head, the token, the answer.

use std::os::fd::AsFd;

use super::{
    connections::{Held, Phase, write_records},
    lanes::{Lane, Next},
    state::Shard,
};
use crate::{
    auth::token::TokenError,
    clock::Now,
    config::settings::Dialect,
    hub::Input,
    identity::Identity,
    ids::ConnId,
    limits::{self, FIRST_BYTES_MAX},
    mesh::ToControl,
    net::{
        claim,
        http::{self, Answer, Head},
        socket::{self, Read},
        upgrade::{self, Route, Unauthorised, Upgrade},
    },
    prometheus,
    wire::deflate::Window,
};

/// Seconds after which a full gateway may have room again.
const FULL_RETRY_AFTER_S: u32 = 5;
/// Those whom a storm turns away come back spread over so many seconds.
const FULL_RETRY_SPREAD_S: u32 = 6;

/// What a handshake came to when its next bytes were looked at.
enum Step {
    /// More bytes are needed.
    Wait,
    /// The peer is gone.
    Over,
    /// Answer with HTTP, then close.
    Answer(Answer),
    /// An upgrade in order.
    Open(Opening),
}

/// All that the hub and the 101 need of an upgrade request.
struct Opening {
    dialect: Dialect,
    identity: Option<Identity>,
    deflate: Option<Window>,
    resume_waits: bool,
    response: Vec<u8>,
}

impl Shard {
    /// Whether the handshakes task has something to do.
    pub(super) fn has_handshakes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Puts those who came in line, and takes one handshake a step further; whether there are others.
    pub(super) fn greet_next(&mut self, now: Now) -> bool {
        for _ in 0..limits::FIRST_LOOKS_PER_TURN_MAX {
            let Some(conn) = self.lanes.next_arrival() else { break };
            self.assign(now, conn);
        }
        let Some(Next { conn, last_look }) = self.lanes.next() else { return self.has_handshakes() };
        match self.step(now, conn, last_look) {
            Step::Wait if last_look => self.end_handshake(now, conn),
            Step::Wait => {}
            Step::Over => {
                self.cells.handshakes_gone.add(1);
                self.remove(now, conn);
            }
            Step::Answer(answer) => self.answer(now, conn, &answer),
            Step::Open(opening) => self.open(now, conn, opening),
        }
        self.has_handshakes()
    }

    /// Looks at the first bytes of a newcomer, so that it stands in the right lane, and keeps them for its turn.
    fn assign(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let Phase::Handshake(newcomer) = &mut connection.phase else {
            // Something before the 101: the step finds out what.
            return self.lanes.assign(Lane::New, conn);
        };
        if let Some(lane) = newcomer.lane {
            return self.lanes.assign(lane, conn);
        }
        let held = connection.tls.as_ref().map_or(newcomer.head.len(), |tls| tls.held().len());
        let first = &mut self.scratch[..FIRST_BYTES_MAX.saturating_sub(held)];
        let size = match socket::read(connection.socket.as_fd(), first) {
            Read::Bytes(size) => size,
            Read::Nothing => return,
            Read::End => {
                self.cells.handshakes_gone.add(1);
                return self.remove(now, conn);
            }
        };
        self.cells.bytes_in.add(size as u64);
        newcomer.held = true;
        let returns = match &mut connection.tls {
            Some(tls) => {
                tls.hold(&first[..size]);
                claim::offers_ticket(tls.held())
            }
            None => {
                newcomer.head.extend_from_slice(&first[..size]);
                Some(claim::asks_to_resume(&newcomer.head))
            }
        };
        let lane = match returns {
            Some(true) => Lane::Returning,
            // More comes, and an event with it, unless that was all there is.
            None if held + size < FIRST_BYTES_MAX && !connection.ended => return,
            Some(false) | None => Lane::New,
        };
        newcomer.lane = Some(lane);
        self.cells.newcomers[lane as usize].add(1);
        if self.lanes.waiting()[lane as usize] < self.settings.limits.handshakes_waiting_max {
            self.lanes.assign(lane, conn);
        } else {
            self.turn_away(now, conn);
        }
    }

    /// Refuses who would wait too long. Over TLS without a word: even a refusal would take the handshake.
    fn turn_away(&mut self, now: Now, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.tls.is_some() {
            self.cells.newcomers_refused[1].add(1);
            self.remove(now, conn);
        } else {
            self.cells.newcomers_refused[0].add(1);
            self.answer(now, conn, &self.overloaded());
        }
    }

    /// Sends people away for times that differ, so that they do not come back all at once.
    fn overloaded(&self) -> Answer {
        let turned_away = self.cells.http_answers[2].get() as u32;
        Answer::retry(503, "overloaded", FULL_RETRY_AFTER_S + turned_away % FULL_RETRY_SPREAD_S)
    }

    /// Takes what was kept, then reads what there is. A head is a few hundred bytes: one read is enough nearly always,
    /// and bounded anyway, since a head that is too long is answered.
    fn step(&mut self, now: Now, conn: ConnId, last_look: bool) -> Step {
        let Some(connection) = self.connections.get_mut(conn) else { return Step::Wait };
        if let Phase::Handshake(newcomer) = &mut connection.phase
            && std::mem::take(&mut newcomer.held)
        {
            let ended = connection.ended;
            let held = connection.tls.as_ref().map_or(newcomer.head.len(), |tls| tls.held().len());
            let step = self.newcomer_sent(now, conn, 0);
            // A short read emptied the socket; a new edge tells when there is more, unless it told already.
            if !matches!(step, Step::Wait) || (held < FIRST_BYTES_MAX && !ended && !last_look) {
                return step;
            }
        }
        loop {
            let Some(connection) = self.connections.get_mut(conn) else { return Step::Wait };
            if !matches!(connection.phase, Phase::Handshake(_) | Phase::Admission(_)) {
                // It was let in before its turn came: what it has sent is for the driver.
                self.unread.push(conn);
                return Step::Wait;
            }
            let ended = connection.ended;
            let size = match socket::read(connection.fd(), &mut self.scratch) {
                Read::Bytes(size) => size,
                Read::Nothing => return Step::Wait,
                Read::End => return Step::Over,
            };
            self.cells.bytes_in.add(size as u64);
            match self.newcomer_sent(now, conn, size) {
                Step::Wait if size == self.scratch.len() || ended => {}
                step => return step,
            }
        }
    }

    /// Takes `size` bytes of the scratch buffer, after those that were kept.
    fn newcomer_sent(&mut self, now: Now, conn: ConnId, size: usize) -> Step {
        let Some(connection) = self.connections.get_mut(conn) else { return Step::Wait };
        let data: &[u8] = match &mut connection.tls {
            None => &self.scratch[..size],
            Some(tls) => {
                self.plain.clear();
                let received = tls.receive(&mut self.scratch[..size], &mut self.plain);
                // What comes after a request is answered with it, the session's tickets too.
                let answered = received.is_ok() && !self.plain.is_empty();
                let written = if answered { Ok(true) } else { write_records(tls, connection.socket.as_fd()) };
                if matches!(written, Ok(false)) && !std::mem::replace(&mut connection.blocked, true) {
                    self.cells.blocked.add(1);
                }
                let resumed = tls.is_resumed();
                if let Phase::Handshake(newcomer) = &mut connection.phase
                    && (newcomer.lane, resumed) == (Some(Lane::Returning), Some(false))
                {
                    newcomer.lane = Some(Lane::New);
                    self.cells.false_claims.add(1);
                }
                let Ok(received) = received else {
                    self.cells.tls_failures.add(1);
                    return Step::Over;
                };
                if received.handshake_done {
                    let done =
                        if resumed == Some(true) { &self.cells.tls_resumed } else { &self.cells.tls_full };
                    done.add(1);
                }
                if received.peer_closed || written.is_err() {
                    return Step::Over;
                }
                &self.plain
            }
        };
        let Phase::Handshake(newcomer) = &mut connection.phase else {
            // Frames before our 101 come from somebody who does not wait to know who we are.
            let early = Step::Answer(Answer::error(400, "data before the upgrade was answered"));
            return if data.is_empty() { Step::Wait } else { early };
        };
        let mut bytes = std::mem::take(&mut newcomer.head);
        bytes.extend_from_slice(data);
        if bytes.is_empty() {
            return Step::Wait;
        }
        match http::parse_head(&bytes) {
            Err(answer) => Step::Answer(answer),
            Ok(Some(head)) => self.route(now, conn, &head),
            Ok(None) => {
                newcomer.head = bytes;
                Step::Wait
            }
        }
    }

    fn route(&mut self, now: Now, conn: ConnId, head: &Head<'_>) -> Step {
        let answer = match upgrade::route(head, &self.settings) {
            Ok(Route::Upgrade(upgrade)) => return self.judge(now, conn, &upgrade),
            Ok(Route::Health) => json(self.status.health(now)),
            Ok(Route::Ready) => json(self.status.ready()),
            Ok(Route::Stats) => json((200, self.status.stats())),
            Ok(Route::Jwks) => json((200, self.jwks.to_string())),
            Ok(Route::Metrics) => {
                Answer::text(200, prometheus::CONTENT_TYPE, prometheus::render(&self.status, &[]))
            }
            Err(answer) => answer,
        };
        // One request per connection: a client port is no web server.
        Step::Answer(Answer { close: true, ..answer.to(head) })
    }

    /// Whether this upgrade may go on (03 §3), and as whom.
    fn judge(&mut self, now: Now, conn: ConnId, upgrade: &Upgrade<'_>) -> Step {
        let connections_max = self.settings.limits.connections_max;
        if connections_max > 0 && self.status.connections() >= connections_max {
            self.cells.newcomers_refused[2].add(1);
            return Step::Answer(Answer::retry(503, "server is at maximum capacity", FULL_RETRY_AFTER_S));
        }
        if upgrade.token.is_some()
            && let Err(wait_ns) = self.may_try(now, conn)
        {
            let wait_s = wait_ns.div_ceil(1_000_000_000) as u32;
            return Step::Answer(Answer::retry(429, "too many refused tokens from this address", wait_s));
        }
        let identity = match upgrade.authenticate(&self.verifier, &self.settings.auth, now) {
            Ok(identity) => identity,
            Err(refused) => {
                if let Unauthorised::Refused(error) = &refused {
                    self.count_refusal(now, conn, error);
                }
                return Step::Answer(refused.answer());
            }
        };
        self.cells.auth_accepted.add(u64::from(identity.is_some()));
        let &Upgrade { dialect, subprotocol, deflate, resume_waits, .. } = upgrade;
        let response = upgrade::response(&upgrade.accept, subprotocol, deflate);
        let deflate = deflate.map(|accepted| accepted.window);
        Step::Open(Opening { dialect, identity, deflate, resume_waits, response })
    }

    fn open(&mut self, now: Now, conn: ConnId, opening: Opening) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let Opening { dialect, identity, deflate, resume_waits, response } = opening;
        connection.phase = Phase::Admission(Box::new(Held(response)));
        connection.deflate = deflate;
        self.hub.handle(now, Input::Open { conn, dialect, identity, resume_waits }, &mut self.outputs);
    }

    /// Sends an HTTP answer and ends the connection.
    pub(super) fn answer(&mut self, now: Now, conn: ConnId, answer: &Answer) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.unsent = Some(Box::new(Held(answer.encode())));
        let class = match answer.status {
            200..=399 => 0,
            400..=499 => 1,
            _ => 2,
        };
        self.cells.http_answers[class].add(1);
        self.finish(now, conn);
    }

    /// Whether a token of this connection may be looked at (06 D6); else in how many nanoseconds.
    pub(super) fn may_try(&mut self, now: Now, conn: ConnId) -> Result<(), u64> {
        let Some(failures) = &self.failures else { return Ok(()) };
        let Some(connection) = self.connections.get_mut(conn) else { return Ok(()) };
        let checked = failures.check(socket::network(connection.fd()), now.mono_ns);
        self.cells.auth_throttled.add(u64::from(checked.is_err()));
        checked
    }

    /// Counts a token that was refused, and asks for fresh keys where an unknown one signed it.
    pub(super) fn count_refusal(&mut self, now: Now, conn: ConnId, error: &TokenError) {
        self.cells.auth_refused.add(1);
        if matches!(error, TokenError::UnknownKey) {
            // Dropped when control is busy: the next such token asks again. It is not held against its address: no
            // signature was looked at, and while keys rotate it is the gateway that is behind.
            self.control.try_send(ToControl::UnknownKey).ok();
            return;
        }
        if let Some(failures) = &mut self.failures
            && let Some(connection) = self.connections.get_mut(conn)
        {
            failures.count(socket::network(connection.fd()), now.mono_ns);
        }
    }

    /// Ends the handshakes that took too long.
    pub(super) fn expire_handshakes(&mut self, now: Now) {
        for conn in self.handshake_expiries.take_due(now.mono_ns) {
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            match &connection.phase {
                Phase::Handshake(newcomer) => {
                    self.cells.handshake_timeouts.add(1);
                    if newcomer.head.is_empty() {
                        self.remove(now, conn);
                    } else {
                        // What no step has looked at waited for us.
                        let ours = newcomer.held;
                        let late = Answer::error(408, "the request took too long");
                        let answer = if ours { self.overloaded() } else { late };
                        self.answer(now, conn, &answer);
                        // Who took all this time gets no more of it to close; the kernel delivers the answer.
                        self.remove_finished(now, conn);
                    }
                }
                Phase::Admission(_) => {
                    self.cells.handshake_timeouts.add(1);
                    self.cells.admission_timeouts.add(1);
                    // Control did not answer in time: the hub forgets the connection, whatever comes later.
                    self.hub.handle(now, Input::Gone { conn }, &mut self.outputs);
                    self.answer(
                        now,
                        conn,
                        &Answer::retry(503, "overloaded", limits::CONTROL_RETRY.as_secs() as u32),
                    );
                }
                Phase::Open | Phase::Finishing | Phase::Lingering => {}
            }
        }
    }
}

fn json((status, body): (u16, String)) -> Answer {
    Answer::json(status, body)
}
