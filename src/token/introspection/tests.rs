//! Answers of every kind, good and hostile, through the two judges; and what may be asked about at all.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::token::{
    Algorithm, IssuerProfile, KeyOrigin, KeySet, ProfileSettings, Profiles, SigningKey, UnixTime, VerifiedClaims,
};

const ISSUER: &str = "https://idp.example";
const NOW: i64 = 1_790_000_000;

fn settings() -> IntrospectionSettings {
    IntrospectionSettings {
        client_id: "gate".to_owned(),
        authentication: ClientAuthentication::Basic(SecretSource::Text(Secret::new("s"))),
        opaque: true,
        ..IntrospectionSettings::default()
    }
}

fn profile(introspection: IntrospectionSettings) -> IssuerProfile {
    IssuerProfile::new(profile_settings(introspection)).unwrap()
}

fn profile_settings(introspection: IntrospectionSettings) -> ProfileSettings {
    ProfileSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["folders".to_owned()],
        algorithms: vec![Algorithm::ES256],
        keep: vec!["role".to_owned(), "username".to_owned()],
        introspection: Some(introspection),
        ..ProfileSettings::default()
    }
}

/// The usual answer with changes; `null` takes a member away.
fn answer(changes: Value) -> Map<String, Value> {
    let mut all = json!({
        "active": true, "iss": ISSUER, "aud": "folders", "sub": "alice", "client_id": "app", "scope": "read write",
        "username": "Alice", "role": "vp", "token_type": "Bearer", "iat": NOW - 10, "exp": NOW + 290, "jti": "t1",
    });
    let (Some(all), Value::Object(changes)) = (all.as_object_mut(), changes) else { panic!("objects") };
    all.extend(changes);
    all.retain(|_, value| !value.is_null());
    all.clone()
}

fn judge(body: &str, settings: IntrospectionSettings) -> Result<VerifiedClaims, TokenError> {
    judge_answer(AnswerForm::Json, body.as_bytes(), &profile(settings), None, UnixTime(NOW))
}

/// `want` is `Ok`, or a code; for answers of no use, the code of the fault.
fn check(body: &str, settings: IntrospectionSettings, want: Result<(), &str>) {
    let got = judge(body, settings).map(drop);
    assert_eq!(got.as_ref().map_err(code), want.as_ref().map_err(|code| *code), "{body:.200}");
}

fn code(error: &TokenError) -> &'static str {
    match error {
        TokenError::Introspection(IntrospectionError::Unavailable { cause, .. }) => {
            assert_eq!((error.code(), error.fault()), ("introspection_unavailable", Fault::Issuer));
            cause.code()
        }
        _ => {
            assert_eq!(error.fault(), Fault::Token);
            error.code()
        }
    }
}

#[test]
fn an_active_answer_becomes_the_claims_of_a_token() {
    let claims = judge(&Value::Object(answer(json!({}))).to_string(), settings()).unwrap();
    assert_eq!(claims.issuer(), ISSUER);
    assert_eq!(claims.subject(), Some("alice"));
    assert_eq!(claims.audience(), ["folders"]);
    assert_eq!(claims.scopes(), ["read", "write"]);
    assert_eq!((claims.issued_at(), claims.expires_at()), (Some(NOW - 10), NOW + 290));
    assert_eq!((claims.id(), claims.key_id()), (Some("t1"), None));
    assert_eq!(Value::Object(claims.claims().clone()), json!({"role": "vp", "username": "Alice"}));
}

