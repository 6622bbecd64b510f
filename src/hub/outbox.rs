//! What waits to be written to one connection.
//!
//! Owns one first-in first-out queue of shared frames and how the classes share it (03 §12). Never encodes, never
//! writes. Invariants: what was written in part stays at the head; a Latest key waits once behind the head; control
//! frames always fit, one ping and [`PONGS_MAX`] pongs at most. Bytes are counted as if nothing were
//! compressed.
//!
//! A pong overtakes nothing that waits here when its ping comes, unless it takes the place of an older one: it then answers
//! the latest ping, sooner. It does go before the reply to an earlier request that a handler or control still works on,
//! since it is due "as soon as is practical" (RFC 6455, 5.5.2).

use std::{collections::VecDeque, io::IoSlice, mem, rc::Rc};

use super::frame::{Frame, Role};
use crate::{
    config::settings::Limits,
    event::{Class, LatestKey},
    limits::{GATHER_FRAMES_MAX, LATEST_EXTRA_BYTES_MAX, LATEST_EXTRA_MESSAGES_MAX},
    wire::deflate::{Deflater, Window},
};

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) messages_max: usize,
    pub(super) bytes_max: usize,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It waits; so many Ephemeral messages made room for it.
    Queued { evicted: usize },
    /// It replaced an older value, or a newer one waits already.
    Conflated,
    /// Ephemeral, and there was no room.
    Dropped,
    /// It must not be lost and does not fit: the connection has to end.
    TooSlow,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    head: Option<Rc<Frame>>,
    /// What follows the head; absent while nothing does, so that an idle connection owns no queue.
    rest: Option<Box<Rest>>,
    /// Of all frames that are not control frames, the head whole.
    bytes: u32,
    messages: u32,
    /// Bytes of the head that were written, of whichever form the connection gets.
    head_written: u32,
    ping_waits: bool,
    /// `0 <= pongs <= PONGS_MAX`.
    pongs: u8,
}

#[derive(Debug)]
struct Rest(VecDeque<Rc<Frame>>);

/// Pongs that wait at once: enough for a peer that pings in bursts, bounded for one that floods.
const PONGS_MAX: u8 = 16;
/// Room for a burst of 16 messages before the queue grows.
const REST_CAPACITY: usize = 15;

impl Outbox {
    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Whether half of the bounds, or an empty outbox, would hold a frame of that length too.
    pub(super) const fn is_below_half_with(&self, length: usize, bounds: Bounds) -> bool {
        self.messages == 0
            || ((self.messages as usize) < bounds.messages_max / 2
                && self.bytes as usize + length <= bounds.bytes_max / 2)
    }

    /// Queues an event or a notice as its class asks.
    #[inline]
    pub(super) fn offer(&mut self, frame: &Rc<Frame>, bounds: Bounds) -> Offered {
        if self.messages == 0 {
            // Whatever its size: a bound that no message passes would be a gateway that delivers nothing.
            self.push(frame);
            return Offered::Queued { evicted: 0 };
        }
        self.offer_behind(frame, bounds)
    }

    fn offer_behind(&mut self, frame: &Rc<Frame>, bounds: Bounds) -> Offered {
        if let Role::Event { class: Class::Latest(key), version, .. } = &frame.role
            && let Some(waiting) = self.find_latest(*key)
        {
            return self.replace(waiting, frame, *version, bounds);
        }
        if self.fits(frame.bytes.len(), bounds) {
            self.push(frame);
            return Offered::Queued { evicted: 0 };
        }
        let bounds = match &frame.role {
            Role::Event { class: Class::Ephemeral, .. } => return Offered::Dropped,
            Role::Event { class: Class::Latest(_), .. } => bounds.with_latest_extra(),
            _ => bounds,
        };
        let evicted = self.evict_ephemeral();
        if !self.fits(frame.bytes.len(), bounds) {
            return Offered::TooSlow;
        }
        self.push(frame);
        Offered::Queued { evicted }
    }

