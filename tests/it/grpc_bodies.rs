//! G2: bodies that are no gRPC messages, or none that the gateway takes, over a real socket.

use prost::Message;
use tonic::Code;
use usher::{generated::realtime::BroadcastEventRequest, limits::JSON_DEPTH_MAX};

use crate::support::{
    grpc::{Backend, to_room},
    server::Server,
};

#[test]
fn a_message_that_is_too_large_is_refused() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let large = format!("\"{}\"", "x".repeat(300_000));
    let refused = backend.broadcast_event(to_room("event:1", "ticket:sold", &large)).expect_err("too large");
    assert!([Code::InvalidArgument, Code::ResourceExhausted].contains(&refused.code()), "{refused}");
    let huge = format!("\"{}\"", "x".repeat(5 << 20));
    let refused = backend.broadcast_event(to_room("event:1", "ticket:sold", &huge)).expect_err("too large");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("4194304 bytes"), "the limit is named: {refused}");
    backend.stats().expect("the gateway lives on");
}

#[test]
fn a_body_that_is_no_message_is_the_callers_fault_alone() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let message = to_room("event:1", "ticket:sold", "{}").encode_to_vec();
    let length = message.len();
    let table = [
        ("whole", prefixed(length, &message), Code::Ok),
        ("a prefix that promises more", prefixed(length + 1, &message), Code::Internal),
        ("a prefix that promises less", prefixed(length - 1, &message), Code::Internal),
        ("a prefix cut short", vec![0, 0, 0], Code::Internal),
        ("nothing", Vec::new(), Code::Internal),
        ("a prefix of 4 GiB", prefixed(u32::MAX as usize, &message), Code::ResourceExhausted),
        ("a flag that nobody defined", vec![7, 0, 0, 0, 0], Code::Internal),
        ("a message cut short", prefixed(length - 1, &message[..message.len() - 1]), Code::Internal),
        ("no protobuf", prefixed(4, b"\xff\xff\xff\xff"), Code::Internal),
    ];
    for (what, body, expected) in table {
        assert_eq!(backend.send("BroadcastEvent", body).code(), expected, "{what}");
    }
    backend.stats().expect("the gateway lives on");
}

#[test]
fn a_payload_too_deep_is_refused_at_every_depth() {
    let server = Server::start();
    let backend = Backend::of(&server);
    for (depth, expected) in [
        (10, Code::Ok),
        // One deeper than JSON may be here, the outermost object included.
        (JSON_DEPTH_MAX, Code::InvalidArgument),
        // Deeper than protobuf messages may be.
        (10_000, Code::Internal),
    ] {
        let status = backend.send("BroadcastEvent", nested(depth));
        assert_eq!(status.code(), expected, "{depth}: {}", status.message());
    }
    backend.stats().expect("the gateway lives on");
}

/// A `BroadcastEventRequest` whose payload nests so many objects: `fields["a"].struct_value` of each is the next.
fn nested(depth: usize) -> Vec<u8> {
    let payload = (0..depth).fold(Vec::new(), |inner, _| {
        let value = delimited(5, &inner);
        delimited(1, &[delimited(1, b"a"), delimited(2, &value)].concat())
    });
    let event = BroadcastEventRequest { body: None, ..to_room("event:1", "ticket:sold", "") };
    let message = [event.encode_to_vec(), delimited(3, &payload)].concat();
    prefixed(message.len(), &message)
}

/// A field of protobuf's wire type 2.
fn delimited(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut bytes).expect("a vector grows");
    [bytes.as_slice(), content].concat()
}

/// A message as gRPC frames it: not compressed, its length, itself.
fn prefixed(length: usize, message: &[u8]) -> Vec<u8> {
    [&[0][..], &(length as u32).to_be_bytes(), message].concat()
}
