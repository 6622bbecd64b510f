//! One stream that is held or replayed for one connection: what of it waits, and how far the client is.
//!
//! Owns the seam between the pages that control reads from the store and the events that come live. Live ones are parked
//! from the first moment; where they join what was replayed they follow it, and where some did not fit, control reads
//! on from there. Never asks control: `resume` does. Invariants: what is parked follows one another without a hole and is
//! bounded; the client gets each offset of an epoch once, in order, or is told that some
//! are lost.

mod live;

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use self::live::Live;
use super::{
    connections::Connection,
    deadlines::Tick,
    frame::Frame,
    groups::GroupKey,
    outbox::{Bounds, Offered},
};
use crate::{
    event::{Event, Position, ReplayEnd, ReplayPage, Resume},
    ids::ConnId,
    metrics::ShardCells,
    wire::{command::RequestId, ticketing::Notice},
};

/// What a connection resumes; absent where it resumes nothing.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// Whoever asks next stands before the others. At most one is asked for or has a page at a time.
    pub(super) list: Vec<Replay>,
    /// A `system:resume` that came before it was known whose the connection is.
    pub(super) waiting: Option<(Option<RequestId>, Resume)>,
    /// Whether the connection is in the hub's list of those that have something to ask.
    pub(super) listed: bool,
}

/// One stream on its way to its connection.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) stream: Arc<str>,
    /// `None`: that of the connection's user.
    pub(super) room: Option<GroupKey>,
    pub(super) stage: Stage,
    /// Held, Refused: when it goes on live. Asked: when the page must have come. Else never.
    pub(super) until: Tick,
    owed: Option<Owed>,
    /// The last event that the client has, or claims to have; `None`: nobody here knows.
    at: Option<Position>,
    /// `None`: nothing was heard of the stream's present head.
    live: Option<Live>,
    /// What of a page did not fit the outbox yet.
    page: VecDeque<Arc<Event>>,
    /// How the page ends, with its epoch; `None`: another page follows.
    end: Option<(Arc<str>, ReplayEnd)>,
    /// A notice that stands before what is parked.
    told: Option<Rc<Frame>>,
}

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The connection is not in the room yet.
    Joining,
    /// The client may say where it wants to go on; any other message means that it does not.
    Held,
    /// The client was told to ask once more.
    Refused,
    /// Control is to be asked for a page.
    Wants,
    /// Control was asked.
    Asked,
    /// There is a page.
    Paging,
    /// What is parked follows.
    Draining,
    /// Only live events that were replayed already are waited for: they must not come twice.
    Settled,
}

/// A `system:resumed` that the client waits for.
#[derive(Debug)]
struct Owed {
    request: Option<RequestId>,
    /// `None`: what was acknowledged, which control knows.
    from: Option<u64>,
    /// Whether a page came.
    begun: bool,
}

/// What to ask control for.
#[derive(Debug)]
pub(super) enum Need {
    /// The first page; `None`: of what was not acknowledged.
    Begin(Option<Position>),
    /// The next one.
    More(Position),
}

/// What becomes of a live event of a connection that resumes something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is delivered.
    Deliver,
    /// It waits, or was replayed already; so many others had to make room.
    Withheld { dropped: u64 },
}

