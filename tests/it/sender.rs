//! Tokens that are bound to their sender, over real sockets: which requests are their holder's, which are not, and what a
//! client is told to do about it.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::support::{
    eventually,
    holder::Holder,
    http::{Answer, Fields},
    setup::{Server, Setup},
    tokens::{Issuer, now},
};

const POLICY: &str = "package p\n\ndefault allow := false\n\nallow if input.token.subject == \"alice\"\n";
const TRUSTING: &str = "forward_auth: {trusted_peers: [127.0.0.1]}\n";

fn server(issuer: &Issuer, more: &str) -> Server {
    let config = format!("{}policy: {{bundles: [policy], entrypoint: p/allow}}\n{more}", issuer.section());
    Setup::new(&config).file("policy/p.rego", POLICY).serve()
}

const URL: &str = "https://api.example/folders/f-1";

/// One request for `URL` by a proxy.
fn proxied(server: &Server, method: &str, more: Fields<'_>) -> Answer {
    let mut fields = vec![
        ("x-forwarded-method", method),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example"),
        ("x-forwarded-uri", "/folders/f-1?page=2"),
    ];
    fields.extend(more);
    server.send("GET", "/forward-auth/traefik", &fields, "")
}

/// Status, error of the first challenge, and the one reason that was counted since `before`.
fn check(server: &Server, answer: &Answer, status: u16, error: &str, reason: &str) {
    assert_eq!(answer.status, status, "{reason}: {answer:?}");
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    let found = challenge.split("error=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    assert_eq!(found, error, "{reason}: {answer:?}");
    if !reason.is_empty() {
        let label = format!("reason=\"{reason}\"");
        let counted = server.metric("claimgate_token_verification_failures_total", &[&label]);
        assert!(counted >= 1.0, "{reason} was not counted: {answer:?}");
    }
}

#[test]
fn a_bound_token_passes_with_a_proof_and_in_no_other_way() {
    let (issuer, holder, thief) = (Issuer::new(), Holder::new(), Holder::new());
    let server = server(&issuer, TRUSTING);
    let token = holder.token(&issuer);
    let (bearer, dpop) = (format!("Bearer {token}"), format!("DPoP {token}"));
    let proof = |changes| holder.proof("GET", URL, &token, changes);
    let good = proof(json!({}));
    check(&server, &proxied(&server, "GET", &[("authorization", &dpop), ("dpop", &good)]), 200, "", "");
    let again = proxied(&server, "GET", &[("authorization", &dpop), ("dpop", &good)]);
    check(&server, &again, 401, "invalid_dpop_proof", "dpop_proof_replayed");

    let other = proof(json!({}));
    let cases = [
        (vec![("authorization", bearer.clone())], "invalid_token", "bound_token_as_bearer"),
        (vec![("authorization", bearer), ("dpop", proof(json!({})))], "invalid_token", "bound_token_as_bearer"),
        (vec![("authorization", dpop.clone())], "invalid_dpop_proof", "dpop_proof_missing"),
        (
            vec![("authorization", dpop.clone()), ("dpop", other.clone()), ("dpop", other.clone())],
            "invalid_dpop_proof",
            "dpop_proof_repeated",
        ),
        (
            vec![("authorization", dpop.clone()), ("dpop", format!("{other}, {other}"))],
            "invalid_dpop_proof",
            "dpop_proof_malformed",
        ),
        (
            vec![("authorization", dpop.clone()), ("dpop", holder.proof("POST", URL, &token, json!({})))],
            "invalid_dpop_proof",
            "dpop_method_mismatch",
        ),
        (
            vec![
                ("authorization", dpop.clone()),
                ("dpop", holder.proof("GET", "https://api.example/other", &token, json!({}))),
            ],
            "invalid_dpop_proof",
            "dpop_target_mismatch",
        ),
        (
            vec![("authorization", dpop.clone()), ("dpop", holder.proof("GET", URL, "another", json!({})))],
            "invalid_dpop_proof",
            "dpop_token_mismatch",
        ),
        (
            vec![("authorization", dpop.clone()), ("dpop", thief.proof("GET", URL, &token, json!({})))],
            "invalid_dpop_proof",
            "dpop_key_mismatch",
        ),
        (
            vec![("authorization", dpop.clone()), ("dpop", proof(json!({ "iat": now() - 600 })))],
            "invalid_dpop_proof",
            "dpop_proof_too_old",
        ),
        (
            vec![("authorization", dpop.clone()), ("dpop", proof(json!({ "iat": now() + 600 })))],
            "invalid_dpop_proof",
            "dpop_proof_from_future",
        ),
        (
            vec![("authorization", format!("DPoP {}", issuer.token("alice"))), ("dpop", other.clone())],
            "invalid_token",
            "unbound_token_as_dpop",
        ),
    ];
    for (fields, error, reason) in cases {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        check(&server, &proxied(&server, "GET", &fields), 401, error, reason);
    }
    // What was refused on the way did not use the proof up.
    check(&server, &proxied(&server, "GET", &[("authorization", &dpop), ("dpop", &other)]), 200, "", "");
    // A token that is bound to nothing stays a bearer token.
    let bearer = issuer.bearer("alice");
    check(&server, &proxied(&server, "GET", &[("authorization", &bearer), ("dpop", "x")]), 200, "", "");
    assert!((server.metric("claimgate_dpop_proofs", &[]) - 2.0).abs() < f64::EPSILON);
}

#[test]
fn the_answer_to_a_dpop_client_offers_dpop_first() {
    let (issuer, holder) = (Issuer::new(), Holder::new());
    let more = format!("{TRUSTING}token: {{resource_metadata: 'https://api.example/meta'}}\n");
    let server = server(&issuer, &more);
    let token = holder.token(&issuer);
    let all = |answer: &Answer| -> Vec<String> {
        let headers = answer.headers.iter().filter(|(name, _)| name == "www-authenticate");
        headers.map(|(_, value)| value.clone()).collect()
    };
    let description = "error_description=\"the DPoP proof was not accepted\"";
    let algs = "algs=\"ES256 ES384 ES512 EdDSA RS256 PS256\"";
    let metadata = "resource_metadata=\"https://api.example/meta\"";
    let refused = proxied(&server, "GET", &[("authorization", &format!("DPoP {token}"))]);
    assert_eq!(
        all(&refused),
        [
            format!("DPoP realm=\"claimgate\", error=\"invalid_dpop_proof\", {description}, {algs}, {metadata}"),
            format!("Bearer realm=\"claimgate\", {metadata}"),
        ]
    );
    assert_eq!(refused.json()["code"], "invalid_dpop_proof");
    let anonymous = proxied(&server, "GET", &[]);
    assert_eq!(all(&anonymous), [format!("Bearer realm=\"claimgate\", {metadata}")]);
}

#[test]
fn a_client_learns_the_nonce_and_gets_the_next_one_in_time() {
    let (issuer, holder) = (Issuer::new(), Holder::new());
    let server = server(&issuer, &format!("{TRUSTING}token: {{dpop: {{nonce: required}}}}\n"));
    let token = holder.token(&issuer);
    let dpop = format!("DPoP {token}");
    let send = |changes| {
        let proof = holder.proof("GET", URL, &token, changes);
        proxied(&server, "GET", &[("authorization", &dpop), ("dpop", &proof)])
    };
    let first = send(json!({}));
    check(&server, &first, 401, "use_dpop_nonce", "dpop_nonce_missing");
    assert_eq!(first.header("cache-control"), Some("no-store"));
    let nonce = first.header("dpop-nonce").expect("a nonce").to_owned();
    let second = send(json!({ "nonce": nonce }));
    check(&server, &second, 200, "", "");
    let wrong = send(json!({ "nonce": "made-up" }));
    check(&server, &wrong, 401, "use_dpop_nonce", "dpop_nonce_unknown");
    assert!(wrong.header("dpop-nonce").is_some());
    // Bearer tokens go on without one.
    let bearer = proxied(&server, "GET", &[("authorization", &issuer.bearer("alice"))]);
    assert_eq!((bearer.status, bearer.header("dpop-nonce")), (200, None));
}

#[test]
fn a_nonce_that_grows_old_is_replaced_before_it_is_refused() {
    let (issuer, holder) = (Issuer::new(), Holder::new());
    let config = format!(
        "{}policy: {{bundles: [policy], entrypoint: p/allow}}\n{TRUSTING}token: {{dpop: {{nonce: required}}}}\n",
        issuer.section()
    );
    let setup = Setup::new(&config).file("policy/p.rego", POLICY);
    let server = setup.tweak(|settings| settings.serve.sender.nonce_period = Duration::from_secs(4)).serve();
    let token = holder.token(&issuer);
    let dpop = format!("DPoP {token}");
    let send = |nonce: &str| {
        let proof = holder.proof("GET", URL, &token, json!({ "nonce": nonce }));
        proxied(&server, "GET", &[("authorization", &dpop), ("dpop", &proof)])
    };
    let first = send("none").header("dpop-nonce").expect("a nonce").to_owned();
    let next = eventually("the nonce grows old", || {
        let answer = send(&first);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("dpop-nonce").map(str::to_owned)
    });
    assert_ne!(first, next);
    assert_eq!(send(&next).status, 200);
    eventually("the nonce is too old", || {
        let answer = send(&first);
        let is_refused = answer.status == 401 && answer.header("dpop-nonce").is_some();
        is_refused.then_some(())
    });
}

#[test]
fn the_opa_door_believes_trusted_peers_about_the_target_and_nobody_else() {
    let (issuer, holder) = (Issuer::new(), Holder::new());
    let token = holder.token(&issuer);
    let dpop = format!("DPoP {token}");
    let described: &[(&str, &str)] = &[
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example"),
        ("x-forwarded-uri", "/folders/f-1?page=2"),
    ];
    let external = "token: {dpop: {external_url: 'https://gate.example'}}\n";
    let own = "https://gate.example/v1/data/p/allow";
    // Configuration, headers, the proof's method and URL → the reason, or nothing.
    let cases: &[(&str, Fields<'_>, &str, &str, &str)] = &[
        (TRUSTING, described, "GET", URL, ""),
        (TRUSTING, described, "POST", own, "dpop_method_mismatch"),
        ("", described, "GET", URL, "dpop_target_unknown"),
        (TRUSTING, &[], "POST", own, "dpop_target_unknown"),
        (TRUSTING, &described[..3], "GET", URL, "dpop_target_unknown"),
        (TRUSTING, &described[1..], "GET", URL, "dpop_target_unknown"),
        (TRUSTING, &[described, &[("x-forwarded-host", "evil.example")]].concat(), "GET", URL, "dpop_target_unknown"),
        (TRUSTING, &[&described[..3], &[("x-forwarded-uri", "evil/x")]].concat(), "GET", URL, "dpop_target_unknown"),
        (external, &[], "POST", own, ""),
        (external, described, "POST", own, ""),
        (external, described, "GET", URL, "dpop_method_mismatch"),
        (&format!("{TRUSTING}{external}"), described, "GET", "https://gate.example/folders/f-1", ""),
        (&format!("{TRUSTING}{external}"), described, "GET", URL, "dpop_target_mismatch"),
    ];
    for (more, fields, method, url, reason) in cases {
        let server = server(&issuer, more);
        let proof = holder.proof(method, url, &token, json!({}));
        let fields = [&[("authorization", dpop.as_str()), ("dpop", proof.as_str())][..], fields].concat();
        let answer = server.post("/v1/data/p/allow", &fields, "{}");
        if reason.is_empty() {
            assert_eq!((answer.status, answer.result()), (200, json!(true)), "{more} {fields:?}: {answer:?}");
        } else {
            check(&server, &answer, 401, "invalid_dpop_proof", reason);
        }
    }
}

#[test]
fn an_issuer_can_demand_a_binding() {
    let (issuer, holder) = (Issuer::new(), Holder::new());
    let plain = issuer.bearer("alice");
    let token = holder.token(&issuer);
    let dpop = format!("DPoP {token}");
    for (constraint, plain_passes, dpop_passes, schemes) in [
        ("optional", true, true, vec!["Bearer"]),
        ("required", false, true, vec!["Bearer", "DPoP"]),
        ("dpop", false, true, vec!["DPoP"]),
        ("mtls", false, false, vec!["Bearer"]),
    ] {
        let section = format!("{}    sender_constraint: {constraint}\n", issuer.section());
        let config = format!("{section}policy: {{bundles: [policy], entrypoint: p/allow}}\n{TRUSTING}");
        let server = Setup::new(&config).file("policy/p.rego", POLICY).serve();
        let proof = holder.proof("GET", URL, &token, json!({}));
        let got = proxied(&server, "GET", &[("authorization", &dpop), ("dpop", &proof)]);
        assert_eq!(got.status == 200, dpop_passes, "{constraint}: {got:?}");
        let got = proxied(&server, "GET", &[("authorization", &plain)]);
        match plain_passes {
            true => assert_eq!(got.status, 200, "{got:?}"),
            false => check(&server, &got, 401, "invalid_token", "sender_constraint_missing"),
        }
        let anonymous = proxied(&server, "GET", &[]);
        let offered = anonymous.headers.iter().filter(|(name, _)| name == "www-authenticate");
        let offered: Vec<&str> = offered.filter_map(|(_, value)| value.split(' ').next()).collect();
        assert_eq!(offered, schemes, "{constraint}");
    }
}

#[test]
fn a_certificate_counts_when_a_trusted_peer_tells_of_it() {
    let issuer = Issuer::new();
    let certificate = b"not really DER, and nobody looks inside";
    let print = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, certificate));
    let hex: String =
        digest::digest(&digest::SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let bearer = format!("Bearer {}", issuer.token_with(json!({ "cnf": { "x5t#S256": print } })));
    let sequence = format!(":{}:", base64::engine::general_purpose::STANDARD.encode(certificate));
    let (good, other) = (format!("Hash={hex};Subject=\"CN=a,b\""), format!("Hash={}", "0".repeat(64)));
    let both = format!("{good},{other}");
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        ("xfcc", TRUSTING, "x-forwarded-client-cert", &good, ""),
        ("xfcc", TRUSTING, "x-forwarded-client-cert", &other, "client_certificate_mismatch"),
        ("xfcc", TRUSTING, "x-forwarded-client-cert", &both, "client_certificate_mismatch"),
        ("xfcc", TRUSTING, "x-forwarded-client-cert", "Hash=x", "client_certificate_malformed"),
        ("xfcc", TRUSTING, "client-cert", &sequence, "client_certificate_missing"),
        ("xfcc", "", "x-forwarded-client-cert", &good, "client_certificate_missing"),
        ("none", TRUSTING, "x-forwarded-client-cert", &good, "client_certificate_missing"),
        ("rfc9440", TRUSTING, "client-cert", &sequence, ""),
        ("rfc9440", TRUSTING, "client-cert", "::", "client_certificate_malformed"),
        ("rfc9440", "", "client-cert", &sequence, "client_certificate_missing"),
    ];
    for (header, more, name, value, reason) in cases {
        let server = server(&issuer, &format!("{more}token: {{client_certificate: {{header: {header}}}}}\n"));
        let answer = server.post("/v1/data/p/allow", &[("authorization", &bearer), (name, value)], "{}");
        if reason.is_empty() {
            assert_eq!((answer.status, answer.result()), (200, json!(true)), "{header} {value}: {answer:?}");
        } else {
            check(&server, &answer, 401, "invalid_token", reason);
        }
    }
}

