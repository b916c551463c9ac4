//! One issuer with a made-up transport and tokio's paused clock.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::advance};

use super::{issuer::Issuer, issuer::Question, issuer::Said, network::Transport};
use crate::{
    telemetry::IntrospectionCounts,
    token::{
        Algorithm, AnswerForm, Caller, ClientAuthentication, IntrospectionFault, IntrospectionRequest,
        IntrospectionSettings, IssuerProfile, KeyOrigin, KeySet, Limits, ProfileSettings, RawToken, Secret,
        SecretSource, SigningKey, TokenError,
    },
};

const ISSUER: &str = "https://idp.example";
const START: u64 = 1_790_000_000;

type Reply = Result<(AnswerForm, Vec<u8>), IntrospectionFault>;

/// Answers what it is told to, the last reply again and again.
#[derive(Debug)]
struct Fake {
    replies: Mutex<VecDeque<Reply>>,
    questions: AtomicUsize,
    /// How many may be answered.
    open: Semaphore,
}

impl Transport for Arc<Fake> {
    async fn ask(&self, form: IntrospectionRequest) -> Reply {
        let body = String::from_utf8(form.into_body()).unwrap();
        assert!(body.starts_with("token=") && body.ends_with("&token_type_hint=access_token"), "{body}");
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.open.acquire().await.unwrap().forget();
        let mut replies = self.replies.lock().unwrap();
        match replies.len() {
            0 => panic!("no reply is left"),
            1 => replies[0].clone(),
            _ => replies.pop_front().unwrap(),
        }
    }
}

struct Scene {
    fake: Arc<Fake>,
    issuer: Arc<Issuer<Arc<Fake>>>,
}

fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START)
}

fn json(changes: Value) -> Reply {
    let mut all = json!({"active": true, "aud": "folders", "sub": "alice", "token_type": "Bearer", "exp": START + 300});
    if let (Some(members), Value::Object(changes)) = (all.as_object_mut(), changes) {
        members.extend(changes);
    }
    Ok((AnswerForm::Json, all.to_string().into_bytes()))
}

fn inactive() -> Reply {
    Ok((AnswerForm::Json, br#"{"active": false}"#.to_vec()))
}

fn settings() -> IntrospectionSettings {
    IntrospectionSettings {
        client_id: "gate".to_owned(),
        authentication: ClientAuthentication::Basic(SecretSource::Text(Secret::new("s"))),
        opaque: true,
        concurrency: 4,
        ..IntrospectionSettings::default()
    }
}

impl Scene {
    fn new(replies: Vec<Reply>) -> Self {
        Self::with(settings(), replies, Semaphore::MAX_PERMITS)
    }

    fn with(introspection: IntrospectionSettings, replies: Vec<Reply>, open: usize) -> Self {
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: ISSUER.to_owned(),
            audiences: vec!["folders".to_owned()],
            algorithms: vec![Algorithm::ES256],
            introspection: Some(introspection),
            ..ProfileSettings::default()
        });
        let fake = Arc::new(Fake {
            replies: Mutex::new(replies.into()),
            questions: AtomicUsize::new(0),
            open: Semaphore::new(open),
        });
        let counts = IntrospectionCounts::unregistered(ISSUER);
        Self { issuer: Arc::new(Issuer::new(profile.unwrap(), Arc::clone(&fake), counts, wall)), fake }
    }

    async fn ask(&self, token: &str) -> Result<Said, TokenError> {
        self.ask_at(token, 0).await
    }

    async fn ask_at(&self, token: &str, seconds: u64) -> Result<Said, TokenError> {
        let now = UNIX_EPOCH + Duration::from_secs(START + seconds);
        self.issuer.ask(&RawToken::new(token), Limits::default(), Question::Opaque, None, now).await
    }

    /// `alice`, or the code of the refusal.
    async fn who(&self, token: &str) -> String {
        who(self.ask(token).await)
    }

    fn questions(&self) -> usize {
        self.fake.questions.load(Ordering::SeqCst)
    }
}

