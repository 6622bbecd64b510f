use std::sync::Arc;

use super::{OPENS_MS, Sale, admitted, refusal, terms};
use crate::{
    limits::{PLACES_PER_HOLDER_MAX, QUEUE_INSTANCES_MAX, RETURNS_PER_HOLDER_MAX},
    line::{LineState, Places, Ticket},
    sale::{
        command::{Command, Term, Terms},
        fair::order_key,
        inlet::Inlet,
        place::{Ending, State},
        queue::{Effect, Pauses, Refusal},
    },
};

#[test]
fn the_pre_queue_is_ordered_by_the_seed_and_not_by_who_came_first() {
    let mut sale = Sale::new(terms(Inlet::Manual));
    let mut names: Vec<String> = (0..50).map(|index| format!("u:{index}")).collect();
    for name in &names {
        let holder: Arc<str> = name.as_str().into();
        assert_eq!(sale.join(name), [Effect::Placed { holder, number: None, again: false }]);
    }
    assert_eq!((sale.number("u:7"), sale.queue.line(None).total, sale.queue.stats().waiting), (None, 50, 50));
    let effects = sale.at(OPENS_MS);
    assert_eq!(effects[0], Effect::Opened { seed: [3; 32], total: 50 });
    assert_eq!(effects.last(), Some(&Effect::Moved));
    let first_come = names.clone();
    names.sort_by_key(|name| order_key(&[3; 32], name));
    assert_ne!(names, first_come);
    let drawn = sale.queue.line(None).draw.expect("there is an order");
    assert!(first_come.iter().zip(&*drawn).all(|(name, number)| sale.number(name) == Some(*number)));
    assert_eq!(sale.queue.ticket("u:7"), sale.number("u:7").map(Ticket::Place));
    let numbers: Vec<_> = names.iter().map(|name| sale.number(name)).collect();
    assert_eq!(numbers, (1..=50).map(Some).collect::<Vec<_>>());
    sale.join("u:late");
    assert_eq!((sale.number("u:late"), sale.ahead("u:late")), (Some(51), 50));
}

#[test]
fn who_leaves_the_pre_queue_gets_no_number_unless_it_comes_back() {
    let mut sale = Sale::new(terms(Inlet::Manual));
    for name in ["a", "b", "c"] {
        sale.join(name);
    }
    let left = Effect::Ended { holder: "a".into(), number: None, ending: Ending::Left };
    assert_eq!(sale.leave("a"), [left]);
    sale.leave("b");
    sale.join("b");
    sale.at(OPENS_MS);
    assert_eq!((sale.queue.seat("a"), sale.queue.stats().total), (None, 2));
    assert!(sale.number("b").is_some());
    sale.away("a");
    sale.here("a");
    sale.join("a");
    assert_eq!(sale.number("a"), Some(3));
}

#[test]
fn joining_twice_is_one_place_over_tabs_and_devices() {
    let mut sale = Sale::opened(Inlet::Manual, 3);
    let other = Command::Join { holder: "h2".into(), instance: "other".into() };
    assert_eq!(sale.does(other), [Effect::Placed { holder: "h2".into(), number: Some(2), again: true }]);
    sale.away("h2");
    sale.after(200);
    assert_eq!(sale.state("h2"), Some(State::Waiting), "the other device is here");
    sale.does(Command::Away { holder: "h2".into(), instance: "other".into() });
    sale.after(119);
    assert_eq!(sale.state("h2"), Some(State::Waiting));
    sale.after(1);
    assert_eq!((sale.state("h2"), sale.queue.stats().total), (Some(State::Departed), 3));
}

#[test]
fn who_departs_moves_everybody_behind_up_and_keeps_the_number() {
    let mut sale = Sale::opened(Inlet::Manual, 5);
    sale.away("h2");
    assert_eq!(sale.ahead("h5"), 4);
    assert_eq!(sale.queue.next_due_ms(), Some(OPENS_MS + 120_000));
    assert_eq!(sale.after(120), [Effect::Moved]);
    assert_eq!((sale.ahead("h5"), sale.ahead("h3"), sale.ahead("h1")), (3, 1, 0));
    assert_eq!(sale.queue.line(None).departed, Places::new(vec![2]));
    sale.here("h2");
    assert_eq!((sale.ahead("h5"), sale.ahead("h2"), sale.number("h2")), (3, 1, Some(2)), "nobody moves back");
    let effects = sale.does(Command::AdmitNext { count: 2, key: None });
    assert_eq!(admitted(&effects), ["h1", "h2"]);
}

