//! The gateway that a command calls: where it is, as whom, and what is said where there is no answer.
//!
//! Owns the connection. Never knows what is called: `notify` and `queue` do.

use std::{fs, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Arg, ArgMatches, value_parser};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{command::text, fail, nearby, say};
use crate::config::settings::Settings;

/// Connecting, and then the call: a gateway that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be typed about the gateway.
pub(super) fn arguments() -> [Arg; 5] {
    let file = |name: &'static str| text(name, "FILE").value_parser(value_parser!(PathBuf));
    let arguments = [
        text("address", "ADDRESS")
            .help("Where the gateway listens for gRPC [default: GRPC_PORT on this machine]"),
        text("token", "TEXT").help("Bearer token [default: GRPC_AUTH_TOKEN]"),
        file("tls-ca").help("Authority of the gateway's certificate, PEM; needed for https"),
        file("tls-cert").requires("tls-key").help("Own certificate, where GRPC_TLS_CLIENT_CA asks for one"),
        file("tls-key").requires("tls-cert").help("Its private key"),
    ];
    arguments.map(|argument| argument.help_heading("Connection"))
}

/// Prints what the call brings; exit code 1 with the reason on standard error where it brings nothing.
pub(super) fn run(call: impl Future<Output = Result<String, CallError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(CallError::Runtime).and_then(|runtime| runtime.block_on(call)) {
        Ok(answer) => {
            say(&answer);
            ExitCode::SUCCESS
        }
        Err(error) => fail(error, 1),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}")]
    Arguments(&'static str),
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error("cannot read {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("--token can not be sent: it has characters that no header may have")]
    Token,
    #[error("{address}: {reason}")]
    Connect { address: String, reason: String },
    /// `INVALID_ARGUMENT: user_id is required`.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Whom to call, and as whom.
pub(super) struct Target {
    pub(super) address: String,
    token: Option<MetadataValue<Ascii>>,
    tls: Option<ClientTlsConfig>,
}

impl Target {
    /// What was typed, else what a gateway with this configuration listens to on this machine.
    pub(super) fn from_matches(matches: &ArgMatches, settings: &Settings) -> Result<Self, CallError> {
        let scheme = if settings.callers.tls.is_some() { "https" } else { "http" };
        let own = || format!("{scheme}://{}", nearby(settings.listen.grpc));
        let address = match matches.get_one::<String>("address") {
            Some(typed) if typed.contains("://") => typed.clone(),
            Some(typed) => format!("{scheme}://{typed}"),
            None => own(),
        };
        let token = matches
            .get_one::<String>("token")
            .or_else(|| settings.callers.token.as_ref().map(|token| &token.0));
        let token = token.map(|token| bearer(token)).transpose()?;
        let tls = if address.starts_with("https://") { Some(tls(matches)?) } else { None };
        Ok(Self { address, token, tls })
    }

    fn connect_error(&self, error: &tonic::transport::Error) -> CallError {
        // The outer error only says "transport error"; the reason is its deepest source.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        CallError::Connect { address: self.address.clone(), reason: reason.to_string() }
    }

    pub(super) async fn connect(&self) -> Result<Channel, CallError> {
        let told = |error| self.connect_error(&error);
        let endpoint = Endpoint::from_shared(self.address.clone()).map_err(told)?;
        let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
        let endpoint = match &self.tls {
            Some(tls) => endpoint.tls_config(tls.clone()).map_err(told)?,
            None => endpoint,
        };
        endpoint.connect().await.map_err(told)
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, CallError> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| CallError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(matches: &ArgMatches) -> Result<ClientTlsConfig, CallError> {
    let read = |name: &str| match matches.get_one::<PathBuf>(name) {
        None => Ok(None),
        Some(path) => fs::read(path).map(Some).map_err(|error| CallError::File { path: path.clone(), error }),
    };
    let Some(authority) = read("tls-ca")? else {
        return Err(CallError::Arguments(
            "https needs --tls-ca, the authority that signed the gateway's certificate",
        ));
    };
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    Ok(match read("tls-cert")?.zip(read("tls-key")?) {
        Some((cert, key)) => config.identity(Identity::from_pem(cert, key)),
        None => config,
    })
}
