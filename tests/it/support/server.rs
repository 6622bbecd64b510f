//! The real `usher`, started on free ports of 127.0.0.1, ended by its own process id.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::JoinHandle,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use rustls::ClientConfig;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::{
    http::{Answer, Stream, exchange},
    keys,
    ws::{Ask, Client},
};

/// One gateway. Dropping it ends it, shows its log if the test failed, and fails the test if a token or secret that
/// was used is in the log.
pub struct Server {
    child: Child,
    pub ws: SocketAddr,
    pub wss: Option<SocketAddr>,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    banner: String,
    log: NamedTempFile,
    stdout: Option<JoinHandle<String>>,
    canaries: RefCell<Vec<String>>,
}

impl Server {
    /// A gateway with default settings and [`keys::SECRET`].
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A gateway with these environment variables beside the ports; `""` takes one away. Redis has all the time that there
    /// is, since a test is not about a busy machine.
    pub fn with(environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.env("REDIS_COMMAND_TIMEOUT", "1s");
        for (name, value) in environment {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        Self::run(command).unwrap_or_else(|(status, log)| panic!("the gateway ended with {status}:\n{log}"))
    }

    /// Runs the command until it serves; its exit status and log if it ends before.
    pub fn run(mut command: Command) -> Result<Self, (ExitStatus, String)> {
        let log = NamedTempFile::new().expect("a temporary file");
        let stderr = OpenOptions::new().append(true).open(log.path()).expect("a temporary file");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary was built");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut banner = String::new();
        while !(banner.contains(" notify ") && banner.ends_with("\n\n")) {
            if stdout.read_line(&mut banner).unwrap_or(0) == 0 {
                let status = child.wait().expect("a child");
                return Err((status, banner + &read(&log)));
            }
        }
        let rest = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text); // The pipe ends with the gateway, whichever way.
            text
        });
        let listener = |name| address(&banner, name).unwrap_or_else(|| panic!("no {name} in {banner:?}"));
        Ok(Self {
            ws: listener("ws"),
            wss: address(&banner, "wss"),
            grpc: listener("grpc"),
            admin: listener("admin"),
            banner,
            log,
            stdout: Some(rest),
            canaries: RefCell::new(vec![keys::SECRET.to_owned()]),
            child,
        })
    }

    // --- connecting ---

    /// An anonymous connection, greeted.
    pub fn connect(&self) -> Client {
        self.ask(&Ask::to("/ws")).greeted()
    }

    /// A connection of the user, greeted.
    pub fn connect_as(&self, user: &str) -> Client {
        self.ask(&Ask::to("/ws").bearer(&self.token(user))).greeted()
    }

    /// An upgrade that must succeed.
    pub fn ask(&self, ask: &Ask) -> Client {
        self.try_ask(ask).unwrap_or_else(|answer| panic!("{} {}", answer.status, answer.text()))
    }

    pub fn try_ask(&self, ask: &Ask) -> Result<Client, Answer> {
        Client::open(Stream::plain(self.ws), ask)
    }

    /// The status of an upgrade that may fail; 101 if it does not.
    pub fn status_of(&self, ask: &Ask) -> u16 {
        self.try_ask(ask).map_or_else(|answer| answer.status, |client| client.upgrade.status)
    }

    /// Any bytes on a new connection of the client port, and the answer.
    pub fn raw(&self, request: &[u8]) -> Answer {
        exchange(Stream::plain(self.ws), request)
    }

    /// `GET` on the client port.
    pub fn get(&self, target: &str) -> Answer {
        exchange(Stream::plain(self.ws), get(target).as_bytes())
    }

    /// `GET` on the admin port.
    pub fn admin(&self, target: &str) -> Answer {
        exchange(Stream::plain(self.admin), get(target).as_bytes())
    }

    /// `/stats` of the admin port.
    pub fn stats(&self) -> Value {
        self.admin("/stats").json()
    }

    /// The value of one time series of `/metrics`, by its exact name and labels; 0 when absent.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    /// A connection over TLS; certificates are not checked unless `config` does.
    pub fn tls(&self, config: Arc<ClientConfig>) -> Stream {
        Stream::tls(self.wss.expect("a wss listener"), config)
    }

    // --- tokens ---

    /// A token of the user; the log is searched for it at the end.
    pub fn token(&self, user: &str) -> String {
        self.remember(keys::token_for(user))
    }

    /// Has the log searched for this token at the end.
    pub fn remember(&self, token: String) -> String {
        self.canaries.borrow_mut().push(token.clone());
        token
    }

    // --- the process ---

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// Open descriptors by thread. Shards have tables of their own; threads of one name count with the larger table.
    pub fn descriptors(&self) -> BTreeMap<String, usize> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the gateway runs");
        let mut tables = BTreeMap::new();
        for task in tasks.flatten() {
            // A thread may end while it is looked at.
            let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
            let count = fs::read_dir(task.path().join("fd")).map_or(0, Iterator::count);
            let table = tables.entry(name.trim().to_owned()).or_insert(0);
            *table = count.max(*table);
        }
        tables
    }

    /// From now on each descriptor table of the gateway has room for so many.
    pub fn limit_files(&self, count: u64) {
        let limit = Rlimit { current: Some(count), maximum: Some(count) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).expect("a lower limit");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the gateway runs");
    }

    /// Whether it has not ended; of one whose end was waited for.
    pub fn runs(&self) -> bool {
        fs::exists(format!("/proc/{}", self.pid())).unwrap_or(false)
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("a child")
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // Fails only for a gateway that ended by itself, as some tests ask.
        let _ = self.child.wait(); // As above.
        let stdout = self.stdout.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        let log = self.log() + &self.banner + &stdout;
        if std::thread::panicking() {
            eprintln!("--- log of the gateway ---\n{log}--- end of the log ---");
            return;
        }
        for canary in self.canaries.borrow().iter() {
            let signature = canary.rsplit('.').next().unwrap_or(canary);
            assert!(
                !log.contains(canary.as_str()) && !log.contains(signature),
                "{canary} is in the log:\n{log}"
            );
        }
        assert!(!log.contains("panicked at"), "something panicked:\n{log}");
    }
}

/// `usher` on free ports, with no environment but the tests' own.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    command.env_clear().stdin(Stdio::null());
    let ports = ["HTTP_PORT", "GRPC_PORT", "METRICS_PORT"].map(|name| (name, "0"));
    let others = [
        ("HOST", "127.0.0.1"),
        ("SHARDS", "1"),
        ("JWT_SECRET", keys::SECRET),
        ("LOG_LEVEL", "debug"),
        ("LOG_FORMAT", "json"),
        ("RUST_BACKTRACE", "1"),
    ];
    command.envs(ports).envs(others);
    command
}

/// The path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// The address in the banner's line of that listener.
fn address(banner: &str, listener: &str) -> Option<SocketAddr> {
    let mut lines = banner.lines().map(|line| line.split_whitespace());
    let url = lines
        .find_map(|mut words| words.next().filter(|word| *word == listener).and_then(|_| words.next()))?;
    let host = url.rsplit("://").next()?.split('/').next()?;
    host.replace("localhost", "127.0.0.1").parse().ok()
}

fn read(log: &NamedTempFile) -> String {
    String::from_utf8_lossy(&fs::read(log.path()).expect("a temporary file")).into_owned()
}
