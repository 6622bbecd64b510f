//! `usher pass` and `usher queue verify`: what a booking service, a buyer and an auditor can check by themselves.
//!
//! Says of each thing whether it was checked, since what was not proves nothing. Never talks to a gateway but for its keys.

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{
    EXIT_USAGE,
    command::{config, text},
    complain, fail, say,
};
use crate::{
    auth::{KeySet, keys::Secrets, token::Signatures},
    clock::Now,
    config::{
        duration::{self, Plain},
        resolve::Resolved,
    },
    control::{fetch, passes::KeyFiles},
    sale::{
        fair::{Seed, expected_place, hex, unhex},
        pass::{Admission, Claims, USER_PREFIX},
        receipt::{Log, Receipt},
    },
};

/// The answer is no.
const EXIT_NO: u8 = 1;

/// `usher pass`.
pub(super) fn pass() -> Command {
    let verify = Command::new("verify")
        .about("Check a pass as a booking service does: signature, event, claim window")
        .arg(Arg::new("token").value_name("TOKEN").required(true).help("The pass"))
        .arg(jwks().required(true))
        .arg(text("event", "ID").required(true).help("The event that it must be for"));
    let make = Command::new("make")
        .about("Make a pass with PASS_KEY_FILE, to try a booking service with")
        .arg(config())
        .arg(text("user", "USER").required(true).help("Who the pass is for"))
        .arg(text("event", "ID").required(true).help("The event that it is for"))
        .arg(
            text("place", "N")
                .default_value("1")
                .value_parser(value_parser!(u32).range(1..))
                .help("The place"),
        )
        .arg(text("expires", "TIME").default_value("5m").value_parser(time).help("The claim window"));
    Command::new("pass")
        .about("Check a pass of the waiting room, or make one")
        .subcommand_required(true)
        .subcommand(verify)
        .subcommand(make)
}

/// `usher queue verify`.
pub(super) fn receipt() -> Command {
    let file = |name, help| text(name, "FILE").value_parser(value_parser!(PathBuf)).help(help);
    Command::new("verify")
        .about("Check the receipt of a place against the revealed seed")
        .arg(
            Arg::new("receipt")
                .value_name("RECEIPT")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("A file with the receipt, JSON"),
        )
        .arg(text("seed", "HEX").required(true).help("The seed, as it was published at the opening"))
        .arg(jwks())
        .arg(file(
            "log",
            "Everybody who was in the pre-queue, as `usher queue log` prints it: checks every place",
        ))
}

fn jwks() -> Arg {
    text("jwks", "FILE|URL").help("The gateway's keys: /.well-known/jwks.json, or a file with that")
}

fn time(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text, Plain::Refused).ok_or("a time such as 30s, 5m or 1h")
}

/// Runs `usher pass make`.
pub(super) fn make_pass(matches: &ArgMatches, resolved: &Resolved) -> ExitCode {
    let passes = &resolved.settings.passes;
    if passes.key.is_none() {
        return fail("there is no key to sign with: set PASS_KEY_FILE to the gateway's", EXIT_USAGE);
    }
    let now = Now::read();
    let lifetime = matches.get_one::<Duration>("expires").copied().unwrap_or_default();
    let claims = Claims::of(&Admission {
        issuer: &passes.issuer,
        event_id: given(matches, "event"),
        holder: &format!("{USER_PREFIX}{}", given(matches, "user")),
        place: matches.get_one("place").copied().unwrap_or(1),
        admitted_at_ms: now.wall_ms,
        claim_until_ms: now.after(lifetime).wall_ms,
    });
    let payload = serde_json::json!(claims).to_string();
    let keys = KeyFiles::new(passes.clone()).and_then(|mut files| files.load());
    match keys.map(|keys| keys.sign(payload.as_bytes())) {
        Ok(Ok(pass)) => {
            say(&format!("{pass}\n"));
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => fail(error, EXIT_USAGE),
        Err(error) => fail(error, EXIT_USAGE),
    }
}

/// Runs `usher pass verify`.
pub(super) fn verify_pass(matches: &ArgMatches) -> ExitCode {
    let signatures = match signatures(given(matches, "jwks")) {
        Ok(signatures) => signatures,
        Err(problem) => return fail(problem, EXIT_USAGE),
    };
    match read_pass(&signatures, given(matches, "token"), given(matches, "event"), Now::read()) {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(problem) => fail(problem, EXIT_NO),
    }
}

fn read_pass(signatures: &Signatures, token: &str, event: &str, now: Now) -> Result<String, String> {
    let payload = signatures.payload(token.trim()).map_err(|error| error.to_string())?;
    let pass = Claims::check(&payload, event, now).map_err(|error| error.to_string())?;
    let left_s = pass.exp.saturating_sub(now.wall_ms / 1_000);
    let who = if pass.anonymous { "anonymous holder" } else { "user" };
    let Claims { sub, position, aud, iss, jti, .. } = pass;
    Ok(format!(
        "good: {who} {sub}, place {position}, event {aud}, {left_s} s left, from {iss}\n\
         checked: signature, event, claim window\n\
         not checked: whether it was used before; claim {jti} once\n"
    ))
}

/// Runs `usher queue verify`.
pub(super) fn verify_receipt(matches: &ArgMatches) -> ExitCode {
    let evidence = match Evidence::read(matches) {
        Ok(evidence) => evidence,
        Err(problem) => return fail(problem, EXIT_USAGE),
    };
    let (text, good) = evidence.examine();
    say(&text);
    if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) }
}

