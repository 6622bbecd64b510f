//! Signing, off the control thread: passes and the roots of shuffles; and where the keys for it come from.
//!
//! Owns the signing thread, its queue and the keys in use. Never waits for the thread: what finds no room is refused,
//! counted, and the caller's to repeat. Invariant: a batch is signed with one key. The thread shares the control
//! thread's core, so that shards keep theirs. Talks to the supervisor, which replaces keys whole, and to whoever asks
//! for signatures through channels.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use aws_lc_rs::{
    error::Unspecified,
    pkcs8::Document,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use tokio::sync::{oneshot, watch};

use super::keys::{Stamp, read_file};
use crate::{
    auth::signing::{SigningError, SigningKeys},
    config::settings::{PassAlgorithm, Passes},
    limits::{SIGN_BATCH_MAX, SIGN_BATCHES_MAX},
    sale::{
        fair::{Secrets, Shuffle},
        pass::{Claims, PlaceKeys},
    },
    status::Status,
};

/// Why there are no keys to sign with.
#[derive(Debug, thiserror::Error)]
pub enum PassKeyError {
    /// A file cannot be read.
    #[error("{}: {problem}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        problem: io::Error,
    },
    /// A file holds no usable keys.
    #[error("{source_name}: {problem}")]
    Content {
        /// Its name, or both where either may be at fault.
        source_name: String,
        /// Why.
        problem: SigningError,
    },
    /// No key could be made.
    #[error("cannot make a key that signs passes")]
    Made,
}

/// Where the keys come from, and what the files looked like when they were read last.
#[derive(Debug)]
pub struct KeyFiles {
    settings: Passes,
    /// Instead of a file: made once, and kept when the other file changes.
    made: Option<Vec<u8>>,
    seen: [Option<Stamp>; 2],
}

impl KeyFiles {
    /// Reads nothing yet, but makes a key where none is configured.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn new(settings: Passes) -> Result<Self, PassKeyError> {
        let made = match &settings.key {
            Some(_) => None,
            None => Some(make(settings.algorithm.unwrap_or_default())?),
        };
        Ok(Self { settings, made, seen: [None; 2] })
    }

    /// Whether passes end with this process, and other instances sign with other keys.
    pub fn are_made(&self) -> bool {
        self.made.is_some()
    }

    /// Reads the files. Blocks, on two small ones.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn load(&mut self) -> Result<Arc<SigningKeys>, PassKeyError> {
        self.seen = self.look();
        let Passes { key, other_keys, algorithm, .. } = &self.settings;
        let others = other_keys.as_deref().map(read).transpose()?.unwrap_or_default();
        let keys = match (key, &self.made) {
            (Some(key), _) => SigningKeys::parse(&read(key)?, &others),
            (None, Some(made)) => SigningKeys::of_pkcs8(made, &others),
            (None, None) => return Err(PassKeyError::Made),
        };
        keys.and_then(|keys| keys.of_algorithm(*algorithm)).map(Arc::new).map_err(|problem| {
            let files = [key, other_keys].into_iter().flatten().map(|file| file.display().to_string());
            PassKeyError::Content { source_name: files.collect::<Vec<_>>().join(" or "), problem }
        })
    }

    /// Whether the files are others than those read last.
    pub fn has_changed(&self) -> bool {
        self.look() != self.seen
    }

    fn look(&self) -> [Option<Stamp>; 2] {
        let stamp = |file: &Option<PathBuf>| file.as_deref().and_then(Stamp::of_file);
        [stamp(&self.settings.key), stamp(&self.settings.other_keys)]
    }
}

/// A new private key, PKCS #8.
///
/// # Errors
/// The cryptographic library failed.
pub fn make(algorithm: PassAlgorithm) -> Result<Vec<u8>, PassKeyError> {
    let rng = SystemRandom::new();
    let made: Result<Document, Unspecified> = match algorithm {
        PassAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&rng),
        PassAlgorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng),
    };
    made.map(|document| document.as_ref().to_vec()).map_err(|_| PassKeyError::Made)
}

fn read(file: &Path) -> Result<String, PassKeyError> {
    read_file(file).map_err(|problem| PassKeyError::Read { file: file.to_owned(), problem })
}

/// Why nothing will be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// [`SIGN_BATCHES_MAX`] wait already. Worth repeating when one is done.
    #[error("too many batches wait for the signing thread")]
    Full,
    /// More than [`SIGN_BATCH_MAX`] passes.
    #[error("a batch has {SIGN_BATCH_MAX} passes at most")]
    TooLarge,
    /// The thread has ended; only a panic does that.
    #[error("the signing thread has ended")]
    Ended,
}

/// A shuffle with its one signature; gives receipts.
#[derive(Debug)]
pub struct Drawn {
    /// The places.
    pub shuffle: Shuffle,
    /// Its statement, signed.
    pub signed_root: String,
    /// For auditors.
    pub salts: [u8; 32],
}

