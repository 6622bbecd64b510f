//! What `Sec-WebSocket-Extensions` offers that is understood here: permessage-deflate (RFC 6455 §9.1, RFC 7692 §7.1).
//!
//! Never refuses a request: an offer that is malformed, or asks for what nobody knows, is declined by silence.

use crate::{
    net::http::{Head, text},
    wire::deflate::Window,
};

/// An offer of permessage-deflate that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// What the client can look back on.
    pub window: Window,
    /// Whether the offer named a window: the answer has to then (RFC 7692 §7.1.2.1).
    window_named: bool,
}

/// The first offer of permessage-deflate that can be accepted.
pub(super) fn deflate(head: &Head<'_>) -> Option<Deflate> {
    // A comma within quotes parts an offer too: neither half is well-formed then, and no parameter holds a comma.
    head.list("sec-websocket-extensions").find_map(|offer| parse(text(offer)?))
}

/// The answer that accepts it. Neither side keeps anything from message to message, so that none owns a window while it
/// is idle; `client_max_window_bits` is left out, since inflating takes any (RFC 7692 §7.1.1, §7.1.2.2).
pub(super) fn accept(deflate: Deflate) -> String {
    let mut text = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
    if deflate.window_named {
        text += &format!("; server_max_window_bits={}", deflate.window.bits());
    }
    text
}

/// One offer. `None`: another extension, or one that has to be declined (RFC 7692 §7.1: unknown parameters, invalid
/// values, a parameter twice).
fn parse(offer: &str) -> Option<Deflate> {
    let mut parts = offer.split(';').map(str::trim_ascii);
    if parts.next() != Some("permessage-deflate") {
        return None;
    }
    let mut window = None;
    let (mut server_takeover, mut client_takeover, mut client_window) = (None, None, None);
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_ascii_end(), Some(unquote(value.trim_ascii_start())?)),
            None => (part, None),
        };
        let twice = match (name, value) {
            ("server_no_context_takeover", None) => server_takeover.replace(()).is_some(),
            ("client_no_context_takeover", None) => client_takeover.replace(()).is_some(),
            // "A client may…": a hint that needs no answer, but has to be a valid one.
            ("client_max_window_bits", None) => client_window.replace(Window::LARGEST).is_some(),
            ("client_max_window_bits", Some(bits)) => client_window.replace(window_of(bits)?).is_some(),
            ("server_max_window_bits", Some(bits)) => window.replace(window_of(bits)?).is_some(),
            _ => return None,
        };
        if twice {
            return None;
        }
    }
    Some(Deflate { window: window.unwrap_or(Window::LARGEST), window_named: window.is_some() })
}

/// A value without the quotes that it may stand in. Where it needs an escape it is no number.
fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// "…a decimal integer value without leading zeroes between 8 to 15, inclusive" (RFC 7692 §7.1.2.1)
fn window_of(bits: &str) -> Option<Window> {
    let decimal = !bits.starts_with('0') && bits.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| bits.parse().ok()).flatten().and_then(Window::of_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http::parse_head;

    fn bits(fields: &[&str]) -> Option<u8> {
        let fields: String =
            fields.iter().map(|field| format!("Sec-WebSocket-Extensions: {field}\r\n")).collect();
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let head = parse_head(request.as_bytes()).unwrap().unwrap();
        deflate(&head).map(|accepted| accepted.window.bits())
    }

    #[test]
    fn offers_in_order_are_accepted_with_the_window_that_they_ask_for() {
        for (offer, expected) in [
            ("permessage-deflate", 15),
            ("permessage-deflate; client_max_window_bits", 15),
            ("permessage-deflate; client_max_window_bits=8", 15),
            ("permessage-deflate; server_max_window_bits=8", 8),
            ("permessage-deflate; server_max_window_bits=\"15\"", 15),
            ("permessage-deflate;server_max_window_bits = 10;client_no_context_takeover", 10),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", 15),
            ("x-webkit-deflate-frame, permessage-deflate", 15),
            ("x; y=\"a,b\", permessage-deflate; server_max_window_bits=9", 9),
            // The first that can be accepted wins; the others are alternatives (RFC 7692 §5.1).
            (
                "permessage-deflate; tomorrow, permessage-deflate; server_max_window_bits=12, permessage-deflate",
                12,
            ),
            (",, ,permessage-deflate,", 15),
        ] {
            assert_eq!(bits(&[offer]), Some(expected), "{offer}");
        }
        assert_eq!(bits(&["permessage-deflate; =", "permessage-deflate"]), Some(15));
    }

    /// A13
    #[test]
    fn what_is_malformed_or_unknown_is_declined() {
        for offer in [
            "",
            "permessage-deflat",
            "Permessage-Deflate",
            "permessage-deflate;",
            "permessage-deflate;;",
            "permessage-deflate; ;client_no_context_takeover",
            "permessage-deflate client_no_context_takeover",
            "permessage-deflate=1",
            "permessage-deflate; =;;x=\"",
            "permessage-deflate; tomorrow",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover=",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=9.0",
            "permessage-deflate; server_max_window_bits=265",
            "permessage-deflate; server_max_window_bits=99999999999999999999",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; server_max_window_bits=\"\\9\"",
            "permessage-deflate; server_max_window_bits=9\"",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; SERVER_MAX_WINDOW_BITS=9",
            "permessage-deflate; x=\"permessage-deflate, client_no_context_takeover\"",
            "\u{e9}",
        ] {
            assert_eq!(bits(&[offer]), None, "{offer}");
        }
        assert_eq!(bits(&[]), None);
        assert_eq!(bits(&[&";permessage-deflate".repeat(350)]), None);
        assert_eq!(bits(&[&"permessage-deflate;,".repeat(350)]), None);
    }

    #[test]
    fn the_answer_says_what_was_asked_for_and_no_more() {
        let takeover = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for (asked, answered) in [
            ("", ""),
            ("; client_max_window_bits; server_no_context_takeover", ""),
            ("; server_max_window_bits=10", "; server_max_window_bits=10"),
            ("; server_max_window_bits=15", "; server_max_window_bits=15"),
        ] {
            let accepted = parse(&format!("permessage-deflate{asked}")).unwrap();
            assert_eq!(accept(accepted), format!("{takeover}{answered}"));
        }
    }
}
