//! The worker processes as the parent sees them.
//!
//! Owns the children, their pipes and the sum of what they report; shows progress on stderr. Dropping a crew ends
//! its processes.

use std::{collections::BTreeMap, io, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};

use crate::{
    clock,
    latency::{Latency, Summary},
    order::{Done, Messages, Order, Plan, Progress, Report, Round, Told},
};

/// Reports that wait for the parent.
const REPORTS_MAX: usize = 1024;
/// Descriptors that a worker needs beside its connections.
const DESCRIPTORS_SPARE: u64 = 200;
const PROGRESS_INTERVAL_NS: u64 = 1_000_000_000;

/// Running workers.
pub(crate) struct Crew {
    members: Vec<Member>,
    reports: mpsc::Receiver<(usize, Report)>,
    latest: Vec<Progress>,
    /// What progress is shown of; `None`: nothing is shown.
    label: Option<String>,
    shown_ns: u64,
}

struct Member {
    /// Killed when dropped.
    child: Child,
    orders: ChildStdin,
}

/// Latencies of one phase.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) room: Summary,
    pub(crate) users: Summary,
    pub(crate) pongs: Summary,
}

/// How many workers `connections` need: as few as the descriptor limit allows, or `asked`.
pub(crate) fn worker_count(connections: u32, asked: u32) -> u32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let each = u32::try_from(limit.saturating_sub(DESCRIPTORS_SPARE)).unwrap_or(u32::MAX).max(1);
    asked.max(connections.div_ceil(each)).clamp(1, connections)
}

impl Crew {
    /// Starts `count` workers that share the whole plan.
    pub(crate) async fn start(whole: &Plan, count: u32, label: Option<&str>) -> io::Result<Self> {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let mut members = Vec::new();
        for (number, plan) in (0..).zip(split(whole, count)) {
            let mut child = Command::new(std::env::current_exe()?)
                .arg("worker")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(io::Error::other("a worker has no pipes"));
            };
            tokio::spawn(forward(number, BufReader::new(output), sender.clone()));
            let mut member = Member { child, orders };
            member.write(&serde_json::to_vec(&plan)?).await?;
            members.push(member);
        }
        let latest = vec![Progress::default(); members.len()];
        Ok(Self { members, reports, latest, label: label.map(str::to_owned), shown_ns: 0 })
    }

    /// Gives all workers an order.
    pub(crate) async fn order(&mut self, order: &Order) -> io::Result<()> {
        let line = serde_json::to_vec(order)?;
        for member in &mut self.members {
            member.write(&line).await?;
        }
        Ok(())
    }

    /// Waits until every worker's connections are ready.
    pub(crate) async fn ready(&mut self) -> io::Result<()> {
        self.each(|report| matches!(report, Report::Ready).then_some(())).await.map(drop)
    }

    /// Waits until every worker has the deliveries that it was told to expect.
    pub(crate) async fn reached(&mut self) -> io::Result<()> {
        self.each(|report| matches!(report, Report::Reached).then_some(())).await.map(drop)
    }

    /// Ends the pings and waits for the last pong.
    pub(crate) async fn quiet(&mut self) -> io::Result<()> {
        self.order(&Order::StopPings).await?;
        self.each(|report| matches!(report, Report::Quiet).then_some(())).await.map(drop)
    }

    /// Latencies since the last phase.
    pub(crate) async fn phase(&mut self) -> io::Result<Phase> {
        self.order(&Order::Phase).await?;
        let counts = self.each(|report| match report {
            Report::Phase { room, users, pongs } => Some([room.clone(), users.clone(), pongs.clone()]),
            _ => None,
        });
        let mut sums = [Latency::new(), Latency::new(), Latency::new()];
        for counts in counts.await? {
            sums.iter_mut().zip(&counts).for_each(|(sum, counts)| sum.merge(counts));
        }
        let [room, users, pongs] = sums.map(|sum| sum.summary());
        Ok(Phase { room, users, pongs })
    }

    /// Waits until every worker's connections have their places in the queue.
    pub(crate) async fn joined(&mut self) -> io::Result<()> {
        self.each(|report| matches!(report, Report::Joined).then_some(())).await.map(drop)
    }

    /// What was told of the queue since the last time.
    pub(crate) async fn told(&mut self) -> io::Result<Told> {
        self.order(&Order::Told).await?;
        let each = self.each(|report| match report {
            Report::Told(told) => Some(told.clone()),
            _ => None,
        });
        let mut sum = Told::default();
        each.await?.into_iter().for_each(|told| sum.merge(told));
        Ok(sum)
    }

    /// The next round of every worker, as one.
    pub(crate) async fn round(&mut self) -> io::Result<Round> {
        let rounds = self.each(|report| match report {
            Report::Round(round) => Some(*round),
            _ => None,
        });
        Ok(rounds.await?.into_iter().fold(Round::default(), |sum, round| Round {
            number: round.number,
            ready: sum.ready + round.ready,
            vanished_early: sum.vanished_early + round.vanished_early,
            connect_ms: sum.connect_ms.max(round.connect_ms),
            total_ms: sum.total_ms.max(round.total_ms),
        }))
    }

    /// Ends the run: every worker checks what it has against `published` messages.
    pub(crate) async fn finish(mut self, published: Messages) -> io::Result<Done> {
        self.order(&Order::Finish(published)).await?;
        let done = self.each(|report| match report {
            Report::Done(done) => Some((**done).clone()),
            _ => None,
        });
        let done = done.await?;
        for member in &mut self.members {
            member.child.wait().await?;
        }
        Ok(merge(done))
    }

    /// Lets time pass, showing progress.
    pub(crate) async fn hold(&mut self, seconds: f64) -> io::Result<()> {
        let reports = self.watch();
        tokio::time::timeout(std::time::Duration::from_secs_f64(seconds), reports).await.unwrap_or(Ok(()))
    }

    /// Shows progress until a worker fails. Dropped at any time it loses nothing.
    pub(crate) async fn watch(&mut self) -> io::Result<()> {
        loop {
            self.next().await?;
        }
    }

    /// Names what progress is shown of from now on.
    pub(crate) fn show(&mut self, label: &str) {
        if let Some(shown) = &mut self.label {
            label.clone_into(shown);
        }
    }

    /// One report of each worker that `pick` wants; others are passed over.
    async fn each<T>(&mut self, pick: impl Fn(&Report) -> Option<T>) -> io::Result<Vec<T>> {
        let mut picked: BTreeMap<usize, T> = BTreeMap::new();
        while picked.len() < self.members.len() {
            let (number, report) = self.next().await?;
            if let Some(value) = pick(&report) {
                picked.insert(number, value);
            }
        }
        Ok(picked.into_values().collect())
    }

    async fn next(&mut self) -> io::Result<(usize, Report)> {
        let Some((number, report)) = self.reports.recv().await else {
            return Err(io::Error::other("the workers are gone"));
        };
        match &report {
            Report::Progress(progress) => {
                self.latest[number] = *progress;
                self.show_progress();
            }
            Report::Failed(why) => return Err(io::Error::other(format!("worker {number}: {why}"))),
            _ => {}
        }
        Ok((number, report))
    }

    fn show_progress(&mut self) {
        let Some(label) = &self.label else { return };
        let now_ns = clock::mono_ns();
        if now_ns.saturating_sub(self.shown_ns) < PROGRESS_INTERVAL_NS {
            return;
        }
        self.shown_ns = now_ns;
        let sum = |of: fn(&Progress) -> u64| self.latest.iter().map(of).sum::<u64>();
        let (ready, ended) = (sum(|p| p.ready.into()), sum(|p| p.ended.into()));
        let (deliveries, pongs) = (sum(|p| p.deliveries), sum(|p| p.pongs));
        eprintln!("{label}: {ready} ready, {ended} ended, {deliveries} delivered, {pongs} pongs");
    }
}

