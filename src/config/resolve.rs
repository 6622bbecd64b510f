//! From what was typed to what the code uses: kinds, bounds, relations, and what only the host can say.
//!
//! Invariant: all errors are found in one go. Never reads the host itself: [`Host`] is a parameter.

use std::{
    io::IsTerminal,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use crate::{
    config::{
        draft::Draft,
        error::{ConfigError, Told},
        kind::{Kind, Refusal, show_cores},
        knobs::{self, Knob},
        raw::{Given, Origin, Raw, Typed},
        settings::{Cores, KeySource, LogFormat, Redis, Secret, Settings, Store, TlsSource},
    },
    limits::TARGETS_MAX,
};

/// What defaults depend on.
#[derive(Clone, Debug)]
pub struct Host {
    /// Cores that this process may use, ascending; at least one.
    pub cores: Vec<usize>,
    /// Whether logs go to a terminal.
    pub terminal: bool,
}

impl Host {
    /// This host, and the limits that the process was started with.
    pub fn read() -> Self {
        use rustix::thread::{CpuSet, sched_getaffinity};
        let mut cores: Vec<usize> = sched_getaffinity(None)
            .map(|set| (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
            .unwrap_or_default();
        if cores.is_empty() {
            cores.push(0);
        }
        Self { cores, terminal: std::io::stderr().is_terminal() }
    }
}

/// One knob as it is in effect.
#[derive(Clone)]
pub struct Entry {
    /// Which.
    pub knob: &'static Knob,
    /// Its value as people may see it; secrets are masked.
    pub shown: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// A valid configuration.
pub struct Resolved {
    /// For the gateway. Without any key source `auth.keys` is empty: development.
    pub settings: Settings,
    /// For people: every knob, in the order of the table.
    pub entries: Vec<Entry>,
    /// What is allowed and probably not meant; one line each.
    pub warnings: Vec<String>,
    /// What is accepted for the sake of other services, and why it has no effect here; one line each.
    pub notes: Vec<String>,
}

/// Makes settings of what was typed.
///
/// # Errors
/// Everything that is wrong, at least one entry.
pub fn resolve(raw: Raw, host: &Host) -> Result<Resolved, Vec<ConfigError>> {
    let mut work = Work { entries: defaults(), errors: raw.errors, warnings: Vec::new(), notes: Vec::new() };
    let mut draft = Draft::default();
    for given in &raw.given {
        work.apply(given, &mut draft);
    }
    work.check_relations(&draft);
    let settings = work.finish(draft, host);
    work.warn(&settings);
    if work.errors.is_empty() {
        let Work { entries, warnings, notes, .. } = work;
        Ok(Resolved { settings, entries, warnings, notes })
    } else {
        Err(work.errors)
    }
}

fn defaults() -> Vec<Entry> {
    let entry = |knob: &'static Knob| Entry { knob, shown: knob.default.to_owned(), origin: Origin::Default };
    knobs::all().map(|(_, knob)| entry(knob)).collect()
}

struct Work {
    entries: Vec<Entry>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Work {
    fn apply(&mut self, given: &Given, draft: &mut Draft) {
        let Given { knob, typed, origin, .. } = given;
        let told = |value: &str| Told { name: knob.name, value: knob.masked(value), origin: origin.clone() };
        match knob.kind.apply(typed, draft) {
            Err(Refusal::Must(allowed)) => {
                self.errors.push(ConfigError::Invalid { given: told(&as_typed(typed)), allowed });
            }
            Err(Refusal::Later(why)) => {
                self.errors.push(ConfigError::Refused { given: told(&as_typed(typed)), why });
            }
            Ok(shown) => {
                let told = told(&shown);
                match knob.kind {
                    Kind::Later(why) => self.warnings.push(format!("{told}: {why}")),
                    Kind::Ignored(why) => self.notes.push(format!("{told}: without effect: {why}")),
                    _ if knob.secret && matches!(origin, Origin::Flag(_)) => self.warnings.push(format!(
                        "{told}: other users can see flags in the list of processes; the environment is safer"
                    )),
                    _ => {}
                }
                self.set_shown(knob.name, knob.masked(&shown), origin.clone());
            }
        }
    }

    fn set_shown(&mut self, name: &str, shown: String, origin: Origin) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.knob.name == name) {
            (entry.shown, entry.origin) = (shown, origin);
        }
    }

    /// Shows what a default came to, once the host and the other values are known.
    fn set_default(&mut self, name: &str, shown: String) {
        let of_default = |entry: &&mut Entry| entry.knob.name == name && entry.origin == Origin::Default;
        if let Some(entry) = self.entries.iter_mut().find(of_default) {
            entry.shown = shown;
        }
    }

    fn told(&self, name: &'static str) -> Told {
        let entry = self.entries.iter().find(|entry| entry.knob.name == name);
        let (value, origin) = entry
            .map_or((String::new(), Origin::Default), |entry| (entry.shown.clone(), entry.origin.clone()));
        Told { name, value, origin }
    }

    fn conflict(&mut self, first: &'static str, second: &'static str, rule: &'static str) {
        let (first, second) = (Box::new(self.told(first)), Box::new(self.told(second)));
        self.errors.push(ConfigError::Conflict { first, second, rule });
    }

    fn check_relations(&mut self, draft: &Draft) {
        let Draft { settings, .. } = draft;
        if settings.keep_alive.pong_timeout <= settings.keep_alive.ping_interval {
            self.conflict("WS_PONG_TIMEOUT", "WS_PING_INTERVAL", "the first must be longer");
        }
        if settings.queues.ready_urls.len() > TARGETS_MAX {
            let (given, allowed) = (self.told("QUEUE_READY_URLS"), format!("at most {TARGETS_MAX} URLs"));
            self.errors.push(ConfigError::Invalid { given, allowed });
        }
        if settings.presence.timeout <= settings.presence.interval {
            self.conflict("PRESENCE_TIMEOUT", "PRESENCE_INTERVAL", "the first must be longer");
        } else if draft.redis.is_configured()
            && settings.presence.timeout <= settings.presence.interval + draft.redis.command_timeout
        {
            // Whoever waits for one slow command would count as gone.
            let rule = "the first must be longer than the second and PRESENCE_INTERVAL together";
            self.conflict("PRESENCE_TIMEOUT", "REDIS_COMMAND_TIMEOUT", rule);
        }
        if settings.shutdown.drain_delay > settings.shutdown.timeout {
            self.conflict("DRAIN_DELAY", "SHUTDOWN_TIMEOUT", "the first must not be longer");
        }
        let certificate = draft.tls_cert.is_some() || draft.self_signed;
        let together = "one needs the other";
        let rules = [
            (draft.tls_cert.is_some() != draft.tls_key.is_some(), "TLS_CERT", "TLS_KEY", together),
            (
                draft.grpc_cert.is_some() != draft.grpc_key.is_some(),
                "GRPC_TLS_CERT",
                "GRPC_TLS_KEY",
                together,
            ),
            (draft.tls_cert.is_some() && draft.self_signed, "TLS_CERT", "TLS_SELF_SIGNED", "choose one"),
            (draft.https_port.is_some() && !certificate, "HTTPS_PORT", "TLS_CERT", "wss needs a certificate"),
            (
                settings.ticket_keys.is_some() && !certificate,
                "TLS_TICKET_KEYS",
                "TLS_CERT",
                "tickets need a certificate",
            ),
            (draft.shards.is_some() && draft.shard_cores.is_some(), "SHARDS", "SHARD_CORES", "choose one"),
            (
                settings.callers.client_ca.is_some() && draft.grpc_cert.is_none(),
                "GRPC_TLS_CLIENT_CA",
                "GRPC_TLS_CERT",
                "the first needs the second",
            ),
            (
                !draft.redis.urls.is_empty() && draft.redis.host.is_some(),
                "REDIS_URL",
                "REDIS_HOST",
                "choose one",
            ),
            (
                draft.store == Some(Store::Redis) && !draft.redis.is_configured(),
                "STORE",
                "REDIS_URL",
                "the first needs the second, or REDIS_HOST",
            ),
            (
                only_secret(draft) && no_shared_algorithm(&settings.auth.algorithms),
                "JWT_ALGORITHMS",
                "JWT_SECRET",
                "a secret needs HS256, HS384 or HS512",
            ),
        ];
        for (broken, first, second, rule) in rules {
            if broken {
                self.conflict(first, second, rule);
            }
        }
    }

    fn finish(&mut self, draft: Draft, host: &Host) -> Settings {
        let cores = self.cores(&draft, host);
        let format =
            draft.log_format.unwrap_or(if host.terminal { LogFormat::Pretty } else { LogFormat::Json });
        self.set_default("LOG_FORMAT", if format == LogFormat::Json { "json" } else { "pretty" }.into());

        let tls = match (draft.tls_cert.clone(), draft.tls_key.clone()) {
            (Some(cert), Some(key)) => Some(TlsSource::Files { cert, key }),
            _ => draft.self_signed.then_some(TlsSource::SelfSigned),
        };
        let https_port = tls.as_ref().map(|_| draft.https_port.unwrap_or(HTTPS_PORT_DEFAULT));
        self.set_default(
            "HTTPS_PORT",
            https_port.map_or_else(|| "(off)".to_owned(), |port| port.to_string()),
        );

        let mut settings = draft.settings.clone();
        settings.auth.keys = keys(&draft);
        settings.tls = tls;
        settings.listen.https_port = https_port;
        settings.listen.admin =
            draft.metrics_enabled.then(|| SocketAddr::new(draft.admin_host, draft.metrics_port));
        settings.listen.health = draft.health_port.map(|port| SocketAddr::new(draft.admin_host, port));
        settings.redis = self.redis(&draft);
        let by_redis = if settings.redis.is_some() { Store::Redis } else { Store::Embedded };
        settings.streams.store = draft.store.unwrap_or(by_redis);
        self.set_default("STORE", settings.streams.store.name().into());
        settings.callers.tls = draft.grpc_cert.zip(draft.grpc_key);
        settings.log.format = format;
        settings.cores = cores;
        settings
    }

    fn redis(&mut self, draft: &Draft) -> Option<Redis> {
        match draft.redis.finish() {
            Ok(redis) => redis,
            Err(rule) => {
                self.conflict("REDIS_URL", "REDIS_TLS", rule);
                None
            }
        }
    }

    fn cores(&mut self, draft: &Draft, host: &Host) -> Cores {
        let control = draft.control_core.or_else(|| host.cores.last().copied()).unwrap_or(0);
        let free: Vec<usize> = match host.cores.len() {
            0..=2 => host.cores.clone(),
            _ => host.cores.iter().copied().filter(|core| *core != control).collect(),
        };
        let shards = match (&draft.shard_cores, draft.shards) {
            (Some(cores), _) => cores.clone(),
            (None, None) => free,
            // Fewer shards than cores leave control its own; more take every core in turn.
            (None, Some(count)) => {
                let pool = if count < host.cores.len() { &free } else { &host.cores };
                pool.iter().copied().cycle().take(count).collect()
            }
        };
        self.check_cores("SHARD_CORES", &shards, host);
        self.check_cores("CONTROL_CORE", &[control], host);
        self.set_default("SHARD_CORES", show_cores(&shards));
        self.set_default("SHARDS", shards.len().to_string());
        self.set_default("CONTROL_CORE", control.to_string());
        Cores { shards, control, private_descriptors: false }
    }

    fn check_cores(&mut self, name: &'static str, cores: &[usize], host: &Host) {
        if let Some(core) = cores.iter().copied().find(|core| !host.cores.contains(core)) {
            let given = self.told(name);
            self.errors.push(ConfigError::NoSuchCore { given, core, usable: show_cores(&host.cores) });
        }
    }

    fn warn(&mut self, settings: &Settings) {
        let secrets = [
            ("JWT_SECRET", secret_of(settings)),
            ("JWT_REFRESH_SECRET", settings.auth.refresh_secret.as_ref()),
        ];
        for (name, secret) in secrets {
            if secret.is_some_and(|secret| secret.0.len() < SECRET_BYTES_MIN) {
                self.warnings
                    .push(format!("{name} is shorter than {SECRET_BYTES_MIN} bytes, and so can be guessed"));
            }
        }
        if settings.limits.message_bytes_max > settings.limits.outbox_bytes_max {
            let (size, outbox) = (self.told("WS_MAX_MESSAGE_SIZE"), self.told("OUTBOX_MAX_BYTES"));
            self.warnings.push(format!("{size}: messages larger than {outbox} close whoever gets them"));
        }
        if settings.redis.as_ref().is_some_and(|redis| redis.parting_time() > settings.shutdown.timeout) {
            let (timeout, command) = (self.told("SHUTDOWN_TIMEOUT"), self.told("REDIS_COMMAND_TIMEOUT"));
            self.warnings.push(format!("{timeout}: parting from a slow Redis takes three times {command}"));
        }
        let open = |ip: IpAddr| !ip.is_loopback();
        let callers = &settings.callers;
        if open(settings.listen.grpc.ip()) && callers.token.is_none() && callers.client_ca.is_none() {
            let given = self.told("GRPC_HOST");
            self.warnings.push(format!(
                "{given}: whoever reaches it can notify everybody; set GRPC_AUTH_TOKEN or GRPC_TLS_CLIENT_CA"
            ));
        }
        if settings.listen.onsale_page && settings.listen.admin.is_some_and(|admin| open(admin.ip())) {
            let given = self.told("ADMIN_HOST");
            self.warnings
                .push(format!("{given}: ONSALE_PAGE is for development, where nobody else reaches it"));
        }
        if matches!(settings.tls, Some(TlsSource::SelfSigned)) {
            self.warnings
                .push("TLS_SELF_SIGNED: browsers refuse this certificate until told otherwise".into());
        }
    }
}

/// HS256 needs a key as long as its hash (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
const HTTPS_PORT_DEFAULT: u16 = 3443;

fn as_typed(typed: &Typed) -> String {
    match typed {
        Typed::Text(text) | Typed::Bare(text) => text.clone(),
        Typed::List(list) => list.join(","),
    }
}

fn only_secret(draft: &Draft) -> bool {
    let others: [&Option<PathBuf>; 2] = [&draft.jwt_public_key, &draft.jwks_file];
    draft.jwt_secret.is_some() && draft.jwks_url.is_none() && others.iter().all(|other| other.is_none())
}

fn no_shared_algorithm(algorithms: &[String]) -> bool {
    !algorithms.is_empty() && !algorithms.iter().any(|name| name.starts_with("HS"))
}

fn keys(draft: &Draft) -> Vec<KeySource> {
    let url = |url: String| KeySource::JwksUrl { url, refresh: draft.jwks_refresh };
    let sources = [
        draft.jwt_secret.clone().map(KeySource::Secret),
        draft.jwt_public_key.clone().map(KeySource::Pem),
        draft.jwks_file.clone().map(KeySource::JwksFile),
        draft.jwks_url.clone().map(url),
    ];
    sources.into_iter().flatten().collect()
}

/// The shared secret, if that is one of the key sources.
fn secret_of(settings: &Settings) -> Option<&Secret> {
    settings.auth.keys.iter().find_map(|source| match source {
        KeySource::Secret(secret) => Some(secret),
        KeySource::Pem(_) | KeySource::JwksFile(_) | KeySource::JwksUrl { .. } => None,
    })
}
