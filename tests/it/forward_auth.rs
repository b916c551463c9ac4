//! The forward-auth door over real sockets: for each proxy, what it says about a request → the status and headers that
//! it gets. The policy shows what it sees, so the tables hold for what is decided and for what is understood.

use serde_json::{Value, json};

use crate::support::{
    http::{Answer, Client, Fields},
    setup::{Server, Setup},
    tokens::{Issuer, forged, now},
};

/// Public things are for all; `/echo` answers what policy saw; `/deny/…` shows what a deny may carry.
const POLICY: &str = r#"package gate

default decision := {"allow": false, "reason": "no rule"}

segments := input.request.segments

decision := {"allow": true} if segments[0] == "public"

decision := {"allow": true, "headers": {"x-user": input.token.subject}} if {
	segments[0] == "private"
	input.token.subject == "alice"
	input.request.method == "GET"
}

decision := {"allow": true, "headers": {"x-seen": json.marshal(input.request)}} if segments[0] == "echo"

decision := {"allow": false, "http_status": 302, "headers": {"location": "https://login.example/"}} if {
	segments == ["deny", "redirect"]
}

decision := {"allow": false, "http_status": 429, "headers": {"retry-after": "7"}, "body": "slow down"} if {
	segments == ["deny", "slow"]
}

decision := {"allow": false, "http_status": 401} if segments == ["deny", "login"]

decision := {"allow": true, "headers": {"content-length": "1"}} if segments == ["deny", "framing"]

decision := "yes" if segments == ["deny", "text"]

decision := {"allow": "true"} if segments == ["deny", "string"]

decision := 1 / 0 if segments == ["deny", "undefined"]

decision := {"allow": true} if segments == ["deny", "conflict"]

decision := {"allow": false} if segments == ["deny", "conflict"]
"#;

fn server(issuer: &Issuer, more: &str) -> Server {
    Setup::new(&format!(
        "{}policy: {{bundles: [{{name: b, path: bundle}}], entrypoint: gate/decision}}\nanonymous: allow_to_policy\n{more}",
        issuer.section()
    ))
    .file("bundle/gate.rego", POLICY)
    .serve()
}

fn trusting(issuer: &Issuer) -> Server {
    server(
        issuer,
        "forward_auth: {trusted_peers: [127.0.0.1], headers: [x-request-id], identity_headers: [x-user, x-groups]}\n",
    )
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Proxy {
    Nginx,
    Traefik,
    Caddy,
}

use Proxy::{Caddy, Nginx, Traefik};

const ALL: [Proxy; 3] = [Nginx, Traefik, Caddy];

impl Proxy {
    fn route(self) -> &'static str {
        match self {
            Nginx => "/forward-auth/nginx",
            Traefik => "/forward-auth/traefik",
            Caddy => "/forward-auth/caddy",
        }
    }

    /// What this proxy sends for a request of a client.
    fn says<'a>(self, method: &'a str, uri: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut fields = match self {
            Nginx => vec![("x-original-method", method), ("x-original-uri", uri)],
            Traefik | Caddy => vec![("x-forwarded-method", method), ("x-forwarded-uri", uri)],
        };
        fields.extend([
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "app.example"),
            ("x-forwarded-for", "203.0.113.7"),
        ]);
        fields
    }

    fn asks(self, server: &Server, method: &str, uri: &str, more: Fields<'_>) -> Answer {
        let mut fields = self.says(method, uri);
        fields.extend(more);
        server.send("GET", self.route(), &fields, "")
    }
}

// === what each proxy gets ===

