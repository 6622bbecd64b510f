use super::*;

/// Extensions of a hello: type and data.
type Extensions<'a> = &'a [(u16, &'a [u8])];

/// A hello in one record, with these extensions.
fn hello(extensions: Extensions<'_>) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend_from_slice(&kind.to_be_bytes());
        list.extend_from_slice(&(data.len() as u16).to_be_bytes());
        list.extend_from_slice(data);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[2, 1, 1, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&(list.len() as u16).to_be_bytes());
    body.extend_from_slice(&list);
    let message = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    record(&message)
}

fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &(fragment.len() as u16).to_be_bytes(), fragment].concat()
}

#[test]
fn a_ticket_is_an_offer_and_the_wish_for_one_is_not() {
    let cases: [(Extensions<'_>, bool); 6] = [
        (&[], false),
        (&[(0, b"name"), (35, b"")], false),
        (&[(35, b"ticket"), (43, b"x")], true),
        (&[(0, b"name"), (45, b"\x01\x01"), (41, b"identities")], true),
        (&[(41, b"")], true),
        (&[(42, b"41"), (16, b"\x00\x29\x00\x00")], false),
    ];
    for (extensions, offered) in cases {
        assert_eq!(offers_ticket(&hello(extensions)), Some(offered), "{extensions:?}");
    }
}

#[test]
fn a_hello_in_pieces_is_waited_for_until_its_record_is_whole() {
    let whole = hello(&[(0, b"name"), (41, &[9; 300])]);
    for end in 0..whole.len() {
        assert_eq!(offers_ticket(&whole[..end]), None, "{end}");
    }
    assert_eq!(offers_ticket(&whole), Some(true));
    assert_eq!(offers_ticket(&[&whole[..], b"more"].concat()), Some(true));
}

#[test]
fn what_is_no_hello_is_nothing_to_wait_for() {
    for input in
        [&b"GET /ws HTTP/1.1\r\n"[..], b"\x17\x03\x03\x00\x01x", b"\x80", b"\x00", b"\x16\x03\x01\x40\x01"]
    {
        assert_eq!(offers_ticket(input), Some(false), "{input:?}");
    }
    for fragment in [&b""[..], b"\x02\x00\x00\x00", b"\x01", b"\x01\xff\xff\xff", b"\x01\x00\x00\x02\x03\x03"]
    {
        assert_eq!(offers_ticket(&record(fragment)), Some(false), "{fragment:?}");
    }
}

#[test]
fn a_hello_with_any_byte_changed_or_cut_short_inside_is_read_without_harm() {
    let whole = hello(&[(0, b"name"), (35, b"ticket"), (41, b"x")]);
    for position in 5..whole.len() {
        for value in [0, 1, 0x29, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[position] = value;
            assert!(offers_ticket(&changed).is_some());
        }
        assert!(offers_ticket(&record(&whole[5..position])).is_some());
    }
}

#[test]
fn a_target_asks_to_resume_by_a_whole_pair_of_its_query() {
    for (request, asks) in [
        ("GET /ws?resume=wait HTTP/1.1\r\n", true),
        ("GET /ws?token=a&resume=wait HTTP/1.1\r\nHost: a\r\n", true),
        ("GET /ws?resume=wait&a=?b HTTP/1.1\r\n", true),
        ("GET /ws?token=long&resume=wait&x", true),
        ("GET /ws?resume=waiting HTTP/1.1\r\n", false),
        ("GET /ws?noresume=wait HTTP/1.1\r\n", false),
        ("GET /resume=wait HTTP/1.1\r\n", false),
        ("GET /ws HTTP/1.1\r\nX: /?resume=wait\r\n", false),
        ("GET /ws\r\n /?resume=wait", false),
        ("resume=wait", false),
        ("", false),
        ("\r\n\r\n", false),
    ] {
        assert_eq!(asks_to_resume(request.as_bytes()), asks, "{request:?}");
    }
}
