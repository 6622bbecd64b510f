//! The scenarios: what happens in which order, and what is measured around it.

mod address;
mod advance;
mod positions;

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use self::address::Address;
use crate::{
    clock,
    crew::{self, Crew},
    latency::Summary,
    options::{Command, Hold, Options, Scenario, Traffic},
    order::{Audience, Done, Messages, Order, Pings, Plan, Told},
    publish::{self, Publisher, Topic},
    redis::Subscriber,
    report::Outcome,
    server::{self, Sample},
};

/// Time for a server to give back what connecting took, before memory is read.
const SETTLE_SECONDS: f64 = 1.0;
/// Time for stalled connections to read to their end.
const AFTER_STALL_SECONDS: f64 = 3.0;
/// Messages that are due and go out together.
const DUE_TOGETHER_MAX: usize = 256;
/// Messages that a run can number.
const MESSAGES_MAX: f64 = 1e9;

/// Runs the scenario of the options.
pub(crate) async fn run(options: &Options) -> io::Result<Outcome> {
    let Command::Scenario(scenario) = &options.command else {
        return Err(io::Error::other("not a scenario"));
    };
    let run = async {
        let mut run = Run::start(options, scenario).await?;
        if !matches!(scenario, Scenario::Storm { .. }) {
            run.connect().await?;
        }
        run.play(scenario).await?;
        run.finish().await
    };
    tokio::time::timeout(options.time_max(), run)
        .await
        .unwrap_or_else(|_| Err(io::Error::other(format!("not done within {} s", options.timeout))))
}

struct Run<'a> {
    options: &'a Options,
    crew: Crew,
    outcome: Outcome,
    /// All workers' plans as one.
    plan: Plan,
    before: Option<Sample>,
    began_ns: u64,
    /// Messages published so far, all of which must arrive.
    published: Messages,
    publish_faults: Vec<String>,
    /// What was told of a queue, as far as it is not in the outcome yet.
    told: Told,
}

impl<'a> Run<'a> {
    async fn start(options: &'a Options, scenario: &Scenario) -> io::Result<Self> {
        let plan = plan(options, scenario)?;
        let workers = crew::worker_count(options.connections, options.workers);
        let outcome = Outcome {
            scenario: name(scenario),
            target: options.target_name(),
            url: options.url.clone(),
            connections: options.connections,
            users: plan.users,
            workers,
            payload_bytes: options.payload,
            command: std::env::args().collect(),
            ..Outcome::default()
        };
        let label = (!options.quiet).then_some("connect");
        // Before the workers, which connect as soon as they run.
        let before = sample(options)?;
        let crew = Crew::start(&plan, workers, label).await?;
        Ok(Self {
            options,
            crew,
            outcome,
            plan,
            before,
            began_ns: clock::mono_ns(),
            published: Messages::default(),
            publish_faults: Vec::new(),
            told: Told::default(),
        })
    }

    async fn connect(&mut self) -> io::Result<()> {
        self.crew.ready().await?;
        self.outcome.connect_seconds = self.elapsed_seconds(self.began_ns);
        self.crew.hold(SETTLE_SECONDS).await?;
        self.outcome.connecting =
            sample(self.options)?.zip(self.before.as_ref()).map(|(now, before)| now.since(before));
        Ok(())
    }

    async fn play(&mut self, scenario: &Scenario) -> io::Result<()> {
        self.crew.show(self.outcome.scenario);
        match scenario {
            Scenario::Idle { seconds } => self.idle(*seconds).await,
            Scenario::Fanout(traffic) => self.traffic(traffic, Audience::Room).await,
            Scenario::Unicast(traffic) => self.traffic(traffic, Audience::Users).await,
            Scenario::Hold(hold) => self.keep(hold).await,
            Scenario::Positions(push) => self.positions(push).await,
            Scenario::Advance(advance) => self.advance(advance).await,
            Scenario::Echo { window, rate, seconds } => {
                let pings = rate.map_or(Pings::Window(*window), Pings::Rate);
                self.echo(pings, *seconds).await
            }
            Scenario::Storm { rounds } => self.storm(*rounds).await,
            Scenario::Stall { percent, rate, seconds } => self.stall(*percent, *rate, *seconds).await,
        }
    }

    async fn idle(&mut self, seconds: f64) -> io::Result<()> {
        let start = self.begin()?;
        self.crew.hold(seconds).await?;
        self.end(&start)
    }

