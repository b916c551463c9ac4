//! The bodies of the fuzz targets: each takes any bytes, hands them to one public entry of claimgate that reads what a
//! stranger or an operator wrote, and asserts what must hold whatever the bytes are. That the process survives is the
//! first of these things. Two programs run them: libFuzzer (`tests/fuzz/lib.rs`) for as long as one likes, and
//! `cargo test` (`tests/it/fuzz.rs`) on the seeds and on some mutations of them.

#[path = "statements.rs"]
mod statements;

use std::{
    collections::BTreeSet,
    io::Write as _,
    sync::{Arc, LazyLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use claimgate::{
    config,
    path::CanonicalPath,
    policy::{self, DataPath, EvalOptions, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, Value},
    token::{
        self, Algorithm, AnswerForm, CertificateHeader, ClientAuthentication, IntrospectionSettings, IssuerProfile,
        KeyOrigin, KeyRing, KeySet, ProfileSettings, Profiles, ProofRules, ProofTarget, RawToken, RevocationKind,
        Scheme, Secret, SecretSource, Sent, SentProof, UnixTime,
    },
};

/// A target's body.
pub(crate) type Run = fn(&[u8]);

/// All targets, by the names of their seed folders.
pub(crate) const TARGETS: [(&str, Run); 16] = [
    ("token_inspect", token_inspect),
    ("token_verify", token_verify),
    ("introspection", introspection),
    ("jwks", jwks),
    ("revocations", revocations),
    ("logout_token", statements::logout_token),
    ("security_event", statements::security_event),
    ("status_list", statements::status_list),
    ("dpop_proof", dpop_proof),
    ("client_certificate", client_certificate),
    ("path", path),
    ("opa_body", opa_body),
    ("config", config),
    ("policy_text", policy_text),
    ("policy_input", policy_input),
    ("bundle", bundle),
];

/// Between header and claims where a target makes the token itself, so that mutations reach what base64url hides.
const CUT: u8 = 0;

// === tokens ===

/// The time at which tokens are verified.
const NOW: i64 = 1_790_000_000;
const LEEWAY: i64 = 30;
const PUBLIC_KEY_ISSUER: &str = "https://idp.example";
const SECRET_ISSUER: &str = "https://secret.example";
const AUDIENCE: &str = "folders";
const PROJECTED: [&str; 2] = ["org_id", "role"];

/// The tokens that verify, and the only ones that do.
const GOOD: [&str; 2] = [include_str!("seeds/token_verify/good-eddsa"), include_str!("seeds/token_verify/good-hs256")];
/// The private key of RFC 8037 appendix A. It signs nothing but what these targets make.
const SIGNING_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"e","alg":"EdDSA","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const SECRET: &str = r#"{"kty":"oct","kid":"s","alg":"HS256","k":"q0m3Wn7xS1v9Jt5cYf2hK8bRz4LdG6uPeXaNwVoTiMg"}"#;
const PUBLIC_KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"e","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"EC","crv":"P-256","kid":"p","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

struct World {
    profiles: Profiles,
    keys: KeyRing,
    signing_key: token::SigningKey,
    /// The issuer with public keys, where it is asked about its tokens.
    asked: IssuerProfile,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let algorithms = |issuer| match issuer {
        SECRET_ISSUER => vec![Algorithm::HS256],
        _ => vec![Algorithm::EdDSA, Algorithm::ES256],
    };
    let mut keys = KeyRing::default();
    let mut profiles = Vec::new();
    for (issuer, document) in [(PUBLIC_KEY_ISSUER, PUBLIC_KEYS), (SECRET_ISSUER, SECRET)] {
        let set = KeySet::parse(document.as_bytes(), KeyOrigin::Local, &algorithms(issuer)).unwrap();
        assert!(set.dropped().is_empty(), "{:?}", set.dropped());
        keys.insert(issuer.to_owned(), Arc::new(set));
        let profile = IssuerProfile::new(ProfileSettings {
            issuer: issuer.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms: algorithms(issuer),
            types: vec!["at+jwt".to_owned()],
            leeway: Duration::from_secs(LEEWAY.unsigned_abs()),
            max_lifetime: Duration::from_secs(3600),
            required_claims: vec!["sub".to_owned()],
            keep: PROJECTED.map(str::to_owned).to_vec(),
            tenant_claim: Some("org_id".to_owned()),
            ..ProfileSettings::default()
        });
        profiles.push(profile.unwrap());
    }
    let signing_key = token::SigningKey::from_jwk(SIGNING_KEY.as_bytes()).unwrap();
    let asked = IssuerProfile::new(ProfileSettings {
        issuer: PUBLIC_KEY_ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: algorithms(PUBLIC_KEY_ISSUER),
        leeway: Duration::from_secs(LEEWAY.unsigned_abs()),
        keep: PROJECTED.map(str::to_owned).to_vec(),
        introspection: Some(IntrospectionSettings {
            client_id: "gate".to_owned(),
            authentication: ClientAuthentication::Bearer(SecretSource::Text(Secret::new("s"))),
            opaque: true,
            ..IntrospectionSettings::default()
        }),
        ..ProfileSettings::default()
    });
    World { profiles: Profiles::new(profiles).unwrap(), keys, signing_key, asked: asked.unwrap() }
});

/// A token as it stands, or header and claims with [`CUT`] between them, with a signature of no worth.
fn token_inspect(data: &[u8]) {
    let text = match split(data) {
        Some((header, claims)) => {
            format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
        }
        None => String::from_utf8_lossy(data).into_owned(),
    };
    match token::inspect(&RawToken::new(text.clone())) {
        Ok(seen) => {
            assert!(!seen.header.is_empty(), "a header without members");
            assert!(seen.signature_bytes > 0, "a token without a signature");
            // Strict and bounded: what was read can be written and read again.
            for members in [seen.header, seen.claims] {
                let written = serde_json::to_string(&members).unwrap();
                assert_eq!(serde_json::from_str::<serde_json::Map<_, _>>(&written).unwrap(), members);
            }
        }
        Err(error) => hides(&text, &error),
    }
}

/// A token as it stands, or header and claims with [`CUT`] between them, which are signed with a right key.
fn token_verify(data: &[u8]) {
    let World { profiles, keys, signing_key, .. } = &*WORLD;
    let made = split(data).map(|(header, claims)| signing_key.sign_bytes(header, claims).unwrap());
    let (text, is_signed) = match made {
        Some(text) => (text, true),
        None => (String::from_utf8_lossy(data).into_owned(), false),
    };
    let raw = RawToken::new(text.clone());
    match token::verify(&raw, profiles, keys, UnixTime(NOW)) {
        Ok(_) if !is_signed => assert!(GOOD.contains(&text.as_str()), "a forged token was accepted: {text}"),
        Ok(claims) => {
            assert_eq!(claims.issuer(), PUBLIC_KEY_ISSUER, "the key of another issuer signed this");
            assert!(claims.audience().iter().any(|audience| audience == AUDIENCE));
            assert!(claims.subject().is_some(), "a required claim is missing");
            assert!(claims.expires_at() + LEEWAY > NOW, "expired");
            assert!(claims.issued_at().is_none_or(|at| at <= NOW + LEEWAY), "from the future");
            assert!(claims.claims().keys().all(|name| PROJECTED.contains(&name.as_str())), "not projected");
        }
        Err(error) => {
            assert!(is_signed || !GOOD.contains(&text.as_str()), "a good token was refused: {error}");
            hides(&text, &error);
        }
    }
    let (_, explained) = token::verify_explained(&raw, profiles, keys, UnixTime(NOW));
    let decided = token::verify(&raw, profiles, keys, UnixTime(NOW));
    assert_eq!(explained.is_ok(), decided.is_ok(), "the explanation differs from the decision");
}

/// An introspection answer as it stands, or header and claims of a signed one with [`CUT`] between them, which are signed
/// with a right key.
fn introspection(data: &[u8]) {
    let World { keys, signing_key, asked, .. } = &*WORLD;
    let keys = keys.get(PUBLIC_KEY_ISSUER).map(Arc::as_ref);
    let judged = match split(data) {
        Some((header, claims)) => {
            let signed = signing_key.sign_bytes(header, claims).unwrap();
            token::judge_answer(AnswerForm::Signed, signed.as_bytes(), asked, keys, UnixTime(NOW))
        }
        None => {
            let forged = token::judge_answer(AnswerForm::Signed, data, asked, keys, UnixTime(NOW));
            assert!(forged.is_err(), "a forged answer was believed");
            token::judge_answer(AnswerForm::Json, data, asked, None, UnixTime(NOW))
        }
    };
    match judged {
        Ok(claims) => {
            assert_eq!(claims.issuer(), PUBLIC_KEY_ISSUER);
            assert!(claims.audience().iter().any(|audience| audience == AUDIENCE));
            assert!(claims.expires_at() + LEEWAY > NOW, "expired");
            assert!(claims.issued_at().is_none_or(|at| at <= NOW + LEEWAY), "from the future");
            assert!(claims.claims().keys().all(|name| PROJECTED.contains(&name.as_str())), "not projected");
            let text = String::from_utf8_lossy(split(data).map_or(data, |(_, claims)| claims));
            assert!(text.contains("true"), "no `active: true` in {text}");
        }
        Err(error) => assert!(error.to_string().len() < 4_096, "an error without a bound"),
    }
}

/// An error never holds the token. Short texts are no secret and may stand in a message by accident.
fn hides(token: &str, error: &token::TokenError) {
    if token.len() >= 64 {
        assert!(!format!("{error} {error:?}").contains(token), "an error holds the token");
    }
}

fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|byte| *byte == CUT)?;
    Some((&data[..at], &data[at + 1..]))
}

