//! What floods cost: good requests per second with nobody else there, and beside a flood of made-up key ids, of forged
//! signatures, and of 8 KiB of garbage; how often the issuer is asked meanwhile.
//!
//! `cargo bench --bench flood` sends 2,000 bad requests per second; `cargo bench --bench flood -- 500` sends 500, and
//! `-- 0` as many as two connections can. Client and server share the machine, so the rate of good requests falls for two
//! reasons: the flood takes the server's time, and sending it takes the machine's. The server's own processor time for
//! one request tells the first from the second, and is the figure to trust.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark that cannot be set up has nothing to report, and its figures go to stdout"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use claimgate::token::SigningKey;
use serde_json::json;

const PHASE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const GOOD_CONNECTIONS: usize = 2;
const BAD_CONNECTIONS: usize = 2;
/// Processor time in `/proc/PID/stat` is counted in these.
const TICK: Duration = Duration::from_millis(10);

fn main() {
    let rate = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_000);
    let key = SigningKey::generate_es256("k1").unwrap();
    let issuer = Issuer::serve(key.public_jwks().unwrap());
    let server = Server::start(issuer.address);
    let good = token(&key, "alice");
    let forged: Vec<String> = (0..256).map(|n| forge(&token(&key, &format!("mallory-{n}")))).collect();
    let made_up: Vec<String> = (0..16_384).map(|n| rename(&good, &format!("made-up-{n}"))).collect();
    let garbage = format!("{0}.{0}.{0}", "A".repeat(8 * 1024 / 3));

    let paced = if rate == 0 { "unbounded".to_owned() } else { format!("{rate}/s") };
    println!("floods of {paced} beside {GOOD_CONNECTIONS} connections of good requests; medians of {ROUNDS} rounds");
    println!(
        "{:<18} {:>10} {:>7} {:>10} {:>14} {:>14} {:>9}",
        "flood", "good/s", "ratio", "bad/s", "µs CPU/good", "µs CPU/bad", "fetches"
    );
    let floods: [(&str, Vec<String>); 3] =
        [("unknown kids", made_up), ("forged signatures", forged), ("8 KiB of garbage", vec![garbage])];
    for (name, bad) in &floods {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let quiet = phase(&server, &good, &[], rate);
            let before = issuer.fetches.load(Ordering::Relaxed);
            let loud = phase(&server, &good, bad, rate);
            rounds.push((quiet, loud, issuer.fetches.load(Ordering::Relaxed) - before));
        }
        let middle = |read: &dyn Fn(&(Phase, Phase, usize)) -> f64| median(rounds.iter().map(read).collect());
        let per_good = middle(&|(quiet, ..)| quiet.cpu.as_secs_f64() * 1e6 / quiet.good as f64);
        let per_bad = middle(&|(_, loud, _)| {
            (loud.cpu.as_secs_f64() * 1e6 - per_good * loud.good as f64).max(0.0) / loud.bad.max(1) as f64
        });
        println!(
            "{name:<18} {:>10.0} {:>6.0}% {:>10.0} {per_good:>14.1} {per_bad:>14.1} {:>9}",
            middle(&|(_, loud, _)| loud.good as f64 / loud.took.as_secs_f64()),
            middle(&|(quiet, loud, _)| {
                100.0 * (loud.good as f64 / loud.took.as_secs_f64()) / (quiet.good as f64 / quiet.took.as_secs_f64())
            }),
            middle(&|(_, loud, _)| loud.bad as f64 / loud.took.as_secs_f64()),
            rounds.iter().map(|(.., fetches)| fetches).sum::<usize>(),
        );
    }
    println!("fetches: in all rounds, {} s, with a cooldown of 30 s", (PHASE * 2).as_secs() * ROUNDS as u64);
}

/// What happened in one stretch of time.
struct Phase {
    good: u64,
    bad: u64,
    took: Duration,
    /// The server's processor time.
    cpu: Duration,
}

fn phase(server: &Server, good: &str, bad: &[String], rate: u64) -> Phase {
    let (is_over, goods, bads) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), server.cpu());
    thread::scope(|scope| {
        for _ in 0..GOOD_CONNECTIONS {
            scope.spawn(|| {
                let mut client = server.client();
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.ask(good), 200);
                    goods.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for connection in 0..if bad.is_empty() { 0 } else { BAD_CONNECTIONS } {
            let (is_over, bads) = (&is_over, &bads);
            scope.spawn(move || {
                let mut client = server.client();
                for (n, token) in bad.iter().cycle().skip(connection * bad.len() / BAD_CONNECTIONS).enumerate() {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    if rate > 0 {
                        let due = Duration::from_secs_f64(n as f64 * BAD_CONNECTIONS as f64 / rate as f64);
                        thread::park_timeout(due.saturating_sub(began.elapsed()));
                    }
                    assert_eq!(client.ask(token), 401);
                    bads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::park_timeout(PHASE);
        is_over.store(true, Ordering::Relaxed);
    });
    let (took, cpu) = (began.elapsed(), server.cpu().saturating_sub(cpu));
    Phase { good: goods.into_inner(), bad: bads.into_inner(), took, cpu }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

// === tokens ===

fn token(key: &SigningKey, subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "https://idp.example", "aud": "folders", "sub": subject, "iat": now, "exp": now + 3600});
    key.sign("at+jwt", claims.as_object().unwrap()).unwrap()
}

/// The same token with a signature that was another's.
fn forge(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes.rotate_left(7);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The same token with another `kid`; it is not looked at any further.
fn rename(token: &str, kid: &str) -> String {
    let (_, rest) = token.split_once('.').unwrap();
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid}).to_string();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

// === the issuer and the server ===

/// Answers with a key set and counts how often.
struct Issuer {
    address: SocketAddr,
    fetches: Arc<AtomicUsize>,
}

impl Issuer {
    fn serve(jwks: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let fetches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&fetches);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                // To the end of the head.
                let _ = head.find(String::is_empty);
                counted.fetch_add(1, Ordering::Relaxed);
                let length = jwks.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(format!("{head}{jwks}").as_bytes());
            }
        });
        Self { address, fetches }
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(issuer: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (address, admin) = (free_address(), free_address());
        let config = format!(
            "listen: {address}\nadmin: {{listen: '{admin}'}}\nlog: {{level: error}}\nissuers: [{{issuer: \
             'https://idp.example', audiences: [folders], jwks: {{url: 'http://{issuer}/', refresh: 24h}}}}]\n\
             policy: {{bundles: [bundle], entrypoint: p/allow}}\n"
        );
        fs::write(directory.path().join("claimgate.yaml"), config).unwrap();
        fs::create_dir(directory.path().join("bundle")).unwrap();
        let policy = "package p\n\nallow if input.token.subject == \"alice\"\n";
        fs::write(directory.path().join("bundle/p.rego"), policy).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimgate"));
        command.args(["run", "-c", "claimgate.yaml"]).current_dir(directory.path()).stdout(Stdio::null());
        let server = Self { child: command.spawn().unwrap(), address, _directory: directory };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not become ready");
            thread::park_timeout(Duration::from_millis(5));
        }
        server
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    /// User and system time so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold blanks.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u32 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap()).sum();
        TICK * ticks
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// The status of one decision.
    fn ask(&mut self, token: &str) -> u16 {
        let request = format!(
            "POST /v1/data/p/allow HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        self.reader.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut length = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            if line == "\r\n" || line.is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        status
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
