//! The life of one issuer's keys over a made-up network and a made-up clock. What really goes over the wire is tested
//! in `tests/it/jwks.rs`.

mod discovery;
mod unknown;

use std::{
    path::Path,
    sync::{Mutex, MutexGuard},
};

use super::{super::network::Get, *};
use crate::{
    fetch,
    token::{Algorithm, ProfileSettings, SigningKey},
};

const ISSUER: &str = "https://idp.example";
const KEYS_URL: &str = "https://idp.example/keys";
const METADATA_URL: &str = "https://idp.example/.well-known/openid-configuration";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DOWN: FetchError = FetchError::Http(fetch::Error::Timeout);

/// A network of one handler; every request takes a second.
struct Fake {
    begin: Instant,
    handler: Mutex<Box<Handler>>,
    log: Mutex<Vec<(Duration, Get)>>,
}

type Handler = dyn FnMut(&Get) -> Result<Answer, FetchError> + Send;

impl Transport for Fake {
    async fn get(&self, get: Get) -> Result<Answer, FetchError> {
        lock(&self.log).push((self.begin.elapsed(), get.clone()));
        tokio::time::sleep(SECOND).await;
        (lock(&self.handler))(&get)
    }

    async fn look(&self) {}
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// A task and both ends of it.
struct Rig {
    network: Arc<Fake>,
    commands: mpsc::Sender<Command>,
    updates: mpsc::Receiver<Update>,
}

impl Rig {
    fn new(handler: impl FnMut(&Get) -> Result<Answer, FetchError> + Send + 'static) -> Self {
        let source = KeySource::Url { url: KEYS_URL.to_owned(), fetch: FetchSettings::default() };
        Self::with(source, FetchSettings::default(), handler)
    }

    fn with(
        source: KeySource,
        settings: FetchSettings,
        handler: impl FnMut(&Get) -> Result<Answer, FetchError> + Send + 'static,
    ) -> Self {
        Self::build(None, source, settings, Box::new(handler))
    }

    /// With keys kept in this directory.
    fn kept(directory: &Path, source: KeySource, settings: FetchSettings, handler: Box<Handler>) -> Self {
        Self::build(Some(directory), source, settings, handler)
    }

    fn build(directory: Option<&Path>, source: KeySource, settings: FetchSettings, handler: Box<Handler>) -> Self {
        let network =
            Arc::new(Fake { begin: Instant::now(), handler: Mutex::new(handler), log: Mutex::new(Vec::new()) });
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: ISSUER.to_owned(),
            audiences: vec!["app".to_owned()],
            algorithms: vec![Algorithm::ES256],
            key_origin: KeyOrigin::Remote,
            ..ProfileSettings::default()
        });
        let (commands, from_publisher) = mpsc::channel(4096);
        let (to_publisher, updates) = mpsc::channel(64);
        let transport = Arc::clone(&network);
        let mut issuer = Issuer::new(profile.unwrap(), source, settings, 0, transport, from_publisher, to_publisher);
        if let Some(directory) = directory {
            issuer.keeper = Some(Keeper::new(Some(directory.to_owned()), &issuer.profile, &issuer.source));
        }
        tokio::spawn(async move {
            issuer.recall().await;
            issuer.run().await;
        });
        Self { network, commands, updates }
    }

    fn answer(&self, handler: impl FnMut(&Get) -> Result<Answer, FetchError> + Send + 'static) {
        *lock(&self.network.handler) = Box::new(handler);
    }

    /// The next thing the task says, however long that takes on the made-up clock.
    async fn next(&mut self) -> Update {
        let next = tokio::time::timeout(HOUR * 24 * 365, self.updates.recv()).await;
        next.expect("the task says something").expect("the task runs")
    }

    /// Things said within `time`.
    async fn during(&mut self, time: Duration) -> Vec<Update> {
        let end = Instant::now() + time;
        let mut updates = Vec::new();
        while let Ok(update) = tokio::time::timeout_at(end, self.updates.recv()).await {
            updates.push(update.expect("the task runs"));
        }
        updates
    }

    async fn want(&self) -> oneshot::Receiver<bool> {
        self.want_key(None).await
    }

    async fn want_key(&self, key_id: Option<&str>) -> oneshot::Receiver<bool> {
        let (done, answer) = oneshot::channel();
        let wanted = key_id.map(WantedKey::named);
        self.commands.send(Command::Want(Waiter { done, wanted })).await.unwrap();
        answer
    }

    /// When requests began, since the task did.
    fn times(&self) -> Vec<Duration> {
        lock(&self.network.log).iter().map(|(at, _)| *at).collect()
    }

    fn asked(&self) -> Vec<(String, Option<String>)> {
        lock(&self.network.log).iter().map(|(_, get)| (get.url.to_string(), get.etag.clone())).collect()
    }
}

/// A set with these key ids; the keys themselves are new ones.
fn key_set(kids: &[&str]) -> Vec<u8> {
    let keys = kids.iter().map(|kid| {
        let set: serde_json::Value =
            serde_json::from_str(&SigningKey::generate_es256(kid).unwrap().public_jwks().unwrap()).unwrap();
        set["keys"][0].clone()
    });
    serde_json::json!({ "keys": keys.collect::<Vec<_>>() }).to_string().into_bytes()
}

