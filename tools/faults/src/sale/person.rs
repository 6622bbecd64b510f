//! One of the people in a queue: joins, waits, goes away and comes back, changes devices, gives up, uses a pass or not.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use usher::{clock::Now, sale::receipt::Receipt};

use super::{
    booking::{Booking, Plan},
    diary::{Diary, Seen},
};
use crate::{
    fleet::Fleet,
    random::Random,
    socket::{self, Envelope, Socket},
};

/// Between an end and the next try: so much, and up to so much more.
const RETURN_MIN_MS: u32 = 50;
const RETURN_SPREAD_MS: u32 = 450;
/// How long an answer may take before the connection is given up.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// Between two looks at whether it is time for anything.
const IDLE: Duration = Duration::from_secs(2);
/// Tries to get a receipt: none is drawn for who came later.
const RECEIPT_TRIES_MAX: u32 = 8;

/// What all of them share.
pub(crate) struct Scene {
    pub(crate) booking: Booking,
    pub(crate) fleet: Rc<Fleet>,
    pub(crate) grace: Duration,
    /// People within which none gives up: it might be admitted in the same moment.
    pub(crate) near: u32,
    /// Between two things that somebody does: at most so long.
    pub(crate) calm: Duration,
    /// People come and go.
    pub(crate) lively: Cell<bool>,
    /// It will not open in the next moments.
    pub(crate) early: Cell<bool>,
}

#[derive(Deserialize)]
struct Joined {
    place: Option<u32>,
    place_token: Option<String>,
    receipt: Option<Receipt>,
}

#[derive(Deserialize)]
struct Position {
    position: u32,
    ahead: u32,
    serving: u32,
}

#[derive(Deserialize)]
struct Admitted {
    place: u32,
    pass: String,
    claim_until: u64,
}

/// How a connection ends.
enum Next {
    /// It comes back after a while.
    Return(Duration),
    /// It comes back on another device, and only then leaves this one.
    Change,
    Home,
}

/// One of them.
pub(crate) struct Person {
    scene: Rc<Scene>,
    diary: Rc<RefCell<Diary>>,
    random: Random,
    /// `None`: anonymous.
    token: Option<String>,
    place_token: Option<String>,
    /// A device that it will leave when another was told the place.
    old: Option<Socket>,
    /// The last that it was told; `None`: nothing of this place.
    position: Option<u32>,
    /// Passes are for this place; `None`: it has none.
    admitted: Option<u32>,
    /// A pass that it will do something with when it has its receipt, good until then.
    pass: Option<(String, u64)>,
    /// The booking service is at work.
    busy: Rc<Cell<bool>>,
    /// What it does with its pass ends its place.
    ends: bool,
    leaving: bool,
    /// It was told that something is missing.
    misses: bool,
    /// By then an answer has to be there, monotonic ms, as below.
    answer_by: Option<u64>,
    /// Tries left to get a receipt, and when the next is due.
    receipt_tries: u32,
    receipt_due: Option<u64>,
    act_due: u64,
}

impl Person {
    /// With a token as a user, else anonymous.
    pub(crate) fn new(scene: Rc<Scene>, token: Option<String>, diary: Rc<RefCell<Diary>>, seed: u64) -> Self {
        Self {
            scene,
            diary,
            random: Random::new(seed),
            token,
            place_token: None,
            old: None,
            position: None,
            admitted: None,
            pass: None,
            busy: Rc::default(),
            ends: false,
            leaving: false,
            misses: false,
            answer_by: None,
            receipt_tries: 0,
            receipt_due: None,
            act_due: 0,
        }
    }

    /// Comes after a while, stays until it has no business here any more.
    pub(crate) async fn run(mut self, within: Duration) {
        let arrival = self.up_to(within);
        sleep(arrival).await;
        loop {
            let next = match self.connect().await {
                Some(mut socket) => {
                    let next = self.visit(&mut socket).await;
                    self.hang_up(socket, &next).await;
                    next
                }
                None => {
                    if self.old.take().is_some() {
                        self.note(Seen::Away);
                    }
                    Next::Return(Duration::ZERO)
                }
            };
            // Who comes back while it is being booked out might get a new place before it hears of it.
            while self.ends && self.busy.get() {
                sleep(Duration::from_millis(100)).await;
            }
            match next {
                Next::Home => break,
                _ if self.ends => break,
                Next::Change => {}
                Next::Return(away) => {
                    let more = RETURN_MIN_MS + self.random.below(RETURN_SPREAD_MS);
                    sleep(away + Duration::from_millis(more.into())).await;
                }
            }
        }
        self.diary.borrow_mut().settled = true;
    }

