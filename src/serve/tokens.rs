//! Tokens that were verified a moment ago. A hit saves the parsing and the signature; it never changes an answer.
//!
//! An entry is found by SHA-256 over the whole token and counts only with the very profiles and keys it was made with.
//! What time alone can change, the dates, is checked on every hit; what the world may have said about the token since is
//! for [`authorize::admit`], which is asked on every request. Refusals are not remembered, so a key that arrives
//! late helps at once, and a flood of bad tokens pushes nothing out. Bounded by entries and by bytes.

use std::{sync::Arc, time::SystemTime};

use quick_cache::{Weighter, sync::Cache};

use crate::{
    authorize::{self, DenyReason},
    input::KnownCaller,
    snapshot::Snapshot,
    telemetry::Counter,
    token::{Caller, Fingerprint, KeySet, Profiles, RawToken, VerifiedClaims},
};

/// Bounds of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCacheSettings {
    /// Tokens; 0 turns the cache off.
    pub entries: usize,
    /// Estimated size of all entries.
    pub bytes: usize,
}

/// The cache. Answers exactly as [`authorize::identify`] does.
#[derive(Debug)]
pub struct VerifiedTokens {
    /// `None`: off.
    cache: Option<Cache<Fingerprint, Entry, Weight>>,
    hits: Counter,
    misses: Counter,
}

/// Holds the profiles and keys it was made with, so that another pair can never have their addresses.
#[derive(Debug, Clone)]
struct Entry {
    claims: Arc<VerifiedClaims>,
    /// The claims as policy sees them, and whose they are.
    known: KnownCaller,
    profiles: Arc<Profiles>,
    keys: Arc<KeySet>,
}

/// An entry weighs its size, and at least its share of the bytes: so one bound holds both.
#[derive(Debug, Clone)]
struct Weight {
    share: u64,
}

/// What an entry takes beside its strings: keys, pointers, the cache's own node.
const ENTRY_BYTES: u64 = 512;

// === impl VerifiedTokens ===

impl VerifiedTokens {
    /// An empty cache that counts its hits and misses.
    #[must_use]
    pub fn new(settings: TokenCacheSettings, (hits, misses): (Counter, Counter)) -> Self {
        let TokenCacheSettings { entries, bytes } = settings;
        let cache = (entries > 0).then(|| {
            let (entries, bytes) = (entries as u64, bytes as u64);
            // The estimate sizes a table up front: a gate that sees ten tokens should not pay for ten thousand.
            Cache::with_weighter(256, bytes, Weight { share: (bytes / entries).max(1) })
        });
        Self { cache, hits, misses }
    }

    /// Who presents this token, according to `snapshot`, at `now`.
    ///
    /// # Errors
    /// As [`authorize::identify`].
    pub fn identify(&self, snapshot: &Snapshot, raw: &RawToken, now: SystemTime) -> Result<KnownCaller, DenyReason> {
        let verify = || authorize::identify(snapshot, Some(raw), now).map(KnownCaller::new);
        let Some(cache) = &self.cache else { return verify() };
        let Some(fingerprint) = raw.fingerprint(snapshot.profiles.limits()) else { return verify() };
        if let Some(entry) = cache.get(&fingerprint).filter(|entry| entry.holds(snapshot, now)) {
            self.hits.inc();
            return Ok(entry.known);
        }
        self.misses.inc();
        // Whatever the entry lacked, the pipeline finds the exact reason.
        let known = verify()?;
        if let Caller::Verified(claims) = known.caller()
            && let Some(keys) = snapshot.keys.get(claims.issuer())
        {
            let (claims, keys) = (Arc::clone(claims), Arc::clone(keys));
            let entry = Entry { claims, known: known.clone(), profiles: Arc::clone(&snapshot.profiles), keys };
            cache.insert(fingerprint, entry);
        }
        Ok(known)
    }
}

// === impl Entry ===

impl Entry {
    /// Would the whole pipeline say the same now?
    fn holds(&self, snapshot: &Snapshot, now: SystemTime) -> bool {
        let issuer = self.claims.issuer();
        Arc::ptr_eq(&self.profiles, &snapshot.profiles)
            && snapshot.keys.get(issuer).is_some_and(|keys| Arc::ptr_eq(&self.keys, keys))
            && self.profiles.get(issuer).is_some_and(|profile| self.claims.check_times(profile, now.into()).is_ok())
    }
}

// === impl Weight ===