    /// Queues a control frame; a ping beside a ping is left out, a pong too many replaces the newest one.
    pub(super) fn push_control(&mut self, frame: &Rc<Frame>) {
        match frame.role {
            Role::Ping if mem::replace(&mut self.ping_waits, true) => return,
            // "…may elect to send a Pong frame for only the most recently processed Ping" (RFC 6455, 5.5.3)
            Role::Pong if self.pongs >= PONGS_MAX => {
                let mut waiting = self.frames_mut();
                if let Some(pong) = waiting.rfind(|waiting| matches!(waiting.role, Role::Pong)) {
                    *pong = Rc::clone(frame);
                }
                return;
            }
            _ => {}
        }
        self.push(frame);
    }

    /// Takes back a close frame of which nothing was written yet, so that something can go before it.
    pub(super) fn take_close(&mut self) -> Option<Rc<Frame>> {
        let is_close = |frame: &mut Rc<Frame>| matches!(frame.role, Role::Close);
        let Some(rest) = &mut self.rest else {
            let begun = self.head_written > 0;
            return self.head.take_if(|head| !begun && is_close(head));
        };
        let close = rest.0.pop_back_if(is_close);
        self.rest.take_if(|rest| rest.0.is_empty());
        close
    }

    /// Forgets everything but what was written in part.
    pub(super) fn clear(&mut self) {
        let keep = (self.head_written > 0).then(|| self.head.take()).flatten();
        let head_written = self.head_written;
        *self = Self::default();
        if let Some(frame) = keep {
            self.push(&frame);
            self.head_written = head_written;
        }
    }

    /// Has the frames that [`Outbox::gather`] hands out next compressed, where nobody did before.
    pub(super) fn deflate(&self, window: Window, deflater: &mut Deflater) {
        for frame in self.frames().take(GATHER_FRAMES_MAX) {
            frame.deflate(window, deflater);
        }
    }

    /// Hands the waiting bytes, as many frames as one call takes, to `send`. The window is the connection's for life.
    pub(super) fn gather<R>(&self, window: Option<Window>, send: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut frames = self.frames();
        let head = frames.next().map_or(&[][..], |head| &head.wire(window)[self.head_written as usize..]);
        if self.rest.is_none() {
            return send(&[IoSlice::new(head)]);
        }
        let mut slices = [IoSlice::new(&[]); GATHER_FRAMES_MAX];
        slices[0] = IoSlice::new(head);
        let mut count = 1;
        for (slice, frame) in slices[1..].iter_mut().zip(frames) {
            *slice = IoSlice::new(frame.wire(window));
            count += 1;
        }
        send(&slices[..count])
    }

    /// Notes that the first `written` bytes gathered for that window were taken; tells `done` of each frame that ended.
    pub(super) fn advance(&mut self, window: Option<Window>, written: usize, mut done: impl FnMut(&Frame)) {
        let mut written = written;
        while let Some(head) = &self.head {
            let left = head.wire(window).len() - self.head_written as usize;
            if written < left {
                self.head_written += written as u32;
                return;
            }
            written -= left;
            if let Some(frame) = self.pop() {
                done(&frame);
            }
        }
        debug_assert_eq!(written, 0, "more was written than waited");
    }

    fn push(&mut self, frame: &Rc<Frame>) {
        self.count(frame);
        let frame = Rc::clone(frame);
        if self.head.is_none() {
            self.head = Some(frame);
            return;
        }
        let rest = self.rest.get_or_insert_with(|| Box::new(Rest(VecDeque::with_capacity(REST_CAPACITY))));
        rest.0.push_back(frame);
    }

    fn pop(&mut self) -> Option<Rc<Frame>> {
        let frame = self.head.take()?;
        self.head_written = 0;
        self.uncount(&frame);
        if let Some(rest) = &mut self.rest {
            self.head = rest.0.pop_front();
            if rest.0.is_empty() {
                self.rest = None;
            }
        }
        Some(frame)
    }

    fn count(&mut self, frame: &Frame) {
        match frame.role {
            Role::Ping => self.ping_waits = true,
            Role::Pong => self.pongs += 1,
            Role::Close => {}
            Role::Notice | Role::Event { .. } => {
                self.messages += 1;
                self.bytes += frame.bytes.len() as u32;
            }
        }
    }

