//! What it costs to verify a token, by algorithm, beside three others in the same run: the signature alone in aws-lc
//! with a prepared key, `jsonwebtoken::decode` as its documentation shows it, and OPA's `io.jwt.decode_verify`.
//!
//! `cargo bench --bench verify`; with `OPA=/path/to/opa` in the environment OPA takes part. One thread; medians of
//! interleaved rounds, so that a busy machine slows all of them alike. Only ratios of one run say anything.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot be set up has nothing to report, and its figures go to stdout"
)]

use std::{
    fs,
    hint::black_box,
    process::Command,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use claimgate::{
    authorize::{self, World},
    policy::{PolicySet, Settings},
    revocation::Store,
    serve::{TokenCacheSettings, VerifiedTokens},
    snapshot::{Anonymous, Snapshot},
    telemetry::Counter,
    token::{
        self, Algorithm, Caller, IssuerProfile, KeyOrigin, KeyRing, KeySet, ProfileSettings, Profiles, RawToken,
        SigningKey, UnixTime,
    },
};
use serde_json::{Map, Value, json};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RS256_KEY: &[u8] = include_bytes!("../fixtures/bench/rs256.jwk.json");
const ISSUER: &str = "https://idp.example";
const NOW: i64 = 1_790_000_000;
const ROUNDS: usize = 60;
/// How long one part of one round takes.
const SLICE: Duration = Duration::from_millis(4);

fn main() {
    println!("microseconds for one token of one kilobyte, median of {ROUNDS} rounds, one thread");
    println!(
        "{:8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "bare", "miss", "hit", "decode", "opa", "miss/bare", "miss/dec", "opa/miss"
    );
    for algorithm in [
        Algorithm::RS256,
        Algorithm::PS256,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::ES512,
        Algorithm::EdDSA,
        Algorithm::HS256,
    ] {
        Case::new(algorithm).report();
    }
}

/// One algorithm: its key, a token, and everything that is needed to verify it in four ways.
struct Case {
    algorithm: Algorithm,
    text: String,
    /// Public keys, or the secret.
    jwks: String,
    snapshot: Snapshot,
}

/// One way to verify, and what its rounds took.
struct Way<'c> {
    run: Box<dyn FnMut() + 'c>,
    /// Runs that take about [`SLICE`].
    batch: u32,
    /// Nanoseconds for one run, by round.
    times: Vec<f64>,
}

// === impl Case ===