#[test]
fn who_comes_back_late_is_admitted_as_soon_as_its_number_was_served() {
    let mut sale = Sale::opened(Inlet::Manual, 5);
    sale.away("h1");
    sale.away("h4");
    sale.after(120);
    assert_eq!(admitted(&sale.does(Command::Advance { to: 2 })), ["h2"]);
    assert_eq!(admitted(&sale.here("h1")), ["h1"]);
    assert_eq!(admitted(&sale.here("h4")), [""; 0]);
    assert_eq!(admitted(&sale.does(Command::Advance { to: 4 })), ["h3", "h4"]);
    assert_eq!((sale.queue.serving(), sale.ahead("h5")), (4, 0));
}

#[test]
fn whoever_came_back_late_keeps_the_turn_for_the_grace_like_everybody() {
    let next = |sale: &mut Sale, count| {
        let effects = sale.does(Command::AdmitNext { count, key: None });
        admitted(&effects).into_iter().map(String::from).collect::<Vec<_>>()
    };
    for (seconds, expected) in [(119, ["h1", "h2", "h3"]), (120, ["h1", "h3", "h4"])] {
        let mut sale = Sale::opened(Inlet::Manual, 5);
        sale.away("h2");
        sale.after(120);
        sale.here("h2");
        // As where a page is loaded again.
        sale.away("h2");
        sale.after(seconds);
        assert_eq!(next(&mut sale, 3), expected, "away for {seconds} s");
        let late = if seconds < 120 { Vec::new() } else { vec!["h2"] };
        assert_eq!(admitted(&sale.here("h2")), late, "its number was served");
    }
}

#[test]
fn admit_next_counts_people_who_are_here_and_not_numbers() {
    let mut sale = Sale::opened(Inlet::Manual, 6);
    for name in ["h1", "h2", "h4"] {
        sale.away(name);
    }
    sale.after(120);
    assert_eq!(admitted(&sale.does(Command::AdmitNext { count: 2, key: None })), ["h3", "h5"]);
    assert_eq!(sale.queue.serving(), 5);
    assert_eq!(admitted(&sale.does(Command::AdmitNext { count: u32::MAX, key: None })), ["h6"]);
    assert_eq!(sale.queue.serving(), 6);
}

#[test]
fn advancing_twice_is_advancing_once_and_never_goes_back() {
    let mut sale = Sale::opened(Inlet::Manual, 4);
    assert_eq!(sale.does(Command::Advance { to: 3 }).len(), 4, "three people, and the line moved");
    assert_eq!(sale.does(Command::Advance { to: 3 }), []);
    assert_eq!(sale.does(Command::Advance { to: 1 }), []);
    assert_eq!(sale.queue.serving(), 3);
}

#[test]
fn advancing_ends_at_the_last_place_so_that_nobody_who_comes_later_seems_to_be_served() {
    for inlet in [Inlet::Manual, Inlet::PerMinute(1), Inlet::Inside(1)] {
        let mut sale = Sale::opened(inlet, 2);
        sale.does(Command::Advance { to: 9 });
        assert_eq!((sale.queue.serving(), sale.queue.stats().admitted), (2, 2), "{inlet:?}");
        sale.does(Command::Pause { reason: "a rest".into() });
        (3..=5).for_each(|number| drop(sale.join(&format!("h{number}"))));
        assert_eq!((sale.queue.serving(), sale.ahead("h5")), (2, 2), "{inlet:?}");
        assert_eq!(admitted(&sale.does(Command::Advance { to: 4 })), ["h3", "h4"]);
    }
}

#[test]
fn a_pass_is_used_in_time_or_expires() {
    let mut sale = Sale::opened(Inlet::Manual, 3);
    sale.does(Command::Advance { to: 2 });
    assert_eq!(sale.queue.seat("h1").and_then(|seat| seat.claim_until_ms), Some(OPENS_MS + 60_000));
    let claimed = [Effect::Claimed { holder: "h1".into(), number: 1 }];
    assert_eq!((&*sale.claim("h1"), &*sale.claim("h1")), (&claimed[..], &claimed[..]));
    assert_eq!(refusal(&sale.claim("h3")), Some(Refusal::NotAdmitted));
    assert_eq!(refusal(&sale.claim("nobody")), Some(Refusal::NoPlace));
    let expired = Effect::Ended { holder: "h2".into(), number: Some(2), ending: Ending::Expired };
    assert_eq!(sale.after(60), [expired]);
    assert_eq!(refusal(&sale.claim("h2")), Some(Refusal::Expired));
    sale.join("h2");
    assert_eq!((sale.number("h2"), sale.state("h1")), (Some(4), Some(State::Inside)), "it queues anew");
    let stats = sale.queue.stats();
    assert_eq!((stats.admitted, stats.holding, stats.inside, stats.expired), (2, 0, 1, 1));
}

