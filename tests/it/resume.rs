use serde_json::json;

use crate::support::{
    frame::{PING, masked},
    grpc::{Backend, to_user},
    server::Server,
    ws::{Ask, Heard},
};

#[test]
fn what_comes_before_the_first_message_is_held_for_who_says_so() {
    // On one shard, what has come to one connection has come to the other.
    let server = Server::with(&[("SHARDS", "1")]);
    let ask = |target: &str| server.ask(&Ask::to(target).bearer(&server.token("ann"))).greeted();
    let (mut waiting, mut plain) = (ask("/ws?resume=wait"), ask("/ws"));
    let backend = Backend::of(&server);
    let event = to_user("ann", "booking:confirmed", "1");
    backend.send_to_user(event).expect("accepted");
    assert_eq!(plain.message()["offset"], 1);
    waiting.bytes(&masked(PING, b"held"));
    assert_eq!(waiting.hear(), Heard::Pong(b"held".to_vec()), "a control frame is no message");
    waiting.send("system:ping", &json!(7));
    assert_eq!(waiting.message()["offset"], 1);
    assert_eq!(waiting.expect("system:pong"), 7);
}

#[test]
fn a_resume_that_makes_no_sense_is_answered() {
    let server = Server::with(&[("ROOM_STREAMS", "sale:*")]);
    let mut ann = server.connect_as("ann");
    for (streams, code) in [
        (json!([{"stream": "user:ann", "epoch": "e", "offset": -1}]), "invalid_payload"),
        (json!([{"stream": "user:ann", "epoch": 7, "offset": 1}]), "invalid_payload"),
        (json!([{"stream": "user:ann", "epoch": "e", "offset": 1_u64 << 53}]), "invalid_payload"),
        (json!(vec!["user:ann"; 130]), "invalid_payload"),
        (json!([{"stream": "user:bob", "epoch": "e", "offset": 1}]), "not_allowed"),
        (json!([{"stream": "room:event:1", "epoch": "e", "offset": 1}]), "not_kept"),
    ] {
        ann.send("system:resume", &json!({ "streams": streams }));
        assert_eq!(ann.expect_error(), code, "{streams}");
    }
    ann.send("system:ack", &json!({"stream": "room:sale:1", "offset": 1}));
    assert_eq!(ann.expect_error(), "not_allowed");
}
