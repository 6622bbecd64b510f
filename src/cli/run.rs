//! `usher` without a command: logs, banner, and the gateway until it stops.

use std::{
    fs::File,
    io::{self, Read},
    process::ExitCode,
    time::Duration,
};

use rustix::thread::disable_transparent_huge_pages;

use super::{
    complain, fail,
    jwt::{self, Wanted},
    nearby, onsale_page, say,
};
use crate::{
    clock::Now,
    config::{
        resolve::Resolved,
        settings::{Auth, Dialect, KeySource, Secret, Settings},
    },
    handler::Handlers,
    log::Logs,
    topology::{self, Addresses},
};

/// A development token outlives a working day.
const DEVELOPMENT_TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// As long as the longest hash that signs with a shared secret needs.
const DEVELOPMENT_SECRET_BYTES: usize = 64;
/// The user of the development token.
const DEVELOPMENT_USER: &str = "alice";
/// An event, and its room, which anybody may join.
const EVENT: &str = "123";
const ROOM: &str = "event:123";

/// Serves until a signal or the gateway itself ends it.
pub(super) fn execute(resolved: Resolved) -> ExitCode {
    let Resolved { mut settings, warnings, .. } = resolved;
    without_huge_pages();
    let logs = match Logs::start(&settings.log) {
        Ok(logs) => logs,
        Err(error) => return fail(error, 1),
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let credential = match credential(&mut settings, Now::read()) {
        Ok(credential) => credential,
        Err(error) => return fail(error, 1),
    };
    // Every thread of this process is the gateway's own.
    settings.cores.private_descriptors = true;
    let code = serve(settings, &credential, &logs);
    if logs.dropped_lines() > 0 {
        complain(format_args!("{} log lines were lost", logs.dropped_lines()));
    }
    code
}

/// Where the kernel makes huge pages unasked, it clears each, 2 MiB, when it is first touched, 0.1 ms and on virtual machines
/// up to 6 ms, for as long as which a shard delivers nothing; and they keep whole what a burst touched in part. Pages of
/// 4 KiB cost a delivery no more that could be measured.
fn without_huge_pages() {
    // A kernel without them refuses.
    disable_transparent_huge_pages(true).ok();
}

/// Where the gateway is started, but for a demo. Signals are the supervisor's.
fn serve(settings: Settings, credential: &Credential, logs: &Logs) -> ExitCode {
    let invitation = Invitation::new(&settings, credential);
    let running = match topology::start_with_logs(settings, Handlers::default(), Some(logs.dropped())) {
        Ok(running) => running,
        Err(error) => return fail(error, 1),
    };
    say(&invitation.banner(&running.addresses));
    match running.wait() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error, 1),
    }
}

/// What a person needs to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Credential {
    /// Nothing is configured: this run's own token.
    Development(String),
    /// `JWT_SECRET` is set: `usher token` makes one.
    Secret,
    /// Tokens come from elsewhere.
    Elsewhere,
}

/// Makes a secret and a token for this run where no key source is configured.
fn credential(settings: &mut Settings, now: Now) -> Result<Credential, String> {
    if !settings.auth.keys.is_empty() {
        let secret = jwt::secret_of(&settings.auth).is_some();
        return Ok(if secret { Credential::Secret } else { Credential::Elsewhere });
    }
    let secret = random_secret().map_err(|error| format!("cannot read random bytes: {error}"))?;
    let token = development_token(&settings.auth, &secret, now)?;
    settings.auth.keys.push(KeySource::Secret(secret));
    tracing::warn!(
        "no key source is configured (JWT_SECRET, JWT_PUBLIC_KEY_FILE, JWT_JWKS_FILE, JWT_JWKS_URL): \
         development mode, with a secret for this run alone"
    );
    Ok(Credential::Development(token))
}

fn development_token(auth: &Auth, secret: &Secret, now: Now) -> Result<String, String> {
    let lifetime =
        auth.lifetime_max.map_or(DEVELOPMENT_TOKEN_LIFETIME, |max| max.min(DEVELOPMENT_TOKEN_LIFETIME));
    let wanted = Wanted { user: DEVELOPMENT_USER, rooms: Vec::new(), lifetime };
    jwt::mint(&wanted, secret, auth, now).map_err(|error| error.to_string())
}

