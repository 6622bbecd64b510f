//! Where verification keys come from: files and URLs, read at start and again when they change.
//!
//! Owns the sources' contents and when each is due. Never blocks the control thread: every file and every request is a
//! job of a helper thread. Invariant: a source that fails keeps the keys it had, and is counted. Talks to the control
//! loop through [`Watcher`].

use std::{
    fmt, fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    sync::{Notify, watch},
    task::{JoinHandle, spawn_blocking},
    time::MissedTickBehavior,
};

use super::fetch;
use crate::{
    auth::{
        KeySet, Verifier,
        keys::{KeySetError, Secrets},
        token::VerifierError,
    },
    clock::Now,
    config::settings::{Auth, KeySource},
    limits::{KEY_DOCUMENT_BYTES_MAX, KEY_POLL_INTERVAL, UNKNOWN_KEY_INTERVAL},
    status::Status,
};

/// Why keys could not be had. The text names the source, without the secrets that a URL may hold.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error("{}: {problem}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        problem: io::Error,
    },
    /// A URL cannot be fetched.
    #[error("{url}: {problem}")]
    Fetch {
        /// Which, see [`fetch::shown`].
        url: String,
        /// Why.
        problem: fetch::FetchError,
    },
    /// What was read holds no usable key.
    #[error("{source_name}: {problem}")]
    Content {
        /// File, URL or variable.
        source_name: String,
        /// Why.
        problem: KeySetError,
    },
    /// The keys do not go with the rules.
    #[error(transparent)]
    Rules(#[from] VerifierError),
    /// The helper thread ended; only a stopping runtime does that.
    #[error("interrupted")]
    Interrupted,
}

/// Reads every source once. At start, one that fails is an error.
pub async fn load(auth: &Auth) -> Result<KeyRing, KeyError> {
    let origins = auth.keys.clone();
    let read = move || origins.into_iter().map(|origin| Source::open(origin, Now::read())).collect();
    let sources: Result<Vec<Source>, KeyError> =
        spawn_blocking(read).await.map_err(|_| KeyError::Interrupted)?;
    let sources = sources?;
    let verifier = Arc::new(Verifier::new(combined(&sources), auth)?);
    Ok(KeyRing { sources, auth: auth.clone(), verifier })
}

/// Every source with what it held, ready to be watched.
#[derive(Debug)]
pub struct KeyRing {
    sources: Vec<Source>,
    auth: Auth,
    verifier: Arc<Verifier>,
}

impl KeyRing {
    /// What verifies tokens until something changes.
    pub fn verifier(&self) -> Arc<Verifier> {
        self.verifier.clone()
    }

    /// All keys together, for `usher check`.
    pub fn keys(&self) -> KeySet {
        combined(&self.sources)
    }

    /// Watches the sources from a task of the current runtime, until the watcher is dropped. The runtime must be that
    /// of the control thread, whose cells are counted in.
    pub fn watch(self, status: Arc<Status>) -> Watcher {
        let (sender, changed) = watch::channel(self.verifier);
        let unknown = Arc::new(Notify::new());
        let can_change = self.sources.iter().any(|source| !matches!(source.origin, KeySource::Secret(_)));
        let watching = Watching { auth: self.auth, sender, unknown: unknown.clone(), status };
        let task = can_change.then(|| tokio::spawn(watching.run(self.sources)));
        Watcher { changed, unknown, task }
    }
}

/// Tells when keys changed.
#[derive(Debug)]
pub struct Watcher {
    changed: watch::Receiver<Arc<Verifier>>,
    unknown: Arc<Notify>,
    /// `None`: nothing can change.
    task: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Waits for new keys; for ever, if none can come. Safe to cancel.
    pub async fn changed(&mut self) -> Arc<Verifier> {
        match self.changed.changed().await {
            Ok(()) => self.changed.borrow_and_update().clone(),
            Err(_) => std::future::pending().await,
        }
    }