    async fn connect(&mut self) -> Option<Socket> {
        let addresses = self.scene.fleet.pick(self.random.below(u32::MAX))?;
        socket::connect(addresses.ws, "", self.token.as_deref()).await
    }

    /// Half of the time without a word.
    async fn hang_up(&mut self, mut socket: Socket, next: &Next) {
        if matches!(next, Next::Change) {
            self.old = Some(socket);
            return;
        }
        self.old = None;
        self.note(Seen::Away);
        if self.answer_by.is_some() && self.token.is_none() && self.place_token.is_none() {
            self.diary.borrow_mut().unanswered += 1;
        }
        self.diary.borrow_mut().settled = false;
        if self.random.below(2) == 0 {
            socket.close(None).await.ok();
        }
    }

    async fn visit(&mut self, socket: &mut Socket) -> Next {
        self.answer_by = None;
        self.receipt_due = None;
        self.act_due = in_time(self.up_to(self.scene.calm));
        let request = if self.leaving { "queue:leave" } else { "queue:join" };
        if self.ask(socket, request).await.is_none() {
            return Next::Return(Duration::ZERO);
        }
        loop {
            let wake = [self.answer_by, self.receipt_due].into_iter().flatten().fold(self.act_due, u64::min);
            let next = tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.take(&text),
                    Some(Ok(_)) => None,
                    _ => Some(Next::Return(Duration::ZERO)),
                },
                () = sleep(Duration::from_millis(wake.saturating_sub(Now::read().mono_ms()))) => self.act(socket).await,
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    async fn ask(&mut self, socket: &mut Socket, kind: &'static str) -> Option<()> {
        let event_id = &self.scene.booking.event_id;
        let payload = match &self.place_token {
            Some(token) => json!({"event_id": event_id, "place_token": token}),
            None => json!({"event_id": event_id}),
        };
        self.note(if self.leaving { Seen::Leaves } else { Seen::Asks });
        self.answer_by = Some(in_time(ANSWER_TIME_MAX));
        socket.send(Message::text(json!({"type": kind, "payload": payload}).to_string())).await.ok()
    }

    /// It may be time to do something.
    async fn act(&mut self, socket: &mut Socket) -> Option<Next> {
        let now = Now::read().mono_ms();
        if self.answer_by.is_some_and(|by| by <= now) {
            self.diary.borrow_mut().fault("no answer in time".into());
            return Some(Next::Return(Duration::ZERO));
        }
        if self.receipt_due.take_if(|due| *due <= now).is_some() && self.answer_by.is_none() && !self.ends {
            return self.ask(socket, "queue:join").await.is_none().then_some(Next::Return(Duration::ZERO));
        }
        if self.misses && self.answer_by.is_none() && !self.leaving && !self.ends {
            self.misses = false;
            return self.ask(socket, "queue:join").await.is_none().then_some(Next::Return(Duration::ZERO));
        }
        if self.act_due > now {
            return None;
        }
        self.act_due = in_time(IDLE);
        if !self.scene.lively.get() || self.answer_by.is_some() || self.leaving {
            return None;
        }
        self.act_due = in_time(self.up_to(self.scene.calm));
        match self.random.below(100) {
            0..45 => Some(Next::Return(self.up_to(self.scene.grace / 2))),
            45..70 => Some(Next::Return(self.scene.grace + self.up_to(self.scene.grace))),
            70..85 => Some(Next::Change),
            85..93 if self.may_leave() => {
                self.leaving = true;
                self.ask(socket, "queue:leave").await.is_none().then_some(Next::Return(Duration::ZERO))
            }
            _ => None,
        }
    }

    /// Nobody will admit it for some time, and it has its receipt.
    fn may_leave(&self) -> bool {
        match self.position {
            None => self.scene.early.get(),
            Some(position) => {
                self.admitted.is_none() && self.receipt_tries == 0 && position > self.scene.near
            }
        }
    }

    fn take(&mut self, text: &str) -> Option<Next> {
        let Ok(Envelope { kind, payload, .. }) = serde_json::from_str(text) else {
            self.diary.borrow_mut().fault(format!("not understood: {text}"));
            return None;
        };
        match kind.as_str() {
            "queue:joined" => self.joined(self.read(payload)?),
            "booking:queue_position" => {
                let Position { position, ahead, serving } = self.read(payload)?;
                self.position = Some(position);
                self.note(Seen::Position { position, ahead, serving });
                self.want_receipt(Duration::from_secs(3));
            }
            "queue:admitted" => {
                let Admitted { place, pass, claim_until } = self.read(payload)?;
                self.admitted(place, pass, claim_until);
            }
            "queue:left" => return self.left(),
            "system:error" => return self.refused(&payload),
            // It may have missed its pass: who joins again is told.
            "system:resync" => {
                self.note(Seen::Gap);
                self.act_due = 0;
                self.misses = true;
            }
            "queue:sold_out" | "queue:closed" => {
                self.diary.borrow_mut().fault(format!("{kind}: {payload}"));
            }
            _ => {}
        }
        None
    }

    fn read<T: DeserializeOwned>(&self, payload: Value) -> Option<T> {
        let read = serde_json::from_value(payload);
        read.inspect_err(|error| self.diary.borrow_mut().fault(format!("not understood: {error}"))).ok()
    }

    fn joined(&mut self, joined: Joined) {
        let Joined { place, place_token, receipt } = joined;
        self.answer_by = None;
        self.place_token = place_token.or_else(|| self.place_token.take());
        // The other device goes.
        self.old = None;
        if place.is_none() {
            self.receipt_tries = RECEIPT_TRIES_MAX;
        }
        self.note(Seen::Joined(place));
        self.diary.borrow_mut().settled = true;
        match receipt {
            Some(receipt) => {
                self.receipt_tries = 0;
                self.diary.borrow_mut().keep(receipt);
            }
            None if place.is_some() => self.want_receipt(Duration::from_secs(2)),
            None => {}
        }
        self.use_pass();
    }

    /// The queue has opened: who joins again gets the receipt.
    fn want_receipt(&mut self, within: Duration) {
        if self.receipt_tries > 0 && self.receipt_due.is_none() {
            self.receipt_tries -= 1;
            self.receipt_due = Some(in_time(self.up_to(within)));
        }
    }

    fn admitted(&mut self, place: u32, pass: String, until_ms: u64) {
        self.note(Seen::Admitted { place, pass: pass.clone(), until_ms });
        self.want_receipt(Duration::from_secs(1));
        if self.admitted.replace(place) != Some(place) {
            self.pass = Some((pass, until_ms));
        }
        self.use_pass();
    }

    fn use_pass(&mut self) {
        let Some((pass, until_ms)) = self.pass.take_if(|_| self.receipt_tries == 0) else { return };
        if Now::read().wall_ms >= until_ms {
            return;
        }
        let plan = Plan::draw(&mut self.random);
        self.ends = plan.ends();
        self.busy.set(true);
        let (scene, diary, busy) = (Rc::clone(&self.scene), Rc::clone(&self.diary), Rc::clone(&self.busy));
        tokio::task::spawn_local(async move {
            scene.booking.use_pass(&diary, &pass, plan).await;
            busy.set(false);
        });
    }

    /// The place is over.
    fn left(&mut self) -> Option<Next> {
        self.note(Seen::Left);
        let comes_again = !self.ends && self.random.below(3) == 0;
        (self.leaving, self.answer_by) = (false, None);
        (self.position, self.admitted, self.pass, self.receipt_tries) = (None, None, None, 0);
        if comes_again && self.scene.lively.get() {
            return Some(Next::Return(Duration::from_millis(500 + u64::from(self.random.below(2_000)))));
        }
        Some(Next::Home)
    }

    fn refused(&mut self, payload: &Value) -> Option<Next> {
        match payload["code"].as_str() {
            // It had left before the connection broke.
            Some("not_in_queue") if self.leaving => self.left(),
            Some("overloaded") => Some(Next::Return(Duration::from_millis(500))),
            _ => {
                self.diary.borrow_mut().fault(format!("refused: {payload}"));
                None
            }
        }
    }

    fn note(&self, seen: Seen) {
        self.diary.borrow_mut().note(seen);
    }

    fn up_to(&mut self, time: Duration) -> Duration {
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Duration::from_millis(self.random.below(milliseconds.max(1)).into())
    }
}

/// The monotonic clock then, ms.
fn in_time(time: Duration) -> u64 {
    Now::read().after(time).mono_ms()
}