fn who(said: Result<Said, TokenError>) -> String {
    match said {
        Ok(Said::Caller(known)) => match known.caller() {
            Caller::Verified(claims) => claims.subject().unwrap().to_owned(),
            Caller::Anonymous => panic!("a token became nobody"),
        },
        Ok(Said::Confirmed) => "confirmed".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn an_active_answer_holds_for_its_time_and_no_longer() {
    let scene = Scene::new(vec![json(json!({})), inactive()]);
    for _ in 0..3 {
        assert_eq!(scene.who("opaque").await, "alice");
    }
    advance(Duration::from_millis(29_999)).await;
    assert_eq!(scene.who("opaque").await, "alice");
    assert_eq!(scene.questions(), 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(scene.who("opaque").await, "token_inactive", "revoked meanwhile");
    assert_eq!(scene.questions(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_never_outlives_the_token() {
    let scene = Scene::new(vec![json(json!({"exp": START + 10})), inactive()]);
    assert_eq!(scene.who("opaque").await, "alice");
    assert_eq!(who(scene.ask_at("opaque", 39).await), "alice", "the leeway counts here too");
    assert_eq!(who(scene.ask_at("opaque", 40).await), "token_inactive");
    assert_eq!(scene.questions(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_inactive_answer_holds_for_a_shorter_time() {
    let scene = Scene::new(vec![inactive(), json(json!({}))]);
    assert_eq!(scene.who("opaque").await, "token_inactive");
    advance(Duration::from_millis(4_999)).await;
    assert_eq!(scene.who("opaque").await, "token_inactive");
    assert_eq!(scene.questions(), 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(scene.who("opaque").await, "alice");
}

#[tokio::test(start_paused = true)]
async fn refusals_of_an_active_token_are_remembered_unless_time_mends_them() {
    for (changes, want, questions) in [
        (json!({"aud": "other"}), "audience_mismatch", 1),
        (json!({"iss": "https://other.example"}), "introspection_issuer_mismatch", 1),
        (json!({"nbf": START + 40}), "not_yet_valid", 2),
        (json!({"active": "true"}), "introspection_unavailable", 2),
    ] {
        let scene = Scene::new(vec![json(changes)]);
        for _ in 0..2 {
            assert_eq!(scene.who("opaque").await, want);
        }
        assert_eq!(scene.questions(), questions, "{want}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_time_to_live_every_request_is_a_question() {
    let none = IntrospectionSettings { cache_ttl: Duration::ZERO, inactive_ttl: Duration::ZERO, ..settings() };
    let scene = Scene::with(none, vec![json(json!({})), inactive(), json(json!({}))], Semaphore::MAX_PERMITS);
    for want in ["alice", "token_inactive", "alice"] {
        assert_eq!(scene.who("opaque").await, want);
    }
    assert_eq!((scene.questions(), scene.issuer.kept()), (3, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn made_up_tokens_push_out_no_active_answer() {
    let scene = Scene::new(vec![json(json!({})), inactive()]);
    assert_eq!(scene.who("good").await, "alice");
    for number in 0..12_000 {
        assert_eq!(scene.who(&format!("made-up-{number}")).await, "token_inactive");
    }
    assert_eq!(scene.who("good").await, "alice");
    assert_eq!(scene.questions(), 12_001);
    let (active, inactive) = scene.issuer.kept();
    assert!(active == 1 && inactive <= 10_000, "{active} {inactive}");
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_about_one_token_cause_one_question() {
    let scene = Arc::new(Scene::with(settings(), vec![json(json!({}))], 0));
    let askers: Vec<_> = (0..50)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.who("opaque").await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(scene.issuer.report().in_flight, 1);
    // The one who began it goes away.
    askers[0].abort();
    scene.fake.open.add_permits(1);
    for asker in askers.into_iter().skip(1) {
        assert_eq!(asker.await.unwrap(), "alice");
    }
    assert_eq!((scene.questions(), scene.issuer.report().in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn no_more_questions_are_under_way_than_the_limit() {
    let scene = Arc::new(Scene::with(settings(), vec![json(json!({}))], 0));
    let askers: Vec<_> = (0..4)
        .map(|number| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.who(&format!("t{number}")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(scene.who("t4").await, "introspection_unavailable");
    scene.fake.open.add_permits(5);
    for asker in askers {
        assert_eq!(asker.await.unwrap(), "alice");
    }
    assert_eq!(scene.who("t4").await, "alice");
    assert_eq!(scene.issuer.report().breaker, "closed", "to be busy is no failure of the endpoint");
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_given_a_rest_and_then_probed() {
    let down = || Err(IntrospectionFault::Unreachable("connection refused".to_owned()));
    let mut replies = vec![json(json!({}))];
    replies.extend((0..7).map(|_| down()));
    replies.push(json(json!({})));
    let scene = Scene::new(replies);
    assert_eq!(scene.who("good").await, "alice");
    for number in 0..5 {
        assert_eq!(scene.who(&format!("t{number}")).await, "introspection_unavailable");
    }
    let report = scene.issuer.report();
    assert_eq!((report.breaker, report.failures, report.last_failure), ("open", 5, Some("unreachable")));
    for number in 0..100 {
        assert_eq!(scene.who(&format!("u{number}")).await, "introspection_unavailable");
    }
    assert_eq!(scene.questions(), 6, "nothing is sent while it rests");
    assert_eq!(scene.who("good").await, "alice", "what was said still holds");

    advance(Duration::from_millis(1_250)).await;
    assert_eq!(scene.who("v").await, "introspection_unavailable");
    assert_eq!((scene.questions(), scene.issuer.report().breaker), (7, "open"));
    advance(Duration::from_millis(1_900)).await;
    assert_eq!(scene.who("v").await, "introspection_unavailable");
    assert_eq!(scene.questions(), 7, "the second rest is longer");
    advance(Duration::from_millis(600)).await;
    assert_eq!(scene.who("v").await, "introspection_unavailable");
    assert_eq!(scene.questions(), 8);
    advance(seconds(5)).await;
    assert_eq!(scene.who("v").await, "alice");
    let report = scene.issuer.report();
    assert_eq!((report.breaker, report.failures, report.last_failure), ("closed", 0, None));
    assert_eq!(scene.who("w").await, "alice");
}

#[tokio::test(start_paused = true)]
async fn what_one_token_can_bring_about_does_not_open_the_circuit() {
    for (fault, opens) in [
        (IntrospectionFault::Rejected(400), false),
        (IntrospectionFault::TooLarge(65_536), false),
        (IntrospectionFault::Malformed("has no `active`".to_owned()), false),
        (IntrospectionFault::Unauthorized(401), true),
        (IntrospectionFault::Status(302), true),
        (IntrospectionFault::Status(503), true),
        (IntrospectionFault::Timeout, true),
        (IntrospectionFault::ContentType("application/json"), true),
        (IntrospectionFault::Endpoint("unknown".to_owned()), true),
        (IntrospectionFault::Credentials("no file".to_owned()), true),
    ] {
        let scene = Scene::new(vec![Err(fault.clone())]);
        for number in 0..10 {
            assert_eq!(scene.who(&format!("t{number}")).await, "introspection_unavailable", "{fault}");
        }
        assert_eq!(scene.issuer.report().breaker == "open", opens, "{fault}");
        assert_eq!(scene.questions(), if opens { 5 } else { 10 }, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_token_is_never_sent() {
    let scene = Scene::new(Vec::new());
    for token in ["", "a b", "a&b", "a\r\n", "=", "\u{e9}"] {
        assert_eq!(scene.who(token).await, "forbidden_character", "{token:?}");
    }
    assert_eq!(scene.who(&"a".repeat(8_193)).await, "token_too_large");
    assert_eq!(scene.questions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_signed_answer_dies_with_the_keys_that_checked_it() {
    let signer = SigningKey::generate_es256("k").unwrap();
    let keys = || {
        let keys = KeySet::parse(signer.public_jwks().unwrap().as_bytes(), KeyOrigin::Remote, &[Algorithm::ES256]);
        Arc::new(keys.unwrap())
    };
    let Ok((_, inner)) = json(json!({})) else { panic!("an answer") };
    let inner: Value = serde_json::from_slice(&inner).unwrap();
    let claims = json!({"iss": ISSUER, "aud": "gate", "iat": START, "token_introspection": inner});
    let body = signer.sign("token-introspection+jwt", claims.as_object().unwrap()).unwrap();
    let signed = IntrospectionSettings { signed: true, ..settings() };
    let replies = vec![Ok((AnswerForm::Signed, body.into_bytes()))];
    let scene = Scene::with(signed, replies, Semaphore::MAX_PERMITS);
    let (old, new) = (keys(), keys());
    for (keys, questions) in [(&old, 1), (&old, 1), (&new, 2), (&new, 2)] {
        let (raw, keys) = (RawToken::new("opaque"), Some(Arc::clone(keys)));
        let said = scene.issuer.ask(&raw, Limits::default(), Question::Opaque, keys, wall()).await;
        assert_eq!(who(said), "alice");
        assert_eq!(scene.questions(), questions);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_opinion_is_remembered_like_any_answer() {
    let scene = Scene::new(vec![json(json!({})), json(json!({})), inactive()]);
    let Ok(Said::Caller(known)) = scene.ask("whoever").await else { panic!("active") };
    let Caller::Verified(claims) = known.caller() else { panic!("verified") };
    for (wait, want) in [(0, "confirmed"), (29, "confirmed"), (1, "token_inactive"), (4, "token_inactive")] {
        advance(seconds(wait)).await;
        let question = Question::Opinion(Arc::clone(claims));
        let said = scene.issuer.ask(&RawToken::new("a.b.c"), Limits::default(), question, None, wall()).await;
        assert_eq!(who(said), want, "{wait}");
    }
    assert_eq!(scene.questions(), 3);
}
