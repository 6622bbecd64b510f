//! `usher demo`: a sale to watch. A gateway, simulated buyers and a booking worker in this process, over real sockets.
//!
//! Owns what is asked for and how it ends; `sale` runs it, `buyer` and `shop` are the two sides, `books` judges. The
//! gateway knows nothing of it: it gets settings and a handler, as any program that embeds it gives. Exit code 0:
//! everything held; 1: something did not, or the sale did not end; 2: what was typed is wrong.

mod books;
mod buyer;
mod dice;
mod sale;
mod shop;
mod socket;

use std::{net::Ipv4Addr, process::ExitCode, time::Duration};

use clap::{Arg, ArgMatches, Command, value_parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{sync::mpsc, task::LocalSet};
use tonic::transport::Channel;

use self::sale::{Outcome, Parts};
use super::{
    EXIT_USAGE,
    command::text,
    complain, fail,
    jwt::{self, Wanted},
    onsale_page, run, say, verify,
};
use crate::{
    clock::Now,
    config::{
        raw::{Environment, Raw},
        resolve::{Host, resolve},
        settings::{KeySource, Log, Secret, Settings},
    },
    generated::realtime::{QueueResponse, realtime_service_client::RealtimeServiceClient},
    handler::Handlers,
    log::Logs,
    topology::{self, Addresses},
};

/// The event that is sold.
const EVENT: &str = "onsale";
/// The user whose token the page gets.
const VISITOR: &str = "you";
/// Admitted people who do not buy: the inlet lets in so many more for each hundred seats.
const SPARE_PERCENT: u32 = 15;
/// Sockets beside those of buyers, of which each takes two: one here, one at the gateway.
const OTHER_DESCRIPTORS: u64 = 256;

type Backend = RealtimeServiceClient<Channel>;

/// `usher demo`.
pub(super) fn command() -> Command {
    let number = |name, default, range: std::ops::RangeInclusive<i64>, help| {
        text(name, "N").default_value(default).value_parser(value_parser!(u32).range(range)).help(help)
    };
    let port = |name, help| text(name, "PORT").default_value("0").value_parser(value_parser!(u16)).help(help);
    Command::new("demo")
        .about("Watch a sale: a gateway, simulated buyers and a booking worker in one process")
        .arg(number("buyers", "500", 5..=5_000, "People who want a ticket"))
        .arg(number(
            "seats",
            "200",
            1..=5_000,
            "Tickets; at most three for four buyers, so that it sells out",
        ))
        .arg(number("seconds", "30", 5..=3_600, "How long it takes, roughly"))
        .args([
            port("http-port", "Client port; 0 takes a free one"),
            port("grpc-port", "gRPC port; 0 takes a free one"),
            port("metrics-port", "Admin port, which has the page; 0 takes a free one"),
        ] as [Arg; 3])
}

/// What is to happen.
#[derive(Clone, Copy, Debug)]
struct Plan {
    buyers: u32,
    seats: u32,
    /// From the start to the opening.
    opens_after: Duration,
    /// From the start to the last ticket, roughly.
    length: Duration,
    /// The claim window; whole seconds.
    claim: Duration,
    /// People let in a minute.
    per_minute: u32,
    /// When it is given up.
    patience: Duration,
}

impl Plan {
    fn from_matches(matches: &ArgMatches) -> Result<Self, &'static str> {
        let number = |name: &str| matches.get_one::<u32>(name).copied().unwrap_or_default();
        let (buyers, seats, seconds) = (number("buyers"), number("seats"), number("seconds"));
        if seats * 4 > buyers * 3 {
            return Err("--seats must be at most three for four --buyers: not everybody who is let in buys");
        }
        let length = Duration::from_secs(seconds.into());
        Ok(Self {
            buyers,
            seats,
            opens_after: length / 5,
            length,
            claim: Duration::from_secs(u64::from(seconds / 5).max(10)),
            per_minute: (seats * (100 + SPARE_PERCENT) * 60).div_ceil(seconds * 55),
            patience: length * 4 + Duration::from_secs(60),
        })
    }
}

/// Runs the sale.
pub(super) fn execute(matches: &ArgMatches) -> ExitCode {
    let plan = match Plan::from_matches(matches) {
        Ok(plan) => plan,
        Err(problem) => return fail(problem, EXIT_USAGE),
    };
    let most = descriptors();
    if u64::from(plan.buyers) * 2 + OTHER_DESCRIPTORS > most {
        let problem = "so many --buyers need more open files than the limit (ulimit -Hn)";
        return fail(format_args!("{problem}, which is {most}"), EXIT_USAGE);
    }
    match hold(plan, matches) {
        Ok(outcome) => conclude(plan, &outcome),
        Err(problem) => fail(problem, 1),
    }
}