/// One entry, an array of them, or lines.
fn revocations(data: &[u8]) {
    let now = UnixTime(NOW);
    let posted = token::parse_revocations(data, now);
    for entry in posted.iter().flatten() {
        let (kind, issuer, value) = entry.target.parts();
        assert_eq!(issuer.is_empty(), kind == RevocationKind::Tenant);
        assert_eq!(value.is_empty(), kind == RevocationKind::Issuer);
        assert!(entry.valid_after.is_none_or(|epoch| (1..=NOW + 366 * 24 * 3600).contains(&epoch)));
        assert!(entry.expires_at.is_none_or(|end| (1..i64::from(u32::MAX)).contains(&end)));
        let is_open_ended = matches!(kind, RevocationKind::Token | RevocationKind::Key);
        assert!(entry.valid_after.is_some() || is_open_ended, "{entry:?}");
    }
    // What can be posted can stand in a file, unless it is spread over several lines there.
    if let Ok(posted) = &posted
        && !data.contains(&b'\n')
    {
        assert_eq!(token::parse_revocation_file(data, now).as_ref(), Ok(posted));
    }
    let _ = token::parse_revocation_file(data, now);
}

// === senders ===

/// RFC 8037 appendix A.3: the thumbprint of the key that signs here.
const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
const TARGET: &str = "https://api.example/folders/f-1";

