//! What issuers say besides access tokens: logout tokens, security event tokens and status lists, through their public
//! doors. Tables of hostile ones (`tests/cases/statements`), the vectors of the status list draft, and what holds for all.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use claimgate::token::{
    self, Algorithm, Effect, EventError, IssuerProfile, KeyOrigin, KeyRing, KeySet, LogoutEnds, LogoutSettings, Notice,
    ProfileSettings, Profiles, RawToken, Revocation, SigningKey, Status, StatusList, StatusListError, StatusListLimits,
    Transmitter, UnixTime,
};
use flate2::{Compression, write::ZlibEncoder};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

const NOW: i64 = 1_790_000_000;
const ISSUER: &str = "https://idp.example";
const LIST: &str = "https://idp.example/lists/1";

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// Issuers, transmitters and their keys.
struct World {
    signers: BTreeMap<&'static str, SigningKey>,
    profiles: Profiles,
    ring: KeyRing,
}

/// A kind of statement: the good one, and what comes of any.
struct Kind {
    typ: &'static str,
    claims: &'static [(&'static str, &'static str)],
    receive: fn(&str, i64) -> Told,
}

/// What a statement ends, or the code of its refusal.
type Told = Result<String, &'static str>;

/// One row of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    header: BTreeMap<String, Option<String>>,
    #[serde(default)]
    header_end: String,
    #[serde(default)]
    claims: BTreeMap<String, Option<String>>,
    #[serde(default)]
    claims_end: String,
    #[serde(default)]
    claims_text: Option<String>,
    #[serde(default)]
    signer: Option<String>,
    /// Seconds from the usual time.
    #[serde(default)]
    later: i64,
    expect: String,
}

