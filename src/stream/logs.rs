//! Logs of queues in memory.
//!
//! Owns every entry of every log. Never lets go of a part of a log, whatever else is stored: the log is the queue. It goes as a
//! whole, when it is told to or was not used for [`QUEUE_LOG_AGE_MAX`]; what is more than its bound is refused, and no log takes
//! room from another.
//! Invariants: entries of a log have consecutive offsets from 1; a log that begins anew has another epoch.

use std::sync::Arc;

use crate::{
    clock::Now,
    event::{Event, Position},
    limits::{LINES_FOLLOWED_MAX, QUEUE_ENTRY_BYTES, QUEUE_LOG_AGE_MAX, QUEUE_LOG_BYTES_MAX},
    stream::{
        expiring::Expiring,
        idempotency::{Earlier, Idempotency},
        store::{Answer, Append, Ask, Failure, Head, Mark, Memory, Page, Proviso},
        writers::Writers,
    },
};

/// All logs of this instance.
#[derive(Clone, Debug)]
pub(super) struct Logs {
    logs: Expiring<Arc<str>, Log>,
    keys: Idempotency<Position>,
    entry_count: usize,
    bytes: usize,
    seed: u64,
    /// Grows with each log that begins.
    generation: u32,
}

#[derive(Clone, Debug)]
struct Log {
    epoch: Arc<str>,
    entries: Vec<Arc<Event>>,
    bytes: usize,
    writers: Writers,
}

