//! The life of one issuer's keys over a made-up network and a made-up clock. What really goes over the wire is tested
//! in `tests/it/jwks.rs`.

use std::sync::{Mutex, MutexGuard};

use super::{super::network::Get, *};
use crate::token::{Algorithm, ProfileSettings, SigningKey};

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
        let network = Arc::new(Fake {
            begin: Instant::now(),
            handler: Mutex::new(Box::new(handler)),
            log: Mutex::new(Vec::new()),
        });
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: ISSUER.to_owned(),
            audiences: vec!["app".to_owned()],
            algorithms: vec![Algorithm::ES256],
            key_origin: KeyOrigin::Remote,
            ..ProfileSettings::default()
        });
        let (commands, from_publisher) = mpsc::channel(4096);
        let (to_publisher, updates) = mpsc::channel(64);
        let transport = Some(Arc::clone(&network));
        let issuer = Issuer::new(profile.unwrap(), source, settings, 0, transport, from_publisher, to_publisher);
        tokio::spawn(issuer.run());
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
        let (waiter, answer) = oneshot::channel();
        self.commands.send(Command::Want(waiter)).await.unwrap();
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
async fn a_flood_of_unknown_key_ids_costs_one_fetch_per_cooldown_whatever_comes_of_it() {
    let cooldown = FetchSettings::default().unknown_kid_cooldown;
    let good = key_set(&["a"]);
    let empty = br#"{"keys":[]}"#.to_vec();
    for answer in [Ok(body(&good)), Ok(body(&empty)), Ok(body(b"<html>")), Err(DOWN)] {
        let mut rig = Rig::new(move |_| answer.clone());
        rig.next().await;
        rig.during(2 * MINUTE).await;
        let mut forced = 0;
        let mut suppressed = 0;
        let begin = Instant::now();
        while begin.elapsed() < cooldown + SECOND {
            let _unheard = rig.want().await;
            for update in rig.during(SECOND / 10).await {
                (forced, suppressed) = (update.health.forced_refreshes, update.health.suppressed_refreshes);
            }
        }
        assert!((1..=2).contains(&forced), "{forced} forced fetches in one cooldown and a second");
        assert!(suppressed > 200, "{suppressed} were suppressed");
    }
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_for_a_key_shares_one_fetch() {
    let mut rig = Rig::new(always(body(&key_set(&["a"]))));
    rig.next().await;
    rig.answer(always(body(&key_set(&["b"]))));
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(rig.want().await);
    }
    let update = rig.next().await;
    assert_eq!(keys_of(&update.change), 1);
    assert_eq!(update.waiters.len(), 100);
    assert_eq!(rig.times().len(), 2);
    for waiter in update.waiters {
        waiter.send(true).unwrap();
    }
    for answer in answers {
        assert!(answer.await.unwrap());
    }
    assert!(rig.want().await.await.unwrap(), "who asks right after the change took an old snapshot");
    tokio::time::sleep(JUST_CHANGED).await;
    assert!(!rig.want().await.await.unwrap(), "who asks later has seen the keys that there are");
}

#[tokio::test(start_paused = true)]
async fn no_more_waiters_are_kept_than_a_bound() {
    let mut rig = Rig::new(always(body(&key_set(&["a"]))));
    rig.next().await;
    let mut answers = Vec::new();
    for _ in 0..MAX_WAITERS + 10 {
        answers.push(rig.want().await);
    }
    assert_eq!(rig.next().await.waiters.len(), MAX_WAITERS);
    assert!(answers.pop().unwrap().await.is_err(), "the last ones are answered at once");
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
async fn metadata_is_believed_for_its_own_time_and_asked_again_when_the_keys_have_moved() {
    let keys = body(&key_set(&["a"]));
    let handler = move |get: &Get| {
        if get.url.as_str() != METADATA_URL {
            return Ok(keys.clone());
        }
        let document = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{KEYS_URL}"}}"#);
        Ok(Answer::Body { bytes: document.into_bytes(), etag: None, max_age: Some(HOUR) })
    };
    let source = KeySource::Discovery { url: None, fetch: FetchSettings::default() };
    let mut rig = Rig::with(source, FetchSettings::default(), handler);
    assert_eq!(keys_of(&rig.next().await.change), 1);
    rig.next().await;
    let urls = |rig: &Rig| rig.asked().into_iter().map(|(url, _)| url).collect::<Vec<_>>();
    assert_eq!(urls(&rig), [METADATA_URL, KEYS_URL, KEYS_URL]);

    let moved = "https://idp.example/new";
    let keys = body(&key_set(&["b"]));
    rig.answer(move |get| match get.url.as_str() {
        METADATA_URL => Ok(body(format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{moved}"}}"#).as_bytes())),
        KEYS_URL => Err(FetchError::Status { status: 404 }),
        _ => Ok(keys.clone()),
    });
    let failed = rig.next().await;
    assert!(failed.health.last_error.unwrap().contains("404"));
    assert_eq!(keys_of(&rig.next().await.change), 1);
    assert_eq!(urls(&rig)[3..], [KEYS_URL, METADATA_URL, moved]);
}