#[test]
fn whoever_used_a_pass_can_have_it_again_until_it_expires() {
    let mut sale = Sale::opened(Inlet::Manual, 1);
    sale.does(Command::Advance { to: 1 });
    sale.claim("h1");
    let until_ms = |sale: &Sale| sale.queue.seat("h1").and_then(|seat| seat.claim_until_ms);
    sale.after(59);
    assert_eq!((until_ms(&sale), sale.state("h1")), (Some(OPENS_MS + 60_000), Some(State::Inside)));
    sale.after(1);
    assert_eq!((until_ms(&sale), sale.state("h1")), (None, Some(State::Inside)));
}

#[test]
fn whoever_stays_too_long_makes_room() {
    let mut sale = Sale::new(Terms { stay_ms: 600_000, ..terms(Inlet::Inside(1)) });
    sale.at(OPENS_MS);
    assert_eq!(admitted(&sale.join("h1")), ["h1"]);
    sale.join("h2");
    sale.claim("h1");
    assert_eq!(admitted(&sale.after(599)), [""; 0]);
    assert_eq!(admitted(&sale.after(1)), ["h2"]);
    assert_eq!(sale.queue.stats().abandoned, 1);
}

#[test]
fn at_most_so_many_are_inside_and_who_goes_lets_the_next_in() {
    let mut sale = Sale::opened(Inlet::Inside(2), 5);
    assert_eq!((sale.queue.serving(), sale.queue.stats().holding), (2, 2));
    sale.claim("h1");
    assert_eq!(admitted(&sale.does(Command::Complete { holder: "h1".into(), place: None })), ["h3"]);
    assert_eq!(admitted(&sale.leave("h2")), ["h4"]);
    assert_eq!(admitted(&sale.after(60)), ["h5"], "two passes expired, one was left");
    assert_eq!(sale.queue.next_due_ms(), Some(OPENS_MS + 120_000), "its pass");
}

#[test]
fn a_rate_counts_people_who_arrive() {
    let mut sale = Sale::opened(Inlet::PerMinute(60), 200);
    assert_eq!((sale.queue.serving(), sale.queue.next_due_ms()), (1, Some(OPENS_MS + 1_000)));
    for second in 1..120 {
        sale.after(1);
        let stats = sale.queue.stats();
        // From the sixtieth second on passes of the first minute expire, one a second, and are made up for.
        let owed = if second < 60 { 0 } else { second - 59 };
        assert_eq!((stats.admitted, stats.expired), (1 + second + owed, owed), "after {second} s");
    }
}

#[test]
fn a_rate_passes_over_whoever_departed() {
    let mut sale = Sale::opened(Inlet::PerMinute(1), 10);
    (2..=9).for_each(|number| drop(sale.away(&format!("h{number}"))));
    sale.claim("h1");
    sale.does(Command::Pause { reason: "wait".into() });
    sale.after(120);
    sale.does(Command::Resume);
    assert_eq!(admitted(&sale.after(60)), ["h10"]);
}

#[test]
fn a_pause_lets_nobody_in_by_itself_and_saves_nothing_up() {
    let mut sale = Sale::opened(Inlet::PerMinute(60), 200);
    let reason: Arc<str> = "payments are slow".into();
    let paused = [Effect::Paused { reason: Arc::clone(&reason) }, Effect::Moved];
    assert_eq!(sale.does(Command::Pause { reason: "payments are slow".into() }), paused);
    assert_eq!(sale.queue.line(None).state, LineState::Paused { reason, opens_at_ms: None });
    sale.claim("h1");
    assert_eq!((sale.after(600), sale.queue.next_due_ms(), sale.queue.line(None).pace), (vec![], None, None));
    assert_eq!(admitted(&sale.does(Command::AdmitNext { count: 1, key: None })), ["h2"], "an operator may");
    assert_eq!(sale.does(Command::Resume), [Effect::Resumed, Effect::Moved]);
    assert_eq!((sale.does(Command::Resume), admitted(&sale.after(1))), (vec![], vec!["h3"]));
}

