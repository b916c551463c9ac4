//! The life of status lists over a made-up network and by a made-up clock. What lists say is tested with `crate::token`.

use std::{collections::VecDeque, future::Future, io::Write as _, pin::Pin, sync::Mutex, time::UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::{Compression, write::ZlibEncoder};
use serde_json::json;

use super::{network::Answer, *};
use crate::{
    policy::{self, PolicySet},
    snapshot::{self, Anonymous, Health, Publisher, Snapshot},
    token::{Algorithm, IssuerProfile, KeyOrigin, KeyRing, ProfileSettings, Profiles, SigningKey, Status},
};

const ISSUER: &str = "https://idp.example";

/// What the network does with one request.
enum Reply {
    List(String),
    Failure,
    Silence,
}

/// Answers in order; the last answer again and again.
#[derive(Default)]
struct Made {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<String>>,
}

struct World {
    signer: SigningKey,
    source: Arc<Made>,
    lists: Arc<StatusLists>,
    publisher: Publisher,
    keys: Arc<KeySet>,
    _requests: tokio::sync::mpsc::Receiver<snapshot::KeyRequest>,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made")
    }
}

impl Source for Made {
    fn get(&self, url: fetch::Url) -> Pin<Box<dyn Future<Output = Result<Answer, FetchFault>> + Send + '_>> {
        self.requests.lock().unwrap().push(url.to_string());
        let mut replies = self.replies.lock().unwrap();
        let reply = match replies.pop_front() {
            Some(Reply::List(text)) => {
                if replies.is_empty() {
                    replies.push_back(Reply::List(text.clone()));
                }
                Some(Ok(Answer { text, max_age: None }))
            }
            Some(Reply::Silence) => {
                replies.push_front(Reply::Silence);
                None
            }
            Some(Reply::Failure) => {
                if replies.is_empty() {
                    replies.push_front(Reply::Failure);
                }
                Some(Err(FetchFault::Status(500)))
            }
            None => Some(Err(FetchFault::Status(404))),
        };
        Box::pin(async move {
            match reply {
                Some(reply) => reply,
                None => std::future::pending().await,
            }
        })
    }
}

// === impl World ===

impl World {
    fn new(settings: Settings) -> Self {
        let signer = SigningKey::generate_es256("k").unwrap();
        let keys = keys(&signer);
        let (publisher, handle, requests) = snapshot::channel(snapshot(Some(&keys)), Health::default());
        let source = Arc::new(Made::default());
        let asked: Arc<dyn Source> = Arc::<Made>::clone(&source);
        let lists = StatusLists::over(settings, handle, StatusListMetrics::default(), asked);
        Self { signer, source, lists, publisher, keys, _requests: requests }
    }

    fn will(&self, replies: impl IntoIterator<Item = Reply>) {
        *self.source.replies.lock().unwrap() = replies.into_iter().collect();
    }

    fn list(&self, number: usize, ttl: u64, packed: &[u8]) -> Reply {
        self.list_signed_by(&self.signer, number, ttl, packed)
    }

    fn list_signed_by(&self, signer: &SigningKey, number: usize, ttl: u64, packed: &[u8]) -> Reply {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(packed).unwrap();
        let lst = URL_SAFE_NO_PAD.encode(encoder.finish().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"sub": &*uri(number), "iat": now, "exp": now + 3600, "ttl": ttl,
            "status_list": {"bits": 1, "lst": lst}});
        Reply::List(signer.sign("statuslist+jwt", claims.as_object().unwrap()).unwrap())
    }

    /// The status of the first token of a list, if the list is at hand.
    fn status(&self, number: usize) -> Option<Status> {
        self.status_at(number, 0)
    }

    fn status_at(&self, number: usize, later: i64) -> Option<Status> {
        let now = UnixTime::from(SystemTime::now());
        let list = self.lists.list(ISSUER, &uri(number), &self.keys, UnixTime(now.0 + later));
        list.and_then(|list| list.at(0))
    }

    async fn fetch(&self, number: usize) -> bool {
        self.lists.fetch(ISSUER, &uri(number)).await
    }

    fn requests(&self) -> usize {
        self.source.requests.lock().unwrap().len()
    }
}

