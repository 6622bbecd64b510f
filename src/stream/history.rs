//! Streams in memory: offsets, epochs and the entries that a resume could replay.
//!
//! Owns every stored event. Never loses the end of a stream before its beginning. Invariants: entries of a
//! stream have consecutive offsets that end at its last one; entry and byte counts equal what is held; a stream
//! that starts anew after its head was given up has another epoch.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    clock::Now,
    config::settings::Streams,
    event::{Event, Position},
    limits,
    stream::expiring::Expiring,
};

/// How much is kept.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Entries of one stream.
    pub count_max: usize,
    /// Age of an entry.
    pub age_max: Duration,
    /// Bytes of all entries.
    pub bytes_max: usize,
    /// Streams with a head.
    pub streams_max: usize,
}

impl From<&Streams> for Bounds {
    fn from(settings: &Streams) -> Self {
        Self {
            count_max: settings.count_max,
            age_max: settings.age_max,
            bytes_max: limits::STREAM_BYTES_MAX,
            streams_max: limits::STREAMS_MAX,
        }
    }
}

/// All streams of this instance.
#[derive(Debug)]
pub struct History {
    bounds: Bounds,
    streams: Expiring<Arc<str>, Stream>,
    /// Every append, oldest first; those whose entry is gone already are skipped.
    appends: VecDeque<Append>,
    entry_count: usize,
    bytes: usize,
    seed: u64,
    /// Grows when a head is given up.
    generation: u32,
    /// Of streams that begin now.
    epoch: Arc<str>,
}

#[derive(Debug)]
struct Stream {
    epoch: Arc<str>,
    /// Offset of the newest event; `last >= entries.len()`.
    last: u64,
    entries: VecDeque<Arc<Event>>,
}

impl Stream {
    fn first(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }
}

#[derive(Debug)]
struct Append {
    at_ns: u64,
    position: Position,
}

impl History {
    /// Nothing yet. The seed must differ between starts: it names the epochs.
    pub fn new(bounds: Bounds, seed: u64) -> Self {
        let head_age_max = limits::STREAM_HEAD_AGE_MAX.max(bounds.age_max);
        Self {
            streams: Expiring::new(head_age_max, bounds.streams_max),
            appends: VecDeque::new(),
            entry_count: 0,
            bytes: 0,
            seed,
            generation: 0,
            epoch: epoch(seed, 0),
            bounds,
        }
    }

    /// Where the stream ends: the position of its newest event, offset 0 where there was none.
    pub fn head(&self, stream: &str) -> Position {
        match self.streams.peek(stream) {
            Some(head) => Position { stream: stream.into(), epoch: head.epoch.clone(), offset: head.last },
            None => Position { stream: stream.into(), epoch: self.epoch.clone(), offset: 0 },
        }
    }

    /// Stores the event as the next of its stream; what comes back carries its position.
    pub fn append(&mut self, now: Now, stream: &Arc<str>, mut event: Event) -> Arc<Event> {
        if self.streams.touch(now, &**stream).is_none() {
            self.begin(now, stream.clone());
        }
        let head = self.streams.peek_mut(&**stream).expect("it was there, or begun just now");
        head.last += 1;
        let position = Position { stream: stream.clone(), epoch: head.epoch.clone(), offset: head.last };
        event.position = Some(position.clone());
        let event = Arc::new(event);
        head.entries.push_back(event.clone());
        self.entry_count += 1;
        self.bytes += bytes_of(&event);
        self.appends.push_back(Append { at_ns: now.mono_ns, position });
        self.trim(now, stream);
        event
    }

    /// The entries after a position, oldest first; `None` where they do not join it: its epoch is not the stream's,
    /// it lies in the future, or some entries between are gone.
    pub fn after(&self, position: &Position) -> Option<impl Iterator<Item = &Arc<Event>>> {
        let stream = self.streams.peek(&*position.stream)?;
        if *stream.epoch != *position.epoch
            || position.offset > stream.last
            || position.offset + 1 < stream.first()
        {
            return None;
        }
        Some(stream.entries.iter().skip((position.offset + 1 - stream.first()) as usize))
    }

    /// Lets go of entries and heads that are too old.
    pub fn expire(&mut self, now: Now) {
        self.trim_oldest(now);
        let mut gone = Vec::new();
        self.streams.expire(now, |_, stream| gone.push(stream));
        self.forget(gone);
    }