/// What policy asks for reaches the client in the scheme that it used.
#[test]
fn policy_can_ask_for_a_stronger_sign_in_or_for_more_scope() {
    let (issuer, holder) = (Issuer::new(), Holder::new());
    let config = format!("{}policy: {{bundles: [policy], entrypoint: p/decision}}\n{TRUSTING}", issuer.section());
    let policy = r#"package p

stronger := {"error": "insufficient_user_authentication", "acr_values": "urn:mfa", "max_age": 300}

decision := {"allow": false, "challenge": stronger} if input.request.method == "DELETE"

decision := {"allow": false, "challenge": {"error": "insufficient_scope", "scope": "write"}} if {
	input.request.method == "PUT"
}

decision := {"allow": false, "http_status": 404, "challenge": stronger} if input.request.method == "PATCH"
"#;
    let server = Setup::new(&config).file("policy/p.rego", policy).serve();
    let token = holder.token(&issuer);
    let (bearer, dpop) = (issuer.bearer("alice"), format!("DPoP {token}"));
    let stronger =
        "realm=\"claimgate\", error=\"insufficient_user_authentication\", acr_values=\"urn:mfa\", max_age=\"300\"";
    let scope = "realm=\"claimgate\", error=\"insufficient_scope\", scope=\"write\"";
    for (method, status, want) in [("DELETE", 401, stronger), ("PUT", 403, scope), ("PATCH", 404, stronger)] {
        let got = proxied(&server, method, &[("authorization", &bearer)]);
        assert_eq!(got.status, status, "{got:?}");
        assert_eq!(got.header("www-authenticate"), Some(format!("Bearer {want}").as_str()));
        let proof = holder.proof(method, URL, &token, json!({}));
        let got = proxied(&server, method, &[("authorization", &dpop), ("dpop", &proof)]);
        let challenge = got.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with(&format!("DPoP {want}, algs=")), "{got:?}");
    }
}