impl Member {
    async fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.orders.write_all(&[line, b"\n"].concat()).await
    }
}

async fn forward(
    number: usize,
    mut output: BufReader<tokio::process::ChildStdout>,
    to: mpsc::Sender<(usize, Report)>,
) {
    let mut line = String::new();
    loop {
        line.clear();
        let report = match output.read_line(&mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => serde_json::from_str(&line).unwrap_or_else(|error| Report::Failed(error.to_string())),
        };
        if to.send((number, report)).await.is_err() {
            return;
        }
    }
}

/// The shares of `count` workers.
fn split(whole: &Plan, count: u32) -> impl Iterator<Item = Plan> {
    (0..count).map(move |number| {
        let bound = |number: u32| (u64::from(whole.count) * u64::from(number) / u64::from(count)) as u32;
        Plan {
            first: bound(number),
            count: bound(number + 1) - bound(number),
            connects_per_second: whole.connects_per_second.div_ceil(count),
            ..whole.clone()
        }
    })
}

fn merge(parts: Vec<Done>) -> Done {
    let mut sum = Done { order_hash: parts.first().map_or(0, |part| part.order_hash), ..Done::default() };
    for part in parts {
        if part.order_hash != sum.order_hash {
            sum.fault_count += 1;
            sum.faults.push("receivers of different workers saw different orders".into());
        }
        sum.ready += part.ready;
        sum.deliveries += part.deliveries;
        sum.pings += part.pings;
        sum.pongs += part.pongs;
        sum.positions += part.positions;
        sum.others += part.others;
        sum.tls += part.tls;
        sum.reordered = sum.reordered.max(part.reordered);
        sum.fault_count += part.fault_count;
        sum.faults.extend(part.faults);
        for (into, from) in [(&mut sum.ends, part.ends), (&mut sum.stalled_ends, part.stalled_ends)] {
            from.into_iter().for_each(|(how, count)| *into.entry(how).or_default() += count);
        }
    }
    sum
}