/// What a shuffle is drawn from.
#[derive(Debug)]
pub struct Draw {
    /// Which queue.
    pub event_id: Arc<str>,
    /// The seed and the salts.
    pub secrets: Secrets,
    /// Who is in the pre-queue, in any order; nobody twice.
    pub holders: Vec<Arc<str>>,
    /// Now, seconds since the Unix epoch.
    pub issued_at_s: u64,
}

/// What the thread is asked for. An answer that cannot be had is a channel that closes.
#[derive(Debug)]
enum Job {
    Passes(Vec<Claims>, oneshot::Sender<Vec<String>>),
    Shuffle(Box<Draw>, oneshot::Sender<Drawn>),
}

/// Control's end of the signing thread; dropping it ends the thread.
#[derive(Debug)]
pub struct Signer {
    jobs: SyncSender<Job>,
    keys: watch::Sender<Arc<SigningKeys>>,
    places: PlaceKeys,
    status: Arc<Status>,
}

impl Signer {
    /// Starts the thread, on the core of the thread that calls. That must be control's, whose cells are counted in.
    ///
    /// # Errors
    /// The thread could not be made.
    pub fn start(keys: Arc<SigningKeys>, issuer: String, status: Arc<Status>) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(SIGN_BATCHES_MAX);
        let places = place_keys(&keys);
        let (keys, in_use) = watch::channel(keys);
        std::thread::Builder::new()
            .name("usher-signer".into())
            .spawn(move || Signing { queue, keys: in_use, issuer }.run())?;
        Ok(Self { jobs, keys, places, status })
    }

    /// Has passes signed; they come in the order of the claims. A channel that closes without them: the library failed.
    ///
    /// # Errors
    /// Nothing will be signed.
    pub fn sign(&self, claims: Vec<Claims>) -> Result<oneshot::Receiver<Vec<String>>, SignError> {
        let count = claims.len();
        if count > SIGN_BATCH_MAX {
            return Err(SignError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        self.put(Job::Passes(claims, reply), count).map_err(|(error, _)| error)?;
        Ok(answer)
    }

    /// Has a shuffle drawn and its root signed.
    ///
    /// # Errors
    /// Nothing will be signed; the draw comes back.
    pub fn draw(&self, draw: Draw) -> Result<oneshot::Receiver<Drawn>, (SignError, Option<Box<Draw>>)> {
        let (reply, answer) = oneshot::channel();
        match self.put(Job::Shuffle(Box::new(draw), reply), 1) {
            Ok(()) => Ok(answer),
            Err((error, Job::Shuffle(draw, _))) => Err((error, Some(draw))),
            Err((error, Job::Passes(..))) => Err((error, None)),
        }
    }

    /// Signs what is asked from now on with these.
    pub fn use_keys(&mut self, keys: Arc<SigningKeys>) {
        self.places = place_keys(&keys);
        self.keys.send_replace(keys);
    }

    /// The keys in use, now and later.
    pub fn keys(&self) -> watch::Receiver<Arc<SigningKeys>> {
        self.keys.subscribe()
    }

    /// What makes and checks place tokens.
    pub fn places(&self) -> &PlaceKeys {
        &self.places
    }

    /// Gives the job back where nothing will be signed.
    fn put(&self, job: Job, count: usize) -> Result<(), (SignError, Job)> {
        let cells = &self.status.control.passes;
        let error = match self.jobs.try_send(job) {
            Ok(()) => {
                cells.accepted.add(count as u64);
                return Ok(());
            }
            Err(TrySendError::Full(job)) => (SignError::Full, job),
            Err(TrySendError::Disconnected(job)) => (SignError::Ended, job),
        };
        cells.refused.add(count as u64);
        Err(error)
    }
}

fn place_keys(keys: &SigningKeys) -> PlaceKeys {
    PlaceKeys::new(&keys.secrets("usher place token"))
}

/// What the thread owns.
struct Signing {
    queue: Receiver<Job>,
    keys: watch::Receiver<Arc<SigningKeys>>,
    issuer: String,
}

impl Signing {
    fn run(self) {
        while let Ok(job) = self.queue.recv() {
            let keys = self.keys.borrow().clone();
            match job {
                Job::Passes(claims, reply) => {
                    let sign = |claims: &Claims| signed(&keys, claims);
                    if let Some(passes) = claims.iter().map(sign).collect() {
                        // Whoever asked may have gone.
                        reply.send(passes).ok();
                    }
                }
                Job::Shuffle(draw, reply) => {
                    let Draw { event_id, secrets, holders, issued_at_s } = *draw;
                    let shuffle = Shuffle::draw(event_id, &secrets, holders);
                    let statement = shuffle.statement(&self.issuer, issued_at_s);
                    if let Some(signed_root) = signed(&keys, &statement) {
                        // As above.
                        reply.send(Drawn { shuffle, signed_root, salts: secrets.salts }).ok();
                    }
                }
            }
        }
    }
}

fn signed(keys: &SigningKeys, claims: &impl serde::Serialize) -> Option<String> {
    let payload = serde_json::to_vec(claims).ok()?;
    keys.sign(&payload).inspect_err(|error| tracing::error!(%error, "cannot sign a pass")).ok()
}

#[cfg(test)]
mod tests;