impl Weighter<Fingerprint, Entry> for Weight {
    fn weight(&self, _: &Fingerprint, entry: &Entry) -> u64 {
        // The claims are there twice: as they were verified, and as policy sees them.
        (ENTRY_BYTES + 2 * entry.claims.size()).max(self.share)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        time::{Duration, UNIX_EPOCH},
    };

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        authorize::World,
        policy::{PolicySet, Settings},
        snapshot::Anonymous,
        token::{
            Algorithm, IssuerProfile, KeyOrigin, KeyRing, ProfileSettings, Revocation, RevocationKind, RevocationSet,
            SigningKey, Target, UnixTime,
        },
    };

    const ISSUER: &str = "https://idp.example";
    const START: u64 = 1_790_000_000;

    fn cache(entries: usize, bytes: usize) -> VerifiedTokens {
        let settings = TokenCacheSettings { entries, bytes };
        VerifiedTokens::new(settings, (Counter::default(), Counter::default()))
    }

    fn profiles(audience: &str) -> Arc<Profiles> {
        let profile = ProfileSettings {
            issuer: ISSUER.to_owned(),
            audiences: vec![audience.to_owned()],
            algorithms: vec![Algorithm::ES256],
            keep: vec!["role".to_owned()],
            tenant_claim: Some("org".to_owned()),
            ..ProfileSettings::default()
        };
        Arc::new(Profiles::new(vec![IssuerProfile::new(profile).unwrap()]).unwrap())
    }

    fn keys(signer: &SigningKey) -> Arc<KeySet> {
        let jwks = signer.public_jwks().unwrap();
        Arc::new(KeySet::parse(jwks.as_bytes(), KeyOrigin::Local, &[Algorithm::ES256]).unwrap())
    }

    fn snapshot(profiles: &Arc<Profiles>, keys: Option<&Arc<KeySet>>) -> Snapshot {
        let mut ring = KeyRing::default();
        if let Some(keys) = keys {
            ring.insert(ISSUER.to_owned(), Arc::clone(keys));
        }
        Snapshot {
            revision: String::new(),
            activated_at: UNIX_EPOCH,
            policies: Arc::new(PolicySet::load(Vec::new(), &Settings::default()).unwrap()),
            entrypoint: None,
            profiles: Arc::clone(profiles),
            keys: Arc::new(ring),
            subject: None,
            anonymous: Anonymous::Deny,
            revocations: Arc::default(),
        }
    }

    /// Tokens and worlds to choose from.
    struct Cases {
        tokens: Vec<RawToken>,
        snapshots: Vec<Snapshot>,
    }

    impl Cases {
        fn new() -> Self {
            let (one, other) = (SigningKey::generate_es256("k").unwrap(), SigningKey::generate_es256("k").unwrap());
            let token = |signer: &SigningKey, changes: Value| {
                let mut claims = json!({"iss": ISSUER, "aud": "folders", "sub": "alice", "role": "vp",
                    "iat": START, "exp": START + 300, "jti": "one", "sid": "session", "client_id": "app", "org": "acme"});
                let claims = claims.as_object_mut().unwrap();
                claims.extend(changes.as_object().unwrap().clone());
                claims.retain(|_, value| !value.is_null());
                signer.sign("at+jwt", claims).unwrap()
            };
            let good = token(&one, json!({}));
            let mut forged = token(&one, json!({"sub": "eve"})).rsplit_once('.').unwrap().0.to_owned();
            forged.push('.');
            forged.push_str(good.rsplit_once('.').unwrap().1);
            let texts = [
                good,
                forged,
                token(&one, json!({"exp": START + 60})),
                token(&one, json!({"nbf": START + 120})),
                token(&one, json!({"aud": ["payroll", "folders"]})),
                token(&one, json!({"aud": "payroll"})),
                token(&one, json!({"iat": null, "jti": "two"})),
                token(
                    &one,
                    json!({"iat": START - 100, "jti": "two", "sub": "bob", "sid": "other", "org": ["umbrella", 7]}),
                ),
                token(&other, json!({})),
                token(&one, json!({"iss": "https://other.example"})),
            ];
            let (folders, payroll) = (profiles("folders"), profiles("payroll"));
            let (first, second) = (keys(&one), keys(&other));
            let mut in_file = RevocationSet::default();
            in_file.insert(&entry(RevocationKind::Session, "session", Some(0)), UnixTime(0));
            let snapshots = vec![
                snapshot(&folders, Some(&first)),
                snapshot(&folders, Some(&second)),
                snapshot(&payroll, Some(&first)),
                snapshot(&folders, None),
                // The same keys, read again.
                snapshot(&folders, Some(&keys(&one))),
                // A revocation file that appears and disappears.
                Snapshot { revocations: Arc::new(in_file), ..snapshot(&folders, Some(&first)) },
            ];
            Self { tokens: texts.into_iter().map(RawToken::new).collect(), snapshots }
        }
    }

    /// An entry about one of the tokens' names, with an epoch so long after the start.
    fn entry(kind: RevocationKind, value: &str, later: Option<u64>) -> Revocation {
        let target = Target::from_parts(kind, ISSUER.to_owned(), value.to_owned());
        let valid_after = later.map(|later| i64::try_from(START + later).unwrap());
        Revocation { target, valid_after, expires_at: None }
    }

    fn entries() -> impl Strategy<Value = Revocation> {
        let names = [
            (RevocationKind::Token, &["one", "two", "three"][..]),
            (RevocationKind::Subject, &["alice", "bob", "eve"]),
            (RevocationKind::Session, &["session", "other"]),
            (RevocationKind::Client, &["app", "web"]),
            (RevocationKind::Tenant, &["acme", "7"]),
            (RevocationKind::Issuer, &[""]),
            (RevocationKind::Key, &["k", "l"]),
        ];
        let names: Vec<_> =
            names.into_iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, *name))).collect();
        // Some epochs lie before the tokens' `iat`.
        (0..names.len(), proptest::option::of(0_u64..400)).prop_map(move |(index, later)| {
            let entry = entry(names[index].0, names[index].1, later);
            Revocation { valid_after: entry.valid_after.map(|epoch| epoch - 150), ..entry }
        })
    }

    fn shown(result: Result<KnownCaller, DenyReason>) -> String {
        match result {
            Ok(caller) => format!("{caller:?}"),
            Err(reason) => reason.to_string(),
        }
    }

    #[test]
    fn a_cache_never_changes_an_answer() {
        let world = Cases::new();
        // Mostly the same tokens in the same world, or nothing would ever be found.
        let token = prop_oneof![3 => prop_oneof![Just(0), Just(8), Just(9)], 2 => 0..world.tokens.len()];
        let snapshot = prop_oneof![4 => Just(0), 1 => 0..world.snapshots.len()];
        let later = prop_oneof![3 => 0_u64..300, 1 => 0_u64..400];
        let step = (token, snapshot, later, proptest::option::weighted(0.1, entries()));
        let sequences = proptest::collection::vec(step, 1..40);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 64, ..Default::default() });
        let (hits, revoked) = (Cell::new(0), Cell::new(0));
        // Room for all, for two, and for nothing that fits.
        for (entries, bytes) in [(100, 1 << 20), (2, 1 << 20), (100, 64)] {
            let result = runner.run(&sequences, |sequence| {
                let cache = cache(entries, bytes);
                let mut revocations = RevocationSet::default();
                for (token, snapshot, later, entry) in sequence {
                    let (raw, snapshot) = (&world.tokens[token], &world.snapshots[snapshot]);
                    let now = UNIX_EPOCH + Duration::from_secs(START + later);
                    if let Some(entry) = entry {
                        revocations.insert(&entry, now.into());
                    }
                    let admitted = |known: Result<KnownCaller, DenyReason>| {
                        let known = known?;
                        let Caller::Verified(claims) = known.caller() else { panic!("nobody is anonymous here") };
                        authorize::admit(snapshot, claims, World { revocations: &revocations, statuses: &() }, now)?;
                        Ok(known)
                    };
                    let cached = shown(admitted(cache.identify(snapshot, raw, now)));
                    let fresh = admitted(authorize::identify(snapshot, Some(raw), now).map(KnownCaller::new));
                    revoked.set(revoked.get() + u64::from(matches!(fresh, Err(DenyReason::Revoked(_)))));
                    prop_assert_eq!(cached, shown(fresh));
                }
                hits.set(hits.get() + cache.hits.get());
                Ok(())
            });
            result.unwrap();
        }
        let (hits, revoked) = (hits.get(), revoked.get());
        assert!(hits > 50 && revoked > 50, "{hits} hits and {revoked} revocations prove little");
    }

    #[test]
    fn a_second_look_is_a_hit_and_a_refused_token_is_never_one() {
        let world = Cases::new();
        let now = UNIX_EPOCH + Duration::from_secs(START);
        for (token, hits, misses) in [(0, 2, 1), (1, 0, 3)] {
            let cache = cache(100, 1 << 20);
            for _ in 0..3 {
                let _ = cache.identify(&world.snapshots[0], &world.tokens[token], now);
            }
            assert_eq!((cache.hits.get(), cache.misses.get()), (hits, misses), "token {token}");
        }
    }

    #[test]
    fn the_cache_stays_inside_its_bounds() {
        let signer = SigningKey::generate_es256("k").unwrap();
        let snapshot = snapshot(&profiles("folders"), Some(&keys(&signer)));
        let now = UNIX_EPOCH + Duration::from_secs(START);
        for (entries, bytes, most) in [(8, 1 << 20, 8), (1000, 16 << 10, 24), (0, 1 << 20, 0)] {
            let cache = cache(entries, bytes);
            for number in 0..100 {
                let claims = json!({"iss": ISSUER, "aud": "folders", "sub": number.to_string(), "exp": START + 300});
                let token = signer.sign("at+jwt", claims.as_object().unwrap()).unwrap();
                cache.identify(&snapshot, &RawToken::new(token), now).unwrap();
            }
            let held = cache.cache.as_ref().map_or(0, Cache::len);
            assert!(held <= most, "{held} entries of {entries} in {bytes} bytes");
        }
    }
}
