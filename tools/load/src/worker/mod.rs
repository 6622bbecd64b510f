//! A worker process: one thread, one epoll set, its share of the connections.
//!
//! Owns its connections and what they count. Takes orders from stdin, reports on stdout, one JSON line each; ends
//! when stdin does. Never allocates per message.

mod connection;
mod desk;
mod line;
mod pinger;
mod pipe;
mod storm;
mod tally;

use std::{collections::BTreeMap, io, os::fd::OwnedFd};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
    time::Timespec,
};

use crate::{
    clock,
    order::{Messages, Order, Pings, Plan, Progress, Report, Round},
    socket::Dialler,
    tls::Connector,
};
use connection::{Connection, End, Scratch, State};
use desk::Desk;
use pinger::Pinger;
use pipe::{Orders, report};
use storm::{Leave, Storm};
use tally::Tally;

const STDIN: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Events taken from the kernel in one call.
const EVENTS_MAX: usize = 1024;
const PROGRESS_INTERVAL_NS: u64 = 500_000_000;
/// Connects begun in a row before those under way have their turn.
const DIALS_PER_TURN_MAX: u32 = 64;

/// Runs until the order to finish, or the end of stdin.
pub(crate) fn run() -> io::Result<()> {
    let mut orders = Orders::default();
    let Some(plan) = orders.next_blocking()? else { return Ok(()) };
    let plan: Plan = serde_json::from_slice(&plan)?;
    let result = Worker::new(plan, orders).and_then(|mut worker| worker.serve());
    if let Err(error) = &result {
        report(&Report::Failed(error.to_string()))?;
    }
    result
}

struct Worker {
    epoll: OwnedFd,
    orders: Orders,
    connections: Vec<Connection>,
    dialler: Dialler,
    scratch: Scratch,
    desk: Desk,
    /// The next connection to open; all are begun when it is their number.
    next: u32,
    handshaking: u32,
    ready: u32,
    ended: u32,
    started_ns: u64,
    said_ready: bool,
    expected: Option<u64>,
    pinger: Option<Pinger>,
    /// The next connection to ping.
    ping_next: u32,
    quiet_awaited: bool,
    storm: Option<Storm>,
    stalled_ends: BTreeMap<String, u32>,
    /// Whether connections may end without that being a fault.
    leaving: bool,
    progress_ns: u64,
}

