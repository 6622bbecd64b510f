//! The story of a waiting room: a pre-queue, a fair start, an inlet; people go and come back, Redis is killed in the middle of
//! an admission, and one instance.
//!
//! ```text
//!   play ──► person   joins, waits, goes away, changes devices, leaves; writes a diary
//!     │        └─ booking  what people do with passes, and what the operator asks
//!     └────► course   each place's way through its holder's diary: kept, never worse, one pass
//!              ├─ judge     all of them together: whose places, in which order, the books
//!              └─ evidence  passes and receipts
//! ```

mod booking;
mod course;
mod diary;
mod evidence;
mod judge;
mod person;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    fs, io,
    path::Path,
    rc::Rc,
    time::Duration,
};

use rcgen::{KeyPair, PKCS_ED25519};
use tokio::time::sleep;
use usher::{
    auth::keys::mint,
    clock::Now,
    control::fetch,
    generated::realtime::{OpenQueueRequest, QueueResponse, open_queue_request::Inlet},
    sale::receipt::Log,
};

use self::{
    booking::Booking,
    course::{Fate, Stay, Terms},
    diary::{Diary, Seen},
    evidence::Revealed,
    judge::PASS_TIME_MAX,
    person::{Person, Scene},
};
use crate::{
    callers::Callers,
    options::Options,
    process::SECRET,
    verdict::Verdict,
    world::{DOWN_TIME, World, say, until},
};

/// How long all people may take to have their places: at first, and when everybody is back.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(240);
/// Newcomers per second.
const ARRIVALS: u32 = 500;
/// Percent of people who are there before the opening, and who are users.
const EARLY: u32 = 90;
const USERS: u32 = 80;
/// Nobody gives up right before the opening.
const EVE: Duration = Duration::from_secs(5);
/// Within this time after an admission nobody is surprised by one.
const NEAR_SECONDS: u32 = 15;
/// Who began to leave has left after so long.
const LEAVING: Duration = Duration::from_secs(1);
/// How many are let in at once, of all people; and the call that does it.
const CROWD_SHARE: u32 = 6;
const CROWD_MAX: u32 = 1_000;
const CROWD: &str = "the-crowd";
const DAY: Duration = Duration::from_secs(24 * 3_600);

type Diaries = Vec<Rc<RefCell<Diary>>>;

/// The times of a sale, by how long it takes.
#[derive(Clone, Copy)]
struct Times {
    claim: u32,
    grace: u32,
    presence_timeout: u32,
}

impl Times {
    fn of(options: &Options) -> Self {
        let of = |share: u32, min: u32| (options.seconds / share).max(min);
        // While Redis is away no pass is told.
        Self { claim: of(9, 8), grace: of(15, 3), presence_timeout: of(12, 3) }
    }

    fn settings(self, key: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("PASS_KEY_FILE", key.display().to_string()),
            ("PRESENCE_INTERVAL", format!("{}s", self.presence_timeout / 3)),
            ("PRESENCE_TIMEOUT", format!("{}s", self.presence_timeout)),
        ]
    }
}

/// Plays the story to its end.
pub(crate) async fn play(options: &Options, dir: &Path) -> io::Result<Verdict> {
    let times = Times::of(options);
    let key = dir.join("passes.pem");
    fs::write(&key, KeyPair::generate_for(&PKCS_ED25519).map_err(io::Error::other)?.serialize_pem())?;
    let mut world = World::start(options, dir, times.settings(&key)).await?;
    let scene = Rc::new(scene(&world, times).await?);
    let mut sale =
        Sale { options, times, scene, diaries: Diaries::new(), opens_at_ms: 0, outage_ms: Cell::default() };
    let promised = sale.terms(Now::read().after(DAY).wall_ms);
    let promised = sale.scene.booking.open(promised).await.map_err(io::Error::other)?.commitment;
    sale.gather().await?;
    sale.open().await?;
    sale.disturb(&mut world).await?;
    let ended = sale.end().await?;

    if options.keep.is_some() {
        fs::write(dir.join("diaries"), sale.diaries_text())?;
    }
    let mut verdict = Verdict::default();
    world.gone().into_iter().for_each(|(kind, example)| verdict.blame(kind, example));
    sale.judge(&ended, promised, &mut verdict).await?;
    Ok(verdict)
}

