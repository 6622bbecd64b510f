//! A waiting room: everybody joins, then it advances, and everybody is told where they stand now.
//!
//! First calls so far apart that everybody is due at each, which is also what the floor plays; then calls a second apart, of
//! which those far from the head see some. Only the time from a call to the last position of it is measured.

use std::{io, net::SocketAddr};

use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::transport::Channel;
use usher::generated::realtime::{
    AdvanceQueueRequest, OpenQueueRequest, realtime_service_client::RealtimeServiceClient,
};

use super::{Run, sample};
use crate::{
    clock, frame,
    latency::Latency,
    options::Advance,
    order::{Call, Order, Told},
    server::{self, Sample},
};

/// Calls are announced to the workers by so much: a position must not be there before its call is known.
const LEAD_NS: u64 = 200_000_000;
/// Between two calls of the second part.
const STREAM_INTERVAL_NS: u64 = 1_000_000_000;
/// Passes outlive the run.
const CLAIM_SECONDS: u32 = 3600;
/// Digits of a position in the floor's frame.
const FLOOR_DIGITS: usize = 8;

/// Whatever moves the line.
enum Inlet {
    Gateway(Box<RealtimeServiceClient<Channel>>, String),
    /// The control ports of its threads.
    Floor(Vec<TcpStream>),
}

/// What was measured over some calls.
#[derive(Default)]
struct Sum {
    calls: u32,
    positions: u64,
    /// CPU seconds of threads that send, and of the control thread.
    sending: f64,
    control: f64,
}

impl Run<'_> {
    pub(super) async fn advance(&mut self, asked: &Advance) -> io::Result<()> {
        let last = u64::from(asked.step) * u64::from(asked.calls + asked.stream);
        if last >= u64::from(self.options.connections) {
            return Err(io::Error::other("the calls let everybody in: fewer, or smaller steps"));
        }
        let mut inlet = self.open_line().await?;
        self.join_line(&inlet, asked).await?;
        // Whoever joined early is told of those behind; that is over when all are due again.
        self.crew.hold(asked.apart).await?;
        self.crew.told().await?;

        let mut calls = (1..).map(|number: u32| number * asked.step);
        let start = self.begin()?;
        self.crew.show("advance");
        let mut rpc = Latency::new();
        let mut sum = Sum::default();
        for to in calls.by_ref().take(asked.calls as usize) {
            self.play_calls(&mut inlet, &[to], (&mut sum, &mut rpc)).await?;
            self.crew.hold(asked.apart).await?;
        }
        self.keep_told("");
        self.keep_cost(["positions", "sending_us_per_position", "control_us_per_call"], &sum);
        if matches!(inlet, Inlet::Gateway(..)) && asked.stream > 0 {
            self.crew.show("stream");
            let stream: Vec<u32> = calls.take(asked.stream as usize).collect();
            let mut sum = Sum::default();
            self.play_calls(&mut inlet, &stream, (&mut sum, &mut rpc)).await?;
            self.keep_told("stream ");
            let names = ["stream_positions", "stream_sending_us_per_position", "stream_control_us_per_call"];
            self.keep_cost(names, &sum);
        }
        self.end(&start)?;
        self.outcome.latency_us.insert("rpc".into(), rpc.summary());
        let asked = [("step", asked.step), ("calls", asked.calls), ("stream", asked.stream)];
        self.outcome.asked.extend(asked.map(|(name, value)| (name, f64::from(value))));
        Ok(())
    }

    async fn open_line(&self) -> io::Result<Inlet> {
        if !self.options.floor.is_empty() {
            let mut streams = Vec::new();
            for control in &self.options.floor {
                streams.push(TcpStream::connect(control).await?);
            }
            return Ok(Inlet::Floor(streams));
        }
        let mut client = client(self.options.grpc).await?;
        // One queue for each run: those of a gateway are not forgotten.
        let event_id = format!("load-{}", clock::mono_ns());
        let request = OpenQueueRequest {
            event_id: event_id.clone(),
            claim_seconds: CLAIM_SECONDS,
            ..OpenQueueRequest::default()
        };
        client.open_queue(request).await.map_err(io::Error::other)?;
        Ok(Inlet::Gateway(Box::new(client), event_id))
    }

    async fn join_line(&mut self, inlet: &Inlet, asked: &Advance) -> io::Result<()> {
        let (began_ns, before) = self.begin()?;
        let event_id = match inlet {
            Inlet::Gateway(_, event_id) => event_id.clone(),
            Inlet::Floor(_) => String::new(),
        };
        self.crew.show("join");
        self.crew.order(&Order::Join { event_id, under_way_max: asked.joins }).await?;
        self.crew.joined().await?;
        let seconds = self.elapsed_seconds(began_ns);
        let connections = f64::from(self.options.connections);
        self.outcome.figures.extend([("join_seconds", seconds), ("joins_per_second", connections / seconds)]);
        if let Some((now, before)) = sample(self.options)?.zip(before) {
            let (sending, control) = split(&before, &now);
            self.outcome.figures.extend([
                ("join_sending_us", sending * 1e6 / connections),
                ("join_control_us", control * 1e6 / connections),
                ("join_rss_bytes_per_connection", now.since(&before).rss_grown_bytes as f64 / connections),
            ]);
        }
        Ok(())
    }

    /// Calls a second apart, from the first to the last position of the last.
    async fn play_calls(
        &mut self,
        inlet: &mut Inlet,
        steps: &[u32],
        (sum, rpc): (&mut Sum, &mut Latency),
    ) -> io::Result<()> {
        let first_ns = clock::mono_ns() + LEAD_NS;
        let times = (first_ns..).step_by(STREAM_INTERVAL_NS as usize);
        let calls: Vec<Call> = steps.iter().zip(times).map(|(to, at_ns)| Call { to: *to, at_ns }).collect();
        self.crew.order(&Order::Calls(calls.clone())).await?;
        let before = self.cpu()?;
        for call in &calls {
            self.crew.hold(call.at_ns.saturating_sub(clock::mono_ns()) as f64 / 1e9).await?;
            inlet.advance(call.to).await?;
            rpc.record(clock::mono_ns().saturating_sub(call.at_ns));
        }
        self.crew.reached().await?;
        let spent = self.cpu()?.zip(before).map(|(now, before)| split(&before, &now));
        let told = self.crew.told().await?;
        sum.calls += steps.len() as u32;
        sum.positions += told.positions;
        self.outcome.deliveries += told.positions;
        self.outcome.messages += steps.len() as u64;
        self.told.merge(told);
        if let Some((sending, control)) = spent {
            (sum.sending, sum.control) = (sum.sending + sending, sum.control + control);
        }
        Ok(())
    }

    /// Times of what was told since the last time, under names that begin so.
    fn keep_told(&mut self, prefix: &str) {
        let told = std::mem::take(&mut self.told);
        let Told { near, all, age, near_age, .. } = told;
        for (name, counts) in [("near", near), ("all", all), ("age", age), ("near age", near_age)] {
            let mut latency = Latency::new();
            latency.merge(&counts);
            self.outcome.latency_us.insert(format!("{prefix}{name}"), latency.summary());
        }
    }

    fn keep_cost(&mut self, [positions, sending, control]: [&'static str; 3], sum: &Sum) {
        self.outcome.figures.insert(positions, sum.positions as f64);
        if self.options.server_pid.is_some() {
            self.outcome.figures.insert(sending, sum.sending * 1e6 / sum.positions.max(1) as f64);
            self.outcome.figures.insert(control, sum.control * 1e6 / f64::from(sum.calls.max(1)));
        }
    }

    fn cpu(&self) -> io::Result<Option<Sample>> {
        self.options.server_pid.map(server::cpu).transpose()
    }
}