impl Replays {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.waiting.is_none()
    }

    pub(super) fn find(&mut self, stream: &str) -> Option<&mut Replay> {
        self.list.iter_mut().find(|replay| *replay.stream == *stream)
    }

    /// When time changes something.
    pub(super) fn until(&self) -> Tick {
        self.list.iter().map(|replay| replay.until).min().unwrap_or(Tick::NEVER)
    }

    /// Takes a live event; `frame`: as the connection gets it, if it wants it.
    pub(super) fn take_live(
        &mut self,
        position: &Position,
        frame: Option<Rc<Frame>>,
        bytes_max: usize,
    ) -> Verdict {
        let all: usize = self.list.iter().map(Replay::parked_bytes).sum();
        let Some(index) = self.list.iter().position(|replay| *replay.stream == *position.stream) else {
            return Verdict::Deliver;
        };
        let replay = &mut self.list[index];
        if replay.stage != Stage::Settled {
            let room = bytes_max.saturating_sub(all - replay.parked_bytes());
            return Verdict::Withheld { dropped: replay.park(position, frame, room) };
        }
        let known = replay.is_known(position);
        let last = replay.at.as_ref().is_none_or(|at| at.offset <= position.offset);
        if !known || last {
            self.list.remove(index);
        }
        if known { Verdict::Withheld { dropped: 0 } } else { Verdict::Deliver }
    }

    /// Whether control has to be asked, and nothing that it was asked for is on its way.
    pub(super) fn wants(&self) -> bool {
        let under_way = |replay: &Replay| matches!(replay.stage, Stage::Asked | Stage::Paging);
        self.list.iter().any(|replay| replay.stage == Stage::Wants) && !self.list.iter().any(under_way)
    }

    /// The replay whose turn it is to ask.
    pub(super) fn next_to_ask(&mut self) -> Option<&mut Replay> {
        if self.wants() { self.list.iter_mut().find(|replay| replay.stage == Stage::Wants) } else { None }
    }

    /// Control was asked: the others have their turn first next time.
    pub(super) fn asked(&mut self, until: Tick) {
        if let Some(index) = self.list.iter().position(|replay| replay.stage == Stage::Wants) {
            let mut replay = self.list.remove(index);
            replay.stage = Stage::Asked;
            replay.until = until;
            self.list.push(replay);
        }
    }
}

impl Replay {
    pub(super) fn new(stream: Arc<str>, room: Option<GroupKey>, stage: Stage) -> Self {
        Self {
            stream,
            room,
            stage,
            until: Tick::NEVER,
            owed: None,
            at: None,
            live: None,
            page: VecDeque::new(),
            end: None,
            told: None,
        }
    }

    /// What is delivered from now on follows this position.
    pub(super) fn watch_from(&mut self, position: &Position) {
        self.live = Some(Live::after(position));
    }

    /// Waits for the client to say, once more if it was refused, where it wants to go on.
    pub(super) fn hold(&mut self, stage: Stage, until: Tick) {
        self.stage = stage;
        self.until = until;
    }

    /// The client wants what follows a position; `None`: what it has not acknowledged.
    pub(super) fn begin(&mut self, request: Option<RequestId>, at: Option<Position>) {
        self.owed = Some(Owed { request, from: at.as_ref().map(|at| at.offset), begun: false });
        self.at = at;
        self.until = Tick::NEVER;
        if self.stage != Stage::Joining {
            self.stage = Stage::Wants;
        }
    }

    /// Takes back [`Replay::begin`]; the request, if it still waits for an answer.
    pub(super) fn take_request(&mut self) -> Option<Option<RequestId>> {
        self.owed.take().map(|owed| owed.request)
    }

    /// Whether the client still waits for the first page.
    pub(super) fn has_not_begun(&self) -> bool {
        self.owed.as_ref().is_some_and(|owed| !owed.begun)
    }

    /// Whether the client is still to say where it wants to go on, or to get the first page.
    pub(super) fn is_to_begin(&self) -> bool {
        matches!(self.stage, Stage::Held | Stage::Refused | Stage::Joining) || self.has_not_begun()
    }

    /// Gives up any replay: everything since the stream was watched here follows, nothing before.
    pub(super) fn go_live(&mut self) {
        self.owed = None;
        self.at = self.live.as_ref().map(|live| live.position(&self.stream, live.base));
        self.stage = Stage::Draining;
        self.until = Tick::NEVER;
    }

    /// Gives up the part that control did not send: what is parked follows, and the client is told.
    pub(super) fn skip(&mut self, cells: &ShardCells) {
        if let Some(live) = &self.live {
            let last = live.before_parked();
            self.at = Some(live.position(&self.stream, last));
        }
        self.until = Tick::NEVER;
        self.stage = Stage::Draining;
        self.tell(false, cells);
    }

    /// The stream lost something and stands at the position now; that goes for what is parked, too.
    pub(super) fn resync(&mut self, position: &Position, cells: &ShardCells) {
        self.watch_from(position);
        self.page.clear();
        self.end = None;
        self.at = Some(position.clone());
        self.until = Tick::NEVER;
        self.stage = Stage::Draining;
        if self.owed.is_some() {
            self.tell(false, cells);
        }
    }

