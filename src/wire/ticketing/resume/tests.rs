use super::*;
use crate::wire::{command::Command, ticketing::parse};

const EPOCH_NAMED: &str = r#""epoch":"e","offset":1"#;

fn command(kind: &str, payload: &str) -> Result<Command<'static>, String> {
    let text = format!(r#"{{"type":"{kind}","id":3,"payload":{payload}}}"#);
    match parse(&text) {
        Ok(request) => Ok(match request.command {
            Command::Resume(resume) => Command::Resume(resume),
            Command::Acknowledge { stream, epoch, offset } => Command::Acknowledge { stream, epoch, offset },
            other => panic!("{other:?}"),
        }),
        Err(bad) => Err(format!("{} {bad}", bad.code())),
    }
}

fn resumed(streams: &str) -> Result<Vec<(String, String, u64)>, String> {
    let place = |place: Position| (place.stream.to_string(), place.epoch.to_string(), place.offset);
    match command("system:resume", &format!(r#"{{"streams":{streams}}}"#))? {
        Command::Resume(Resume::Streams(places)) => Ok(places.into_iter().map(place).collect()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn positions_are_read_as_they_were_told() {
    let streams = r#"[{"stream":"user:a b\u0063","epoch":"1a","offset":0,"x":[]},
        {"stream":"room:event:1","epoch":"é","offset":9007199254740991}]"#;
    let expected = [("user:a bc", "1a", 0), ("room:event:1", "é", 9_007_199_254_740_991)];
    assert_eq!(resumed(streams), Ok(expected.map(|(s, e, o)| (s.to_owned(), e.to_owned(), o)).to_vec()));
    let unacknowledged = command("system:resume", r#"{"since":"unacknowledged"}"#);
    assert_eq!(unacknowledged, Ok(Command::Resume(Resume::Unacknowledged)));
}

#[test]
fn an_acknowledgement_may_name_an_epoch() {
    let ack = |payload| command("system:ack", payload);
    let expected = |epoch: Option<&str>| {
        Ok(Command::Acknowledge { stream: "user:a".into(), epoch: epoch.map(Into::into), offset: 7 })
    };
    assert_eq!(ack(r#"{"stream":"user:a","offset":7}"#), expected(None));
    assert_eq!(ack(r#"{"stream":"user:a","offset":7,"epoch":"e"}"#), expected(Some("e")));
}

#[test]
fn offsets_are_whole_numbers_that_every_client_can_hold() {
    for offset in
        ["-1", "-0", "1.0", "1e3", "9007199254740992", "18446744073709551616", "\"1\"", "null", "[1]", "true"]
    {
        let place = format!(r#"{{"stream":"user:a","epoch":"e","offset":{offset}}}"#);
        for (kind, payload) in
            [("system:resume", format!(r#"{{"streams":[{place}]}}"#)), ("system:ack", place.clone())]
        {
            let error = command(kind, &payload).unwrap_err();
            assert!(error.starts_with("invalid_payload") && error.contains("`offset`"), "{offset}: {error}");
        }
    }
}

#[test]
fn epochs_are_strings() {
    let long = format!("\"{}\"", "e".repeat(65));
    for epoch in ["1", "null", "\"\"", "{}", &long] {
        let place = format!(r#"{{"stream":"user:a","epoch":{epoch},"offset":1}}"#);
        for (kind, payload) in
            [("system:resume", format!(r#"{{"streams":[{place}]}}"#)), ("system:ack", place.clone())]
        {
            let error = command(kind, &payload).unwrap_err();
            assert!(error.starts_with("invalid_payload") && error.contains("`epoch`"), "{epoch}: {error}");
        }
    }
    let error = resumed(r#"[{"stream":"user:a","offset":1}]"#).unwrap_err();
    assert!(error.contains("`epoch`"), "a resume without one: {error}");
}

#[test]
fn streams_are_those_of_users_and_rooms() {
    let long = format!("user:{}", "x".repeat(124));
    for stream in ["", "user:", "room:", "room:a b", "room:user:a", "a", "queue:1", "User:a", &long] {
        let error = resumed(&format!(r#"[{{"stream":"{stream}",{EPOCH_NAMED}}}]"#)).unwrap_err();
        assert!(error.starts_with("invalid_payload") && error.contains("`stream`"), "{stream}: {error}");
    }
    for stream in ["1", "null", "[]"] {
        let error = resumed(&format!(r#"[{{"stream":{stream},{EPOCH_NAMED}}}]"#)).unwrap_err();
        assert!(error.contains("`stream`"), "{stream}: {error}");
    }
}

#[test]
fn a_resume_names_each_of_at_most_129_streams_once() {
    let place = |n| format!(r#"{{"stream":"room:{n}",{EPOCH_NAMED}}}"#);
    assert!(resumed(&format!("[{},{}]", place(1), place(2))).is_ok());
    let twice = resumed(&format!("[{},{}]", place(1), place(1))).unwrap_err();
    assert!(twice.contains("named twice"), "{twice}");
    let too_many = format!("[{}]", ["{}"; 130].join(","));
    for streams in ["[]", "{}", "null", "7", "[7]", "[null]", r#"[["user:a","e",1]]"#, &too_many] {
        let error = resumed(streams).unwrap_err();
        assert!(error.contains("a list of 1 to 129 objects"), "{streams}: {error}");
    }
}

#[test]
fn a_resume_says_what_and_only_one_thing() {
    for payload in [
        "{}",
        r#"{"since":"ever"}"#,
        r#"{"since":null}"#,
        r#"{"since":7}"#,
        r#"{"since":"unacknowledged","streams":[]}"#,
    ] {
        let error = command("system:resume", payload).unwrap_err();
        assert!(error.contains("either `streams`, or `since`"), "{payload}: {error}");
    }
    for kind in ["system:resume", "system:ack"] {
        for payload in ["[]", "null", "7", "\"x\""] {
            let error = command(kind, payload).unwrap_err();
            assert!(error.starts_with("invalid_payload"), "{kind} {payload}: {error}");
        }
        assert_eq!(parse(&format!(r#"{{"type":"{kind}"}}"#)).unwrap_err().code(), "invalid_payload");
    }
}
