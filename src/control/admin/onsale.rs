//! The page at `/onsale`, where it is asked for: a waiting room to look at, and to copy from.
//!
//! Owns what a browser may do with it. The page is a file of the repository, `examples/onsale/index.html`, in the binary;
//! it holds no secret: who opens it brings a token, in the fragment, which no browser sends to a server.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};

const PAGE: &str = include_str!("../../../examples/onsale/index.html");

/// The page, and nothing beside it.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let policy: Arc<str> = policy(PAGE).into();
    let page = async move || {
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, &policy),
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-store"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        (headers, PAGE)
    };
    Router::new().route("/onsale", get(page))
}

/// The page's own style and script by their hashes, and WebSockets: nothing else is loaded, sent or run, and the page
/// stands in no frame (CSP level 3).
fn policy(page: &str) -> String {
    let hash = |element| {
        let digest = digest(&SHA256, inside(page, element).as_bytes());
        format!("'sha256-{}'", BASE64_STANDARD.encode(digest))
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src ws: wss:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script"),
    )
}

/// What stands in the only element of that name, byte for byte.
fn inside<'a>(page: &'a str, element: &str) -> &'a str {
    let from = page.split_once(&format!("<{element}>")).map_or("", |(_, rest)| rest);
    from.split_once(&format!("</{element}>")).map_or("", |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_may_run_the_page_and_nothing_else() {
        let policy = policy("<style>a{}</style><script>1</script>");
        // printf 1 | openssl dgst -sha256 -binary | base64
        assert!(
            policy.contains("script-src 'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s=';"),
            "{policy}"
        );
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn the_page_is_whole_in_itself() {
        for element in ["style", "script"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "hashes are of one {element}");
            assert!(inside(PAGE, element).len() > 100, "{element}");
        }
        // What the policy would have a browser drop.
        for foreign in [" style=\"", " onclick=", "src=", "url(", "@import", "innerHTML"] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
    }
}
