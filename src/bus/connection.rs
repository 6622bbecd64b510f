//! Connections to Redis: one for commands, one for what Redis pushes; of a server alone, or of a cluster.
//!
//! Owns how they are made: TCP or TLS, RESP3, user, database. To a server alone the sockets are our own, so that a message
//! without end cannot fill the memory: past [`PUSH_BYTES_MAX`] the connection is given up. Connections to the nodes of a
//! cluster are made by the client library.

use std::{
    fs, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, ProtocolVersion,
    RedisConnectionInfo, RedisError, RedisFuture, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsConnector;

use super::pushes::Pushes;
use crate::{
    config::settings::{Redis, RedisNode},
    limits::{INTERESTS_BATCH_MAX, PUSH_BYTES_MAX, REDIS_CONNECT_TIME_MAX},
};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket could not be opened, or TLS could not be agreed on.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Redis refused, or said what no Redis says.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// The authorities cannot be read, or there are none.
    #[error("authorities for TLS ({from}): {problem}")]
    Authorities {
        /// Where they were looked for.
        from: String,
        /// What is wrong.
        problem: String,
    },
    /// The host cannot stand in a certificate.
    #[error("{0} cannot be the name of a certificate")]
    Name(String),
    /// Nobody answered.
    #[error("no answer within {} s", REDIS_CONNECT_TIME_MAX.as_secs())]
    Silent,
}

