//! Puts messages in: through the gateway's gRPC interface, through Redis, or through the control port of a floor.

use std::{io, net::SocketAddr, ops::Range};

use rustix::{
    thread::clock_nanosleep_absolute,
    time::{ClockId, Timespec},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc, task::JoinSet};
use tonic::{Status, transport::Channel};
use usher::generated::realtime::{
    BroadcastEventRequest, NotifyResponse, SendToUserRequest, broadcast_event_request,
    realtime_service_client::RealtimeServiceClient, send_to_user_request,
};

use crate::{
    clock, frame,
    order::Audience,
    payload::{self, Mark, Stamp},
    redis, token,
};

/// Calls under way at once; more wait, and their messages' latency counts the wait.
const CALLS_MAX: usize = 4096;
/// Send times that wait for the publisher; later ones wait for room.
const DUE_MAX: usize = 65_536;

/// What is published, and to whom.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) audience: Audience,
    pub(crate) room: String,
    /// Message m goes to user m modulo this.
    pub(crate) users: u32,
    /// Connections that a message should reach at once.
    pub(crate) receivers: u32,
    pub(crate) kind: String,
    pub(crate) payload_bytes: usize,
    /// Floor: one send per frame and receiver rather than one per burst.
    pub(crate) each: bool,
}

/// A way in.
pub(crate) struct Publisher {
    topic: Topic,
    inlet: Inlet,
    /// What went wrong, once each.
    pub(crate) faults: Vec<String>,
}

enum Inlet {
    Gateway {
        client: RealtimeServiceClient<Channel>,
        calls: JoinSet<Result<NotifyResponse, Status>>,
    },
    /// One stream to each of its threads.
    Floor(Vec<TcpStream>),
    /// With the template of channels.
    Redis(redis::Inlet, String),
}

impl Topic {
    fn payload(&self, number: u32, intended_ns: u64) -> Vec<u8> {
        let (mark, sequence) = match self.audience {
            Audience::Room => (Mark::Room, number),
            Audience::Users => (Mark::User, number / self.users),
        };
        payload::build(mark, Stamp { sequence, intended_ns }, self.payload_bytes)
    }

    /// Appends the bytes that the gateway would send for the message.
    pub(crate) fn frame(&self, number: u32, intended_ns: u64, out: &mut Vec<u8>) {
        let mut text = format!(r#"{{"type":"{}","payload":"#, self.kind).into_bytes();
        text.extend_from_slice(&self.payload(number, intended_ns));
        text.push(b'}');
        frame::encode_server(frame::TEXT, &text, out);
    }
}

impl Publisher {
    /// Connects to the gateway's gRPC interface.
    pub(crate) async fn gateway(grpc: SocketAddr, topic: Topic) -> io::Result<Self> {
        let client =
            RealtimeServiceClient::connect(format!("http://{grpc}")).await.map_err(io::Error::other)?;
        Ok(Self { topic, inlet: Inlet::Gateway { client, calls: JoinSet::new() }, faults: Vec::new() })
    }

    /// Connects to the control ports of a floor's threads.
    pub(crate) async fn floor(controls: &[SocketAddr], topic: Topic) -> io::Result<Self> {
        let mut streams = Vec::new();
        for control in controls {
            let stream = TcpStream::connect(control).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        Ok(Self { topic, inlet: Inlet::Floor(streams), faults: Vec::new() })
    }

    /// Connects to Redis; `{user}` in the channel is the user's name.
    pub(crate) async fn redis(address: SocketAddr, channel: &str, topic: Topic) -> io::Result<Self> {
        let inlet = Inlet::Redis(redis::Inlet::connect(address).await?, channel.to_owned());
        Ok(Self { topic, inlet, faults: Vec::new() })
    }

    /// Who gets what it publishes.
    pub(crate) fn audience(&self) -> Audience {
        self.topic.audience
    }

    /// Sends messages of these numbers; their answers are taken by [`Publisher::settle`].
    pub(crate) async fn publish(&mut self, numbers: Range<u32>, intended_ns: u64) -> io::Result<()> {
        match self.inlet {
            Inlet::Floor(_) => return self.publish_to_floor(numbers, intended_ns).await,
            Inlet::Redis(..) => return self.publish_to_redis(numbers, intended_ns).await,
            Inlet::Gateway { .. } => {}
        }
        for number in numbers {
            while self.call_count() >= CALLS_MAX {
                self.take_answer().await;
            }
            self.call(number, intended_ns);
        }
        Ok(())
    }

    /// Sends what waits to be sent with more.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        match &mut self.inlet {
            Inlet::Redis(inlet, _) => inlet.flush().await,
            Inlet::Gateway { .. } | Inlet::Floor(_) => Ok(()),
        }
    }