/// A token that is bound to [`SIGNING_KEY`].
static BOUND: LazyLock<(RawToken, token::VerifiedClaims)> = LazyLock::new(|| {
    let claims = serde_json::json!({
        "iss": PUBLIC_KEY_ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 60, "cnf": { "jkt": THUMBPRINT },
    });
    let World { profiles, keys, signing_key, .. } = &*WORLD;
    let raw = RawToken::new(signing_key.sign("at+jwt", claims.as_object().unwrap()).unwrap());
    let claims = token::verify(&raw, profiles, keys, UnixTime(NOW)).unwrap();
    // RFC 9449 §4.2: the seeds have this token's hash in them.
    let seed = include_bytes!("seeds/dpop_proof/good");
    let (header, payload) = split(seed).unwrap();
    let proof = RawToken::new(signing_key.sign_bytes(header, payload).unwrap());
    let accepted = check_proof(&raw, &claims, Scheme::Dpop, &proof);
    assert!(accepted.is_ok(), "{accepted:?} for {raw:?}");
    (raw, claims)
});

fn check_proof(
    raw: &RawToken,
    claims: &token::VerifiedClaims,
    scheme: Scheme,
    proof: &RawToken,
) -> Result<Option<token::AcceptedProof>, token::SenderError> {
    let target = ProofTarget::of_url("GET", TARGET).unwrap();
    let sent = Sent { token: raw, scheme, proof: SentProof::One(proof), target: Some(&target), certificate: Ok(None) };
    let profile = WORLD.profiles.get(PUBLIC_KEY_ISSUER).unwrap();
    token::check_sender(claims, profile, &sent, &ProofRules::default(), None, UnixTime(NOW))
}

