//! `claimgate token` through the real program: exit codes, what goes to which stream, and hostile arguments.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use serde_json::{Value, json};

use crate::support::holder::Holder;

/// Runs `claimgate token …` in `directory` with `stdin`; returns exit code, stdout and stderr.
pub(super) fn run(directory: &Path, arguments: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_claimgate"))
        .arg("token")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut pipe = child.stdin.take().expect("stdin");
    let bytes = stdin.to_vec();
    // A program that reads only so much closes the pipe early.
    let writer = thread::spawn(move || drop(pipe.write_all(&bytes)));
    let output = child.wait_with_output().expect("ended");
    writer.join().expect("written");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

/// A directory with a key, its public set, a configuration and a token.
fn set_up() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let write = |name: &str, text: &str| fs::write(at.join(name), text).expect("written");
    let (code, key, _) = run(at, &["keygen", "--kid", "k1"], b"");
    assert_eq!(code, 0);
    write("key.json", &key);
    let (code, jwks, _) = run(at, &["mint", "--key", "key.json", "--public"], b"");
    assert_eq!(code, 0);
    assert!(!jwks.contains("\"d\""), "the private part stays where it is");
    write("jwks.json", &jwks);
    write(
        "claimgate.yaml",
        "issuers:\n  - issuer: https://idp.example\n    audiences: [folders]\n    algorithms: [ES256]\n    \
         jwks: {file: jwks.json}\n    claims: {keep: [role]}\n",
    );
    let token = mint(at, &["--claim", "aud=folders", "--claim", "role=editor"]);
    (directory, token)
}

fn mint(directory: &Path, more: &[&str]) -> String {
    let usual = ["mint", "--key", "key.json", "--claim", "iss=https://idp.example", "--claim", "sub=alice"];
    let (code, token, complaints) = run(directory, &[&usual, more].concat(), b"");
    assert_eq!((code, complaints.as_str()), (0, ""));
    token
}

#[test]
fn a_minted_token_verifies_and_shows_what_policy_sees() {
    let (directory, token) = set_up();
    for (argument, stdin) in [(token.trim_end(), ""), ("-", &*token), ("-", token.trim_end())] {
        let (code, shown, steps) =
            run(directory.path(), &["verify", "-c", "claimgate.yaml", argument], stdin.as_bytes());
        assert_eq!(code, 0, "{steps}");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["claims"], serde_json::json!({ "role": "editor" }));
        assert_eq!((&shown["subject"], &shown["key_id"]), (&"alice".into(), &"k1".into()));
        assert_eq!(steps.lines().filter(|line| line.starts_with("passed ")).count(), 10, "{steps}");
    }
}

#[test]
fn each_step_tells_what_it_compared_and_which_were_not_reached() {
    let (directory, token) = set_up();
    let at = directory.path();
    let shown = |token: &str| run(at, &["verify", "-c", "claimgate.yaml", "-"], token.as_bytes()).2;
    let good = shown(&token);
    for part in [
        "bytes of at most 8192",
        "alg ES256, typ `at+jwt`, kid `k1`",
        "`iss` equals the configured https://idp.example byte for byte",
        "`typ` `at+jwt` is one of at+jwt, jwt; `alg` ES256 is one of ES256",
        "leeway 30 s; `exp` is ",
        "`nbf` is absent; `iat` is ",
        "s of at most 86400 s",
        "kid `k1`, bound to ES256, among 1 of the issuer",
        "64 bytes verified with ES256",
        "`aud` `folders` meets folders; `sub` is `alice`; no more are required; 1 of ",
    ] {
        assert!(good.contains(part), "{part}: {good}");
    }
    assert!(!good.contains("not reached"));
    let others = shown(&mint(at, &["--claim", "aud=others", "--kid", "k2"]));
    let not_reached =
        |step: &str| others.lines().any(|line| line.trim_start().starts_with(step) && line.ends_with("not reached"));
    assert!(
        not_reached("signature") && not_reached("claims") && not_reached("sender") && !not_reached("key"),
        "{others}"
    );
    let audience = shown(&mint(at, &["--claim", "aud=others"]));
    assert!(audience.contains("the token is for `others`; accepted is folders"), "{audience}");
}

