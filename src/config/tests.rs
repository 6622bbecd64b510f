//! What people type, from all three sources, and what comes of it.

use std::{path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::{
    knobs,
    raw::{Environment, Raw},
    reference,
    resolve::{Host, Resolved, resolve},
    settings::{KeySource, LogFormat, Store, TlsSource},
};

/// Everything that can be typed, on a machine of eight cores.
#[derive(Default)]
struct Typed<'a> {
    file: Option<(&'a str, &'a str)>,
    environment: &'a [(&'a str, &'a str)],
    flags: &'a [(&'a str, &'a str)],
    cores: Option<Vec<usize>>,
}

impl Typed<'_> {
    fn resolve(&self) -> Result<Resolved, Vec<String>> {
        let folder = TempDir::new().unwrap();
        let path = self.file.map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        let flags =
            self.flags.iter().map(|(name, value)| (knobs::find(name).unwrap().knob, (*value).to_owned()));
        let raw = Raw::collect(
            path.as_deref(),
            &Environment::of(self.environment.iter().copied()),
            flags.collect(),
        );
        let host = Host { cores: self.cores.clone().unwrap_or_else(|| (0..8).collect()), terminal: false };
        let folder = format!("{}/", folder.path().display());
        resolve(raw, &host)
            .map_err(|errors| errors.iter().map(|error| error.to_string().replace(&folder, "")).collect())
    }

    fn settings(&self) -> super::Settings {
        self.resolve().map_err(|errors| errors.join("\n")).unwrap().settings
    }
}

fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> Typed<'a> {
    Typed { environment: pairs, ..Typed::default() }
}

fn file<'a>(name: &'a str, text: &'a str) -> Typed<'a> {
    Typed { file: Some((name, text)), ..Typed::default() }
}

#[test]
fn nothing_typed_gives_the_defaults() {
    let resolved = Typed::default().resolve().unwrap_or_else(|errors| panic!("{errors:?}"));
    let cores = super::settings::Cores { shards: (0..7).collect(), control: 7, private_descriptors: false };
    let expected = super::Settings { cores, ..super::Settings::default() };
    assert_eq!(format!("{:?}", resolved.settings), format!("{expected:?}"));
    assert!(resolved.warnings.is_empty() && resolved.notes.is_empty());
}

#[test]
fn names_of_the_replaced_services_mean_what_they_meant() {
    let settings = environment(&[
        ("PORT", "3001"),
        ("WEBSOCKET_HOST", "127.0.0.1"),
        ("WS_CORS_ORIGIN", "https://Shop.example"),
        ("WS_CONNECTION_TIMEOUT", "30000"),
        ("WS_PING_INTERVAL", "25000"),
        ("WS_PING_TIMEOUT", "60000"),
        ("TOKEN_REFRESH_THRESHOLD", "300000"),
        ("RATE_LIMIT_WINDOW_MS", "60000"),
        ("RATE_LIMIT_MAX_CONNECTIONS", "5"),
        ("ROOM_TYPING_TIMEOUT", "3000"),
        ("HEALTH_CHECK_PORT", "8080"),
        ("WEBSOCKET_WRITE_WAIT", "10s"),
        ("WEBSOCKET_MAX_MESSAGE_SIZE", "512000"),
        ("WEBSOCKET_LIMITS_MAX_CONNECTIONS", "10000"),
        ("WEBSOCKET_LIMITS_MAX_CONNECTIONS_PER_ROOM", "1000"),
    ])
    .settings();
    assert_eq!(settings.listen.http_port, 3001);
    assert_eq!(settings.listen.host.to_string(), "127.0.0.1");
    assert_eq!(settings.auth.allowed_origins, ["https://shop.example"]);
    assert_eq!(settings.keep_alive.read_timeout, Duration::from_secs(30));
    assert_eq!(settings.keep_alive.ping_interval, Duration::from_secs(25));
    assert_eq!(settings.keep_alive.pong_timeout, Duration::from_secs(60));
    assert_eq!(settings.keep_alive.write_timeout, Duration::from_secs(10));
    assert_eq!(settings.auth.refresh_threshold, Duration::from_secs(300));
    assert_eq!(settings.limits.messages_window, Duration::from_secs(60));
    assert_eq!(settings.limits.connections_per_user_max, 5);
    assert_eq!(settings.client.typing_timeout, Duration::from_secs(3));
    assert_eq!(settings.listen.health.unwrap().to_string(), "127.0.0.1:8080");
    assert_eq!(settings.limits.message_bytes_max, 512_000);
    assert_eq!(settings.limits.connections_max, 10_000);
    assert_eq!(settings.limits.room_members_max, 1_000);
}

