//! The shop behind the gateway: takes orders with a pass, sells each seat once, and says so through gRPC.
//!
//! Owns the stock. A real shop takes orders over HTTP; this one takes them as a message type of its own, so that a page
//! needs nothing but its socket: a [`Handler`] on the gateway's shards puts them into a bounded queue. What it does with
//! a pass is what any booking service does: it checks signature, event and window offline, and lets each `jti` in once.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    rc::Rc,
    time::Duration,
};

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::{sync::mpsc, time::interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{Backend, EVENT, books::Books, buyer};
use crate::{
    auth::token::Signatures,
    clock::Now,
    generated::realtime::{
        BroadcastEventRequest, CloseQueueRequest, HolderRequest, NotifyBookingResultRequest,
        broadcast_event_request::Body,
    },
    handler::{self, Handler, Message, Replies},
    sale::pass::{Claims, PassError},
};

/// The message type of an order.
pub(super) const ORDER: &str = "booking:request";
/// Orders that wait for the shop; more are told to come again.
pub(super) const ORDERS_MAX: usize = 1_024;
/// Orders that are worked on at the same time.
const ORDERS_TOGETHER_MAX: usize = 16;
/// Between two looks at whether the stock changed.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// What is told of a pass that was not used in time.
const EXPIRED: &str = "the pass expired";
/// Tries of a call that the gateway has no room for, and the pause before the next.
const TRIES_MAX: u32 = 20;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// An order as it came in.
pub(super) struct Order {
    user: String,
    wanted: Wanted,
}

#[derive(Deserialize)]
struct Wanted {
    category_id: String,
    pass: String,
}

/// The gateway's side: what a client sends becomes an order.
pub(super) fn counter(orders: mpsc::Sender<Order>) -> impl Handler {
    move |message: Message<'_>, replies: &mut Replies| {
        let handler::Body::Typed { payload, .. } = message.body else { return };
        let (Some(user), Ok(wanted)) = (message.user, serde_json::from_str(payload)) else {
            return replies.error("bad_order", "an order needs a user, a category_id and a pass");
        };
        match orders.try_send(Order { user: user.to_owned(), wanted }) {
            Ok(()) => replies.send("booking:processing", json!({"event_id": EVENT}).to_string()),
            Err(_) => replies.error("overloaded", "the shop is full; try again"),
        }
    }
}

/// Seats of one kind.
struct Category {
    id: &'static str,
    name: &'static str,
    letter: char,
    price: &'static str,
    total: u32,
    sold: u32,
    /// `sold` when it was told last.
    told: Option<u32>,
}

/// The booking worker.
pub(super) struct Shop {
    backend: Backend,
    signatures: Signatures,
    books: Rc<RefCell<Books>>,
    stock: RefCell<Vec<Category>>,
    /// `jti` of passes that came.
    used: RefCell<HashSet<String>>,
    /// Orders with passes that were no good.
    refused: Cell<u32>,
}

impl Shop {
    pub(super) fn new(
        backend: Backend,
        signatures: Signatures,
        books: Rc<RefCell<Books>>,
        seats: u32,
    ) -> Self {
        let stalls = seats - seats / 3;
        let category =
            |id, name, letter, price, total| Category { id, name, letter, price, total, sold: 0, told: None };
        let stock = vec![
            category("stalls", "Stalls", 'S', "60.00", stalls),
            category("balcony", "Balcony", 'B', "45.00", seats - stalls),
        ];
        Self {
            backend,
            signatures,
            books,
            stock: RefCell::new(stock),
            used: RefCell::default(),
            refused: Cell::new(0),
        }
    }

    /// Sells until it is dropped.
    pub(super) async fn run(&self, orders: mpsc::Receiver<Order>) {
        let serve =
            ReceiverStream::new(orders).for_each_concurrent(ORDERS_TOGETHER_MAX, |order| self.serve(order));
        tokio::join!(serve, self.tell_stock());
    }

    /// Seats that are left.
    pub(super) fn left(&self) -> u32 {
        self.stock.borrow().iter().map(|category| category.total - category.sold).sum()
    }

    async fn serve(&self, order: Order) {
        let Order { user, wanted } = order;
        let claims = match self.check(&user, &wanted.pass) {
            Ok(claims) => claims,
            Err(problem) => return self.refuse(&user, &problem).await,
        };
        // An order that came twice is one: its result is on the way, or came.
        if !self.used.borrow_mut().insert(claims.jti.clone()) {
            return;
        }
        let sold = match self.call(&user, Step::Claim).await {
            Ok(()) => self.take(&wanted.category_id).ok_or("there is nothing left"),
            Err(status) if status.code() == Code::FailedPrecondition => Err(EXPIRED),
            Err(status) => return self.fault(format!("Claim for {user}: {status}")),
        };
        let claimed = !matches!(sold, Err(EXPIRED));
        if let Err(status) = self.tell_result(&user, &claims.jti, sold).await {
            return self.fault(format!("NotifyBookingResult to {user}: {status}"));
        }
        if claimed {
            let step = if sold.is_ok() { Step::Complete } else { Step::Abandon };
            if let Err(status) = self.call(&user, step).await {
                self.fault(format!("{step:?} for {user}: {status}"));
            }
        }
        if sold.is_ok() && self.left() == 0 {
            self.close().await;
        }
    }

