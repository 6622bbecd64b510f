//! `usher queue`: what an operator does with a waiting room, a command for each call, and what an auditor checks.
//!
//! Owns what can be typed and what is printed: the queue as it is afterwards, as JSON. `verify` is [`super::verify`]'s.

use std::{process::ExitCode, time::Duration};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::{
    command::{config, text},
    target::{self, CallError, Target},
    verify,
};
use crate::{
    config::{
        duration::{self, Plain},
        resolve::Resolved,
    },
    generated::realtime::{
        AdmitNextRequest, AdvanceQueueRequest, CloseQueueRequest, GetQueueRequest, HolderRequest,
        OpenQueueRequest, PauseQueueRequest, QueueResponse, open_queue_request::Inlet,
        realtime_service_client::RealtimeServiceClient,
    },
    sale::fair::{hex, unhex},
};

/// One call, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
enum Call {
    Open(OpenQueueRequest),
    Advance(AdvanceQueueRequest),
    Admit(AdmitNextRequest),
    /// And its end.
    Pause(PauseQueueRequest),
    Close(CloseQueueRequest),
    Get(GetQueueRequest),
    Log(GetQueueRequest),
    Claim(HolderRequest),
    Complete(HolderRequest),
    Abandon(HolderRequest),
}

/// `usher queue` and its commands.
pub(super) fn command() -> Command {
    let changes =
        [open(), advance(), admit(), pause(), resume(), close(), reopen(), claim(), complete(), abandon()]
            .map(|call| {
                let run = text("run", "RUN").value_parser(value_parser!(u64).range(1..));
                call.arg(
                    run.help("Only to the queue that `get` shows with this `run`, no later one of the event"),
                )
            });
    let calls = changes.into_iter().chain([get(), log()]).map(|call| {
        call.arg(text("event", "ID").required(true).help("The event that the queue belongs to"))
            .arg(config())
            .args(target::arguments())
    });
    Command::new("queue")
        .about("Run a waiting room: open it, let people in, see how it stands; check receipts of places")
        .after_help(EXAMPLE)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(calls)
        .subcommand(verify::receipt())
}

const EXAMPLE: &str = "\
A sale, from the beginning:
  usher queue open --event 123 --opens-in 10m --per-minute 600   who joins by then is shuffled at the opening
  usher queue get --event 123                                    how many wait, have a pass, are inside
  usher queue pause --event 123 --reason 'A short break'         everybody who waits is told
  usher queue resume --event 123
  usher queue open --event 123 --per-minute 900                  faster; what is not typed stays as it is
  usher queue close --event 123 --sold-out                       nobody is let in any more
Every command prints the queue as it is afterwards. All but `admit` without a key may be repeated.";

fn open() -> Command {
    Command::new("open")
        .about("Begin the queue of an event, or change its terms: what is not typed stays as it is")
        .arg(
            text("opens-in", "TIME")
                .value_parser(time)
                .help(
                    "Who joins by then is shuffled [default: at once]; typed once more it does not move the opening, another time does",
                ),
        )
        .arg(
            text("opens-at", "SECONDS")
                .value_parser(value_parser!(u64).range(..=u64::MAX / 1_000))
                .help("Instead: when, as Unix time, $(date -d '10:00' +%s)"),
        )
        .arg(flag("now", "Instead: open at once a queue that has not opened"))
        .group(ArgGroup::new("opening").args(["opens-in", "opens-at", "now"]))
        .arg(count("per-minute", "Let in so many a minute [default: nobody by itself]"))
        .arg(count("inside", "Or: let people in while fewer than so many have a pass or are inside"))
        .arg(flag("manual", "Or: let nobody in by itself"))
        .group(ArgGroup::new("inlet").args(["per-minute", "inside", "manual"]))
        .arg(text("claim", "TIME").value_parser(time).help("How long a pass can be used [default: 5m]"))
        .arg(
            text("grace", "TIME")
                .value_parser(time)
                .help("How long who is away keeps others waiting [default: QUEUE_GRACE of the gateway]"),
        )
        .arg(
            text("stay", "TIME")
                .value_parser(stay)
                .help("Who is inside for so long counts as gone; never [default: never]"),
        )
        .arg(
            text("places", "N")
                .value_parser(value_parser!(u32).range(1..))
                .help("Places in all [default: 1048576]"),
        )
        .arg(
            text("secret", "HEX")
                .value_parser(|text: &str| unhex::<32>(text).ok_or("64 hexadecimal digits"))
                .help(
                    "What the order is drawn from [default: made by the gateway]; other users can see flags",
                ),
        )
}

