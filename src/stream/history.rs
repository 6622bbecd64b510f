//! Streams in memory: offsets, epochs and the entries that a resume could replay.
//!
//! Owns every stored event but those of queues ([`logs`](super::logs)), and the answers to calls with a key. Never loses the
//! end of a stream before its beginning.
//! Invariants: entries of a stream have consecutive offsets that end at its last one; entry and byte counts equal what
//! is held; a stream that starts anew, its head given up, or that is behind what an instance saw, has another epoch.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    clock::Now,
    config::settings::Streams,
    event::{Class, Event, Position},
    limits,
    stream::{
        envelope,
        expiring::Expiring,
        idempotency::{Earlier, Idempotency},
        latest::LatestValues,
        logs::Logs,
        names,
        store::{Answer, Append, Ask, Failure, Head, Mark, Memory, Page, Proviso},
        writers::Writers,
    },
};

/// How much is kept.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Entries of one stream.
    pub count_max: usize,
    /// Age of an entry that clients have, or that is a room's.
    pub age_max: Duration,
    /// Age of an entry of a user's stream that no client of the user acknowledged; `>= age_max`.
    pub ledger_age_max: Duration,
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
            ledger_age_max: settings.ledger_age_max.max(settings.age_max),
            bytes_max: limits::STREAM_BYTES_MAX,
            streams_max: limits::STREAMS_MAX,
        }
    }
}

/// All streams of this instance.
#[derive(Clone, Debug)]
pub struct History {
    bounds: Bounds,
    streams: Expiring<Arc<str>, Stream>,
    /// Every entry younger than `age_max`, oldest first; those that are gone already are skipped.
    young: VecDeque<Record>,
    /// Older ones, kept since nobody acknowledged them; as `young`.
    ledger: VecDeque<Record>,
    /// Where keys of appends led to.
    keys: Idempotency<Position>,
    /// Last values, where several instances share this store.
    latest: LatestValues,
    entry_count: usize,
    bytes: usize,
    /// Of queues.
    logs: Logs,
    seed: u64,
    /// Grows when a head is given up, and when something was lost; from 1.
    generation: u64,
    /// Of streams that begin now.
    epoch: Arc<str>,
}

#[derive(Clone, Debug)]
struct Stream {
    epoch: Arc<str>,
    /// Epochs that went on in this one, each with the offset at which it ended, the newest first.
    past: Vec<Mark>,
    /// Offset at which earlier epochs parted; `<= last`.
    cut: u64,
    /// Offset of the newest event; `last >= entries.len()`.
    last: u64,
    /// What clients have; `<= last`.
    acknowledged: u64,
    /// Newest offset that is older than `age_max`; `<= last`.
    aged: u64,
    entries: VecDeque<Arc<Event>>,
    writers: Writers,
}

impl Stream {
    fn new(epoch: Arc<str>) -> Self {
        Self {
            epoch,
            past: Vec::new(),
            cut: 0,
            last: 0,
            acknowledged: 0,
            aged: 0,
            entries: VecDeque::new(),
            writers: Writers::default(),
        }
    }

    /// Up to which offset an epoch is a part of this history; `None`: it is none.
    fn reach(&self, epoch: &str) -> Option<u64> {
        if *self.epoch == *epoch {
            return Some(self.last);
        }
        self.past.iter().find(|past| *past.epoch == *epoch).map(|past| past.offset)
    }

    fn first(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }
}

#[derive(Clone, Debug)]
struct Record {
    at_ns: u64,
    position: Position,
}

impl History {
    /// Nothing yet. The seed must differ between starts: it names the epochs.
    pub fn new(bounds: Bounds, seed: u64) -> Self {
        let head_age_max = limits::STREAM_HEAD_AGE_MAX.max(bounds.ledger_age_max);
        Self {
            streams: Expiring::new(head_age_max, bounds.streams_max),
            young: VecDeque::new(),
            ledger: VecDeque::new(),
            keys: Idempotency::default(),
            latest: LatestValues::default(),
            entry_count: 0,
            bytes: 0,
            logs: Logs::new(seed),
            seed,
            generation: 1,
            epoch: epoch(seed, 1),
            bounds,
        }
    }