#[test]
fn the_canonical_name_wins_then_the_first_alias() {
    let rows: [(&[(&str, &str)], u16); 4] = [
        (&[("WEBSOCKET_PORT", "1"), ("PORT", "2"), ("HTTP_PORT", "3")], 3),
        (&[("WEBSOCKET_PORT", "1"), ("PORT", "2")], 2),
        (&[("WEBSOCKET_PORT", "1")], 1),
        (&[("WEBSOCKET_PORT", "1"), ("PORT", ""), ("HTTP_PORT", "")], 1),
    ];
    for (pairs, port) in rows {
        assert_eq!(environment(pairs).settings().listen.http_port, port, "{pairs:?}");
    }
}

#[test]
fn a_later_source_wins_even_by_an_alias() {
    let mut typed = file("u.toml", "http_port = 1");
    assert_eq!(typed.settings().listen.http_port, 1);
    typed.environment = &[("WEBSOCKET_PORT", "2")];
    assert_eq!(typed.settings().listen.http_port, 2);
    typed.flags = &[("HTTP_PORT", "3")];
    assert_eq!(typed.settings().listen.http_port, 3);
}

#[test]
fn each_value_knows_where_it_comes_from() {
    let mut typed = file("u.yaml", "listen:\n  http_port: 1\n");
    typed.environment = &[("WEBSOCKET_PING_INTERVAL", "20s")];
    typed.flags = &[("LOG_LEVEL", "debug")];
    let entries = typed.resolve().unwrap_or_else(|errors| panic!("{errors:?}")).entries;
    let told = |name| {
        let entry = entries.iter().find(|entry| entry.knob.name == name).unwrap();
        format!("{} {}", entry.shown, entry.origin)
    };
    assert!(told("HTTP_PORT").starts_with("1 file ") && told("HTTP_PORT").ends_with("u.yaml"));
    assert_eq!(told("WS_PING_INTERVAL"), "20s environment WEBSOCKET_PING_INTERVAL");
    assert_eq!(told("LOG_LEVEL"), "debug flag --log-level");
    assert_eq!(told("WS_PONG_TIMEOUT"), "1m default");
    assert_eq!(told("SHARD_CORES"), "0-6 default");
}

#[test]
fn a_file_is_flat_or_in_sections_in_toml_or_yaml() {
    for (name, text) in [
        ("a.toml", "http_port = 7\nroom_streams = ['event:*']\ntls_self_signed = true\n"),
        (
            "b.toml",
            "[listen]\nhttp_port = 7\n[streams]\nroom_streams = 'event:*'\n[tls]\nself_signed = true\n",
        ),
        ("c.yaml", "http_port: 7\nroom_streams: ['event:*']\ntls_self_signed: true\n"),
        ("d.yml", "listen: {http_port: 7}\nroom: {streams: 'event:*'}\ntls: {self_signed: true}\n"),
    ] {
        let settings = file(name, text).settings();
        assert_eq!(settings.listen.http_port, 7, "{name}");
        assert_eq!(settings.streams.rooms, ["event:*"], "{name}");
        assert!(matches!(settings.tls, Some(TlsSource::SelfSigned)), "{name}");
        assert_eq!(settings.listen.https_port, Some(3443), "{name}");
    }
}

