//! Settings under construction: what knobs write into, before the relations between them are known.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use crate::config::{
    redis::RedisDraft,
    settings::{LogFormat, Secret, Settings, Store},
};

/// Settings with the values that only together make one. `None`: not given.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Everything that one knob decides alone.
    pub settings: Settings,
    /// `HTTPS_PORT`.
    pub https_port: Option<u16>,
    /// `TLS_CERT`.
    pub tls_cert: Option<PathBuf>,
    /// `TLS_KEY`.
    pub tls_key: Option<PathBuf>,
    /// `TLS_SELF_SIGNED`.
    pub self_signed: bool,
    /// `ADMIN_HOST`.
    pub admin_host: IpAddr,
    /// `METRICS_PORT`.
    pub metrics_port: u16,
    /// `METRICS_ENABLED`.
    pub metrics_enabled: bool,
    /// `HEALTH_CHECK_PORT`.
    pub health_port: Option<u16>,
    /// `GRPC_TLS_CERT`.
    pub grpc_cert: Option<PathBuf>,
    /// `GRPC_TLS_KEY`.
    pub grpc_key: Option<PathBuf>,
    /// `JWT_SECRET`.
    pub jwt_secret: Option<Secret>,
    /// `JWT_PUBLIC_KEY_FILE`.
    pub jwt_public_key: Option<PathBuf>,
    /// `JWT_JWKS_FILE`.
    pub jwks_file: Option<PathBuf>,
    /// `JWT_JWKS_URL`.
    pub jwks_url: Option<String>,
    /// `JWT_JWKS_REFRESH`.
    pub jwks_refresh: Duration,
    /// `SHARD_CORES`.
    pub shard_cores: Option<Vec<usize>>,
    /// `SHARDS`.
    pub shards: Option<usize>,
    /// `CONTROL_CORE`.
    pub control_core: Option<usize>,
    /// `LOG_FORMAT`.
    pub log_format: Option<LogFormat>,
    /// Everything about Redis.
    pub redis: RedisDraft,
    /// `STORE`.
    pub store: Option<Store>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            https_port: None,
            tls_cert: None,
            tls_key: None,
            self_signed: false,
            admin_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            metrics_port: 9057,
            metrics_enabled: true,
            health_port: None,
            grpc_cert: None,
            grpc_key: None,
            jwt_secret: None,
            jwt_public_key: None,
            jwks_file: None,
            jwks_url: None,
            jwks_refresh: Duration::from_secs(300),
            shard_cores: None,
            shards: None,
            control_core: None,
            log_format: None,
            redis: RedisDraft::default(),
            store: None,
        }
    }
}
