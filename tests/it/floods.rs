//! Floods at the doors: made-up key ids, forged signatures, garbage. Counted, not timed: every bad token is refused in one
//! shape, every good one beside it passes, and the issuer is asked as if there were no flood.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::support::{
    setup::{Server, Setup},
    tokens::{AUDIENCE, ISSUER, Issuer, forged},
};

/// Bad tokens of one flood, and good ones beside it.
const BAD: usize = 300;
const GOOD: usize = 150;

/// Answers with a key set, or with an error, and counts.
fn keys(jwks: Option<String>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let (status, body) = jwks.as_deref().map_or(("500 No", ""), |jwks| ("200 OK", jwks));
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, count)
}

/// A gate with one issuer whose keys are on the network and another whose keys are at hand.
fn gate(port: u16, local: &Issuer) -> Server {
    Setup::new(&format!(
        "issuers:\n  - issuer: {ISSUER}\n    audiences: [{AUDIENCE}]\n    jwks: {{url: 'http://127.0.0.1:{port}/', \
         refetch_cooldown: 24h}}\n  - issuer: https://local.example\n    audiences: [{AUDIENCE}]\n    jwks: {{inline: \
         '{}'}}\npolicy: {{bundles: [bundle], entrypoint: p/allow}}\n",
        local.jwks()
    ))
    .file("bundle/p.rego", "package p\n\nallow if input.token.subject == \"alice\"\n")
    .serve()
}

/// Sends a flood from three connections and good tokens on a fourth, at once. The statuses of the flood.
fn flood(server: &Server, good: &str, bad: impl Fn(usize) -> String + Sync) -> Vec<(u16, String)> {
    let ask = |client: &mut crate::support::http::Client, token: &str| {
        let bearer = format!("Bearer {token}");
        client.send("POST", "/v1/data/p/allow", &[("authorization", &bearer)], b"{}")
    };
    thread::scope(|scope| {
        let bad = &bad;
        let attackers: Vec<_> = (0..3)
            .map(|attacker| {
                scope.spawn(move || {
                    let mut client = server.client();
                    let answers = (0..BAD / 3).map(|n| ask(&mut client, &bad(n * 3 + attacker)));
                    answers.map(|answer| (answer.status, answer.json()["code"].to_string())).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut client = server.client();
        for _ in 0..GOOD {
            let answer = ask(&mut client, good);
            assert_eq!((answer.status, answer.result()), (200, true.into()), "{answer:?}");
        }
        attackers.into_iter().flat_map(|attacker| attacker.join().unwrap()).collect()
    })
}

fn assert_all(answers: &[(u16, String)], status: u16, code: &str) {
    assert_eq!(answers.len(), BAD);
    for answer in answers {
        assert_eq!(*answer, (status, format!("\"{code}\"")));
    }
}

#[test]
fn floods_cost_the_issuer_one_fetch_and_good_callers_nothing() {
    let issuer = Issuer::new();
    let (port, fetches) = keys(Some(issuer.jwks()));
    let server = gate(port, &Issuer::new());
    let good = issuer.token("alice");
    let asked = || fetches.load(Ordering::SeqCst);
    assert_eq!(asked(), 1);

    let answers = flood(&server, &good, |_| forged(&issuer.token("mallory")));
    assert_all(&answers, 401, "invalid_token");
    let garbage = format!("{}.{}.{}", "A".repeat(2700), "B".repeat(2700), "C".repeat(2700));
    assert_all(&flood(&server, &good, |_| garbage.clone()), 401, "invalid_token");
    let stranger = issuer.token_with(serde_json::json!({"iss": "https://stranger.example"}));
    assert_all(&flood(&server, &good, |_| stranger.clone()), 401, "invalid_token");
    assert_eq!(asked(), 1, "none of these asks for keys");

    let made_up = |n: usize| Issuer::with_key_id(&format!("made-up-{n}")).token("mallory");
    assert_all(&flood(&server, &good, made_up), 401, "invalid_token");
    let same = made_up(0);
    assert_all(&flood(&server, &good, |_| same.clone()), 401, "invalid_token");
    assert_eq!(asked(), 2, "one fetch for all of them");
    let refreshes = |result: &str| server.metric("claimgate_jwks_forced_refreshes_total", &[ISSUER, result]);
    assert_eq!(refreshes("fetched"), 1.0);
    assert!(server.metric("claimgate_token_verification_failures_total", &["unknown_key"]) >= (2 * BAD) as f64);
}

#[test]
fn a_flood_of_an_issuer_without_keys_touches_no_other_issuer() {
    let (issuer, local) = (Issuer::new(), Issuer::new());
    let (port, fetches) = keys(None);
    let server = gate(port, &local);
    let good = local.token_with(serde_json::json!({"iss": "https://local.example"}));
    let began = std::time::Instant::now();
    let answers = flood(&server, &good, |n| Issuer::with_key_id(&format!("made-up-{n}")).token("mallory"));
    assert_all(&answers, 503, "temporarily_unavailable");
    assert_all(&flood(&server, &good, |_| issuer.token("alice")), 503, "temporarily_unavailable");
    // One at start, one that the flood forced, and those of the back-off, whose waits are 1 s, 2 s, 4 s … less a quarter.
    let seconds = began.elapsed().as_secs() + 1;
    let back_off = 2 + (seconds * 4 / 3 + 1).ilog2() as usize;
    let asked = fetches.load(Ordering::SeqCst);
    assert!(asked <= 2 + back_off, "{asked} fetches in {seconds} s");
    assert_eq!(server.metric("claimgate_jwks_forced_refreshes_total", &[ISSUER, "fetched"]), 1.0);
}