impl Logs {
    /// Nothing yet. The seed must differ between starts: it names the epochs.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            logs: Expiring::new(QUEUE_LOG_AGE_MAX, LINES_FOLLOWED_MAX),
            keys: Idempotency::default(),
            entry_count: 0,
            bytes: 0,
            seed,
            generation: 0,
        }
    }

    /// Answers a question about a log; at once.
    pub(super) fn answer(&mut self, now: Now, ask: Ask) -> Answer {
        match ask {
            Ask::Append(append) => self.append(now, append),
            Ask::Head { stream, .. } | Ask::Look { stream } => Answer::Head(self.head(now, &stream)),
            Ask::Read { stream, epoch, after, count_max } => {
                let head = self.head(now, &stream);
                let joins = *head.epoch == *epoch && after <= head.offset;
                let entries = self.logs.peek(&*stream).map_or(&[][..], |log| &log.entries);
                let following = entries.iter().skip(after as usize).take(count_max).cloned();
                // Of another history nothing was seen; of this one all is there.
                let rest = if *head.epoch == *epoch { after.min(head.offset) } else { 0 };
                Answer::Page(Page { head, events: joins.then(|| following.collect()), rest })
            }
            Ask::Forget { stream, epoch } => {
                let is_meant = self.logs.peek(&*stream).is_some_and(|log| log.epoch == epoch);
                if let Some(log) = is_meant.then(|| self.logs.remove(&*stream)).flatten() {
                    self.gone(&log);
                }
                Answer::Forgotten
            }
            // Nobody asks that about a log.
            Ask::Acknowledge { .. } => Answer::Acknowledged(0),
            Ask::Remember { .. } => Answer::Remembered,
            Ask::Recall { .. } => Answer::Recalled(Vec::new()),
        }
    }

    /// Lets go of logs that nobody used for long.
    pub(super) fn expire(&mut self, now: Now) {
        self.keys.expire(now);
        let mut gone = Vec::new();
        self.logs.expire(now, |_, log| gone.push(log));
        gone.iter().for_each(|log| self.gone(log));
    }

    /// Logs.
    pub(super) fn len(&self) -> usize {
        self.logs.len()
    }

    /// Entries of all logs.
    pub(super) fn entry_count(&self) -> usize {
        self.entry_count
    }

    /// Bytes of all entries, with what keeping them costs.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn append(&mut self, now: Now, append: Append) -> Answer {
        let Append { stream, mut event, memory, known, proviso } = append;
        if proviso == Some(Proviso::Follows) && !self.follows(&stream, known.as_ref()) {
            return Answer::Failed(Failure::Parted);
        }
        if let Some(answer) = memory.as_ref().and_then(|memory| self.repeated(now, &stream, memory)) {
            return answer;
        }
        let bytes = event.payload.len() + QUEUE_ENTRY_BYTES;
        let is_full = self.logs.peek(&*stream).is_some_and(|log| log.bytes >= QUEUE_LOG_BYTES_MAX);
        if is_full || !self.begin(now, &stream) {
            return Answer::Failed(Failure::Refused);
        }
        let Some(log) = self.logs.touch(now, &*stream) else { return Answer::Failed(Failure::Refused) };
        let offset = log.entries.len() as u64 + 1;
        let position = Position { stream: Arc::clone(&stream), epoch: Arc::clone(&log.epoch), offset };
        event.position = Some(position.clone());
        let event = Arc::new(event);
        log.entries.push(Arc::clone(&event));
        log.bytes += bytes;
        self.entry_count += 1;
        self.bytes += bytes;
        match memory {
            None => {}
            Some(Memory::Key { key, body }) => self.keys.remember(now, stream, key, body, position),
            Some(Memory::Number { writer, number }) => log.writers.note(writer, number, offset),
        }
        Answer::Appended(event)
    }

    /// What an append is answered that is a repeat; `None`: it is none.
    fn repeated(&self, now: Now, stream: &Arc<str>, memory: &Memory) -> Option<Answer> {
        match memory {
            Memory::Key { key, body } => match self.keys.look(now, stream, key, *body) {
                Earlier::Nothing => None,
                Earlier::Same(position) => Some(Answer::Repeated(position)),
                Earlier::Other => Some(Answer::KeyReused),
            },
            Memory::Number { writer, number } => {
                let log = self.logs.peek(&**stream)?;
                log.writers.repeated(writer, *number, (stream, &log.epoch))
            }
        }
    }

    /// Whether the log goes on from what is known of it; from nothing, where there is none.
    fn follows(&self, stream: &str, known: Option<&Mark>) -> bool {
        let reaches =
            |log: &Log, known: &Mark| *log.epoch == *known.epoch && known.offset <= log.entries.len() as u64;
        match self.logs.peek(stream) {
            Some(log) => known.is_some_and(|known| reaches(log, known)),
            None => known.is_none_or(|known| known.offset == 0),
        }
    }

    /// Whether there is such a log now.
    fn begin(&mut self, now: Now, stream: &Arc<str>) -> bool {
        if self.logs.peek(&**stream).is_some() {
            return true;
        }
        if self.logs.len() >= LINES_FOLLOWED_MAX {
            return false;
        }
        let log =
            Log { epoch: self.next_epoch(), entries: Vec::new(), bytes: 0, writers: Writers::default() };
        self.generation += 1;
        // There is room, so nothing goes for it.
        let _none = self.logs.put(now, Arc::clone(stream), log);
        true
    }

    /// Where the log ends; a log that does not exist has the name that it would begin with.
    fn head(&mut self, now: Now, stream: &str) -> Head {
        let (epoch, offset) = match self.logs.touch(now, stream) {
            Some(log) => (Arc::clone(&log.epoch), log.entries.len() as u64),
            None => (self.next_epoch(), 0),
        };
        Head { epoch, offset, acknowledged: 0 }
    }

    fn next_epoch(&self) -> Arc<str> {
        format!("{:x}.q{}", self.seed, self.generation).into()
    }

    fn gone(&mut self, log: &Log) {
        self.entry_count -= log.entries.len();
        self.bytes -= log.bytes;
    }
}