async fn scene(world: &World<'_>, times: Times) -> io::Result<Scene> {
    let admin = world.fleet.pick(0).ok_or_else(|| io::Error::other("nobody in service"))?.admin;
    let url = format!("http://{admin}/.well-known/jwks.json");
    let jwks = tokio::task::spawn_blocking(move || fetch::get(&url)).await?.map_err(io::Error::other)?;
    // What an earlier story left in the same directory is another event.
    let event_id = format!("on-sale-{}", Now::read().wall_ms);
    let callers = Callers::new(Rc::clone(&world.fleet));
    let booking = Booking::new(event_id, callers, &jwks).map_err(io::Error::other)?;
    Ok(Scene {
        booking,
        fleet: Rc::clone(&world.fleet),
        grace: Duration::from_secs(times.grace.into()),
        near: world.options.per_minute * NEAR_SECONDS / 60,
        calm: Duration::from_secs(world.options.seconds.into()),
        lively: Cell::new(false),
        early: Cell::new(true),
    })
}

/// The sale as it goes on.
struct Sale<'a> {
    options: &'a Options,
    times: Times,
    scene: Rc<Scene>,
    diaries: Diaries,
    opens_at_ms: u64,
    /// As [`Terms::outage_ms`].
    outage_ms: Cell<(u64, u64)>,
}

/// How it stood at the end.
struct Ended {
    paused_at_ms: u64,
    at_ms: u64,
    books: QueueResponse,
}