#[test]
fn an_inlet_waits_for_what_sells_beside_any_pause() {
    let mut sale = Sale::opened(Inlet::Inside(1), 9);
    let down = || Command::TargetDown { reason: "full".into() };
    let paused = |reason: &str| [Effect::Paused { reason: reason.into() }, Effect::Moved];
    assert_eq!(sale.queue.target_news(Some("full")), Some(down()));
    assert_eq!((sale.does(down()), sale.does(down())), (paused("full").to_vec(), vec![]));
    assert_eq!(
        (sale.queue.target_news(Some("full")), sale.queue.target_news(None)),
        (None, Some(Command::TargetUp))
    );
    sale.claim("h1");
    assert_eq!(admitted(&sale.does(Command::Complete { holder: "h1".into(), place: None })), [""; 0]);
    assert_eq!(admitted(&sale.does(Command::AdmitNext { count: 1, key: None })), ["h2"], "an operator may");
    // Neither ends the other.
    assert_eq!(sale.does(Command::Pause { reason: "rest".into() }), paused("rest"));
    let both = Pauses { operator: Some("rest".into()), target: Some("full".into()) };
    assert_eq!(sale.queue.pauses(), both);
    assert_eq!(sale.does(Command::Resume), paused("full"));
    sale.does(Command::Pause { reason: "rest".into() });
    assert_eq!((sale.does(Command::TargetUp), sale.queue.target_news(None)), (vec![], None));
    assert_eq!(sale.queue.line(None).state, LineState::Paused { reason: "rest".into(), opens_at_ms: None });
    assert_eq!(sale.does(Command::Resume), [Effect::Resumed, Effect::Moved]);
    assert_eq!(admitted(&sale.does(Command::Abandon { holder: "h2".into(), place: None })), ["h3"]);

    // Whom operators let in they let in; and before the opening nobody is kept waiting by it.
    let mut sale = Sale::new(terms(Inlet::Manual));
    assert_eq!(sale.does(down()), []);
    sale.at(OPENS_MS);
    sale.join("h1");
    assert_eq!(
        (sale.queue.line(None).state, admitted(&sale.does(Command::Advance { to: 1 }))),
        (LineState::Open, vec!["h1"])
    );
    sale.does(Command::Open(Box::new(terms(Inlet::Inside(5)))));
    assert_eq!(sale.queue.line(None).state, LineState::Paused { reason: "full".into(), opens_at_ms: None });
    sale.does(Command::Close);
    assert_eq!(sale.queue.pauses(), Pauses::default());
    assert_eq!((sale.queue.target_news(None), sale.does(Command::TargetUp)), (None, vec![]));
}

#[test]
fn sold_out_is_told_and_nobody_is_admitted_any_more() {
    let mut sale = Sale::opened(Inlet::Inside(1), 3);
    assert_eq!(sale.does(Command::SellOut), [Effect::SoldOut, Effect::Moved]);
    assert_eq!(sale.does(Command::SellOut), []);
    sale.claim("h1");
    assert_eq!(admitted(&sale.does(Command::Complete { holder: "h1".into(), place: None })), [""; 0]);
    assert_eq!(refusal(&sale.does(Command::AdmitNext { count: 1, key: None })), Some(Refusal::SoldOut));
    assert_eq!(refusal(&sale.join("new")), Some(Refusal::SoldOut));
    assert_eq!(refusal(&sale.join("h2")), None, "it has a place, and hears about it");
    assert_eq!(sale.does(Command::Close), [Effect::Closed, Effect::Moved]);
    assert_eq!((sale.does(Command::SellOut), sale.queue.line(None).state), (vec![], LineState::Closed));
    assert_eq!(refusal(&sale.join("new")), Some(Refusal::Closed));
}

#[test]
fn what_was_sold_out_goes_on_where_it_stood() {
    let mut sale = Sale::opened(Inlet::PerMinute(60), 9);
    sale.after(2);
    let before = (sale.queue.line(None), sale.ahead("h9"));
    sale.does(Command::SellOut);
    assert_eq!(admitted(&sale.after(20)), [""; 0]);
    assert_eq!(sale.does(Command::Reopen), [Effect::Moved], "nothing was saved up meanwhile");
    let now = sale.queue.line(None);
    assert_eq!((now.serving, now.state, sale.ahead("h9")), (before.0.serving, LineState::Open, before.1));
    assert_eq!(sale.does(Command::Reopen), [], "repeated");
    sale.join("new");
    assert_eq!((sale.number("new"), admitted(&sale.after(1)).len()), (Some(10), 1));
    sale.does(Command::Pause { reason: "rest".into() });
    sale.does(Command::SellOut);
    sale.does(Command::Reopen);
    assert!(matches!(sale.queue.line(None).state, LineState::Paused { .. }), "the pause is another thing");
    sale.does(Command::Close);
    assert_eq!(refusal(&sale.does(Command::Reopen)), Some(Refusal::Closed));
}