    pub(super) fn need(&self) -> Option<Need> {
        if self.has_not_begun() {
            return Some(Need::Begin(self.at.clone()));
        }
        self.at.clone().map(Need::More)
    }

    /// Takes a page that control was asked for; one that does not follow what the client has is a late answer to an
    /// earlier question.
    pub(super) fn take_page(&mut self, page: ReplayPage) {
        if self.stage != Stage::Asked {
            return;
        }
        let first = page.events.first().and_then(|event| event.position.as_ref());
        let after = match &self.at {
            Some(at) => (at.epoch == page.follows).then_some(at.offset),
            None => match (first, &page.end) {
                (Some(first), _) => first.offset.checked_sub(1),
                (None, end) => end.map(|end| end.from),
            },
        };
        let follows = after.is_some_and(|after| follow(&page.events, after));
        let last = after.unwrap_or_default().saturating_add(page.events.len() as u64);
        let fits = match page.end {
            Some(end) => !end.recovered || (follows && end.to == last),
            None => follows && !page.events.is_empty(),
        };
        if !fits {
            return;
        }
        if let Some(owed) = &mut self.owed {
            owed.begun = true;
            let lost = page.end.filter(|end| !end.recovered);
            owed.from = owed.from.or_else(|| lost.map_or(after, |end| Some(end.from)));
        }
        if let (true, Some(offset)) = (follows, after) {
            self.at = Some(Position { stream: self.stream.clone(), epoch: Arc::clone(&page.epoch), offset });
            self.page = page.events.into();
        }
        self.end = page.end.map(|end| (page.epoch, end));
        self.until = Tick::NEVER;
        self.stage = Stage::Paging;
    }

    /// Passes on what there is, as far as the outbox has room; whether nothing is left to do.
    pub(super) fn advance(&mut self, sink: &mut Sink<'_>) -> bool {
        if self.stage == Stage::Paging {
            while let Some(event) = self.page.front() {
                if !sink.replay(event) {
                    return false;
                }
                self.page.pop_front();
                if let Some(at) = &mut self.at {
                    at.offset += 1;
                }
            }
            match self.end.take() {
                None => self.stage = Stage::Wants,
                Some((epoch, end)) => self.conclude(epoch, end, sink.cells),
            }
        }
        self.stage == Stage::Draining && self.drain(sink)
    }

    /// The last page was passed on; control reads further where what is parked does not join it.
    fn conclude(&mut self, epoch: Arc<str>, end: ReplayEnd, cells: &ShardCells) {
        self.at = Some(Position { stream: self.stream.clone(), epoch, offset: end.to });
        self.forget_known();
        if end.recovered && !self.joins() {
            self.stage = Stage::Wants;
            return;
        }
        self.stage = Stage::Draining;
        self.tell(end.recovered, cells);
    }

    /// Says how it went: to whoever asked in any case, else where something is lost.
    fn tell(&mut self, recovered: bool, cells: &ShardCells) {
        let Some(at) = &self.at else { return };
        match self.owed.take() {
            Some(owed) => {
                let from = owed.from.unwrap_or(at.offset);
                let notice = Notice::Resumed { position: at, recovered, from };
                self.told = Some(Rc::new(Frame::notice(&notice, owed.request.as_ref())));
                cells.resumes[usize::from(!recovered)].add(1);
            }
            None if !recovered => {
                self.told = Some(Rc::new(Frame::notice(&Notice::Resync(at), None)));
                cells.resyncs.add(1);
            }
            None => {}
        }
    }

    fn drain(&mut self, sink: &mut Sink<'_>) -> bool {
        loop {
            if self.told.as_ref().is_some_and(|told| !sink.offer(told)) {
                return false;
            }
            self.told = None;
            self.forget_known();
            let Some(at) = &mut self.at else { return true };
            let Some(live) = &mut self.live else {
                self.stage = Stage::Settled;
                return false;
            };
            if live.epoch == at.epoch {
                break;
            }
            if live.seen == live.base {
                // Of before: the stream has begun anew since.
                self.live = None;
                continue;
            }
            // Control knows whether the one goes on in the other.
            self.stage = Stage::Wants;
            return false;
        }
        self.drain_parked(sink)
    }

