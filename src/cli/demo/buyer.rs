//! One simulated buyer: comes, waits, and does with the pass what people do. Some lose their connections and come back.
//!
//! A good client in small: it resumes where it was, joins again and backs off with jitter (README, "Resume").
//! Everything that it is told is entered in the books; it judges nothing.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{EVENT, Plan, books::Books, dice::Dice, shop, socket::Socket};
use crate::clock::Now;

/// Before coming back: up to so much, twice as much after each failure.
const BACK_OFF: Duration = Duration::from_millis(250);
const BACK_OFF_DOUBLINGS_MAX: u32 = 5;
/// Of a hundred buyers: so many lose their connections while they wait,
const VANISHING: u64 = 10;
/// so many let their passes expire,
const FORGETFUL: u64 = 6;
/// and so many give up when it is their turn.
const RELUCTANT: u64 = 6;
/// What user names begin with.
const PREFIX: &str = "buyer-";

/// The user name of a buyer.
pub(super) fn name(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// Which buyer has that name; `None`: it is nobody simulated.
pub(super) fn number(user: &str) -> Option<usize> {
    user.strip_prefix(PREFIX)?.parse().ok()
}

pub(super) struct Buyer {
    number: usize,
    token: String,
    gateway: SocketAddr,
    plan: Plan,
    books: Rc<RefCell<Books>>,
    dice: Dice,
    /// Up to where it has its stream; `None`: it was never told.
    at: Option<Position>,
    pass: Option<String>,
    /// Whether it has what came of its pass, and wants no other.
    done: bool,
    /// Whether it still may lose its connection.
    vanishes: bool,
    /// What it does next, and when, monotonic ns.
    deed: Option<(u64, Deed)>,
}

#[derive(Clone, Copy)]
enum Deed {
    Join,
    Vanish,
    Order,
    GiveUp,
}

#[derive(Clone, Deserialize)]
struct Position {
    stream: String,
    epoch: String,
    offset: u64,
}

/// A message of the gateway.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    payload: Value,
    #[serde(flatten)]
    position: Option<Position>,
}

impl Buyer {
    pub(super) fn new(
        number: usize,
        token: String,
        gateway: SocketAddr,
        plan: Plan,
        books: Rc<RefCell<Books>>,
    ) -> Self {
        let mut dice = Dice::new(number as u64);
        let vanishes = dice.below(100) < VANISHING;
        Self {
            number,
            token,
            gateway,
            plan,
            books,
            dice,
            at: None,
            pass: None,
            done: false,
            vanishes,
            deed: None,
        }
    }

    /// For ever: dropped at the end of the sale.
    pub(super) async fn run(mut self) {
        sleep(self.arrival()).await;
        let mut failures = 0;
        loop {
            match Socket::connect(self.gateway, &self.token, self.at.is_some()).await {
                Ok(mut socket) => {
                    failures = 0;
                    self.stay(&mut socket).await;
                    self.books.borrow_mut().returned();
                }
                Err(_) => failures += 1,
            }
            let most = BACK_OFF * 2_u32.pow(failures.min(BACK_OFF_DOUBLINGS_MAX));
            sleep(self.dice.between(Duration::ZERO, most)).await;
        }
    }

    /// Four of five come before it opens.
    fn arrival(&mut self) -> Duration {
        let Plan { opens_after, length, .. } = self.plan;
        if self.dice.below(5) > 0 {
            self.dice.between(Duration::ZERO, opens_after * 9 / 10)
        } else {
            self.dice.between(opens_after, opens_after + length / 4)
        }
    }

    /// Until the connection ends, or is dropped.
    async fn stay(&mut self, socket: &mut Socket) {
        loop {
            let wait = self.deed.map_or(Duration::MAX, |(due_ns, _)| {
                Duration::from_nanos(due_ns.saturating_sub(Now::read().mono_ns))
            });
            match timeout(wait, socket.next()).await {
                Ok(Some(text)) => match serde_json::from_str(&text) {
                    Ok(envelope) => self.hear(socket, envelope).await,
                    Err(error) => self.books.borrow_mut().fault(format!("{error}: {text}")),
                },
                Ok(None) => return,
                Err(_) => match self.deed.take() {
                    Some((_, Deed::Vanish)) => return,
                    Some((_, deed)) => self.act(socket, deed).await,
                    None => {}
                },
            }
        }
    }

    async fn act(&self, socket: &mut Socket, deed: Deed) {
        match (deed, &self.pass) {
            (Deed::Order, Some(pass)) => {
                let category = if self.number.is_multiple_of(3) { "balcony" } else { "stalls" };
                let order = json!({"event_id": EVENT, "category_id": category, "pass": pass});
                say(socket, shop::ORDER, order).await;
            }
            (Deed::GiveUp, _) => say(socket, "queue:leave", json!({"event_id": EVENT})).await,
            _ => say(socket, "queue:join", json!({"event_id": EVENT})).await,
        }
    }

