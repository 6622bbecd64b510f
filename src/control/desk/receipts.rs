//! Receipts of shuffles: drawn by the signing thread when a queue opens, shown to who joins again.
//!
//! Owns the shuffles of the queues that are followed here. Every instance draws the same one.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::give;
use crate::{
    control::passes::{Draw, Drawn, SignError, Signer},
    limits::DRAW_WAITING_MAX,
    line::{Seated, Ticket},
};

/// Shuffles by event.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    drawn: HashMap<Arc<str>, Arc<Drawn>>,
    /// What the signing thread has no room for yet. At most one for each queue.
    waiting: VecDeque<Draw>,
    /// What it is at, in order.
    drawing: VecDeque<(Arc<str>, oneshot::Receiver<Drawn>)>,
    /// Who waits for what is not drawn yet, at most [`DRAW_WAITING_MAX`].
    asking: Vec<(Arc<str>, Reply)>,
}

/// Gets the shuffle; `None`: there is none, or none to wait for.
type Reply = oneshot::Sender<Option<Arc<Drawn>>>;

impl Receipts {
    /// A queue opened.
    pub(super) fn draw(&mut self, draw: Draw) {
        self.forget(&draw.event_id);
        self.waiting.push_back(draw);
    }

    /// The queue is not followed any more.
    pub(super) fn forget(&mut self, event_id: &str) {
        self.drawn.remove(event_id);
        self.waiting.retain(|draw| *draw.event_id != *event_id);
        self.drawing.retain(|(of, _)| **of != *event_id);
        self.answer(event_id, None);
    }

    /// Tells the shuffle of a queue, once it was drawn; nothing, where it is not being drawn or too many wait.
    pub(super) fn tell(&mut self, event_id: &Arc<str>, reply: Reply) {
        let drawn = self.of(event_id).cloned();
        let is_coming = self.waiting.iter().any(|draw| draw.event_id == *event_id)
            || self.drawing.iter().any(|(of, _)| of == event_id);
        self.asking.retain(|(_, reply)| !reply.is_closed());
        if drawn.is_none() && is_coming && self.asking.len() < DRAW_WAITING_MAX {
            self.asking.push((Arc::clone(event_id), reply));
        } else {
            give(reply, drawn);
        }
    }

    fn answer(&mut self, event_id: &str, drawn: Option<&Arc<Drawn>>) {
        let ready = self.asking.extract_if(.., |(of, _)| **of == *event_id);
        ready.for_each(|(_, reply)| give(reply, drawn.cloned()));
    }

    /// Hands to the signing thread what it takes; the rest goes with a later turn.
    pub(super) fn ask(&mut self, signer: &Signer) {
        while let Some(draw) = self.waiting.pop_front() {
            let event_id = Arc::clone(&draw.event_id);
            match signer.draw(draw) {
                Ok(answer) => self.drawing.push_back((event_id, answer)),
                Err((SignError::Full, Some(draw))) => return self.waiting.push_front(*draw),
                Err((error, _)) => {
                    tracing::error!(event_id = &*event_id, %error, "no receipts are drawn");
                    self.answer(&event_id, None);
                }
            }
        }
    }

    /// Takes what was drawn by now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Some((event_id, answer)) = self.drawing.front_mut() {
            let Poll::Ready(drawn) = Pin::new(answer).poll(cx) else { return };
            let event_id = Arc::clone(event_id);
            self.drawing.pop_front();
            // Without one the library failed, which the thread has logged.
            let drawn = drawn.ok().map(Arc::new);
            self.answer(&event_id, drawn.as_ref());
            self.drawn.extend(drawn.map(|drawn| (event_id, drawn)));
        }
    }

    /// The places of the queue, if they were drawn.
    pub(super) fn of(&self, event_id: &str) -> Option<&Arc<Drawn>> {
        self.drawn.get(event_id)
    }

    /// JSON text of the receipt for who has a place that was drawn.
    pub(super) fn receipt(&self, seated: &Seated) -> Option<Box<str>> {
        let Ticket::Place(place) = seated.ticket else { return None };
        let drawn = self.of(&seated.asked.event_id)?;
        let receipt = drawn.shuffle.receipt(place, &drawn.signed_root)?;
        serde_json::to_string(&receipt).ok().map(Into::into)
    }
}