#[test]
fn a_bound_token_is_held_against_what_came_with_it() {
    const URL: &str = "https://api.example/folders/f-1?page=2";
    let (directory, _) = set_up();
    let at = directory.path();
    let holder = Holder::new();
    let token =
        mint(at, &["--claim", "aud=folders", "--claim", &format!("cnf={{\"jkt\":\"{}\"}}", holder.thumbprint())]);
    let token = token.trim_end();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let file = |name: &str| fixtures.join(name).display().to_string();
    let print = "7RdJCvt7lC6pVKw8FRmJmilmjrjQpgMz_gCEoyYYvRA";
    let certified = mint(at, &["--claim", "aud=folders", "--claim", &format!("cnf={{\"x5t#S256\":\"{print}\"}}")]);
    let (certified, good) =
        (certified.trim_end(), holder.proof("GET", "https://api.example/folders/f-1", token, json!({})));
    let (client, server, key) = (file("client.pem"), file("server.pem"), file("client-key.pem"));
    // Arguments → exit code, and what stands in the last line about the sender.
    let cases: &[(&str, &[&str], i32, &str)] = &[
        (token, &["--dpop-proof", &good, "--url", URL], 0, "passed sender     the proof is of the key"),
        (token, &["--dpop-proof", &good, "--url", URL, "--method", "PUT"], 1, "dpop_method_mismatch"),
        (token, &["--dpop-proof", &good, "--url", "https://api.example/"], 1, "dpop_target_mismatch"),
        (token, &["--dpop-proof", "x", "--url", URL], 1, "dpop_proof_malformed"),
        (token, &["--dpop-proof", &good, "--url", "api.example"], 2, "is not a web URL"),
        (token, &["--dpop-proof", &good], 2, "--url"),
        (token, &[], 1, "FAILED sender     bound_token_as_bearer"),
        (certified, &["--client-certificate", &client], 0, "passed sender     the certificate is the one"),
        (certified, &["--client-certificate", &server], 1, "client_certificate_mismatch"),
        (certified, &["--client-certificate", &key], 2, "it holds no certificate"),
        (certified, &["--client-certificate", "none.pem"], 2, "none.pem"),
        (certified, &[], 1, "client_certificate_missing"),
    ];
    for (token, arguments, code, want) in cases {
        let all = [&["verify", "-c", "claimgate.yaml"][..], arguments, &[token]].concat();
        let (got, claims, steps) = run(at, &all, b"");
        assert_eq!((got, claims.is_empty()), (*code, *code != 0), "{arguments:?}: {steps}");
        assert!(steps.contains(want), "{arguments:?}: {steps}");
        assert!(!steps.contains(&good) && !steps.contains(*token), "{steps}");
    }
}

#[test]
fn a_refused_token_is_explained_by_step_and_code() {
    let (directory, token) = set_up();
    let at = directory.path();
    let forged = crate::support::tokens::forged(token.trim_end());
    for (token, step) in [
        (mint(at, &["--claim", "aud=others"]), "FAILED claims     audience_mismatch: "),
        (mint(at, &["--claim", "aud=folders", "--ttl=-400"]), "FAILED time       "),
        (mint(at, &["--claim", "aud=folders", "--typ", "dpop+jwt"]), "FAILED header     other_token_kind: "),
        (mint(at, &["--claim", "aud=folders", "--kid", "k2"]), "FAILED key        unknown_key: "),
        (forged, "FAILED signature  bad_signature: "),
        (String::new(), "FAILED format     wrong_segment_count: "),
        ("x".repeat(1 << 20), "FAILED format     token_too_large: "),
        (format!("{token}\n"), "FAILED format     forbidden_character: "),
    ] {
        let (code, shown, steps) = run(at, &["verify", "-c", "claimgate.yaml", "-"], token.as_bytes());
        assert_eq!((code, shown.as_str()), (1, ""), "{steps}");
        assert!(steps.contains(step), "{step}: {steps}");
    }
}

