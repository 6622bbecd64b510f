//! Which web pages may connect (03 §3).
//!
//! A browser names the page's origin in every upgrade and lets no page forge it, so this list is what stands between a
//! visitor's session and a foreign page. Programs send none, and are held by their token alone.

/// Whether a request from `origin` may go on; `None`: the request had no `Origin`.
///
/// `list` holds origins as browsers send them (`https://example.com`, `http://localhost:3000`: no path, no default
/// port), compared whole and without regard to ASCII case; empty, or with an entry `*`, it allows all. The opaque
/// origin `null`, of sandboxed frames and local files, is on no list: anybody can bring it about.
pub fn allowed(list: &[String], origin: Option<&str>) -> bool {
    let Some(origin) = origin else { return true };
    if list.is_empty() || list.iter().any(|entry| entry == "*") {
        return true;
    }
    origin != "null" && list.iter().any(|entry| entry.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_a_whole_origin_of_the_list_passes() {
        let list = list(&["https://good.example", "http://localhost:3000", "https://slash.example/", "null"]);
        for (origin, passes) in [
            (None, true),
            (Some("https://good.example"), true),
            (Some("HTTPS://Good.Example"), true),
            (Some("http://localhost:3000"), true),
            (Some("https://slash.example"), true),
            (Some("null"), false),
            (Some(""), false),
            (Some("https://evil.example"), false),
            (Some("https://good.example.evil"), false),
            (Some("https://evil.good.example"), false),
            (Some("http://good.example"), false),
            (Some("https://good.example:8443"), false),
            (Some("https://good.example/"), false),
            (Some("http://localhost:30001"), false),
        ] {
            assert_eq!(allowed(&list, origin), passes, "{origin:?}");
        }
    }

    #[test]
    fn an_empty_list_and_a_star_allow_every_origin() {
        for list in [list(&[]), list(&["*"]), list(&["https://good.example", "*"])] {
            assert!(allowed(&list, Some("https://evil.example")) && allowed(&list, Some("null")));
        }
    }
}