impl Inlet {
    async fn advance(&mut self, to: u32) -> io::Result<()> {
        match self {
            Self::Gateway(client, event_id) => {
                let request = AdvanceQueueRequest { event_id: event_id.clone(), to, run: 0 };
                client.advance_queue(request).await.map_err(io::Error::other)?;
            }
            Self::Floor(streams) => {
                let command = floor_command(to);
                for stream in streams {
                    stream.write_all(&command).await?;
                }
            }
        }
        Ok(())
    }
}

async fn client(grpc: SocketAddr) -> io::Result<RealtimeServiceClient<Channel>> {
    RealtimeServiceClient::connect(format!("http://{grpc}")).await.map_err(io::Error::other)
}

/// Seconds of the threads that send, and of the control thread.
fn split(before: &Sample, now: &Sample) -> (f64, f64) {
    (now.seconds_of(before, &["usher-shard", "floor-"]), now.seconds_of(before, &["usher-control"]))
}

/// A message as the gateway sends it, with room for the digits that differ.
fn floor_command(serving: u32) -> Vec<u8> {
    let head = r#"{"type":"booking:queue_position","payload":{"event_id":"load-1700000000000","position":"#;
    let tail = format!(
        r#","ahead":12345,"serving":{serving},"total":100000,"eta_seconds_low":null,"eta_seconds_high":null,"moved_at":1700000000000}}}}"#
    );
    let text = format!("{head}{:>FLOOR_DIGITS$}{tail}", 0);
    let mut bytes = Vec::new();
    frame::encode_server(frame::TEXT, text.as_bytes(), &mut bytes);
    let at = bytes.len() - tail.len() - FLOOR_DIGITS;
    let mut command = format!("line {serving} {at} {FLOOR_DIGITS} {}\n", bytes.len()).into_bytes();
    command.append(&mut bytes);
    command
}