    /// A token named an unknown key: URLs are fetched again, at most once per [`UNKNOWN_KEY_INTERVAL`].
    pub fn unknown_key(&self) {
        self.unknown.notify_one();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What the watching task owns beside the sources.
struct Watching {
    auth: Auth,
    sender: watch::Sender<Arc<Verifier>>,
    unknown: Arc<Notify>,
    status: Arc<Status>,
}

impl Watching {
    async fn run(self, mut sources: Vec<Source>) {
        let mut poll = tokio::time::interval(KEY_POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let unknown = tokio::select! {
                _ = poll.tick() => false,
                () = self.unknown.notified() => true,
            };
            let look = spawn_blocking(move || {
                let looks = look(&mut sources, Now::read(), unknown);
                (sources, looks)
            });
            let Ok((back, looks)) = look.await else { return };
            sources = back;
            self.tell(&sources, looks);
        }
    }

    fn tell(&self, sources: &[Source], looks: Looks) {
        self.status.control.keys_refreshed.add(looks.read);
        for error in &looks.errors {
            self.failed(error);
        }
        if looks.changed {
            match Verifier::new(combined(sources), &self.auth) {
                Ok(verifier) => {
                    tracing::info!(keys = combined(sources).len(), "verification keys changed");
                    self.sender.send_replace(Arc::new(verifier));
                }
                Err(error) => self.failed(&error.into()),
            }
        }
    }

    fn failed(&self, error: &KeyError) {
        self.status.control.keys_failed.add(1);
        tracing::warn!(%error, "verification keys were not read again; the ones at hand stay");
    }
}

/// What came of one look at all sources.
#[derive(Debug, Default)]
struct Looks {
    /// Sources that were read, whether they changed or not.
    read: u64,
    changed: bool,
    errors: Vec<KeyError>,
}

/// Reads what is due. Blocks.
fn look(sources: &mut [Source], now: Now, unknown: bool) -> Looks {
    let mut looks = Looks::default();
    for source in sources {
        match source.look(now, unknown) {
            Ok(looked) => {
                looks.read += u64::from(looked != Looked::NotDue);
                looks.changed |= looked == Looked::Changed;
            }
            Err(error) => looks.errors.push(error),
        }
    }
    looks
}

fn combined(sources: &[Source]) -> KeySet {
    let mut set = KeySet::default();
    for source in sources {
        set.extend(&source.keys);
    }
    set
}

/// One source and what it held last.
#[derive(Debug)]
struct Source {
    origin: KeySource,
    text: String,
    keys: KeySet,
    /// Of the file when it was last looked at.
    stamp: Option<Stamp>,
    due: Due,
}

impl Source {
    fn open(origin: KeySource, now: Now) -> Result<Self, KeyError> {
        let stamp = Stamp::of(&origin);
        let text = read(&origin)?;
        let keys = parse(&origin, &text)?;
        let due = Due::after(&origin, now);
        Ok(Self { origin, text, keys, stamp, due })
    }

    /// Reads the source again if it is due.
    fn look(&mut self, now: Now, unknown: bool) -> Result<Looked, KeyError> {
        let is_due = match &self.origin {
            KeySource::Secret(_) => false,
            KeySource::Pem(_) | KeySource::JwksFile(_) => {
                // Before the file is read: what changes in between shows at the next look. Kept even if reading
                // fails, so that a bad file is reported once.
                let stamp = Stamp::of(&self.origin);
                std::mem::replace(&mut self.stamp, stamp) != stamp
            }
            KeySource::JwksUrl { .. } => self.due.is_due(now, unknown),
        };
        if !is_due {
            return Ok(Looked::NotDue);
        }
        let outcome = read(&self.origin).and_then(|text| Ok((parse(&self.origin, &text)?, text)));
        self.due.tried(&self.origin, now, outcome.is_ok());
        let (keys, text) = outcome?;
        let looked = if text == self.text { Looked::Unchanged } else { Looked::Changed };
        self.keys = keys;
        self.text = text;
        Ok(looked)
    }
}

/// What came of one look at one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    NotDue,
    Unchanged,
    Changed,
}

/// When a URL is fetched next. Monotonic nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    next_ns: u64,
    /// The last fetch that an unknown key caused.
    asked_ns: Option<u64>,
}

impl Due {
    fn after(origin: &KeySource, now: Now) -> Self {
        let mut due = Self { next_ns: u64::MAX, asked_ns: None };
        due.tried(origin, now, true);
        due
    }

    fn is_due(&mut self, now: Now, unknown: bool) -> bool {
        let interval_ns = UNKNOWN_KEY_INTERVAL.as_nanos() as u64;
        let may_ask = self.asked_ns.is_none_or(|asked| now.mono_ns >= asked.saturating_add(interval_ns));
        if unknown && may_ask {
            self.asked_ns = Some(now.mono_ns);
            return true;
        }
        now.mono_ns >= self.next_ns
    }

    /// After a failure it is sooner than after success, but not at once: the other end may be struggling.
    fn tried(&mut self, origin: &KeySource, now: Now, succeeded: bool) {
        if let KeySource::JwksUrl { refresh, .. } = origin {
            let wait = if succeeded { *refresh } else { UNKNOWN_KEY_INTERVAL.min(*refresh) };
            self.next_ns = now.after(wait).mono_ns;
        }
    }
}

/// What tells one content of a file from the next without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(origin: &KeySource) -> Option<Self> {
        let (KeySource::Pem(file) | KeySource::JwksFile(file)) = origin else { return None };
        Self::of_file(file)
    }

    pub(super) fn of_file(file: &Path) -> Option<Self> {
        let data = fs::metadata(file).ok()?;
        Some(Self { inode: data.ino(), bytes: data.size(), modified: (data.mtime(), data.mtime_nsec()) })
    }
}

fn read(origin: &KeySource) -> Result<String, KeyError> {
    match origin {
        KeySource::Secret(_) => Ok(String::new()),
        KeySource::Pem(file) | KeySource::JwksFile(file) => {
            read_file(file).map_err(|problem| KeyError::Read { file: file.clone(), problem })
        }
        KeySource::JwksUrl { url, .. } => {
            fetch::get(url).map_err(|problem| KeyError::Fetch { url: fetch::shown(url), problem })
        }
    }
}

pub(super) fn read_file(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(KEY_DOCUMENT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > KEY_DOCUMENT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "file is too large for keys"));
    }
    Ok(text)
}

fn parse(origin: &KeySource, text: &str) -> Result<KeySet, KeyError> {
    let set = match origin {
        KeySource::Secret(secret) => KeySet::secret(&secret.0),
        KeySource::Pem(_) => KeySet::pem(text),
        KeySource::JwksFile(_) => KeySet::jwks(text, Secrets::Accepted),
        KeySource::JwksUrl { .. } => KeySet::jwks(text, Secrets::Skipped),
    };
    set.map_err(|problem| KeyError::Content { source_name: Name(origin).to_string(), problem })
}

/// A source's name for people.
struct Name<'a>(&'a KeySource);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            KeySource::Secret(_) => f.write_str("JWT_SECRET"),
            KeySource::Pem(file) | KeySource::JwksFile(file) => file.display().fmt(f),
            KeySource::JwksUrl { url, .. } => f.write_str(&fetch::shown(url)),
        }
    }
}

#[cfg(test)]
mod tests;