#[test]
fn each_proxy_gets_the_statuses_that_it_understands() {
    let issuer = Issuer::new();
    let server = trusting(&issuer);
    let alice = issuer.bearer("alice");
    let bob = issuer.bearer("bob");
    let expired = format!("Bearer {}", issuer.token_with(json!({"iat": now() - 900, "exp": now() - 600})));
    let forgery = format!("Bearer {}", forged(&issuer.token("alice")));
    // Method, path, authorization → status for nginx, status for Traefik and Caddy.
    let cases: &[(&str, &str, &str, u16, u16)] = &[
        ("GET", "/public/a", "", 204, 200),
        ("POST", "/public/a", &alice, 204, 200),
        ("GET", "/private/a", &alice, 204, 200),
        ("GET", "/private/a?x=1", &alice, 204, 200),
        ("PUT", "/private/a", &alice, 403, 403),
        ("GET", "/private/a", &bob, 403, 403),
        ("GET", "/private/a", "", 403, 403),
        ("GET", "/other", &alice, 403, 403),
        ("GET", "/public/a", &expired, 401, 401),
        ("GET", "/public/a", &forgery, 401, 401),
        ("GET", "/public/a", "Bearer a b", 403, 400),
        ("GET", "/public/a", "Basic YTpi", 401, 401),
        ("GET", "/deny/redirect", "", 403, 302),
        ("GET", "/deny/slow", "", 403, 429),
        ("GET", "/deny/login", "", 401, 401),
        ("GET", "/deny/framing", "", 403, 403),
        ("GET", "/deny/text", "", 403, 403),
        ("GET", "/deny/string", "", 403, 403),
        ("GET", "/deny/conflict", "", 403, 403),
    ];
    for (method, path, authorization, nginx, others) in cases {
        for proxy in ALL {
            let field = [("authorization", *authorization)];
            let got = proxy.asks(&server, method, path, if authorization.is_empty() { &[] } else { &field });
            let want = if proxy == Nginx { *nginx } else { *others };
            assert_eq!(got.status, want, "{proxy:?} {method} {path} {authorization:.12}: {got:?}");
            assert_eq!(
                got.header("www-authenticate").is_some(),
                matches!(got.status, 401) || authorization.contains("a b"),
                "{proxy:?} {path}: {got:?}"
            );
            assert!(got.header("x-claimgate-decision-id").is_some() || got.status == 400, "{got:?}");
        }
    }
    // What a deny carries, for those who hand it to the client.
    let redirect = Traefik.asks(&server, "GET", "/deny/redirect", &[]);
    assert_eq!(redirect.header("location"), Some("https://login.example/"));
    let slow = Caddy.asks(&server, "GET", "/deny/slow", &[]);
    assert_eq!((slow.header("retry-after"), slow.text().as_str()), (Some("7"), "slow down"));
    let reason = Traefik.asks(&server, "GET", "/other", &[]);
    assert_eq!(reason.json()["message"], "no rule");
}

#[test]
fn identity_headers_come_with_every_allow_and_empty_when_policy_sets_none() {
    let issuer = Issuer::new();
    let server = trusting(&issuer);
    let smuggled = [("x-user", "root"), ("x-groups", "admins")];
    for proxy in ALL {
        let anonymous = proxy.asks(&server, "GET", "/public/a", &smuggled);
        assert_eq!((anonymous.header("x-user"), anonymous.header("x-groups")), (Some(""), Some("")), "{anonymous:?}");
        let mut fields = vec![("authorization", "")];
        let bearer = issuer.bearer("alice");
        fields[0].1 = &bearer;
        fields.extend(smuggled);
        let alice = proxy.asks(&server, "GET", "/private/a", &fields);
        assert_eq!((alice.header("x-user"), alice.header("x-groups")), (Some("alice"), Some("")), "{alice:?}");
    }
}

#[test]
fn policy_sees_the_request_of_the_client_and_never_credentials() {
    let issuer = Issuer::new();
    let server = trusting(&issuer);
    let bearer = issuer.bearer("alice");
    for proxy in ALL {
        let got = proxy.asks(
            &server,
            "PATCH",
            "/echo/a%20b?draft=1&draft=2&x=%2F",
            &[("authorization", &bearer), ("cookie", "session=secret"), ("x-request-id", "r1"), ("x-other", "o")],
        );
        let seen: Value = serde_json::from_str(got.header("x-seen").unwrap_or_else(|| panic!("{got:?}"))).unwrap();
        assert_eq!(seen["method"], "PATCH", "never the method of the sub-request");
        assert_eq!((&seen["scheme"], &seen["host"]), (&json!("https"), &json!("app.example")));
        assert_eq!((&seen["path"], &seen["segments"]), (&json!("/echo/a b"), &json!(["echo", "a b"])));
        assert_eq!(seen["query"], json!({"draft": ["1", "2"], "x": ["/"]}));
        assert_eq!(seen["headers"], json!({"x-request-id": "r1"}));
        assert_eq!(seen["source"]["address"], "203.0.113.7");
        let text = seen.to_string();
        assert!(!text.contains("secret") && !text.contains(bearer.get(7..30).unwrap()), "{text}");
    }
}