/// What somebody has in hand.
struct Evidence {
    receipt: Receipt,
    seed: Seed,
    signatures: Option<Signatures>,
    log: Option<Log>,
}

impl Evidence {
    fn read(matches: &ArgMatches) -> Result<Self, String> {
        let path = |name| matches.get_one::<PathBuf>(name);
        let file = path("receipt").ok_or("no receipt")?;
        let receipt = serde_json::from_str(&read(file)?)
            .map_err(|error| format!("{}: no receipt: {error}", file.display()))?;
        let seed = unhex(&given(matches, "seed").to_ascii_lowercase())
            .ok_or("--seed must be 64 hexadecimal digits")?;
        let signatures = matches.get_one::<String>("jwks").map(|source| signatures(source)).transpose()?;
        let log = path("log").map(|file| {
            Log::parse(&read(file)?).map_err(|error| format!("{}: no log: {error}", file.display()))
        });
        Ok(Self { receipt, seed, signatures, log: log.transpose()? })
    }

    /// Everything that can be said, and whether nothing is wrong.
    fn examine(&self) -> (String, bool) {
        let Self { receipt, seed, .. } = self;
        let Receipt { event_id, holder, place, size, commitment, .. } = receipt;
        let mut lines = vec![format!("receipt: event {event_id}, holder {holder}, place {place} of {size}")];
        let mut good = true;
        let mut judge = |what: &str, outcome: Result<String, String>| {
            good &= outcome.is_ok();
            lines.push(match outcome {
                Ok(found) => format!("good: {what}{found}"),
                Err(problem) => format!("WRONG: {what}: {problem}"),
            });
        };
        let nothing = |_: ()| String::new();
        let (expected, tolerance) = expected_place(seed, holder, *size);
        let likely = format!(" (a fair shuffle puts this holder near {expected}, {tolerance} more or less)");
        let (alone, flaw) = ("seed, proof and place fit each other", receipt.verify(seed));
        judge(alone, flaw.map(|()| likely).map_err(display));
        let signature = self.signatures.as_ref().map(|signatures| {
            let payload = signatures.payload(&receipt.signed_root).map_err(display)?;
            receipt.verify_statement(&payload).map(nothing).map_err(display)
        });
        let checked_signature = signature.is_some();
        if let Some(outcome) = signature {
            judge("the gateway signed this root", outcome);
        }
        if let Some(log) = &self.log {
            let outcome = receipt.verify_log(seed, log);
            judge("every place follows from seed and log", outcome.map(nothing).map_err(display));
        }
        lines.extend(self.unchecked(checked_signature));
        lines.push(format!(
            "compare with what was published before the opening: commitment {}",
            hex(&commitment.0)
        ));
        (lines.join("\n") + "\n", good)
    }

    fn unchecked(&self, signature: bool) -> Vec<String> {
        let rows = [
            (signature, "that the gateway signed this root (--jwks)"),
            (self.log.is_some(), "the places of others (--log, from the operator)"),
            (false, "that the log is complete, and that its holders are people"),
        ];
        let open = rows.into_iter().filter(|(checked, _)| !checked);
        open.map(|(_, what)| format!("not checked: {what}")).collect()
    }
}

fn display(error: impl Display) -> String {
    error.to_string()
}

fn given<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

pub(super) fn signatures(source: &str) -> Result<Signatures, String> {
    let document = if source.starts_with("http://") || source.starts_with("https://") {
        fetch::get(source).map_err(|error| format!("{}: {error}", fetch::shown(source)))?
    } else {
        read(Path::new(source))?
    };
    let keys = KeySet::jwks(&document, Secrets::Skipped).map_err(|error| format!("{source}: {error}"))?;
    if keys.skipped() > 0 {
        complain(format_args!("{} keys were skipped", keys.skipped()));
    }
    Ok(Signatures::new(keys))
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests;
