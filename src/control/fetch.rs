//! One HTTP GET, of a small document or to see whether somebody is ready, on a thread that may block.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::crypto::aws_lc_rs;
use ureq::{
    Agent,
    config::ConfigBuilder,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
    typestate::AgentScope,
};

use crate::limits::{KEY_DOCUMENT_BYTES_MAX, KEY_FETCH_TIME_MAX};

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// https needs authorities to trust, and the system has none where systems keep them.
    #[error("no certificate authorities found on this system (package ca-certificates)")]
    NoAuthorities,
    /// The file that names authorities has none, or cannot be read.
    #[error("{}: no certificate authorities in it", .0.display())]
    NoneIn(PathBuf),
    /// The answer sends us to another address.
    #[error("http status: {0}")]
    Elsewhere(u16),
    /// The request failed, took too long, or brought too much.
    #[error("{0}")]
    Request(#[from] ureq::Error),
}

/// Asks whoever serves the URL whether it is ready: it is, if it answers with 2xx, without sending us elsewhere.
pub fn probe(agent: &Agent, url: &str) -> Result<(), FetchError> {
    let status = agent.get(url).call()?.status();
    if status.is_success() { Ok(()) } else { Err(FetchError::Elsewhere(status.as_u16())) }
}

/// What asks the URL, and others of its scheme, each time on a connection of its own; `trusted` are the authorities for
/// https, PEM, `None`: those of the system. Blocks, on a file.
pub fn prober(url: &str, trusted: Option<&Path>, time_max: Duration) -> Result<Agent, FetchError> {
    let config =
        config(url, trusted)?.timeout_global(Some(time_max)).max_redirects(0).max_idle_connections(0);
    Ok(config.build().into())
}

/// Fetches a document of at most `KEY_DOCUMENT_BYTES_MAX` within `KEY_FETCH_TIME_MAX`. An https URL is not left for a
/// plain one by redirection.
pub fn get(url: &str) -> Result<String, FetchError> {
    let config = config(url, None)?.timeout_global(Some(KEY_FETCH_TIME_MAX)).max_redirects(REDIRECTS_MAX);
    let agent: Agent = config.build().into();
    let mut answer = agent.get(url).header("Accept", "application/json").call()?;
    Ok(answer.body_mut().with_config().limit(KEY_DOCUMENT_BYTES_MAX).read_to_string()?)
}

/// How URLs of that scheme are asked.
fn config(url: &str, trusted: Option<&Path>) -> Result<ConfigBuilder<AgentScope>, FetchError> {
    let secure = url.starts_with("https:");
    let authorities = if secure { authorities(trusted)? } else { Vec::new() };
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(authorities))
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build();
    Ok(Agent::config_builder().https_only(secure).tls_config(tls))
}

/// A URL without user, password and query.
pub fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The authorities in a file, at least one; without a file those that the system trusts, from the first bundle there is.
fn authorities(trusted: Option<&Path>) -> Result<Vec<Certificate<'static>>, FetchError> {
    let bundle = match trusted {
        Some(file) => fs::read(file).ok(),
        None => AUTHORITY_BUNDLES.iter().find_map(|file| fs::read(file).ok()),
    };
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let authorities: Vec<_> = parse_pem(&bundle.unwrap_or_default()).filter_map(certificate).collect();
    match trusted {
        _ if !authorities.is_empty() => Ok(authorities),
        Some(file) => Err(FetchError::NoneIn(file.into())),
        None => Err(FetchError::NoAuthorities),
    }
}

const REDIRECTS_MAX: u32 = 3;

/// Debian and Alpine; Fedora and Red Hat; SUSE; BSDs and others.
const AUTHORITY_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, expected) in [
            ("https://id.example/keys", "https://id.example/keys"),
            ("https://user:pass@id.example:8443/keys?key=x#y", "https://id.example:8443/keys"),
            ("http://id.example?key=x", "http://id.example"),
            ("http://a@b@id.example/@x", "http://id.example/@x"),
            ("nonsense?key=x", "://nonsense"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn authorities_are_those_in_the_file_that_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let ask = |url| prober(url, Some(file.as_path()), Duration::from_secs(1)).map(drop);
        for text in [None, Some("no PEM")] {
            text.iter().for_each(|text| fs::write(&file, text).unwrap());
            assert!(matches!(ask("https://shop.example"), Err(FetchError::NoneIn(_))), "{text:?}");
            assert!(ask("http://shop.example").is_ok(), "nobody is to be trusted for that");
        }
        let certified = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        fs::write(&file, certified.cert.pem()).unwrap();
        assert!(ask("https://shop.example").is_ok());
    }
}