#[test]
fn a_profile_is_strict_usual_or_a_list_of_types() {
    let (directory, _) = set_up();
    let at = directory.path();
    let plain = mint(at, &["--claim", "aud=folders"]);
    let whole = mint(at, &["--claim", "aud=folders", "--claim", "client_id=web", "--claim", "jti=j-1"]);
    let untyped = mint(at, &["--claim", "aud=folders", "--typ", "JWT"]);
    let own = mint(at, &["--claim", "aud=folders", "--typ", "application/own+jwt"]);
    let yaml = fs::read_to_string(at.join("claimgate.yaml")).expect("readable");
    for (types, accepted) in [
        ("[rfc9068]", [false, true, false, false]),
        ("[at+jwt]", [true, true, false, false]),
        ("[jwt-or-at+jwt]", [true, true, true, false]),
        ("[application/AT+JWT, own+jwt]", [true, true, false, true]),
    ] {
        fs::write(at.join("profile.yaml"), yaml.replace("[ES256]", &format!("[ES256]\n    types: {types}")))
            .expect("written");
        for (token, accepted) in [&plain, &whole, &untyped, &own].into_iter().zip(accepted) {
            let (code, _, steps) = run(at, &["verify", "-c", "profile.yaml", "-"], token.as_bytes());
            assert_eq!(code, i32::from(!accepted), "{types}: {steps}");
        }
    }
}

#[test]
fn only_the_signature_is_checked_with_keys() {
    let (directory, token) = set_up();
    let at = directory.path();
    let expired = mint(at, &["--claim", "aud=7", "--ttl=-4000"]);
    let check = |more: &[&str], stdin: &str, expected: i32| {
        let (code, _, complaints) =
            run(at, &[&["verify", "--signature-only", "--keys"], more].concat(), stdin.as_bytes());
        assert_eq!(code, expected, "{more:?}: {complaints}");
    };
    check(&["jwks.json"], &token, 0);
    check(&["key.json", "-"], &expired, 0);
    check(&["jwks.json", "--alg", "ES256", "--alg", "RS256"], &token, 0);
    check(&["jwks.json", "--alg", "RS256"], &token, 1);
    check(&["jwks.json"], &crate::support::tokens::forged(token.trim_end()), 1);
    check(&["jwks.json"], "", 1);
    check(&["jwks.json", "--alg", "none"], &token, 2);
    check(&["gone.json"], &token, 2);
    fs::write(at.join("broken.json"), "{\"keys\":").expect("written");
    check(&["broken.json"], &token, 1);
    fs::write(at.join("huge.json"), vec![b' '; 2 << 20]).expect("written");
    check(&["huge.json"], &token, 2);
}

#[test]
fn hostile_input_ends_with_a_complaint_and_no_panic() {
    let (directory, token) = set_up();
    let at = directory.path();
    let huge = vec![b'x'; 4 << 20];
    for (arguments, stdin, expected) in [
        (&["inspect"][..], &b""[..], 1),
        (&["inspect"], b"\xff\xfe\0", 2),
        (&["inspect"], &huge, 2),
        (&["inspect", "a.b"], b"", 1),
        (&["verify", "-c", "gone.yaml", "x"], b"", 2),
        (&["verify", "--keys", "jwks.json", "x"], b"", 2),
        (&["verify", "-c", "claimgate.yaml"], b"\xff\xfe\0", 2),
        (&["mint", "--key", "jwks.json"], b"", 2),
        (&["mint", "--key", "gone.json"], b"", 2),
        (&["mint", "--key", "key.json", "--claim", "x"], b"", 2),
        (&["mint", "--key", "key.json", "--alg", "RS256"], b"", 2),
        (&["mint", "--key", "key.json", "--claims-file", "claimgate.yaml"], b"", 2),
        (&["keygen", "--alg", "RS256"], b"", 2),
    ] {
        let (code, answer, complaints) = run(at, arguments, stdin);
        assert_eq!((code, answer.as_str()), (expected, ""), "{arguments:?}: {complaints}");
        assert!(!complaints.is_empty() && !complaints.contains("panicked"), "{complaints}");
    }
    let (code, answer, note) = run(at, &["inspect", "-"], token.as_bytes());
    assert_eq!(code, 0);
    assert!(answer.contains("\"alice\"") && note.contains("nothing was verified"), "{answer}{note}");
}