    /// Streams with a head.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// Entries of all streams.
    pub fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// Bytes of all entries, with what keeping them costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn begin(&mut self, now: Now, stream: Arc<str>) {
        let head = Stream { epoch: self.epoch.clone(), last: 0, entries: VecDeque::new() };
        let evicted = self.streams.put(now, stream, head);
        self.forget(evicted.map(|(_, stream)| stream));
    }

    /// Streams whose head is gone could begin again at offset 1: what begins from now on has another epoch.
    fn forget(&mut self, gone: impl IntoIterator<Item = Stream>) {
        let mut any = false;
        for stream in gone {
            any = true;
            self.entry_count -= stream.entries.len();
            self.bytes -= stream.entries.iter().map(|event| bytes_of(event)).sum::<usize>();
        }
        if any {
            self.generation += 1;
            self.epoch = epoch(self.seed, self.generation);
        }
    }

    fn trim(&mut self, now: Now, stream: &str) {
        while self.streams.peek(stream).is_some_and(|head| head.entries.len() > self.bounds.count_max) {
            self.drop_first(stream);
        }
        self.trim_oldest(now);
        // Appends whose entry went by count pile up only in busy streams; sweeping when they are the majority
        // costs a constant per append.
        if self.appends.len() > 2 * self.entry_count + APPENDS_SLACK {
            let mut appends = std::mem::take(&mut self.appends);
            appends.retain(|append| self.is_kept(&append.position));
            self.appends = appends;
        }
    }

    /// Drops entries by age and by bytes, the oldest of all streams first.
    fn trim_oldest(&mut self, now: Now) {
        let age_max_ns = u64::try_from(self.bounds.age_max.as_nanos()).unwrap_or(u64::MAX);
        while let Some(oldest) = self.appends.front() {
            let too_old = oldest.at_ns.saturating_add(age_max_ns) <= now.mono_ns;
            if !too_old && self.bytes <= self.bounds.bytes_max {
                break;
            }
            let position = self.appends.pop_front().map(|append| append.position);
            if let Some(position) = position.filter(|position| self.is_kept(position)) {
                self.drop_first(&position.stream);
            }
        }
    }

    fn is_kept(&self, position: &Position) -> bool {
        let stream = self.streams.peek(&*position.stream);
        stream.is_some_and(|stream| {
            Arc::ptr_eq(&stream.epoch, &position.epoch) && position.offset >= stream.first()
        })
    }

    fn drop_first(&mut self, stream: &str) {
        let dropped = self.streams.peek_mut(stream).and_then(|head| head.entries.pop_front());
        if let Some(event) = dropped {
            self.entry_count -= 1;
            self.bytes -= bytes_of(&event);
        }
    }
}

/// Records of appends beyond those of live entries before they are swept.
const APPENDS_SLACK: usize = 1_024;

/// What an entry costs: its payload, itself, and its record.
fn bytes_of(event: &Event) -> usize {
    event.payload.len() + event.kind.len() + size_of::<Event>() + size_of::<Append>()
}

