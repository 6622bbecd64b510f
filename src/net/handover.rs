//! How a new process takes the place of one that serves clients at the same address: what the two say to each other.
//!
//! ```text
//! serving                                     new
//!   place(name of the client listener) ◄────── connects
//!   "usher <process id>" ─────────────────────►
//!                                              binds beside it, starts, serves
//!                        ◄──────────────────── "serving"
//!   gives up the place, drains
//!   "left" ───────────────────────────────────► has the place
//! ```
//!
//! The place is a Unix socket in the abstract namespace (unix(7)): it belongs to the same network namespace as the
//! ports, needs no file, and is gone with its process. Whoever asks must be the same user, as SO_REUSEPORT wants it of
//! listeners anyway (socket(7)). One at a time: a second one waits, and gives up. A new process that fails to start says
//! nothing, and nothing changes.

use std::{
    io,
    net::SocketAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixListener as StdListener, UnixStream as StdStream},
    },
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// For an answer of the other process, which has nothing to wait for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Longer is no line of ours, bytes.
const LINE_BYTES_MAX: usize = 64;
const SERVING: &str = "serving";
const LEFT: &str = "left";

/// The place of a gateway that serves.
#[derive(Debug)]
pub struct Place(UnixListener);

impl Place {
    /// Takes the place for clients at the address. Needs a tokio runtime.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = StdListener::bind_addr(&name(address)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self(UnixListener::from_std(listener)?))
    }

    /// Waits until another process serves in this place.
    pub async fn heir(&self) -> Heir {
        loop {
            if let Ok((stream, _)) = self.0.accept().await
                && let Ok(Some(process)) = peer(&stream)
                && say(&stream, &format!("usher {}", std::process::id())).await.is_ok()
                && hear(&stream).await.is_ok_and(|line| line == SERVING)
            {
                return Heir { stream, process };
            }
        }
    }
}

/// The process that serves in our place.
#[derive(Debug)]
pub struct Heir {
    stream: UnixStream,
    /// Its id; 0 where it cannot be seen from here.
    pub process: i32,
}

impl Heir {
    /// Tells it that the place is free.
    pub async fn leave_to(self) {
        // Should it be gone, nobody waits for the word.
        say(&self.stream, LEFT).await.ok();
    }
}

/// The right to listen beside the gateway that serves at the address.
#[derive(Debug)]
pub struct Claim {
    stream: UnixStream,
    /// The process that serves, as it calls itself.
    pub process: String,
}

impl Claim {
    /// Asks the gateway at the address; `None`: there is none. Needs a tokio runtime.
    ///
    /// # Errors
    /// There is one, and it does not give up its place.
    pub async fn make(address: SocketAddr) -> io::Result<Option<Self>> {
        let stream = match StdStream::connect_addr(&name(address)?) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            stream => stream?,
        };
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        if peer(&stream)?.is_none() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        let line = within(hear(&stream), "it does not answer; another process may be taking over").await?;
        match line.strip_prefix("usher ") {
            Some(process) => Ok(Some(Self { process: process.to_owned(), stream })),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no gateway")),
        }
    }

    /// Tells that this process serves; returns when the place is free.
    ///
    /// # Errors
    /// The other process did not say that it leaves.
    pub async fn redeem(self) -> io::Result<()> {
        // One that has ended meanwhile has left, too.
        let ended = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
            )
        };
        let left = async {
            say(&self.stream, SERVING).await?;
            hear(&self.stream).await
        };
        match within(left, "it does not say that it leaves").await {
            Err(error) if !ended(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn name(address: SocketAddr) -> io::Result<UnixAddress> {
    UnixAddress::from_abstract_name(format!("usher/{address}"))
}

/// The process at the other end; `None`: it is another user's.
fn peer(stream: &UnixStream) -> io::Result<Option<i32>> {
    let peer = stream.peer_cred()?;
    Ok((peer.uid() == rustix::process::geteuid().as_raw()).then(|| peer.pid().unwrap_or(0)))
}

async fn say(stream: &UnixStream, line: &str) -> io::Result<()> {
    let line = format!("{line}\n");
    loop {
        stream.writable().await?;
        match stream.try_write(line.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A socket with nothing in it takes a line whole.
            written => return written.map(|_| ()),
        }
    }
}

async fn hear(stream: &UnixStream) -> io::Result<String> {
    let mut bytes = [0; LINE_BYTES_MAX];
    let mut length = 0;
    loop {
        stream.readable().await?;
        match stream.try_read(&mut bytes[length..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if let Some(line) = bytes[..length].strip_suffix(b"\n") {
            return Ok(String::from_utf8_lossy(line).into_owned());
        }
    }
}

async fn within<T>(answer: impl Future<Output = io::Result<T>>, what: &'static str) -> io::Result<T> {
    timeout(ANSWER_TIME_MAX, answer)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address of nobody else's: the port is taken as long as the listener lives.
    fn address() -> (std::net::TcpListener, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn where_nobody_serves_there_is_nothing_to_claim() {
        let (_taken, address) = address();
        assert!(Claim::make(address).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_place_goes_to_who_says_that_it_serves() {
        let (_taken, address) = address();
        let place = Place::open(address).unwrap();
        assert_eq!(Place::open(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let old = tokio::spawn(async move {
            let heir = place.heir().await;
            drop(place);
            let process = heir.process;
            heir.leave_to().await;
            process
        });
        drop(Claim::make(address).await.unwrap().expect("somebody serves, and this one fails to start"));
        let claim = Claim::make(address).await.unwrap().expect("somebody serves");
        assert_eq!(claim.process, std::process::id().to_string());
        claim.redeem().await.unwrap();
        assert_eq!(old.await.unwrap() as u32, std::process::id());
        Place::open(address).unwrap();
    }

    #[tokio::test]
    async fn who_ends_in_the_middle_has_left() {
        let (_taken, address) = address();
        let place = Place::open(address).unwrap();
        let old = tokio::spawn(async move { drop(place.heir().await) });
        let claim = Claim::make(address).await.unwrap().expect("somebody serves");
        claim.redeem().await.unwrap();
        old.await.unwrap();
    }

    #[tokio::test]
    async fn a_second_claim_waits_for_the_first_to_come_to_nothing() {
        let (_taken, address) = address();
        let place = Place::open(address).unwrap();
        let _old = tokio::spawn(async move { place.heir().await });
        let first = Claim::make(address).await.unwrap().expect("somebody serves");
        let second = tokio::spawn(Claim::make(address));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!second.is_finished());
        drop(first);
        second.await.unwrap().unwrap().expect("somebody serves");
    }
}
