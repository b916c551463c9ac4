//! Remote keys over real connections: what servers do wrong, what is asked of them and how often, and what a request
//! sees of it. How the keys' life runs by the clock is tested beside `reload::jwks`.

mod server;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use claimgate::{
    fetch,
    reload::{self, FetchSettings, KeySource, Reconfigure, Settings, Startup},
    shutdown,
    snapshot::{Handle, KeyHealth, Problem},
    token::{
        self, Algorithm, Fault, IssuerProfile, KeyOrigin, ProfileSettings, RawToken, SigningKey, TokenError, UnixTime,
    },
};
use serde_json::json;
use tokio::sync::Notify;

use self::server::{Reply, Server};

/// Longest wait for anything; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `reload` with one issuer.
struct World {
    issuer: String,
    handle: Handle,
    force: Arc<Notify>,
    _shutdown: shutdown::Trigger,
}

fn fetch() -> FetchSettings {
    with_timeout(Duration::from_millis(500))
}

fn with_timeout(timeout: Duration) -> FetchSettings {
    let http = fetch::Settings { timeout, ..fetch::Settings::default() };
    FetchSettings { http, unknown_kid_cooldown: PATIENCE, ..FetchSettings::default() }
}

fn settings(issuer: &str, source: KeySource) -> Settings {
    settings_with(issuer, source, Duration::from_secs(30))
}

fn settings_with(issuer: &str, source: KeySource, leeway: Duration) -> Settings {
    let profile = IssuerProfile::new(ProfileSettings {
        issuer: issuer.to_owned(),
        audiences: vec!["app".to_owned()],
        algorithms: vec![Algorithm::ES256],
        leeway,
        key_origin: if source.is_remote() { KeyOrigin::Remote } else { KeyOrigin::Local },
        ..ProfileSettings::default()
    });
    Settings {
        profiles: vec![(profile.unwrap(), source)],
        startup: Startup { key_wait: Duration::from_secs(5) },
        ..Settings::default()
    }
}

impl World {
    async fn of_url(url: String, fetch: FetchSettings) -> Self {
        Self::start(settings("https://idp.example", KeySource::Url { url, fetch })).await
    }

    async fn start(settings: Settings) -> Self {
        Self::configured(settings, None).await
    }

    async fn configured(settings: Settings, reconfigure: Option<Reconfigure>) -> Self {
        let issuer = settings.profiles[0].0.issuer().to_owned();
        let (trigger, signal) = shutdown::channel();
        let force = Arc::new(Notify::new());
        let (handle, _task) = reload::start(settings, reconfigure, Arc::clone(&force), signal).await.unwrap();
        Self { issuer, handle, force, _shutdown: trigger }
    }

    fn keys(&self) -> KeyHealth {
        self.handle.health().keys[&self.issuer].clone()
    }