#[test]
fn the_file_of_a_rooms_service_is_understood() {
    let text = "websocket:\n  enabled: true\n  host: \"0.0.0.0\"\n  port: 8081\n  timeout: \"30s\"\n  \
                read_buffer_size: 1024\n  ping_interval: \"54s\"\n  pong_wait: \"60s\"\n  limits:\n    \
                max_connections: 10000\n    max_connections_per_room: 1000\n";
    let resolved = file("config.yaml", text).resolve().unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(resolved.settings.listen.http_port, 8081);
    assert_eq!(resolved.settings.limits.room_members_max, 1_000);
    assert_eq!(resolved.notes.len(), 2, "{:?}", resolved.notes);
}

#[test]
fn empty_files_and_empty_values_say_nothing() {
    for (name, text) in
        [("a.toml", ""), ("b.yaml", "# nothing\n"), ("c.yaml", "grpc_auth_token:\n"), ("d.toml", "host = ''")]
    {
        assert!(file(name, text).settings().callers.token.is_none(), "{name}");
    }
}

#[test]
fn every_line_of_the_example_file_is_accepted() {
    let example = reference::example();
    let set = |line: &str| line.strip_prefix("# ").filter(|line| line.contains(" = ")).map(str::to_owned);
    let text: Vec<String> =
        example.lines().map(|line| set(line).unwrap_or_else(|| line.to_owned())).collect();
    let zero = |line: &&String| !line.contains(" = 0  # ");
    let text = text.iter().filter(zero).cloned().collect::<Vec<_>>().join("\n");
    assert_eq!(file("example.toml", &text).settings().listen.http_port, 3003);
}

/// The one error that these variables give.
fn refusal(pairs: &[(&str, &str)]) -> String {
    let errors = environment(pairs).resolve().err().unwrap_or_default();
    assert_eq!(errors.len(), 1, "{pairs:?}: {errors:?}");
    errors.concat()
}

#[test]
fn a_value_that_is_not_allowed_is_told_with_what_is() {
    let port = "must be a whole number from 0 to 65535";
    let times = "such as 250ms, 30s, 5m or 1h";
    let rows = [
        ("HTTP_PORT", "tcp://10.0.0.1:80", port.to_owned()),
        ("HOST", "shop.example", "must be an IP address such as 0.0.0.0, 127.0.0.1 or ::".into()),
        ("WS_ALLOW_ANONYMOUS", "maybe", "must be true or false".into()),
        ("SHUTDOWN_TIMEOUT", "30", format!("must be a time from 0s to 1h, {times}")),
        (
            "WS_PING_INTERVAL",
            "30",
            format!("must be a time from 100ms to 1h, {times}; a plain number is milliseconds"),
        ),
        ("TLS_KEY", "src", "must be a file, and this is a directory".into()),
        ("SHARDS", "1025", "must be a whole number from 1 to 1024".into()),
        ("SHARD_CORES", "6-9", "there is no core 8 here; this process may use 0-7".into()),
        ("CONTROL_CORE", "8", "there is no core 8 here; this process may use 0-7".into()),
        ("WS_DIALECT", "rooms", "is not in this version".into()),
        ("WS_DIALECT", "morse", "must be ticketing or raw".into()),
        ("STORE", "disk", "must be embedded or redis".into()),
        ("REDIS_HOST", "cache:6379/0", "must be a host name or an IP address, without a port".into()),
        ("REDIS_COMMAND_TIMEOUT", "2s", format!("must be a time from 100ms to 1s, {times}")),
        ("REDIS_PREFIX", "{a}", "must be 1 to 64 characters of A-Z a-z 0-9 _ . : - /".into()),
        ("WS_ALLOWED_ORIGINS", "https://shop.example/", ORIGINS.into()),
        ("JWT_JWKS_URL", "keys.example", "must be a URL that starts with http:// or https://".into()),
        ("LOG_LEVEL", "inof", LEVELS.into()),
        ("QUEUE_READY_URLS", NINE_URLS, "must be at most 8 URLs".into()),
    ];
    for (name, value, expected) in rows {
        assert_eq!(refusal(&[(name, value)]), format!("{name}={value} (environment {name}): {expected}"));
    }
    assert_eq!(refusal(&[("PORT", "70000")]), format!("HTTP_PORT=70000 (environment PORT): {port}"));
}