impl Worker {
    fn new(plan: Plan, orders: Orders) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, io::stdin(), EventData::new_u64(STDIN), EventFlags::IN)?;
        let seed = std::process::id();
        let (plan_storms, plan_count) = (plan.storms, plan.count);
        Ok(Self {
            epoll,
            orders,
            connections: std::iter::repeat_with(Connection::default).take(plan.count as usize).collect(),
            dialler: Dialler::new(plan.server, plan.source_addresses, seed),
            scratch: Scratch::new(),
            desk: Desk::new(plan)?,
            next: if plan_storms { plan_count } else { 0 },
            handshaking: 0,
            ready: 0,
            ended: 0,
            started_ns: clock::mono_ns(),
            said_ready: false,
            expected: None,
            pinger: None,
            ping_next: 0,
            quiet_awaited: false,
            storm: None,
            stalled_ends: BTreeMap::new(),
            leaving: false,
            progress_ns: 0,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        // Orders may have come with the plan.
        while self.take_orders()? {
            self.wait(&mut events)?;
            for event in &events {
                match event.data.u64() {
                    STDIN => {
                        if !self.orders.fill()? {
                            return Ok(());
                        }
                    }
                    TIMER => {
                        if let Some(pinger) = &self.pinger {
                            pinger.fired();
                        }
                    }
                    slot => self.connection_event(slot as u32)?,
                }
            }
            self.dial()?;
            self.ping()?;
            self.storm()?;
            self.line()?;
            self.tell()?;
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        let all_begun = self.next == self.desk.plan.count;
        let pause_ms = if all_begun { 100 } else { i64::from(self.handshaking > 0) };
        let pause = Timespec { tv_sec: 0, tv_nsec: pause_ms * 1_000_000 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), Some(&pause)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens what is due.
    fn dial(&mut self) -> io::Result<()> {
        let plan = &self.desk.plan;
        let count = plan.count;
        let due = match plan.connects_per_second {
            0 => count,
            rate => {
                let elapsed_ns = clock::mono_ns().saturating_sub(self.started_ns);
                (u64::from(rate) * elapsed_ns / 1_000_000_000 + 1).min(u64::from(count)) as u32
            }
        };
        let free = plan.handshakes_max.saturating_sub(self.handshaking).min(DIALS_PER_TURN_MAX);
        for slot in self.next..due.min(self.next + free) {
            let stalls = self.desk.plan.stalls(slot);
            let socket = self.dialler.dial(stalls)?;
            epoll::add(&self.epoll, &socket, EventData::new_u64(slot.into()), EventFlags::OUT)?;
            self.connections[slot as usize] = Connection::connecting(socket, stalls);
            self.handshaking += 1;
            self.next = slot + 1;
        }
        Ok(())
    }

    fn connection_event(&mut self, slot: u32) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        let before = connection.state;
        let result = match before {
            State::Closed => return Ok(()),
            State::Connecting => {
                let Some(socket) = &connection.socket else { return Ok(()) };
                epoll::modify(&self.epoll, socket, EventData::new_u64(slot.into()), EventFlags::IN)?;
                let request = self.desk.request(self.desk.plan.first + slot)?;
                connection.connected(&request, &self.desk)
            }
            _ => connection.readable(&mut self.scratch, &mut self.desk),
        };
        match result {
            Err(end) => self.end(slot, before, end),
            Ok(())
                if before == State::Connecting && self.storm.is_some() && Leave::of(slot) == Leave::Early =>
            {
                self.drop_connection(slot, before);
                self.count_round(|round| round.vanished_early += 1);
            }
            Ok(()) => {
                if before != State::Ready && self.connections[slot as usize].state == State::Ready {
                    self.connections[slot as usize].count_tls(&mut self.desk.tally.tls);
                    self.handshaking -= 1;
                    self.ready += 1;
                    self.count_round(|round| round.ready += 1);
                }
            }
        }
        Ok(())
    }

    fn count_round(&mut self, count: impl FnOnce(&mut Round)) {
        if let Some(storm) = &mut self.storm {
            count(&mut storm.round);
        }
    }

    /// The connection is over; a fault unless it was to be expected.
    fn end(&mut self, slot: u32, before: State, end: End) {
        let state = self.connections[slot as usize].state;
        if self.desk.plan.stalls(slot) && self.leaving {
            *self.stalled_ends.entry(end.label()).or_default() += 1;
        } else {
            self.desk.tally.ended(end.label());
            if !self.leaving && state != State::Closing {
                let index = self.desk.plan.first + slot;
                self.desk.tally.fault(format!("connection {index} ended in {state:?}: {}", end.label()));
            }
        }
        self.drop_connection(slot, before);
    }

    fn drop_connection(&mut self, slot: u32, before: State) {
        self.connections[slot as usize].close();
        match before {
            State::Connecting | State::Upgrading | State::Joining => self.handshaking -= 1,
            _ => self.ready -= 1,
        }
        self.ended += 1;
    }

    /// How many connections are in which state, for messages about what hangs.
    fn states(&self) -> String {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for connection in &self.connections {
            *counts.entry(format!("{:?}", connection.state)).or_default() += 1;
        }
        format!("{counts:?}, {} of {} begun", self.next, self.desk.plan.count)
    }

    /// Does what was ordered; whether there is more to come.
    fn take_orders(&mut self) -> io::Result<bool> {
        while let Some(line) = self.orders.next() {
            match serde_json::from_slice(&line)? {
                Order::Expect(published) => self.expected = Some(self.desk.plan.deliveries_due(published)),
                Order::Ping(pings) => self.start_pings(pings)?,
                Order::StopPings => {
                    self.pinger = None;
                    self.quiet_awaited = true;
                }
                Order::Phase => {
                    let tally = &mut self.desk.tally;
                    let (room, users) = (tally.room_latency.take(), tally.user_latency.take());
                    report(&Report::Phase { room, users, pongs: tally.pong_latency.take() })?;
                }
                Order::Stall => self.set_stalled(true)?,
                Order::Unstall => self.set_stalled(false)?,
                Order::Storm(rounds) => self.start_storms(rounds),
                Order::Join { event_id, under_way_max } => self.start_line(&event_id, under_way_max),
                Order::Calls(calls) => self.expect_calls(calls),
                Order::Told => self.report_told()?,
                Order::Finish(published) => {
                    self.finish(published)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn start_pings(&mut self, pings: Pings) -> io::Result<()> {
        let pinger = Pinger::start(pings, clock::mono_ns())?;
        if let Some(timer) = &pinger.timer {
            epoll::add(&self.epoll, timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        }
        self.pinger = Some(pinger);
        Ok(())
    }

    /// Sends the pings that are due, to one connection after the other.
    fn ping(&mut self) -> io::Result<()> {
        let now_ns = clock::mono_ns();
        let payload_bytes = self.desk.plan.payload_bytes;
        while let Some(pinger) = &mut self.pinger {
            let under_way = self.desk.tally.pings - self.desk.tally.pongs;
            let Some(intended_ns) = pinger.due(now_ns, under_way) else { break };
            let slot = self.ping_next;
            self.ping_next = (slot + 1) % self.desk.plan.count;
            let connection = &mut self.connections[slot as usize];
            self.desk.tally.pings += 1;
            if connection.state != State::Ready {
                self.desk.tally.fault(format!("connection {slot} cannot be pinged: {:?}", connection.state));
            } else if let Err(end) = connection.ping(intended_ns, payload_bytes) {
                self.end(slot, State::Ready, end);
            }
        }
        Ok(())
    }

    /// Takes the chosen connections out of the set, or puts them back.
    fn set_stalled(&mut self, stalled: bool) -> io::Result<()> {
        self.leaving = self.leaving || !stalled;
        for (slot, connection) in (0u32..).zip(&self.connections) {
            let Some(socket) = connection.socket.as_ref().filter(|_| self.desk.plan.stalls(slot)) else {
                continue;
            };
            if stalled {
                epoll::delete(&self.epoll, socket)?;
            } else {
                epoll::add(&self.epoll, socket, EventData::new_u64(slot.into()), EventFlags::IN)?;
            }
        }
        Ok(())
    }

    /// Reports what the parent waits for.
    fn tell(&mut self) -> io::Result<()> {
        let count = self.desk.plan.count;
        if !self.said_ready && !self.desk.plan.storms && self.ready == count {
            self.said_ready = true;
            report(&Report::Ready)?;
        }
        if self.expected.is_some_and(|expected| self.desk.tally.deliveries >= expected) {
            self.expected = None;
            report(&Report::Reached)?;
        }
        if self.quiet_awaited && self.desk.tally.pings == self.desk.tally.pongs {
            self.quiet_awaited = false;
            report(&Report::Quiet)?;
        }
        let now_ns = clock::mono_ns();
        if now_ns.saturating_sub(self.progress_ns) >= PROGRESS_INTERVAL_NS {
            self.progress_ns = now_ns;
            let tally = &self.desk.tally;
            let (deliveries, pongs) = (tally.deliveries, tally.pongs);
            report(&Report::Progress(Progress { ready: self.ready, ended: self.ended, deliveries, pongs }))?;
        }
        Ok(())
    }

    fn finish(&mut self, published: Messages) -> io::Result<()> {
        let plan = &self.desk.plan;
        let mut tally = std::mem::replace(&mut self.desk.tally, Tally::new(plan.queue));
        tally.tls.tickets_offered = self.desk.connector.as_ref().map_or(0, Connector::tickets_offered);
        let mut stalled_ends = std::mem::take(&mut self.stalled_ends);
        for (slot, connection) in (0u32..).zip(&self.connections) {
            if !plan.stalls(slot) {
                let number = plan.first + slot;
                tally.check(number, plan.messages_due(number, published), connection.received);
            } else if connection.state != State::Closed {
                *stalled_ends.entry("open".into()).or_default() += 1;
            }
        }
        let mut done = tally.finish(self.ready);
        done.stalled_ends = stalled_ends;
        report(&Report::Done(Box::new(done)))
    }
}
