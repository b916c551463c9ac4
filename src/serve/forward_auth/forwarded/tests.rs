//! What headers say, as tables: one reading, or a refusal with its code.

use std::{fmt::Write, time::Duration};

use http::HeaderValue;

use super::*;
use crate::{
    policy::DataPath,
    serve::{Limits, OpaIdentity, SenderSettings, TokenCacheSettings, TokenLint},
};

fn settings() -> Settings {
    Settings {
        listen: Vec::new(),
        tls: None,
        admin: None,
        events: None,
        limits: Limits {
            body_bytes: 0,
            gzip_body_bytes: 0,
            header_bytes: 0,
            header_timeout: Duration::ZERO,
            request_timeout: Duration::ZERO,
            connections: 0,
            json_depth: 0,
        },
        token_sources: vec![
            TokenSource::Header { name: "x-token".to_owned(), scheme: String::new() },
            TokenSource::Query("access_token".to_owned()),
        ],
        token_cache: TokenCacheSettings { entries: 0, bytes: 0 },
        status_lists: crate::status_lists::Settings::default(),
        token_lint: TokenLint::Off,
        sender: SenderSettings::default(),
        realm: String::new(),
        opa_identity: OpaIdentity::Token,
        default_decision: DataPath::default(),
        trusted_peers: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        forwarded_headers: ["x-request-id", "x-token", "cookie"].map(str::to_owned).to_vec(),
        identity_headers: Vec::new(),
        shutdown_wait: Duration::ZERO,
        shutdown_grace: Duration::ZERO,
        key_patience: Duration::ZERO,
        published_jwks: None,
        revocation_credentials: None,
    }
}

