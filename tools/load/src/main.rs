//! Load generator for Usher, and the bare send loop that it is compared with.
//!
//! ```text
//!   parent (crew, scenario, publish, server)        one worker process per ~19 000 connections
//!     │  Order, one JSON line each, stdin  ───────►  worker: one thread, one epoll set
//!     ◄──── Report, one JSON line each, stdout       connections, latencies, its own checks
//! ```
//!
//! Reading order: options → order → scenario → crew, publish → worker. `floor` is a server of its own, `bare` the
//! cryptography alone.

mod bare;
mod clock;
mod crew;
mod floor;
mod frame;
mod latency;
mod options;
mod order;
mod payload;
mod publish;
mod redis;
mod report;
mod scenario;
mod server;
mod socket;
mod tls;
mod token;
mod worker;

use std::{io, process::ExitCode};

use clap::Parser;

use options::{Command, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = options.core.map_or(Ok(()), socket::pin) {
        eprintln!("usher-load: core {:?}: {error}", options.core);
        return ExitCode::FAILURE;
    }
    let done = match &options.command {
        Command::Worker => worker::run().map(|()| true),
        Command::Floor(floor) => floor::run(floor).map(|()| true),
        Command::Seal(seal) => bare::seal(&options, seal).and_then(|costs| costs.print(options.json)),
        Command::Keyop(keyop) => bare::keyop(keyop).and_then(|costs| costs.print(options.json)),
        Command::Scenario(_) => run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("usher-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one scenario and prints its result; whether everything that was checked held.
fn run(options: &Options) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(scenario::run(options))?;
    report::print(&outcome, options.json)?;
    Ok(outcome.ok)
}
