//! `http.send` from Rego over real sockets to a server on this machine, kind and hostile: what a policy sees, what ends
//! its evaluation, what is kept, and where a request never goes.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use claimgate::{
    outbound::{self, Outbound},
    policy::{
        DataPath, EvalOptions, HttpSend, Outcome, PolicySet, Settings, Source, SourceFile, SourceKind, to_opa_json,
    },
};

use crate::support::{PATIENCE, upstream::Upstream};

fn outbound(allow: &[&str]) -> Arc<dyn HttpSend> {
    let allow = allow.iter().map(|host| host.parse().unwrap()).collect();
    Arc::new(Outbound::new(outbound::Settings { allow, ..outbound::Settings::default() }))
}

/// `data.p.x` of a module, with `PORT` put in.
fn evaluate(port: u16, http: &Arc<dyn HttpSend>, rules: &str, options: &EvalOptions) -> String {
    let text = format!("package p\n\n{}\n", rules.replace("PORT", &port.to_string()));
    let source = Source {
        name: String::new(),
        origin: "dir".to_owned(),
        kind: SourceKind::Plain { prefix: Vec::new() },
        files: vec![SourceFile { path: "p.rego".to_owned(), bytes: text.into_bytes() }],
    };
    let settings = Settings { http: Some(Arc::clone(http)), io_deadline: PATIENCE, ..Settings::default() };
    let set = PolicySet::load(vec![source], &settings).unwrap();
    match set.evaluate(&DataPath::from_slash("p/x"), None, options) {
        Ok(Outcome::Undefined) => "undefined".to_owned(),
        Ok(Outcome::Value(value)) => to_opa_json(&value).replace(&port.to_string(), "PORT"),
        Err(error) => format!("{}: {}", error.code(), error.message).replace(&port.to_string(), "PORT"),
    }
}

/// One call to this machine: `more` are further parameters, `after` goes into the result.
fn check(server: &Upstream, path: &str, more: &str, after: &str, want: &str) {
    let rules =
        format!("x := http.send({{\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT{path}\"{more}}}){after}");
    let options = EvalOptions { strict_builtin_errors: true, ..EvalOptions::default() };
    assert_eq!(evaluate(server.port, &outbound(&["127.0.0.1"]), &rules, &options), want, "{path} {more}");
}

#[test]
fn answers_look_as_opa_shows_them() {
    let server = Upstream::start();
    check(
        &server,
        "/json",
        "",
        "",
        "{\"body\":{\"a\":1},\"headers\":{\"content-length\":[\"7\"],\"content-type\":[\"application/json\"],\
         \"x-a\":[\"1\",\"2\"]},\"raw_body\":\"{\\\"a\\\":1}\",\"status\":\"200 Fine\",\"status_code\":200}",
    );
    check(&server, "/missing", "", ".status", "\"404 Not Found\"");
    check(&server, "/chunks", "", ".body", "[1]");
    check(&server, "/chunks", "", ".headers", "{\"content-type\":[\"application/json\"]}");
    check(&server, "/redirect", "", ".status_code", "302");
    check(&server, "/redirect", ", \"enable_redirect\": true", ".body", "{\"a\":1}");
    check(&server, "/flaky", ", \"max_retry_attempts\": 2", ".body", "3");
}