#[test]
fn the_metadata_of_the_resource_say_what_is_taken() {
    let issuer = Issuer::new();
    let metadata = "/.well-known/oauth-protected-resource";
    assert_eq!(server(&issuer, "").get(metadata).status, 404, "nothing is served that was not asked for");
    let server = server(&issuer, "token: {resource: 'https://api.example/v1', dpop: {algorithms: [ES256]}}\n");
    for path in [metadata, "/.well-known/oauth-protected-resource/v1"] {
        let got = server.get(path);
        assert_eq!(got.status, 200, "{got:?}");
        assert_eq!(
            got.json(),
            json!({
                "resource": "https://api.example/v1",
                "authorization_servers": ["https://idp.example"],
                "bearer_methods_supported": ["header"],
                "dpop_signing_alg_values_supported": ["ES256"],
                "dpop_bound_access_tokens_required": false,
                "tls_client_certificate_bound_access_tokens": false,
            })
        );
    }
    assert_eq!(server.post(metadata, &[], "{}").status, 405);
    let challenge = server.post("/v1/data/p/allow", &[], "{}");
    let want =
        "Bearer realm=\"claimgate\", resource_metadata=\"https://api.example/.well-known/oauth-protected-resource/v1\"";
    assert_eq!(challenge.header("www-authenticate"), Some(want));
}