    async fn traffic(&mut self, traffic: &Traffic, audience: Audience) -> io::Result<()> {
        let mut publisher = self.publisher(audience, traffic.each).await?;
        let subscriber = self.subscriber().await?;
        self.bursts(&mut publisher, traffic.warm_up, traffic.window).await?;
        self.crew.phase().await?;
        bare_latency(subscriber.as_ref()).await?;
        let published_before = self.published;
        let start = self.begin()?;
        match traffic.rate {
            None => self.bursts(&mut publisher, traffic.bursts, traffic.window).await?,
            Some(rate) => self.stream(&mut publisher, rate, traffic.seconds).await?,
        }
        self.end(&start)?;
        self.count_since(published_before);
        let phase = self.crew.phase().await?;
        let latency = if audience == Audience::Room { phase.room } else { phase.users };
        self.outcome.latency_us.insert("delivery".into(), latency);
        let bare = bare_latency(subscriber.as_ref()).await?;
        self.outcome.latency_us.extend(bare.map(|latency| ("bare_subscriber".into(), latency)));
        let asked = [("window", f64::from(traffic.window)), ("bursts", f64::from(traffic.bursts))];
        self.outcome.asked.extend(asked);
        self.outcome.asked.extend(traffic.rate.map(|rate| ("rate", rate)));
        self.publish_faults.append(&mut publisher.faults);
        Ok(())
    }

    /// Closed loop: the next burst when everybody has the last.
    async fn bursts(&mut self, publisher: &mut Publisher, count: u32, window: u32) -> io::Result<()> {
        for _ in 0..count {
            let published = self.published_to(publisher.audience());
            let numbers = *published..*published + window;
            *published = numbers.end;
            self.expect().await?;
            publisher.publish(numbers, clock::mono_ns()).await?;
            publisher.flush().await?;
            self.crew.reached().await?;
            publisher.settle().await;
        }
        Ok(())
    }

    /// Open loop: messages at their times, whatever became of the others.
    async fn stream(&mut self, publisher: &mut Publisher, rate: f64, seconds: f64) -> io::Result<()> {
        let published = self.published_to(publisher.audience());
        publish_at(rate, seconds, publisher, published).await?;
        self.expect().await?;
        self.crew.reached().await
    }

    /// Open loop: messages to the room and to one user after the other at the same time.
    async fn keep(&mut self, hold: &Hold) -> io::Result<()> {
        let mut to_room = self.publisher(Audience::Room, false).await?;
        let mut to_users = self.publisher(Audience::Users, false).await?;
        let start = self.begin()?;
        let Messages { room, users } = &mut self.published;
        let publishing = async {
            tokio::try_join!(
                publish_at(hold.rate, hold.seconds, &mut to_room, room),
                publish_at(hold.user_rate, hold.seconds, &mut to_users, users),
            )
        };
        // Reports are taken meanwhile: who cannot tell how far it is stands still.
        tokio::select! {
            published = publishing => drop(published?),
            failed = self.crew.watch() => failed?,
        }
        self.expect().await?;
        self.crew.reached().await?;
        self.end(&start)?;
        self.count_since(Messages::default());
        let phase = self.crew.phase().await?;
        self.outcome.latency_us.extend([("room".into(), phase.room), ("users".into(), phase.users)]);
        let asked = [("rate", hold.rate), ("user_rate", hold.user_rate), ("seconds", hold.seconds)];
        self.outcome.asked.extend(asked);
        for (name, count) in [
            ("room_messages_per_second", self.published.room),
            ("user_messages_per_second", self.published.users),
        ] {
            self.outcome.figures.insert(name, f64::from(count) / self.outcome.seconds);
        }
        self.publish_faults.append(&mut to_room.faults);
        self.publish_faults.append(&mut to_users.faults);
        Ok(())
    }

    async fn echo(&mut self, pings: Pings, seconds: f64) -> io::Result<()> {
        let start = self.begin()?;
        let workers = f64::from(self.outcome.workers);
        let (name, asked, share) = match pings {
            Pings::Rate(rate) => ("rate", rate, Pings::Rate(rate / workers)),
            Pings::Window(window) => ("window", f64::from(window) * workers, pings),
        };
        self.outcome.asked.insert(name, asked);
        self.crew.order(&Order::Ping(share)).await?;
        self.crew.hold(seconds).await?;
        self.crew.quiet().await?;
        self.end(&start)?;
        let phase = self.crew.phase().await?;
        self.outcome.deliveries = phase.pongs.count;
        self.outcome.messages = phase.pongs.count;
        self.outcome.latency_us.insert("pong".into(), phase.pongs);
        Ok(())
    }