/// A proof as it stands, or header and claims with [`CUT`] between them, which are signed with the right key.
fn dpop_proof(data: &[u8]) {
    let (raw, claims) = &*BOUND;
    let made = split(data).map(|(header, claims)| WORLD.signing_key.sign_bytes(header, claims).unwrap());
    let (text, is_signed) = match made {
        Some(text) => (text, true),
        None => (String::from_utf8_lossy(data).into_owned(), false),
    };
    let proof = RawToken::new(text.clone());
    match check_proof(raw, claims, Scheme::Dpop, &proof) {
        Ok(accepted) => {
            let accepted = accepted.unwrap();
            assert!(is_signed, "a forged proof was accepted: {text}");
            assert!((NOW..=NOW + 90).contains(&accepted.last_valid.0), "remembered until {:?}", accepted.last_valid);
            let (_, claims) = split(data).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(claims).unwrap();
            assert_eq!(claims["htm"], "GET");
            assert!(claims["htu"].as_str().unwrap().to_ascii_lowercase().contains("api.example"));
            assert!(!claims["jti"].as_str().unwrap().is_empty());
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(shown.len() < 4_096, "an error without a bound");
            assert!(text.len() < 64 || !shown.contains(&text), "an error holds the proof");
            assert!(!error.code().is_empty());
        }
    }
    // Whatever it says, nothing it says makes it a bearer token.
    assert!(check_proof(raw, claims, Scheme::Bearer, &proof).is_err());
}

/// What a proxy says about a client's certificate, in both headers.
fn client_certificate(data: &[u8]) {
    for header in [CertificateHeader::Xfcc, CertificateHeader::Rfc9440] {
        let read = |bytes: &[u8]| header.read([bytes].into_iter());
        assert_eq!(header.read([data, data].into_iter()).ok(), None, "two lines have no reading");
        let once = read(data);
        assert_eq!(once, read(data));
        // What a client put before the proxy's own element changes nothing.
        let zeros = format!("Hash={},", "0".repeat(64));
        let behind = read(&[zeros.as_bytes(), data].concat());
        match header {
            CertificateHeader::Xfcc => assert_eq!(behind.is_ok(), once.is_ok()),
            CertificateHeader::Rfc9440 => assert!(behind.is_err()),
        }
        if let (CertificateHeader::Xfcc, Ok(found)) = (header, &once) {
            assert_eq!(behind.as_ref(), Ok(found));
        }
        if let Err(fault) = once {
            assert!(fault.to_string().len() < 256);
        }
    }
}

fn jwks(data: &[u8]) {
    for origin in [KeyOrigin::Local, KeyOrigin::Remote] {
        let parse = || KeySet::parse(data, origin, &Algorithm::ALL);
        if let Ok(set) = parse() {
            assert!((1..=100).contains(&set.len()), "{} keys", set.len());
            assert_eq!(set.digest(), parse().unwrap().digest());
        }
    }
    // What is admitted where secrets are not can only be fewer.
    if let Ok(remote) = KeySet::parse(data, KeyOrigin::Remote, &Algorithm::ALL) {
        let local = KeySet::parse(data, KeyOrigin::Local, &Algorithm::ALL);
        assert!(local.is_err() || local.unwrap().len() >= remote.len(), "a remote origin admits more");
        // What is kept of it over a restart is the same set, and nothing else.
        let kept = remote.admitted_of(data, KeyOrigin::Remote).unwrap();
        let again = KeySet::parse(kept.as_bytes(), KeyOrigin::Remote, &Algorithm::ALL).unwrap();
        assert_eq!((again.digest(), again.dropped()), (remote.digest(), &[][..]));
    }
}