    /// Waits until the health of the keys is as wanted.
    #[track_caller]
    fn until(&self, wanted: impl Fn(&KeyHealth) -> bool) -> impl Future<Output = KeyHealth> {
        let caller = std::panic::Location::caller();
        async move {
            let begin = Instant::now();
            loop {
                let health = self.keys();
                if wanted(&health) {
                    return health;
                }
                assert!(begin.elapsed() < PATIENCE, "never came ({caller}): {health:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn verify(&self, key: &SigningKey) -> Result<(), TokenError> {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let claims = json!({ "iss": self.issuer, "aud": "app", "sub": "u", "iat": now, "exp": now + 60 });
        let raw = RawToken::new(key.sign("JWT", claims.as_object().unwrap()).unwrap());
        let snapshot = self.handle.current();
        token::verify(&raw, &snapshot.profiles, &snapshot.keys, UnixTime(now)).map(drop)
    }
}

fn key(kid: &str) -> SigningKey {
    SigningKey::generate_es256(kid).unwrap()
}

fn set(keys: &[&SigningKey]) -> String {
    let keys = keys.iter().map(|key| {
        let set: serde_json::Value = serde_json::from_str(&key.public_jwks().unwrap()).unwrap();
        set["keys"][0].clone()
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_server_gives_no_keys_at_start_and_takes_none_away_later() {
    let html = "<!doctype html><title>502</title>".to_owned();
    let head = |rest: &str| format!("HTTP/1.1 {rest}\r\nconnection: close");
    let cases = [
        ("html", Reply::Body(html), "not a usable key set"),
        ("empty set", Reply::Body(r#"{"keys":[]}"#.to_owned()), "the key set is empty"),
        ("endless", Reply::Endless, "more than 262144 bytes"),
        (
            "announced huge",
            Reply::Raw(head("200 OK\r\ncontent-length: 99999999999"), Vec::new()),
            "more than 262144 bytes",
        ),
        ("silent", Reply::Silence, "no answer within the time limit"),
        ("stalled", Reply::Stall, "no answer within the time limit"),
        ("error", Reply::Raw(head("503 Service Unavailable"), Vec::new()), "the server answered 503"),
        ("stray 304", Reply::Raw(head("304 Not Modified"), Vec::new()), "answered 304"),
        (
            "compressed",
            Reply::Raw(head("200 OK\r\ncontent-encoding: gzip"), vec![0x1f, 0x8b]),
            "the body is compressed",
        ),
        ("no HTTP", Reply::Raw("SSH-2.0-OpenSSH_9.6".to_owned(), Vec::new()), "the request failed"),
        ("hang-up", Reply::Raw(String::new(), Vec::new()), "the request failed"),
    ];
    let good = key("a");
    for (name, reply, says) in cases {
        let server = Server::start(reply.clone()).await;
        let world = World::of_url(server.url("/keys"), fetch()).await;
        let health = world.keys();
        let error = health.last_error.unwrap_or_default();
        assert!(error.contains(says), "{name}: {error}");
        assert_eq!(health.keys, None, "{name}");
        let refused = world.verify(&good).unwrap_err();
        assert!(matches!(refused.fault(), Fault::Keys), "{name}: {refused}");

        server.now(Reply::Body(set(&[&good])));
        world.force.notify_one();
        world.until(|health| health.keys == Some(1) && health.last_error.is_none()).await;
        world.verify(&good).unwrap_or_else(|error| panic!("{name}: {error}"));

        server.now(reply);
        world.force.notify_one();
        let health = world.until(|health| health.last_error.is_some()).await;
        assert_eq!(health.keys, Some(1), "{name}");
        world.verify(&good).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test]
async fn a_server_that_is_down_does_not_keep_the_others_from_starting() {
    // A port that was free a moment ago may be another test's by now; nobody listens on this one.
    let gone = "http://127.0.0.1:1/keys".to_owned();
    let good = key("a");
    let server = Server::start(Reply::Body(set(&[&good]))).await;
    let mut both = settings("https://idp.example", KeySource::Url { url: server.url("/keys"), fetch: fetch() });
    both.profiles.extend(settings("https://down.example", KeySource::Url { url: gone, fetch: fetch() }).profiles);
    let mut world = World::start(both).await;
    world.verify(&good).unwrap();
    world.issuer = "https://down.example".to_owned();
    assert!(world.keys().last_error.unwrap().contains("refused"));
    assert!(matches!(world.verify(&good).unwrap_err().fault(), Fault::Keys));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_never_answers_does_not_hold_up_the_keys_of_another() {
    let (old, new) = (key("old"), key("new"));
    let silent = Server::start(Reply::Silence).await;
    let server = Server::start(Reply::Body(set(&[&old]))).await;
    let slow = KeySource::Url { url: silent.url("/keys"), fetch: with_timeout(PATIENCE * 4) };
    let mut both = settings("https://idp.example", KeySource::Url { url: server.url("/keys"), fetch: fetch() });
    both.profiles.extend(settings("https://silent.example", slow).profiles);
    both.startup.key_wait = Duration::from_millis(50);
    let world = World::start(both).await;
    world.until(|health| health.keys == Some(1)).await;
    server.now(Reply::Body(set(&[&new])));
    assert!(world.handle.request_keys(&world.issuer, None, PATIENCE).await);
    world.verify(&new).unwrap();
    assert_eq!(silent.requests().len(), 1, "it is still being asked");
}

#[tokio::test]
async fn start_does_not_wait_longer_than_it_is_told() {
    let server = Server::start(Reply::Silence).await;
    let fetch = with_timeout(PATIENCE);
    let mut settings = settings("https://idp.example", KeySource::Url { url: server.url("/keys"), fetch });
    settings.startup.key_wait = Duration::from_millis(50);
    let begin = Instant::now();
    let world = World::start(settings).await;
    assert!(begin.elapsed() < PATIENCE / 2);
    assert_eq!(world.keys().keys, None);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let good = key("a");
    let target = Server::start(Reply::Body(set(&[&good]))).await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let head = format!("HTTP/1.1 {status}\r\nlocation: {}\r\nconnection: close", target.url("/keys"));
        let server = Server::start(Reply::Raw(head, Vec::new())).await;
        let world = World::of_url(server.url("/keys"), fetch()).await;
        assert!(world.keys().last_error.unwrap().contains("redirect"));
    }
    assert_eq!(target.requests(), []);
}

#[tokio::test]
async fn an_unchanged_set_is_not_sent_twice() {
    let good = key("a");
    let server = Server::start(Reply::Tagged("\"v1\"", set(&[&good]))).await;
    let world = World::of_url(server.url("/keys?v=1"), fetch()).await;
    let revision = world.handle.current().revision.clone();
    world.force.notify_one();
    let begin = Instant::now();
    while server.requests().len() < 2 {
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let tag = |tag: Option<&str>| ("/keys?v=1".to_owned(), tag.map(str::to_owned));
    assert_eq!(server.requests(), [tag(None), tag(Some("\"v1\""))]);
    server.now(Reply::Tagged("\"v2\"", set(&[&good, &key("b")])));
    world.force.notify_one();
    let health = world.until(|health| health.keys == Some(2)).await;
    assert_eq!(health.last_error, None, "the 304 was a success");
    assert_ne!(world.handle.current().revision, revision);
}

#[tokio::test]
async fn a_rotated_key_is_fetched_when_a_token_names_it_and_a_removed_one_ends() {
    let (old, new) = (key("old"), key("new"));
    let server = Server::start(Reply::Body(set(&[&old]))).await;
    let world = World::of_url(server.url("/keys"), fetch()).await;
    assert_eq!(world.verify(&new).unwrap_err().code(), "unknown_key");
    server.now(Reply::Body(set(&[&new])));
    assert!(world.handle.request_keys(&world.issuer, None, PATIENCE).await);
    world.verify(&new).unwrap();
    assert_eq!(world.verify(&old).unwrap_err().code(), "unknown_key");
    assert_eq!(world.keys().forced_refreshes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_for_a_new_key_make_one_fetch_and_all_get_it() {
    let (old, new) = (key("old"), key("new"));
    let server = Server::start(Reply::Body(set(&[&old]))).await;
    let world = World::of_url(server.url("/keys"), fetch()).await;
    server.now(Reply::Late(Duration::from_millis(100), set(&[&new])));
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let (handle, issuer) = (world.handle.clone(), world.issuer.clone());
            tokio::spawn(async move { handle.request_keys(&issuer, None, PATIENCE).await })
        })
        .collect();
    for asked in asking {
        assert!(asked.await.unwrap());
    }
    world.verify(&new).unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_key_ids_makes_one_fetch_per_cooldown_whatever_comes_of_it() {
    let down = Reply::Raw("HTTP/1.1 500 Internal Server Error\r\nconnection: close".to_owned(), Vec::new());
    let good = Reply::Body(set(&[&key("a")]));
    for (reply, flood) in [(good.clone(), good.clone()), (good, down)] {
        let server = Server::start(reply).await;
        let world = World::of_url(server.url("/keys"), fetch()).await;
        server.now(flood);
        let begin = Instant::now();
        while world.keys().suppressed_refreshes < 400 {
            assert!(begin.elapsed() < PATIENCE);
            // Right after the keys changed the answer is "look again", later it is "no".
            world.handle.request_keys(&world.issuer, None, PATIENCE).await;
        }
        assert!(!world.handle.request_keys(&world.issuer, None, PATIENCE).await);
        assert!(!world.handle.request_keys("https://nobody.example", None, PATIENCE).await);
        let health = world.keys();
        assert_eq!((health.forced_refreshes, health.keys), (1, Some(1)));
        // One at start, one forced, and after a failure those of the back-off, which begins at a second.
        assert!(server.requests().len() <= 4, "{:?}", server.requests());
    }
}

#[tokio::test]
async fn who_asks_for_a_key_waits_no_longer_than_its_patience() {
    let server = Server::start(Reply::Body(set(&[&key("a")]))).await;
    let fetch = with_timeout(PATIENCE);
    let world = World::of_url(server.url("/keys"), fetch).await;
    server.now(Reply::Silence);
    let begin = Instant::now();
    assert!(!world.handle.request_keys(&world.issuer, None, Duration::from_millis(50)).await);
    assert!(begin.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn stale_keys_serve_until_their_limit_and_then_the_issuer_has_none() {
    let good = key("a");
    let server = Server::start(Reply::Body(set(&[&good]))).await;
    let brief = FetchSettings { ttl: Duration::from_millis(200), max_stale: Duration::from_millis(1500), ..fetch() };
    let world = World::of_url(server.url("/keys"), brief).await;
    server.now(Reply::Raw("HTTP/1.1 500 No\r\nconnection: close".to_owned(), Vec::new()));
    world.until(|health| health.last_error.is_some()).await;
    world.verify(&good).expect("an error makes keys stale, not void");
    world.until(|health| health.keys == Some(0)).await;
    assert!(matches!(world.verify(&good).unwrap_err().fault(), Fault::Keys));
    server.now(Reply::Body(set(&[&good])));
    world.until(|health| health.keys == Some(1)).await;
    world.verify(&good).unwrap();
}

#[tokio::test]
async fn discovery_takes_keys_only_from_metadata_of_the_configured_issuer() {
    let good = key("a");
    let keys = Server::start(Reply::Body(set(&[&good]))).await;
    for path in ["", "/realms/a"] {
        let metadata = Server::start(Reply::Silence).await;
        let issuer = metadata.url(path);
        let of = |issuer: &str| Reply::Body(json!({ "issuer": issuer, "jwks_uri": keys.url("/k") }).to_string());
        metadata.now(of("https://other.example"));
        let world = World::start(settings(&issuer, KeySource::Discovery { url: None, fetch: fetch() })).await;
        assert!(world.keys().last_error.unwrap().contains("another issuer"));
        assert_eq!(metadata.requests()[0].0, format!("{path}/.well-known/openid-configuration"));
        let asked = keys.requests().len();
        metadata.now(of(&issuer));
        world.force.notify_one();
        world.until(|health| health.keys == Some(1)).await;
        world.verify(&good).unwrap();
        assert_eq!(keys.requests().len(), asked + 1);
    }
}

#[tokio::test]
async fn keys_over_plain_http_are_refused_unless_from_loopback_or_allowed() {
    let check = |source: KeySource, code: Option<&str>| {
        let issuer = "http://idp.example";
        let problems: Vec<Problem> = reload::load_once(&settings(issuer, source)).err().unwrap_or_default();
        let codes: Vec<&str> = problems.iter().map(|problem| problem.code.as_str()).collect();
        assert_eq!(codes, Vec::from_iter(code));
    };
    let allowing = |allow_http| {
        let http = fetch::Settings { allow_http, ..fetch::Settings::default() };
        FetchSettings { http, ..FetchSettings::default() }
    };
    let url = |url: &str, allow_http| KeySource::Url { url: url.to_owned(), fetch: allowing(allow_http) };
    let discovery = |allow_http| KeySource::Discovery { url: None, fetch: allowing(allow_http) };
    check(url("http://idp.example/keys", false), Some("key_url_not_https"));
    check(url("http://idp.example/keys", true), None);
    check(url("http://127.0.0.1:1/keys", false), None);
    check(url("https://idp.example/keys", false), None);
    check(discovery(false), Some("key_url_not_https"));
    check(discovery(true), None);
}

#[tokio::test]
async fn keys_outlive_changes_of_the_configuration_that_do_not_concern_them() {
    let good = key("a");
    let server = Server::start(Reply::Body(set(&[&good]))).await;
    let of = |path: &str, leeway: u64| {
        let source = KeySource::Url { url: server.url(path), fetch: fetch() };
        settings_with("https://idp.example", source, Duration::from_secs(leeway))
    };
    let written = Arc::new(Mutex::new(of("/keys", 30)));
    let file = tempfile::NamedTempFile::new().unwrap();
    let (path, read) = (file.path().to_owned(), Arc::clone(&written));
    let read = Box::new(move || Ok(read.lock().unwrap().clone()));
    let mut world = World::configured(of("/keys", 30), Some(Reconfigure { path, read })).await;
    server.now(Reply::Raw("HTTP/1.1 500 No\r\nconnection: close".to_owned(), Vec::new()));

    *written.lock().unwrap() = of("/keys", 60);
    world.force.notify_one();
    assert!(tokio::time::timeout(PATIENCE, world.handle.changed()).await.unwrap());
    world.verify(&good).expect("the issuer is down, but its keys are still its keys");

    *written.lock().unwrap() = of("/others", 60);
    world.force.notify_one();
    assert!(tokio::time::timeout(PATIENCE, world.handle.changed()).await.unwrap());
    assert!(matches!(world.verify(&good).unwrap_err().fault(), Fault::Keys), "these keys came from elsewhere");
}

#[tokio::test]
async fn keys_given_in_the_configuration_serve_at_once() {
    let good = key("a");
    let world = World::start(settings("https://idp.example", KeySource::Inline(set(&[&good])))).await;
    world.verify(&good).unwrap();
    assert_eq!(world.keys().keys, Some(1));
    assert!(!world.handle.request_keys(&world.issuer, None, PATIENCE).await, "there is nowhere to fetch others from");
}
