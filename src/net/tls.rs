//! Certificates and the rules of TLS: TLS 1.2 and 1.3, `http/1.1`, stateless resumption.
//!
//! Owns how a `rustls::ServerConfig` is made, at start and again when its files change. Never keeps session state:
//! tickets carry it, encrypted with keys that all shards share, so that a client may resume on any of them; and on any
//! instance that has the same file of ticket keys.

pub mod tickets;

use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject},
    },
    server::{NoServerSessionStorage, ProducesTickets},
};

use crate::config::settings::TlsSource;

/// Keys of session tickets: the operator's, or those of this process, replaced every six hours and kept over reloads, so
/// that a new certificate does not end resumption.
#[derive(Clone, Debug)]
pub struct Ticketing(Arc<dyn ProducesTickets>);

impl Ticketing {
    /// Fresh keys.
    pub fn new() -> Result<Self, TlsError> {
        aws_lc_rs::Ticketer::new().map(Self).map_err(TlsError::Rules)
    }

    /// The secrets of a file, as [`tickets::parse`] has them.
    pub fn of_file(file: &Path) -> Result<Self, TlsError> {
        let keys = tickets::parse(&read(file)?)
            .map_err(|problem| TlsError::TicketKeys { file: file.to_owned(), problem })?;
        Ok(Self(Arc::new(keys)))
    }
}

/// The configured certificate and ticket keys, and what their files looked like when they were read last.
#[derive(Debug)]
pub struct Certificate {
    source: TlsSource,
    ticket_keys: Option<PathBuf>,
    tickets: Ticketing,
    seen: Seen,
}

impl Certificate {
    /// Reads the ticket keys, but no certificate yet.
    pub fn new(source: TlsSource, ticket_keys: Option<PathBuf>) -> Result<Self, TlsError> {
        // Before they are read: what is replaced meanwhile differs from it, and is read again.
        let seen = Seen { ticket_keys: ticket_keys.as_deref().and_then(stamp), certificate: [None; 2] };
        let tickets = ticket_keys.as_deref().map_or_else(Ticketing::new, Ticketing::of_file)?;
        Ok(Self { source, ticket_keys, tickets, seen })
    }

    /// Reads the ticket keys again, for the next [`Certificate::load`]. After an error the old ones stay.
    pub fn read_ticket_keys(&mut self) -> Result<(), TlsError> {
        self.seen.ticket_keys = self.look().ticket_keys;
        if let Some(file) = &self.ticket_keys {
            self.tickets = Ticketing::of_file(file)?;
        }
        Ok(())
    }

    /// Reads the files of the certificate, as [`load`] does.
    pub fn load(&mut self) -> Result<Arc<ServerConfig>, TlsError> {
        self.seen.certificate = self.look().certificate;
        load(&self.source, &self.tickets)
    }

    /// Whether the files are others than those read last.
    pub fn has_changed(&self) -> bool {
        self.look() != self.seen
    }

    fn look(&self) -> Seen {
        let certificate = match &self.source {
            TlsSource::Files { cert, key } => [stamp(cert), stamp(key)],
            TlsSource::SelfSigned => [None; 2],
        };
        Seen { certificate, ticket_keys: self.ticket_keys.as_deref().and_then(stamp) }
    }
}

/// What files looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// Certificate and key.
    certificate: [Option<Stamp>; 2],
    ticket_keys: Option<Stamp>,
}

/// What tells a file from the one that replaces it: when it was written and which one it is.
type Stamp = (SystemTime, u64);

/// `None`: there is no such file, or it cannot be looked at.
fn stamp(file: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(file).ok()?;
    Some((file.modified().ok()?, file.ino()))
}

/// Why there is no TLS. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM, or lacks the block that it should have.
    #[error("{}: {problem}", file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        problem: PemProblem,
    },
    /// The key is not the certificate's.
    #[error("{}: not the private key of the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// Certificate chain.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// Certificate or key cannot be used.
    #[error("{}, {}: {source}", cert.display(), key.display())]
    Unusable {
        /// Certificate chain.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The ticket keys cannot be used.
    #[error("{}: {problem}", file.display())]
    TicketKeys {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        problem: tickets::Problem,
    },
    /// No self-signed certificate could be made.
    #[error("self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// The cryptographic library refuses the rules themselves.
    #[error("TLS rules: {0}")]
    Rules(rustls::Error),
}

/// What is wrong with a PEM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemProblem {
    /// No `CERTIFICATE` block.
    NoCertificate,
    /// No private key block.
    NoKey,
    /// The key needs a passphrase, and nobody is there to type it.
    Encrypted,
    /// A block does not decode.
    Broken,
}

impl fmt::Display for PemProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "holds no PEM block `CERTIFICATE`",
            Self::NoKey => "holds no PEM block `PRIVATE KEY` (nor `RSA` or `EC PRIVATE KEY`)",
            Self::Encrypted => "the private key is encrypted; give one without a passphrase",
            Self::Broken => "holds a PEM block that does not decode",
        })
    }
}

/// Reads certificate and key, or makes them, and states the rules of a handshake. Blocks on files: call it where that
/// is no harm.
pub fn load(source: &TlsSource, tickets: &Ticketing) -> Result<Arc<ServerConfig>, TlsError> {
    let rules = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Rules)?
        .with_no_client_auth();
    let mut config = match source {
        TlsSource::Files { cert, key } => {
            let (chain, private) = (read_chain(cert)?, read_key(key)?);
            rules.with_single_cert(chain, private).map_err(|source| unusable(source, cert, key))?
        }
        TlsSource::SelfSigned => {
            let made = rcgen::generate_simple_self_signed(SELF_SIGNED_NAMES.map(String::from))?;
            let private = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
            rules.with_single_cert(vec![made.cert.der().clone()], private.into()).map_err(TlsError::Rules)?
        }
    };
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = tickets.0.clone();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One is what a reconnecting client uses; the second would be 200 bytes more in every handshake.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// AES-128 before the rest: its handshake hashes with SHA-256, which processors have instructions for, where that of
/// AES-256 takes SHA-384; a third of a handshake's instructions were that.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let preferred = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ];
    provider.cipher_suites.sort_by_key(|suite| !preferred.contains(&suite.suite()));
    provider
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(broken(file, PemProblem::NoCertificate)),
        Err(_) => Err(broken(file, PemProblem::Broken)),
    }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(file)?;
    let encrypted = text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let problem = match error {
            _ if encrypted => PemProblem::Encrypted,
            pem::Error::NoItemsFound => PemProblem::NoKey,
            _ => PemProblem::Broken,
        };
        broken(file, problem)
    })
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source })
}

fn broken(file: &Path, problem: PemProblem) -> TlsError {
    TlsError::Pem { file: file.to_owned(), problem }
}

fn unusable(source: rustls::Error, cert: &Path, key: &Path) -> TlsError {
    let (cert, key) = (cert.to_owned(), key.to_owned());
    match source {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { cert, key },
        source => TlsError::Unusable { cert, key, source },
    }
}

const SELF_SIGNED_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// In `BEGIN ENCRYPTED PRIVATE KEY` and in the `Proc-Type` of the older form.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

#[cfg(test)]
mod tests;
