//! Tokens of a real OpenID Connect provider (npm `oidc-provider`) at the doors: discovery, access tokens of RFC 9068,
//! rotation of keys, outage, tokens that are bound to a key, opaque tokens and their revocation.

use serde_json::json;

use crate::support::{
    eventually,
    http::Answer,
    program::Program,
    provider::{JWT_RESOURCE, OPAQUE_RESOURCE, Provider},
    setup::{Server, Setup},
};

const POLICY: &str = "package p\n\nallow if input.token.subject == \"app\"\n\ntoken := input.token\n";

/// A gate that knows the provider by its name alone.
fn gate(provider: &Provider) -> Server {
    let issuer = &provider.issuer;
    Setup::new(&format!(
        "issuers:\n  - issuer: {issuer}\n    audiences: ['{JWT_RESOURCE}']\n    algorithms: [ES256]\n    \
         types: [rfc9068]\n    discovery: true\n    jwks: {{refetch_cooldown: 1s}}\n    claims: {{keep: [client_id]}}\n\
         policy: {{bundles: [bundle], entrypoint: p/allow}}\n"
    ))
    .file("bundle/p.rego", POLICY)
    .serve()
}

fn ask(server: &Server, scheme: &str, token: &str) -> u16 {
    let bearer = format!("{scheme} {token}");
    server.post("/v1/data/p/allow", &[("authorization", &bearer)], "{}").status
}

#[test]
fn an_access_token_is_verified_by_what_discovery_says() {
    let Some(provider) = Provider::start() else { return };
    let server = gate(&provider);
    let token = provider.token(JWT_RESOURCE);
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str())];
    assert_eq!(server.post("/v1/data/p/allow", &fields, "{}").result(), json!(true));
    let seen = server.post("/v1/data/p/token", &fields, "{}").result();
    assert_eq!(
        (&seen["issuer"], &seen["audience"], &seen["scopes"], &seen["claims"]),
        (&json!(provider.issuer), &json!([JWT_RESOURCE]), &json!(["read"]), &json!({"client_id": "app"}))
    );
    let forged = crate::support::tokens::forged(&token);
    assert_eq!(ask(&server, "Bearer", &forged), 401);
    assert_eq!(ask(&server, "Bearer", &provider.token(OPAQUE_RESOURCE)), 401, "it is no JWT, and nobody is asked");

    let health = server.snapshots.health().keys[&provider.issuer].clone();
    assert_eq!(health.keys, Some(1), "the key for ID tokens is of an algorithm that is not allowed");
    assert_eq!(health.dropped.get("algorithm_not_allowed"), Some(&1));
    let endpoint = server.snapshots.introspection_endpoint(&provider.issuer);
    assert_eq!(endpoint.as_deref(), Some(format!("{}/token/introspection", provider.issuer).as_str()));
    assert_eq!(provider.count("/.well-known/openid-configuration"), 1);
    assert_eq!(provider.count("/jwks"), 1);
    assert_eq!(provider.count("/token/introspection"), 0);
}

#[test]
fn keys_rotate_under_the_eyes_of_the_gate() {
    let Some(provider) = Provider::start() else { return };
    let server = gate(&provider);
    let first = provider.token(JWT_RESOURCE);
    assert_eq!(ask(&server, "Bearer", &first), 200);

    provider.rotate("k2", true);
    let second = provider.token(JWT_RESOURCE);
    assert_eq!(ask(&server, "Bearer", &second), 200, "the first token with the new key brings it");
    assert_eq!(ask(&server, "Bearer", &first), 200, "the old one is still in the set");
    assert_eq!(provider.count("/jwks"), 2);

    provider.rotate("k3", false);
    let third = provider.token(JWT_RESOURCE);
    eventually("a cooldown passes", || (ask(&server, "Bearer", &third) == 200).then_some(()));
    for token in [&first, &second] {
        assert_eq!(ask(&server, "Bearer", token), 401, "its key is gone, and so is what was remembered of it");
    }
    assert!(server.metric("claimgate_token_verification_failures_total", &["unknown_key"]) >= 2.0);
}