// === path ===

fn path(data: &[u8]) {
    let raw = String::from_utf8_lossy(data);
    let Ok(path) = CanonicalPath::parse(&raw) else { return };
    let text = path.as_str();
    assert!(text.starts_with('/') && !text.contains("//") && !text.contains(['\\', '\0']), "{raw:?} became {text:?}");
    assert!(text == "/" || !text.ends_with('/'), "{raw:?} became {text:?}");
    let lower = text.to_ascii_lowercase();
    assert!(!["%2f", "%5c", "%2e", "%00"].iter().any(|code| lower.contains(code)), "{raw:?} became {text:?}");
    for segment in path.segments() {
        assert!(!matches!(segment.as_str(), "" | "." | ".."), "{raw:?} became {text:?}");
        assert!(!segment.contains('/'), "{raw:?} became {text:?}");
    }
    assert_eq!(text, if text == "/" { "/".to_owned() } else { format!("/{}", path.segments().join("/")) });
    // The plain form of a path is the path. Encoding makes it longer, and only its length may then be too much.
    let encoded: String = text
        .bytes()
        .map(|byte| match byte {
            b'/' => "/".to_owned(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    if encoded.len() <= claimgate::path::MAX_BYTES {
        assert_eq!(CanonicalPath::parse(&encoded), Ok(path), "{raw:?}");
    }
}

// === documents ===

/// The documents that become policy values: as JSON, and as YAML.
fn opa_body(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for value in [policy::parse_json(&text), policy::parse_yaml(&text)].into_iter().flatten() {
        writes_what_it_reads(&value);
    }
}

fn writes_what_it_reads(value: &Value) {
    let written = policy::to_opa_json(value);
    let again = policy::parse_json(&written).unwrap_or_else(|error| panic!("{written} does not read: {error}"));
    // Writing rounds what YAML reads as a double: `-0`, and integers of very many digits. It does so once.
    let rewritten = policy::to_opa_json(&again);
    assert_eq!(policy::parse_json(&rewritten).as_ref(), Ok(&again), "{written} became {rewritten}");
    let pretty = policy::to_opa_json_pretty(value);
    assert_eq!(policy::parse_json(&pretty), Ok(again), "the indented form differs: {pretty}");
}

fn config(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    let origin = config::Origin { file: Some(file.path().to_owned()), overrides: Vec::new() };
    let environment = |name: &str| (name == "NAME").then(|| "value".to_owned());
    match config::load(&origin, &environment) {
        Ok(_) => {}
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                assert!(!problem.to_string().is_empty());
            }
        }
    }
}

// === policies ===

const DEADLINE: Duration = Duration::from_millis(20);

fn settings() -> Settings {
    Settings {
        deadline: DEADLINE,
        max_file_bytes: 1 << 18,
        max_bundle_bytes: 1 << 20,
        max_result_bytes: 1 << 16,
        ..Settings::default()
    }
}

fn source(files: &[(&str, &[u8])]) -> Source {
    let file = |(path, bytes): &(&str, &[u8])| SourceFile { path: (*path).to_owned(), bytes: bytes.to_vec() };
    Source {
        name: "fuzz".to_owned(),
        origin: "fuzz".to_owned(),
        kind: SourceKind::Bundle,
        files: files.iter().map(file).collect(),
    }
}

/// One module of any text. What loads is evaluated, all of it, where its deadline holds.
fn policy_text(data: &[u8]) {
    if let Some(set) = load(source(&[("p.rego", data)]))
        && !set.may_block()
    {
        evaluate(&set, &DataPath::new(Vec::new()), policy::parse_json(r#"{"a": [1, "x", {"b": null}]}"#).unwrap());
    }
}

fn load(source: Source) -> Option<PolicySet> {
    match PolicySet::load(vec![source], &settings()) {
        Ok(set) => Some(set),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason");
            None
        }
    }
}

fn evaluate(set: &PolicySet, path: &DataPath, input: Value) -> Option<Value> {
    match set.evaluate(path, Some(input), &EvalOptions::default()) {
        Ok(Outcome::Value(value)) => {
            // Unlike a document that was read, it may be deeper than a reader goes and have members `1` and `"1"`.
            assert!(policy::to_opa_json(&value).len() <= settings().max_result_bytes, "a result without a bound");
            Some(value)
        }
        Ok(Outcome::Undefined) | Err(_) => None,
    }
}

static SHIPPED: LazyLock<PolicySet> = LazyLock::new(|| {
    let files: [(&str, &[u8]); 8] = [
        ("authz/account.rego", include_bytes!("../../rego/authz/account.rego")),
        ("authz/decision.rego", include_bytes!("../../rego/authz/decision.rego")),
        ("authz/folders.rego", include_bytes!("../../rego/authz/folders.rego")),
        ("authz/question.rego", include_bytes!("../../rego/authz/question.rego")),
        ("folders/data.json", br#"{"f": {"org_id": "acme", "department": "marketing", "owner": "o", "editors": ["e"], "viewers": []}}"#),
        ("levels/data.json", br#"{"owner": ["view", "edit", "delete"], "editor": ["view", "edit"], "viewer": ["view"]}"#),
        ("roles/data.json", br#"{"marketing_vp": {"folders_of": {"marketing": "editor"}}}"#),
        (
            "data.json",
            br#"{"quotas": {"marketing": 100}, "working_hours": {"timezone": "Europe/Berlin", "days": ["Monday"], "from": 8, "to": 18}}"#,
        ),
    ];
    // Building it is no part of what is measured, and it must not fail for a slow machine.
    PolicySet::load(vec![source(&files)], &Settings { deadline: Duration::from_secs(1), ..settings() }).unwrap()
});

/// Any JSON as the input of the shipped policies. Without an active account nobody gets anything.
fn policy_input(data: &[u8]) {
    let Ok(input) = policy::parse_json(&String::from_utf8_lossy(data)) else { return };
    let is_active = {
        let text = policy::to_opa_json(&input);
        let input: serde_json::Value = serde_json::from_str(&text).unwrap();
        input.pointer("/live/status").is_some_and(|status| status == "active")
    };
    let allow = evaluate(&SHIPPED, &DataPath::from_slash("authz/allow"), input.clone());
    assert!(is_active || allow != Some(Value::Bool(true)), "allowed without an active account");
    if let Some(decision) = evaluate(&SHIPPED, &DataPath::from_slash("authz/decision"), input) {
        let decision: serde_json::Value = serde_json::from_str(&policy::to_opa_json(&decision)).unwrap();
        assert!(allow.is_none() || decision["allow"] == (allow == Some(Value::Bool(true))), "two answers: {decision}");
    }
}

/// An archive as it stands, or a tar whose checksums are mended before it is compressed, so that mutations get past
/// what protects against accidents only.
fn bundle(data: &[u8]) {
    let archive = if data.starts_with(&[0x1f, 0x8b]) { data.to_vec() } else { compress(&mend(data)) };
    let settings = settings();
    let Ok(source) = Source::from_archive("fuzz", "fuzz.tar.gz", &archive, &settings) else { return };
    let mut seen = BTreeSet::new();
    let mut total = 0;
    for file in &source.files {
        let path = file.path.as_str();
        assert!(!path.starts_with('/') && !path.contains(char::is_control), "{path:?}");
        assert!(!path.split('/').any(|part| matches!(part, "" | "." | "..")), "{path:?}");
        assert!(seen.insert(path), "{path:?} twice");
        assert!(file.bytes.len() <= settings.max_file_bytes, "{path:?} is too large");
        total += file.bytes.len();
    }
    assert!(total <= settings.max_bundle_bytes, "unpacked to {total} bytes");
    load(source);
}

const BLOCK: usize = 512;

/// Puts the right checksum into each block that has the mark of a tar header.
fn mend(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    for block in tar.chunks_exact_mut(BLOCK).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}

fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