fn uri(number: usize) -> Arc<str> {
    format!("{ISSUER}/lists/{number}").into()
}

fn keys(signer: &SigningKey) -> Arc<KeySet> {
    let jwks = signer.public_jwks().unwrap();
    Arc::new(KeySet::parse(jwks.as_bytes(), KeyOrigin::Local, &[Algorithm::ES256]).unwrap())
}

fn snapshot(keys: Option<&Arc<KeySet>>) -> Snapshot {
    let profile = ProfileSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["folders".to_owned()],
        algorithms: vec![Algorithm::ES256],
        ..ProfileSettings::default()
    };
    let mut ring = KeyRing::default();
    if let Some(keys) = keys {
        ring.insert(ISSUER.to_owned(), Arc::clone(keys));
    }
    Snapshot {
        revision: String::new(),
        activated_at: UNIX_EPOCH,
        policies: Arc::new(PolicySet::load(Vec::new(), &policy::Settings::default()).unwrap()),
        entrypoint: None,
        profiles: Arc::new(Profiles::new(vec![IssuerProfile::new(profile).unwrap()]).unwrap()),
        keys: Arc::new(ring),
        subject: None,
        anonymous: Anonymous::Deny,
        revocations: Arc::default(),
    }
}

async fn later(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_is_asked_for_once_however_many_wait_for_it() {
    let world = World::new(Settings::default());
    world.will([world.list(1, 60, &[0b10])]);
    assert_eq!(world.status(1), None);
    assert_eq!(world.requests(), 0, "looking asks nobody");
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let lists = Arc::clone(&world.lists);
        all.spawn(async move { lists.fetch(ISSUER, &uri(1)).await });
    }
    assert!(all.join_all().await.into_iter().all(|looked_again| looked_again));
    assert_eq!((world.status(1), world.requests()), (Some(Status::Valid), 1));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_used_is_renewed_before_it_grows_old() {
    let world = World::new(Settings::default());
    world.will([world.list(1, 100, &[0]), world.list(1, 100, &[1])]);
    assert!(world.fetch(1).await);
    later(70).await;
    assert_eq!((world.status(1), world.requests()), (Some(Status::Valid), 1), "not due yet");
    later(25).await;
    assert_eq!(world.status(1), Some(Status::Valid), "the old one, while the new one comes");
    later(1).await;
    assert_eq!((world.status(1), world.requests()), (Some(Status::Invalid), 2));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_nobody_used_is_asked_for_before_it_is_believed_again() {
    let world = World::new(Settings::default());
    world.will([world.list(1, 100, &[0]), world.list(1, 100, &[1])]);
    assert!(world.fetch(1).await);
    later(101).await;
    assert_eq!(world.status(1), None);
    assert!(world.fetch(1).await);
    assert_eq!((world.status(1), world.requests()), (Some(Status::Invalid), 2));
}

#[tokio::test(start_paused = true)]
async fn an_old_list_is_used_while_new_ones_cannot_be_had_and_no_longer_than_that() {
    let world = World::new(Settings::default());
    world.will([world.list(1, 100, &[0]), Reply::Failure]);
    assert!(world.fetch(1).await);
    later(101).await;
    assert_eq!(world.status(1), None, "a new one was not tried yet");
    world.fetch(1).await;
    for _ in 0..50 {
        assert_eq!(world.status(1), Some(Status::Valid));
        later(11).await;
    }
    later(60).await;
    assert_eq!(world.status(1), None, "ttl and max_stale have passed");
    assert!(world.requests() < 30, "{} requests in eleven minutes", world.requests());
    assert_eq!(world.lists.report()[0].last_failure, Some("fetch_status"));
}

#[tokio::test(start_paused = true)]
async fn no_list_is_used_beyond_its_exp() {
    let world = World::new(Settings::default());
    world.will([world.list(1, 100, &[0])]);
    assert!(world.fetch(1).await);
    // `exp` is an hour away, and the leeway 30 s.
    assert_eq!(world.status_at(1, 3620), Some(Status::Valid));
    assert_eq!(world.status_at(1, 3640), None);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_had_is_asked_for_ever_more_seldom() {
    let world = World::new(Settings::default());
    world.will([Reply::Failure]);
    for _ in 0..600 {
        world.fetch(1).await;
        assert_eq!(world.status(1), None);
        later(1).await;
    }
    assert!((5..25).contains(&world.requests()), "{} requests in ten minutes", world.requests());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_holds_a_request_for_the_patience_only() {
    let world = World::new(Settings::default());
    world.will([world.list(1, 100, &[0]), Reply::Silence]);
    assert!(world.fetch(1).await);
    later(101).await;
    let began = Instant::now();
    assert!(world.fetch(1).await);
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(world.status(1), Some(Status::Valid), "the old one, while the server is slow");
    world.fetch(2).await;
    assert_eq!(world.status(2), None, "nothing, where there is no old one");
}

#[tokio::test(start_paused = true)]
async fn a_list_ends_with_the_key_that_signed_it() {
    let mut world = World::new(Settings::default());
    world.will([world.list(1, 100, &[0])]);
    assert!(world.fetch(1).await);
    assert_eq!(world.status(1), Some(Status::Valid));
    let fresh = SigningKey::generate_es256("k2").unwrap();
    world.keys = keys(&fresh);
    world.publisher.publish(snapshot(Some(&world.keys)));
    assert_eq!(world.status(1), None);
    world.will([world.list_signed_by(&fresh, 1, 100, &[1])]);
    assert!(world.fetch(1).await);
    assert_eq!(world.status(1), Some(Status::Invalid));
}

#[tokio::test(start_paused = true)]
async fn a_forged_list_is_no_list() {
    let world = World::new(Settings::default());
    let stranger = SigningKey::generate_es256("k").unwrap();
    world.will([world.list_signed_by(&stranger, 1, 100, &[0])]);
    world.fetch(1).await;
    assert_eq!(world.status(1), None);
    assert_eq!(world.lists.report()[0].last_failure, Some("bad_signature"));
    // A list of another URL is none either.
    let world = World::new(Settings::default());
    world.will([world.list(2, 100, &[0])]);
    world.fetch(1).await;
    assert_eq!(world.lists.report()[0].last_failure, Some("status_list_of_other_url"));
}

#[tokio::test(start_paused = true)]
async fn the_list_that_was_not_used_for_longest_makes_room() {
    let held = |world: &World| -> Vec<usize> { (1..5).filter(|number| world.status(*number).is_some()).collect() };
    for (settings, want) in [
        (Settings { lists: 2, ..Settings::default() }, vec![1, 3]),
        (Settings { bytes: 250, ..Settings::default() }, vec![1, 3]),
        (Settings { bytes: 99, ..Settings::default() }, vec![]),
        (Settings { list_bytes: 99, ..Settings::default() }, vec![]),
    ] {
        let world = World::new(settings.clone());
        for number in [1, 2, 3] {
            world.will([world.list(number, 100, &[0; 100])]);
            world.fetch(number).await;
            world.status(1);
        }
        assert_eq!(held(&world), want, "{settings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_issuer_says_about_time_is_kept_within_bounds() {
    for (ttl, fresh, old) in [(1, 9, 11), (60, 59, 61), (10_000_000, 3500, 3700)] {
        let world = World::new(Settings::default());
        world.will([world.list(1, ttl, &[0])]);
        assert!(world.fetch(1).await);
        world.will([Reply::Silence]);
        later(fresh).await;
        assert!(world.status(1).is_some(), "{ttl}");
        later(old - fresh).await;
        assert!(world.status(1).is_none(), "{ttl}");
    }
}