const NINE_URLS: &str =
    "http://1,http://2,http://3,http://4,http://5,http://6,http://7,http://8,https://9.example/ready";
const ORIGINS: &str =
    "must be a list of origins such as https://shop.example:8443, without path or wildcard, or *";
const LEVELS: &str =
    "must be error, warn, info, debug, trace, off, or a filter such as info,usher::hub=debug";

#[test]
fn values_that_do_not_go_together_are_told_with_both_origins() {
    let set = |name: &str, value: &str| format!("{name}={value} (environment {name})");
    let default = |name: &str, value: &str| format!("{name}={value} (default)");
    let none = |name: &str| default(name, "(none)");
    let file = "Cargo.toml";
    let longer = "the first must be longer";
    let together = "one needs the other";
    type Row<'a> = (&'a [(&'a str, &'a str)], String, String, &'a str);
    let rows: [Row<'_>; 12] = [
        (
            &[("REDIS_URL", "redis://a"), ("REDIS_HOST", "b")],
            set("REDIS_URL", "***"),
            set("REDIS_HOST", "b"),
            "choose one",
        ),
        (
            &[("STORE", "redis")],
            set("STORE", "redis"),
            none("REDIS_URL"),
            "the first needs the second, or REDIS_HOST",
        ),
        (
            &[("REDIS_HOST", "a"), ("REDIS_COMMAND_TIMEOUT", "1s"), ("PRESENCE_TIMEOUT", "6s")],
            set("PRESENCE_TIMEOUT", "6s"),
            set("REDIS_COMMAND_TIMEOUT", "1s"),
            "the first must be longer than the second and PRESENCE_INTERVAL together",
        ),
        (
            &[("WS_PING_INTERVAL", "2m")],
            default("WS_PONG_TIMEOUT", "1m"),
            set("WS_PING_INTERVAL", "2m"),
            longer,
        ),
        (
            &[("DRAIN_DELAY", "1m")],
            set("DRAIN_DELAY", "1m"),
            default("SHUTDOWN_TIMEOUT", "30s"),
            "the first must not be longer",
        ),
        (&[("TLS_CERT", file)], set("TLS_CERT", file), none("TLS_KEY"), together),
        (&[("GRPC_TLS_KEY", file)], none("GRPC_TLS_CERT"), set("GRPC_TLS_KEY", file), together),
        (
            &[("GRPC_TLS_CLIENT_CA", file)],
            set("GRPC_TLS_CLIENT_CA", file),
            none("GRPC_TLS_CERT"),
            "the first needs the second",
        ),
        (&[("HTTPS_PORT", "1")], set("HTTPS_PORT", "1"), none("TLS_CERT"), "wss needs a certificate"),
        (
            &[("TLS_TICKET_KEYS", file)],
            set("TLS_TICKET_KEYS", file),
            none("TLS_CERT"),
            "tickets need a certificate",
        ),
        (&[("SHARDS", "2"), ("SHARD_CORES", "0")], set("SHARDS", "2"), set("SHARD_CORES", "0"), "choose one"),
        (
            &[("JWT_SECRET", "s"), ("JWT_ALGORITHMS", "RS256")],
            set("JWT_ALGORITHMS", "RS256"),
            set("JWT_SECRET", "***"),
            "a secret needs HS256, HS384 or HS512",
        ),
    ];
    for (pairs, first, second, rule) in rows {
        assert_eq!(refusal(pairs), format!("{first} with {second}: {rule}"));
    }
}

