//! The nginx example with a real nginx, the real program and an application behind: what a client sends at the front,
//! what it gets, and what the application sees.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    eventually,
    holder::Holder,
    http::{Answer, Client, Fields},
    program::Program,
    setup::Setup,
    tokens::{Issuer, forged, now},
    tools::{Running, find},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// nginx in front of claimgate and an application.
struct Stack {
    socket: PathBuf,
    /// What the application received: request line and headers.
    received: Receiver<String>,
    _nginx: Running,
    program: Program,
    _directory: TempDir,
}

impl Stack {
    /// `None` where nginx is not installed.
    fn start(issuer: &Issuer) -> Option<Self> {
        Self::start_with(issuer, "")
    }

    /// With more lines in claimgate's configuration.
    fn start_with(issuer: &Issuer, more: &str) -> Option<Self> {
        let nginx = find("nginx", "NGINX")?;
        let example = |name: &str| std::fs::read_to_string(Path::new(ROOT).join("examples/nginx").join(name)).unwrap();

        let config = example("claimgate.yaml");
        let with_ports = config.replace("127.0.0.1:8181", "127.0.0.1:0").replace("127.0.0.1:8282", "127.0.0.1:0");
        assert_ne!(config, with_ports);
        let config = with_ports.replace("../../", &format!("{ROOT}/"));
        let directory = Setup::new(&format!("{config}{more}")).file("jwks.json", &issuer.jwks()).into_directory();
        let program = Program::run(directory.path());

        let (application, received) = application();
        let prefix = directory.path().join("nginx");
        std::fs::create_dir(&prefix).unwrap();
        let socket = prefix.join("front.sock");
        // A socket file in place of a port, because nginx cannot be told to choose one.
        let config = example("nginx.conf")
            .replace("127.0.0.1:8000", &format!("unix:{}", socket.display()))
            .replace("127.0.0.1:8080", &application)
            .replace("127.0.0.1:8181", &program.address);
        std::fs::write(prefix.join("nginx.conf"), config).unwrap();
        let mut command = Command::new(nginx);
        command.arg("-p").arg(&prefix).arg("-c").arg(prefix.join("nginx.conf"));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut log = BufReader::new(running.0.stderr.take().unwrap());
        eventually("nginx listens", || {
            if let Some(status) = running.0.try_wait().unwrap() {
                let mut text = String::new();
                let _ = std::io::Read::read_to_string(&mut log, &mut text);
                panic!("nginx ended with {status}: {text}");
            }
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        Some(Self { socket, received, _nginx: running, program, _directory: directory })
    }

    fn ask(&self, method: &str, target: &str, fields: Fields<'_>) -> Answer {
        Client::connect_unix(&self.socket).send(method, target, fields, b"")
    }

    /// What the application received since the last call.
    fn received(&self) -> Vec<String> {
        self.received.try_iter().collect()
    }
}

/// An application that lets everybody in: it answers 200 to everything and tells what it received.
fn application() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let head = read_head(&stream);
            if sender.send(head).is_err() {
                return;
            }
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        }
    });
    (address, received)
}

fn read_head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.take_while(|line| !line.is_empty()).map(|line| line + "\n").collect()
}

fn vp(issuer: &Issuer) -> String {
    format!("Bearer {}", issuer.token_with(json!({"sub": "maria", "org_id": "acme", "role": "marketing_vp"})))
}

