//! What one decision costs, step by step: time and allocations on one core.
//!
//! `cargo bench --bench decide`. The policy is the RBAC rule of `tests/bench/rbac_token`; the tokens carry the claims
//! that an access token should carry and no more. `bare_regorus` evaluates the same rule on the engine alone.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to report")]

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use claimgate::{
    authorize, input,
    policy::{DataPath, EvalOptions, PolicySet, Settings, Source, SourceFile, SourceKind, Value},
    snapshot::{Anonymous, Snapshot},
    token::{
        self, Algorithm, IssuerProfile, KeyOrigin, KeyRing, KeySet, ProfileSettings, Profiles, RawToken, SigningKey,
    },
};
use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATOR: AllocProfiler<mimalloc::MiMalloc> = AllocProfiler::new(mimalloc::MiMalloc);

const RS256_KEY: &[u8] = include_bytes!("../fixtures/bench/rs256.jwk.json");
const ES256_KEY: &[u8] = include_bytes!("../fixtures/bench/es256.jwk.json");
const NOW: u64 = 1_790_000_000;
const BODY: &str = r#"{"action":"edit","type":"folder"}"#;

static RS256: LazyLock<Case> = LazyLock::new(|| Case::new(RS256_KEY, Algorithm::RS256));
static ES256: LazyLock<Case> = LazyLock::new(|| Case::new(ES256_KEY, Algorithm::ES256));

fn main() {
    divan::main();
}

struct Case {
    raw: RawToken,
    text: String,
    snapshot: Snapshot,
    path: DataPath,
}

impl Case {
    fn new(key: &[u8], algorithm: Algorithm) -> Self {
        let signer = SigningKey::from_jwk(key).unwrap();
        let claims = serde_json::json!({
            "iss": "https://idp.example", "aud": "bench", "sub": "alice", "client_id": "web", "jti": "0f8b5c1e-7d5c-4a0e",
            "iat": NOW - 10, "exp": NOW + 290, "scope": "openid", "org_id": "acme", "role": "editor"
        });
        let text = signer.sign("at+jwt", claims.as_object().unwrap()).unwrap();
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: "https://idp.example".into(),
            audiences: vec!["bench".into()],
            algorithms: vec![algorithm],
            keep: vec!["org_id".into(), "role".into()],
            ..ProfileSettings::default()
        })
        .unwrap();
        let keys = KeySet::parse(signer.public_jwks().unwrap().as_bytes(), KeyOrigin::Local, &[algorithm]).unwrap();
        let mut ring = KeyRing::default();
        ring.insert("https://idp.example".into(), Arc::new(keys));
        let file = |path: &str, text: &str| SourceFile { path: path.into(), bytes: text.as_bytes().to_vec() };
        let policies = PolicySet::load(
            vec![Source {
                name: "bench".into(),
                origin: "tests/bench".into(),
                kind: SourceKind::Bundle,
                files: vec![
                    file("policy.rego", include_str!("rbac_token/claimgate.rego")),
                    file("data.json", include_str!("rbac/data.json")),
                ],
            }],
            &Settings::default(),
        )
        .unwrap();
        let path = DataPath::from_slash("rbac/allow");
        let entrypoint = Some(policies.entrypoint(&path).unwrap());
        let snapshot = Snapshot {
            revision: "0123456789abcdef".into(),
            activated_at: UNIX_EPOCH,
            policies: Arc::new(policies),
            entrypoint,
            profiles: Arc::new(Profiles::new(vec![profile]).unwrap()),
            keys: Arc::new(ring),
            subject: None,
            anonymous: Anonymous::Deny,
            revocations: Arc::default(),
        };
        Self { raw: RawToken::new(text.as_str()), text, snapshot, path }
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn verify(&self) -> input::KnownCaller {
        input::KnownCaller::new(authorize::identify(&self.snapshot, Some(&self.raw), self.now()).unwrap())
    }

    fn input(&self, caller: &input::KnownCaller) -> Value {
        let document = Value::from_json_str(BODY).unwrap();
        input::for_document(Some(document), caller, &self.snapshot, self.now()).unwrap()
    }
}

/// Header and claims, decoded and parsed strictly, no signature.
#[divan::bench]
fn parse_header_and_claims(bencher: Bencher<'_, '_>) {
    let case = &*RS256;
    bencher.bench(|| token::inspect(black_box(&case.raw)).unwrap());
}

#[divan::bench]
fn verify_rs256(bencher: Bencher<'_, '_>) {
    let case = &*RS256;
    bencher.bench(|| case.verify());
}

#[divan::bench]
fn verify_es256(bencher: Bencher<'_, '_>) {
    let case = &*ES256;
    bencher.bench(|| case.verify());
}

/// The library's own `decode` with its default checks, for comparison.
#[divan::bench]
fn jsonwebtoken_decode_rs256(bencher: Bencher<'_, '_>) {
    let case = &*RS256;
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_slice(RS256_KEY).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.set_audience(&["bench"]);
    validation.validate_exp = false;
    bencher.bench(|| {
        jsonwebtoken::decode::<serde_json::Map<String, serde_json::Value>>(black_box(&case.text), &key, &validation)
            .unwrap()
    });
}

/// Parse the body, put token and meta beside its members.
#[divan::bench]
fn build_input(bencher: Bencher<'_, '_>) {
    let case = &*RS256;
    let caller = case.verify();
    bencher.bench(|| case.input(black_box(&caller)));
}

#[divan::bench]
fn evaluate(bencher: Bencher<'_, '_>) {
    let case = &*RS256;
    let input = case.input(&case.verify());
    let options = EvalOptions::default();
    bencher.bench(|| case.snapshot.policies.evaluate(&case.path, Some(input.clone()), &options).unwrap());
}

/// The same rule on the engine alone: clone, set the input, evaluate.
#[divan::bench]
fn evaluate_bare_regorus(bencher: Bencher<'_, '_>) {
    let case = &*RS256;
    let input = case.input(&case.verify());
    let mut engine = regorus::Engine::new();
    engine.set_strict_builtin_errors(false);
    engine.add_policy("policy.rego".into(), include_str!("rbac_token/claimgate.rego").into()).unwrap();
    engine.add_data_json(include_str!("rbac/data.json")).unwrap();
    engine.eval_rule("data.rbac.allow".into()).unwrap();
    bencher.bench(|| {
        let mut engine = engine.clone();
        engine.set_input(input.clone());
        engine.eval_rule("data.rbac.allow".into()).unwrap()
    });
}

/// Verify, build the input, evaluate, decide: everything but HTTP.
#[divan::bench]
fn whole_decision_rs256(bencher: Bencher<'_, '_>) {
    whole_decision(bencher, &RS256);
}

#[divan::bench]
fn whole_decision_es256(bencher: Bencher<'_, '_>) {
    whole_decision(bencher, &ES256);
}

fn whole_decision(bencher: Bencher<'_, '_>, case: &'static LazyLock<Case>) {
    let case = &**case;
    let options = EvalOptions::default();
    bencher.bench(|| {
        let caller = case.verify();
        let input = case.input(&caller);
        let outcome = case.snapshot.policies.evaluate(&case.path, Some(input), &options);
        let verdict = authorize::decide(outcome.as_ref());
        assert_eq!(verdict.label(), "allow");
        verdict
    });
}
