//! A server that policies ask, kind and hostile: each path behaves in one known way.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::PATIENCE;

/// A server whose paths behave in known ways.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    /// Requests as they came, by path.
    seen: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<HashMap<String, Vec<String>>>>::default();
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                // A client that goes away is no concern of a server.
                thread::spawn(move || drop(answer(stream, port, &log)));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn requests(&self, path: &str) -> Vec<String> {
        self.seen.lock().unwrap().get(path).cloned().unwrap_or_default()
    }
}

fn answer(mut stream: TcpStream, port: u16, log: &Mutex<HashMap<String, Vec<String>>>) -> std::io::Result<()> {
    let request = read_request(&mut stream)?;
    let path = request.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let count = {
        let mut log = log.lock().unwrap();
        let requests = log.entry(path.clone()).or_default();
        requests.push(request.clone());
        requests.len()
    };
    let plain = |status: &str, headers: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    };
    let json = "Content-Type: application/json\r\n";
    let cached = |headers: &str| plain("200 OK", &format!("{json}{headers}"), &count.to_string());
    let asks = |field: &str| request.to_ascii_lowercase().contains(field);
    let text = match path.as_str() {
        "/json" => plain("200 Fine", &format!("{json}X-A: 1\r\nX-A: 2\r\n"), "{\"a\":1}"),
        "/echo" => plain("200 OK", "", &request),
        "/count" => plain("200 OK", json, &count.to_string()),
        "/missing" => plain("404 Not Found", "", "no"),
        "/kept" => {
            plain("200 OK", &format!("{json}Cache-Control: max-age=600\r\nDate: {}\r\n", date(0)), &count.to_string())
        }
        "/aged" => cached(&format!("Cache-Control: max-age=60\r\nDate: {}\r\n", date(-3_600))),
        "/dateless" => cached("Cache-Control: max-age=600\r\n"),
        "/expires-later" => cached(&format!("Expires: {}\r\n", date(3_600))),
        "/expires-past" => cached(&format!("Expires: {}\r\n", date(-3_600))),
        "/expires-0" => cached("Expires: 0\r\n"),
        "/kept-404" => plain("404 Not Found", &format!("{json}Expires: {}\r\n", date(3_600)), &count.to_string()),
        "/kept-503" => plain("503 Busy", &format!("{json}Expires: {}\r\n", date(3_600)), &count.to_string()),
        "/modified" if asks("if-modified-since: ") => plain("304 Not Modified", "Expires: 0\r\n", ""),
        "/modified" => cached(&format!("Last-Modified: {}\r\n", date(-3_600))),
        "/renewed" if asks("if-none-match: ") => {
            plain("304 Not Modified", &format!("X-New: 1\r\nCache-Control: max-age=600\r\nDate: {}\r\n", date(0)), "")
        }
        "/renewed" | "/changed" => cached("ETag: \"t\"\r\nExpires: 0\r\n"),
        "/gone" if asks("if-none-match: ") => plain("404 Not Found", "", "gone"),
        "/gone" => cached("ETag: \"t\"\r\n"),
        "/private" => plain("200 OK", &format!("{json}Cache-Control: no-store\r\n"), &count.to_string()),
        "/tagged" if asks("if-none-match: \"t\"") => plain("304 Not Modified", "ETag: \"t\"\r\n", ""),
        "/tagged" => plain("200 OK", &format!("{json}ETag: \"t\"\r\n"), &count.to_string()),
        "/flaky" if count < 3 => String::new(),
        "/flaky" => plain("200 OK", json, &count.to_string()),
        "/redirect" => plain("302 Found", "Location: /json\r\n", ""),
        "/loop" => plain("302 Found", "Location: /loop\r\n", ""),
        "/metadata" => plain("302 Found", "Location: http://169.254.169.254/latest/meta-data/\r\n", ""),
        "/elsewhere" => plain("302 Found", &format!("Location: http://localhost:{port}/json\r\n"), ""),
        "/garbage" => "not http at all\r\n\r\n".to_owned(),
        "/yaml" => plain("200 OK", "Content-Type: application/yaml\r\n", "a: [x, 1]"),
        "/broken-json" => plain("200 OK", json, "{\"a"),
        "/trailing-json" => plain("200 OK", json, "{\"a\":1} x"),
        "/twice" => plain("200 OK", json, "{\"a\":1,\"a\":2}"),
        "/bom" => plain("200 OK", json, "\u{feff}[1]"),
        "/empty-json" => plain("200 OK", json, ""),
        "/no-reason" => "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "/latin" => return stream.write_all(b"HTTP/1.1 200 OK\r\nX-B: \xe9\r\nContent-Length: 1\r\n\r\n\xff"),
        "/closing" => String::new(),
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi".to_owned(),
        "/announced" => "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nhi".to_owned(),
        "/chunks" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n\
                      2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n"
            .to_owned(),
        "/endless" => return endless(&mut stream, "HTTP/1.1 200 OK\r\n\r\n", &"x".repeat(64 << 10)),
        "/headers" => return endless(&mut stream, "HTTP/1.1 200 OK\r\n", &format!("X-H: {}\r\n", "x".repeat(1_000))),
        "/stalled" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi")?;
            return until_closed(&mut stream);
        }
        "/slow" => return until_closed(&mut stream),
        _ => plain("500 Internal Server Error", "", ""),
    };
    stream.write_all(text.as_bytes())
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(text);
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(text),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Writes until the client has had enough.
fn endless(stream: &mut TcpStream, head: &str, part: &str) -> std::io::Result<()> {
    stream.write_all(head.as_bytes())?;
    loop {
        stream.write_all(part.as_bytes())?;
    }
}

fn until_closed(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).map(drop)
}

/// So many seconds from now.
fn date(seconds: i64) -> String {
    let now: chrono::DateTime<chrono::Utc> = std::time::SystemTime::now().into();
    (now + chrono::TimeDelta::seconds(seconds)).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