// === who is believed ===

#[test]
fn a_peer_that_is_not_trusted_gets_nothing_whatever_it_says() {
    let issuer = Issuer::new();
    for trusted in ["", "forward_auth: {trusted_peers: [10.0.0.0/8, '::1']}\n"] {
        let server = server(&issuer, trusted);
        let bearer = issuer.bearer("alice");
        for proxy in ALL {
            for fields in [&[][..], &[("authorization", bearer.as_str())], &[("x-forwarded-for", "10.0.0.1")]] {
                let got = proxy.asks(&server, "GET", "/public/a", fields);
                assert_eq!(got.status, 403, "{proxy:?} {trusted}: {got:?}");
            }
        }
    }
}

#[test]
fn a_unix_socket_is_trusted_by_its_file_mode() {
    let issuer = Issuer::new();
    let config = format!(
        "listen: [127.0.0.1:0, 'unix:gate.sock']\nadmin: {{listen: '127.0.0.1:0'}}\nsocket_mode: \"0600\"\n{}\
         policy: {{bundles: [{{name: b, path: bundle}}], entrypoint: gate/decision}}\nanonymous: allow_to_policy\n",
        issuer.section()
    );
    let server = Setup::new(&config).file("bundle/gate.rego", POLICY).serve();
    let path = server.directory.path().join("gate.sock");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for proxy in ALL {
        let got = Client::connect_unix(&path).send("GET", proxy.route(), &proxy.says("GET", "/public/a"), b"");
        assert!((200..300).contains(&got.status), "{proxy:?}: {got:?}");
        assert_eq!(proxy.asks(&server, "GET", "/public/a", &[]).status, 403, "{proxy:?}: TCP is not trusted");
    }
    drop(server);
    assert!(!path.exists(), "the socket's file is removed");
}

#[test]
fn what_is_missing_or_said_twice_is_refused() {
    let issuer = Issuer::new();
    let server = trusting(&issuer);
    for proxy in ALL {
        let whole = proxy.says("GET", "/public/a");
        // Without the method or the target there is nothing to decide about.
        for missing in 0..2 {
            let mut fields = whole.clone();
            fields.remove(missing);
            let got = server.send("GET", proxy.route(), &fields, "");
            assert!(matches!((proxy, got.status), (Nginx, 403) | (Traefik | Caddy, 400)), "{proxy:?}: {got:?}");
        }
        // A second line is the client's.
        for twice in 0..4 {
            let mut fields = whole.clone();
            fields.push(whole[twice]);
            let got = server.send("GET", proxy.route(), &fields, "");
            assert!(matches!((proxy, got.status), (Nginx, 403) | (Traefik | Caddy, 400)), "{proxy:?}: {got:?}");
        }
        // Headers of the other dialect change nothing.
        let mut fields = proxy.says("GET", "/other");
        fields.extend(match proxy {
            Nginx => [("x-forwarded-method", "GET"), ("x-forwarded-uri", "/public/a")],
            Traefik | Caddy => [("x-original-method", "GET"), ("x-original-uri", "/public/a")],
        });
        assert_eq!(server.send("GET", proxy.route(), &fields, "").status, 403, "{proxy:?}");
    }
}

// === ways around a rule ===