    /// Answers a question; always, and at once.
    pub fn answer(&mut self, now: Now, ask: Ask) -> Answer {
        if names::is_log(ask.stream()) {
            return self.logs.answer(now, ask);
        }
        match ask {
            Ask::Append(append) => self.append(now, append),
            Ask::Head { stream, known } => {
                self.roll_on(now, &stream, known.as_ref());
                Answer::Head(self.head(&stream))
            }
            Ask::Look { stream } => Answer::Head(self.head(&stream)),
            Ask::Read { stream, epoch, after, count_max } => {
                Answer::Page(self.page(&stream, (&epoch, after), count_max))
            }
            Ask::Acknowledge { stream, epoch, offset } => {
                self.acknowledge(&stream, &epoch, offset);
                Answer::Acknowledged(self.head(&stream).acknowledged)
            }
            Ask::Remember { stream, values } => {
                values.into_iter().for_each(|value| self.remember(now, &stream, value));
                Answer::Remembered
            }
            Ask::Recall { stream } => Answer::Recalled(self.latest.of(now, &stream)),
            // Other streams go by themselves.
            Ask::Forget { .. } => Answer::Forgotten,
        }
    }

    fn remember(&mut self, now: Now, stream: &Arc<str>, value: Arc<Event>) {
        let Class::Latest(key) = value.class else { return };
        let kept = self.latest.get(now, stream, key).and_then(|kept| kept.version);
        if value.version.is_none_or(|version| kept.is_none_or(|kept| kept < version)) {
            self.latest.put(now, stream.clone(), value, 0);
        }
    }

    fn append(&mut self, now: Now, append: Append) -> Answer {
        let Append { stream, event, memory, known, proviso } = append;
        self.roll_on(now, &stream, known.as_ref());
        if proviso == Some(Proviso::Follows) && !self.follows(&stream, known.as_ref()) {
            return Answer::Failed(Failure::Parted);
        }
        if let Some(answer) = memory.as_ref().and_then(|memory| self.repeated(now, &stream, memory)) {
            return answer;
        }
        match proviso {
            Some(Proviso::Before(time_ms)) if now.wall_ms >= time_ms => {
                return Answer::Failed(Failure::Refused);
            }
            Some(Proviso::Fewer { than, since_ms }) => {
                if let Some(position) = self.equal(now, &stream, &event, (than, since_ms)) {
                    return Answer::Repeated(position);
                }
            }
            Some(Proviso::Before(_) | Proviso::Follows) | None => {}
        }
        let (event, position) = self.store(now, &stream, event);
        match memory {
            None => {}
            Some(Memory::Key { key, body }) => self.keys.remember(now, stream, key, body, position),
            Some(Memory::Number { writer, number }) => {
                if let Some(held) = self.streams.peek_mut(&*stream) {
                    held.writers.note(writer, number, position.offset);
                }
            }
        }
        Answer::Appended(event)
    }

    /// What an append is answered that is a repeat; `None`: it is none.
    fn repeated(&self, now: Now, stream: &Arc<str>, memory: &Memory) -> Option<Answer> {
        let held = self.streams.peek(&**stream);
        match memory {
            Memory::Key { key, body } => match self.keys.look(now, stream, key, *body) {
                Earlier::Nothing => None,
                Earlier::Same(mut position) => {
                    let held = held.filter(|held| held.reach(&position.epoch) >= Some(position.offset));
                    position.epoch = held.map_or(position.epoch, |held| held.epoch.clone());
                    Some(Answer::Repeated(position))
                }
                Earlier::Other => Some(Answer::KeyReused),
            },
            Memory::Number { writer, number } => {
                held.and_then(|held| held.writers.repeated(writer, *number, (stream, &held.epoch)))
            }
        }
    }

