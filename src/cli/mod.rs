//! The `usher` command: what people type, and what they read back.
//!
//! Owns arguments, exit codes and everything printed to standard output. Exit codes: 0 done, 1 the answer is no
//! (`check`, `health`, `notify`, `demo`, `pass`, `queue`) or the gateway failed, 2 what was typed is wrong. Never serves
//! anybody: `run` and `demo` call `topology`, and `notify`, `queue` and `health` are clients.

mod check;
mod command;
mod demo;
mod health;
mod host;
mod jwt;
mod notify;
mod queue;
mod run;
mod target;
mod verify;

use std::{
    ffi::OsString,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use clap::ArgMatches;

use crate::config::{
    error::ConfigError,
    knobs,
    raw::{Environment, Raw},
    reference,
    resolve::{Host, Resolved, resolve},
};
use crate::topology::Addresses;

/// What was typed is wrong.
const EXIT_USAGE: u8 = 2;

/// Runs the command with the process's arguments and environment.
pub fn main() -> ExitCode {
    execute(std::env::args_os(), &Environment::read())
}

fn execute(arguments: impl Iterator<Item = OsString>, environment: &Environment) -> ExitCode {
    let matches = match command::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version come this way too; where they cannot be printed, nobody reads.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
    };
    match matches.subcommand() {
        None => with(&matches, environment, run::execute),
        Some(("check", matches)) => check::execute(matches, configuration(matches, environment)),
        Some(("token", matches)) => with(matches, environment, |resolved| jwt::execute(matches, &resolved)),
        Some(("health", matches)) => {
            with(matches, environment, |resolved| health::execute(matches, &resolved))
        }
        Some(("notify", matches)) => {
            with(matches, environment, |resolved| notify::execute(matches, &resolved))
        }
        Some(("demo", matches)) => demo::execute(matches),
        Some(("pass", matches)) => match matches.subcommand() {
            Some(("make", matches)) => {
                with(matches, environment, |resolved| verify::make_pass(matches, &resolved))
            }
            Some((_, matches)) => verify::verify_pass(matches),
            None => ExitCode::from(EXIT_USAGE),
        },
        Some(("queue", matches)) => match matches.subcommand() {
            Some(("verify", matches)) => verify::verify_receipt(matches),
            Some((name, call)) => with(call, environment, |resolved| queue::execute(name, call, &resolved)),
            None => ExitCode::from(EXIT_USAGE),
        },
        Some(("reference", matches)) => print_reference(matches),
        Some((name, _)) => fail(format_args!("{name} is not a command"), EXIT_USAGE),
    }
}

/// Calls `action` with the configuration, or tells everything that is wrong with it.
fn with(
    matches: &ArgMatches,
    environment: &Environment,
    action: impl FnOnce(Resolved) -> ExitCode,
) -> ExitCode {
    match configuration(matches, environment) {
        Ok(resolved) => action(resolved),
        Err(errors) => tell_errors(&errors, EXIT_USAGE),
    }
}

fn configuration(matches: &ArgMatches, environment: &Environment) -> Result<Resolved, Vec<ConfigError>> {
    // Commands without flags of their own for the knobs know no such argument, which counts as not given.
    let typed = |name: &str| matches.try_get_one::<String>(name).ok().flatten().cloned();
    let file = match matches.get_one::<PathBuf>(command::CONFIG) {
        Some(path) => Some(path.clone()),
        None => environment.get("USHER_CONFIG").map_err(|error| vec![error])?.map(PathBuf::from),
    };
    let flags = knobs::all().filter_map(|(_, knob)| Some((knob, typed(knob.name)?))).collect();
    resolve(Raw::collect(file.as_deref(), environment, flags), &Host::read())
}

fn print_reference(matches: &ArgMatches) -> ExitCode {
    match matches.get_one::<String>("what").map(String::as_str) {
        Some("example") => say(&reference::example()),
        _ => say(&reference::table()),
    }
    ExitCode::SUCCESS
}

fn tell_errors(errors: &[ConfigError], code: u8) -> ExitCode {
    for error in errors {
        complain(format_args!("error: {error}"));
    }
    ExitCode::from(code)
}

/// An address that a client on this machine can use: the wildcard becomes the loopback.
fn nearby(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Where the waiting room can be looked at, for a browser on this machine; `None`: there is no admin port. The token stands
/// in the fragment, which browsers keep to themselves.
fn onsale_page(addresses: &Addresses, event: &str, token: Option<&str>) -> Option<String> {
    let (admin, ws) = (nearby(addresses.admin?), nearby(addresses.ws));
    let token = token.map(|token| format!("&token={token}")).unwrap_or_default();
    Some(format!("http://{admin}/onsale#gateway=ws://{ws}/ws&event={event}{token}"))
}

/// Writes to standard output.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that went away, as `head` does, wants no more.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes one line to standard error.
fn complain(line: impl std::fmt::Display) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

fn fail(reason: impl std::fmt::Display, code: u8) -> ExitCode {
    complain(format_args!("error: {reason}"));
    ExitCode::from(code)
}