fn epoch(seed: u64, generation: u32) -> Arc<str> {
    format!("{seed:x}.{generation}").into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Class, Target};

    const START: Now = Now { mono_ns: 0, wall_ms: 0 };

    fn seconds(n: u64) -> Now {
        START.after(Duration::from_secs(n))
    }

    fn event(payload: &str) -> Event {
        Event {
            target: Target::User("u".into()),
            kind: "booking:confirmed".into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            class: Class::Critical,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: 0,
        }
    }

    fn bounds() -> Bounds {
        Bounds { count_max: 3, age_max: Duration::from_secs(600), bytes_max: 1 << 20, streams_max: 2 }
    }

    fn append(history: &mut History, now: Now, stream: &str, payload: &str) -> Position {
        history.append(now, &stream.into(), event(payload)).position.clone().unwrap()
    }

    fn after(history: &History, stream: &str, epoch: &Arc<str>, offset: u64) -> Option<Vec<String>> {
        let position = Position { stream: stream.into(), epoch: epoch.clone(), offset };
        let text = |event: &Arc<Event>| String::from_utf8(event.payload.to_vec()).unwrap();
        history.after(&position).map(|events| events.map(text).collect())
    }

    fn check(history: &History) {
        let live = history.appends.iter().filter(|append| history.is_kept(&append.position)).count();
        assert_eq!(live, history.entry_count);
    }

    #[test]
    fn offsets_start_at_one_and_grow_by_one_in_each_stream() {
        let mut history = History::new(bounds(), 7);
        assert_eq!(history.head("user:a").offset, 0);
        let offsets: Vec<u64> =
            ["user:a", "user:b", "user:a"].map(|s| append(&mut history, START, s, "1").offset).to_vec();
        assert_eq!(offsets, [1, 1, 2]);
        assert_eq!(history.head("user:a").offset, 2);
        check(&history);
    }

    #[test]
    fn another_start_is_another_epoch() {
        assert_ne!(History::new(bounds(), 1).head("s").epoch, History::new(bounds(), 2).head("s").epoch);
    }

    #[test]
    fn a_position_is_joined_only_without_a_gap() {
        let mut history = History::new(bounds(), 7);
        for payload in ["1", "2", "3", "4", "5"] {
            append(&mut history, START, "s", payload);
        }
        let epoch = history.head("s").epoch;
        let table: [(u64, Option<&[&str]>); 6] =
            [(0, None), (1, None), (2, Some(&["3", "4", "5"])), (4, Some(&["5"])), (5, Some(&[])), (6, None)];
        for (offset, expected) in table {
            let expected = expected.map(|list| list.iter().map(ToString::to_string).collect());
            assert_eq!(after(&history, "s", &epoch, offset), expected, "after {offset}");
        }
        assert_eq!(after(&history, "s", &"other".into(), 4), None);
        assert_eq!(after(&history, "t", &epoch, 0), None);
        check(&history);
    }

    #[test]
    fn a_head_outlives_its_entries() {
        let mut history = History::new(bounds(), 7);
        let first = append(&mut history, START, "s", "1");
        history.expire(seconds(600));
        assert_eq!((history.entry_count(), history.bytes()), (0, 0));
        let second = append(&mut history, seconds(3_600), "s", "2");
        assert_eq!((second.offset, second.epoch), (2, first.epoch));
        check(&history);
    }

    #[test]
    fn a_stream_that_begins_anew_has_another_epoch() {
        let mut history = History::new(bounds(), 7);
        let first = append(&mut history, START, "s", "1");
        history.expire(seconds(24 * 3_600));
        assert_eq!(history.stream_count(), 0);
        let again = append(&mut history, seconds(24 * 3_600), "s", "2");
        assert_eq!(again.offset, 1);
        assert_ne!(again.epoch, first.epoch);
    }

    #[test]
    fn the_oldest_entries_of_all_streams_make_room_for_bytes() {
        let cost = bytes_of(&event("1"));
        let mut history = History::new(Bounds { bytes_max: 2 * cost, ..bounds() }, 7);
        for stream in ["a", "b", "a"] {
            append(&mut history, START, stream, "1");
        }
        let epoch = history.head("a").epoch;
        assert_eq!((history.entry_count(), history.bytes()), (2, 2 * cost));
        assert_eq!(
            (after(&history, "a", &epoch, 0), after(&history, "a", &epoch, 1).unwrap().len()),
            (None, 1)
        );
        check(&history);
    }

    #[test]
    fn too_many_streams_give_up_the_idlest_with_its_entries() {
        let mut history = History::new(bounds(), 7);
        for (second, stream) in ["a", "b", "a", "c"].into_iter().enumerate() {
            append(&mut history, seconds(second as u64), stream, "1");
        }
        assert_eq!((history.stream_count(), history.head("a").offset, history.head("b").offset), (2, 2, 0));
        assert_eq!(history.entry_count(), 3);
        check(&history);
    }

    #[test]
    fn records_of_trimmed_entries_do_not_pile_up() {
        let mut history = History::new(bounds(), 7);
        for _ in 0..5_000 {
            append(&mut history, START, "s", "1");
        }
        assert_eq!(history.entry_count(), 3);
        assert!(history.appends.len() <= 2 * 3 + APPENDS_SLACK);
        check(&history);
    }

    #[test]
    fn a_bound_of_zero_stores_nothing_and_still_counts() {
        let mut history = History::new(Bounds { count_max: 0, ..bounds() }, 7);
        append(&mut history, START, "s", "1");
        assert_eq!((append(&mut history, START, "s", "2").offset, history.entry_count()), (2, 0));
    }
}