const LOGOUT: Kind = Kind {
    typ: "logout+jwt",
    claims: &[
        ("iss", r#""https://idp.example""#),
        ("aud", r#""web""#),
        ("iat", "NOW"),
        ("exp", "NOW+120"),
        ("jti", r#""l-1""#),
        ("sub", r#""alice""#),
        ("sid", r#""s-1""#),
        ("events", r#"{"http://schemas.openid.net/event/backchannel-logout":{}}"#),
    ],
    receive: |text, now| {
        told(text, token::receive_logout(&RawToken::new(text), &WORLD.profiles, &WORLD.ring, UnixTime(now)))
    },
};

const EVENT: Kind = Kind {
    typ: "secevent+jwt",
    claims: &[
        ("iss", r#""https://idp.example""#),
        ("aud", r#""https://gate.example""#),
        ("iat", "NOW"),
        ("jti", r#""e-1""#),
        ("sub_id", r#"{"format":"iss_sub","iss":"https://idp.example","sub":"alice"}"#),
        ("events", r#"{"CAEP/session-revoked":{"event_timestamp":NOW-10}}"#),
    ],
    receive: |text, now| {
        let transmitters = WORLD.profiles.transmitters();
        told(text, token::receive_event(&RawToken::new(text), transmitters, &WORLD.ring, UnixTime(now)))
    },
};

const STATUS_LIST: Kind = Kind {
    typ: "statuslist+jwt",
    claims: &[
        ("sub", r#""https://idp.example/lists/1""#),
        ("iat", "NOW"),
        ("exp", "NOW+3600"),
        ("ttl", "300"),
        ("status_list", r#"{"bits":1,"lst":"eNrbuRgAAhcBXQ"}"#),
    ],
    receive: |text, now| match open(text, StatusListLimits::default(), now) {
        Ok(list) => Ok(shown(&list)),
        Err(error) => {
            hides(text, &format!("{error} {error:?}"));
            Err(error.code())
        }
    },
};

// === impl World ===

impl World {
    fn new() -> Self {
        let signers: BTreeMap<_, _> = ["es256", "other", "signals", "stranger"]
            .map(|name| (name, SigningKey::generate_es256("k").unwrap()))
            .into_iter()
            .collect();
        let logout = |ends, types: &[&str]| LogoutSettings {
            audiences: vec!["web".to_owned(), "mobile".to_owned()],
            types: types.iter().map(|typ| (*typ).to_owned()).collect(),
            ends,
        };
        let usual = ["logout+jwt", "jwt"];
        let mut ring = KeyRing::default();
        let mut profiles = Vec::new();
        for (issuer, signer, logout) in [
            (ISSUER, "es256", Some(logout(LogoutEnds::Session, &usual))),
            ("https://nosid.example", "es256", Some(logout(LogoutEnds::Subject, &["logout+jwt", "none"]))),
            ("https://silent.example", "", Some(logout(LogoutEnds::Session, &usual))),
            ("https://other.example", "other", None),
            ("https://signals.example", "signals", None),
        ] {
            if let Some(signer) = signers.get(signer) {
                let jwks = signer.public_jwks().unwrap();
                let set = KeySet::parse(jwks.as_bytes(), KeyOrigin::Local, &[Algorithm::ES256]).unwrap();
                ring.insert(issuer.to_owned(), Arc::new(set));
            }
            let settings = ProfileSettings {
                issuer: issuer.to_owned(),
                audiences: vec!["folders".to_owned()],
                algorithms: vec![Algorithm::ES256],
                logout,
                ..ProfileSettings::default()
            };
            profiles.push(IssuerProfile::new(settings).unwrap());
        }
        let transmitter = |issuer: &str| Transmitter {
            issuer: issuer.to_owned(),
            audiences: vec!["https://gate.example".to_owned()],
            algorithms: vec![Algorithm::ES256],
            leeway: std::time::Duration::from_secs(30),
            tokens_of: ISSUER.to_owned(),
        };
        let transmitters = [ISSUER, "https://signals.example", "https://silent.example"].map(transmitter).to_vec();
        Self { signers, profiles: Profiles::new(profiles).unwrap().with_transmitters(transmitters), ring }
    }
}

// === making statements ===

impl Kind {
    /// The good one, changed.
    fn draft(&self, case: &Case) -> String {
        let header = [("alg", r#""ES256""#), ("kid", r#""k""#), ("typ", &*format!("\"{}\"", self.typ))]
            .map(|(name, text)| (name.to_owned(), text.to_owned()));
        let claims: Vec<_> = self.claims.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let header = object(&header, &case.header, &case.header_end);
        let claims = object(&claims, &case.claims, &case.claims_end);
        let claims = case.claims_text.clone().unwrap_or(claims);
        let signer = &WORLD.signers[case.signer.as_deref().unwrap_or("es256")];
        signer.sign_bytes(with_words(&header).as_bytes(), with_words(&claims).as_bytes()).unwrap()
    }

    fn good(&self) -> String {
        self.draft(&Case {
            name: String::new(),
            header: BTreeMap::new(),
            header_end: String::new(),
            claims: BTreeMap::new(),
            claims_end: String::new(),
            claims_text: None,
            signer: None,
            later: 0,
            expect: String::new(),
        })
    }
}

fn object(base: &[(String, String)], changes: &BTreeMap<String, Option<String>>, more: &str) -> String {
    let mut members: BTreeMap<&str, Option<&str>> =
        base.iter().map(|(name, text)| (name.as_str(), Some(text.as_str()))).collect();
    members.extend(changes.iter().map(|(name, text)| (name.as_str(), text.as_deref())));
    let mut texts: Vec<String> =
        members.iter().filter_map(|(name, text)| Some(format!("\"{name}\":{}", text.as_ref()?))).collect();
    texts.extend((!more.is_empty()).then(|| more.to_owned()));
    format!("{{{}}}", texts.join(","))
}

/// `CAEP/x` for the event's URI, `NOW+30` for a time.
fn with_words(text: &str) -> String {
    let mut text = text.to_owned();
    for (word, uri) in [("CAEP/", "caep"), ("RISC/", "risc"), ("SSF/", "ssf")] {
        text = text.replace(word, &format!("https://schemas.openid.net/secevent/{uri}/event-type/"));
    }
    let mut parts = text.split("NOW");
    let mut written = parts.next().unwrap().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit() && !"+-".contains(c)).unwrap_or(part.len());
        let (offset, rest) = part.split_at(digits);
        written += &(NOW + offset.parse::<i64>().unwrap_or_default()).to_string();
        written += rest;
    }
    written
}

// === what comes of them ===

fn told(text: &str, result: Result<Notice, EventError>) -> Told {
    match result {
        Ok(Notice { effect: Effect::Nothing(why), .. }) => Ok(format!("nothing {}", why.code())),
        Ok(Notice { effect: Effect::Revoke(entries), .. }) => {
            Ok(entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Err(error) => {
            hides(text, &format!("{error} {error:?}"));
            Err(error.code())
        }
    }
}

fn entry(entry: &Revocation) -> String {
    let issuer = entry.target.issuer().unwrap();
    assert!([ISSUER, "https://nosid.example"].contains(&issuer), "{entry:?}");
    let (kind, _, id) = entry.target.parts();
    format!("{} {id} until {}", kind.as_str(), entry.valid_after.unwrap())
}

fn shown(list: &StatusList) -> String {
    let statuses: String = (0..16)
        .map(|index| match list.at(index) {
            None => '.',
            Some(Status::Valid) => '0',
            Some(Status::Invalid) => '1',
            Some(Status::Suspended) => '2',
            Some(Status::Other(value)) => char::from(b'0' + value),
        })
        .collect();
    let until = list.expires_at().map_or_else(String::new, |at| format!(", until {}", at.0));
    let ttl = list.ttl().map_or_else(String::new, |ttl| format!(", ttl {}", ttl.as_secs()));
    format!("{statuses} of {} bytes{until}{ttl}", list.size())
}

fn open(text: &str, limits: StatusListLimits, now: i64) -> Result<StatusList, StatusListError> {
    let profile = WORLD.profiles.get(ISSUER).unwrap();
    let keys = WORLD.ring.get(ISSUER).map(AsRef::as_ref);
    StatusList::open(&RawToken::new(text), LIST, profile, keys, limits, UnixTime(now))
}

/// A message repeats nothing of the statement's bytes.
fn hides(text: &str, message: &str) {
    for part in text.split('.').filter(|part| part.len() > 20) {
        assert!(!message.contains(part), "{message}");
    }
}

fn check(file: &str, kind: &Kind) {
    let text = fs::read_to_string(format!("tests/cases/statements/{file}.yaml")).unwrap();
    let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(cases.len() > 40, "only {} cases", cases.len());
    let mut wrong = String::new();
    for case in &cases {
        let found = (kind.receive)(&kind.draft(case), NOW + case.later).unwrap_or_else(str::to_owned);
        let expected = with_words(&case.expect);
        if found != expected {
            wrong += &format!("{file}: {}: expected {expected}, got {found}\n", case.name);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_logout_token_of_the_table_gets_its_due() {
    check("logout", &LOGOUT);
}

#[test]
fn every_security_event_token_of_the_table_gets_its_due() {
    check("events", &EVENT);
}

#[test]
fn every_status_list_of_the_table_gets_its_due() {
    check("status_list", &STATUS_LIST);
}

#[test]
fn no_statement_passes_for_another_kind_or_for_an_access_token() {
    for kind in [&LOGOUT, &EVENT, &STATUS_LIST] {
        let good = kind.good();
        let as_access_token = token::verify(&RawToken::new(&*good), &WORLD.profiles, &WORLD.ring, UnixTime(NOW));
        assert!(as_access_token.is_err(), "{}", kind.typ);
        for other in [&LOGOUT, &EVENT, &STATUS_LIST] {
            assert_eq!((other.receive)(&good, NOW).is_ok(), other.typ == kind.typ, "{} as {}", kind.typ, other.typ);
        }
    }
}

#[test]
fn no_changed_character_passes() {
    for kind in [&LOGOUT, &EVENT, &STATUS_LIST] {
        let good = kind.good();
        for position in 0..good.len() {
            for other in ['A', 'q', '_', '.', '='] {
                let mut changed = good.clone();
                changed.replace_range(position..=position, other.encode_utf8(&mut [0; 4]));
                assert!(changed == good || (kind.receive)(&changed, NOW).is_err(), "{other:?} at {position}");
            }
            let mut shorter = good.clone();
            shorter.remove(position);
            assert!((kind.receive)(&shorter, NOW).is_err(), "without the character at {position}");
        }
    }
}

#[test]
fn a_statement_that_is_delivered_again_has_the_same_content_however_it_is_signed() {
    let notice =
        |text: &str| token::receive_logout(&RawToken::new(text), &WORLD.profiles, &WORLD.ring, UnixTime(NOW)).unwrap();
    let (one, again) = (LOGOUT.good(), LOGOUT.good());
    assert_ne!(one, again, "the signature is random");
    assert_eq!(notice(&one).content, notice(&again).content);
}

#[test]
fn too_long_statements_are_not_looked_at() {
    for (kind, limit) in [(&LOGOUT, 8 << 10), (&EVENT, 16 << 10), (&STATUS_LIST, 4 << 20)] {
        assert_eq!((kind.receive)(&"A".repeat(limit + 1), NOW).unwrap_err(), "token_too_large", "{}", kind.typ);
        assert_eq!((kind.receive)(&"A".repeat(limit), NOW).unwrap_err(), "wrong_segment_count", "{}", kind.typ);
    }
}

// === status lists ===

/// A list signed by the issuer.
fn signed(bits: u8, packed: &[u8]) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(packed).unwrap();
    let lst = URL_SAFE_NO_PAD.encode(encoder.finish().unwrap());
    let claims = serde_json::json!({"sub": LIST, "iat": NOW, "status_list": {"bits": bits, "lst": lst}});
    WORLD.signers["es256"].sign("statuslist+jwt", claims.as_object().unwrap()).unwrap()
}

#[test]
fn the_vectors_of_the_draft_give_their_statuses_and_zero_everywhere_else() {
    let text = fs::read_to_string("tests/cases/statements/status_list_draft.json").unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let claims = serde_json::json!({"sub": LIST, "iat": NOW,
            "status_list": {"bits": vector["bits"], "lst": vector["lst"]}});
        let signer = &WORLD.signers["es256"];
        let text = signer.sign("statuslist+jwt", claims.as_object().unwrap()).unwrap();
        let list = open(&text, StatusListLimits::default(), NOW).unwrap();
        let entries = vector["entries"].as_u64().unwrap();
        let expected: BTreeMap<u64, u64> = vector["statuses"].as_array().unwrap().iter().map(pair).collect();
        for index in 0..entries {
            let value = match list.at(index).unwrap() {
                Status::Valid => 0,
                Status::Invalid => 1,
                Status::Suspended => 2,
                Status::Other(value) => value.into(),
            };
            assert_eq!(value, expected.get(&index).copied().unwrap_or(0), "{index} of {} bits", vector["bits"]);
        }
        for outside in [entries, entries + 1, u64::MAX] {
            assert_eq!(list.at(outside), None);
        }
    }
}

fn pair(pair: &Value) -> (u64, u64) {
    (pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap())
}

#[test]
fn a_list_is_unpacked_within_its_bound() {
    let limits = StatusListLimits { list_bytes: 1000, ..StatusListLimits::default() };
    assert_eq!(open(&signed(1, &[0; 1000]), limits, NOW).unwrap().size(), 1000);
    assert_eq!(open(&signed(1, &[0; 1001]), limits, NOW).unwrap_err().code(), "status_list_too_large");
    // Some 110 KiB that become 64 MiB.
    let bomb = signed(1, &vec![0; 64 << 20]);
    assert!(bomb.len() < 128 << 10, "{}", bomb.len());
    assert_eq!(open(&bomb, StatusListLimits::default(), NOW).unwrap_err().code(), "status_list_too_large");
}

proptest! {
    #[test]
    fn what_was_packed_from_the_lowest_bit_up_is_found_again(
        bits in prop::sample::select(vec![1_u8, 2, 4, 8]), seeds in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let per_byte = usize::from(8 / bits);
        let values: Vec<u8> = seeds.iter().map(|seed| seed & (u8::MAX >> (8 - bits))).collect();
        let mut packed = vec![0_u8; values.len().div_ceil(per_byte)];
        for (index, value) in values.iter().enumerate() {
            packed[index / per_byte] |= value << (usize::from(bits) * (index % per_byte));
        }
        let list = open(&signed(bits, &packed), StatusListLimits::default(), NOW).unwrap();
        for (index, value) in values.iter().enumerate() {
            let found = match list.at(index as u64).unwrap() {
                Status::Valid => 0,
                Status::Invalid => 1,
                Status::Suspended => 2,
                Status::Other(other) => other,
            };
            prop_assert_eq!(found, *value);
        }
        prop_assert_eq!(list.at((packed.len() * per_byte) as u64), None);
    }

    #[test]
    fn no_bytes_panic(text in "[ -~]{0,200}", now in any::<i64>()) {
        for kind in [&LOGOUT, &EVENT, &STATUS_LIST] {
            prop_assert!((kind.receive)(&text, now).is_err());
        }
    }

    #[test]
    fn no_time_panics(now in any::<i64>()) {
        for kind in [&LOGOUT, &EVENT, &STATUS_LIST] {
            let _ = (kind.receive)(&kind.good(), now);
        }
    }
}
