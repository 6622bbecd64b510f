//! One queue as an instance follows it: its log, who is connected here, who waits for what.
//!
//! Owns what the store is asked next, and what the log has to say of who is here. Never decides anything about the queue.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Weak},
};

use super::{
    io::{Denied, Output, Target},
    log::Log,
};
use crate::{
    clock::Now,
    limits::{OVERLOAD_RETRY, REPLAY_PAGE_EVENTS_MAX, STORE_RETRY},
    line::{LineDenial, LineRequest, LineUpdate},
    route::Token,
    sale::{
        command::Command,
        queue::{Mark as Told, Queue},
    },
    stream::store::{Ask, Mark},
};

/// What the store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Head,
    Read,
    Append,
    /// Whether the log that cannot be read to its end is still the same.
    Again,
    Forget,
}

/// What this instance has of one queue beside its state.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) stream: Arc<str>,
    pub(super) log: Log,
    /// Names this queue among those that the event had here; of [`crate::line::LineUpdate`].
    pub(super) epoch: u64,
    /// The queue had another log, which was lost: what shards were told. `None`: it had not, or has begun anew.
    pub(super) lost: Option<Arc<LineUpdate>>,
    /// What all shards were told of the line.
    pub(super) told: Option<Told>,
    pub(super) present: HashMap<Arc<str>, Present>,
    /// Holders whose presence may have to be written.
    pub(super) changed: BTreeSet<Arc<str>>,
    /// Whoever got a place and may never come into it: until when, monotonic ns.
    pub(super) seated: VecDeque<(u64, Arc<str>)>,
    /// Holders of whom a join or a leave waits to be written, or is under way; others may still be here.
    pub(super) under_way: HashMap<Box<str>, Weak<()>>,
    /// A tick waits to be written, or is under way.
    pub(super) ticking: bool,
    /// What is known of the target waits to be written, or is under way.
    pub(super) warning: bool,
    /// It was said that people can write no more.
    pub(super) told_full: bool,
    /// What others append is heard of.
    pub(super) followed: bool,
    /// Instances whose end waits to be written, or is under way.
    pub(super) gone: BTreeSet<Box<str>>,
}

/// The connections of a holder here.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) by_shard: Vec<u32>,
    /// What the log says of this instance.
    pub(super) written: bool,
    /// Until when a connection that was given the place may come into it, monotonic ns; `0`: none was, of late.
    pub(super) seated_until_ns: u64,
    /// How often it was written since then that nobody is here any more.
    trips: u8,
}

impl Present {
    fn count(&self) -> u32 {
        self.by_shard.iter().sum()
    }
}

/// Who waits for what comes of a command.
#[derive(Debug)]
pub(super) enum Waiter {
    Join {
        place_token: Option<Box<str>>,
        asked: Box<LineRequest>,
        /// There while this is.
        under_way: Arc<()>,
    },
    Leave {
        asked: Box<LineRequest>,
        /// As of a join.
        under_way: Arc<()>,
    },
    Operator {
        token: Token,
        /// The queue that is meant, by when it began; `None`: whichever it is.
        run: Option<u64>,
    },
}

impl Room {
    pub(super) fn new(event_id: &str, epoch: u64) -> Self {
        Self::of(format!("queue:{event_id}").into(), epoch)
    }

    fn of(stream: Arc<str>, epoch: u64) -> Self {
        Self {
            stream,
            log: Log::default(),
            epoch,
            lost: None,
            told: None,
            present: HashMap::new(),
            changed: BTreeSet::new(),
            seated: VecDeque::new(),
            under_way: HashMap::new(),
            ticking: false,
            warning: false,
            told_full: false,
            followed: false,
            gone: BTreeSet::new(),
        }
    }

    /// What the store is to be asked next.
    pub(super) fn next_ask(&mut self, now: Now, instance: &str) -> Option<(Question, Ask)> {
        let Self { stream, log, epoch, .. } = self;
        if log.rests || log.asking {
            return None;
        }
        if log.is_broken {
            let at = log.at.as_ref().filter(|_| std::mem::take(&mut log.look))?;
            log.asking = true;
            let beginning = Mark { epoch: Arc::clone(&at.epoch), offset: 0 };
            return Some((Question::Again, read(stream, &beginning)));
        }
        // Anybody may ask for any event: only who opens a queue has its log begun.
        let begins = log.begins();
        if begins {
            log.forget_absence();
        }
        let Some(at) = &log.at else {
            log.asking = true;
            let stream = Arc::clone(stream);
            let ask = if begins { Ask::Head { stream, known: None } } else { Ask::Look { stream } };
            return Some((Question::Head, ask));
        };
        if at.epoch.is_empty() {
            return None;
        }
        if !log.is_unsettled() && (at.offset < log.known || log.look) {
            let read = read(stream, at);
            log.asking = true;
            log.begin_look();
            return Some((Question::Read, read));
        }
        Some((Question::Append, Ask::Append(log.next_append(now, (instance, *epoch), stream)?)))
    }

    /// Writes who came and who went, as far as the log does not say it.
    pub(super) fn write_presence(&mut self, now: Now, instance: &str) {
        while let Some(holder) = self.changed.pop_first() {
            let Some(present) = self.present.get_mut(&holder) else { continue };
            let (is_here, instance) = (present.count() > 0, instance.into());
            let is_seated = present.seated_until_ns > now.mono_ns;
            // Who comes and goes again and again stays until it is looked at once more.
            if is_here == present.written || (!is_here && is_seated && present.trips >= TRIPS_MAX) {
                self.let_go(&holder);
                continue;
            }
            let name = (*holder).into();
            let command = match is_here {
                true => Command::Here { holder: name, instance },
                false => Command::Away { holder: name, instance },
            };
            if self.log.push(command, None).is_err() {
                self.changed.insert(holder);
                return;
            }
            present.written = is_here;
            present.trips = present.trips.saturating_add(u8::from(!is_here));
            self.let_go(&holder);
        }
    }