#[test]
fn what_was_sold_out_before_it_opened_opens_when_it_goes_on() {
    let mut sale = Sale::new(terms(Inlet::Manual));
    sale.join("h1");
    for (opens, at_ms) in [(false, OPENS_MS - 5_000), (true, OPENS_MS + 1)] {
        sale.does(Command::SellOut);
        assert_eq!(sale.at(at_ms), []);
        sale.does(Command::Reopen);
        assert_eq!(
            (sale.queue.line(None).state == LineState::Open, sale.number("h1").is_some()),
            (opens, opens)
        );
    }
}

#[test]
fn a_queue_that_is_closed_before_it_opens_never_opens() {
    let mut sale = Sale::new(terms(Inlet::PerMinute(5)));
    sale.join("h1");
    sale.does(Command::Close);
    sale.at(OPENS_MS + 1);
    assert_eq!((sale.number("h1"), sale.queue.holder(1), sale.queue.next_due_ms()), (None, None, None));
    sale.away("h1");
    sale.after(200);
    sale.join("h1");
    assert_eq!((sale.number("h1"), sale.state("h1")), (None, Some(State::Waiting)));
}

#[test]
fn terms_may_change_but_for_the_seed_and_a_past_opening() {
    let mut sale = Sale::new(terms(Inlet::Manual));
    let open = |terms: Terms| Command::Open(Box::new(terms));
    let later = Terms { opens_at_ms: OPENS_MS + 5_000, ..terms(Inlet::Manual) };
    assert_eq!(sale.does(open(later.clone())), [Effect::Moved]);
    assert_eq!(
        refusal(&sale.does(open(Terms { seed: [4; 32], ..later.clone() }))),
        Some(Refusal::SeedIsSettled)
    );
    assert_eq!(refusal(&sale.does(open(Terms { claim_ms: 0, ..later.clone() }))), Some(Refusal::Terms));
    assert_eq!(refusal(&sale.does(Command::Advance { to: 1 })), Some(Refusal::NotOpen));
    sale.at(OPENS_MS);
    sale.join("h1");
    assert_eq!(sale.number("h1"), None);
    sale.after(5);
    assert_eq!(sale.number("h1"), Some(1));
    assert_eq!(admitted(&sale.does(open(Terms { opens_at_ms: 0, ..terms(Inlet::Inside(1)) }))), ["h1"]);
    assert_eq!(sale.queue.terms().opens_at_ms, OPENS_MS + 5_000);
}

#[test]
fn terms_that_nobody_asks_for_stay_and_nothing_opens_by_the_way() {
    let first = Terms { stay_ms: 5_000, ..terms(Inlet::PerMinute(60)) };
    let mut sale = Sale::new(first.clone());
    let unsaid = vec![Term::Opening, Term::Inlet, Term::Grace, Term::Stay, Term::Places];
    let shorter = Terms { opens_at_ms: 0, claim_ms: 30_000, grace_ms: 1, ..terms(Inlet::Manual) };
    sale.does(Command::Open(Box::new(Terms { kept: unsaid, places_max: 9, ..shorter })));
    assert_eq!(sale.queue.terms(), &Terms { claim_ms: 30_000, ..first.clone() });
    assert_eq!(sale.queue.opens_at_ms(), Some(OPENS_MS));
    let unsaid = vec![Term::Inlet, Term::Claim];
    sale.does(Command::Open(Box::new(Terms { opens_at_ms: 0, kept: unsaid, ..terms(Inlet::Manual) })));
    assert_eq!((sale.queue.opens_at_ms(), sale.queue.terms().inlet), (None, Inlet::PerMinute(60)));
}

#[test]
fn an_opening_in_a_while_is_moved_by_another_while_or_a_time_alone() {
    let mut sale = Sale::new(terms(Inlet::Manual));
    for (passed_ms, opens_at_ms, opens_in_ms, expected) in [
        (0, 0, 20_000, 10_000),
        (3_000, 0, 20_000, 10_000),
        (0, 0, 30_000, 23_000),
        (0, OPENS_MS + 9_000, 0, 9_000),
        (1_000, 0, 30_000, 24_000),
    ] {
        sale.at_ms += passed_ms;
        sale.does(Command::Open(Box::new(Terms { opens_at_ms, opens_in_ms, ..terms(Inlet::Manual) })));
        assert_eq!(sale.queue.opens_at_ms(), Some(OPENS_MS + expected), "in {opens_in_ms} ms");
    }
}