    /// Offline, with the keys that the gateway publishes.
    fn check(&self, user: &str, pass: &str) -> Result<Claims, String> {
        let payload = self.signatures.payload(pass).map_err(|error| error.to_string())?;
        let claims = Claims::check(&payload, EVENT, Now::read()).map_err(|error| match error {
            PassError::Expired { .. } => EXPIRED.to_owned(),
            error => error.to_string(),
        })?;
        if claims.sub == user && !claims.anonymous {
            Ok(claims)
        } else {
            Err(format!("it is {}'s", claims.sub))
        }
    }

    /// A pass that is no good: people may send anything, simulated buyers what they got, if perhaps too late.
    async fn refuse(&self, user: &str, problem: &str) {
        if buyer::number(user).is_some() && problem != EXPIRED {
            self.fault(format!("the pass of {user}: {problem}"));
        }
        let refused = self.refused.get() + 1;
        self.refused.set(refused);
        if let Err(status) = self.tell_result(user, &format!("refused-{refused}"), Err(problem)).await {
            self.fault(format!("NotifyBookingResult to {user}: {status}"));
        }
    }

    /// A seat of the category, else of another: which, and its price.
    fn take(&self, wanted: &str) -> Option<Seat> {
        let mut stock = self.stock.borrow_mut();
        let has_some = |category: &&mut Category| category.sold < category.total;
        let index = stock.iter_mut().filter(has_some).position(|category| category.id == wanted);
        let category = stock.iter_mut().filter(has_some).nth(index.unwrap_or(0))?;
        category.sold += 1;
        Some(Seat { letter: category.letter, number: category.sold, price: category.price })
    }

    async fn tell_result(&self, user: &str, booking: &str, sold: Result<Seat, &str>) -> Result<(), Status> {
        let seat = sold.ok().map(|seat| format!("{}{}", seat.letter, seat.number));
        let request = NotifyBookingResultRequest {
            user_id: user.to_owned(),
            booking_id: booking.to_owned(),
            success: sold.is_ok(),
            message: sold.err().unwrap_or_default().to_owned(),
            booking_reference: seat.as_ref().map(|seat| format!("ON-{seat}")).unwrap_or_default(),
            event_id: EVENT.to_owned(),
            seat_numbers: seat.iter().cloned().collect(),
            total_amount: sold.map(|seat| seat.price.to_owned()).unwrap_or_default(),
            currency: "EUR".to_owned(),
            idempotency_key: booking.to_owned(),
        };
        let mut tries = 0;
        loop {
            match self.backend.clone().notify_booking_result(request.clone()).await {
                Ok(_) => break,
                Err(status) if tries < TRIES_MAX && status.code() == Code::ResourceExhausted => {
                    tries += 1;
                    tokio::time::sleep(TRY_AGAIN_AFTER).await;
                }
                Err(status) => return Err(status),
            }
        }
        self.books.borrow_mut().promised(booking, seat, buyer::number(user));
        Ok(())
    }

    async fn call(&self, user: &str, step: Step) -> Result<(), Status> {
        let holder =
            HolderRequest { event_id: EVENT.into(), holder: user.into(), ..HolderRequest::default() };
        let mut backend = self.backend.clone();
        let answer = match step {
            Step::Claim => backend.claim(holder).await,
            Step::Complete => backend.complete(holder).await,
            Step::Abandon => backend.abandon(holder).await,
        };
        self.books.borrow_mut().queue(answer?.get_ref());
        Ok(())
    }

    async fn close(&self) {
        let request = CloseQueueRequest { event_id: EVENT.into(), sold_out: true, ..Default::default() };
        if let Err(status) = self.backend.clone().close_queue(request).await {
            self.fault(format!("CloseQueue: {status}"));
        }
    }

    /// Tells the room of each category that changed.
    async fn tell_stock(&self) {
        let mut clock = interval(TELL_EVERY);
        loop {
            clock.tick().await;
            let news: Vec<_> = self.stock.borrow_mut().iter_mut().map(Category::news).collect();
            for (index, payload) in news.into_iter().enumerate() {
                let Some(payload) = payload else { continue };
                let request = BroadcastEventRequest {
                    room: format!("event:{EVENT}"),
                    event_type: "ticket:availability".into(),
                    body: Some(Body::PayloadJson(payload.into())),
                    ..BroadcastEventRequest::default()
                };
                if self.backend.clone().broadcast_event(request).await.is_err() {
                    // It is told again.
                    self.stock.borrow_mut()[index].told = None;
                }
            }
        }
    }

    fn fault(&self, fault: String) {
        self.books.borrow_mut().fault(fault);
    }
}

#[derive(Clone, Copy)]
struct Seat {
    letter: char,
    number: u32,
    price: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Claim,
    Complete,
    Abandon,
}

impl Category {
    fn news(&mut self) -> Option<String> {
        let Self { id, name, total, sold, price, .. } = *self;
        let changed = self.told.replace(sold) != Some(sold);
        let payload = json!({"event_id": EVENT, "category_id": id, "name": name, "available": total - sold,
            "total": total, "price": price});
        changed.then(|| payload.to_string())
    }
}