#[test]
fn a_file_that_cannot_be_used_is_told() {
    for (name, text, expected) in [
        ("u.toml", "http_prot = 1", "file u.toml: unknown key `http_prot`; did you mean `http_port`?"),
        (
            "u.toml",
            "[listen]\nhttp_prot = 1",
            "file u.toml: unknown key `listen.http_prot`; did you mean `http_port`?",
        ),
        (
            "u.toml",
            "[log]\nhttp_port = 1",
            "file u.toml: unknown key `log.http_port`; did you mean `http_port`?",
        ),
        ("u.yaml", "curtains: blue", "file u.yaml: unknown key `curtains`"),
        ("u.toml", "http_port = 1\n[listen]\nhttp_port = 2", "file u.toml: HTTP_PORT is given twice"),
        ("u.toml", "jwt_secret = 123456", "JWT_SECRET=*** (file u.toml): must be text, in quotes"),
        ("u.toml", "http_port = [1]", "HTTP_PORT=1 (file u.toml): must be one value, not an array"),
        ("u.json", "{}", "file u.json: the name must end in .toml, .yaml or .yml"),
    ] {
        assert_eq!(file(name, text).resolve().err().unwrap_or_default(), [expected]);
    }
    let raw = Raw::collect(Some(&PathBuf::from("/nowhere/u.toml")), &Environment::default(), Vec::new());
    assert!(raw.errors[0].to_string().starts_with("file /nowhere/u.toml: No such file"));
}

#[test]
fn a_broken_file_is_told_in_one_line_without_its_text() {
    for (name, text) in [
        ("u.toml", "jwt_secret = \"canary\nport = 1"),
        ("u.toml", "jwt_secret = canary"),
        ("u.yaml", "jwt_secret: \"canary\nport: ]["),
        ("u.yaml", "jwt_secret: [canary\n: : :"),
        ("u.yaml", "jwt_secret: *canary"),
        ("u.yaml", "jwt_secret: %canary"),
    ] {
        let errors = file(name, text).resolve().err().unwrap_or_default();
        assert!(
            errors.len() == 1 && !errors[0].contains('\n') && !errors[0].contains("canary"),
            "{errors:?}"
        );
    }
}

#[test]
fn all_mistakes_are_told_together() {
    let mut typed = file("u.toml", "curtains = 1\nhttp_port = 'x'");
    typed.environment = &[("GRPC_PORT", "x"), ("REDIS_URL", "http://u:canary@h")];
    let errors = typed.resolve().err().unwrap_or_default();
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(!errors.join("").contains("canary"));
}

#[test]
fn names_without_effect_are_accepted_and_told() {
    let typed = environment(&[
        ("RABBITMQ_URL", "amqp://u:canary@h"),
        ("CLIENT_BROADCAST", "on"),
        ("NODE_ENV", "production"),
    ]);
    let Resolved { warnings, notes, .. } = typed.resolve().unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(
        warnings,
        [
            "RABBITMQ_URL=*** (environment RABBITMQ_URL): has no effect in this version",
            "CLIENT_BROADCAST=on (environment CLIENT_BROADCAST): has no effect in this version",
        ]
    );
    assert!(
        notes[0].starts_with("NODE_ENV=production (environment NODE_ENV): without effect: "),
        "{notes:?}"
    );
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    for (pairs, expected) in [
        (("JWT_SECRET", "short"), "JWT_SECRET is shorter than 32 bytes"),
        (("GRPC_HOST", "0.0.0.0"), "set GRPC_AUTH_TOKEN"),
        (("WS_MAX_MESSAGE_SIZE", "512000"), "close whoever gets them"),
        (("TLS_SELF_SIGNED", "true"), "browsers refuse"),
    ] {
        let warnings = environment(&[pairs]).resolve().unwrap_or_else(|errors| panic!("{errors:?}")).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?}");
    }
    let page = [("ONSALE_PAGE", "true"), ("ADMIN_HOST", "0.0.0.0")];
    let warned = |pairs| environment(pairs).resolve().unwrap_or_else(|errors| panic!("{errors:?}")).warnings;
    assert!(warned(&page)[0].contains("ADMIN_HOST=0.0.0.0") && warned(&page[..1]).is_empty());
    let stop = [("SHUTDOWN_TIMEOUT", "749ms"), ("REDIS_HOST", "a")];
    assert!(
        warned(&stop)[0].contains("three times REDIS_COMMAND_TIMEOUT=250ms") && warned(&stop[..1]).is_empty()
    );
    let flag = Typed { flags: &[("GRPC_AUTH_TOKEN", "canary")], ..Typed::default() };
    let warnings = flag.resolve().unwrap_or_else(|errors| panic!("{errors:?}")).warnings;
    assert!(warnings[0].contains("list of processes") && !warnings[0].contains("canary"), "{warnings:?}");
}