const _: () = assert!(size_of::<Event>() + 2 * size_of::<usize>() <= QUEUE_ENTRY_BYTES);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        event::{Class, Form, Target},
        stream::history::{Bounds, History},
    };

    const START: Now = Now { mono_ns: 1, wall_ms: 1 };
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Keeps next to nothing of other streams.
    fn history() -> History {
        let second = Duration::from_secs(1);
        History::new(
            Bounds {
                count_max: 1,
                age_max: second,
                ledger_age_max: second,
                bytes_max: 1_000,
                streams_max: 2,
            },
            7,
        )
    }

    fn append(stream: &str, payload: Bytes, key: Option<&str>) -> Ask {
        let event = Event {
            target: Target::Everyone,
            kind: "queue:log".into(),
            payload,
            form: Form::Payload,
            class: Class::Critical,
            version: None,
            position: None,
            except: None,
            accepted_at_ns: 0,
        };
        let memory = key.map(|key| Memory::Key { key: key.into(), body: 1 });
        Ask::Append(Append { stream: stream.into(), event, memory, known: None, proviso: None })
    }

    fn offset(answer: &Answer) -> Option<u64> {
        match answer {
            Answer::Appended(event) => event.position.as_ref().map(|position| position.offset),
            Answer::Repeated(position) => Some(position.offset),
            _ => None,
        }
    }

    /// Offsets that are read from the beginning.
    fn read(history: &mut History, now: Now, stream: &str) -> Option<u64> {
        let Answer::Head(head) = history.answer(now, Ask::Head { stream: stream.into(), known: None }) else {
            panic!("no head")
        };
        let ask = Ask::Read { stream: stream.into(), epoch: head.epoch, after: 0, count_max: 1_000 };
        match history.answer(now, ask) {
            Answer::Page(page) => page.events.map(|events| events.len() as u64),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_other_stream_and_no_age_takes_an_entry_of_a_log_that_is_used() {
        let mut history = history();
        for n in 1..=100 {
            assert_eq!(offset(&history.answer(START, append("queue:e", "1".into(), None))), Some(n));
            history.answer(START, append(&format!("user:{n}"), vec![b'1'; 900].into(), None));
        }
        let mut now = START;
        for _ in 0..30 {
            now = now.after(DAY);
            history.expire(now);
            assert_eq!(read(&mut history, now, "queue:e"), Some(100));
        }
        assert_eq!(offset(&history.answer(now, append("queue:e", "1".into(), None))), Some(101));
    }

    #[test]
    fn a_log_that_nobody_uses_goes_as_a_whole_after_a_week_and_begins_anew() {
        let mut history = history();
        history.answer(START, append("queue:e", "1".into(), None));
        let Answer::Head(before) = history.answer(START, Ask::Head { stream: "queue:e".into(), known: None })
        else {
            panic!("no head")
        };
        history.expire(START.after(6 * DAY));
        assert_eq!(history.entry_count(), 1);
        history.expire(START.after(8 * DAY));
        assert_eq!((history.entry_count(), history.bytes(), history.stream_count()), (0, 0, 0));
        let later = START.after(8 * DAY);
        assert_eq!(offset(&history.answer(later, append("queue:e", "1".into(), None))), Some(1));
        let old = Ask::Read { stream: "queue:e".into(), epoch: before.epoch, after: 1, count_max: 1 };
        assert!(matches!(history.answer(later, old), Answer::Page(Page { events: None, .. })));
    }

    #[test]
    fn more_than_the_bound_of_a_log_is_refused_until_it_is_forgotten_and_others_have_room_of_their_own() {
        let mut history = history();
        let big = Bytes::from(vec![b'1'; QUEUE_LOG_BYTES_MAX / 4]);
        for expected in 1..=4 {
            assert_eq!(offset(&history.answer(START, append("queue:a", big.clone(), None))), Some(expected));
        }
        let refused = Answer::Failed(Failure::Refused);
        assert_eq!(history.answer(START, append("queue:a", "1".into(), None)), refused);
        assert_eq!(read(&mut history, START, "queue:a"), Some(4), "nothing goes for it");
        for other in ["queue:b", "user:1"] {
            history.answer(START, append(other, "1".into(), None));
            assert_eq!(read(&mut history, START, other), Some(1));
        }
        let Answer::Head(head) = history.answer(START, Ask::Look { stream: "queue:a".into() }) else {
            panic!("no head")
        };
        for (epoch, left) in [("another".into(), 6), (head.epoch, 2)] {
            history.answer(START, Ask::Forget { stream: "queue:a".into(), epoch });
            assert_eq!(history.entry_count(), left);
        }
        assert_eq!(offset(&history.answer(START, append("queue:a", big, None))), Some(1));
    }

    #[test]
    fn an_entry_with_a_key_is_stored_once() {
        let mut history = history();
        for expected in [1, 1] {
            let answer = history.answer(START, append("queue:e", "1".into(), Some("k")));
            assert_eq!(offset(&answer), Some(expected));
        }
        assert_eq!(offset(&history.answer(START, append("queue:e", "1".into(), Some("l")))), Some(2));
    }
}
