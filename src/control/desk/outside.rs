//! What comes from outside: answers of the store, and what other instances and services publish.
//!
//! Owns nothing. Never decides: it is the router's, and the waiting rooms'.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::Desk;
use crate::{
    bus::{Foreign, Heard},
    clock::Now,
    control::backend::News,
    event::Class,
    route::{
        Input, classify,
        lines::{self, Lines},
    },
    store::Answered,
    stream::{
        envelope::Publication,
        names::{self, Subject},
        word::Word,
    },
};

impl Desk {
    /// What the store or another instance says, one thing at a time.
    pub(in crate::control) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        match self.waiting_rooms.poll_signed(cx) {
            Poll::Ready(signed) => Poll::Ready(News::Signed(signed)),
            Poll::Pending => self.backend.poll_news(cx),
        }
    }

    /// Tells the router what came from outside.
    pub(in crate::control) fn news(&mut self, now: Now, news: News) {
        match news {
            News::Signed(signed) => self.signed(now, signed),
            News::Answered(Answered { ticket, answer }) if Lines::is_ticket(ticket) => {
                self.lines_input(now, lines::io::Input::Answered { ticket, answer });
            }
            News::Answered(Answered { ticket, answer }) => {
                self.route_viewed(now, |shards| Input::Answered { ticket, answer, shards });
            }
            // Who is told that this instance is ready may send it clients: the router knows before.
            News::Heard(Heard::Up) => {
                self.route_input(now, Input::Up);
                self.waiting_rooms.untold.hurry();
                self.status.control.redis.followed.set(1);
            }
            News::Heard(Heard::Down) => {
                self.status.control.redis.followed.set(0);
                self.route_input(now, Input::Down);
            }
            News::Heard(Heard::Subscribed(Subject::Address(address))) => {
                self.route_input(now, Input::Subscribed { address });
            }
            News::Heard(Heard::Subscribed(Subject::Queue(event_id))) => {
                self.lines_input(now, lines::io::Input::Subscribed { event_id });
            }
            News::Heard(Heard::Shared(bytes)) => {
                if let Some(publication) = self.backend.understand(&bytes) {
                    self.shared(now, publication);
                }
            }
            News::Heard(Heard::Foreign(foreign)) => self.foreign(now, foreign),
        }
    }

    fn shared(&mut self, now: Now, publication: Publication) {
        match publication {
            Publication::Stored(mut event) | Publication::Passing { mut event, .. } => {
                event.accepted_at_ns = now.mono_ns;
                let event = Arc::new(event);
                if event.position.as_ref().is_some_and(|position| names::is_log(&position.stream)) {
                    return self.lines_input(now, lines::io::Input::Stored(event));
                }
                self.route_viewed(now, |shards| Input::Heard { event, shards });
            }
            Publication::Renamed(position) => self.route_input(now, Input::Renamed { position }),
            Publication::Word { origin, word } => {
                if word == Word::Leaving {
                    self.backend.hurry();
                }
                self.route_input(now, Input::Word { from: origin, word });
                self.announce(now);
            }
        }
    }

    /// Tells the router what is new of the lease.
    pub(super) fn learn_lease(&mut self, now: Now) {
        if let Some(lease) = self.backend.take_lease() {
            self.route_viewed(now, |shards| Input::Lease { lease, shards });
        }
    }

    /// What other services publish goes to this instance's connections like a call that nobody waits for; a mailbox that
    /// is full loses it, and route counts that.
    fn foreign(&mut self, now: Now, foreign: Foreign) {
        match foreign {
            Foreign::Event(mut event) => {
                event.target = classify::resolve(event.target);
                event.class = classify::class_of(&event.kind, &event.target, &event.payload);
                self.learn_lease(now);
                self.route_viewed(now, |shards| Input::Foreign { event, shards });
            }
            Foreign::Revoke(user) => {
                // Whoever revokes over Redis waits for no count.
                let (reply, _) = oneshot::channel();
                self.disconnect(now, user, reply);
            }
            Foreign::Presence(mut event) => {
                event.class = Class::Ephemeral;
                self.route_viewed(now, |shards| Input::ForeignPresence { event, shards });
            }
        }
    }
}
