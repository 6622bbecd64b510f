//! What happens, and when.

use std::{cell::RefCell, io, path::Path, rc::Rc, time::Duration};

use jsonwebtoken::{EncodingKey, Header};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tokio::{
    task::{JoinHandle, LocalSet},
    time::sleep,
};

use crate::{
    client::{Client, Log},
    foreign::{self, Published},
    judge::{is_complete, judge, judge_published},
    options::{Options, Story},
    process::SECRET,
    publisher::{self, Calls, Plan, user},
    sale,
    verdict::{Blames, Verdict},
    world::{DOWN_TIME, World, say, until},
};

/// How long clients may take to connect at the start, and to get the last messages at the end.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);
/// What all instances may grow by in an outage: their bounded queues, and what the allocator keeps. Bytes.
const GROWTH_MAX: u64 = 64 << 20;

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
    let local = LocalSet::new();
    match options.story {
        Story::Queue => local.run_until(sale::play(options, dir)).await,
        _ => local.run_until(play(options, dir)).await,
    }
}

async fn play(options: &Options, dir: &Path) -> io::Result<Verdict> {
    let mut world = World::start(options, dir, Vec::new()).await?;
    let logs = clients(&world)?;
    let greeted = || logs.iter().all(|log| log.borrow().connected > 0);
    until("every client to connect", SETTLE_TIME_MAX, greeted).await?;
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
    let mut blames = faults(&mut world, &logs).await?;
    finish(publisher).await?;
    if let Some(foreign) = foreign {
        finish(foreign).await?;
    }
    say("every call was answered");
    // What does not come by then is missing.
    let all_seen = || {
        let logs: Vec<_> = logs.iter().map(|log| log.borrow()).collect();
        is_complete(&calls.borrow(), &published.borrow(), logs.iter().map(|log| &**log))
    };
    until("the last messages", SETTLE_TIME_MAX, all_seen).await.ok();

    blames.extend(world.gone());
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

/// Starts the clients; each writes its log.
fn clients(world: &World<'_>) -> io::Result<Vec<Rc<RefCell<Log>>>> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let expires_at = clock_gettime(ClockId::Realtime).tv_sec + 24 * 3600;
    (0..world.options.clients)
        .map(|index| {
            let name = user(index);
            let claims = json!({"sub": name, "exp": expires_at});
            let token = jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(io::Error::other)?;
            let log = Rc::new(RefCell::new(Log::default()));
            let seed = world.options.seed.wrapping_mul(1 << 20).wrapping_add(index.into());
            let client = Client::new(name, token, world.fleet.clone(), log.clone(), seed);
            tokio::task::spawn_local(client.run());
            Ok(log)
        })
        .collect()
}

/// The faults of the story, spread over its time; what they themselves found.
async fn faults(world: &mut World<'_>, logs: &[Rc<RefCell<Log>>]) -> io::Result<Blames> {
    let mut blames = Vec::new();
    match world.options.story {
        Story::Rolling => rolling(world).await?,
        Story::Empty => {
            world.pass(40).await;
            world.redis.kill().await?;
            world.redis.forget()?;
            sleep(DOWN_TIME).await;
            world.redis.restart().await?;
            say("Redis is back, empty");
            world.pass(40).await;
        }
        Story::RolledBack => {
            world.pass(20).await;
            world.redis.keep()?;
            world.pass(20).await;
            world.redis.kill().await?;
            world.redis.roll_back()?;
            sleep(DOWN_TIME).await;
            world.redis.restart().await?;
            say("Redis is back, with what it had some time ago");
            world.pass(40).await;
        }
        Story::Outage => {
            world.pass(20).await;
            let before = world.resident()?;
            let connected =
                |logs: &[Rc<RefCell<Log>>]| -> u32 { logs.iter().map(|log| log.borrow().connected).sum() };
            let connections = connected(logs);
            world.redis.hang()?;
            say("Redis hangs");
            world.pass(50).await;
            let grown = world.resident()?.saturating_sub(before);
            if grown > GROWTH_MAX {
                blames.push(("memory", format!("instances grew by {} KiB", grown >> 10)));
            }
            world.redis.go_on()?;
            say(&format!("Redis goes on; instances grew by {} KiB in all", grown >> 10));
            world.pass(20).await;
            let again = connected(logs) - connections;
            if again > 0 {
                blames.push(("disconnected by an outage", format!("{again} connections were made anew")));
            }
        }
        // Has faults of its own.
        Story::Queue => {}
    }
    Ok(blames)
}

async fn rolling(world: &mut World<'_>) -> io::Result<()> {
    for round in 0..2 {
        world.pass(10).await;
        world.redis.kill().await?;
        sleep(DOWN_TIME).await;
        world.redis.restart().await?;
        say("Redis was killed and is back");
        if round == 0 {
            world.pass(10).await;
            let place = world.holder().await;
            world.kill(place).await?;
            say(&format!("the instance in place {place} was killed"));
            sleep(DOWN_TIME).await;
            world.replace(place).await?;
        }
    }
    for place in 0..world.gateways.len() {
        world.pass(10).await;
        let old = world.gateways[place].take();
        world.replace(place).await?;
        if let Some(old) = old {
            old.retire().await?;
        }
        say(&format!("the instance in place {place} was replaced"));
    }
    world.pass(10).await;
    Ok(())
}

async fn finish(task: JoinHandle<()>) -> io::Result<()> {
    task.await.map_err(io::Error::other)
}
