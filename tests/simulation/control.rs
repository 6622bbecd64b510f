//! The control loop around the router, with what waits for room in a shard's mailbox.

use std::{collections::VecDeque, sync::Arc};

use usher::{
    clock::Now,
    config::Settings,
    event::{Event, Position, Receipt, Refusal, RoomEntry},
    ids::{ConnId, ShardId},
    mesh::{Receiver, Sender, ToControl, ToShard},
    route::{Input, Instances, Output, Route, ShardView, Ticket, Token},
    stream::{
        history::{Bounds, History},
        store::Ask,
    },
    wire::command::RequestId,
};

/// What the router decided, for the shadow model, in its order.
#[derive(Debug)]
pub enum Decision {
    /// An event was accepted, or refused.
    Published(Event, Result<Receipt, Refusal>),
    /// A connection of a user was let in at that position of the user's stream.
    Admitted(ConnId, Position),
    /// A connection was let into a room, by that attempt.
    Entered(ConnId, u32, RoomEntry),
}

/// Messages of a mailbox that what can wait leaves free.
const RESERVE: usize = 2;

struct Link {
    to: Sender<ToShard>,
    from: Receiver<ToControl>,
    held_back: VecDeque<ToShard>,
    drained: bool,
}

pub struct Control {
    pub route: Route,
    pub store: History,
    asks: VecDeque<(Ticket, Ask)>,
    links: Vec<Link>,
    pub decisions: Vec<Decision>,
    /// While set, answers to joins are lost, as behind a list of what waits that is full.
    pub loses_answers: bool,
    /// Connections that wait for a receipt.
    waiting: Vec<(Token, ConnId, RequestId)>,
    token: Token,
    outputs: Vec<Output>,
}

impl Control {
    pub fn new(settings: &Settings, links: Vec<(Sender<ToShard>, Receiver<ToControl>)>, seed: u64) -> Self {
        let link = |(to, from)| Link { to, from, held_back: VecDeque::new(), drained: false };
        Self {
            route: Route::new(settings, Instances::One),
            store: History::new(Bounds::from(&settings.streams), seed),
            asks: VecDeque::new(),
            links: links.into_iter().map(link).collect(),
            decisions: Vec::new(),
            loses_answers: false,
            waiting: Vec::new(),
            token: 0,
            outputs: Vec::new(),
        }
    }

    /// Hears the shards; messages of clients are routed after everybody's joins, as the control loop does it. Whether
    /// there was anything to do.
    pub fn turn(&mut self, now: Now, lagging: &[bool]) -> bool {
        let mut busy = self.retry();
        let mut messages = Vec::new();
        for index in 0..self.links.len() {
            while let Some(message) = self.links[index].from.try_recv() {
                busy = true;
                match message {
                    ToControl::Publish { conn, request, event } => messages.push((conn, request, *event)),
                    message => self.mail(now, lagging, ShardId(index as u16), message),
                }
            }
        }
        self.announce(now, lagging);
        for (conn, request, event) in messages {
            let reply = request.map(|request| (conn, request));
            // The outcome is on its way to the connection, if it asked for one.
            self.route_event(now, lagging, event, None, reply).ok();
        }
        busy
    }

    /// A backend's call: everything that shards said before is heard first.
    pub fn publish(
        &mut self,
        now: Now,
        lagging: &[bool],
        event: Event,
        key: Option<Arc<str>>,
    ) -> Result<Receipt, Refusal> {
        self.turn(now, lagging);
        self.route_event(now, lagging, event, key, None)
    }

    pub fn disconnect(&mut self, now: Now, lagging: &[bool], user: &str) {
        self.turn(now, lagging);
        let views = self.views(lagging);
        let input = Input::Disconnect { token: 0, user: user.into(), shards: &views };
        self.route.handle(now, input, &mut self.outputs);
        self.settle(now, lagging);
    }

    pub fn tick(&mut self, now: Now, lagging: &[bool]) {
        let views = self.views(lagging);
        self.store.expire(now);
        self.route.handle(now, Input::Tick { shards: &views }, &mut self.outputs);
        self.settle(now, lagging);
        self.announce(now, lagging);
    }

    fn announce(&mut self, now: Now, lagging: &[bool]) {
        if self.route.has_announcements() {
            let views = self.views(lagging);
            self.route.handle(now, Input::Announce { shards: &views }, &mut self.outputs);
            self.settle(now, lagging);
        }
    }

    pub fn drain(&mut self, within: std::time::Duration) {
        for index in 0..self.links.len() {
            let shard = ShardId(index as u16);
            self.order(shard, ToShard::Drain { within });
            self.order(shard, ToShard::SendAway { count: Some(1), return_ms: 1 });
            self.order(shard, ToShard::SendAway { count: None, return_ms: 1 });
        }
    }

    pub fn all_drained(&self) -> bool {
        self.links.iter().all(|link| link.drained)
    }

    fn retry(&mut self) -> bool {
        let mut sent = false;
        for link in &mut self.links {
            while let Some(message) = link.held_back.pop_front() {
                if let Err(message) = link.to.try_send(message) {
                    link.held_back.push_front(message);
                    break;
                }
                sent = true;
            }
        }
        sent
    }