#[test]
fn requests_carry_what_the_policy_says() {
    let server = Upstream::start();
    let rules = r#"x := http.send({
        "method": "post", "url": "http://u:p@127.0.0.1:PORT/echo?q=1", "body": {"a": 1}, "headers": {
            "X-Y": "z", "host": "me", "Content-Length": "999", "transfer-encoding": "chunked", "Trailer": "x"
        },
    }).status_code"#;
    assert_eq!(evaluate(server.port, &outbound(&["127.0.0.1"]), rules, &EvalOptions::default()), "200");
    let request = server.requests("/echo").remove(0);
    assert!(request.starts_with("POST /echo?q=1 HTTP/1.1\r\n"), "{request}");
    for line in ["X-Y: z", "Host: me", "Content-Length: 7", "Authorization: Basic dTpw"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
    assert!(!request.contains("999") && !request.to_ascii_lowercase().contains("chunked"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
}

#[test]
fn hostile_servers_end_in_an_error_and_never_hang() {
    let server = Upstream::start();
    let quick = ", \"timeout\": \"300ms\"";
    let too_large = "eval_http_send_refused: http.send: answer of `127.0.0.1` has more than 1048576 bytes \
                     (`policy.http_send.response_bytes`)";
    for (path, more, want) in [
        ("/slow?token=1", quick, "eval_builtin_error: http.send: Get http://127.0.0.1:PORT/slow: request timed out"),
        (
            "/stalled",
            quick,
            "eval_builtin_error: http.send: context deadline exceeded (Client.Timeout or context cancellation while \
             reading body)",
        ),
        ("/short", "", "eval_builtin_error: http.send: unexpected EOF"),
        ("/endless", "", too_large),
        ("/announced", "", too_large),
    ] {
        check(&server, path, more, "", want);
    }
    for (path, more) in [("/headers", ""), ("/headers", ", \"raise_error\": false")] {
        check(
            &server,
            path,
            more,
            "",
            "eval_http_send_refused: http.send: headers of the answer of `127.0.0.1` are too large",
        );
    }
    for path in ["/garbage", "/closing"] {
        let more = ", \"raise_error\": false, \"timeout\": \"5s\"";
        check(&server, path, more, ".error.code", "\"eval_http_send_network_error\"");
    }
}

#[test]
fn a_request_goes_only_where_it_may() {
    let server = Upstream::start();
    let refused = |host: &str| {
        format!(
            "eval_http_send_refused: http.send: host `{host}` is not allowed; list it in `policy.http_send.allow`, or name \
             it with `--allow-http-send`"
        )
    };
    let follow = ", \"enable_redirect\": true, \"raise_error\": false";
    check(&server, "/metadata", follow, "", &refused("169.254.169.254"));
    check(&server, "/elsewhere", follow, "", &refused("localhost"));
    check(&server, "/loop", follow, "", "eval_http_send_refused: http.send: more than 10 redirects");
    assert_eq!(server.requests("/loop").len(), 11);
    for (allow, url, host) in [
        (vec![], "http://127.0.0.1:PORT/json", "127.0.0.1"),
        (vec!["127.0.0.1:1"], "http://127.0.0.1:PORT/json", "127.0.0.1"),
        (vec!["127.0.0.1"], "http://127.0.0.1@localhost:PORT/json", "localhost"),
        (vec!["127.0.0.1"], "http://169.254.169.254/", "169.254.169.254"),
        (vec!["127.0.0.1"], "http://[::1]:PORT/", "::1"),
    ] {
        let rules = format!("x if not http.send({{\"method\": \"get\", \"url\": \"{url}\"}}).body.revoked");
        let got = evaluate(server.port, &outbound(&allow), &rules, &EvalOptions::default());
        assert_eq!(got, refused(host), "{allow:?} {url}");
    }
    assert!(server.requests("/json").is_empty());
    let rules = "x := http.send({\"method\": \"get\", \"url\": \"http://LOCALHOST:PORT/json\"}).status_code";
    assert_eq!(
        evaluate(
            server.port,
            &outbound(&["localhost:PORT".replace("PORT", &server.port.to_string()).as_str()]),
            rules,
            &EvalOptions::default()
        ),
        "200"
    );
}

#[test]
fn the_deadline_of_the_evaluation_ends_a_call() {
    let server = Upstream::start();
    let rules = "x if not http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT/slow\", \"raise_error\": false, \
                 \"max_retry_attempts\": 100}).body.revoked";
    let options = EvalOptions { deadline: Some(Duration::from_millis(200)), ..EvalOptions::default() };
    let began = Instant::now();
    let got = evaluate(server.port, &outbound(&["127.0.0.1"]), rules, &options);
    assert_eq!(got, "eval_deadline_exceeded: evaluation exceeded its deadline");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn answers_are_kept_as_the_call_and_their_headers_say() {
    for (path, more, bodies, requests) in [
        ("/count", "", "[1,2]", 2),
        ("/count", ", \"cache\": true", "[1,2]", 2),
        ("/count", ", \"force_cache\": true, \"force_cache_duration_seconds\": 60", "[1,1]", 1),
        ("/kept", ", \"cache\": true", "[1,1]", 1),
        ("/kept", "", "[1,2]", 2),
        ("/private", ", \"cache\": true", "[1,2]", 2),
        ("/private", ", \"force_cache\": true, \"force_cache_duration_seconds\": 60", "[1,1]", 1),
        ("/tagged", ", \"cache\": true", "[1,1]", 2),
    ] {
        let server = Upstream::start();
        let http = outbound(&["127.0.0.1"]);
        let rules =
            format!("x := http.send({{\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT{path}\"{more}}}).body");
        let got: Vec<String> = (0..2).map(|_| evaluate(server.port, &http, &rules, &EvalOptions::default())).collect();
        assert_eq!(format!("[{}]", got.join(",")), bodies, "{path} {more}");
        assert_eq!(server.requests(path).len(), requests, "{path} {more}");
    }
}

#[test]
fn many_evaluations_ask_once() {
    let server = Upstream::start();
    let http = outbound(&["127.0.0.1"]);
    let rules = "x := http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:PORT/count\", \"force_cache\": true, \
                 \"force_cache_duration_seconds\": 60}).body";
    thread::scope(|scope| {
        let runs: Vec<_> =
            (0..16).map(|_| scope.spawn(|| evaluate(server.port, &http, rules, &EvalOptions::default()))).collect();
        assert!(runs.into_iter().all(|run| run.join().unwrap() == "1"));
    });
    assert_eq!(server.requests("/count").len(), 1);
}

#[test]
fn only_listed_names_and_localhost_are_looked_up() {
    for (allow, name, want) in [
        (&["b.test"][..], "localhost", "[\"127.0.0.1\"]"),
        (&[], "a.test", "eval_http_send_refused"),
        (&["b.test"], "a.test", "eval_http_send_refused"),
        (&["b.invalid:80"], "B.invalid", "undefined"),
    ] {
        let rules = format!("x := {{y | some y in net.lookup_ip_addr(\"{name}\"); y != \"::1\"}} if true");
        let got = evaluate(9, &outbound(allow), &rules, &EvalOptions::default());
        assert!(got.starts_with(want) || want == "undefined" && got == "[]", "{allow:?} {name}: {got}");
    }
}