fn advance() -> Command {
    Command::new("advance")
        .about("Let everybody in up to a place; those who are away come in when they are back")
        .arg(
            count("to", "The place, at most the last one there is; what was let in before stays")
                .required(true),
        )
}

fn admit() -> Command {
    Command::new("admit")
        .about("Let in so many more of those who are here")
        .arg(count("count", "How many").required(true))
        .arg(
            text("key", "TEXT").help("Repeated within five minutes with the same key it lets in nobody more"),
        )
}

fn pause() -> Command {
    Command::new("pause")
        .about("Let nobody in by itself for the moment; `advance` and `admit` still do")
        .arg(text("reason", "TEXT").help("What everybody who waits is told"))
}

fn resume() -> Command {
    Command::new("resume").about("End a pause")
}

fn close() -> Command {
    Command::new("close")
        .about("End the sale: nobody is let in any more, whoever waits is told; but for --sold-out, nothing leads back")
        .arg(flag("sold-out", "There is nothing left, but who is inside goes on"))
}

fn reopen() -> Command {
    Command::new("reopen")
        .about("Tickets came back: what was sold out goes on where it stood, whoever waits is told")
}

fn get() -> Command {
    Command::new("get").about("Show how the queue stands")
}

fn log() -> Command {
    Command::new("log").about("Print who was in the pre-queue when it opened, for `usher queue verify --log`")
}

fn claim() -> Command {
    holder(Command::new("claim").about("Somebody used the pass: it does not expire any more"))
}

fn complete() -> Command {
    holder(Command::new("complete").about("Somebody who was let in has bought: there is room for another"))
}

fn abandon() -> Command {
    holder(Command::new("abandon").about("Somebody who was let in will not buy: there is room for another"))
}

fn holder(command: Command) -> Command {
    command
        .arg(text("user", "USER").help("Who"))
        .arg(text("anonymous", "SUB").help("Or: `sub` of a pass that says \"anonymous\""))
        .group(ArgGroup::new("holder").args(["user", "anonymous"]).required(true))
        .arg(count("place", "Only this place, `position` of the pass, no later one of the same person"))
}

fn count(name: &'static str, help: &'static str) -> Arg {
    text(name, "N").value_parser(value_parser!(u32)).help(help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// `None`: never.
fn stay(text: &str) -> Result<Option<Duration>, &'static str> {
    if text == "never" {
        Ok(None)
    } else {
        time(text).map(Some).map_err(|_| "a time such as 20m, more than 0s, or never")
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    let time = duration::parse(text, Plain::Refused).ok_or("a time such as 30s or 5m")?;
    // 0 would be nothing typed.
    if time.is_zero() { Err("more than 0s") } else { Ok(time) }
}

impl Call {
    /// The message for what was typed after `queue <name>`.
    fn from_matches(name: &str, matches: &ArgMatches) -> Result<Self, CallError> {
        let typed = Typed(matches);
        let event_id = typed.text("event");
        let run = typed.run();
        Ok(match name {
            "open" => Self::Open(typed.open()),
            "advance" => Self::Advance(AdvanceQueueRequest { event_id, to: typed.count("to"), run }),
            "admit" => {
                let (count, idempotency_key) = (typed.count("count"), typed.text("key"));
                Self::Admit(AdmitNextRequest { event_id, count, idempotency_key, run })
            }
            "pause" => {
                Self::Pause(PauseQueueRequest { event_id, reason: typed.text("reason"), resume: false, run })
            }
            "resume" => Self::Pause(PauseQueueRequest { event_id, reason: String::new(), resume: true, run }),
            "close" => {
                let sold_out = matches.get_flag("sold-out");
                Self::Close(CloseQueueRequest { event_id, sold_out, run, ..CloseQueueRequest::default() })
            }
            "reopen" => {
                Self::Close(CloseQueueRequest { event_id, reopen: true, run, ..CloseQueueRequest::default() })
            }
            "get" => Self::Get(GetQueueRequest { event_id }),
            "log" => Self::Log(GetQueueRequest { event_id }),
            "claim" => Self::Claim(typed.holder()),
            "complete" => Self::Complete(typed.holder()),
            "abandon" => Self::Abandon(typed.holder()),
            _ => return Err(CallError::Arguments("there is no such command")),
        })
    }
}

struct Typed<'a>(&'a ArgMatches);

impl Typed<'_> {
    fn open(&self) -> OpenQueueRequest {
        let opens_at = self.0.get_one::<u64>("opens-at").map(|seconds| seconds * 1_000);
        let per_minute = self.0.get_one("per-minute").copied().map(Inlet::PerMinute);
        let inside = self.0.get_one("inside").copied().map(Inlet::Inside);
        let manual = self.0.get_flag("manual").then_some(Inlet::Manual(true));
        let stay = self.0.get_one::<Option<Duration>>("stay").copied();
        OpenQueueRequest {
            event_id: self.text("event"),
            opens_at_ms: opens_at.unwrap_or_default(),
            opens_in_seconds: self.seconds("opens-in"),
            now: self.0.get_flag("now"),
            secret: self.0.get_one::<[u8; 32]>("secret").map(Vec::from).unwrap_or_default(),
            inlet: per_minute.or(inside).or(manual),
            claim_seconds: self.seconds("claim"),
            grace_seconds: self.seconds("grace"),
            stay_seconds: stay.flatten().map_or(0, seconds),
            stay_forever: stay == Some(None),
            places_max: self.count("places"),
            run: self.run(),
        }
    }

    fn holder(&self) -> HolderRequest {
        let anonymous = self.0.contains_id("anonymous");
        let holder = self.text(if anonymous { "anonymous" } else { "user" });
        let place = self.count("place");
        HolderRequest { event_id: self.text("event"), holder, anonymous, run: self.run(), place }
    }

    /// 0, as protobuf has it, where none was typed, or none can be.
    fn run(&self) -> u64 {
        self.0.try_get_one::<u64>("run").ok().flatten().copied().unwrap_or_default()
    }

    /// Empty, as protobuf has it, where nothing was typed.
    fn text(&self, name: &str) -> String {
        self.0.get_one::<String>(name).cloned().unwrap_or_default()
    }

    fn count(&self, name: &str) -> u32 {
        self.0.get_one::<u32>(name).copied().unwrap_or_default()
    }

    /// 0 where nothing was typed.
    fn seconds(&self, name: &str) -> u32 {
        self.0.get_one::<Duration>(name).copied().map_or(0, seconds)
    }
}

