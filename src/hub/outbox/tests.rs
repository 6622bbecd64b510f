use super::*;

const BOUNDS: Bounds = Bounds { messages_max: 4, bytes_max: 100 };

fn frame(text: &str, class: Class) -> Rc<Frame> {
    versioned(text, class, None)
}

fn versioned(text: &str, class: Class, version: Option<u64>) -> Rc<Frame> {
    control(text, Role::Event { class, version, accepted_at_ns: 0 })
}

fn control(text: &str, role: Role) -> Rc<Frame> {
    Rc::new(Frame::new(text.into(), role, 0))
}

fn latest(key: u64) -> Class {
    Class::Latest(LatestKey(key))
}

/// Everything that waits, as one call would write it.
fn waiting(outbox: &Outbox) -> String {
    outbox.check_invariants(BOUNDS);
    let bytes: Vec<u8> = outbox.gather(None, |all| all.iter().flat_map(|slice| slice.to_vec()).collect());
    String::from_utf8(bytes).unwrap()
}

fn filled(texts: &[(&str, Class)]) -> Outbox {
    let mut outbox = Outbox::default();
    for (text, class) in texts {
        assert_eq!(outbox.offer(&frame(text, class.clone()), BOUNDS), Offered::Queued { evicted: 0 });
    }
    outbox
}

#[test]
fn an_idle_outbox_is_small() {
    assert!(size_of::<Outbox>() <= 32);
}

#[test]
fn frames_leave_in_the_order_they_came() {
    let mut outbox = filled(&[("a", Class::Ordered), ("bc", Class::Critical), ("d", Class::Ephemeral)]);
    assert_eq!(waiting(&outbox), "abcd");
    let mut sent = Vec::new();
    outbox.advance(None, 2, |frame| sent.push(frame.bytes.clone()));
    assert_eq!((sent.concat(), waiting(&outbox)), (b"a".to_vec(), "cd".into()));
    outbox.advance(None, 2, |frame| sent.push(frame.bytes.clone()));
    assert_eq!((sent.concat(), outbox.is_empty()), (b"abcd".to_vec(), true));
    assert!(outbox.rest.is_none());
}

#[test]
fn a_gather_write_is_bounded_and_goes_on() {
    let bounds = Bounds { messages_max: 1_000, bytes_max: 1_000 };
    let mut outbox = Outbox::default();
    for _ in 0..GATHER_FRAMES_MAX + 3 {
        outbox.offer(&frame("x", Class::Ordered), bounds);
    }
    assert_eq!(outbox.gather(None, |slices| slices.len()), GATHER_FRAMES_MAX);
    outbox.advance(None, GATHER_FRAMES_MAX, |_| {});
    assert_eq!(outbox.gather(None, |slices| slices.len()), 3);
}

#[test]
fn what_does_not_fit_is_treated_by_its_class() {
    let (o, e) = (Class::Ordered, Class::Ephemeral);
    let full = || filled(&[("a", o.clone()), ("b", e.clone()), ("c", e.clone()), ("d", o.clone())]);
    let table = [
        (o.clone(), Offered::Queued { evicted: 2 }, "adx"),
        (Class::Critical, Offered::Queued { evicted: 2 }, "adx"),
        (e.clone(), Offered::Dropped, "abcd"),
        (latest(1), Offered::Queued { evicted: 2 }, "adx"),
    ];
    for (class, expected, left) in table {
        let mut outbox = full();
        assert_eq!(outbox.offer(&frame("x", class.clone()), BOUNDS), expected, "{class:?}");
        assert_eq!(waiting(&outbox), left, "{class:?}");
    }
}

#[test]
fn an_ordered_message_that_does_not_fit_ends_the_connection() {
    let o = Class::Ordered;
    let mut outbox = filled(&[("a", o.clone()), ("b", o.clone()), ("c", o.clone()), ("d", o.clone())]);
    assert_eq!(outbox.offer(&frame("x", o.clone()), BOUNDS), Offered::TooSlow);
    let mut outbox = filled(&[(&"a".repeat(60), o.clone())]);
    assert_eq!(outbox.offer(&frame(&"b".repeat(41), o.clone()), BOUNDS), Offered::TooSlow);
    assert_eq!(outbox.offer(&frame(&"b".repeat(40), o), BOUNDS), Offered::Queued { evicted: 0 });
}

