//! News of a queue that the shard missed.

use super::*;

#[test]
fn news_that_do_not_follow_are_not_believed_and_the_whole_is_asked_for() {
    let mut scene = Scene::in_line();
    scene.tell(&whole(5, 10, &[]));
    let conn = scene.waiter(1, 100);
    scene.learnt();
    scene.pass(Duration::from_secs(2));
    scene.tell(&news(7, 90, &[(91, 95)]));
    scene.tell(&news(4, 1, &[]));
    scene.tell(&whole(5, 1, &[]));
    assert_eq!(scene.read(conn), Vec::<String>::new());
    assert_eq!(scene.learnt(), [("lost event-1".into(), 0)]);
    assert_eq!(scene.learnt(), [], "once");
    scene.tell(&news(8, 91, &[]));
    assert_eq!(scene.learnt(), [("lost event-1".into(), 0)], "and once more, should the answer be lost");
    scene.tell(&whole(8, 91, &[(91, 95)]));
    assert_eq!(position(&scene.read(conn)), (5, 4));
    scene.pass(Duration::from_secs(2));
    scene.tell(&news(9, 92, &[]));
    assert_eq!(position(&scene.read(conn)), (5, 4), "those who departed do not count twice");
}

#[test]
fn a_place_in_a_queue_that_the_shard_does_not_know_asks_for_the_whole() {
    let mut scene = Scene::in_line();
    let conn = scene.anonymous(1);
    scene.seat(conn, "a:1", Ticket::Place(3));
    assert_eq!(scene.learnt(), [("lost event-1".into(), 0), ("a:1".into(), 1)]);
    assert_one(&scene.read(conn), &["queue:joined"]);
    scene.tell(&whole(3, 1, &[]));
    assert_eq!(position(&scene.read(conn)), (2, 1));
}
