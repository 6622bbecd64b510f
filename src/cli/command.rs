//! The arguments: commands by hand, a flag for every knob from the table.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgGroup, Command, value_parser};

use super::{demo, health as probe, notify, queue, verify};
use crate::config::{
    duration::{self, Plain},
    kind::Kind,
    knobs::{self, Knob, Section},
};

/// `--config`: the file.
pub(super) const CONFIG: &str = "config";

/// `check --settings`.
pub(super) const SETTINGS: &str = "settings";

/// Everything that can be typed.
pub(super) fn command() -> Command {
    Command::new("usher")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A real-time gateway for ticket on-sales. Without a command it serves.")
        .after_help(
            "Every flag is an environment variable too: --http-port is HTTP_PORT. Files take the same names.",
        )
        .args_conflicts_with_subcommands(true)
        .arg(config())
        .args(knob_flags())
        .subcommand(check())
        .subcommand(token())
        .subcommand(health())
        .subcommand(notify::command())
        .subcommand(demo::command())
        .subcommand(verify::pass())
        .subcommand(queue::command())
        .subcommand(reference())
}

fn check() -> Command {
    Command::new("check")
        .about("Show the effective configuration with its origins, and what this host allows")
        .arg(config())
        .arg(
            Arg::new(SETTINGS)
                .long("settings")
                .action(ArgAction::SetTrue)
                .help("Print what the host should be set to instead, for tools/tune-host"),
        )
        .args(knob_flags())
}

fn token() -> Command {
    Command::new("token")
        .about("Make a token for one user, signed with JWT_SECRET")
        .arg(config())
        .arg(text("user", "USER").required(true).help("Who the token is for"))
        .arg(
            text("expires", "TIME")
                .default_value("1h")
                .value_parser(|text: &str| {
                    duration::parse(text, Plain::Refused).ok_or("a time such as 30s, 5m or 1h")
                })
                .help("How long it is valid"),
        )
        .arg(
            text("rooms", "LIST")
                .value_delimiter(',')
                .help("Globs of rooms that the user may join beyond the public ones"),
        )
        .arg(text("secret", "TEXT").help("Instead of JWT_SECRET; other users can see flags"))
}

fn health() -> Command {
    Command::new("health")
        .about("Ask a running gateway whether it is healthy; a probe for containers")
        .arg(config())
        .arg(Arg::new("ready").long("ready").action(ArgAction::SetTrue).help("Ask /ready instead of /health"))
        .arg(
            text("url", "URL")
                .conflicts_with_all(probe::KNOBS)
                .help("What to ask [default: /health where the gateway serves it by its configuration]"),
        )
        .args(knob_flags().filter(|flag| probe::KNOBS.contains(&flag.get_id().as_str())))
        .group(ArgGroup::new("what").args(["ready", "url"]))
}

fn reference() -> Command {
    Command::new("reference")
        .about("Print the table of knobs for README, or the example file")
        .hide(true)
        .arg(Arg::new("what").required(true).value_parser(["table", "example"]))
}

/// `--name VALUE`.
pub(super) fn text(name: &'static str, placeholder: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(placeholder)
}

pub(super) fn config() -> Arg {
    text(CONFIG, "FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file, TOML or YAML [environment: USHER_CONFIG]")
}

fn knob_flags() -> impl Iterator<Item = Arg> {
    knobs::all().filter(|(_, knob)| knob.kind.has_effect()).map(|(section, knob)| flag(section, knob))
}

/// Shown by `--help`, not by `-h`, which would be longer than a screen.
fn flag(section: &'static Section, knob: &'static Knob) -> Arg {
    let default = knob.default.trim_matches(['(', ')']);
    let flag = Arg::new(knob.name)
        .long(knob.name.to_ascii_lowercase().replace('_', "-"))
        .value_name(knob.kind.placeholder())
        .help(format!("{} [default: {default}]", knob.help))
        .help_heading(section.title)
        .hide_short_help(true);
    match knob.kind {
        Kind::Bool(_) => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => flag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(arguments: &[&str]) -> String {
        command().try_get_matches_from(arguments).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_arguments_make_sense_to_clap() {
        command().debug_assert();
    }

    #[test]
    fn short_help_fits_a_screen_and_names_every_command() {
        let short = help(&["usher", "-h"]);
        assert!(short.lines().count() <= 24, "{short}");
        for name in ["check", "token", "health", "notify", "demo", "pass", "queue", "--config"] {
            assert!(short.contains(name), "{name} is missing:\n{short}");
        }
        assert!(!short.contains("reference"));
    }

    #[test]
    fn long_help_has_every_flag_under_its_heading() {
        let long = help(&["usher", "--help"]);
        for (section, knob) in knobs::all() {
            let shown = [" ", "[="].iter().any(|end| long.contains(&format!("{}{end}", knob.flag())));
            assert_eq!(shown, knob.kind.has_effect(), "{}", knob.name);
            let working = section.knobs.iter().any(|knob| knob.kind.has_effect());
            assert_eq!(long.contains(&format!("{}:\n", section.title)), working, "{}", section.title);
        }
    }

    #[test]
    fn an_unknown_flag_finds_its_neighbour() {
        let error = help(&["usher", "--http-prot", "1"]);
        assert!(
            error.contains("unexpected argument '--http-prot'") && error.contains("--http-port"),
            "{error}"
        );
    }

    #[test]
    fn a_boolean_flag_needs_no_value() {
        for (argument, value) in [("--tls-self-signed", "true"), ("--tls-self-signed=false", "false")] {
            let matches = command().try_get_matches_from(["usher", argument]).unwrap();
            assert_eq!(matches.get_one::<String>("TLS_SELF_SIGNED").unwrap(), value);
        }
    }

    #[test]
    fn a_probe_takes_the_flags_that_say_where_it_looks_and_no_other() {
        let parse =
            |arguments: &[&str]| command().try_get_matches_from([&["usher", "health"], arguments].concat());
        assert!(parse(&["--metrics-port", "9000", "--admin-host", "10.0.0.1"]).is_ok());
        assert!(parse(&["--metrics-enabled=false", "--host=::1", "--http-port=1", "--ready"]).is_ok());
        assert!(parse(&["--health-check-port", "1"]).is_ok());
        assert!(parse(&["--grpc-port", "1"]).is_err());
        assert!(parse(&["--url", "http://a/", "--http-port", "1"]).is_err(), "a URL says it all");
    }

    #[test]
    fn flags_of_serving_do_not_go_before_a_command() {
        assert!(command().try_get_matches_from(["usher", "--http-port", "1", "health"]).is_err());
        assert!(command().try_get_matches_from(["usher", "check", "--http-port", "1"]).is_ok());
    }
}
