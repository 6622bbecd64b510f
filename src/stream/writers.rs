//! What writers that number their entries stored last in a stream.
//!
//! Owns a number and an offset for each writer. Invariant: at most [`STREAM_WRITERS_MAX`], those that wrote last.

use std::{cmp::Ordering, collections::VecDeque, sync::Arc};

use crate::{
    event::Position,
    limits::STREAM_WRITERS_MAX,
    stream::store::{Answer, Failure},
};

/// Of one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Writers {
    /// Who wrote last comes last.
    last: VecDeque<Last>,
}

#[derive(Clone, Debug)]
struct Last {
    writer: Arc<str>,
    number: u64,
    offset: u64,
}

impl Writers {
    /// What an append of that number is answered that is a repeat, in the stream of that name and epoch; `None`: it is none.
    pub(super) fn repeated(
        &self,
        writer: &str,
        number: u64,
        (stream, epoch): (&Arc<str>, &Arc<str>),
    ) -> Option<Answer> {
        let last = self.last.iter().rev().find(|last| *last.writer == *writer)?;
        match number.cmp(&last.number) {
            Ordering::Less => Some(Answer::Failed(Failure::Refused)),
            Ordering::Equal => Some(Answer::Repeated(Position {
                stream: Arc::clone(stream),
                epoch: Arc::clone(epoch),
                offset: last.offset,
            })),
            Ordering::Greater => None,
        }
    }

    /// The entry is stored there.
    pub(super) fn note(&mut self, writer: Arc<str>, number: u64, offset: u64) {
        self.last.retain(|last| last.writer != writer);
        if self.last.len() >= STREAM_WRITERS_MAX {
            self.last.pop_front();
        }
        self.last.push_back(Last { writer, number, offset });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Option<Answer> = Some(Answer::Failed(Failure::Refused));

    fn repeated(writers: &Writers, writer: &str, number: u64) -> Option<Answer> {
        writers.repeated(writer, number, (&"s".into(), &"e".into()))
    }

    fn at(offset: u64) -> Option<Answer> {
        Some(Answer::Repeated(Position { stream: "s".into(), epoch: "e".into(), offset }))
    }

    #[test]
    fn the_last_entry_of_each_writer_is_known() {
        let mut writers = Writers::default();
        assert_eq!(repeated(&writers, "a", 1), None);
        writers.note("a".into(), 1, 5);
        writers.note("b".into(), 7, 6);
        assert_eq!([1, 2].map(|number| repeated(&writers, "a", number)), [at(5), None]);
        writers.note("a".into(), 2, 9);
        assert_eq!([1, 2, 3].map(|number| repeated(&writers, "a", number)), [REFUSED, at(9), None]);
        assert_eq!(repeated(&writers, "b", 7), at(6));
    }

    #[test]
    fn of_too_many_writers_the_one_is_forgotten_that_wrote_longest_ago() {
        let mut writers = Writers::default();
        for n in 0..STREAM_WRITERS_MAX as u64 {
            writers.note(format!("{n}").into(), 1, n);
        }
        writers.note("0".into(), 2, 1_000);
        writers.note("one more".into(), 1, 1_001);
        assert_eq!(["0", "1", "2"].map(|writer| repeated(&writers, writer, 1)), [REFUSED, None, at(2)]);
        assert_eq!(writers.last.len(), STREAM_WRITERS_MAX);
    }
}
