//! Real servers: started on free ports of 127.0.0.1, ended by their own process ids.

use std::{
    fs::{self, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::fleet::Addresses;

/// Signs the tokens of all clients.
pub(crate) const SECRET: &str = "faults-of-a-secret-that-is-long-enough";

/// How long a server may take to serve, or to end.
const START_TIME_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A redis-server that may die and come back at the same port.
pub(crate) struct Redis {
    binary: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Redis {
    /// Starts one that fsyncs every write before it answers.
    pub(crate) async fn start(binary: &Path, dir: &Path) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let dir = dir.join("redis");
        fs::create_dir_all(&dir)?;
        let mut redis = Self { binary: binary.to_owned(), dir, port, child: None };
        redis.restart().await?;
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts it with what is on its disk, and waits until it answers.
    pub(crate) async fn restart(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        let child = Command::new(&self.binary)
            .args(["--port", &self.port.to_string()])
            .args(options)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.binary.display())))?;
        self.child = Some(child);
        let address = self.address();
        let answers = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(POLL).await;
            }
        };
        timeout(START_TIME_MAX, answers).await.map_err(|_| io::Error::other("redis-server does not answer"))
    }

    /// kill -9.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// Waits until one of the newest entries of a stream has the text.
    pub(crate) async fn until_stored(&self, stream: &str, text: &str) -> io::Result<()> {
        let words = ["XREVRANGE", stream, "+", "-", "COUNT", "4"];
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        let question = format!("*6\r\n{words}");
        let mut connection = TcpStream::connect(self.address()).await?;
        let mut answer = vec![0; 1 << 20];
        let looks = async {
            loop {
                connection.write_all(question.as_bytes()).await?;
                let count = connection.read(&mut answer).await?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if answer[..count].windows(text.len()).any(|part| part == text.as_bytes()) {
                    return Ok(());
                }
            }
        };
        let stored = timeout(START_TIME_MAX, looks).await;
        stored.unwrap_or_else(|_| Err(io::Error::other(format!("{text} is not in {stream}"))))
    }

    /// Copies what is on its disk.
    pub(crate) fn keep(&self) -> io::Result<()> {
        let kept = self.dir.join("kept");
        fs::create_dir_all(&kept)?;
        for file in fs::read_dir(self.dir.join("appendonlydir"))? {
            let file = file?;
            fs::copy(file.path(), kept.join(file.file_name()))?;
        }
        Ok(())
    }

    /// What is on its disk gives way to the copy.
    pub(crate) fn roll_back(&self) -> io::Result<()> {
        self.forget()?;
        fs::rename(self.dir.join("kept"), self.dir.join("appendonlydir"))
    }

    /// Everything on its disk is gone.
    pub(crate) fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(self.dir.join("appendonlydir"))
    }

    /// SIGSTOP: it hangs, its connections stay.
    pub(crate) fn hang(&self) -> io::Result<()> {
        signal(self.child.as_ref(), Signal::STOP)
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        signal(self.child.as_ref(), Signal::CONT)
    }
}

/// One instance.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) addresses: Addresses,
}

impl Gateway {
    /// Starts one, with settings beside those of all, and waits until it serves.
    pub(crate) async fn start(
        binary: &Path,
        dir: &Path,
        name: &str,
        redis: &str,
        more: &[(&'static str, String)],
    ) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(dir.join(format!("{name}.log")))?;
        let settings = [
            ("HTTP_PORT", "0"),
            ("GRPC_PORT", "0"),
            ("METRICS_PORT", "0"),
            ("HOST", "127.0.0.1"),
            ("SHARDS", "1"),
            ("JWT_SECRET", SECRET),
            ("REDIS_URL", redis),
            ("LOG_FORMAT", "json"),
            ("RATE_LIMIT_MAX_MESSAGES", "0"),
            ("SHUTDOWN_TIMEOUT", "10s"),
        ];
        let mut child = Command::new(binary)
            .env_clear()
            .envs(settings)
            .envs(more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))?;
        let Some(stdout) = child.stdout.take() else { return Err(io::Error::other("stdout is no pipe")) };
        let banner = timeout(START_TIME_MAX, banner(stdout)).await;
        let banner = banner.map_err(|_| io::Error::other(format!("{name} does not serve")))??;
        let listener =
            |what| address(&banner, what).ok_or_else(|| io::Error::other(format!("no {what} in {banner:?}")));
        let addresses = Addresses { ws: listener("ws")?, grpc: listener("grpc")?, admin: listener("admin")? };
        Ok(Self { child, addresses })
    }

    /// SIGTERM, and its end: it must come by itself, with 0.
    pub(crate) async fn retire(mut self) -> io::Result<()> {
        signal(Some(&self.child), Signal::TERM)?;
        let status = timeout(START_TIME_MAX, self.child.wait()).await;
        let status = status.map_err(|_| io::Error::other("an instance did not end"))??;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("an instance ended with {status}")))
        }
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Ended by itself, which none should.
    pub(crate) fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it is the one that stores what others publish in Redis.
    pub(crate) async fn ingests(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(self.addresses.admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(page.lines().any(|line| line == "usher_store_ingests 1"))
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let Some(pid) = self.child.id() else { return Ok(0) };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kilobytes.unwrap_or(0) * 1024)
    }
}

fn signal(child: Option<&Child>, signal: Signal) -> io::Result<()> {
    let pid = child.and_then(Child::id).and_then(|pid| Pid::from_raw(pid as i32));
    match pid {
        Some(pid) => Ok(kill_process(pid, signal)?),
        None => Err(io::Error::other("it has ended")),
    }
}

/// What it prints until it serves; what comes later is read and dropped.
async fn banner(stdout: tokio::process::ChildStdout) -> io::Result<String> {
    let mut lines = BufReader::new(stdout).lines();
    let mut banner = String::new();
    while let Some(line) = lines.next_line().await? {
        let empty = line.is_empty();
        banner.push_str(&line);
        banner.push('\n');
        if empty && banner.contains(" notify ") {
            tokio::task::spawn_local(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok(banner);
        }
    }
    Err(io::Error::other(format!("it ended after {banner:?}")))
}

/// The address in the banner's line of that listener.
fn address(banner: &str, listener: &str) -> Option<SocketAddr> {
    let mut lines = banner.lines().map(|line| line.split_whitespace());
    let url = lines
        .find_map(|mut words| words.next().filter(|word| *word == listener).and_then(|_| words.next()))?;
    let host = url.rsplit("://").next()?.split('/').next()?;
    host.replace("localhost", "127.0.0.1").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_banner() {
        let banner = "usher\n  ws     ws://localhost:1/ws\n  grpc   http://127.0.0.1:2\n";
        assert_eq!(address(banner, "ws"), "127.0.0.1:1".parse().ok());
        assert_eq!(address(banner, "grpc"), "127.0.0.1:2".parse().ok());
        assert_eq!(address(banner, "admin"), None);
    }
}
