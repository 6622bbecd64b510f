//! TLS for clients that trust anybody: they measure a server, they do not tell it secrets.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_queue::ArrayQueue;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup, SignatureScheme,
    client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Makes client connections.
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Arc<Tickets>,
}

impl Connector {
    /// Connects to the named host, with full handshakes only, or with a ticket of an earlier one where there is one.
    pub(crate) fn new(host: &str, resume: bool) -> io::Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let anybody = Arc::new(Anybody { provider: provider.clone() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(anybody)
            .with_no_client_auth();
        let tickets = Arc::new(Tickets::default());
        config.resumption = if resume { Resumption::store(tickets.clone()) } else { Resumption::disabled() };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Self { config: Arc::new(config), name, tickets })
    }

    /// One connection's state.
    pub(crate) fn connect(&self) -> io::Result<Box<ClientConnection>> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone());
        connection.map(Box::new).map_err(io::Error::other)
    }

    /// Handshakes that offered a ticket so far.
    pub(crate) fn tickets_offered(&self) -> u64 {
        self.tickets.offered.load(Ordering::Relaxed)
    }
}

/// Tickets that are kept at most: as many as there may be handshakes under way.
const TICKETS_MAX: usize = 4_096;

/// The tickets of all clients together, so that who connects next comes back in the name of who was there. Each is used
/// once (RFC 8446 appendix C.4): there are as many full handshakes as handshakes were ever under way at once.
#[derive(Debug)]
struct Tickets {
    tickets: ArrayQueue<Tls13ClientSessionValue>,
    group: OnceLock<NamedGroup>,
    /// Those taken out.
    offered: AtomicU64,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { tickets: ArrayQueue::new(TICKETS_MAX), group: OnceLock::new(), offered: AtomicU64::new(0) }
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        // There is one server, and it does not change its mind.
        self.group.get_or_init(|| group);
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        self.group.get().copied()
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, _session: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        // Where there are too many, one less does no harm.
        drop(self.tickets.push(ticket));
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let ticket = self.tickets.pop();
        self.offered.fetch_add(u64::from(ticket.is_some()), Ordering::Relaxed);
        ticket
    }
}

/// Accepts every certificate, and checks that the server holds its key.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
