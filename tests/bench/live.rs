//! Measures the running program: start to ready, memory, reload latency, and consistency under reloads.
//!
//! `cargo bench --bench live` runs all; `cargo bench --bench live -- start memory latency reloads` picks. Figures go to
//! stdout. The client is a blocking keep-alive socket, so that its own cost is small and known.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot be set up has nothing to report, and its figures go to stdout"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let run = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if run("start") {
        start_to_ready();
    }
    if run("memory") {
        memory();
    }
    if run("latency") {
        reload_latency();
    }
    if run("reloads") {
        reloads_under_load();
    }
}

/// From `exec` to the first 200 of `/health` on the shipped bundle, and the resident set a second later.
fn start_to_ready() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut times = Vec::new();
    let mut rss = 0;
    for round in 0..21 {
        let before = Instant::now();
        let server = Server::start(&root.join("rego"), Some(&root.join("data")));
        times.push(before.elapsed());
        if round == 20 {
            std::thread::park_timeout(Duration::from_secs(1));
            rss = server.rss_kib();
        }
    }
    println!(
        "start to ready, shipped bundle: median {:.1?} (max {:.1?}) of {}",
        median(&mut times),
        max(&times),
        times.len()
    );
    println!("idle RSS, shipped bundle: {:.1} MiB", kib_to_mib(rss));
}

/// Resident set after loading 42 MB of JSON, as a multiple of the file's size.
fn memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut json = String::from("{\"relations\":[");
    let mut n = 0u32;
    while json.len() < 42_000_000 {
        if n > 0 {
            json.push(',');
        }
        json.push_str(&format!(
            "{{\"subject\":\"user-{}\",\"relation\":\"viewer\",\"object\":\"folder-{}\"}}",
            n % 50_000,
            n
        ));
        n += 1;
    }
    json.push_str("]}");
    fs::write(dir.path().join("data.json"), &json).unwrap();
    fs::write(dir.path().join("p.rego"), "package p\nn := count(data.relations)\n").unwrap();
    let before = Instant::now();
    let server = Server::start(dir.path(), None);
    let took = before.elapsed();
    let peak = server.status_kib("VmHWM:");
    let rss = server.rss_kib();
    let size = json.len() as f64 / 1024.0;
    println!(
        "{:.1} MB of JSON ({n} records): ready in {took:.2?}, RSS {:.0} MiB = {:.1}x, peak {:.0} MiB = {:.1}x",
        json.len() as f64 / 1e6,
        kib_to_mib(rss),
        rss as f64 / size,
        kib_to_mib(peak),
        peak as f64 / size,
    );
}

