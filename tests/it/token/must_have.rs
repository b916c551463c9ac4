//! The forty attacks that a verifier must withstand, in one table: a number, a sentence, how the token (or key set, or
//! request) is made, and the code that it gets. What an attack needs beyond one answer (floods, outages, servers) is
//! tested where `tests/cases/token/README.md` says.

mod bytes;
mod keys;
mod tokens;

use std::{collections::BTreeSet, sync::Arc};

use claimgate::token::{self, Algorithm, KeyOrigin, KeyRing, KeySet, RawToken, TokenError, UnixTime};
use serde_json::json;

use super::{ISSUER, NOW, WORLD, check_hygiene, verdict};
use crate::support::{
    setup::{Server, Setup},
    tokens::Issuer,
};

/// One row.
struct Case {
    /// 1 to 40.
    attack: u8,
    name: String,
    recipe: Recipe,
    /// `accepted`, or a code; for requests the status and the code that the client sees.
    expect: &'static str,
}

/// How the answer comes about.
enum Recipe {
    /// Verified at the usual time.
    Token(String),
    /// Verified at `NOW` and so many seconds.
    At(String, i64),
    /// Verified at `NOW`, and the claims held against a later time, as a cache does on a hit.
    Kept(String, i64),
    /// Verified with other keys of the usual issuer; `None`: its keys are gone.
    Keys(String, Option<String>),
    /// Would fresh keys be asked for? The answer is followed by `; asks` or `; asks nobody`.
    Asks(String),
    /// The members of one key, beside a good one.
    Key(String, KeyOrigin),
    /// A whole key set.
    Set(String, KeyOrigin),
    /// One request after another with these header fields and this query; the last answer counts.
    Requests(Vec<(Vec<(&'static str, String)>, String)>),
}

fn case(attack: u8, name: impl Into<String>, recipe: Recipe, expect: &'static str) -> Case {
    Case { attack, name: name.into(), recipe, expect }
}

fn check(case: &Case, server: &Server) -> Result<(), String> {
    let answer = answer(&case.recipe, server);
    if answer == case.expect {
        return Ok(());
    }
    Err(format!("M{} {}: expected {}, got {answer}", case.attack, case.name, case.expect))
}

fn answer(recipe: &Recipe, server: &Server) -> String {
    let code = |result: Result<(), TokenError>| result.map_or_else(|error| error.code(), |()| "accepted").to_owned();
    match recipe {
        Recipe::Token(text) => verdict(text, NOW).0.to_owned(),
        Recipe::At(text, later) => verdict(text, NOW + later).0.to_owned(),
        Recipe::Kept(text, later) => {
            let claims = verdict(text, NOW).1.expect("accepted at first");
            let profile = WORLD.profiles.get(claims.issuer()).expect("the profile");
            code(claims.check_times(profile, UnixTime(NOW + later)))
        }
        Recipe::Keys(text, jwks) => {
            let mut ring = KeyRing::default();
            if let Some(jwks) = jwks {
                let set = KeySet::parse(jwks.as_bytes(), KeyOrigin::Remote, &Algorithm::ALL).expect("keys");
                ring.insert(ISSUER.to_owned(), Arc::new(set));
            }
            let result = token::verify(&RawToken::new(text.as_str()), &WORLD.profiles, &ring, UnixTime(NOW));
            if let Err(error) = &result {
                check_hygiene(error, text);
            }
            code(result.map(drop))
        }
        Recipe::Asks(text) => {
            let (code, result) = verdict(text, NOW);
            let asks = result.err().is_some_and(|error| error.wants_keys_of() == Some(ISSUER));
            format!("{code}; {}", if asks { "asks" } else { "asks nobody" })
        }
        Recipe::Key(members, origin) => {
            let good = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"good""#;
            set_answer(&format!(r#"{{"keys":[{{{good}}},{{{members}}}]}}"#), *origin)
        }
        Recipe::Set(jwks, origin) => set_answer(jwks, *origin),
        Recipe::Requests(requests) => {
            let mut last = String::new();
            for (fields, query) in requests {
                let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let got = server.post(&format!("/v1/data/p/allow{query}"), &fields, "{}");
                last = match got.status {
                    200 => format!("200 {}", got.result()),
                    status => {
                        let challenge = got.header("www-authenticate").unwrap_or("none");
                        let error = challenge.split("error=\"").nth(1).and_then(|rest| rest.split('"').next());
                        format!("{status} {}", error.unwrap_or("without an error"))
                    }
                };
            }
            last
        }
    }
}

/// The reason of the one key that was left out, `accepted` when none was, or why the set is no key set.
fn set_answer(jwks: &str, origin: KeyOrigin) -> String {
    match KeySet::parse(jwks.as_bytes(), origin, &Algorithm::ALL) {
        Ok(set) => set.dropped().first().map_or("accepted", |key| key.reason).to_owned(),
        Err(error) => error.code.to_owned(),
    }
}

fn server(issuer: &Issuer) -> Server {
    let config = format!(
        "{}policy: {{bundles: [policy], entrypoint: p/allow}}\ntoken: {{sources: [header, 'query:access_token', \
         'cookie:session'], dpop: {{external_url: 'https://gate.example'}}, client_certificate: {{header: xfcc}}}}\n",
        issuer.section()
    );
    Setup::new(&config).file("policy/p.rego", "package p\n\nallow := input.token.subject == \"alice\"\n").serve()
}

#[test]
fn every_attack_gets_its_verdict() {
    let issuer = Issuer::new();
    let server = server(&issuer);
    let all: Vec<Case> = [tokens::cases(), bytes::cases(), keys::cases(&issuer)].into_iter().flatten().collect();
    let wrong: Vec<String> = all.iter().filter_map(|case| check(case, &server).err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    let numbers: BTreeSet<u8> = all.iter().map(|case| case.attack).collect();
    assert_eq!(numbers, (1..=40).collect(), "every attack is here");
    let names: BTreeSet<(u8, &str)> = all.iter().map(|case| (case.attack, case.name.as_str())).collect();
    assert_eq!(names.len(), all.len(), "every name is there once");
    assert!(all.len() > 350, "only {} cases", all.len());
}

#[test]
fn a_number_reaches_rego_exactly() {
    let issuer = Issuer::new();
    let section = issuer.section().replace("[org_id, role]", "[uid]");
    let config = format!("{section}policy: {{bundles: [policy], entrypoint: p/same}}\n");
    let policy = "package p\n\nsame := input.token.claims.uid == 9007199254740993\n\nuid := input.token.claims.uid\n";
    let server = Setup::new(&config).file("policy/p.rego", policy).serve();
    for (uid, same) in [("9007199254740992", false), ("9007199254740993", true), ("9007199254740994", false)] {
        let uid: serde_json::Value = serde_json::from_str(uid).expect("a number");
        let bearer = format!("Bearer {}", issuer.token_with(json!({ "uid": uid })));
        let ask = |path: &str| server.post(path, &[("authorization", &bearer)], "{}").text();
        assert!(ask("/v1/data/p/same").contains(&format!("\"result\":{same}")), "{uid}");
        assert!(ask("/v1/data/p/uid").contains(&format!("\"result\":{uid}")), "{uid}");
    }
}