/// Less than a second is one, since 0 would be nothing typed.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// Makes the call that was typed and prints the queue.
pub(super) fn execute(name: &str, matches: &ArgMatches, resolved: &Resolved) -> ExitCode {
    target::run(async {
        let call = Call::from_matches(name, matches)?;
        perform(call, &Target::from_matches(matches, &resolved.settings)?).await
    })
}

async fn perform(call: Call, target: &Target) -> Result<String, CallError> {
    let mut client = RealtimeServiceClient::new(target.connect().await?);
    let answer = match call {
        Call::Open(message) => client.open_queue(target.request(message)).await,
        Call::Advance(message) => client.advance_queue(target.request(message)).await,
        Call::Admit(message) => client.admit_next(target.request(message)).await,
        Call::Pause(message) => client.pause_queue(target.request(message)).await,
        Call::Close(message) => client.close_queue(target.request(message)).await,
        Call::Get(message) => client.get_queue(target.request(message)).await,
        Call::Claim(message) => client.claim(target.request(message)).await,
        Call::Complete(message) => client.complete(target.request(message)).await,
        Call::Abandon(message) => client.abandon(target.request(message)).await,
        Call::Log(message) => {
            let mut parts = client.get_queue_log(target.request(message)).await?.into_inner();
            let mut text = String::new();
            while let Some(part) = parts.message().await? {
                text += &part.text;
            }
            return Ok(text);
        }
    };
    Ok(format!("{:#}\n", shown(answer?.into_inner())))
}