#[test]
fn an_outage_of_the_provider_is_none_of_the_gate() {
    let Some(provider) = Provider::start() else { return };
    let server = gate(&provider);
    let token = provider.token(JWT_RESOURCE);
    provider.rotate("k2", true);
    let unseen = provider.token(JWT_RESOURCE);
    provider.set_down(true);
    assert_eq!(ask(&server, "Bearer", &token), 200);
    assert_eq!(ask(&server, "Bearer", &unseen), 401, "its key cannot be had");
    let error =
        eventually("the failure is told", || server.snapshots.health().keys[&provider.issuer].last_error.clone());
    assert!(error.contains("failed"), "{error}");
    assert_eq!(ask(&server, "Bearer", &token), 200, "the keys before serve on");
    provider.set_down(false);
    eventually("a cooldown passes", || (ask(&server, "Bearer", &unseen) == 200).then_some(()));
    assert_eq!(ask(&server, "Bearer", &token), 200);
}

#[test]
fn a_token_that_is_bound_to_a_key_is_no_bearer_token() {
    let Some(provider) = Provider::start() else { return };
    let server = gate(&provider);
    let token = provider.bound_token(JWT_RESOURCE);
    assert_eq!(ask(&server, "Bearer", &token), 401);
}

/// The whole dance, with the program itself: a bound token of a provider, a proof of its client, a nonce of the gate.
#[test]
fn a_client_with_a_bound_token_proves_it_at_both_doors() {
    let Some(provider) = Provider::start() else { return };
    let issuer = &provider.issuer;
    let config = format!(
        "listen: 127.0.0.1:0\nadmin: {{listen: '127.0.0.1:0'}}\nissuers:\n  - issuer: {issuer}\n    audiences: \
         ['{JWT_RESOURCE}', '{OPAQUE_RESOURCE}']\n    algorithms: [ES256]\n    types: [at+jwt]\n    discovery: true\n    \
         sender_constraint: dpop\n    introspection: {{opaque: true, client_id: gate, client_secret_file: secret}}\n\
         policy: {{bundles: [bundle], entrypoint: p/allow}}\nforward_auth: {{trusted_peers: [127.0.0.1]}}\n\
         token: {{dpop: {{nonce: required}}}}\nlog: {{level: debug}}\n"
    );
    let setup = Setup::new(&config).file("bundle/p.rego", "package p\n\nallow if input.token.issuer\n");
    let directory = setup.file("secret", "gate-secret").into_directory();
    let program = Program::run(directory.path());
    let forwarded = [
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "api.example"),
        ("x-forwarded-uri", "/folders/f-1?page=2"),
    ];
    for resource in [JWT_RESOURCE, OPAQUE_RESOURCE] {
        let token = provider.bound_token(resource);
        let send = |target: &str, scheme: &str, proof: &str| {
            let authorization = format!("{scheme} {token}");
            let fields = [&forwarded[..], &[("authorization", &*authorization), ("dpop", proof)]].concat();
            program.send("POST", target, &fields, "{}")
        };
        let error = |answer: &Answer| {
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            challenge.split("error=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
        };
        for door in ["/forward-auth/traefik", "/v1/data/p/allow"] {
            let claims = json!({"htm": "PUT", "htu": "https://api.example/folders/f-1", "token": token});
            let first = send(door, "DPoP", &provider.proof(&claims));
            assert_eq!((first.status, error(&first).as_str()), (401, "use_dpop_nonce"), "{first:?}");
            let nonce = first.header("dpop-nonce").expect("a nonce");
            let mut with_nonce = claims.clone();
            with_nonce["nonce"] = json!(nonce);
            let proof = provider.proof(&with_nonce);
            assert_eq!(send(door, "DPoP", &proof).status, 200, "{door} {resource}: {}", program.log());
            let again = send(door, "DPoP", &proof);
            assert_eq!((again.status, error(&again).as_str()), (401, "invalid_dpop_proof"));
            let bearer = send(door, "Bearer", &provider.proof(&with_nonce));
            assert_eq!((bearer.status, error(&bearer).as_str()), (401, "invalid_token"));
            with_nonce["htm"] = json!("GET");
            let other = send(door, "DPoP", &provider.proof(&with_nonce));
            assert_eq!((other.status, error(&other).as_str()), (401, "invalid_dpop_proof"));
        }
        assert!(!program.log().contains(&token), "the token is in the log");
    }
    let unbound = format!("Bearer {}", provider.token(JWT_RESOURCE));
    let answer = program.send("POST", "/v1/data/p/allow", &[("authorization", &unbound)], "{}");
    assert_eq!(answer.status, 401, "the issuer's tokens have to be bound");
    assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("DPoP ")), "{answer:?}");
    for reason in [
        "dpop_nonce_missing",
        "dpop_proof_replayed",
        "bound_token_as_bearer",
        "dpop_method_mismatch",
        "sender_constraint_missing",
    ] {
        // The log comes through a pipe, and so after the answer.
        eventually(reason, || program.log().contains(reason).then_some(()));
    }
}

