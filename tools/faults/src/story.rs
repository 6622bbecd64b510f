//! What happens, and when.

use std::{cell::RefCell, collections::HashSet, io, path::Path, rc::Rc, time::Duration};

use jsonwebtoken::{EncodingKey, Header};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::{
    task::{JoinHandle, LocalSet},
    time::sleep,
};

use crate::{
    client::{Client, Log, Seen},
    fleet::Fleet,
    foreign::{self, Published},
    judge::{Verdict, judge, judge_published},
    options::{Options, Story},
    process::{Gateway, Redis, SECRET},
    publisher::{self, Calls, Plan, user},
};

/// How long clients may take to connect at the start, and to get the last messages at the end.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// What all instances may grow by in an outage: their bounded queues, and what the allocator keeps. Bytes.
const GROWTH_MAX: u64 = 64 << 20;
/// Between a kill and the next start.
const DOWN_TIME: Duration = Duration::from_secs(1);

/// Plays the story of the options to its end.
pub(crate) async fn run(options: &Options) -> io::Result<Verdict> {
    let temporary;
    let dir: &Path = match &options.keep {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            dir
        }
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    LocalSet::new().run_until(play(options, dir)).await
}

/// Everything that runs.
struct World<'a> {
    options: &'a Options,
    dir: &'a Path,
    redis: Redis,
    gateways: Vec<Option<Gateway>>,
    /// Instances started so far, for names.
    started: u32,
    fleet: Rc<Fleet>,
}

async fn play(options: &Options, dir: &Path) -> io::Result<Verdict> {
    let redis = Redis::start(&options.redis_server, dir).await?;
    let places = options.instances as usize;
    let fleet = Rc::new(Fleet::new(places));
    let gateways = (0..places).map(|_| None).collect();
    let mut world = World { options, dir, redis, gateways, started: 0, fleet };
    for place in 0..places {
        world.replace(place).await?;
    }
    let logs = world.clients()?;
    let greeted = || logs.iter().all(|log| log.borrow().connected > 0);
    until("every client to connect", greeted).await?;
    say("every client is connected");

    let calls = Rc::new(RefCell::new(Calls::default()));
    let plan =
        Plan { rate: options.rate, seconds: options.seconds, users: options.clients, seed: options.seed };
    let publisher = tokio::task::spawn_local(publisher::run(world.fleet.clone(), calls.clone(), plan));
    let published = Rc::new(RefCell::new(Published::default()));
    let foreign = if options.story == Story::Rolling && options.publish_rate > 0 {
        let plan = Plan { rate: options.publish_rate, ..plan };
        Some(tokio::task::spawn_local(foreign::run(world.redis.address(), published.clone(), plan)))
    } else {
        None
    };
    let mut blames = world.faults(&logs).await?;
    finish(publisher).await?;
    if let Some(foreign) = foreign {
        finish(foreign).await?;
    }
    say("every call was answered");
    // What does not come by then is missing.
    let all_seen = || is_complete(&calls.borrow(), &published.borrow(), &logs);
    until("the last messages", all_seen).await.ok();

    for (place, gateway) in world.gateways.iter_mut().enumerate() {
        if gateway.as_mut().is_none_or(Gateway::is_gone) {
            blames.push(("ended by itself", format!("the instance in place {place}")));
        }
    }
    let logs: Vec<_> = logs.iter().map(|log| log.borrow()).collect();
    let logs: Vec<&Log> = logs.iter().map(|log| &**log).collect();
    let mut verdict =
        judge(&calls.borrow(), &logs, matches!(options.story, Story::Empty | Story::RolledBack));
    if options.story == Story::Rolling {
        judge_published(&published.borrow(), &logs, &mut verdict);
    }
    blames.into_iter().for_each(|(kind, example)| verdict.blame(kind, example));
    for (refusal, count) in &calls.borrow().refusals {
        say(&format!("{count} tries: {refusal}"));
    }
    Ok(verdict)
}

