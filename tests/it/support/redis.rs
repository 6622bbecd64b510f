//! A real `redis-server` on a free port of 127.0.0.1, with a directory of its own, ended by its own process id.
//!
//! What a test says to it goes through `redis-cli`, as people do it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How a Redis is configured beside its port.
#[derive(Clone, Default)]
pub struct Options<'a> {
    /// TLS alone, with a certificate made for this run; [`Redis::ca`] is what a client trusts.
    pub tls: bool,
    /// `requirepass`.
    pub password: Option<&'a str>,
    /// Writes are on disk before they are answered, so that they outlive [`Redis::kill`].
    pub append_only: bool,
    /// A node of a cluster, that knows no other and has no slots yet.
    pub cluster: bool,
    /// Further lines of its configuration, such as `user alice on >secret ~* &* +@all`.
    pub lines: &'a [&'a str],
}

/// One Redis. Dropping it ends it.
pub struct Redis {
    child: Child,
    pub port: u16,
    directory: TempDir,
    tls: bool,
    password: Option<String>,
}

impl Redis {
    /// Without password, TLS or disk.
    pub fn start() -> Self {
        Self::with(&Options::default())
    }

    pub fn with(options: &Options<'_>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        if options.tls {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
                    .expect("a certificate");
            fs::write(directory.path().join("cert.pem"), cert.pem()).expect("a temporary file");
            fs::write(directory.path().join("key.pem"), signing_key.serialize_pem())
                .expect("a temporary file");
        }
        // Nobody keeps a port for somebody else: where another took it meanwhile, the next one.
        let mut said = String::new();
        for _ in 0..TRIES {
            let port = free_port();
            let configuration = configuration(options, port);
            fs::write(directory.path().join("redis.conf"), configuration).expect("a temporary file");
            match serve(&directory) {
                Ok(child) => {
                    let password = options.password.map(str::to_owned);
                    return Self { child, port, directory, tls: options.tls, password };
                }
                Err(why) => said = why,
            }
        }
        panic!("redis-server does not start:\n{said}");
    }

    /// `redis://` or `rediss://`, with the password where there is one.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("{scheme}://{password}127.0.0.1:{}", self.port)
    }

    /// The authority that signed its certificate, PEM.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// What `redis-cli` answers to the command, without the line end.
    pub fn cli(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).stdin(Stdio::null());
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        if self.tls {
            cli.arg("--tls").arg("--cacert").arg(self.ca());
        }
        let output = cli.args(command).output().expect("redis-cli is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Publishes; how many subscriptions got it.
    pub fn publish(&self, channel: &str, payload: &str) -> u64 {
        let answer = self.cli(&["PUBLISH", channel, payload]);
        answer.parse().unwrap_or_else(|_| panic!("PUBLISH {channel}: {answer}"))
    }

    // --- the process ---

    /// Ends it at once, as a power cut does; what was not written to disk is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }

    /// After [`Redis::kill`]: the same again, on the same port.
    pub fn restart(&mut self) {
        let child = (0..TRIES).find_map(|_| serve(&self.directory).ok());
        self.child = child.expect("redis-server starts again");
    }

    /// Stands still from now on: it keeps its connections, accepts more in the kernel, and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// After [`Redis::freeze`]: goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill(); // Fails only for one that a test ended.
        let _ = self.child.wait(); // As above.
    }
}

/// Two nodes that share the slots.
pub fn cluster() -> [Redis; 2] {
    let node = || Redis::with(&Options { cluster: true, ..Options::default() });
    let nodes = [node(), node()];
    for (node, (slots, epoch)) in nodes.iter().zip([("0 8191", "1"), ("8192 16383", "2")]) {
        let range: Vec<&str> = ["CLUSTER", "ADDSLOTSRANGE"].into_iter().chain(slots.split(' ')).collect();
        assert_eq!(node.cli(&range), "OK");
        assert_eq!(node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]), "OK");
    }
    let port = nodes[0].port.to_string();
    let bus = nodes[0].cli(&["CONFIG", "GET", "cluster-port"]);
    let bus = bus.lines().last().expect("a port");
    assert_eq!(nodes[1].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]), "OK");
    for node in &nodes {
        let whole = || {
            let info = node.cli(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_size:2")
        };
        assert!((0..5_000).any(|_| whole()), "{}", node.cli(&["CLUSTER", "NODES"]));
    }
    nodes
}

fn configuration(options: &Options<'_>, port: u16) -> String {
    let mut lines = vec![
        "bind 127.0.0.1".to_owned(),
        "save \"\"".to_owned(),
        // Error replies and time-outs are provoked by it.
        "enable-debug-command local".to_owned(),
    ];
    if options.tls {
        let files = "tls-cert-file cert.pem\ntls-key-file key.pem\ntls-ca-cert-file cert.pem";
        lines.extend(["port 0".to_owned(), format!("tls-port {port}"), files.to_owned()]);
        lines.push("tls-auth-clients no".to_owned());
    } else {
        lines.push(format!("port {port}"));
    }
    if options.append_only {
        lines.push("appendonly yes\nappendfsync always".to_owned());
    }
    if options.cluster {
        lines.push(format!("cluster-enabled yes\ncluster-port {}", free_port()));
    }
    lines.extend(options.password.map(|password| format!("requirepass {password}")));
    lines.extend(options.lines.iter().map(|line| (*line).to_owned()));
    lines.join("\n") + "\n"
}

/// Runs it until it serves; what it said, where it ended before.
fn serve(directory: &TempDir) -> Result<Child, String> {
    let mut child = Command::new("redis-server")
        .arg("redis.conf")
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is installed (Debian: redis-server)");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
    let mut said = String::new();
    while stdout.read_line(&mut said).is_ok_and(|length| length > 0) {
        if said.contains("Ready to accept connections") {
            // It says more, and must not stand still when the pipe is full.
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
            return Ok(child);
        }
    }
    child.wait().expect("a child");
    Err(said)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// How often another port is tried.
const TRIES: usize = 5;