fn shown(queue: QueueResponse) -> Value {
    let pauses = queue.pauses.iter().map(|pause| json!({ "by": pause.by, "reason": pause.reason }));
    json!({
        "event_id": queue.event_id,
        "run": queue.run,
        "state": queue.state,
        "opens_at_ms": (queue.opens_at_ms != 0).then_some(queue.opens_at_ms),
        "pauses": pauses.collect::<Vec<_>>(),
        "serving": queue.serving,
        "total": queue.total,
        "waiting": queue.waiting,
        "departed": queue.departed,
        "left": queue.left,
        "admitted": queue.admitted,
        "holding": queue.holding,
        "inside": queue.inside,
        "expired": queue.expired,
        "completed": queue.completed,
        "abandoned": queue.abandoned,
        "commitment": hex(&queue.commitment),
        "seed": (!queue.seed.is_empty()).then(|| hex(&queue.seed)),
        "warning": (!queue.warning.is_empty()).then_some(queue.warning),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<Call, clap::Error> {
        let matches = command().try_get_matches_from(line.split(' '))?;
        let (name, matches) = matches.subcommand().expect("it is required");
        Ok(Call::from_matches(name, matches).expect("a command"))
    }

    #[test]
    fn each_line_becomes_its_message() {
        let event_id = || "e".to_owned();
        let holder = |holder: &str, anonymous| HolderRequest {
            event_id: event_id(),
            holder: holder.into(),
            anonymous,
            run: 0,
            place: 0,
        };
        let pause = |reason: &str, resume| {
            Call::Pause(PauseQueueRequest { event_id: event_id(), reason: reason.into(), resume, run: 0 })
        };
        let close = |sold_out, reopen| {
            Call::Close(CloseQueueRequest { event_id: event_id(), sold_out, reopen, run: 0 })
        };
        let rows = [
            ("open", Call::Open(OpenQueueRequest { event_id: event_id(), ..OpenQueueRequest::default() })),
            (
                "open --opens-in 10m --per-minute 600 --claim 2m --grace 1m --stay 20m --places 5000",
                Call::Open(OpenQueueRequest {
                    event_id: event_id(),
                    opens_in_seconds: 600,
                    inlet: Some(Inlet::PerMinute(600)),
                    claim_seconds: 120,
                    grace_seconds: 60,
                    stay_seconds: 1_200,
                    places_max: 5_000,
                    ..OpenQueueRequest::default()
                }),
            ),
            (
                "open --opens-at 2000 --inside 50",
                Call::Open(OpenQueueRequest {
                    event_id: event_id(),
                    opens_at_ms: 2_000_000,
                    inlet: Some(Inlet::Inside(50)),
                    ..OpenQueueRequest::default()
                }),
            ),
            (
                "advance --to 7 --run 9",
                Call::Advance(AdvanceQueueRequest { event_id: event_id(), to: 7, run: 9 }),
            ),
            (
                "admit --count 3 --key k",
                Call::Admit(AdmitNextRequest {
                    event_id: event_id(),
                    count: 3,
                    idempotency_key: "k".into(),
                    run: 0,
                }),
            ),
            ("pause --reason rest", pause("rest", false)),
            ("resume", pause("", true)),
            ("close --sold-out", close(true, false)),
            ("close", close(false, false)),
            ("reopen", close(false, true)),
            ("get", Call::Get(GetQueueRequest { event_id: event_id() })),
            ("log", Call::Log(GetQueueRequest { event_id: event_id() })),
            ("claim --user ann", Call::Claim(holder("ann", false))),
            ("complete --anonymous a:1", Call::Complete(holder("a:1", true))),
            (
                "complete --user ann --place 7",
                Call::Complete(HolderRequest { place: 7, ..holder("ann", false) }),
            ),
            ("abandon --user ann", Call::Abandon(holder("ann", false))),
        ];
        for (line, expected) in rows {
            assert_eq!(call(&format!("queue {line} --event e")).expect(line), expected, "{line}");
        }
    }

    #[test]
    fn what_would_be_nothing_typed_has_words_of_its_own() {
        let expected = OpenQueueRequest {
            event_id: "e".into(),
            now: true,
            inlet: Some(Inlet::Manual(true)),
            stay_forever: true,
            ..OpenQueueRequest::default()
        };
        let line = "queue open --event e --now --manual --stay never";
        assert_eq!(call(line).expect(line), Call::Open(expected));
    }

    #[test]
    fn a_secret_is_in_hexadecimal_and_a_time_at_least_a_second() {
        let line = format!("queue open --event e --secret {}", "0a".repeat(32));
        assert!(matches!(call(&line), Ok(Call::Open(it)) if it.secret == [10; 32]));
        assert!(
            matches!(call("queue open --event e --claim 200ms"), Ok(Call::Open(it)) if it.claim_seconds == 1)
        );
    }

    #[test]
    fn what_is_missing_or_contradicts_itself_is_told() {
        for line in [
            "queue",
            "queue get",
            "queue advance --event e",
            "queue admit --event e --count -1",
            "queue open --event e --per-minute 1 --inside 1",
            "queue open --event e --per-minute 1 --manual",
            "queue open --event e --opens-in 1m --opens-at 1",
            "queue open --event e --opens-in 1m --now",
            "queue open --event e --opens-at 18446744073709551615",
            "queue open --event e --secret 0a",
            "queue open --event e --claim 0s",
            "queue open --event e --stay 0s",
            "queue open --event e --opens-in 0s",
            "queue open --event e --places 0",
            "queue get --event e --run 1",
            "queue close --event e --run 0",
            "queue claim --event e",
            "queue claim --event e --user u --anonymous a",
        ] {
            assert!(call(line).is_err(), "{line}");
        }
    }
}