// === opaque tokens ===

const BY_CLIENT: &str = "package p\n\ndefault allow := false\n\nallow if input.token.claims.client_id == \"app\"\n";

/// A gate that asks the provider about opaque tokens, as the client `id`, where its metadata says.
fn asking(provider: &Provider, id: &str, secret: &str, more: &str) -> Server {
    let issuer = &provider.issuer;
    Setup::new(&format!(
        "issuers:\n  - issuer: {issuer}\n    audiences: ['{OPAQUE_RESOURCE}']\n    algorithms: [ES256]\n    discovery: \
         true\n    claims: {{keep: [client_id]}}\n    introspection: {{client_id: {id}, client_secret_file: secret, \
         opaque: true, inactive_ttl: 0s, {more}}}\npolicy: {{bundles: [bundle], entrypoint: p/allow}}\n"
    ))
    .file("bundle/p.rego", BY_CLIENT)
    .file("secret", secret)
    .serve()
}

#[test]
fn an_opaque_token_passes_until_it_is_revoked_and_what_was_remembered_is_old() {
    let Some(provider) = Provider::start() else { return };
    let server = asking(&provider, "gate", "gate-secret", "cache_ttl: 1s");
    let (token, other) = (provider.token(OPAQUE_RESOURCE), provider.token(OPAQUE_RESOURCE));
    assert_eq!(ask(&server, "Bearer", &token), 200);
    assert_eq!(ask(&server, "Bearer", &other), 200);
    let asked = provider.count("/token/introspection");
    assert!(asked >= 2, "{asked}");
    provider.revoke(&token);
    eventually("what was remembered is old", || (ask(&server, "Bearer", &token) == 401).then_some(()));
    for _ in 0..3 {
        assert_eq!(ask(&server, "Bearer", &token), 401);
    }
    assert_eq!(ask(&server, "Bearer", &other), 200);
    assert_eq!(ask(&server, "Bearer", "made-up"), 401);
}

#[test]
fn without_memory_a_revoked_token_is_refused_at_once() {
    let Some(provider) = Provider::start() else { return };
    let server = asking(&provider, "gate", "gate-secret", "cache_ttl: 0s");
    let token = provider.token(OPAQUE_RESOURCE);
    assert_eq!(ask(&server, "Bearer", &token), 200);
    provider.revoke(&token);
    assert_eq!(ask(&server, "Bearer", &token), 401);
    assert_eq!(provider.count("/token/introspection"), 2);
}

#[test]
fn signed_answers_of_the_provider_verify_with_its_keys() {
    let Some(provider) = Provider::start() else { return };
    let server = asking(&provider, "signed", "signed-secret", "signed: true, cache_ttl: 0s");
    let token = provider.token(OPAQUE_RESOURCE);
    assert_eq!(ask(&server, "Bearer", &token), 200);
    provider.rotate("k2", false);
    assert_eq!(ask(&server, "Bearer", &token), 200, "the first answer with the new key brings it");
    provider.revoke(&token);
    assert_eq!(ask(&server, "Bearer", &token), 401);
    // Asked as a client to whom the provider does not sign.
    let server = asking(&provider, "gate", "gate-secret", "signed: true");
    assert_eq!(ask(&server, "Bearer", &provider.token(OPAQUE_RESOURCE)), 503);
}

#[test]
fn while_the_provider_is_down_or_knows_us_not_nobody_passes() {
    let Some(provider) = Provider::start() else { return };
    let stranger = asking(&provider, "gate", "wrong-secret", "");
    let token = provider.token(OPAQUE_RESOURCE);
    assert_eq!(ask(&stranger, "Bearer", &token), 503);
    let server = asking(&provider, "gate", "gate-secret", "cache_ttl: 0s");
    assert_eq!(ask(&server, "Bearer", &token), 200);
    provider.set_down(true);
    assert_eq!(ask(&server, "Bearer", &token), 503);
    provider.set_down(false);
    assert_eq!(ask(&server, "Bearer", &token), 200);
}
