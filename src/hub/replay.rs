//! One stream that is held or replayed for one connection: what of it waits, and how far the client is.
//!
//! Owns the seam between the pages that control reads from the store and the events that come live. Live ones are parked
//! from the first moment; where they join what was replayed they follow it, and where some did not fit, control reads
//! on from there. Never asks control: `resume` does. A page may be ahead of what comes live, by an epoch too: whether what
//! comes live in another goes on where the client is, only the store knows. Invariants: what is parked follows one another
//! without a hole and is bounded; the client gets each offset once, in order, whatever epochs it comes by, or is told that
//! some are lost.

mod live;

use std::{cmp::Ordering, collections::VecDeque, mem, rc::Rc, sync::Arc};

use self::live::Live;
use super::{deadlines::Tick, frame::Frame, groups::GroupKey, sink::Sink};
use crate::{
    event::{Event, Position, ReplayEnd, ReplayPage, Resume},
    limits::REPLAY_ASKS_MAX,
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
    /// Everything after it came live while the stream was watched here; `None`: nothing did, or nobody knows.
    since: Option<Position>,
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
    /// Something is missing that no page brings, and the client is to be told.
    missed: bool,
    /// How often control was asked for the page that is to come.
    asks: u8,
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
        if replay.stage == Stage::Settled {
            match replay.compare(position) {
                Some(Ordering::Less) => return Verdict::Withheld { dropped: 0 },
                Some(Ordering::Equal) => {
                    self.list.remove(index);
                    return Verdict::Withheld { dropped: 0 };
                }
                Some(Ordering::Greater) => {
                    self.list.remove(index);
                    return Verdict::Deliver;
                }
                None => replay.stage = Stage::Wants,
            }
        }
        let room = bytes_max.saturating_sub(all - replay.parked_bytes());
        Verdict::Withheld { dropped: replay.park(position, frame, room) }
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
            replay.asks = replay.asks.saturating_add(1);
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
            since: None,
            at: None,
            live: None,
            page: VecDeque::new(),
            end: None,
            told: None,
            missed: false,
            asks: 0,
        }
    }

    /// What is delivered from now on follows this position.
    pub(super) fn watch_from(&mut self, position: &Position) {
        self.live = Some(Live::after(position));
        self.since.get_or_insert_with(|| position.clone());
    }

    /// Waits for the client to say, once more if it was refused, where it wants to go on.
    pub(super) fn hold(&mut self, stage: Stage, until: Tick) {
        self.stage = stage;
        self.until = until;
    }

    /// The client wants what follows a position; `None`: what it has not acknowledged.
    pub(super) fn begin(&mut self, request: Option<RequestId>, at: Option<Position>) {
        self.owed = Some(Owed { request, from: at.as_ref().map(|at| at.offset), begun: false });
        let had = mem::replace(&mut self.at, at);
        if self.stage == Stage::Settled {
            self.since = had;
        }
        (self.until, self.asks) = (Tick::NEVER, 0);
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
    pub(super) fn go_live(&mut self, cells: &ShardCells) {
        self.owed = None;
        self.at = self.since.clone();
        self.stage = Stage::Draining;
        self.until = Tick::NEVER;
        if mem::take(&mut self.missed) {
            self.tell(false, cells);
        }
    }

    /// Control did not answer: it is asked again, or the part that it did not send is given up. What is parked follows
    /// then, and the client is told.
    pub(super) fn has_waited(&mut self, cells: &ShardCells) {
        self.until = Tick::NEVER;
        if self.asks < REPLAY_ASKS_MAX {
            self.stage = Stage::Wants;
            return;
        }
        if let Some(live) = &self.live {
            let had = self.at.as_ref().filter(|at| at.epoch == live.epoch).map_or(0, |at| at.offset);
            let (stream, epoch) = (self.stream.clone(), live.epoch.clone());
            self.at = Some(Position { stream, epoch, offset: live.before_parked().max(had) });
        }
        self.missed = false;
        self.stage = Stage::Draining;
        self.tell(false, cells);
    }

    /// Not all of the stream came here, which stands at the position now; that goes for what is parked, too. What is missing
    /// is read, as far as the store has it; who has yet to begin learns by the first page what it has not.
    pub(super) fn resync(&mut self, position: &Position, lost: bool) {
        self.missed |= lost || (self.is_to_begin() && self.since.is_none());
        self.watch_from(position);
        if self.stage == Stage::Settled {
            self.stage = Stage::Draining;
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
        if self.has_not_begun() {
            self.missed = false;
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
        // Control had told all of it when the page was read: what is of another epoch is of an earlier one, and in the page.
        self.live = self.live.take().filter(|live| live.epoch == page.epoch);
        self.end = page.end.map(|end| (page.epoch, end));
        (self.until, self.asks) = (Tick::NEVER, 0);
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
        self.missed &= end.recovered;
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
            match self.pass_parked(sink) {
                None => return false,
                Some(Ordering::Less) => {
                    self.stage = Stage::Wants;
                    return false;
                }
                Some(_) if mem::take(&mut self.missed) => self.tell(false, sink.cells),
                Some(Ordering::Equal) => return true,
                Some(Ordering::Greater) => {
                    self.stage = Stage::Settled;
                    return false;
                }
            }
        }
    }

    /// Passes on what is parked, as far as it follows. Where the client stands to what came live then; `None`: there is no
    /// room.
    fn pass_parked(&mut self, sink: &mut Sink<'_>) -> Option<Ordering> {
        self.forget_known();
        let Some(at) = &mut self.at else { return Some(Ordering::Equal) };
        let Some(live) = &mut self.live else { return Some(Ordering::Greater) };
        if live.epoch != at.epoch {
            // Control knows whether the one goes on in the other.
            return Some(Ordering::Less);
        }
        while let Some(parked) =
            live.parked.front().filter(|parked| parked.offset == at.offset.saturating_add(1))
        {
            if parked.frame.as_ref().is_some_and(|frame| !sink.offer(frame)) {
                return None;
            }
            at.offset += 1;
            live.drop_oldest();
        }
        Some(at.offset.cmp(&live.seen))
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

    /// Where the position stands to what the client has; `None`: they are of different epochs.
    fn compare(&self, position: &Position) -> Option<Ordering> {
        let at = self.at.as_ref().filter(|at| at.epoch == position.epoch)?;
        Some(position.offset.cmp(&at.offset))
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
        if self.since.is_none() {
            let (epoch, offset) = (Arc::clone(&live.epoch), live.seen);
            self.since = Some(Position { stream: Arc::clone(&self.stream), epoch, offset });
        }
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