#[test]
fn a_redis_is_the_store_unless_it_shall_not() {
    let redis = ("REDIS_URL", "redis://cache");
    assert_eq!(environment(&[]).settings().streams.store, Store::Embedded);
    assert_eq!(environment(&[redis]).settings().streams.store, Store::Redis);
    let settings = environment(&[redis, ("STORE", "embedded")]).settings();
    assert_eq!(settings.streams.store, Store::Embedded);
    assert!(settings.redis.is_some_and(|redis| redis.ready_required && redis.prefix == "usher:"));
    let settings = environment(&[redis, ("REDIS_COMMAND_TIMEOUT", "750ms")]).settings();
    assert_eq!(settings.redis.map(|redis| redis.command_timeout), Some(Duration::from_millis(750)));
}

#[test]
fn cores_default_to_what_the_host_has() {
    type Row<'a> = (&'a [usize], &'a [(&'a str, &'a str)], &'a [usize], usize);
    let rows: [Row<'_>; 9] = [
        (&[0], &[], &[0], 0),
        (&[0, 1], &[], &[0, 1], 1),
        (&[0, 1, 2], &[], &[0, 1], 2),
        (&[4, 5, 6, 7], &[], &[4, 5, 6], 7),
        (&[0, 1, 2, 3], &[("CONTROL_CORE", "0")], &[1, 2, 3], 0),
        (&[0, 1, 2, 3], &[("SHARDS", "2")], &[0, 1], 3),
        (&[0, 1, 2, 3], &[("SHARDS", "4")], &[0, 1, 2, 3], 3),
        (&[0, 1], &[("SHARDS", "5")], &[0, 1, 0, 1, 0], 1),
        (&[0, 1, 2, 3], &[("SHARD_CORES", "1,1,3")], &[1, 1, 3], 3),
    ];
    for (host, pairs, shards, control) in rows {
        let typed = Typed { environment: pairs, cores: Some(host.to_vec()), ..Typed::default() };
        let cores = typed.settings().cores;
        assert_eq!((cores.shards.as_slice(), cores.control), (shards, control), "{host:?} {pairs:?}");
    }
}

#[test]
fn values_that_only_together_make_one_come_together() {
    let settings = environment(&[
        ("TLS_CERT", "Cargo.toml"),
        ("TLS_KEY", "Cargo.lock"),
        ("HTTPS_PORT", "0"),
        ("GRPC_HOST", "::1"),
        ("ADMIN_HOST", "localhost"),
        ("METRICS_ENABLED", "off"),
        ("HEALTH_CHECK_PORT", "8080"),
        ("JWT_JWKS_URL", "http://127.0.0.1/keys"),
        ("JWT_PUBLIC_KEY_FILE", "Cargo.toml"),
        ("WS_ALLOWED_ORIGINS", "https://a.example,*"),
        ("LOG_FORMAT", "PRETTY"),
    ])
    .settings();
    assert!(matches!(settings.tls, Some(TlsSource::Files { .. })));
    assert_eq!(settings.listen.https_port, Some(0));
    assert_eq!(settings.listen.grpc.to_string(), "[::1]:50057");
    assert_eq!(settings.listen.admin, None);
    assert_eq!(settings.listen.health.unwrap().to_string(), "127.0.0.1:8080");
    assert!(matches!(settings.auth.keys[..], [KeySource::Pem(_), KeySource::JwksUrl { .. }]));
    assert!(settings.auth.allowed_origins.is_empty());
    assert_eq!(settings.log.format, LogFormat::Pretty);
}