#[test]
fn nginx_lets_through_what_claimgate_allows_and_nothing_else() {
    let issuer = Issuer::new();
    let Some(stack) = Stack::start(&issuer) else { return };
    let maria = vp(&issuer);
    let victor =
        format!("Bearer {}", issuer.token_with(json!({"sub": "victor", "org_id": "acme", "role": "employee"})));
    let sam = format!("Bearer {}", issuer.token_with(json!({"sub": "sam", "org_id": "acme", "role": "marketing_vp"})));

    for method in ["GET", "PUT", "POST"] {
        let got = stack.ask(method, "/folders/campaign-2026?x=1", &[("authorization", &maria), ("x-user", "root")]);
        assert_eq!((got.status, got.text().as_str()), (200, "hello"), "{method}: {got:?}\n{}", stack.program.log());
        let received = stack.received();
        assert_eq!(received.len(), 1);
        assert!(received[0].starts_with(&format!("{method} /folders/campaign-2026?x=1 ")), "{received:?}");
        assert!(received[0].contains("X-User: maria\n"), "who it is comes from policy: {received:?}");
        assert!(!received[0].contains("root"), "and never from the client: {received:?}");
    }
    assert_eq!(stack.ask("GET", "/folders/campaign-2026", &[("authorization", &victor)]).status, 200);
    stack.received();

    // A token that is no token, no token, and every other reason: 401 with a challenge.
    let good = issuer.token("maria");
    let refused = [
        None,
        Some("Basic YTpi".to_owned()),
        Some(format!("Bearer {}", forged(&good))),
        Some(format!("Bearer {}", issuer.token_with(json!({"iat": now() - 900, "exp": now() - 600})))),
        Some(format!("Bearer {}", Issuer::new().token("maria"))),
    ];
    for authorization in &refused {
        let fields: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let got = stack.ask("GET", "/folders/campaign-2026", &fields);
        assert_eq!(got.status, 401, "{got:?}");
        let challenges: Vec<_> = got.headers.iter().filter(|(name, _)| name == "www-authenticate").collect();
        assert!(matches!(challenges[..], [(_, value)] if value.starts_with("Bearer ")), "{got:?}");
    }
    // Allowed to somebody, but not to this one, or not this.
    for (method, path, authorization) in [
        ("PUT", "/folders/campaign-2026", &victor),
        ("DELETE", "/folders/campaign-2026", &maria),
        ("GET", "/folders/campaign-2026", &sam),
        ("GET", "/folders/forecast-q3", &maria),
        ("GET", "/", &maria),
    ] {
        assert_eq!(stack.ask(method, path, &[("authorization", authorization)]).status, 403, "{method} {path}");
    }
    // What a client says about the request itself is overwritten.
    let lies = [
        ("authorization", victor.as_str()),
        ("x-original-method", "GET"),
        ("x-original-uri", "/folders/campaign-2026"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/folders/campaign-2026"),
        ("x-http-method-override", "GET"),
    ];
    assert_eq!(stack.ask("PUT", "/folders/campaign-2026", &lies).status, 403);
    assert_eq!(
        stack.ask("GET", "/.claimgate", &[("authorization", &maria)]).status,
        404,
        "the sub-request is internal"
    );
    assert_eq!(stack.received(), [""; 0], "the application saw none of these");
}

#[test]
fn no_spelling_of_a_path_gets_past_nginx_and_claimgate() {
    let issuer = Issuer::new();
    let Some(stack) = Stack::start(&issuer) else { return };
    let maria = vp(&issuer);
    for path in [
        "//folders/campaign-2026",
        "/folders//campaign-2026",
        "/folders/./campaign-2026",
        "/folders/forecast-q3/../campaign-2026",
        "/folders/campaign-2026/../forecast-q3",
        "/folders/campaign-2026/%2e%2e/forecast-q3",
        "/folders/campaign-2026%2f..%2fforecast-q3",
        "/folders/campaign-2026/..%2fforecast-q3",
        "/folders/campaign-2026/..;/forecast-q3",
        "/folders/campaign-2026;x=1",
        "/folders/..%5cforecast-q3",
        "/folders/%252e%252e/forecast-q3",
        "/folders/campaign-2026%00",
        "/folders/%c0%ae%c0%ae/forecast-q3",
        "/folders/campaign-2026%zz",
    ] {
        let got = stack.ask("GET", path, &[("authorization", &maria)]);
        assert!(matches!(got.status, 400 | 403), "{path}: {got:?}");
    }
    assert_eq!(stack.received(), [""; 0], "the application saw none of these");
    let encoded = stack.ask("GET", "/folders/%63ampaign-2026", &[("authorization", &maria)]);
    assert_eq!(encoded.status, 200, "an encoded letter is the letter");
}

#[test]
fn without_claimgate_nginx_lets_nobody_through() {
    let issuer = Issuer::new();
    let Some(mut stack) = Stack::start(&issuer) else { return };
    let maria = vp(&issuer);
    assert_eq!(stack.ask("GET", "/folders/campaign-2026", &[("authorization", &maria)]).status, 200);
    stack.received();
    stack.program.signal("TERM");
    assert_eq!(stack.program.wait(), Some(0));
    assert_eq!(stack.ask("GET", "/folders/campaign-2026", &[("authorization", &maria)]).status, 500);
    assert_eq!(stack.received(), [""; 0]);
}

#[test]
fn a_token_that_is_bound_to_a_key_needs_a_proof_for_what_the_client_asked_of_nginx() {
    let issuer = Issuer::new();
    let Some(stack) = Stack::start_with(&issuer, "token: {dpop: {nonce: required}}\n") else { return };
    let holder = Holder::new();
    let claims = json!({
        "sub": "maria", "org_id": "acme", "role": "marketing_vp", "cnf": { "jkt": holder.thumbprint() },
    });
    let token = issuer.token_with(claims);
    let (bearer, dpop) = (format!("Bearer {token}"), format!("DPoP {token}"));
    let ask = |url: &str, changes| {
        let proof = holder.proof("GET", url, &token, changes);
        stack.ask("GET", "/folders/campaign-2026?page=2", &[("authorization", &dpop), ("dpop", &proof)])
    };
    let url = "http://test/folders/campaign-2026";
    let first = ask(url, json!({}));
    assert_eq!(first.status, 401, "{first:?}");
    let nonce = first.header("dpop-nonce").expect("nginx hands on the nonce").to_owned();
    assert_eq!(ask(url, json!({ "nonce": nonce })).status, 200);
    assert_eq!(ask("http://test/folders/forecast", json!({ "nonce": nonce })).status, 401);
    assert_eq!(ask("http://test/forward-auth/nginx", json!({ "nonce": nonce })).status, 401);
    assert_eq!(stack.ask("GET", "/folders/campaign-2026", &[("authorization", &bearer)]).status, 401);
    assert_eq!(stack.received().len(), 1);
}
