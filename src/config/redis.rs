//! How Redis is reached, from what was typed about it.

use std::{path::PathBuf, time::Duration};

use redis::{ConnectionAddr, IntoConnectionInfo};

use crate::config::settings::{Redis, RedisNode, Secret};

/// Everything about Redis, before it is known whether there is one. `None`: not given.
#[derive(Clone, Debug)]
pub struct RedisDraft {
    /// `REDIS_URL`; each was accepted by [`parse`].
    pub urls: Vec<String>,
    /// `REDIS_HOST`.
    pub host: Option<String>,
    /// `REDIS_PORT`.
    pub port: u16,
    /// `REDIS_USERNAME`.
    pub username: Option<String>,
    /// `REDIS_PASSWORD`.
    pub password: Option<Secret>,
    /// `REDIS_DB`.
    pub db: Option<u32>,
    /// `REDIS_TLS`.
    pub tls: Option<bool>,
    /// `REDIS_TLS_CA`.
    pub ca: Option<PathBuf>,
    /// `REDIS_PREFIX`.
    pub prefix: String,
    /// `REDIS_COMMAND_TIMEOUT`.
    pub command_timeout: Duration,
    /// `READY_REQUIRES_REDIS`.
    pub ready_required: bool,
}

impl Default for RedisDraft {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            host: None,
            port: 6379,
            username: None,
            password: None,
            db: None,
            tls: None,
            ca: None,
            prefix: "usher:".into(),
            command_timeout: Duration::from_millis(250),
            ready_required: true,
        }
    }
}

impl RedisDraft {
    /// Whether there is a Redis at all.
    pub fn is_configured(&self) -> bool {
        !self.urls.is_empty() || self.host.is_some()
    }

    /// What a URL says counts; what it leaves open is taken from the other variables.
    ///
    /// # Errors
    /// What does not go together, as the rule that is broken.
    pub fn finish(&self) -> Result<Option<Redis>, &'static str> {
        let mut servers = Vec::new();
        for url in &self.urls {
            servers.push(parse(url).map_err(|_| "each must be a URL of Redis")?);
        }
        if let Some(host) = &self.host {
            let node = RedisNode { host: host.clone(), port: self.port };
            servers.push(Server { node, tls: false, username: None, password: None, db: None });
        }
        let Some(first) = servers.first().cloned() else { return Ok(None) };
        if servers.iter().any(|server| server.tls != first.tls) {
            return Err("all nodes must be redis:// or all rediss://");
        }
        if !self.urls.is_empty() && first.tls && self.tls == Some(false) {
            return Err("rediss:// is TLS");
        }
        Ok(Some(Redis {
            nodes: servers.into_iter().map(|server| server.node).collect(),
            username: first.username.or_else(|| self.username.clone()),
            password: first.password.or_else(|| self.password.clone()),
            db: first.db.or(self.db).unwrap_or(0),
            tls: first.tls || self.tls == Some(true),
            ca: self.ca.clone(),
            prefix: self.prefix.clone(),
            command_timeout: self.command_timeout,
            ready_required: self.ready_required,
        }))
    }
}

impl Redis {
    /// What a stop takes at most to part from it: the last words, the last answers, the lease.
    pub fn parting_time(&self) -> Duration {
        3 * self.command_timeout
    }
}

/// One URL, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    node: RedisNode,
    tls: bool,
    username: Option<String>,
    password: Option<Secret>,
    db: Option<u32>,
}

/// Reads `redis://[user][:password@]host[:port][/db]`, or with `rediss`.
///
/// # Errors
/// Completes "must be".
pub fn parse(url: &str) -> Result<Server, &'static str> {
    const SHAPE: &str =
        "redis://user:password@host:port/db, or rediss:// for TLS; several with commas between them";
    if !["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(SHAPE);
    }
    let info = url.into_connection_info().map_err(|_| SHAPE)?;
    let (host, port, tls) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
        ConnectionAddr::TcpTls { host, port, insecure: false, .. } => (host.clone(), *port, true),
        // What cannot tell Redis from somebody else's server protects nothing.
        ConnectionAddr::TcpTls { .. } => return Err("rediss:// without #insecure; see REDIS_TLS_CA"),
        _ => return Err(SHAPE),
    };
    if host.is_empty() || port == 0 {
        return Err(SHAPE);
    }
    let settings = info.redis_settings();
    let path = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@').map_or(rest, |(_, rest)| rest).split_once('/'));
    let names_db = path.is_some_and(|(_, path)| path.starts_with(|c: char| c.is_ascii_digit()));
    Ok(Server {
        node: RedisNode { host, port },
        tls,
        username: settings.username().filter(|text| !text.is_empty()).map(str::to_owned),
        password: settings.password().filter(|text| !text.is_empty()).map(|text| Secret(text.to_owned())),
        db: if names_db { u32::try_from(settings.db()).ok() } else { None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(urls: &[&str]) -> RedisDraft {
        RedisDraft { urls: urls.iter().map(|url| (*url).to_owned()).collect(), ..RedisDraft::default() }
    }

    #[test]
    fn a_url_says_everything_and_the_variables_what_it_leaves_open() {
        let open = RedisDraft {
            username: Some("alice".into()),
            password: Some(Secret("wonder".into())),
            db: Some(3),
            ..of(&["redis://cache"])
        };
        let redis = open.finish().unwrap().unwrap();
        assert_eq!(redis.nodes, [RedisNode { host: "cache".into(), port: 6379 }]);
        assert_eq!((redis.username.as_deref(), redis.db, redis.tls), (Some("alice"), 3, false));
        assert_eq!(redis.password, Some(Secret("wonder".into())));
        let said = RedisDraft { urls: vec!["rediss://bob:p%40ss@cache:7/0".into()], ..open };
        let redis = said.finish().unwrap().unwrap();
        assert_eq!((redis.username.as_deref(), redis.db, redis.tls), (Some("bob"), 0, true));
        assert_eq!((redis.password, redis.nodes[0].port), (Some(Secret("p@ss".into())), 7));
    }

    #[test]
    fn a_host_alone_is_a_redis_and_nothing_is_none() {
        assert_eq!(RedisDraft { port: 7, ..RedisDraft::default() }.finish(), Ok(None));
        let host = RedisDraft { host: Some("::1".into()), tls: Some(true), ..RedisDraft::default() };
        let redis = host.finish().unwrap().unwrap();
        assert_eq!(
            (redis.nodes[0].to_string(), redis.tls, redis.is_cluster()),
            ("::1:6379".into(), true, false)
        );
    }

    #[test]
    fn several_urls_are_a_cluster_of_one_kind() {
        let redis = of(&["redis://:pw@a:1", "redis://b:2"]).finish().unwrap().unwrap();
        assert!(redis.is_cluster() && redis.password.is_some());
        assert!(of(&["redis://a", "rediss://b"]).finish().is_err());
        assert!(RedisDraft { tls: Some(false), ..of(&["rediss://b"]) }.finish().is_err());
    }

    #[test]
    fn what_is_no_url_of_a_redis_is_refused() {
        for url in
            ["", "cache:6379", "http://cache", "redis://", "unix:///run/redis", "redis://a/x", "redis://a:0"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
        assert!(parse("rediss://a#insecure").is_err());
    }
}
