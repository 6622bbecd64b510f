//! Every call that was answered OK is in its user's log, once and in order, or the user was told of the gap.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use crate::{
    client::{Log, Seen},
    foreign::Published,
    publisher::{Accepted, Calls, user},
    verdict::Verdict,
};

/// Whether everybody has what they can have: everything that was accepted or published was seen, or lies in a gap that was
/// told.
pub(crate) fn is_complete<'a>(
    calls: &Calls,
    published: &Published,
    logs: impl Iterator<Item = &'a Log>,
) -> bool {
    let accepted = by_user(calls);
    let mut heard: HashMap<u32, Vec<u64>> = HashMap::new();
    for (number, user) in &published.heard {
        heard.entry(*user).or_default().push(*number);
    }
    logs.zip(0..).all(|(log, user)| {
        let seen = numbers(log, true);
        let all_heard = heard.get(&user).is_none_or(|heard| heard.iter().all(|number| seen.contains(number)));
        all_heard && missing(log, own(&accepted, user)).next().is_none()
    })
}

/// Compares what was accepted with what was seen. `gaps_allowed`: something may be missing where a client was told so.
pub(crate) fn judge(calls: &Calls, logs: &[&Log], gaps_allowed: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let accepted = by_user(calls);
    let mut gaps = 0;
    for (log, index) in logs.iter().zip(0..) {
        let name = user(index);
        gaps += check_order(&name, log, &mut verdict);
        for Accepted { number, epoch, offset, .. } in missing(log, own(&accepted, index)) {
            verdict.blame("lost", format!("{name}: call {number} at {epoch}:{offset}"));
        }
        log.faults.iter().for_each(|fault| verdict.blame("not understood", format!("{name}: {fault}")));
    }
    calls.faults.iter().for_each(|fault| verdict.blame("call", fault.clone()));
    if gaps > 0 && !gaps_allowed {
        verdict.blame("gaps told where nothing was lost", format!("{gaps} gaps"));
    }
    let sum = |figure: fn(&Log) -> u64| logs.iter().map(|log| figure(log)).sum();
    verdict.figures = vec![
        ("calls answered OK", calls.accepted.len() as u64),
        ("tries refused and repeated", calls.refused),
        ("messages seen", sum(|log| log.seen.len() as u64)),
        ("clients", logs.len() as u64),
        ("connections", sum(|log| log.connected.into())),
        ("resumes with nothing missing", sum(|log| log.recovered.into())),
        ("gaps told", gaps),
        ("told only later where they were", sum(started)),
    ];
    verdict
}

/// What one instance got of a publication is in its user's log, once; nothing may be missing.
pub(crate) fn judge_published(published: &Published, logs: &[&Log], verdict: &mut Verdict) {
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for seen_by_one in logs.iter().flat_map(|log| &log.seen) {
        if let Seen::Message { published: true, number, .. } = seen_by_one {
            *seen.entry(*number).or_default() += 1;
        }
    }
    for (number, to) in &published.heard {
        if !seen.contains_key(number) {
            verdict.blame("publication lost", format!("{}: publication {number}", user(*to)));
        }
    }
    for (number, _) in seen.iter().filter(|(_, times)| **times > 1) {
        verdict.blame("publication repeated", format!("publication {number}"));
    }
    verdict.figures.extend([
        ("publications that an instance got", published.heard.len() as u64),
        ("publications seen", seen.values().sum()),
        ("publications with nobody subscribed", published.unheard),
        ("publications that Redis broke off", published.unknown),
    ]);
}

/// Offsets grow by one, but where a gap was told; how many were. A history may go on in another epoch.
fn check_order(name: &str, log: &Log, verdict: &mut Verdict) -> u64 {
    let mut gaps = 0;
    let mut at: Option<(Rc<str>, u64)> = None;
    let mut numbers: HashSet<(bool, u64, Rc<str>)> = HashSet::new();
    for seen in &log.seen {
        match seen {
            Seen::Gap { epoch, offset } | Seen::Start { epoch, offset } => {
                gaps += u64::from(matches!(seen, Seen::Gap { .. }));
                at = Some((Rc::clone(epoch), *offset));
            }
            Seen::Message { published, number, epoch, offset } => {
                if !numbers.insert((*published, *number, Rc::clone(epoch))) {
                    verdict.blame("repeated", format!("{name}: {number} at {epoch}:{offset}"));
                }
                if let Some((known, last)) = &at
                    && last + 1 != *offset
                {
                    let why = format!("{name}: {epoch}:{offset} came after {known}:{last}");
                    verdict.blame("out of order, or a hole", why);
                }
                at = Some((Rc::clone(epoch), *offset));
            }
        }
    }
    gaps
}

fn by_user(calls: &Calls) -> HashMap<u32, Vec<&Accepted>> {
    let mut accepted: HashMap<u32, Vec<&Accepted>> = HashMap::new();
    for call in &calls.accepted {
        accepted.entry(call.user).or_default().push(call);
    }
    accepted
}

fn own<'a>(accepted: &'a HashMap<u32, Vec<&'a Accepted>>, user: u32) -> &'a [&'a Accepted] {
    accepted.get(&user).map_or(&[], Vec::as_slice)
}

/// Calls that were not seen and lie in no gap that was told.
fn missing<'a>(log: &'a Log, accepted: &'a [&Accepted]) -> impl Iterator<Item = &'a Accepted> {
    let seen = numbers(log, false);
    accepted.iter().copied().filter(move |call| !seen.contains(&call.number) && !lies_in_a_gap(log, call))
}

/// How often it came in without being told where its stream stands.
fn started(log: &Log) -> u64 {
    log.seen.iter().filter(|seen| matches!(seen, Seen::Start { .. })).count() as u64
}

