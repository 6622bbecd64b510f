//! What came of an entry of a log, told to those of this instance.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Lines,
    io::{Admission, Denied, Output, View},
    room::{Present, Room, Waiter, deny},
};
use crate::{
    clock::Now,
    event::Event,
    ids::ShardId,
    limits::SEAT_TIME_MAX,
    line::{LineDenial, LineRequest, LineUpdate, PlaceNews, Seated},
    sale::{
        command::{Command, Entry, Terms},
        fair::{Secrets, commitment},
        pass::USER_PREFIX,
        place::Ending,
        queue::{Effect, Queue, Refusal},
    },
};

impl Lines {
    /// Applies the entry that follows, and tells what came of it.
    pub(super) fn apply(&mut self, now: Now, event_id: &Arc<str>, event: &Event, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        let Some(position) = &event.position else { return };
        if room.log.at.as_ref().is_none_or(|at| at.offset + 1 != position.offset) {
            return;
        }
        let waiters = room.log.applied(position.offset, event.payload.len());
        let entry = Entry::decode(&event.payload).inspect_err(|error| {
            // Every instance skips it alike, but one of a version that understands it.
            tracing::error!(event_id = &**event_id, offset = position.offset, %error, "no entry of a queue's log");
        });
        let Ok(entry) = entry else {
            self.counts.unreadable += 1;
            return;
        };
        self.counts.applied += 1;
        self.counts.written += u64::from(!waiters.is_empty());
        let mut effects = Vec::new();
        self.queues.apply(event_id, &entry, |index, effect| effects.push((index, effect)));
        if waiters.len() == entry.commands.len() {
            room.ticking &= !entry.commands.contains(&Command::Tick);
            room.warning &= !entry.commands.iter().any(is_of_target);
        }
        let Some(queue) = self.queues.get(event_id) else {
            let refused = effects.first().and_then(|(_, effect)| refusal(effect));
            for waiter in waiters.into_iter().flatten() {
                refuse(waiter, refused.unwrap_or(Refusal::NoQueue), out);
            }
            return;
        };
        room.lost = None;
        if effects.iter().any(|(_, effect)| *effect == Effect::Moved) {
            let update = Arc::new(LineUpdate { epoch: room.epoch, ..queue.line(room.told) });
            room.told = Some(queue.mark());
            out.push(Output::Line { shard: None, update });
        }
        if entry.commands.iter().any(|command| is_end_of(command, &self.instance)) {
            room.write_all_presence();
        }
        room.gone.retain(|gone| queue.instances().any(|name| *name == **gone));
        let mut telling = Telling { now, room, queue, is_writer: !waiters.is_empty(), out };
        // Answers first: who asked hears that it has a place before it hears what became of it.
        let admitted: BTreeSet<&str> = effects.iter().filter_map(|(_, effect)| admitted(effect)).collect();
        let mut rest = &effects[..];
        for (index, waiter) in waiters.into_iter().enumerate() {
            // They are in the order of the commands.
            let count = rest.iter().take_while(|(at, _)| *at == index).count();
            let (own, later) = rest.split_at(count);
            if let Some(waiter) = waiter {
                let refused = own.iter().find_map(|(_, effect)| refusal(effect));
                telling.answer(waiter, refused, (&entry.commands[index], &admitted));
            }
            rest = later;
        }
        for (_, effect) in &effects {
            telling.tell(effect);
        }
    }
}

impl Lines {
    /// Answers those who wanted to know how the queue stands, if everything was applied that they may ask about.
    pub(super) fn show_looks(&mut self, event_id: &Arc<str>, out: &mut Vec<Output>) {
        let Some(room) = self.rooms.get_mut(event_id) else { return };
        let Some(queue) = self.queues.get(event_id) else { return };
        for waiter in room.log.take_begun_looks() {
            if let Waiter::Operator { token, .. } = waiter {
                out.push(Output::Operated { token, result: Ok(Box::new(view(queue))) });
            }
        }
    }
}

fn view(queue: &Queue) -> View {
    let line = queue.line(Some(queue.mark()));
    let commitment = commitment(&queue.terms().seed);
    View {
        stats: queue.stats(),
        run: queue.began_ms(),
        opens_at_ms: queue.opens_at_ms(),
        pauses: queue.pauses(),
        line,
        draw: queue.draw(),
        commitment,
        seed: queue.revealed(),
    }
}

fn is_end_of(command: &Command, name: &str) -> bool {
    matches!(command, Command::InstanceGone { instance } if **instance == *name)
}

fn is_of_target(command: &Command) -> bool {
    matches!(command, Command::TargetDown { .. } | Command::TargetUp)
}

pub(super) struct Telling<'a> {
    pub(super) now: Now,
    pub(super) room: &'a mut Room,
    pub(super) queue: &'a Queue,
    /// This instance wrote the entry.
    pub(super) is_writer: bool,
    pub(super) out: &'a mut Vec<Output>,
}

