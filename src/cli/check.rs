//! `usher check`: the effective configuration with its origins, and what the host allows.

use std::{fmt::Write, process::ExitCode};

use clap::ArgMatches;

use super::{
    command,
    host::{self, Facts, Finding, Setting},
    say, tell_errors,
};
use crate::{
    bus::connection,
    config::{
        error::ConfigError,
        knobs,
        raw::Origin,
        resolve::{Entry, Resolved},
        settings::{Redis, Store},
    },
};

/// Prints the report; shortfalls of the host are told and do not fail, errors of the configuration do.
pub(super) fn execute(matches: &ArgMatches, configuration: Result<Resolved, Vec<ConfigError>>) -> ExitCode {
    match configuration {
        Err(errors) => tell_errors(&errors, 1),
        Ok(resolved) => {
            let mut findings = host::findings(&Facts::read(), &resolved.settings);
            let only_settings = matches.get_flag(command::SETTINGS);
            if !only_settings {
                findings.push(store(resolved.settings.streams.store));
                findings.extend(resolved.settings.redis.as_ref().map(redis));
            }
            say(&if only_settings { settings(&findings) } else { report(&resolved, &findings) });
            ExitCode::SUCCESS
        }
    }
}

/// What becomes of streams.
fn store(store: Store) -> Finding {
    let says = match store {
        Store::Embedded => {
            "embedded: streams end with the process; clients that reconnect afterwards start anew"
        }
        Store::Redis => "redis: streams outlive the process, and all instances share them",
    };
    Finding::new("store", says)
}

/// Whether Redis can be used from here.
fn redis(settings: &Redis) -> Finding {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let probed = match runtime {
        Ok(runtime) => runtime.block_on(connection::probe(settings)).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let nodes = settings.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let tls = if settings.tls { "TLS" } else { "no TLS" };
    match probed {
        Ok(version) => Finding::new("redis", format!("{nodes}: version {version}, {tls}")),
        Err(error) => Finding::new("redis", format!("{nodes}: {error}"))
            .wants("an answer: until then nothing is heard of other services and instances")
            .advice(Some(format!("start it, or see REDIS_URL ({tls}, user, password, port)"))),
    }
}

fn report(resolved: &Resolved, findings: &[Finding]) -> String {
    let mut text = String::new();
    for section in knobs::sections() {
        let entries: Vec<&Entry> =
            section.knobs.iter().filter_map(|knob| entry(resolved, knob.name)).collect();
        if !entries.is_empty() {
            add(&mut text, format_args!("{}", section.title));
        }
        for Entry { knob, shown, origin } in entries {
            let shown = shown.trim_matches(['(', ')']);
            add(&mut text, format_args!("  {:<28} {shown:<24} {origin}", knob.name));
        }
    }
    if resolved.settings.auth.keys.is_empty() {
        add(
            &mut text,
            format_args!("\nDevelopment: no key source is configured; each run makes a secret of its own."),
        );
    }
    for (title, lines) in [("Warnings", &resolved.warnings), ("Without effect", &resolved.notes)] {
        if !lines.is_empty() {
            add(&mut text, format_args!("\n{title}"));
        }
        for line in lines {
            add(&mut text, format_args!("  {line}"));
        }
    }
    add(&mut text, format_args!("\nThis host"));
    for finding in findings {
        let Finding { name, says, wants, .. } = finding;
        let mend = finding.mend();
        let verdict = if mend.is_some() { "short" } else { "ok" };
        add(&mut text, format_args!("  {name:<12} {verdict:<6} {says}"));
        if !wants.is_empty() {
            add(&mut text, format_args!("  {:<19} wanted: {wants}", ""));
        }
        if let Some(mend) = mend {
            add(&mut text, format_args!("  {:<19} mend: {mend}", ""));
        }
    }
    text
}

/// What the host should be set to, a line each for `tools/tune-host`: how, what, its value now and the wanted one, why;
/// between tabs.
fn settings(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        for setting in &finding.settings {
            let Setting { kind, key, now, wanted, .. } = setting;
            let (kind, why) = (kind.name(), &finding.wants);
            add(&mut text, format_args!("{kind}\t{key}\t{now}\t{wanted}\t{why}"));
        }
    }
    text
}

/// What has an effect is always shown, the rest only where somebody set it.
fn entry<'a>(resolved: &'a Resolved, name: &str) -> Option<&'a Entry> {
    let entry = resolved.entries.iter().find(|entry| entry.knob.name == name)?;
    (entry.knob.kind.has_effect() || entry.origin != Origin::Default).then_some(entry)
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        raw::{Environment, Raw},
        resolve::{Host, resolve},
    };

    fn checked(pairs: &[(&str, &str)]) -> String {
        let raw = Raw::collect(None, &Environment::of(pairs.iter().copied()), Vec::new());
        let host = Host { cores: vec![0, 1, 2], terminal: false };
        let resolved = resolve(raw, &host).unwrap_or_else(|errors| panic!("{errors:?}"));
        report(&resolved, &[shortfall()])
    }

    fn shortfall() -> Finding {
        let setting = Setting::at_least("net.core.somaxconn", 128, 4096);
        Finding::new("somaxconn", "128").wants("4096: for a sale").setting(setting)
    }

    #[test]
    fn settings_are_lines_of_five_columns() {
        let enough = Finding::new("x", "y").setting(Setting::at_least("fs.nr_open", 9, 5));
        assert_eq!(
            settings(&[shortfall(), enough]),
            "sysctl\tnet.core.somaxconn\t128\t4096\t4096: for a sale\nsysctl\tfs.nr_open\t9\t9\t\n"
        );
    }

    #[test]
    fn each_value_stands_beside_its_origin() {
        let text = checked(&[("PORT", "8080"), ("NODE_ENV", "production")]);
        let line = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("HTTP_PORT"), "HTTP_PORT 8080 environment PORT");
        assert_eq!(line("HTTPS_PORT"), "HTTPS_PORT off default");
        assert_eq!(line("SHARD_CORES"), "SHARD_CORES 0-1 default");
        assert_eq!(line("NODE_ENV"), "NODE_ENV production environment NODE_ENV");
        assert_eq!(line("RABBITMQ_URL"), "");
        assert_eq!(line("STORE"), "STORE embedded default");
        assert!(text.contains("Development: no key source"));
        assert!(text.contains("short") && text.contains("mend: sysctl -w net.core.somaxconn=4096"), "{text}");
    }

    #[test]
    fn a_secret_never_shows() {
        let secrets: Vec<_> = knobs::all().map(|(_, knob)| knob).filter(|knob| knob.secret).collect();
        assert!(secrets.len() >= 5);
        let accepted = secrets.iter().filter(|knob| knob.name != "REDIS_URL");
        let mut pairs: Vec<_> =
            accepted.map(|knob| (knob.name, "canary-canary-canary-canary-canary")).collect();
        pairs.push(("REDIS_URL", "redis://:canary@cache,redis://:canary@other"));
        pairs.push(("JWT_JWKS_URL", "https://me:canary@keys.example/jwks?key=canary"));
        let text = checked(&pairs);
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("***") && text.contains("https://***@keys.example/jwks?***"), "{text}");
    }
}
