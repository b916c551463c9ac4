//! `http.send` from Rego over real sockets to a server on this machine, kind and hostile: what a policy sees, what ends
//! its evaluation, what is kept, and where a request never goes.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use claimgate::{
    outbound::{self, Outbound},
    policy::{
        DataPath, EvalOptions, HttpSend, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, to_opa_json,
    },
};

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose paths behave in known ways.
struct Server {
    port: u16,
    /// Requests as they came, by path.
    seen: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

impl Server {
    fn start() -> Self {
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

    fn requests(&self, path: &str) -> Vec<String> {
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
    let text = match path.as_str() {
        "/json" => plain("200 Fine", &format!("{json}X-A: 1\r\nX-A: 2\r\n"), "{\"a\":1}"),
        "/echo" => plain("200 OK", "", &request),
        "/count" => plain("200 OK", json, &count.to_string()),
        "/missing" => plain("404 Not Found", "", "no"),
        "/kept" => {
            plain("200 OK", &format!("{json}Cache-Control: max-age=600\r\nDate: {}\r\n", now()), &count.to_string())
        }
        "/private" => plain("200 OK", &format!("{json}Cache-Control: no-store\r\n"), &count.to_string()),
        "/tagged" if request.to_ascii_lowercase().contains("if-none-match: \"t\"") => {
            plain("304 Not Modified", "ETag: \"t\"\r\n", "")
        }
        "/tagged" => plain("200 OK", &format!("{json}ETag: \"t\"\r\n"), &count.to_string()),
        "/flaky" if count < 3 => String::new(),
        "/flaky" => plain("200 OK", json, &count.to_string()),
        "/redirect" => plain("302 Found", "Location: /json\r\n", ""),
        "/loop" => plain("302 Found", "Location: /loop\r\n", ""),
        "/metadata" => plain("302 Found", "Location: http://169.254.169.254/latest/meta-data/\r\n", ""),
        "/elsewhere" => plain("302 Found", &format!("Location: http://localhost:{port}/json\r\n"), ""),
        "/garbage" => "not http at all\r\n\r\n".to_owned(),
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

fn now() -> String {
    let now: chrono::DateTime<chrono::Utc> = std::time::SystemTime::now().into();
    now.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn outbound(allow: &[&str]) -> Arc<dyn HttpSend> {
    let allow = allow.iter().map(|host| host.parse().unwrap()).collect();
    Arc::new(Outbound::new(outbound::Settings { allow, ..outbound::Settings::default() }))
}

/// `data.p.x` of a module, with `PORT` put in.
fn evaluate(port: u16, http: &Arc<dyn HttpSend>, rules: &str, options: &EvalOptions) -> String {
    let text = format!("package p\n\n{}\n", rules.replace("PORT", &port.to_string()));
    let source = Source {
        name: String::new(),
        origin: "dir".to_owned(),
        kind: SourceKind::Plain { prefix: Vec::new() },
        files: vec![SourceFile { path: "p.rego".to_owned(), bytes: text.into_bytes() }],
    };
    let settings = Settings { http: Some(Arc::clone(http)), io_deadline: PATIENCE, ..Settings::default() };
    let set = PolicySet::load(vec![source], &settings).unwrap();
    match set.evaluate(&DataPath::from_slash("p/x"), None, options) {
        Ok(Outcome::Undefined) => "undefined".to_owned(),
        Ok(Outcome::Value(value)) => to_opa_json(&value).replace(&port.to_string(), "PORT"),
        Err(error) => format!("{}: {}", error.code(), error.message).replace(&port.to_string(), "PORT"),
    }
}

/// One call to this machine: `more` are further parameters, `after` goes into the result.
fn check(server: &Server, path: &str, more: &str, after: &str, want: &str) {
    let rules =
        format!("x := http.send({{\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT{path}\"{more}}}){after}");
    let options = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
    assert_eq!(evaluate(server.port, &outbound(&["127.0.0.1"]), &rules, &options), want, "{path} {more}");
}

#[test]
fn answers_look_as_opa_shows_them() {
    let server = Server::start();
    check(
        &server,
        "/json",
        "",
        "",
        "{\"body\":{\"a\":1},\"headers\":{\"content-length\":[\"7\"],\"content-type\":[\"application/json\"],\
         \"x-a\":[\"1\",\"2\"]},\"raw_body\":\"{\\\"a\\\":1}\",\"status\":\"200 Fine\",\"status_code\":200}",
    );
    check(&server, "/missing", "", ".status", "\"404 Not Found\"");
    check(&server, "/chunks", "", ".body", "[1]");
    check(&server, "/chunks", "", ".headers", "{\"content-type\":[\"application/json\"]}");
    check(&server, "/redirect", "", ".status_code", "302");
    check(&server, "/redirect", ", \"enable_redirect\": true", ".body", "{\"a\":1}");
    check(&server, "/flaky", ", \"max_retry_attempts\": 2", ".body", "3");
}

#[test]
fn requests_carry_what_the_policy_says() {
    let server = Server::start();
    let rules = r#"x := http.send({
        "method": "post", "url": "http://u:p@127.0.0.1:PORT/echo?q=1", "body": {"a": 1}, "headers": {"X-Y": "z", "host": "me"},
    }).status_code"#;
    assert_eq!(evaluate(server.port, &outbound(&["127.0.0.1"]), rules, &EvalOptions::default()), "200");
    let request = server.requests("/echo").remove(0);
    assert!(request.starts_with("POST /echo?q=1 HTTP/1.1\r\n"), "{request}");
    for line in ["X-Y: z", "Host: me", "Content-Length: 7", "Authorization: Basic dTpw"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
}

#[test]
fn hostile_servers_end_in_an_error_and_never_hang() {
    let server = Server::start();
    let quick = ", \"timeout\": \"300ms\"";
    let too_large = "eval_resource_limit: http.send: answer of `127.0.0.1` has more than 1048576 bytes \
                     (`policy.http_send.response_bytes`)";
    for (path, more, want) in [
        ("/slow?token=1", quick, "eval_builtin_error: http.send: Get http://127.0.0.1:PORT/slow: request timed out"),
        (
            "/stalled",
            quick,
            "eval_builtin_error: http.send: context deadline exceeded (Client.Timeout or context cancellation while \
             reading body)",
        ),
        ("/short", "", "eval_builtin_error: http.send: unexpected EOF"),
        ("/endless", "", too_large),
        ("/announced", "", too_large),
    ] {
        check(&server, path, more, "", want);
    }
    for path in ["/garbage", "/closing", "/headers"] {
        let more = ", \"raise_error\": false, \"timeout\": \"5s\"";
        check(&server, path, more, ".error.code", "\"eval_http_send_network_error\"");
    }
}

#[test]
fn a_request_goes_only_where_it_may() {
    let server = Server::start();
    let refused = |host: &str| {
        format!(
            "eval_resource_limit: http.send: host `{host}` is not allowed; list it in `policy.http_send.allow`, or name \
             it with `--allow-http-send`"
        )
    };
    let follow = ", \"enable_redirect\": true, \"raise_error\": false";
    check(&server, "/metadata", follow, "", &refused("169.254.169.254"));
    check(&server, "/elsewhere", follow, "", &refused("localhost"));
    check(&server, "/loop", follow, "", "eval_resource_limit: http.send: more than 10 redirects");
    assert_eq!(server.requests("/loop").len(), 11);
    for (allow, url, host) in [
        (vec![], "http://127.0.0.1:PORT/json", "127.0.0.1"),
        (vec!["127.0.0.1:1"], "http://127.0.0.1:PORT/json", "127.0.0.1"),
        (vec!["127.0.0.1"], "http://127.0.0.1@localhost:PORT/json", "localhost"),
        (vec!["127.0.0.1"], "http://169.254.169.254/", "169.254.169.254"),
        (vec!["127.0.0.1"], "http://[::1]:PORT/", "::1"),
    ] {
        let rules = format!("x if not http.send({{\"method\": \"get\", \"url\": \"{url}\"}}).body.revoked");
        let got = evaluate(server.port, &outbound(&allow), &rules, &EvalOptions::default());
        assert_eq!(got, refused(host), "{allow:?} {url}");
    }
    assert!(server.requests("/json").is_empty());
    let rules = "x := http.send({\"method\": \"get\", \"url\": \"http://LOCALHOST:PORT/json\"}).status_code";
    assert_eq!(
        evaluate(
            server.port,
            &outbound(&["localhost:PORT".replace("PORT", &server.port.to_string()).as_str()]),
            rules,
            &EvalOptions::default()
        ),
        "200"
    );
}

#[test]
fn the_deadline_of_the_evaluation_ends_a_call() {
    let server = Server::start();
    let rules = "x if not http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT/slow\", \"raise_error\": false, \
                 \"max_retry_attempts\": 100}).body.revoked";
    let options = EvalOptions { deadline: Some(Duration::from_millis(200)), ..EvalOptions::default() };
    let began = Instant::now();
    let got = evaluate(server.port, &outbound(&["127.0.0.1"]), rules, &options);
    assert_eq!(got, "eval_deadline_exceeded: evaluation exceeded its deadline");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn answers_are_kept_as_the_call_and_their_headers_say() {
    for (path, more, bodies, requests) in [
        ("/count", "", "[1,2]", 2),
        ("/count", ", \"cache\": true", "[1,2]", 2),
        ("/count", ", \"force_cache\": true, \"force_cache_duration_seconds\": 60", "[1,1]", 1),
        ("/kept", ", \"cache\": true", "[1,1]", 1),
        ("/kept", "", "[1,2]", 2),
        ("/private", ", \"cache\": true", "[1,2]", 2),
        ("/private", ", \"force_cache\": true, \"force_cache_duration_seconds\": 60", "[1,1]", 1),
        ("/tagged", ", \"cache\": true", "[1,1]", 2),
    ] {
        let server = Server::start();
        let http = outbound(&["127.0.0.1"]);
        let rules =
            format!("x := http.send({{\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT{path}\"{more}}}).body");
        let got: Vec<String> = (0..2).map(|_| evaluate(server.port, &http, &rules, &EvalOptions::default())).collect();
        assert_eq!(format!("[{}]", got.join(",")), bodies, "{path} {more}");
        assert_eq!(server.requests(path).len(), requests, "{path} {more}");
    }
}

#[test]
fn many_evaluations_ask_once() {
    let server = Server::start();
    let http = outbound(&["127.0.0.1"]);
    let rules = "x := http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT/count\", \"force_cache\": true, \
                 \"force_cache_duration_seconds\": 60}).body";
    thread::scope(|scope| {
        let runs: Vec<_> =
            (0..16).map(|_| scope.spawn(|| evaluate(server.port, &http, rules, &EvalOptions::default()))).collect();
        assert!(runs.into_iter().all(|run| run.join().unwrap() == "1"));
    });
    assert_eq!(server.requests("/count").len(), 1);
}