impl Telling<'_> {
    fn tell(&mut self, effect: &Effect) {
        match effect {
            Effect::Admitted { holder, number, claim_until_ms } => {
                let shards = self.shards_of(holder);
                // Who is nowhere, or has connections on several instances, is told by each: a pass is the same whoever makes it.
                if self.is_writer || !shards.is_empty() {
                    let admission = self.admission(holder, *number, *claim_until_ms);
                    self.out.push(Output::Admitted { admission, shards });
                }
            }
            Effect::Opened { total: 1.., .. } => {
                let Terms { seed, salts, .. } = *self.queue.terms();
                self.out.push(Output::Opened {
                    event_id: Arc::clone(self.queue.event_id()),
                    secrets: Secrets { seed, salts },
                    holders: self.queue.drawn(),
                    opened_at_ms: self.queue.at_ms(),
                });
            }
            Effect::Ended { holder, ending: Ending::Left | Ending::Abandoned | Ending::Expired, .. } => {
                let news = Arc::new(self.left(holder));
                for shard in self.shards_of(holder) {
                    self.out.push(Output::PlaceNews { shard, news: Arc::clone(&news) });
                }
            }
            // The line tells the rest.
            _ => {}
        }
    }

    pub(super) fn answer(
        &mut self,
        waiter: Waiter,
        refused: Option<Refusal>,
        (command, admitted): (&Command, &BTreeSet<&str>),
    ) {
        match (waiter, refused) {
            (Waiter::Join { place_token, asked, .. }, None) => {
                let Command::Join { holder, .. } = command else { return };
                // A user's pass comes by the user's stream.
                let is_told = holder.starts_with(USER_PREFIX) && admitted.contains(&**holder);
                self.seat(&Arc::from(&**holder), (place_token, *asked), is_told);
            }
            (Waiter::Leave { asked, .. }, None) => {
                let Command::Leave { holder } = command else { return };
                let shard = asked.conn.shard();
                let news = PlaceNews { asked: Some((asked.conn, asked.request)), ..self.left(holder) };
                self.out.push(Output::PlaceNews { shard, news: Arc::new(news) });
            }
            (Waiter::Operator { token, .. }, None) => {
                self.out.push(Output::Operated { token, result: Ok(Box::new(view(self.queue))) });
            }
            (waiter, Some(refusal)) => refuse(waiter, refusal, self.out),
        }
    }

    fn seat(
        &mut self,
        holder: &Arc<str>,
        (place_token, asked): (Option<Box<str>>, LineRequest),
        is_told: bool,
    ) {
        // The last command of the entry may have ended it again.
        let (Some(ticket), Some(seat)) = (self.queue.ticket(holder), self.queue.seat(holder)) else {
            let waiter = Waiter::Join { place_token, asked: Box::new(asked), under_way: Arc::default() };
            return refuse(waiter, Refusal::NoPlace, self.out);
        };
        let admission = seat.number.zip(seat.claim_until_ms).filter(|_| !is_told);
        let admission = admission.map(|(number, until_ms)| self.admission(holder, number, until_ms));
        let present: &mut Present = self.room.present.entry(Arc::clone(holder)).or_default();
        present.written = true;
        let due_ns = self.now.after(SEAT_TIME_MAX).mono_ns;
        if std::mem::replace(&mut present.seated_until_ns, due_ns) == 0 {
            self.room.seated.push_back((due_ns, Arc::clone(holder)));
        }
        let seated = Box::new(Seated {
            asked,
            holder: Arc::clone(holder),
            ticket,
            place_token,
            receipt: None,
            commitment: commitment(&self.queue.terms().seed),
            admitted: None,
        });
        self.out.push(Output::Seated { seated, admission });
    }

    fn left(&self, holder: &str) -> PlaceNews {
        let event_id = Arc::clone(self.queue.event_id());
        let payload = json!({ "event_id": &*event_id }).to_string().into();
        PlaceNews {
            event_id,
            holder: holder.into(),
            kind: "queue:left".into(),
            payload,
            asked: None,
            leaves: true,
        }
    }

    fn admission(&self, holder: &Arc<str>, place: u32, claim_until_ms: u64) -> Admission {
        let admitted_at_ms = claim_until_ms.saturating_sub(self.queue.terms().claim_ms);
        let (event_id, holder) = (Arc::clone(self.queue.event_id()), Arc::clone(holder));
        Admission { event_id, holder, place, admitted_at_ms, claim_until_ms }
    }

    fn shards_of(&self, holder: &str) -> Vec<ShardId> {
        let counts = self.room.present.get(holder).map_or(&[][..], |present| &present.by_shard);
        let has_some = |(index, count): (usize, &u32)| (*count > 0).then_some(ShardId(index as u16));
        counts.iter().enumerate().filter_map(has_some).collect()
    }
}

/// Whom it lets in.
fn admitted(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Admitted { holder, .. } => Some(holder),
        _ => None,
    }
}

fn refusal(effect: &Effect) -> Option<Refusal> {
    match effect {
        Effect::Refused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

/// The rules say no.
pub(super) fn refuse(waiter: Waiter, refusal: Refusal, out: &mut Vec<Output>) {
    let denial = match refusal {
        Refusal::NoQueue | Refusal::TooManyQueues => LineDenial::Unknown,
        Refusal::NoPlace | Refusal::NotAdmitted | Refusal::Expired => LineDenial::NotIn,
        Refusal::Full => LineDenial::Full,
        Refusal::TooManyPlaces => LineDenial::TooManyPlaces,
        Refusal::TooManyInstances => {
            LineDenial::Overloaded { retry_after_ms: INSTANCES_RETRY.as_millis() as u32 }
        }
        _ => LineDenial::Over,
    };
    deny(waiter, denial, Denied::Refused(refusal), out);
}

/// An instance that ends makes room for another, some seconds after it was heard of last.
const INSTANCES_RETRY: Duration = Duration::from_secs(5);
