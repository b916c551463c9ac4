//! `claimgate healthcheck`: one HTTP GET to the admin listener, for exec probes in images that have no curl. It asks a
//! listener on this machine or network in plain HTTP, follows no redirect and believes nothing but the status line.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{Exit, output};
use crate::config::DEFAULT_ADMIN_LISTEN;

/// Longer than a probe should wait anyway.
const PATIENCE: Duration = Duration::from_secs(2);
/// A status line and the short body of `/ready` fit; more is not read.
const LONGEST_ANSWER: u64 = 16 << 10;

const EXAMPLES: &str = "\
Examples:
  claimgate healthcheck
  claimgate healthcheck --admin-url http://127.0.0.1:9000
  claimgate healthcheck --admin-url unix:/run/claimgate-admin.sock

  # is it alive, even while it drains?
  claimgate healthcheck --admin-url http://127.0.0.1:8282/health

Exit codes: 0 ready, 1 not ready or no answer in two seconds, 2 wrong usage";

/// Arguments of `healthcheck`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct HealthcheckArgs {
    /// The admin listener: `http://ADDR`, with a path to ask something else than `/ready`, or `unix:/path`
    #[arg(long, value_name = "URL", default_value_t = format!("http://{DEFAULT_ADMIN_LISTEN}"), value_parser = check_url)]
    admin_url: String,
}

/// Whom to ask, and for what.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Tcp { authority: &'a str, path: &'a str },
    Unix { socket: &'a str },
}

pub(super) fn run(args: &HealthcheckArgs) -> ExitCode {
    let url = &args.admin_url;
    let Some(target) = Target::parse(url) else { return Exit::Usage.into() };
    match target.ask() {
        Ok(answer) if answer.status == Some(200) => output::finish("ready\n"),
        Ok(Answer { status: Some(status), body }) => {
            // One line, however the body is laid out.
            let body: Vec<&str> = body.split_whitespace().collect();
            output::complain(format!("{url} answered {status} {}", body.join(" ")).trim_end());
            Exit::Failed.into()
        }
        Ok(Answer { status: None, .. }) => {
            output::complain(&format!("{url} did not answer in HTTP; is it the admin listener?"));
            Exit::Failed.into()
        }
        Err(error) => {
            output::complain(&format!("{url}: {}", explain(&error)));
            Exit::Failed.into()
        }
    }
}

fn check_url(url: &str) -> Result<String, String> {
    match Target::parse(url) {
        Some(_) => Ok(url.to_owned()),
        None => Err("write `http://HOST:PORT`, `http://HOST:PORT/PATH` or `unix:/PATH`".to_owned()),
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer within two seconds".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        _ => error.to_string(),
    }
}

#[derive(Debug)]
struct Answer {
    status: Option<u16>,
    body: String,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        if let Some(socket) = url.strip_prefix("unix:") {
            return socket.starts_with('/').then_some(Self::Unix { socket });
        }
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if matches!(path, "" | "/") { "/ready" } else { path };
        let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
        let port =
            authority.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        (port && printable && !authority.contains(['@', '?', '#'])).then_some(Self::Tcp { authority, path })
    }

    fn ask(&self) -> io::Result<Answer> {
        match self {
            Self::Tcp { authority, path } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in authority.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, PATIENCE) {
                        Ok(stream) => {
                            stream.set_read_timeout(Some(PATIENCE))?;
                            stream.set_write_timeout(Some(PATIENCE))?;
                            return exchange(stream, authority, path);
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Self::Unix { socket } => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream, "localhost", "/ready")
            }
        }
    }
}

fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<Answer> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut bytes)?;
    Ok(Answer::parse(&String::from_utf8_lossy(&bytes)))
}

impl Answer {
    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        Self { status, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_with_a_port_or_a_socket() {
        let tcp = |authority, path| Some(Target::Tcp { authority, path });
        for (url, expected) in [
            ("http://127.0.0.1:8282", tcp("127.0.0.1:8282", "/ready")),
            ("http://127.0.0.1:8282/", tcp("127.0.0.1:8282", "/ready")),
            ("http://[::1]:8282/health?plugins", tcp("[::1]:8282", "/health?plugins")),
            ("unix:/run/x.sock", Some(Target::Unix { socket: "/run/x.sock" })),
            ("unix:x.sock", None),
            ("https://127.0.0.1:8282", None),
            ("127.0.0.1:8282", None),
            ("http://127.0.0.1", None),
            ("http://:8282", None),
            ("http://a@b:1", None),
            ("http://b:1/a b", None),
            ("http://b:1/a\r\nx: y", None),
        ] {
            assert_eq!(Target::parse(url), expected, "{url}");
        }
    }

    #[test]
    fn only_a_status_line_of_http_has_a_status() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\n\r\n{}\n", Some(200), "{}\n"),
            ("HTTP/1.0 500 x\r\na: b\r\n\r\nno", Some(500), "no"),
            ("HTTP/1.1 \r\n\r\n", None, ""),
            ("SSH-2.0-x\r\n", None, ""),
            ("", None, ""),
        ] {
            let answer = Answer::parse(text);
            assert_eq!((answer.status, answer.body.as_str()), (status, body), "{text:?}");
        }
    }
}