    fn mail(&mut self, now: Now, lagging: &[bool], shard: ShardId, message: ToControl) {
        let announces = matches!(message, ToControl::Present { .. }) && !self.route.has_announcements();
        let input = match message {
            ToControl::Members { address, count } => Input::Members { shard, address, count },
            ToControl::Admit { conn, user, user_connections } => {
                Input::Admit { conn, user, user_connections }
            }
            ToControl::Join { conn, attempt, room, members, newcomer } => {
                Input::Join { conn, attempt, room, members, newcomer }
            }
            ToControl::Entered { conn, room } => Input::Entered { conn, room },
            ToControl::Present { room, user, present, conn } => Input::Present { room, user, present, conn },
            ToControl::Drained => {
                self.links[shard.index()].drained = true;
                return;
            }
            ToControl::Resume { conn, user, resume } => Input::Resume { conn, user, resume: *resume },
            ToControl::ReplayMore { conn, stream, epoch, after } => {
                Input::ReplayMore { conn, position: Position { stream, epoch, offset: after } }
            }
            ToControl::Acknowledge { stream, epoch, offset } => {
                Input::Acknowledge { position: Position { stream, epoch, offset } }
            }
            ToControl::UnknownKey | ToControl::Publish { .. } => return,
            // No event has a queue here.
            ToControl::JoinLine(_)
            | ToControl::LeaveLine(_)
            | ToControl::Waiting { .. }
            | ToControl::LineLost { .. } => return,
        };
        self.route.handle(now, input, &mut self.outputs);
        self.settle(now, lagging);
        if announces {
            self.announce(now, lagging);
        }
    }

    fn route_event(
        &mut self,
        now: Now,
        lagging: &[bool],
        event: Event,
        key: Option<Arc<str>>,
        reply: Option<(ConnId, RequestId)>,
    ) -> Result<Receipt, Refusal> {
        self.token += 1;
        if let Some((conn, request)) = reply {
            self.waiting.push((self.token, conn, request));
        }
        let views = self.views(lagging);
        let input =
            Input::Publish { token: self.token, event: event.clone(), idempotency_key: key, shards: &views };
        self.route.handle(now, input, &mut self.outputs);
        let result = self.settle(now, lagging).expect("every publication is answered");
        self.decisions.push(Decision::Published(event, result.clone()));
        result
    }

    fn views(&self, lagging: &[bool]) -> Vec<ShardView> {
        let view = |(link, lagging): (&Link, &bool)| {
            let free = if link.held_back.is_empty() { link.to.free() } else { 0 };
            ShardView {
                free,
                free_bytes: usize::MAX,
                spare: free.saturating_sub(RESERVE),
                lagging: *lagging,
                connections: 0,
            }
        };
        self.links.iter().zip(lagging).map(view).collect()
    }

    /// Carries out what the router asked, until the store has answered everything.
    fn settle(&mut self, now: Now, lagging: &[bool]) -> Option<Result<Receipt, Refusal>> {
        let mut result = self.apply();
        while let Some((ticket, ask)) = self.asks.pop_front() {
            let answer = self.store.answer(now, ask);
            let views = self.views(lagging);
            self.route.handle(now, Input::Answered { ticket, answer, shards: &views }, &mut self.outputs);
            result = self.apply().or(result);
        }
        result
    }

    fn apply(&mut self) -> Option<Result<Receipt, Refusal>> {
        let mut answer = None;
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Deliver { shard, event } => self.order(shard, ToShard::Deliver(event)),
                Output::Admitted { conn, position } => {
                    let head = position.clone().expect("the store always knows");
                    self.decisions.push(Decision::Admitted(conn, head));
                    self.order(conn.shard(), ToShard::Admitted { conn, position });
                }
                Output::Denied { conn, denial, retry_after_ms } => {
                    self.order(conn.shard(), ToShard::Denied { conn, denial, retry_after_ms });
                }
                Output::JoinDecided { conn, attempt, outcome } => {
                    if let Ok(entry) = &outcome {
                        self.decisions.push(Decision::Entered(conn, attempt, entry.clone()));
                    }
                    if !self.loses_answers {
                        self.order(conn.shard(), ToShard::JoinDecided { conn, attempt, outcome });
                    }
                }
                Output::Latest { conn, values } => self.order(conn.shard(), ToShard::Latest { conn, values }),
                Output::Answer { token, result } => {
                    if let Some(place) = self.waiting.iter().position(|(waiting, ..)| *waiting == token) {
                        let (_, conn, request) = self.waiting.swap_remove(place);
                        self.order(
                            conn.shard(),
                            ToShard::Published { conn, request: Some(request), outcome: result.clone() },
                        );
                    }
                    answer = Some(result);
                }
                Output::Disconnect { shard, user } => self.order(shard, ToShard::Disconnect { user }),
                Output::Disconnected { .. }
                | Output::Counted { .. }
                | Output::Inquired { .. }
                | Output::Pushed { .. } => {}
                Output::Ask { ticket, ask } => self.asks.push_back((ticket, ask)),
                Output::Replay { conn, page } => self.order(conn.shard(), ToShard::Replay { conn, page }),
                Output::Interest { .. }
                | Output::Share { .. }
                | Output::Tell { .. }
                | Output::Resync { .. } => {
                    panic!("there is no other instance")
                }
                Output::RoomCount { shard, room, others } => {
                    self.order(shard, ToShard::RoomCount { room, others });
                }
            }
        }
        answer
    }

    fn order(&mut self, shard: ShardId, message: ToShard) {
        let link = &mut self.links[shard.index()];
        if !link.held_back.is_empty() {
            link.held_back.push_back(message);
        } else if let Err(message) = link.to.try_send(message) {
            link.held_back.push_back(message);
        }
    }
}
