//! The sale itself: opens the queue, lets the shop and the buyers loose, and watches until everything is sold.
//!
//! Owns the progress that is printed. The operator's side is gRPC like any other operator's.

use std::{
    cell::RefCell,
    io::{IsTerminal, stdout},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::spawn_local,
    time::{MissedTickBehavior, interval},
};

use super::{
    Backend, EVENT, Plan,
    books::{Books, Stage},
    buyer::Buyer,
    shop::{Order, Shop},
};
use crate::{
    auth::token::Signatures,
    cli::say,
    clock::Now,
    generated::realtime::{GetQueueRequest, OpenQueueRequest, QueueResponse, open_queue_request::Inlet},
};

/// Over the lines of progress, which fit an old terminal.
const HEADING: &str = "  time  state     waiting  pass  inside  bought  expired  gave up  left    results\n";
/// Between two looks at the queue, which are a line each where no terminal is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: u32 = 4;

/// Whom and what it takes.
pub(super) struct Parts {
    pub(super) plan: Plan,
    pub(super) backend: Backend,
    pub(super) signatures: Signatures,
    pub(super) orders: mpsc::Receiver<Order>,
    /// A token for each simulated buyer.
    pub(super) tokens: Vec<String>,
    pub(super) gateway: SocketAddr,
}

/// How it ended.
pub(super) struct Outcome {
    pub(super) books: Rc<RefCell<Books>>,
    pub(super) queue: QueueResponse,
    pub(super) took: Duration,
}

/// Runs the sale to its end; on a runtime's local set.
///
/// # Errors
/// The gateway went away.
pub(super) async fn run(parts: Parts) -> Result<Outcome, String> {
    let Parts { plan, mut backend, signatures, orders, tokens, gateway } = parts;
    let began = Now::read();
    let terms = OpenQueueRequest {
        event_id: EVENT.into(),
        opens_at_ms: began.after(plan.opens_after).wall_ms,
        claim_seconds: plan.claim.as_secs() as u32,
        inlet: Some(Inlet::PerMinute(plan.per_minute)),
        ..OpenQueueRequest::default()
    };
    backend.open_queue(terms).await.map_err(|status| format!("OpenQueue: {status}"))?;
    let books = Rc::new(RefCell::new(Books::new(tokens.len())));
    let shop = Rc::new(Shop::new(backend.clone(), signatures, Rc::clone(&books), plan.seats));
    let selling = Rc::clone(&shop);
    spawn_local(async move { selling.run(orders).await });
    for (number, token) in tokens.into_iter().enumerate() {
        spawn_local(Buyer::new(number, token, gateway, plan, Rc::clone(&books)).run());
    }
    watch(Watch { plan, backend, shop, books, began }).await
}

struct Watch {
    plan: Plan,
    backend: Backend,
    shop: Rc<Shop>,
    books: Rc<RefCell<Books>>,
    began: Now,
}

async fn watch(mut watch: Watch) -> Result<Outcome, String> {
    let mut clock = interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let terminal = stdout().is_terminal();
    say(HEADING);
    let mut looks = 0_u32;
    loop {
        clock.tick().await;
        let request = GetQueueRequest { event_id: EVENT.into() };
        let queue = watch.backend.get_queue(request).await.map_err(|status| {
            format!("the gateway stopped before the sale was over ({:?})", status.code())
        })?;
        let queue = queue.into_inner();
        watch.books.borrow_mut().queue(&queue);
        let took = Duration::from_nanos(Now::read().mono_ns.saturating_sub(watch.began.mono_ns));
        let late = took > watch.plan.patience;
        let over = late || watch.is_over(&queue);
        if late {
            watch.books.borrow_mut().fault(format!("the sale was not over after {} s", took.as_secs()));
        }
        if terminal || over || looks.is_multiple_of(LINE_EVERY) {
            let (begin, end) =
                if terminal { ("\r\x1b[2K", if over { "\n" } else { "" }) } else { ("", "\n") };
            say(&format!("{begin}{}{end}", watch.progress(&queue, took)));
        }
        if over {
            return Ok(Outcome { books: watch.books, queue, took });
        }
        looks += 1;
    }
}

impl Watch {
    /// Everything is sold, everybody who got a result has it, and everybody who waits knows that it is in vain.
    fn is_over(&self, queue: &QueueResponse) -> bool {
        let books = self.books.borrow();
        let (heard, promised) = books.results();
        let in_vain = books.count(Stage::Coming) + books.count(Stage::Waiting);
        queue.state == "sold_out" && queue.inside == 0 && heard == promised && in_vain == 0
    }

    fn progress(&self, queue: &QueueResponse, took: Duration) -> String {
        let books = self.books.borrow();
        let (heard, promised) = books.results();
        let QueueResponse { state, total, waiting, holding, inside, expired, completed, abandoned, .. } =
            queue;
        let present = if state == "early" { total } else { waiting };
        let (left, faults) = (self.shop.left(), books.faults().1);
        let wrong = if faults > 0 { format!("  BROKEN: {faults}") } else { String::new() };
        let (seconds, results) = (took.as_secs_f64(), format!("{heard}/{promised}"));
        // As wide as HEADING.
        let before = format!("{seconds:>6.1}  {state:<8} {present:>8} {holding:>5} {inside:>7}");
        format!("{before} {completed:>7} {expired:>8} {abandoned:>8} {left:>5} {results:>10}{wrong}")
    }
}
