//! What it costs to ask for revocations when there are a million of them: time for each lookup, and memory.
//!
//! `cargo bench --bench revocation`. `busy` asks while another thread revokes without a pause.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot be set up has nothing to report, and its figures go to stdout"
)]

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use claimgate::{
    revocation::{Source, Store},
    token::{
        self, Algorithm, IssuerProfile, KeyOrigin, KeyRing, KeySet, ProfileSettings, Profiles, RawToken, Revocation,
        RevocationKind, Revocations, SigningKey, Target, UnixTime, VerifiedClaims,
    },
};
use divan::{Bencher, black_box};

const ISSUER: &str = "https://idp.example.com/realms/acme";
const NOW: UnixTime = UnixTime(1_790_000_000);
const MILLION: usize = 1_000_000;
/// Tokens that are asked about by turns, so that one of them seldom finds its slot in a near cache.
const TOKENS: usize = 512;

/// A million tokens, and a few of every other kind, so that all seven are asked.
static ALL_KINDS: LazyLock<Store> = LazyLock::new(|| {
    let store = tokens_only();
    let others = RevocationKind::ALL.into_iter().skip(1);
    let entries = others.flat_map(|kind| (0..100).map(move |number| entry(kind, &format!("other-{number}"))));
    revoke(&store, entries.collect());
    store
});
static TOKENS_ONLY: LazyLock<Store> = LazyLock::new(tokens_only);
static SUBJECTS: LazyLock<Store> = LazyLock::new(|| filled(RevocationKind::Subject));
static NOTHING: LazyLock<Store> = LazyLock::new(|| Store::in_memory(1));
static CLAIMS: LazyLock<Vec<VerifiedClaims>> = LazyLock::new(claims);

fn main() {
    for (name, store) in [("tokens", &*TOKENS_ONLY), ("subjects", &SUBJECTS)] {
        let report = store.report();
        println!("1,000,000 {name}: {} bytes, {} for each", report.bytes, report.bytes / MILLION);
    }
    divan::main();
}

fn entry(kind: RevocationKind, value: &str) -> Revocation {
    let valid_after = (kind != RevocationKind::Token).then_some(NOW.0 - 1_000);
    Revocation { target: Target::from_parts(kind, ISSUER.to_owned(), value.to_owned()), valid_after, expires_at: None }
}

fn tokens_only() -> Store {
    filled(RevocationKind::Token)
}

fn filled(kind: RevocationKind) -> Store {
    let store = Store::in_memory(2 * MILLION);
    for part in 0..100 {
        let numbers = part * MILLION / 100..(part + 1) * MILLION / 100;
        revoke(&store, numbers.map(|number| entry(kind, &format!("5b0e6c3a-9f3f-4d8e-{number:016x}"))).collect());
    }
    store
}

fn revoke(store: &Store, entries: Vec<Revocation>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.revoke(entries, Source::Operator)).unwrap();
}

/// Good tokens that no entry is about, each with every claim that is asked about.
fn claims() -> Vec<VerifiedClaims> {
    let signer = SigningKey::generate_es256("key-2026-09").unwrap();
    let profile = IssuerProfile::new(ProfileSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["bench".to_owned()],
        algorithms: vec![Algorithm::ES256],
        tenant_claim: Some("org_id".to_owned()),
        ..ProfileSettings::default()
    });
    let profiles = Profiles::new(vec![profile.unwrap()]).unwrap();
    let jwks = signer.public_jwks().unwrap();
    let mut keys = KeyRing::default();
    let set = KeySet::parse(jwks.as_bytes(), KeyOrigin::Local, &[Algorithm::ES256]).unwrap();
    keys.insert(ISSUER.to_owned(), Arc::new(set));
    let token = |number: usize| {
        let claims = serde_json::json!({
            "iss": ISSUER, "aud": "bench", "sub": format!("user-{number}"), "jti": format!("0f8b5c1e-7d5c-{number}"),
            "sid": format!("session-{number}"), "client_id": "web", "org_id": "acme", "iat": NOW.0, "exp": NOW.0 + 300
        });
        let text = signer.sign("at+jwt", claims.as_object().unwrap()).unwrap();
        token::verify(&RawToken::new(text), &profiles, &keys, NOW).unwrap()
    };
    (0..TOKENS).map(token).collect()
}

fn ask(bencher: Bencher<'_, '_>, store: &Store) {
    let claims = &*CLAIMS;
    let turn = AtomicUsize::new(0);
    bencher.bench(|| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        black_box(store.find(black_box(&claims[turn % TOKENS]), NOW))
    });
}

#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn nothing_revoked(bencher: Bencher<'_, '_>) {
    ask(bencher, &NOTHING);
}

#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn a_million_tokens(bencher: Bencher<'_, '_>) {
    ask(bencher, &TOKENS_ONLY);
}

#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn a_million_subjects(bencher: Bencher<'_, '_>) {
    ask(bencher, &SUBJECTS);
}

#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn a_million_tokens_and_every_other_kind(bencher: Bencher<'_, '_>) {
    ask(bencher, &ALL_KINDS);
}

#[divan::bench(sample_size = 1000)]
fn busy(bencher: Bencher<'_, '_>) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let again = (0..1_000).map(|number| entry(RevocationKind::Subject, &format!("other-{number}")));
                revoke(&ALL_KINDS, again.collect());
                ALL_KINDS.tidy(NOW, Duration::from_secs(1 << 31));
            }
        });
        ask(bencher, &ALL_KINDS);
        stop.store(true, Ordering::Relaxed);
    });
}