    fn uncount(&mut self, frame: &Frame) {
        match frame.role {
            Role::Ping => self.ping_waits = false,
            Role::Pong => self.pongs -= 1,
            Role::Close => {}
            Role::Notice | Role::Event { .. } => {
                self.messages -= 1;
                self.bytes -= frame.bytes.len() as u32;
            }
        }
    }

    fn fits(&self, length: usize, bounds: Bounds) -> bool {
        self.messages == 0
            || ((self.messages as usize) < bounds.messages_max
                && self.bytes as usize + length <= bounds.bytes_max)
    }

    fn frames(&self) -> impl Iterator<Item = &Rc<Frame>> {
        self.head.iter().chain(self.rest.iter().flat_map(|rest| &rest.0))
    }

    fn frames_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Rc<Frame>> {
        self.head.iter_mut().chain(self.rest.iter_mut().flat_map(|rest| &mut rest.0))
    }

    /// Position of the waiting value of this key; one written in part is beyond recall.
    fn find_latest(&self, key: LatestKey) -> Option<usize> {
        let begun = usize::from(self.head_written > 0);
        let same = |frame: &Rc<Frame>| matches!(&frame.role, Role::Event { class: Class::Latest(other), .. } if *other == key);
        self.frames().skip(begun).position(same).map(|index| index + begun)
    }

    fn replace(&mut self, index: usize, frame: &Rc<Frame>, version: Option<u64>, bounds: Bounds) -> Offered {
        let bytes = self.bytes as usize;
        let Some(waiting) = self.frames_mut().nth(index) else { return Offered::TooSlow };
        if let (Some(new), Role::Event { version: Some(old), .. }) = (version, &waiting.role)
            && new < *old
        {
            return Offered::Conflated;
        }
        let others = bytes - waiting.bytes.len();
        if others > 0 && others + frame.bytes.len() > bounds.with_latest_extra().bytes_max {
            return Offered::TooSlow;
        }
        *waiting = Rc::clone(frame);
        self.bytes = (others + frame.bytes.len()) as u32;
        Offered::Conflated
    }

    fn evict_ephemeral(&mut self) -> usize {
        let mut kept = Self { head_written: self.head_written, ..Self::default() };
        let mut evicted = 0;
        let begun = usize::from(self.head_written > 0);
        for (index, frame) in self.frames().enumerate() {
            if index >= begun && matches!(frame.role, Role::Event { class: Class::Ephemeral, .. }) {
                evicted += 1;
            } else {
                kept.push(frame);
            }
        }
        *self = kept;
        evicted
    }

    /// Panics where the state contradicts itself.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self, bounds: Bounds) {
        let bounds = bounds.with_latest_extra();
        let counted: Vec<_> =
            self.frames().filter(|frame| matches!(frame.role, Role::Notice | Role::Event { .. })).collect();
        let bytes: usize = counted.iter().map(|frame| frame.bytes.len()).sum();
        assert_eq!((counted.len(), bytes), (self.messages as usize, self.bytes as usize));
        assert!(counted.len() <= 1 || (counted.len() <= bounds.messages_max && bytes <= bounds.bytes_max));
        assert!(self.rest.as_ref().is_none_or(|rest| !rest.0.is_empty()), "an empty queue is kept");
        let written = self.head_written as usize;
        assert!(written == 0 || self.head.as_ref().is_some_and(|head| written < head.bytes.len()));
        for (index, frame) in self.frames().enumerate() {
            let last = index == self.frames().count() - 1;
            assert!(last || !matches!(frame.role, Role::Close), "something follows a close frame");
        }
    }
}

impl Bounds {
    /// Those of the settings, as far as the counters of an outbox reach.
    pub(super) fn new(limits: &Limits) -> Self {
        const COUNT_MAX: usize = u32::MAX as usize / 2;
        Self {
            messages_max: limits.outbox_messages_max.min(COUNT_MAX),
            bytes_max: limits.outbox_bytes_max.min(COUNT_MAX),
        }
    }

    const fn with_latest_extra(self) -> Self {
        Self {
            messages_max: self.messages_max + LATEST_EXTRA_MESSAGES_MAX,
            bytes_max: self.bytes_max + LATEST_EXTRA_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests;