#[test]
fn a_path_with_two_readings_is_never_allowed() {
    let issuer = Issuer::new();
    let server = trusting(&issuer);
    let bearer = issuer.bearer("alice");
    // Each could be `/public/…` for this rule and something else for the application behind, or the other way round.
    let paths = [
        "//public/a",
        "/public//a",
        "/public/./a",
        "/public/../private/a",
        "/public/..",
        "/public/%2e%2e/private/a",
        "/public/.%2e/private/a",
        "/public/%2E%2E%2Fprivate",
        "/public/..%2fprivate/a",
        "/public%2f..%2fprivate",
        "/public/..%5cprivate",
        "/public\\..\\private",
        "/public/..;/private/a",
        "/public;x=1/a",
        "/public/a;jsessionid=1",
        "/public/%252e%252e/private",
        "/public/%25%32%65%25%32%65/private",
        "/public/a%00",
        "/public/a%0d%0ax-user:%20root",
        "/public/%c0%ae%c0%ae/private",
        "/public/a%ff",
        "/public/a%zz",
        "/public/a%",
        "/public/a#/../private",
        "http://evil.example/public/a",
        "public/a",
        "*",
        "",
        "?/public/a",
        "/public/a?x=%zz",
        "/public/a?x=%ff",
    ];
    for path in paths {
        for proxy in ALL {
            for fields in [&[][..], &[("authorization", bearer.as_str())]] {
                let got = proxy.asks(&server, "GET", path, fields);
                assert!((400..500).contains(&got.status), "{proxy:?} {path}: {got:?}");
                assert_eq!(got.header("x-user"), None, "{proxy:?} {path}");
            }
        }
        assert!(server.metric("claimgate_requests_refused_total", &[]) > 0.0);
    }
    for proxy in ALL {
        assert!((200..300).contains(&proxy.asks(&server, "GET", "/public/a", &[]).status), "and the next is served");
    }
}

#[test]
fn a_method_is_compared_as_the_application_will() {
    let issuer = Issuer::new();
    let server = trusting(&issuer);
    let bearer = issuer.bearer("alice");
    for proxy in ALL {
        for method in ["get", "Get", "GET, POST", "G T", "", "GET\t", "(GET)"] {
            let got = proxy.asks(&server, method, "/private/a", &[("authorization", &bearer)]);
            // White space around a value is no part of it (RFC 9110 §5.5).
            if method != "GET\t" {
                assert!((400..500).contains(&got.status), "{proxy:?} {method:?}: {got:?}");
            }
        }
        // Whatever the sub-request's own method is, the named one counts.
        let mut fields = proxy.says("PUT", "/private/a");
        fields.push(("authorization", &bearer));
        for own in ["GET", "POST", "HEAD"] {
            let got = server.client().send(own, proxy.route(), &fields, b"");
            assert_eq!(got.status, 403, "{proxy:?} {own}");
        }
        let override_method = [("authorization", bearer.as_str()), ("x-http-method-override", "GET")];
        assert_eq!(proxy.asks(&server, "PUT", "/private/a", &override_method).status, 403, "{proxy:?}");
    }
}

#[test]
fn no_entrypoint_no_allow() {
    let issuer = Issuer::new();
    let server = Setup::new(&format!(
        "{}policy: {{bundles: [{{name: b, path: bundle}}]}}\nanonymous: allow_to_policy\nforward_auth: {{trusted_peers: [127.0.0.1]}}\n",
        issuer.section()
    ))
    .file("bundle/gate.rego", POLICY)
    .serve();
    for proxy in ALL {
        assert_eq!(proxy.asks(&server, "GET", "/public/a", &[]).status, 403, "{proxy:?}");
    }
}

#[test]
fn a_change_of_policy_counts_for_the_next_request() {
    let issuer = Issuer::new();
    let server = trusting(&issuer);
    assert_eq!(Traefik.asks(&server, "GET", "/public/a", &[]).status, 200);
    server.replace("bundle/gate.rego", "package gate\n\ndecision := {\"allow\": false}\n");
    crate::support::eventually("the new policy decides", || {
        (Traefik.asks(&server, "GET", "/public/a", &[]).status == 403).then_some(())
    });
}
