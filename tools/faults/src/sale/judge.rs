//! Places are one person's each, people are let in in their order, and the books say what people saw.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use usher::generated::realtime::QueueResponse;

use super::{
    course::{Fate, SLACK_MS, Stay, Terms},
    diary::Diary,
};
use crate::verdict::Verdict;

/// How long passes may take once Redis is back.
pub(crate) const PASS_TIME_MAX: Duration = Duration::from_secs(4);

/// No two stays have the same place, and none has a place that there is not.
pub(crate) fn check_places(stays: &[Stay], books: &QueueResponse, unanswered: u32, verdict: &mut Verdict) {
    let mut holders: HashMap<u32, usize> = HashMap::new();
    let mut unnamed = 0;
    for stay in stays.iter().filter(|stay| stay.fate != Fate::LeftEarly) {
        let Some(place) = stay.place else {
            unnamed += 1;
            continue;
        };
        if place == 0 || place > books.total {
            verdict.blame("a place that there is not", format!("person {}, place {place}", stay.person));
        }
        if let Some(other) = holders.insert(place, stay.person) {
            let example = format!("place {place} of person {other} and of person {}", stay.person);
            verdict.blame("a place of two", example);
        }
    }
    let known = holders.len() as u32 + unnamed;
    if known > books.total || books.total - known > unanswered {
        let example = format!("{known} of {}, {unanswered} joins without an answer", books.total);
        verdict.blame("places that nobody has", example);
    }
}

/// The books, to the person.
pub(crate) fn check_books(stays: &[Stay], books: &QueueResponse, unanswered: u32, verdict: &mut Verdict) {
    let mut fates: BTreeMap<Fate, u32> = BTreeMap::new();
    stays.iter().for_each(|stay| *fates.entry(stay.fate).or_default() += 1);
    let of = |fate| fates.get(&fate).copied().unwrap_or_default();
    let expired = of(Fate::Expired) + of(Fate::ExpiredUnseen);
    let ended = expired + of(Fate::Completed) + of(Fate::Abandoned);
    let rows = [
        ("holding", books.holding, of(Fate::Admitted)),
        ("inside", books.inside, of(Fate::Inside)),
        ("expired", books.expired, expired),
        ("completed", books.completed, of(Fate::Completed)),
        ("abandoned", books.abandoned, of(Fate::Abandoned)),
        ("left", books.left, of(Fate::Left)),
        ("admitted", books.admitted, of(Fate::Admitted) + of(Fate::Inside) + ended),
    ];
    for (name, booked, seen) in rows {
        // A place that nobody knows may have been admitted, and have expired.
        let more = if matches!(name, "admitted" | "expired") { unanswered } else { 0 };
        if booked < seen || booked - seen > more {
            verdict.blame("the books differ", format!("{name}: {booked} booked, {seen} seen by people"));
        }
    }
    let QueueResponse { holding, inside, expired, completed, abandoned, admitted, .. } = *books;
    let QueueResponse { waiting, departed, left, total, .. } = *books;
    if admitted != holding + inside + expired + completed + abandoned {
        verdict.blame("the books do not add up", format!("admitted: {books:?}"));
    }
    if total != waiting + departed + left + admitted {
        verdict.blame("the books do not add up", format!("total: {books:?}"));
    }
    let (booked, seen) = (waiting + departed, of(Fate::Waiting));
    if booked < seen || booked - seen > unanswered {
        verdict.blame("the books differ", format!("{booked} wait by the books, {seen} people do"));
    }
}