/// One header a line: `name: value`.
fn map(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.trim().split_once(": ").unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// `want`: `METHOD scheme host path [name=value]…`, or the code of the refusal.
fn check(dialect: Dialect, lines: &str, want: &str) {
    let got = match read(dialect, &map(lines), &settings()) {
        Err(unclear) => unclear.code().to_owned(),
        Ok(Forwarded { access, .. }) => {
            let host = if access.host.is_empty() { "-" } else { &access.host };
            let mut text = format!("{} {} {host} {}", access.method, access.scheme, access.path.as_str());
            for (name, value) in &access.query {
                write!(text, " {name}={value}").unwrap();
            }
            text
        }
    };
    assert_eq!(got, want, "{dialect:?} {lines}");
}

const BASE: &str = "x-forwarded-method: GET\nx-forwarded-proto: https\nx-forwarded-host: a.example\n";

#[test]
fn each_proxy_is_read_by_its_own_headers() {
    let nginx = "x-original-method: POST\nx-original-uri: /a%20b/c?d=1&d=2\nx-forwarded-proto: https\n\
                 x-forwarded-host: A.Example:8443\n";
    check(Dialect::Nginx, nginx, "POST https a.example:8443 /a b/c d=1 d=2");
    for other in [Dialect::Traefik, Dialect::Caddy] {
        check(other, nginx, "forwarded_header_missing");
        check(other, &format!("{BASE}x-forwarded-uri: /a?b=%3D\n"), "GET https a.example /a b==");
        check(
            other,
            &format!("{BASE}x-forwarded-uri: /a\nx-original-uri: /b\nx-original-method: PUT\n"),
            "GET https a.example /a",
        );
    }
    check(Dialect::Nginx, &format!("{BASE}x-forwarded-uri: /a\n"), "forwarded_header_missing");
}

#[test]
fn a_whole_url_says_everything() {
    let check = |url: &str, want: &str| {
        let lines =
            format!("x-original-method: GET\nx-forwarded-proto: http\nx-forwarded-host: evil\nx-original-url: {url}\n");
        check(Dialect::Nginx, &lines, want);
    };
    check("https://a.example/b?c=1", "GET https a.example /b c=1");
    check("http://a.example", "GET http a.example /");
    check("http://a.example?c", "GET http a.example / c=");
    check("wss://[::1]:8443/x", "GET https [::1]:8443 /x");
    for url in
        ["ftp://a/b", "/b", "https:///b", "https://user@a/b", "https://a:/b", "https://a b/c", "://a/b", "a.example/b"]
    {
        check(url, "forwarded_header_malformed");
    }
    check("https://a/b#c", "path_delimiter");
    check("https://a#/b", "path_not_absolute");
    let both = "x-original-method: GET\nx-original-url: http://a/b\nx-original-uri: /b\n";
    super::tests::check(Dialect::Nginx, both, "forwarded_header_repeated");
}

#[test]
fn what_is_missing_said_twice_or_malformed_is_refused() {
    let check = |lines: &str, want| check(Dialect::Traefik, lines, want);
    check("x-forwarded-uri: /a\n", "forwarded_header_missing");
    check("x-forwarded-method: GET\n", "forwarded_header_missing");
    check("x-forwarded-method: GET\nx-forwarded-uri: /a\n", "GET http - /a");
    for twice in
        ["x-forwarded-method: GET", "x-forwarded-proto: https", "x-forwarded-host: a.example", "x-forwarded-uri: /a"]
    {
        check(&format!("{BASE}x-forwarded-uri: /a\n{twice}\n"), "forwarded_header_repeated");
    }
    for malformed in ["get", "Get", "G T", "GET, POST", "(GET)"] {
        check(&format!("x-forwarded-uri: /a\nx-forwarded-method: {malformed}\n"), "forwarded_header_malformed");
    }
    for malformed in [
        "proto: ftp",
        "proto: https, http",
        "host: a, b",
        "host: a/b",
        "host: a.",
        "host: a.:80",
        "host: [::1",
        "host: ::1",
        "host: a:b",
        "host: :80",
        "host: [::g]",
    ] {
        let lines = format!("x-forwarded-method: GET\nx-forwarded-uri: /a\nx-forwarded-{malformed}\n");
        check(&lines, "forwarded_header_malformed");
    }
}

#[test]
fn an_ambiguous_target_is_refused_with_the_code_of_the_canonicaliser() {
    for (uri, want) in [
        ("/a/../b", "path_dot_segment"),
        ("//a", "path_empty_segment"),
        ("/a%2fb", "path_encoded_slash"),
        ("/a;b", "path_parameter"),
        ("*", "path_not_absolute"),
        ("?a", "path_not_absolute"),
        ("http://a/b", "path_not_absolute"),
        ("/a?b=%zz", "query_bad_encoding"),
        ("/a?b=%ff", "query_not_utf8"),
    ] {
        check(Dialect::Caddy, &format!("{BASE}x-forwarded-uri: {uri}\n"), want);
    }
}

#[test]
fn policy_never_sees_the_place_of_a_token() {
    let headers = map(&format!(
        "{BASE}x-forwarded-uri: /a?access_token=aaa&b=1&access%5ftoken=bbb\nx-token: aaa\ncookie: a=b\n\
         authorization: Bearer aaa\nx-request-id: 1\nx-request-id: 2\nx-other: 3\n"
    ));
    let Forwarded { access, query, uri } = read(Dialect::Traefik, &headers, &settings()).unwrap();
    assert_eq!(access.query, [("b".to_owned(), "1".to_owned())]);
    assert_eq!(access.headers, map("x-request-id: 1\nx-request-id: 2\n"));
    assert_eq!(query, Some("access_token=aaa&b=1&access%5ftoken=bbb"));
    assert_eq!(uri, "/a?access_token=aaa&b=1&access%5ftoken=bbb");
}

#[test]
fn the_client_is_the_last_address_that_is_no_proxy() {
    for (lines, want) in [
        ("", None),
        ("x-forwarded-for: 203.0.113.7\n", Some("203.0.113.7")),
        ("x-forwarded-for: 198.51.100.1, 203.0.113.7, 10.1.1.1\n", Some("203.0.113.7")),
        (
            "x-forwarded-for: 198.51.100.1\nx-forwarded-for: 203.0.113.7\nx-forwarded-for: fd00::1\n",
            Some("203.0.113.7"),
        ),
        ("x-forwarded-for: 10.2.2.2, 10.1.1.1\n", Some("10.2.2.2")),
        ("x-forwarded-for: nonsense, 203.0.113.7\n", Some("203.0.113.7")),
        ("x-forwarded-for: nonsense, 10.1.1.1\n", None),
        ("x-forwarded-for: 203.0.113.7:4711\n", Some("203.0.113.7")),
        ("x-forwarded-for: [2001:db8::1]:4711, ::ffff:10.0.0.1\n", Some("2001:db8::1")),
        ("x-forwarded-for: [2001:db8::1]\n", Some("2001:db8::1")),
    ] {
        assert_eq!(client(&map(lines), &settings().trusted_peers), want.map(|text| text.parse().unwrap()), "{lines}");
    }
}

#[test]
fn nginx_gets_no_status_but_those_that_it_knows() {
    for (status, nginx) in
        [(200, 204), (401, 401), (403, 403), (302, 403), (400, 403), (404, 403), (429, 403), (500, 500), (503, 503)]
    {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(Dialect::Nginx.status(status).as_u16(), nginx);
        assert_eq!(Dialect::Traefik.status(status), status);
        assert_eq!(Dialect::Caddy.status(status), status);
    }
}
