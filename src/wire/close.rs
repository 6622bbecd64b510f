//! Close codes, their reasons, and whether a client should come back (03 §12).
//!
//! Owns every word that a client reads in a close frame. Never decides when to close.

/// Longest reason that fits a control frame beside its code, bytes (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;

/// Why a connection ends. The text is what the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// 1000: as the client asked.
    Normal,
    /// 1001: draining; the reason carries `reconnect_after_ms`.
    GoingAway {
        /// When this client should return, milliseconds.
        reconnect_after_ms: u32,
    },
    /// 1002: the frames break RFC 6455.
    Protocol(&'static str),
    /// 1003: a binary message where only text is understood.
    Unsupported,
    /// 1007: text that is not UTF-8.
    InvalidText,
    /// 1007: a compressed message that cannot be inflated.
    InvalidDeflate,
    /// 1008: more fragments than a message may have.
    TooManyFragments,
    /// 1008: a message that was begun and not finished in time.
    Unfinished,
    /// 1009: a message over the limit.
    TooBig,
    /// 1011: our own fault.
    Internal,
    /// 1013: full, try again later.
    TryLater,
    /// 4400: too many messages that could not be understood.
    BadRequests,
    /// 4401: no valid token any more; the text says which way.
    Unauthorised(&'static str),
    /// 4408: nothing heard within the keep-alive time.
    KeepAlive,
    /// 4413: what had to be queued did not fit.
    TooSlow,
    /// 4429: over a rate or count limit.
    RateLimited,
}

/// Whether a client that was closed should connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// No: the same would happen again, or the client is replaced or done.
    Never,
    /// Only with another token.
    WithNewToken,
    /// Yes, after a random delay, and after the time in the reason where there is one.
    Yes,
}

impl Reconnect {
    /// The advice for a close code, also for those that no [`Close`] has: 4403 forbidden, 4409 replaced, and 1006,
    /// which a client sees when a connection breaks.
    pub fn after(code: u16) -> Self {
        match code {
            1001 | 1006 | 1011 | 1012 | 1013 | 4408 | 4413 | 4429 => Self::Yes,
            4401 => Self::WithNewToken,
            _ => Self::Never,
        }
    }
}

impl Close {
    /// The code on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway { .. } => 1001,
            Self::Protocol(_) => 1002,
            Self::Unsupported => 1003,
            Self::InvalidText | Self::InvalidDeflate => 1007,
            Self::TooManyFragments | Self::Unfinished => 1008,
            Self::TooBig => 1009,
            Self::Internal => 1011,
            Self::TryLater => 1013,
            Self::BadRequests => 4400,
            Self::Unauthorised(_) => 4401,
            Self::KeepAlive => 4408,
            Self::TooSlow => 4413,
            Self::RateLimited => 4429,
        }
    }

    /// The reason on the wire; at most 123 bytes.
    pub fn reason(self) -> String {
        let text = match self {
            Self::Normal => "",
            Self::GoingAway { reconnect_after_ms } => {
                return format!("{{\"reconnect_after_ms\":{reconnect_after_ms}}}");
            }
            Self::Protocol(problem) => problem,
            Self::Unsupported => "only text messages are understood",
            Self::InvalidText => "text is not valid UTF-8",
            Self::InvalidDeflate => "compressed message is corrupt",
            Self::TooManyFragments => "too many fragments in one message",
            Self::Unfinished => "a message took too long",
            Self::TooBig => "message too big",
            Self::Internal => "internal error",
            Self::TryLater => "server is at maximum capacity",
            Self::BadRequests => "too many messages that could not be understood",
            Self::Unauthorised(problem) => problem,
            Self::KeepAlive => "keep-alive time-out",
            Self::TooSlow => "messages arrive faster than they are read",
            Self::RateLimited => "rate limited",
        };
        text[..text.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
    }

    /// Whether the client should connect again.
    pub fn reconnect(self) -> Reconnect {
        Reconnect::after(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CLOSE_CODES;

    const LONG: &str = "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé";

    fn all() -> [Close; 16] {
        [
            Close::Normal,
            Close::GoingAway { reconnect_after_ms: u32::MAX },
            Close::Protocol(LONG),
            Close::Unsupported,
            Close::InvalidText,
            Close::InvalidDeflate,
            Close::TooManyFragments,
            Close::Unfinished,
            Close::TooBig,
            Close::Internal,
            Close::TryLater,
            Close::BadRequests,
            Close::Unauthorised(LONG),
            Close::KeepAlive,
            Close::TooSlow,
            Close::RateLimited,
        ]
    }

    #[test]
    fn every_close_has_a_counter_and_a_reason_that_fits() {
        for close in all() {
            assert!(CLOSE_CODES.contains(&close.code()), "{close:?}");
            assert!(close.reason().len() <= REASON_BYTES_MAX, "{close:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(Close::Protocol(LONG).reason(), "é".repeat(61));
    }

    #[test]
    fn going_away_says_when_to_return() {
        let close = Close::GoingAway { reconnect_after_ms: 1500 };
        assert_eq!((close.code(), close.reason().as_str()), (1001, r#"{"reconnect_after_ms":1500}"#));
    }

    #[test]
    fn a_client_returns_unless_the_same_would_happen_again() {
        let advice = |wanted| {
            let matching = |code: &u16| Reconnect::after(*code) == wanted;
            CLOSE_CODES.into_iter().filter(matching).collect::<Vec<_>>()
        };
        assert_eq!(advice(Reconnect::Yes), [1001, 1011, 1013, 4408, 4413, 4429]);
        assert_eq!(advice(Reconnect::WithNewToken), [4401]);
        assert_eq!(advice(Reconnect::Never), [1000, 1002, 1003, 1007, 1008, 1009, 4400, 4403, 4409]);
    }
}
