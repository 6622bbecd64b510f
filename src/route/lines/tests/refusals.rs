//! Why somebody gets no place.

use super::*;
use crate::limits::{PLACES_PER_HOLDER_MAX, QUEUE_INSTANCES_MAX};

#[test]
fn who_gets_no_place_hears_why() {
    let (mut history, mut one) = (history(), Instance::new(1));
    let Command::Open(mut terms) = open(Inlet::Manual) else { panic!("no terms") };
    terms.places_max = u32::from(PLACES_PER_HOLDER_MAX) + 1;
    one.operate(&mut history, Some(Command::Open(terms)));
    for _ in 0..PLACES_PER_HOLDER_MAX {
        assert!(ticket(&one.join(&mut history, "ann", 1)).is_some());
        one.turn(&mut history, Input::Leave { holder: "u:ann".into(), asked: asked(1) });
    }
    assert_eq!(denial(&one.join(&mut history, "ann", 1)), Some(LineDenial::TooManyPlaces));
    assert!(ticket(&one.join(&mut history, "bob", 2)).is_some());
    assert_eq!(denial(&one.join(&mut history, "cid", 3)), Some(LineDenial::Full));
    // As many as can be told apart: bob comes to each.
    for seed in 2..=QUEUE_INSTANCES_MAX as u64 {
        assert!(ticket(&Instance::new(seed).join(&mut history, "bob", 2)).is_some(), "{seed}");
    }
    let told = denial(&Instance::new(99).join(&mut history, "bob", 2));
    assert!(matches!(told, Some(LineDenial::Overloaded { retry_after_ms: 1_000.. })), "{told:?}");
    one.operate(&mut history, Some(Command::Close));
    assert_eq!(denial(&one.join(&mut history, "cid", 3)), Some(LineDenial::Over));
}
