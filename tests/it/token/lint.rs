//! `token lint`: a table of tokens and the rules that object to them, then the verb through the real program: formats, exit
//! codes, policies, hostile input. No format repeats a value of a claim or bytes of a token.

use std::{collections::BTreeSet, fs};

use claimgate::token::{self, LintLimits, RawToken, Report, Rule};
use proptest::prelude::*;
use serde_json::Value;

use super::{CLAIMS, Draft, HEADER, WORLD, base64url, object_text, verb::run};

/// Members instead or besides, as JSON text; `-` leaves one out.
type Changes = &'static [(&'static str, &'static str)];

/// Header, claims, and every `rule@place` that is expected.
const CASES: &[(Changes, Changes, &[&str])] = &[
    // What the design asks for: identity and one stable role.
    (&[], &[], &[]),
    (&[], &[("org_id", r#""acme""#), ("role", r#""marketing_vp""#), ("scope", r#""folders.read openid""#)], &[]),
    (
        &[],
        &[
            ("roles", r#"["editor","auditor"]"#),
            ("acr", r#""2""#),
            ("amr", r#"["pwd","otp","mfa"]"#),
            ("auth_time", "NOW"),
        ],
        &[],
    ),
    (
        &[],
        &[
            ("cnf", r#"{"jkt":"x"}"#),
            ("act", r#"{"sub":"svc"}"#),
            ("status", r#"{"status_list":{"idx":1,"uri":"https://a"}}"#),
        ],
        &[],
    ),
    // Permissions.
    (&[], &[("permissions", r#"["folders:read"]"#)], &["permissions_in_token@claims.permissions"]),
    (
        &[],
        &[("https://idp.example/Permissions", r#""all""#)],
        &["permissions_in_token@claims.https://idp.example/Permissions"],
    ),
    (
        &[],
        &[("entitlements", r#"["x"]"#), ("acl", r#"[{"a":1}]"#)],
        &["permissions_in_token@claims.acl", "permissions_in_token@claims.entitlements"],
    ),
    (&[], &[("is_admin", "true")], &["permissions_in_token@claims.is_admin"]),
    (&[], &[("allowed_folders", r#"["a"]"#)], &["permissions_in_token@claims.allowed_folders"]),
    (
        &[],
        &[("authorization", r#"{"permissions":[]}"#)],
        &["permissions_in_token@claims.authorization", "permissions_in_token@claims.authorization.permissions"],
    ),
    (&[], &[("x", r#"{"y":{"privileges":["a"]}}"#)], &["permissions_in_token@claims.x.y.privileges"]),
    (&[], &[("permissions", "null")], &[]),
    (&[], &[("folders", r#"{"f-1":"editor","f-2":["viewer"]}"#)], &["roles_per_resource@claims.folders"]),
    (
        &[],
        &[("resource_access", r#"{"account":{"roles":["manage-account"]}}"#)],
        &["roles_per_resource@claims.resource_access"],
    ),
    (&[], &[("folder_roles", r#"[{"id":"f-1","role":"x"}]"#)], &["roles_per_resource@claims.folder_roles"]),
    (&[], &[("roles", r#"["folder:12:editor"]"#)], &["roles_per_resource@claims.roles"]),
    (&[], &[("realm_access", r#"{"roles":["editor","viewer"]}"#)], &[]),
    (&[], &[("groups", r#"["a","b","c","d","e","f"]"#)], &["many_roles@claims.groups"]),
    (&[], &[("realm_access", r#"{"roles":["a","b","c","d","e","f"]}"#)], &["many_roles@claims.realm_access.roles"]),
    (&[], &[("pages", r#"["https://a/1","https://a/2"]"#)], &["urls_in_token@claims.pages"]),
    (&[], &[("routes", r#"["/folders","/reports"]"#)], &["urls_in_token@claims.routes"]),
    (&[], &[("routes", r#"{"/folders":1,"/reports":2}"#)], &["urls_in_token@claims.routes"]),
    (&[], &[("logo", r#""https://a/1""#)], &[]),
    (&[], &[("folder_ids", r#"["f-1","f-2","f-3"]"#)], &["ids_in_token@claims.folder_ids"]),
    (&[], &[("docs", "[1,2,3]")], &["ids_in_token@claims.docs"]),
    (
        &[],
        &[(
            "wids",
            r#"["3f2504e0-4f89-11d3-9a0c-0305e82c3301","3f2504e0-4f89-11d3-9a0c-0305e82c3302","3f2504e0-4f89-11d3-9a0c-0305e82c3303"]"#,
        )],
        &["ids_in_token@claims.wids"],
    ),
    (
        &[],
        &[("suspended", "false"), ("quota_used", "4")],
        &["mutable_state_in_token@claims.quota_used", "mutable_state_in_token@claims.suspended"],
    ),
    (
        &[],
        &[("tags", r#"["a","b","c","d","e","f","g","h","i","j","k","l","m","n","o","p","q"]"#)],
        &["long_list@claims.tags"],
    ),
    (&[], &[("scope", r#""a b c d e f g h i j k l m n o p q""#)], &["many_scopes@claims.scope"]),
    (&[], &[("scp", r#"["folder:12:read"]"#)], &["scopes_per_resource@claims.scp"]),
    (&[], &[("scope", "7")], &["claim_malformed@claims.scope"]),
    (&[], &[("_claim_names", r#"{"groups":"src1"}"#)], &["claims_elsewhere@claims._claim_names"]),
    (&[], &[("hasgroups", "true")], &["claims_elsewhere@claims._claim_names"]),
    // Lifetime and what is missing.
    (&[], &[("exp", "NOW+3600")], &[]),
    (&[], &[("exp", "NOW+3601")], &["lifetime_long@claims.exp"]),
    (&[], &[("exp", "NOW+86401")], &["lifetime_too_long@claims.exp"]),
    (&[], &[("exp", "NOW-1")], &["dates_contradict@claims.exp"]),
    (&[], &[("exp", "-")], &["expiry_missing@claims.exp"]),
    (&[], &[("exp", "null")], &["expiry_missing@claims.exp"]),
    (&[], &[("exp", r#""NOW""#)], &["claim_malformed@claims.exp"]),
    (&[], &[("iat", "-1")], &["claim_malformed@claims.iat"]),
    (
        &[],
        &[("iat", "-"), ("jti", "-"), ("sub", "-"), ("client_id", "-")],
        &[
            "client_id_missing@claims.client_id",
            "id_missing@claims.jti",
            "issued_at_missing@claims.iat",
            "subject_missing@claims.sub",
        ],
    ),
    (&[], &[("client_id", "-"), ("azp", r#""web""#)], &[]),
    (&[], &[("iss", "-"), ("aud", "-")], &["audience_missing@claims.aud", "issuer_missing@claims.iss"]),
    (
        &[],
        &[("iss", "7"), ("sub", r#""""#), ("aud", "7")],
        &["claim_malformed@claims.aud", "claim_malformed@claims.iss", "claim_malformed@claims.sub"],
    ),
    (&[], &[("aud", r#""*""#)], &["audience_broad@claims.aud"]),
    (&[], &[("aud", r#"["a","b","c","d","e","f"]"#)], &["audience_broad@claims.aud"]),
    // Personal data, secrets, numbers.
    (
        &[],
        &[("email", r#""SENTINEL@b.example""#), ("given_name", r#""SENTINEL""#)],
        &["personal_data@claims.email", "personal_data@claims.given_name"],
    ),
    (&[], &[("login", r#""SENTINEL@b.example""#)], &["personal_data@claims.login"]),
    (&[], &[("profile", r#"{"contact":["SENTINEL@b.example"]}"#)], &["personal_data@claims.profile.contact"]),
    (&[], &[("sub", r#""SENTINEL@b.example""#)], &["subject_is_address@claims.sub"]),
    (&[], &[("api_key", r#""SENTINEL""#)], &["secret_in_token@claims.api_key"]),
    (&[], &[("upstream", r#""eyJhbGciOiJub25lIn0.eyJTRU5USU5FTCI6MX0.x""#)], &["secret_in_token@claims.upstream"]),
    (&[], &[("key", r#"{"kty":"EC","d":"SENTINEL"}"#)], &["secret_in_token@claims.key"]),
    (&[], &[("cnf", r#"{"jwk":{"kty":"EC","d":"SENTINEL"}}"#)], &["secret_in_token@claims.cnf"]),
    (&[], &[("uid", "9007199254740993")], &["inexact_number@claims.uid"]),
    (&[], &[("uid", "9007199254740992"), ("x", "-1.5e300")], &[]),
    // Other kinds, and headers.
    (&[("typ", r#""JWT""#)], &[], &["untyped_token@header.typ"]),
    (&[("typ", "-")], &[("nonce", r#""n""#)], &["not_an_access_token@claims", "untyped_token@header.typ"]),
    (&[("typ", r#""JWT""#)], &[("token_use", r#""id""#)], &["not_an_access_token@claims", "untyped_token@header.typ"]),
    (&[("typ", r#""JWT""#)], &[("aud", r#""web""#)], &["audience_is_client@claims.aud", "untyped_token@header.typ"]),
    (&[], &[("nonce", r#""n""#)], &["id_token_claims@claims.nonce"]),
    (
        &[("typ", r#""logout+jwt""#)],
        &[("events", "{}")],
        &["not_an_access_token@claims", "not_an_access_token@header.typ"],
    ),
    (&[("typ", "7")], &[], &["not_an_access_token@header.typ"]),
    (&[("alg", r#""nOnE""#)], &[], &["algorithm_none@header.alg"]),
    (&[("alg", r#""RS1""#)], &[], &["algorithm_unsupported@header.alg"]),
    (&[("alg", "7")], &[], &["algorithm_unsupported@header.alg"]),
    (&[("alg", "-")], &[], &["algorithm_unsupported@header.alg"]),
    (&[("alg", r#""HS256""#)], &[], &["shared_secret@header.alg"]),
    (&[("alg", r#""HS512""#)], &[("aud", r#"["a","b"]"#)], &["secret_of_several@header.alg"]),
    (&[("alg", r#""Ed25519""#)], &[], &[]),
    (
        &[("crit", r#"["b64"]"#), ("b64", "false")],
        &[],
        &["critical_extension@header.crit", "forbidden_header@header.b64"],
    ),
    (&[("zip", r#""DEF""#), ("p2c", "1")], &[], &["forbidden_header@header.p2c", "forbidden_header@header.zip"]),
    (&[("cty", r#""JWT""#)], &[], &["nested_token@header.cty"]),
    (
        &[("jwk", "{}"), ("jku", r#""https://SENTINEL""#)],
        &[],
        &["key_in_header@header.jku", "key_in_header@header.jwk"],
    ),
    (&[("kid", "-")], &[], &["key_id_missing@header.kid"]),
    (&[("kid", r#""""#)], &[], &["key_id_malformed@header.kid"]),
    (&[("kid", r#""../../dev/null""#)], &[], &["key_id_odd@header.kid"]),
    (&[("kid", r#""x' UNION SELECT 'SENTINEL'""#)], &[], &["key_id_odd@header.kid"]),
];

fn report(text: &str) -> Report {
    token::lint(&RawToken::new(text), LintLimits::default())
}

fn found(report: &Report) -> Vec<String> {
    let mut found: Vec<String> =
        report.findings.iter().map(|finding| format!("{}@{}", finding.rule.id, finding.place)).collect();
    found.sort();
    found
}

/// Whatever was found, it can be shown: ASCII of bounded length, and no value of a claim.
fn check_shown(report: &Report) {
    assert!(report.findings.len() <= Report::MOST);
    for finding in &report.findings {
        for text in [&finding.place, &finding.detail] {
            assert!(text.len() < 8000 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
            assert!(!text.contains("SENTINEL"), "{text}");
        }
    }
}

fn draft(header: Changes, claims: Changes) -> Draft {
    let changes = |of: Changes| {
        let text = |text: &str| (text != "-").then(|| text.to_owned());
        of.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect::<Vec<_>>()
    };
    Draft {
        header: object_text(&HEADER, &changes(header), ""),
        claims: object_text(&CLAIMS, &changes(claims), ""),
        ..Draft::good()
    }
}

#[test]
fn every_token_gets_exactly_its_findings_and_every_rule_is_met() {
    let mut met = BTreeSet::new();
    let mut wrong = String::new();
    for (header, claims, expected) in CASES {
        let report = report(&draft(header, claims).sign());
        check_shown(&report);
        met.extend(report.findings.iter().map(|finding| finding.rule.id));
        if found(&report) != *expected {
            wrong += &format!("{header:?} {claims:?}: {:?}, not {expected:?}\n", found(&report));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    let elsewhere =
        ["many_claims", "token_large", "token_too_large", "not_a_token", "claim_not_read", "claims_read_as_a_whole"];
    met.extend(elsewhere);
    let all: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id).collect();
    assert_eq!(met, all);
    assert_eq!(all.len(), Rule::ALL.len(), "an id is there once");
}

#[test]
fn sizes_have_exact_edges_and_what_is_no_token_is_a_finding() {
    let of_size = |bytes: usize| {
        let limits = LintLimits { token_bytes: bytes, ..LintLimits::default() };
        let text = Draft::good().sign();
        found(&token::lint(&RawToken::new(text.as_str()), LintLimits { token_bytes: text.len() - bytes, ..limits }))
    };
    assert_eq!((of_size(0), of_size(1)), (vec![], vec!["token_large@token".to_owned()]));
    let huge = Draft::claims(&[("x", &format!("\"{}\"", "x".repeat(7000)))]).sign();
    assert_eq!(found(&report(&huge)), ["token_too_large@token"]);
    let many: String = (0..18).map(|n| format!(",\"x{n}\":1")).collect();
    let many = Draft { claims: object_text(&CLAIMS, &[], many.trim_start_matches(',')), ..Draft::good() };
    assert_eq!(found(&report(&many.sign())), ["many_claims@claims"]);
    let twice = Draft { claims: object_text(&CLAIMS, &[], r#""role":1,"role":2"#), ..Draft::good() };
    for (text, code) in [
        (String::new(), "wrong_segment_count"),
        ("a.b".to_owned(), "wrong_segment_count"),
        (format!("{}\n", Draft::good().sign()), "forbidden_character"),
        ("e30.AA.AA.AA.AA".to_owned(), "encrypted_token"),
        (twice.sign(), "claims_duplicate_member"),
        (format!("{}.W10.AA", base64url("{}")), "claims_not_an_object"),
        (Draft { claims: "[".repeat(5000), ..Draft::good() }.sign(), "claims_too_deep"),
    ] {
        let report = report(&text);
        let finding = report.findings.iter().find(|finding| finding.rule.id == "not_a_token").expect("a finding");
        assert!(finding.detail.starts_with(code), "{}", finding.detail);
        check_shown(&report);
    }
}

#[test]
fn a_flood_of_findings_is_cut_off_and_counted() {
    let flood: String = (0..5000).map(|n| format!(",\"email/email{n}/email\":1")).collect();
    let text = Draft { claims: object_text(&CLAIMS, &[], flood.trim_start_matches(',')), ..Draft::good() }.sign();
    let report = report(&text);
    assert_eq!(report.findings.len(), Report::MOST);
    assert!(report.left_out > 4800, "{}", report.left_out);
}

proptest! {
    #[test]
    fn no_claims_and_no_header_panic_or_show_through(
        name in "\\PC{0,80}", text in "\\PC{0,40}", depth in 0_usize..90, number in any::<f64>(),
    ) {
        let nested = format!("{}{}{}", "[".repeat(depth), Value::from(text.as_str()), "]".repeat(depth));
        let value = format!("{{{}:{nested},\"n\":{}}}", Value::from(name.as_str()), Value::from(number));
        let changes = [(format!("x{name}"), Some(value))];
        let draft = Draft { header: object_text(&HEADER, &changes, ""), claims: object_text(&CLAIMS, &changes, ""), ..Draft::good() };
        check_shown(&report(&draft.sign()));
        check_shown(&report(&text));
    }
}

/// A directory with a token that is fine and one that is not.
fn directory() -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let good = Draft::good().sign();
    let bad = draft(
        &[],
        &[
            ("permissions", r#"["SENTINEL"]"#),
            ("email", r#""SENTINEL@b.example""#),
            ("client_id", "-"),
            ("api_key", r#""SENTINEL""#),
        ],
    );
    (directory, good, bad.sign())
}

#[test]
fn the_verb_says_it_in_three_formats_and_by_its_exit_code() {
    let (directory, good, bad) = directory();
    let at = directory.path();
    let noted = draft(&[], &[("client_id", "-")]).sign();
    for (more, text, expected) in [
        (&[][..], &good, 0),
        (&[], &bad, 1),
        (&[], &noted, 0),
        (&["--fail-on", "note"], &noted, 1),
        (&["--fail-on", "note", "--ignore", "client_id_missing"], &noted, 0),
        (&["--fail-on", "never"], &bad, 0),
        (&["--fail-on", "error"], &bad, 1),
        (&["--fail-on", "error", "--ignore", "secret_in_token"], &bad, 0),
        (&["--max-bytes", "100"], &good, 1),
        (&["--max-lifetime", "299s"], &good, 1),
        (&["--max-lifetime", "5m"], &good, 0),
    ] {
        for format in ["text", "json", "sarif"] {
            let arguments = [&["lint", "-f", format], more, &["-"]].concat();
            let (code, shown, complaints) = run(at, &arguments, text.as_bytes());
            assert_eq!((code, complaints.as_str()), (expected, ""), "{arguments:?}: {shown}");
            assert!(!shown.contains("SENTINEL"), "{shown}");
            for window in text.as_bytes().windows(24) {
                assert!(!shown.as_bytes().windows(24).any(|part| part == window), "{shown}");
            }
        }
    }
    assert_eq!(run(at, &["lint", &good], b"").1, "ok: no rule objects\n");
    let text = run(at, &["lint", &bad], b"").1;
    assert!(text.starts_with("error: secret_in_token: claims.api_key: a text of 8 characters\n    why: "), "{text}");
    assert!(
        text.contains("\n    instead: keep grants in a data document")
            && text.ends_with("errors 1, warnings 2, notes 1\n"),
        "{text}"
    );

    let json: Value = serde_json::from_str(&run(at, &["lint", "-f", "json", &bad], b"").1).expect("JSON");
    assert_eq!((&json["errors"], &json["warnings"], &json["notes"]), (&1.into(), &2.into(), &1.into()));
    assert_eq!(
        (&json["findings"][0]["rule"], &json["findings"][0]["severity"]),
        (&"secret_in_token".into(), &"error".into())
    );

    let sarif: Value = serde_json::from_str(&run(at, &["lint", "-f", "sarif", &bad], b"").1).expect("JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let (driver, results) =
        (&sarif["runs"][0]["tool"]["driver"], sarif["runs"][0]["results"].as_array().expect("results"));
    assert_eq!((driver["name"].as_str(), results.len()), (Some("claimgate"), 4));
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
        assert_eq!(driver["rules"][index]["id"], result["ruleId"]);
        assert_eq!(driver["rules"][index]["defaultConfiguration"]["level"], result["level"]);
        assert!(
            result["message"]["text"].is_string()
                && result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"].is_string()
        );
    }
    let rules = run(at, &["lint", "--rules"], b"").1;
    let listed: Value = serde_json::from_str(&run(at, &["lint", "--rules", "-f", "json"], b"").1).expect("JSON");
    assert_eq!(listed["rules"].as_array().map(Vec::len), Some(Rule::ALL.len()));
    assert!(Rule::ALL.iter().all(|rule| rules.contains(&format!("{} ({})\n", rule.id, rule.severity))), "{rules}");
}

#[test]
fn kept_claims_that_no_rule_reads_are_listed() {
    let (directory, good, _) = directory();
    let at = directory.path();
    let jwks = WORLD.signer("es256").public_jwks().expect("public");
    let config = |name: &str, claims: &str, more: &str| {
        let text = format!(
            "issuers:\n  - issuer: https://idp.example\n    audiences: [folders]\n    algorithms: [ES256]\n    \
             jwks: {{inline: '{jwks}'}}\n    claims: {claims}\n{more}"
        );
        fs::write(at.join(name), text).expect("written");
    };
    fs::create_dir(at.join("rego")).expect("made");
    fs::create_dir(at.join("whole")).expect("made");
    let rule =
        "package authz\n\nallow if input.token.claims.org_id == \"acme\"\n\ndeny if input.token.claims.level < 2\n";
    fs::write(at.join("rego/a.rego"), rule).expect("written");
    fs::write(at.join("whole/a.rego"), format!("{rule}\nall := input.token.claims\n")).expect("written");
    config("used.yaml", "{keep: [org_id, level]}", "");
    config("unused.yaml", "{keep: [org_id, level, department], rename: {'https://x/y': team}}", "");
    config("key.yaml", "{keep: [org_id, level, employee]}", "subject: {from: data.users, key: employee}\n");
    config("named.yaml", "{keep: [org_id, level, permissions]}", "");
    config("hidden.yaml", "{keep: [org_id]}", "");
    fs::write(at.join("none.yaml"), "opa: {identity: passthrough}\n").expect("written");
    fs::write(at.join("broken.yaml"), "issuers: 7\n").expect("written");
    let place = "issuers[https://idp.example].claims";
    for (bundle, config, expected, says) in [
        ("rego", "used.yaml", 0, vec![]),
        (
            "rego",
            "unused.yaml",
            1,
            vec![
                format!("claim_not_read@{place}.keep.department"),
                format!("claim_not_read@{place}.rename.https://x/y"),
            ],
        ),
        ("rego", "key.yaml", 0, vec![]),
        (
            "rego",
            "named.yaml",
            1,
            vec![
                format!("claim_not_read@{place}.keep.permissions"),
                format!("permissions_in_token@{place}.keep.permissions"),
            ],
        ),
        ("whole", "unused.yaml", 0, vec!["claims_read_as_a_whole@policy".to_owned()]),
        ("rego", "hidden.yaml", 1, vec![]),
        ("rego", "none.yaml", 2, vec![]),
        ("rego", "broken.yaml", 2, vec![]),
        ("gone", "used.yaml", 2, vec![]),
    ] {
        let (code, shown, complaints) = run(at, &["lint", "--policy", "-b", bundle, "-c", config, "-f", "json"], b"");
        assert_eq!(code, expected, "{bundle} {config}: {shown}{complaints}");
        let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
        let findings = shown["findings"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut found: Vec<String> =
            findings.iter().map(|it| format!("{}@{}", text(&it["rule"]), text(&it["place"]))).collect();
        found.sort();
        assert_eq!(found, says, "{bundle} {config}: {complaints}");
    }
    for arguments in [
        &["lint", "-c", "used.yaml", &good][..],
        &["lint", "-c", "used.yaml"],
        &["lint", "--policy", &good],
        &["lint", "--rules", &good],
        &["lint", "--ignore", "gone", &good],
        &["lint", "-f", "xml", &good],
        &["lint", "--max-lifetime", "x", &good],
        &["lint", "--policy", "-c", "gone.yaml"],
    ] {
        let (code, shown, complaints) = run(at, arguments, b"");
        assert_eq!((code, shown.as_str()), (2, ""), "{arguments:?}: {complaints}");
        assert!(!complaints.is_empty() && !complaints.contains("panicked"), "{complaints}");
    }
    let arguments = ["lint", "--policy", "-b", "rego", "-c", "unused.yaml", "-f", "sarif"];
    let sarif: Value = serde_json::from_str(&run(at, &arguments, b"").1).expect("JSON");
    let location = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "unused.yaml");
}

#[test]
fn hostile_stdin_ends_with_a_finding_or_a_complaint() {
    let (directory, ..) = directory();
    let huge = vec![b'x'; 4 << 20];
    let dots = vec![b'.'; 1 << 20];
    let deep = Draft { claims: format!("{{\"x\":{}", "[".repeat(700_000)), ..Draft::good() }.sign();
    for (stdin, expected) in
        [(&b""[..], 1), (b"\xff\xfe\0", 2), (&huge, 2), (&dots, 1), (deep.as_bytes(), 1), (b"a\0.b.c", 1), (b"\n", 1)]
    {
        for format in ["text", "json", "sarif"] {
            let (code, shown, complaints) = run(directory.path(), &["lint", "-f", format], stdin);
            assert_eq!(code, expected, "{complaints}");
            assert!(!complaints.contains("panicked") && (code == 2) == shown.is_empty(), "{shown}{complaints}");
        }
    }
}