#[test]
fn a_queue_says_whether_there_is_a_draw_or_why_not() {
    let mut sale = Sale::new(terms(Inlet::Manual));
    assert_eq!(sale.queue.draw(), Err(Refusal::NotOpen));
    sale.join("h1");
    assert_eq!(sale.queue.draw(), Err(Refusal::NotOpen));
    sale.at(OPENS_MS);
    assert_eq!(sale.queue.draw(), Ok(()));
    sale.does(Command::Close);
    assert_eq!(sale.queue.draw(), Ok(()), "its receipts can still be checked");
    assert_eq!(Sale::opened(Inlet::Manual, 1).queue.draw(), Err(Refusal::NotDrawn));
    let mut sale = Sale::new(terms(Inlet::Manual));
    sale.join("h1");
    sale.leave("h1");
    sale.at(OPENS_MS);
    assert_eq!(sale.queue.draw(), Err(Refusal::NotDrawn), "nobody stayed");
}

#[test]
fn bounds_are_refused_by_name() {
    let mut sale = Sale::new(Terms { places_max: 2, ..terms(Inlet::Manual) });
    sale.at(OPENS_MS);
    for name in ["a", "b"] {
        sale.join(name);
    }
    assert_eq!((refusal(&sale.join("c")), refusal(&sale.join("a"))), (Some(Refusal::Full), None));
    assert_eq!(refusal(&sale.here("c")), Some(Refusal::NoPlace));
    let mut sale = Sale::opened(Inlet::Manual, 1);
    for round in 1..=PLACES_PER_HOLDER_MAX {
        assert_eq!((refusal(&sale.join("a")), sale.number("a")), (None, Some(1 + u32::from(round))));
        sale.leave("a");
    }
    assert_eq!(refusal(&sale.join("a")), Some(Refusal::TooManyPlaces));
    let mut early = Sale::new(terms(Inlet::Manual));
    for _ in 0..=RETURNS_PER_HOLDER_MAX {
        assert_eq!(refusal(&early.join("a")), None);
        early.leave("a");
    }
    assert_eq!(refusal(&early.join("a")), Some(Refusal::TooManyPlaces));
    let here = |name: usize| Command::Here { holder: "h1".into(), instance: name.to_string().into() };
    (1..QUEUE_INSTANCES_MAX).for_each(|name| assert_eq!(sale.does(here(name)), []));
    assert_eq!(refusal(&sale.does(here(0))), Some(Refusal::TooManyInstances));
    sale.does(Command::InstanceGone { instance: "7".into() });
    assert_eq!(refusal(&sale.does(here(0))), None);
}

#[test]
fn an_instance_that_is_gone_takes_its_connections_with_it_after_the_grace() {
    let mut sale = Sale::opened(Inlet::Manual, 3);
    sale.does(Command::Here { holder: "h2".into(), instance: "other".into() });
    sale.does(Command::InstanceGone { instance: "i".into() });
    sale.after(60);
    sale.does(Command::Here { holder: "h3".into(), instance: "other".into() });
    sale.after(60);
    let states = ["h1", "h2", "h3"].map(|name| sale.state(name));
    assert_eq!(states, [Some(State::Departed), Some(State::Waiting), Some(State::Waiting)]);
}

#[test]
fn the_wait_is_estimated_from_the_rate_and_then_from_what_was_measured() {
    let mut sale = Sale::opened(Inlet::PerMinute(60), 900);
    // Nor do the first few who are let in say anything else.
    for _ in 0..10 {
        let wait = sale.queue.line(None).pace.expect("the inlet says").wait_seconds(100);
        assert_eq!(wait, (80, 125));
        sale.after(1);
    }
    for _ in 0..300 {
        let effects = sale.after(1);
        admitted(&effects).into_iter().for_each(|name| drop(sale.claim(name)));
    }
    let (low, high) = sale.queue.line(None).pace.expect("it moves").wait_seconds(100);
    assert!((75..=85).contains(&low) && (120..=130).contains(&high), "{low} to {high} s for 100 s");
    let mut manual = Sale::opened(Inlet::Manual, 100);
    assert_eq!(manual.queue.line(None).pace, None);
    manual.does(Command::Advance { to: 50 });
    assert!(manual.queue.line(None).pace.is_some());
}
