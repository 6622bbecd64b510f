//! Publishing through Redis as backends do, and the bare subscriber that the gateway is compared with.
//!
//! Speaks just enough of RESP2: commands go out as arrays of bulk strings, what comes back is split into lines.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    clock,
    latency::{Latency, Summary},
    payload::Finder,
};

/// Bytes that wait for one write.
const WRITE_BYTES: usize = 64 << 10;
/// Latencies on their way to who keeps them.
const LATENCIES_MAX: usize = 4_096;
/// Longest message that the subscriber takes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A connection that publishes.
pub(crate) struct Inlet {
    writer: OwnedWriteHalf,
    buffer: Vec<u8>,
    sent: u64,
    answered: Arc<Answers>,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Answers {
    count: AtomicU64,
    failed: AtomicU64,
    changed: Notify,
}

impl Inlet {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let answered = Arc::new(Answers::default());
        let reader = tokio::spawn(count_answers(reader, answered.clone()));
        Ok(Self { writer, buffer: Vec::new(), sent: 0, answered, reader })
    }

    /// Publishes; goes out with the next [`Inlet::flush`] at the latest.
    pub(crate) async fn publish(&mut self, channel: &str, payload: &[u8]) -> io::Result<()> {
        command(&[b"PUBLISH", channel.as_bytes(), payload], &mut self.buffer);
        self.sent += 1;
        if self.buffer.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }

    /// Waits until everything was answered; what went wrong, if anything did.
    pub(crate) async fn settle(&mut self) -> Option<String> {
        loop {
            let changed = self.answered.changed.notified();
            if self.answered.count.load(Ordering::Acquire) >= self.sent {
                let failed = self.answered.failed.load(Ordering::Acquire);
                return (failed > 0).then(|| format!("Redis refused {failed} messages"));
            }
            if self.reader.is_finished() {
                return Some("Redis closed the connection".into());
            }
            changed.await;
        }
    }
}

/// Each answer to PUBLISH is one line.
async fn count_answers(reader: OwnedReadHalf, answers: Arc<Answers>) {
    let mut lines = BufReader::with_capacity(WRITE_BYTES, reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if !line.starts_with(':') {
            answers.failed.fetch_add(1, Ordering::AcqRel);
        }
        answers.count.fetch_add(1, Ordering::AcqRel);
        answers.changed.notify_one();
    }
    answers.changed.notify_one();
}

/// A subscriber of the same channels that does nothing but read: intended send time → read here.
pub(crate) struct Subscriber {
    reader: JoinHandle<io::Result<()>>,
    takers: mpsc::Sender<oneshot::Sender<Summary>>,
}

impl Subscriber {
    /// Subscribes to the pattern; returns when Redis has confirmed.
    pub(crate) async fn start(address: SocketAddr, pattern: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut subscribe = Vec::new();
        command(&[b"PSUBSCRIBE", pattern.as_bytes()], &mut subscribe);
        stream.write_all(&subscribe).await?;
        let mut reader = BufReader::with_capacity(WRITE_BYTES, stream);
        read_array(&mut reader, &mut Vec::new()).await?;
        let (read, latencies) = mpsc::channel(LATENCIES_MAX);
        let (takers, taken) = mpsc::channel(1);
        tokio::spawn(keep(latencies, taken));
        let reader = tokio::spawn(async move {
            let (mut finder, mut last) = (Finder::default(), Vec::new());
            loop {
                read_array(&mut reader, &mut last).await?;
                if let Some((_, stamp)) = finder.find(&last) {
                    let latency_ns = clock::mono_ns().saturating_sub(stamp.intended_ns);
                    read.send(latency_ns).await.map_err(io::Error::other)?;
                }
            }
        });
        Ok(Self { reader, takers })
    }

    /// What it saw since the last time.
    pub(crate) async fn take(&self) -> io::Result<Summary> {
        let gone = || io::Error::other("Redis closed the connection of the bare subscriber");
        let (reply, summary) = oneshot::channel();
        self.takers.send(reply).await.map_err(|_| gone())?;
        summary.await.map_err(|_| gone())
    }
}

/// Keeps latencies until somebody takes them; ends with the reader.
async fn keep(mut latencies: mpsc::Receiver<u64>, mut taken: mpsc::Receiver<oneshot::Sender<Summary>>) {
    let mut kept = Latency::new();
    loop {
        tokio::select! {
            biased;
            latency = latencies.recv() => match latency {
                Some(ns) => kept.record(ns),
                None => return,
            },
            Some(reply) = taken.recv() => {
                // Who asked may have given up.
                reply.send(kept.summary()).ok();
                kept.take();
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn command(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads one array of bulk strings and integers; its last bulk string is left in `last`.
async fn read_array(reader: &mut BufReader<TcpStream>, last: &mut Vec<u8>) -> io::Result<()> {
    let mut left = read_number(reader, b'*').await?.1;
    while left > 0 {
        left -= 1;
        let (kind, length) = read_number(reader, b'$').await?;
        if kind == b':' {
            continue;
        }
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::other("a message is too long"));
        }
        last.resize(length + 2, 0);
        reader.read_exact(last).await?;
    }
    Ok(())
}

/// A line of the kind, or an integer, with its number.
async fn read_number(reader: &mut BufReader<TcpStream>, kind: u8) -> io::Result<(u8, usize)> {
    let mut line = String::new();
    if reader.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let found = line.bytes().next().filter(|found| *found == kind || *found == b':');
    let number = line.get(1..).and_then(|rest| rest.trim_end().parse().ok());
    found.zip(number).ok_or_else(|| io::Error::other(format!("Redis said {line:?}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::payload::{self, Mark, Stamp};

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        command(&[b"PUBLISH", b"a", b"{}"], &mut out);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$2\r\n{}\r\n");
    }

    #[tokio::test]
    async fn a_subscriber_reads_the_stamp_of_each_message() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let stamp = Stamp { sequence: 0, intended_ns: clock::mono_ns() };
            let message = payload::build(Mark::User, stamp, 80);
            let mut out = b"*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n".to_vec();
            command(&[b"pmessage", b"*", b"user:a:load", &message], &mut out);
            stream.write_all(&out).await.unwrap();
            stream
        });
        let subscriber = Subscriber::start(address, "*").await.unwrap();
        let _open = server.await.unwrap();
        while subscriber.take().await.unwrap().count == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(subscriber.take().await.unwrap().count, 0);
    }
}