    async fn storm(&mut self, rounds: u32) -> io::Result<()> {
        let start = self.begin()?;
        self.crew.order(&Order::Storm(rounds)).await?;
        let mut connect_ms = Vec::new();
        let (mut ready, mut vanished) = (0, 0);
        for _ in 0..rounds {
            let round = self.crew.round().await?;
            connect_ms.push(round.connect_ms);
            ready += u64::from(round.ready);
            vanished += u64::from(round.vanished_early);
        }
        connect_ms.sort_unstable();
        self.outcome.storm_connect_ms =
            connect_ms.get(connect_ms.len() / 2).copied().zip(connect_ms.last().copied());
        self.outcome.deliveries = 0;
        self.outcome.asked.insert("rounds", f64::from(rounds));
        self.outcome.figures.insert("connections_made", ready as f64);
        self.outcome.figures.insert("vanished_in_handshake", vanished as f64);
        let due = u64::from(rounds) * u64::from(self.options.connections);
        if ready + vanished != due {
            self.publish_faults.push(format!("{ready} connections and {vanished} early ends of {due}"));
        }
        self.end(&start)
    }

    async fn stall(&mut self, percent: u32, rate: f64, seconds: f64) -> io::Result<()> {
        let mut publisher = self.publisher(Audience::Room, false).await?;
        self.bursts(&mut publisher, 1, 1).await?;
        self.crew.phase().await?;
        self.crew.show("quiet");
        self.stream(&mut publisher, rate, seconds).await?;
        self.keep_latency("quiet").await?;

        self.crew.show("stalled");
        let start = self.begin()?;
        self.crew.order(&Order::Stall).await?;
        let published_before = self.published;
        // Those that stopped are not waited for; how far the others are is known when they have all of it.
        self.stream(&mut publisher, rate, seconds).await?;
        self.end(&start)?;
        self.keep_latency("stalled").await?;
        self.count_since(published_before);
        self.crew.order(&Order::Unstall).await?;
        self.crew.hold(AFTER_STALL_SECONDS).await?;
        self.outcome.asked.extend([("percent", f64::from(percent)), ("rate", rate)]);
        // Those that were closed meanwhile are rightly no longer counted as receivers.
        publisher.faults.retain(|fault| !fault.starts_with("accepted for"));
        self.publish_faults.append(&mut publisher.faults);
        Ok(())
    }

    async fn finish(mut self) -> io::Result<Outcome> {
        let done = self.crew.finish(self.published).await?;
        tokio::time::sleep(std::time::Duration::from_secs_f64(SETTLE_SECONDS)).await;
        if let (Some(before), Some(now)) = (&self.before, sample(self.options)?) {
            self.outcome.afterwards = Some(now.since(before));
        }
        let Done { positions, others, reordered, tls, fault_count, faults, ends, stalled_ends, .. } = done;
        if positions > 0 {
            self.outcome.figures.insert("positions_received", positions as f64);
        }
        self.outcome.fault_count = fault_count + self.publish_faults.len() as u64;
        self.outcome.faults = faults;
        self.outcome.faults.append(&mut self.publish_faults);
        self.outcome.ok = self.outcome.fault_count == 0;
        (self.outcome.others, self.outcome.reordered, self.outcome.tls) = (others, reordered, tls);
        (self.outcome.ends, self.outcome.stalled_ends) = (ends, stalled_ends);
        self.outcome.derive();
        Ok(self.outcome)
    }

    async fn publisher(&self, audience: Audience, each: bool) -> io::Result<Publisher> {
        let topic = Topic {
            audience,
            room: self.options.room.clone(),
            users: self.outcome.users,
            receivers: match audience {
                Audience::Room => self.options.connections,
                Audience::Users => self.options.connections / self.outcome.users,
            },
            kind: self.options.kind.clone(),
            payload_bytes: self.options.payload,
            each,
        };
        match self.options.redis {
            Some(redis) => Publisher::redis(redis, &self.options.channel, topic).await,
            None if self.options.floor.is_empty() => Publisher::gateway(self.options.grpc, topic).await,
            None => Publisher::floor(&self.options.floor, topic).await,
        }
    }

    /// Reads along where messages go through Redis.
    async fn subscriber(&self) -> io::Result<Option<Subscriber>> {
        match self.options.redis {
            Some(redis) => {
                let pattern = self.options.channel.replace("{user}", "*");
                Ok(Some(Subscriber::start(redis, &pattern).await?))
            }
            None => Ok(None),
        }
    }

    /// How many were published to that audience.
    fn published_to(&mut self, audience: Audience) -> &mut u32 {
        match audience {
            Audience::Room => &mut self.published.room,
            Audience::Users => &mut self.published.users,
        }
    }