/// From the end of the last write of a changed file to the first answer made with it.
fn reload_latency() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.rego"), "package p\nvalue := data.value\n").unwrap();
    fs::write(dir.path().join("data.json"), r#"{"value":0}"#).unwrap();
    let server = Server::start(dir.path(), None);
    let mut client = server.client();
    let mut times = Vec::new();
    for round in 1..=50 {
        // An editor's way: write a new file, rename it over the old one.
        let fresh = dir.path().join("data.json.tmp");
        fs::write(&fresh, format!(r#"{{"value":{round}}}"#)).unwrap();
        fs::rename(&fresh, dir.path().join("data.json")).unwrap();
        let written = Instant::now();
        let want = format!("\"result\":{round}");
        while !client.get("/v1/data/p/value").1.contains(&want) {
            assert!(written.elapsed() < Duration::from_secs(10), "change {round} never arrived");
            std::thread::yield_now();
        }
        times.push(written.elapsed());
    }
    println!(
        "last write to first decision: median {:.1?} (max {:.1?}) of {}",
        median(&mut times),
        max(&times),
        times.len()
    );
}

/// 20,000 requests over 100 reloads: every answer must be 200 and made from one revision only.
fn reloads_under_load() {
    let dir = tempfile::tempdir().unwrap();
    // The layout of a Kubernetes volume: one symlink swap changes rules and data together.
    let publish = |revision: u64| {
        let real = dir.path().join(format!("..rev{revision}"));
        fs::create_dir(&real).unwrap();
        fs::write(
            real.join("p.rego"),
            format!("package p\nanswer := {{\"rules\": {revision}, \"data\": data.revision}}\n"),
        )
        .unwrap();
        fs::write(real.join("data.json"), format!(r#"{{"revision":{revision}}}"#)).unwrap();
        let link = dir.path().join("..data_tmp");
        symlink(real.file_name().unwrap(), &link).unwrap();
        fs::rename(&link, dir.path().join("..data")).unwrap();
        if revision > 0 {
            fs::remove_dir_all(dir.path().join(format!("..rev{}", revision - 1))).unwrap();
        }
    };
    publish(0);
    for name in ["p.rego", "data.json"] {
        symlink(Path::new("..data").join(name), dir.path().join(name)).unwrap();
    }
    let server = Server::start(dir.path(), None);
    let done = Arc::new(AtomicBool::new(false));
    let (requests, errors, mixtures, newest) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let load: Vec<_> = (0..2)
        .map(|_| {
            let mut client = server.client();
            let (done, requests, errors, mixtures, newest) =
                (done.clone(), requests.clone(), errors.clone(), mixtures.clone(), newest.clone());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) || requests.load(Ordering::Relaxed) < 20_000 {
                    let (status, body) = client.get("/v1/data/p/answer");
                    requests.fetch_add(1, Ordering::Relaxed);
                    let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                    let (rules, data) = (answer["result"]["rules"].as_u64(), answer["result"]["data"].as_u64());
                    match (status, rules, data) {
                        (200, Some(rules), Some(data)) => {
                            if rules != data {
                                mixtures.fetch_add(1, Ordering::Relaxed);
                            }
                            newest.fetch_max(rules, Ordering::Relaxed);
                        }
                        _ => {
                            errors.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        })
        .collect();
    let before = Instant::now();
    for revision in 1..=100 {
        publish(revision);
        while newest.load(Ordering::Relaxed) < revision {
            assert!(before.elapsed() < Duration::from_secs(300), "revision {revision} never arrived");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    done.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().unwrap();
    }
    println!(
        "100 reloads under load in {:.1?}: {} requests, {} errors, {} answers from a mixture",
        before.elapsed(),
        requests.load(Ordering::Relaxed),
        errors.load(Ordering::Relaxed),
        mixtures.load(Ordering::Relaxed)
    );
}

// === the server under measurement ===

struct Server {
    child: Child,
    address: SocketAddr,
    _config: tempfile::TempDir,
}

impl Server {
    fn start(bundle: &Path, data: Option<&Path>) -> Self {
        let config = tempfile::tempdir().unwrap();
        let file: PathBuf = config.path().join("claimgate.yaml");
        fs::write(&file, "opa: {identity: passthrough}\nlog: {level: warn}\n").unwrap();
        let (address, admin) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimgate"));
        command.arg("run").arg("-c").arg(&file).arg("-b").arg(bundle);
        if let Some(data) = data {
            command.arg("-d").arg(data);
        }
        let child = command
            .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address, _config: config };
        let began = Instant::now();
        while !ready(admin) {
            assert!(began.elapsed() < Duration::from_secs(120), "the server does not become ready");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        server
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
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
    fn get(&mut self, path: &str) -> (u16, String) {
        write!(self.reader.get_mut(), "GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").unwrap();
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
        (status, String::from_utf8(body).unwrap())
    }
}

fn ready(admin: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(admin) else { return false };
    let mut client = Client { reader: BufReader::new(stream) };
    client.get("/health").0 == 200
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn max(times: &[Duration]) -> Duration {
    times.iter().copied().max().unwrap_or_default()
}

fn kib_to_mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
