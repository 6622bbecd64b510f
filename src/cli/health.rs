//! The container probe: one plain HTTP request, exit code 0 or 1.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    process::ExitCode,
    time::Duration,
};

use clap::ArgMatches;

use super::{fail, nearby, say};
use crate::config::{resolve::Resolved, settings::Listen};

/// Connecting, asking and each read; a gateway that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(3);
/// The knobs that decide where a gateway answers, see [`probed`].
pub(super) const KNOBS: [&str; 6] =
    ["HOST", "HTTP_PORT", "ADMIN_HOST", "METRICS_PORT", "METRICS_ENABLED", "HEALTH_CHECK_PORT"];
/// More of an answer is not read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Asks, prints the answer's body, and exits with 0 for status 200.
pub(super) fn execute(matches: &ArgMatches, resolved: &Resolved) -> ExitCode {
    let path = if matches.get_flag("ready") { "/ready" } else { "/health" };
    let url = matches.get_one::<String>("url").cloned();
    let url = url.unwrap_or_else(|| format!("http://{}{path}", probed(&resolved.settings.listen)));
    match ask(&url) {
        Ok((200, body)) => {
            say(&format!("{}\n", body.trim_end()));
            ExitCode::SUCCESS
        }
        Ok((status, body)) => fail(format_args!("{url} answered {status}: {}", body.trim_end()), 1),
        Err(error) => fail(format_args!("{url}: {error}"), 1),
    }
}

/// Where a gateway with this configuration answers on this machine.
fn probed(listen: &Listen) -> SocketAddr {
    nearby(listen.admin.or(listen.health).unwrap_or_else(|| SocketAddr::new(listen.host, listen.http_port)))
}

/// Status and body of a GET. Only http: a probe asks its own machine.
fn ask(url: &str) -> io::Result<(u16, String)> {
    let invalid = |reason: &'static str| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let rest = url.strip_prefix("http://").ok_or_else(|| invalid("only http:// can be asked"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let address = target.to_socket_addrs()?.next().ok_or_else(|| invalid("the host has no address"))?;

    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| invalid("that was no HTTP answer"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (version, rest) = head.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok()?;
    version.starts_with("HTTP/1.").then(|| (status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;
    use crate::config::Settings;

    /// Serves one answer on a free port and returns the address.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut some = [0; 1_024];
                let length = stream.read(&mut some).unwrap();
                request.extend_from_slice(&some[..length]);
            }
            assert!(request.starts_with(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn status_and_body_come_back() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", (200, "{}".to_owned())),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining", (503, "draining".to_owned())),
        ] {
            let address = server(answer);
            assert_eq!(ask(&format!("http://{address}/ready")).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for answer in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(parse(answer), None, "{answer}");
        }
        assert!(ask("https://127.0.0.1/").is_err());
        assert!(ask("ftp").is_err());
    }

    #[test]
    fn the_probe_asks_its_own_machine() {
        let mut listen = Settings::default().listen;
        assert_eq!(probed(&listen).to_string(), "127.0.0.1:9057");
        listen.admin = Some("0.0.0.0:9057".parse().unwrap());
        assert_eq!(probed(&listen).to_string(), "127.0.0.1:9057");
        listen.admin = None;
        assert_eq!(probed(&listen).to_string(), "127.0.0.1:3003");
        listen.health = Some("[::]:8080".parse().unwrap());
        assert_eq!(probed(&listen).to_string(), "[::1]:8080");
    }
}