    fn count_since(&mut self, before: Messages) {
        self.outcome.messages = self.published.sum() - before.sum();
        self.outcome.deliveries = self.plan.deliveries_due(self.published) - self.plan.deliveries_due(before);
    }

    /// Tells the workers how much must have arrived when everything published so far has.
    async fn expect(&mut self) -> io::Result<()> {
        self.crew.order(&Order::Expect(self.published)).await
    }

    fn begin(&self) -> io::Result<(u64, Option<Sample>)> {
        Ok((clock::mono_ns(), sample(self.options)?))
    }

    fn end(&mut self, (began_ns, before): &(u64, Option<Sample>)) -> io::Result<()> {
        self.outcome.seconds = self.elapsed_seconds(*began_ns);
        self.outcome.measured =
            sample(self.options)?.zip(before.as_ref()).map(|(now, before)| now.since(before));
        Ok(())
    }

    async fn keep_latency(&mut self, name: &'static str) -> io::Result<()> {
        let phase = self.crew.phase().await?;
        self.outcome.latency_us.insert(name.into(), phase.room);
        Ok(())
    }

    fn elapsed_seconds(&self, since_ns: u64) -> f64 {
        clock::mono_ns().saturating_sub(since_ns) as f64 / 1e9
    }
}

/// What the bare subscriber saw since the last time, if there is one.
async fn bare_latency(subscriber: Option<&Subscriber>) -> io::Result<Option<Summary>> {
    match subscriber {
        Some(subscriber) => Ok(Some(subscriber.take().await?)),
        None => Ok(None),
    }
}

/// Messages at their times, whatever became of the others; returns when all were answered.
async fn publish_at(
    rate: f64,
    seconds: f64,
    publisher: &mut Publisher,
    published: &mut u32,
) -> io::Result<()> {
    if !(rate > 0.0 && rate * seconds < MESSAGES_MAX) {
        return Err(io::Error::other("a rate above 0, and fewer than 1e9 messages"));
    }
    let mut times = publish::pace(rate, seconds)?;
    let mut due = Vec::new();
    while times.recv_many(&mut due, DUE_TOGETHER_MAX).await > 0 {
        for intended_ns in due.drain(..) {
            publisher.publish(*published..*published + 1, intended_ns).await?;
            *published += 1;
        }
        publisher.flush().await?;
    }
    publisher.settle().await;
    Ok(())
}

fn name(scenario: &Scenario) -> &'static str {
    match scenario {
        Scenario::Idle { .. } => "idle",
        Scenario::Fanout(_) => "fanout",
        Scenario::Unicast(_) => "unicast",
        Scenario::Hold(_) => "hold",
        Scenario::Positions(_) => "positions",
        Scenario::Advance(_) => "advance",
        Scenario::Echo { .. } => "echo",
        Scenario::Storm { .. } => "storm",
        Scenario::Stall { .. } => "stall",
    }
}

fn sample(options: &Options) -> io::Result<Option<Sample>> {
    options.server_pid.map(server::sample).transpose()
}

fn plan(options: &Options, scenario: &Scenario) -> io::Result<Plan> {
    let Address { tls, server, target } = Address::parse(&options.url)?;
    let floor = !options.floor.is_empty();
    let users = options.user_count();
    let unicast = scenario.needs_users();
    if unicast && !options.connections.is_multiple_of(users) {
        return Err(io::Error::other("messages to users need as many connections of each user"));
    }
    if options.redis.is_some() && !matches!(scenario, Scenario::Unicast(_)) {
        return Err(io::Error::other("through Redis go messages to users: unicast"));
    }
    let secret = options.secret.clone().or_else(|| std::env::var("JWT_SECRET").ok());
    if unicast && !floor && secret.is_none() {
        return Err(io::Error::other("messages to users need users: give --secret or JWT_SECRET"));
    }
    Ok(Plan {
        server,
        host: server.ip().to_string(),
        target,
        tls,
        secret: secret.filter(|_| !floor),
        first: 0,
        count: options.connections,
        users,
        room: (!floor && !options.room.is_empty()).then(|| options.room.clone()),
        floor,
        source_addresses: if server.ip() == LOOPBACK { options.source_addresses } else { 0 },
        resume: options.resume,
        connects_per_second: options.connect_rate,
        handshakes_max: options.handshakes,
        payload_bytes: options.payload,
        stall_every: match scenario {
            Scenario::Stall { percent, .. } if *percent > 0 => 100 / percent,
            _ => 0,
        },
        queue: clock::mono_ns(),
        storms: matches!(scenario, Scenario::Storm { .. }),
    })
}

/// The only address with neighbours to connect from.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
