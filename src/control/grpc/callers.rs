//! Who may call: a bearer token, certificates, or both.

use std::{hint::black_box, path::Path, time::Duration};

use tonic::{
    Request, Status,
    metadata::MetadataMap,
    service::Interceptor,
    transport::{Certificate, Identity, ServerTlsConfig},
};

use crate::{
    config::settings::{Callers, Secret},
    control::ControlError,
};

/// Asks every call for the token, if there is one.
#[derive(Clone, Debug)]
pub(super) struct Check {
    token: Option<Secret>,
}

impl Check {
    pub(super) fn new(token: Option<Secret>) -> Self {
        Self { token }
    }

    /// `UNAUTHENTICATED` unless the call carries the token.
    pub(super) fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let Some(token) = &self.token else { return Ok(()) };
        let shown = metadata.get("authorization").map_or(&b""[..], |value| value.as_bytes());
        let bearer = match shown.split_at_checked(BEARER.len()) {
            Some((scheme, bearer)) if scheme.eq_ignore_ascii_case(BEARER) => bearer,
            _ => b"",
        };
        if is_same(bearer, token.0.as_bytes()) {
            Ok(())
        } else {
            Err(Status::unauthenticated("a valid bearer token is required in `authorization`"))
        }
    }
}

impl Interceptor for Check {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.check(request.metadata())?;
        Ok(request)
    }
}

const BEARER: &[u8] = b"Bearer ";

/// Compares in a time that depends on the lengths alone.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    a.len() == b.len() && difference == 0
}

/// The server's certificate, and whose certificates callers must show; `None`: plain text.
pub(super) fn tls(settings: &Callers) -> Result<Option<ServerTlsConfig>, ControlError> {
    let Some((cert, key)) = &settings.tls else { return Ok(None) };
    let identity = Identity::from_pem(read(cert)?, read(key)?);
    let tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIME_MAX);
    match &settings.client_ca {
        Some(path) => Ok(Some(tls.client_ca_root(Certificate::from_pem(read(path)?)))),
        None => Ok(Some(tls)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ControlError> {
    std::fs::read(path).map_err(|source| ControlError::Pem { path: path.to_owned(), source })
}

/// For a TLS handshake of a caller.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_passes() {
        let check = Check::new(Some(Secret("s3cret".into())));
        let table = [
            (Some("Bearer s3cret"), true),
            (Some("bearer s3cret"), true),
            (Some("Bearer s3cre"), false),
            (Some("Bearer s3cret "), false),
            (Some("Basic s3cret"), false),
            (Some("Bearer "), false),
            (Some("B"), false),
            (None, false),
        ];
        for (header, passes) in table {
            let mut metadata = MetadataMap::new();
            if let Some(header) = header {
                metadata.insert("authorization", header.parse().unwrap());
            }
            assert_eq!(check.check(&metadata).is_ok(), passes, "{header:?}");
        }
        assert!(Check::new(None).check(&MetadataMap::new()).is_ok());
    }
}