/// Everybody who was there was let in before those behind; and no more people than the inlet lets in.
pub(crate) fn check_order(stays: &[Stay], terms: &Terms, verdict: &mut Verdict) {
    let admitted = |stay: &Stay| Some((stay.pass.as_ref()?.until_ms - terms.claim_ms, stay.place?));
    let mut admissions: Vec<(u64, u32)> = stays.iter().filter_map(admitted).collect();
    admissions.sort_unstable();
    for stay in stays {
        let Some(place) = stay.place else { continue };
        let let_in_ms = admitted(stay).map_or(u64::MAX, |(at_ms, _)| at_ms);
        for (from, to) in in_line(stay, terms) {
            let until = let_in_ms.min(to.saturating_sub(SLACK_MS));
            let first = admissions.partition_point(|(at_ms, _)| *at_ms <= from);
            let mut meanwhile = admissions[first..].iter().take_while(|(at_ms, _)| *at_ms < until);
            if let Some((at_ms, other)) = meanwhile.find(|(_, other)| *other > place) {
                let example = format!(
                    "place {other} at {at_ms} before place {place}, there from {from} to {to}, let in at {let_in_ms}"
                );
                verdict.blame("passed over", example);
            }
        }
    }
    let did_not_arrive = |stay: &&Stay| {
        let unused = matches!(stay.fate, Fate::Expired | Fate::ExpiredUnseen);
        unused || (stay.fate == Fate::Abandoned && !stay.claimed)
    };
    let owed = stays.iter().filter(did_not_arrive).count() as u64;
    let all = stays.iter().filter(|stay| stay.is_admitted()).count() as u64;
    let time_ms = terms.paused_at_ms.saturating_sub(terms.opened_at_ms) + SLACK_MS;
    let rate = 1 + u64::from(terms.crowd) + time_ms * u64::from(terms.per_minute) / 60_000;
    if all > rate + owed {
        verdict.blame("more than the inlet lets in", format!("{all}, of a rate {rate}, owed {owed}"));
    }
}

/// Passes that Redis did not take were told when it was back, to those who were there all the time.
pub(crate) fn check_told(stays: &[Stay], terms: &Terms, verdict: &mut Verdict) {
    let (from_ms, back_ms) = terms.outage_ms;
    let by_ms = back_ms + PASS_TIME_MAX.as_millis() as u64;
    for stay in stays {
        let Some(pass) = &stay.pass else { continue };
        let admitted_ms = pass.until_ms - terms.claim_ms;
        let waits = |(from, to): &(u64, u64)| *from <= admitted_ms && by_ms <= *to;
        if (from_ms..=back_ms).contains(&admitted_ms)
            && stay.present.iter().any(waits)
            && pass.seen_ms > by_ms
        {
            let (place, seen_ms) = (stay.place, pass.seen_ms);
            let example =
                format!("place {place:?}, let in at {admitted_ms}, told at {seen_ms}, not by {by_ms}");
            verdict.blame("a pass came late", example);
        }
    }
}

/// When its holder stood in the line, as far as that is certain: being away for less than the grace is nothing. Who was away for
/// longer stands beside the line from then on, and only while it is there.
fn in_line(stay: &Stay, terms: &Terms) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for (from, to) in &stay.present {
        match spans.as_mut_slice() {
            [only] if only.1 + terms.grace_ms > from + SLACK_MS => only.1 = *to,
            _ => spans.push((*from, *to)),
        }
    }
    spans
}

/// Who came after the opening is behind those who came before, and behind those who had a place before it asked.
pub(crate) fn check_arrivals(stays: &[Stay], terms: &Terms, verdict: &mut Verdict) {
    let told = |stay: &Stay| stay.present.first().map_or(u64::MAX, |(from, _)| *from);
    let mut late: Vec<&Stay> = stays.iter().filter(|stay| !stay.early).collect();
    late.sort_unstable_by_key(|stay| stay.place);
    let mut told_behind = u64::MAX;
    for stay in late.iter().rev() {
        if stay.place.is_some_and(|place| place <= terms.drawn) {
            verdict.blame(
                "a late arrival in the pre-queue",
                format!("person {}: {:?}", stay.person, stay.place),
            );
        }
        if told_behind < stay.asked_ms {
            let example = format!("place {:?} was asked for after a later one was given", stay.place);
            verdict.blame("first come, not first served", example);
        }
        told_behind = told_behind.min(told(stay));
    }
}

/// Who could not make sense of something, or never got its place back.
pub(crate) fn check_people(diaries: &[&Diary], verdict: &mut Verdict) {
    for (person, diary) in diaries.iter().enumerate() {
        diary
            .faults
            .iter()
            .for_each(|fault| verdict.blame("not understood", format!("person {person}: {fault}")));
        if !diary.settled {
            let last = diary.seen.iter().rev().take(3).collect::<Vec<_>>();
            verdict.blame("never came back", format!("person {person}: {last:?}"));
        }
    }
}