#[test]
fn one_message_always_fits() {
    let mut outbox = Outbox::default();
    outbox.push_control(&control("P", Role::Ping));
    let large = frame(&"x".repeat(1_000), Class::Ephemeral);
    assert_eq!(outbox.offer(&large, BOUNDS), Offered::Queued { evicted: 0 });
}

#[test]
fn a_latest_value_is_replaced_in_its_place() {
    let mut outbox = filled(&[("a", latest(1)), ("b", Class::Ordered), ("c", latest(2))]);
    assert_eq!(outbox.offer(&frame("AA", latest(1)), BOUNDS), Offered::Conflated);
    assert_eq!(outbox.offer(&frame("C", latest(2)), BOUNDS), Offered::Conflated);
    assert_eq!(waiting(&outbox), "AAbC");
}

#[test]
fn a_latest_value_half_written_is_not_touched() {
    let mut outbox = filled(&[("abc", latest(1))]);
    outbox.advance(None, 1, |_| {});
    assert_eq!(outbox.offer(&frame("new", latest(1)), BOUNDS), Offered::Queued { evicted: 0 });
    assert_eq!(outbox.offer(&frame("newer", latest(1)), BOUNDS), Offered::Conflated);
    assert_eq!(waiting(&outbox), "bcnewer");
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let mut outbox = Outbox::default();
    for (text, version) in [("5", Some(5)), ("4", Some(4)), ("6", Some(6)), ("6'", Some(6))] {
        outbox.offer(&versioned(text, latest(1), version), BOUNDS);
    }
    assert_eq!(waiting(&outbox), "6'");
    outbox.offer(&frame("?", latest(1)), BOUNDS);
    assert_eq!(waiting(&outbox), "?", "without a version the newest arrival wins");
}

#[test]
fn latest_values_may_exceed_the_bound_a_little() {
    let mut outbox = filled(&["a"; 4].map(|text| (text, Class::Ordered)));
    for key in 0..LATEST_EXTRA_MESSAGES_MAX as u64 {
        assert_eq!(outbox.offer(&frame("x", latest(key)), BOUNDS), Offered::Queued { evicted: 0 });
    }
    assert_eq!(outbox.offer(&frame("x", latest(999)), BOUNDS), Offered::TooSlow);
    assert_eq!(outbox.offer(&frame("y", latest(0)), BOUNDS), Offered::Conflated);
    let large = frame(&"y".repeat(LATEST_EXTRA_BYTES_MAX + 100), latest(0));
    assert_eq!(outbox.offer(&large, BOUNDS), Offered::TooSlow);
}

#[test]
fn control_frames_always_fit_and_do_not_pile_up() {
    let mut outbox = filled(&["a"; 4].map(|text| (text, Class::Ordered)));
    for n in 0..40 {
        outbox.push_control(&control("P", Role::Ping));
        outbox.push_control(&control(if n < 39 { "o" } else { "O" }, Role::Pong));
    }
    assert_eq!(waiting(&outbox), format!("aaaaP{}O", "o".repeat(15)), "the newest pong is the last");
    outbox.advance(None, 7, |_| {});
    outbox.push_control(&control("+", Role::Pong));
    assert_eq!(waiting(&outbox), format!("{}O+", "o".repeat(13)));
}

#[test]
fn a_close_frame_can_be_taken_back_until_it_is_begun() {
    for before in [&[][..], &[("a", Class::Ordered)], &[("a", Class::Ordered), ("b", Class::Ordered)]] {
        let mut outbox = filled(before);
        assert!(outbox.take_close().is_none());
        let without = waiting(&outbox);
        outbox.push_control(&control("X", Role::Close));
        assert!(outbox.take_close().is_some());
        assert_eq!(waiting(&outbox), without);
    }
    let mut outbox = filled(&[]);
    outbox.push_control(&control("XY", Role::Close));
    outbox.advance(None, 1, |_| {});
    assert!(outbox.take_close().is_none());
}

#[test]
fn clearing_keeps_what_was_begun() {
    let mut outbox = filled(&[("abc", Class::Ordered), ("d", Class::Ordered)]);
    outbox.advance(None, 1, |_| {});
    outbox.clear();
    outbox.push_control(&control("X", Role::Close));
    assert_eq!(waiting(&outbox), "bcX");
    let mut outbox = filled(&[("abc", Class::Ordered)]);
    outbox.clear();
    assert!(outbox.is_empty());
}