    /// Forgets who is not here, by the log neither, and has not been given a place of late.
    fn let_go(&mut self, holder: &str) {
        let is_gone =
            |present: &Present| present.count() == 0 && !present.written && present.seated_until_ns == 0;
        if self.present.get(holder).is_some_and(is_gone) {
            self.present.remove(holder);
        }
    }

    /// What the shards are to be told of a line that did not move and became longer: nobody's position is another, and all
    /// who wait see how many there are.
    pub(super) fn longer(&mut self, queue: &Queue) -> Option<Arc<LineUpdate>> {
        let told = self.told.as_mut().filter(|told| told.total != queue.mark().total)?;
        let update = Arc::new(LineUpdate { epoch: self.epoch, ..queue.line(Some(*told)) });
        *told = queue.mark();
        Some(update)
    }

    /// Who was given a place has come into it by now, or is away; those who were given one again have longer.
    pub(super) fn end_seats(&mut self, now: Now) {
        while let Some((_, holder)) = self.seated.pop_front_if(|(due_ns, _)| *due_ns <= now.mono_ns) {
            let Some(present) = self.present.get_mut(&holder) else { continue };
            if present.seated_until_ns > now.mono_ns {
                self.seated.push_back((present.seated_until_ns, holder));
            } else {
                (present.seated_until_ns, present.trips) = (0, 0);
                self.changed.insert(holder);
            }
        }
    }

    /// Writes whether the services behind the sale take people, as far as the log does not say it.
    pub(super) fn write_target(&mut self, queue: &Queue, target: Target) {
        let down = match target {
            Target::Unknown => return,
            Target::Ready => None,
            Target::Down => Some(TARGET_DOWN),
        };
        if let Some(news) = queue.target_news(down).filter(|_| !self.warning) {
            self.warning = self.log.push(news, None).is_ok();
        }
    }

    /// The log says that nobody is connected here: it is told who is.
    pub(super) fn write_all_presence(&mut self) {
        for (holder, present) in &mut self.present {
            present.written = false;
            self.changed.insert(Arc::clone(holder));
        }
    }

    /// Nothing waits for anything, and nothing is to be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.log.is_idle() && self.log.is_current() && !self.is_lost()
    }

    /// Nobody knows the places any more.
    pub(super) fn is_lost(&self) -> bool {
        self.log.is_broken || self.lost.is_some()
    }

    /// Has the store let go of the log; `None`: nobody knows it yet.
    pub(super) fn forget(&self) -> Option<Ask> {
        let epoch = Arc::clone(&self.log.at.as_ref()?.epoch);
        Some(Ask::Forget { stream: Arc::clone(&self.stream), epoch })
    }

    /// The event has another log now, which is read from its beginning; what waits to be written, waits for that.
    pub(super) fn begin_anew(&mut self, epoch: u64) {
        let (log, lost, followed) = (self.log.anew(), self.lost.take(), self.followed);
        let stream = Arc::clone(&self.stream);
        *self = Self { log, lost, followed, ..Self::of(stream, epoch) };
    }
}

/// So often it is written at once that somebody went who is given the place again within [`SEAT_TIME_MAX`] each time.
///
/// [`SEAT_TIME_MAX`]: crate::limits::SEAT_TIME_MAX
const TRIPS_MAX: u8 = 5;

/// What people are told while inlets wait; which service it is, is for the log.
const TARGET_DOWN: &str = "The shop cannot take more people at the moment.";

fn read(stream: &Arc<str>, at: &Mark) -> Ask {
    Ask::Read {
        stream: Arc::clone(stream),
        epoch: Arc::clone(&at.epoch),
        after: at.offset,
        count_max: REPLAY_PAGE_EVENTS_MAX,
    }
}

/// Nothing was written.
pub(super) fn turn_away(waiter: Waiter, out: &mut Vec<Output>) {
    let retry_after_ms = OVERLOAD_RETRY.as_millis() as u32;
    deny(waiter, LineDenial::Overloaded { retry_after_ms }, Denied::Unwritable, out);
}

/// Nothing was written for long, and it may take longer.
pub(super) fn give_up(waiter: Waiter, out: &mut Vec<Output>) {
    let retry_after_ms = STORE_RETRY.as_millis() as u32;
    deny(waiter, LineDenial::Overloaded { retry_after_ms }, Denied::Unwritable, out);
}

/// What was decided about a queue is not done to another: an operator has to look again, people come again.
pub(super) fn part(waiter: Waiter, out: &mut Vec<Output>) {
    match waiter {
        Waiter::Operator { .. } => deny(waiter, LineDenial::Over, Denied::Another, out),
        Waiter::Join { .. } | Waiter::Leave { .. } => turn_away(waiter, out),
    }
}

/// Tells whoever waits why it waits in vain.
pub(super) fn deny(waiter: Waiter, denial: LineDenial, denied: Denied, out: &mut Vec<Output>) {
    out.push(match waiter {
        Waiter::Join { asked, .. } => Output::Denied { asked, leave: false, denial },
        Waiter::Leave { asked, .. } => Output::Denied { asked, leave: true, denial },
        Waiter::Operator { token, .. } => Output::Operated { token, result: Err(denied) },
    });
}
