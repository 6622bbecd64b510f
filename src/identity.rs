//! Who a connection belongs to, as a verified token says.

use std::sync::Arc;

use crate::limits::USER_ID_BYTES_MAX;

/// The claims that the gateway acts on. Made by `auth`, kept by the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`, else `user_id`, else `userId`; see [`is_user_id`].
    pub user: Arc<str>,
    /// `exp`, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    /// The claim `rooms`: globs of rooms that the user may join beyond the public ones.
    pub rooms: Arc<[Box<str>]>,
}

/// Whether a text can be a user's id: 1 to [`USER_ID_BYTES_MAX`] bytes without control characters.
///
/// So `user:<id>` is a room name wherever any text may be one (03 §4), and an id is one line in a log. Ids are not
/// held to the narrower alphabet of the ticketing dialect's rooms: identity providers use `|`, `@` and more.
pub fn is_user_id(text: &str) -> bool {
    (1..=USER_ID_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ROOM_NAME_BYTES_MAX;

    #[test]
    fn the_room_of_the_longest_user_id_is_the_longest_room_name() {
        let longest = "u".repeat(USER_ID_BYTES_MAX);
        assert!(is_user_id(&longest) && !is_user_id(&(longest.clone() + "u")));
        assert_eq!(format!("user:{longest}").len(), ROOM_NAME_BYTES_MAX);
    }

    #[test]
    fn a_user_id_is_any_text_without_control_characters() {
        for id in ["a", "42", "auth0|5f7c", "ann@shop.example", "é\"\\", "a b", "a:b"] {
            assert!(is_user_id(id), "{id}");
        }
        for id in ["", "a\n", "\0", "\u{7f}", "a\u{85}b", "\u{1b}[2J"] {
            assert!(!is_user_id(id), "{id:?}");
        }
    }
}