#[test]
fn only_the_boolean_true_is_active() {
    for (active, want) in [
        (json!(true), Ok(())),
        (json!(false), Err("token_inactive")),
        (json!("true"), Err("answer_malformed")),
        (json!("false"), Err("answer_malformed")),
        (json!(1), Err("answer_malformed")),
        (json!(0), Err("answer_malformed")),
        (json!([true]), Err("answer_malformed")),
        (json!({"active": true}), Err("answer_malformed")),
    ] {
        check(&Value::Object(answer(json!({ "active": active }))).to_string(), settings(), want);
    }
    check(r#"{"active": null}"#, settings(), Err("answer_malformed"));
    check(r#"{"Active": true}"#, settings(), Err("answer_malformed"));
    check(r#"{"active": false, "aud": 1, "exp": "x"}"#, settings(), Err("token_inactive"));
}

#[test]
fn what_is_not_one_strict_object_is_no_answer() {
    let good = Value::Object(answer(json!({}))).to_string();
    let deep = format!(r#"{{"active": true, "x": {}1{}}}"#, "[".repeat(40), "]".repeat(40));
    let wide = format!(r#"{{"active": true, "x": [{}1]}}"#, "1,".repeat(2000));
    for body in [
        "",
        " ",
        "true",
        "null",
        "[]",
        r#"[{"active": true}]"#,
        "<!doctype html><title>Sign in</title>",
        r#"{"active": true"#,
        r#"{"active": true} {"active": true}"#,
        r#"{"active": true, "active": true}"#,
        r#"{"active": false, "active": true}"#,
        r#"{"active": true, "sub": "a", "sub": "b"}"#,
        r#"{"active": true, "x": {"y": 1, "y": 2}}"#,
        r#"{"active": true, "n": 1e999}"#,
        "{\"active\": true, \"s\": \"\u{1}\"}",
        "active=true",
        &deep,
        &wide,
        good.strip_suffix('}').unwrap(),
        &format!("\u{feff}{good}"),
        &format!("{good},"),
    ] {
        check(body, settings(), Err("answer_malformed"));
    }
    let invalid = [b"{\"active\": true, \"sub\": \"\xff\"}".as_slice(), b"\xff\xfe{\0}\0"];
    for body in invalid {
        let got = judge_answer(AnswerForm::Json, body, &profile(settings()), None, UnixTime(NOW));
        assert_eq!(got.map(drop).as_ref().map_err(code), Err("answer_malformed"));
    }
}

#[test]
fn members_are_judged_as_the_claims_of_a_jwt_are() {
    for (changes, want) in [
        (json!({"iss": null}), Ok(())),
        (json!({"iss": "https://idp.example/"}), Err("introspection_issuer_mismatch")),
        (json!({"iss": ["https://idp.example"]}), Err("issuer_malformed")),
        (json!({"aud": null}), Err("audience_missing")),
        (json!({"aud": "other"}), Err("audience_mismatch")),
        (json!({"aud": ["other", "folders"]}), Ok(())),
        (json!({"aud": [1, "folders"]}), Err("audience_malformed")),
        (json!({"aud": {"folders": true}}), Err("audience_malformed")),
        (json!({"exp": null}), Err("expiry_missing")),
        (json!({"exp": NOW - 29, "iat": NOW - 100}), Ok(())),
        (json!({"exp": NOW - 30}), Err("expired")),
        (json!({"exp": (NOW + 100).to_string()}), Err("date_malformed")),
        (json!({"exp": 99_999_999_999_999_999_i64}), Err("date_malformed")),
        (json!({"exp": NOW + 40 * 86_400}), Err("lifetime_too_long")),
        (json!({"nbf": NOW + 31}), Err("not_yet_valid")),
        (json!({"iat": NOW + 31}), Err("issued_in_future")),
        (json!({"sub": null}), Ok(())),
        (json!({"sub": 7}), Err("subject_malformed")),
        (json!({"sub": ""}), Err("subject_malformed")),
        (json!({"jti": 7}), Err("claim_malformed")),
        (json!({"client_id": ["app"]}), Err("claim_malformed")),
        (json!({"scope": ["read"]}), Ok(())),
        (json!({"scope": {"read": true}}), Err("scope_malformed")),
        (json!({"events": {}}), Err("not_an_access_token")),
        (json!({"token_type": null}), Ok(())),
        (json!({"token_type": null, "nonce": "n"}), Err("not_an_access_token")),
        (json!({"token_type": "bearer"}), Ok(())),
        (json!({"token_type": "DPoP"}), Err("not_an_access_token")),
        (json!({"token_type": "refresh_token"}), Err("not_an_access_token")),
        (json!({"token_type": "N_A"}), Err("not_an_access_token")),
        (json!({"token_type": ["Bearer"]}), Err("not_an_access_token")),
        (json!({"token_use": "access_token"}), Ok(())),
        (json!({"token_use": "refresh_token"}), Err("not_an_access_token")),
        (json!({"token_use": 1}), Err("not_an_access_token")),
    ] {
        check(&Value::Object(answer(changes)).to_string(), settings(), want);
    }
}

#[test]
fn the_limits_of_the_profile_hold_for_answers() {
    let limits = ProfileSettings { max_claims: 12, max_array: 2, ..profile_settings(settings()) };
    let small = IssuerProfile::new(ProfileSettings { max_age: Some(Duration::from_secs(60)), ..limits }).unwrap();
    for (changes, want) in [
        (json!({}), Ok(())),
        (json!({"a": 1, "b": 2}), Err("too_many_claims")),
        (json!({"groups": ["a", "b"], "username": null}), Ok(())),
        (json!({"groups": ["a", "b", "c"], "username": null}), Err("array_too_long")),
        (json!({"iat": NOW - 90}), Err("token_too_old")),
        (json!({"iat": null}), Err("issued_at_missing")),
    ] {
        let body = Value::Object(answer(changes)).to_string();
        let got = judge_answer(AnswerForm::Json, body.as_bytes(), &small, None, UnixTime(NOW)).map(drop);
        assert_eq!(got.as_ref().map_err(code), want.as_ref().map_err(|code| *code), "{body}");
    }
}

#[test]
fn audience_and_expiry_may_be_missing_only_where_the_profile_says_so() {
    let lax = IntrospectionSettings { optional_audience: true, optional_expiry: true, ..settings() };
    for (changes, want) in [
        (json!({"aud": null}), Ok(())),
        (json!({"aud": "other"}), Err("audience_mismatch")),
        (json!({"aud": null, "token_type": null}), Err("not_an_access_token")),
        (json!({"aud": [], "token_type": null}), Err("audience_mismatch")),
        (json!({"exp": null}), Ok(())),
        (json!({"exp": "never"}), Err("date_malformed")),
    ] {
        check(&Value::Object(answer(changes)).to_string(), lax.clone(), want);
    }
    let claims = judge(&Value::Object(answer(json!({"aud": null, "exp": null}))).to_string(), lax).unwrap();
    assert!(claims.audience().is_empty());
    assert_eq!(claims.expires_at(), NOW + 30, "without `exp`, the answer holds for `cache_ttl`");
}

// === signed answers ===

struct Signed {
    key: SigningKey,
    keys: KeySet,
}

impl Signed {
    fn new() -> Self {
        let key = SigningKey::generate_es256("k").unwrap();
        let keys = KeySet::parse(key.public_jwks().unwrap().as_bytes(), KeyOrigin::Remote, &[Algorithm::ES256]);
        Self { key, keys: keys.unwrap() }
    }

    fn jwt(&self, typ: &str, changes: Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": "gate", "iat": NOW, "token_introspection": Value::Object(answer(json!({}))),
        });
        let (Some(claims), Value::Object(changes)) = (claims.as_object_mut(), changes) else { panic!("objects") };
        claims.extend(changes);
        claims.retain(|_, value| !value.is_null());
        self.key.sign(typ, claims).unwrap()
    }

    fn judge(&self, body: &[u8]) -> Result<(), &'static str> {
        let profile = profile(IntrospectionSettings { signed: true, ..settings() });
        let got = judge_answer(AnswerForm::Signed, body, &profile, Some(&self.keys), UnixTime(NOW));
        got.map(drop).map_err(|error| match &error {
            TokenError::Introspection(IntrospectionError::Unavailable {
                cause: IntrospectionFault::Unverified(inner),
                ..
            }) => inner.code(),
            error => code(error),
        })
    }
}

#[test]
fn a_signed_answer_is_for_us_from_the_issuer_and_made_now() {
    let signed = Signed::new();
    let typ = "token-introspection+jwt";
    for (typ, changes, want) in [
        (typ, json!({}), Ok(())),
        ("application/token-introspection+jwt", json!({}), Ok(())),
        (typ, json!({"aud": ["gate", "other"]}), Ok(())),
        ("at+jwt", json!({}), Err("type_not_allowed")),
        ("JWT", json!({}), Err("type_not_allowed")),
        (typ, json!({"iss": null}), Err("issuer_malformed")),
        (typ, json!({"iss": "https://other.example"}), Err("issuer_unknown")),
        (typ, json!({"aud": null}), Err("audience_malformed")),
        (typ, json!({"aud": "other"}), Err("audience_mismatch")),
        (typ, json!({"aud": "folders"}), Ok(())),
        (typ, json!({"aud": ""}), Err("audience_mismatch")),
        // Swapped: made by us for the issuer.
        (typ, json!({"iss": "gate", "aud": ISSUER}), Err("issuer_unknown")),
        (typ, json!({"iss": "gate", "aud": "gate"}), Err("issuer_unknown")),
        (typ, json!({"iat": null}), Err("date_malformed")),
        (typ, json!({"iat": NOW + 31}), Err("issued_in_future")),
        (typ, json!({"iat": NOW - 89}), Ok(())),
        (typ, json!({"iat": NOW - 90}), Err("expired")),
        (typ, json!({"exp": NOW - 30}), Err("expired")),
        (typ, json!({"token_introspection": null}), Err("claim_malformed")),
        (typ, json!({"token_introspection": "{\"active\": true}"}), Err("claim_malformed")),
        (typ, json!({"token_introspection": {"active": "true"}}), Err("answer_malformed")),
        (typ, json!({"token_introspection": {"active": false}}), Err("token_inactive")),
        (typ, json!({"token_introspection": {"active": true}}), Err("expiry_missing")),
        // What counts is inside; the outer members say nothing about the token.
        (typ, json!({"token_introspection": {}, "active": true}), Err("answer_malformed")),
    ] {
        assert_eq!(signed.judge(signed.jwt(typ, changes.clone()).as_bytes()), want, "{typ} {changes}");
    }
}

#[test]
fn a_signed_answer_that_is_no_signed_answer_is_refused() {
    let (signed, other) = (Signed::new(), Signed::new());
    let good = signed.jwt("token-introspection+jwt", json!({}));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let json = Value::Object(answer(json!({}))).to_string();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoidG9rZW4taW50cm9zcGVjdGlvbitqd3QifQ.e30.";
    for (body, want) in [
        (json.as_str(), "forbidden_character"),
        ("", "wrong_segment_count"),
        ("\u{e9}.e30.AA", "forbidden_character"),
        (none, "empty_segment"),
        (&*format!("{none}AA"), "algorithm_none"),
        (head, "wrong_segment_count"),
        (&*format!("{good}\n"), "forbidden_character"),
        (&*format!("{head}.AAAA{signature}"), "bad_signature"),
        (&*other.jwt("token-introspection+jwt", json!({})), "bad_signature"),
    ] {
        assert_eq!(signed.judge(body.as_bytes()), Err(want), "{body:.60}");
    }
    // The other way about: JSON where a signed answer is required.
    check(&json, IntrospectionSettings { signed: true, ..settings() }, Err("answer_content_type"));
}

#[test]
fn an_unknown_key_of_a_signed_answer_asks_for_fresh_keys() {
    let (signed, unknown) = (Signed::new(), SigningKey::generate_es256("new").unwrap());
    let claims = json!({"iss": ISSUER, "aud": "gate", "iat": NOW, "token_introspection": answer(json!({}))});
    let body = unknown.sign("token-introspection+jwt", claims.as_object().unwrap()).unwrap();
    let profile = profile(settings());
    for keys in [Some(&signed.keys), None] {
        let error = judge_answer(AnswerForm::Signed, body.as_bytes(), &profile, keys, UnixTime(NOW)).unwrap_err();
        assert_eq!(error.wants_keys_of(), Some(ISSUER));
        assert_eq!(error.fault(), Fault::Issuer);
    }
}

// === second opinions ===

#[test]
fn a_second_opinion_is_about_the_same_token() {
    let claims = judge(&Value::Object(answer(json!({}))).to_string(), settings()).unwrap();
    let profile = profile(IntrospectionSettings { jwt: JwtOpinion::Always, ..settings() });
    for (opinion, want) in [
        (json!({"active": true}), Ok(())),
        (json!({"active": true, "sub": "alice", "jti": "t1", "aud": "elsewhere"}), Ok(())),
        (json!({"active": false}), Err("token_inactive")),
        (json!({}), Err("answer_malformed")),
        (json!({"active": true, "sub": "bob"}), Err("introspection_contradiction")),
        (json!({"active": true, "jti": "t2"}), Err("introspection_contradiction")),
        (json!({"active": true, "jti": 1}), Err("answer_malformed")),
        (json!({"active": true, "iss": "https://other.example"}), Err("introspection_issuer_mismatch")),
        (json!({"active": true, "exp": NOW - 30}), Err("expired")),
        (json!({"active": true, "token_type": "refresh_token"}), Err("not_an_access_token")),
    ] {
        let body = opinion.to_string();
        let got = confirm(&claims, AnswerForm::Json, body.as_bytes(), &profile, None, UnixTime(NOW));
        assert_eq!(got.as_ref().map_err(code), want.as_ref().map_err(|code| *code), "{opinion}");
    }
}

#[test]
fn a_binding_that_only_the_issuer_tells_is_not_overlooked() {
    let (ours, other) = ("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let profile = profile(IntrospectionSettings { jwt: JwtOpinion::Always, ..settings() });
    for (own, opinion, want) in [
        (json!(null), json!({"active": true}), Ok(())),
        (json!({"jkt": ours}), json!({"active": true}), Ok(())),
        (json!({"jkt": ours}), json!({"active": true, "token_type": "DPoP", "cnf": {"jkt": ours}}), Ok(())),
        (json!({"jkt": ours}), json!({"active": true, "cnf": {"jkt": other}}), Err("introspection_contradiction")),
        (
            json!(null),
            json!({"active": true, "token_type": "DPoP", "cnf": {"jkt": ours}}),
            Err("introspection_contradiction"),
        ),
        (json!(null), json!({"active": true, "cnf": {"x5t#S256": ours}}), Err("introspection_contradiction")),
        (
            json!({"jkt": ours}),
            json!({"active": true, "cnf": {"jkt": ours, "x5t#S256": ours}}),
            Err("introspection_contradiction"),
        ),
        (json!(null), json!({"active": true, "cnf": {"jwk": {}}}), Err("confirmation_unknown")),
        (json!(null), json!({"active": true, "cnf": null}), Err("confirmation_malformed")),
    ] {
        let claims = judge(&Value::Object(answer(json!({ "cnf": own }))).to_string(), settings()).unwrap();
        let body = opinion.to_string();
        let got = confirm(&claims, AnswerForm::Json, body.as_bytes(), &profile, None, UnixTime(NOW));
        assert_eq!(got.as_ref().map_err(code), want.as_ref().map_err(|code| *code), "{own} {opinion}");
    }
}

// === tokens and settings ===

#[test]
fn what_names_its_own_issuer_is_never_opaque() {
    let jwt = Signed::new().jwt("at+jwt", json!({}));
    let (mangled, cut) = (jwt.replacen("eyJ0", "eyJ_", 1), format!("{}.x.", jwt.split('.').next().unwrap()));
    for (text, want) in [
        (jwt.as_str(), true),
        (&mangled, true),
        (&cut, true),
        ("eyJhbGciOiJkaXIifQ.AA.AA.AA.AA", true),
        ("ICAgICAgeyJhbGciOiJSUzI1NiJ9.e30.AA", true),
        ("aaa.bbb.ccc", false),
        ("ory_at_abc.def", false),
        ("2YotnFZFEjr1zCsicMWpAA", false),
        ("eyJhbGciOiJSUzI1NiJ9.e30", true),
        ("eyJhbGciOiJSUzI1NiJ9.e30.AA.AA", true),
        ("eyJhbGciOiJSUzI1NiJ9", false),
        ("", false),
        (".", false),
        ("..", false),
    ] {
        assert_eq!(is_jose(&RawToken::new(text)), want, "{text}");
    }
}

#[test]
fn a_question_holds_a_sound_token_and_nothing_else() {
    let ask = |text: &str| IntrospectionRequest::new(&RawToken::new(text), Limits::default());
    let mut form = ask("a+/~b-._9==").unwrap();
    form.field("client_secret", "p w&=%");
    assert_eq!(format!("{form:?}"), "IntrospectionRequest(85 bytes)");
    assert_eq!(
        String::from_utf8(form.into_body()).unwrap(),
        "token=a%2B%2F%7Eb-._9%3D%3D&token_type_hint=access_token&client_secret=p%20w%26%3D%25"
    );
    for text in ["", "==", "a b", "a=b", "a&token_type_hint=x", "a\r\nhost: x", "é", "a\0", "a,b", "\"a\""] {
        assert_eq!(ask(text).map(drop).map_err(|error| error.code()), Err("forbidden_character"), "{text:?}");
    }
    assert!(ask(&"a".repeat(8192)).is_ok());
    assert_eq!(ask(&"a".repeat(8193)).map(drop).map_err(|error| error.code()), Err("token_too_large"));
}

#[test]
fn settings_that_cannot_be_right_are_refused() {
    let bearer = ClientAuthentication::Bearer(SecretSource::Text(Secret::new("t")));
    for (settings, field) in [
        (IntrospectionSettings { opaque: false, ..settings() }, "introspection"),
        (IntrospectionSettings { client_id: String::new(), ..settings() }, "introspection.client_id"),
        (
            IntrospectionSettings { client_id: String::new(), authentication: bearer, signed: true, ..settings() },
            "introspection.client_id",
        ),
        (IntrospectionSettings { cache_ttl: Duration::from_secs(301), ..settings() }, "introspection.cache_ttl"),
        (IntrospectionSettings { concurrency: 0, ..settings() }, "introspection.concurrency"),
        (IntrospectionSettings { timeout: Duration::ZERO, ..settings() }, "introspection.timeout"),
        (
            IntrospectionSettings { authentication: ClientAuthentication::Certificate, ..settings() },
            "introspection.client_certificate",
        ),
        (
            IntrospectionSettings { optional_expiry: true, cache_ttl: Duration::ZERO, ..settings() },
            "introspection.expiry",
        ),
    ] {
        let problems = IssuerProfile::new(profile_settings(settings)).unwrap_err();
        assert_eq!(problems.iter().map(|problem| problem.field).collect::<Vec<_>>(), [field]);
    }
    let two = ["https://a.example", "https://b.example"].map(|issuer| {
        IssuerProfile::new(ProfileSettings { issuer: issuer.to_owned(), ..profile_settings(settings()) }).unwrap()
    });
    assert_eq!(Profiles::new(two.into()).unwrap_err().field, "introspection.opaque");
}

#[test]
fn secrets_are_not_shown_and_are_encoded_before_they_are_sent() {
    let secret = Secret::new("p:w %\n");
    assert_eq!(secret.basic("a:b").expose(), "a%3Ab:p%3Aw%20%25");
    let shown = format!("{secret:?} {:?}", ClientAuthentication::Post(SecretSource::Text(secret.clone())));
    assert!(!shown.contains("p:w"), "{shown}");
}

proptest! {
    #[test]
    fn whatever_the_answer_no_token_passes_that_the_members_do_not_permit(
        active in any::<bool>(), aud in 0_u8..3, exp in 0_i64..200, nbf in 0_i64..200, now in 0_i64..200,
    ) {
        let aud = ["folders", "other", ""][usize::from(aud)];
        let body = json!({"active": active, "aud": aud, "exp": NOW + exp, "nbf": NOW + nbf}).to_string();
        let profile = profile(settings());
        let got = judge_answer(AnswerForm::Json, body.as_bytes(), &profile, None, UnixTime(NOW + now));
        let want = active && aud == "folders" && now < exp + 30 && nbf <= now + 30;
        prop_assert_eq!(got.is_ok(), want, "{}", body);
    }

    #[test]
    fn no_bytes_panic(body in any::<Vec<u8>>()) {
        let profile = profile(settings());
        for form in [AnswerForm::Json, AnswerForm::Signed] {
            prop_assert!(judge_answer(form, &body, &profile, None, UnixTime(NOW)).is_err());
        }
    }
}
