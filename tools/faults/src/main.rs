//! Breaks what Usher stands on, under load, and counts every message at the clients.
//!
//! ```text
//!   story ──► world     the servers of `process`, in the places of `fleet`
//!     │         └─ process   redis-server, gateways: started on free ports, killed, stopped, replaced
//!     │
//!     ├────► publisher  Critical calls with idempotency keys, repeated until they are answered OK
//!     ├────► foreign    Critical messages by PUBLISH, said once
//!     ├────► client     buyers that resume: what each saw, in its order
//!     └────► judge      every call that was answered OK is in its user's log, once, and in order;
//!                       every PUBLISH that an instance got, once
//! ```
//!
//! Reading order: options → story → world, process, fleet → client, publisher, foreign → judge; `sale` is the story of a
//! waiting room.

mod callers;
mod client;
mod fleet;
mod foreign;
mod judge;
mod options;
mod process;
mod publisher;
mod random;
mod sale;
mod socket;
mod story;
mod verdict;
mod world;

use std::process::ExitCode;

use clap::Parser;

use options::Options;

#[expect(clippy::print_stdout, reason = "the verdict is what it is for")]
fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("usher-faults: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(story::run(&options)) {
        Ok(verdict) => {
            println!("{verdict}");
            if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("usher-faults: {error}");
            ExitCode::FAILURE
        }
    }
}
