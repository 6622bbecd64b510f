//! The servers of a story, and its time.

use std::{io, path::Path, rc::Rc, time::Duration};

use tokio::time::sleep;

use crate::{
    fleet::Fleet,
    options::Options,
    process::{Gateway, Redis},
    verdict::Blames,
};

const POLL: Duration = Duration::from_millis(100);
/// Between a kill and the next start.
pub(crate) const DOWN_TIME: Duration = Duration::from_secs(1);

/// Everything that runs.
pub(crate) struct World<'a> {
    pub(crate) options: &'a Options,
    pub(crate) redis: Redis,
    pub(crate) gateways: Vec<Option<Gateway>>,
    pub(crate) fleet: Rc<Fleet>,
    dir: &'a Path,
    /// Of every instance, beside those of all stories.
    settings: Vec<(&'static str, String)>,
    /// Instances started so far, for names.
    started: u32,
}

impl<'a> World<'a> {
    /// Starts Redis and all instances.
    pub(crate) async fn start(
        options: &'a Options,
        dir: &'a Path,
        settings: Vec<(&'static str, String)>,
    ) -> io::Result<Self> {
        let redis = Redis::start(&options.redis_server, dir).await?;
        let places = options.instances() as usize;
        let fleet = Rc::new(Fleet::new(places));
        let gateways = (0..places).map(|_| None).collect();
        let mut world = Self { options, redis, gateways, fleet, dir, settings, started: 0 };
        for place in 0..places {
            world.replace(place).await?;
        }
        Ok(world)
    }

    /// Starts an instance and sends people to it.
    pub(crate) async fn replace(&mut self, place: usize) -> io::Result<()> {
        self.started += 1;
        let name = format!("usher-{}", self.started);
        let (binary, redis) = (&self.options.usher, self.redis.url());
        let gateway = Gateway::start(binary, self.dir, &name, &redis, &self.settings).await?;
        self.fleet.put(place, Some(gateway.addresses));
        self.gateways[place] = Some(gateway);
        Ok(())
    }

    /// kill -9 of an instance.
    pub(crate) async fn kill(&mut self, place: usize) -> io::Result<()> {
        self.fleet.put(place, None);
        match self.gateways[place].take() {
            Some(gateway) => gateway.kill().await,
            None => Ok(()),
        }
    }

    /// The place of the instance that stores what others publish; the last while none does.
    pub(crate) async fn holder(&self) -> usize {
        for (place, gateway) in self.gateways.iter().enumerate() {
            if let Some(gateway) = gateway
                && gateway.ingests().await.is_ok_and(|ingests| ingests)
            {
                return place;
            }
        }
        self.gateways.len() - 1
    }

    /// So many percent of the story's time.
    pub(crate) async fn pass(&self, percent: u32) {
        sleep(Duration::from_secs(self.options.seconds.into()) * percent / 100).await;
    }

    /// Resident memory of all instances, bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        self.gateways.iter().flatten().map(Gateway::resident).sum()
    }

    /// Instances that ended by themselves, which none should.
    pub(crate) fn gone(&mut self) -> Blames {
        let mut gone = Blames::new();
        for (place, gateway) in self.gateways.iter_mut().enumerate() {
            if gateway.as_mut().is_none_or(Gateway::is_gone) {
                gone.push(("ended by itself", format!("the instance in place {place}")));
            }
        }
        gone
    }
}

/// Waits for what should be soon.
pub(crate) async fn until(what: &str, time_max: Duration, mut holds: impl FnMut() -> bool) -> io::Result<()> {
    for _ in 0..time_max.as_millis() / POLL.as_millis() {
        if holds() {
            return Ok(());
        }
        sleep(POLL).await;
    }
    Err(io::Error::other(format!("waited for {what} in vain")))
}

/// How the story goes on.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
