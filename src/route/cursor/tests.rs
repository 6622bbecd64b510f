use super::*;
use crate::{
    event::{Class, Target},
    route::tests::event,
};

fn mark(epoch: &str, offset: u64) -> Mark {
    Mark { epoch: epoch.into(), offset }
}

fn head(epoch: &str, offset: u64) -> Head {
    Head { epoch: epoch.into(), offset, acknowledged: 0 }
}

fn stored(epoch: &str, offset: u64) -> Arc<Event> {
    let position = Some(Position { stream: "user:ann".into(), epoch: epoch.into(), offset });
    Arc::new(Event { position, ..event(Target::User("ann".into()), Class::Critical) })
}

/// Stands at 3 of the epoch `a`, has the fifth parked, and misses the fourth.
fn behind() -> Cursor {
    let mut cursor = Cursor::default();
    cursor.head(&head("a", 3), &mut Moved::default());
    cursor.hear(stored("a", 5), &mut Moved::default());
    assert!(cursor.fill_due);
    cursor
}

/// What the store gives after a place, and where the cursor stands then.
fn told(cursor: &mut Cursor, at: (&str, u64), page: Page) -> (Option<Mark>, Vec<u64>) {
    (cursor.filling, cursor.fill_due) = (true, false);
    let mut moved = Moved::default();
    cursor.page(at, page, &mut moved);
    cursor.check_invariants();
    let offset = |event: &Arc<Event>| event.position.as_ref().unwrap().offset;
    (moved.resync, moved.ready.iter().map(offset).collect())
}

fn joins_not(head: Head, rest: u64) -> Page {
    Page { head, events: None, rest }
}

#[test]
fn what_is_left_of_a_gap_follows_the_news_that_the_rest_is_lost() {
    for epoch in ["a", "b"] {
        let mut cursor = behind();
        let page = joins_not(head(epoch, 9), 6);
        assert_eq!(told(&mut cursor, ("a", 3), page), (Some(mark(epoch, 6)), vec![]));
        assert!(cursor.fill_due, "the store has more");
        let events = Some((7..=9).map(|offset| stored(epoch, offset)).collect());
        let page = Page { head: head(epoch, 9), events, rest: 6 };
        assert_eq!(told(&mut cursor, (epoch, 6), page), (None, vec![7, 8, 9]));
        assert!(!cursor.fill_due);
    }
}

#[test]
fn what_is_parked_follows_where_it_joins_what_is_left() {
    let mut cursor = behind();
    assert_eq!(told(&mut cursor, ("a", 3), joins_not(head("a", 5), 4)), (Some(mark("a", 4)), vec![5]));
    assert!(!cursor.fill_due);
}

#[test]
fn another_history_is_told_from_where_it_has_something_new() {
    let mut cursor = behind();
    assert_eq!(told(&mut cursor, ("a", 3), joins_not(head("b", 2), 0)), (Some(mark("b", 0)), vec![]));
    assert!(cursor.fill_due);
}

#[test]
fn an_entry_that_cannot_be_had_is_passed_over_once() {
    let mut cursor = behind();
    assert_eq!(told(&mut cursor, ("a", 3), joins_not(head("a", 9), 3)), (Some(mark("a", 9)), vec![]));
    assert!(!cursor.fill_due);
}

#[test]
fn a_stream_that_is_gone_begins_anew_by_its_head_and_is_read_then() {
    let mut cursor = behind();
    assert_eq!(told(&mut cursor, ("a", 3), joins_not(head("", 0), 0)), (None, vec![]));
    assert!(cursor.head_due && !cursor.fill_due);
    cursor.head(&head("b", 0), &mut Moved::default());
    assert!(cursor.fill_due);
    assert_eq!(told(&mut cursor, ("a", 3), joins_not(head("b", 0), 0)), (Some(mark("b", 0)), vec![]));
    assert!(!cursor.fill_due);
}