impl World<'_> {
    /// Starts the clients; each writes its log.
    fn clients(&self) -> io::Result<Vec<Rc<RefCell<Log>>>> {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let expires_at = clock_gettime(ClockId::Realtime).tv_sec + 24 * 3600;
        (0..self.options.clients)
            .map(|index| {
                let name = user(index);
                let claims = json!({"sub": name, "exp": expires_at});
                let token =
                    jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(io::Error::other)?;
                let log = Rc::new(RefCell::new(Log::default()));
                let seed = self.options.seed.wrapping_mul(1 << 20).wrapping_add(index.into());
                let client = Client::new(name, token, self.fleet.clone(), log.clone(), seed);
                tokio::task::spawn_local(client.run());
                Ok(log)
            })
            .collect()
    }

    /// The faults of the story, spread over its time; what they themselves found.
    async fn faults(&mut self, logs: &[Rc<RefCell<Log>>]) -> io::Result<Vec<(&'static str, String)>> {
        let mut blames = Vec::new();
        match self.options.story {
            Story::Rolling => self.rolling().await?,
            Story::Empty => {
                self.pass(40).await;
                self.redis.kill().await?;
                self.redis.forget()?;
                sleep(DOWN_TIME).await;
                self.redis.restart().await?;
                say("Redis is back, empty");
                self.pass(40).await;
            }
            Story::RolledBack => {
                self.pass(20).await;
                self.redis.keep()?;
                self.pass(20).await;
                self.redis.kill().await?;
                self.redis.roll_back()?;
                sleep(DOWN_TIME).await;
                self.redis.restart().await?;
                say("Redis is back, with what it had some time ago");
                self.pass(40).await;
            }
            Story::Outage => {
                self.pass(20).await;
                let before = self.resident()?;
                let connected = |logs: &[Rc<RefCell<Log>>]| -> u32 {
                    logs.iter().map(|log| log.borrow().connected).sum()
                };
                let connections = connected(logs);
                self.redis.hang()?;
                say("Redis hangs");
                self.pass(50).await;
                let grown = self.resident()?.saturating_sub(before);
                if grown > GROWTH_MAX {
                    blames.push(("memory", format!("instances grew by {} KiB", grown >> 10)));
                }
                self.redis.go_on()?;
                say(&format!("Redis goes on; instances grew by {} KiB in all", grown >> 10));
                self.pass(20).await;
                let again = connected(logs) - connections;
                if again > 0 {
                    blames.push(("disconnected by an outage", format!("{again} connections were made anew")));
                }
            }
        }
        Ok(blames)
    }

    async fn rolling(&mut self) -> io::Result<()> {
        for round in 0..2 {
            self.pass(10).await;
            self.redis.kill().await?;
            sleep(DOWN_TIME).await;
            self.redis.restart().await?;
            say("Redis was killed and is back");
            if round == 0 {
                self.pass(10).await;
                let place = self.holder().await;
                self.fleet.put(place, None);
                if let Some(gateway) = self.gateways[place].take() {
                    gateway.kill().await?;
                }
                say(&format!("the instance in place {place} was killed"));
                sleep(DOWN_TIME).await;
                self.replace(place).await?;
            }
        }
        for place in 0..self.gateways.len() {
            self.pass(10).await;
            let old = self.gateways[place].take();
            self.replace(place).await?;
            if let Some(old) = old {
                old.retire().await?;
            }
            say(&format!("the instance in place {place} was replaced"));
        }
        self.pass(10).await;
        Ok(())
    }

    /// The place of the instance that stores what others publish; the last while none does.
    async fn holder(&self) -> usize {
        for (place, gateway) in self.gateways.iter().enumerate() {
            if let Some(gateway) = gateway
                && gateway.ingests().await.is_ok_and(|ingests| ingests)
            {
                return place;
            }
        }
        self.gateways.len() - 1
    }

    /// Starts an instance and sends people to it.
    async fn replace(&mut self, place: usize) -> io::Result<()> {
        self.started += 1;
        let name = format!("usher-{}", self.started);
        let gateway = Gateway::start(&self.options.usher, self.dir, &name, &self.redis.url()).await?;
        self.fleet.put(place, Some(gateway.addresses));
        self.gateways[place] = Some(gateway);
        Ok(())
    }

    /// So many percent of the story's time.
    async fn pass(&self, percent: u32) {
        sleep(Duration::from_secs(self.options.seconds.into()) * percent / 100).await;
    }

    fn resident(&self) -> io::Result<u64> {
        self.gateways.iter().flatten().map(Gateway::resident).sum()
    }
}

/// Whether every message that was accepted was seen.
fn is_complete(calls: &Calls, published: &Published, logs: &[Rc<RefCell<Log>>]) -> bool {
    let mut expected: Vec<HashSet<(bool, u64)>> = vec![HashSet::new(); logs.len()];
    for call in &calls.accepted {
        expected[call.user as usize].insert((false, call.number));
    }
    for (number, user) in &published.heard {
        expected[*user as usize].insert((true, *number));
    }
    logs.iter().zip(expected).all(|(log, mut missing)| {
        for seen in &log.borrow().seen {
            if let Seen::Message { published, number, .. } = seen {
                missing.remove(&(*published, *number));
            }
        }
        missing.is_empty()
    })
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) -> io::Result<()> {
    let rounds = SETTLE_TIME_MAX.as_millis() / POLL.as_millis();
    for _ in 0..rounds {
        if holds() {
            return Ok(());
        }
        sleep(POLL).await;
    }
    Err(io::Error::other(format!("waited for {what} in vain")))
}

async fn finish(task: JoinHandle<()>) -> io::Result<()> {
    task.await.map_err(io::Error::other)
}

fn say(text: &str) {
    eprintln!("{text}");
}
