//! Where requests may go, and what an answer's headers mean. The requests themselves are tested against a real server
//! in `tests/it/jwks.rs`.

use super::*;

#[track_caller]
fn check_admit(text: &str, allow_http: bool, expected: Result<&str, &str>) {
    let got = admit(text, allow_http);
    assert_eq!(got.as_ref().map(Url::as_str).map_err(FetchError::code), expected, "{text}");
}

#[test]
fn only_https_and_loopback_http_are_admitted() {
    check_admit("https://idp.example/keys", false, Ok("https://idp.example/keys"));
    check_admit("https://idp.example/keys#part", false, Ok("https://idp.example/keys"));
    check_admit("http://127.0.0.1:8080/keys", false, Ok("http://127.0.0.1:8080/keys"));
    check_admit("http://[::1]/keys", false, Ok("http://[::1]/keys"));
    check_admit("http://localhost/keys", false, Ok("http://localhost/keys"));
    check_admit("http://idp.example/keys", true, Ok("http://idp.example/keys"));
    check_admit("http://idp.example/keys", false, Err("key_url_not_https"));
    check_admit("http://localhost.example/keys", false, Err("key_url_not_https"));
    check_admit("ftp://idp.example/keys", true, Err("key_url_invalid"));
    check_admit("file:///etc/passwd", true, Err("key_url_invalid"));
    check_admit("/keys", false, Err("key_url_invalid"));
    check_admit("https://user:secret@idp.example/keys", false, Err("key_url_invalid"));
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let error = admit("https://user:secret@idp.example/keys", false).unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn the_metadata_url_is_where_openid_connect_puts_it() {
    let check = |issuer, expected| assert_eq!(metadata_url(issuer, None, false).unwrap().as_str(), expected);
    check("https://idp.example", "https://idp.example/.well-known/openid-configuration");
    check("https://idp.example/", "https://idp.example/.well-known/openid-configuration");
    check("https://idp.example/realms/a", "https://idp.example/realms/a/.well-known/openid-configuration");
    let given = metadata_url("urn:x", Some("https://idp.example/.well-known/oauth-authorization-server"), false);
    assert_eq!(given.unwrap().path(), "/.well-known/oauth-authorization-server");
}

#[track_caller]
fn check_metadata(document: &str, from: &str, expected: Result<&str, &str>) {
    let got = jwks_uri(document.as_bytes(), "https://idp.example", &Url::parse(from).unwrap(), false);
    assert_eq!(got.as_ref().map(Url::as_str).map_err(FetchError::code), expected, "{document}");
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
fn ordinary_addresses_are_not_forbidden() {
    for address in
        ["127.0.0.1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "::1", "fd00::1", "2001:db8::1", "64:ff9b::808:808"]
    {
        assert!(!is_forbidden(address.parse().unwrap()), "{address}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_a_forbidden_address_is_refused() {
    // No name server is needed: the system's resolver reads the address itself.
    let refused = GuardedResolver.resolve("169.254.169.254".parse().unwrap()).await;
    assert!(refused.err().unwrap().to_string().contains("metadata addresses"));
    let allowed = GuardedResolver.resolve("127.0.0.1".parse().unwrap()).await;
    assert_eq!(allowed.unwrap().count(), 1);
}

#[test]
fn freshness_comes_from_cache_control_and_age() {
    let check = |cache: Option<&str>, age: Option<&str>, expected: Option<u64>| {
        let mut headers = HeaderMap::new();
        cache.map(|text| headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(text).unwrap()));
        age.map(|text| headers.insert(header::AGE, HeaderValue::from_str(text).unwrap()));
        assert_eq!(max_age(&headers), expected.map(Duration::from_secs), "{cache:?} {age:?}");
    };
    check(None, None, None);
    check(Some("public, max-age=600"), None, Some(600));
    check(Some("Max-Age=\"600\", must-revalidate"), Some("100"), Some(500));
    check(Some("max-age=10"), Some("100"), Some(0));
    check(Some("max-age=600"), Some("soon"), Some(600));
    check(Some("max-age=600, no-store"), None, Some(0));
    check(Some("max-age=-1"), None, None);
    check(Some("max-age=99999999999999999999999"), None, None);
    check(Some("s-maxage=5"), None, None);
}