    /// Waits for the answers to everything published.
    pub(crate) async fn settle(&mut self) {
        if let Inlet::Redis(inlet, _) = &mut self.inlet {
            let fault = inlet.settle().await;
            self.faults.extend(fault);
            return;
        }
        while self.call_count() > 0 {
            self.take_answer().await;
        }
    }

    fn call_count(&self) -> usize {
        match &self.inlet {
            Inlet::Gateway { calls, .. } => calls.len(),
            Inlet::Floor(_) | Inlet::Redis(..) => 0,
        }
    }

    async fn take_answer(&mut self) {
        let Inlet::Gateway { calls, .. } = &mut self.inlet else { return };
        let fault = match calls.join_next().await {
            None => return,
            Some(Err(error)) => error.to_string(),
            Some(Ok(Err(status))) => format!("publish: {status}"),
            Some(Ok(Ok(answer))) if answer.delivered_connections != self.topic.receivers => {
                format!(
                    "accepted for {} connections of {}",
                    answer.delivered_connections, self.topic.receivers
                )
            }
            Some(Ok(Ok(_))) => return,
        };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn call(&mut self, number: u32, intended_ns: u64) {
        let body = self.topic.payload(number, intended_ns);
        let topic = &self.topic;
        let Inlet::Gateway { client, calls } = &mut self.inlet else { return };
        let mut client = client.clone();
        match topic.audience {
            Audience::Room => {
                let request = BroadcastEventRequest {
                    room: topic.room.clone(),
                    event_type: topic.kind.clone(),
                    body: Some(broadcast_event_request::Body::PayloadJson(body)),
                    ..Default::default()
                };
                calls.spawn(async move { Ok(client.broadcast_event(request).await?.into_inner()) });
            }
            Audience::Users => {
                let request = SendToUserRequest {
                    user_id: token::user(number % topic.users),
                    event_type: topic.kind.clone(),
                    body: Some(send_to_user_request::Body::PayloadJson(body)),
                    ..Default::default()
                };
                calls.spawn(async move { Ok(client.send_to_user(request).await?.into_inner()) });
            }
        }
    }

    async fn publish_to_floor(&mut self, numbers: Range<u32>, intended_ns: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self.topic.audience {
            Audience::Room => {
                let mut frames = Vec::new();
                numbers.clone().for_each(|number| self.topic.frame(number, intended_ns, &mut frames));
                let how = if self.topic.each { "each" } else { "together" };
                bytes.extend_from_slice(
                    format!("burst {} {} {how}\n", numbers.len(), frames.len()).as_bytes(),
                );
                bytes.append(&mut frames);
            }
            Audience::Users => {
                for number in numbers {
                    let mut frame = Vec::new();
                    self.topic.frame(number, intended_ns, &mut frame);
                    let line = format!("to {} {}\n", number % self.topic.users, frame.len());
                    bytes.extend_from_slice(line.as_bytes());
                    bytes.append(&mut frame);
                }
            }
        }
        let Inlet::Floor(streams) = &mut self.inlet else { return Ok(()) };
        // Who has a receiver only its thread knows; the others pass its message over.
        for stream in streams {
            stream.write_all(&bytes).await?;
        }
        Ok(())
    }

    async fn publish_to_redis(&mut self, numbers: Range<u32>, intended_ns: u64) -> io::Result<()> {
        for number in numbers {
            let payload = self.topic.payload(number, intended_ns);
            let user = token::user(number % self.topic.users);
            let Inlet::Redis(inlet, channel) = &mut self.inlet else { return Ok(()) };
            inlet.publish(&channel.replace("{user}", &user), &payload).await?;
        }
        Ok(())
    }
}

/// Intended send times, `per_second` for so many seconds, each handed over when it has come.
///
/// A thread of its own keeps them: the runtime's timers are a millisecond coarse.
pub(crate) fn pace(per_second: f64, seconds: f64) -> io::Result<mpsc::Receiver<u64>> {
    let (due, times) = mpsc::channel(DUE_MAX);
    let count = (per_second * seconds) as u64;
    let started_ns = clock::mono_ns();
    std::thread::Builder::new().name("pacer".into()).spawn(move || {
        for number in 0..count {
            let at_ns = started_ns + (number as f64 * 1e9 / per_second) as u64;
            let at =
                Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 };
            // An interrupted sleep sends early by less than it takes to notice; the stamp is the intended time.
            clock_nanosleep_absolute(ClockId::Monotonic, &at).ok();
            if due.blocking_send(at_ns).is_err() {
                return;
            }
        }
    })?;
    Ok(times)
}