pub(super) fn random_secret() -> io::Result<Secret> {
    let mut bytes = [0; DEVELOPMENT_SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Secret(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// What is printed once everything listens, but for the addresses.
struct Invitation {
    /// The command as it was called, so that lines can be pasted.
    program: String,
    dialect: Dialect,
    /// Scheme of the gRPC listener.
    grpc: &'static str,
    /// What `usher notify` needs beside the address.
    caller_flags: String,
    /// Whether one may connect without a token.
    anonymous: bool,
    /// Whether the admin port has a waiting room to look at.
    page: bool,
    credential: Credential,
}

impl Invitation {
    fn new(settings: &Settings, credential: &Credential) -> Self {
        let callers = &settings.callers;
        let mut caller_flags = String::new();
        for (needed, flags) in [
            (callers.tls.is_some(), " --tls-ca CA.pem"),
            (callers.client_ca.is_some(), " --tls-cert CERT.pem --tls-key KEY.pem"),
            (callers.token.is_some(), " --token \"$GRPC_AUTH_TOKEN\""),
        ] {
            caller_flags.push_str(if needed { flags } else { "" });
        }
        Self {
            program: std::env::args().next().unwrap_or_else(|| "usher".into()),
            dialect: settings.client.dialect,
            grpc: if callers.tls.is_some() { "https" } else { "http" },
            caller_flags,
            anonymous: settings.auth.allow_anonymous,
            page: settings.listen.onsale_page,
            credential: credential.clone(),
        }
    }

    fn banner(&self, addresses: &Addresses) -> String {
        let Self { program, grpc, caller_flags, .. } = self;
        let ws = nearby(addresses.ws);
        let wss = addresses.wss.map(|address| format!("wss://{}/ws", nearby(address)));
        let admin = addresses.admin.map(|address| format!("http://{}", nearby(address)));
        let notified = nearby(addresses.grpc);
        let mut lines = vec![
            format!("usher {} serves", env!("CARGO_PKG_VERSION")),
            String::new(),
            format!("  ws     ws://{ws}/ws"),
            format!(
                "  wss    {}",
                wss.as_deref().unwrap_or("off: give --tls-cert and --tls-key, or --tls-self-signed")
            ),
            format!("  grpc   {grpc}://{notified}"),
            format!("  admin  {}", admin.as_deref().unwrap_or("off")),
        ];
        let token = match &self.credential {
            Credential::Development(token) => Some(&**token),
            Credential::Secret | Credential::Elsewhere => None,
        };
        lines.extend(token.map(|token| format!("  token  {token}")));
        if let Some(page) = onsale_page(addresses, EVENT, token).filter(|_| self.page) {
            lines.push(format!("  page   {page}"));
        }
        let (query, hint) = self.invited();
        lines.push(format!("\nConnect ({hint}):\n\n  npx wscat -c \"ws://{ws}/ws{query}\""));
        if let Some(wss) = wss {
            // Whatever the certificate, it is not this address's.
            lines.push(format!("  npx wscat -n -c \"{wss}{query}\""));
        }
        let ticketing = self.dialect == Dialect::Ticketing;
        if ticketing {
            lines.push(format!(r#"  > {{"type":"room:join","payload":{{"room":"{ROOM}"}}}}"#));
        }
        let address = format!("--address {grpc}://{notified}{caller_flags}");
        let user = format!("  {program} notify booking {address} --user {DEVELOPMENT_USER} --booking b-1");
        lines.push(format!("\nNotify:\n\n{user}"));
        if ticketing {
            let event = r#"--type ticket:availability --payload '{"event_id":"123","available":42}'"#;
            lines.push(format!("  {program} notify broadcast {address} --room {ROOM} {event}"));
        }
        lines.push("\n".into());
        lines.join("\n")
    }

    /// What follows the address of a client, for a shell to read between double quotes, and what to know about it.
    fn invited(&self) -> (String, String) {
        let Self { program, anonymous, .. } = self;
        match &self.credential {
            Credential::Development(token) => {
                (format!("?token={token}"), format!("the token is {DEVELOPMENT_USER}'s, for this run alone"))
            }
            Credential::Secret => (
                format!("?token=$({program} token --user {DEVELOPMENT_USER})"),
                format!("{program} token needs the same JWT_SECRET or --config as the gateway"),
            ),
            Credential::Elsewhere if *anonymous => {
                (String::new(), "anonymously: tokens come from whoever has the private key".to_owned())
            }
            Credential::Elsewhere => {
                ("?token=$TOKEN".into(), "TOKEN comes from whoever has the private key".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        Addresses {
            ws: "0.0.0.0:3003".parse().unwrap(),
            wss: Some("[::]:3443".parse().unwrap()),
            grpc: "127.0.0.1:50057".parse().unwrap(),
            admin: Some("127.0.0.1:9057".parse().unwrap()),
            health: None,
        }
    }

    fn banner(settings: &Settings, credential: Credential, addresses: &Addresses) -> String {
        Invitation { program: "usher".into(), ..Invitation::new(settings, &credential) }.banner(addresses)
    }

    #[test]
    fn a_development_banner_can_be_pasted() {
        let text = banner(&Settings::default(), Credential::Development("abc.def.ghi".into()), &addresses());
        for line in [
            "  ws     ws://127.0.0.1:3003/ws\n",
            "  wss    wss://[::1]:3443/ws\n",
            "  grpc   http://127.0.0.1:50057\n",
            "  admin  http://127.0.0.1:9057\n",
            "  token  abc.def.ghi\n",
            "  npx wscat -c \"ws://127.0.0.1:3003/ws?token=abc.def.ghi\"\n",
            "  npx wscat -n -c \"wss://[::1]:3443/ws?token=abc.def.ghi\"\n  > {\"type\":\"room:join\"",
            "  usher notify booking --address http://127.0.0.1:50057 --user alice --booking b-1\n",
            "  usher notify broadcast --address http://127.0.0.1:50057 --room event:123 --type ticket:",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_page_is_named_where_there_is_one() {
        let mut settings = Settings::default();
        let page = |settings: &Settings, credential| {
            let text = banner(settings, credential, &addresses());
            text.lines().find_map(|line| line.strip_prefix("  page   ").map(str::to_owned))
        };
        assert_eq!(page(&settings, Credential::Secret), None);
        settings.listen.onsale_page = true;
        let url = "http://127.0.0.1:9057/onsale#gateway=ws://127.0.0.1:3003/ws&event=123".to_owned();
        assert_eq!(
            page(&settings, Credential::Development("a.b.c".into())),
            Some(format!("{url}&token=a.b.c"))
        );
        assert_eq!(page(&settings, Credential::Secret), Some(url));
    }

    #[test]
    fn a_configured_secret_gives_no_token_but_says_how_to_make_one() {
        let mut settings = Settings::default();
        settings.client.dialect = Dialect::Raw;
        let addresses = Addresses { wss: None, admin: None, ..addresses() };
        let text = banner(&settings, Credential::Secret, &addresses);
        assert!(text.contains("/ws?token=$(usher token --user alice)\""), "{text}");
        assert!(text.contains("wss    off") && text.contains("admin  off"), "{text}");
        for absent in ["room:join", "broadcast", "wscat -n"] {
            assert!(!text.contains(absent), "{text}");
        }
    }

    #[test]
    fn a_guarded_grpc_listener_is_called_with_what_it_needs() {
        let mut settings = Settings::default();
        settings.callers.tls = Some(("cert.pem".into(), "key.pem".into()));
        settings.callers.token = Some(Secret("canary".into()));
        let text = banner(&settings, Credential::Elsewhere, &addresses());
        assert!(
            text.contains("https://127.0.0.1:50057 --tls-ca CA.pem --token \"$GRPC_AUTH_TOKEN\" --user"),
            "{text}"
        );
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("-c \"ws://127.0.0.1:3003/ws\"\n"), "nobody here can make a token\n{text}");
        settings.auth.allow_anonymous = false;
        let text = banner(&settings, Credential::Elsewhere, &addresses());
        assert!(text.contains("/ws?token=$TOKEN\""), "{text}");
    }

    #[test]
    fn development_makes_a_new_secret_for_each_run() {
        let run = || {
            let mut settings = Settings::default();
            let credential = credential(&mut settings, Now { mono_ns: 0, wall_ms: 1 }).unwrap();
            (credential, jwt::secret_of(&settings.auth).unwrap().0.clone())
        };
        let (first, second) = (run(), run());
        assert!(matches!(first.0, Credential::Development(_)));
        assert_ne!(first.1, second.1);
        assert_eq!(first.1.len(), 2 * DEVELOPMENT_SECRET_BYTES);
    }

    #[test]
    fn a_configured_key_source_makes_no_secret() {
        for (source, expected) in [
            (KeySource::Secret(Secret("s".into())), Credential::Secret),
            (KeySource::JwksFile("keys.json".into()), Credential::Elsewhere),
        ] {
            let mut settings = Settings::default();
            settings.auth.keys.push(source);
            assert_eq!(credential(&mut settings, Now { mono_ns: 0, wall_ms: 1 }), Ok(expected));
            assert_eq!(settings.auth.keys.len(), 1);
        }
    }
}