impl Case {
    fn new(algorithm: Algorithm) -> Self {
        let jwk = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => String::from_utf8(RS256_KEY.to_vec()).unwrap(),
            _ => SigningKey::generate_jwk(algorithm, "bench").unwrap(),
        };
        let signer = SigningKey::from_jwk(jwk.as_bytes()).unwrap().with_algorithm(algorithm).unwrap();
        let jwks = match algorithm {
            Algorithm::HS256 => format!("{{\"keys\":[{jwk}]}}"),
            _ => signer.public_jwks().unwrap(),
        };
        let text = signer.sign("at+jwt", claims().as_object().unwrap()).unwrap();
        let keys = KeySet::parse(jwks.as_bytes(), KeyOrigin::Local, &[algorithm]).unwrap();
        let mut ring = KeyRing::default();
        ring.insert(ISSUER.into(), Arc::new(keys));
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: ISSUER.into(),
            audiences: vec!["bench".into()],
            algorithms: vec![algorithm],
            keep: vec!["org_id".into(), "role".into()],
            ..ProfileSettings::default()
        });
        let snapshot = Snapshot {
            revision: String::new(),
            activated_at: UNIX_EPOCH,
            policies: Arc::new(PolicySet::load(Vec::new(), &Settings::default()).unwrap()),
            entrypoint: None,
            profiles: Arc::new(Profiles::new(vec![profile.unwrap()]).unwrap()),
            keys: Arc::new(ring),
            subject: None,
            anonymous: Anonymous::Deny,
            revocations: Arc::default(),
        };
        Self { algorithm, text, jwks, snapshot }
    }

    fn report(&self) {
        let mut ways = [Some(self.bare()), Some(self.miss()), Some(self.hit()), self.decode()];
        for _ in 0..ROUNDS {
            ways.iter_mut().flatten().for_each(Way::round);
        }
        let [bare, miss, hit, decode] = ways.map(|way| way.map(Way::median));
        let opa = self.opa();
        let shown = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time / 1000.0));
        let ratio = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => format!("{:.2}", one / other),
            _ => "-".to_owned(),
        };
        println!(
            "{:8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            self.algorithm.name(),
            shown(bare),
            shown(miss),
            shown(hit),
            shown(decode),
            shown(opa),
            ratio(miss, bare),
            ratio(miss, decode),
            ratio(opa, miss)
        );
    }

    /// The whole pipeline.
    fn miss(&self) -> Way<'_> {
        let raw = RawToken::new(self.text.as_str());
        Way::new(move || {
            let Snapshot { profiles, keys, .. } = &self.snapshot;
            black_box(token::verify(black_box(&raw), profiles, keys, UnixTime(NOW)).unwrap());
        })
    }

    /// The same token again, from the cache.
    fn hit(&self) -> Way<'_> {
        let raw = RawToken::new(self.text.as_str());
        let settings = TokenCacheSettings { entries: 1000, bytes: 1 << 20 };
        let cache = VerifiedTokens::new(settings, (Counter::default(), Counter::default()));
        let now = UNIX_EPOCH + Duration::from_secs(u64::try_from(NOW).unwrap());
        // As of a program that was told of no revocation.
        let store = Store::in_memory(1);
        Way::new(move || {
            let known = cache.identify(&self.snapshot, black_box(&raw), now).unwrap();
            if let Caller::Verified(claims) = known.caller() {
                authorize::admit(&self.snapshot, claims, World { revocations: &store, statuses: &() }, now).unwrap();
            }
            black_box(known);
        })
    }

    /// Only the signature, over bytes that are decoded already, with a key that is prepared.
    fn bare(&self) -> Way<'_> {
        let (input, signature) = self.text.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let jwks: Value = serde_json::from_str(&self.jwks).unwrap();
        let member = |name: &str| URL_SAFE_NO_PAD.decode(jwks["keys"][0][name].as_str().unwrap()).unwrap();
        if self.algorithm == Algorithm::HS256 {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &member("k"));
            return Way::new(move || aws_lc_rs::hmac::verify(&key, black_box(input.as_bytes()), &signature).unwrap());
        }
        let point = || [vec![4], member("x"), member("y")].concat();
        let parsed = |algorithm: &'static dyn VerificationAlgorithm, bytes: Vec<u8>| {
            ParsedPublicKey::new(algorithm, bytes).unwrap()
        };
        let rsa = |parameters: &'static signature::RsaParameters| {
            RsaPublicKeyComponents { n: member("n"), e: member("e") }.to_parsed_public_key(parameters).unwrap()
        };
        let key = match self.algorithm {
            Algorithm::RS256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::PS256 => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Algorithm::ES256 => parsed(&signature::ECDSA_P256_SHA256_FIXED, point()),
            Algorithm::ES384 => parsed(&signature::ECDSA_P384_SHA384_FIXED, point()),
            Algorithm::ES512 => parsed(&signature::ECDSA_P521_SHA512_FIXED, point()),
            _ => parsed(&signature::ED25519, member("x")),
        };
        Way::new(move || key.verify_sig(black_box(input.as_bytes()), &signature).unwrap())
    }

    /// `jsonwebtoken`, which does not know ES512.
    fn decode(&self) -> Option<Way<'_>> {
        let algorithm: jsonwebtoken::Algorithm = self.algorithm.name().parse().ok()?;
        let jwks: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&self.jwks).unwrap();
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwks.keys[0]).unwrap();
        let mut validation = jsonwebtoken::Validation::new(algorithm);
        validation.set_audience(&["bench"]);
        // It reads the clock, and the token is of one moment.
        validation.validate_exp = false;
        let decode = move || {
            let token = black_box(self.text.as_str());
            black_box(jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).unwrap());
        };
        Some(Way::new(decode))
    }

    /// `opa bench` of one call, if OPA is here.
    fn opa(&self) -> Option<f64> {
        let opa = std::env::var("OPA").ok()?;
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data.json");
        let time = NOW * 1_000_000_000;
        if self.algorithm == Algorithm::HS256 {
            // OPA takes secrets as text, and this one is random bytes.
            return None;
        }
        let constraints =
            json!({ "cert": self.jwks, "alg": self.algorithm.name(), "iss": ISSUER, "aud": "bench", "time": time });
        fs::write(&data, json!({ "token": self.text, "constraints": constraints }).to_string()).unwrap();
        let query = "[true, _, _] = io.jwt.decode_verify(data.token, data.constraints)";
        let output = Command::new(opa)
            .args(["bench", "--metrics=false", "-f", "gobench", "-d"])
            .arg(&data)
            .arg(query)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "ns/op")?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    }
}

/// What an access token of a large provider carries: about a kilobyte with its signature.
fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["bench"], "sub": "3f1c2a6e-5b0d-4a51-9c57-0d4c7c1f9e11", "client_id": "web-frontend",
        "jti": "0f8b5c1e-7d5c-4a0e-8a39-5f5f0a3f6a77", "iat": NOW - 10, "exp": NOW + 290, "auth_time": NOW - 300,
        "acr": "urn:example:bronze", "amr": ["pwd", "otp"], "scope": "openid profile email folders.read folders.write",
        "org_id": "acme", "role": "editor", "sid": "b7c1a3d5-1d0b-4c06-9a1e-2f1d6f7f2c10",
        "padding": "x".repeat(160)
    })
}

// === impl Way ===

impl<'c> Way<'c> {
    fn new(mut run: impl FnMut() + 'c) -> Self {
        let begun = Instant::now();
        let mut batch = 0;
        while begun.elapsed() < SLICE || batch < 8 {
            run();
            batch += 1;
        }
        Self { run: Box::new(run), batch, times: Vec::with_capacity(ROUNDS) }
    }

    fn round(&mut self) {
        let begun = Instant::now();
        for _ in 0..self.batch {
            (self.run)();
        }
        self.times.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(self.batch));
    }

    fn median(mut self) -> f64 {
        self.times.sort_by(f64::total_cmp);
        self.times[self.times.len() / 2]
    }
}