    /// Whether the stream goes on from what is known of it; from nothing, where there is none.
    fn follows(&self, stream: &str, known: Option<&Mark>) -> bool {
        match self.streams.peek(stream) {
            Some(held) => known.is_some_and(|known| held.reach(&known.epoch) >= Some(known.offset)),
            None => known.is_none_or(|known| known.offset == 0),
        }
    }

    /// Where the entry is that makes them so many that are equal to the event and were stored since that time.
    fn equal(&self, now: Now, stream: &str, event: &Event, (than, since_ms): (u32, u64)) -> Option<Position> {
        let age_ns = now.wall_ms.checked_sub(since_ms)?.saturating_mul(1_000_000);
        let since_ns = now.mono_ns.saturating_sub(age_ns);
        let held = self.streams.peek(stream)?;
        let young = self.young.iter().rev().take_while(|record| record.at_ns >= since_ns);
        let equal = young.filter(|record| {
            let Position { stream: of, epoch, offset } = &record.position;
            let entry = || held.entries.get(offset.checked_sub(held.first())? as usize);
            **of == *stream
                && *epoch == held.epoch
                && entry().is_some_and(|entry| envelope::is_equal(entry, event))
        });
        equal.map(|record| record.position.clone()).nth(than.saturating_sub(1) as usize)
    }

    /// Where the stream ends; offset 0 where there was nothing.
    fn head(&self, stream: &str) -> Head {
        match self.streams.peek(stream) {
            Some(head) => {
                Head { epoch: head.epoch.clone(), offset: head.last, acknowledged: head.acknowledged }
            }
            None => Head { epoch: self.epoch.clone(), offset: 0, acknowledged: 0 },
        }
    }

    /// Parts with the earlier epochs of the stream if an instance saw something of it that is not here.
    fn roll_on(&mut self, now: Now, stream: &Arc<str>, known: Option<&Mark>) {
        let Some(known) = known else { return };
        match self.streams.peek(&**stream) {
            Some(held) if held.has_lost(known) => self.part(stream, known),
            None if known.epoch == self.epoch && known.offset > 0 => {
                self.renew();
                self.begin(now, stream.clone());
            }
            Some(_) | None => {}
        }
    }

    /// Stores the event as the next of its stream; what comes back carries its position.
    fn store(&mut self, now: Now, stream: &Arc<str>, mut event: Event) -> (Arc<Event>, Position) {
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
        self.young.push_back(Record { at_ns: now.mono_ns, position: position.clone() });
        self.trim(now, stream);
        (event, position)
    }

    fn page(&self, stream: &str, (epoch, after): (&str, u64), count_max: usize) -> Page {
        let head = self.head(stream);
        let Some(stream) = self.streams.peek(stream) else {
            let joins = *epoch == *head.epoch && after == 0;
            return Page { head, events: joins.then(Vec::new), rest: 0 };
        };
        let reach = stream.reach(epoch);
        let seen = match reach {
            Some(reach) => after.min(reach),
            // There may have been more since they parted than are remembered: then all of it may have been seen.
            None if stream.past.len() == PAST_MAX => stream.last,
            None => stream.cut,
        };
        let rest = seen.max(stream.first() - 1);
        let events = (reach.is_some() && rest == after).then(|| {
            let skipped = (after + 1 - stream.first()) as usize;
            stream.entries.iter().skip(skipped).take(count_max).cloned().collect()
        });
        Page { head, events, rest }
    }

    fn acknowledge(&mut self, stream: &str, epoch: &str, offset: u64) {
        let Some(head) = self.streams.peek_mut(stream) else { return };
        let reach = if epoch.is_empty() { head.last } else { head.reach(epoch).unwrap_or(0) };
        head.acknowledged = head.acknowledged.max(offset.min(reach));
        // The ledger kept these alone.
        let over = head.acknowledged.min(head.aged);
        while self.streams.peek(stream).is_some_and(|head| !head.entries.is_empty() && head.first() <= over) {
            self.drop_first(stream);
        }
    }

