use super::*;

fn holder() -> Box<str> {
    "u:42".into()
}

fn terms() -> Terms {
    Terms {
        opens_at_ms: 1_700_000_000_000,
        seed: [9; 32],
        salts: [0; 32],
        made: false,
        opens_in_ms: 0,
        kept: Vec::new(),
        inlet: Inlet::PerMinute(100),
        claim_ms: 60_000,
        grace_ms: 120_000,
        stay_ms: 0,
        places_max: 100_000,
    }
}

fn every_command() -> Vec<Command> {
    let instance: Box<str> = "a-1".into();
    vec![
        Command::Open(Box::new(terms())),
        Command::Open(Box::new(Terms { inlet: Inlet::Manual, ..terms() })),
        Command::Open(Box::new(Terms { inlet: Inlet::Inside(7), ..terms() })),
        Command::Tick,
        Command::Join { holder: holder(), instance: instance.clone() },
        Command::Leave { holder: "a:\"\\\u{1}é".into() },
        Command::Here { holder: holder(), instance: instance.clone() },
        Command::Away { holder: holder(), instance: instance.clone() },
        Command::InstanceGone { instance },
        Command::Advance { to: PLACES_MAX },
        Command::AdmitNext { count: u32::MAX, key: None },
        Command::Claim { holder: holder(), place: None },
        Command::Complete { holder: holder(), place: Some(PLACES_MAX) },
        Command::Abandon { holder: holder(), place: Some(1) },
        Command::Pause { reason: "".into() },
        Command::Resume,
        Command::TargetDown { reason: "the shop is full".into() },
        Command::TargetUp,
        Command::SellOut,
        Command::Reopen,
        Command::Close,
    ]
}

fn decoded(text: &str) -> Result<Entry, EntryError> {
    Entry::decode(text.as_bytes())
}

#[test]
fn every_command_comes_back_as_it_was() {
    let entry = Entry::new(1_700_000_000_001, every_command());
    let bytes = entry.encode().unwrap();
    assert_eq!(Entry::decode(&bytes), Ok(entry));
}

#[test]
fn the_format_is_what_instances_in_service_read() {
    let join = Command::Join { holder: holder(), instance: "a".into() };
    let entry = Entry::new(
        5,
        vec![join, Command::Tick, Command::AdmitNext { count: 3, key: None }, Command::SellOut],
    );
    let text =
        r#"{"v":1,"at":5,"c":[{"join":{"h":"u:42","i":"a"}},"tick",{"admit_next":{"count":3}},"sell_out"]}"#;
    assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), text);
    assert_eq!(decoded(text), Ok(entry));
}

#[test]
fn an_entry_of_another_version_is_refused_by_its_number() {
    assert_eq!(decoded(r#"{"v":2,"at":5,"c":["tick"]}"#), Err(EntryError::Version(2)));
    assert_eq!(decoded(r#"{"v":7,"x":[{"fly":1}]}"#), Err(EntryError::Version(7)));
    assert_eq!(decoded(r#"{"at":5,"c":["tick"]}"#), Err(EntryError::Malformed));
}

#[test]
fn what_is_out_of_range_is_refused_both_ways() {
    let long = |length: usize| -> Box<str> { "x".repeat(length).into() };
    let with = |terms: Terms| Command::Open(Box::new(terms));
    let at_the_limit = [
        Command::Leave { holder: long(HOLDER_BYTES_MAX) },
        Command::InstanceGone { instance: long(INSTANCE_BYTES_MAX) },
        Command::Pause { reason: long(QUEUE_REASON_BYTES_MAX) },
        with(Terms { claim_ms: 86_400_000, grace_ms: 1, stay_ms: 86_400_000, places_max: 1, ..terms() }),
    ];
    let beyond = [
        Command::Leave { holder: long(HOLDER_BYTES_MAX + 1) },
        Command::Claim { holder: long(0), place: None },
        Command::Claim { holder: holder(), place: Some(0) },
        Command::Abandon { holder: holder(), place: Some(PLACES_MAX + 1) },
        Command::Join { holder: holder(), instance: long(0) },
        Command::InstanceGone { instance: long(INSTANCE_BYTES_MAX + 1) },
        Command::Pause { reason: long(QUEUE_REASON_BYTES_MAX + 1) },
        Command::Advance { to: PLACES_MAX + 1 },
        with(Terms { claim_ms: 0, ..terms() }),
        with(Terms { grace_ms: 86_400_001, ..terms() }),
        with(Terms { stay_ms: u64::MAX, ..terms() }),
        with(Terms { places_max: 0, ..terms() }),
        with(Terms { places_max: PLACES_MAX + 1, ..terms() }),
        with(Terms { opens_at_ms: u64::MAX, ..terms() }),
        with(Terms { inlet: Inlet::PerMinute(0), ..terms() }),
        with(Terms { inlet: Inlet::Inside(0), ..terms() }),
    ];
    for command in at_the_limit {
        assert!(Entry::new(OFFSET_MAX, vec![command.clone()]).encode().is_ok(), "{command:?}");
    }
    for command in beyond {
        let entry = Entry::new(0, vec![Command::Tick, command]);
        assert_eq!(entry.encode(), Err(EntryError::Range), "{entry:?}");
        let bytes = serde_json::to_vec(&entry).unwrap();
        assert_eq!(Entry::decode(&bytes), Err(EntryError::Range), "{entry:?}");
    }
    assert_eq!(Entry::new(OFFSET_MAX + 1, vec![Command::Tick]).encode(), Err(EntryError::Range));
}

#[test]
fn an_entry_has_a_bounded_number_of_commands_and_bytes() {
    let of = |count: usize| Entry::new(0, vec![Command::Tick; count]);
    assert_eq!(of(0).encode(), Err(EntryError::Length));
    assert!(of(ENTRY_COMMANDS_MAX).encode().is_ok());
    assert_eq!(of(ENTRY_COMMANDS_MAX + 1).encode(), Err(EntryError::Length));
    let long = Command::Leave { holder: "x".repeat(HOLDER_BYTES_MAX).into() };
    assert_eq!(Entry::new(0, vec![long; 4_000]).encode(), Err(EntryError::Length));
    assert_eq!(Entry::decode(&vec![b' '; EVENT_BYTES_MAX + 1]), Err(EntryError::Length));
}

#[test]
fn whatever_the_bytes_are_they_become_an_entry_or_an_error() {
    let bytes = Entry::new(1_700_000_000_001, every_command()).encode().unwrap();
    for end in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..end]).is_err(), "cut off at {end}");
    }
    for index in 0..bytes.len() {
        for byte in [0, b'"', b'}', b'9', b'-', 0xff] {
            let mut changed = bytes.clone();
            changed[index] = byte;
            if let Ok(entry) = Entry::decode(&changed) {
                assert!(entry.encode().is_ok(), "what is read can be written");
            }
        }
    }
    for text in [
        "",
        "1",
        "[]",
        "{}",
        r#"{"v":1}"#,
        r#"{"v":1,"at":1,"c":["fly"]}"#,
        r#"{"v":1,"at":1,"c":["tick"],"x":1}"#,
    ] {
        assert_eq!(decoded(text), Err(EntryError::Malformed), "{text}");
    }
    let twice = r#"{"v":1,"v":1,"at":1,"c":["tick"]}"#;
    assert_eq!(decoded(twice), Err(EntryError::Malformed));
    assert_eq!(
        decoded(&format!(r#"{{"v":1,"at":1,"c":{}"#, "[".repeat(100_000))),
        Err(EntryError::Malformed)
    );
}
