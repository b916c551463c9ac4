//! Where metadata is looked for, and what of it is believed.

use super::*;

#[test]
fn metadata_is_where_openid_connect_puts_it_or_else_where_rfc_8414_does() {
    let check = |issuer: &str, expected: [&str; 2]| {
        let places = places(issuer, None, false).unwrap();
        assert_eq!(places.iter().map(Url::as_str).collect::<Vec<_>>(), expected, "{issuer}");
    };
    let openid = "https://idp.example/.well-known/openid-configuration";
    let oauth = "https://idp.example/.well-known/oauth-authorization-server";
    check("https://idp.example", [openid, oauth]);
    check("https://idp.example/", [openid, oauth]);
    for issuer in ["https://idp.example:8443/realms/a", "https://idp.example:8443/realms/a/"] {
        check(
            issuer,
            [
                "https://idp.example:8443/realms/a/.well-known/openid-configuration",
                "https://idp.example:8443/.well-known/oauth-authorization-server/realms/a",
            ],
        );
    }
    let given = places("urn:x", Some("https://idp.example/meta"), false).unwrap();
    assert_eq!(given.iter().map(Url::as_str).collect::<Vec<_>>(), ["https://idp.example/meta"]);
    for issuer in ["http://idp.example", "urn:x", "idp.example", "https://user:secret@idp.example", ""] {
        assert!(places(issuer, None, false).is_err(), "{issuer}");
    }
}

#[track_caller]
fn check_metadata(document: &str, from: &str, expected: Result<&str, &str>) {
    let got = read(document.as_bytes(), "https://idp.example", &Url::parse(from).unwrap(), false, &[Algorithm::ES256]);
    let got = got.as_ref().map(|metadata| metadata.jwks.as_str());
    assert_eq!(got.map_err(FetchError::code), expected, "{document}");
}

#[test]
fn metadata_names_the_keys_only_for_its_own_issuer_and_only_at_a_safe_place() {
    let from = "https://idp.example/.well-known/openid-configuration";
    let of = |issuer: &str, uri: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{uri}","more":[1]}}"#);
    check_metadata(&of("https://idp.example", "https://keys.example/k"), from, Ok("https://keys.example/k"));
    for issuer in ["https://idp.example/", "https://IDP.example", "http://idp.example", "https://evil.example", ""] {
        check_metadata(&of(issuer, "https://keys.example/k"), from, Err("issuer_metadata_mismatch"));
    }
    check_metadata(&of("https://idp.example", "http://keys.example/k"), from, Err("key_url_not_https"));
    check_metadata(&of("https://idp.example", "http://127.0.0.1/k"), from, Err("key_url_not_https"));
    check_metadata(&of("https://idp.example", "http://127.0.0.1/k"), "http://127.0.0.1/m", Ok("http://127.0.0.1/k"));
    for host in [
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "0.0.0.0",
        "2852039166",
    ] {
        let uri = format!("https://{host}/latest/meta-data");
        check_metadata(&of("https://idp.example", &uri), from, Err("key_address_forbidden"));
    }
    let metadata_service = "https://169.254.169.254/metadata";
    check_metadata(
        &of("https://idp.example", "https://169.254.169.254/k"),
        metadata_service,
        Ok("https://169.254.169.254/k"),
    );
    check_metadata(r#"{"issuer":"https://idp.example"}"#, from, Err("issuer_metadata_invalid"));
    check_metadata(
        r#"{"issuer":"https://idp.example","issuer":"x","jwks_uri":"https://k"}"#,
        from,
        Err("issuer_metadata_invalid"),
    );
    check_metadata("<html>", from, Err("issuer_metadata_invalid"));
}

#[test]
fn metadata_says_where_to_introspect_and_hints_at_algorithms() {
    let from = Url::parse("https://idp.example/.well-known/openid-configuration").unwrap();
    let check = |more: &str, introspection: Option<&str>, has_no_common: bool| {
        let document = format!(r#"{{"issuer":"https://idp.example","jwks_uri":"https://idp.example/k"{more}}}"#);
        let configured = [Algorithm::ES256, Algorithm::EdDSA];
        let found = read(document.as_bytes(), "https://idp.example", &from, false, &configured).unwrap();
        assert_eq!(found.introspection.as_ref().map(Url::as_str), introspection, "{more}");
        assert_eq!(found.has_no_common_algorithm, has_no_common, "{more}");
    };
    check("", None, false);
    let at = Some("https://idp.example/introspect");
    check(r#","introspection_endpoint":"https://idp.example/introspect""#, at, false);
    for bad in ["7", "null", r#""/introspect""#, r#""http://idp.example/i""#, r#""https://169.254.169.254/i""#] {
        check(&format!(r#","introspection_endpoint":{bad}"#), None, false);
    }
    for (listed, has_no_common) in [
        (r#"["RS256","ES256"]"#, false),
        (r#"["Ed25519"]"#, false),
        (r#"["RS256"]"#, true),
        (r#"["none",7,"HS256"]"#, true),
        ("[]", false),
        (r#""RS256""#, false),
        ("1e400", false),
    ] {
        check(&format!(r#","id_token_signing_alg_values_supported":{listed}"#), None, has_no_common);
    }
    let both =
        r#","id_token_signing_alg_values_supported":["RS256"],"access_token_signing_alg_values_supported":["ES256"]"#;
    check(both, None, false);
}

proptest::proptest! {
    #[test]
    fn no_document_speaks_for_another_issuer(
        issuer in ".{0,40}",
        jwks in ".{0,40}",
        junk in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
    ) {
        let from = Url::parse("https://idp.example/m").unwrap();
        let read = |document: &[u8]| read(document, "https://idp.example", &from, false, &[Algorithm::ES256]);
        let document = serde_json::json!({ "issuer": issuer, "jwks_uri": "https://idp.example/k" }).to_string();
        assert_eq!(read(document.as_bytes()).is_ok(), issuer == "https://idp.example");
        let document = serde_json::json!({ "issuer": "https://idp.example", "jwks_uri": jwks }).to_string();
        if let Ok(metadata) = read(document.as_bytes()) {
            assert_eq!(metadata.jwks.scheme(), "https");
        }
        assert!(read(&junk).is_err());
    }
}