    fn drain_parked(&mut self, sink: &mut Sink<'_>) -> bool {
        let (Some(at), Some(live)) = (&mut self.at, &mut self.live) else { return true };
        while let Some(parked) =
            live.parked.front().filter(|parked| parked.offset == at.offset.saturating_add(1))
        {
            if parked.frame.as_ref().is_some_and(|frame| !sink.offer(frame)) {
                return false;
            }
            at.offset += 1;
            live.drop_oldest();
        }
        self.stage = match live.seen.cmp(&at.offset) {
            std::cmp::Ordering::Less => Stage::Settled,
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Greater => Stage::Wants,
        };
        false
    }

    /// Whether what came live, if anything did, goes on where the replay is.
    fn joins(&self) -> bool {
        let (Some(at), Some(live)) = (&self.at, &self.live) else { return true };
        live.epoch != at.epoch
            || live
                .parked
                .front()
                .map_or(live.seen <= at.offset, |first| first.offset == at.offset.saturating_add(1))
    }

    fn is_known(&self, position: &Position) -> bool {
        let known = |at: &Position| at.epoch == position.epoch && position.offset <= at.offset;
        self.at.as_ref().is_some_and(known)
    }

    /// Forgets parked events that were replayed.
    fn forget_known(&mut self) {
        let (Some(at), Some(live)) = (&self.at, &mut self.live) else { return };
        while live.epoch == at.epoch && live.parked.front().is_some_and(|parked| parked.offset <= at.offset) {
            live.drop_oldest();
        }
    }

    /// Keeps a live event; how many made room for it, itself included where it alone is too big.
    fn park(&mut self, position: &Position, frame: Option<Rc<Frame>>, room_bytes: usize) -> u64 {
        let live = match &mut self.live {
            Some(live) if live.epoch == position.epoch => live,
            other => other.insert(Live::before(position)),
        };
        live.park(position.offset, frame, room_bytes)
    }

    fn parked_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.bytes)
    }

    /// Panics where the state contradicts itself.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) {
        if let Some(live) = &self.live {
            live.check_invariants();
        }
        assert!(self.page.is_empty() || self.stage == Stage::Paging);
        let timed = matches!(self.stage, Stage::Held | Stage::Refused | Stage::Asked);
        assert_eq!(self.until != Tick::NEVER, timed, "{self:?}");
    }
}

/// Whether the events follow the offset one by one.
fn follow(events: &[Arc<Event>], after: u64) -> bool {
    let mut expected = after;
    events.iter().all(|event| {
        expected = expected.saturating_add(1);
        event.position.as_ref().is_some_and(|position| position.offset == expected)
    })
}

/// The outbox that replays go to. They take the lower half of it, so that what comes live has the rest.
pub(super) struct Sink<'a> {
    pub(super) record: &'a mut Connection,
    pub(super) bounds: Bounds,
    pub(super) cells: &'a ShardCells,
    pub(super) dirty: &'a mut Vec<ConnId>,
}

impl Sink<'_> {
    /// Whether a frame of about that size would fit.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.record.outbox.is_below_half_with(length, self.bounds)
    }

    /// Queues a stored event; `false`: later.
    fn replay(&mut self, event: &Event) -> bool {
        if event.except == Some(self.record.id) || self.record.has_muted(&event.kind) {
            return true;
        }
        // Before anything is encoded in vain.
        let queued = self.has_room(event.payload.len())
            && self.offer(&Rc::new(Frame::replayed(event, self.record.dialect)));
        self.cells.replayed.add(u64::from(queued));
        queued
    }

    /// Queues a frame; `false`: later.
    fn offer(&mut self, frame: &Rc<Frame>) -> bool {
        if !self.has_room(frame.bytes.len()) {
            return false;
        }
        let offered = self.record.outbox.offer(frame, self.bounds);
        debug_assert_eq!(offered, Offered::Queued { evicted: 0 }, "half an outbox is within the whole");
        self.record.mark_dirty(self.dirty);
        true
    }
}