fn body(bytes: &[u8]) -> Answer {
    Answer::Body { bytes: bytes.to_vec(), etag: None, max_age: None }
}

fn always(answer: Answer) -> impl FnMut(&Get) -> Result<Answer, FetchError> + Send + 'static {
    move |_| Ok(answer.clone())
}

fn is_down(_: &Get) -> Result<Answer, FetchError> {
    Err(DOWN)
}

#[track_caller]
fn keys_of(change: &KeyChange) -> usize {
    match change {
        KeyChange::New(keys) => keys.len(),
        other => panic!("no new keys: {other:?}"),
    }
}

#[track_caller]
fn assert_between(value: Duration, least: Duration, most: Duration) {
    assert!(least <= value && value <= most, "{value:?} is not in {least:?}..{most:?}");
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_before_they_stop_being_fresh_and_servers_cannot_ask_for_extremes() {
    for (max_age, ttl) in [
        (None, FetchSettings::default().ttl),
        (Some(Duration::ZERO), MINUTE),
        (Some(10 * MINUTE), 10 * MINUTE),
        (Some(1000 * HOUR), HOUR),
    ] {
        let mut rig = Rig::new(always(Answer::Body { bytes: key_set(&["a"]), etag: None, max_age }));
        assert_eq!(keys_of(&rig.next().await.change), 1);
        let same = rig.next().await;
        assert!(matches!(same.change, KeyChange::Same) && same.is_attempt, "{same:?}");
        let times = rig.times();
        assert_eq!(times[0], Duration::ZERO);
        assert_between(times[1] - SECOND, ttl.mul_f64(0.75), ttl.mul_f64(0.85));
    }
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_keep_the_keys_and_are_cleared_by_a_success() {
    let mut rig = Rig::new(always(body(&key_set(&["a"]))));
    rig.next().await;
    rig.answer(is_down);
    let begin = rig.times().len();
    let mut last = None;
    while rig.times().len() < begin + 14 {
        let update = rig.next().await;
        assert!(matches!(update.change, KeyChange::Same), "{update:?}");
        assert_eq!(update.health.keys, Some(1));
        assert_eq!(update.health.last_error, Some(DOWN.to_string()));
        last = Some(update);
    }
    assert!(last.is_some());
    let times = rig.times();
    for (n, pair) in times[begin..].windows(2).enumerate() {
        let wait = (SECOND * (1 << n.min(20))).min(5 * MINUTE);
        assert_between(pair[1] - pair[0] - SECOND, wait.mul_f64(0.75), wait.mul_f64(1.25));
    }
    rig.answer(always(body(&key_set(&["b"]))));
    let mended = rig.next().await;
    assert_eq!(keys_of(&mended.change), 1);
    assert_eq!(mended.health.last_error, None);
}

#[tokio::test(start_paused = true)]
async fn keys_end_when_none_can_be_had_for_too_long_and_come_back() {
    let settings = FetchSettings { ttl: 5 * MINUTE, max_stale: HOUR, ..FetchSettings::default() };
    let source = KeySource::Url { url: KEYS_URL.to_owned(), fetch: settings.clone() };
    let mut rig = Rig::with(source, settings, always(body(&key_set(&["a"]))));
    rig.next().await;
    rig.answer(is_down);
    let gone = loop {
        let update = rig.next().await;
        if !matches!(update.change, KeyChange::Same) {
            break update;
        }
    };
    assert!(matches!(gone.change, KeyChange::Gone), "{gone:?}");
    assert_eq!(gone.health.keys, Some(0));
    assert_eq!(rig.network.begin.elapsed(), SECOND + 5 * MINUTE + HOUR);
    rig.answer(always(body(&key_set(&["a"]))));
    let back = rig.next().await;
    assert_eq!(keys_of(&back.change), 1);
    assert_eq!(back.health.keys, Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_unmodified_answer_keeps_the_keys_and_the_tag_is_sent() {
    let tagged = Answer::Body { bytes: key_set(&["a"]), etag: Some("\"1\"".to_owned()), max_age: None };
    let mut rig = Rig::new(always(tagged));
    rig.next().await;
    rig.answer(always(Answer::NotModified { max_age: Some(HOUR) }));
    let same = rig.next().await;
    assert!(matches!(same.change, KeyChange::Same));
    assert_eq!((same.health.keys, same.health.last_error), (Some(1), None));
    let tags: Vec<Option<String>> = rig.asked().into_iter().map(|(_, tag)| tag).collect();
    assert_eq!(tags, [None, Some("\"1\"".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_unmodified_answer_to_keys_that_ended_meanwhile_is_a_failure() {
    let settings = FetchSettings { ttl: MINUTE, max_stale: Duration::ZERO, ..FetchSettings::default() };
    let source = KeySource::Url { url: KEYS_URL.to_owned(), fetch: settings.clone() };
    let tagged = Answer::Body { bytes: key_set(&["a"]), etag: Some("\"1\"".to_owned()), max_age: None };
    let mut rig = Rig::with(source, settings, always(tagged));
    rig.next().await;
    let end = rig.network.begin + SECOND + MINUTE;
    rig.answer(move |_| if Instant::now() < end { Err(DOWN) } else { Ok(Answer::NotModified { max_age: None }) });
    tokio::time::sleep_until(end - SECOND / 2).await;
    rig.commands.send(Command::Refresh).await.unwrap();
    let mut updates = rig.during(SECOND).await;
    // Should a refresh by schedule have come between, this one is the answer after the end.
    rig.commands.send(Command::Refresh).await.unwrap();
    updates.extend(rig.during(SECOND * 3).await);
    assert!(updates.iter().any(|update| matches!(update.change, KeyChange::Gone)), "{updates:?}");
    let last = updates.last().unwrap();
    assert_eq!((last.health.keys, &last.health.last_error), (Some(0), &Some(FetchError::StrayNotModified.to_string())));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_issuer_removed_is_gone_at_once() {
    let both = key_set(&["a", "b"]);
    let mut rig = Rig::new(always(body(&both)));
    assert_eq!(keys_of(&rig.next().await.change), 2);
    let mut set: serde_json::Value = serde_json::from_slice(&both).unwrap();
    set["keys"].as_array_mut().unwrap().remove(0);
    rig.answer(always(body(set.to_string().as_bytes())));
    assert_eq!(keys_of(&rig.next().await.change), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_usable_keys_replaces_nothing() {
    let bad: [&[u8]; 5] = [
        b"",
        b"<html>down for maintenance</html>",
        br#"{"keys":[]}"#,
        br#"{"error":"x"}"#,
        br#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
    ];
    for bytes in bad {
        let mut rig = Rig::new(always(body(&key_set(&["a"]))));
        rig.next().await;
        rig.answer(always(body(bytes)));
        let update = rig.next().await;
        assert!(matches!(update.change, KeyChange::Same), "{update:?}");
        assert_eq!(update.health.keys, Some(1));
        assert!(update.health.last_error.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn unusable_keys_are_counted_by_reason_beside_the_usable_ones() {
    let mut set: serde_json::Value = serde_json::from_slice(&key_set(&["a"])).unwrap();
    set["keys"].as_array_mut().unwrap().push(serde_json::json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "s" }));
    let mut rig = Rig::new(always(body(set.to_string().as_bytes())));
    let update = rig.next().await;
    assert_eq!(keys_of(&update.change), 1);
    assert_eq!(update.health.dropped.values().sum::<usize>(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_refresh_at_any_time() {
    let mut rig = Rig::new(is_down);
    for _ in 0..10 {
        rig.next().await;
    }
    rig.answer(always(body(&key_set(&["a"]))));
    rig.commands.send(Command::Refresh).await.unwrap();
    let before = rig.network.begin.elapsed();
    assert_eq!(keys_of(&rig.next().await.change), 1);
    assert_eq!(rig.network.begin.elapsed() - before, SECOND, "no back-off stands in the way");
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_kept_serve_for_what_is_left_of_their_time() {
    let home = tempfile::tempdir().unwrap();
    let settings = FetchSettings { max_stale: HOUR, ..FetchSettings::default() };
    let source = KeySource::Url { url: KEYS_URL.to_owned(), fetch: settings.clone() };
    let rig = |handler: Box<Handler>| Rig::kept(home.path(), source.clone(), settings.clone(), handler);
    let keys = key_set(&["a"]);
    let served = keys.clone();
    let mut first = rig(Box::new(move |_| Ok(body(&served))));
    let update = first.next().await;
    assert_eq!((update.health.source, update.health.generation), (Some(KeysFrom::Network), 1));
    let kept = || std::fs::read_dir(home.path()).unwrap().filter_map(Result::ok).map(|entry| entry.path()).next();
    // The clock is made up, the disk is not.
    while kept().is_none_or(|path| path.extension().is_none_or(|extension| extension != "json")) {
        tokio::task::spawn_blocking(|| std::thread::park_timeout(Duration::from_millis(1))).await.unwrap();
    }
    drop(first);

    let mut second = rig(Box::new(is_down));
    let update = second.next().await;
    assert_eq!(keys_of(&update.change), 1);
    assert_eq!((update.health.source, update.is_attempt), (Some(KeysFrom::Disk), false));
    let begin = Instant::now();
    let gone = loop {
        let update = second.next().await;
        if !matches!(update.change, KeyChange::Same) {
            break update;
        }
        assert_eq!(update.health.source, Some(KeysFrom::Disk));
    };
    assert!(matches!(gone.change, KeyChange::Gone), "{gone:?}");
    assert_eq!((gone.health.source, gone.health.keys), (None, Some(0)));
    assert_between(begin.elapsed(), HOUR - MINUTE, HOUR);

    let mut third = rig(Box::new(move |_| Ok(body(&keys))));
    assert_eq!(third.next().await.health.source, Some(KeysFrom::Disk));
    let update = third.next().await;
    assert!(matches!(update.change, KeyChange::Same), "the same keys are no change");
    assert_eq!(update.health.source, Some(KeysFrom::Network));
}