impl Sale<'_> {
    fn terms(&self, opens_at_ms: u64) -> OpenQueueRequest {
        OpenQueueRequest {
            event_id: self.scene.booking.event_id.clone(),
            opens_at_ms,
            inlet: Some(Inlet::PerMinute(self.options.per_minute)),
            claim_seconds: self.times.claim,
            grace_seconds: self.times.grace,
            ..Default::default()
        }
    }

    /// Everybody who comes early is in the pre-queue.
    async fn gather(&mut self) -> io::Result<()> {
        let count = self.options.clients;
        let early = count * EARLY / 100;
        self.come(0..early, Duration::from_secs((early / ARRIVALS).into()))?;
        until("everybody to be in the pre-queue", SETTLE_TIME_MAX, || self.all_settled()).await?;
        say(&format!("{early} people are in the pre-queue"));
        Ok(())
    }

    /// Some go away before the opening, and then it opens.
    async fn open(&mut self) -> io::Result<()> {
        self.scene.lively.set(true);
        sleep(self.scene.grace + EVE).await;
        self.scene.early.set(false);
        self.opens_at_ms = Now::read().after(EVE).wall_ms;
        let terms = self.terms(self.opens_at_ms);
        self.scene.booking.open(terms).await.map_err(io::Error::other)?;
        sleep(EVE).await;
        say("it opens");
        let seconds = (self.options.seconds / 2).into();
        self.come(self.diaries.len() as u32..self.options.clients, Duration::from_secs(seconds))
    }

    async fn disturb(&self, world: &mut World<'_>) -> io::Result<()> {
        world.pass(15).await;
        self.interrupt(world).await?;
        world.pass(10).await;
        let last = world.gateways.len() - 1;
        world.kill(last).await?;
        say("an instance was killed");
        world.pass(15).await;
        world.replace(last).await?;
        say("another took its place");
        world.pass(40).await;
        Ok(())
    }

    /// A crowd is let in at once, and Redis is killed when it knows that, but not yet their passes. Everybody stays meanwhile:
    /// who comes back is told the pass in any case.
    async fn interrupt(&self, world: &mut World<'_>) -> io::Result<()> {
        let scene = Rc::clone(&self.scene);
        scene.lively.set(false);
        sleep(LEAVING).await;
        let stream = format!("usher:{{queue:{}}}:log", scene.booking.event_id);
        let (crowd, from_ms) = (self.crowd(), Now::read().wall_ms);
        let admitted = tokio::task::spawn_local(async move { scene.booking.admit(crowd, CROWD).await });
        world.redis.until_stored(&stream, CROWD).await?;
        world.redis.kill().await?;
        say(&format!("{crowd} people were let in, and Redis was killed"));
        sleep(DOWN_TIME).await;
        world.redis.restart().await?;
        admitted.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.outage_ms.set((from_ms, Now::read().wall_ms));
        say("Redis is back");
        sleep(PASS_TIME_MAX).await;
        self.scene.lively.set(true);
        Ok(())
    }

    fn crowd(&self) -> u32 {
        (self.options.clients / CROWD_SHARE).min(CROWD_MAX)
    }

    /// Everybody comes back, nobody is let in any more, and every pass is used or expires.
    async fn end(&self) -> io::Result<Ended> {
        self.scene.lively.set(false);
        // Who does not come back is found later.
        until("everybody to come back", SETTLE_TIME_MAX, || self.all_settled()).await.ok();
        let booking = &self.scene.booking;
        booking.pause().await.map_err(io::Error::other)?;
        let paused_at_ms = Now::read().wall_ms;
        say("everybody is back; the inlet is closed");
        sleep(Duration::from_secs(self.times.claim.into())).await;
        loop {
            let books = booking.look(0).await.map_err(io::Error::other)?;
            let at_ms = Now::read().wall_ms;
            if books.holding == 0 {
                // Answers are on their way.
                sleep(Duration::from_secs(3)).await;
                return Ok(Ended { paused_at_ms, at_ms, books });
            }
            if at_ms > paused_at_ms + SETTLE_TIME_MAX.as_millis() as u64 {
                return Err(io::Error::other(format!("{} passes do not expire", books.holding)));
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn judge(&self, ended: &Ended, promised: Vec<u8>, verdict: &mut Verdict) -> io::Result<()> {
        let booking = &self.scene.booking;
        let mut logs = Vec::new();
        for instance in 0..self.options.instances() {
            let books = booking.look(instance).await.map_err(io::Error::other)?;
            if books != ended.books {
                verdict.blame("instances differ", format!("{books:?}, not {:?}", ended.books));
            }
            logs.push(booking.log(instance).await.map_err(io::Error::other)?);
        }
        if logs.iter().any(|log| *log != logs[0]) {
            verdict.blame("instances differ", "in the logs of the pre-queue".into());
        }
        let log = Log::parse(&logs[0]).map_err(io::Error::other)?;
        let seed = ended.books.seed.as_slice().try_into().map_err(io::Error::other)?;
        let terms = Terms {
            claim_ms: u64::from(self.times.claim) * 1_000,
            grace_ms: u64::from(self.times.grace) * 1_000,
            opened_at_ms: self.opens_at_ms,
            paused_at_ms: ended.paused_at_ms,
            end_ms: ended.at_ms,
            per_minute: self.options.per_minute,
            crowd: self.crowd(),
            drawn: log.holders.len() as u32,
            outage_ms: self.outage_ms.get(),
        };
        let diaries: Vec<_> = self.diaries.iter().map(|diary| diary.borrow()).collect();
        let diaries: Vec<&Diary> = diaries.iter().map(|diary| &**diary).collect();
        let mut stays = Vec::new();
        for (person, diary) in diaries.iter().enumerate() {
            stays.extend(course::read(person, diary, &terms, verdict));
        }
        let unanswered = diaries.iter().map(|diary| diary.unanswered).sum();
        judge::check_people(&diaries, verdict);
        judge::check_places(&stays, &ended.books, unanswered, verdict);
        judge::check_books(&stays, &ended.books, unanswered, verdict);
        judge::check_order(&stays, &terms, verdict);
        judge::check_told(&stays, &terms, verdict);
        judge::check_arrivals(&stays, &terms, verdict);
        let passes = evidence::check_passes(booking, &stays, &diaries, verdict);
        let revealed = Revealed { commitment: promised, seed, log };
        let receipts = evidence::check_receipts((booking, &terms), &revealed, (&stays, &diaries), verdict);
        verdict.figures = figures(&stays, &diaries, &terms);
        verdict.figures.extend([("passes verified", passes), ("receipts verified", receipts)]);
        Ok(())
    }

    /// So many people come, within so long.
    fn come(&mut self, people: std::ops::Range<u32>, within: Duration) -> io::Result<()> {
        for index in people {
            let is_user = index % 100 < USERS;
            let name = format!("buyer-{index}");
            let token = is_user.then(|| mint(SECRET, &name, DAY, Now::read(), &[]));
            let token = token.transpose().map_err(io::Error::other)?;
            let holder = is_user.then(|| format!("u:{name}"));
            let diary = Rc::new(RefCell::new(Diary { holder, ..Diary::default() }));
            self.diaries.push(Rc::clone(&diary));
            let seed = self.options.seed.wrapping_mul(1 << 20).wrapping_add(index.into());
            let person = Person::new(Rc::clone(&self.scene), token, diary, seed);
            tokio::task::spawn_local(person.run(within));
        }
        Ok(())
    }

    /// For who looks for the cause of what was found.
    fn diaries_text(&self) -> String {
        let mut text = String::new();
        for (person, diary) in self.diaries.iter().enumerate() {
            let diary = diary.borrow();
            text += &format!("person {person} {:?}\n", diary.holder);
            text.extend(diary.seen.iter().map(|(at_ms, seen)| format!("  {at_ms} {seen:?}\n")));
        }
        text
    }

    fn all_settled(&self) -> bool {
        self.diaries.iter().all(|diary| diary.borrow().settled)
    }
}

fn figures(stays: &[Stay], diaries: &[&Diary], terms: &Terms) -> Vec<(&'static str, u64)> {
    let of = |fate: Fate| stays.iter().filter(|stay| stay.fate == fate).count() as u64;
    let seen = |like: fn(&Seen) -> bool| {
        diaries.iter().map(|diary| diary.seen.iter().filter(|(_, seen)| like(seen)).count() as u64).sum()
    };
    let gaps = stays.iter().flat_map(|stay| stay.present.windows(2)).map(|pair| pair[1].0 - pair[0].1);
    let gaps: Vec<u64> = gaps.collect();
    let long = gaps.iter().filter(|gap| **gap > terms.grace_ms).count() as u64;
    vec![
        ("people", diaries.len() as u64),
        ("places by the shuffle", terms.drawn.into()),
        ("places in all", stays.iter().filter(|stay| stay.fate != Fate::LeftEarly).count() as u64),
        ("positions seen", seen(|seen| matches!(seen, Seen::Position { .. }))),
        ("joins asked for", seen(|seen| *seen == Seen::Asks)),
        ("gaps told of users' streams", seen(|seen| *seen == Seen::Gap)),
        ("absences within the grace", gaps.len() as u64 - long),
        ("absences beyond it", long),
        ("waiting at the end", of(Fate::Waiting)),
        ("left before the opening", of(Fate::LeftEarly)),
        ("left after it", of(Fate::Left)),
        ("admitted", stays.iter().filter(|stay| stay.is_admitted()).count() as u64),
        ("inside", of(Fate::Inside)),
        ("completed", of(Fate::Completed)),
        ("abandoned", of(Fate::Abandoned)),
        ("expired", of(Fate::Expired)),
        ("expired while their holders were away", of(Fate::ExpiredUnseen)),
        ("joins whose answers never came", diaries.iter().map(|diary| u64::from(diary.unanswered)).sum()),
    ]
}