    async fn hear(&mut self, socket: &mut Socket, envelope: Envelope) {
        let Envelope { kind, payload, position } = envelope;
        if let Some(position) = position {
            let told = |at: &&mut Position| at.epoch == position.epoch && at.offset >= position.offset;
            if self.at.as_mut().filter(told).is_some() {
                return;
            }
            self.at = Some(position);
        }
        match &*kind {
            "system:connected" => self.greeted(socket, &payload).await,
            "system:resumed" | "system:resync" => self.resumed(payload),
            "system:error" => self.refused(&payload),
            "queue:admitted" => self.admitted(&payload),
            "booking:confirmed" | "booking:failed" => self.booked(socket, &payload).await,
            _ => self.told(&kind, &payload),
        }
    }

    async fn greeted(&mut self, socket: &mut Socket, payload: &Value) {
        if let Some(at) = &self.at {
            let at = json!({"stream": at.stream, "epoch": at.epoch, "offset": at.offset});
            say(socket, "system:resume", json!({"streams": [at]})).await;
        } else if let Ok(own) = serde_json::from_value(payload["streams"][0].clone()) {
            self.at = Some(own);
        }
        say(socket, "room:join", json!({"room": format!("event:{EVENT}")})).await;
        if self.done {
            return;
        }
        self.act(socket, Deed::Join).await;
        if self.pass.is_some() {
            // The order may have been lost with the connection; twice is once.
            self.plan_order();
        }
    }

    fn resumed(&mut self, mut payload: Value) {
        if payload["recovered"] != true {
            self.books.borrow_mut().fault(format!("buyer {} missed something: {payload}", self.number));
        }
        if let Some(to) = payload.get_mut("to").map(Value::take) {
            payload["offset"] = to;
        }
        if let Ok(at) = serde_json::from_value(payload) {
            self.at = Some(at);
        }
    }

    fn refused(&mut self, payload: &Value) {
        match payload["code"].as_str().unwrap_or_default() {
            "queue_over" => self.books.borrow_mut().disappointed(self.number),
            "overloaded" | "busy" => {
                let pause = Duration::from_millis(payload["retry_after_ms"].as_u64().unwrap_or(500));
                let deed = if self.pass.is_some() { Deed::Order } else { Deed::Join };
                self.later(pause, pause * 2, deed);
            }
            // It gave up, or its time was over, when it was about to do so.
            "not_in_queue" => {}
            _ => self.books.borrow_mut().fault(format!("buyer {} was told {payload}", self.number)),
        }
    }

    fn told(&mut self, kind: &str, payload: &Value) {
        match kind {
            "queue:joined" => self.books.borrow_mut().placed(self.number, payload["place"].as_u64()),
            "booking:queue_position" => {
                let ahead = payload["ahead"].as_u64().unwrap_or(u64::MAX);
                self.books.borrow_mut().position(self.number, ahead);
                if self.vanishes && self.pass.is_none() {
                    self.vanishes = false;
                    self.later(Duration::ZERO, self.plan.length / 4, Deed::Vanish);
                }
            }
            "queue:sold_out" | "queue:closed" => self.books.borrow_mut().disappointed(self.number),
            // The pass expired, or was given up.
            "queue:left" => {
                self.done = true;
                self.deed = None;
                self.books.borrow_mut().gone(self.number);
            }
            _ => {}
        }
    }

    fn admitted(&mut self, payload: &Value) {
        self.books.borrow_mut().admitted(self.number, payload["place"].as_u64());
        let pass = payload["pass"].as_str().map(str::to_owned);
        if self.pass.is_some() || pass.is_none() {
            return;
        }
        self.pass = pass;
        match self.dice.below(100) {
            forgetful if forgetful < FORGETFUL => self.deed = None,
            reluctant if reluctant < FORGETFUL + RELUCTANT => {
                self.later(Duration::ZERO, self.plan.claim / 4, Deed::GiveUp);
            }
            _ => self.plan_order(),
        }
    }

    fn plan_order(&mut self) {
        self.later(self.plan.claim / 40, self.plan.claim / 4, Deed::Order);
    }

    async fn booked(&mut self, socket: &mut Socket, payload: &Value) {
        let booking = payload["booking_id"].as_str().unwrap_or_default();
        let seat = payload["seat_numbers"][0].as_str().map(str::to_owned);
        self.books.borrow_mut().heard(self.number, booking, seat);
        self.done = true;
        if let Some(Position { stream, epoch, offset }) = &self.at {
            say(socket, "system:ack", json!({"stream": stream, "epoch": epoch, "offset": offset})).await;
        }
    }

    fn later(&mut self, from: Duration, to: Duration, deed: Deed) {
        let wait = self.dice.between(from, to);
        self.deed = Some((Now::read().after(wait).mono_ns, deed));
    }
}

async fn say(socket: &mut Socket, kind: &str, payload: Value) {
    socket.send(json!({"type": kind, "payload": payload}).to_string()).await;
}
