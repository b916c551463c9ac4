//! A blocking HTTP/1.1 client that shows what came over the wire. It follows no redirect, unpacks no body, and repairs
//! nothing; it fails a test rather than wait for ever.

use std::{
    fmt,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

use super::PATIENCE;

/// One keep-alive connection.
pub(crate) struct Client {
    reader: BufReader<Stream>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// An answer as received.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In the order received, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Header fields to send.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(Stream::Tcp(stream)) }
    }

    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("cannot connect to {path:?}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(Stream::Unix(stream)) }
    }

    /// Sends one request and reads its answer. `host` and `content-length` are added when they are not given.
    pub(crate) fn send(&mut self, method: &str, target: &str, fields: Fields<'_>, body: &[u8]) -> Answer {
        self.write(&request(method, target, fields, body));
        self.answer(method == "HEAD")
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.send("GET", target, &[], b"")
    }

    /// Sends bytes as they are. A peer that closed already is no failure: what it answered is still to be read.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stream = self.reader.get_mut();
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            Err(error) if is_gone(&error) => {}
            result => result.unwrap(),
        }
    }

    /// Closes the sending side only.
    pub(crate) fn close_sending(&mut self) {
        let _ = match self.reader.get_ref() {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Reads one answer; panics when there is none.
    pub(crate) fn answer(&mut self, is_head: bool) -> Answer {
        self.try_answer(is_head).unwrap_or_else(|| panic!("the connection was closed without an answer"))
    }

    /// Reads one answer, or `None` when the peer closed the connection before it or was silent for too long.
    pub(crate) fn try_answer(&mut self, is_head: bool) -> Option<Answer> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => return None,
            Err(error) if is_gone(&error) || error.kind() == ErrorKind::WouldBlock => return None,
            result => result.unwrap_or_else(|error| panic!("no answer: {error}")),
        };
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("not a status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status == 100 {
            return self.try_answer(is_head);
        }
        if !is_head && status != 204 && status != 304 {
            answer.body = self.body(&answer);
        }
        Some(answer)
    }

    fn body(&mut self, answer: &Answer) -> Vec<u8> {
        let mut body = Vec::new();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut line = String::new();
                self.reader.read_line(&mut line).unwrap();
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                self.reader.read_exact(&mut chunk).unwrap();
                if size == 0 {
                    return body;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        match answer.header("content-length") {
            Some(length) => {
                body.resize(length.parse().unwrap(), 0);
                self.reader.read_exact(&mut body).unwrap();
            }
            None => drop(self.reader.read_to_end(&mut body).unwrap()),
        }
        body
    }

    /// The peer closes the connection and sends nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = [0; 1];
        match self.reader.read(&mut rest) {
            Ok(read) => read == 0,
            Err(error) => is_gone(&error),
        }
    }
}

/// One request on a connection of its own.
pub(crate) fn once(address: &str, method: &str, target: &str, fields: Fields<'_>, body: &[u8]) -> Answer {
    Client::connect(address).send(method, target, fields, body)
}

/// The bytes of a request.
pub(crate) fn request(method: &str, target: &str, fields: Fields<'_>, body: &[u8]) -> Vec<u8> {
    let has = |wanted: &str| fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if !has("host") {
        bytes.extend_from_slice(b"host: test\r\n");
    }
    for (name, value) in fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !has("content-length") && !has("transfer-encoding") && (!body.is_empty() || method == "POST") {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

// === impl Answer ===

impl Answer {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self:?} is not JSON: {error}"))
    }

    /// `result` of OPA's data API; `null` when it is not there.
    pub(crate) fn result(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["result"].take()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text().chars().take(2000).collect();
        write!(f, "{} {:?} {text}", self.status, self.headers)
    }
}

// === impl Stream ===

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
        }
    }
}