/// The connection for commands, shared by all who have some: pipelined, answers in order, each within
/// [`Redis::command_timeout`]. Dies with the session that it belongs to.
#[derive(Clone)]
pub enum Commands {
    /// To a server.
    Single(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Both connections.
pub(super) struct Session {
    pub(super) commands: Commands,
    pub(super) subscriptions: Subscriptions,
    _drivers: Drivers,
}

/// The tasks behind connections over sockets of our own; they end with it.
struct Drivers(Vec<AbortHandle>);

impl Drop for Drivers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// The connection that Redis pushes on.
#[derive(Clone)]
pub(super) enum Subscriptions {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Subscriptions {
    /// Returns when Redis confirmed all of them.
    pub(super) async fn subscribe_patterns(&mut self, patterns: &[&str]) -> Result<(), RedisError> {
        match self {
            Self::Single(connection) => connection.psubscribe(patterns).await,
            Self::Cluster(connection) => {
                for pattern in patterns {
                    connection.psubscribe(*pattern).await?;
                }
                Ok(())
            }
        }
    }

    /// Returns when Redis confirmed all of them: subscribes where `on`, else unsubscribes.
    pub(super) async fn set_subscribed(&mut self, channels: Vec<String>, on: bool) -> Result<(), RedisError> {
        debug_assert!(channels.len() <= INTERESTS_BATCH_MAX);
        match self {
            Self::Single(connection) if on => connection.subscribe(channels).await,
            Self::Single(connection) => connection.unsubscribe(channels).await,
            // Channels of one command would have to be of one slot.
            Self::Cluster(connection) => {
                let mut calls = JoinSet::new();
                for channel in channels {
                    let mut connection = connection.clone();
                    calls.spawn(async move {
                        if on {
                            connection.ssubscribe(channel).await
                        } else {
                            connection.sunsubscribe(channel).await
                        }
                    });
                }
                calls.join_all().await.into_iter().collect()
            }
        }
    }

    /// Returns when Redis answered.
    pub(super) async fn ping(&mut self) -> Result<(), RedisError> {
        match self {
            Self::Single(connection) => ping(connection).await,
            Self::Cluster(connection) => ping(connection).await,
        }
    }
}

/// Returns when Redis answered, and said yes: one that still loads its data does not.
pub(super) async fn ping(connection: &mut impl ConnectionLike) -> Result<(), RedisError> {
    redis::cmd("PING").query_async(connection).await
}

/// Opens both connections, within [`REDIS_CONNECT_TIME_MAX`].
pub(super) async fn connect(settings: &Redis, pushes: &Pushes) -> Result<Session, ConnectError> {
    let both = async {
        if settings.is_cluster() { cluster(settings, pushes).await } else { single(settings, pushes).await }
    };
    tokio::time::timeout(REDIS_CONNECT_TIME_MAX, both).await.unwrap_or(Err(ConnectError::Silent))
}

/// What an operator wants to know: the version of the server, or of one node.
///
/// # Errors
/// Redis cannot be used.
pub async fn probe(settings: &Redis) -> Result<String, ConnectError> {
    let version = async {
        let mut commands = if settings.is_cluster() {
            Commands::Cluster(cluster_builder(settings)?.build()?.get_async_connection().await?)
        } else {
            let (connection, _) = open(settings, AsyncConnectionConfig::new(), None).await?;
            Commands::Single(connection)
        };
        ping(&mut commands).await?;
        let hello = redis::cmd("INFO").arg("server").query_async::<Value>(&mut commands).await?;
        Ok(version_of(&format!("{hello:?}")))
    };
    tokio::time::timeout(REDIS_CONNECT_TIME_MAX, version).await.unwrap_or(Err(ConnectError::Silent))
}

fn version_of(info: &str) -> String {
    let version = info.split_once("redis_version:").map_or("", |(_, rest)| rest);
    version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

async fn single(settings: &Redis, pushes: &Pushes) -> Result<Session, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(settings.command_timeout))
        .set_connection_timeout(None);
    let (mut commands, driver) = open(settings, config, None).await?;
    let mut drivers = Drivers(vec![driver]);
    // Whoever awaits a subscription has a time limit of his own.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_push_sender(pushes.clone());
    let (subscriptions, driver) = open(settings, config, Some(pushes.unread())).await?;
    drivers.0.push(driver);
    let session = Session {
        commands: Commands::Single(commands.clone()),
        subscriptions: Subscriptions::Single(subscriptions),
        _drivers: drivers,
    };
    ping(&mut commands).await?;
    Ok(session)
}

async fn open(
    settings: &Redis,
    config: AsyncConnectionConfig,
    unread: Option<Arc<AtomicUsize>>,
) -> Result<(MultiplexedConnection, AbortHandle), ConnectError> {
    let Some(node) = settings.nodes.first() else { return Err(ConnectError::Name(String::new())) };
    let socket = TcpStream::connect((&*node.host, node.port)).await?;
    socket.set_nodelay(true)?;
    let stream: Box<dyn Duplex> = if settings.tls {
        let name =
            ServerName::try_from(node.host.clone()).map_err(|_| ConnectError::Name(node.host.clone()))?;
        let connector = TlsConnector::from(Arc::new(tls(settings)?));
        Box::new(connector.connect(name, socket).await?)
    } else {
        Box::new(socket)
    };
    let stream = Metered { stream, unread };
    let login = login(settings);
    let (connection, driver) = MultiplexedConnection::new_with_config(&login, stream, config).await?;
    Ok((connection, tokio::spawn(driver).abort_handle()))
}

fn login(settings: &Redis) -> RedisConnectionInfo {
    let login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(settings.db))
        .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let login = settings.username.iter().fold(login, |login, name| login.set_username(name));
    settings.password.iter().fold(login, |login, password| login.set_password(&password.0))
}

async fn cluster(settings: &Redis, pushes: &Pushes) -> Result<Session, ConnectError> {
    let commands = cluster_builder(settings)?.build()?.get_async_connection().await?;
    let pushing = cluster_builder(settings)?.push_sender(pushes.clone()).build()?;
    let subscriptions = pushing.get_async_connection().await?;
    let mut session = Session {
        commands: Commands::Cluster(commands),
        subscriptions: Subscriptions::Cluster(subscriptions),
        _drivers: Drivers(Vec::new()),
    };
    ping(&mut session.commands).await?;
    Ok(session)
}

fn cluster_builder(settings: &Redis) -> Result<ClusterClientBuilder, ConnectError> {
    let nodes = settings.nodes.iter().map(|RedisNode { host, port }| {
        let (host, port) = (host.clone(), *port);
        let address = if settings.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        Ok(address.into_connection_info()?.set_redis_settings(login(settings)))
    });
    let nodes = nodes.collect::<Result<Vec<_>, RedisError>>()?;
    let mut builder = ClusterClientBuilder::new(nodes)
        .use_protocol(ProtocolVersion::RESP3)
        // An append without a key that was repeated after an I/O error would be stored twice.
        .retries(0)
        .connection_timeout(REDIS_CONNECT_TIME_MAX)
        .response_timeout(settings.command_timeout);
    if settings.tls {
        let root_cert = settings.ca.as_ref().map(fs::read).transpose()?;
        builder = builder.tls(TlsMode::Secure).certs(TlsCertificates { client_tls: None, root_cert });
    }
    Ok(builder)
}

fn tls(settings: &Redis) -> Result<ClientConfig, ConnectError> {
    let mut roots = RootCertStore::empty();
    let from =
        settings.ca.as_ref().map_or_else(|| "the system's".to_owned(), |file| file.display().to_string());
    let problem = |problem: String| ConnectError::Authorities { from: from.clone(), problem };
    match &settings.ca {
        Some(file) => {
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|error| problem(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| problem(error.to_string()))?;
                roots.add(certificate).map_err(|error| problem(error.to_string()))?;
            }
        }
        // Some of a system's are always odd; the others do.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(problem("there are none".into()));
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(error.to_string()))?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

/// Both directions of a connection.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A stream that fails once too much was read of one message. `unread`: bytes read since it was known last that all before
/// was whole, which whoever knows it sets back; `None`: no bound.
struct Metered {
    stream: Box<dyn Duplex>,
    unread: Option<Arc<AtomicUsize>>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some(unread) = &self.unread {
            let read = buffer.filled().len() - before;
            if unread.fetch_add(read, Ordering::Relaxed) + read > PUSH_BYTES_MAX {
                return Poll::Ready(Err(io::Error::other("a message from Redis is too large")));
            }
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