/// Of the calls, or of the publications, that a log has.
fn numbers(log: &Log, of_publications: bool) -> HashSet<u64> {
    let number = |seen: &Seen| match seen {
        Seen::Message { published, number, .. } => (*published == of_publications).then_some(*number),
        Seen::Gap { .. } | Seen::Start { .. } => None,
    };
    log.seen.iter().filter_map(number).collect()
}

fn lies_in_a_gap(log: &Log, call: &Accepted) -> bool {
    let place = |seen: &Seen| match seen {
        Seen::Message { epoch, offset, .. } | Seen::Gap { epoch, offset } | Seen::Start { epoch, offset } => {
            (Rc::clone(epoch), *offset)
        }
    };
    let mut before: Option<(Rc<str>, u64)> = None;
    for seen in &log.seen {
        if let Seen::Gap { epoch, offset } | Seen::Start { epoch, offset } = seen {
            let from_before = before.as_ref().is_some_and(|(epoch, _)| **epoch == *call.epoch);
            let after_start = before.as_ref().is_none_or(|(_, last)| !from_before || call.offset > *last);
            let until_end = **epoch != *call.epoch || call.offset <= *offset;
            if after_start && until_end {
                return true;
            }
        }
        before = Some(place(seen));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u64, epoch: &str, offset: u64) -> Seen {
        Seen::Message { published: false, number, epoch: epoch.into(), offset }
    }

    fn gap(epoch: &str, offset: u64) -> Seen {
        Seen::Gap { epoch: epoch.into(), offset }
    }

    fn kinds(seen: Vec<Seen>, gaps_allowed: bool) -> Vec<&'static str> {
        let accepted = |number: u64| Accepted { number, user: 0, epoch: "a".into(), offset: number };
        let calls = Calls { accepted: (1..=3).map(accepted).collect(), ..Calls::default() };
        let log = Log { seen, ..Log::default() };
        judge(&calls, &[&log], gaps_allowed).kinds()
    }

    #[test]
    fn a_whole_log_is_in_order() {
        assert_eq!(kinds((1..=3).map(|n| message(n, "a", n)).collect(), false), [""; 0]);
    }

    #[test]
    fn what_is_lost_repeated_or_swapped_is_found() {
        let lost = vec![message(1, "a", 1), message(2, "a", 2)];
        assert_eq!(kinds(lost, true), ["lost"]);
        let hole = vec![message(1, "a", 1), message(3, "a", 3)];
        assert_eq!(kinds(hole, true), ["out of order, or a hole", "lost"]);
        let twice = vec![message(1, "a", 1), message(2, "a", 2), message(2, "a", 2), message(3, "a", 3)];
        assert_eq!(kinds(twice, true), ["repeated", "out of order, or a hole"]);
    }

    #[test]
    fn a_gap_excuses_what_lies_in_it_and_nothing_else() {
        let excused = vec![message(1, "a", 1), gap("a", 3)];
        assert_eq!(kinds(excused.clone(), true), [""; 0]);
        assert_eq!(kinds(excused, false), ["gaps told where nothing was lost"]);
        let anew = vec![message(1, "a", 1), gap("b", 0), message(9, "b", 1)];
        assert_eq!(kinds(anew, true), [""; 0]);
        let start = |offset| Seen::Start { epoch: "a".into(), offset };
        assert_eq!(
            kinds(vec![start(2), message(3, "a", 3)], false),
            [""; 0],
            "no gap, for it knew of nothing"
        );
        assert_eq!(kinds(vec![start(1), message(3, "a", 3)], true), ["out of order, or a hole", "lost"]);
        let after = vec![message(1, "a", 1), gap("a", 2)];
        assert_eq!(kinds(after, true), ["lost"]);
    }

    #[test]
    fn a_story_is_over_once_everybody_saw_it_all_or_was_told_of_a_gap() {
        let accepted = |number: u64| Accepted { number, user: 0, epoch: "a".into(), offset: number };
        let calls = Calls { accepted: vec![accepted(1), accepted(2)], ..Calls::default() };
        let is_over = |seen: &[Seen], heard: &[(u64, u32)]| {
            let log = Log { seen: seen.to_vec(), ..Log::default() };
            let published = Published { heard: heard.to_vec(), ..Published::default() };
            is_complete(&calls, &published, [&log].into_iter())
        };
        let first = || message(1, "a", 1);
        assert!(!is_over(&[first()], &[]));
        assert!(is_over(&[first(), message(2, "a", 2)], &[]));
        assert!(is_over(&[first(), gap("b", 1)], &[]), "what was rolled back never comes");
        assert!(!is_over(&[first(), gap("b", 1)], &[(9, 0)]), "a publication may still come");
    }

    #[test]
    fn a_publication_is_seen_once_in_whichever_epoch() {
        let kinds = |numbers: &[(u64, &str)]| {
            let seen = numbers.iter().enumerate().map(|(index, (number, epoch))| Seen::Message {
                published: true,
                number: *number,
                epoch: (*epoch).into(),
                offset: index as u64 + 1,
            });
            let log = Log { seen: seen.collect(), ..Log::default() };
            let published = Published { heard: vec![(1, 0), (2, 0)], ..Published::default() };
            let mut verdict = Verdict::default();
            judge_published(&published, &[&log], &mut verdict);
            verdict.kinds()
        };
        assert_eq!(kinds(&[(1, "a"), (2, "b"), (3, "b")]), [""; 0], "3: Redis broke off after it");
        assert_eq!(kinds(&[(1, "a"), (1, "b"), (2, "b")]), ["publication repeated"]);
        assert_eq!(kinds(&[(2, "a")]), ["publication lost"]);
    }
}
