//! Room names and globs (03 §4).

use crate::limits::ROOM_NAME_BYTES_MAX;

/// What a room name says about who may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomKind<'a> {
    /// Anybody may join.
    Public,
    /// `user:<id>`: that user alone, who is in it already.
    User(&'a str),
    /// `private:*`: needs the claim `rooms`.
    Private,
}

/// The kind of a valid name; `None` for an invalid one.
///
/// A valid name is 1 to [`ROOM_NAME_BYTES_MAX`] characters of `A-Z a-z 0-9 _ . : -`.
pub fn classify(name: &str) -> Option<RoomKind<'_>> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
    if name.is_empty() || name.len() > ROOM_NAME_BYTES_MAX || !name.bytes().all(known) {
        return None;
    }
    if let Some(user) = name.strip_prefix("user:") {
        return Some(RoomKind::User(user));
    }
    Some(if name.starts_with("private:") { RoomKind::Private } else { RoomKind::Public })
}

/// Whether `name` matches the glob: `*` stands for any run of characters, `?` for one.
///
/// Only the last `*` is ever tried again, so that no glob costs more than its length times the name's.
pub fn glob_matches(glob: &str, name: &str) -> bool {
    let (mut glob, mut name) = (glob.chars(), name.chars());
    // What follows the last star, and where in the name it was last tried.
    let mut retry = None;
    loop {
        let rest = name.clone();
        match (glob.next(), name.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                name = rest;
                retry = Some((glob.clone(), name.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after_star, tried)) = &mut retry else { return false };
                if tried.next().is_none() {
                    return false;
                }
                glob = after_star.clone();
                name = tried.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_may_join() {
        let longest = "a".repeat(128);
        let too_long = "a".repeat(129);
        let huge = "a".repeat(64 * 1024);
        let table = [
            ("event:123", Some(RoomKind::Public)),
            ("A-z_0.9", Some(RoomKind::Public)),
            ("users:1", Some(RoomKind::Public)),
            ("private", Some(RoomKind::Public)),
            (longest.as_str(), Some(RoomKind::Public)),
            ("user:42", Some(RoomKind::User("42"))),
            ("user:a:b", Some(RoomKind::User("a:b"))),
            ("user:", Some(RoomKind::User(""))),
            ("private:staff", Some(RoomKind::Private)),
            ("private:", Some(RoomKind::Private)),
            ("", None),
            ("a b", None),
            ("a/b", None),
            ("a*", None),
            ("räume", None),
            ("a\0", None),
            (too_long.as_str(), None),
            (huge.as_str(), None),
        ];
        for (name, kind) in table {
            assert_eq!(classify(name), kind, "{name}");
        }
    }

    #[test]
    fn globs_match_whole_names() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "a", true),
            ("event:*", "event:1", true),
            ("event:*", "events:1", false),
            ("*:1", "event:1", true),
            ("*:1", "event:1:2", false),
            ("e*t:?", "event:1", true),
            ("e*t:?", "event:12", false),
            ("?", "", false),
            ("?", "é", true),
            ("a**b", "ab", true),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axbxbx", false),
            ("*a*", "bab", true),
            ("event:1", "event:1", true),
            ("event:1", "event:12", false),
        ];
        for (glob, name, matches) in table {
            assert_eq!(glob_matches(glob, name), matches, "{glob} {name}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_ends() {
        assert!(!glob_matches(&"*a".repeat(64), &"a".repeat(63)));
        assert!(!glob_matches(&format!("{}b", "*a".repeat(60)), &"a".repeat(128)));
    }
}
