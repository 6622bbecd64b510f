//! What can be typed after `usher notify`, and the message that each makes.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};

use crate::{
    cli::{
        command::{config, text},
        target::{self, CallError},
    },
    config::duration::{self, Plain},
    generated::realtime::{
        BroadcastEventRequest, DeliveryClass, DisconnectUserRequest, GetConnectionStatsRequest,
        GetDeliveryStateRequest, GetHistoryRequest, NotifyBookingResultRequest, NotifyPaymentStatusRequest,
        NotifyQueuePositionRequest, PresenceRequest, SendToUserRequest, broadcast_event_request,
        get_history_request, presence_request, send_to_user_request,
    },
};

/// One call, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    /// `NotifyBookingResult`.
    Booking(NotifyBookingResultRequest),
    /// `NotifyQueuePosition`.
    Queue(NotifyQueuePositionRequest),
    /// `NotifyPaymentStatus`.
    Payment(NotifyPaymentStatusRequest),
    /// `BroadcastEvent`.
    Broadcast(BroadcastEventRequest),
    /// `SendToUser`.
    User(SendToUserRequest),
    /// `GetConnectionStats`.
    Stats(GetConnectionStatsRequest),
    /// `DisconnectUser`.
    Disconnect(DisconnectUserRequest),
    /// `GetHistory`.
    History(GetHistoryRequest),
    /// `GetDeliveryState`.
    Delivery(GetDeliveryStateRequest),
    /// `Presence`.
    Presence(PresenceRequest),
}

/// `usher notify` and its commands, one for each method.
pub(in crate::cli) fn command() -> Command {
    Command::new("notify")
        .about("Call a running gateway as a backend does, and print its answer as JSON")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(config())
        .args(target::arguments().map(|argument| argument.global(true)))
        .subcommand(booking())
        .subcommand(queue())
        .subcommand(payment())
        .subcommand(event(Command::new("broadcast").about("Send any event to the members of a room"), room()))
        .subcommand(event(Command::new("user").about("Send any event to a user"), user()))
        .subcommand(Command::new("stats").about("Count connections, users and rooms"))
        .subcommand(
            Command::new("disconnect")
                .about("Close all connections of a user")
                .arg(user())
                .arg(text("reason", "TEXT").help("For the gateway's log")),
        )
        .subcommand(
            someone(
                Command::new("history").about("Show what is stored for a user or a room, the newest last"),
            )
            .arg(number("after").help("What follows this offset, instead of the newest"))
            .arg(text("epoch", "EPOCH").requires("after").help("The history that --after belongs to"))
            .arg(
                text("limit", "N")
                    .value_parser(value_parser!(u32))
                    .help("So many entries at most [default: 64]"),
            ),
        )
        .subcommand(
            Command::new("delivery").about("Show what a user was sent and has acknowledged").arg(user()),
        )
        .subcommand(someone(
            Command::new("presence").about("Show whether a user, or anybody in a room, is connected"),
        ))
}

fn booking() -> Command {
    Command::new("booking")
        .about("Tell a user that a booking was confirmed, or failed")
        .arg(user())
        .arg(text("booking", "ID").required(true).help("The booking"))
        .arg(
            Arg::new("failed")
                .long("failed")
                .action(ArgAction::SetTrue)
                .help("It failed; else it is confirmed"),
        )
        .arg(text("reference", "TEXT").help("What the user shows at the door"))
        .arg(text("event", "ID").help("The event"))
        .arg(text("seats", "LIST").value_delimiter(',').help("Seat numbers, with commas between them"))
        .args(money())
        .args([message(), key()])
}

fn queue() -> Command {
    Command::new("queue")
        .about("Tell a user their position in a queue")
        .arg(user())
        .arg(text("event", "ID").required(true).help("The event that is queued for"))
        .arg(number("position").required(true).help("The position"))
        .arg(number("total").help("How many wait in all"))
        .arg(
            text("wait", "TIME")
                .value_parser(|text: &str| {
                    duration::parse(text, Plain::Refused).ok_or("a time such as 30s or 5m")
                })
                .help("How long it may take"),
        )
        .args([version(), key()])
}

fn payment() -> Command {
    Command::new("payment")
        .about("Tell a user how a payment goes")
        .arg(user())
        .arg(text("payment", "ID").required(true).help("The payment"))
        .arg(
            text("status", "STATUS")
                .required(true)
                .value_parser(["processing", "success", "failed", "refunded"])
                .help("How it goes"),
        )
        .arg(text("booking", "ID").help("The booking that is paid"))
        .args(money())
        .args([message(), key()])
}

fn event(command: Command, target: Arg) -> Command {
    let class = text("class", "CLASS").value_parser(["critical", "ordered", "latest", "ephemeral"]);
    command
        .arg(target)
        .arg(text("type", "TYPE").required(true).help("What clients see as its type, ticket:sold"))
        .arg(text("payload", "JSON").default_value("{}").help("What clients see as its payload"))
        .arg(class.help("How it may be treated on the way [default: by type]"))
        .args([version(), key()])
}

fn user() -> Arg {
    text("user", "USER").required(true).help("The user")
}

fn room() -> Arg {
    text("room", "ROOM").required(true).help("The room, event:123")
}