/// Raises the limit of open files as far as it goes; the limit then.
fn descriptors() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it cannot be raised, what it is will do, or is found too low.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn hold(plan: Plan, matches: &ArgMatches) -> Result<Outcome, String> {
    let (settings, secret) = settings(matches)?;
    let tell = |error: &dyn std::fmt::Display| error.to_string();
    let logs = Logs::start(&settings.log).map_err(|error| tell(&error))?;
    let mint = |user: &str| {
        let wanted = Wanted { user, rooms: Vec::new(), lifetime: plan.patience + Duration::from_secs(3_600) };
        jwt::mint(&wanted, &secret, &settings.auth, Now::read()).map_err(|error| error.to_string())
    };
    let tokens =
        (0..plan.buyers as usize).map(|number| mint(&buyer::name(number))).collect::<Result<_, _>>()?;
    let visitor = mint(VISITOR)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| tell(&error))?;
    let (counter, orders) = mpsc::channel(shop::ORDERS_MAX);
    let handlers = Handlers::new().on(shop::ORDER, shop::counter(counter));
    let running = topology::start_with_logs(settings, handlers, Some(logs.dropped()));
    let running = running.map_err(|error| tell(&error))?;
    let addresses = running.addresses;
    say(&introduction(plan, &addresses, &visitor));
    let outcome = runtime.block_on(LocalSet::new().run_until(async {
        let signatures = verify::signatures(&format!("http://{}/.well-known/jwks.json", addresses.ws))?;
        let backend = Backend::connect(format!("http://{}", addresses.grpc));
        let backend = backend.await.map_err(|error| tell(&error))?;
        sale::run(Parts { plan, backend, signatures, orders, tokens, gateway: addresses.ws }).await
    }));
    runtime.block_on(running.gateway.shutdown());
    running.wait().map_err(|error| tell(&error))?;
    outcome
}

/// Those of a gateway for this machine alone, and the secret of its tokens; what is configured counts for nothing here.
fn settings(matches: &ArgMatches) -> Result<(Settings, Secret), String> {
    let raw = Raw::collect(None, &Environment::default(), Vec::new());
    let resolved = resolve(raw, &Host::read()).map_err(|_| "the defaults do not fit together")?;
    let mut settings = resolved.settings;
    let port = |name: &str| matches.get_one::<u16>(name).copied().unwrap_or_default();
    settings.listen.host = Ipv4Addr::LOCALHOST.into();
    settings.listen.http_port = port("http-port");
    settings.listen.grpc.set_port(port("grpc-port"));
    settings.listen.admin = Some((Ipv4Addr::LOCALHOST, port("metrics-port")).into());
    settings.listen.onsale_page = true;
    settings.log = Log { level: "warn".into(), ..settings.log };
    let secret = run::random_secret().map_err(|error| format!("cannot read random bytes: {error}"))?;
    settings.auth.keys.push(KeySource::Secret(secret.clone()));
    Ok((settings, secret))
}

fn introduction(plan: Plan, addresses: &Addresses, visitor: &str) -> String {
    let Plan { buyers, seats, opens_after, length, .. } = plan;
    let page = onsale_page(addresses, EVENT, Some(visitor)).unwrap_or_default();
    format!(
        "usher demo: {buyers} people want {seats} tickets. The sale opens in {} s; it takes about {} s.\n\n  \
         ws     ws://{}/ws\n  grpc   http://{}\n\nQueue with them:\n\n  {page}\n\n",
        opens_after.as_secs(),
        length.as_secs(),
        addresses.ws,
        addresses.grpc,
    )
}

/// The last line, and the exit code.
fn conclude(plan: Plan, outcome: &Outcome) -> ExitCode {
    let Outcome { books, queue, took } = outcome;
    let books = books.borrow();
    let (faults, count) = books.faults();
    for fault in faults {
        complain(format_args!("broken: {fault}"));
    }
    let (heard, promised) = books.results();
    let mut count = count;
    if books.sold() != plan.seats as usize {
        complain(format_args!("broken: {} of {} tickets were sold", books.sold(), plan.seats));
        count += 1;
    }
    let QueueResponse { admitted, completed, expired, abandoned, holding, inside, .. } = queue;
    let verdict = match count {
        0 => {
            "held: no place lost, no position worse, each ticket sold once, every result received".to_owned()
        }
        count => format!("BROKEN: {count} faults"),
    };
    say(&format!(
        "\n{admitted} admitted = {completed} bought + {expired} expired + {abandoned} gave up + {holding} with a pass \
         + {inside} inside\n"
    ));
    let (sold, positions, returns, seconds) =
        (books.sold(), books.positions(), books.returns(), took.as_secs_f64());
    say(&format!(
        "{sold} tickets sold, {heard} of {promised} booking results received, {positions} positions told, \
         {returns} connections lost and made again, {seconds:.1} s\n{verdict}\n"
    ));
    ExitCode::from(u8::from(count > 0))
}
