//! Token status lists, end to end: a token that names a list passes while the list says so, and the list is fetched, held,
//! renewed and missed.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use flate2::{Compression, write::ZlibEncoder};
use serde_json::json;

use crate::support::{
    eventually,
    http::Answer,
    setup::{Server, Setup},
    tokens::{Issuer, now},
};

const POLICY: &str = "package authz\nallow if input.token.subject\n";

/// A server that has one list at every path, or none.
struct Lists {
    origin: String,
    body: Arc<Mutex<Option<String>>>,
    requests: Arc<AtomicUsize>,
}

impl Lists {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (body, requests) = (Arc::<Mutex<Option<String>>>::default(), Arc::<AtomicUsize>::default());
        let (answers, counter) = (Arc::clone(&body), Arc::clone(&requests));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
                counter.fetch_add(1, Ordering::SeqCst);
                let answer = match answers.lock().unwrap().as_deref() {
                    Some(body) => format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/statuslist+jwt\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    ),
                    None => "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                // A client that goes away is no concern of a server.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { origin, body, requests }
    }

    fn uri(&self) -> String {
        format!("{}/lists/1", self.origin)
    }

    /// Serves these statuses of two bits each, signed by `issuer`.
    fn say(&self, issuer: &Issuer, packed: &[u8]) {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(packed).unwrap();
        let lst = URL_SAFE_NO_PAD.encode(encoder.finish().unwrap());
        let claims = json!({"iss": null, "aud": null, "sub": self.uri(), "ttl": 1, "exp": now() + 600,
            "status_list": {"bits": 2, "lst": lst}});
        *self.body.lock().unwrap() = Some(issuer.signed("statuslist+jwt", claims));
    }

    fn fail(&self) {
        *self.body.lock().unwrap() = None;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(issuer: &Issuer, lists: &Lists, use_of_lists: &str) -> Server {
    let config = format!(
        "{}    status_lists: {{origins: ['{}']{use_of_lists}}}\npolicy: {{bundles: [policy]}}\n",
        issuer.section(),
        lists.origin
    );
    let setup = Setup::new(&config).file("policy/p.rego", POLICY);
    // Shorter than any user can set them.
    let tweak = setup.tweak(|settings| {
        let lifetimes = &mut settings.serve.status_lists.lifetimes;
        lifetimes.ttl_range.0 = Duration::from_millis(200);
        lifetimes.max_stale = Duration::from_secs(2);
    });
    tweak.serve()
}

fn ask(server: &Server, token: &str) -> Answer {
    let fields = [("authorization", &*format!("Bearer {token}"))];
    server.post("/v1/data/authz/allow", &fields, "{}")
}

fn token(issuer: &Issuer, lists: &Lists, index: u64) -> String {
    issuer.token_with(json!({"status": {"status_list": {"idx": index, "uri": lists.uri()}}}))
}

fn refusals(server: &Server, reason: &str) -> f64 {
    server.metric("claimgate_token_verification_failures_total", &[&format!("reason=\"{reason}\"")])
}

#[test]
fn a_token_passes_while_its_list_says_so() {
    let (issuer, lists) = (Issuer::new(), Lists::start());
    let server = serve(&issuer, &lists, "");
    // From the lowest bits up: valid, invalid, suspended, application specific.
    lists.say(&issuer, &[0b11_10_01_00]);
    let tokens: Vec<String> = (0..5).map(|index| token(&issuer, &lists, index)).collect();
    for _ in 0..2 {
        let statuses: Vec<u16> = tokens.iter().map(|token| ask(&server, token).status).collect();
        assert_eq!(statuses, [200, 401, 401, 401, 401]);
    }
    for reason in ["status_invalid", "status_suspended", "status_unknown", "status_outside_of_list"] {
        assert_eq!(refusals(&server, reason), 2.0, "{reason}");
    }
    assert_eq!(ask(&server, &tokens[1]).json()["code"], "invalid_token");
    // A token without a status asks for no list.
    let before = lists.requests();
    assert_eq!(ask(&server, &issuer.token("bob")).status, 200);
    assert_eq!(lists.requests(), before);
}

#[test]
fn a_status_that_changes_ends_the_token_within_the_lists_ttl_and_can_give_it_back() {
    let (issuer, lists) = (Issuer::new(), Lists::start());
    let server = serve(&issuer, &lists, "");
    let token = token(&issuer, &lists, 0);
    for (packed, want) in [(0, 200), (2, 401), (0, 200)] {
        lists.say(&issuer, &[packed]);
        eventually("the list is renewed", || (ask(&server, &token).status == want).then_some(()));
    }
    assert!(server.metric("claimgate_status_list_fetches_total", &["result=\"ok\""]) >= 3.0);
}

#[test]
fn without_a_list_its_tokens_do_not_pass_and_an_old_list_serves_for_a_while() {
    let (issuer, lists) = (Issuer::new(), Lists::start());
    let server = serve(&issuer, &lists, "");
    let named = token(&issuer, &lists, 0);
    let answer = ask(&server, &named);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{answer:?}");
    assert_eq!(answer.json()["code"], "temporarily_unavailable");
    assert_eq!(refusals(&server, "status_list_unavailable"), 1.0);
    assert_eq!(lists.requests(), 1);
    lists.say(&issuer, &[0]);
    eventually("the list is there", || (ask(&server, &named).status == 200).then_some(()));
    let shown = server.admin("/v1/status").json()["result"]["status_lists"][0].clone();
    assert_eq!((&shown["uri"], &shown["bytes"]), (&json!(lists.uri()), &json!(1)), "{shown}");
    lists.fail();
    eventually("a renewal fails", || {
        assert_eq!(ask(&server, &named).status, 200, "the old list serves");
        (server.metric("claimgate_status_list_fetches_total", &["result=\"fetch_status\""]) >= 2.0).then_some(())
    });
    eventually("the old list is too old", || (ask(&server, &named).status == 503).then_some(()));
    // Others are not concerned.
    assert_eq!(ask(&server, &issuer.token("bob")).status, 200);
}

#[test]
fn nobody_is_asked_because_of_a_token_that_did_not_verify() {
    let (issuer, lists) = (Issuer::new(), Lists::start());
    lists.say(&issuer, &[0]);
    let server = serve(&issuer, &lists, "");
    let evil = Lists::start();
    for bad in [
        token(&Issuer::new(), &lists, 0),
        token(&issuer, &evil, 0),
        issuer.token_with(json!({"exp": 1, "status": {"status_list": {"idx": 0, "uri": lists.uri()}}})),
        issuer.token_with(json!({"aud": "x", "status": {"status_list": {"idx": 0, "uri": lists.uri()}}})),
    ]
    .into_iter()
    {
        assert_eq!(ask(&server, &bad).status, 401);
    }
    assert_eq!((lists.requests(), evil.requests()), (0, 0));
    assert_eq!(refusals(&server, "status_list_elsewhere"), 1.0);
}

#[test]
fn lists_that_are_passed_over_are_not_fetched() {
    let (issuer, lists) = (Issuer::new(), Lists::start());
    lists.say(&issuer, &[1]);
    let server = serve(&issuer, &lists, ", check: false");
    assert_eq!(ask(&server, &token(&issuer, &lists, 0)).status, 200);
    assert_eq!(lists.requests(), 0);
}
