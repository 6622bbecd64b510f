//! What operators say of a queue that there is.

use tonic::Code;
use usher::generated::realtime::{
    AdvanceQueueRequest, GetQueueRequest, OpenQueueRequest, PauseQueueRequest, open_queue_request::Inlet,
};

use crate::{
    queues::{join, look, open_with, pair, until},
    support::{grpc::Backend, server::Server},
};

#[test]
fn a_queue_that_has_not_opened_keeps_what_nobody_asks_for_and_opens_by_now() {
    let server = Server::start();
    let backend = &Backend::of(&server);
    let ask = |terms: OpenQueueRequest| open_with(backend, terms);
    let opens_in_seconds = 3_600;
    let first = ask(OpenQueueRequest {
        opens_in_seconds,
        inlet: Some(Inlet::PerMinute(600)),
        ..OpenQueueRequest::default()
    });
    let mut ann = server.connect_as("ann");
    assert_eq!(join(&mut ann)["opens_at"], first.opens_at_ms);
    let faster = OpenQueueRequest { inlet: Some(Inlet::PerMinute(60_000)), ..OpenQueueRequest::default() };
    for again in [faster, OpenQueueRequest { opens_in_seconds, ..OpenQueueRequest::default() }] {
        let queue = ask(again);
        assert_eq!((&*queue.state, queue.opens_at_ms, queue.run), ("early", first.opens_at_ms, first.run));
    }
    let sooner = ask(OpenQueueRequest { opens_in_seconds: 1_800, ..OpenQueueRequest::default() });
    assert!(sooner.state == "early" && sooner.opens_at_ms < first.opens_at_ms, "{sooner:?}");
    let opened = ask(OpenQueueRequest { now: true, ..OpenQueueRequest::default() });
    assert_eq!((&*opened.state, opened.opens_at_ms, opened.admitted), ("open", 0, 1), "by the inlet");
    assert_eq!(look(backend).state, "open");
}

#[test]
fn a_call_that_says_two_things_at_once_is_refused_by_its_field() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let ask = |terms: OpenQueueRequest| {
        let status = backend.open_queue(OpenQueueRequest { event_id: "e1".into(), ..terms });
        status.expect_err("it contradicts itself").message().to_owned()
    };
    let (opens_at_ms, opens_in_seconds, now) = (1, 1, true);
    let told = ask(OpenQueueRequest { opens_at_ms, opens_in_seconds, ..OpenQueueRequest::default() });
    assert!(told.starts_with("`opens_in_seconds` must be alone"), "{told}");
    let told = ask(OpenQueueRequest { opens_at_ms, now, ..OpenQueueRequest::default() });
    assert!(told.starts_with("`now` must be alone"), "{told}");
    let told = ask(OpenQueueRequest { stay_seconds: 1, stay_forever: true, ..OpenQueueRequest::default() });
    assert!(told.starts_with("`stay_forever` contradicts"), "{told}");
}

/// What `GetQueueLog` says where there is none.
fn no_log(backend: &Backend) -> (Code, String) {
    let request = GetQueueRequest { event_id: "e1".into() };
    let status = backend.wait(backend.client().get_queue_log(request)).expect_err("there is none");
    (status.code(), status.message().to_owned())
}

#[test]
fn the_log_of_a_pre_queue_is_there_as_soon_as_an_instance_has_read_the_queue() {
    let pair = pair(&[]);
    let [one, other] = &pair.backends;
    let hour = OpenQueueRequest { opens_in_seconds: 3_600, ..OpenQueueRequest::default() };
    open_with(one, hour);
    let mut clients = ["ann", "bob"].map(|name| pair.servers[0].connect_as(name));
    clients.iter_mut().for_each(|client| drop(join(client)));
    assert_eq!(no_log(one), (Code::FailedPrecondition, "not open yet".into()));
    open_with(one, OpenQueueRequest { now: true, ..OpenQueueRequest::default() });
    until(&mut clients[0], "booking:queue_position");
    let log = other.queue_log("e1");
    assert_eq!(log.lines().count(), 3, "{log}");
    assert_eq!(one.queue_log("e1"), log);
}

#[test]
fn a_queue_that_nobody_was_in_before_it_opened_has_no_log_and_says_so() {
    let server = Server::start();
    let backend = Backend::of(&server);
    open_with(&backend, OpenQueueRequest::default());
    let told = "nobody was there before the opening: nothing was drawn";
    assert_eq!(no_log(&backend), (Code::FailedPrecondition, told.into()));
}

#[test]
fn what_is_out_of_range_is_refused_by_its_field() {
    let server = Server::start();
    let backend = Backend::of(&server);
    let event_id = || "e1".to_owned();
    let open =
        |terms: OpenQueueRequest| backend.open_queue(OpenQueueRequest { event_id: event_id(), ..terms });
    let advance = AdvanceQueueRequest { event_id: event_id(), to: u32::MAX, run: 0 };
    let pause =
        PauseQueueRequest { event_id: event_id(), reason: "r".repeat(257), ..PauseQueueRequest::default() };
    let rows = [
        (
            open(OpenQueueRequest { claim_seconds: 86_401, ..OpenQueueRequest::default() }),
            "`claim_seconds` must be 1 to 86400",
        ),
        (
            open(OpenQueueRequest { inlet: Some(Inlet::Inside(0)), ..OpenQueueRequest::default() }),
            "`inside` must be 1 to 1048576",
        ),
        (backend.advance_queue(advance), "`to` must be at most 1048576"),
        (backend.pause_queue(pause), "`reason` must be at most 256 bytes"),
    ];
    for (answer, told) in rows {
        let status = answer.expect_err(told);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, told));
    }
}
