//! A buyer who stays: connects, comes back when the connection ends, and resumes where it was.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    fleet::Fleet,
    foreign::CHANNEL,
    random::Random,
    socket::{self, Envelope, Socket},
};

/// Between an end and the next try: so much, and up to so much more.
const RETURN_MIN: Duration = Duration::from_millis(50);
const RETURN_SPREAD_MS: u32 = 450;
/// Silence after which a connection is given up: the gateway pings more often.
const SILENCE_MAX: Duration = Duration::from_secs(70);

/// What one client saw, in its order.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) seen: Vec<Seen>,
    /// Connections that were greeted.
    pub(crate) connected: u32,
    /// Resumes after which nothing was missing.
    pub(crate) recovered: u32,
    /// What it could not make sense of.
    pub(crate) faults: Vec<String>,
}

/// One thing that a log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A message of its stream, with the number of what made it: a call, or a publication.
    Message { published: bool, number: u64, epoch: Rc<str>, offset: u64 },
    /// It was told that something is missing, and where the stream stands.
    Gap { epoch: Rc<str>, offset: u64 },
    /// As a gap, for one that had been let in without being told where the stream stands: what came before may be
    /// missing.
    Start { epoch: Rc<str>, offset: u64 },
}

#[derive(Deserialize)]
struct Place {
    stream: String,
    epoch: String,
    offset: u64,
}

#[derive(Deserialize)]
struct Resumed {
    stream: String,
    epoch: String,
    recovered: bool,
    to: u64,
}

/// One client and where it stands.
pub(crate) struct Client {
    user: String,
    token: String,
    fleet: Rc<Fleet>,
    log: Rc<RefCell<Log>>,
    random: Random,
    /// Where it stands in its stream; `None`: it was never told.
    at: Option<(Rc<str>, u64)>,
}

impl Client {
    pub(crate) fn new(
        user: String,
        token: String,
        fleet: Rc<Fleet>,
        log: Rc<RefCell<Log>>,
        seed: u64,
    ) -> Self {
        Self { user, token, fleet, log, random: Random::new(seed), at: None }
    }

    /// For ever; dropped at the end of the story.
    pub(crate) async fn run(mut self) {
        loop {
            if let Some(mut socket) = self.connect().await {
                self.stay(&mut socket).await;
            }
            let pause = RETURN_MIN + Duration::from_millis(self.random.below(RETURN_SPREAD_MS).into());
            sleep(pause).await;
        }
    }

    async fn connect(&mut self) -> Option<Socket> {
        let addresses = self.fleet.pick(self.random.below(u32::MAX))?;
        let query = if self.at.is_some() { "?resume=wait" } else { "" };
        let mut socket = socket::connect(addresses.ws, query, Some(&self.token)).await?;
        if let Some((epoch, offset)) = &self.at {
            let stream = format!("user:{}", self.user);
            let place = json!({"stream": stream, "epoch": &**epoch, "offset": offset});
            let resume = json!({"type": "system:resume", "payload": {"streams": [place]}});
            socket.send(Message::text(resume.to_string())).await.ok()?;
        }
        Some(socket)
    }

    /// Until the connection ends, or is of no more use.
    async fn stay(&mut self, socket: &mut Socket) {
        while let Ok(Some(Ok(message))) = timeout(SILENCE_MAX, socket.next()).await {
            let Message::Text(text) = message else { continue };
            match serde_json::from_str(&text) {
                Ok(envelope) => {
                    if !self.take(envelope) {
                        return;
                    }
                }
                Err(error) => self.fault(format!("{error}: {text}")),
            }
        }
    }

    /// `false`: the connection is of no more use.
    fn take(&mut self, envelope: Envelope) -> bool {
        let Envelope { kind, payload, epoch, offset } = envelope;
        match kind.as_str() {
            "system:connected" => {
                self.log.borrow_mut().connected += 1;
                let places: Vec<Place> =
                    serde_json::from_value(payload["streams"].clone()).unwrap_or_default();
                let own = places.into_iter().find(|place| self.is_own(&place.stream));
                if let (None, Some(place)) = (&self.at, own) {
                    self.at = Some((place.epoch.into(), place.offset));
                }
            }
            "system:resumed" => match serde_json::from_value::<Resumed>(payload) {
                Ok(resumed) if resumed.recovered => self.log.borrow_mut().recovered += 1,
                Ok(Resumed { stream, epoch, to, .. }) => self.gap(Place { stream, epoch, offset: to }),
                Err(error) => self.fault(format!("system:resumed: {error}")),
            },
            "system:resync" => match serde_json::from_value::<Place>(payload) {
                Ok(place) if self.is_own(&place.stream) => self.gap(place),
                Ok(_) => {}
                Err(error) => self.fault(format!("system:resync: {error}")),
            },
            "system:error" => {
                // Not now: another instance, or the same one later, will know.
                return payload["ref"] != "system:resume";
            }
            "booking:confirmed" | CHANNEL => self.message(kind == CHANNEL, &payload, epoch, offset),
            _ => {}
        }
        true
    }

    fn message(
        &mut self,
        published: bool,
        payload: &serde_json::Value,
        epoch: Option<String>,
        offset: Option<u64>,
    ) {
        let (Some(number), Some(epoch), Some(offset)) = (payload["number"].as_u64(), epoch, offset) else {
            return self.fault(format!("a message without number, epoch or offset: {payload}"));
        };
        let epoch = match &self.at {
            Some((known, _)) if **known == *epoch => Rc::clone(known),
            _ => epoch.into(),
        };
        self.at = Some((Rc::clone(&epoch), offset));
        self.log.borrow_mut().seen.push(Seen::Message { published, number, epoch, offset });
    }

    fn gap(&mut self, place: Place) {
        let epoch: Rc<str> = place.epoch.into();
        let (place, offset) = (Rc::clone(&epoch), place.offset);
        self.log.borrow_mut().seen.push(match self.at {
            Some(_) => Seen::Gap { epoch: place, offset },
            None => Seen::Start { epoch: place, offset },
        });
        self.at = Some((epoch, offset));
    }

    fn is_own(&self, stream: &str) -> bool {
        stream.strip_prefix("user:") == Some(&self.user)
    }

    fn fault(&self, fault: String) {
        self.log.borrow_mut().faults.push(fault);
    }
}
