//! Where requests may go, what an answer's headers mean, and what is wrong with files of certificates. The requests
//! themselves are tested against real servers in `tests/it/jwks.rs` and `tests/it/jwks_tls.rs`.

use std::{fs, path::Path};

use super::*;

#[track_caller]
fn check_admit(text: &str, allow_http: bool, expected: Result<&str, &str>) {
    let got = admit(text, allow_http);
    assert_eq!(got.as_ref().map(Url::as_str).map_err(Error::code), expected, "{text}");
}

#[test]
fn only_https_and_loopback_http_are_admitted() {
    check_admit("https://idp.example/keys", false, Ok("https://idp.example/keys"));
    check_admit("https://idp.example/keys#part", false, Ok("https://idp.example/keys"));
    check_admit("http://127.0.0.1:8080/keys", false, Ok("http://127.0.0.1:8080/keys"));
    check_admit("http://[::1]/keys", false, Ok("http://[::1]/keys"));
    check_admit("http://localhost/keys", false, Ok("http://localhost/keys"));
    check_admit("http://idp.example/keys", true, Ok("http://idp.example/keys"));
    check_admit("http://idp.example/keys", false, Err("url_not_https"));
    check_admit("http://localhost.example/keys", false, Err("url_not_https"));
    check_admit("ftp://idp.example/keys", true, Err("url_invalid"));
    check_admit("file:///etc/passwd", true, Err("url_invalid"));
    check_admit("/keys", false, Err("url_invalid"));
    check_admit("https://user:secret@idp.example/keys", false, Err("url_invalid"));
}

#[test]
fn a_password_in_a_url_is_not_repeated() {
    let error = admit("https://user:secret@idp.example/keys", false).unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
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
        let response = Response { status: StatusCode::OK, headers, body: Vec::new() };
        assert_eq!(response.max_age(), expected.map(Duration::from_secs), "{cache:?} {age:?}");
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

#[test]
fn secrets_are_not_shown() {
    let url = admit("https://idp.example/introspect", false).unwrap();
    let request = Request::post(url, "application/json", "application/x-www-form-urlencoded", b"token=secret".to_vec())
        .header(header::AUTHORIZATION, HeaderValue::from_static("Basic secret"));
    let response = Response { status: StatusCode::OK, headers: request.headers.clone(), body: b"secret".to_vec() };
    for shown in [format!("{request:?}"), format!("{response:?}")] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_file_of_certificates_that_cannot_be_used_is_named_with_its_setting() {
    let home = tempfile::tempdir().unwrap();
    let tls = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name);
    let text = |content: &str| {
        let path = home.path().join(format!("{}.pem", content.len()));
        fs::write(&path, content).unwrap();
        path
    };
    let (certificate, key) = (Some(tls("client.pem")), Some(tls("client-key.pem")));
    let ca = |path: PathBuf| Settings { ca_file: Some(path), ..Settings::default() };
    let identity =
        |certificate, key| Settings { client_certificate: certificate, client_key: key, ..Settings::default() };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (settings, says) in [
        (Settings::default(), None),
        (ca(tls("ca.pem")), None),
        (identity(certificate.clone(), key.clone()), None),
        (ca(tls("no-such.pem")), Some("`ca_file`: `{}`: there is no such file or directory")),
        (ca(home.path().to_owned()), Some("`ca_file`: `{}`: it is not a regular file")),
        (ca(tls("client-key.pem")), Some("`ca_file`: `{}`: there is no certificate in it")),
        (ca(text("hello")), Some("`ca_file`: `{}`: there is no certificate in it")),
        (ca(text(broken)), Some("`ca_file`: `{}`: ")),
        (ca(text(&" ".repeat((1 << 20) + 1))), Some("`ca_file`: `{}`: it has more than 1048576 bytes")),
        (identity(key.clone(), key.clone()), Some("`client_certificate`: `{}`: there is no certificate in it")),
        (identity(certificate.clone(), certificate.clone()), Some("`client_key`: `{}`: there is no private key in it")),
        (identity(certificate.clone(), Some(tls("server-key.pem"))), Some("`client_key`: `{}`: it is not the key")),
        (
            identity(certificate, Some(text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n"))),
            Some("`client_key`: `{}`: the key is encrypted"),
        ),
    ] {
        let found = settings.check_files().map_err(|error| error.to_string());
        match (found, says) {
            (Ok(()), None) => assert!(Client::new(settings).is_ok()),
            (Err(found), Some(says)) => {
                let (setting, _) = says.split_once(':').unwrap();
                let path = settings.files().find(|(name, _)| format!("`{name}`") == setting).unwrap().1;
                let says = says.replace("{}", &path.display().to_string());
                assert!(found.starts_with(&says) && found.len() > says.len() - 3, "{found}, not {says}");
                assert!(Client::new(settings).is_err());
            }
            (found, says) => panic!("{settings:?}: {found:?}, not {says:?}"),
        }
    }
}