/// `--user` or `--room`.
fn someone(command: Command) -> Command {
    let args = [user().required(false), room().required(false)];
    command.args(args).group(ArgGroup::new("target").args(["user", "room"]).required(true))
}

fn money() -> [Arg; 2] {
    [text("amount", "DECIMAL").help("An amount, 100.00"), text("currency", "CODE").help("Its currency, EUR")]
}

fn message() -> Arg {
    text("message", "TEXT").help("Words for the user")
}

fn key() -> Arg {
    text("key", "TEXT").help("Idempotency key: a repeated call gets the first answer")
}

fn version() -> Arg {
    number("version").help("An older version never replaces a newer one")
}

fn number(name: &'static str) -> Arg {
    text(name, "N").value_parser(value_parser!(u64))
}

impl Call {
    /// The message for what was typed after `notify`.
    pub(super) fn from_matches(matches: &ArgMatches) -> Result<Self, CallError> {
        let (name, matches) = matches.subcommand().ok_or(CallError::Arguments("a command is missing"))?;
        let typed = Typed(matches);
        Ok(match name {
            "booking" => Self::Booking(typed.booking()),
            "queue" => Self::Queue(typed.queue()),
            "payment" => Self::Payment(typed.payment()),
            "broadcast" => Self::Broadcast(typed.broadcast()),
            "user" => Self::User(typed.user()),
            "stats" => Self::Stats(GetConnectionStatsRequest {}),
            "disconnect" => Self::Disconnect(DisconnectUserRequest {
                user_id: typed.text("user"),
                reason: typed.text("reason"),
            }),
            "history" => Self::History(typed.history()),
            "delivery" => Self::Delivery(GetDeliveryStateRequest { user_id: typed.text("user") }),
            "presence" => Self::Presence(PresenceRequest {
                target: Some(match typed.0.get_one::<String>("room") {
                    Some(room) => presence_request::Target::Room(room.clone()),
                    None => presence_request::Target::UserId(typed.text("user")),
                }),
            }),
            _ => return Err(CallError::Arguments("there is no such command")),
        })
    }
}

struct Typed<'a>(&'a ArgMatches);

impl Typed<'_> {
    fn booking(&self) -> NotifyBookingResultRequest {
        let seats = self.0.get_many::<String>("seats").into_iter().flatten();
        NotifyBookingResultRequest {
            user_id: self.text("user"),
            booking_id: self.text("booking"),
            success: !self.0.get_flag("failed"),
            message: self.text("message"),
            booking_reference: self.text("reference"),
            event_id: self.text("event"),
            seat_numbers: seats.cloned().collect(),
            total_amount: self.text("amount"),
            currency: self.text("currency"),
            idempotency_key: self.text("key"),
        }
    }

    fn queue(&self) -> NotifyQueuePositionRequest {
        let wait = self.0.get_one::<Duration>("wait").copied().unwrap_or_default();
        NotifyQueuePositionRequest {
            user_id: self.text("user"),
            event_id: self.text("event"),
            position: self.number("position"),
            total: self.number("total"),
            estimated_wait_seconds: u32::try_from(wait.as_secs()).unwrap_or(u32::MAX),
            version: self.number("version"),
            idempotency_key: self.text("key"),
        }
    }

    fn payment(&self) -> NotifyPaymentStatusRequest {
        NotifyPaymentStatusRequest {
            user_id: self.text("user"),
            payment_id: self.text("payment"),
            booking_id: self.text("booking"),
            status: self.text("status"),
            amount: self.text("amount"),
            currency: self.text("currency"),
            message: self.text("message"),
            idempotency_key: self.text("key"),
        }
    }

    fn broadcast(&self) -> BroadcastEventRequest {
        BroadcastEventRequest {
            room: self.text("room"),
            event_type: self.text("type"),
            body: Some(broadcast_event_request::Body::PayloadJson(self.text("payload").into())),
            idempotency_key: self.text("key"),
            class: self.class().into(),
            version: self.number("version"),
        }
    }

    fn user(&self) -> SendToUserRequest {
        SendToUserRequest {
            user_id: self.text("user"),
            event_type: self.text("type"),
            body: Some(send_to_user_request::Body::PayloadJson(self.text("payload").into())),
            idempotency_key: self.text("key"),
            class: self.class().into(),
            version: self.number("version"),
        }
    }

    fn history(&self) -> GetHistoryRequest {
        GetHistoryRequest {
            target: Some(match self.0.get_one::<String>("room") {
                Some(room) => get_history_request::Target::Room(room.clone()),
                None => get_history_request::Target::UserId(self.text("user")),
            }),
            after_offset: self.0.get_one::<u64>("after").copied(),
            epoch: self.text("epoch"),
            limit: self.0.get_one::<u32>("limit").copied().unwrap_or_default(),
        }
    }

    fn class(&self) -> DeliveryClass {
        match self.text("class").as_str() {
            "critical" => DeliveryClass::Critical,
            "ordered" => DeliveryClass::Ordered,
            "latest" => DeliveryClass::Latest,
            "ephemeral" => DeliveryClass::Ephemeral,
            _ => DeliveryClass::Unspecified,
        }
    }

    /// Empty, as protobuf has it, where nothing was typed.
    fn text(&self, name: &str) -> String {
        self.0.get_one::<String>(name).cloned().unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.0.get_one::<u64>(name).copied().unwrap_or_default()
    }
}