    /// Lets go of entries and heads that are too old.
    pub fn expire(&mut self, now: Now) {
        self.trim_oldest(now);
        self.keys.expire(now);
        self.latest.expire(now);
        self.logs.expire(now);
        let mut gone = Vec::new();
        self.streams.expire(now, |_, stream| gone.push(stream));
        self.forget(gone);
    }

    /// Streams with a head.
    pub fn stream_count(&self) -> usize {
        self.streams.len() + self.logs.len()
    }

    /// Entries of all streams.
    pub fn entry_count(&self) -> usize {
        self.entry_count + self.logs.entry_count()
    }

    /// Bytes of all entries, with what keeping them costs.
    pub fn bytes(&self) -> usize {
        self.bytes + self.logs.bytes()
    }

    /// Keys of appends remembered.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    fn begin(&mut self, now: Now, stream: Arc<str>) {
        let evicted = self.streams.put(now, stream, Stream::new(self.epoch.clone()));
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
            self.renew();
        }
    }

    fn renew(&mut self) {
        self.generation += 1;
        self.epoch = epoch(self.seed, self.generation);
    }

    fn trim(&mut self, now: Now, stream: &str) {
        while self.streams.peek(stream).is_some_and(|head| head.entries.len() > self.bounds.count_max) {
            self.drop_first(stream);
        }
        self.trim_oldest(now);
        // Records whose entry went by count pile up only in busy streams; sweeping when they are the majority
        // costs a constant per append.
        if self.young.len() + self.ledger.len() > 2 * self.entry_count + RECORDS_SLACK {
            let (mut young, mut ledger) = (std::mem::take(&mut self.young), std::mem::take(&mut self.ledger));
            young.retain(|record| self.is_kept(&record.position));
            ledger.retain(|record| self.is_kept(&record.position));
            (self.young, self.ledger) = (young, ledger);
        }
    }

    /// Drops entries by age and by bytes, the oldest of all streams first.
    fn trim_oldest(&mut self, now: Now) {
        let older = |record: &Record, age: Duration| {
            let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            record.at_ns.saturating_add(age_ns) <= now.mono_ns
        };
        while self.young.front().is_some_and(|record| older(record, self.bounds.age_max)) {
            if let Some(record) = self.young.pop_front() {
                self.age(record);
            }
        }
        while let Some(oldest) = self.ledger.front().or_else(|| self.young.front()) {
            if !older(oldest, self.bounds.ledger_age_max) && self.bytes <= self.bounds.bytes_max {
                break;
            }
            let record = self.ledger.pop_front().or_else(|| self.young.pop_front());
            if let Some(Record { position, .. }) = record.filter(|record| self.is_kept(&record.position)) {
                self.drop_first(&position.stream);
            }
        }
    }

    /// An entry is young no more: it goes, unless it is one that a user did not acknowledge.
    fn age(&mut self, record: Record) {
        if !self.is_kept(&record.position) {
            return;
        }
        let Position { stream, offset, .. } = &record.position;
        let Some(held) = self.streams.peek_mut(&**stream) else { return };
        held.aged = *offset;
        if stream.starts_with("user:") && *offset > held.acknowledged {
            self.ledger.push_back(record);
        } else {
            self.drop_first(stream);
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

/// Earlier epochs of a stream that are remembered.
const PAST_MAX: usize = 8;
/// Records beyond those of live entries before they are swept.
const RECORDS_SLACK: usize = 1_024;

/// What an entry costs: its payload, itself, and its record.
fn bytes_of(event: &Event) -> usize {
    event.payload.len() + event.kind.len() + size_of::<Event>() + size_of::<Record>()
}

fn epoch(seed: u64, generation: u64) -> Arc<str> {
    format!("{generation}.{seed:x}").into()
}

mod restart;
#[cfg(test)]
mod tests;
